// SPDX-License-Identifier: Apache-2.0
// The log (protocols/spec/log.md): signed notes, checkpoints, tiles, and proofs of RFC 9162 section 2.1.

import { equal, fromBase64, join, toHex, utf8 } from "./bytes.js";
import { sha256, verifyEd25519 } from "./suites.js";

/** What was read is not the log that it should be. code: names the reason for texts.js. */
export class LogError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

const WIDTH = 256;
const SIZE = 32;
const LOG = 1;
const WITNESS = 4;
const EMPTY = sha256(new Uint8Array());

// ---- signed notes -------------------------------------------------------------------------------------

/** A key string: name + hex of its id + base64 of kind and key. Throws. */
export function parseKey(text) {
  const [, name, id, material] = /^([^\s+]+)\+([0-9a-f]{8})\+(.*)$/.exec(text.trim());
  const data = fromBase64(material);
  const ident = sha256(join(utf8(`${name}\n`), data)).slice(0, 4);
  if (data.length !== 33 || toHex(ident) !== id) throw new Error("no key string");
  return { name, id: ident, kind: data[0], key: data.slice(1) };
}

function signatureTime(key, text, signature) {
  if (key.kind === LOG) return verifyEd25519(key.key, utf8(text), signature) ? 0 : null;
  if (signature.length !== 72) return null;
  const time = signature.slice(0, 8).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
  const message = utf8(`cosignature/v1\ntime ${time}\n${text}`);
  if (time >> 63n || !verifyEd25519(key.key, message, signature.slice(8))) return null;
  return Number(time);
}

/**
 * Take a signed note apart and verify it: its text, and those of its signatures that are by these keys. Throws
 * LogError; a line of a known key that is not good spoils the whole note.
 */
export function openNote(note, keys) {
  const bad = () => new LogError("log-signature");
  const gap = note.lastIndexOf("\n\n");
  if (gap < 0 || !note.endsWith("\n") || /[\x00-\x09\x0b-\x1f]/.test(note)) throw bad();
  const text = note.slice(0, gap + 1);
  const signers = new Map();
  for (const line of note.slice(gap + 2, -1).split("\n")) {
    const found = /^— ([^\s+]+) (\S+)$/.exec(line);
    if (!found) throw bad();
    let data;
    try {
      data = fromBase64(found[2]);
    } catch {
      throw bad();
    }
    const key = keys.find((each) => each.name === found[1] && equal(each.id, data.slice(0, 4)));
    if (!key) continue; // by somebody whom we do not know
    const time = signatureTime(key, text, data.slice(4));
    if (time === null) throw bad();
    if (!signers.has(key)) signers.set(key, { name: key.name, kind: key.kind, time });
  }
  return { text, signers };
}

/**
 * Open a checkpoint: origin, size, root, and by which witnesses it is cosigned, when. log, witnesses: parsed
 * keys. Throws LogError.
 */
export function openCheckpoint(note, log, witnesses) {
  const bad = () => new LogError("log-signature");
  const { text, signers } = openNote(note, [log, ...witnesses]);
  const [origin, size, root, ...more] = text.slice(0, -1).split("\n");
  if (!signers.has(log) || origin !== log.name || more.includes("")) throw bad();
  if (!/^(0|[1-9][0-9]{0,15})$/.test(size) || !Number.isSafeInteger(Number(size))) throw bad();
  let hash;
  try {
    hash = fromBase64(root);
  } catch {
    throw bad();
  }
  if (hash.length !== SIZE || (size === "0" && !equal(hash, EMPTY))) throw bad();
  const cosigners = [...signers.values()].filter((each) => each.kind === WITNESS);
  return { note, origin, size: Number(size), root: hash, cosigners };
}

// ---- Merkle tree --------------------------------------------------------------------------------------

export function leafHash(data) {
  return sha256(join([0], data));
}

function nodeHash(left, right) {
  return sha256(join([1], left, right));
}

function subtree(hashes) {
  let row = hashes;
  while (row.length > 1) {
    row = Array.from({ length: row.length / 2 }, (_, i) => nodeHash(row[2 * i], row[2 * i + 1]));
  }
  return row[0];
}

/** Walks from a leaf or an old edge up to the root: for each step of a proof, whether it stands on the left. */
function* steps(index, last, count) {
  let [at, end] = [BigInt(index), BigInt(last)];
  for (let i = 0; i < count; i++) {
    if (end === 0n) return;
    const left = (at & 1n) === 1n || at === end;
    if (left) {
      while (!(at & 1n) && at) [at, end] = [at >> 1n, end >> 1n];
    }
    yield left;
    [at, end] = [at >> 1n, end >> 1n];
  }
  return end === 0n;
}

/** Whether a proof shows that a leaf's hash is number index of the tree (RFC 9162 section 2.1.3.2). */
export function verifyInclusion(leaf, index, size, proof, root) {
  if (!(index >= 0 && index < size)) return false;
  const walk = steps(index, size - 1, proof.length);
  let found = leaf;
  for (const step of proof) {
    const { done, value: left } = walk.next();
    if (done) return false;
    found = left ? nodeHash(step, found) : nodeHash(found, step);
  }
  return walk.next().value === true && equal(found, root);
}

/** Whether a proof shows that a tree continues an older one (RFC 9162 section 2.1.4.2). */
export function verifyConsistency(old, oldRoot, size, root, proof) {
  if (old > size) return false;
  if (old === size) return !proof.length && equal(oldRoot, root);
  if (old === 0) return !proof.length && equal(oldRoot, EMPTY);
  let [at, last] = [BigInt(old - 1), BigInt(size - 1)];
  const path = [...proof];
  if ((BigInt(old) & BigInt(old - 1)) === 0n) path.unshift(oldRoot);
  if (!path.length) return false;
  while (at & 1n) [at, last] = [at >> 1n, last >> 1n];
  let [first, second] = [path[0], path[0]];
  const walk = steps(at, last, path.length - 1);
  for (const step of path.slice(1)) {
    const { done, value: left } = walk.next();
    if (done) return false;
    if (left) first = nodeHash(step, first);
    second = left ? nodeHash(step, second) : nodeHash(second, step);
  }
  return walk.next().value === true && equal(first, oldRoot) && equal(second, root);
}

// ---- tiles --------------------------------------------------------------------------------------------

function tilePath(level, index, width) {
  const digits = String(index);
  const groups = digits.padStart(3 * Math.ceil(digits.length / 3), "0").match(/.../g);
  const path = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join("/");
  return `tile/${level}/${path}${width < WIDTH ? `.p/${width}` : ""}`;
}

/** The height of the largest complete tree that is not larger. */
function heightOf(size) {
  let height = 0;
  while (2 ** (height + 1) <= size) height++;
  return height;
}

/** The largest power of two below size. */
function split(size) {
  return 2 ** heightOf(size - 1);
}

/**
 * The tree of a checkpoint, out of its tiles. get: the content of a file of the log by its path, as a promise,
 * null if there is none. Proofs made of wrong tiles do not verify.
 */
export class Tree {
  constructor(checkpoint, get) {
    this.checkpoint = checkpoint;
    this.get = get;
    this.tiles = new Map();
    this.nodes = new Map();
  }

  /** Whether an entry is in the log under a number, proven. */
  async includes(index, entry) {
    const { size, root } = this.checkpoint;
    if (!(index < size)) return false;
    return verifyInclusion(leafHash(entry), index, size, await this.inclusion(index), root);
  }

  /** Whether this tree continues an older checkpoint, proven. */
  async continues(old) {
    const { size, root } = this.checkpoint;
    if (old.size > size) return false;
    return verifyConsistency(old.size, old.root, size, root, await this.consistency(old.size));
  }

  async inclusion(index) {
    const path = [];
    let [lo, hi] = [0, this.checkpoint.size];
    while (hi - lo > 1) {
      const middle = lo + split(hi - lo);
      const right = index < middle;
      path.push(await (right ? this.root(middle, hi) : this.root(lo, middle)));
      if (right) hi = middle;
      else lo = middle;
    }
    return path.reverse();
  }

  async consistency(old) {
    const path = [];
    let [lo, hi] = [0, this.checkpoint.size];
    if (old === 0 || old === hi) return path;
    while (old !== hi) {
      const middle = lo + split(hi - lo);
      const right = old <= middle;
      path.push(await (right ? this.root(middle, hi) : this.root(lo, middle)));
      if (right) hi = middle;
      else lo = middle;
    }
    if (lo) path.push(await this.root(lo, hi));
    return path.reverse();
  }

  /** Root over the leaves [lo, hi), where lo is where a split of the tree has put it. */
  async root(lo, hi) {
    const peaks = [];
    let at = lo;
    while (at < hi) {
      const height = heightOf(hi - at);
      peaks.push(await this.node(height, at / 2 ** height));
      at += 2 ** height;
    }
    return peaks.reduceRight((right, peak) => nodeHash(peak, right));
  }

  /** The root of a complete subtree; kept, since proofs of neighbours need the same. */
  async node(height, index) {
    const name = `${height}/${index}`;
    if (!this.nodes.has(name)) this.nodes.set(name, await this.makeNode(height, index));
    return this.nodes.get(name);
  }

  async makeNode(height, index) {
    const level = Math.floor(height / 8);
    const width = 2 ** (height % 8);
    const first = index * width;
    const hashes = await this.tile(level, Math.floor(first / WIDTH));
    return subtree(hashes.slice(first % WIDTH, (first % WIDTH) + width));
  }

  tile(level, index) {
    const name = `${level}/${index}`;
    if (!this.tiles.has(name)) this.tiles.set(name, this.fetchTile(level, index));
    return this.tiles.get(name);
  }

  async fetchTile(level, index) {
    const width = Math.min(WIDTH, Math.floor(this.checkpoint.size / WIDTH ** level) - index * WIDTH);
    // A partial tile may be gone once the full one is there.
    let data = await this.get(tilePath(level, index, width));
    if (!data && width < WIDTH) data = await this.get(tilePath(level, index, WIDTH));
    if (!data || data.length < width * SIZE) throw new LogError("tiles");
    return Array.from({ length: width }, (_, i) => data.slice(i * SIZE, (i + 1) * SIZE));
  }
}

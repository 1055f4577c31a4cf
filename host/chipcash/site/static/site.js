// SPDX-License-Identifier: Apache-2.0
// What the site gives out (protocols/spec/site.md): whom to believe, a checkpoint, tiles, records; and what
// this browser remembers of it. Everything is asked from where this page came from.

import { equal, fromHex, join, toBase64, toHex, uint, utf8 } from "./bytes.js";
import { LogError, Tree, leafHash, openCheckpoint, openNote, parseKey, verifyInclusion } from "./log.js";
import { Network, sha256, unseal } from "./suites.js";
import { decode } from "./wire.js";

const FORMAT = "chipcash-site-1";
const MEMORY = "chipcash-site";
const LOCATOR_SIZE = 16;
const HASH_SIZE = 32;

async function fetchFile(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), options);
  } catch {
    throw new LogError("unreachable");
  }
  if (response.status === 404 || response.status === 410) return null;
  if (!response.ok) throw new LogError("unreachable");
  return response;
}

async function fetchBytes(path) {
  const response = await fetchFile(path);
  return response && new Uint8Array(await response.arrayBuffer());
}

/** The JSON of a file of the site. Throws LogError. */
async function fetchJson(path) {
  const response = await fetchFile(path, { cache: "no-store" });
  const found = response && (await response.json().catch(() => null));
  if (found?.format !== FORMAT) throw new LogError("unreachable");
  return found;
}

// ---- what this browser remembers ----------------------------------------------------------------------

// Of each log apart, by its folder.

function remembered(part) {
  try {
    return JSON.parse(localStorage.getItem(MEMORY + part)) ?? {};
  } catch {
    return {}; // nothing, or no storage
  }
}

function remember(part, values) {
  try {
    localStorage.setItem(MEMORY + part, JSON.stringify({ ...remembered(part), ...values }));
  } catch {
    // a private window may have no storage: then there is no memory
  }
}

/** Forget whom this page believed and what it saw: for who knows that both were changed for a good reason. */
export function forget() {
  for (const name of Object.keys(localStorage)) {
    if (name === MEMORY || /^chipcash-site\/(home|p\d{4})$/.test(name)) localStorage.removeItem(name);
  }
}

/** Whether other keys are to be believed than this browser remembers. */
function changed(part, root) {
  const before = remembered(part).root;
  if (before === undefined) remember(part, { root });
  return before !== undefined && before !== root;
}

/**
 * Read and verify whom the site's pages believe. partitions: how many logs of coins there are beside a home log;
 * null if there is one log of all. Throws LogError.
 */
export async function open() {
  const config = await fetchJson("config.json");
  try {
    const several = config.partitions !== undefined;
    const site = {
      network: new Network(config.network, decode),
      partitions: several ? config.partitions : null,
      changed: changed("", `${config.network.certification_key} ${several ? "" : config.log}`),
      logs: new Map(),
    };
    if (!several) site.logs.set("", Promise.resolve(logOf("", config)));
    return site;
  } catch {
    throw new LogError("config");
  }
}

function logOf(part, config) {
  return {
    part,
    log: parseKey(config.log),
    witnesses: config.witnesses.map(parseKey),
    quorum: config.quorum,
    auditors: config.auditors.map(parseKey),
    changed: part !== "" && changed(part, config.log),
  };
}

/** Whom the site's pages believe of a log, by its part of the site: "", or "/home", or like "/p0003". */
export function logAt(site, part) {
  if (!site.logs.has(part)) {
    const opening = openLog(site, part);
    opening.catch(() => site.logs.delete(part)); // it is asked for again
    site.logs.set(part, opening);
  }
  return site.logs.get(part);
}

async function openLog(site, part) {
  const config = await fetchJson(`${part.slice(1)}/config.json`);
  const suffix = part === "/home" ? part : `/${Number(part.slice(2))}of${site.partitions}`;
  try {
    const found = logOf(part, config);
    if (!found.log.name.endsWith(suffix)) throw new LogError("config");
    return found;
  } catch {
    throw new LogError("config");
  }
}

/** The part of the site that is about a coin. */
export function partOf(site, serial) {
  if (site.partitions === null) return "";
  const number = Math.floor((uint(sha256(serial).slice(0, 4)) * site.partitions) / 2 ** 32);
  return partAt(number);
}

/** The parts of the site that may know a claim of which no title is at hand. */
export function allParts(site) {
  if (site.partitions === null) return [""];
  return Array.from({ length: site.partitions }, (_, number) => partAt(number));
}

/** The part of the site that is about who pays twice. */
export function homePart(site) {
  return site.partitions === null ? "" : "/home";
}

function partAt(number) {
  return `/p${String(number).padStart(4, "0")}`;
}

/**
 * The newest state of a part: a checkpoint that the log signed, its tree, and where records are. problems: why it
 * is not to be relied on, by names of texts.js; none if it is. Throws LogError if nothing can be said at all.
 */
export async function newest(site, part) {
  const config = await logAt(site, part);
  const folder = part && `${part.slice(1)}/`;
  const state = await fetchJson(`${folder}state.json`);
  const { root, depth } = state.records ?? {};
  const good = /^[0-9a-f]{64}$/.test(root) && Number.isInteger(depth) && depth > 0 && depth < 9;
  if (!good || typeof state.checkpoint !== "string") throw new LogError("records");
  const checkpoint = openCheckpoint(state.checkpoint, config.log, config.witnesses);
  const tree = new Tree(checkpoint, (path) => fetchBytes(`${folder}log/${path}`));
  const problems = config.changed ? ["root-changed"] : [];
  if (checkpoint.cosigners.length < config.quorum) problems.push("not-cosigned");
  const kept = remembered(part).checkpoint;
  let last = null;
  try {
    last = kept && openCheckpoint(kept, config.log, config.witnesses);
  } catch {
    // by other keys than those that are believed now: that is told by `changed`
  }
  if (last) problems.push(...(await compare(last, tree)));
  if (!problems.length) remember(part, { checkpoint: checkpoint.note });
  return {
    config,
    checkpoint,
    tree,
    problems,
    last,
    time: timeOf(checkpoint, config.quorum) ?? state.time,
    records: new Records(folder, state.records),
    confirmers: await confirmers(folder, config.auditors, checkpoint, state.records),
  };
}

/**
 * Who has confirmed that a state's records are those of its log, and when. A confirmation of an older state says
 * nothing of this one; one that cannot be read is none.
 */
async function confirmers(folder, auditors, checkpoint, { root, depth }) {
  if (!auditors.length) return [];
  try {
    const response = await fetchFile(`${folder}confirmation`, { cache: "no-store" });
    if (!response) return [];
    const { text, signers } = openNote(await response.text(), auditors);
    const records = `${depth} ${toBase64(fromHex(root))}`;
    const { origin, size } = checkpoint;
    const wanted = `${origin}/records\n${size}\n${toBase64(checkpoint.root)}\n${records}\n`;
    return text === wanted ? [...signers.values()] : [];
  } catch (error) {
    if (error instanceof LogError) return [];
    throw error;
  }
}

/** The newest time that as many witnesses vouch for as must cosign; undefined if none does. */
function timeOf(checkpoint, quorum) {
  const times = checkpoint.cosigners.map((each) => each.time).sort((a, b) => b - a);
  return times[Math.max(quorum, 1) - 1];
}

async function compare(last, tree) {
  const { size, root } = tree.checkpoint;
  if (size < last.size) return ["older"];
  if (size === last.size) return equal(root, last.root) ? [] : ["fork"];
  try {
    return (await tree.continues(last)) ? [] : ["fork"];
  } catch (error) {
    if (error instanceof LogError) return [error.code];
    throw error;
  }
}

// ---- records ------------------------------------------------------------------------------------------

/** The key of an object's record: only who has the object with its signature knows it. */
function recordKey(obj) {
  const data = obj.message ? join(obj.message, obj.signature.slice(0, 32)) : obj.bytes;
  return sha256(join(utf8("chipcash record\n"), data));
}

/** The sealed records of a state. folder: of the log; told: root in hex, depth, as in state.json. */
class Records {
  constructor(folder, { root, depth }) {
    this.folder = folder;
    this.root = fromHex(root);
    this.depth = depth;
  }

  /**
   * The entries of the log about an object, each with its number: first its own, then what happened since; null
   * if the log holds no such object. Throws LogError.
   */
  async find(obj) {
    const key = recordKey(obj);
    const locator = sha256(join(utf8("chipcash locator\n"), key)).slice(0, LOCATOR_SIZE);
    const shard = toHex(locator).slice(0, this.depth);
    const sealed = pick(await this.shard(shard), locator);
    if (!sealed) return null;
    const text = unseal(key, sealed);
    if (!text) throw new LogError("records");
    const found = [];
    for (let at = 0; at < text.length; ) {
      const start = at + 10;
      const end = start + uint(text.slice(at + 8, start));
      found.push({ index: uint(text.slice(at, at + 8)), entry: text.slice(start, end) });
      at = end;
    }
    return found;
  }

  /** The records of a file, proven to be the ones of this root. */
  async shard(name) {
    const data = await fetchBytes(`${this.folder}records/${toHex(this.root)}/${name}`);
    const proofSize = 4 * this.depth * HASH_SIZE;
    if (!data || data.length < proofSize) throw new LogError("records");
    const proof = Array.from({ length: 4 * this.depth }, (_, i) =>
      data.slice(i * HASH_SIZE, (i + 1) * HASH_SIZE),
    );
    const records = data.slice(proofSize);
    const size = 16 ** this.depth;
    const good = verifyInclusion(leafHash(records), parseInt(name, 16), size, proof, this.root);
    if (!good) throw new LogError("records");
    return records;
  }
}

function pick(records, locator) {
  for (let at = 0; at < records.length; ) {
    const start = at + LOCATOR_SIZE + 4;
    const end = start + uint(records.slice(at + LOCATOR_SIZE, start));
    if (equal(records.slice(at, at + LOCATOR_SIZE), locator)) return records.slice(start, end);
    at = end;
  }
  return null;
}

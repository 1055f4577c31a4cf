// SPDX-License-Identifier: Apache-2.0
// The texts of QR codes (protocols/spec/qr.md), and what else people paste: hex, base64.

import { equal, fromBase64, fromHex, join, uint } from "./bytes.js";

/** What was given is no document. code: names the reason for texts.js; facts: for its words. */
export class CodeError extends Error {
  constructor(code, facts = {}) {
    super(code);
    this.code = code;
    this.facts = facts;
  }
}

const PART = /^CHIPCASH:([1-9])\/([1-9]):([A-Z2-7]+)$/;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LONGEST = 1249;

function fromBase32(text) {
  const data = [];
  let bits = 0;
  let held = 0;
  for (const letter of text) {
    held = (held << 5) | LETTERS.indexOf(letter);
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      data.push(held >> bits);
      held &= (1 << bits) - 1;
    }
  }
  // As many letters as there must be, and no bits behind the last byte.
  if (held || bits >= 5) throw new CodeError("damaged");
  return Uint8Array.from(data);
}

function crc32(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** The parts of one object as a scanner brings them: in any order, and again. Methods throw CodeError. */
export class Parts {
  constructor() {
    this.slices = new Map();
    this.total = 0;
  }

  /** Take the text of one symbol. */
  add(text) {
    const line = text.trim();
    const found = /^[\x21-\x7e]*$/.test(line) && line.length <= LONGEST && PART.exec(line.toUpperCase());
    if (!found) throw new CodeError("no-code");
    const [at, total] = [Number(found[1]), Number(found[2])];
    const data = fromBase32(found[3]);
    if (at > total || data.length <= 4) throw new CodeError("damaged");
    const crc = uint(data.slice(0, 4));
    const slice = data.slice(4);
    if (this.total && (total !== this.total || crc !== this.crc)) throw new CodeError("mixed");
    const before = this.slices.get(at);
    if (before && !equal(before, slice)) throw new CodeError("damaged");
    [this.total, this.crc] = [total, crc];
    this.slices.set(at, slice);
  }

  /** Numbers of the parts that are not there yet. */
  get missing() {
    const all = Array.from({ length: this.total || 1 }, (_, i) => i + 1);
    return all.filter((at) => !this.slices.has(at));
  }

  /** The object's bytes. */
  data() {
    if (this.missing.length) {
      throw new CodeError("incomplete", { missing: this.missing.join(", "), total: this.total || 1 });
    }
    const data = join(...[...this.slices].sort(([a], [b]) => a - b).map(([, slice]) => slice));
    if (crc32(data) !== this.crc) throw new CodeError("damaged");
    return data;
  }
}

/** The bytes of what was pasted: texts of codes, one a line, or an object in hex or base64. Throws CodeError. */
export function read(text) {
  const trimmed = text.trim();
  if (!trimmed) throw new CodeError("empty");
  if (/^chipcash:/i.test(trimmed)) {
    const parts = new Parts();
    for (const line of trimmed.split(/\s+/)) parts.add(line);
    return parts.data();
  }
  const packed = trimmed.replace(/\s+/g, "");
  for (const way of [fromHex, fromBase64]) {
    try {
      return way(packed);
    } catch {
      // the next way, or none
    }
  }
  throw new CodeError("no-code");
}

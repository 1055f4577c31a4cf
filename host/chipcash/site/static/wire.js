// SPDX-License-Identifier: Apache-2.0
// The wire objects that people can hold in their hands, and log entries (protocols/spec/objects.md): canonical
// BER-TLV in, plain objects out. Whatever is not canonical is refused, as by every receiver.

import { join } from "./bytes.js";

/** The bytes are not a canonical encoding of what was expected. */
export class WireError extends Error {}

const UINT = 0;
const BYTES = 1;
const KEY = 2;

// name: [tag, kind, bits of a number or bytes of a string]
const FIELDS = {
  header: [0x80, BYTES, 6],
  signer: [0x81, BYTES, 8],
  serial: [0x82, BYTES, 16],
  amount: [0x83, UINT, 63],
  lo: [0x84, UINT, 63],
  hi: [0x85, UINT, 63],
  owner: [0x86, KEY, 33],
  epoch: [0x87, UINT, 32],
  expiry: [0x88, UINT, 40],
  title_id: [0x89, BYTES, 32],
  payee: [0x8a, KEY, 33],
  nonce: [0x8b, BYTES, 16],
  counter: [0x8c, UINT, 32],
  time: [0x8d, UINT, 40],
  deadline: [0x8e, UINT, 40],
  subject: [0x8f, KEY, 33],
  role: [0x90, UINT, 8],
  tier: [0x91, UINT, 8],
  form: [0x92, UINT, 8],
  per_payment: [0x93, UINT, 63],
  sequence: [0x99, UINT, 32],
  reason: [0x9a, UINT, 8],
  state: [0x9b, UINT, 8],
  claim_id: [0x9c, BYTES, 32],
  digest: [0x9d, BYTES, 32],
  signature: [0x9e, BYTES, 64],
  new_title_id: [0x9f2e, BYTES, 32],
};

export const SETTLED = 1;
export const RECLAIMED = 5;
export const OUTCOMES = ["", "settled", "disputed", "expired", "voided", "reclaimed", "invalid"];
const CARD = 5;

// fields: in their order; `?` may be absent, `*` a list of objects whose kind and least and most number stand
// in many, `=` one object. check: rules between fields; it returns what is wrong.
const OBJECTS = {
  coin: {
    tag: 0xe1,
    fields: "header signer serial amount owner signature",
    check: (x) => x.amount === 0n && "amount is zero",
  },
  title: {
    tag: 0xe2,
    fields: "header signer serial amount lo hi owner epoch expiry signature",
    check: (x) => interval(x) || (x.hi > x.amount && "interval exceeds the coin"),
  },
  certificate: {
    tag: 0xe3,
    fields: "header signer time expiry subject role tier? form? per_payment? signature",
    check: checkCertificate,
  },
  claim: {
    tag: 0xe4,
    fields: "header inputs* amount payee nonce counter time deadline signature",
    many: { inputs: ["input", 1, 8] },
    check: checkClaim,
  },
  input: { tag: 0xa0, fields: "title_id lo hi", check: interval },
  receipt: {
    tag: 0xe6,
    fields: "header signer digest time results* titles* signature",
    many: { results: ["result", 0, 256], titles: ["title", 0, 2048] },
  },
  result: { tag: 0xa2, fields: "claim_id outcomes*", many: { outcomes: ["outcome", 1, 8] } },
  outcome: {
    tag: 0xa1,
    fields: "title_id lo hi state claim_id?",
    check: (x) => interval(x) || (!(x.state > 0n && x.state < OUTCOMES.length) && "unknown outcome"),
  },
  "blacklist entry": {
    tag: 0xe7,
    fields: "header signer sequence subject reason time digest? signature",
  },
  void: { tag: 0xea, fields: "header payee nonce amount time signature" },
  evidence: {
    tag: 0xec,
    fields: "header title= claims*",
    many: { title: ["title", 1, 1], claims: ["claim", 2, 2] },
  },
  payment: {
    tag: 0xed,
    fields: "claim= titles* certificate=",
    many: { claim: ["claim", 1, 1], titles: ["title", 1, 8], certificate: ["certificate", 1, 1] },
    check: checkPayment,
  },
  move: { tag: 0xa3, fields: "title_id lo hi state claim_id? new_title_id?", check: checkMove },
  "log entry": {
    tag: 0xf5,
    fields: "header time coins* titles* claims* results* moves* voids* evidence* entries* certificates*",
    many: {
      coins: ["coin", 0, 1],
      titles: ["title", 0, 1],
      claims: ["claim", 0, 1],
      results: ["result", 0, 1],
      moves: ["move", 0, 1],
      voids: ["void", 0, 1],
      evidence: ["evidence", 0, 1],
      entries: ["blacklist entry", 0, 1],
      certificates: ["certificate", 0, 1],
    },
    check: checkEntry,
  },
};

const KINDS = Object.fromEntries(Object.entries(OBJECTS).map(([kind, { tag }]) => [tag, kind]));

function interval(x) {
  return x.lo >= x.hi && "interval is empty";
}

function checkCertificate(x) {
  if (!(x.role > 0n && x.role <= CARD)) return "unknown role";
  if (x.expiry <= x.time) return "expires before it begins";
  const card = x.role === BigInt(CARD);
  if ([x.tier, x.form, x.per_payment].some((value) => (value !== undefined) !== card)) {
    return "tier, form and limit belong to cards, all three";
  }
  return card && !(x.tier > 0n && x.tier < 5n && x.form > 0n && x.form < 6n) && "unknown tier or form";
}

function checkClaim(x) {
  const ids = new Set(x.inputs.map((item) => item.title_id.join()));
  if (ids.size < x.inputs.length) return "a title is spent twice";
  const total = x.inputs.reduce((sum, item) => sum + item.hi - item.lo, 0n);
  if (total !== x.amount) return "intervals do not add up to the amount";
  return x.deadline < x.time && "deadline before time";
}

function checkPayment(x) {
  const { inputs } = x.claim;
  if (x.titles.length !== inputs.length) return "one title for each interval";
  const exceeds = inputs.some((item, i) => item.lo < x.titles[i].lo || item.hi > x.titles[i].hi);
  return exceeds && "interval exceeds its title";
}

function checkMove(x) {
  if (interval(x)) return interval(x);
  if (x.state === BigInt(SETTLED)) return !x.claim_id && "settled without a claim";
  if (x.state === BigInt(RECLAIMED)) return !x.new_title_id && "reclaimed without a new title";
  return "nothing moves in this state";
}

function checkEntry(x) {
  if (x.claims.length !== x.results.length) return "a claim and its result go together";
  const count = Object.keys(OBJECTS["log entry"].many).reduce((sum, name) => sum + x[name].length, 0);
  return count - x.results.length !== 1 && "not one fact";
}

/** Tag, start and end of the value of the TLV at an offset. */
function tlv(data, at) {
  const byte = () => {
    if (at >= data.length) throw new WireError("truncated");
    return data[at++];
  };
  let tag = byte();
  if ((tag & 0x1f) === 0x1f) {
    const low = byte();
    if (low < 0x1f || low > 0x7f) throw new WireError("tag is not canonical");
    tag = (tag << 8) | low;
  }
  if (tag === 0) throw new WireError("tag is not canonical");
  let length = byte();
  if (length >= 0x80) {
    const size = length & 0x7f;
    if (size !== 1 && size !== 2) throw new WireError("length is not canonical");
    length = byte();
    if (size === 2) length = (length << 8) | byte();
    if (length < (size === 1 ? 0x80 : 0x100)) throw new WireError("length is not minimal");
  }
  if (at + length > data.length) throw new WireError("truncated");
  return { tag, start: at, end: at + length };
}

function number(data) {
  if (!data.length || (data[0] === 0 && data.length > 1)) throw new WireError("integer is not minimal");
  return data.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function value(name, data) {
  const [, kind, size] = FIELDS[name];
  if (kind === UINT) {
    const found = number(data);
    if (found >> BigInt(size)) throw new WireError(`${name} is out of range`);
    return found;
  }
  if (data.length !== size) throw new WireError(`${name} has a wrong length`);
  if (kind === KEY && data[0] !== 2 && data[0] !== 3) throw new WireError(`${name} is no compressed key`);
  if (name === "header" && (data[4] !== 1 || (data[5] !== 1 && data[5] !== 2))) {
    throw new WireError("unknown version or suite");
  }
  return data;
}

function body(kind, data, begin, start, end) {
  const { tag: own, fields, many, check } = OBJECTS[kind];
  const found = { kind, bytes: data.slice(begin, end) };
  let at = start;
  for (const field of fields.split(" ")) {
    const name = field.replace(/[?*=]$/, "");
    const mark = field.slice(name.length);
    if (mark === "*" || mark === "=") {
      const [inner, least, most] = many[name];
      const items = [];
      while (at < end && items.length < most) {
        const next = tlv(data, at);
        if (next.tag !== OBJECTS[inner].tag) break;
        if (next.end > end) throw new WireError("truncated");
        items.push(body(inner, data, at, next.start, next.end));
        at = next.end;
      }
      if (items.length < least) throw new WireError(`missing ${name}`);
      found[name] = mark === "*" ? items : items[0];
      continue;
    }
    const next = at < end ? tlv(data, at) : { tag: 0 };
    if (next.tag !== FIELDS[name][0]) {
      if (mark === "?") continue;
      throw new WireError(`missing ${name}`);
    }
    if (next.end > end) throw new WireError("truncated");
    // What is signed: the tag and the fields in front of the signature.
    if (name === "signature") found.message = join([own], data.slice(start, at));
    found[name] = value(name, data.slice(next.start, next.end));
    at = next.end;
  }
  if (at !== end) throw new WireError("unexpected field");
  const wrong = check && check(found);
  if (wrong) throw new WireError(wrong);
  return found;
}

/**
 * The object that these bytes are, no byte more: its kind, its fields by name (numbers as BigInt), bytes, and
 * message where it is signed. Throws WireError.
 */
export function decode(data) {
  const { tag, start, end } = tlv(data, 0);
  const kind = KINDS[tag];
  if (kind === undefined) throw new WireError("no object that this page knows");
  if (end !== data.length) throw new WireError("bytes behind the object");
  return body(kind, data, 0, start, end);
}

/** The fact in a log entry; the result of a claim is in entry.results. */
export function factOf(entry) {
  const names = Object.keys(OBJECTS["log entry"].many).filter((name) => name !== "results");
  return names.flatMap((name) => entry[name])[0];
}

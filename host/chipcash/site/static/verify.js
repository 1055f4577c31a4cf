// SPDX-License-Identifier: Apache-2.0
// Judges a document: who signed it, whether the log holds it, and what became of it.
//
// A judgement has: kind; verdict, a name of texts.js; checks, in their order, each {name, state, facts} where
// state is "good" (proven here), "word" (somebody's word), "warn" or "bad"; and facts for the page to show.

import { equal, toHex } from "./bytes.js";
import { LogError } from "./log.js";
import { allParts, homePart, partOf } from "./site.js";
import { idOf } from "./suites.js";
import { OUTCOMES, RECLAIMED, decode, factOf } from "./wire.js";

const DAY = 86400;

// By the kind of an object: whether a later fact of the log is about the one with that id.
const FOLLOWS = {
  title: (fact, id) => fact.kind === "move" && equal(fact.title_id, id),
  claim: (fact, id) => fact.kind === "move" && equal(fact.claim_id ?? [], id),
  evidence: (fact, id) => fact.kind === "blacklist entry" && equal(fact.digest ?? [], id),
};

const JUDGES = {
  title: judgeTitle,
  coin: judgeCoin,
  claim: judgeClaim,
  payment: judgePayment,
  receipt: judgeReceipt,
  evidence: judgeEvidence,
};

/**
 * Judge an object. site: from open(); look: brings the newest state of a part, as newest() does; now: seconds
 * since 1970.
 * Throws WireError if the bytes are no object, LogError("kind") if it is none that this page judges.
 */
export async function judge(data, site, look, now) {
  const obj = decode(data);
  const judged = JUDGES[obj.kind];
  if (!judged) throw new LogError("kind");
  const result = { kind: obj.kind, verdict: "", checks: [], facts: {} };
  if (site.changed) {
    result.verdict = "root-changed";
    result.checks.push(check("root-changed", "bad"));
    return result;
  }
  const header = obj.header ?? obj.claim.header;
  if (!equal(header, site.network.header)) {
    result.verdict = "foreign";
    result.checks.push(check("network", "bad"));
    return result;
  }
  await judged(result, obj, site, new Inquiry(result, site, look, now), now);
  return result;
}

function check(name, state, facts = {}) {
  return { name, state, facts };
}

/** Tell whether a signature is good; if not, the document is forged. */
function signed(result, good, name, facts = {}) {
  result.checks.push(check(name, good ? "good" : "bad", facts));
  if (!good) result.verdict = "forged";
  return good;
}

/**
 * What the log says of objects, or the logs, where the center has several. The state of each is asked for once;
 * what is wrong with it is told once.
 */
class Inquiry {
  constructor(result, site, look, now) {
    Object.assign(this, { result, site, look, now });
    this.states = new Map(); // promises, by part
    this.told = new Set();
  }

  /** The state of a part, or null, and then the verdict is "unproven". quiet: if all is well, not told. */
  async state(part, quiet = false) {
    if (!this.states.has(part)) this.states.set(part, this.bring(part));
    const state = await this.states.get(part);
    if (state && !quiet) this.tell(state);
    return state;
  }

  async bring(part) {
    try {
      const state = await this.look(part);
      const { facts } = this.result;
      facts.asOf = Math.min(facts.asOf ?? state.time, state.time);
      if (!state.problems.length) return state;
      this.tell(state);
    } catch (error) {
      this.fail(error);
    }
    this.result.verdict ||= "unproven";
    return null;
  }

  tell(state) {
    if (this.told.has(state)) return;
    this.told.add(state);
    const { checks } = this.result;
    const { checkpoint, problems, last, config } = state;
    checks.push(check("log-signed", "good", { log: checkpoint.origin, size: checkpoint.size }));
    if (checkpoint.cosigners.length) {
      checks.push(check("cosigned", "good", { cosigners: checkpoint.cosigners }));
    } else if (!config.quorum) {
      checks.push(check("no-witness", "warn"));
    }
    const { witnesses, quorum } = config;
    const wanted = { found: checkpoint.cosigners.length, quorum, of: witnesses.length };
    for (const name of problems) checks.push(check(name, "bad", { ...wanted, last, now: checkpoint }));
    if (last && !problems.length) checks.push(check("continues", "good", { size: last.size }));
    this.tellAge(state.time);
  }

  tellAge(time) {
    if (this.now - time > DAY) this.result.checks.push(check("old", "warn", { time }));
  }

  /** That nothing more has happened: on whose word. */
  complete() {
    const confirmers = [...this.told].map((state) => state.confirmers);
    const confirmed = confirmers.every((each) => each.length);
    const cosigners = confirmed ? confirmers.flat() : [];
    this.result.checks.push(check(confirmed ? "confirmed" : "complete", "word", { cosigners }));
  }

  fail(error) {
    if (!(error instanceof LogError)) throw error;
    this.result.verdict ||= "unproven";
    this.result.checks.push(check(error.code, "bad"));
  }

  /**
   * The entries of a part's log about an object, decoded, each proven to be in the log, the first its own. Null if
   * nothing can be said; an empty list if the log does not hold the object.
   */
  async entries(obj, part, quiet = false) {
    const state = await this.state(part, quiet);
    if (!state) return null;
    try {
      const found = await state.records.find(obj);
      if (!found) return [];
      const entries = [];
      for (const { index, entry } of found) {
        if (!(await state.tree.includes(index, entry))) throw new LogError("not-included");
        const decoded = decode(entry);
        if (decoded.kind !== "log entry" || !this.site.network.accepts(decoded)) {
          throw new LogError("records");
        }
        entries.push({ index, time: decoded.time, fact: factOf(decoded), result: decoded.results[0] });
      }
      const id = idOf(obj);
      const [{ fact: own }, ...since] = entries;
      if (own.kind !== obj.kind || !equal(idOf(own), id)) throw new LogError("records");
      // What is told of it must be about it: other true entries would tell a false story.
      if (!since.every(({ fact }) => FOLLOWS[obj.kind]?.(fact, id))) throw new LogError("records");
      return entries;
    } catch (error) {
      this.fail(error);
      return null;
    }
  }

  /** The entries about an object that is the document itself; the verdict says it if there are none. */
  async own(obj, part) {
    const found = await this.ownIn(obj, [part], "missing");
    return found && found[0];
  }

  /** The same of each of several parts that holds it. quiet: nothing is told of those that do not. */
  async ownIn(obj, parts, missing, quiet = false) {
    const each = await Promise.all(parts.map((part) => this.entries(obj, part, quiet)));
    const { checks, facts } = this.result;
    if (each.includes(null)) return null;
    const found = each.filter((entries) => entries.length);
    for (const [at, part] of parts.entries()) if (each[at].length) await this.state(part);
    if (!found.length) {
      if (quiet) {
        checks.push(check("looked-in", "good", { count: parts.length }));
        this.tellAge(facts.asOf);
      }
      checks.push(check("not-in-log", "warn"));
      this.result.verdict ||= missing;
      return null;
    }
    facts.registered = Math.min(...found.map(([own]) => Number(own.time)));
    for (const entries of found) {
      checks.push(check("in-log", "good", { index: entries[0].index, count: entries.length }));
    }
    return found;
  }
}

/** What is left of a title and where the rest went, in fen, out of the moves that left it. Throws LogError. */
function fate(title, entries) {
  const moves = entries.slice(1).map(({ fact, time, index }) => ({ ...fact, registered: time, index }));
  const parts = { paid: 0n, returned: 0n, redeemed: 0n };
  moves.sort((a, b) => (a.lo < b.lo ? -1 : 1));
  let at = title.lo;
  const live = [];
  for (const move of moves) {
    if (move.lo < at || move.hi > title.hi) throw new LogError("records");
    if (move.lo > at) live.push([at, move.lo]);
    at = move.hi;
    let where = "paid";
    if (!move.new_title_id) where = "redeemed";
    else if (move.state === BigInt(RECLAIMED)) where = "returned";
    parts[where] += move.hi - move.lo;
    move.where = where;
  }
  if (at < title.hi) live.push([at, title.hi]);
  parts.live = live.reduce((sum, [lo, hi]) => sum + hi - lo, 0n);
  return { ...parts, moves };
}

function stateOf(title, parts) {
  const all = title.hi - title.lo;
  if (parts.live === all) return "live";
  if (parts.live > 0n) return "partly";
  return parts.redeemed === all ? "redeemed" : "spent";
}

async function judgeTitle(result, title, site, inquiry, now) {
  Object.assign(result.facts, {
    amount: title.hi - title.lo,
    serial: toHex(title.serial),
    lo: title.lo,
    hi: title.hi,
    owner: toHex(title.owner),
    expiry: title.expiry,
    id: toHex(idOf(title)),
  });
  if (!signed(result, site.network.signed(title, site.network.centerKey), "center-signed")) return;
  const entries = await inquiry.own(title, partOf(site, title.serial));
  if (!entries) return;
  try {
    const parts = fate(title, entries);
    result.facts.fate = parts;
    result.verdict = stateOf(title, parts);
    if (parts.moves.length) result.checks.push(check("moves", "good", { count: parts.moves.length }));
    inquiry.complete();
    if (parts.live) result.checks.push(check("offline", "warn"));
    if (parts.live && title.expiry < now) result.checks.push(check("expired", "warn", { time: title.expiry }));
  } catch (error) {
    inquiry.fail(error);
  }
}

async function judgeCoin(result, coin, site, inquiry) {
  Object.assign(result.facts, {
    amount: coin.amount,
    serial: toHex(coin.serial),
    owner: toHex(coin.owner),
    id: toHex(idOf(coin)),
  });
  // Issued, or made by the center out of other coins: then the log's audit has seen that those went into it.
  const made = site.network.signed(coin, site.network.centerKey);
  const issued = !made && site.network.signed(coin, site.network.issuerKey);
  if (!signed(result, made || issued, made ? "center-made" : "issuer-signed")) return;
  if (await inquiry.own(coin, partOf(site, coin.serial))) result.verdict = "registered";
}

function outcomesOf(result) {
  return result.outcomes.map((each) => ({ lo: each.lo, hi: each.hi, state: OUTCOMES[Number(each.state)] }));
}

/**
 * What became of a claim, out of the log: its result, and what was given back since. Each of several logs has the
 * part of it that is about its own coins.
 */
async function judgeRegistered(result, claim, inquiry, parts, quiet = false) {
  const found = await inquiry.ownIn(claim, parts, "not-registered", quiet);
  if (!found) {
    if (result.verdict === "not-registered") tellDeadline(result, claim, inquiry.now);
    return;
  }
  const outcomes = found.flatMap(outcomesSince);
  result.facts.outcomes = outcomes;
  const states = new Set(outcomes.map((each) => each.state));
  if (outcomes.length < claim.inputs.length) {
    result.checks.push(check("parts-missing", "warn"));
    states.add("missing");
  }
  result.verdict = states.size === 1 ? [...states][0] : "mixed";
  inquiry.complete();
}

function outcomesSince([own, ...since]) {
  const back = since.filter(({ fact }) => fact.state === BigInt(RECLAIMED));
  const outcomes = outcomesOf(own.result);
  for (const each of outcomes) {
    if (back.some(({ fact }) => fact.lo === each.lo && fact.hi === each.hi)) each.state = "reclaimed";
  }
  return outcomes;
}

/** Of a claim that the log does not hold: whether it may still come. It is over by the log's time only. */
function tellDeadline(result, claim, now) {
  const time = claim.deadline;
  if (now <= time) result.checks.push(check("deposit-open", "warn", { time }));
  else if (result.facts.asOf > time) result.checks.push(check("deposit-over", "warn", { time }));
}

function claimFacts(claim) {
  return {
    amount: claim.amount,
    payee: toHex(claim.payee),
    time: claim.time,
    deadline: claim.deadline,
    id: toHex(idOf(claim)),
  };
}

async function judgeClaim(result, claim, site, inquiry) {
  Object.assign(result.facts, claimFacts(claim));
  // A claim names no key: the titles do, which are in a payment. The log takes none that is not signed.
  result.checks.push(check("claim-alone", "warn"));
  // Nor whose coins: any of several logs may have it.
  const parts = allParts(site);
  await judgeRegistered(result, claim, inquiry, parts, parts.length > 1);
}

async function judgePayment(result, payment, site, inquiry) {
  const { claim, titles, certificate } = payment;
  const { network } = site;
  Object.assign(result.facts, claimFacts(claim), { payer: toHex(titles[0].owner) });
  const named = titles.every((title, i) => equal(idOf(title), claim.inputs[i].title_id));
  const good =
    signed(result, titles.every((title) => network.signed(title, network.centerKey)), "titles-signed") &&
    signed(result, named && titles.every((x) => network.signed(claim, x.owner)), "claim-signed") &&
    signed(
      result,
      network.signed(certificate, network.certificationKey) && equal(certificate.subject, titles[0].owner),
      "card-certified",
    );
  const parts = new Set(titles.map((title) => partOf(site, title.serial)));
  if (good) await judgeRegistered(result, claim, inquiry, [...parts]);
}

async function judgeReceipt(result, receipt, site, inquiry) {
  Object.assign(result.facts, { time: receipt.time, id: toHex(receipt.digest) });
  result.facts.outcomes = receipt.results.flatMap(outcomesOf);
  const { network } = site;
  const good =
    signed(result, network.signed(receipt, network.centerKey), "center-signed") &&
    signed(
      result,
      receipt.titles.every((title) => network.signed(title, network.centerKey)),
      "titles-signed",
    );
  if (!good) return;
  result.facts.titles = [];
  for (const title of receipt.titles) {
    const entries = await inquiry.entries(title, partOf(site, title.serial));
    if (!entries) return;
    const told = { amount: title.hi - title.lo, id: toHex(idOf(title)), state: "missing" };
    result.facts.titles.push(told);
    if (!entries.length) continue;
    try {
      const parts = fate(title, entries);
      Object.assign(told, { state: stateOf(title, parts), live: parts.live });
    } catch (error) {
      inquiry.fail(error);
      return;
    }
  }
  if (!receipt.titles.length && !(await inquiry.state(homePart(site)))) return;
  const missing = result.facts.titles.filter((each) => each.state === "missing").length;
  if (missing) result.checks.push(check("titles-missing", "warn", { count: missing }));
  else if (receipt.titles.length) {
    result.checks.push(check("titles-in-log", "good", { count: receipt.titles.length }));
    inquiry.complete();
  }
  result.verdict = missing ? "missing" : "authentic";
}

async function judgeEvidence(result, evidence, site, inquiry) {
  const { title, claims } = evidence;
  const { network } = site;
  const ids = claims.map(idOf);
  const titleId = idOf(title);
  const spent = claims.flatMap((claim) => claim.inputs.filter((item) => equal(item.title_id, titleId)));
  const max = (a, b) => (a > b ? a : b);
  const proves =
    [title, ...claims].every((each) => network.accepts(each)) &&
    !equal(ids[0], ids[1]) &&
    spent.length === 2 &&
    claims[0].inputs.some((item) => equal(item.title_id, titleId)) &&
    spent.every((item) => item.lo >= title.lo && item.hi <= title.hi);
  const lo = proves ? max(spent[0].lo, spent[1].lo) : 0n;
  const hi = proves ? -max(-spent[0].hi, -spent[1].hi) : 0n;
  Object.assign(result.facts, {
    accused: toHex(title.owner),
    amount: hi > lo ? hi - lo : 0n,
    claims: ids.map(toHex),
    id: toHex(idOf(evidence)),
  });
  const good =
    signed(result, network.signed(title, network.centerKey), "title-signed") &&
    signed(result, proves && lo < hi, "same-fen") &&
    signed(result, claims.every((claim) => network.signed(claim, title.owner)), "both-signed");
  if (!good) {
    result.verdict = "proves-nothing";
    return;
  }
  const entries = await inquiry.entries(evidence, homePart(site));
  // What both signatures prove needs no log.
  result.verdict = "proves";
  if (!entries) return;
  if (!entries.length) {
    result.checks.push(check("not-in-log", "warn"));
    return;
  }
  result.facts.registered = entries[0].time;
  result.checks.push(check("in-log", "good", { index: entries[0].index, count: entries.length }));
  const listed = entries[1];
  if (!listed) return;
  const { fact } = listed;
  if (network.signed(fact, network.centerKey) && equal(fact.subject, title.owner)) {
    result.checks.push(check("listed", "good", { time: fact.time }));
  } else {
    inquiry.fail(new LogError("records"));
  }
}

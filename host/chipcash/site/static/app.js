// SPDX-License-Identifier: Apache-2.0
// The page: takes a document, has it judged, and shows the judgement.

import { toHex } from "./bytes.js";
import { CodeError, Parts, read } from "./codes.js";
import { LogError } from "./log.js";
import { readCamera, readPicture } from "./scan.js";
import * as source from "./site.js";
import { LANGUAGES, fill } from "./texts.js";
import { judge } from "./verify.js";
import { WireError } from "./wire.js";

const LANGUAGE = "chipcash-language";
const PICTURE = /^image\//;
const GROUPED = ["id", "serial", "owner", "payer", "payee", "accused"];
const TIMES = ["expiry", "deadline", "time", "registered", "asOf"];
const MONEY = ["amount", "live", "paid", "returned", "redeemed"];

const $ = (id) => document.getElementById(id);

let language = startLanguage();
let texts = LANGUAGES[language];
let shown = null; // the last judgement, and told, the last status: to be said again in another language
let told = null;
let parts = new Parts();
let camera = null;

function startLanguage() {
  let kept = null;
  try {
    kept = localStorage.getItem(LANGUAGE);
  } catch {
    // no storage: the browser's language
  }
  return kept in LANGUAGES ? kept : navigator.language.startsWith("zh") ? "zh" : "en";
}

// ---- writing ------------------------------------------------------------------------------------------

function element(name, text, ...classes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes);
  return made;
}

function yuan(fen) {
  const value = BigInt(fen);
  return fill(texts.yuan, { amount: `${value / 100n}.${String(value % 100n).padStart(2, "0")}` });
}

function when(seconds) {
  const locale = language === "zh" ? "zh-CN" : "en-GB";
  const date = new Date(Number(seconds) * 1000);
  return date.toLocaleString(locale, { dateStyle: "medium", timeStyle: "medium" });
}

/** A row of a list of names and values; what people compare is in groups and in a fixed width. */
function row(list, name, value) {
  list.append(element("dt", name));
  const dd = element("dd");
  if (value instanceof Node) dd.append(value);
  else dd.textContent = value;
  list.append(dd);
}

function code(text) {
  return element("code", text.replace(/(.{4})(?=.)/g, "$1 "));
}

function say(name, facts) {
  told = name && [name, facts];
  const text = told && (texts.errors[name] ?? texts[name]);
  $("status").textContent = told ? fill(text, facts) : "";
}

function translate() {
  texts = LANGUAGES[language];
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = texts.title;
  $("language").value = language;
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = texts[each.dataset.text];
  }
  $("explained").replaceChildren(...texts.explained.map((text) => element("li", text)));
  if (told) say(...told);
  if (shown) show(shown);
  showBelieved();
}

async function showBelieved() {
  const site = await opened().catch(() => null);
  const log = site && (await source.logAt(site, source.homePart(site)).catch(() => null));
  if (!log) return;
  const list = $("believes");
  list.replaceChildren();
  const { network } = site;
  row(list, texts.network, toHex(network.header.slice(0, 4)));
  row(list, texts.suite, network.header[5] === 1 ? "SM2, SM3" : "P-256, SHA-256");
  row(list, texts.certification, code(toHex(network.certificationKey)));
  const several = site.partitions !== null;
  row(list, texts.log, several ? fill(texts.logs, { log: log.log.name, count: site.partitions }) : log.log.name);
  const names = log.witnesses.map((each) => each.name).join(", ") || texts.none;
  const quorum = fill(texts.quorum, { quorum: log.quorum, of: log.witnesses.length });
  row(list, texts.auditors, log.auditors.map((each) => each.name).join(", ") || texts.none);
  row(list, texts.witnesses, log.quorum ? `${names} (${quorum})` : names);
}

// ---- a judgement --------------------------------------------------------------------------------------

function checkFacts(facts) {
  const words = { ...facts };
  if (facts.time !== undefined) words.time = when(facts.time);
  if (facts.last) words.last = facts.last.size;
  if (facts.now) words.now = facts.now.size;
  if (facts.cosigners) {
    const each = facts.cosigners.map(({ name, time }) => `${name} (${when(time)})`);
    words.cosigners = each.join(", ");
  }
  return words;
}

function factList({ facts }) {
  const list = element("dl");
  const values = { ...facts, ...facts.fate };
  for (const name of MONEY) {
    if (values[name] !== undefined && (values[name] || name === "live" || name === "amount")) {
      row(list, texts[name], yuan(values[name]));
    }
  }
  for (const name of TIMES) if (values[name] !== undefined) row(list, texts[name], when(values[name]));
  if (facts.lo !== undefined) row(list, texts.interval, fill(texts.range, facts));
  if (facts.fate?.moves.length) row(list, texts.moves, lines(facts.fate.moves, moveLine));
  if (facts.outcomes?.length) row(list, texts.outcomes, lines(facts.outcomes, outcomeLine));
  if (facts.titles?.length) row(list, texts.titles, lines(facts.titles, titleLine));
  for (const name of GROUPED) if (facts[name]) row(list, texts[name], code(facts[name]));
  if (facts.claims) row(list, texts.claims, lines(facts.claims, code));
  return list;
}

function lines(items, line) {
  const list = element("ul");
  for (const item of items) {
    const made = element("li");
    made.append(line(item));
    list.append(made);
  }
  return list;
}

function moveLine({ lo, hi, where, registered }) {
  return `${texts[where]}: ${yuan(hi - lo)}, ${when(registered)}`;
}

function outcomeLine({ lo, hi, state }) {
  return `${yuan(hi - lo)}: ${texts.verdicts[state][1]}`;
}

function titleLine({ amount, state }) {
  return `${yuan(amount)}: ${texts.verdicts[state][1]}`;
}

function show(judgement) {
  shown = judgement;
  const { kind, verdict, checks } = judgement;
  const [mood, words] = texts.verdicts[verdict];
  const result = $("result");
  result.className = mood;
  result.dataset.verdict = verdict;
  const heading = element("h2", words);
  heading.id = "verdict";
  const list = element("ul", undefined, "checks");
  for (const { name, state, facts } of checks) {
    const item = element("li", undefined, state);
    item.dataset.check = name;
    item.append(element("strong", texts.states[state]));
    item.append(fill(texts.checks[name], checkFacts(facts)));
    for (const checkpoint of name === "fork" ? [facts.last, facts.now] : []) {
      item.append(element("pre", checkpoint.note));
    }
    list.append(item);
  }
  result.replaceChildren(element("p", texts.kinds[kind]), heading, factList(judgement), list);
  result.hidden = false;
}

let site = null;

function opened() {
  site ??= source.open().catch((error) => {
    site = null;
    throw error;
  });
  return site;
}

function clear() {
  $("result").hidden = true;
  shown = null;
}

async function examine(data) {
  clear();
  say("working");
  try {
    const config = await opened();
    const now = Math.floor(Date.now() / 1000);
    show(await judge(data, config, (part) => source.newest(config, part), now));
    say(null);
    $("result").focus();
  } catch (error) {
    explain(error);
  }
}

/** Say why nothing was judged. */
function explain(error) {
  clear();
  if (error instanceof CodeError) say(error.code, error.facts);
  else if (error instanceof WireError) say("malformed", { why: error.message });
  else if (error instanceof LogError && error.code === "kind") say("kind");
  else if (error instanceof LogError) {
    told = null;
    $("status").textContent = texts.checks[error.code];
  } else {
    say("fault");
    throw error;
  }
}

async function examineText(text) {
  try {
    await examine(read(text));
  } catch (error) {
    explain(error);
  }
}

/** Take the text of a scanned code; true when the object is whole, and then it is judged. */
function take(text) {
  try {
    parts.add(text);
  } catch (error) {
    if (error.code !== "mixed") {
      explain(error);
      return false;
    }
    parts = new Parts(); // another object begins
    parts.add(text);
  }
  if (parts.missing.length) {
    const found = parts.total - parts.missing.length;
    say("part", { found, total: parts.total });
    return false;
  }
  const whole = parts;
  parts = new Parts();
  try {
    examine(whole.data());
  } catch (error) {
    explain(error);
  }
  return true;
}

async function takeFiles(files) {
  for (const file of files) {
    if (!PICTURE.test(file.type)) {
      const data = new Uint8Array(await file.arrayBuffer());
      const text = new TextDecoder().decode(data);
      // A file holds an object's bytes, or the text of one.
      await (/^chipcash:/i.test(text.trim()) ? examineText(text) : examine(data));
      return;
    }
    const found = await readPicture(file).catch(() => []);
    if (!found.length) say("no-picture");
    for (const text of found) if (take(text)) return;
  }
}

async function scan() {
  stop();
  const mine = new AbortController();
  camera = mine;
  parts = new Parts();
  $("camera").hidden = false;
  say("scanning");
  try {
    await readCamera($("video"), take, mine.signal);
  } catch {
    if (!mine.signal.aborted) say("no-camera");
  }
  if (camera === mine) stop(); // it may have been started again
}

function stop() {
  camera?.abort();
  camera = null;
  $("camera").hidden = true;
}

function fromAddress() {
  // What is behind # is never sent to a server.
  if (location.hash.length > 1) examineText(location.hash.slice(1).replaceAll("%20", " "));
}

$("language").addEventListener("change", ({ target }) => {
  language = target.value;
  try {
    localStorage.setItem(LANGUAGE, language);
  } catch {
    // no storage: for this page only
  }
  translate();
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  examineText($("text").value);
});
$("scan").addEventListener("click", scan);
$("stop").addEventListener("click", stop);
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async ({ target }) => {
  await takeFiles([...target.files]);
  target.value = "";
});
$("forget").addEventListener("click", () => {
  source.forget();
  site = null;
  clear();
  say("forgotten");
  showBelieved();
});
addEventListener("hashchange", fromAddress);
translate();
fromAddress();

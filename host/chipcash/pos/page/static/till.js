// SPDX-License-Identifier: Apache-2.0
// The till's page: parts that change by themselves, a keypad, and keys. Without it every form works as well.

const SILENT_MS = 15000; // longer without a word from the till, and what is shown may be old
const AGAIN_MS = 2000;

const main = document.getElementById("main");
const stale = document.getElementById("stale");
const said = document.getElementById("said");
const shown = new URLSearchParams();
for (const name of ["on", "after", "state"]) if (main.dataset[name]) shown.set(name, main.dataset[name]);

// ---- what changes by itself ---------------------------------------------------------------------------

let watch;
let lost = false;

function alive() {
  lost = false;
  stale.textContent = "";
  clearTimeout(watch);
  watch = setTimeout(dead, SILENT_MS);
}

/** The stream broke, as it does now and then; that it is back says alive(). */
function broken() {
  if (lost) return; // with each new failure the time would begin anew
  lost = true;
  clearTimeout(watch);
  watch = setTimeout(dead, AGAIN_MS);
}

function dead() {
  stale.textContent = stale.dataset.text;
}

/** Put in a part of the page that is another one now; what is being typed, and where, stays. */
function put({ name, hash, html }) {
  const part = document.querySelector(`[data-live="${name}"]`);
  if (!part || part.dataset.hash === hash) return;
  const typed = new Map();
  for (const each of part.querySelectorAll("input[id]")) typed.set(each.id, each.value);
  const inside = part.contains(document.activeElement);
  const focus = inside ? document.activeElement.id : "";
  const looking = !inside && document.activeElement === document.body;
  part.innerHTML = html;
  part.dataset.hash = hash;
  prepare(part);
  for (const [id, value] of typed) {
    const input = document.getElementById(id);
    if (input && part.contains(input)) input.value = value;
  }
  const again = focus && document.getElementById(focus);
  if (again) again.focus();
  else if (inside || looking) part.querySelector("[data-focus]")?.focus();
  say(part);
}

/** Have a screen reader say what a sale has come to. */
function say(part) {
  const text = part.querySelector("[data-say]")?.dataset.say;
  if (text) said.textContent = text;
}

let source;

function listen() {
  // A browser opens six connections to a till: pages that nobody looks at must leave them to those in use.
  if (document.hidden) return;
  source?.close();
  source = new EventSource(`/live?${shown}`);
  source.addEventListener("open", alive);
  source.addEventListener("beat", alive);
  source.addEventListener("part", (event) => {
    alive();
    put(JSON.parse(event.data));
  });
  source.addEventListener("over", () => {
    source.close();
    location.assign("/login");
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      // The server refused, or is away: the browser itself tries no more.
      dead();
      setTimeout(listen, AGAIN_MS);
    } else {
      broken();
    }
  });
}

function leave() {
  source?.close();
  clearTimeout(watch);
}

// ---- keypad and keys ----------------------------------------------------------------------------------

function field() {
  return document.querySelector("[data-digits]");
}

/** What an amount, or a PIN, is after one more key. */
function after(value, key, input) {
  if (key === "clear") return "";
  if (key === "back") return value.slice(0, -1);
  if (key === "." && (!("point" in input.dataset) || value.includes("."))) return value;
  const next = value + key;
  if (next.includes(".") && next.split(".")[1].length > 2) return value;
  return next.replace(".", "").length > Number(input.dataset.digits) ? value : next;
}

function press(key) {
  const input = field();
  if (input) input.value = after(input.value, key, input);
}

function prepare(root) {
  for (const keys of root.querySelectorAll(".keys")) keys.hidden = false;
  const input = root.querySelector("[data-digits]");
  if (input) {
    input.inputMode = "none"; // the keypad is here already
    if (!root.contains(document.activeElement)) input.focus();
  }
}

document.addEventListener("click", (event) => {
  const key = event.target.closest?.("[data-key]");
  if (key) press(key.dataset.key);
});

document.addEventListener("submit", (event) => {
  // A second tap on the same button is no second order.
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const at = event.target;
  const input = field();
  if (event.key === "Escape") {
    if (input && input.value) input.value = "";
    else document.querySelector("[data-escape]")?.click();
  } else if (at.matches("input, textarea, select")) {
    return;
  } else if (input && /^[0-9.]$/.test(event.key)) {
    press(event.key);
  } else if (input && event.key === "Backspace") {
    press("back");
  } else if (input && event.key === "Enter" && at === document.body) {
    input.form.requestSubmit();
  } else {
    return;
  }
  event.preventDefault();
});

// A page that comes back from the browser's memory may be old, and its forms were sent.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

prepare(main);
if (stale) {
  if (!document.activeElement || document.activeElement === document.body) {
    main.querySelector("[data-focus]")?.focus();
  }
  listen();
  window.addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => {
    leave();
    if (document.hidden) return;
    lost = false;
    broken(); // what it shows may be old until the till has answered
    listen();
  });
  setTimeout(() => say(main), 200); // what is there at once is not read out as news
}

// SPDX-License-Identifier: Apache-2.0
// The boxes of a coin's life by keyboard and pointer: one is current, its text is told, its holder stands out.

/** The box that is next to another in a direction, or that one itself. */
function next(boxes, from, key) {
  const a = from.getBBox();
  const at = { x: a.x + a.width / 2, y: a.y + a.height / 2 };
  let best = from;
  let least = Infinity;
  for (const box of boxes) {
    const b = box.getBBox();
    const over = { ArrowRight: b.x - (a.x + a.width), ArrowLeft: a.x - (b.x + b.width),
      ArrowDown: b.y - (a.y + a.height), ArrowUp: a.y - (b.y + b.height) }[key];
    if (box === from || over < -0.1) continue;
    const across = key === "ArrowRight" || key === "ArrowLeft"
      ? Math.max(b.y - at.y, at.y - (b.y + b.height), 0)
      : Math.max(b.x - at.x, at.x - (b.x + b.width), 0);
    const far = over + 4 * across;
    if (far < least) { best = box; least = far; }
  }
  return best;
}

function prepare(figure) {
  const told = figure.querySelector(".told");
  const boxes = [...figure.querySelectorAll(".boxes rect")];
  if (!boxes.length) return;
  told.textContent = figure.querySelector("svg").dataset.hint;

  function choose(box, focus) {
    for (const each of boxes) {
      each.parentNode.setAttribute("tabindex", each === box ? "0" : "-1");
      each.classList.toggle("dim", !!box.dataset.holder && each.dataset.holder !== box.dataset.holder);
    }
    told.textContent = box.querySelector("title").textContent;
    if (focus) box.parentNode.focus();
  }

  boxes[0].parentNode.setAttribute("tabindex", "0");
  for (const box of boxes) {
    const link = box.parentNode;
    link.setAttribute("aria-label", box.querySelector("title").textContent);
    if (!link.hasAttribute("href")) link.setAttribute("role", "img");
    link.addEventListener("focus", () => choose(box, false));
    box.addEventListener("pointerenter", () => choose(box, false));
  }
  figure.querySelector("svg").addEventListener("pointerleave", () => {
    for (const box of boxes) box.classList.remove("dim");
  });
  figure.addEventListener("keydown", (event) => {
    const box = event.target.querySelector?.("rect");
    if (!boxes.includes(box) || !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    choose(next(boxes, box, event.key), true);
  });
}

document.querySelectorAll("figure.life").forEach(prepare);

# SPDX-License-Identifier: Apache-2.0
"""Golden pictures of pages: taken in Chromium, compared with those that somebody has looked at.

What differs from run to run (times, ids) is written over before. Who has changed a page looks at what is in
`build/pictures/` after the test, and copies it over `docs/pictures/`: the manual shows the same files.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["Album"]

ROOT = Path(__file__).parents[3]
WIDTHS = {"phone": (390, 780), "tablet": (800, 1100), "desktop": (1280, 800)}
SCHEMES = ("light", "dark")
MOST_BYTES = 40 << 10
_COLOURS = 48
_DIFFERENT = 80
"""Of 255, in one colour: below it are a palette's roundings and the smoothing of letters."""
_POINTS = 40
"""So many points may be different: fewer than one letter has."""

_MASK = """() => {
    for (const each of document.querySelectorAll("[data-live]")) each.removeAttribute("data-live");
    for (const time of document.querySelectorAll("time"))
        time.textContent = time.textContent.length > 6 ? "2026-11-28 14:03" : "14:03";
    for (const id of document.querySelectorAll(".id")) id.textContent = "0".repeat(id.textContent.length);
    document.documentElement.style.caretColor = "transparent";
}"""


class Album:
    """Pictures of one test. name: of their folder, below docs/pictures."""

    def __init__(self, name: str) -> None:
        self.golden = ROOT / "docs/pictures" / name
        self.actual = ROOT / "build/pictures" / name
        self.actual.mkdir(parents=True, exist_ok=True)
        for old in self.actual.rglob("*.png"):
            old.unlink()
        self.wrong: list[str] = []
        self.names: set[str] = set()

    def take(
        self,
        page: Page,
        screen: str,
        *masked: tuple[str, str],
        main: bool = False,
        again: bool = True,
    ) -> None:
        """A picture of a page on a tablet; of a main one in each width and scheme.

        masked: selectors and what is written there; again: whether the page is needed further.
        """
        before = page.viewport_size
        for width in WIDTHS if main else ("tablet",):
            wide, high = WIDTHS[width]
            for scheme in SCHEMES if main else SCHEMES[:1]:
                page.set_viewport_size({"width": wide, "height": high})
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.evaluate(_MASK)
                for selector, text in masked:
                    page.evaluate(
                        "([selector, text]) => { for (const each of document.querySelectorAll(selector))"
                        " each.textContent = text; }",
                        [selector, text],
                    )
                page.evaluate("window.scrollTo(0, 0)")
                self._compare(f"{screen}-{width}-{scheme}.png", page.screenshot(caret="hide"))
        if before is not None:
            page.set_viewport_size(before)
        if again:
            page.reload()  # it was kept from changing meanwhile

    def _compare(self, name: str, png: bytes) -> None:
        self.names.add(name)
        shot = Image.open(io.BytesIO(png)).convert("RGB")
        what = self._difference(name, shot)
        if what:
            small = shot.quantize(_COLOURS, dither=Image.Dither.NONE)
            small.save(self.actual / name, optimize=True)
            self.wrong.append(f"{name} {what}")

    def _difference(self, name: str, shot: Image.Image) -> str:
        """How a picture differs from the golden one, "" if it does not."""
        if not (self.golden / name).exists():
            return "is new"
        with Image.open(self.golden / name) as file:
            kept = file.convert("RGB")
        if kept.size != shot.size:
            return f"is {shot.size} instead of {kept.size}"
        apart = ImageChops.difference(kept, shot)
        bands = [band.point(lambda x: 255 if x > _DIFFERENT else 0) for band in apart.split()]
        spots = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
        points = spots.histogram()[255]
        if points <= _POINTS:
            return ""
        where = self.actual / "difference" / name
        where.parent.mkdir(exist_ok=True)
        Image.composite(Image.new("RGB", shot.size, "red"), shot, spots).save(where)
        return f"has {points} other points, red in {where}"

    def check(self) -> None:
        """Fail if a picture is another one, is new, or is of nothing any more."""
        for path in self.golden.glob("*.png"):
            if path.name not in self.names:
                self.wrong.append(f"{path} is a picture of no screen")
            if path.stat().st_size > MOST_BYTES:
                self.wrong.append(f"{path} is larger than {MOST_BYTES} bytes")
        assert not self.wrong, "\n".join(
            [*self.wrong, f"If they are as they should be: cp {self.actual}/*.png {self.golden}/"]
        )

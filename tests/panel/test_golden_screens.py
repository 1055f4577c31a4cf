# SPDX-License-Identifier: Apache-2.0
"""Each screen of the panel as a picture that somebody has looked at: golden/*.png."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from chipcash_panel.framebuffer import COLUMNS, ROWS
from chipcash_panel.panel import CONFIRM, GUARD_MS, REFUSE, Panel
from chipcash_sim.hardware.panel import png

GOLDEN = Path(__file__).parent / "golden"
ACTUAL = Path(__file__).parents[2] / "build" / "golden"

PAYEE = bytes.fromhex("7f3ac20e51b8d496")
SMALL = (b"nonce", PAYEE, 1_234)
LARGE = (b"nonce", PAYEE, 50_000_000)


class Shown:
    """A panel, the last picture of it, and a clock."""

    def __init__(self) -> None:
        self.now = 0
        self.frame = b""
        self.panel = Panel(10_000, self._show, lambda: self.now)
        self.panel.balance(123_456, 0)

    def _show(self, frame: bytearray) -> None:
        self.frame = bytes(frame)

    def ask_and_press(self, request: tuple[bytes, bytes, int], button: int) -> None:
        """Ask, and press when it can be read."""
        self.panel.consent(*request, False)
        self.panel.tick()
        self.now += GUARD_MS
        self.panel.press(button)


SCREENS: dict[str, Callable[[Shown], object]] = {
    "idle": lambda s: s.panel.balance(123_456, 0),
    "idle-pending": lambda s: s.panel.balance(50_000_000, 49_999_999),
    "idle-largest": lambda s: s.panel.balance((1 << 63) - 1, (1 << 63) - 1),
    "locked": lambda s: s.panel.balance(None, 0),
    "asking-small": lambda s: s.panel.consent(*SMALL, False),
    "asking-large": lambda s: s.panel.consent(*LARGE, False),
    "agreed": lambda s: s.ask_and_press(LARGE, CONFIRM),
    "refused": lambda s: s.ask_and_press(SMALL, REFUSE),
    "paid": lambda s: s.panel.paid(PAYEE, 1_234, 122_222, 0),
    "received": lambda s: s.panel.received(1_234, 123_456, 51_234),
    "insufficient": lambda s: s.panel.failed("There is not enough money on this card."),
    "failed-longest": lambda s: s.panel.failed(
        "The limit for payments without network is reached. Please connect this card to your bank's "
        "app or branch once."
    ),
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str) -> None:
    shown = Shown()
    SCREENS[name](shown)
    shown.panel.tick()
    actual = png(shown.frame)
    file = GOLDEN / f"{name}.png"
    if not file.exists() or pixels(file.read_bytes()) != pixels(actual):
        ACTUAL.mkdir(parents=True, exist_ok=True)
        (ACTUAL / file.name).write_bytes(actual)
        pytest.fail(
            f"The screen {name} is not as in {file}. Look at {ACTUAL / file.name}; if it is right: "
            f"cp {ACTUAL / file.name} {file}"
        )


def test_every_golden_picture_is_of_a_screen() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(SCREENS)


def test_a_picture_has_the_frame_s_pixels() -> None:
    frame = bytearray(COLUMNS * ROWS // 8)
    frame[2 * COLUMNS + 5] = 0b10  # column 5, row 17
    image = Image.open(io.BytesIO(png(bytes(frame), 3))).convert("L")
    assert image.size == (3 * COLUMNS, 3 * ROWS)
    lit = max(image.tobytes())
    assert image.point(lambda value: 255 * (value == lit)).getbbox() == (15, 51, 18, 54)


def pixels(file: bytes) -> tuple[tuple[int, int], bytes]:
    """Size and colours of a PNG file."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    return image.size, image.tobytes()

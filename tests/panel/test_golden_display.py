# SPDX-License-Identifier: Apache-2.0
"""The golden screens once more, as an emulated SSD1306 shows them when the board's driver has sent them."""

from __future__ import annotations

from chipcash_drivers.ssd1306 import Display, I2c
from chipcash_sim.hardware.panel import png
from tests.panel.test_golden_screens import GOLDEN, SCREENS, Shown, pixels
from tests.portable.chips import Ssd1306


def test_each_screen_after_each_other() -> None:
    """One display for all, so that each picture is what changed from another one."""
    chip = Ssd1306()
    display = Display(I2c(chip))
    for name, draw in SCREENS.items():
        shown = Shown()
        draw(shown)
        shown.panel.tick()
        display.show(shown.frame)
        seen = chip.seen()
        assert seen is not None
        assert pixels(png(seen)) == pixels((GOLDEN / f"{name}.png").read_bytes()), name
    assert chip.written < len(SCREENS) * len(seen)

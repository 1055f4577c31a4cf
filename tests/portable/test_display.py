# SPDX-License-Identifier: Apache-2.0
"""The display driver on an emulated SSD1306: chipcash_drivers.ssd1306. Portable."""

from chips import Ssd1306

from chipcash_drivers.ssd1306 import BLANK_MS, COLUMNS, SIZE, Display, I2c, Spi
from chipcash_panel.panel import REQUEST_MS


class Clock:
    """A clock that stands still."""

    now = 0

    def __call__(self):
        return self.now


class Select:
    """The chip's select pin: what is written while it is high is lost."""

    def __init__(self, chip):
        self.chip = chip
        self.low = False
        self.writes = []

    def __call__(self, value):
        self.low = not value

    def write(self, data):
        """The bus that the chip shares."""
        assert self.low
        self.chip.write(data)


def picture(seed):
    """Some picture, all of whose pages differ from those of another seed."""
    return bytes([(seed + 1) * (at % 251 + 1) & 0xFF for at in range(SIZE)])


def made():
    """(chip, display, clock)."""
    chip = Ssd1306()
    clock = Clock()
    return chip, Display(I2c(chip), clock), clock


def test_a_picture_is_seen():
    chip, display, _ = made()
    assert chip.seen() is None and not display.lit
    for seed in range(3):
        display.show(picture(seed))
        assert chip.seen() == picture(seed) and display.lit


def test_by_spi():
    chip = Ssd1306()
    bus = Select(chip)
    display = Display(Spi(bus, chip.dc, bus))
    for seed in range(3):
        display.show(picture(seed))
        assert chip.seen() == picture(seed)
        assert not bus.low


def test_only_what_changed_is_sent():
    chip, display, _ = made()
    before = picture(0)
    display.show(before)
    assert chip.written == SIZE
    for pages in ((), (0,), (7,), (1, 2), (0, 3, 4, 7), tuple(range(8))):
        after = bytearray(before)
        for page in pages:
            after[page * COLUMNS + 5] ^= 0xFF
        chip.written = 0
        display.show(bytes(after))
        assert chip.written == len(pages) * COLUMNS
        assert chip.seen() == bytes(after)
        before = bytes(after)


def test_dark_after_a_while_and_awake_again():
    assert BLANK_MS > REQUEST_MS  # no request is there unseen
    chip, display, clock = made()
    display.show(picture(0))
    assert not display.wake()
    clock.now = BLANK_MS - 1
    display.tick()
    assert chip.lit
    clock.now += 1
    display.tick()
    assert not chip.lit and not display.lit
    assert display.wake() and chip.seen() == picture(0)
    clock.now += BLANK_MS
    display.tick()
    assert not chip.lit
    display.show(picture(1))
    assert chip.seen() == picture(1)


def test_contrast():
    chip, display, _ = made()
    display.show(picture(0))
    display.contrast(7)
    assert chip.set[0x81] == b"\x07" and chip.seen() == picture(0)


def test_a_display_that_loses_its_power_is_set_up_anew():
    chip, display, _ = made()
    display.show(picture(0))
    chip.gone = True
    try:
        display.show(picture(1))
        raise AssertionError()
    except OSError:
        assert not display.lit
    chip.gone = False
    chip.reset()
    chip.memory[:] = bytes(SIZE)
    display.show(picture(1))
    assert chip.seen() == picture(1)

# SPDX-License-Identifier: Apache-2.0
"""A picture of 128 by 64 pixels, lit or dark, in the layout of the SSD1306's memory.

MicroPython's framebuf has this layout too (MONO_VLSB), but CPython has none, its only font is too wide for an
amount, and it cannot enlarge text. Here one drawing serves both, so that a golden picture made on one holds
for the board. Text is drawn by columns and not by pixels, which is slow without native code."""

from chipcash_panel.font import columns

COLUMNS = 128
ROWS = 64
SIZE = COLUMNS * ROWS // 8
"""Bytes of a picture."""

# Four pixels of a column, each twice.
_DOUBLED = b"\x00\x03\x0c\x0f\x30\x33\x3c\x3f\xc0\xc3\xcc\xcf\xf0\xf3\xfc\xff"


class Framebuffer:
    """The picture, dark at first. x counts from the left, y from the top; what is outside is not drawn.

    buffer: SIZE bytes, 8 pages of 8 rows from the top, each of 128 bytes from the left, a byte's lowest bit
    on top."""

    def __init__(self) -> None:
        self.buffer = bytearray(SIZE)

    def clear(self) -> None:
        """All dark."""
        buffer = self.buffer
        for at in range(SIZE):  # not from a second picture, for which a small heap has no room
            buffer[at] = 0

    def pixel(self, x: int, y: int) -> bool:
        """Whether a pixel is lit."""
        return bool(self.buffer[(y >> 3) * COLUMNS + x] >> (y & 7) & 1)

    def fill(self, x: int, y: int, width: int, height: int) -> None:
        """Light a rectangle; a line if its width or height is 1."""
        bits = (1 << height) - 1
        for column in range(x, x + width):
            self._column(column, y, bits)

    def rect(self, x: int, y: int, width: int, height: int) -> None:
        """Light the outline of a rectangle."""
        self.fill(x, y, width, 1)
        self.fill(x, y + height - 1, width, 1)
        self.fill(x, y, 1, height)
        self.fill(x + width - 1, y, 1, height)

    def invert(self, x: int, y: int, width: int, height: int) -> None:
        """Make what is lit dark and what is dark lit, in a rectangle."""
        bits = (1 << height) - 1
        for column in range(x, x + width):
            self._column(column, y, bits, True)

    def text(self, text: str, x: int, y: int, scale: int = 1) -> None:
        """Write a line of text over what is there, its upper left corner at x, y; scale 1 or 2."""
        for char in text:
            for bits in columns(char):
                if scale == 2:
                    bits = _DOUBLED[bits & 15] | _DOUBLED[bits >> 4] << 8
                    self._column(x + 1, y, bits)
                self._column(x, y, bits)
                x += scale

    def _column(self, x: int, y: int, bits: int, invert: bool = False) -> None:
        """Light, or invert, what is set in bits: the lowest at y, the others below it."""
        if not 0 <= x < COLUMNS:
            return
        at = (y >> 3) * COLUMNS + x
        bits <<= y & 7
        while bits:
            if 0 <= at < SIZE:
                if invert:
                    self.buffer[at] ^= bits & 0xFF
                else:
                    self.buffer[at] |= bits & 0xFF
            bits >>= 8
            at += COLUMNS

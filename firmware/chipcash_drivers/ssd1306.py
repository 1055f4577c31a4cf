# SPDX-License-Identifier: Apache-2.0
"""The display: 128 by 64 pixels behind an SSD1306 (Solomon Systech data sheet, revision 1.1), by I2C or SPI.
Has never run on hardware: the tests emulate the chip's commands and its memory.

The panel's pictures have the layout of the chip's memory, so that they go there as they are. Of a picture
only those pages (8 rows each) are sent which differ from what the chip shows: by I2C at 400 kHz a page takes
some 3 ms, a whole picture 24 ms."""

from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Callable, Protocol

    class Bus(Protocol):
        """How the chip is reached. Either raises OSError if the chip does not answer."""

        def command(self, data: bytes) -> None:
            """Send commands with their arguments."""

        def data(self, data: "bytes | memoryview") -> None:
            """Send bytes for the chip's memory."""


COLUMNS = 128
PAGES = 8
SIZE = COLUMNS * PAGES
"""Bytes of a picture."""
ADDRESS = 0x3C
"""On the I2C bus; 0x3D where the module's SA0 is high."""
BLANK_MS = 120000
"""Without a new picture for so long the display goes dark. Longer than the panel keeps a request, so that no
request is ever there unseen."""
CONTRAST = 0xCF

# Section 10.1 and the application note's flow; what is not here is as after reset. Segments and rows are
# remapped, since modules have the glass upside down. The charge pump makes the panel's 7.5 V of 3.3 V.
_SETUP = (
    b"\xae"  # display off
    b"\xd5\x80"  # clock
    b"\xa8\x3f"  # 64 rows
    b"\xd3\x00"  # no offset
    b"\x40"  # from row 0
    b"\x8d\x14"  # charge pump on
    b"\x20\x00"  # horizontal addressing
    b"\xa1\xc8"  # segments, rows
    b"\xda\x12"  # alternating row pins
    b"\xd9\xf1"  # precharge, with a charge pump
    b"\xdb\x40"  # deselect level
    b"\xa4\xa6"  # show the memory, lit where set
)
_OFF = b"\xae"
_ON = b"\xaf"


class I2c:
    """The chip on an I2C bus; i2c: machine.I2C or machine.SoftI2C."""

    def __init__(self, i2c, address: int = ADDRESS) -> None:  # type: ignore[no-untyped-def]
        self._i2c = i2c
        self._address = address

    def command(self, data: bytes) -> None:
        """Send commands. Raises OSError."""
        self._i2c.writevto(self._address, (b"\x00", data))  # control byte: commands follow

    def data(self, data: "bytes | memoryview") -> None:
        """Send bytes for the memory. Raises OSError."""
        self._i2c.writevto(self._address, (b"\x40", data))


class Spi:
    """The chip on an SPI bus (4-wire). spi: machine.SPI in mode 0; dc, cs: machine.Pin.

    Nothing comes back on this bus, so a display that is missing is not noticed."""

    def __init__(self, spi, dc, cs) -> None:  # type: ignore[no-untyped-def]
        self._spi = spi
        self._dc = dc
        self._cs = cs
        cs(1)

    def command(self, data: bytes) -> None:
        """Send commands."""
        self._send(0, data)

    def data(self, data: "bytes | memoryview") -> None:
        """Send bytes for the memory."""
        self._send(1, data)

    def _send(self, dc: int, data: "bytes | memoryview") -> None:
        self._dc(dc)
        self._cs(0)
        try:
            self._spi.write(data)
        finally:
            self._cs(1)


class Display:
    """What the panel draws on: show() is what it calls with each picture. Dark until the first.

    bus: I2c or Spi; clock: milliseconds, as compat.ticks_ms. Where show() or wake() raises OSError, the
    display is in doubt: the next one begins with setting it up, and sends the whole picture."""

    def __init__(self, bus: "Bus", clock: "Callable[[], int]" = ticks_ms) -> None:
        self._bus = bus
        self._clock = clock
        self._shown = bytearray(SIZE)  # made once: later a small heap has no such room in one piece
        self._known = False  # whether the chip has what is in there
        self._lit = False
        self._since = clock()

    @property
    def lit(self) -> bool:
        """Whether there is a picture to be seen."""
        return self._lit

    def show(self, picture: "bytes | bytearray") -> None:
        """Show a picture of SIZE bytes, of which a copy is kept. Raises OSError."""
        before = self._shown if self._known else None
        lit = self._lit
        self._known = False  # until all is sent
        self._lit = False
        if before is None:
            self._bus.command(_SETUP + bytes((0x81, CONTRAST)))
        view = memoryview(picture)
        page = 0
        while page < PAGES:
            end = page
            while end < PAGES and _differ(picture, before, end):
                end += 1
            if end > page:
                self._bus.command(bytes((0x21, 0, COLUMNS - 1, 0x22, page, end - 1)))
                self._bus.data(view[page * COLUMNS : end * COLUMNS])
            page = end + 1
        if not lit:
            self._bus.command(_ON)
        self._lit = True
        self._shown[:] = picture
        self._known = True
        self._since = self._clock()

    def contrast(self, level: int) -> None:
        """How bright, 0 to 255, until the display is set up anew. Raises OSError."""
        self._bus.command(bytes((0x81, level)))

    def tick(self) -> None:
        """Time passes: go dark after BLANK_MS. Raises OSError."""
        if self._lit and ticks_diff(self._clock(), self._since) >= BLANK_MS:
            self._lit = False
            self._bus.command(_OFF)

    def wake(self) -> bool:
        """Show the picture again, if the display has gone dark; whether it had. Raises OSError."""
        if self._lit or not self._known:
            return False
        self.show(self._shown)
        return True


def _differ(picture: "bytes | bytearray", before: "bytearray | None", page: int) -> bool:
    start = page * COLUMNS
    end = start + COLUMNS
    return before is None or picture[start:end] != before[start:end]

# SPDX-License-Identifier: Apache-2.0
"""Chips that stand on a board, emulated by what their data sheets say of them. Portable."""

from chipcash_sim.image import PowerCut

COLUMNS = 128


class NorFlash:
    """NOR flash behind MicroPython's block device interface, as strict as the RP2's.

    Programming takes whole pages of 256 bytes within a block and only clears bits; erasing sets a block of
    4096 bytes. cut: operation (from 0) at which power fails, None for never; half: it is half done then.
    erased: how often each block was erased. worn: blocks that no longer take anything."""

    BLOCK = 4096
    PAGE = 256

    def __init__(self, blocks, content=None):
        self.pages = dict(
            content or {}
        )  # what is erased is not there: a small heap holds several chips
        self.erased = [0] * blocks
        self.operations = 0
        self.cut = None
        self.half = False
        self.worn = ()

    def content(self):
        """What a chip with the same content is made from."""
        return dict(self.pages)

    def _share(self, n):
        """How many of n pages or bytes are done before the power fails."""
        at = self.operations
        self.operations += 1
        if self.cut is None or at < self.cut:
            return n
        return n // 2 if at == self.cut and self.half else 0

    def readblocks(self, block, buffer, offset=0):
        """Fill the buffer."""
        assert 0 <= block < len(self.erased) and 0 <= offset
        assert offset + len(buffer) <= self.BLOCK
        start = block * self.BLOCK + offset
        done = 0
        while done < len(buffer):
            at = (start + done) % self.PAGE
            n = min(len(buffer) - done, self.PAGE - at)
            page = self.pages.get((start + done) // self.PAGE, b"\xff" * self.PAGE)
            buffer[done : done + n] = page[at : at + n]
            done += n

    def writeblocks(self, block, buffer, offset=None):
        """Program; with no offset erase before."""
        if offset is None:
            self.ioctl(6, block)
            offset = 0
        assert 0 <= block < len(self.erased) and offset % self.PAGE == 0
        assert len(buffer) % self.PAGE == 0 and offset + len(buffer) <= self.BLOCK
        for start in range(0, len(buffer), self.PAGE):
            n = self._share(self.PAGE)
            number = (block * self.BLOCK + offset + start) // self.PAGE
            if block not in self.worn:
                page = bytearray(self.pages.get(number, b"\xff" * self.PAGE))
                for at in range(n):
                    page[at] &= buffer[start + at]
                self.pages[number] = bytes(page)
            if n < self.PAGE:
                raise PowerCut()

    def ioctl(self, op, arg):
        """Number of blocks, size of one, erase one."""
        if op == 4:
            return len(self.erased)
        if op == 5:
            return self.BLOCK
        if op == 6:
            assert 0 <= arg < len(self.erased)
            whole = self.BLOCK // self.PAGE
            n = self._share(whole)
            self.erased[arg] += 1
            if arg not in self.worn:
                for number in range(arg * whole, arg * whole + n):
                    self.pages.pop(number, None)
            if n < whole:
                raise PowerCut()
            return 0
        return None


class Ssd1306:
    """A display's chip: the commands of its data sheet (tables 9-1), and its memory.

    It is the machine.I2C that it hangs on, the SPI bus, and with dc() that bus's pin. memory: 8 pages of 128
    bytes; lit: whether it shows them; gone: it does not answer. written: bytes of memory written so far."""

    _ARGUMENTS = {
        0x20: 1, 0x21: 2, 0x22: 2, 0x81: 1, 0x8D: 1, 0xA8: 1, 0xD3: 1, 0xD5: 1, 0xD9: 1, 0xDA: 1, 0xDB: 1,
    }  # fmt: skip
    _PLAIN = (0xA0, 0xA1, 0xA4, 0xA5, 0xA6, 0xA7, 0xAE, 0xAF, 0xC0, 0xC8, 0xE3)

    def __init__(self, address=0x3C):
        self.address = address
        self.gone = False
        self.written = 0
        self._is_data = False
        self.memory = bytearray(b"\xa5" * 1024)  # after power on it holds anything
        self.reset()

    def reset(self):
        """As after power on, but for the memory."""
        self.set = {0x20: b"\x02", 0x81: b"\x7f", 0xA8: b"\x3f", 0xD3: b"\x00", 0xDA: b"\x12"}
        self.lit = self.pump = self.inverse = self.all_on = False
        self.remapped = [False, False]
        self.start_row = 0
        self._columns = [0, 127]
        self._pages = [0, 7]
        self._at = [0, 0]  # page, column

    # What the buses call -----------------------------------------------------------------------

    def writevto(self, address, parts):
        """I2C: a control byte, then commands or data."""
        if self.gone or address != self.address:
            raise OSError(19)  # ENODEV: nobody acknowledges
        control, data = parts
        assert control in (b"\x00", b"\x40")
        self._take(control == b"\x40", data)  # not copied: a picture is a kilobyte

    def dc(self, value):
        """SPI: whether data follow, or commands."""
        self._is_data = bool(value)

    def write(self, data):
        """SPI: commands or data."""
        self._take(self._is_data, bytes(data))

    # What the chip does ------------------------------------------------------------------------

    def _take(self, is_data, data):
        if is_data:
            for byte in data:
                self._store(byte)
            return
        at = 0
        while at < len(data):
            code = data[at]
            n = self._ARGUMENTS.get(code, 0)
            arguments = data[at + 1 : at + 1 + n]
            assert len(arguments) == n, "a command without its arguments"
            self._obey(code, arguments)
            at += 1 + n

    def _obey(self, code, arguments):
        if code in self._ARGUMENTS:
            self.set[code] = arguments
            if code == 0x8D:
                self.pump = bool(arguments[0] & 4)
            elif code == 0x21:
                assert arguments[0] <= arguments[1] < 128
                self._columns = list(arguments)
                self._at[1] = arguments[0]
            elif code == 0x22:
                assert arguments[0] <= arguments[1] < 8
                self._pages = list(arguments)
                self._at[0] = arguments[0]
        elif 0x40 <= code < 0x80:
            self.start_row = code & 0x3F
        elif 0xB0 <= code < 0xB8 and self.set[0x20] == b"\x02":
            self._at[0] = code & 7
        elif code < 0x20 and self.set[0x20] == b"\x02":
            shift = 4 if code & 0x10 else 0
            self._at[1] = self._at[1] & ~(0x0F << shift) | (code & 0x0F) << shift
        else:
            assert code in self._PLAIN, "no such command: %02x" % code
            if code in (0xA0, 0xA1):
                self.remapped[0] = code == 0xA1
            elif code in (0xC0, 0xC8):
                self.remapped[1] = code == 0xC8
            elif code in (0xAE, 0xAF):
                self.lit = code == 0xAF
            elif code in (0xA4, 0xA5):
                self.all_on = code == 0xA5
            elif code in (0xA6, 0xA7):
                self.inverse = code == 0xA7

    def _store(self, byte):
        page, column = self._at
        self.memory[page * COLUMNS + column] = byte
        self.written += 1
        mode = self.set[0x20][0] & 3
        if mode == 2:
            self._at[1] = (column + 1) % COLUMNS
            return
        along, across = (1, 0) if mode == 0 else (0, 1)
        limits = (self._pages, self._columns)
        self._at[along] += 1
        if self._at[along] > limits[along][1]:
            self._at[along] = limits[along][0]
            self._at[across] += 1
            if self._at[across] > limits[across][1]:
                self._at[across] = limits[across][0]

    def seen(self):
        """The picture that somebody before a usual module sees; None when it is dark, or wrongly set up."""
        upright = self.remapped == [True, True] and self.start_row == 0
        rows = (self.set[0xA8], self.set[0xD3], self.set[0xDA]) == (b"\x3f", b"\x00", b"\x12")
        if not self.lit or not self.pump or not upright or not rows or self.inverse or self.all_on:
            return None
        return bytes(self.memory)


class Pin:
    """An input pin: level is 0 while its button is down."""

    def __init__(self):
        self.level = 1

    def value(self):
        """As machine.Pin."""
        return self.level


class Machine:
    """What of MicroPython's module of that name a board uses. wired: chips by (bus instance, I2C address),
    on a UART without address; inputs: pins by number."""

    def __init__(self, wired, inputs):
        self.wired = wired
        self.Pin = Pins(inputs)

    def UART(self, instance, baudrate, tx, rx):
        """A line, with the one chip on it."""
        assert baudrate == 115200 and tx != rx
        return self.wired[(instance, None)]

    def unique_id(self):
        """Of the chip."""
        return b"\x01\x02\x03\x04"

    def SoftI2C(self, scl, sda, freq):
        """A bus on any pins, with the one chip on it."""
        assert scl != sda and freq <= 100000
        return self.wired[("soft", scl)]

    def I2C(self, instance, scl, sda, freq):
        """A bus, with all its chips."""
        assert scl != sda and freq <= 400000
        return Bus(
            {address: chip for (bus, address), chip in self.wired.items() if bus == instance}
        )


class Pins:
    """machine.Pin: made with a number, and for an input with its mode."""

    IN = 0
    OUT = 1
    PULL_UP = 1

    def __init__(self, inputs):
        self.inputs = inputs

    def __call__(self, number, mode=None, pull=None):
        """The pin of that number."""
        if mode == self.IN:
            assert pull == self.PULL_UP
            return self.inputs[number]
        return number


class Bus:
    """An I2C bus: a chip answers at its address, elsewhere nobody does."""

    def __init__(self, chips):
        self.chips = chips

    def writevto(self, address, parts):
        """As machine.I2C."""
        if address not in self.chips:
            raise OSError(19)
        self.chips[address].writevto(address, parts)

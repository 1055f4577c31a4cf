# SPDX-License-Identifier: Apache-2.0
"""NXP's PN532 as a contactless card (target mode): frames, buses and the loop that feeds a session.

By its user manual, UM0701-02. Activation, blocks and waiting time of ISO/IEC 14443-4 are the chip's: what
passes here are parts of APDUs, by TgGetData, TgSetMetaData and TgSetData. firmware/README.md says what is
known of the chip's behaviour, and what is not.

A bus is any object with wake(), write(frame) and read(); read() never waits: what the chip has to say, or
nothing. Hsu, I2c and Spi are over MicroPython's machine.UART, machine.I2C, machine.SPI and machine.Pin."""

import time

from chipcash_links.link import Link
from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    from chipcash_links.link import Commands

    class Bus(Protocol):
        """What the chip hangs on. Either may raise OSError where the chip does not answer the bus."""

        def wake(self) -> None:
            """Wake the chip, whatever it does: it listens to the next frame."""

        def write(self, frame: bytes) -> None:
            """Send one frame."""

        def read(self) -> bytes:
            """One frame, or some bytes of one where the bus is a stream; nothing if the chip is not ready."""


ACK = b"\x00\x00\xff\x00\xff\x00"
"""Either side's receipt; from the host while a command is carried out, it ends that command."""
NACK = b"\x00\x00\xff\xff\x00\x00"
"""From the host: send the last frame again."""
MAX_DATA = 262
"""Bytes of an APDU in one command or reply of the chip's."""
MAX_APDU = 4096
"""Longest command APDU, twice what a card's longest needs; what is longer is answered 6700."""

_RECEIPTS = (b"\x00\xff", b"\xff\x00")
_TO_CHIP = 0xD4
_FROM_CHIP = 0xD5
_MAX_FRAME = 277  # extended, of 267 bytes: TFI, code, status, data, and some to spare

_SET_PARAMETERS = 0x12
_SAM_CONFIGURATION = 0x14
_GET_DATA = 0x86
_GET_TARGET_STATUS = 0x8A
_INIT_AS_TARGET = 0x8C
_SET_DATA = 0x8E
_SET_META_DATA = 0x94
_BY_READER = (_GET_DATA, _INIT_AS_TARGET, _SET_DATA, _SET_META_DATA)

_NORMAL_MODE = b"\x01\x00\x01"  # no security module, no timeout, IRQ is driven
_PARAMETERS = b"\x24"  # fAutomaticATR_RES, fISO14443-4_PICC
_PICC_ONLY = b"\x04"
_SENS_RES = b"\x04\x00"
_SEL_RES = b"\x20"  # ISO/IEC 14443-4
_NO_FELICA = bytes(18)
_NO_NFCID3 = bytes(10)
_NO_GENERAL_BYTES = b"\x00"
_HISTORICAL_BYTES = b"\x01\x80"  # their number, and one that says nothing
_AS_PICC = 0x08  # of the mode that TgInitAsTarget is answered with
_ERROR = 0x3F  # of a status; above it NAD and
_MORE = 0x40  # MI: the command goes on

_LENGTH = b"\x67\x00"
_ANSWER_MS = 300
"""Milliseconds after which a chip that did not acknowledge, or answer what it answers at once, is set up
anew."""
_WATCH_MS = 2000
"""The same for what it answers when the reader has done something. A chip that waits for a command is asked
first whether there is still a reader; none of these can be told from one that was reset."""
_ACTIVATED = 1
_RESET_S = 0.001
_START_S = 0.01


def frame(data: bytes) -> bytes:
    """The information frame that carries a command's code and parameters to the chip."""
    body = bytes((_TO_CHIP,)) + data
    size = len(body)
    if size < 256:
        head = bytes((size, -size & 0xFF))
    else:
        head = b"\xff\xff" + size.to_bytes(2, "big")
        head += bytes((-(head[2] + head[3]) & 0xFF,))
    return b"\x00\x00\xff" + head + body + bytes((-sum(body) & 0xFF, 0))


def frame_size(head: bytes) -> int:
    """Bytes of the frame that begins so, six bytes at least; 0 if more of them are needed to tell."""
    if head[3:5] in _RECEIPTS:
        return len(ACK)
    if head[3:5] != b"\xff\xff":
        return head[3] + 7
    return (head[5] << 8 | head[6]) + 10 if len(head) > 6 else 0


class Frames:
    """Finds the chip's frames in a stream of bytes; what has a wrong checksum is dropped."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> "list[bytes]":
        """What these bytes complete: of an information or error frame what it carries (from TFI on), and
        nothing at all, b"", of an acknowledgement."""
        found: "list[bytes]" = []
        self._data += data
        while True:
            start = self._data.find(b"\x00\xff")
            if start < 0:
                self._data = self._data[-1:]
                return found
            self._data = self._data[start:]
            whole = b"\x00" + self._data  # the preamble may be missing
            extended = whole[3:5] == b"\xff\xff"
            first = 8 if extended else 5
            if len(whole) < first:
                return found
            if whole[3:5] in _RECEIPTS:
                if whole[3:5] == ACK[3:5]:
                    found.append(b"")
                self._data = self._data[4:]
                continue
            size = frame_size(whole)
            if sum(whole[first - 3 if extended else 3 : first]) & 0xFF or size > _MAX_FRAME:
                self._data = self._data[1:]
                continue
            if len(whole) < size - 1:  # the postamble may be missing as well
                return found
            body = whole[first : size - 2]
            if (sum(body) + whole[size - 2]) & 0xFF or not body:
                self._data = self._data[1:]  # the next may begin within what is no frame
                continue
            found.append(body)
            self._data = self._data[size - 2 :]


class Hsu:
    """The chip on a serial line, 115200 bit/s. uart: as machine.UART."""

    def __init__(self, uart: "Any") -> None:
        self._uart = uart

    def wake(self) -> None:
        """Edges on the line wake the chip, and while it wakes it loses bytes: a long preamble."""
        self._uart.write(b"\x55\x55" + bytes(14))

    def write(self, frame: bytes) -> None:
        """Send one frame."""
        self._uart.write(frame)

    def read(self) -> bytes:
        """The bytes that have come."""
        waiting = self._uart.any()
        return self._uart.read(waiting) or b"" if waiting else b""


class I2c:
    """The chip on I2C, at most 400 kbit/s. i2c: as machine.I2C, which must bear clock stretching."""

    def __init__(self, i2c: "Any", address: int = 0x24) -> None:
        self._i2c = i2c
        self._address = address
        self._size = 0

    def wake(self) -> None:
        """Its address wakes the chip."""
        self._size = 0
        try:
            self._i2c.writeto(self._address, b"\x00")
        except OSError:
            pass  # it slept

    def write(self, frame: bytes) -> None:
        """Send one frame."""
        self._size = 0
        self._i2c.writeto(self._address, frame)

    def read(self) -> bytes:
        """One frame, if the chip is ready.

        Each reading begins with the byte that says ready, then at the beginning of the frame; to read past
        its end is not foreseen. So the head is read, and all of it again when its size is known."""
        if not self._i2c.readfrom(self._address, 1)[0] & 1:
            return b""
        if not self._size:
            head = self._i2c.readfrom(self._address, 1 + len(ACK))[1:]
            if head == ACK:
                return head  # type: ignore[no-any-return]
            size = frame_size(head) or _MAX_FRAME
            self._i2c.writeto(self._address, NACK)
            self._size = size
            return b""
        whole = self._i2c.readfrom(self._address, 1 + self._size)[1:]
        self._size = 0
        return whole  # type: ignore[no-any-return]


class Spi:
    """The chip on SPI, mode 0, at most 5 Mbit/s. spi: as machine.SPI, most significant bit first as most
    boards have it (the chip has the least first); select: as machine.Pin, the chip's NSS."""

    def __init__(self, spi: "Any", select: "Any") -> None:
        self._spi = spi
        self._select = select
        self._turned = bytes([_turned(byte) for byte in range(256)])
        select(1)

    def wake(self) -> None:
        """NSS wakes the chip."""
        self._select(0)
        time.sleep(0.002)
        self._select(1)

    def write(self, frame: bytes) -> None:
        """Send one frame."""
        self._select(0)
        self._spi.write(self._turn(b"\x01" + frame))  # data writing
        self._select(1)

    def read(self) -> bytes:
        """One frame, if the chip is ready."""
        self._select(0)
        self._spi.write(self._turn(b"\x02"))  # status reading
        ready = self._turn(self._spi.read(1))[0] & 1
        self._select(1)
        if not ready:
            return b""
        self._select(0)
        self._spi.write(self._turn(b"\x03"))  # data reading
        whole = self._turn(self._spi.read(len(ACK)))
        if not frame_size(whole):
            whole += self._turn(self._spi.read(2))
        size = min(frame_size(whole), _MAX_FRAME)
        if size > len(whole):
            whole += self._turn(self._spi.read(size - len(whole)))
        self._select(1)
        return whole

    def _turn(self, data: bytes) -> bytes:
        return bytes([self._turned[byte] for byte in data])


def _turned(byte: int) -> int:
    """The byte with its bits in the other order."""
    out = 0
    for _ in range(8):
        out = out << 1 | byte & 1
        byte >>= 1
    return out


class Target(Link):
    """The card behind the chip. A main loop calls poll() as often as it likes; it does not wait for the chip
    (but 11 ms for one that is reset).

    random: so many random bytes; the chip gets a new identifier from it for each time that it waits for a
    reader. Whatever goes wrong on the bus or in the chip ends in its being set up anew: a reader then finds
    a card that was just put there, and repeats the request. reset: as machine.Pin, the chip's RSTPD_N where
    that is wired: pulled when the chip does not acknowledge."""

    def __init__(
        self,
        session: "Commands",
        bus: "Bus",
        random: "Callable[[int], bytes]",
        reset: "Callable[[int], object] | None" = None,
    ) -> None:
        Link.__init__(self, session, bus)  # type: ignore[arg-type]
        self._bus = bus
        self._random = random
        self._reset = reset
        self._acknowledged = False
        self._set_up()

    def poll(self) -> None:
        """Take what the chip says, and answer it; begin anew with a chip that says nothing for too long."""
        try:
            data = self._bus.read()
        except OSError:
            data = b""
        if data:
            self.take(data)
        elif ticks_diff(ticks_ms(), self._told) >= self._patience:
            if self._code == _GET_DATA and self._acknowledged:
                self._send(_GET_TARGET_STATUS)  # a new command ends the one before it
            else:
                self._set_up()

    def take(self, data: bytes) -> None:
        """Take some bytes from the chip, and answer them."""
        for body in self._frames.feed(data):
            if not body:
                self._acknowledged = True
                self._told = ticks_ms()
                if self._code in _BY_READER:
                    self._patience = _WATCH_MS
            elif body[0] != _FROM_CHIP or len(body) < 2:
                self._set_up()  # the error frame: it does not know what it was told
            elif self._acknowledged and body[1] == self._code + 1:
                self._replied(body[2:])
            # else a late answer to what was given up

    def _set_up(self) -> None:
        self._frames = Frames()
        self._command = b""
        self._reply = b""
        self.reset()
        if self._reset is not None and not self._acknowledged:
            self._reset(0)
            time.sleep(_RESET_S)
            self._reset(1)
            time.sleep(_START_S)
        try:
            self._bus.wake()
            self._bus.write(ACK)  # ends what it does
        except OSError:
            pass
        self._send(_SAM_CONFIGURATION, _NORMAL_MODE)

    def _send(self, code: int, data: bytes = b"") -> None:
        self._code = code
        self._acknowledged = False
        self._told = ticks_ms()
        self._patience = _ANSWER_MS
        try:
            self._bus.write(frame(bytes((code,)) + data))
        except OSError:
            pass  # as if it had not acknowledged

    def _replied(self, data: bytes) -> None:
        if self._code == _SAM_CONFIGURATION:
            self._send(_SET_PARAMETERS, _PARAMETERS)
        elif self._code == _SET_PARAMETERS:
            self._arm()
        elif not data:
            self._set_up()
        elif self._code == _INIT_AS_TARGET:
            if data[0] & _AS_PICC:
                self._send(_GET_DATA)  # the rest is the RATS, which the chip has answered
            else:
                self._arm()
        elif self._code == _GET_TARGET_STATUS:
            if data[0] == _ACTIVATED:
                self._send(_GET_DATA)
            else:
                self._set_up()
        elif data[0] & _ERROR:
            self.reset()  # 29, 25: the reader left or deselected the card; others: lost on the air for good
            self._arm()
        elif self._code == _GET_DATA:
            self._got(data)
        elif self._code == _SET_META_DATA:
            self._send_part()
        else:
            self._send(_GET_DATA)

    def _arm(self) -> None:
        self._command = b""
        self._reply = b""
        self._send(
            _INIT_AS_TARGET,
            _PICC_ONLY
            + _SENS_RES
            + self._random(3)
            + _SEL_RES
            + _NO_FELICA
            + _NO_NFCID3
            + _NO_GENERAL_BYTES
            + _HISTORICAL_BYTES,
        )

    def _got(self, data: bytes) -> None:
        if len(self._command) <= MAX_APDU:
            self._command += data[1:]
        if data[0] & _MORE:
            self._send(_GET_DATA)
            return
        command = self._command
        self._command = b""
        self._reply = self.answer(command) if len(command) <= MAX_APDU else _LENGTH
        self._send_part()

    def _send_part(self) -> None:
        part = self._reply[:MAX_DATA]
        self._reply = self._reply[MAX_DATA:]
        self._send(_SET_META_DATA if self._reply else _SET_DATA, part)

    def extend(self) -> None:
        """Nothing to do: the chip itself asks the reader for more time, as long as it has no answer."""

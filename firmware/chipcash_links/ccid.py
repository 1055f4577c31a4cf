# SPDX-License-Identifier: Apache-2.0
"""A reader with its card in one: CCID messages, and the serial framing of a GemPC Twin around them.

The messages are those of the USB class specification for integrated circuit cards interface devices, rev.
1.1, section 6, with one slot and exchanges at TPDU level. The framing is the one for which libccid has a
serial driver (libccidtwin.so): 03 06, a message, the exclusive or of all that; 03 15 16 asks for a frame
again; each of the host's frames is echoed before it is answered; a byte 80 asks for more time."""

from chipcash_links.link import Link
from chipcash_links.t0 import T0
from chipcash_links.t1 import T1, lrc
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_links.link import Commands, Port

ATR_T1 = b"\x3b\x80\x81\x31\xfe\x45\x8b"
"""ISO/IEC 7816-3: T=1, IFSC 254, BWI 4, CWI 5, check byte. A driver waits for a dead card as long as the
waiting times allow for the longest block: 3 s by these, minutes by the defaults."""
ATR_T0 = b"\x3b\x80\x40\x01"
"""ISO/IEC 7816-3: T=0, WI 1 for the same reason. An ATR that offers T=0 alone has no check byte."""

SET_PARAMETERS = 0x61
"""PC_to_RDR_SetParameters."""
ICC_POWER_ON = 0x62
"""PC_to_RDR_IccPowerOn."""
ICC_POWER_OFF = 0x63
"""PC_to_RDR_IccPowerOff."""
GET_SLOT_STATUS = 0x65
"""PC_to_RDR_GetSlotStatus."""
ESCAPE = 0x6B
"""PC_to_RDR_Escape: to GemPC Twin readers, 02 asks for what they call themselves."""
GET_PARAMETERS = 0x6C
"""PC_to_RDR_GetParameters."""
RESET_PARAMETERS = 0x6D
"""PC_to_RDR_ResetParameters."""
XFR_BLOCK = 0x6F
"""PC_to_RDR_XfrBlock."""

DATA_BLOCK = 0x80
"""RDR_to_PC_DataBlock."""
SLOT_STATUS = 0x81
"""RDR_to_PC_SlotStatus."""
PARAMETERS = 0x82
"""RDR_to_PC_Parameters."""
ESCAPE_REPLY = 0x83
"""RDR_to_PC_Escape."""

NAME = b"chipcash CCID 1"
HEADER = 10
"""Bytes of a message before its data."""
MAX_MESSAGE = 271
"""Longest message, as a GemPC Twin has it: the header and the longest short APDU."""

_PARAMETERS = (b"\x11\x00\x00\x0a\x00", b"\x11\x10\x00\x4d\x00\x20\x00")  # all by default: T=0, T=1
_FAILED = 0x40
_ACTIVE = 0
_INACTIVE = 1
_ICC_MUTE = 0xFE
# Where bError is no code of its own it is the place of the wrong field in the message.
_UNSUPPORTED = 0
_BAD_LENGTH = 1
_BAD_SLOT = 5
_BAD_PROTOCOL = 7
_BAD_PARAMETERS = 10

_SYNC = b"\x03\x06"
_NAK = b"\x03\x15\x16"
_TIME = b"\x80"


def protocol_of(atr: bytes) -> int:
    """The first protocol T that an ATR offers (ISO/IEC 7816-3, 8.2.3)."""
    if not atr[1] & 0x80:
        return 0
    skipped = (atr[1] >> 4 & 1) + (atr[1] >> 5 & 1) + (atr[1] >> 6 & 1)
    return atr[2 + skipped] & 0x0F


class Slot:
    """The reader's one slot with the card in it; any transport of CCID messages will do.

    process: answers a command APDU. reset: called where the card is activated or deactivated. atr: the
    answer to reset, that offers T=0 or T=1."""

    def __init__(
        self, process: "Callable[[bytes], bytes]", reset: "Callable[[], None]", atr: bytes
    ) -> None:
        self._reset = reset
        self._atr = atr
        self._number = protocol_of(atr)
        self._protocol = T1(process) if self._number else T0(process)
        self._parameters = _PARAMETERS[self._number]
        self._active = False

    def take(self, message: bytes) -> bytes:
        """Answer a message of the host, of HEADER bytes at least, with one of the reader."""
        kind = message[0]
        data = message[HEADER:]
        if int.from_bytes(message[1:5], "little") != len(data):
            return self._reply(message, SLOT_STATUS, error=_BAD_LENGTH)
        if message[5]:
            return self._reply(message, SLOT_STATUS, error=_BAD_SLOT)
        if kind == ICC_POWER_ON:
            self._activate(True)
            return self._reply(message, DATA_BLOCK, self._atr)
        if kind == ICC_POWER_OFF:
            self._activate(False)
            return self._reply(message, SLOT_STATUS)
        if kind == GET_SLOT_STATUS:
            return self._reply(message, SLOT_STATUS)
        if kind == XFR_BLOCK:
            return self._exchange(message, data)
        if kind == SET_PARAMETERS:
            return self._set(message, data)
        if kind == GET_PARAMETERS or kind == RESET_PARAMETERS:
            if kind == RESET_PARAMETERS:
                self._parameters = _PARAMETERS[self._number]
            return self._reply(message, PARAMETERS, self._parameters, self._number)
        if kind == ESCAPE:
            return self._reply(message, ESCAPE_REPLY, NAME if data == b"\x02" else b"")
        return self._reply(message, SLOT_STATUS, error=_UNSUPPORTED)

    def _activate(self, on: bool) -> None:
        self._active = on
        self._protocol.reset()
        self._parameters = _PARAMETERS[self._number]
        self._reset()

    def _exchange(self, message: bytes, data: bytes) -> bytes:
        if not self._active or not data:
            return self._reply(message, DATA_BLOCK, error=_ICC_MUTE)
        if data[0] != 0xFF:
            return self._reply(message, DATA_BLOCK, self._protocol.take(data))
        # PPS, and only that, begins with FF under both protocols; a card accepts it by repeating it.
        if len(data) < 3 or lrc(data) or data[1] & 0x0F != self._number:
            return self._reply(message, DATA_BLOCK, error=_ICC_MUTE)
        return self._reply(message, DATA_BLOCK, data)

    def _set(self, message: bytes, data: bytes) -> bytes:
        if message[7] != self._number:
            return self._reply(message, PARAMETERS, error=_BAD_PROTOCOL)
        if len(data) != len(self._parameters):
            return self._reply(message, PARAMETERS, error=_BAD_PARAMETERS)
        self._parameters = data
        return self._reply(message, PARAMETERS, data, self._number)

    def _reply(
        self, message: bytes, kind: int, data: bytes = b"", extra: int = 0, error: int = -1
    ) -> bytes:
        """A message to the host; error: what went wrong, if something did."""
        status = _ACTIVE if self._active else _INACTIVE
        if error >= 0:
            status |= _FAILED
        head = bytes((kind,)) + len(data).to_bytes(4, "little") + message[5:7]
        return head + bytes((status, max(error, 0), extra)) + data


def frame(message: bytes) -> bytes:
    """A message as it goes over a GemPC Twin's line."""
    body = _SYNC + message
    return body + bytes((lrc(body),))


class Ccid(Link):
    """The card's end of a serial line to libccidtwin."""

    def __init__(self, session: "Commands", port: "Port", atr: bytes) -> None:
        Link.__init__(self, session, port)
        self._slot = Slot(self.answer, self.reset, atr)
        self._buffer = b""
        self._reply = b""

    def take(self, data: bytes) -> None:
        """Take some bytes, and answer the messages in them."""
        self._buffer += data
        while True:
            whole = self._next()
            if not whole:
                return
            if whole == _NAK:
                self.port.send(self._reply)
            elif lrc(whole):
                self._buffer = b""  # whatever follows was sent in vain: the host sends it all again
                self.port.send(_NAK)
            else:
                self.port.send(whole)
                self._reply = frame(self._slot.take(whole[2:-1]))
                self.port.send(self._reply)

    def _next(self) -> bytes:
        """The first whole frame or NAK of what came; nothing while there is none."""
        while self._buffer:
            begun = self._buffer
            if begun[: len(_NAK)] == _NAK:
                size = len(_NAK)
            elif begun[:2] == _SYNC and len(begun) >= 7:
                size = int.from_bytes(begun[3:7], "little") + HEADER + 3
            elif _SYNC.startswith(begun[:2]) or _NAK.startswith(begun):
                return b""  # wait for more
            else:
                size = 0
            if 0 < size <= MAX_MESSAGE + 3:
                if len(begun) < size:
                    return b""
                self._buffer = begun[size:]
                return begun[:size]
            self._buffer = begun[1:]
        return b""

    def extend(self) -> None:
        """Ask the host for more time."""
        self.port.send(_TIME)

# SPDX-License-Identifier: Apache-2.0
"""The transmission protocol of contactless cards, ISO/IEC 14443-4, on the card's side (PICC).

The port carries one frame at a time, without CRC, and begins after anticollision, which is the chip's: the
first frame is the reader's RATS. While the card works it asks for waiting time with S(WTX)."""

from chipcash_links.link import Link
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_links.link import Commands, Port

_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)  # FSDI, FSCI: bytes of a frame, CRC included
_CRC = 2
_RATS = 0xE0
_DESELECT = 0xC2
_WTX = 0xF2
_CHAINED = 0x10
_NAK = 0x10
_LENGTH = b"\x67\x00"
_WTXM = 10  # times the frame waiting time: 0.77 s

MAX_APDU = 65544
"""Longest command APDU; what is longer is answered 6700."""
ATS = b"\x06\x78\x80\x80\x02\x80"
"""TL, T0 (TA, TB and TC follow; frames of 256 bytes), TA1 (106 kbit/s both ways), TB1 (FWI 8: 77 ms), TC1
(CID), and one historical byte, which says nothing. Readers' software stumbles over an ATS without TA1, TB1
and TC1."""


class Picc(Link):
    """The card's end of one activation after another."""

    PATIENCE_MS = 40
    """Half of the frame waiting time."""

    def __init__(self, session: "Commands", port: "Port") -> None:
        Link.__init__(self, session, port)
        self._forget()

    def _forget(self) -> None:
        self._active = False
        self._number = 1  # of the last block, as rule C of section 7.5.4.2 has it
        self._command = b""
        self._reply = b""
        self._last = b""
        self._frame = 256
        self._cid = b""
        self._gone = False

    def reset(self) -> None:
        """The field is gone."""
        Link.reset(self)
        self._forget()

    def take(self, data: bytes) -> None:
        """Take one frame; what ISO/IEC 14443-4 does not foresee is not answered."""
        if not self._active:
            if len(data) == 2 and data[0] == _RATS and data[1] & 0x0F < 15:
                Link.reset(self)
                self._forget()
                self._active = True
                self._frame = _SIZES[min(data[1] >> 4, len(_SIZES) - 1)]
                self.port.send(ATS)
            return
        pcb = data[0]
        if pcb & 0xE2 == 0x02:
            self._information(pcb, data)
        elif pcb & 0xE6 == 0xA2:
            self._receipt(pcb)
        elif pcb & 0xF7 == _DESELECT:
            self.port.send(data)
            self.reset()

    def _information(self, pcb: int, data: bytes) -> None:
        """An I-block: a part of a command, or its end."""
        start = 1
        if pcb & 0x08:
            start += 1  # CID
        if pcb & 0x04:
            start += 1  # NAD
        self._cid = data[1:2] if pcb & 0x08 else b""
        self._number ^= 1
        if len(self._command) <= MAX_APDU:
            self._command += data[start:]
        if pcb & _CHAINED:
            self._send(0xA2, b"")
            return
        command = self._command
        self._command = b""
        self._reply = self.answer(command) if len(command) <= MAX_APDU else _LENGTH
        if self._gone:
            self.reset()  # nobody is there to take the answer
            return
        self._send_part()

    def _receipt(self, pcb: int) -> None:
        """An R-block: the reader has got the last block, or wants it again."""
        if pcb & 1 == self._number:
            if self._last:
                self.port.send(self._last)  # rule 11
        elif pcb & _NAK:
            self._send(0xA2, b"")  # rule 12
        elif self._reply:
            self._number ^= 1
            self._send_part()  # rule 13

    def _send_part(self) -> None:
        room = self._frame - _CRC - 1 - len(self._cid)
        part = self._reply[:room]
        self._reply = self._reply[room:]
        self._send(0x02 | (_CHAINED if self._reply else 0), part)

    def _send(self, pcb: int, data: bytes) -> None:
        self._last = bytes((pcb | self._number | (0x08 if self._cid else 0),)) + self._cid + data
        self.port.send(self._last)

    def extend(self) -> None:
        """Ask for waiting time, and wait until the reader has granted it."""
        if self._gone:
            return
        pcb = _WTX | (0x08 if self._cid else 0)
        request = bytes((pcb,)) + self._cid + bytes((_WTXM,))
        self.port.send(request)
        while True:
            data = self.port.receive()
            if not data:
                self._gone = True  # the field: what was begun is finished all the same
                return
            if data[0] == pcb:
                return
            if data[0] & 0xE6 == 0xA2:
                self.port.send(request)  # the reader has not got it

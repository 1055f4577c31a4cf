# SPDX-License-Identifier: Apache-2.0
"""The board's own framing over USB-CDC or a UART: protocols/spec/links.md, Serial. The host uses the same.

A frame is END, then kind, sequence number, data and CRC-16 with END and ESC escaped as in SLIP (RFC 1055),
END. Whatever is no whole frame, with the right CRC, is dropped: after garbage the next END begins anew."""

from chipcash_links.link import Link
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_links.link import Commands, Port

_END = 0xC0
_ESC = 0xDB
_ESC_END = 0xDC
_ESC_ESC = 0xDD

RESET = 0x01
"""To the card: forget everything of this link; answered by READY with the same number."""
COMMAND = 0x02
"""To the card: a command APDU; answered by REPLY with the same number."""
READY = 0x81
"""From the card: what it calls itself."""
REPLY = 0x82
"""From the card: a response APDU."""
BUSY = 0x83
"""From the card: it still works on this number."""

GREETING = b"chipcash serial 1"
MAX_APDU = 4096
"""Longest APDU on this link, either way: twice what a card's longest command needs."""
_MAX_BODY = MAX_APDU + 4  # kind, number, CRC


def crc16(data: bytes) -> int:
    """CRC-16 of ISO/IEC 13239 (X.25): polynomial 1021 reflected, beginning with FFFF, complemented."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc ^ 0xFFFF


def frame(kind: int, number: int, data: bytes = b"") -> bytes:
    """One frame as it goes over the line."""
    body = bytes((kind, number)) + data
    body += crc16(body).to_bytes(2, "little")
    out = bytearray((_END,))
    for byte in body:
        if byte == _END:
            out += bytes((_ESC, _ESC_END))
        elif byte == _ESC:
            out += bytes((_ESC, _ESC_ESC))
        else:
            out.append(byte)
    out.append(_END)
    return bytes(out)


class Reader:
    """Finds the frames in a stream of bytes."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._escaped = False
        self._spoilt = True  # what came before the first END is nobody's

    def feed(self, data: bytes) -> "list[tuple[int, int, bytes]]":
        """The frames that these bytes complete: (kind, number, data) each."""
        found = []
        for byte in data:
            if byte == _END:
                body = bytes(self._body)
                if not (self._spoilt or self._escaped) and len(body) >= 4:
                    if crc16(body[:-2]) == body[-2] | body[-1] << 8:
                        found.append((body[0], body[1], body[2:-2]))
                self._body = bytearray()
                self._escaped = self._spoilt = False
            elif self._spoilt:
                continue
            elif self._escaped:
                self._escaped = False
                if byte == _ESC_END:
                    self._body.append(_END)
                elif byte == _ESC_ESC:
                    self._body.append(_ESC)
                else:
                    self._spoilt = True
            elif byte == _ESC:
                self._escaped = True
            else:
                self._body.append(byte)
                self._spoilt = len(self._body) > _MAX_BODY
        return found


class Serial(Link):
    """The card's end. A command that comes again with the last number gets the last reply again."""

    def __init__(self, session: "Commands", port: "Port") -> None:
        Link.__init__(self, session, port)
        self._reader = Reader()
        self._number = -1
        self._reply = b""

    def reset(self) -> None:
        """The other side left, or begins anew."""
        Link.reset(self)
        self._number = -1
        self._reply = b""

    def take(self, data: bytes) -> None:
        """Take some bytes, and answer the commands in them."""
        for kind, number, body in self._reader.feed(data):
            if kind == RESET:
                self.reset()
                self.port.send(frame(READY, number, GREETING))
            elif kind == COMMAND:
                if number != self._number:
                    self._number = number
                    self._reply = frame(REPLY, number, self.answer(body))
                self.port.send(self._reply)

    def extend(self) -> None:
        """Tell the other side that the card still works."""
        self.port.send(frame(BUSY, self._number))

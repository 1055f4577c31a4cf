# SPDX-License-Identifier: Apache-2.0
"""T=1 at the card's end: the block protocol of ISO/IEC 7816-3, section 11, with LRC.

A block is NAD, PCB, LEN, INF of LEN bytes, LRC. Node addresses are not used. The card never starts an
S-block: where its work takes long, the reader is told so below this protocol (chipcash_links.ccid)."""

from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

MAX_APDU = 65544
"""Longest command APDU; what is longer is answered 6700."""
MAX_INF = 254
"""Longest information field."""

_MORE = 0x20
_R = 0x80
_ERROR_EDC = 0x01
_ERROR_OTHER = 0x02
_RESYNCH = 0xC0
_IFS = 0xC1
_ABORT = 0xC2
_RESPONSE = 0x20
_IFS_DEFAULT = 32


def lrc(data: bytes) -> int:
    """The exclusive or of all bytes."""
    check = 0
    for byte in data:
        check ^= byte
    return check


def block(pcb: int, inf: bytes = b"") -> bytes:
    """A block without node addresses."""
    body = bytes((0, pcb, len(inf))) + inf
    return body + bytes((lrc(body),))


class T1:
    """The card's side. process: answers a command APDU."""

    def __init__(self, process: "Callable[[bytes], bytes]") -> None:
        self._process = process
        self.reset()

    def reset(self) -> None:
        """As after the answer to reset, or S(RESYNCH)."""
        self._send_number = 0  # N(S) of the next I-block from here
        self._receive_number = 0  # N(S) of the next I-block to come
        self._ifsd = _IFS_DEFAULT
        self._command = bytearray()
        self._reply = b""
        self._sent = 0  # bytes of the reply
        self._last = b""
        self._last_information = b""

    def take(self, received: bytes) -> bytes:
        """Take a block, as it came, and return the one that answers it."""
        pcb = received[1] if len(received) > 1 else 0
        if len(received) < 4 or lrc(received):
            self._last = self._ask(_ERROR_EDC)
        elif received[0] or received[2] != len(received) - 4:
            self._last = self._ask(_ERROR_OTHER)
        elif not pcb & 0x80:
            self._last = self._information(pcb, received[3:-1])
        elif not pcb & 0x40:
            self._last = self._receipt(pcb, received[3:-1])
        else:
            self._last = self._supervision(pcb, received[3:-1])
        return self._last

    def _ask(self, error: int = 0) -> bytes:
        """An R-block: the next I-block is wanted (error 0), or the last one again."""
        return block(_R | self._receive_number << 4 | error)

    def _information(self, pcb: int, inf: bytes) -> bytes:
        # While a reply is being chained the reader may only ask for its next part.
        if pcb & 0x1F or pcb >> 6 != self._receive_number or self._chaining():
            return self._ask(_ERROR_OTHER)
        self._receive_number ^= 1
        if len(self._command) <= MAX_APDU:
            self._command += inf
        if pcb & _MORE:
            return self._ask()
        command = bytes(self._command)
        self._command = bytearray()
        self._reply = self._process(command) if len(command) <= MAX_APDU else b"\x67\x00"
        self._sent = 0
        return self._part()

    def _chaining(self) -> bool:
        """Whether some of the reply is still to be sent."""
        return self._sent < len(self._reply)

    def _part(self) -> bytes:
        """The next part of the reply."""
        inf = self._reply[self._sent : self._sent + self._ifsd]
        self._sent += len(inf)
        pcb = self._send_number << 6 | (_MORE if self._chaining() else 0)
        self._send_number ^= 1
        self._last_information = block(pcb, inf)
        return self._last_information

    def _receipt(self, pcb: int, inf: bytes) -> bytes:
        if pcb & 0x2C or inf:
            return self._ask(_ERROR_OTHER)
        if pcb >> 4 & 1 != self._send_number:
            # The last I-block is asked for again; what was sent since then was R-blocks.
            return self._last_information or self._ask(_ERROR_OTHER)
        if self._chaining():
            return self._part()
        return self._last or self._ask(_ERROR_OTHER)

    def _supervision(self, pcb: int, inf: bytes) -> bytes:
        if pcb == _RESYNCH and not inf:
            self.reset()
        elif pcb == _IFS and len(inf) == 1 and 1 <= inf[0] <= MAX_INF:
            self._ifsd = inf[0]
        elif pcb == _ABORT and not inf:
            self._command = bytearray()
            self._reply = b""
        else:
            return self._ask(_ERROR_OTHER)
        return block(pcb | _RESPONSE, inf)

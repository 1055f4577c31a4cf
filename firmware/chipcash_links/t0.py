# SPDX-License-Identifier: Apache-2.0
"""T=0 at the card's end, as TPDUs: ISO/IEC 7816-3, sections 10.3 and 12.2.

A TPDU is CLA INS P1 P2 P3, followed by P3 bytes where the command carries data. The reader does the
procedure bytes with the electrical interface; here a command is answered as a whole."""

from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

_LENGTH = b"\x67\x00"
_WRONG_LE = 0x6C


class T0:
    """The card's side. process: answers a command APDU, and by itself says 61xx and knows GET RESPONSE."""

    def __init__(self, process: "Callable[[bytes], bytes]") -> None:
        self._process = process
        self.reset()

    def reset(self) -> None:
        """As after the answer to reset."""
        self._head = b""
        self._kept = b""

    def take(self, tpdu: bytes) -> bytes:
        """Answer a command TPDU: data, then the status word.

        Under T=0 exactly P3 bytes are answered, or none. A shorter reply is kept and 6Cxx tells its length,
        so that a command that is asked again with the right one is not carried out again."""
        head = self._head
        kept = self._kept
        self.reset()
        if len(tpdu) == 4:
            tpdu += b"\x00"
        if len(tpdu) < 5 or (len(tpdu) > 5 and len(tpdu) != 5 + tpdu[4]):
            return _LENGTH
        if len(tpdu) > 5:
            return self._process(tpdu)
        wanted = tpdu[4] or 256
        reply = kept if kept and head == tpdu[:4] else self._process(tpdu)
        length = len(reply) - 2
        if length == 0 or length == wanted:
            return reply
        if length > wanted:
            # Only a kept reply: a session keeps to Le by itself.
            return _LENGTH
        self._head = tpdu[:4]
        self._kept = reply
        return bytes((_WRONG_LE, length))

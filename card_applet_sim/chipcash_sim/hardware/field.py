# SPDX-License-Identifier: Apache-2.0
"""A card's antenna in a reader's field: what the contactless chip does by itself, ISO/IEC 14443-3 type A.

Frames are without CRC. Anticollision is answered here, as hardware does; what follows it goes to the card's
link `iso14443`.
"""

import os
import select

from chipcash_sim.plug import CardGone, Plug

_REQA = b"\x26"
_WUPA = b"\x52"
_HLTA = b"\x50\x00"
_ANTICOLLISION = b"\x93\x20"
_SELECT = b"\x93\x70"
_ATQA = b"\x04\x00"
_SAK = b"\x20"  # ISO/IEC 14443-4
_DESELECT = 0xC2
_FRAME_S = 0.2  # longer than any frame waiting time that the card asks of its reader for


class Field:
    """What a reader's antenna meets. plug: where the card is plugged in, link `iso14443`."""

    def __init__(self) -> None:
        self.plug = Plug()
        uid = b"\x08" + os.urandom(3)  # 08: a random identifier
        self._uid = uid + bytes((uid[0] ^ uid[1] ^ uid[2] ^ uid[3],))
        self._atqa, self._sak = _ATQA, _SAK
        self._state = "idle"

    def powered(self) -> bool:
        """Whether there is anything to answer."""
        return self.plug.plugged

    def off(self) -> None:
        """The reader's field is switched off."""
        if self._state == "active" and self.powered():
            self._left()
        self._state = "idle"

    def exchange(self, frame: bytes) -> bytes | None:
        """What the card answers to a frame; None if nothing."""
        if not self.powered():
            self._state = "idle"
            return None
        if frame == _WUPA or (frame == _REQA and self._state != "halted"):
            self.off()
            self._state = "ready"
            return self._atqa
        if self._state == "ready":
            return self._anticollision(frame)
        if self._state != "active":
            return None
        if frame == _HLTA:
            self._state = "halted"
            return None
        return self._answer(frame)

    def _left(self) -> None:
        """Tell the card that its reader is gone."""
        try:
            self.plug.send(b"")
        except CardGone:
            pass

    def _answer(self, frame: bytes) -> bytes | None:
        """What the selected card answers."""
        try:
            while select.select([self.plug], [], [], 0)[0]:
                self.plug.receive()  # too late for the frame that it answers
            self.plug.send(frame)
            if not select.select([self.plug], [], [], _FRAME_S)[0]:
                return None
            answer = self.plug.receive()
        except (CardGone, ValueError):  # ValueError: its socket was closed meanwhile
            self._state = "idle"
            return None
        if answer[:1] and answer[0] & 0xF7 == _DESELECT:
            self._state = "halted"
        return answer

    def _anticollision(self, frame: bytes) -> bytes | None:
        if frame == _ANTICOLLISION:
            return self._uid
        if frame == _SELECT + self._uid:
            self._state = "active"
            return self._sak
        self._state = "idle"
        return None

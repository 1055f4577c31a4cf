# SPDX-License-Identifier: Apache-2.0
"""What a SIM's operating system does in front of its applications: logical channels (ETSI TS 102 221,
section 11.1.17).

Each channel has a session of its own, in which an application is selected; the channel of a command is in
the low bits of its CLA, and is cleared before the application sees it."""

from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_links.link import Commands

INS_MANAGE_CHANNEL = 0x70
OPEN = 0x00
"""P1 of MANAGE CHANNEL: open one; the answer says which."""
CLOSE = 0x80
"""P1 of MANAGE CHANNEL: close the one in P2."""
CHANNELS = 4
"""The basic channel 0 and those that the low bits of CLA can name."""
SW_NO_CHANNEL_FREE = 0x6A81
_CHANNEL = 0x03


class Uicc:
    """Stands for the sessions of all channels. make_session: makes one for a channel that is opened."""

    def __init__(self, make_session: "Callable[[], Commands]") -> None:
        self._make = make_session
        self._sessions: "list[Commands | None]" = [make_session(), None, None, None]

    def reset(self) -> None:
        """A reset of the SIM: only the basic channel is open, and nothing is selected."""
        for number in range(CHANNELS):
            self._close(number)
        self._sessions[0] = self._make()

    def _close(self, number: int) -> None:
        session = self._sessions[number]
        if session is not None:
            session.reset()
        self._sessions[number] = None

    def process(self, apdu: bytes) -> bytes:
        """Answer one command APDU on the channel that its CLA names."""
        channel = apdu[0] & _CHANNEL if apdu else 0
        session = self._sessions[channel]
        if session is None:
            return _sw(c.SW_CHANNEL)
        if len(apdu) >= 4 and apdu[0] & ~_CHANNEL == c.CLA_ISO and apdu[1] == INS_MANAGE_CHANNEL:
            return self._manage(apdu[2], apdu[3], channel)
        return session.process(bytes((apdu[0] & ~_CHANNEL & 0xFF,)) + apdu[1:] if apdu else apdu)

    def _manage(self, p1: int, p2: int, channel: int) -> bytes:
        if p1 == OPEN and p2 == 0:
            for number in range(1, CHANNELS):
                if self._sessions[number] is None:
                    self._sessions[number] = self._make()
                    return bytes((number,)) + _sw(c.SW_OK)
            return _sw(SW_NO_CHANNEL_FREE)
        if p1 != CLOSE or not 0 < (p2 or channel) < CHANNELS:
            return _sw(c.SW_P1P2)
        self._close(p2 or channel)
        return _sw(c.SW_OK)


def _sw(sw: int) -> bytes:
    return bytes((sw >> 8, sw & 0xFF))

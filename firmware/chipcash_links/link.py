# SPDX-License-Identifier: Apache-2.0
"""What the card's links have in common: framing between a port and a session, and signs of life.

A port is what a board's driver or the emulator offers: receive() waits for and returns what came next (one
frame where the medium has frames, else some bytes), send(data) sends one frame or some bytes. Either may
raise whatever ends the link; nothing here catches it."""

from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Protocol

    class Port(Protocol):
        """Where a link's bytes come from and go to."""

        def receive(self) -> bytes:
            """Wait for what comes next."""

        def send(self, data: bytes) -> None:
            """Send one frame, or some bytes."""

    class Commands(Protocol):
        """Who answers command APDUs: a session of the applet, or what stands before several."""

        def process(self, apdu: bytes) -> bytes:
            """Answer one command APDU."""

        def reset(self) -> None:
            """The link begins anew: nothing is selected or verified any longer."""


class Link:
    """One link of the card. Its owner calls take() with whatever the port received.

    session: who answers the command APDUs. While one is answered, working() may be called as often as one
    likes (see chipcash_card.busy); every PATIENCE_MS it asks the other side for more time by extend().
    """

    PATIENCE_MS = 1000
    """Milliseconds of work after which the other side is asked for more time."""

    def __init__(self, session: "Commands", port: "Port") -> None:
        self.session = session
        self.port = port
        self._since = 0
        self._busy = False

    def take(self, data: bytes) -> None:
        """Take what the port received, and answer it."""
        raise NotImplementedError

    def reset(self) -> None:
        """The other side left, or activates the card anew."""
        self.session.reset()

    def extend(self) -> None:
        """Tell the other side that the card still works."""

    def answer(self, apdu: bytes) -> bytes:
        """Have the session answer a command APDU, with signs of life meanwhile."""
        self._since = ticks_ms()
        self._busy = True
        try:
            return self.session.process(apdu)
        finally:
            self._busy = False

    def working(self) -> None:
        """Work goes on: ask for more time when it is due."""
        if self._busy and ticks_diff(ticks_ms(), self._since) >= self.PATIENCE_MS:
            self.extend()
            self._since = ticks_ms()

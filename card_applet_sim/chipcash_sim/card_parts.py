# SPDX-License-Identifier: Apache-2.0
"""What some cards of card_process have besides: the antenna of a board, a front. Apart, since memory is short
on those that have neither. Portable."""

import os

from chipcash_links.link import Link
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_sim.card_process import Interface, Plugged


class Board(Link):
    """A board's main loop around the driver of its PN532, and the serial line between them, which is to the
    driver what machine.UART is."""

    def __init__(self, session: "Interface", port: "Plugged") -> None:
        from chipcash_drivers.pn532 import Hsu, Target

        Link.__init__(self, session, port)
        self._received = b""
        self.target = Target(session, Hsu(self), os.urandom)
        session.chip.pollers.append(self.target.poll)

    def take(self, data: bytes) -> None:
        """The chip has said something."""
        self._received += data
        self.target.poll()

    def reset(self) -> None:
        """A line says nothing of the kind: nothing to do."""

    def any(self) -> int:
        """How many bytes there are to read."""
        return len(self._received)

    def read(self, size: int) -> bytes:
        """So many of them."""
        data = self._received[:size]
        self._received = self._received[size:]
        return data

    def write(self, data: bytes) -> None:
        """Send bytes to the chip."""
        self.port.send(data)


class Front(Link):
    """The card's screen and buttons: pictures to whoever looks at it, one byte for each press from there."""

    def __init__(self, session: "Interface", port: "Plugged", confirm_above: int) -> None:
        from chipcash_panel.panel import Panel

        Link.__init__(self, session, port)
        panel = Panel(confirm_above, lambda picture: port.send(bytes(picture)))
        self._panel = session.chip.panel = panel

    def take(self, data: bytes) -> None:
        """Buttons were pressed."""
        for button in data:
            self._panel.press(button)

    def reset(self) -> None:
        """Nobody looks at it any more: nothing to do."""

# SPDX-License-Identifier: Apache-2.0
"""A card process with a panel and a till of one command, to see both work together. Portable.

    scripted_card.py IMAGE PANEL TILL

PANEL, TILL: host:port. What comes from the till is a request's nonce; the answer is one byte, what consent()
answers. What the holder agreed to counts as paid."""

import sys

from chipcash_links.link import Link
from chipcash_panel.panel import AGREED
from chipcash_sim.card_process import Chip, Ended, Interface, Plugged, plug_in, serve
from chipcash_sim.image import FileFlash

PAYEE = bytes((2, 0x7F, 0x3A, 0xC2, 0x0E)) + bytes(28)


class Till(Link):
    """Asks for 12.34 with each packet."""

    def take(self, data):
        """Ask the holder."""
        panel = self.session.chip.panel
        answer = panel.consent(data, PAYEE, 1234, False)
        if answer == AGREED:
            panel.paid(PAYEE, 1234, 122222, 0)
        self.port.send(bytes((answer,)))


def main(image, front, till):
    """Serve both links until one is closed."""
    chip = Chip(FileFlash(image), {})
    panel = plug_in("panel", front, chip, {})
    host, _, port = till.rpartition(":")
    links = [panel, Till(Interface(chip, True), Plugged(host, int(port)))]
    try:
        serve(links, chip, 0)
    except Ended:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])

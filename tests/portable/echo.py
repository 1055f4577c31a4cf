# SPDX-License-Identifier: Apache-2.0
"""A session for the tests of links: it answers each command with itself. Portable."""


class Echo:
    """Remembers the commands and counts the resets; with a link it works so long that the link may ask for
    more time."""

    def __init__(self):
        self.commands = []
        self.resets = 0
        self.link = None

    def process(self, apdu):
        """Answer, after some work."""
        self.commands.append(apdu)
        if self.link is not None:
            self.link.working()
        return apdu + b"\x90\x00"

    def reset(self):
        """Forget."""
        self.resets += 1

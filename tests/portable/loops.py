# SPDX-License-Identifier: Apache-2.0
"""A board's main loop, until a test has seen enough. Portable."""

from chipcash_card import busy


class End(Exception):
    """The test has seen enough."""


def until(loop, done):
    """Let it run until this is so, and it is at rest."""
    tick = loop.tick

    def ticked():
        tick()
        if done():
            raise End()

    loop.tick = ticked
    try:
        loop.run()
    except End:
        pass
    finally:
        busy.attend(None)

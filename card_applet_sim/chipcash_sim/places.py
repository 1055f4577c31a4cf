# SPDX-License-Identifier: Apache-2.0
"""Where emulated cards can be put: for each link the emulated hardware, and the path by which a host opens
it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chipcash_sim.emulator import Card
from chipcash_sim.hardware.pty import PtyLine
from chipcash_sim.plug import Plug


@dataclass
class Place:
    """One place for a card.

    link: the card's link that is used here (chipcash_sim.card_process). plug: where the card goes. path:
    how the toolkit's user names it. close: takes the hardware away; may be repeated."""

    link: str
    plug: Plug
    path: str
    close: Callable[[], None]


def _serial(where: str) -> Place:
    line = PtyLine()
    if not where:
        return Place("serial", line.plug, f"serial:{line.device}", line.close)
    try:
        os.symlink(line.device, where)
    except OSError as error:
        line.close()
        raise OSError(error.errno, error.strerror, where) from None

    def close() -> None:
        Path(where).unlink(missing_ok=True)
        line.close()

    return Place("serial", line.plug, f"serial:{where}", close)


_MAKERS: dict[str, Callable[[str], Place]] = {"serial": _serial}

NAMES = tuple(_MAKERS)
"""The places that there are, by the kind of their paths."""


def make(name: str, where: str = "") -> Place:
    """Make a place. where: what it is to be called, such as a file name for the line; empty for any.

    Raises ValueError for an unknown name, OSError if there is something of that name already.
    """
    if name not in _MAKERS:
        raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
    return _MAKERS[name](where)


def put(card: Card, *places: Place) -> None:
    """Put a card in all of these places at once: one chip, several links. Raises CardRemoved,
    RuntimeMissing."""
    card.plug_in(**{place.link: place.plug for place in places})

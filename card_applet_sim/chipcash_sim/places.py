# SPDX-License-Identifier: Apache-2.0
"""Where emulated cards can be put: for each link the emulated hardware, and the path by which a host opens
it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chipcash_sim.emulator import Card
from chipcash_sim.hardware.panel import FrontPanel
from chipcash_sim.hardware.pn532 import Pn532
from chipcash_sim.hardware.pn532_target import Pn532Target
from chipcash_sim.hardware.pty import PtyLine
from chipcash_sim.hardware.sdcard import SdCard
from chipcash_sim.hardware.udp import UdpField
from chipcash_sim.plug import Plug


@dataclass
class Place:
    """One place for a card.

    link: the card's link that is used here (chipcash_sim.card_process). plug: where the card goes. path:
    how the toolkit's user names it. close: takes the hardware away; may be repeated. environment: what a
    host's process must have in its environment to find it."""

    link: str
    plug: Plug
    path: str
    close: Callable[[], None]
    environment: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def findable(self) -> Iterator[None]:
        """Let hosts in this process find it for a while: its environment is this process's."""
        for name in self.environment:
            _outside.setdefault(name, os.environ.get(name))
        os.environ.update(self.environment)
        _findable.append(self)
        try:
            yield
        finally:  # in any order
            _findable.remove(self)
            for name in self.environment:
                left = [place.environment[name] for place in _findable if name in place.environment]
                value = left[-1] if left else _outside.pop(name)
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


_findable: list[Place] = []
_outside: dict[str, str | None] = {}  # what the environment has without any place


def _line(link: str, where: str) -> Place:
    line = PtyLine()
    if not where:
        return Place(link, line.plug, f"{link}:{line.device}", line.close)
    try:
        os.symlink(line.device, where)
    except OSError as error:
        line.close()
        raise OSError(error.errno, error.strerror, where) from None

    def close() -> None:
        Path(where).unlink(missing_ok=True)
        line.close()

    return Place(link, line.plug, f"{link}:{where}", close)


def _nfc(where: str) -> Place:
    if where:
        raise ValueError("a field takes the port that is free, and no name")
    field = UdpField()
    return Place("iso14443", field.plug, f"nfc:udp:{field.address}", field.close)


def _ble(where: str) -> Place:
    # Imported late: its libraries need not be installed for the others.
    from chipcash_sim.hardware.ble import Bluetooth
    from chipcash_sim.hardware.bluez import BUS_VARIABLE

    chip = Bluetooth(where)
    return Place("ble", chip.plug, chip.path, chip.close, {BUS_VARIABLE: chip.bus})


def _sd(where: str) -> Place:
    slot = SdCard(where)
    return Place("sd", slot.plug, f"sd:{slot.folder}", slot.close)


def _pn532(where: str) -> Place:
    if where:
        raise ValueError("the reader's line has the name that is free")
    chip = Pn532()
    return Place("iso14443", chip.plug, f"nfc:tty:{chip.device}", chip.close)


def _pn532t(where: str) -> Place:
    if where:
        raise ValueError("a field takes the port that is free, and no name")
    field = Pn532Target()
    return Place("pn532t", field.plug, f"nfc:udp:{field.address}", field.close)


_MAKERS: dict[str, Callable[[str], Place]] = {
    "at": lambda where: _line("at", where),
    "ble": _ble,
    "nfc": _nfc,
    "pn532": _pn532,
    "pn532t": _pn532t,
    "sd": _sd,
    "serial": lambda where: _line("serial", where),
}

NAMES = tuple(_MAKERS)
"""The places that there are. at: a modem; ble: the air around a computer with Bluetooth; nfc: a field over
UDP; pn532: a reader chip on a serial line, and a card in its field; pn532t: a field over UDP, and in it the
chip of a board that is the card."""


def make(name: str, where: str = "") -> Place:
    """Make a place. where: what it is to be called, such as a file name for the line; empty for any.

    Raises ValueError for an unknown name, OSError if there is something of that name already, or a program
    is missing, ImportError if a library is.
    """
    if name not in _MAKERS:
        raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
    return _MAKERS[name](where)


def put(card: Card, *places: Place, front: FrontPanel | None = None) -> None:
    """Put a card in all of these places at once: one chip, several links. front: its screen and buttons, if
    it has any. Raises CardRemoved, RuntimeMissing."""
    plugs = {place.link: place.plug for place in places}
    if front is not None:
        plugs["panel"] = front.plug
    card.plug_in(**plugs)

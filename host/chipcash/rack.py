# SPDX-License-Identifier: Apache-2.0
"""A directory of emulated cards, each of which can be put behind links, torn and listened to."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chipcash.errors import SimError
from chipcash.sandbox import RUNTIMES, Faults, Reader, missing, reader_for
from chipcash.trace import read
from chipcash_sim import emulator, pcscd
from chipcash_sim.forms import FORMS
from chipcash_sim.hardware.panel import FrontPanel
from chipcash_sim.plug import CardGone, Closing

__all__ = ["NAME", "Rack", "RackRefused"]

NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""How a card's name is written (a regular expression)."""


class RackRefused(SimError):
    """The rack cannot do that with its cards, and has not.

    name: what for, for programs (`unknown`, `exists`, `links`, `missing`, ...); status: of HTTP.
    """

    def __init__(self, name: str, message: str, *, status: int = 400, hint: str = "") -> None:
        super().__init__(message, hint=hint, name=name, status=status)
        self.name = name
        self.status = status


@dataclass
class _Held:
    """What is known of a card beside its image."""

    links: tuple[str, ...] = ()
    form: str | None = None
    runtime: str = ""
    reader: Reader | None = None
    inserted: bool = False
    faults: Faults = field(default_factory=Faults)


class Rack(Closing):
    """The cards NAME.img of a directory, and for each that was put in NAME.trace, what has reached it. To be
    closed. Its methods may be called from any thread, and raise RackRefused, or SimError for a card that
    does not start.

    session: the private smart card service around this process, whose readers `pcsc` stands for."""

    def __init__(self, directory: Path, session: pcscd.Session | None = None) -> None:
        self.directory = directory
        self._session = session
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The names of the cards, sorted."""
        found = (file.stem for file in self.directory.glob("*.img") if file.is_file())
        return sorted(name for name in found if re.fullmatch(NAME, name))

    def create(self, name: str, copy_of: str | None = None) -> dict[str, Any]:
        """Make a blank card, or a clone of another one: its key, PIN and money. Its state."""
        with self._lock:
            if not re.fullmatch(NAME, name):
                raise RackRefused("name", f"A card's name is written like {NAME}.")
            image = self._image(name)
            if image.exists():
                raise RackRefused("exists", f"There is a card {name} already.", status=409)
            if copy_of is not None:
                self._known(copy_of)
                emulator.clone(self._image(copy_of), image)
            else:
                with emulator.Card(image):
                    pass  # once with power: a blank card
            return self._state(name)

    def state(self, name: str) -> dict[str, Any]:
        """A card as a JSON object: its links and paths, whether it is in and has power, its next faults."""
        with self._lock:
            return self._state(name)

    def insert(
        self,
        name: str,
        links: Sequence[str] = (),
        form: str | None = None,
        runtime: str = "cpython",
    ) -> dict[str, Any]:
        """Put a card behind links, in place of where it was, or of those of a form of the hardware wallet;
        its state with the paths. Behind the same links as before it has the same paths, but for `sim`."""
        with self._lock:
            held = self._known(name)
            if form is not None:
                if links or form not in FORMS:
                    raise RackRefused(
                        "links", "Tell either links or a form.", hint=f"Forms: {', '.join(FORMS)}."
                    )
                links = FORMS[form].places
            if runtime not in RUNTIMES:
                raise RackRefused("runtime", f"A card runs on {' or '.join(RUNTIMES)}.")
            self._take_out(held)
            if held.reader is None or (held.links, held.form) != (tuple(links), form):
                self._take_away(held)
                held.reader = self._reader(links, runtime, form)
                held.links, held.form = tuple(links), form
            faults, held.faults = held.faults, Faults()
            held.runtime = runtime
            held.reader.insert(self._image(name), runtime, self._trace(name), **faults)
            held.inserted = True
            return self._state(name)

    def remove(self, name: str) -> dict[str, Any]:
        """Take a card out, which takes its power at once; its state. May be repeated."""
        with self._lock:
            self._take_out(self._known(name))
            return self._state(name)

    def tear(self, name: str, faults: Faults) -> dict[str, Any]:
        """Have a card lose its power at a given point after it is put in the next time, and only then (a
        `sim` path: each time it is opened); its state."""
        with self._lock:
            self._known(name).faults = faults
            return self._state(name)

    def press(self, name: str, button: str) -> dict[str, Any]:
        """Press a button of a card that has some; its state."""
        with self._lock:
            front = self._front(name)
            try:
                front.press(button)
            except ValueError as error:
                raise RackRefused("button", f"No such button: {error}.") from None
            except CardGone:
                raise RackRefused("power", "The card has no power.", status=409) from None
            return self._state(name)

    def screen(self, name: str) -> bytes:
        """What the screen of a card shows, as a PNG file."""
        with self._lock:
            front = self._front(name)
        try:
            return front.png()
        except ImportError:
            raise RackRefused(
                "missing", "Pillow is not installed: pip install 'chipcash[sim]'", status=501
            ) from None

    def apdus(self, name: str, after: int = 0) -> list[dict[str, Any]]:
        """The commands that have reached a card by any link, with its answers, but for the first so many
        (chipcash.trace.Step); number: from 1."""
        with self._lock:
            self._known(name)
            trace = self._trace(name)
            steps = read(trace) if trace.exists() else []
        return [
            {"number": number, **step.as_dict()}
            for number, step in enumerate(steps[after:], after + 1)
        ]

    def close(self) -> None:
        """Take all cards out and all readers away; the directory stays. May be repeated."""
        with self._lock:
            for held in self._held.values():
                with suppress(SimError):
                    self._take_out(held)
                self._take_away(held)

    # With the lock ------------------------------------------------------------------------------

    def _image(self, name: str) -> Path:
        return self.directory / f"{name}.img"

    def _trace(self, name: str) -> Path:
        return self.directory / f"{name}.trace"

    def _known(self, name: str) -> _Held:
        if not re.fullmatch(NAME, name) or not self._image(name).is_file():
            raise RackRefused(
                "unknown", f"There is no card {name}.", status=404, hint="Create it first."
            )
        return self._held.setdefault(name, _Held())

    def _front(self, name: str) -> FrontPanel:
        reader = self._known(name).reader
        if reader is None or reader.front is None:
            raise RackRefused(
                "front",
                "This card shows nothing, and has no buttons.",
                status=409,
                hint="Put it in by a form that does: visual-bluetooth.",
            )
        return reader.front

    def _state(self, name: str) -> dict[str, Any]:
        held = self._known(name)
        return {
            "name": name,
            "image": str(self._image(name)),
            "links": list(held.links),
            "paths": list(held.reader.paths) if held.reader is not None else [],
            "environment": dict(held.reader.environment) if held.reader is not None else {},
            "form": held.form,
            "runtime": held.runtime,
            "inserted": held.inserted,
            "powered": held.reader is not None and held.reader.powered,
            "faults": dict(held.faults),
        }

    def _reader(self, links: Sequence[str], runtime: str, form: str | None) -> Reader:
        for link in links:
            lacking = missing(link, runtime, self._session)
            if lacking:
                raise RackRefused("missing", f"This machine cannot: {lacking}", status=501)
        slot = None
        if "pcsc" in links and self._session is not None:
            taken = {
                path
                for held in self._held.values()
                if held.reader is not None
                for path in held.reader.paths
            }
            pairs = zip(self._session.readers, self._session.ports, strict=True)
            free = [pair for pair in pairs if f"pcsc:{pair[0]}" not in taken]
            if not free:
                raise RackRefused("full", "Each virtual reader holds a card.", status=409)
            slot = free[0]
        try:
            return reader_for(links, slot, FORMS[form] if form is not None else None)
        except SimError as error:
            raise RackRefused("links", error.message, hint=error.hint) from None

    def _take_out(self, held: _Held) -> None:
        held.inserted = False
        if held.reader is not None:
            held.reader.remove()
            if held.links == ("pcsc",):  # its reader is free for any card
                self._take_away(held)

    def _take_away(self, held: _Held) -> None:
        if held.reader is not None:
            held.reader.close()
            held.reader, held.links, held.form = None, (), None

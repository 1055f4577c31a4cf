# SPDX-License-Identifier: Apache-2.0
"""Emulated cards by path: `sim:<image>[?option=value&...]`.

Options: runtime=inprocess|cpython|micropython, contactless=1, and the faults of the emulator, which
the next power-on carries out: cut_write=N, half=1, cut_before=N, cut_after=N. trace=FILE: the card writes
to the end of this file what reaches it (chipcash.trace).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qsl

from chipcash.errors import LinkLostError, NoCardError, PathError, TransportError
from chipcash.transports.base import BaseConnection

if TYPE_CHECKING:
    from chipcash_sim.emulator import Card

_FLAGS = ("contactless", "half")
_NUMBERS = ("cut_write", "cut_before", "cut_after")


class SimConnection(BaseConnection):
    """A session with an emulated card that has power; closing it takes the power."""

    def __init__(self, card: Card, path: str) -> None:
        super().__init__(path, over_air=card.contactless)
        self._card = card

    def _transceive(self, apdu: bytes) -> bytes:
        from chipcash_sim.emulator import CardRemoved

        try:
            return self._card.transceive(apdu)
        except CardRemoved as error:
            raise LinkLostError(
                f"The emulated card was removed before it answered: {error}.",
                maybe_executed=True,
                hint="Open it again and repeat the same request.",
                path=self.path,
            ) from None

    def close(self) -> None:
        """Take the card's power. May be repeated."""
        self._card.power_off()


def open_image(text: str) -> SimConnection:
    """Power an emulated card; text is the path without its `sim:`.

    Raises PathError (wrong option), NoCardError (no such image), LinkLostError (a fault cut the
    power while the card started) or TransportError (the emulator or its runtime is not installed).
    """
    path = f"sim:{text}"
    image, _, query = text.partition("?")
    if not image:
        _refuse(path, "names no image file")
    flags = dict.fromkeys(_FLAGS, False)
    numbers: dict[str, int] = {}
    runtime = "inprocess"
    trace = None
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "runtime":
            runtime = value
        elif name == "trace" and value:
            trace = value
        elif name in _FLAGS and value in ("0", "1"):
            flags[name] = value == "1"
        elif name in _NUMBERS and value.isascii() and value.isdigit():
            numbers[name] = int(value)
        else:
            _refuse(path, f"has the option “{name}={value}”, which does not exist")
    if not Path(image).is_file():
        raise NoCardError(
            f"There is no emulated card at {image}.",
            hint="Check the file name, or create the card first.",
            path=path,
        )
    try:
        from chipcash_sim import emulator
        from chipcash_sim.runtime import RuntimeMissing
    except ImportError as error:
        raise TransportError(
            f"The card emulator cannot be loaded: {error}.",
            hint="Install chipcash with its emulator (package chipcash_sim).",
            path=path,
        ) from None
    if runtime not in emulator.RUNTIMES:
        _refuse(path, f"asks for the runtime “{runtime}”, which does not exist")
    card = emulator.Card(
        image,
        runtime,
        flags["contactless"],
        cut_write=numbers.get("cut_write"),
        half=flags["half"],
        cut_before=numbers.get("cut_before", 0),
        cut_after=numbers.get("cut_after", 0),
        trace=trace,
    )
    try:
        card.power_on()
    except OSError as error:
        raise TransportError(
            f"The emulated card cannot use {error.filename}: {error.strerror}.",
            hint="See that it is there, and that you may write to it.",
            path=path,
        ) from None
    except emulator.CardRemoved as error:
        raise LinkLostError(
            f"The emulated card lost power while it started: {error}.",
            maybe_executed=False,
            hint="Open it again.",
            path=path,
        ) from None
    except RuntimeMissing as error:
        raise TransportError(
            f"The emulated card cannot run under {runtime}: {error}.",
            hint="Install that runtime, or use runtime=inprocess.",
            path=path,
        ) from None
    return SimConnection(card, path)


def _refuse(path: str, why: str) -> NoReturn:
    raise PathError(
        f"The path “{path}” {why}.",
        hint="sim:<image file>[?runtime=inprocess|cpython|micropython&contactless=1&cut_write=N"
        "&half=1&cut_before=N&cut_after=N&trace=FILE]",
        path=path,
    )

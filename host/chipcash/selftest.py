# SPDX-License-Identifier: Apache-2.0
"""One payment by a card of each form over each of its links, on each runtime: does it all work here?

A small network is made in a directory, a card of each form loaded, and a till charges them offline, each time
over another link. Nothing is played: the links are those of the emulator, behind the libraries
that reach real cards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chipcash.errors import ChipcashError
from chipcash.pos import Pos
from chipcash.sandbox import (
    CCID,
    RUNTIMES,
    CcidReader,
    Reader,
    Sandbox,
    agreeing,
    links,
    missing,
    reader_for,
)
from chipcash.transports import open_path
from chipcash_sim import pcscd
from chipcash_sim.forms import FORMS, Form
from chipcash_wire import objects as o

__all__ = ["Row", "run"]

AMOUNT = 100
"""Fen of each payment."""
_COIN = 10_000
_OPEN_S = 15.0


@dataclass(frozen=True)
class Row:
    """How a payment over one link, by a card of one form on one runtime, went.

    milliseconds: from opening the path until the till has verified and stored the payment, None if it has
    not. attempted: whether it was tried; it is not where something is not installed. missing: what that is,
    or what failed; empty if ok."""

    link: str
    form: str
    runtime: str
    ok: bool
    attempted: bool
    milliseconds: float | None
    missing: str = ""


def run(directory: Path, suite: str, session: pcscd.Session | None) -> Iterator[Row]:
    """Try each link with each form that has it, on each runtime; a row as soon as it is known.

    directory: an empty one, for network, till and cards; suite: gm or p256; session: the private smart card
    service that this process is in, if it is in one. Raises what fails before the first payment.
    """
    with Sandbox(directory, suite) as sandbox:
        for number, name in enumerate(o.FORMS[1:], 1):
            sandbox.new_card(_image(directory, name), _COIN, form=number)
        till = sandbox.till()
        for link in (*links(), *CCID):
            for form in _forms(link):
                for card_runtime in RUNTIMES:
                    lacking = missing(link, card_runtime, session)
                    if lacking:
                        yield Row(link, form.name, card_runtime, False, False, None, lacking)
                    else:
                        yield _pay(till, link, form, card_runtime, directory, session)


def _image(directory: Path, form: str) -> Path:
    return directory / f"{form}.img"


def _forms(link: str) -> list[Form]:
    """Whose link this is. A board has its serial line in any form; what is left reads IC cards."""
    found = [form for form in FORMS.values() if link in form.places]
    return found or [FORMS["visual-bluetooth" if link == "serial" else "ic-card"]]


def _pay(
    till: Pos,
    link: str,
    form: Form,
    card_runtime: str,
    directory: Path,
    session: pcscd.Session | None,
) -> Row:
    """A payment over one link of a card that is behind all links of its form."""
    if session is not None and link in CCID:
        return _pay_in(till, link, form, card_runtime, directory, CcidReader(session, link))
    slot = (session.readers[0], session.ports[0]) if session is not None else None
    behind = [link]
    if link in form.places:
        behind += [
            name
            for name in form.places
            if name != link and not missing(name, card_runtime, session)
        ]
    try:
        reader = reader_for(behind, slot, form)
    except (ChipcashError, OSError) as error:
        return Row(link, form.name, card_runtime, False, True, None, str(error))
    return _pay_in(till, link, form, card_runtime, directory, reader)


def _pay_in(
    till: Pos, link: str, form: Form, card_runtime: str, directory: Path, reader: Reader
) -> Row:
    try:
        with reader:
            path = reader.insert(_image(directory, form.name), card_runtime)
            start = time.perf_counter()
            with open_path(path, wait=_OPEN_S) as connection, agreeing(reader):
                till.charge(connection, AMOUNT)
            spent = round((time.perf_counter() - start) * 1000, 1)
    except (ChipcashError, OSError) as error:
        return Row(link, form.name, card_runtime, False, True, None, str(error))
    return Row(link, form.name, card_runtime, True, True, spent)

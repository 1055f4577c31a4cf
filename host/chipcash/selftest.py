# SPDX-License-Identifier: Apache-2.0
"""One payment over each link that this machine can open, on each runtime: does it all work here?

A small network is made in a directory, one card loaded, and a till charges it offline, again and again,
each time over another link. Nothing is played: the links are those of the emulator, behind the libraries
that reach real cards."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chipcash.bank.cards import new_puk, personalise
from chipcash.card import Card
from chipcash.cardholder import load
from chipcash.center.client import CenterClient
from chipcash.center.service import Service
from chipcash.demo import pcsc_readers
from chipcash.errors import ChipcashError
from chipcash.home import init
from chipcash.pos import Pos
from chipcash.transports import open_path
from chipcash_sim import emulator, pcscd, places, runtime

__all__ = ["RUNTIMES", "Row", "links", "run"]

RUNTIMES = ("cpython", "micropython")
AMOUNT = 100
"""Fen of each payment."""
_COIN = 10_000
_PIN = "258013"
_OPEN_S = 15.0
_LIBRARIES = {"at": "serial", "nfc": "nfc", "pn532": "nfc", "pcsc": "smartcard", "serial": "serial"}
"""The Python package behind a link, where it is not always installed."""
_EXTRAS = {"at": "serial", "pn532": "nfc"}


@dataclass(frozen=True)
class Row:
    """How a payment over one link, by a card on one runtime, went.

    milliseconds: from opening the path until the till has verified and stored the payment, None if it has
    not. attempted: whether it was tried; it is not where something is not installed. missing: what that is,
    or what failed; empty if ok."""

    link: str
    runtime: str
    ok: bool
    attempted: bool
    milliseconds: float | None
    missing: str = ""


def links() -> tuple[str, ...]:
    """The kinds of paths that can be tried."""
    return ("sim", "pcsc", *places.NAMES)


def missing(link: str, card_runtime: str, session: pcscd.Session | None) -> str:
    """What this machine lacks for a link and a runtime; empty if nothing."""
    package = _LIBRARIES.get(link)
    if package is not None and importlib.util.find_spec(package) is None:
        extra = _EXTRAS.get(link, link)
        return f"the Python package for {link} is not installed: pip install 'chipcash[{extra}]'"
    if card_runtime == "micropython":
        try:
            runtime.compile_tree()
        except runtime.RuntimeMissing as error:
            return str(error)
    if link == "pcsc" and session is None:
        return pcscd.available() or "no private smart card service around this process"
    return ""


def run(directory: Path, suite: str, session: pcscd.Session | None) -> Iterator[Row]:
    """Try each link on each runtime; a row as soon as it is known.

    directory: an empty one, for network, till and card; suite: gm or p256; session: the private smart card
    service that this process is in, if it is in one. Raises what fails before the first payment.
    """
    home = init(directory / "network", suite, b"TEST")
    trust = home.trust()
    image = directory / "card.img"
    with (
        closing(home.center()) as ledger,
        closing(home.issuing()) as issuing,
        Service(ledger, port=0) as service,
        CenterClient(service.url, trust, timeout=10) as center,
        closing(home.bank(center)) as bank,
        Pos.init(directory / "till", trust, service.url) as till,
    ):
        issuing.add_reserve(bank.public, _COIN)
        bank.add(center.register_coin(issuing.issue(bank.public, _COIN)))
        with emulator.Card(image):
            pass  # a blank card
        with open_path(f"sim:{image}") as connection:
            card = Card(connection)
            card.select()
            certificate = personalise(
                card, home.authority(), center, trust, pin=_PIN, puk=new_puk(), tier=4
            )
            for title in bank.withdraw(_COIN, certificate.subject).titles:
                load(card, title)
        till.sync(center)
        for link in links():
            for card_runtime in RUNTIMES:
                lacking = missing(link, card_runtime, session)
                if lacking:
                    yield Row(link, card_runtime, False, False, None, lacking)
                else:
                    yield _pay(till, link, card_runtime, image, session)


def _pay(
    till: Pos, link: str, card_runtime: str, image: Path, session: pcscd.Session | None
) -> Row:
    try:
        with _at(link, card_runtime, image, session) as path:
            start = time.perf_counter()
            with open_path(path, wait=_OPEN_S) as connection:
                till.charge(connection, AMOUNT)
            spent = round((time.perf_counter() - start) * 1000, 1)
    except (ChipcashError, emulator.CardRemoved, OSError) as error:
        return Row(link, card_runtime, False, True, None, str(error))
    return Row(link, card_runtime, True, True, spent)


@contextmanager
def _at(link: str, card_runtime: str, image: Path, session: pcscd.Session | None) -> Iterator[str]:
    """The card put where the link reaches it; its path."""
    if link == "sim":
        yield f"sim:{image}?runtime={card_runtime}"
        return
    if session is not None and link == "pcsc":
        reader = pcsc_readers(session.readers[:1], session.ports[:1])[0]
        try:
            yield reader.insert(image, card_runtime)
        finally:
            reader.remove()
        return
    card = emulator.Card(image, card_runtime)
    place = places.make(link)
    try:
        places.put(card, place)
        yield place.path
    finally:
        card.remove()
        place.close()

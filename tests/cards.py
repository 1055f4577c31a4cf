# SPDX-License-Identifier: Apache-2.0
"""Emulated cards for the tests of the host: personalised over the host's own card client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chipcash.card import Card
from chipcash.transports import Connection, open_path
from chipcash_sim.image import FileFlash
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import DAY, NOW, Network

PIN = "123456"
PUK = "12345678"


def make_card(
    image: Path,
    net: Network,
    *,
    link: Callable[[Connection], Connection] = lambda connection: connection,
    extended: bool = True,
    money: int = 0,
    **risk: int,
) -> bytes:
    """A personalised card in an image file; its key.

    money: fen of its one title, if it is to have one; risk: its limits, where they are not the usual.
    """
    FileFlash(str(image)).close()
    with open_path(f"sim:{image}") as opened:
        return personalise(Card(link(opened), extended=extended), net, money, **risk)


def personalise(card: Card, net: Network, money: int, **risk: int) -> bytes:
    """Make a blank card one of the network, wherever it is; its key. money, risk: see make_card."""
    card.select()
    public = card.generate_key(o.SUITES[net.suite])
    card.personalise(
        o.Personalisation(
            center_key=net.public("center"),
            certification_key=net.public("certification"),
            pin=PIN.encode(),
            puk=PUK.encode(),
            certificate=net.certificate(public),
            risk=net.risk(public, **risk),
        )
    )
    if money:
        card.put(net.title(public, amount=money, hi=money))
    return public


def fill_card(image: Path, net: Network, public: bytes) -> int:
    """Bring a new card to its fullest: all titles and all seen ones that it has room for, 1000 fen each, and
    a log of payments from as many titles as a payment may have. Returns the newest time that it knows.
    """
    later = NOW + 9 * DAY
    after = (c.MAX_SEEN - c.MAX_TITLES) // o.MAX_INPUTS
    with open_path(f"sim:{image}") as opened:
        card = Card(opened)
        card.select()

        def load(titles: int, expiry: int) -> None:
            for _ in range(titles):
                card.put(net.title(public, amount=1000, hi=1000, expiry=expiry))

        def spend(payments: int, time: int) -> None:
            for _ in range(payments):
                load(o.MAX_INPUTS, time + 8 * DAY)
                card.pay(net.request(1000 * o.MAX_INPUTS, time=time))

        spend(c.MAX_LOG - after, NOW)
        card.put(net.signed_time(later))  # these titles are expired, no longer seen, but in the log
        spend(after, later)
        load(c.MAX_TITLES, later + 90 * DAY)
    return later

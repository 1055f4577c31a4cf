# SPDX-License-Identifier: Apache-2.0
"""Emulated cards for the tests of the host: personalised over the host's own card client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chipcash.card import Card
from chipcash.transports import Connection, open_path
from chipcash_sim.image import FileFlash
from chipcash_wire import objects as o
from tests.builders import Network

PIN = "123456"
PUK = "12345678"


def make_card(
    image: Path,
    net: Network,
    *,
    link: Callable[[Connection], Connection] = lambda connection: connection,
    extended: bool = True,
    **risk: int,
) -> bytes:
    """A personalised card in an image file; its key. risk: its limits, where they are not the usual."""
    FileFlash(str(image)).close()
    with open_path(f"sim:{image}") as opened:
        card = Card(link(opened), extended=extended)
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
    return public

# SPDX-License-Identifier: Apache-2.0
"""One payment over each link that this machine can open, on each runtime: does it all work here?

A small network is made in a directory, one card loaded, and a till charges it offline, again and again,
each time over another link. Nothing is played: the links are those of the emulator, behind the libraries
that reach real cards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chipcash.errors import ChipcashError
from chipcash.pos import Pos
from chipcash.sandbox import RUNTIMES, Sandbox, links, missing, reader_for
from chipcash.transports import open_path
from chipcash_sim import pcscd

__all__ = ["Row", "run"]

AMOUNT = 100
"""Fen of each payment."""
_COIN = 10_000
_OPEN_S = 15.0


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


def run(directory: Path, suite: str, session: pcscd.Session | None) -> Iterator[Row]:
    """Try each link on each runtime; a row as soon as it is known.

    directory: an empty one, for network, till and card; suite: gm or p256; session: the private smart card
    service that this process is in, if it is in one. Raises what fails before the first payment.
    """
    image = directory / "card.img"
    with Sandbox(directory, suite) as sandbox:
        sandbox.new_card(image, _COIN)
        till = sandbox.till()
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
    slot = (session.readers[0], session.ports[0]) if session is not None else None
    try:
        with reader_for([link], slot) as reader:
            path = reader.insert(image, card_runtime)
            start = time.perf_counter()
            with open_path(path, wait=_OPEN_S) as connection:
                till.charge(connection, AMOUNT)
            spent = round((time.perf_counter() - start) * 1000, 1)
    except (ChipcashError, OSError) as error:
        return Row(link, card_runtime, False, True, None, str(error))
    return Row(link, card_runtime, True, True, spent)

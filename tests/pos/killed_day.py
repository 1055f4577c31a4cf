# SPDX-License-Identifier: Apache-2.0
"""A day at a till, in a process that kills itself at a point, as `kill -9` does: only a test's own may.

Points are counted: before and after each commit of the books, each command to the card, each request to the
center. So there is one wherever something has just become durable, or somebody has just been told.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx

from chipcash.center.client import CenterClient
from chipcash.database import Database
from chipcash.pos import Pos
from chipcash.transports import open_path
from chipcash.transports.base import BaseConnection


def days(directory: Path, card: str, point: int) -> None:
    """What was cut off at the point before, done once more by who works there; then the next day, which dies
    at the point of this number, from 0, if it has so many."""
    if point:
        _day(directory, card, point - 1)
    _die_at(point)
    _day(directory, card, point)


def _day(directory: Path, card: str, number: int) -> None:
    """A shift: opened, one charge, one refund of a fen, synchronised, closed."""
    amount, reference = 100 + number, f"sale {number}"
    with Pos(directory, operator="anna") as pos, CenterClient(pos.center_url, pos.trust) as center:
        if pos.shift is None:
            pos.open_shift()
        with open_path(card, wait=15) as connection:
            payment = pos.charge(connection, amount, reference=reference)
        pos.sync(center)
        pos.refund(payment.claim_id, 1, center, reference=f"{reference}: back")
        pos.sync(center)
        pos.close_shift()


def _die_at(point: int) -> None:
    left = [point]

    def passed() -> None:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def around(owner: Any, name: str, counts: Any) -> None:
        inner = getattr(owner, name)

        def counted(*values: Any, **named: Any) -> Any:
            if not counts(*values):
                return inner(*values, **named)
            passed()
            result = inner(*values, **named)
            passed()
            return result

        setattr(owner, name, counted)

    around(Database, "execute", lambda _, statement, *__: statement == "COMMIT")
    around(BaseConnection, "transceive", lambda *_: True)
    around(httpx.Client, "request", lambda *_: True)

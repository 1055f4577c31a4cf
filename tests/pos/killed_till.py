# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos api` that kills itself at a point, as `kill -9` does: only a test's own process can.

python -m tests.pos.killed_till POINT WORDS... The points lie around each step behind which something is
durable, or a card or another program has been told.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from chipcash import cli
from chipcash.card import Card
from chipcash.pos import hooks
from chipcash.pos.books import Books
from chipcash.pos.charging import Charging
from chipcash.pos.till import Till

POINTS = {
    "begun": (Till, "begin", True),
    "opening": (Charging, "_open", False),
    "opened": (Charging, "_open", True),
    "asked": (Card, "pay", True),
    "keeping": (Books, "_receive", True),  # inside the transaction
    "kept": (Charging, "_take", True),
    "telling": (hooks, "_post", False),
    "told": (hooks, "_post", True),
}


def die_at(point: str) -> None:
    owner, name, after = POINTS[point]
    inner = getattr(owner, name)

    def dying(*values: Any, **named: Any) -> Any:
        if after:
            inner(*values, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


if __name__ == "__main__":
    if sys.argv[1] != "-":
        die_at(sys.argv[1])
    cli.root.main(sys.argv[2:])

# SPDX-License-Identifier: Apache-2.0
"""The log entries of a world's ledger, after each of its transactions."""

from __future__ import annotations

from chipcash.center.facts import LedgerFacts
from chipcash_wire import objects as o
from tests.center.world import World


class Recorder:
    """Looks at what a world's ledger has registered since the last look; entries: all so far."""

    def __init__(self, world: World) -> None:
        self._facts = LedgerFacts(world.center.storage, world.header)
        self._seen = 0
        self.entries: list[o.LogEntry] = []

    def look(self) -> None:
        """Add what is new."""
        for number, entry in self._facts.facts(self._seen):
            assert number > self._seen
            self._seen = number
            self.entries.append(o.LogEntry.decode(entry))

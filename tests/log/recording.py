# SPDX-License-Identifier: Apache-2.0
"""Log entries derived from the tables of a ledger, after each of its transactions."""

from __future__ import annotations

from typing import Any

from chipcash.log.facts import Fact, make_entry
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import World


class Recorder:
    """Looks at what a world's ledger has registered since the last look; entries: all so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: list[o.LogEntry] = []
        self._newest = dict.fromkeys(("titles", "spends", "inputs", "evidence"), 0)
        self._listed = 0
        self._voids: set[bytes] = set()
        self._cards: dict[bytes, bytes] = {}

    def look(self) -> None:
        """Add the entries of the one transaction that there may have been."""
        for subject, data in self._rows("SELECT subject, certificate FROM cards"):
            if self._cards.get(subject) != data:
                self._cards[subject] = data
                self._add(o.Certificate.decode(data), self.world.now)
        for data, time in self._rows("SELECT bytes, time FROM voids"):
            if data not in self._voids:
                self._voids.add(data)
                self._add(o.Void.decode(data), time)
        evidence = self._new("evidence")
        claims = {row["claim_id"]: None for row in self._new("inputs")}
        for claim_id in claims:
            ((data, time, result),) = self._rows(
                "SELECT bytes, time, result FROM claims WHERE claim_id = ?", claim_id
            )
            self._add(o.Claim.decode(data), time, o.Result.decode(result))
            for row in evidence:
                if row["claim_id"] == claim_id:
                    self._add(o.Evidence.decode(row["bytes"]), row["time"])
                    self._list(row["digest"])
        self._list(None)
        spends = self._new("spends")
        for row in self._new("titles"):
            title = o.Title.decode(row["bytes"])
            if title.epoch == 1:
                ((data, time),) = self._rows(
                    "SELECT bytes, time FROM coins WHERE serial = ?", title.serial
                )
                self._add(o.Coin.decode(data), time)
            self._add(title, self.world.now)
            self._move([x for x in spends if x["new_title"] == object_id(title)])
        self._move([x for x in spends if x["new_title"] is None])

    def _move(self, spends: list[Any]) -> None:
        for row in spends:
            move = o.Move(
                title_id=row["title_id"],
                lo=row["lo"],
                hi=row["hi"],
                state=row["state"],
                claim_id=row["claim_id"],
                new_title_id=row["new_title"],
            )
            self._add(move, row["time"])

    def _list(self, digest: bytes | None) -> None:
        """New entries of the blacklist with this digest, in their order."""
        for number, data in self._rows(
            "SELECT sequence, bytes FROM blacklist WHERE sequence > ? ORDER BY sequence",
            self._listed,
        ):
            entry = o.BlacklistEntry.decode(data)
            if entry.digest == digest:
                self._listed = number
                self._add(entry, entry.time)

    def _new(self, table: str) -> list[Any]:
        rows = self._rows(f"SELECT * FROM {table} WHERE seq > ? ORDER BY seq", self._newest[table])
        if rows:
            self._newest[table] = rows[-1]["seq"]
        return rows

    def _rows(self, query: str, *values: Any) -> list[Any]:
        return self.world.center._db.all(query, *values)

    def _add(self, fact: Fact, time: int, result: o.Result | None = None) -> None:
        self.entries.append(make_entry(self.world.header, time, fact, result))

# SPDX-License-Identifier: Apache-2.0
"""A center of several ledgers: each coin's whole life is in one partition, which is a ledger of its own.

A partition settles by the same code as a center of one ledger does: tables, numbers of facts, lock, log and
audit are its own. What belongs to no coin (cards, blacklist) is in the home ledger. Totals are sums.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from chipcash.center.errors import CenterError, CenterRefused
from chipcash.center.registration import Center
from chipcash.center.verification import Verifier
from chipcash.log.scope import partition_of
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = [
    "MAX_PARTITIONS",
    "PARTITIONS_FILE",
    "Assignment",
    "Partition",
    "Place",
    "Table",
]

MAX_PARTITIONS = 1024

PARTITIONS_FILE = "partitions.json"
"""In a home directory: the settings of a center of several ledgers, see chipcash.center.cluster."""


class Partition(Center):
    """The ledger of one partition, as a center over it. number: which one; of: how many there are.

    A claim is registered in each partition that has some of its titles, with the intervals there. Evidence
    is stored, and the key that it accuses is listed in the home ledger: `accused` says that there is some.
    """

    def __init__(self, number: int, of: int, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self.verifier = Verifier(self.storage, self.trust, self._foreign)
        self.number = number
        self.of = of
        self.accused = False

    def _new_serial(self) -> bytes:
        # A fresh coin stays in the partition of what it is made of: each partition's log is whole by itself.
        while True:
            serial = super()._new_serial()
            if partition_of(serial, self.of) == self.number:
                return serial

    def register_coin(self, coin: o.Coin) -> o.Title:
        """As Center. Refused also: partition (it is another one's, where it may be registered already)."""
        if partition_of(coin.serial, self.of) != self.number:
            raise CenterRefused("partition", "This coin is another partition's; nothing changed.")
        return super().register_coin(coin)

    def receipt(self, digest: bytes) -> o.Receipt:
        """The center's word that a request without results, a void, was registered here."""
        return self._make_receipt(digest, [], [])

    def _foreign(self, carried: Sequence[o.Title]) -> dict[bytes, list[Any]]:
        # What the center signed is registered where it belongs: title and claim are judged alike there.
        return {
            object_id(title): [None, title.lo, title.hi, title.owner]
            for title in carried
            if partition_of(title.serial, self.of) != self.number
            and self.trust.signed_by_center(title)
        }

    def _accuse(self, payer: bytes, digest: bytes, fact: Callable[[], int]) -> None:
        self.accused = True


@dataclass(frozen=True)
class Place:
    """Where a partition's ledger is: the name of a PostgreSQL node, and which generation of it.

    Each copy of a partition is of a generation of its own, whose number is never used again.
    """

    node: str
    generation: int

    def schema(self, number: int) -> str:
        """The schema that holds it in the node's database."""
        return f"p{number:04}g{self.generation}"

    def retired(self, number: int) -> str:
        """What that schema is renamed to when the partition moves away: whoever comes late finds nothing."""
        return f"{self.schema(number)}_moved"


@dataclass(frozen=True)
class Assignment:
    """Where a partition is, and where to it moves, if it does."""

    place: Place
    target: Place | None = None


@dataclass(frozen=True)
class Table:
    """Where all partitions are: what a key in NATS holds, which all processes read."""

    assignments: tuple[Assignment, ...]

    def __len__(self) -> int:
        return len(self.assignments)

    def __getitem__(self, number: int) -> Assignment:
        return self.assignments[number]

    @classmethod
    def new(cls, partitions: int, nodes: Sequence[str]) -> Self:
        """Generation 1 of so many partitions, over the nodes in turn."""
        places = (Place(nodes[at % len(nodes)], 1) for at in range(partitions))
        return cls(tuple(Assignment(place) for place in places))

    def changed(self, number: int, assignment: Assignment) -> Table:
        """The same with another assignment of one partition."""
        changed = list(self.assignments)
        changed[number] = assignment
        return replace(self, assignments=tuple(changed))

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps([asdict(assignment) for assignment in self.assignments]).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises CenterError if it is none."""
        try:
            return cls(
                tuple(
                    Assignment(Place(**each["place"]), each["target"] and Place(**each["target"]))
                    for each in json.loads(data)
                )
            )
        except (ValueError, KeyError, TypeError):
            raise CenterError(
                "What the queue says of where partitions are cannot be understood.",
                hint="It was written by another version of chipcash: use that one.",
            ) from None

# SPDX-License-Identifier: Apache-2.0
"""What a ledger registered, as entries of the center's log (protocols/spec/log.md): every fact once, in the
order of its number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any

from chipcash.center.storage import Query, Row, Storage
from chipcash.log.facts import Fact, make_entry
from chipcash_wire import objects as o

__all__ = ["FACT_TABLES", "LedgerFacts"]

_AT_ONCE = 4096
"""Numbers that one round trip asks for."""

_Made = tuple[int, Fact, o.Result | None]
"""Time, fact, and the result of a claim."""


class LedgerFacts:
    """A ledger as chipcash.log.publisher.Facts. header: of the network's objects."""

    def __init__(self, storage: Storage, header: bytes) -> None:
        self._db = storage
        self._header = header

    def facts(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Number and log entry of each fact with a higher number that was registered when this began.

        A transaction takes its numbers while no other one runs, so those below the next one are there.
        """
        (end,) = self._db.row("SELECT next FROM sequence")
        for start in range(after + 1, end, _AT_ONCE):
            found = self._db.queries(
                [_query(columns, start, min(end, start + _AT_ONCE)) for columns, _ in _TABLES]
            )
            made = (_each(rows, make) for rows, (_, make) in zip(found, _TABLES, strict=True))
            for seq, (time, fact, result) in merge(*made, key=itemgetter(0)):
                yield seq, make_entry(self._header, time, fact, result).encode()


def _query(columns: str, start: int, end: int) -> Query:
    table = columns.partition(" FROM ")[2].split()[0]
    return (
        f"SELECT {columns} WHERE {table}.seq >= ? AND {table}.seq < ? ORDER BY {table}.seq",
        (start, end),
    )


def _each(rows: Iterable[Row], make: Callable[..., _Made]) -> Iterator[tuple[int, _Made]]:
    return ((seq, make(*rest)) for seq, *rest in rows)


def _signed(cls: Any) -> Callable[[bytes, int], _Made]:
    return lambda data, time: (time, cls.decode(data), None)


def _claim(data: bytes, time: int, result: bytes) -> _Made:
    return time, o.Claim.decode(data), o.Result.decode(result)


def _move(*values: Any) -> _Made:
    title_id, lo, hi, state, claim_id, new_title, time = values
    move = o.Move(
        title_id=title_id, lo=lo, hi=hi, state=state, claim_id=claim_id, new_title_id=new_title
    )
    return time, move, None


def _listed(data: bytes) -> _Made:
    entry = o.BlacklistEntry.decode(data)
    return entry.time, entry, None


_TABLES: Sequence[tuple[str, Callable[..., _Made]]] = (
    ("seq, bytes, time FROM coins", _signed(o.Coin)),
    ("seq, bytes, time FROM titles", _signed(o.Title)),
    ("seq, bytes, time, result FROM claims", _claim),
    (
        "spends.seq, spends.title_id, spends.lo, spends.hi, spends.state, claims.claim_id,"
        " spends.new_title, spends.time FROM spends LEFT JOIN claims ON claims.seq = spends.claim",
        _move,
    ),
    ("seq, bytes, time FROM voids", _signed(o.Void)),
    ("seq, bytes, time FROM evidence", _signed(o.Evidence)),
    ("seq, bytes, time FROM certificates", _signed(o.Certificate)),
    ("seq, bytes FROM blacklist", _listed),
)

FACT_TABLES = tuple(columns.partition(" FROM ")[2].split()[0] for columns, _ in _TABLES)
"""The tables whose rows are facts; their column seq is the number."""

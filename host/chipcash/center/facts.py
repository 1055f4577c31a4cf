# SPDX-License-Identifier: Apache-2.0
"""What a ledger registered, as entries of the center's log (protocols/spec/log.md): every fact once, in the
order of its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from chipcash.center.errors import LedgerError
from chipcash.center.storage import Query, Storage
from chipcash.log.facts import join_entry
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["FACT_TABLES", "LedgerFacts"]

_AT_ONCE = 4096
"""Numbers that one round trip asks for."""

_Made = tuple[int, tuple[bytes, ...]]
"""Time; the fact encoded, and behind a claim its result."""


class LedgerFacts:
    """A ledger as chipcash.log.publisher.Facts. header: of the network's objects."""

    def __init__(self, storage: Storage, header: bytes) -> None:
        self._db = storage
        self._header = header

    def facts(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Number and log entry of each fact with a higher number that was registered when this began.

        A transaction takes its numbers while no other one runs, so those below the next one are there. Raises
        LedgerError if one of them is damaged.
        """
        (end,) = self._db.row("SELECT next FROM sequence")
        for start in range(after + 1, end, _AT_ONCE):
            found = self._db.queries(
                [_query(columns, start, min(end, start + _AT_ONCE)) for columns, _ in _TABLES]
            )
            facts = [
                (seq, make, rest)
                for rows, (_, make) in zip(found, _TABLES, strict=True)
                for seq, *rest in rows
            ]
            for seq, make, rest in sorted(facts, key=itemgetter(0)):
                yield seq, self._entry(seq, make, rest)

    def _entry(self, seq: int, make: Callable[..., _Made], values: Sequence[Any]) -> bytes:
        try:
            time, encoded = make(*values)
            return join_entry(self._header, time, *encoded)
        except WireError as error:
            raise LedgerError(
                f"The ledger's fact {seq} is damaged: {error}. Nothing was changed.",
                hint="Stop the center, keep the ledger, and restore the last backup that passes the check.",
            ) from None


def _query(columns: str, start: int, end: int) -> Query:
    table = columns.partition(" FROM ")[2].split()[0]
    return (
        f"SELECT {columns} WHERE {table}.seq >= ? AND {table}.seq < ? ORDER BY {table}.seq",
        (start, end),
    )


def _kept(*classes: type[o.Object]) -> Callable[..., _Made]:
    """Objects of these classes as they are kept. They are read, for the log can take nothing back."""

    def make(time: int, *encoded: bytes) -> _Made:
        for cls, data in zip(classes, encoded, strict=True):
            cls.decode(data)
        return time, encoded

    return make


def _move(time: int, *values: Any) -> _Made:
    title_id, lo, hi, state, claim_id, new_title = values
    move = o.Move(
        title_id=title_id, lo=lo, hi=hi, state=state, claim_id=claim_id, new_title_id=new_title
    )
    return time, (move.encode(),)


def _listed(data: bytes) -> _Made:
    return o.BlacklistEntry.decode(data).time, (data,)


_TABLES: Sequence[tuple[str, Callable[..., _Made]]] = (
    ("seq, time, bytes FROM coins", _kept(o.Coin)),
    ("seq, time, bytes FROM titles", _kept(o.Title)),
    ("seq, time, bytes, result FROM claims", _kept(o.Claim, o.Result)),
    (
        "spends.seq, spends.time, spends.title_id, spends.lo, spends.hi, spends.state, claims.claim_id,"
        " spends.new_title FROM spends LEFT JOIN claims ON claims.seq = spends.claim",
        _move,
    ),
    ("seq, time, bytes FROM voids", _kept(o.Void)),
    ("seq, time, bytes FROM evidence", _kept(o.Evidence)),
    ("seq, time, bytes FROM certificates", _kept(o.Certificate)),
    ("seq, bytes FROM blacklist", _listed),
)

FACT_TABLES = tuple(columns.partition(" FROM ")[2].split()[0] for columns, _ in _TABLES)
"""The tables whose rows are facts; their column seq is the number."""

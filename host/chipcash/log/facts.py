# SPDX-License-Identifier: Apache-2.0
"""Log entries from what the center registers, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

from chipcash_wire import objects as o

__all__ = ["Fact", "fact_of", "make_entry"]

Fact: TypeAlias = (
    o.Coin
    | o.Title
    | o.Claim
    | o.Move
    | o.Void
    | o.Evidence
    | o.BlacklistEntry
    | o.Certificate
)  # fmt: skip
"""What is registered. A claim comes with its result."""

_FIELDS = {cls: name for name, (cls, _, _) in o.LogEntry.MANY.items()}


def make_entry(header: bytes, time: int, fact: Fact, result: o.Result | None = None) -> o.LogEntry:
    """The entry of a fact that was registered at that time. result: of a claim. Raises WireError."""
    values: dict[str, Any] = dict.fromkeys(_FIELDS.values(), ())
    values[_FIELDS[type(fact)]] = (fact,)
    if result is not None:
        values["results"] = (result,)
    return o.LogEntry(header=header, time=time, **values)


def fact_of(entry: o.LogEntry) -> Fact:
    """The fact in an entry; the result of a claim is in entry.results."""
    for name in _FIELDS.values():
        found = getattr(entry, name)
        if found and name != "results":
            fact: Fact = found[0]
            return fact
    raise AssertionError("an entry has one fact")

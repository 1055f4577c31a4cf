# SPDX-License-Identifier: Apache-2.0
"""Log entries from what the center registers, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

from chipcash_wire import objects as o
from chipcash_wire import tlv
from chipcash_wire.tlv import WireError

__all__ = ["Fact", "fact_of", "join_entry", "make_entry"]

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


def join_entry(header: bytes, time: int, *encoded: bytes) -> bytes:
    """The encoding of make_entry() from facts that are kept encoded, which are not read again.

    encoded: the fact; behind a claim its result. Raises WireError if one of them is not one TLV.
    """
    for part in encoded:
        if tlv.header(part, 0)[2] != len(part):
            raise WireError("bytes behind the object")
    fields = (o.encode_field("header", header), o.encode_field("time", time))
    return tlv.encode(o.LogEntry.TAG, *fields, *encoded)


def fact_of(entry: o.LogEntry) -> Fact:
    """The fact in an entry; the result of a claim is in entry.results."""
    for name in _FIELDS.values():
        found = getattr(entry, name)
        if found and name != "results":
            fact: Fact = found[0]
            return fact
    raise AssertionError("an entry has one fact")

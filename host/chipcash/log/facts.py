# SPDX-License-Identifier: Apache-2.0
"""Log entries from what the center registers, and back."""

from __future__ import annotations

from typing import TypeAlias

from chipcash_wire import objects as o
from chipcash_wire import tlv

__all__ = ["Fact", "fact_of", "join_entry"]

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

_FIELDS = tuple(name for name in o.LogEntry.MANY if name != "results")


def join_entry(header: bytes, time: int, *encoded: bytes) -> bytes:
    """The entry of a fact that was registered at that time, encoded, from encoded objects.

    encoded: the fact, and behind a claim its result; that they are those is the caller's to know.
    """
    fields = (o.encode_field("header", header), o.encode_field("time", time))
    return tlv.encode(o.LogEntry.TAG, *fields, *encoded)


def fact_of(entry: o.LogEntry) -> Fact:
    """The fact in an entry; the result of a claim is in entry.results."""
    for name in _FIELDS:
        found = getattr(entry, name)
        if found:
            fact: Fact = found[0]
            return fact
    raise AssertionError("an entry has one fact")

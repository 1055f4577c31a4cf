# SPDX-License-Identifier: Apache-2.0
"""What the center says of a till's claims, the best proof first: its signed receipt, its log, its word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chipcash.center.errors import CenterRefused
from chipcash.log.facts import fact_of
from chipcash.log.note import Checkpoint
from chipcash.log.reader import LogReader
from chipcash.pos.settling import Judged, judged
from chipcash.terminal import ReceiptError, verify_receipt
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = [
    "InLog",
    "Logged",
    "Record",
    "Signed",
    "Word",
    "find_in_log",
    "ledger_word",
    "receipt_word",
]

Outcomes = tuple[tuple[bytes, int, int, int], ...]
"""Of each interval of a claim: title_id, lo, hi, outcome (o.SETTLED...)."""


class Record(Protocol):
    """What is asked of a center; CenterClient and Center are one."""

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """What became of a claim."""

    def titles(self, owner: bytes) -> tuple[o.Title, ...]:
        """Live titles of an owner."""

    def coin(self, serial: bytes) -> dict[str, Any]:
        """A coin's partition and history."""

    def evidence(self, digest: bytes) -> o.Evidence:
        """Evidence of repeat payment by its digest."""


@dataclass(frozen=True)
class Word:
    """What the center said of a claim. source: receipt, log or ledger; signed: whether it cannot deny it;
    answer: of the ledger, all of it."""

    source: str
    outcomes: Outcomes
    answer: Mapping[str, Any] | None = None

    @property
    def signed(self) -> bool:
        """Whether the center has signed it, in a receipt or by its log's checkpoint."""
        return self.source != "ledger"

    @property
    def judged(self) -> Judged:
        """What it makes of a payment."""
        return judged([(hi - lo, state) for _, lo, hi, state in self.outcomes])

    @property
    def reclaimed(self) -> int:
        """Fen that went back to the payer, as far as the ledger tells."""
        told = self.answer["outcomes"] if self.answer else ()
        return sum(x["hi"] - x["lo"] for x in told if x["reclaimed"])


@dataclass(frozen=True)
class Logged:
    """A claim's entry in the log: its number, its bytes, the time in it, the first outcome."""

    index: int
    entry: bytes
    time: int
    word: Word


@dataclass(frozen=True)
class InLog:
    """What a log has of some claims. note: its checkpoint, signed; last: the time of its last entry, seconds
    since 1970: what came later cannot be in it."""

    note: bytes
    checkpoint: Checkpoint
    claims: Mapping[bytes, Logged]
    last: int


Signed = tuple[o.Receipt, dict[bytes, Word]]
"""A receipt that the center has signed, and what it says of each claim."""


def receipt_word(data: bytes | None, deposit: o.Deposit, trust: Trust) -> Signed | None:
    """A deposit's receipt and what it says of its claims; None if the center has signed none."""
    if data is None:
        return None
    try:
        receipt = o.Receipt.decode(data)
        verify_receipt(receipt, deposit, trust)
    except (WireError, ReceiptError):
        return None
    return receipt, {result.claim_id: _word("receipt", result) for result in receipt.results}


def ledger_word(center: Record, claim_id: bytes) -> Word | None:
    """What the center's ledger says of a claim, which is not signed; None if it does not know the claim.

    Raises CenterUnreachable, CenterRefused.
    """
    try:
        answer = center.claim(claim_id)
    except CenterRefused as refused:
        if refused.name == "unknown":
            return None
        raise
    outcomes = tuple(
        (bytes.fromhex(x["title_id"]), x["lo"], x["hi"], o.OUTCOMES.index(x["state"]))
        for x in answer["outcomes"]
    )
    return Word("ledger", outcomes, answer)


def find_in_log(reader: LogReader, claims: Iterable[bytes]) -> InLog:
    """Look for claims in a log, by their ids, reading all of it once. Raises LogInvalid, LogUnreachable.

    What is found is proven: the entries are those of the checkpoint that the log has signed.
    """
    wanted = set(claims)
    note = reader.fetch()
    checkpoint, _ = reader.verify(note)
    found = {}
    last = 0
    for index, data in enumerate(reader.entries(checkpoint)):
        entry = o.LogEntry.decode(data)
        last = entry.time
        fact = fact_of(entry)
        if isinstance(fact, o.Claim) and object_id(fact) in wanted:
            word = _word("log", entry.results[0])
            found[object_id(fact)] = Logged(index, data, entry.time, word)
    return InLog(note, checkpoint, found, last)


def _word(source: str, result: o.Result) -> Word:
    return Word(source, tuple((x.title_id, x.lo, x.hi, x.state) for x in result.outcomes))

# SPDX-License-Identifier: Apache-2.0
"""Whether a ledger is as new as its log: what a gateway that writes the logs tells workers, and they check.

With a ledger of an older backup, money that was paid after it could be paid again. So nobody settles in one
that lacks the last entry of its log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from chipcash.center.errors import LedgerError
from chipcash.log.errors import LogInvalid
from chipcash.log.merkle import leaf_hash, verify_inclusion
from chipcash.log.note import Checkpoint, Key, open_checkpoint
from chipcash.log.publisher import Facts
from chipcash.log.reader import LogReader

__all__ = ["Head", "need_no_older"]


@dataclass(frozen=True)
class Head:
    """How far a log goes. note: its checkpoint, signed; proof: of its last entry, if it has one."""

    note: bytes
    proof: tuple[bytes, ...]

    @classmethod
    def read(cls, reader: LogReader) -> Self:
        """Of a log. Raises LogInvalid, LogUnreachable."""
        note = reader.fetch()
        checkpoint, _ = reader.verify(note)
        proof: list[bytes] = []
        if checkpoint.size:
            last = checkpoint.size - 1
            proof = reader.inclusion(checkpoint, last, reader.last(checkpoint))
        return cls(note, tuple(proof))

    def encode(self) -> bytes:
        """As JSON."""
        proof = [node.hex() for node in self.proof]
        return json.dumps({"note": self.note.decode(), "proof": proof}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises LogInvalid if it is none."""
        try:
            values = json.loads(data)
            return cls(values["note"].encode(), tuple(map(bytes.fromhex, values["proof"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LogInvalid("What the queue says of a log cannot be understood.") from None

    def checkpoint(self, key: Key) -> Checkpoint:
        """Raises LogInvalid if the log's key has not signed it."""
        return open_checkpoint(self.note, key)[0]


def need_no_older(facts: Facts, head: Head, key: Key) -> None:
    """Refuse a ledger that does not hold the last entry of its log. facts: the ledger's; key: the log's.

    Its facts have numbers without a hole, so that the last entry is the fact of the log's size. Raises
    LedgerError; LogInvalid if the head is not the log's; DatabaseError.
    """
    checkpoint = head.checkpoint(key)
    size = checkpoint.size
    if not size:
        return
    number, entry = next(iter(facts.facts(size - 1)), (0, b""))
    proven = verify_inclusion(leaf_hash(entry), size - 1, size, head.proof, checkpoint.root)
    if (number, proven) != (size, True):
        what = "is older than its log" if number == 0 else "is another one than its log's"
        raise LedgerError(
            f"The ledger of the log {checkpoint.origin} {what}: entry {size} is not in it. Nothing is settled"
            " there, since money that was paid after an older backup could be paid again.",
            hint="Bring it forward: chipcash center recover (docs/partitions.md, Backup).",
        )

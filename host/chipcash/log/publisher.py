# SPDX-License-Identifier: Apache-2.0
"""From the ledger's facts to the log: each once, in their order, whatever is cut in between."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from chipcash.log.cosigning import Witnesses
from chipcash.log.errors import LogError
from chipcash.log.note import Checkpoint, open_checkpoint
from chipcash.log.store import Log

__all__ = ["Facts", "Publisher"]

_BATCH = 4096
"""Entries that are made durable together."""


class Facts(Protocol):
    """Where the ledger keeps what it registered: log entries as bytes, under numbers that rise."""

    def facts(self, after: int) -> Iterable[tuple[int, bytes]]:
        """Number and bytes of the facts with a higher number, in their order.

        They are those of whole transactions, and what has been given once never changes and gets nothing in
        front of it: the log cannot take anything back.
        """


class Publisher:
    """Appends facts to a log, signs it and has it cosigned. One at a time has a log."""

    def __init__(self, log: Log, facts: Facts, witnesses: Witnesses | None = None) -> None:
        self.log = log
        self.facts = facts
        self.witnesses = witnesses
        if witnesses is not None:
            log.cosigned.update(dict.fromkeys((each.key.name for each in witnesses.all), 0))

    def publish(self, afresh: bool = False) -> Checkpoint:
        """Append what the ledger has registered since; give out a checkpoint if there is a newer one.

        A checkpoint that lacks cosignatures is given out all the same, and again once there are more of
        them; afresh: also witnesses that cosigned it are asked. Raises LogError if the ledger is not the one
        that this log was written from.
        """
        self._append()
        checkpoint = self.log.checkpoint()
        before = self.log.published()
        given, _ = open_checkpoint(before, self.log.key.key)
        note = before
        if given != checkpoint or afresh:
            note = checkpoint.signed([self.log.key.sign(checkpoint.text)])
        cosignatures = []
        if self.witnesses is not None:
            cosignatures = self.witnesses.cosign(checkpoint, note, self.log.consistency)
            self.log.cosigned.update({each.key.name: each.time for each in cosignatures})
        if given != checkpoint or any(x.line.encode() not in before for x in cosignatures):
            self.log.publish([x.line for x in cosignatures])
        return checkpoint

    def _append(self) -> None:
        found = iter(self.facts.facts(max(0, self.log.fact - 1)))
        if self.log.size and next(found, None) != (self.log.fact, self.log.last):
            raise LogError(
                f"The ledger's fact {self.log.fact} is not what the log holds as its last entry. "
                "Nothing was appended.",
                hint="Ledger and log are of different networks, or one of them was restored from an older "
                "backup than the other: restore the ledger to at least the state of the log, or bring it "
                "there: chipcash center recover",
            )
        while batch := list(islice(found, _BATCH)):
            self.log.append(batch)

# SPDX-License-Identifier: Apache-2.0
"""What a gateway orders from a partition, and what the partition's worker replies.

Bodies are those of the center's HTTP interface: wire objects in a row. Every order may come several times,
and before or behind others: whatever it brings, it brings once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from chipcash.center.bodies import join, read, read_with_titles
from chipcash.center.errors import CenterRefused
from chipcash.center.partitions import Partition
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["Order", "Queue", "Reply", "carry_out"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """operation: coin, deposit, void or reclaim; body: the object, and titles behind it."""

    operation: str
    body: bytes


@dataclass(frozen=True)
class Reply:
    """body: the answer's object; or why it was refused. accused: the partition has evidence of repeat payment
    that may be new to the home ledger."""

    body: bytes = b""
    refused: CenterRefused | None = field(default=None, compare=False)
    accused: bool = False

    def encode(self) -> bytes:
        """One line of JSON, then the body."""
        head: dict[str, object] = {"accused": self.accused}
        if self.refused is not None:
            no = self.refused
            head |= {"error": no.name, "message": no.message, "hint": no.hint, "status": no.status}
        return json.dumps(head).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, data: bytes) -> Reply:
        """Raises ValueError, KeyError."""
        line, _, body = data.partition(b"\n")
        head = json.loads(line)
        refused = None
        if "error" in head:
            refused = CenterRefused(
                head["error"], head["message"], status=head["status"], hint=head["hint"]
            )
        return cls(body, refused, bool(head["accused"]))


class Queue(Protocol):
    """The way from gateways to partitions."""

    def ask(self, orders: Sequence[tuple[int, Order]]) -> list[Reply]:
        """Have each order carried out by its partition; the replies, in the same order.

        Raises CenterUnreachable if one of them brought none in time: it may be carried out all the same.
        """


def carry_out(partition: Partition, orders: Sequence[Order]) -> list[Reply]:
    """Carry out orders one after the other, deposits that follow each other in one transaction.

    What they change is durable when it returns. Raises DatabaseError, LedgerError: then some of them may have
    been carried out, and all are to be repeated.
    """
    replies: list[Reply] = []
    for operation, group in groupby(orders, key=lambda order: order.operation):
        bodies = [order.body for order in group]
        if operation == "deposit":
            replies += _settle(partition, bodies)
        else:
            replies += [_one(partition, operation, body) for body in bodies]
    return replies


def _settle(partition: Partition, bodies: Sequence[bytes]) -> list[Reply]:
    found: list[Reply | None] = []
    deposits: list[o.Deposit] = []
    titles: list[o.Title] = []
    for body in bodies:
        try:
            deposit, carried = read_with_titles(o.Deposit, body)
            partition.verifier.need_settleable(deposit)
        except CenterRefused as refused:
            found.append(Reply(refused=refused))
            continue
        found.append(None)
        deposits.append(deposit)
        titles += carried
    partition.accused = False
    receipts = iter(partition.settle_together(deposits, titles))
    accused = partition.accused
    return [reply or Reply(next(receipts).encode(), accused=accused) for reply in found]


def _one(partition: Partition, operation: str, body: bytes) -> Reply:
    partition.accused = False
    answer: o.Object
    try:
        if operation == "coin":
            answer = partition.register_coin(read(o.Coin, body))
        elif operation == "void":
            void = read(o.Void, body)
            partition.register_void(void)
            answer = partition.receipt(object_id(void))
        elif operation == "reclaim":
            answer = partition.reclaim(*read_with_titles(o.Reclaim, body))
        else:
            _log.error("An order of an unknown kind was refused: %s", operation)
            raise CenterRefused("malformed", "There is no such operation; nothing changed.")
    except CenterRefused as refused:
        return Reply(refused=refused)
    return Reply(join((answer,)), accused=partition.accused)

# SPDX-License-Identifier: Apache-2.0
"""A partitioned center in one process, for the model of the ledger: ledgers in memory, and a queue that
delivers at once, all orders twice and some again later. What it does not have is NATS: test_partitions.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from chipcash.center.gateway import Gateway
from chipcash.center.orders import Order, Reply, carry_out
from chipcash.center.parameters import Parameters
from chipcash.center.partitions import Partition
from chipcash.crypto import PrivateKey
from chipcash.trust import Trust

PARTITIONS = 4


class Careless:
    """A queue that keeps all that it delivered, and delivers some of it again; the same in every run."""

    def __init__(self, ledgers: Sequence[Partition]) -> None:
        self.ledgers = ledgers
        self.again = 0
        self._delivered: list[tuple[int, Order]] = []
        self._random = random.Random(0)

    def ask(self, orders: Sequence[tuple[int, Order]]) -> list[Reply]:
        replies = {}
        for at, (number, order) in self._random.sample(list(enumerate(orders)), len(orders)):
            late = [
                old
                for where, old in self._delivered
                if where == number and self._random.random() < 0.1
            ]
            batch = [*late, order, order]
            self.again += len(batch) - 1
            found = carry_out(self.ledgers[number], batch)
            assert found[-2].body == found[-1].body or order.operation != "deposit"
            replies[at] = found[-2]
            # A reclaim that was refused would be good once it is due, which the model does not expect.
            if found[-1].refused is None:
                self._delivered = [*self._delivered, (number, order)][-20:]
        return [replies[at] for at in range(len(orders))]


class Partitioned(Gateway):
    """A gateway over partitions in memory."""

    def __init__(
        self,
        path: str | Path,
        signer: PrivateKey,
        trust: Trust,
        parameters: Parameters,
        clock: Callable[[], int],
        fresh_serial: Callable[[], bytes],
    ) -> None:
        values = (signer, trust, parameters, clock, fresh_serial)
        self.parts = [
            Partition(number, PARTITIONS, ":memory:", *values) for number in range(PARTITIONS)
        ]
        super().__init__(Careless(self.parts), self.parts.__getitem__, PARTITIONS, path, *values)

    def close(self) -> None:
        super().close()
        for part in self.parts:
            part.close()

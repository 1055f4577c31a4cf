# SPDX-License-Identifier: Apache-2.0
"""A center of several ledgers is to its clients what one of one ledger is, also where the queue repeats."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from chipcash.center.partitions import partition_of
from tests.center.partitioned import PARTITIONS, Partitioned
from tests.center.test_conservation import Books
from tests.center.world import World


class PartitionedBooks(Books):
    """The model of test_conservation, over partitions."""

    make_world = staticmethod(lambda: World(center=Partitioned))  # type: ignore[assignment]

    def ledger_of(self, serial: bytes) -> int:
        return partition_of(serial, PARTITIONS)


TestPartitionedBooks = PartitionedBooks.TestCase
TestPartitionedBooks.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# SPDX-License-Identifier: Apache-2.0
"""Moving a partition to another PostgreSQL node, while the center runs.

    mark     the table says where to; the worker finishes what it has begun and takes no more
    fence    the old schema is renamed, under the ledger's lock: whoever did not hear of it finds no tables
    copy     all rows go to a schema of a new generation, which is whole or not there
    flip     the table says that the partition is there; that node's worker goes on

Orders wait in JetStream meanwhile. Cut anywhere, it goes on when the same move is ordered again; ordered to
go elsewhere, also back, it does that from the fenced copy. What was copied and never flipped to is garbage,
under a number that is never used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from chipcash.center import postgres
from chipcash.center.cluster import Cluster
from chipcash.center.errors import CenterError
from chipcash.center.inquiry import Inquiry
from chipcash.center.jetstream import JetStream
from chipcash.center.partitions import Assignment, Place, Table

__all__ = ["STEPS", "move", "open_table", "replace_table"]

STEPS = ("mark", "fence", "copy", "flip")


def move(
    cluster: Cluster, number: int, node: str, step: Callable[[str], None] = lambda name: None
) -> Place:
    """Move a partition to a node; where it is then. Repeat it after any failure.

    step: is told the name of each step before it is taken. Raises CenterError where there is no such
    partition or node, or another move came in between; DatabaseError; CenterUnreachable; LedgerError if the
    copy does not keep the ledger's rule, and then it is not used.
    """
    cluster.node(node)
    with open_table(cluster, number) as (stream, table, revision):
        place, target = table[number].place, table[number].target
        if target is None and place.node == node:
            return place
        if target is None or target.node != node:
            step("mark")
            target = Place(node, (target or place).generation + 1)
            table = table.changed(number, Assignment(place, target))
            revision = replace_table(stream, table, revision)
        old, new = cluster.node(place.node), cluster.node(target.node)
        step("fence")
        postgres.rename_ledger(old, place.schema(number), place.retired(number))
        step("copy")
        postgres.copy_ledger(old, place.retired(number), new, target.schema(number))
        with cluster.opened(number, target) as storage:
            Inquiry(storage).check()
        step("flip")
        replace_table(stream, table.changed(number, Assignment(target)), revision)
        return target


@contextmanager
def open_table(cluster: Cluster, number: int) -> Iterator[tuple[JetStream, Table, int]]:
    """Where partitions are, to be changed for the one of that number, and the table's revision. Raises
    CenterError if there is no such partition; CenterUnreachable."""
    with closing(JetStream(cluster.access("admin"))) as stream:
        table, revision = stream.table()
        if not 0 <= number < len(table):
            raise CenterError(
                f"There is no partition {number}.", hint=f"They are 0 to {len(table) - 1}."
            )
        yield stream, table, revision


def replace_table(stream: JetStream, table: Table, revision: int) -> int:
    """Put another table in the place of that revision; the new one's. Raises CenterError if somebody else
    has done so."""
    replaced = stream.replace_table(table, revision)
    if replaced is None:
        raise CenterError(
            "Somebody else changed where partitions are at the same time; this was not finished.",
            hint="See where they are: chipcash center partitions list. Then repeat it.",
        )
    return replaced

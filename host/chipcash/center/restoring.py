# SPDX-License-Identifier: Apache-2.0
"""Bringing a partition's ledger back, while the center runs: from a backup, from an older ledger that its
node has, or from nothing; and then forward by its log.

    mark     the table says where to, under a new generation; the worker takes no more
    fence    what the node still has is renamed, as when it moves: whoever did not hear of it finds no tables
    fill     a new schema gets the older ledger, and what its log has more; it is whole, checked, or not there
    flip     the table says that the partition is there; that node's worker goes on

Cut anywhere, it is ordered again, and begins with another generation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from chipcash.center import postgres
from chipcash.center.cluster import Cluster
from chipcash.center.errors import CenterError, LedgerError
from chipcash.center.facts import LedgerFacts
from chipcash.center.heads import Head, need_no_older
from chipcash.center.moving import open_table, replace_table
from chipcash.center.partitions import Assignment, Place
from chipcash.center.recovery import forget_receipts, recover
from chipcash.database import DatabaseError
from chipcash.home import Home
from chipcash.log.errors import LogError

__all__ = ["STEPS", "dump_folder", "restore"]

STEPS = ("mark", "fence", "fill", "flip")


def dump_folder(backup: Path, number: int) -> Path:
    """Where in a backup a partition's ledger is."""
    return backup / "partitions" / f"p{number:04}"


def restore(
    home: Home,
    number: int,
    *,
    backup: Path | None = None,
    node: str | None = None,
    lost: bool = False,
    step: Callable[[str], None] = lambda name: None,
) -> int | None:
    """Bring a partition's ledger to what its log, and the backup if one is given, hold; how many facts came
    from the log, None if the ledger had all of it, and was left alone.

    node: where to, by default where it is; lost: what its node has, if anything, is not to be used: it is
    gone for good or damaged. step: is told the name of each step before it is taken. Raises CenterError
    where the ledger cannot be reached and is not lost, or where somebody else changes the table; LedgerError
    if it is not of its log's history; AuditFailed, LogInvalid; DatabaseError, CenterUnreachable, OSError.
    """
    cluster = home.cluster()
    assert cluster is not None
    with open_table(cluster, number) as (stream, table, revision):
        place, target = table[number].place, table[number].target
        if backup is not None:
            postgres.dumped_facts(dump_folder(backup, number))
        if not lost and _has_all(home, cluster, number, place, backup):
            if target is not None:
                raise CenterError(
                    f"The ledger of partition {number} is whole, and on its way to {target.node}.",
                    hint=f"Finish that: chipcash center partitions move {number} {target.node}",
                )
            return None
        step("mark")
        newest = target or place
        new = Place(node or newest.node, newest.generation + 1)
        url = cluster.node(new.node)
        table = table.changed(number, Assignment(place, new))
        revision = replace_table(stream, table, revision)
        step("fence")
        old = _fence(cluster, number, place, lost)
        step("fill")
        schema = postgres.unnamed_schema(new.schema(number))
        if backup is not None:
            postgres.load_ledger(dump_folder(backup, number), url, schema)
        elif old is not None and not lost:
            postgres.copy_ledger(old, place.retired(number), url, schema)
        else:
            postgres.create_ledger(url, schema)
        taken = 0
        with closing(
            home.partition(number, len(table), postgres.PostgresStorage(url, schema))
        ) as ledger:
            reader = home.log_reader(number)
            with suppress(LogError), home.log(number) as log:
                log.publish_rest()  # else a gateway has it, and does so
            size = -1
            # A gateway may still have written what it had read before the fence.
            while (now := reader.checkpoint()[0].size) != size:
                size = now
                taken += recover(ledger, reader)
            with closing(home.home_ledger()) as above:
                forget_receipts(above, ledger)
        postgres.rename_ledger(url, schema, new.schema(number))
        step("flip")
        replace_table(stream, table.changed(number, Assignment(new)), revision)
        return taken


def _has_all(home: Home, cluster: Cluster, number: int, place: Place, backup: Path | None) -> bool:
    """Whether the ledger that a node has holds all that its log and the backup do. Raises CenterError where
    there is none."""
    try:
        storage = _opened(cluster, number, place)
    except DatabaseError as error:
        raise CenterError(
            f"The ledger of partition {number} on {place.node} cannot be looked at: {error.message}"
            " Nothing was changed.",
            hint="If it is gone for good, say so: --lost. What its log does not hold is then gone too.",
        ) from None
    with closing(storage):
        if backup is not None:
            (following,) = storage.row("SELECT next FROM sequence")
            if following - 1 < postgres.dumped_facts(dump_folder(backup, number)):
                return False
        try:
            facts = LedgerFacts(storage, home.trust().header)
            need_no_older(facts, Head.read(home.log_reader(number)), home.log_key(number))
        except LedgerError:
            return False
        return True


def _opened(cluster: Cluster, number: int, place: Place) -> postgres.PostgresStorage:
    """What a node has of a partition, also if it is fenced."""
    with suppress(DatabaseError):
        return cluster.storage(number, place)
    return postgres.PostgresStorage(cluster.node(place.node), place.retired(number))


def _fence(cluster: Cluster, number: int, place: Place, lost: bool) -> str | None:
    """Keep everybody out of what the node has; the node's URL, None if it is lost and does not answer."""
    try:
        url = cluster.node(place.node)
        postgres.rename_ledger(url, place.schema(number), place.retired(number))
        return url
    except (DatabaseError, CenterError):
        if not lost:
            raise
        return None

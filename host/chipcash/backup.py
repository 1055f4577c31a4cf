# SPDX-License-Identifier: Apache-2.0
"""A copy of a network's books and log while its center runs: what it holds, but no key.

The order is what makes it safe. The log first, then the ledger: a ledger that is newer than its log fills the
log up to the same entries, one that is older would pay money again. Then the banks' books, which may know of
orders that the ledger does not have, never the other way round.

Of a center of several ledgers each partition is copied so by itself, behind the home ledger, whose receipts
tell of nothing that a partition's copy could lack.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from chipcash import files
from chipcash.center.errors import CenterError
from chipcash.center.storage import is_postgres
from chipcash.database import DatabaseError
from chipcash.home import Home, LogFiles

if TYPE_CHECKING:
    from chipcash.center.cluster import Cluster  # needs what only a center of several ledgers has

__all__ = ["back_up"]

_PUBLIC = ("network.ccn", "log.pub", "bank.certificate", "parameters.json")
_BOOKS = ("issuing.db", "bank.db", "accounts.db", "staff.db")
_MOVING_S = 60.0
"""How long a partition that is just moving is waited for."""
_LOOK_S = 0.5


def back_up(home: Home, target: Path) -> bool:
    """Copy books and log of a network to a new directory; whether the ledger is among them: one in PostgreSQL
    is not, and has to be copied afterwards by its own tools. Partitions are.

    Raises CenterError if the directory holds something, CenterUnreachable, DatabaseError, OSError; what was
    copied is then incomplete, and has no network.ccn.
    """
    if target.exists() and any(target.iterdir()):
        raise CenterError(
            f"{target} is not empty; nothing was copied.",
            hint="Give each backup its own directory.",
        )
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = Home(target)
    _copy_log(home.log_files(), copy.log_files())
    ledger = home.ledger()
    if not is_postgres(ledger):
        _copy_books(Path(ledger), target / "ledger.db")
    cluster = home.cluster()
    if cluster is not None:
        _copy_partitions(home, cluster, copy)
    for name in _BOOKS:
        if (home.directory / name).is_file():
            _copy_books(home.directory / name, target / name)
    for name in reversed(_PUBLIC):
        if (home.directory / name).is_file():
            files.replace(target / name, (home.directory / name).read_bytes(), 0o644)
    return not is_postgres(ledger)


def _copy_books(source: Path, target: Path) -> None:
    """One commit of a SQLite file that others may be writing."""
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as one,
            closing(sqlite3.connect(target)) as other,
        ):
            other.execute("PRAGMA synchronous = FULL")
            one.backup(other)
            # As one file, with nothing beside it that could be forgotten; whoever opens it next changes that.
            other.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise DatabaseError(
            f"{source} could not be copied: {error}. It is unchanged.",
            hint="See that the disk has room, and repeat into another directory.",
            path=str(source),
        ) from None
    target.chmod(0o600)
    files.sync_folder(target.parent)


def _copy_partitions(home: Home, cluster: Cluster, copy: Home) -> None:
    """Each partition's log, then its ledger, wherever it is just then."""
    from chipcash.center import postgres
    from chipcash.center.jetstream import JetStream
    from chipcash.center.restoring import dump_folder

    with closing(JetStream(cluster.access("gateway"))) as stream:
        for number in range(cluster.partitions):
            there, to = home.log_files(number), copy.log_files(number)
            _copy_log(there, to)
            files.replace(to.key_string, there.key_string.read_bytes(), 0o644)
            until = time.monotonic() + _MOVING_S
            while True:
                assignment = stream.table()[0][number]
                place = assignment.place
                try:
                    schema = place.schema(number)
                    folder = dump_folder(copy.directory, number)
                    postgres.dump_ledger(cluster.node(place.node), schema, folder)
                    break
                except DatabaseError:
                    waits = assignment.target is not None and time.monotonic() < until
                    if not waits and stream.table()[0][number] == assignment:
                        raise
                    time.sleep(_LOOK_S)


def _copy_log(source: LogFiles, target: LogFiles) -> None:
    """The log as one of its heads says it is, while it grows.

    A file of the log, once it is there, never changes, but it may go when a longer one is there instead: then
    the head has moved, and the rest is copied again.
    """
    # What says which of the other files count, in the order in which they are read.
    pairs = (
        (source.public / "checkpoint", target.public / "checkpoint", 0o644),
        (source.entries / "head", target.entries / "head", 0o600),
    )
    while True:
        first = [path.read_bytes() for path, _, _ in pairs]
        _copy_new(source.public, target.public, 0o644)
        _copy_new(source.entries, target.entries, 0o600)
        if pairs[-1][0].read_bytes() == first[-1]:
            break
    for (_, to, mode), data in zip(pairs, first, strict=True):
        files.make_folder(to.parent)
        files.replace(to, data, mode)


def _copy_new(source: Path, target: Path, mode: int) -> None:
    for path in sorted(source.glob("tile/**/*")):
        to = target / path.relative_to(source)
        if path.name.startswith(".") or to.exists() or not path.is_file():
            continue
        files.make_folder(to.parent)
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a longer one has taken its place
            continue
        files.replace(to, data, mode)

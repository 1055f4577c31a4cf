# SPDX-License-Identifier: Apache-2.0
"""A copy of a network's books and log while its center runs: what it holds, but no key.

The order is what makes it safe. The log first, then the ledger: a ledger that is newer than its log fills the
log up to the same entries, one that is older would pay money again. Then the banks' books, which may know of
orders that the ledger does not have, never the other way round.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from chipcash import files
from chipcash.center.errors import CenterError
from chipcash.center.storage import is_postgres
from chipcash.database import DatabaseError
from chipcash.home import Home

__all__ = ["back_up"]

_PUBLIC = ("network.ccn", "log.pub", "bank.certificate", "parameters.json")
_BOOKS = ("issuing.db", "bank.db", "accounts.db", "staff.db")
_FIRST = (Path("public/checkpoint"), Path("entries/head"))
"""Of the log: what says which of the other files count, in the order in which they are read."""


def back_up(home: Home, target: Path) -> bool:
    """Copy books and log of a network to a new directory; whether the ledger is among them: one in PostgreSQL
    is not, and has to be copied afterwards by its own tools.

    Raises CenterError if the directory holds something, DatabaseError, OSError; what was copied is then
    incomplete, and has no network.ccn.
    """
    if target.exists() and any(target.iterdir()):
        raise CenterError(
            f"{target} is not empty; nothing was copied.",
            hint="Give each backup its own directory.",
        )
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy_log(home.directory / "log", target / "log")
    ledger = home.ledger()
    if not is_postgres(ledger):
        _copy_books(Path(ledger), target / "ledger.db")
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


def _copy_log(source: Path, target: Path) -> None:
    """The log as one of its heads says it is, while it grows.

    A file of the log, once it is there, never changes, but it may go when a longer one is there instead: then
    the head has moved, and the rest is copied again.
    """
    while True:
        first = [(name, (source / name).read_bytes()) for name in _FIRST]
        _copy_new(source, target)
        if (source / _FIRST[-1]).read_bytes() == first[-1][1]:
            break
    for name, data in first:
        files.make_folder((target / name).parent)
        files.replace(target / name, data, 0o644 if name.parts[0] == "public" else 0o600)


def _copy_new(source: Path, target: Path) -> None:
    for path in sorted(source.glob("*/tile/**/*")):
        to = target / path.relative_to(source)
        if path.name.startswith(".") or to.exists() or not path.is_file():
            continue
        files.make_folder(to.parent)
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a longer one has taken its place
            continue
        files.replace(to, data, 0o644 if to.is_relative_to(target / "public") else 0o600)

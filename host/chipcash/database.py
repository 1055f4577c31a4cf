# SPDX-License-Identifier: Apache-2.0
"""A small durable SQLite file: WAL mode, every commit synced, every write in one transaction; where it has a
key, encrypted by SQLCipher, with all that SQLite writes beside it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from chipcash.errors import ChipcashError

__all__ = ["Database", "DatabaseError", "Row", "connect", "driver", "statements"]

_WAIT_S = 30.0
"""How long to wait for whoever else has the file."""

Row = sqlite3.Row
"""A row: values by name or place; it unpacks."""


class DatabaseError(ChipcashError):
    """A file of books cannot be read or written. Nothing in it was changed."""

    exit_code = 18


def driver(key: bytes | None) -> ModuleType:
    """The module that opens files: Python's own, or where there is a key SQLCipher's, which is used alike."""
    if key is None:
        return sqlite3
    import sqlcipher3.dbapi2

    module: ModuleType = sqlcipher3.dbapi2
    return module


def connect(path: str | Path, key: bytes | None = None) -> sqlite3.Connection:
    """A connection on which transactions begin where they are begun. key: of an encrypted file, 32 bytes."""
    opened: sqlite3.Connection = driver(key).connect(
        path, isolation_level=None, check_same_thread=False, timeout=_WAIT_S
    )
    if key is not None:
        # What goes wrong is raised; it need not be written to stderr as well.
        opened.execute("PRAGMA cipher_log_level = NONE")
        # The key as it is, of which nothing has to be derived: opening takes no longer than without.
        opened.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        opened.execute("PRAGMA temp_store = MEMORY")
    return opened


class Database:
    """One SQLite file, safe to use from several threads and processes.

    path: the file, or ":memory:"; schema: the statements that make its tables, or what gives them once they
    are needed; version: of the schema; what: what it is to people, as in "The ledger"; create: whether to
    make the tables where there are none; older: what to do with one of an older version, if anything;
    key: under which it is encrypted, 32 bytes; upgrades: for older versions the statements that make the
    next of each.

    Reads see the last commit. A single write is durable when `execute` returns. What belongs together
    happens inside `transaction`, which takes the write lock at once (BEGIN IMMEDIATE), so that what was
    read there still holds when it is written. Everything here raises
    DatabaseError.
    """

    def __init__(
        self,
        path: str | Path,
        schema: Sequence[str] | Callable[[], Sequence[str]],
        *,
        version: int,
        what: str,
        create: bool = True,
        older: str = "",
        key: bytes | None = None,
        upgrades: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.path = path
        self.what = what
        self._lock = threading.RLock()
        self._driver = driver(key)
        try:
            self._db = connect(path, key)
        except self._driver.Error as error:
            raise self._failed(error) from None
        self._db.row_factory = self._driver.Row
        try:
            self._enter_wal()
            for pragma in ("synchronous = FULL", "foreign_keys = ON"):
                self.execute(f"PRAGMA {pragma}")
            if create and self._is_empty():
                needed = schema() if callable(schema) else schema
                with self.transaction():
                    # Another process may have been faster.
                    if self._is_empty():
                        for statement in needed:
                            self.execute(statement)
                        self.execute(f"PRAGMA user_version = {version}")
            self._upgrade(upgrades or {})
            (found,) = self.row("PRAGMA user_version")
        except BaseException:
            self._db.close()
            raise
        if found != version:
            self._db.close()
            raise DatabaseError(
                f"{what} in {path} has format {found}; this program knows {version}.",
                hint=older
                if older and 0 < found < version
                else "Use the version of chipcash that wrote it; if it has format 0 it is empty or"
                " damaged: restore its newest backup.",
                path=str(path),
            )

    def _upgrade(self, upgrades: Mapping[int, Sequence[str]]) -> None:
        """Bring an older version forward, each step whole or not at all."""
        while self.row("PRAGMA user_version")[0] in upgrades:
            with self.transaction():
                # Another process may have been faster.
                (found,) = self.row("PRAGMA user_version")
                for statement in upgrades.get(found, ()):
                    self.execute(statement)
                if found in upgrades:
                    self.execute(f"PRAGMA user_version = {found + 1}")

    def _enter_wal(self) -> None:
        """Journal mode WAL. SQLite does not wait where others do the same at the same time."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except self._driver.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise self._failed(error) from error
            except self._driver.Error as error:
                raise self._failed(error) from error
            time.sleep(0.01)

    def _is_empty(self) -> bool:
        return not self.row("SELECT count(*) FROM sqlite_schema")[0]

    def close(self) -> None:
        """Close the file. May be repeated."""
        with self._lock:
            self._db.close()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is under way."""
        return self._db.in_transaction

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute one statement."""
        try:
            return self._db.execute(statement, values)
        except self._driver.Error as error:
            raise self._failed(error) from error

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute one statement once for each row of values."""
        try:
            self._db.executemany(statement, rows)
        except self._driver.Error as error:
            raise self._failed(error) from error

    def all(self, statement: str, *values: Any) -> list[Row]:
        """All rows of a statement."""
        with self._lock:
            cursor = self.execute(statement, *values)
            try:
                return cursor.fetchall()
            except self._driver.Error as error:
                raise self._failed(error) from error

    def one(self, statement: str, *values: Any) -> Row | None:
        """The first row of a statement, or None."""
        rows = self.all(statement, *values)
        return rows[0] if rows else None

    def row(self, statement: str, *values: Any) -> Row:
        """The only row of a statement that has exactly one."""
        (row,) = self.all(statement, *values)
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, durable at the end; one at a time, also among processes."""
        with self._lock:
            try:
                self.execute("BEGIN IMMEDIATE")
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.rollback()
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Several reads that see one and the same commit."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self.execute("BEGIN")
            try:
                yield
            finally:
                self._db.rollback()

    def _failed(self, error: Exception) -> DatabaseError:
        if self._driver is not sqlite3 and "not a database" in str(error):
            return DatabaseError(
                f"{self.what} in {self.path} cannot be used: the key is another one's, or the file is"
                " damaged. Nothing in it was changed.",
                hint="See that key and file belong together; if the file is damaged, restore its newest"
                " backup. Do not start a new one over it.",
                path=str(self.path),
            )
        return DatabaseError(
            f"{self.what} in {self.path} cannot be used: {error}. Nothing in it was changed.",
            hint="See that the disk has room and is in order, then repeat: the same request never counts"
            " twice. If the file is damaged, restore its newest backup; do not start a new one over it.",
            path=str(self.path),
        )


def statements(script: str) -> list[str]:
    """The statements of a script, so that they run inside a transaction (executescript commits)."""
    found = []
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found

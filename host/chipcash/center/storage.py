# SPDX-License-Identifier: Apache-2.0
"""Where a ledger is kept: one SQLite file, or a PostgreSQL database (chipcash.center.postgres).

Both run the same statements: `?` stands for a value, and a set of rows that a statement joins with comes from
`given`. What differs is how rows get there and back, never what a statement means. The tables are those of
chipcash.center.migrations.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipcash.center.errors import LedgerError
from chipcash.database import Database, DatabaseError, connect

__all__ = [
    "Given",
    "Query",
    "Row",
    "SqliteStorage",
    "Storage",
    "is_postgres",
    "open_storage",
    "upgrade",
]

FORMAT = 3
"""PRAGMA user_version of a SQLite ledger of migrations.HEAD."""

UPGRADE = "Back it up, end its centers, then: chipcash center upgrade"
"""What to do with an older one."""

_CACHE_KIB = 65_536
"""Of a SQLite ledger's pages, for each connection. Serials are random, so that each claim is on other pages:
of the 2 MB that SQLite has by itself most would be read again."""

Row = Sequence[Any]
"""A row: values by place; it unpacks."""

Query = tuple[str, Sequence[Any]]
"""A statement and its values."""


@dataclass(frozen=True)
class Given:
    """Rows to join with: sql stands where a table does, values are what it takes."""

    sql: str
    values: Sequence[Any]


class Storage(ABC):
    """The ledger's database, safe to use from several threads and processes.

    Reads see the last commit. A single write is durable when `execute` returns. What belongs together
    happens inside `transaction`, of which there is one at a time, so that what was read there still holds
    when it is written. Everything here raises DatabaseError, and then nothing was changed; only an error
    when a transaction ends leaves open whether it counts, so that the request is to be repeated.
    """

    @abstractmethod
    def close(self) -> None:
        """End it. May be repeated."""

    @abstractmethod
    def execute(self, statement: str, *values: Any) -> None:
        """Execute one statement."""

    @abstractmethod
    def queries(self, queries: Sequence[Query]) -> list[list[Row]]:
        """The rows of each of several statements, in one round trip where there is a way to go."""

    @abstractmethod
    def insert(
        self, table: str, columns: Mapping[str, type], rows: Sequence[Row], conflict: str = ""
    ) -> None:
        """Insert rows at once. columns: names and types, bytes or int; conflict: what follows ON CONFLICT."""

    @abstractmethod
    def given(self, columns: Mapping[str, type], rows: Sequence[Row]) -> Given:
        """Rows as something to join with; columns as of insert, and `n`, which counts them from 0.

        Bytes of one column have one size in all rows.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing, durable at the end; one at a time, also among processes."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """Several reads that see one and the same commit."""

    def all(self, statement: str, *values: Any) -> list[Row]:
        """All rows of a statement."""
        return self.queries([(statement, values)])[0]

    def one(self, statement: str, *values: Any) -> Row | None:
        """The first row of a statement, or None."""
        rows = self.all(statement, *values)
        return rows[0] if rows else None

    def row(self, statement: str, *values: Any) -> Row:
        """The only row of a statement that has exactly one."""
        (row,) = self.all(statement, *values)
        return row


class SqliteStorage(Storage):
    """A ledger in one SQLite file: WAL mode, every commit synced. path: the file, or ":memory:".

    A file has a connection to write and one to read: who asks does not wait for a disk that takes its time
    with somebody's payment.
    """

    def __init__(self, path: str | Path) -> None:
        self._writer = self._open(path)
        self._reader = self._writer if str(path) == ":memory:" else self._open(path)
        self._local = threading.local()

    @staticmethod
    def _open(path: str | Path) -> Database:
        ledger = Database(path, _schema, version=FORMAT, what="The ledger", older=UPGRADE)
        ledger.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return ledger

    @property
    def _db(self) -> Database:
        """Within a transaction its own connection, else the one to read."""
        return self._writer if getattr(self._local, "writing", False) else self._reader

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def execute(self, statement: str, *values: Any) -> None:
        """As Storage."""
        self._writer.execute(statement, *values)

    def queries(self, queries: Sequence[Query]) -> list[list[Row]]:
        """As Storage."""
        return [list(self._db.all(statement, *values)) for statement, values in queries]

    def insert(
        self, table: str, columns: Mapping[str, type], rows: Sequence[Row], conflict: str = ""
    ) -> None:
        """As Storage."""
        if rows:
            places = ", ".join("?" * len(columns))
            after = f" ON CONFLICT {conflict}" if conflict else ""
            self._writer.execute_many(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}){after}", rows
            )

    def given(self, columns: Mapping[str, type], rows: Sequence[Row]) -> Given:
        """As Storage: integers travel as JSON, each column of bytes as one string that is cut again."""
        taken: list[str] = []
        values: list[bytes | str] = []
        numbers: list[Sequence[int]] = []
        for (name, kind), column in zip(columns.items(), _columns(columns, rows), strict=True):
            if kind is bytes:
                size = len(column[0]) if column else 0
                if any(len(each) != size for each in column):
                    raise ValueError(f"values of {name} differ in size")
                taken.append(f"substr(?, 1 + key * {size}, {size}) AS {name}")
                values.append(b"".join(column))
            else:
                taken.append(f"json_extract(value, '$[{len(numbers)}]') AS {name}")
                numbers.append(column)
        each = list(zip(*numbers, strict=True)) if numbers else [()] * len(rows)
        values.append(json.dumps(each))
        return Given(f"(SELECT key AS n, {', '.join(taken)} FROM json_each(?))", values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As Storage."""
        with self._writer.transaction():
            self._local.writing = True
            try:
                yield
            finally:
                self._local.writing = False

    def reading(self) -> AbstractContextManager[None]:
        """As Storage."""
        return self._db.reading()


def open_storage(where: str | Path) -> Storage:
    """The ledger at a URL: postgresql://USER@HOST/DATABASE, or the path of a SQLite file, or ":memory:".

    An empty database becomes an empty ledger. Raises DatabaseError if it cannot be used, or is of another
    version: see upgrade().
    """
    if is_postgres(where):
        from chipcash.center.postgres import PostgresStorage

        return PostgresStorage(str(where))
    return SqliteStorage(where)


def upgrade(where: str | Path) -> None:
    """Bring a ledger of an older version to this program's; one that has it already stays as it is.

    All or nothing; nobody may use it meanwhile. Raises DatabaseError, LedgerError where there is no ledger.
    """
    from chipcash.center import migrations

    if is_postgres(where):
        from chipcash.center import postgres

        postgres.upgrade(str(where))
        return
    if not Path(where).is_file():
        raise LedgerError(f"There is no ledger at {where}; none was begun.")
    try:
        with closing(connect(where)) as connection:
            migrations.upgrade(connection, "sqlite")
    except (sqlite3.Error, migrations.StepFailed) as error:
        raise DatabaseError(
            f"The ledger in {where} could not be brought up to date: {error.args[0]}. It is what it was.",
            hint="End the center that uses it, and repeat.",
            path=str(where),
        ) from None


def _schema() -> Sequence[str]:
    """What makes an empty ledger; alembic is loaded only where it is needed, for it takes half a second."""
    from chipcash.center import migrations

    return migrations.sqlite_schema()


def is_postgres(where: str | Path) -> bool:
    """Whether it is the URL of a PostgreSQL database."""
    return str(where).startswith(("postgresql://", "postgres://"))


def _columns(columns: Mapping[str, type], rows: Sequence[Row]) -> Sequence[Sequence[Any]]:
    """The values of each column."""
    return list(zip(*rows, strict=True)) if rows else [() for _ in columns]

# SPDX-License-Identifier: Apache-2.0
"""A ledger in PostgreSQL, by psycopg 3: rows travel as arrays, statements in pipelines.

However many claims a batch has, what deciding needs is read in one round trip, and what was decided is
written in another, with the commit; a few are for the deposit as a whole. Writers wait for each other at one
advisory lock: what a transaction decided then holds, also against other centers at the same database.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from chipcash import files
from chipcash.center import migrations
from chipcash.center.migrations import StepFailed
from chipcash.center.storage import UPGRADE, Given, Query, Row, Storage
from chipcash.database import DatabaseError

try:
    import psycopg
    import psycopg.sql
    from psycopg.pq import TransactionStatus
except ImportError as error:
    raise DatabaseError(
        f"A ledger in PostgreSQL needs the Python package psycopg: {error}.",
        hint="Run: pip install 'chipcash[postgres]'",
    ) from None

__all__ = [
    "DUMP_FILE",
    "PostgresStorage",
    "copy_ledger",
    "create_ledger",
    "dump_ledger",
    "dumped_facts",
    "load_ledger",
    "rename_ledger",
    "schemas",
    "unnamed_schema",
    "upgrade",
]

DUMP_FILE = "ledger.json"
"""In the folder of a copied ledger: its version, number of facts, tables and columns. Written last."""

_LOCK = 0x63686970_63617368
_LOCKED = "hashtextextended(current_schema(), %s)"
"""The advisory lock of who writes to the ledger, one for each schema of a database: seeded by "chipcash"."""

_CONNECT_S = 5
_CONNECTIONS = 16
_TYPES = {bytes: "bytea[]", int: "bigint[]"}


class PostgresStorage(Storage):
    """A ledger in the PostgreSQL database of a URL (libpq's, postgresql://…).

    schema: the one that holds it, if it has one of its own; that is there already, see create_schema().
    """

    def __init__(self, url: str, schema: str | None = None) -> None:
        self._where = _shown(url)
        if schema is not None:
            self._where += f", schema {schema}"
            url = _within(url, schema)
        self._local = threading.local()
        self._create_if_empty(url)
        self._url = url
        self._idle: list[psycopg.Connection[Any]] = []
        self._room = threading.Semaphore(_CONNECTIONS)

    def _create_if_empty(self, url: str) -> None:
        """Make the tables where there are none; refuse those of another version."""
        with _told(self._where), psycopg.connect(url, connect_timeout=_CONNECT_S) as connection:
            (schema,) = connection.execute("SELECT current_schema()").fetchone() or (None,)
            if schema is None:
                raise DatabaseError(
                    f"There is no ledger in {self._where}: it was never made there, or it moved away.",
                    hint="Ask where it is: chipcash center partitions list",
                )
            connection.execute(f"SELECT pg_advisory_lock({_LOCKED})", [_LOCK])
            if _version(connection) is None:
                migrations.upgrade(connection, "postgresql+psycopg")
            found = _version(connection)
        if found != migrations.HEAD:
            raise DatabaseError(
                f"The ledger in {self._where} has version {found}; this program knows {migrations.HEAD}.",
                hint=UPGRADE
                if str(found) < migrations.HEAD
                else "Use the version of chipcash that wrote it.",
            )

    def close(self) -> None:
        """Close all connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def execute(self, statement: str, *values: Any) -> None:
        """As Storage."""
        with self._connection() as connection:
            connection.execute(_sql(statement), values)

    def queries(self, queries: Sequence[Query]) -> list[list[Row]]:
        """As Storage."""
        with self._connection() as connection:
            if len(queries) == 1:
                statement, values = queries[0]
                return [list(connection.execute(_sql(statement), values, binary=True))]
            with connection.pipeline():
                cursors = [
                    connection.execute(_sql(statement), values, binary=True)
                    for statement, values in queries
                ]
                return [cursor.fetchall() for cursor in cursors]

    def insert(
        self, table: str, columns: Mapping[str, type], rows: Sequence[Row], conflict: str = ""
    ) -> None:
        """As Storage."""
        if rows:
            given = self.given(columns, rows)
            names = ", ".join(columns)
            after = f" ON CONFLICT {conflict}" if conflict else ""
            self.execute(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM {given.sql} AS rows{after}",
                *given.values,
            )

    def given(self, columns: Mapping[str, type], rows: Sequence[Row]) -> Given:
        """As Storage: rows travel as one array for each column, in binary: as text it costs double."""
        arrays = ", ".join(f"%b::{_TYPES[kind]}" for kind in columns.values())
        names = ", ".join(columns)
        return Given(
            f"(SELECT ordinality - 1 AS n, {names} FROM unnest({arrays}) WITH ORDINALITY"
            f" AS given({names}, ordinality))",
            [[row[at] for row in rows] for at in range(len(columns))],
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As Storage."""
        with self._connection() as connection, connection.pipeline(), connection.transaction():
            connection.execute(f"SELECT pg_advisory_xact_lock({_LOCKED})", [_LOCK])
            # All goes by keys here; a table without statistics would have the planner read all of it.
            connection.execute("SET LOCAL enable_seqscan = off")
            with self._kept(connection):
                yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """As Storage."""
        if getattr(self._local, "connection", None) is not None:
            yield
            return
        with self._connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            with self._kept(connection):
                yield

    @contextmanager
    def _kept(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Have this thread use the connection for everything."""
        self._local.connection = connection
        try:
            yield
        finally:
            self._local.connection = None

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection of this thread's transaction, else any."""
        kept = getattr(self._local, "connection", None)
        with _told(self._where):
            if kept is not None:
                yield kept
                return
            with self._room:
                try:
                    connection = self._idle.pop()
                except IndexError:
                    connection = self._connect()
                try:
                    yield connection
                finally:
                    if connection.info.transaction_status == TransactionStatus.IDLE:
                        self._idle.append(connection)
                    else:
                        connection.close()
                        self.close()  # those that are idle may have lost the same server

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_S)
        try:
            _configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def schemas(url: str) -> set[str]:
    """The names of a database's schemas. Raises DatabaseError."""
    with _told(_shown(url)), psycopg.connect(url, connect_timeout=_CONNECT_S) as connection:
        return {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}


def create_ledger(url: str, schema: str) -> None:
    """Make an empty ledger in a schema of its own, unless it is there. Raises DatabaseError."""
    with _told(_shown(url)), psycopg.connect(url, connect_timeout=_CONNECT_S) as connection:
        connection.execute(_schema_sql("CREATE SCHEMA IF NOT EXISTS {}", schema))
    PostgresStorage(url, schema).close()


def rename_ledger(url: str, schema: str, name: str) -> None:
    """Rename a ledger's schema, if it is there, while nobody writes to it: who knows the old name finds no
    ledger any more. Raises DatabaseError."""
    with (
        _told(_shown(url)),
        psycopg.connect(_within(url, schema), connect_timeout=_CONNECT_S) as connection,
    ):
        connection.execute(f"SELECT pg_advisory_xact_lock({_LOCKED})", [_LOCK])
        found = connection.execute("SELECT current_schema()").fetchone()
        if found is not None and found[0] is not None:
            connection.execute(_schema_sql("ALTER SCHEMA {} RENAME TO {}", schema, name))


def copy_ledger(source: str, source_schema: str, url: str, schema: str) -> None:
    """Copy a ledger that nobody writes to; does nothing if the schema is there. Raises DatabaseError.

    The schema gets its name in the transaction that fills it: it is whole or not there.
    """
    if schema in schemas(url):
        return
    with (
        _told(_shown(source)),
        psycopg.connect(_within(source, source_schema), connect_timeout=_CONNECT_S) as given,
    ):
        given.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        _fill(url, schema, lambda table, columns: _copied(given, table, columns))


def dump_ledger(url: str, schema: str, folder: Path) -> None:
    """Copy a ledger as one commit has it into a new folder, while others write to it. Raises DatabaseError,
    OSError; what was copied is then incomplete, and has no DUMP_FILE."""
    PostgresStorage(url, schema).close()  # there is one, of this program's version
    files.make_folder(folder)
    with (
        _told(_shown(url)),
        psycopg.connect(_within(url, schema), connect_timeout=_CONNECT_S) as given,
    ):
        given.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tables = _tables(given, schema)
        for table, columns in tables.items():
            with (folder / f"{table}.copy").open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                for data in _copied(given, table, columns):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
        (following,) = given.execute("SELECT next FROM sequence").fetchone() or (1,)
    told = {"version": migrations.HEAD, "facts": following - 1, "tables": tables}
    files.replace(folder / DUMP_FILE, (json.dumps(told, indent=1) + "\n").encode())


def load_ledger(folder: Path, url: str, schema: str) -> None:
    """Make a ledger in a new schema from such a folder. Raises DatabaseError, OSError, and then the schema is
    not there."""
    told = _dumped(folder)
    if told["version"] != migrations.HEAD:
        raise DatabaseError(
            f"The ledger in {folder} has version {told['version']}; this program knows {migrations.HEAD}.",
            hint="Restore it with the version of chipcash that copied it, then: chipcash center upgrade",
        )

    def copied(table: str, _: Sequence[str]) -> Iterator[bytes]:
        with (folder / f"{table}.copy").open("rb") as file:
            while data := file.read(1 << 16):
                yield data

    _fill(url, schema, copied, told["tables"])


def dumped_facts(folder: Path) -> int:
    """How many facts the ledger in such a folder has. Raises DatabaseError."""
    return int(_dumped(folder)["facts"])


def _dumped(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / DUMP_FILE).read_bytes())
        return found
    except (OSError, ValueError):
        raise DatabaseError(
            f"{folder} holds no copy of a ledger, or one that was cut off.",
            hint="Name the directory of a complete backup.",
            path=str(folder),
        ) from None


def _tables(connection: psycopg.Connection[Any], schema: str) -> dict[str, list[str]]:
    """The columns of a ledger's tables; what refers to coins comes behind them."""
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s"
        " ORDER BY table_name <> 'coins', table_name, ordinal_position",
        [schema],
    ):
        found.setdefault(table, []).append(column)
    return found


def _copied(
    connection: psycopg.Connection[Any], table: str, columns: Sequence[str]
) -> Iterator[bytes]:
    with connection.cursor().copy(_copy_sql("COPY {} ({}) TO STDOUT", table, columns)) as read:
        for data in read:
            yield bytes(data)


def _fill(
    url: str,
    schema: str,
    copied: Callable[[str, Sequence[str]], Iterator[bytes]],
    tables: dict[str, list[str]] | None = None,
) -> None:
    """Make a ledger's schema out of what copied() gives of each table and its columns."""
    # A name of its own, which nobody else fills at the same time. One that was cut off is garbage.
    unnamed = unnamed_schema(schema)
    create_ledger(url, unnamed)
    with (
        _told(_shown(url)),
        psycopg.connect(_within(url, unnamed), connect_timeout=_CONNECT_S) as taken,
    ):
        for table, columns in (tables or _tables(taken, unnamed)).items():
            taken.execute(_schema_sql("DELETE FROM {}", table))
            into = _copy_sql("COPY {} ({}) FROM STDIN", table, columns)
            with taken.cursor().copy(into) as write:
                for data in copied(table, columns):
                    write.write(data)
        taken.execute(_schema_sql("ALTER SCHEMA {} RENAME TO {}", unnamed, schema))


def unnamed_schema(schema: str) -> str:
    """A name for what is to become that schema: of nobody else, and garbage if it is left behind."""
    return f"{schema}_copy_{secrets.token_hex(4)}"


def _copy_sql(statement: str, table: str, columns: Sequence[str]) -> psycopg.sql.Composed:
    listed = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, columns))
    return psycopg.sql.SQL(statement + " (FORMAT BINARY)").format(
        psycopg.sql.Identifier(table), listed
    )


def _schema_sql(statement: str, *names: str) -> psycopg.sql.Composed:
    return psycopg.sql.SQL(statement).format(*map(psycopg.sql.Identifier, names))


def _within(url: str, schema: str) -> str:
    """The URL of a database's schema."""
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"


def upgrade(url: str, schema: str | None = None) -> None:
    """Bring the ledger at a URL, in a schema of its own, to this program's version. Raises DatabaseError."""
    if schema is not None:
        url = _within(url, schema)
    with _told(_shown(url)), psycopg.connect(url, connect_timeout=_CONNECT_S) as connection:
        connection.execute(f"SELECT pg_advisory_lock({_LOCKED})", [_LOCK])
        migrations.upgrade(connection, "postgresql+psycopg")


def _configure(connection: psycopg.Connection[Any]) -> None:
    """A commit waits for the disk, and for the standbys if there are synchronous ones."""
    (found,) = connection.execute("SHOW synchronous_commit").fetchone() or ("",)
    if found in ("off", "local"):
        connection.execute("SET synchronous_commit = on")
    # Short statements, which what is said of sequential scans below makes look long.
    connection.execute("SET jit = off")


def _version(connection: psycopg.Connection[Any]) -> str | None:
    """The ledger's version, None where there is none."""
    row = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if row is None or row[0] is None:
        return None
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if found is None else str(found[0])


def _sql(statement: str) -> Any:
    """A statement of the ledger as psycopg wants it: no value is ever part of one."""
    return statement.replace("?", "%s")


def _shown(url: str) -> str:
    """The URL without its password."""
    with suppress(psycopg.Error):
        found = psycopg.conninfo.conninfo_to_dict(url)
        return f"PostgreSQL's {found.get('dbname', 'database')} at {found.get('host', 'localhost')}"
    return "PostgreSQL"


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Whatever the database says as a DatabaseError."""
    try:
        yield
    except (psycopg.Error, StepFailed) as error:
        raise DatabaseError(
            f"The ledger in {where} cannot be used: {str(error).strip()}",
            hint="See that the database runs, and repeat: the same request never counts twice.",
        ) from None

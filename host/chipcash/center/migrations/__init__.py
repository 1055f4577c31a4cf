# SPDX-License-Identifier: Apache-2.0
"""The ledger's schema, as alembic brings it from each version to the next: on SQLite and on PostgreSQL.

HEAD is the newest version. A ledger is made, and an old one brought up to date, by the same steps.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import SQLAlchemyError as StepFailed
from sqlalchemy.pool import StaticPool

__all__ = ["HEAD", "StepFailed", "sqlite_schema", "upgrade"]

HEAD = "0002"


def upgrade(connection: Any, dialect: str, to: str = HEAD) -> None:
    """Bring the ledger behind a driver's connection to a version, all in one transaction.

    dialect: sqlite, or postgresql+psycopg. A SQLite file without alembic's own table has format 2, which is
    version 0001. Raises StepFailed or what the driver does; then nothing was changed.
    """
    engine = sa.create_engine(f"{dialect}://", creator=lambda: connection, poolclass=StaticPool)
    config = Config()
    config.set_main_option("script_location", "chipcash.center:migrations")
    with engine.connect() as wrapped:
        config.attributes["connection"] = wrapped
        if dialect == "sqlite":
            # sqlite3 begins no transaction by itself here, and alembic none for tables in SQLite.
            connection.execute("BEGIN IMMEDIATE")
            tables = sa.inspect(wrapped).get_table_names()
            if "coins" in tables and "alembic_version" not in tables:
                command.stamp(config, "0001")
        command.upgrade(config, to)
        wrapped.commit()


@cache
def sqlite_schema() -> tuple[str, ...]:
    """The statements that make an empty ledger in SQLite, as the steps make it, which take a tenth of a
    second."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        upgrade(made, "sqlite")
        _begin, *statements, _commit = made.iterdump()
    return tuple(statements)

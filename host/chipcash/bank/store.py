# SPDX-License-Identifier: Apache-2.0
"""A small durable SQLite file, as the libraries of banks use it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Store"]


class Store:
    """One SQLite file; each transaction is durable when it ends."""

    def __init__(self, path: str | Path, schema: Sequence[str]) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self.transaction():
            for statement in schema:
                self.rows(statement)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Execute one statement; its rows."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def row(self, statement: str, *values: Any) -> Any:
        """Execute one statement; its first row or None."""
        found = self.rows(statement, *values)
        return found[0] if found else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

# SPDX-License-Identifier: Apache-2.0
"""The POS's books on disk: SQLite in WAL mode, every commit synced, every write in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chipcash.pos.errors import PosError

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- A request is stored before it is sent. OPEN: a card may have answered it.
CREATE TABLE requests (
  id INTEGER PRIMARY KEY,
  nonce BLOB NOT NULL UNIQUE,
  data BLOB NOT NULL,
  amount INTEGER NOT NULL CHECK (amount > 0),
  time INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('OPEN', 'ANSWERED', 'VOIDED', 'CANCELLED')),
  card BLOB,               -- the only card that may answer, once one is known
  refused TEXT,            -- why the last answer was not accepted
  void BLOB,
  void_sent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX open_requests ON requests (amount) WHERE state = 'OPEN';
CREATE INDEX unsent_voids ON requests (id) WHERE state = 'VOIDED' AND void_sent = 0;

-- What goes to the center, as the very bytes that are sent, and sent again until a receipt is there.
CREATE TABLE deposits (
  id INTEGER PRIMARY KEY,
  nonce BLOB NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('PAYMENTS', 'SPEND', 'REFUND', 'REDEEM')),
  data BLOB NOT NULL,
  amount INTEGER NOT NULL,
  time INTEGER NOT NULL,
  payee BLOB,              -- of a SPEND, REFUND or REDEEM
  reference TEXT UNIQUE,   -- the caller's, so that a repeated order is the same order
  refund_of BLOB REFERENCES payments (claim_id),
  settled_fen INTEGER,     -- NULL until the receipt is there
  receipt BLOB
) STRICT;
CREATE INDEX unsettled_deposits ON deposits (id) WHERE receipt IS NULL;
CREATE INDEX refunds ON deposits (refund_of) WHERE refund_of IS NOT NULL;

CREATE TABLE payments (
  id INTEGER PRIMARY KEY,
  claim_id BLOB NOT NULL UNIQUE,
  nonce BLOB NOT NULL UNIQUE REFERENCES requests (nonce),
  data BLOB NOT NULL,
  amount INTEGER NOT NULL CHECK (amount > 0),
  payer BLOB NOT NULL,
  time INTEGER NOT NULL,
  deadline INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN
    ('PENDING', 'SUBMITTED', 'VERIFIED', 'DISPUTED', 'EXPIRED', 'REDEEMED', 'SPENT')),
  deposit BLOB REFERENCES deposits (nonce),
  settled_fen INTEGER NOT NULL DEFAULT 0 CHECK (settled_fen >= 0),
  disputed_fen INTEGER NOT NULL DEFAULT 0 CHECK (disputed_fen >= 0),
  reason TEXT NOT NULL DEFAULT '',
  CHECK (settled_fen + disputed_fen <= amount)
) STRICT;
CREATE INDEX payments_by_state ON payments (state, deadline);

-- Verified money. Below the pointer it is claimed; nothing below it is ever signed again.
CREATE TABLE titles (
  title_id BLOB PRIMARY KEY,
  data BLOB NOT NULL,
  serial BLOB NOT NULL,
  lo INTEGER NOT NULL,
  hi INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  expiry INTEGER NOT NULL,
  pointer INTEGER NOT NULL CHECK (pointer BETWEEN lo AND hi)
) STRICT, WITHOUT ROWID;
CREATE INDEX titles_by_serial ON titles (serial, lo);

-- What became of slices of those titles that were claimed away. settled: NULL until the receipt is there.
CREATE TABLE spends (
  title_id BLOB NOT NULL REFERENCES titles (title_id),
  lo INTEGER NOT NULL,
  hi INTEGER NOT NULL,
  deposit BLOB NOT NULL REFERENCES deposits (nonce),
  settled INTEGER,
  PRIMARY KEY (title_id, lo)
) STRICT, WITHOUT ROWID;
CREATE INDEX spends_by_deposit ON spends (deposit);

-- Which slice of which title a payment's settled interval became. title_id: NULL until it is here.
CREATE TABLE parts (
  claim_id BLOB NOT NULL REFERENCES payments (claim_id),
  serial BLOB NOT NULL,
  lo INTEGER NOT NULL,
  hi INTEGER NOT NULL,
  title_id BLOB REFERENCES titles (title_id),
  PRIMARY KEY (claim_id, serial, lo)
) STRICT, WITHOUT ROWID;
CREATE INDEX parts_by_title ON parts (title_id);

CREATE TABLE blacklist (
  sequence INTEGER PRIMARY KEY,
  subject BLOB NOT NULL,
  data BLOB NOT NULL
) STRICT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection on which transactions begin where they are begun."""
    return sqlite3.connect(path, isolation_level=None)


class Store:
    """One connection to the books.

    Reads see the last commit. Writes happen inside `transaction`, which takes the write lock at once
    (BEGIN IMMEDIATE), so that what was read there still holds when it is written.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.db = connect(path)
        self.db.row_factory = sqlite3.Row
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.execute("PRAGMA foreign_keys = ON")
            self.db.execute("PRAGMA busy_timeout = 10000")
            if create:
                with self.transaction():
                    for statement in _statements(_SCHEMA):
                        self.db.execute(statement)
                    self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise PosError(
                f"The books of this POS cannot be read: {error}.",
                hint="Restore the newest backup of its folder; do not start a new one over it.",
                path=str(path),
            ) from None
        if version != SCHEMA_VERSION:
            self.db.close()
            raise PosError(
                f"The books of this POS have format {version}, this program knows {SCHEMA_VERSION}.",
                hint="Use the version of chipcash that wrote them.",
                path=str(path),
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, durable at the end."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield self.db
            self.db.execute("COMMIT")
        except BaseException as error:
            if self.db.in_transaction:
                self.db.rollback()
            if not isinstance(error, sqlite3.Error):
                raise
            raise PosError(
                f"The books of this POS could not be written: {error}. Nothing in them was changed.",
                hint="See that the disk has room and is in order, then repeat; a card that has paid gives "
                "the same answer to the same request again.",
            ) from error

    def get(self, name: str, default: str = "") -> str:
        """A setting."""
        row = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return default if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        """Write a setting; inside a transaction."""
        self.db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def close(self) -> None:
        """Close the file. May be repeated."""
        self.db.close()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, so that they run inside a transaction (executescript commits)."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""

# SPDX-License-Identifier: Apache-2.0
"""The POS's books on disk."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chipcash import files
from chipcash.database import Database, DatabaseError, driver, statements
from chipcash.errors import ChipcashError
from chipcash.pos import keys
from chipcash.pos.mirror import (
    LOG_LIMIT,
    MirrorError,
    MirrorState,
    Position,
    Target,
    first,
    mirror_at,
    seal,
    snapshot,
    taken,
    unwritable,
)

SCHEMA_VERSION = 3

_PENDING = """
-- How much is pending, kept by the payments themselves, so that limits cost nothing however long the queue
-- is. kind: all, of 0; shift, of its number or 0 for none; card, of its key.
CREATE TABLE exposure (
  kind TEXT NOT NULL CHECK (kind IN ('all', 'shift', 'card')),
  of ANY NOT NULL,
  fen INTEGER NOT NULL CHECK (fen >= 0),
  PRIMARY KEY (kind, of)
) STRICT, WITHOUT ROWID;
CREATE INDEX most_exposed ON exposure (kind, fen);
CREATE TRIGGER payment_pending AFTER INSERT ON payments
WHEN NEW.state IN ('PENDING', 'SUBMITTED')
BEGIN
  INSERT INTO exposure VALUES
    ('all', 0, NEW.amount),
    ('shift', ifnull((SELECT shift FROM requests WHERE nonce = NEW.nonce), 0), NEW.amount),
    ('card', NEW.payer, NEW.amount)
  ON CONFLICT (kind, of) DO UPDATE SET fen = fen + excluded.fen;
END;
CREATE TRIGGER payment_not_pending AFTER UPDATE OF state ON payments
WHEN OLD.state IN ('PENDING', 'SUBMITTED') AND NEW.state NOT IN ('PENDING', 'SUBMITTED')
BEGIN
  UPDATE exposure SET fen = fen - OLD.amount WHERE kind = 'all' AND of = 0;
  UPDATE exposure SET fen = fen - OLD.amount WHERE kind = 'shift'
    AND of = ifnull((SELECT shift FROM requests WHERE nonce = OLD.nonce), 0);
  UPDATE exposure SET fen = fen - OLD.amount WHERE kind = 'card' AND of = OLD.payer;
  DELETE FROM exposure WHERE kind = 'card' AND of = OLD.payer AND fen = 0;
END;

-- A payment with what its request knows of how it came.
CREATE VIEW received AS
  SELECT payments.*, requests.operator, requests.shift, requests.link, requests.reference
  FROM payments LEFT JOIN requests USING (nonce);
"""
"""What is pending in all, and payments with their requests."""

_PROMISES = """
-- Refunds of payments that were pending when they were promised. PROMISED: not begun; SENT: the refund is
-- stored, its receipt outstanding; KEPT: all of it is paid; PARTLY, CANCELLED: less, or nothing, could be.
CREATE TABLE promises (
  id INTEGER PRIMARY KEY,
  nonce BLOB NOT NULL UNIQUE,
  claim_id BLOB NOT NULL REFERENCES payments (claim_id),
  data BLOB NOT NULL,
  amount INTEGER NOT NULL CHECK (amount > 0),
  time INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('PROMISED', 'SENT', 'KEPT', 'PARTLY', 'CANCELLED')),
  deposit BLOB UNIQUE REFERENCES deposits (nonce),  -- the refund that carries it out
  paid_fen INTEGER NOT NULL DEFAULT 0 CHECK (paid_fen BETWEEN 0 AND amount),
  not_before INTEGER NOT NULL DEFAULT 0,  -- a refund that came too late is made again from then on
  reason TEXT NOT NULL DEFAULT '',
  reference TEXT UNIQUE,
  operator TEXT NOT NULL DEFAULT '',
  shift INTEGER REFERENCES shifts (id),
  CHECK ((deposit IS NULL) OR state <> 'PROMISED')
) STRICT;
CREATE INDEX promises_by_payment ON promises (claim_id);
CREATE INDEX promises_to_keep ON promises (id) WHERE state = 'PROMISED';
"""

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Who has the till. report: of a closed shift its Z report, written as it was closed.
CREATE TABLE shifts (
  id INTEGER PRIMARY KEY,
  opened INTEGER NOT NULL,
  opened_by TEXT NOT NULL,
  closed INTEGER,
  closed_by TEXT,
  report TEXT,
  CHECK ((closed IS NULL) = (closed_by IS NULL) AND (closed IS NULL) = (report IS NULL))
) STRICT;
CREATE UNIQUE INDEX open_shift ON shifts (closed IS NULL) WHERE closed IS NULL;

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
  expiry INTEGER,          -- of a bill: until when it is paid; NULL where a card was tapped
  void BLOB,
  void_sent INTEGER NOT NULL DEFAULT 0,
  operator TEXT NOT NULL DEFAULT '',
  shift INTEGER REFERENCES shifts (id),
  link TEXT NOT NULL DEFAULT '',      -- a transport's name, or qr
  reference TEXT UNIQUE               -- the caller's, so that a repeated charge is the same charge
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
  settled_time INTEGER,
  receipt BLOB,
  operator TEXT NOT NULL DEFAULT '',
  shift INTEGER REFERENCES shifts (id)
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
  tier INTEGER,            -- of the card
  CHECK (settled_fen + disputed_fen <= amount)
) STRICT;
CREATE INDEX payments_by_deadline ON payments (state, deadline);
CREATE INDEX payments_by_time ON payments (state, time);
CREATE INDEX payments_by_number ON payments (state);
CREATE INDEX payments_by_amount ON payments (state, amount);
CREATE INDEX payments_by_deposit ON payments (deposit) WHERE deposit IS NOT NULL;

{_PENDING}
-- Every change of a payment's state, in their order. before: NULL when it was received.
CREATE TABLE changes (
  id INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  claim_id BLOB NOT NULL REFERENCES payments (claim_id),
  before TEXT,
  after TEXT NOT NULL
) STRICT;
CREATE INDEX changes_by_payment ON changes (claim_id);

{_PROMISES}
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
CREATE INDEX unplaced_parts ON parts (claim_id) WHERE title_id IS NULL;

-- Whom changes are told, and up to which one each has taken them. tries, error: of the one that is next. A
-- number is never used again: who tells a hook that was removed must not find another one in its place.
CREATE TABLE hooks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  url TEXT NOT NULL UNIQUE,
  ca TEXT NOT NULL,        -- a file with who certifies it, or empty
  secret BLOB NOT NULL,
  told INTEGER NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  error TEXT NOT NULL DEFAULT '',
  gone INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE blacklist (
  sequence INTEGER PRIMARY KEY,
  subject BLOB NOT NULL,
  data BLOB NOT NULL
) STRICT;
"""


_UPGRADES = {
    2: f"""
CREATE TABLE shifts (
  id INTEGER PRIMARY KEY,
  opened INTEGER NOT NULL,
  opened_by TEXT NOT NULL,
  closed INTEGER,
  closed_by TEXT,
  report TEXT,
  CHECK ((closed IS NULL) = (closed_by IS NULL) AND (closed IS NULL) = (report IS NULL))
) STRICT;
CREATE UNIQUE INDEX open_shift ON shifts (closed IS NULL) WHERE closed IS NULL;
ALTER TABLE requests ADD COLUMN operator TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN shift INTEGER REFERENCES shifts (id);
ALTER TABLE requests ADD COLUMN link TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN reference TEXT;
CREATE UNIQUE INDEX requests_by_reference ON requests (reference);
ALTER TABLE deposits ADD COLUMN settled_time INTEGER;
ALTER TABLE deposits ADD COLUMN operator TEXT NOT NULL DEFAULT '';
ALTER TABLE deposits ADD COLUMN shift INTEGER REFERENCES shifts (id);
ALTER TABLE payments ADD COLUMN tier INTEGER;
DROP INDEX payments_by_state;
CREATE INDEX payments_by_deadline ON payments (state, deadline);
CREATE INDEX payments_by_time ON payments (state, time);
CREATE INDEX payments_by_number ON payments (state);
CREATE INDEX payments_by_amount ON payments (state, amount);
CREATE INDEX payments_by_deposit ON payments (deposit) WHERE deposit IS NOT NULL;
CREATE INDEX unplaced_parts ON parts (claim_id) WHERE title_id IS NULL;
{_PENDING}
INSERT INTO exposure SELECT 'all', 0, sum(amount) FROM payments
  WHERE state IN ('PENDING', 'SUBMITTED') HAVING count(*) > 0;
INSERT INTO exposure SELECT 'shift', 0, sum(amount) FROM payments
  WHERE state IN ('PENDING', 'SUBMITTED') HAVING count(*) > 0;
INSERT INTO exposure SELECT 'card', payer, sum(amount) FROM payments
  WHERE state IN ('PENDING', 'SUBMITTED') GROUP BY payer;
CREATE TABLE changes (
  id INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  claim_id BLOB NOT NULL REFERENCES payments (claim_id),
  before TEXT,
  after TEXT NOT NULL
) STRICT;
CREATE INDEX changes_by_payment ON changes (claim_id);
{_PROMISES}
CREATE TABLE hooks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  url TEXT NOT NULL UNIQUE,
  ca TEXT NOT NULL,        -- a file with who certifies it, or empty
  secret BLOB NOT NULL,
  told INTEGER NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  error TEXT NOT NULL DEFAULT '',
  gone INTEGER NOT NULL DEFAULT 0
) STRICT;
-- What is known of how the payments came to their states: when they were received, and sent.
INSERT INTO changes (time, claim_id, before, after)
  SELECT at, claim_id, before, after FROM (
    SELECT id, 0 AS step, time AS at, claim_id, NULL AS before, 'PENDING' AS after FROM payments
    UNION ALL
    SELECT payments.id, step, ifnull(deposits.time, payments.time), claim_id, before, ifnull(after, state)
      FROM payments LEFT JOIN deposits ON deposits.nonce = payments.deposit
      JOIN (
        SELECT 1 AS step, 'PENDING' AS before, 'SUBMITTED' AS after, 'SUBMITTED' AS of
        UNION ALL SELECT 1, 'PENDING', 'SUBMITTED', 'LATER'
        UNION ALL SELECT 2, 'SUBMITTED', NULL, 'LATER'
        UNION ALL SELECT 1, 'PENDING', 'SUBMITTED', 'LEFT'
        UNION ALL SELECT 2, 'SUBMITTED', 'VERIFIED', 'LEFT'
        UNION ALL SELECT 3, 'VERIFIED', NULL, 'LEFT'
      ) AS steps ON steps.of = CASE
        WHEN state IN ('REDEEMED', 'SPENT') THEN 'LEFT'
        WHEN state IN ('PENDING', 'SUBMITTED') THEN state ELSE 'LATER' END
  ) ORDER BY id, step;
UPDATE deposits SET settled_time = time WHERE receipt IS NOT NULL;
""",
}
"""What makes of an older version the next one. Written once and then never changed."""
_UNMIRRORED = "UPDATE meta SET value = '' WHERE name = 'mirror_at'"
"""A mirror follows statements, not a change of the tables: after that it begins anew."""

_READS = ("SELECT", "PRAGMA", "BEGIN", "COMMIT")
"""How statements begin that change no data."""
_PLAIN = b"SQLite format 3\0"
_MOVED = -1
"""Version of a file that was left behind: no program opens it."""


class Store(Database):
    """The books of a POS, encrypted under a key of 32 bytes. create: make them, in a file that is not there
    yet. Books of older versions are brought forward.

    noted: to be set by who wants to know how the mirror fares: called after a transaction with where it is,
    and with the error if it could not be written.
    """

    noted: Callable[[str, MirrorError | None], None] | None = None

    def __init__(self, path: Path, key: bytes, *, create: bool = False) -> None:
        self._key = key
        self._written: list[tuple[str, Sequence[Any]]] = []
        self._target: Target | None = None
        self._target_of = ("", "")
        super().__init__(
            path,
            statements(_SCHEMA),
            version=SCHEMA_VERSION,
            what="The books of this POS",
            create=create,
            key=key,
            upgrades={
                version: [*statements(script), _UNMIRRORED] for version, script in _UPGRADES.items()
            },
        )

    def get(self, name: str, default: str = "") -> str:
        """A setting."""
        row = self.one("SELECT value FROM meta WHERE name = ?", name)
        return default if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        """Write a setting; inside a transaction."""
        self.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """As Database. What writes has to be in a transaction, so that the mirror has it."""
        if not statement.startswith(_READS):
            if not self.in_transaction:
                raise RuntimeError("the books of a POS are written inside a transaction only")
            self._written.append((statement, values))
        return super().execute(statement, *values)

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """As Database, inside a transaction."""
        if not self.in_transaction:
            raise RuntimeError("the books of a POS are written inside a transaction only")
        self._written += [(statement, row) for row in rows]
        super().execute_many(statement, rows)

    def close(self) -> None:
        """As Database."""
        if self._target is not None:
            self._target.close()
            self._target = None
        super().close()

    # The mirror ---------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As Database; and before it is durable here, it is in the mirror, if there is one. Raises
        MirrorError where it cannot be: then nothing was written."""
        appended: tuple[Target, Position, Position] | None = None
        where = ""
        try:
            with super().transaction():
                self._written = []
                yield
                if self._written and (where := self.get("mirror")):
                    appended = self._append(where)
        except BaseException as error:
            if where and isinstance(error, MirrorError) and self.noted is not None:
                self.noted(where, error)
            if appended is not None and isinstance(error, ChipcashError):
                # It is in the mirror, and could not be committed here. If this cannot be said now, the next
                # transaction finds it and begins anew.
                target, before, after = appended
                with suppress(DatabaseError):
                    target.cut(self.get("mirror_owner"), before.identity, before.offset, after.head)
            raise
        if where and self.noted is not None:
            self.noted(where, None)

    @property
    def mirror(self) -> str:
        """Where the mirror of these books is; empty if they have none."""
        return self.get("mirror")

    def mirror_state(self) -> MirrorState | None:
        """What the mirror says of itself, None if there is none. Raises MirrorError where it does not answer,
        or is another till's."""
        where = self.mirror
        if not where:
            return None
        state = self._at(where).state()
        if state is not None and state.owner != self.get("mirror_owner"):
            raise taken(where)
        return state

    def touch_mirror(self, now: int) -> None:
        """Write nothing but when this was done, seconds since 1970: what only shows that the mirror can be
        written. Raises MirrorError."""
        with self.transaction():
            self.set("mirror_touched", str(now))

    def set_mirror(self, where: str, **facts: str) -> None:
        """Have a mirror at a path or URL, and all books in it when this returns; or none, for "".

        facts: what is written into the books with it, for who gets them back. Raises MirrorError, and
        nothing was changed.
        """
        before, owner = self.mirror, self.get("mirror_owner")
        with self.transaction():
            self.set("mirror", where)
            self.set("mirror_at", "")
            for name, value in facts.items():
                self.set(name, value)
            if not owner:
                self.set("mirror_owner", secrets.token_hex(16))
        if before and before != where:
            # So that nobody gets old books back from there. If it is gone, nobody can be told.
            with suppress(MirrorError):
                self._at(before).end(owner)

    def _at(self, where: str) -> Target:
        """The mirror at a path or URL, with its connections, as long as it is the same."""
        ca = self.get("mirror_ca")
        if self._target is None or self._target_of != (where, ca):
            if self._target is not None:
                self._target.close()
            self._target, self._target_of = mirror_at(where, self._key, ca), (where, ca)
        return self._target

    def _append(self, where: str) -> tuple[Target, Position, Position]:
        written, target, owner = self._written, self._at(where), self.get("mirror_owner")
        text = self.get("mirror_at")
        at = Position(**json.loads(text)) if text else None
        done: Position | None = None
        if at is not None and at.offset <= max(LOG_LIMIT, at.snapshot):
            record, done = seal(self._key, at, written)
            if not target.append(owner, at.identity, at.offset, record):
                done = None
        if at is None or done is None:
            at = self._begin(target, owner)
            record, done = seal(self._key, at, written)
            if not target.append(owner, at.identity, at.offset, record):
                raise unwritable(where, "somebody else writes it")
        self.set("mirror_at", json.dumps(asdict(done)))
        return target, at, done

    def _begin(self, target: Target, owner: str) -> Position:
        """A new generation with the books as of the last commit."""
        state = target.state()
        identity = secrets.token_hex(16)
        # By a connection of its own, which does not see the transaction that is under way.
        copy = snapshot(Path(self.path), self._key)
        try:
            at = first(identity, copy)
            target.begin(owner, 0 if state is None else state.generation, identity, copy)
        finally:
            copy.unlink(missing_ok=True)
        return at


def encrypt(path: Path, custody: keys.Custody) -> None:
    """Encrypt books from before they were encrypted, while nobody else has them, and remember their custody.

    Raises DatabaseError, and they are as they were; CryptoError, OSError.
    """
    alone = files.lock(path.with_name(".encrypting"))
    if alone is None:
        raise _in_use(path)
    try:
        if keys.remembered(path.parent):  # another program was faster
            return
        # Nobody here has the file open: closing it would take SQLite's locks away (POSIX has it so).
        with path.open("rb") as file:
            plain = file.read(len(_PLAIN)) == _PLAIN
        if plain:
            _encrypt(path, path.with_name(f"{path.name}.encrypted"), custody.make_books_key())
        keys.remember(custody)
    finally:
        os.close(alone)


def _encrypt(path: Path, draft: Path, key: bytes) -> None:
    module = driver(key)
    for leftover in ("-wal", "-shm", "-journal", ""):
        Path(f"{draft}{leftover}").unlink(missing_ok=True)
    # Nobody waits for whoever has them open: a till that is in use is not converted.
    old: sqlite3.Connection = module.connect(path, isolation_level=None, timeout=1)
    try:
        # Fails, or changes nothing, unless this is the only connection there is.
        old.execute("PRAGMA locking_mode = EXCLUSIVE")
        if old.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
            raise _in_use(path)
        old.execute("BEGIN EXCLUSIVE")
        old.execute("COMMIT")  # which keeps the lock
        (version,) = old.execute("PRAGMA user_version").fetchone()
        old.execute(f"ATTACH DATABASE ? AS made KEY \"x'{key.hex()}'\"", (str(draft),))
        old.execute("SELECT sqlcipher_export('made')")
        old.execute(f"PRAGMA made.user_version = {version}")
        old.execute("DETACH DATABASE made")
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.chmod(0o600)
        draft.replace(path)
        files.sync_folder(path.parent)
        # Whoever was waiting for the old file has it open still.
        old.execute(f"PRAGMA user_version = {_MOVED}")
    except module.OperationalError as error:
        if "locked" in str(error):
            raise _in_use(path) from None
        raise _cannot(path, error) from None
    except module.Error as error:
        raise _cannot(path, error) from None
    finally:
        old.close()


def _in_use(path: Path) -> DatabaseError:
    return DatabaseError(
        "The books of this POS are of an older version and have to be encrypted first, but another program "
        "has them open. Nothing in them was changed.",
        hint="End every program that uses this till, and repeat.",
        path=str(path),
    )


def _cannot(path: Path, error: Exception) -> DatabaseError:
    return DatabaseError(
        f"The books of this POS are of an older version and could not be encrypted: {error}. Nothing in "
        "them was changed.",
        hint="See that the disk has room for a second copy of them, and repeat.",
        path=str(path),
    )

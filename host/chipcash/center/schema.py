# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables. `serial` leads every key of what moves, so that the ledger can be split by serial."""

from __future__ import annotations

__all__ = ["SCHEMA"]

SCHEMA = (
    # epoch: of the newest title of this serial.
    """CREATE TABLE IF NOT EXISTS coins (
        serial BLOB PRIMARY KEY,
        amount INTEGER NOT NULL CHECK (amount > 0),
        owner BLOB NOT NULL,
        bytes BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS titles (
        seq INTEGER PRIMARY KEY,
        title_id BLOB NOT NULL UNIQUE,
        serial BLOB NOT NULL REFERENCES coins (serial),
        epoch INTEGER NOT NULL,
        lo INTEGER NOT NULL,
        hi INTEGER NOT NULL,
        owner BLOB NOT NULL,
        bytes BLOB NOT NULL,
        UNIQUE (serial, epoch)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS titles_owner ON titles (owner)",
    # The partition of every coin. title_id is null where the slice is redeemed.
    """CREATE TABLE IF NOT EXISTS slices (
        serial BLOB NOT NULL REFERENCES coins (serial),
        lo INTEGER NOT NULL CHECK (lo >= 0),
        hi INTEGER NOT NULL CHECK (hi > lo),
        title_id BLOB REFERENCES titles (title_id),
        PRIMARY KEY (serial, lo)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS slices_title ON slices (title_id)",
    # Every claim that verified, with its first outcome (a wire result). fund, loss: fen of it that are
    # disputed, by who bears them: the guarantee fund, the payee.
    """CREATE TABLE IF NOT EXISTS claims (
        claim_id BLOB PRIMARY KEY,
        payer BLOB NOT NULL,
        bytes BLOB NOT NULL,
        time INTEGER NOT NULL,
        result BLOB NOT NULL,
        fund INTEGER NOT NULL,
        loss INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # What left a title. claim_id is null where an expired title was renewed, new_title where the
    # money was redeemed. The spends of one title never overlap.
    """CREATE TABLE IF NOT EXISTS spends (
        seq INTEGER PRIMARY KEY,
        serial BLOB NOT NULL REFERENCES coins (serial),
        title_id BLOB NOT NULL REFERENCES titles (title_id),
        lo INTEGER NOT NULL,
        hi INTEGER NOT NULL CHECK (hi > lo),
        claim_id BLOB REFERENCES claims (claim_id),
        state INTEGER NOT NULL,
        new_title BLOB REFERENCES titles (title_id),
        time INTEGER NOT NULL,
        UNIQUE (serial, title_id, lo)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS spends_claim ON spends (claim_id)",
    # The intervals of every registered claim, whatever became of them: what repeat payment is found by.
    """CREATE TABLE IF NOT EXISTS inputs (
        seq INTEGER PRIMARY KEY,
        serial BLOB NOT NULL REFERENCES coins (serial),
        title_id BLOB NOT NULL REFERENCES titles (title_id),
        lo INTEGER NOT NULL,
        hi INTEGER NOT NULL CHECK (hi > lo),
        claim_id BLOB NOT NULL REFERENCES claims (claim_id)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS inputs_title ON inputs (serial, title_id, lo)",
    """CREATE TABLE IF NOT EXISTS deposits (
        digest BLOB PRIMARY KEY,
        time INTEGER NOT NULL,
        receipt BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS voids (
        payee BLOB NOT NULL,
        nonce BLOB NOT NULL,
        amount INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        time INTEGER NOT NULL,
        PRIMARY KEY (payee, nonce, amount)
    ) STRICT, WITHOUT ROWID""",
    # claim_id: the later of the two claims; one piece of evidence for each title on which it overlaps.
    """CREATE TABLE IF NOT EXISTS evidence (
        seq INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        bytes BLOB NOT NULL,
        claim_id BLOB NOT NULL REFERENCES claims (claim_id),
        time INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS evidence_claim ON evidence (claim_id)",
    """CREATE TABLE IF NOT EXISTS blacklist (
        sequence INTEGER PRIMARY KEY,
        subject BLOB NOT NULL UNIQUE,
        bytes BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS cards (
        subject BLOB PRIMARY KEY,
        certificate BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        risk BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS challenges (
        nonce BLOB PRIMARY KEY,
        subject BLOB NOT NULL REFERENCES cards (subject),
        time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
)

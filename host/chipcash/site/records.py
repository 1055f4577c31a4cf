# SPDX-License-Identifier: Apache-2.0
"""What became of each title, claim, coin and piece of evidence, as sealed records in static files
(protocols/spec/site.md, Records).

A record opens only with the signed object that it is about. Its bytes follow from the log alone: whoever has
the same entries makes the same files.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from chipcash.log.facts import fact_of
from chipcash.log.merkle import inclusion_proof, leaf_hash, node_hash, root_of
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["Index", "Records", "record_key", "shard_name"]

_SCHEMA = """
CREATE TABLE objects (id BLOB PRIMARY KEY, locator BLOB, key BLOB) WITHOUT ROWID;
CREATE TABLE items (id BLOB, number INT, entry BLOB, PRIMARY KEY (id, number)) WITHOUT ROWID;
"""
_NONCE = bytes(12)
"""AES-GCM-SIV stands the same nonce again: it shows that two texts are equal, and nothing else."""
_LOCATOR_SIZE = 16
_SHARD_RECORDS = 256
"""Records of a file that there are at most on average: who serves it learns no more than which file."""
_SIGNED = (o.Coin, o.Title, o.Claim)


@dataclass(frozen=True)
class Index:
    """All records of a log. root: of the tree over the files, 32 bytes; depth: hex digits of a file's name;
    count: of records."""

    root: bytes
    depth: int
    count: int


def record_key(obj: o.Coin | o.Title | o.Claim | o.Evidence) -> bytes:
    """The key, 32 bytes, that opens the record of an object. Only who has the object with its signature can
    know it: neither its id nor what one may guess of its fields is enough.

    Of the signature r alone: whoever sees an ECDSA signature can write down a second one with another s.
    """
    if isinstance(obj, o.Evidence):
        data = obj.encode()
    else:
        assert obj.signature is not None
        data = obj.message() + obj.signature[:32]
    return hashlib.sha256(b"chipcash record\n" + data).digest()


def _locator(key: bytes) -> bytes:
    return hashlib.sha256(b"chipcash locator\n" + key).digest()[:_LOCATOR_SIZE]


def shard_name(number: int, depth: int) -> str:
    """Name of a file of records: the hex digits that the locators in it begin with."""
    return f"{number:0{depth}x}"


class Records:
    """Collects records from a log's entries, in a temporary file of SQLite's. A context manager."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *failure: object) -> None:
        self._db.close()

    def add(self, number: int, data: bytes) -> None:
        """Take the entry of that number, one that an audit has accepted."""
        fact = fact_of(o.LogEntry.decode(data))
        about: list[bytes | None] = []
        if isinstance(fact, (*_SIGNED, o.Evidence)):
            ident, key = object_id(fact), record_key(fact)
            self._db.execute("INSERT INTO objects VALUES (?,?,?)", (ident, _locator(key), key))
            about = [ident]
        elif isinstance(fact, o.Move):
            about = [fact.title_id, fact.claim_id]
        elif isinstance(fact, o.BlacklistEntry):
            about = [fact.digest]
        rows = [(ident, number, data) for ident in about if ident is not None]
        self._db.executemany("INSERT INTO items VALUES (?,?,?)", rows)

    def write(self, folder: Path) -> Index:
        """Write all files of records into a folder, which must be there and is for nothing else."""
        (count,) = self._db.execute("SELECT count(*) FROM objects").fetchone()
        depth = 1
        while count > _SHARD_RECORDS << (4 * depth):
            depth += 1
        leaves = []
        found = self._sealed()
        record = next(found, None)
        for number in range(1 << (4 * depth)):
            name = shard_name(number, depth)
            data = bytearray()
            while record is not None and record[0].hex().startswith(name):
                locator, sealed = record
                data += locator + len(sealed).to_bytes(4, "big") + sealed
                record = next(found, None)
            leaves.append(leaf_hash(bytes(data)))
            (folder / name).write_bytes(data)
        levels = [leaves]
        while len(levels[-1]) > 1:
            row = levels[-1]
            levels.append([node_hash(*row[at : at + 2]) for at in range(0, len(row), 2)])
        for number in range(len(leaves)):
            proof = inclusion_proof(lambda height, at: levels[height][at], number, len(leaves))
            path = folder / shard_name(number, depth)
            path.write_bytes(b"".join(proof) + path.read_bytes())
        return Index(root_of(levels[-1]), depth, count)

    def _sealed(self) -> Iterator[tuple[bytes, bytes]]:
        """Locator and sealed record, in the order of locators."""
        rows = self._db.execute(
            "SELECT locator, key, number, entry FROM objects JOIN items USING (id)"
            " ORDER BY locator, number"
        )
        for (locator, key), items in groupby(rows, key=itemgetter(0, 1)):
            text = b"".join(
                number.to_bytes(8, "big") + len(entry).to_bytes(2, "big") + entry
                for _, _, number, entry in items
            )
            yield locator, AESGCMSIV(key).encrypt(_NONCE, text, None)

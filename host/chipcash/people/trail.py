# SPDX-License-Identifier: Apache-2.0
"""The record of what staff did: append-only, each entry holding the hash of the one before it.

The hash of an entry is SHA-256 of the JSON array (ASCII, no spaces) of a name of the format, the hash of the
entry before in hex, and the entry's values in the order of `Entry`. So an entry cannot be changed, taken out
or moved without changing every one behind it. Who can write the file can do just that, or cut entries off
its end: only a head that was noted elsewhere tells. A head is the number and the hash of the newest entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from chipcash import files
from chipcash.database import Database
from chipcash.people.errors import StaffError, TrailBroken

__all__ = ["SCHEMA", "Entry", "Head", "Trail"]

SCHEMA = """
CREATE TABLE trail (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    time INTEGER NOT NULL,
    who TEXT NOT NULL,
    role TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    note TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER trail_unchanged BEFORE UPDATE ON trail
BEGIN SELECT RAISE(ABORT, 'the record of staff is only appended to'); END;
CREATE TRIGGER trail_kept BEFORE DELETE ON trail
BEGIN SELECT RAISE(ABORT, 'the record of staff is only appended to'); END;
"""

_FORMAT = "chipcash-staff-trail-1"
_HEAD_FORMAT = "chipcash-staff-head-1"
_COLUMNS = "number, time, who, role, address, action, subject, outcome, note"
_AT_ONCE = 1000
_LONGEST = 500
"""Characters of a value: what people, and browsers, send must not fill the disk."""


@dataclass(frozen=True)
class Entry:
    """What was done. number: from 1 without a hole; time: seconds since 1970; who: account, `os:USER` on the
    command line, "" where nobody knows; address: of the browser; action: name of the route or command;
    subject: ids in hex or an account; outcome: `ok`, `refused`, `unknown`, `failed`; note: a reason given.
    """

    number: int
    time: int
    who: str
    role: str
    address: str
    action: str
    subject: str
    outcome: str
    note: str

    def hash(self, before: bytes) -> bytes:
        """The entry's hash, 32 bytes, behind that of the entry before it (b"" for the first)."""
        values = [_FORMAT, before.hex(), *astuple(self)]
        return hashlib.sha256(json.dumps(values, separators=(",", ":")).encode("ascii")).digest()


@dataclass(frozen=True)
class Head:
    """How far a trail goes: number and hash of its newest entry, 0 and b"" if it has none."""

    number: int = 0
    hash: bytes = b""

    def save(self, path: Path) -> None:
        """Write it to a file, in the place of an older one. Raises OSError."""
        data = {"format": _HEAD_FORMAT, "number": self.number, "hash": self.hash.hex()}
        files.replace(path, (json.dumps(data) + "\n").encode("ascii"))

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read it. Raises StaffError if the file holds none, OSError if it cannot be read."""
        try:
            data = json.loads(path.read_bytes())
            if data["format"] != _HEAD_FORMAT:
                raise ValueError
            return cls(int(data["number"]), bytes.fromhex(data["hash"]))
        except (ValueError, KeyError, TypeError):
            raise StaffError(
                f"{path} is no head of a staff record; it was not changed.",
                hint="Name a file that `staff audit --head` wrote, or one that is not there.",
            ) from None


class Trail:
    """The record in a database that has SCHEMA's table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def append(
        self,
        time: int,
        who: str,
        action: str,
        *,
        role: str = "",
        address: str = "",
        subject: str = "",
        outcome: str = "ok",
        note: str = "",
    ) -> Entry:
        """Write an entry; inside a transaction, and durable with it. Raises DatabaseError."""
        head = self.head()
        texts = [_clean(text) for text in (who, role, address, action, subject, outcome, note)]
        entry = Entry(head.number + 1, time, *texts)
        self._db.execute(
            f"INSERT INTO trail ({_COLUMNS}, hash) VALUES (?,?,?,?,?,?,?,?,?,?)",
            *astuple(entry), entry.hash(head.hash),
        )  # fmt: skip
        return entry

    def head(self) -> Head:
        """Number and hash of the newest entry."""
        row = self._db.one("SELECT number, hash FROM trail ORDER BY number DESC LIMIT 1")
        return Head() if row is None else Head(*row)

    def page(self, before: int, count: int) -> list[Entry]:
        """Entries with a number below one, newest first. Raises TrailBroken if these do not hang together."""
        rows = self._db.all(
            f"SELECT {_COLUMNS}, hash FROM trail WHERE number < ? ORDER BY number DESC LIMIT ?",
            before, count + 1,
        )  # fmt: skip
        found = [_check(row) for row in rows]
        last: tuple[Entry, bytes] | None = None
        for entry, kept in reversed(found):
            known = entry.number == 1 or last is not None
            if known and (
                entry.number != (last[0].number if last else 0) + 1
                or entry.hash(last[1] if last else b"") != kept
            ):
                raise _broken(entry.number)
            last = entry, kept
        return [entry for entry, _ in found[:count]]

    def verify(self, noted: Head | None = None) -> Head:
        """Prove that each entry is as it was when the next was written; the head.

        noted: a head from before, which the record must still go through. Raises TrailBroken.
        """
        head = Head()
        passed = noted is None or noted == head
        for entry, kept in self._all():
            if entry.number != head.number + 1 or entry.hash(head.hash) != kept:
                raise _broken(head.number + 1)
            head = Head(entry.number, kept)
            passed = passed or head == noted
        if not passed and noted is not None:
            what = (
                f"has only {head.number} entries, and had {noted.number}"
                if head.number < noted.number
                else f"has another entry {noted.number} than was noted"
            )
            raise TrailBroken(
                f"The record of staff {what}: it was cut off or written anew.",
                hint="Keep the file, and the head that was noted. Restore a backup beside it to see what is"
                " missing.",
                number=min(head.number + 1, noted.number),
            )
        return head

    def entries(self) -> Iterator[Entry]:
        """All entries, oldest first, not verified."""
        return (entry for entry, _ in self._all())

    def _all(self) -> Iterator[tuple[Entry, bytes]]:
        last = 0
        while rows := self._db.all(
            f"SELECT {_COLUMNS}, hash FROM trail WHERE number > ? ORDER BY number LIMIT ?",
            last, _AT_ONCE,
        ):  # fmt: skip
            for row in rows:
                yield _check(row)
            last = rows[-1][0]


def _check(row: Any) -> tuple[Entry, bytes]:
    *values, kept = row
    return Entry(*values), kept


def _clean(text: str) -> str:
    return "".join(x if x.isprintable() else "\N{REPLACEMENT CHARACTER}" for x in text[:_LONGEST])


def _broken(number: int) -> TrailBroken:
    return TrailBroken(
        f"The record of staff was tampered with: entry {number} is missing, changed or not in its place.",
        hint="Keep the file as it is. What stands before that entry is as it was written.",
        number=number,
    )

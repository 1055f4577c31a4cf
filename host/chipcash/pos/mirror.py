# SPDX-License-Identifier: Apache-2.0
"""A second copy of a till's books, on another disk or with another till, that is never behind.

A transaction's statements are appended to the mirror, durably, right before it is committed: what a till has
said is in both places. A mirror that cannot be written undoes the transaction, so a till without its mirror
takes no money. The copy is a snapshot and a log behind it, a *generation*; where the mirror is not exactly
where the books say it must be, a new generation is begun. All of it is encrypted under the books' key.

    snapshot    the books, as SQLCipher encrypts them
    log         records: length (4), nonce (12), AES-256-GCM of the statements (zlib of JSON)

The key of a generation's records is HKDF-SHA256 of the books' key. Their associated data is the generation,
the number of the record and the SHA-256 of the one before it (of the first: of the snapshot), so none can be
left out, moved or taken from elsewhere.

Who may write a mirror is its *owner*, a number that is in the books. Getting books back from a mirror makes
the new till its owner: the old one, should it be there still, is refused and stops. So two tills never spend
from one key.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chipcash import files
from chipcash.database import DatabaseError, connect, driver

__all__ = [
    "Folder",
    "MirrorError",
    "MirrorState",
    "MirrorTaken",
    "Position",
    "Target",
    "derived",
    "mirror_at",
    "read_books",
    "seal",
    "snapshot",
]

LOG_LIMIT = 4 << 20
"""Bytes of a log after which a new generation begins, unless its snapshot is larger still."""
_NONCE = 12
_OPS = "Turn it off only if it will not come back: chipcash pos mirror off."


class MirrorError(DatabaseError):
    """The mirror of a till cannot be written or read. The till's books are unchanged."""

    exit_code = 45


class MirrorTaken(MirrorError):
    """The mirror belongs to another till, or to the one that was recovered from it."""


def unwritable(where: str, why: str) -> MirrorError:
    """What it means that a mirror cannot be written."""
    return MirrorError(
        f"The mirror of this till's books, {where}, cannot be written: {why}. Nothing was stored, and no "
        "payment is taken without it.",
        hint="A card that was tapped just now keeps its answer: bring the mirror back and tap the same card "
        f"again. {_OPS}",
        mirror=where,
    )


def taken(where: str) -> MirrorTaken:
    """What it means that somebody else owns a mirror."""
    return MirrorTaken(
        f"{where} is not this till's mirror any more: its books were got back from there, or it is another "
        "till's. Nothing was stored.",
        hint="If this till was recovered elsewhere, never use this one again: delete its directory. If not, "
        "choose another place for its mirror.",
        mirror=where,
    )


@dataclass(frozen=True)
class MirrorState:
    """What a mirror says of itself. owner: who may write; generation: which one is there, counted, and its
    identity; ended: whether its till said that it will write no more."""

    owner: str
    generation: int
    identity: str
    ended: bool = False


@dataclass(frozen=True)
class Position:
    """How far a mirror is. offset: the log's length in bytes; sequence: records in it; head: hash of the last
    one; snapshot: bytes of the snapshot."""

    identity: str
    offset: int
    sequence: int
    head: str
    snapshot: int


class Target(Protocol):
    """Where a mirror is. Everything raises MirrorError."""

    where: str

    def state(self) -> MirrorState | None:
        """What is there, None if nothing."""

    def begin(self, owner: str, after: int, identity: str, books: Path) -> None:
        """Begin a generation with a copy of the books, in the place of generation `after` (0: there is none).
        Raises MirrorTaken if another one is there."""

    def append(self, owner: str, identity: str, offset: int, data: bytes) -> bool:
        """Append a record to a generation's log, durably; False if the log does not end at offset, or the
        generation is another one. The same record once more is no other one."""

    def cut(self, owner: str, identity: str, offset: int, head: str) -> None:
        """Take the record back that begins at offset in a generation's log, if it is the last one and the one
        with this hash."""

    def end(self, owner: str) -> None:
        """No more will be written."""

    def take(self, owner: str) -> MirrorState:
        """Make somebody else the owner: who was it can write no more. What there is."""

    def fetch(self, identity: str, folder: Path) -> tuple[Path, Path]:
        """Copies of a generation's snapshot and log in a folder."""

    def close(self) -> None:
        """End what connects to it. May be repeated."""


class Folder:
    """A mirror in a folder, on a disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)

    @contextmanager
    def _alone(self, *, make: bool = False) -> Iterator[None]:
        """Nobody else changes it meanwhile."""
        try:
            if make:
                # Not the folders above: a disk that is not mounted must not be taken for an empty one.
                self.path.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise unwritable(self.where, error.strerror or type(error).__name__) from error

    def state(self) -> MirrorState | None:
        """See Target."""
        try:
            return self._state()
        except OSError as error:
            raise unwritable(self.where, error.strerror or type(error).__name__) from error

    def _state(self) -> MirrorState | None:
        try:
            return MirrorState(**json.loads((self.path / "state").read_text("ascii")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise MirrorError(
                f"{self.path / 'state'} is damaged.",
                hint="The books beside it may be whole; ask somebody who knows before you touch it.",
            ) from None

    def _write(self, state: MirrorState) -> None:
        files.replace(self.path / "state", json.dumps(asdict(state)).encode("ascii"))

    def begin(self, owner: str, after: int, identity: str, books: Path) -> None:
        """See Target."""
        with self._alone(make=True):
            state = self._state()
            if state is not None and state.identity == identity:
                return  # said again
            if state is not None and (state.owner != owner or state.generation != after):
                raise taken(self.where)
            before = set(self.path.glob("*.snapshot*")) | set(self.path.glob("*.log"))
            target = self.path / f"{identity}.snapshot"
            draft = target.with_suffix(".snapshot.new")
            with books.open("rb") as source, draft.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            draft.replace(target)
            files.replace(self.path / f"{identity}.log", b"")
            # From here on the new generation is the one; before, the old one is there as it was.
            self._write(MirrorState(owner, after + 1, identity))
            for old in before:
                old.unlink(missing_ok=True)

    def append(self, owner: str, identity: str, offset: int, data: bytes) -> bool:
        """See Target."""
        with self._alone():
            state = self._state()
            if state is None or state.identity != identity:
                if state is not None and state.owner != owner:
                    raise taken(self.where)
                return False
            if state.owner != owner:
                raise taken(self.where)
            if state.ended:
                return False
            log = os.open(self.path / f"{identity}.log", os.O_RDWR)
            try:
                size = os.fstat(log).st_size
                if size == offset + len(data):
                    return os.pread(log, len(data), offset) == data
                if size != offset:
                    return False
                _append(log, offset, data)
                return True
            finally:
                os.close(log)

    def cut(self, owner: str, identity: str, offset: int, head: str) -> None:
        """See Target."""
        with self._alone():
            state = self._state()
            path = self.path / f"{identity}.log"
            if state is not None and (state.owner, state.identity) == (owner, identity):
                log = os.open(path, os.O_RDWR)
                try:
                    rest = os.pread(log, os.fstat(log).st_size, offset)
                    if hashlib.sha256(rest).hexdigest() == head:
                        os.ftruncate(log, offset)
                        os.fsync(log)
                finally:
                    os.close(log)

    def end(self, owner: str) -> None:
        """See Target."""
        with self._alone():
            state = self._state()
            if state is not None and state.owner == owner:
                self._write(MirrorState(state.owner, state.generation, state.identity, ended=True))

    def take(self, owner: str) -> MirrorState:
        """See Target."""
        with self._alone():
            state = self._state()
            if state is None:
                raise MirrorError(
                    f"{self.where} holds no mirror of a till.",
                    hint="Give the folder that has a file state.",
                )
            if state.ended:
                raise MirrorError(
                    f"The till turned its mirror {self.where} off: it is older than the till's books, and "
                    "whoever goes on from it may spend money that was spent.",
                    hint="Look for its newest mirror. If there is none, what the till has received and not "
                    "deposited is lost with it; its money at the center is under its key.",
                )
            found = MirrorState(owner, state.generation, state.identity)
            self._write(found)
            return found

    def fetch(self, identity: str, folder: Path) -> tuple[Path, Path]:
        """See Target."""
        with self._alone():
            for name in ("snapshot", "log"):
                shutil.copy(self.path / f"{identity}.{name}", folder / name)
        return folder / "snapshot", folder / "log"

    def close(self) -> None:
        """See Target."""


def mirror_at(where: str, books_key: bytes, ca: str = "") -> Target:
    """A mirror by its path or URL. ca: file of who certifies an https one, else whom the system trusts.

    Raises MirrorError if it can be none.
    """
    if "://" not in where:
        return Folder(Path(where))
    parts = urlsplit(where)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise MirrorError(
            f"{where} would be spoken to in the clear: whoever listens could take the mirror over.",
            hint="Serve it with --tls-cert, and give an https URL.",
        )
    if parts.scheme not in ("http", "https"):
        raise MirrorError(f"{where} is neither a folder nor an http or https URL.")
    from chipcash.pos.mirror_peer import Peer  # HTTP takes long to load, and few tills have a peer

    return Peer(where.rstrip("/"), books_key, ca)


def _append(log: int, offset: int, data: bytes) -> None:
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(log, data[done:], offset + done)
        os.fsync(log)
    except OSError:
        # Else the next one would find the log at another place, and copy all the books.
        with suppress(OSError):
            os.ftruncate(log, offset)
        raise


# Records ------------------------------------------------------------------------------------------


def derived(books_key: bytes, purpose: bytes) -> bytes:
    """A key that follows from the books' key, 32 bytes."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"chipcash " + purpose).derive(books_key)


def _cipher(books_key: bytes, identity: str) -> AESGCM:
    return AESGCM(derived(books_key, b"mirror " + identity.encode()))


def _bound(at: Position) -> bytes:
    return f"{at.identity} {at.sequence} {at.head}".encode()


def _after(at: Position, record: bytes) -> Position:
    head = hashlib.sha256(record).hexdigest()
    return Position(at.identity, at.offset + len(record), at.sequence + 1, head, at.snapshot)


def seal(
    books_key: bytes, at: Position, written: Sequence[tuple[str, Sequence[Any]]]
) -> tuple[bytes, Position]:
    """The record of a transaction's statements behind a position, and the position behind it."""
    text = json.dumps(written, default=_blob, separators=(",", ":"))
    nonce = secrets.token_bytes(_NONCE)
    cipher = _cipher(books_key, at.identity)
    sealed = nonce + cipher.encrypt(nonce, zlib.compress(text.encode()), _bound(at))
    record = len(sealed).to_bytes(4, "big") + sealed
    return record, _after(at, record)


def _blob(value: object) -> dict[str, str]:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b": base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__} in the books")


def _value(value: Any) -> Any:
    return base64.b64decode(value["b"]) if isinstance(value, dict) else value


def snapshot(path: Path, books_key: bytes) -> Path:
    """A copy of books as of their last commit, encrypted alike, beside them; the caller removes it.

    Whoever has begun to write them may call it: no other copy is made meanwhile. Raises MirrorError.
    """
    for leftover in path.parent.glob(f".{path.name}.snapshot-*"):
        leftover.unlink(missing_ok=True)
    copy = path.with_name(f".{path.name}.snapshot-{secrets.token_hex(4)}")
    try:
        with closing(connect(path, books_key)) as db:
            db.execute("VACUUM INTO ?", (str(copy),))
    except driver(books_key).Error as error:
        copy.unlink(missing_ok=True)
        raise unwritable("", f"the books could not be copied for it: {error}") from None
    return copy


def first(identity: str, books: Path) -> Position:
    """The position behind a snapshot."""
    with books.open("rb") as file:
        head = hashlib.file_digest(file, "sha256").hexdigest()
    return Position(identity, 0, 0, head, books.stat().st_size)


def read_books(books_key: bytes, identity: str, books: Path, log: Path) -> int:
    """Bring the copy of a snapshot up to the end of its log; how many bytes at the end were left out.

    Those are of a last record that was cut off, and so never acknowledged. Raises MirrorError if anything
    else is wrong: another key's, or damaged.
    """
    at = first(identity, books)
    cipher = _cipher(books_key, identity)
    data = log.read_bytes()
    try:
        with closing(connect(books, books_key)) as db:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            db.execute("BEGIN IMMEDIATE")
            while (record := _next(data, at.offset)) is not None:
                plain = cipher.decrypt(record[4 : 4 + _NONCE], record[4 + _NONCE :], _bound(at))
                for statement, values in json.loads(zlib.decompress(plain)):
                    db.execute(statement, [_value(value) for value in values])
                at = _after(at, record)
            db.execute("COMMIT")
    except (InvalidTag, sqlite3.Error, driver(books_key).Error) as error:
        raise MirrorError(
            f"The mirror does not fit this key, or is damaged: {type(error).__name__} at its record "
            f"{at.sequence + 1}. Nothing was changed.",
            hint="See that the keys are those of the till whose mirror it is.",
        ) from None
    return len(data) - at.offset


def _next(data: bytes, offset: int) -> bytes | None:
    """The record at an offset; None at the end, and of one that was not written to its end."""
    size = int.from_bytes(data[offset : offset + 4], "big")
    end = offset + 4 + size
    return data[offset:end] if size > _NONCE and end <= len(data) else None

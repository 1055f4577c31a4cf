# SPDX-License-Identifier: Apache-2.0
"""When a till's disk is lost: its keys from a file that was put away, its books from their mirror."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from chipcash import files
from chipcash.crypto import CryptoError, PrivateKey, suite
from chipcash.pos import keys
from chipcash.pos.errors import PosError
from chipcash.pos.mirror import MirrorError, mirror_at, read_books
from chipcash.pos.store import Store
from chipcash.trust import FILE_NAME

__all__ = ["KeptKeys", "Recovered", "load_keys", "recover", "save_keys"]

_ARGON2 = "iterations=3,lanes=4,memory=65536"
_KIND = "chipcash till keys"


@dataclass(frozen=True)
class KeptKeys:
    """A till's keys, as they are put away: the one to which money is paid, and that of its books."""

    key: PrivateKey
    books_key: bytes = field(repr=False)


@dataclass(frozen=True)
class Recovered:
    """What was got back. cut_off: bytes of a last transaction that the till had not finished."""

    public: bytes
    cut_off: int


def save_keys(directory: Path, passphrase: str, path: Path) -> None:
    """Write a till's keys to a new file, under a passphrase. Once is enough: they never change.

    Raises CryptoError: where a token has the key, it cannot be put away.
    """
    custody = keys.custody_of(directory)
    key, books_key = custody.export(), custody.books_key()
    if key is None or books_key is None:
        raise CryptoError(
            f"The keys of this till are in {custody.path}, and that to which money is paid cannot leave it.",
            hint="It is not lost with the till's disk: recover with --key and this path. Against losing the "
            "token its own tools help, which copy it to a second one.",
        )
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    plain = {
        "suite": key.suite.name,
        "private": key.private_bytes().hex(),
        "books": books_key.hex(),
    }
    sealed = _cipher(passphrase, salt).encrypt(nonce, json.dumps(plain).encode(), _KIND.encode())
    text = {"kind": _KIND, "public": key.public.hex(), "argon2id": _ARGON2}
    for name, value in (("salt", salt), ("nonce", nonce), ("sealed", sealed)):
        text[name] = base64.b64encode(value).decode()
    try:
        files.create(path, f"{json.dumps(text, indent=1)}\n".encode())
    except FileExistsError:
        raise CryptoError(f"{path} exists already; nothing was overwritten.") from None


def load_keys(path: Path, passphrase: str) -> KeptKeys:
    """Keys from a file that save_keys() wrote. Raises CryptoError."""
    try:
        text = json.loads(path.read_text("utf-8"))
        salt, nonce, sealed = (base64.b64decode(text[x]) for x in ("salt", "nonce", "sealed"))
        if text["kind"] != _KIND or text["argon2id"] != _ARGON2:
            raise ValueError
        plain = json.loads(_cipher(passphrase, salt).decrypt(nonce, sealed, _KIND.encode()))
        key = PrivateKey(suite(plain["suite"]), bytes.fromhex(plain["private"]))
        return KeptKeys(key, bytes.fromhex(plain["books"]))
    except InvalidTag:
        raise CryptoError(
            "The passphrase is another one, or the file of keys is damaged.",
            hint="Type it as it was when the file was written.",
        ) from None
    except OSError as error:
        raise CryptoError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise CryptoError(f"{path} is no file of a till's keys.") from None


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    hashed = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=1 << 16)
    return AESGCM(hashed.derive(passphrase.encode()))


def recover(
    where: str, directory: Path, *, kept: KeptKeys | None, custody: str = keys.FILE, ca: str = ""
) -> Recovered:
    """Make a till in a directory from the mirror of one that is lost, which from then on is its own.

    where: folder or URL of the mirror; kept: the keys, to be put into a custody, or None where the custody
    has them, a token; ca: see mirror_at(). The lost till can write no more, if it is there after all. May be
    repeated after whatever cut it off. Raises PosError if there is a till already, MirrorError, CryptoError.
    """
    database = directory / "pos.db"
    if database.exists():
        raise PosError(
            f"{directory} holds a POS already; nothing was changed.",
            hint="Choose another folder.",
            path=str(directory),
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    at_hand, books_key = _keys(directory, kept, custody)
    found = at_hand.key()
    public = kept.key.public if kept is not None else b"" if found is None else found.public
    if found is not None and found.public != public:
        raise CryptoError(
            f"{directory} has the key of another till; nothing was changed.",
            hint="Choose another folder.",
        )
    if not public:
        raise CryptoError(
            f"{custody} does not have the key of that till.",
            hint="Name the very key: object=… as it was shown when the till was made.",
        )
    draft = directory / "pos.db.new"
    owner = secrets.token_hex(16)
    with (
        closing(mirror_at(where, books_key, ca)) as target,
        tempfile.TemporaryDirectory(dir=directory, prefix=".recovering-") as scratch,
    ):
        state = target.state()
        if state is None:
            raise MirrorError(
                f"{where} holds no mirror of that till.", hint="Give its very folder or URL."
            )
        # First to see that it can be read with these keys. Then the lost till is shut out, and what it may
        # have written until then is read.
        read_books(books_key, state.identity, *target.fetch(state.identity, Path(scratch)))
        state = target.take(owner)
        books, log = target.fetch(state.identity, Path(scratch))
        cut_off = read_books(books_key, state.identity, books, log)
        for leftover in ("-wal", "-shm", ""):
            Path(f"{draft}{leftover}").unlink(missing_ok=True)
        shutil.move(books, draft)
    draft.chmod(0o600)
    if kept is not None:
        if at_hand.books_key() is None:
            at_hand.keep_books_key(books_key)
        if at_hand.key() is None:
            at_hand.keep_key(kept.key)
    keys.remember(at_hand)
    store = Store(draft, books_key)
    try:
        # The mirror goes on from here, under its new owner.
        with store.transaction():
            for name, value in (
                ("mirror", where),
                ("mirror_ca", ca),
                ("mirror_at", ""),
                ("mirror_owner", owner),
            ):
                store.set(name, value)
        network = bytes.fromhex(store.get("mirror_network"))
    finally:
        store.close()
    files.replace(directory / FILE_NAME, network, 0o644)
    draft.rename(database)
    files.sync_folder(directory)
    return Recovered(public, cut_off)


def _keys(directory: Path, kept: KeptKeys | None, custody: str) -> tuple[keys.Custody, bytes]:
    """Where the keys of the new till are or are going to be, and the key of its books."""
    at_hand = keys.custody_of(directory)  # of a recovery that was cut off
    if not (keys.remembered(directory) and keys.same_kind(at_hand.path, custody)):
        at_hand = keys.custody_at(keys.new_path(custody), directory)
    if kept is not None:
        return at_hand, kept.books_key
    books_key = at_hand.books_key()
    if books_key is None:
        raise CryptoError(
            f"{custody} does not have the keys of that till.",
            hint="Give the file that `chipcash pos keys` wrote, with --keys; or the token's very path.",
        )
    return at_hand, books_key

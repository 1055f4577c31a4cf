# SPDX-License-Identifier: Apache-2.0
"""Signed notes and checkpoints: C2SP signed-note, tlog-checkpoint, and cosignature/v1 of tlog-cosignature.

A note is text with signature lines under it, each by a named Ed25519 key (RFC 8032). A checkpoint is a note
whose text is a log's name (its origin), size and root. A witness's signature also covers the time at which
it was made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chipcash import files
from chipcash.log.errors import LogError, LogInvalid
from chipcash.log.merkle import EMPTY, SIZE

__all__ = [
    "COSIGNATURE",
    "MAX_NOTE",
    "SIGNATURE",
    "Checkpoint",
    "Key",
    "Note",
    "Signature",
    "SigningKey",
    "open_checkpoint",
    "open_note",
]

SIGNATURE = 0x01
"""Kind of a log's key: Ed25519 over the text."""
COSIGNATURE = 0x04
"""Kind of a witness's key: Ed25519 over a time and the text."""
_KINDS = {SIGNATURE: "log", COSIGNATURE: "witness"}

MAX_NOTE = 1 << 16
"""Largest note in bytes that is read."""
_MAX_SIGNATURES = 100
_NAME = re.compile(r"[^\s+]+")  # \s: Unicode spaces
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


def _key_id(name: str, material: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]


def _from_base64(text: str) -> bytes:
    """Strict: what is written otherwise is refused. Raises ValueError."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 is not canonical")
    return data


@dataclass(frozen=True)
class Key:
    """Who may have signed a note: name, kind (SIGNATURE or COSIGNATURE) and public key, 32 bytes.

    Written as a key string: name + hex of the key id + base64 of kind and key, joined by "+".
    """

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, text: str, kind: int | None = None) -> Key:
        """The key of a key string; of a kind, if that is given. Raises LogError."""
        try:
            name, ident, material = text.strip().split("+", 2)
            data = _from_base64(material)
            if not _NAME.fullmatch(name) or len(data) != 33 or data[0] not in _KINDS:
                raise ValueError("it has another form")
            if ident != _key_id(name, data).hex():
                raise ValueError("its id is not that of its key")
            Ed25519PublicKey.from_public_bytes(data[1:])
        except ValueError as error:
            raise LogError(
                f"{text.strip()[:80]!r} is no key string of a log or a witness: {error}.",
                hint="It looks like NAME+HEX+BASE64, on one line; get it again from whoever runs it.",
            ) from None
        if kind is not None and data[0] != kind:
            raise LogError(
                f"The key of {name} is a {_KINDS[data[0]]}'s; a {_KINDS[kind]}'s is wanted."
            )
        return cls(name, data[0], data[1:])

    def __str__(self) -> str:
        material = bytes((self.kind,)) + self.public
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(material).decode()}"

    @property
    def key_id(self) -> bytes:
        """Id on signature lines, 4 bytes: with the name, to find the key by; it proves nothing."""
        return _key_id(self.name, bytes((self.kind,)) + self.public)

    def verify(self, text: str, signature: bytes) -> int | None:
        """Time of the signature (0 for a log's), or None if it is none by this key over this text."""
        time = 0
        message = text.encode()
        if self.kind == COSIGNATURE:
            time = int.from_bytes(signature[:8], "big")
            message = _cosigned(text, time)
            signature = signature[8:]
            if time >= 1 << 63:
                return None
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return None
        return time


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


class SigningKey:
    """A key to sign notes with, in memory or in a file that only its owner may read. Never shows its secret.

    The file holds what golang.org/x/mod/sumdb/note and others read: "PRIVATE+KEY+", then as a key string.
    """

    def __init__(self, name: str, kind: int, private: bytes) -> None:
        if not _NAME.fullmatch(name) or not name.isprintable():
            raise LogError(
                f"{name!r} cannot be the name of a log or a witness.",
                hint="Take something like a URL without https://, as bank.example/witness: "
                "no spaces and no plus sign.",
            )
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self._secret = private
        self.key = Key(name, kind, self._private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"<SigningKey {self.key}>"

    @classmethod
    def generate(cls, name: str, kind: int) -> SigningKey:
        """A new key from the system's generator. Raises LogError if the name is none."""
        return cls(name, kind, Ed25519PrivateKey.generate().private_bytes_raw())

    def save(self, path: Path) -> None:
        """Write the key to a new file with mode 0600. Raises LogError."""
        material = base64.b64encode(bytes((self.key.kind,)) + self._secret).decode()
        text = f"PRIVATE+KEY+{self.key.name}+{self.key.key_id.hex()}+{material}\n"
        try:
            files.create(path, text.encode())
        except FileExistsError:
            raise LogError(
                f"{path} exists already; a key is never overwritten.", hint="Choose another file."
            ) from None

    @classmethod
    def load(cls, path: Path, kind: int) -> SigningKey:
        """Read a key file of that kind. Raises LogError if it is none, OSError if it cannot be read."""
        try:
            start, word, name, ident, material = path.read_text("utf-8").strip().split("+", 4)
            data = _from_base64(material)
            found = cls(name, data[0], data[1:])
            if (start, word, ident) != ("PRIVATE", "KEY", found.key.key_id.hex()):
                raise ValueError
        except (ValueError, IndexError, LogError):
            raise LogError(
                f"{path} is no key file of a log or a witness, or is damaged.",
                hint="Restore it from a backup.",
            ) from None
        if found.key.kind != kind:
            raise LogError(f"{path} holds no {_KINDS[kind]}'s key.")
        return found

    def sign(self, text: str, time: int = 0) -> str:
        """The signature line, with its newline, over a note's text. time: of a witness's signature."""
        if self.key.kind == COSIGNATURE:
            signature = time.to_bytes(8, "big") + self._private.sign(_cosigned(text, time))
        else:
            signature = self._private.sign(text.encode())
        line = base64.b64encode(self.key.key_id + signature).decode()
        return f"— {self.key.name} {line}\n"


@dataclass(frozen=True)
class Signature:
    """A signature that verified. time: when a witness made it; 0 of a log. line: with its newline."""

    key: Key
    time: int
    line: str


@dataclass(frozen=True)
class Note:
    """A note's text, its newline included, and those of its signatures that are by keys that are known."""

    text: str
    signatures: tuple[Signature, ...]

    def by(self, key: Key) -> Signature | None:
        """The signature of a key."""
        return next((found for found in self.signatures if found.key == key), None)


def open_note(data: bytes, keys: Iterable[Key]) -> Note:
    """Take a note apart and verify it. Raises LogInvalid.

    Signatures by other keys are passed over, as signed-note asks; one that names a known key and does not
    verify makes the whole note invalid.
    """
    known = {(key.name, key.key_id): key for key in keys}
    try:
        if len(data) > MAX_NOTE:
            raise ValueError("it is too long")
        whole = data.decode("utf-8")
        if _CONTROL.search(whole):
            raise ValueError("it has control characters")
        head, gap, tail = whole.rpartition("\n\n")
        if not gap or not tail.endswith("\n"):
            raise ValueError("it has no signatures")
        text = head + "\n"
        lines = tail[:-1].split("\n")
        if len(lines) > _MAX_SIGNATURES:
            raise ValueError("it has too many signatures")
        found: list[Signature] = []
        for line in lines:
            dash, name, coded = line.split(" ")
            signature = _from_base64(coded)
            if dash != "—" or not _NAME.fullmatch(name) or len(signature) < 5:
                raise ValueError("a signature line has another form")
            key = known.get((name, signature[:4]))
            if key is None:
                continue
            time = key.verify(text, signature[4:])
            if time is None:
                raise ValueError(f"the signature of {name} is not good")
            if not any(key == each.key for each in found):
                found.append(Signature(key, time, line + "\n"))
    except (ValueError, binascii.Error) as error:
        raise LogInvalid(f"This is no signed note that could be trusted: {error}.") from None
    return Note(text, tuple(found))


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log: its name (origin), number of entries, and root, 32 bytes.

    text: the note's text, which may have further lines; what these say is not looked at.
    """

    origin: str
    size: int
    root: bytes
    text: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            root = base64.b64encode(self.root).decode()
            object.__setattr__(self, "text", f"{self.origin}\n{self.size}\n{root}\n")

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint that a note's text is. Raises LogInvalid."""
        try:
            origin, size, root, *more = text.removesuffix("\n").split("\n")
            if not origin or not re.fullmatch("0|[1-9][0-9]{0,18}", size) or "" in more:
                raise ValueError
            data = _from_base64(root)
            if len(data) != SIZE or (size == "0" and data != EMPTY):
                raise ValueError
        except ValueError:
            raise LogInvalid("This signed note is no checkpoint of a log.") from None
        return cls(origin, int(size), data, text)

    def signed(self, lines: Iterable[str]) -> bytes:
        """The checkpoint as a note with these signature lines."""
        return (self.text + "\n" + "".join(lines)).encode()


def open_checkpoint(
    data: bytes, log: Key, witnesses: Sequence[Key] = ()
) -> tuple[Checkpoint, tuple[Signature, ...]]:
    """A checkpoint signed by a log, and the cosignatures of witnesses on it. Raises LogInvalid."""
    note = open_note(data, [log, *witnesses])
    if note.by(log) is None:
        raise LogInvalid(
            f"The checkpoint is not signed by the log {log.name}.",
            hint="See that the log's address and its key belong together.",
        )
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise LogInvalid(f"The checkpoint is of {checkpoint.origin}, not of the log {log.name}.")
    return checkpoint, tuple(x for x in note.signatures if x.key.kind == COSIGNATURE)

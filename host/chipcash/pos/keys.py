# SPDX-License-Identifier: Apache-2.0
"""Who keeps a till's two secrets: the key to which money is paid, and the key under which its books are.

A custody is named by a path, and the till's directory remembers it in `custody`:

- `file`: `pos.key` and `books.key` in the till's directory, readable by their owner only;
- `keyring:NAME`: two entries of the operating system's key store, by the library keyring;
- `sam:PATH`: a card of the till's own in a second reader (SAM): chipcash.pos.sam;
- `pkcs11:token=…;object=…?module-path=…&pin-source=…` (RFC 7512): a key made in a token, which never
  leaves it, and the books' key as a private data object beside it.

What a custody holds is made once and never changed: there is no way to move a till to another one. Make a
new till, and let the old one pay its money there.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chipcash import files
from chipcash.crypto import CryptoError, PrivateKey, Suite, suite
from chipcash_wire.objects import SUITE_P256

__all__ = [
    "CUSTODY_FILE",
    "FILE",
    "PIN_VARIABLE",
    "Custody",
    "Signer",
    "custody_at",
    "custody_of",
    "new_path",
    "remember",
    "remembered",
    "same_kind",
]

PIN_VARIABLE = "CHIPCASH_KEY_PIN"
"""Names the PIN of what keeps the key, for programs."""
FILE = "file"
"""The path of keys in files of the till's directory."""
CUSTODY_FILE = "custody"
"""Name of the file that says where a till's keys are."""
_SERVICE = "chipcash"
_BOOKS_KEY = 32

asking: Callable[[str], str] | None = None
"""How a person is asked for a PIN, where there is a person: set by the command line."""


class Signer(Protocol):
    """What signs for a till; chipcash.crypto.PrivateKey is one."""

    suite: Suite
    public: bytes
    """Its public key, 33 bytes."""

    def sign(self, message: bytes) -> bytes:
        """A signature over message, 64 bytes. Raises CryptoError."""


class Custody(ABC):
    """Where a till's secrets are. path: see the module; directory: the till's. All raises CryptoError."""

    def __init__(self, path: str, directory: Path) -> None:
        self.path = path
        self.directory = directory

    @abstractmethod
    def key(self) -> Signer | None:
        """The till's key, ready to sign; None if there is none."""

    @abstractmethod
    def make_key(self, which: Suite) -> Signer:
        """Make the key, where key() is None."""

    @abstractmethod
    def books_key(self) -> bytes | None:
        """The key of the books, 32 bytes; None if there is none."""

    @abstractmethod
    def keep_books_key(self, key: bytes) -> None:
        """Keep the key of the books, where books_key() is None."""

    def make_books_key(self) -> bytes:
        """The key of the books, made if there is none."""
        found = self.books_key()
        if found is None:
            self.keep_books_key(secrets.token_bytes(_BOOKS_KEY))
            # What is read again is what the next start reads.
            found = self.books_key()
        if found is None:
            raise CryptoError(
                "The key of the till's books was given away to be kept and is not there.",
                hint="See that what keeps it works and has room; nothing was lost.",
                custody=self.path,
            )
        return found

    def export(self) -> PrivateKey | None:
        """The key itself, to be kept elsewhere as well; None where it cannot leave."""
        found = self.key()
        return found if isinstance(found, PrivateKey) else None

    def keep_key(self, key: PrivateKey) -> None:
        """Keep a key that was exported, where key() is None."""
        raise CryptoError(
            f"A key cannot be put into {self.path}: it is made there, and stays there."
        )


def new_path(text: str) -> str:
    """A custody's path, as people give it for a new till, with a name of its own where they gave none.

    Raises CryptoError if there is no such custody.
    """
    kind, _, rest = text.partition(":")
    name = f"chipcash-{secrets.token_hex(8)}"
    if kind == "keyring":
        return text if rest else f"keyring:{name}"
    if kind == "pkcs11":
        where = _TokenPath.parse(text)
        return text if where.object else where.named(name)
    if kind != "sam" and text != FILE:
        raise _unknown(text)
    return text


def same_kind(path: str, text: str) -> bool:
    """Whether a custody is what people asked for, so that no other one need be begun."""
    if path.partition(":")[0] != text.partition(":")[0]:
        return False
    if text.startswith("pkcs11:"):
        one, other = _TokenPath.parse(path), _TokenPath.parse(text)
        return (one.token, one.module) == (other.token, other.module) and (
            other.object in ("", one.object)
        )
    return ":" not in text or path == text


def custody_at(path: str, directory: Path) -> Custody:
    """The custody at a path. Raises CryptoError if there is no such kind."""
    kind = path.partition(":")[0]
    if path == FILE:
        return _Files(path, directory)
    if kind == "keyring":
        return _Keyring(path, directory)
    if kind == "pkcs11":
        return _Token(path, directory)
    if kind == "sam":
        from chipcash.pos.sam import SamCustody  # which is one of these

        return SamCustody(path, directory)
    raise _unknown(path)


def custody_of(directory: Path) -> Custody:
    """The custody of the till in a directory. Raises CryptoError."""
    try:
        path = (directory / CUSTODY_FILE).read_text("utf-8").strip()
    except FileNotFoundError:  # tills had key files only, once
        path = FILE
    except (OSError, ValueError) as error:
        raise CryptoError(
            f"{directory / CUSTODY_FILE}, which says where the till's key is, cannot be read: {error}.",
            hint="See that you may read it, or restore it.",
        ) from None
    return custody_at(path, directory)


def remembered(directory: Path) -> bool:
    """Whether the till in a directory says where its keys are. One that does has encrypted books."""
    return (directory / CUSTODY_FILE).exists()


def remember(custody: Custody) -> None:
    """Write down where a till's key is, before it is made. Raises OSError."""
    files.replace(custody.directory / CUSTODY_FILE, f"{custody.path}\n".encode())


def _unknown(text: str) -> CryptoError:
    return CryptoError(
        f"{text.partition(':')[0]!r} keeps no keys.",
        hint="file, keyring, sam: paths and pkcs11: URIs do.",
    )


# Files ----------------------------------------------------------------------------------------------


class _Files(Custody):
    @property
    def _key_file(self) -> Path:
        return self.directory / "pos.key"

    @property
    def _books_file(self) -> Path:
        return self.directory / "books.key"

    def key(self) -> PrivateKey | None:
        return PrivateKey.load(self._key_file) if self._key_file.exists() else None

    def make_key(self, which: Suite) -> PrivateKey:
        key = PrivateKey.generate(which)
        key.save(self._key_file)
        return key

    def keep_key(self, key: PrivateKey) -> None:
        key.save(self._key_file)

    def books_key(self) -> bytes | None:
        try:
            key = bytes.fromhex(self._books_file.read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            key = b""
        if len(key) != _BOOKS_KEY:
            raise CryptoError(
                f"{self._books_file} cannot be read, or is damaged: without it the till's books cannot be "
                "opened.",
                hint="Restore it, or get both keys back from the file that `chipcash pos keys` wrote.",
            )
        return key

    def keep_books_key(self, key: bytes) -> None:
        try:
            files.create(self._books_file, key.hex().encode("ascii"))
        except FileExistsError:
            pass  # another process was faster: its key is the one
        except OSError as error:
            raise CryptoError(f"{self._books_file} cannot be written: {error.strerror}.") from None


# The operating system's key store ------------------------------------------------------------------


class _Keyring(Custody):
    """Entries `NAME key` and `NAME books` of the service chipcash."""

    def __init__(self, path: str, directory: Path) -> None:
        super().__init__(path, directory)
        self._name = path.partition(":")[2]
        try:
            import keyring
            from keyring.backends import chainer
        except ImportError:
            raise CryptoError(
                "The operating system's key store needs the library keyring.",
                hint="Install it: pip install 'chipcash[keyring]'",
            ) from None
        found: Any = keyring.get_keyring()
        # Of several the first: the library would go on to the next where that one is locked. And none that
        # others have added, such as files in the clear.
        stores = found.backends if isinstance(found, chainer.ChainerBackend) else [found]
        self._store: Any = next((store for store in stores if _of_the_system(store)), None)
        if self._store is None:
            raise CryptoError(
                "There is no key store of the operating system for this user, or it is not running.",
                hint="On Linux the Secret Service has to run in the user's session (gnome-keyring, KWallet, "
                "KeePassXC); a till without a session uses a token (pkcs11:) or a file.",
            )

    def _get(self, what: str) -> str | None:
        from keyring.errors import KeyringError

        try:
            found = self._store.get_password(_SERVICE, f"{self._name} {what}")
        except KeyringError as error:
            raise self._failed(error) from None
        return None if found is None else str(found)

    def _set(self, what: str, value: str) -> None:
        from keyring.errors import KeyringError

        try:
            self._store.set_password(_SERVICE, f"{self._name} {what}", value)
        except KeyringError as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> CryptoError:
        return CryptoError(
            f"The operating system's key store ({self._store.name}) did not answer: "
            f"{type(error).__name__}. No money has moved.",
            hint="Unlock it, as by logging in to the desktop, and repeat.",
            custody=self.path,
        )

    def key(self) -> PrivateKey | None:
        found = self._get("key")
        if found is None:
            return None
        try:
            data = json.loads(found)
            return PrivateKey(suite(str(data["suite"])), bytes.fromhex(data["private"]))
        except (ValueError, KeyError, TypeError):
            raise CryptoError(
                f"The entry {self._name!r} of the operating system's key store is no key of a till."
            ) from None

    def make_key(self, which: Suite) -> PrivateKey:
        key = PrivateKey.generate(which)
        self.keep_key(key)
        return key

    def keep_key(self, key: PrivateKey) -> None:
        secret = {"suite": key.suite.name, "private": key.private_bytes().hex()}
        self._set("key", json.dumps(secret))

    def books_key(self) -> bytes | None:
        found = self._get("books")
        return None if found is None else bytes.fromhex(found)

    def keep_books_key(self, key: bytes) -> None:
        self._set("books", key.hex())


def _of_the_system(store: object) -> bool:
    from keyring.backends import fail, null

    kind = type(store)
    return kind.__module__.startswith("keyring.backends.") and kind not in (
        fail.Keyring,
        null.Keyring,
    )


# PKCS#11 --------------------------------------------------------------------------------------------


class _TokenPath:
    """A PKCS#11 URI, as far as it is needed to find a token and a key in it."""

    def __init__(self, text: str, path: Mapping[str, str], query: Mapping[str, str]) -> None:
        self.text = text
        self.token = path.get("token", "")
        self.object = path.get("object", "")
        self.module = query.get("module-path", "")
        self.pin_source = query.get("pin-source", "").removeprefix("file:")

    @classmethod
    def parse(cls, text: str) -> _TokenPath:
        body, _, query = text.removeprefix("pkcs11:").partition("?")
        pairs = [part.partition("=") for part in body.split(";") if part]
        path = {name: unquote(value) for name, _, value in pairs}
        options = dict(parse_qsl(query))
        if "pin-value" in options:
            raise CryptoError(
                "A PIN does not belong into the path of a key: it would be written into the till's folder.",
                hint=f"Give it in {PIN_VARIABLE}, or name a file that holds it: pin-source=file:/…",
            )
        if unknown := (path.keys() - {"token", "object"}) | (
            options.keys() - {"module-path", "pin-source"}
        ):
            raise CryptoError(
                f"Of a PKCS#11 URI only token, object, module-path and pin-source are understood, "
                f"not {', '.join(sorted(unknown))}."
            )
        if not path.get("token") or not options.get("module-path"):
            raise CryptoError(
                "A PKCS#11 URI has to name the token and its library.",
                hint="As in pkcs11:token=till?module-path=/usr/lib/softhsm/libsofthsm2.so",
            )
        return cls(text, path, options)

    def named(self, name: str) -> str:
        """The same path with the name of a key."""
        body, _, query = self.text.partition("?")
        return f"{body};object={quote(name)}?{query}"


_sessions: dict[tuple[str, str], Any] = {}
"""A process logs in to a token once, for all of its threads: PKCS#11 wants it so."""
_sessions_lock = threading.RLock()


class _Token(Custody):
    def __init__(self, path: str, directory: Path) -> None:
        super().__init__(path, directory)
        self.where = _TokenPath.parse(path)

    def _pin(self) -> str:
        if pin := os.environ.get(PIN_VARIABLE):
            return pin
        if self.where.pin_source:
            try:
                return Path(self.where.pin_source).read_text("utf-8").strip()
            except (OSError, ValueError):
                raise CryptoError(
                    f"The file {self.where.pin_source}, which holds the PIN of the till's token, cannot be "
                    "read."
                ) from None
        if asking is None:
            raise CryptoError(
                f"The token {self.where.token!r}, which holds the till's key, wants its PIN.",
                hint=f"Give it in {PIN_VARIABLE}, or name a file that holds it: pin-source=file:/…",
            )
        return asking(f"PIN of the token {self.where.token}")

    def session(self) -> Any:
        """The session that is logged in to the token; hold the lock to use it."""
        try:
            import pkcs11
            from pkcs11.exceptions import NoSuchToken, PinIncorrect, PinLocked, PKCS11Error
        except ImportError:
            raise CryptoError(
                "A PKCS#11 token needs the library python-pkcs11.",
                hint="Install it: pip install 'chipcash[pkcs11]'",
            ) from None
        where = self.where
        with _sessions_lock:
            found = _sessions.get((where.module, where.token))
            if found is not None:
                return found
            try:
                token = pkcs11.lib(where.module).get_token(token_label=where.token)
            except NoSuchToken:
                raise CryptoError(
                    f"The token {where.token!r}, which holds the till's key, is not there.",
                    hint="Plug it in, and see that its service runs; then repeat. No money has moved.",
                    custody=self.path,
                ) from None
            except (PKCS11Error, OSError) as error:
                raise self.failed(error) from None
            pin = self._pin()
            try:
                opened = token.open(rw=True, user_pin=pin)
            except PinIncorrect:
                raise CryptoError(
                    f"The token {where.token!r} refused the PIN. It counts wrong ones, and locks.",
                    hint="See that the right PIN is given before you repeat.",
                ) from None
            except PinLocked:
                raise CryptoError(
                    f"The token {where.token!r} is locked: its PIN was wrong too often.",
                    hint="Unlock it with its security officer's PIN.",
                ) from None
            except PKCS11Error as error:
                raise self.failed(error) from None
            _sessions[(where.module, where.token)] = opened
            return opened

    def failed(self, error: Exception) -> CryptoError:
        """What a failure of the token means. The next use logs in anew."""
        with _sessions_lock:
            _sessions.pop((self.where.module, self.where.token), None)
        return CryptoError(
            f"The token {self.where.token!r}, which holds the till's key, failed: "
            f"{type(error).__name__}. No money has moved.",
            hint="See that it is plugged in, and that its library is the right one; then repeat.",
            custody=self.path,
        )

    def find(self, kind: str) -> Any | None:
        """The object of a kind that has the till's name; hold the lock."""
        from pkcs11 import Attribute, ObjectClass
        from pkcs11.exceptions import PKCS11Error

        wanted = {Attribute.CLASS: ObjectClass[kind], Attribute.LABEL: self.where.object}
        try:
            found = list(self.session().get_objects(wanted))
        except PKCS11Error as error:
            raise self.failed(error) from None
        if len(found) > 1:
            raise CryptoError(
                f"The token {self.where.token!r} has several objects {self.where.object!r}.",
                hint="Remove what is not the till's with the token's own tools.",
            )
        return found[0] if found else None

    def key(self) -> Signer | None:
        with _sessions_lock:
            private, public = self.find("PRIVATE_KEY"), self.find("PUBLIC_KEY")
        if private is None or public is None:
            return None
        return _TokenKey(self, _point(public))

    def make_key(self, which: Suite) -> Signer:
        from pkcs11 import Attribute, KeyType
        from pkcs11.exceptions import PKCS11Error
        from pkcs11.util.ec import encode_named_curve_parameters

        if which.id != SUITE_P256:
            raise CryptoError(
                f"PKCS#11 has no signatures of suite {which.name}: SM2 is not in the standard, and each "
                "token calls it otherwise.",
                hint="Keep the keys of such a till in a file or in the operating system's key store.",
            )
        if self.find("PRIVATE_KEY") is not None:
            raise CryptoError(
                f"The token {self.where.token!r} has a key {self.where.object!r} that cannot be used: its "
                "public half is missing.",
                hint="Give another name: object=…",
            )
        with _sessions_lock:
            try:
                curve = self.session().create_domain_parameters(
                    KeyType.EC,
                    {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
                    local=True,
                )
                public, _ = curve.generate_keypair(
                    store=True,
                    id=secrets.token_bytes(8),
                    label=self.where.object,
                    private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
                )
            except PKCS11Error as error:
                raise self.failed(error) from None
        return _TokenKey(self, _point(public))

    def books_key(self) -> bytes | None:
        from pkcs11 import Attribute
        from pkcs11.exceptions import PKCS11Error

        with _sessions_lock:
            found = self.find("DATA")
            try:
                return None if found is None else bytes(found[Attribute.VALUE])
            except PKCS11Error as error:
                raise self.failed(error) from None

    def keep_books_key(self, key: bytes) -> None:
        from pkcs11 import Attribute, ObjectClass
        from pkcs11.exceptions import PKCS11Error

        with _sessions_lock:
            try:
                self.session().create_object(
                    {
                        Attribute.CLASS: ObjectClass.DATA,
                        Attribute.TOKEN: True,
                        Attribute.PRIVATE: True,
                        Attribute.APPLICATION: _SERVICE,
                        Attribute.LABEL: self.where.object,
                        Attribute.VALUE: key,
                    }
                )
            except PKCS11Error as error:
                raise self.failed(error) from None


class _TokenKey:
    """A key that is in a token."""

    def __init__(self, token: _Token, public: bytes) -> None:
        self.suite = suite(SUITE_P256)
        self.public = public
        self._token = token

    def __repr__(self) -> str:
        return f"<key in {self._token.where.token} {self.public.hex()}>"

    def sign(self, message: bytes) -> bytes:
        from pkcs11 import Mechanism
        from pkcs11.exceptions import PKCS11Error

        with _sessions_lock:
            # Looked for each time: a token may be pulled out and put in again.
            key = self._token.find("PRIVATE_KEY")
            if key is None:
                raise self._token.failed(KeyError())
            try:
                # Hashed here: few tokens hash by themselves.
                signature = key.sign(self.suite.hash(message), mechanism=Mechanism.ECDSA)
            except PKCS11Error as error:
                raise self._token.failed(error) from None
        return bytes(signature)


def _point(public: Any) -> bytes:
    """The compressed point of a token's public key, which says it as an ASN.1 octet string."""
    from pkcs11 import Attribute

    der = bytes(public[Attribute.EC_POINT])
    raw = der[2:] if der[:2] == bytes((4, len(der) - 2)) else der
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    except ValueError:
        raise CryptoError("The token's key is not on the curve P-256.") from None
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

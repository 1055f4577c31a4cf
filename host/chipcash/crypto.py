# SPDX-License-Identifier: Apache-2.0
"""The crypto suites on the host, over maintained libraries; the same suites as chipcash_card.suites.

`p256`: ECDSA with SHA-256 (FIPS 186-5) by pyca cryptography. `gm`: SM2 with SM3 (GB/T 32918.2,
GB/T 32905) by OpenSSL 3's libcrypto through cffi, since pyca has no SM2. For channels ECDH on the same curve,
and AES-128 or SM4 (GB/T 32907), by the same libraries. Public keys are compressed points
(33 bytes), signatures r || s (64 bytes), message hashes 32 bytes.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import json
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cffi
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chipcash import files
from chipcash.errors import ChipcashError
from chipcash_wire.objects import SUITE_GM, SUITE_P256

_KEYS_CACHED = 4096
_ECDSA = ec.ECDSA(hashes.SHA256())


class CryptoError(ChipcashError):
    """A key or a library is not usable; no money has moved."""

    exit_code = 19


class Suite(ABC):
    """A crypto suite: id and name as on the wire; order: that of its curve."""

    id: int
    name: str
    order: int

    @abstractmethod
    def hash(self, data: bytes) -> bytes:
        """The suite's hash of data, 32 bytes."""

    @abstractmethod
    def verify(self, public: bytes, message: bytes, signature: bytes | None) -> bool:
        """Whether signature is one over message under public; False for whatever is malformed."""

    @abstractmethod
    def load(self, private: bytes) -> tuple[bytes, Any]:
        """Public key of a private key (32 bytes, in [1, n - 2]), and the library's object to sign with.

        Raises CryptoError if it is no private key.
        """

    @abstractmethod
    def sign(self, key: Any, message: bytes) -> bytes:
        """A signature over message; key is what load() gave to sign with."""

    @abstractmethod
    def agree(self, private: bytes, key: Any, public: bytes) -> bytes:
        """What a private key, with the object that load() gave for it, shares with another's public key.

        The x-coordinate of ECDH (SEC 1 section 3.3.1), 32 bytes. Raises CryptoError if public is no point.
        """

    @abstractmethod
    def cipher(self, key: bytes) -> Callable[[bytes], bytes]:
        """The suite's block cipher under a key of 16 bytes; enciphers whole blocks, each by itself."""

    def key_id(self, public: bytes) -> bytes:
        """First 8 bytes of the hash of a public key."""
        return self.hash(public)[:8]


def _scalar(suite: Suite, private: bytes) -> int:
    """A private key as a number, which must be in [1, n - 2] as SM2 wants it."""
    number = int.from_bytes(private, "big")
    if len(private) != 32 or not 0 < number < suite.order - 1:
        raise CryptoError(f"This is not a private key of suite {suite.name}.")
    return number


def _der(signature: bytes) -> bytes:
    """r || s as the ASN.1 that libraries speak."""
    r, s = signature[:32], signature[32:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def _raw(der: bytes) -> bytes:
    """The ASN.1 of libraries as r || s."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class _P256(Suite):
    id = SUITE_P256
    name = "p256"
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def hash(self, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    def verify(self, public: bytes, message: bytes, signature: bytes | None) -> bool:
        if signature is None or len(signature) != 64:
            return False
        key = _p256_public(public)
        if key is None:
            return False
        try:
            key.verify(_der(signature), message, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def load(self, private: bytes) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        key = ec.derive_private_key(_scalar(self, private), ec.SECP256R1())
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        return point, key

    def sign(self, key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
        return _raw(key.sign(message, _ECDSA))

    def agree(self, private: bytes, key: ec.EllipticCurvePrivateKey, public: bytes) -> bytes:
        other = _p256_public(public)
        if other is None:
            raise CryptoError("This is not a public key of suite p256.")
        return key.exchange(ec.ECDH(), other)

    def cipher(self, key: bytes) -> Callable[[bytes], bytes]:
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update


@lru_cache(maxsize=_KEYS_CACHED)
def _p256_public(public: bytes) -> ec.EllipticCurvePublicKey | None:
    if len(public) != 33:
        return None
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    except ValueError:
        return None


_CDEF = """
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_pkey_ctx_st EVP_PKEY_CTX;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct ossl_param_bld_st OSSL_PARAM_BLD;
typedef struct ossl_param_st OSSL_PARAM;
typedef struct bignum_st BIGNUM;
typedef struct ec_group_st EC_GROUP;
typedef struct ec_point_st EC_POINT;
typedef struct bignum_ctx BN_CTX;
OSSL_PARAM_BLD *OSSL_PARAM_BLD_new(void);
void OSSL_PARAM_BLD_free(OSSL_PARAM_BLD *);
int OSSL_PARAM_BLD_push_utf8_string(OSSL_PARAM_BLD *, const char *, const char *, size_t);
int OSSL_PARAM_BLD_push_octet_string(OSSL_PARAM_BLD *, const char *, const void *, size_t);
int OSSL_PARAM_BLD_push_BN(OSSL_PARAM_BLD *, const char *, const BIGNUM *);
OSSL_PARAM *OSSL_PARAM_BLD_to_param(OSSL_PARAM_BLD *);
void OSSL_PARAM_free(OSSL_PARAM *);
EVP_PKEY_CTX *EVP_PKEY_CTX_new_from_name(void *, const char *, const char *);
EVP_PKEY_CTX *EVP_PKEY_CTX_new(EVP_PKEY *, void *);
void EVP_PKEY_CTX_free(EVP_PKEY_CTX *);
int EVP_PKEY_fromdata_init(EVP_PKEY_CTX *);
int EVP_PKEY_fromdata(EVP_PKEY_CTX *, EVP_PKEY **, int, OSSL_PARAM *);
void EVP_PKEY_free(EVP_PKEY *);
int EVP_PKEY_CTX_set1_id(EVP_PKEY_CTX *, const void *, int);
const void *EVP_sm3(void);
EVP_MD_CTX *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(EVP_MD_CTX *);
void EVP_MD_CTX_set_pkey_ctx(EVP_MD_CTX *, EVP_PKEY_CTX *);
int EVP_DigestSignInit(EVP_MD_CTX *, EVP_PKEY_CTX **, const void *, void *, EVP_PKEY *);
int EVP_DigestSign(EVP_MD_CTX *, unsigned char *, size_t *, const unsigned char *, size_t);
int EVP_DigestVerifyInit(EVP_MD_CTX *, EVP_PKEY_CTX **, const void *, void *, EVP_PKEY *);
int EVP_DigestVerify(EVP_MD_CTX *, const unsigned char *, size_t, const unsigned char *, size_t);
int EVP_Digest(const void *, size_t, unsigned char *, unsigned int *, const void *, void *);
void ERR_clear_error(void);
BIGNUM *BN_bin2bn(const unsigned char *, int, BIGNUM *);
void BN_clear_free(BIGNUM *);
EC_GROUP *EC_GROUP_new_by_curve_name(int);
EC_POINT *EC_POINT_new(const EC_GROUP *);
void EC_POINT_free(EC_POINT *);
int EC_POINT_mul(const EC_GROUP *, EC_POINT *, const BIGNUM *, const EC_POINT *, const BIGNUM *, BN_CTX *);
int EC_POINT_oct2point(const EC_GROUP *, EC_POINT *, const unsigned char *, size_t, BN_CTX *);
size_t EC_POINT_point2oct(const EC_GROUP *, const EC_POINT *, int, unsigned char *, size_t, BN_CTX *);
int OBJ_sn2nid(const char *);
"""
_SM2_ID = b"1234567812345678"
_COMPRESSED = 2
_PUBLIC_KEY = 0x86  # EVP_PKEY_PUBLIC_KEY: parameters and public key
_KEYPAIR = 0x87


def _libraries() -> Iterator[str]:
    """Where OpenSSL 3 may be, best first. Not macOS's own libcrypto: loading it ends the process."""
    if sys.platform == "darwin":
        for prefix in ("/opt/homebrew", "/usr/local"):
            yield f"{prefix}/opt/openssl@3/lib/libcrypto.3.dylib"
        return
    yield "libcrypto.so.3"
    found = ctypes.util.find_library("crypto")
    if found:
        yield found


class _OpenSsl:
    """libcrypto, with what SM2 needs."""

    def __init__(self) -> None:
        self.ffi: Any = cffi.FFI()
        self.ffi.cdef(_CDEF)
        for name in _libraries():
            try:
                self.lib: Any = self.ffi.dlopen(name)
                # Missing from OpenSSL 1 and LibreSSL, or with SM2 left out (as some distributions do).
                _ = self.lib.OSSL_PARAM_BLD_new
                self.sm3: Any = self.lib.EVP_sm3()
                self.group: Any = self.lib.EC_GROUP_new_by_curve_name(self.lib.OBJ_sn2nid(b"SM2"))
            except (OSError, AttributeError):
                continue
            if self.sm3 and self.group:
                return
        raise CryptoError(
            "OpenSSL 3 (libcrypto) with SM2 was not found, so suite gm cannot be used.",
            hint="Install it (Debian: apt-get install libssl3; macOS: brew install openssl@3), "
            "or use suite p256.",
        )

    def private(self, private: bytes) -> tuple[bytes, Any]:
        """The compressed public key of a private key, and the EVP_PKEY of both."""
        ffi, lib = self.ffi, self.lib
        number = ffi.gc(lib.BN_bin2bn(private, len(private), ffi.NULL), lib.BN_clear_free)
        point = ffi.gc(lib.EC_POINT_new(self.group), lib.EC_POINT_free)
        good = lib.EC_POINT_mul(self.group, point, number, ffi.NULL, ffi.NULL, ffi.NULL)
        public = self._compressed(point) if good == 1 else b""
        key = self.key(public, number) if public else None
        if key is None:
            lib.ERR_clear_error()
            raise CryptoError("OpenSSL refused a private key.")
        return public, key

    def multiply(self, private: bytes, public: bytes) -> bytes:
        """The compressed point that is private times public, or nothing if public is no point."""
        ffi, lib = self.ffi, self.lib
        number = ffi.gc(lib.BN_bin2bn(private, len(private), ffi.NULL), lib.BN_clear_free)
        point = ffi.gc(lib.EC_POINT_new(self.group), lib.EC_POINT_free)
        good = lib.EC_POINT_oct2point(self.group, point, public, len(public), ffi.NULL)
        if good == 1:
            good = lib.EC_POINT_mul(self.group, point, ffi.NULL, point, number, ffi.NULL)
        lib.ERR_clear_error()
        return self._compressed(point) if good == 1 else b""

    def _compressed(self, point: Any) -> bytes:
        """The encoding of an EC_POINT; nothing at infinity."""
        ffi, lib = self.ffi, self.lib
        out = ffi.new("unsigned char[33]")
        size = lib.EC_POINT_point2oct(self.group, point, _COMPRESSED, out, 33, ffi.NULL)
        return bytes(out) if size == 33 else b""

    def key(self, public: bytes, private: Any | None = None) -> Any | None:
        """An EVP_PKEY that frees itself, or None if the point is none. private: a BIGNUM."""
        ffi, lib = self.ffi, self.lib
        builder = ffi.gc(lib.OSSL_PARAM_BLD_new(), lib.OSSL_PARAM_BLD_free)
        lib.OSSL_PARAM_BLD_push_utf8_string(builder, b"group", b"SM2", 0)
        lib.OSSL_PARAM_BLD_push_octet_string(builder, b"pub", public, len(public))
        if private is not None:
            lib.OSSL_PARAM_BLD_push_BN(builder, b"priv", private)
        params = ffi.gc(lib.OSSL_PARAM_BLD_to_param(builder), lib.OSSL_PARAM_free)
        context = ffi.gc(
            lib.EVP_PKEY_CTX_new_from_name(ffi.NULL, b"SM2", ffi.NULL), lib.EVP_PKEY_CTX_free
        )
        out = ffi.new("EVP_PKEY **")
        selection = _PUBLIC_KEY if private is None else _KEYPAIR
        if (
            lib.EVP_PKEY_fromdata_init(context) != 1
            or lib.EVP_PKEY_fromdata(context, out, selection, params) != 1
        ):
            lib.ERR_clear_error()
            return None
        return ffi.gc(out[0], lib.EVP_PKEY_free)

    def context(self, key: Any, sign: bool) -> tuple[Any, Any]:
        """A digest context ready for one message, and the key context it refers to."""
        ffi, lib = self.ffi, self.lib
        inner = ffi.gc(lib.EVP_PKEY_CTX_new(key, ffi.NULL), lib.EVP_PKEY_CTX_free)
        context = ffi.gc(lib.EVP_MD_CTX_new(), lib.EVP_MD_CTX_free)
        start = lib.EVP_DigestSignInit if sign else lib.EVP_DigestVerifyInit
        lib.EVP_PKEY_CTX_set1_id(inner, _SM2_ID, len(_SM2_ID))
        lib.EVP_MD_CTX_set_pkey_ctx(context, inner)
        if start(context, ffi.NULL, self.sm3, ffi.NULL, key) != 1:
            lib.ERR_clear_error()
            raise CryptoError("OpenSSL refused to start an SM2 operation.")
        return context, inner


@cache
def _openssl() -> _OpenSsl:
    return _OpenSsl()


@lru_cache(maxsize=_KEYS_CACHED)
def _sm2_public(public: bytes) -> Any | None:
    if len(public) != 33 or public[0] not in (2, 3):
        return None
    return _openssl().key(public)


class _Gm(Suite):
    id = SUITE_GM
    name = "gm"
    order = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123

    def hash(self, data: bytes) -> bytes:
        ssl = _openssl()
        out = ssl.ffi.new("unsigned char[32]")
        ssl.lib.EVP_Digest(data, len(data), out, ssl.ffi.NULL, ssl.sm3, ssl.ffi.NULL)
        return bytes(out)

    def verify(self, public: bytes, message: bytes, signature: bytes | None) -> bool:
        if signature is None or len(signature) != 64:
            return False
        key = _sm2_public(public)
        if key is None:
            return False
        ssl = _openssl()
        der = _der(signature)
        context, _inner = ssl.context(key, sign=False)
        good: int = ssl.lib.EVP_DigestVerify(context, der, len(der), message, len(message))
        ssl.lib.ERR_clear_error()
        return good == 1

    def load(self, private: bytes) -> tuple[bytes, Any]:
        _scalar(self, private)
        return _openssl().private(private)

    def sign(self, key: Any, message: bytes) -> bytes:
        ssl = _openssl()
        context, _inner = ssl.context(key, sign=True)
        out = ssl.ffi.new("unsigned char[80]")
        size = ssl.ffi.new("size_t *", 80)
        if ssl.lib.EVP_DigestSign(context, out, size, message, len(message)) != 1:
            ssl.lib.ERR_clear_error()
            raise CryptoError("OpenSSL refused to sign.")
        return _raw(bytes(ssl.ffi.buffer(out, size[0])))

    def agree(self, private: bytes, key: Any, public: bytes) -> bytes:
        shared = _openssl().multiply(private, public) if len(public) == 33 else b""
        if not shared:
            raise CryptoError("This is not a public key of suite gm.")
        return shared[1:]

    def cipher(self, key: bytes) -> Callable[[bytes], bytes]:
        return Cipher(algorithms.SM4(key), modes.ECB()).encryptor().update


_SUITES: dict[int | str, Suite] = {
    which: found for found in (_Gm(), _P256()) for which in (found.id, found.name)
}


def suite(which: int | str) -> Suite:
    """The suite of an id or a name. Raises CryptoError."""
    found = _SUITES.get(which)
    if found is None:
        raise CryptoError(f"There is no suite {which!r}.", hint="The suites are gm and p256.")
    return found


def verify(suite_id: int, public: bytes, message: bytes, signature: bytes | None) -> bool:
    """Whether signature is one over message under public in that suite. Raises CryptoError."""
    return suite(suite_id).verify(public, message, signature)


def key_id(suite_id: int, public: bytes) -> bytes:
    """Key id of a public key, 8 bytes."""
    return suite(suite_id).key_id(public)


class PrivateKey:
    """A private key in memory or in a file that only its owner may read. Never shows its secret."""

    def __init__(self, suite: Suite, private: bytes) -> None:
        self.suite = suite
        self.public, self._key = suite.load(private)
        self._private = private

    def __repr__(self) -> str:
        return f"<PrivateKey {self.suite.name} {self.public.hex()}>"

    @classmethod
    def generate(cls, which: Suite | int | str) -> PrivateKey:
        """A new key from the system's generator."""
        found = which if isinstance(which, Suite) else suite(which)
        return cls(found, (1 + secrets.randbelow(found.order - 2)).to_bytes(32, "big"))

    @property
    def key_id(self) -> bytes:
        """Key id of the public key, 8 bytes."""
        return self.suite.key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """A signature over message, 64 bytes."""
        return self.suite.sign(self._key, message)

    def sign_again(self, message: bytes) -> bytes:
        """A signature over message that is the same each time (RFC 6979 section 3.2; for SM2 the same
        construction with SM3), for what has to be reproducible.

        By the card's own arithmetic, whose time depends on the key: not for who answers strangers.
        """
        from chipcash_card import suites

        suite = suites.suite(self.suite.id)
        point = suite.point(self._private)
        e = int.from_bytes(suite.hash(suite.prefix(point) + message), "big")
        k = suites.nonce(suite, self._private, (e % suite.curve.n).to_bytes(32, "big"))
        secret = suite.secret(self._private)
        signature = suite.finish(secret, suite.coupon(secret, k), e)
        if signature is None:
            raise CryptoError("This message has no signature under this key.")  # below 2^-250
        return signature

    def agree(self, public: bytes) -> bytes:
        """The secret shared with who holds the private key of public: an x-coordinate, 32 bytes (ECDH).

        Raises CryptoError if public is no public key. Derive keys from it; never use it as one.
        """
        return self.suite.agree(self._private, self._key, public)

    def private_bytes(self) -> bytes:
        """The secret itself, 32 bytes: for a vault or another signer, never for a log."""
        return self._private

    def save(self, path: str | Path) -> None:
        """Write the key to a new file with mode 0600, whole or not at all. Raises CryptoError."""
        path = Path(path)
        text = json.dumps({"suite": self.suite.name, "private": self._private.hex()})
        try:
            files.create(path, text.encode("ascii"))
        except FileExistsError:
            raise CryptoError(
                f"{path} exists already; a key is never overwritten.",
                hint="Choose another directory, or move the file away.",
            ) from None
        except OSError as error:
            raise CryptoError(f"The key file {path} cannot be written: {error.strerror}.") from None

    @classmethod
    def load(cls, path: str | Path) -> PrivateKey:
        """Read a key file. Raises CryptoError if there is none or it is damaged."""
        try:
            data = json.loads(Path(path).read_text())
            found = suite(str(data["suite"]))
            private = bytes.fromhex(data["private"])
            _scalar(found, private)
        except FileNotFoundError:
            raise CryptoError(f"There is no key file {path}.") from None
        except OSError as error:
            raise CryptoError(f"The key file {path} cannot be read: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, CryptoError):
            raise CryptoError(
                f"{path} is no chipcash key file, or is damaged.", hint="Restore it from a backup."
            ) from None
        return cls(found, private)

# SPDX-License-Identifier: Apache-2.0
"""The crypto suites of the card: hash, verification, and signing with coupons.

`gm`: SM2 with SM3 (GB/T 32918.2, GB/T 32905); `p256`: ECDSA with SHA-256 (FIPS 186-5). Signatures are
r || s, 64 bytes; public keys compressed points, 33 bytes. The host has the same suites over libraries:
chipcash.crypto.
"""

from hashlib import sha256 as _sha256

from chipcash_card import ec
from chipcash_card.sm3 import sm3
from chipcash_wire import card_objects as o
from chipcash_wire.compat import TYPE_CHECKING, aes

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_wire.channel import Channel, Cipher

_SM2_ID = b"1234567812345678"


def _bytes(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def hmac(digest: "Callable[[bytes], bytes]", key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104) over a hash with blocks of 64 bytes; key of at most 64 bytes."""
    key = key + bytes(64 - len(key))
    inner = digest(bytes([b ^ 0x36 for b in key]) + data)
    return digest(bytes([b ^ 0x5C for b in key]) + inner)


def nonce(suite: "Suite", private: bytes, data: bytes) -> int:
    """A number in [1, n - 1] from HMAC_DRBG (RFC 6979 section 3.2) keyed by the private key and data.

    With data the hash of the message modulo n this is the deterministic nonce of RFC 6979 section 3.2; a
    Signer gives place and fresh randomness instead, the additional data of section 3.6.
    """
    h = suite.hash
    seed = private + data
    key = hmac(h, bytes(32), b"\x01" * 32 + b"\x00" + seed)
    value = hmac(h, key, b"\x01" * 32)
    key = hmac(h, key, value + b"\x01" + seed)
    value = hmac(h, key, value)
    while True:
        value = hmac(h, key, value)
        k = _number(value)
        if 0 < k < suite.curve.n:
            return k
        key = hmac(h, key, value + b"\x00")
        value = hmac(h, key, value)


class Suite:
    """What both suites share. A coupon is all of a signature that does not depend on the message."""

    id = 0
    name = ""
    curve = ec.P256

    @staticmethod
    def hash(data: bytes) -> bytes:
        """The suite's hash, 32 bytes."""
        raise NotImplementedError

    @staticmethod
    def cipher(key: bytes) -> "Cipher":
        """The suite's block cipher under a key of 16 bytes."""
        raise NotImplementedError

    def __init__(self) -> None:
        self._known: "dict[bytes, tuple[ec.Affine, ec.Comb]]" = {}

    def public_key(self, private: bytes) -> bytes:
        """The compressed public key of a private key (32 bytes). Raises ValueError if it is none."""
        return ec.compress(self.point(private))

    def point(self, private: bytes) -> "ec.Affine":
        """The point that is the public key. Raises ValueError as public_key."""
        d = _number(private)
        point = self.curve.multiply(d) if 0 < d < self.curve.n - 1 else None
        if point is None:
            raise ValueError("not a private key")
        return point

    def remember(self, public: bytes) -> None:
        """Prepare a key that will verify often: half the time for each, about 3 kB of memory for good.

        Raises ValueError if it is not a public key.
        """
        point = self.curve.decompress(public)
        if point is None:
            raise ValueError("not a public key")
        self._known[public] = point, ec.Comb(self.curve, point[0], point[1])

    def verify(self, public: bytes, message: bytes, signature: "bytes | None") -> bool:
        """Whether signature (64 bytes) is one over message under public (33 bytes). Never raises."""
        n = self.curve.n
        if signature is None or len(signature) != 64:
            return False
        r = _number(signature[:32])
        s = _number(signature[32:])
        if not (0 < r < n and 0 < s < n):
            return False
        point, table = self._known.get(public) or (self.curve.decompress(public), None)
        if point is None:
            return False
        e = _number(self.hash(self.prefix(point) + message))
        u, v, x = self._parts(e, r, s)
        if not v:
            return False
        return self.curve.sum_has_x(u, v, table or ec.Window(self.curve, point[0], point[1]), x)

    def prefix(self, public: "ec.Affine") -> bytes:
        """What is hashed before the message, from the public key's point."""
        raise NotImplementedError

    def secret(self, private: bytes) -> int:
        """What signing needs of the private key."""
        raise NotImplementedError

    def coupon(self, secret: int, k: int) -> "tuple[int, ...]":
        """All of a signature with the nonce k that does not depend on the message."""
        raise NotImplementedError

    def finish(self, secret: int, coupon: "tuple[int, ...]", e: int) -> "bytes | None":
        """The signature over the hash e, or None where this nonce gives none."""
        raise NotImplementedError

    def _parts(self, e: int, r: int, s: int) -> "tuple[int, int, int]":
        """(u, v, x) such that the signature is good if u G + v Q has the first coordinate x modulo n."""
        raise NotImplementedError

    def _x_of(self, k: int) -> int:
        point = self.curve.multiply(k)
        return point[0] if point else 0


class P256(Suite):
    """ECDSA on P-256 with SHA-256."""

    id = o.SUITE_P256
    name = "p256"
    curve = ec.P256

    @staticmethod
    def hash(data: bytes) -> bytes:
        """SHA-256."""
        return _sha256(data).digest()

    @staticmethod
    def cipher(key: bytes) -> "Cipher":
        """AES-128."""
        return aes(key)

    def prefix(self, public: "ec.Affine") -> bytes:
        """What is hashed before the message: nothing."""
        return b""

    def secret(self, private: bytes) -> int:
        """d."""
        return _number(private)

    def coupon(self, secret: int, k: int) -> "tuple[int, ...]":
        """(r, 1/k, r d/k)."""
        n = self.curve.n
        r = self._x_of(k) % n
        inverse = pow(k, n - 2, n)
        return r, inverse, inverse * r * secret % n

    def finish(self, secret: int, coupon: "tuple[int, ...]", e: int) -> "bytes | None":
        """The signature over the hash e, or None where this nonce gives none."""
        r, inverse, fixed = coupon
        s = (inverse * e + fixed) % self.curve.n
        return _bytes(r) + _bytes(s) if r and s else None

    def _parts(self, e: int, r: int, s: int) -> "tuple[int, int, int]":
        n = self.curve.n
        w = pow(s, n - 2, n)
        return e * w % n, r * w % n, r


class Gm(Suite):
    """SM2 with SM3, user id 1234567812345678."""

    id = o.SUITE_GM
    name = "gm"
    curve = ec.SM2

    @staticmethod
    def hash(data: bytes) -> bytes:
        """SM3."""
        return sm3(data)

    @staticmethod
    def cipher(key: bytes) -> "Cipher":
        """SM4."""
        from chipcash_card.sm4 import sm4  # most taps need no channel, and memory is short

        return sm4(key)

    def prefix(self, public: "ec.Affine") -> bytes:
        """What is hashed before the message: Z of GB/T 32918.2 section 5.5."""
        c = self.curve
        x, y = public
        z = (len(_SM2_ID) * 8).to_bytes(2, "big") + _SM2_ID
        for value in (c.p - 3, c.b, c.x, c.y, x, y):
            z += _bytes(value)
        return sm3(z)

    def secret(self, private: bytes) -> int:
        """1/(1 + d), from which SM2 signs without d."""
        n = self.curve.n
        return pow(1 + _number(private), n - 2, n)

    def coupon(self, secret: int, k: int) -> "tuple[int, ...]":
        """(x1, k)."""
        return self._x_of(k), k

    def finish(self, secret: int, coupon: "tuple[int, ...]", e: int) -> "bytes | None":
        """The signature over the hash e, or None where this nonce gives none."""
        n = self.curve.n
        x, k = coupon
        r = (e + x) % n
        t = (r + k) % n
        s = (secret * t - r) % n  # the standard's (k - r d)/(1 + d)
        return _bytes(r) + _bytes(s) if r and s and t else None

    def _parts(self, e: int, r: int, s: int) -> "tuple[int, int, int]":
        n = self.curve.n
        return s, (r + s) % n, (r - e) % n


_SUITES = {Gm.id: Gm(), P256.id: P256()}
BY_NAME = {each.name: each for each in _SUITES.values()}
"""The suites by their names, gm and p256."""


def suite(suite_id: int) -> Suite:
    """The suite of an id. Raises ValueError."""
    if suite_id not in _SUITES:
        raise ValueError("unknown suite")
    return _SUITES[suite_id]


def generate_private(suite: Suite, random: "Callable[[int], bytes]") -> bytes:
    """A private key in [1, n - 2], 32 bytes, by rejection. Raises OSError if random has failed."""
    for _ in range(8):
        private = random(32)
        if len(private) == 32 and 0 < _number(private) < suite.curve.n - 1:
            return private
    raise OSError("the random source has failed")  # chance of a sound one: below 2^-256


class Signer:
    """A private key at work: signatures with nonces that cannot repeat, and coupons.

    boot_epoch must differ for each power on; together with a running index it keeps nonces apart even
    if random(n) fails. Coupons live in memory only and are dropped with the signature that they make.
    Raises ValueError if private is not a private key. place: where the key is kept.
    """

    place = o.KEY_IN_FLASH

    def __init__(
        self, suite: Suite, private: bytes, boot_epoch: int, random: "Callable[[int], bytes]"
    ) -> None:
        self.suite = suite
        point = suite.point(private)
        self.public = ec.compress(point)
        self._private = private
        self._secret = suite.secret(private)
        self._prefix = suite.prefix(point)
        self._epoch = boot_epoch
        self._random = random
        self._index = 0
        self._coupons: "list[tuple[int, ...]]" = []

    @property
    def coupons(self) -> int:
        """Coupons ready."""
        return len(self._coupons)

    def _secret_number(self) -> int:
        """A number in [1, n - 1] that never comes again."""
        self._index += 1
        place = self._epoch.to_bytes(4, "big") + self._index.to_bytes(4, "big")
        return nonce(self.suite, self._private, place + self._random(32))

    def _coupon(self) -> "tuple[int, ...]":
        return self.suite.coupon(self._secret, self._secret_number())

    def prepare(self) -> None:
        """Make one coupon."""
        self._coupons.append(self._coupon())

    def sign(self, message: bytes) -> bytes:
        """A signature over message, 64 bytes, with a coupon if one is ready."""
        e = _number(self.suite.hash(self._prefix + message))
        while True:
            coupon = self._coupons.pop() if self._coupons else self._coupon()
            signature = self.suite.finish(self._secret, coupon, e)
            if signature is not None:
                return signature

    def open_channel(self, header: bytes, host_key: bytes) -> "tuple[Channel, bytes] | None":
        """Our end of a secure channel with who holds host_key (33 bytes), and the encoded proof that it is
        ours; None if host_key is no point of the curve."""
        from chipcash_wire.channel import Channel  # most taps need none, and memory is short

        curve = self.suite.curve
        point = curve.decompress(host_key)
        if point is None:
            return None
        k = self._secret_number()
        mine = curve.multiply(k)
        proof = o.ChannelProof(
            header=header,
            host_key=host_key,
            card_key=ec.compress(mine),  # type: ignore[arg-type]  # k is below the order
            subject=self.public,
        )
        message = proof.message()
        secret = curve.agree(k, point)
        channel = Channel(self.suite.hash, self.suite.cipher, secret, message, True)
        return channel, proof.signed(self.sign(message)).encode()

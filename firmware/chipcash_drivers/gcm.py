# SPDX-License-Identifier: Apache-2.0
"""AES-256-GCM (NIST SP 800-38D), nonces of 12 bytes and tags of 16: what TROPIC01's secure session is sealed
with. See chipcash_card/sm3.py for how it is compiled.

Its table look-ups do not take constant time where memory has a cache."""

from array import array

from chipcash_wire.compat import aes, equal, micropython, ptr8, ptr32, uint

TAG = 16
"""Bytes that a sealed message is longer."""


def _times_x(value: int) -> int:
    """In GCM's field the first bit is that of x^0, so that to multiply is to shift right."""
    return value >> 1 ^ (0xE1 << 120 if value & 1 else 0)


def _words(values: "list[int]") -> "array[int]":
    """Each value of 128 bits as four words."""
    return array("I", [value >> at & 0xFFFFFFFF for value in values for at in (96, 64, 32, 0)])


def _shifted_out() -> "array[int]":
    """What four bits become that multiplication by x^4 shifts out: they come back in the first word only."""
    found = []
    for value in range(16):
        for _ in range(4):
            value = _times_x(value)
        found.append(value >> 96)
    return array("I", found)


_BACK = _shifted_out()


@micropython.viper
def _multiply(hashed_, block_, multiples_, back_):  # type: ignore[no-untyped-def]
    hashed = ptr8(hashed_)
    block = ptr8(block_)
    H = ptr32(multiples_)
    R = ptr32(back_)
    M = uint(0xFFFF)
    M = (M << 16) | M
    a = uint(0)
    b = uint(0)
    c = uint(0)
    d = uint(0)
    i = 31
    while i >= 0:  # four bits at a time, the last first
        n = int(hashed[i >> 1]) ^ int(block[i >> 1])
        n = ((n & 15) if i & 1 else (n >> 4)) << 2
        out = int(d & 15)
        d = (((d >> 4) | (c << 28)) ^ uint(H[n + 3])) & M
        c = (((c >> 4) | (b << 28)) ^ uint(H[n + 2])) & M
        b = (((b >> 4) | (a << 28)) ^ uint(H[n + 1])) & M
        a = ((a >> 4) ^ uint(R[out]) ^ uint(H[n])) & M
        i -= 1
    i = 0
    while i < 4:
        shift = 24 - 8 * i
        hashed[i] = int((a >> shift) & 0xFF)
        hashed[i + 4] = int((b >> shift) & 0xFF)
        hashed[i + 8] = int((c >> shift) & 0xFF)
        hashed[i + 12] = int((d >> shift) & 0xFF)
        i += 1


class Gcm:
    """One key of 32 bytes, at work. A nonce must not seal twice."""

    def __init__(self, key: bytes) -> None:
        self._cipher = aes(key)
        h = int.from_bytes(self._cipher(bytes(16)), "big")
        powers = {}
        for bit in (8, 4, 2, 1):
            powers[bit] = h
            h = _times_x(h)
        multiples = []
        for i in range(16):
            multiple = 0
            for bit in powers:
                if i & bit:
                    multiple ^= powers[bit]
            multiples.append(multiple)
        self._multiples = _words(multiples)  # of h, by each four bits

    def seal(self, nonce: bytes, text: bytes, extra: bytes = b"") -> bytes:
        """Encipher text, and authenticate it together with extra, which is not in the result."""
        sealed = self._crypt(nonce, text)
        return sealed + self._tag(nonce, sealed, extra)

    def open(self, nonce: bytes, data: bytes, extra: bytes = b"") -> bytes:
        """What seal() was given. Raises ValueError if this is not what it made."""
        sealed = data[:-TAG]
        if len(data) < TAG or not equal(self._tag(nonce, sealed, extra), data[-TAG:]):
            raise ValueError("not sealed by this key")
        return self._crypt(nonce, sealed)

    def wipe(self) -> None:
        """Forget the key, as far as the interpreter lets: it clears no memory before that is used again."""
        for i in range(len(self._multiples)):
            self._multiples[i] = 0
        del self._cipher

    def _crypt(self, nonce: bytes, text: bytes) -> bytes:
        """Encipher or decipher: counter mode from block 2 on."""
        n = len(text)
        counters = b""
        for at in range(0, n, 16):
            counters += nonce + (at // 16 + 2).to_bytes(4, "big")
        stream = int.from_bytes(self._cipher(counters)[:n], "big") if n else 0
        return (int.from_bytes(text, "big") ^ stream).to_bytes(n, "big")

    def _tag(self, nonce: bytes, sealed: bytes, extra: bytes) -> bytes:
        lengths = (len(extra) * 8).to_bytes(8, "big") + (len(sealed) * 8).to_bytes(8, "big")
        hashed = bytearray(16)
        for part in (extra, sealed, lengths):
            for at in range(0, len(part), 16):
                block = part[at : at + 16]
                _multiply(hashed, block + bytes(16 - len(block)), self._multiples, _BACK)
        mask = self._cipher(nonce + b"\x00\x00\x00\x01")
        return bytes([a ^ b for a, b in zip(hashed, mask)])

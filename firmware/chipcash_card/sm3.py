# SPDX-License-Identifier: Apache-2.0
"""SM3 (GB/T 32905). The rounds are native code under MicroPython's viper and plain Python elsewhere.

Where MicroPython has no viper, the @micropython.viper lines are left out of what is installed. Everything is
masked to 32 bits, so that viper's machine words, small boards' and CPython's integers agree.
"""

import struct
from array import array
from binascii import unhexlify

from chipcash_wire.compat import micropython, ptr8, ptr32, uint

IV = unhexlify(b"7380166f4914b2b9172442d7da8a0600a96f30bc163138aae38dee4db0fb0e4e")


def _constants() -> "array[int]":
    out = []
    for j in range(64):
        t = 0x79CC4519 if j < 16 else 0x7A879D8A
        j &= 31
        out.append((t << j | t >> (32 - j)) & 0xFFFFFFFF)
    return array("I", out)


_T = _constants()


@micropython.viper
def _load(words_, data_, offset_):  # type: ignore[no-untyped-def]
    words = ptr32(words_)
    data = ptr8(data_)
    at = int(offset_)
    i = 0
    while i < 16:
        words[i] = (
            (uint(data[at]) << 24)
            | (uint(data[at + 1]) << 16)
            | (uint(data[at + 2]) << 8)
            | uint(data[at + 3])
        )
        at += 4
        i += 1


@micropython.viper
def _rounds(words_, state_, constants_):  # type: ignore[no-untyped-def]
    W = ptr32(words_)
    V = ptr32(state_)
    T = ptr32(constants_)
    M = uint(0xFFFF)
    M = (M << 16) | M
    j = 16
    while j < 68:
        x = uint(W[j - 3]) & M
        x = (uint(W[j - 16]) ^ uint(W[j - 9]) ^ (x << 15) ^ (x >> 17)) & M
        x = x ^ (((x << 15) | (x >> 17)) & M) ^ (((x << 23) | (x >> 9)) & M)
        y = uint(W[j - 13]) & M
        W[j] = (x ^ (y << 7) ^ (y >> 25) ^ uint(W[j - 6])) & M
        j += 1
    a = uint(V[0]) & M
    b = uint(V[1]) & M
    c = uint(V[2]) & M
    d = uint(V[3]) & M
    e = uint(V[4]) & M
    f = uint(V[5]) & M
    g = uint(V[6]) & M
    h = uint(V[7]) & M
    j = 0
    while j < 64:
        a12 = ((a << 12) | (a >> 20)) & M
        s = (a12 + e + uint(T[j])) & M
        s = ((s << 7) | (s >> 25)) & M
        w = uint(W[j]) & M
        if j < 16:
            ff = a ^ b ^ c
            gg = e ^ f ^ g
        else:
            ff = (a & b) | (a & c) | (b & c)
            gg = (e & f) | ((e ^ M) & g)
        t1 = (ff + d + (s ^ a12) + (w ^ (uint(W[j + 4]) & M))) & M
        t2 = (gg + h + s + w) & M
        d = c
        c = ((b << 9) | (b >> 23)) & M
        b = a
        a = t1
        h = g
        g = ((f << 19) | (f >> 13)) & M
        f = e
        e = (t2 ^ (t2 << 9) ^ (t2 >> 23) ^ (t2 << 17) ^ (t2 >> 15)) & M
        j += 1
    V[0] = (uint(V[0]) ^ a) & M
    V[1] = (uint(V[1]) ^ b) & M
    V[2] = (uint(V[2]) ^ c) & M
    V[3] = (uint(V[3]) ^ d) & M
    V[4] = (uint(V[4]) ^ e) & M
    V[5] = (uint(V[5]) ^ f) & M
    V[6] = (uint(V[6]) ^ g) & M
    V[7] = (uint(V[7]) ^ h) & M


def blocks(words, state, data, at: int, end: int) -> None:  # type: ignore[no-untyped-def]
    """Take the blocks of data from at to end into the state; words: an array of 68."""
    for offset in range(at, end, 64):
        _load(words, data, offset)
        _rounds(words, state, _T)


def padding(n: int) -> bytes:
    """What stands behind a message of n bytes."""
    return b"\x80" + bytes((55 - n) % 64) + (n * 8).to_bytes(8, "big")


def sm3(data: bytes) -> bytes:
    """The SM3 hash of data, 32 bytes."""
    n = len(data)
    whole = n - n % 64
    # Only the end is copied: a card may have no room for a long message twice.
    end = bytes(data[whole:]) + padding(n)
    words = array("I", bytes(4 * 68))
    state = array("I", struct.unpack(">8I", IV))
    blocks(words, state, data, 0, whole)
    blocks(words, state, end, 0, len(end))
    return struct.pack(">8I", *state)

# SPDX-License-Identifier: Apache-2.0
"""SM4 (GB/T 32907), encryption only, which is all that CCM needs. See sm3.py for how it is compiled.

Its table look-ups do not take constant time where memory has a cache.
"""

import struct
from array import array
from binascii import unhexlify

from chipcash_wire.compat import TYPE_CHECKING, micropython, ptr8, ptr32, uint

if TYPE_CHECKING:
    from typing import Callable

_S = unhexlify(
    b"d690e9fecce13db716b614c228fb2c052b679a762abe04c3aa44132649860699"
    b"9c4250f491ef987a33540b43edcfac62e4b31ca9c908e89580df94fa758f3fa6"
    b"4707a7fcf37317ba83593c19e6854fa8686b81b27164da8bf8eb0f4b70569d35"
    b"1e240e5e6358d1a225227c3b01217887d40046579fd327524c3602e7a0c4c89e"
    b"eabf8ad240c738b5a3f7f2cef96115a1e0ae5da49b341a55ad933230f58cb1e3"
    b"1df6e22e8266ca60c02923ab0d534e6fd5db3745defd8e2f03ff6a726d6c5b51"
    b"8d1baf92bbddbc7f11d95c411f105ad80ac13188a5cd7bbd2d74d012b8e5b4b0"
    b"8969974a0c96777e65b9f109c56ec68418f07dec3adc4d2079ee5f3ed7cb3948"
)
_FK = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)


def _round_keys(key: bytes) -> "array[int]":
    words = [word ^ fixed for word, fixed in zip(struct.unpack(">4I", key), _FK)]
    for i in range(32):
        constant = 0
        for j in range(4):
            constant = constant << 8 | ((4 * i + j) * 7 & 0xFF)
        x = words[i + 1] ^ words[i + 2] ^ words[i + 3] ^ constant
        x = _S[x >> 24] << 24 | _S[x >> 16 & 0xFF] << 16 | _S[x >> 8 & 0xFF] << 8 | _S[x & 0xFF]
        x ^= (x << 13 | x >> 19) ^ (x << 23 | x >> 9)
        words.append(words[i] ^ (x & 0xFFFFFFFF))
    return array("I", words[4:])


@micropython.viper
def _block(out_, data_, offset_, keys_, box_):  # type: ignore[no-untyped-def]
    out = ptr8(out_)
    data = ptr8(data_)
    K = ptr32(keys_)
    S = ptr8(box_)
    at = int(offset_)
    M = uint(0xFFFF)
    M = (M << 16) | M
    a = (uint(data[at]) << 24) | (uint(data[at + 1]) << 16) | (uint(data[at + 2]) << 8)
    a = (a | uint(data[at + 3])) & M
    b = (uint(data[at + 4]) << 24) | (uint(data[at + 5]) << 16) | (uint(data[at + 6]) << 8)
    b = (b | uint(data[at + 7])) & M
    c = (uint(data[at + 8]) << 24) | (uint(data[at + 9]) << 16) | (uint(data[at + 10]) << 8)
    c = (c | uint(data[at + 11])) & M
    d = (uint(data[at + 12]) << 24) | (uint(data[at + 13]) << 16) | (uint(data[at + 14]) << 8)
    d = (d | uint(data[at + 15])) & M
    i = 0
    while i < 32:
        x = (b ^ c ^ d ^ uint(K[i])) & M
        y = (uint(S[int(x >> 24)]) << 24) | (uint(S[int((x >> 16) & 0xFF)]) << 16)
        x = (y | (uint(S[int((x >> 8) & 0xFF)]) << 8) | uint(S[int(x & 0xFF)])) & M
        y = x ^ (x << 2) ^ (x >> 30) ^ (x << 10) ^ (x >> 22)
        x = (a ^ y ^ (x << 18) ^ (x >> 14) ^ (x << 24) ^ (x >> 8)) & M
        a = b
        b = c
        c = d
        d = x
        i += 1
    i = 0
    while i < 4:
        shift = 24 - 8 * i
        out[at + i] = int((d >> shift) & 0xFF)
        out[at + 4 + i] = int((c >> shift) & 0xFF)
        out[at + 8 + i] = int((b >> shift) & 0xFF)
        out[at + 12 + i] = int((a >> shift) & 0xFF)
        i += 1


def sm4(key: bytes) -> "Callable[[bytes], bytes]":
    """SM4 under a key of 16 bytes: a function that enciphers whole blocks, each by itself."""
    keys = _round_keys(key)

    def encrypt(data: bytes) -> bytes:
        out = bytearray(len(data))
        for at in range(0, len(data), 16):
            _block(out, data, at, keys, _S)
        return bytes(out)

    return encrypt

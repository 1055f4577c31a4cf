# SPDX-License-Identifier: Apache-2.0
"""Canonical BER-TLV (ISO/IEC 7816-4 Annex E, ISO/IEC 8825-1): the one reader and the one writer.

Canonical means that a value has exactly one encoding: tags of one or two bytes, definite lengths in the
fewest bytes, unsigned integers in the fewest bytes. Whatever deviates is refused, so that two parties who
compare bytes, hashes or signatures compare meanings.
"""

MAX_LENGTH = 0xFFFF


class WireError(ValueError):
    """The bytes are not a canonical encoding of what was expected. Nothing was changed."""


def encode_uint(value: int) -> bytes:
    """Unsigned integer, big endian, in the fewest bytes; zero is one zero byte."""
    if value < 0x100:
        return bytes((value,))
    n = 1
    while value >> (8 * n):
        n += 1
    return value.to_bytes(n, "big")


def decode_uint(data: bytes) -> int:
    """Inverse of encode_uint. Raises WireError on an empty value or a leading zero byte."""
    if not data or (data[0] == 0 and len(data) > 1):
        raise WireError("integer is not minimal")
    return int.from_bytes(data, "big")


def encode(tag: int, *parts: bytes) -> bytes:
    """One TLV. tag: its one or two bytes as a number; parts: of the value, at most 65535 bytes.

    Joined once: a card may lack the room for a long value twice.
    """
    n = 0
    for part in parts:
        n += len(part)
    if n < 0x80:
        length = bytes((n,))
    elif n < 0x100:
        length = bytes((0x81, n))
    elif n <= MAX_LENGTH:
        length = bytes((0x82, n >> 8, n & 0xFF))
    else:
        raise WireError("value is too long")
    return b"".join((encode_uint(tag), length) + parts)


def header(data: bytes, offset: int) -> tuple[int, int, int]:
    """Read the tag and length at offset: (tag, offset of the value, offset behind the value).

    Raises WireError if the TLV is truncated or its tag or length is not canonical.
    """
    size = len(data)
    if offset + 2 > size:
        raise WireError("truncated")
    tag = data[offset]
    offset += 1
    if tag & 0x1F == 0x1F:
        low = data[offset]
        # 1F..7F: below, the tag had one byte; with bit 8 set, it would have three.
        if low < 0x1F or low > 0x7F:
            raise WireError("tag is not canonical")
        tag = tag << 8 | low
        offset += 1
        if offset >= size:
            raise WireError("truncated")
    if tag == 0:
        raise WireError("tag is not canonical")
    length = data[offset]
    offset += 1
    if length >= 0x80:
        n = length & 0x7F
        if n not in (1, 2):
            raise WireError("length is not canonical")
        if offset + n > size:
            raise WireError("truncated")
        length = int.from_bytes(data[offset : offset + n], "big")
        if length < (0x80 if n == 1 else 0x100):
            raise WireError("length is not minimal")
        offset += n
    end = offset + length
    if end > size:
        raise WireError("truncated")
    return tag, offset, end

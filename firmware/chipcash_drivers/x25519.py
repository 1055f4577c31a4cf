# SPDX-License-Identifier: Apache-2.0
"""X25519 (RFC 7748): the key agreement of TROPIC01's secure session. Not constant in time, as no big integer
of the interpreter is."""

from chipcash_card.busy import working

_P = (1 << 255) - 19
_A24 = 121665
_BASE = b"\x09" + bytes(31)


def public(scalar: bytes) -> bytes:
    """The public key of a private one, 32 bytes."""
    return agree(scalar, _BASE)


def agree(scalar: bytes, u: bytes) -> bytes:
    """The secret of a private key, any 32 bytes, and another's public key, 32 bytes. Raises ValueError where
    the public key leaves no choice of it."""
    k = int.from_bytes(scalar, "little") & (1 << 254) - 8 | 1 << 254
    x = int.from_bytes(u, "little") & (1 << 255) - 1
    x2, z2, x3, z3 = 1, 0, x, 1
    swapped = 0
    for at in range(254, -1, -1):
        bit = k >> at & 1
        if bit != swapped:
            x2, z2, x3, z3 = x3, z3, x2, z2
            swapped = bit
        a = x2 + z2
        b = x2 - z2
        c = (x3 + z3) * b % _P
        d = (x3 - z3) * a % _P
        a = a * a % _P
        b = b * b % _P
        e = a - b
        x2 = a * b % _P
        z2 = e * (a + _A24 * e) % _P
        a = d + c
        b = d - c
        x3 = a * a % _P
        z3 = b * b % _P * x % _P
        working()
    if swapped:
        x2, z2 = x3, z3
    shared = x2 * pow(z2, _P - 2, _P) % _P
    if not shared:
        raise ValueError("a public key of small order")
    return shared.to_bytes(32, "little")

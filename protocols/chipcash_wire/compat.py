# SPDX-License-Identifier: Apache-2.0
"""The one place that knows which interpreter runs: CPython or MicroPython."""

import gc
import sys

TYPE_CHECKING = False  # type checkers take a constant of this name as true

if TYPE_CHECKING:
    from array import array
    from typing import Callable, TypeVar
    from typing import dataclass_transform as dataclass_transform

    _F = TypeVar("_F", bound="Callable[..., object]")
else:

    def dataclass_transform(**_options):
        """typing.dataclass_transform, which only the type checker needs."""
        return lambda cls: cls


INTERPRETER = sys.implementation.name
"""cpython or micropython."""

KEEPS_ENCODED = INTERPRETER != "micropython"
"""Whether an object keeps its encoding, once it is made or read: a host hashes, signs and stores the same
object several times, a card has no room for it."""

_GARBAGE = 32768  # bytes allocated between two collections


def keep_heap_whole() -> None:
    """Have MicroPython collect garbage early, before what lives long lies scattered among it.

    Left alone it collects when the heap is full. Then a payment of many titles, some kilobytes in one piece,
    finds enough room in all, but nowhere enough in one place.
    """
    if INTERPRETER == "micropython":
        gc.threshold(_GARBAGE)  # type: ignore[attr-defined]


def equal(a: bytes, b: bytes) -> bool:
    """Compare in a time that depends on the lengths only."""
    if len(a) != len(b):
        return False
    different = 0
    for x, y in zip(a, b):
        different |= x ^ y
    return different == 0


try:
    from time import ticks_diff as ticks_diff  # type: ignore[attr-defined]
    from time import ticks_ms as ticks_ms  # type: ignore[attr-defined]
    from time import ticks_us as ticks_us  # type: ignore[attr-defined]
except ImportError:
    from time import monotonic, perf_counter

    def ticks_ms() -> int:
        """Milliseconds from an arbitrary start; on MicroPython they wrap, so compare with ticks_diff."""
        return int(monotonic() * 1000)

    def ticks_us() -> int:
        """Microseconds, otherwise as ticks_ms."""
        return int(perf_counter() * 1000000)

    def ticks_diff(later: int, earlier: int) -> int:
        """What lies between two values of ticks_ms, or of ticks_us."""
        return later - earlier


try:
    from cryptolib import aes as _cryptolib_aes  # type: ignore[import-not-found]

    def aes(key: bytes) -> "Callable[[bytes], bytes]":
        """AES (FIPS 197), keys of 16 or 32 bytes: a function that enciphers whole blocks, each by itself."""
        return _cryptolib_aes(key, 1).encrypt  # type: ignore[no-any-return]  # 1 is ECB
except ImportError:

    def aes(key: bytes) -> "Callable[[bytes], bytes]":
        """AES (FIPS 197), keys of 16 or 32 bytes: a function that enciphers whole blocks, each by itself."""
        # Imported here, since what only reads and writes objects has no use for it.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update


try:
    import micropython as micropython
except ImportError:

    class micropython:  # type: ignore[no-redef]  # noqa: N801, RUF100
        """MicroPython's compiler takes @micropython.viper as native code; elsewhere it does nothing."""

        @staticmethod
        def viper(function: "_F") -> "_F":
            """The function as it is."""
            return function


# viper compiles these words itself and never calls the functions.


def uint(value: int) -> int:
    """A machine word of viper; elsewhere, the integer."""
    return value


def ptr8(data: bytearray) -> bytearray:
    """viper's pointer to bytes; elsewhere, the buffer."""
    return data


def ptr32(data: "array[int]") -> "array[int]":
    """viper's pointer to 32-bit words; elsewhere, the array."""
    return data

# SPDX-License-Identifier: Apache-2.0
"""The suites' hashes of what comes in parts. Apart from chipcash_card.suites: only updates need them."""

import struct
from array import array
from hashlib import sha256

from chipcash_card import sm3
from chipcash_wire import card_objects as o
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Hasher(Protocol):
        """A hash of what comes in parts."""

        def update(self, data: "bytes | memoryview") -> None:
            """Add bytes."""

        def digest(self) -> bytes:
            """The hash, 32 bytes; once, at the end."""


class Sm3:
    """SM3, as hashlib's objects."""

    def __init__(self) -> None:
        self._words = array("I", bytes(4 * 68))
        self._state = array("I", struct.unpack(">8I", sm3.IV))
        self._end = b""
        self._size = 0

    def update(self, data: "bytes | memoryview") -> None:
        """Add bytes."""
        n = len(data)
        self._size += n
        at = 0
        if self._end:
            at = min(64 - len(self._end), n)
            self._end += bytes(data[:at])
            if len(self._end) < 64:
                return
            sm3.blocks(self._words, self._state, self._end, 0, 64)
        whole = n - (n - at) % 64
        sm3.blocks(self._words, self._state, data, at, whole)
        self._end = bytes(data[whole:])

    def digest(self) -> bytes:
        """The hash, 32 bytes; once, at the end."""
        end = self._end + sm3.padding(self._size)
        sm3.blocks(self._words, self._state, end, 0, len(end))
        return struct.pack(">8I", *self._state)


def hasher(suite_id: int) -> "Hasher":
    """The hash of a suite."""
    return Sm3() if suite_id == o.SUITE_GM else sha256()

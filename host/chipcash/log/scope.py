# SPDX-License-Identifier: Apache-2.0
"""What a log is to hold, by its name: a whole center's facts, one partition's, or what belongs to no coin."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

__all__ = ["HOME", "WHOLE", "Scope", "partition_of", "scope_of"]


def partition_of(serial: bytes, partitions: int) -> int:
    """Which of so many partitions, a power of two, a coin is in: the first bits of the hash of its serial.

    Where they are doubled, what was in p is in 2p or 2p + 1.
    """
    first = int.from_bytes(hashlib.sha256(serial).digest()[:4])
    return first * partitions >> 32


@dataclass(frozen=True)
class Scope:
    """number, of: the partition whose coins the log holds; coins, cards: whether it holds any.

    A log of coins alone leaves the blacklist to the home log; that knows no claims.
    """

    coins: bool = True
    cards: bool = True
    number: int = 0
    of: int = 1

    @property
    def folder(self) -> str:
        """What its folder is called among those of the center's other logs; empty if it is the only one."""
        if self.coins and self.cards:
            return ""
        return f"p{self.number:04}" if self.coins else "home"

    @property
    def suffix(self) -> str:
        """What the log's name ends with."""
        if self.coins and self.cards:
            return ""
        return f"/{self.number}of{self.of}" if self.coins else "/home"

    def holds(self, serial: bytes) -> bool:
        """Whether a coin belongs there."""
        return self.coins and partition_of(serial, self.of) == self.number


WHOLE = Scope()
HOME = Scope(coins=False)


def scope_of(origin: str) -> Scope:
    """The scope of the log of this name."""
    found = re.search("/([0-9]{1,4})of([0-9]{1,4})$", origin)
    if found is not None:
        return Scope(cards=False, number=int(found[1]), of=int(found[2]))
    return HOME if origin.endswith("/home") else WHOLE

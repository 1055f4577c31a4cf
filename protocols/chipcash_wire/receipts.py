# SPDX-License-Identifier: Apache-2.0
"""The receipt, by which the center says what became of claims, and its parts (protocols/spec/objects.md).

A card loads it only when it is given one.
"""

from chipcash_wire.card_objects import (
    MAX_CLAIMS,
    MAX_INPUTS,
    OUTCOMES,
    Object,
    Title,
    check_interval,
)
from chipcash_wire.tlv import WireError


class Outcome(Object):
    """What became of one interval of a claim. claim_id: the earlier claim, where they overlap."""

    TAG = 0xA1
    FIELDS = ("title_id", "lo", "hi", "state", "claim_id?")
    title_id: bytes
    lo: int
    hi: int
    state: int
    claim_id: bytes | None = None

    def check(self) -> None:
        check_interval(self.lo, self.hi)
        if not 0 < self.state < len(OUTCOMES):
            raise WireError("unknown outcome")


class Result(Object):
    """What became of one claim, interval by interval in its order."""

    TAG = 0xA2
    FIELDS = ("claim_id", "outcomes*")
    MANY = {"outcomes": (Outcome, 1, MAX_INPUTS)}
    claim_id: bytes
    outcomes: tuple[Outcome, ...]


class Receipt(Object):
    """The center's answer to a deposit or reclaim (digest: hash of its bytes), with the new titles."""

    TAG = 0xE6
    FIELDS = ("header", "signer", "digest", "time", "results*", "titles*", "signature")
    MANY = {"results": (Result, 0, MAX_CLAIMS), "titles": (Title, 0, MAX_CLAIMS * MAX_INPUTS)}
    header: bytes
    signer: bytes
    digest: bytes
    time: int
    results: tuple[Result, ...]
    titles: tuple[Title, ...]
    signature: bytes | None = None

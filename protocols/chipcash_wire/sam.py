# SPDX-License-Identifier: Apache-2.0
"""What a till's card (SAM) is asked, and what it signs beside claims (protocols/spec/commands.md, SAM).

Apart from the rest, because other cards have no room for what they never meet.
"""

from chipcash_wire.card_objects import Object
from chipcash_wire.tlv import WireError

# P1 of SAM.
MAKE = 0x00
KEY = 0x01
SIGN = 0x02
BOOKS = 0x03


class Void(Object):
    """The payee's word that it has, and will deposit, no claim with this nonce and amount."""

    TAG = 0xEA
    FIELDS = ("header", "payee", "nonce", "amount", "time", "signature")
    header: bytes
    payee: bytes
    nonce: bytes
    amount: int
    time: int
    signature: bytes | None = None


class RefundPromise(Object):
    """The payee's word that it will give amount of a payment back once that payment is verified."""

    TAG = 0xF8
    FIELDS = ("header", "payee", "claim_id", "amount", "nonce", "time", "signature")
    header: bytes
    payee: bytes
    claim_id: bytes
    amount: int
    nonce: bytes
    time: int
    signature: bytes | None = None

    def check(self) -> None:
        if not self.amount:
            raise WireError("amount is zero")

# SPDX-License-Identifier: Apache-2.0
"""Signing by a secure element. Loaded only on a board that has one."""

from chipcash_card import ec
from chipcash_card.suites import Signer, generate_private
from chipcash_wire import card_objects as o
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_card.keys import Element
    from chipcash_card.suites import Suite


class ElementSigner(Signer):
    """A key in a secure element. It needs no coupons: the element takes some 50 ms for a signature, and what
    a coupon is made of would be the key's secret. Raises OSError where the element does not answer, or
    has no key."""

    place = o.KEY_IN_ELEMENT

    def __init__(
        self,
        suite: "Suite",
        element: "Element",
        boots: int,
        random: "Callable[[int], bytes]",
    ) -> None:
        point = element.public()
        self.suite = suite
        x = int.from_bytes(point[:32], "big")
        y = int.from_bytes(point[32:], "big")
        self.public = ec.compress((x, y))
        self._element = element
        self._random = random

    @property
    def coupons(self) -> int:
        """As if there were always enough: none is to be made."""
        return 1 << 30

    def _secret_number(self) -> int:
        return int.from_bytes(generate_private(self.suite, self._random), "big")

    def sign(self, message: bytes) -> bytes:
        """A signature over message, 64 bytes. Raises OSError."""
        return self._element.sign(self.suite.hash(message))

# SPDX-License-Identifier: Apache-2.0
"""Where the card's private key is: sealed in flash, or in a secure element that never gives it out.

A key is made on the card, and there is no way to read or to write one. In flash it is sealed under a secret
of the chip, so that a copy of the flash is of no use on another chip. That is no protection from who can run
code on the chip or read its secret as well: hardware/README.md says which chips keep one."""

from chipcash_card import ec
from chipcash_card.suites import Signer, generate_private
from chipcash_wire import card_objects as o
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable, Protocol

    from chipcash_card.suites import Suite

    class Element(Protocol):
        """A secure element that holds one P-256 key. Each raises OSError if the chip does not do it."""

        def generate(self) -> None:
            """Make a new key instead of the one that it has."""

        def public(self) -> bytes:
            """x and y of its public key, 64 bytes."""

        def sign(self, digest: bytes) -> bytes:
            """ECDSA over 32 bytes: r and s, 64 bytes."""


_PUBLIC = 33
_IN_ELEMENT = b"\x01"


class KeyStore:
    """Makes keys, and the signers that use them.

    secret: the chip's, any length. element: for keys of suite p256, where there is one; none was found that
    knows SM2."""

    def __init__(self, secret: bytes, element: "Element | None" = None) -> None:
        self._secret = secret
        self._element = element

    def generate(self, suite: "Suite", random: "Callable[[int], bytes]") -> bytes:
        """A new key; returned is what the journal is to keep of it. Raises OSError if random or the element
        has failed."""
        if self._element is not None and suite.id == o.SUITE_P256:
            self._element.generate()
            return _IN_ELEMENT
        private = generate_private(suite, random)
        public = ec.compress(suite.point(private))
        return public + self.sealed(suite, public, private)

    def signer(
        self, suite: "Suite", kept: bytes, boots: int, random: "Callable[[int], bytes]"
    ) -> Signer:
        """The key at work. kept: from generate(); boots, random: see Signer. Raises OSError if it cannot be:
        the element is gone, or nothing was kept, or what was kept is no key on this chip."""
        if kept == _IN_ELEMENT:
            from chipcash_card.element import ElementSigner  # most boards have none

            if self._element is None:
                raise OSError("the secure element with the card's key is missing")
            return ElementSigner(suite, self._element, boots, random)
        public = kept[:_PUBLIC]
        try:
            signer = Signer(suite, self.sealed(suite, public, kept[_PUBLIC:]), boots, random)
        except ValueError:
            signer = None
        if signer is None or signer.public != public:
            raise OSError("the card's key is another chip's")
        return signer

    def sealed(self, suite: "Suite", name: bytes, key: bytes) -> bytes:
        """Seals 32 bytes, and opens what is sealed: a pad for one use, since no two keys have the same name,
        which is the public one."""
        pad = suite.hash(b"chipcash key at rest" + name + self._secret)
        return bytes([a ^ b for a, b in zip(key, pad)])

# SPDX-License-Identifier: Apache-2.0
"""PIN and PUK (ISO/IEC 7816-4 section 7.5): the try counter is spent in the journal before the comparison."""

from chipcash_card.purse import Refused
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING, equal

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_card.journal import Journal
    from chipcash_card.suites import Suite

KEY_PIN = b"N"
_SALT = 16


class Pin:
    """The reference data in the journal: tries left of PIN and PUK, a salt, and their salted hashes."""

    def __init__(self, journal: "Journal", suite: "Suite") -> None:
        self._journal = journal
        self._hash = suite.hash

    @staticmethod
    def create(suite: "Suite", random: "Callable[[int], bytes]", pin: bytes, puk: bytes) -> bytes:
        """The first value for KEY_PIN."""
        salt = random(_SALT)
        tries = bytes((c.PIN_TRIES, c.PUK_TRIES))
        return tries + salt + suite.hash(salt + pin) + suite.hash(salt + puk)

    @property
    def tries(self) -> int:
        """Tries left for the PIN; 0 is blocked."""
        return (self._journal.get(KEY_PIN) or b"\x00")[0]

    def verify(self, pin: bytes) -> None:
        """VERIFY. Raises Refused with 63Cx or 6983."""
        self._try(0, pin)

    def change(self, old: bytes, new: bytes) -> None:
        """CHANGE REFERENCE DATA: a wrong old PIN costs a try."""
        self.verify(old)
        self._set(new)

    def unblock(self, puk: bytes, new: bytes) -> None:
        """RESET RETRY COUNTER: the PUK sets a new PIN and gives its tries back."""
        self._try(1, puk)
        self._set(new)

    def _try(self, which: int, code: bytes) -> None:
        data = bytearray(self._journal.get(KEY_PIN) or b"")
        full = (c.PIN_TRIES, c.PUK_TRIES)[which]
        if not data[which]:
            raise Refused(c.SW_BLOCKED)
        data[which] -= 1
        self._journal.commit({KEY_PIN: bytes(data)})
        salt = bytes(data[2 : 2 + _SALT])
        start = 2 + _SALT + 32 * which
        if not equal(self._hash(salt + code), bytes(data[start : start + 32])):
            raise Refused(c.SW_PIN_WRONG | data[which])
        data[which] = full
        self._journal.commit({KEY_PIN: bytes(data)})

    def _set(self, new: bytes) -> None:
        data = bytearray(self._journal.get(KEY_PIN) or b"")
        data[0] = c.PIN_TRIES
        salt = bytes(data[2 : 2 + _SALT])
        start = 2 + _SALT
        data[start : start + 32] = self._hash(salt + new)
        self._journal.commit({KEY_PIN: bytes(data)})

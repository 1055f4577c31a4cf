# SPDX-License-Identifier: Apache-2.0
"""A till's card (SAM): its key and the key of its books. See protocols/spec/commands.md, SAM.

A card becomes one while it is blank, and is nothing else from then on: it has no certificate and no purse.
It signs what a payee signs, and nothing that it cannot read. Loaded by a SAM alone: memory is short.
"""

from chipcash_card.pin import KEY_PIN, Pin
from chipcash_card.purse import KEY_ANCHORS, KEY_PRIVATE, KEY_STATE, Refused, State
from chipcash_card.session import TAG_PUK, two_codes
from chipcash_card.suites import suite
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire import tlv
from chipcash_wire.compat import TYPE_CHECKING
from chipcash_wire.sam import BOOKS, KEY, MAKE, SIGN, RefundPromise, Void

if TYPE_CHECKING:
    from typing import Any

    from chipcash_card.applet import Applet

_HEADER = 6
_SALT = 16
_SECRET = 32
_SIGNED: "tuple[Any, ...]" = (o.Claim, Void, RefundPromise)


class Sam:
    """The commands of a SAM, and that which makes one: a part of the applet, apart for the memory's sake."""

    def __init__(self, applet: "Applet") -> None:
        self._applet = applet
        self._journal = applet._journal
        self._state = applet._state
        self._signer = applet._signer
        self._keys = applet._keys
        self._random = applet.random

    def command(self, p1p2: int, data: bytes, verified: bool) -> bytes:
        """SAM: the answer. verified: in a PIN session. Raises Refused."""
        step = p1p2 >> 8
        if p1p2 & 0xFF or step > BOOKS:
            raise Refused(c.SW_P1P2)
        if (step == MAKE) != (self._state.lifecycle == o.LIFE_BLANK):
            raise Refused(c.SW_CONDITIONS)
        if step == MAKE:
            self._make(data)
            return b""
        if not verified:
            raise Refused(c.SW_SECURITY)
        if step == KEY:
            self._make_key()
            return b""
        if step == SIGN:
            return self._sign(data)
        return self._books(data)

    def _make(self, data: bytes) -> None:
        """Become a SAM, in one write: everything but its key."""
        tag, start, end = tlv.header(data, 0)
        if tag != 0x80:
            raise Refused(c.SW_DATA)
        header = data[start:end]
        o.ApplicationInfo(header=header, lifecycle=o.LIFE_SAM)  # is it one?
        puk, pin = two_codes(data[end:], TAG_PUK)
        key = suite(header[5])
        state = State(self._state.encode())
        state.lifecycle = o.LIFE_SAM
        state.suite = key.id
        state.boots += 1
        salt = self._random(_SALT)
        secret = self._random(_SECRET)
        if len(salt + secret) != _SALT + _SECRET:
            raise OSError("the random source has failed")
        self._commit(
            state,
            {
                KEY_ANCHORS: header + salt + self._sealed(key, salt, secret),
                KEY_PIN: Pin.create(key, self._random, pin, puk),
            },
        )

    def _make_key(self) -> None:
        """Its key, once and for good."""
        if self._signer is not None:
            raise Refused(c.SW_CONDITIONS)
        state = State(self._state.encode())
        state.boots += 1
        kept = self._keys.generate(suite(state.suite), self._random)
        self._commit(state, {KEY_PRIVATE: kept})

    def _commit(self, state: State, changes: "dict[bytes, bytes | None]") -> None:
        changes[KEY_STATE] = state.encode()
        self._journal.commit(changes)
        self._applet._state = state
        self._applet._load()

    def _sign(self, message: bytes) -> bytes:
        """A signature over the message of an object that a payee signs."""
        signer = self._signer
        if signer is None:
            raise Refused(c.SW_CONDITIONS)
        for kind in _SIGNED:
            if message[:1] == bytes((kind.TAG,)):
                break
        else:
            raise Refused(c.SW_DATA)
        # There is one encoding of an object, so what is read here is all that is signed.
        found = kind.decode(tlv.encode(kind.TAG, message[1:], tlv.encode(0x9E, bytes(64))))
        if found.header != self._kept()[:_HEADER]:
            raise Refused(c.SW_NETWORK)
        if kind is not o.Claim and found.payee != signer.public:
            raise Refused(c.SW_NOT_MINE)
        return signer.sign(message)

    def _books(self, pad: bytes) -> bytes:
        """The key of the books under the host's pad, so that it does not stand in a trace of what passes."""
        if len(pad) != _SECRET:
            raise Refused(c.SW_DATA)
        kept = self._kept()
        salt = kept[_HEADER : _HEADER + _SALT]
        secret = self._sealed(suite(self._state.suite), salt, kept[_HEADER + _SALT :])
        return bytes([a ^ b for a, b in zip(secret, pad)])

    def _kept(self) -> bytes:
        return self._journal.get(KEY_ANCHORS) or b""

    def _sealed(self, key: "Any", salt: bytes, secret: bytes) -> bytes:
        return self._keys.sealed(key, b"books" + salt, secret)

# SPDX-License-Identifier: Apache-2.0
"""A till's secrets in a card of its own (SAM) in a second reader: `sam:` and the path of that card.

The card is opened for each use and left at once: so the processes of a till share it, what happens to the
reader or its service between two uses does not matter, and no other program finds it with its PIN entered.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from chipcash import files
from chipcash.card import Card, PinError
from chipcash.crypto import CryptoError, Suite, suite
from chipcash.errors import ChipcashError, LinkLostError, TransportError
from chipcash.pos import keys
from chipcash.transports import Connection, open_path
from chipcash.trust import FILE_NAME, Trust
from chipcash_wire import commands as c
from chipcash_wire import objects as o

__all__ = ["PUK_VARIABLE", "SamCustody"]

PUK_VARIABLE = "CHIPCASH_KEY_PUK"
"""Names the PUK that a new SAM gets, for programs."""
_PUBLIC_FILE = "sam.pub"
"""In the till's directory: the SAM's public key in hex, so that no PIN is tried on another one."""
_TAKEN = "8010000B"
"""What PC/SC answers where another program has the card."""
_WAIT_S = 1.0
"""For a card that is just put in, or whose reader's service starts again."""
_PATIENCE_S = 5.0
"""How long another process of this till may have the card."""
_TRIES = 2
"""A card whose link broke is asked once more: none of its commands does anything twice."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Found:
    """The card in the reader. header: of a SAM's network; public: its key, None as long as it has none."""

    blank: bool
    header: bytes | None
    public: bytes | None


_Work = Callable[[Card, _Found], _T]

_lock = threading.RLock()
_pins: dict[str, str] = {}
"""Path of a SAM to the PIN that it took: a person is asked once."""
_refused: dict[str, str] = {}
"""Path of a SAM to the PIN that it refused last, which is not tried again: a running till would block it."""
_books: dict[tuple[Path, str], tuple[keys.Signer, bytes]] = {}
"""Key and books' key of tills, by directory and path: books are opened often."""


class SamCustody(keys.Custody):
    """A SAM. The reader in path may be changed in the till's file `custody`, if the card moves to another."""

    def __init__(self, path: str, directory: Path) -> None:
        super().__init__(path, directory)
        self.reader = path.partition(":")[2]
        if ":" not in self.reader:
            raise CryptoError(
                f"{path!r} does not say where the SAM is.",
                hint="As in sam:pcsc:READER, with a part of the reader's name that no other one has.",
            )

    # What a custody does ------------------------------------------------------------------------

    def key(self) -> keys.Signer | None:
        """The till's key; None where the card is blank, or a SAM without one."""
        known = _books.get((self.directory, self.path))
        if known is not None:
            return known[0]
        return self.use(lambda _, found: self._signer(found))

    def make_key(self, which: Suite) -> keys.Signer:
        """Have the SAM make its key. Raises CryptoError."""

        def make(card: Card, found: _Found) -> None:
            if found.public is None:  # else only the answer was lost
                self.enter_pin(card)
                card.sam_make_key()

        self.use(make)
        key = self.key()
        if key is None:
            raise CryptoError(f"The SAM at {self.reader} made no key.")
        try:
            files.replace(self.directory / _PUBLIC_FILE, f"{key.public.hex()}\n".encode())
        except OSError as error:
            raise CryptoError(
                f"{self.directory / _PUBLIC_FILE} cannot be written: {error.strerror}."
            ) from None
        return key

    def books_key(self) -> bytes | None:
        """The key of the books; None where the card is blank."""
        place = (self.directory, self.path)
        # Not under the lock: another thread may have the card sign just now.
        known = _books.get(place)
        if known is not None:
            return known[1]

        def read(card: Card, found: _Found) -> tuple[keys.Signer | None, bytes | None]:
            if found.blank:
                return None, None
            self.enter_pin(card)
            return self._signer(found), card.sam_books_key()

        with _lock:
            if place in _books:
                return _books[place][1]
            key, books_key = self.use(read)
            if key is not None and books_key is not None:
                _books[place] = (key, books_key)
            return books_key

    def keep_books_key(self, key: bytes) -> None:
        """A SAM makes that key itself. Raises CryptoError."""
        raise CryptoError(
            f"A key cannot be put into {self.path}: it is made there, and stays there."
        )

    def make_books_key(self) -> bytes:
        """The key of the books. A blank card becomes a SAM of the till's network; its PIN and PUK are asked
        for."""

        def make(card: Card, found: _Found) -> None:
            if found.blank:
                pin = self._code(keys.PIN_VARIABLE, "PIN", c.PIN_MIN, c.PIN_MAX, new=True)
                puk = self._code(PUK_VARIABLE, "PUK", c.PUK_SIZE, c.PUK_SIZE, new=True)
                card.make_sam(Trust.load(self.directory / FILE_NAME).header, pin, puk)
                _pins[self.path] = pin
                _refused.pop(self.path, None)

        self.use(make)
        key = self.books_key()
        if key is None:
            raise CryptoError(f"The card at {self.reader} did not become a SAM.")
        return key

    # The card -----------------------------------------------------------------------------------

    def use(self, work: _Work[_T]) -> _T:
        """Open the card, see that it is this till's SAM or a blank card, and do something with it. work is
        done again where the link broke. Raises CryptoError."""
        with _lock:
            for left in reversed(range(_TRIES)):
                try:
                    with self._open() as connection:
                        card = Card(connection)
                        return work(card, self._checked(card))
                except LinkLostError as error:
                    if not left:
                        raise self._failed(error) from None
                except CryptoError:
                    raise
                except ChipcashError as error:
                    raise self._failed(error) from None
        raise AssertionError("the last round returns or raises")

    def enter_pin(self, card: Card) -> None:
        """Begin a PIN session. Raises CryptoError."""
        pin = _pins.get(self.path) or self._code(
            keys.PIN_VARIABLE, "PIN", c.PIN_MIN, c.PIN_MAX, new=False
        )
        if pin == _refused.get(self.path):
            raise CryptoError(
                f"The SAM at {self.reader} has refused this PIN before; it was not tried again.",
                hint="Give it the right PIN, and start the till anew.",
                custody=self.path,
            )
        try:
            card.verify_pin(pin)
        except PinError as error:
            _pins.pop(self.path, None)
            if error.sw != c.SW_BLOCKED:
                _refused[self.path] = pin
            if error.attempts_left == 0:
                raise self._blocked() from None
            tries = "1 try" if error.attempts_left == 1 else f"{error.attempts_left} tries"
            raise CryptoError(
                f"Wrong PIN of the SAM at {self.reader}, which holds the till's key: {tries} left.",
                hint="Enter it again, carefully: after the last try it is blocked.",
                custody=self.path,
                attempts_left=error.attempts_left,
            ) from None
        _pins[self.path] = pin
        _refused.pop(self.path, None)

    def _open(self) -> Connection:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return open_path(self.reader, wait=_WAIT_S)
            except TransportError as error:
                if error.facts.get("pcsc_error") != _TAKEN or time.monotonic() >= give_up:
                    raise
            time.sleep(0.05)

    def _checked(self, card: Card) -> _Found:
        """Select the application, and see that it may be this till's SAM."""
        header = card.select().header
        info = card.info()
        life = info.lifecycle
        found = _Found(life == o.LIFE_BLANK, header, info.subject)
        if life not in (o.LIFE_BLANK, o.LIFE_SAM):
            raise CryptoError(
                f"The card at {self.reader} is a payer's card and no SAM; nothing was changed.",
                hint="Put the till's SAM into this reader; a new till needs a blank card.",
                custody=self.path,
            )
        network = self.directory / FILE_NAME
        if life == o.LIFE_SAM and network.exists() and Trust.load(network).header != header:
            raise CryptoError(
                f"The SAM at {self.reader} is of another network than this till.",
                hint="Put the till's SAM into this reader.",
                custody=self.path,
            )
        try:
            expected = bytes.fromhex((self.directory / _PUBLIC_FILE).read_text("ascii"))
        except FileNotFoundError:
            return found
        except (OSError, ValueError):
            expected = b""
        if info.subject != expected:
            raise self.another()
        return found

    def another(self) -> CryptoError:
        """The card in the reader is not this till's."""
        return CryptoError(
            f"The card at {self.reader} is not this till's SAM. No money has moved.",
            hint="Put the till's SAM into this reader.",
            custody=self.path,
        )

    def _signer(self, found: _Found) -> keys.Signer | None:
        if found.public is None or found.header is None:
            return None
        return _SamKey(self, suite(found.header[5]), found.public)

    def _blocked(self) -> CryptoError:
        return CryptoError(
            f"The PIN of the SAM at {self.reader}, which holds the till's key, is blocked.",
            hint=f"Unblock it with its PUK: chipcash card unblock {self.reader}",
            custody=self.path,
        )

    def _failed(self, error: ChipcashError) -> CryptoError:
        return CryptoError(
            f"The SAM at {self.reader}, which holds the till's key, cannot be used. {error.message} "
            "No money has moved.",
            hint=error.hint,
            custody=self.path,
            **{name: value for name, value in error.facts.items() if name != "custody"},
        )

    def _code(self, variable: str, what: str, least: int, most: int, *, new: bool) -> str:
        """A PIN or PUK, from the environment or a person."""
        code = os.environ.get(variable, "")
        if not code:
            if keys.asking is None:
                raise CryptoError(
                    f"The SAM at {self.reader}, which holds the till's key, wants its {what}.",
                    hint=f"Give it in {variable}.",
                    custody=self.path,
                )
            which = f"{'new ' if new else ''}{what} of the SAM at {self.reader}"
            code = keys.asking(which)
            if new and keys.asking(f"{which}, again") != code:
                raise CryptoError("The two are not the same. Nothing was changed.")
        if not (code.isascii() and code.isdigit() and least <= len(code) <= most):
            size = f"{least} to {most}" if least < most else f"{least}"
            raise CryptoError(f"The {what} of a SAM has {size} digits. It was not sent.")
        return code


class _SamKey:
    """A key that is in a SAM."""

    def __init__(self, custody: SamCustody, which: Suite, public: bytes) -> None:
        self.suite = which
        self.public = public
        self._custody = custody

    def __repr__(self) -> str:
        return f"<key in {self._custody.path} {self.public.hex()}>"

    def sign(self, message: bytes) -> bytes:
        """A signature over the message of a claim, a void or a refund promise of this till: a SAM signs no
        other. Raises CryptoError."""

        def sign(card: Card, found: _Found) -> bytes:
            if found.public != self.public:
                raise self._custody.another()
            self._custody.enter_pin(card)
            return card.sam_sign(message)

        return self._custody.use(sign)

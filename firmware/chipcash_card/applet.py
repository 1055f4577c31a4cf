# SPDX-License-Identifier: Apache-2.0
"""The applet: the card's key, money and PIN over one store, from power on to power off.

Commands come through its sessions, one for each interface: chipcash_card.session.
"""

from chipcash_card.holder import Holder
from chipcash_card.journal import Journal
from chipcash_card.keys import KeyStore
from chipcash_card.pin import KEY_PIN, Pin
from chipcash_card.purse import (
    KEY_ANCHORS,
    KEY_CERTIFICATE,
    KEY_PRIVATE,
    KEY_RISK,
    KEY_STATE,
    Purse,
    Refused,
    State,
)
from chipcash_card.session import Session
from chipcash_card.suites import suite
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire.compat import INTERPRETER, TYPE_CHECKING, keep_heap_whole

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_card.suites import Signer
    from chipcash_drivers.indicator import Indicator
    from chipcash_panel.panel import Panel
    from chipcash_wire.channel import Channel

BUILD = b"chipcash 0.1.0 " + INTERPRETER.encode()
"""What card info tells of the firmware, at most 32 bytes."""
_RECEIVING = (b"\xed", b"\xe6")  # tags of Payment and Receipt, the latter not loaded yet
COUPONS = 2
"""Signature coupons that an idle card keeps ready."""
ROOM = 4096
"""Bytes that an idle card keeps free in its journal: more than a payment writes."""


class Applet:
    """The card application over one store, from power on to power off.

    device: the flash behind the journal; random(n): n bytes from the hardware or system generator; panel:
    screen and buttons, on a card that has them; keys: where its private key is, by default in that flash;
    indicator: LED and buzzer.
    purse and pin are there once the card is personalised. broken: memory and journal may disagree; nothing
    but a new power on helps. Raises OSError if the device cannot be read, or the card's key not be used."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        device,
        random: "Callable[[int], bytes]",
        panel: "Panel | None" = None,
        keys: "KeyStore | None" = None,
        indicator: "Indicator | None" = None,
    ) -> None:
        keep_heap_whole()
        self._keys = keys or KeyStore(b"")
        self.random = random
        self.panel = panel
        self._indicator = indicator
        self.purse: "Purse | None" = None
        self.pin: "Pin | None" = None
        self.broken = False
        self._journal = Journal(device)
        self._state = State(self._journal.get(KEY_STATE))
        self._signer: "Signer | None" = None
        if self._state.lifecycle != o.LIFE_BLANK:
            # A boot epoch of its own for each power on: no nonce of an earlier one can come again.
            self._state.boots += 1
            self._journal.commit({KEY_STATE: self._state.encode()})
            self._load()
        self._show_balance()

    def _show_balance(self) -> None:
        """Tell the holder what is on the card."""
        purse = self.purse
        for front in (self.panel, self._indicator):
            if front is not None and purse is not None:
                front.balance(purse.balance, purse.pending)
            elif front is not None:
                front.balance(None, 0)

    def _load(self) -> None:
        key = suite(self._state.suite)
        kept = self._journal.get(KEY_PRIVATE) or b""
        self._signer = self._keys.signer(key, kept, self._state.boots, self.random)
        if self._state.lifecycle == o.LIFE_PERSONALISED:
            self.purse = Purse(self._journal, self._state, self._signer)
            self.pin = Pin(self._journal, key)

    def session(self, over_air: bool = False, far: bool = False) -> Session:
        """A session for one interface; see there."""
        return Session(self, over_air, far)

    def idle(self) -> bool:
        """Do one piece of work that a tap should not wait for; False when there is none left."""
        if self.broken or self._signer is None or self.purse is None:
            return False
        if self._signer.coupons < COUPONS:
            self._signer.prepare()
            return True
        try:
            return self._journal.tidy(ROOM)
        except OSError:
            self.broken = True
            return False

    @property
    def lifecycle(self) -> int:
        """One of objects.LIFE_*."""
        return self._state.lifecycle

    def application_info(self) -> bytes:
        """The answer to SELECT."""
        header = self.purse.header if self.purse is not None else None
        return o.ApplicationInfo(header=header, lifecycle=self._state.lifecycle).encode()

    def info(self, verified: bool) -> bytes:
        """Card info; verified: with the balance, as in a PIN session."""
        state = self._state
        purse = self.purse
        balance = None
        pending = None
        if purse is not None and verified:
            balance = min(purse.balance, o.MAX_AMOUNT)
            pending = min(purse.pending, o.MAX_AMOUNT)
        return o.CardInfo(
            subject=self._signer.public if self._signer is not None else None,
            counter=state.counter,
            time=state.newest,
            sequence=purse.sequence if purse is not None else 0,
            lifecycle=state.lifecycle,
            pin_tries=self.pin.tries if self.pin is not None else 0,
            balance=balance,
            pending=pending,
            spent=state.cumulative,
            payments=state.count,
            room=purse.room if purse is not None else None,
            build=BUILD,
            key_place=self._signer.place if self._signer is not None else None,
        ).encode()

    def pay(self, data: bytes, pin_verified: bool, far: bool) -> "tuple[bytes, bool]":
        """PAY on a personalised card: see Purse.pay. The holder sees what becomes of it. Raises Refused."""
        purse = self.purse
        if purse is None:
            raise Refused(c.SW_CONDITIONS)
        holder = Holder(suite(self._state.suite), pin_verified, far, self.panel, self._indicator)
        try:
            return purse.pay(data, holder)
        except Refused as refusal:
            holder.refused(refusal.sw)
            raise

    def put(self, data: bytes, pin_verified: bool) -> None:
        """PUT DATA on a personalised card: see Purse.put and chipcash_card.receiving. The holder sees what it
        brought. Raises Refused."""
        purse = self.purse
        if purse is None:
            raise Refused(c.SW_CONDITIONS)
        before = purse.pending
        if data[:1] in _RECEIVING:
            from chipcash_card import receiving  # most cards only pay, and memory is short

            receiving.put(data, purse)
        else:
            purse.put(data, pin_verified)
        came = purse.pending - before
        if came <= 0:
            self._show_balance()
            return
        for front in (self.panel, self._indicator):
            if front is not None:
                front.received(came, purse.balance, purse.pending)

    def open_channel(self, host_key: bytes) -> "tuple[Channel, bytes] | None":
        """GENERAL AUTHENTICATE: our end of a secure channel and the answer, channel proof and certificate;
        None if host_key (33 bytes) is no public key. The card must be personalised."""
        purse = self.purse
        if purse is None or self._signer is None:
            return None
        found = self._signer.open_channel(purse.header, host_key)
        if found is None:
            return None
        return found[0], found[1] + purse.certificate

    def generate(self, p1p2: int) -> bytes:
        """GENERATE ASYMMETRIC KEY PAIR: the new public key. Raises Refused."""
        if p1p2 & 0xFF or p1p2 >> 8 not in (o.SUITE_GM, o.SUITE_P256):
            raise Refused(c.SW_P1P2)
        key = suite(p1p2 >> 8)
        kept = self._keys.generate(key, self.random)
        state = State(self._state.encode())
        state.lifecycle = o.LIFE_KEYED
        state.suite = key.id
        state.boots += 1
        self._journal.commit({KEY_PRIVATE: kept, KEY_STATE: state.encode()})
        self._state = state
        self._load()
        return self._signer.public  # type: ignore[union-attr]

    def personalise(self, data: bytes) -> None:
        """STORE DATA: become a card of a network, in one write. Raises Refused."""
        perso = o.Personalisation.decode(data)
        certificate = perso.certificate
        risk = perso.risk
        signer = self._signer
        if signer is None:
            raise Refused(c.SW_CONDITIONS)
        if certificate.header != risk.header or o.suite_of(risk) != self._state.suite:
            raise Refused(c.SW_NETWORK)
        key = suite(self._state.suite)
        if not key.verify(
            perso.certification_key, certificate.message(), certificate.signature
        ) or not key.verify(perso.center_key, risk.message(), risk.signature):
            raise Refused(c.SW_SIGNATURE)
        if certificate.role != o.ROLE_CARD or not (
            certificate.subject == risk.subject == signer.public
        ):
            raise Refused(c.SW_NOT_MINE)
        state = State(self._state.encode())
        state.lifecycle = o.LIFE_PERSONALISED
        state.newest = risk.time
        self._journal.commit(
            {
                KEY_ANCHORS: perso.center_key + perso.certification_key,
                KEY_CERTIFICATE: certificate.encode(),
                KEY_RISK: risk.encode(),
                KEY_PIN: Pin.create(key, self.random, perso.pin, perso.puk),
                KEY_STATE: state.encode(),
            }
        )
        self._state = state
        self._load()
        self._show_balance()

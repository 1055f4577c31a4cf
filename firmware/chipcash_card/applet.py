# SPDX-License-Identifier: Apache-2.0
"""The applet: the card's key, money and PIN over one store, from power on to power off.

Commands come through its sessions, one for each interface: chipcash_card.session.
"""

from chipcash_card.holder import Holder
from chipcash_card.journal import Journal, NewerFirmware
from chipcash_card.keys import KeyStore
from chipcash_card.pin import KEY_PIN, Pin
from chipcash_card.purse import (
    FORMAT,
    KEY_ANCHORS,
    KEY_CERTIFICATE,
    KEY_PRIVATE,
    KEY_RISK,
    KEY_STATE,
    KEY_VERSION,
    Purse,
    Refused,
    State,
)
from chipcash_card.session import Session
from chipcash_card.suites import suite
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING, keep_heap_whole

if TYPE_CHECKING:
    from typing import Callable, Protocol

    from chipcash_card.suites import Signer
    from chipcash_drivers.indicator import Indicator
    from chipcash_panel.panel import Panel
    from chipcash_wire.channel import Channel

    class Updates(Protocol):
        """What takes the firmware's next version: chipcash_board.update. Each raises Refused."""

        def begin(self, owner: object, head: bytes) -> None:
            """A new update, whose parts come from owner only."""

        def body(self, owner: object, data: bytes) -> None:
            """The next part."""

        def finish(self, owner: object) -> None:
            """There are no more parts: it is what runs from the next power on."""


VERSION = "0.1.0"
"""Version of this firmware."""
ROLLBACK = 1
"""Its rollback counter. A release that must not be undone, because the one before has a hole, raises it."""
_RECEIVING = (b"\xed", b"\xe6")  # tags of Payment and Receipt, the latter not loaded yet
COUPONS = 2
"""Signature coupons that an idle card keeps ready."""
ROOM = 4096
"""Bytes that an idle card keeps free in its journal: more than a payment writes."""


class Firmware:
    """What runs. build: as card info tells it, VERSION+BUILDID, or VERSION alone where there is no image;
    rollback: its rollback counter; open_updates: makes what takes its next version, None where that cannot
    be."""

    def __init__(
        self,
        build: bytes = VERSION.encode(),
        rollback: int = ROLLBACK,
        open_updates: "Callable[[], Updates] | None" = None,
    ) -> None:
        self.build = build
        self.rollback = rollback
        self.open_updates = open_updates


class Applet:
    """The card application over one store, from power on to power off.

    device: the flash behind the journal; random(n): n bytes from the hardware or system generator; panel:
    screen and buttons, on a card that has them; keys: where its private key is, by default in that flash;
    indicator: LED and buzzer; firmware: what runs.
    purse and pin are there once the card is personalised, in a SAM pin alone. broken: memory and journal may
    disagree; nothing but a new power on helps. Raises OSError if the device cannot be read, or the card's key
    not be used; NewerFirmware, with nothing changed, if newer firmware than this has run the card."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        device,
        random: "Callable[[int], bytes]",
        panel: "Panel | None" = None,
        keys: "KeyStore | None" = None,
        indicator: "Indicator | None" = None,
        firmware: "Firmware | None" = None,
    ) -> None:
        keep_heap_whole()
        self._keys = keys or KeyStore(b"")
        self.random = random
        self.panel = panel
        self._indicator = indicator
        self.purse: "Purse | None" = None
        self.pin: "Pin | None" = None
        self.broken = False
        self._firmware = firmware or Firmware()
        self._updates: "Updates | None" = None
        self._journal = Journal(device)
        changes = self._admit()
        self._state = State(self._journal.get(KEY_STATE))
        self._signer: "Signer | None" = None
        if self._state.lifecycle != o.LIFE_BLANK:
            # A boot epoch of its own for each power on: no nonce of an earlier one can come again.
            self._state.boots += 1
            changes[KEY_STATE] = self._state.encode()
        if changes:
            self._journal.commit(changes)
        if self._state.lifecycle != o.LIFE_BLANK:
            self._load()
        self._show_balance()

    def _admit(self) -> "dict[bytes, bytes | None]":
        """What has to change in the journal before this firmware may run the card. Raises NewerFirmware.

        Here what older firmware stored becomes what this one expects, in the one write that also has its
        number. Up to 0.1.0 there was none, and all else was as in format 1."""
        kept = self._journal.get(KEY_VERSION) or bytes(5)
        if kept[0] > FORMAT:
            raise NewerFirmware("its format is %d, this firmware's %d" % (kept[0], FORMAT))
        highest = int.from_bytes(kept[1:5], "big")
        rollback = self._firmware.rollback
        if rollback < highest:
            raise NewerFirmware("rollback counter %d ran it, not %d" % (highest, rollback))
        now = bytes((FORMAT,)) + rollback.to_bytes(4, "big")
        return {KEY_VERSION: now} if now != kept else {}

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
        life = self._state.lifecycle
        kept = self._journal.get(KEY_PRIVATE)
        if kept is not None or life != o.LIFE_SAM:  # which is made before its key
            self._signer = self._keys.signer(key, kept or b"", self._state.boots, self.random)
        if life == o.LIFE_PERSONALISED:
            self.purse = Purse(self._journal, self._state, self._signer)  # type: ignore[arg-type]
        if life > o.LIFE_KEYED:
            self.pin = Pin(self._journal, key)

    def session(self, over_air: bool = False, far: bool = False) -> Session:
        """A session for one interface; see there."""
        return Session(self, over_air, far)

    def idle(self) -> bool:
        """Do one piece of work that a tap should not wait for; False when there is none left."""
        if self.broken or self._signer is None or self.pin is None:
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
        purse = self.purse
        kept = self._journal.get(KEY_ANCHORS)
        header = purse.header if purse is not None else kept and kept[:6]
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
            build=self._firmware.build,
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

    def prove(self, challenge: bytes) -> bytes:
        """INTERNAL AUTHENTICATE: genuine proof over challenge (16 bytes), and certificate. Raises Refused."""
        purse = self.purse
        if purse is None:
            raise Refused(c.SW_CONDITIONS)
        return purse.prove(challenge, self.random(32), self._firmware.build) + purse.certificate

    @property
    def updates(self) -> "Updates":
        """What takes updates of the firmware, made when one is wanted. Raises Refused if none can be."""
        if self._updates is None:
            if self._firmware.open_updates is None:
                raise Refused(c.SW_NOT_SUPPORTED)
            self._updates = self._firmware.open_updates()
        return self._updates

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

# SPDX-License-Identifier: Apache-2.0
"""The whole line for tests: issuing library, bank, cards, merchants and center, all of them the real ones.

Whatever is drawn at random comes from a generator that begins anew with each line, so that what happened on
one can be repeated.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from chipcash.bank.cards import personalise
from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import BankLibrary
from chipcash.card import Card
from chipcash.cardholder import synchronise
from chipcash.center.errors import CenterUnreachable
from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.certification import Authority
from chipcash.crypto import PrivateKey
from chipcash.crypto import suite as find_suite
from chipcash.errors import LinkLostError
from chipcash.pos import Pos
from chipcash.transports.base import BaseConnection
from chipcash.trust import Trust, object_id
from chipcash_card.applet import Applet
from chipcash_card.session import Session
from chipcash_sim.image import MemoryFlash, PowerCut
from chipcash_wire import objects as o
from tests.portable.fuzzing import Dice

SUITE = "p256"
START = 1_800_000_000
DAY = 86400
PIN = "123456"
PUK = "12345678"
BANK_BYTES = 16384
"""Of a flash bank: small, so that the journal moves now and then."""
HONEST = ("alice", "bob")
CHEAT = "mallory"
MERCHANTS = ("kiosk", "shop")


def key(name: str) -> PrivateKey:
    """The key of a name, the same in every run."""
    return PrivateKey(find_suite(SUITE), hashlib.sha256(name.encode()).digest())


@cache
def trust() -> Trust:
    """The network."""
    authority = Authority(key("certification"), b"TEST", lambda: START)
    return Trust(
        b"TEST",
        o.SUITES[SUITE],
        key("certification").public,
        (
            authority.certify_institution(key("issuer").public, o.ROLE_ISSUER),
            authority.certify_institution(key("center").public, o.ROLE_CENTER),
        ),
    )


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a tap: power fails at a flash write, or before or after the card answers an APDU."""

    write: int | None = None
    half: bool = False
    before: int = 0
    after: int = 0


class Tap(BaseConnection):
    """A card with power on a reader. Closing it, or its fault, takes the power."""

    def __init__(self, content: bytearray, random: Callable[[int], bytes], fault: Fault) -> None:
        super().__init__("card", over_air=False)
        self._fault = fault
        self._apdus = 0
        try:
            flash = MemoryFlash(content, fault.write, fault.half)
            self._session: Session | None = Applet(flash, random).session()
        except PowerCut:
            raise LinkLostError("No power while it started.", maybe_executed=False) from None

    def _transceive(self, apdu: bytes) -> bytes:
        self._apdus += 1
        try:
            if self._session is None or self._apdus == self._fault.before:
                raise PowerCut
            reply = self._session.process(apdu)
            if self._apdus == self._fault.after:
                raise PowerCut
        except PowerCut:
            self.close()
            raise LinkLostError("The card left the field.", maybe_executed=True) from None
        return reply

    def close(self) -> None:
        self._session = None


@dataclass
class Wallet:
    """A card, by what is in its flash; a copy of that is a clone."""

    name: str
    public: bytes
    content: bytearray

    def clone(self) -> Wallet:
        return Wallet(self.name, self.public, bytearray(self.content))


@cache
def _made_card(name: str) -> tuple[o.Certificate, bytes]:
    """A personalised card of this name: its certificate and its flash."""
    content = bytearray(b"\xff" * (2 * BANK_BYTES))
    center = Center(":memory:", key("center"), trust(), Parameters(), lambda: START)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    with Tap(content, Dice(seed).bytes, Fault()) as tap:
        card = Card(tap)
        card.select()
        authority = Authority(key("certification"), b"TEST", lambda: START)
        certificate = personalise(card, authority, center, trust(), pin=PIN, puk=PUK, tier=3)
    center.close()
    return certificate, bytes(content)


@cache
def _made_merchants() -> TemporaryDirectory[str]:
    """A folder with a new POS for each merchant, to be copied; it goes with the process."""
    folder = TemporaryDirectory(prefix="chipcash-merchants-")
    dice = Dice(1)
    with patch.object(secrets, "randbelow", dice.below):
        for name in MERCHANTS:
            Pos.init(
                Path(folder.name, name), trust(), "http://center.test", clock=lambda: START
            ).close()
    return folder


class Observed(Center):
    """The center, and a watch that follows from its receipts alone who spent what first.

    repeats: the repeat payments that it must have evidence for: (title, first claim, second claim).
    """

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.claims: dict[bytes, o.Claim] = {}
        self.repeats: set[tuple[bytes, bytes, bytes]] = set()
        self.counts: dict[str, int] = {}
        self._spent: dict[bytes, list[tuple[int, int, bytes | None]]] = {}
        self._registered: dict[bytes, list[tuple[int, int, bytes]]] = {}
        self._returned: set[bytes] = set()

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        receipt = super().settle(deposit, titles)
        for claim, result in zip(deposit.claims, receipt.results, strict=True):
            self._watch(claim, result)
        return receipt

    def reclaim(self, reclaim: o.Reclaim, titles: Sequence[o.Title] = ()) -> o.Receipt:
        receipt = super().reclaim(reclaim, titles)
        if reclaim.title_id is None:
            self._watch(reclaim.claims[0], receipt.results[0])
            return receipt
        for title in receipt.titles:
            if object_id(title) not in self._returned:
                self._returned.add(object_id(title))
                self._spend(reclaim.title_id, title.lo, title.hi, None)
                self._count("title returned")
        return receipt

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _first(self, title_id: bytes, lo: int, hi: int) -> tuple[int, int, bytes | None] | None:
        for spend in self._spent.get(title_id, []):
            if spend[0] < hi and spend[1] > lo:
                return spend
        return None

    def _spend(self, title_id: bytes, lo: int, hi: int, claim_id: bytes | None) -> None:
        assert self._first(title_id, lo, hi) is None
        self._spent.setdefault(title_id, []).append((lo, hi, claim_id))

    def _watch(self, claim: o.Claim, result: o.Result) -> None:
        """Follow the outcome of a claim: it may have been here before."""
        claim_id = object_id(claim)
        new = claim_id not in self.claims
        self.claims[claim_id] = claim
        for item, outcome in zip(claim.inputs, result.outcomes, strict=True):
            assert outcome.state != o.INVALID
            first = self._first(item.title_id, item.lo, item.hi)
            if outcome.state in (o.SETTLED, o.RECLAIMED):
                if first is None:
                    self._spend(item.title_id, item.lo, item.hi, claim_id)
                    self._count(o.OUTCOMES[outcome.state])
                else:
                    assert first == (item.lo, item.hi, claim_id)
            elif outcome.state == o.DISPUTED:
                assert first is not None and first[2] == outcome.claim_id != claim_id
            elif new:
                self._count(o.OUTCOMES[outcome.state])
        if new:
            self._register(claim, claim_id)

    def _register(self, claim: o.Claim, claim_id: bytes) -> None:
        """The first claim on the same fen is the evidence, whatever became of it."""
        for item in claim.inputs:
            known = self._registered.setdefault(item.title_id, [])
            for lo, hi, by in known:
                if lo < item.hi and hi > item.lo:
                    self.repeats.add((item.title_id, by, claim_id))
                    break
            known.append((item.lo, item.hi, claim_id))


class Wire:
    """The way to the center. lose: how many messages pass before one is lost; answer: not it, its answer."""

    def __init__(self, center: Center) -> None:
        self._center = center
        self.lose: int | None = None
        self.answer = False

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any) -> Any:
            lost = self.lose == 0
            if self.lose is not None:
                self.lose -= 1
            if lost and not self.answer:
                raise CenterUnreachable("The line is dead.")
            result = getattr(self._center, name)(*values)
            if lost:
                raise CenterUnreachable("The line went dead.")
            return result

        return call


@dataclass
class Line:
    """Everybody, over one clock. To be closed."""

    now: int = START
    wallets: list[Wallet] = field(default_factory=list)
    merchants: list[Pos] = field(default_factory=list)

    def __post_init__(self) -> None:
        certificates = []
        for name in (*HONEST, CHEAT):
            certificate, content = _made_card(name)
            certificates.append(certificate)
            self.wallets.append(Wallet(name, certificate.subject, bytearray(content)))
        merchants = _made_merchants()
        self._dice = Dice(20)
        self._patches = [
            patch.object(secrets, "token_bytes", self._dice.bytes),
            patch.object(secrets, "randbelow", self._dice.below),
        ]
        for each in self._patches:
            each.start()
        self._folder = TemporaryDirectory(prefix="chipcash-line-")
        self.trust = trust()
        self.center = Observed(":memory:", key("center"), self.trust, Parameters(), self.clock)
        self.wire = Wire(self.center)
        self.issuing = IssuingLibrary(":memory:", key("issuer"), self.trust)
        self.bank = BankLibrary(":memory:", key("bank"), self.trust, self.wire, self.clock)
        for certificate in certificates:
            self.center.register_card(certificate)
        for name in MERCHANTS:
            folder = Path(self._folder.name, name)
            shutil.copytree(Path(merchants.name, name), folder)
            self.merchants.append(Pos(folder, clock=self.clock))
        for pos in self.merchants:
            pos.sync(self.center)

    def clock(self) -> int:
        """The time of all."""
        return self.now

    def close(self) -> None:
        for each in (*self.merchants, self.bank, self.issuing, self.center):
            each.close()
        for patched in self._patches:
            patched.stop()
        self._folder.cleanup()

    def tap(self, wallet: Wallet, fault: Fault | None = None) -> Tap:
        """The card on a reader. Raises LinkLostError if the fault hits while it starts."""
        return Tap(wallet.content, self._dice.bytes, fault or Fault())

    def synchronise(self, wallet: Wallet, fault: Fault | None = None) -> int:
        """Bring a card up to date in a PIN session; how many titles found no room on it."""
        with self.tap(wallet, fault) as tap:
            card = Card(tap)
            card.select()
            card.verify_pin(PIN)
            return synchronise(card, self.wire, self.trust).left

    def balance(self, wallet: Wallet) -> int:
        """Fen on the card. Looks at a copy, so that looking changes nothing."""
        with self.tap(wallet.clone()) as tap:
            card = Card(tap)
            card.select()
            card.verify_pin(PIN)
            return card.info().balance or 0

    def live(self, public: bytes) -> int:
        """What the center says a key owns, in fen."""
        owners: dict[str, int] = self.center.accounts()["owners"]
        return owners.get(public.hex(), 0)

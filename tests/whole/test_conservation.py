# SPDX-License-Identifier: Apache-2.0
"""Money is conserved over the whole line: issuing library, bank, cards, tills, center, all of them real.

The machine issues and loads, pays and tears, retries and gives up, clones the card and pays with the clone,
synchronises, refunds, spends, redeems and waits, in any order; after every step nobody has more than the
center says, and whoever is accused was cloned.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import BankLibrary
from chipcash.card import Card
from chipcash.cardholder import load, synchronise
from chipcash.center.ledger import Center, Parameters
from chipcash.errors import ChipcashError, LinkLostError
from chipcash.evidence import verify_evidence
from chipcash.pos import PaymentState, Pos
from chipcash.transports import open_path
from chipcash_wire import objects as o
from tests.builders import DAY, NOW, network
from tests.cards import PIN, make_card

HOUR = 3600
FAULTS = [
    *[""] * 24,
    *["?cut_before=2", "?cut_after=2"] * 3,
    *[f"?cut_write={n}{half}" for n in range(7) for half in ("", "&half=1")],
]
"""No fault; the power goes before or after PAY; or at a write to the flash, whole or half done."""
ELSEWHERE = "paid elsewhere"


@cache
def personalised() -> tuple[bytes, bytes, o.Certificate]:
    """Flash of a new card, its key, its certificate: the same card for every run, since keys take long."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "card.img")
        public = make_card(image, network("p256"))
        with open_path(f"sim:{image}") as connection:
            card = Card(connection)
            card.select()
            certificate = card.certificate()
        return image.read_bytes(), public, certificate


class Line(RuleBasedStateMachine):
    """One card, perhaps its clone, two tills, a bank, and the center between them."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.net = network("p256")
        self.now = NOW
        self.center = Center(
            self.folder / "ledger.db",
            self.net.key("center"),
            self.net.trust,
            Parameters(),
            lambda: self.now,
        )
        self.issuing = IssuingLibrary(":memory:", self.net.key("issuer"), self.net.trust)
        self.bank = BankLibrary(
            ":memory:", self.net.key("bank"), self.net.trust, self.center, lambda: self.now
        )
        self.tills = [
            Pos.init(self.folder / name, self.net.trust, "http://none", clock=lambda: self.now)
            for name in ("b", "c")
        ]
        flash, self.key, certificate = personalised()
        self.card = self.folder / "card.img"
        self.card.write_bytes(flash)
        self.clone = self.folder / "clone.img"
        self.center.register_card(certificate)
        self.issued = 0
        for till in self.tills:
            till.sync(self.center)

    def teardown(self) -> None:
        """Let everything come to its end; then each fen that was signed away has arrived somewhere."""
        for till in self.tills:
            while till.open_requests():
                till.give_up()
            till.sync(self.center)
        self.check()
        self.now += 10 * DAY
        self.bring_home()
        self.now += 400 * DAY
        self.bring_home()
        self.check()
        if not self.clone.exists():
            assert self.balance() + self.left == self.owned(self.key)
        for each in (*self.tills, self.bank, self.issuing, self.center):
            each.close()
        self.scratch.cleanup()

    # ---- how ----------------------------------------------------------------------------------------

    @contextmanager
    def at(self, image: Path, faults: str = "") -> Iterator[Card]:
        """The card of an image, selected, in a PIN session."""
        with open_path(f"sim:{image}{faults}") as connection:
            card = Card(connection)
            card.select()
            card.verify_pin(PIN)
            yield card

    def balance(self) -> int:
        with self.at(self.card) as card:
            return card.info().balance or 0

    def owned(self, key: bytes) -> int:
        """Fen that are live under titles of a key."""
        fen: int = self.center.accounts()["owners"].get(key.hex(), 0)
        return fen

    def bring_home(self) -> None:
        """Synchronise the card until there is nothing new."""
        while True:
            with self.at(self.card) as card:
                done = synchronise(card, self.center, self.net.trust)
                held = {(record.title.serial, record.title.epoch) for record in card.titles()}
            if not done.loaded:
                break
        self.left = sum(
            title.hi - title.lo
            for title in self.center.titles(self.key)
            if (title.serial, title.epoch) not in held
        )

    # ---- what may happen ----------------------------------------------------------------------------

    @rule(fen=st.integers(1, 900), arrives=st.booleans())
    def load(self, fen: int, arrives: bool) -> None:
        self.issue_and_load(fen, arrives)

    def issue_and_load(self, fen: int, arrives: bool) -> None:
        """A coin, paid out to the card; whether the card is still there to take it."""
        self.issuing.add_reserve(self.bank.public, fen)
        coin = self.issuing.issue(self.bank.public, fen)
        self.bank.add(self.center.register_coin(coin))
        self.issued += fen
        titles = self.bank.withdraw(fen, self.key).titles
        if arrives:
            with self.at(self.card) as card:
                for title in titles:
                    try:
                        load(card, title)
                    except ChipcashError:
                        return  # full; it stays at the center

    @rule(
        till=st.integers(0, 1),
        fen=st.integers(1, 300),
        fault=st.sampled_from(FAULTS),
        cloned=st.booleans(),
        fresh=st.booleans(),
    )
    def pay(self, till: int, fen: int, fault: str, cloned: bool, fresh: bool) -> None:
        image = self.clone if cloned and self.clone.exists() else self.card
        try:
            with open_path(f"sim:{image}{fault}") as connection:
                self.tills[till].charge(connection, fen, fresh=fresh)
        except LinkLostError:
            pass  # the card lost its power while it started
        except ChipcashError:
            pass  # torn, refused by the card, or by the till: each leaves its request as it should

    @precondition(lambda self: self.clone.exists())
    @rule(first=st.integers(0, 1), fen=st.integers(1, 200))
    def pay_twice(self, first: int, fen: int) -> None:
        self.pay(first, fen, "", cloned=False, fresh=True)
        self.pay(1 - first, fen, "", cloned=True, fresh=True)

    @rule(till=st.integers(0, 1), cloned=st.booleans())
    def retry(self, till: int, cloned: bool) -> None:
        image = self.clone if cloned and self.clone.exists() else self.card
        if self.tills[till].open_requests():
            try:
                with open_path(f"sim:{image}") as connection:
                    self.tills[till].retry(connection)
            except ChipcashError:
                pass

    @rule(till=st.integers(0, 1))
    def give_up(self, till: int) -> None:
        if self.tills[till].open_requests():
            self.tills[till].give_up()

    @initialize(cloned=st.booleans())
    def begin(self, cloned: bool) -> None:
        self.issue_and_load(fen=2000, arrives=True)
        if cloned:
            self.steal_the_flash()

    @precondition(lambda self: not self.clone.exists())
    @rule()
    def steal_the_flash(self) -> None:
        shutil.copyfile(self.card, self.clone)

    @rule(tills=st.sampled_from([(0,), (1,), (0, 1), (1, 0)]))
    def sync(self, tills: tuple[int, ...]) -> None:
        for till in tills:
            self.tills[till].sync(self.center)

    @rule()
    def sync_card(self) -> None:
        self.bring_home()

    @rule(till=st.integers(0, 1), fen=st.integers(1, 500))
    def refund(self, till: int, fen: int) -> None:
        for payment in self.tills[till].payments(PaymentState.VERIFIED):
            try:
                self.tills[till].refund(payment.claim_id, fen, self.center)
            except ChipcashError:
                pass  # more than is left of it
            break

    @rule(till=st.integers(0, 1), fen=st.integers(1, 500), how=st.sampled_from("srb"))
    def spend(self, till: int, fen: int, how: str) -> None:
        pos, other = self.tills[till], self.tills[1 - till]
        before = pos.balance().verified_fen
        try:
            if how == "r":
                pos.redeem(self.center, fen)
            else:
                pos.spend(fen, other.public if how == "s" else self.bank.public, self.center)
        except ChipcashError:
            assert fen > before  # pending money is not spent
        else:
            assert fen <= before

    @rule(fen=st.integers(1, 500))
    def redeem_at_the_bank(self, fen: int) -> None:
        for title in self.center.titles(self.bank.public):
            self.bank.add(title)
        if fen <= self.bank.balance():
            done = self.bank.redeem(fen)
            back = [
                self.issuing.credit(claim, spent, done.receipt)
                for claim, spent in zip(done.deposit.claims, done.spent, strict=True)
            ]
            assert sum(back) == fen

    @rule(seconds=st.sampled_from([HOUR, 3 * DAY, 9 * DAY]))
    def wait(self, seconds: int) -> None:
        if self.now < NOW + 60 * DAY:
            self.now += seconds

    # ---- what must hold -----------------------------------------------------------------------------

    def check(self) -> None:
        self.money_is_conserved()
        self.nobody_has_more_than_the_center_says()
        self.each_repeat_payment_is_found_once_and_nobody_honest_is_accused()

    @invariant()
    def money_is_conserved(self) -> None:
        self.center.check()
        accounts = self.center.accounts()
        assert accounts["issued_fen"] == self.issued
        assert accounts["live_fen"] + accounts["redeemed_fen"] == self.issued
        assert accounts["live_fen"] == sum(accounts["owners"].values())

    @invariant()
    def nobody_has_more_than_the_center_says(self) -> None:
        for till in self.tills:
            assert till.balance().verified_fen <= self.owned(till.public)
        assert self.bank.balance() <= self.owned(self.bank.public)
        if not self.clone.exists():
            assert self.balance() <= self.owned(self.key)

    @invariant()
    def each_repeat_payment_is_found_once_and_nobody_honest_is_accused(self) -> None:
        cloned = self.clone.exists()
        digests = []
        for till in self.tills:
            for payment in till.payments(PaymentState.DISPUTED):
                told = self.center.claim(payment.claim_id)
                disputed = [x for x in told["outcomes"] if x["state"] == "disputed"]
                assert cloned or not disputed
                assert len(told["evidence"]) == sum(x["claim_id"] is not None for x in disputed)
                assert (ELSEWHERE in payment.reason) == bool(disputed)
                digests += told["evidence"]
        assert len(set(digests)) == len(digests)
        for digest in digests:
            evidence = self.center.evidence(bytes.fromhex(digest))
            assert verify_evidence(evidence, self.net.trust).payer == self.key
        entries, _ = self.center.blacklist()
        assert [entry.subject for entry in entries] in ([], [self.key])
        assert cloned or not entries
        assert not digests or entries


TestLine = Line.TestCase
TestLine.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# SPDX-License-Identifier: Apache-2.0
"""Refunds of pending money: promised at once, paid once, and never more than became money."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chipcash import qr
from chipcash.card import Card
from chipcash.cardholder import synchronise
from chipcash.center.errors import CenterUnreachable
from chipcash.errors import ChipcashError
from chipcash.pos import (
    Payment,
    PaymentState,
    PendingMoney,
    PosError,
    PromiseState,
    TransferKind,
)
from chipcash.transports import open_path
from chipcash_wire import objects as o
from tests.builders import DAY
from tests.cards import PIN
from tests.pos.shop import BadNetwork, Crash, Shop, crash_at, crash_from_here

KEPT, PARTLY, CANCELLED = PromiseState.KEPT, PromiseState.PARTLY, PromiseState.CANCELLED
PROMISED, SENT = PromiseState.PROMISED, PromiseState.SENT


def owned(shop: Shop, key: bytes) -> int:
    """Fen that the center says a key has."""
    shop.center.check()
    owners: dict[str, int] = shop.center.accounts()["owners"]
    return owners.get(key.hex(), 0)


def test_a_pending_payment_s_refund_is_promised_then_paid(shop: Shop) -> None:
    path = shop.card()
    paid = shop.pay(path, 1200)
    with pytest.raises(PendingMoney, match="PENDING"):
        shop.pos.refund(paid.nonce, 500, shop.center)
    promise = shop.pos.promise_refund(paid.nonce, 500)
    assert (promise.state, promise.amount, promise.paid_fen) == (PROMISED, 500, 0)
    assert shop.pos.balance().promised_fen == 500
    # What the customer holds.
    (text,) = qr.encode(promise.data)
    signed = qr.read((text,), o.RefundPromise)
    assert (signed.claim_id, signed.amount, signed.payee) == (paid.claim_id, 500, shop.pos.public)
    assert shop.net.trust.signed_by(signed, shop.pos.public)
    shop.crash()
    report = shop.pos.sync(shop.center)
    (kept,) = report.promises
    assert (kept.state, kept.paid_fen, kept.nonce) == (KEPT, 500, promise.nonce)
    (transfer,) = shop.pos.transfers()
    assert (transfer.kind, transfer.amount, transfer.settled_fen) == (TransferKind.REFUND, 500, 500)
    assert transfer.nonce == kept.deposit and transfer.payee == paid.payer
    assert (shop.money(), shop.pos.balance().verified_fen) == (700, 700)
    assert shop.pos.balance().promised_fen == 0
    assert not shop.pos.sync(shop.center).promises
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.verify_pin(PIN)
        synchronise(card, shop.center, shop.net.trust)
        assert card.info().balance == 10000 - 700


def test_a_promised_refund_is_who_promised_its(shop: Shop) -> None:
    """In the reports too, and not who happens to synchronise, or pays somebody else first."""
    paid = shop.pay(shop.card(), 1200)
    shop.pos.operator = "an"
    shop.pos.promise_refund(paid.nonce, 500)
    shop.pos.operator = "bo"
    shop.pos.sync(shop.center)
    (transfer,) = shop.pos.transfers()
    assert transfer.operator == "an"
    groups = {x.value: x for x in shop.pos.x_report().groups if x.by == "operator"}
    assert "bo" not in groups
    assert {x.what: x.fen for x in groups["an"].lines}["refunded"] == 500


def test_promises_stay_within_the_payment(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1000)
    shop.pos.promise_refund(paid.claim_id, 300)
    shop.pos.promise_refund(paid.claim_id, 600)
    with pytest.raises(PosError, match=r"1\.00 yuan can be promised back, not 1\.01"):
        shop.pos.promise_refund(paid.claim_id, 101)
    shop.pos.promise_refund(paid.claim_id, 100)
    with pytest.raises(PosError, match="above zero"):
        shop.pos.promise_refund(paid.claim_id, 0)
    shop.pos.sync(shop.center)
    assert [each.state for each in shop.pos.promises(paid.claim_id)] == [KEPT] * 3
    assert shop.pos.payment(paid.claim_id).state == PaymentState.SPENT
    assert shop.money() == 0 and owned(shop, paid.payer) == 10000
    with pytest.raises(PosError, match="SPENT"):
        shop.pos.promise_refund(paid.claim_id, 1)


def test_a_promise_and_a_refund_together_stay_within_it(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1000)
    shop.pos.promise_refund(paid.claim_id, 700)
    shop.pos.sync(shop.center)
    with pytest.raises(PosError, match=r"3\.00 yuan can be refunded"):
        shop.pos.refund(paid.claim_id, 301, shop.center)
    shop.pos.refund(paid.claim_id, 300, shop.center)


def test_a_reference_is_one_order_whatever_it_became(shop: Shop) -> None:
    paid, other = shop.pay(shop.card(), 1000), shop.pay(shop.card("other"), 1000)
    promise = shop.pos.promise_refund(paid.claim_id, 400, reference="R1")
    assert shop.pos.promise_refund(paid.claim_id, 400, reference="R1") == promise
    for payment, amount in ((paid, 401), (other, 400)):
        with pytest.raises(PosError, match="another order"):
            shop.pos.promise_refund(payment.claim_id, amount, reference="R1")
    shop.pos.sync(shop.center)
    again = shop.pos.refund(paid.claim_id, 400, shop.center, reference="R1")
    assert again.nonce == shop.pos.promise(promise.nonce).deposit
    assert len(shop.pos.transfers()) == 1 and shop.money() == 1600
    with pytest.raises(PosError, match="another order"):
        shop.pos.spend(400, shop.net.public("bank"), shop.center, reference="R1")
    shop.pos.refund(other.claim_id, 100, shop.center, reference="R2")
    third = shop.pay(shop.card("third"), 1000)
    with pytest.raises(PosError, match="another order"):
        shop.pos.promise_refund(third.claim_id, 100, reference="R2")


def test_a_payment_that_expired_leaves_nothing_to_give_back(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1000)
    promise = shop.pos.promise_refund(paid.claim_id, 400, reference="R1")
    shop.now = paid.deadline + DAY + 1
    (cancelled,) = shop.pos.sync(shop.center).promises
    assert (cancelled.nonce, cancelled.state, cancelled.paid_fen) == (promise.nonce, CANCELLED, 0)
    assert "deadline" in cancelled.reason
    assert shop.pos.transfers() == () and shop.pos.balance().promised_fen == 0
    shop.pay(shop.card("other"), 1000)
    shop.pos.sync(shop.center)
    with pytest.raises(PosError, match="CANCELLED"):
        shop.pos.refund(paid.claim_id, 400, shop.center, reference="R1")


def clone(path: str, to: Path) -> str:
    """A copy of a card, as it is now; its path."""
    shutil.copy(path.removeprefix("sim:"), to)
    return f"sim:{to}"


def part_disputed(shop: Shop) -> Payment:
    """A payment of 900 fen over two titles: 600 that a clone has paid before, and 300 of its own."""
    path = shop.card(money=(600, 300))
    thief = clone(path, shop.folder / "clone.img")
    first = shop.pay(thief, 600)
    shop.pos.sync(shop.center)
    assert first.amount == 600
    with shop.pos.store.transaction():  # the till that took the other payment has not heard of it
        shop.pos.store.execute("DELETE FROM blacklist")
    return shop.pay(path, 900)


def test_of_a_payment_that_settled_in_part_only_that_is_given_back(shop: Shop) -> None:
    paid = part_disputed(shop)
    one, two = (shop.pos.promise_refund(paid.claim_id, fen) for fen in (200, 500))
    promises = {each.nonce: each for each in shop.pos.sync(shop.center).promises}
    found = shop.pos.payment(paid.claim_id)
    assert (found.state, found.settled_fen, found.disputed_fen) == (PaymentState.DISPUTED, 300, 600)
    assert (promises[one.nonce].state, promises[one.nonce].paid_fen) == (KEPT, 200)
    assert (promises[two.nonce].state, promises[two.nonce].paid_fen) == (PARTLY, 100)
    assert "paid elsewhere" in promises[two.nonce].reason
    assert shop.money() == 600
    with pytest.raises(PosError, match=r"0\.00 yuan can be refunded"):
        shop.pos.refund(paid.claim_id, 1, shop.center)


def test_what_is_owed_goes_before_other_transfers(shop: Shop) -> None:
    """Between the payment's receipt and the refund the till was killed; then somebody redeems everything."""
    paid = shop.pay(shop.card(), 1000)
    promise = shop.pos.promise_refund(paid.claim_id, 400)
    with pytest.raises(CenterUnreachable):
        shop.pos.sync(BadNetwork(shop.center, 1, answer=False))
    # The refund is stored; take that back, as if the till had been killed just before.
    assert shop.pos.promise(promise.nonce).state == SENT
    redeemed = shop.pos.redeem(shop.center)
    assert redeemed.amount == 600
    shop.pos.sync(shop.center)
    assert shop.pos.promise(promise.nonce).state == KEPT
    assert shop.money() == 0


def test_a_refund_that_came_too_late_is_made_again(shop: Shop) -> None:
    """The till was cut off for days after it had stored the refund, and its clock stands still."""
    paid = shop.pay(shop.card(), 1000)
    shop.pay(shop.card("other"), 1000)
    promise = shop.pos.promise_refund(paid.claim_id, 400)
    with pytest.raises(CenterUnreachable):
        shop.pos.sync(BadNetwork(shop.center, 1, answer=False))
    slow = shop.now
    shop.pos._clock = lambda: slow
    shop.now += 3 * DAY
    report = shop.pos.sync(shop.center)
    (late,) = report.transfers
    assert late.settled_fen == 0 and report.promises == []
    waiting = shop.pos.promise(promise.nonce)
    assert (waiting.state, waiting.deposit) == (PROMISED, None) and "too late" in waiting.reason
    (kept,) = shop.pos.sync(shop.center).promises
    assert (kept.state, kept.paid_fen) == (KEPT, 400)
    assert owned(shop, paid.payer) == 9400


def test_a_promise_waits_for_money(shop: Shop) -> None:
    """Where the till has paid out what it owes: by books of an older program, say."""
    paid = shop.pay(shop.card(), 1000)
    promise = shop.pos.promise_refund(paid.claim_id, 400)
    with shop.pos.store.transaction():
        shop.pos.store.execute("UPDATE promises SET not_before = ?", shop.now + 1)
    shop.pos.sync(shop.center)
    shop.pos.redeem(shop.center)
    shop.now += 1
    shop.pos.sync(shop.center)
    waiting = shop.pos.promise(promise.nonce)
    assert waiting.state == PROMISED and "too little" in waiting.reason
    with pytest.raises(PosError, match="can be refunded"):
        shop.pos.refund(paid.claim_id, 601, shop.center)
    shop.pay(shop.card("other"), 1000)
    shop.pos.sync(shop.center)
    shop.pos.sync(shop.center)
    assert shop.pos.promise(promise.nonce).state == KEPT


def test_killed_at_any_statement_each_promise_is_paid_once(tmp_path: Path) -> None:
    """Promise, then synchronise; killed before the n-th SQL statement of the two, for every n; then again."""
    home = tmp_path / "home"
    home.mkdir()
    base = Shop(home)
    base.pos.sync(base.center)
    paid = base.pay(base.card(), 1000)
    base.close()
    statement = 0
    outcomes: Counter[str] = Counter()
    while True:
        world = tmp_path / "world"
        shutil.copytree(home, world)
        shop = Shop(world)
        try:
            with crash_at(1 << 40, after=False):
                pos = shop.pos
                crash_from_here(statement)
                pos.promise_refund(paid.claim_id, 400, reference="R")
                pos.sync(shop.center)
            done = True
        except Crash:
            done = False
        shop.crash()
        known = shop.pos.promises()
        outcomes[str(known[0].state) if known else "none"] += 1
        if shop.pos.payment(paid.claim_id).state in (PaymentState.PENDING, PaymentState.SUBMITTED):
            shop.pos.promise_refund(paid.claim_id, 400, reference="R")
        shop.pos.sync(shop.center)
        (promise,) = shop.pos.promises()
        assert (promise.state, promise.paid_fen) == (KEPT, 400), statement
        assert len(shop.pos.transfers()) == 1
        assert (shop.money(), owned(shop, paid.payer)) == (600, 9400)
        shop.close()
        shutil.rmtree(world)
        if done:
            break
        statement += 1
    assert {"none", "PROMISED", "SENT", "KEPT"} <= outcomes.keys() and statement > 40


happened: Counter[str] = Counter()
"""What all histories together brought about."""
STEP = st.tuples(
    st.sampled_from(["pay", "promise", "promise", "refund", "sync", "sync", "redeem", "late"]),
    st.integers(0, 5),
    st.integers(1, 400),
    st.none() | st.tuples(st.integers(0, 5), st.booleans()),
    st.none() | st.integers(0, 60),
)


class History:
    """A shop, two cards and a copy of one; steps that may be refused, cut off and killed."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop(folder)
        self.shop.pos.sync(self.shop.center)
        cards = [self.shop.card("one", (3000, 500)), self.shop.card("two", (2000,))]
        self.cards = [*cards, clone(cards[0], folder / "clone.img")]
        self.issued = self.shop.center.accounts()["issued_fen"]
        self.paid: dict[bytes, int] = {}
        self.by_hand = False
        self.shop.pay(cards[0], 300)

    def step(
        self, what: str, which: int, fen: int, loss: tuple[int, bool] | None, crash: int | None
    ) -> None:
        """One of STEP. loss: of which message to the center, or of its answer; crash: at which statement."""
        shop = self.shop
        client: Any = (
            shop.center if loss is None else BadNetwork(shop.center, loss[0], answer=loss[1])
        )
        payments = shop.pos.payments()
        claim_id = payments[which % len(payments)].claim_id
        actions: dict[str, Callable[[], object]] = {
            "pay": lambda: shop.pay(self.cards[which % len(self.cards)], fen, fresh=True),
            "promise": lambda: shop.pos.promise_refund(claim_id, fen),
            "refund": lambda: shop.pos.refund(claim_id, fen, client),
            "sync": lambda: shop.pos.sync(client),
            "redeem": lambda: shop.pos.redeem(client, fen),
            "late": lambda: setattr(shop, "now", shop.now + (9 * DAY if which > 3 else 600)),
        }
        if crash is not None:
            shop.crash()
        try:
            if crash is None:
                actions[what]()
            else:
                with crash_at(crash, after=bool(crash % 2)):
                    actions[what]()
            happened[what] += 1
        except Crash:
            happened[f"{what} killed"] += 1
        except CenterUnreachable:
            happened[f"{what} cut off"] += 1
        except ChipcashError:
            happened[f"{what} refused"] += 1
            return
        finally:
            if crash is not None:
                shop.crash()
        self.by_hand |= what == "refund"

    def check(self) -> None:
        """What holds at any time: no more goes back than was settled, and the till knows what is pending."""
        pos = self.shop.pos
        self.shop.center.check()
        pending: Counter[tuple[str, object]] = Counter()
        for payment in pos.payments():
            gone = pos.store.row(
                "SELECT coalesce(sum(coalesce(settled_fen, amount)), 0) FROM deposits"
                " WHERE refund_of = ?",
                payment.claim_id,
            )[0]
            assert gone <= payment.settled_fen
            if payment.state in (PaymentState.PENDING, PaymentState.SUBMITTED):
                promises = pos.promises(payment.claim_id)
                assert {each.state for each in promises} <= {PROMISED}
                assert sum(each.amount for each in promises) <= payment.amount
                for key in (("all", 0), ("shift", 0), ("card", payment.payer)):
                    pending[key] += payment.amount
        rows = pos.store.all("SELECT * FROM exposure WHERE fen > 0")
        assert {(row["kind"], row["of"]): row["fen"] for row in rows} == pending
        for each in pos.promises():
            assert each.amount >= each.paid_fen >= self.paid.get(each.nonce, 0)
            self.paid[each.nonce] = each.paid_fen

    def end(self) -> None:
        """Once all is synchronised each promise is decided, or waits for money, and no fen is missing."""
        for _ in range(3):
            self.shop.pos.sync(self.shop.center)
        self.check()
        accounts = self.shop.center.accounts()
        assert self.issued == accounts["live_fen"] + accounts["redeemed_fen"]
        pos = self.shop.pos
        for each in pos.promises():
            happened[each.state] += 1
            assert each.state != SENT
            assert (each.state == KEPT) == (each.paid_fen == each.amount)
            assert (each.state == CANCELLED) <= (each.paid_fen == 0)
            if each.state == PROMISED:
                assert "too little" in each.reason
        paid = sum(each.paid_fen for each in pos.promises())
        refunds = [x for x in pos.transfers() if x.kind == TransferKind.REFUND]
        assert self.by_hand or sum(x.settled_fen or 0 for x in refunds) == paid


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=4, max_size=14))
def histories(steps: list[tuple[str, int, int, tuple[int, bool] | None, int | None]]) -> None:
    with TemporaryDirectory() as folder:
        history = History(Path(folder))
        for step in steps:
            history.step(*step)
            history.check()
        history.end()
        history.shop.close()


def test_any_history_pays_each_promise_at_most_once() -> None:
    happened.clear()
    histories()
    wanted = {"promise", "promise killed", "sync", "sync killed", "sync cut off", KEPT, CANCELLED}
    assert wanted <= happened.keys(), happened

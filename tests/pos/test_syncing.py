# SPDX-License-Identifier: Apache-2.0
"""Synchronising with a real center: states, money, and repetition after any failure."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterUnreachable
from chipcash.center.service import Service
from chipcash.pos import (
    AnswerLost,
    CenterService,
    InsufficientFunds,
    PaymentState,
    PendingMoney,
    Pos,
    PosError,
    TransferKind,
    syncing,
)
from chipcash.terminal import ReceiptError
from chipcash.transports import open_path
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.builders import DAY, SUITES, changed
from tests.cards import PIN
from tests.pos.shop import BadNetwork, Crash, Shop, Torn, crash_at


def clone(shop: Shop, path: str) -> str:
    """A copy of a card with all that is on it."""
    image = Path(path.removeprefix("sim:"))
    copy = image.with_name("clone.img")
    shutil.copyfile(image, copy)
    return f"sim:{copy}"


def test_deposits_and_transfers_carry_all_titles_that_they_spend(tmp_path: Path) -> None:
    """So a center of several ledgers has to look for none."""

    class Watched(BadNetwork):
        def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
            spent = {item.title_id for claim in deposit.claims for item in claim.inputs}
            assert sorted(map(object_id, titles)) == sorted(spent)
            kinds.append(len(spent))
            return super().settle(deposit, titles)

    kinds: list[int] = []
    shop = Shop(tmp_path, "p256")
    network = Watched(shop.center, -1, answer=False)
    shop.pos.sync(network)
    path = shop.card(money=(1000, 1000))
    for amount in (300, 400, 1100):
        shop.pay(path, amount)
    shop.pos.sync(network)
    shop.pos.redeem(network)
    assert kinds == [2, 1]  # a title for each coin of the card's, one for the fresh coin of both
    shop.close()


@pytest.mark.parametrize("suite", SUITES)
def test_pending_becomes_verified(tmp_path: Path, suite: str) -> None:
    shop = Shop(tmp_path, suite)
    shop.pos.sync(shop.center)
    path = shop.card(money=(1000, 1000))
    paid = [shop.pay(path, amount) for amount in (300, 400, 1100)]
    report = shop.pos.sync(shop.center)
    assert [(x.before, x.payment.state) for x in report.changes] == [
        (PaymentState.SUBMITTED, PaymentState.VERIFIED)
    ] * 3
    assert {x.payment.nonce for x in report.changes} == {x.nonce for x in paid}
    balance = shop.pos.balance()
    assert (balance.pending_fen, balance.verified_fen) == (0, 1800)
    assert shop.money() == 1800
    again = shop.pos.sync(shop.center)
    assert (again.changes, again.titles_received, again.transfers) == ([], 0, [])
    shop.close()


def test_over_http(shop: Shop) -> None:
    path = shop.card()
    shop.pay(path, 1200)
    with Service(shop.center) as service, CenterClient(service.url, shop.net.trust) as client:
        report = shop.pos.sync(client)
        assert [x.payment.state for x in report.changes] == ["VERIFIED"]
        shop.pos.spend(200, shop.net.public("bank"), client)
    with CenterClient(service.url, shop.net.trust) as client, pytest.raises(CenterUnreachable):
        shop.pos.sync(client)
    assert shop.money() == 1000


def test_repeat_payment_is_disputed_and_the_card_listed(shop: Shop) -> None:
    path = shop.card()
    copy = clone(shop, path)
    first, second = shop.pay(path, 1200), shop.pay(copy, 1300)
    report = shop.pos.sync(shop.center)
    states = {x.payment.nonce: x.payment for x in report.changes}
    assert states[first.nonce].state == PaymentState.VERIFIED
    lost = states[second.nonce]
    assert (lost.state, lost.settled_fen, lost.disputed_fen) == (PaymentState.DISPUTED, 0, 1300)
    assert "paid elsewhere before" in lost.reason
    assert report.blacklist_entries == 1
    assert first.payer in shop.pos.blacklist.subjects
    balance = shop.pos.balance()
    assert (balance.verified_fen, balance.disputed_fen) == (1200, 1300)
    assert shop.money() == 1200


def test_a_payment_whose_parts_end_differently(shop: Shop) -> None:
    """Of two titles in a payment one was spent elsewhere: its part is disputed, the rest is money."""
    path = shop.card(money=(700, 800))
    copy = clone(shop, path)
    shop.pay(path, 700)
    parts = shop.pay(copy, 1100)
    shop.pos.sync(shop.center)
    found = shop.pos.payment(parts.claim_id)
    assert found.state == PaymentState.DISPUTED
    assert (found.settled_fen, found.disputed_fen) == (800, 300)
    assert shop.pos.balance().verified_fen == shop.money() == 1500
    shop.pos.refund(parts.claim_id, 800, shop.center)
    with pytest.raises(PosError, match="0.00 yuan can be refunded"):
        shop.pos.refund(parts.claim_id, 1, shop.center)


def test_a_late_deposit_is_expired(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1200)
    shop.now = paid.deadline + 1
    assert shop.pos.balance().overdue_fen == 1200
    shop.now = paid.deadline + DAY + 1
    (change,) = shop.pos.sync(shop.center).changes
    assert change.payment.state == PaymentState.EXPIRED
    balance = shop.pos.balance()
    assert (balance.pending_fen, balance.verified_fen, balance.expired_fen) == (0, 0, 1200)


def test_a_void_brings_the_money_back_to_the_payer(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 1200)
    void = shop.pos.give_up()
    assert void is not None
    assert shop.pos.sync(shop.center).voids_sent == 1
    assert shop.pos.sync(shop.center).voids_sent == 0
    # The claim turns up after all: whoever deposits it, it does not settle.
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.verify_pin(PIN)
        (payment,) = card.payments()
    assert payment.claim.nonce == void.nonce
    deposit = o.Deposit(
        header=shop.net.header, nonce=secrets.token_bytes(16), claims=(payment.claim,)
    )
    (result,) = shop.center.settle(deposit).results
    assert [x.state for x in result.outcomes] == [o.VOIDED]
    shop.pos.sync(shop.center)
    assert shop.money() == 0


def test_deposited_by_somebody_else_first(shop: Shop) -> None:
    """A claim can only settle to its payee; the own deposit brings the same outcome and the titles."""
    paid = shop.pay(shop.card(), 1200)
    claim = o.Payment.decode(paid.data).claim
    shop.center.settle(
        o.Deposit(header=shop.net.header, nonce=secrets.token_bytes(16), claims=(claim,))
    )
    shop.pos.sync(shop.center)
    assert shop.states() == {paid.nonce: "VERIFIED"}
    assert shop.pos.balance().verified_fen == shop.money() == 1200


def test_many_payments_go_in_batches(shop: Shop) -> None:
    path = shop.card(money=(60000,), cumulative=10**6, count=10**6)
    with open_path(path) as connection:
        for _ in range(230):
            shop.pos.charge(connection, 7)
    report = shop.pos.sync(shop.center)
    assert len(report.changes) == 230
    assert shop.pos.balance().verified_fen == shop.money() == 1610
    # Redemption finds them: the neighbouring slices of a deposit have become one title each.
    assert shop.pos.redeem(shop.center).settled_fen == 1610
    assert set(shop.states().values()) == {"REDEEMED"}


def test_a_receipt_that_is_not_for_the_deposit_changes_nothing(shop: Shop) -> None:
    class Liar(BadNetwork):
        def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
            return changed(super().settle(deposit, titles), time=1)

    shop.pay(shop.card(), 1200)
    with pytest.raises(ReceiptError, match="No payment changed its state"):
        shop.pos.sync(Liar(shop.center, -1, answer=False))
    assert set(shop.states().values()) == {"SUBMITTED"}
    shop.pos.sync(shop.center)
    assert set(shop.states().values()) == {"VERIFIED"}


# Verified money out -----------------------------------------------------------------------------


def test_pending_money_cannot_be_spent(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1200)
    bank = shop.net.public("bank")
    attempts: list[Callable[[], object]] = [
        lambda: shop.pos.spend(1, bank, shop.center),
        lambda: shop.pos.refund(paid.claim_id, 1, shop.center),
        lambda: shop.pos.redeem(shop.center, 1),
        lambda: shop.pos.redeem(shop.center),
    ]
    for attempt in attempts:
        with pytest.raises(PendingMoney, match="Pending Repeat Payment Verification"):
            attempt()
    assert shop.pos.transfers() == ()
    shop.pos.sync(shop.center)
    with pytest.raises(InsufficientFunds) as caught:
        shop.pos.spend(1201, bank, shop.center)
    assert not isinstance(caught.value, PendingMoney)
    with pytest.raises(PosError, match="above zero"):
        shop.pos.spend(0, bank, shop.center)
    with pytest.raises(PosError, match="redeemed"):
        shop.pos.spend(1, shop.net.trust.issuer_key, shop.center)


def test_spend_refund_redeem(shop: Shop) -> None:
    path = shop.card(money=(1000, 1000))
    paid = [shop.pay(path, amount) for amount in (600, 700)]
    shop.pos.sync(shop.center)
    bank = shop.net.public("bank")
    spent = shop.pos.spend(100, bank, shop.center)
    assert (spent.kind, spent.amount, spent.settled_fen) == (TransferKind.SPEND, 100, 100)
    back = shop.pos.refund(paid[0].nonce, 250, shop.center)
    assert (back.payee, back.settled_fen) == (paid[0].payer, 250)
    with pytest.raises(PosError, match="3.50 yuan can be refunded"):
        shop.pos.refund(paid[0].nonce, 351, shop.center)
    assert set(shop.states().values()) == {"VERIFIED"}
    assert shop.pos.redeem(shop.center, 50).settled_fen == 50
    assert shop.pos.balance().verified_fen == shop.money() == 900
    assert shop.pos.redeem(shop.center).settled_fen == 900
    assert shop.pos.balance().verified_fen == shop.money() == 0
    assert set(shop.states().values()) <= {"SPENT", "REDEEMED"}
    with pytest.raises(InsufficientFunds):
        shop.pos.redeem(shop.center)
    accounts = shop.center.accounts()
    assert accounts["redeemed_fen"] == 950 and accounts["owners"][bank.hex()] == 100
    assert len(shop.pos.transfers()) == 4
    # The card gets its refund as a new title, and can pay with it again at the same POS.
    (title,) = (x for x in shop.center.titles(paid[0].payer) if x.hi - x.lo == 250)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.put(title)
    again = shop.pay(path, 800)
    shop.pos.sync(shop.center)
    assert shop.pos.payment(again.nonce).state == PaymentState.VERIFIED
    assert shop.pos.balance().verified_fen == shop.money() == 800


def test_money_that_others_send_arrives(shop: Shop) -> None:
    title = shop.center.register_coin(shop.net.coin(5000, shop.pos.public))
    assert shop.pos.sync(shop.center).titles_received == 1
    assert shop.pos.balance().verified_fen == 5000
    assert title.owner == shop.pos.public
    shop.pos.spend(5000, shop.net.public("bank"), shop.center)
    assert shop.pos.balance().verified_fen == 0


def test_titles_that_expired_and_came_back(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    (title,) = shop.center.titles(shop.pos.public)
    shop.pos.spend(200, shop.net.public("bank"), shop.center)
    shop.now = title.expiry + DAY + 1
    reclaim = o.Reclaim(header=shop.net.header, claims=(), voids=(), title_id=object_id(title))
    shop.center.reclaim(reclaim)
    shop.pos.sync(shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 1000
    assert shop.pos.redeem(shop.center).settled_fen == 1000
    assert shop.pos.payment(paid.nonce).state in ("VERIFIED", "SPENT")


def test_a_reference_is_one_transfer(shop: Shop) -> None:
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    bank = shop.net.public("bank")
    line = BadNetwork(shop.center, 0, answer=True)
    with pytest.raises(CenterUnreachable):
        shop.pos.spend(300, bank, line, reference="rent 1")
    balance = shop.pos.balance()
    assert (balance.verified_fen, balance.leaving_fen) == (900, 300)
    done = shop.pos.spend(300, bank, shop.center, reference="rent 1")
    assert done.settled_fen == 300 and shop.pos.balance().leaving_fen == 0
    assert shop.pos.spend(300, bank, shop.center, reference="rent 1") == done
    with pytest.raises(PosError, match="another transfer"):
        shop.pos.spend(301, bank, shop.center, reference="rent 1")
    assert shop.center.accounts()["owners"][bank.hex()] == 300


def test_a_reference_is_a_refund_of_one_payment(shop: Shop) -> None:
    """Also where another payment of the same card is to be given back in the same amount."""
    card = shop.card()
    one, other = shop.pay(card, 500), shop.pay(card, 500, fresh=True)
    shop.pos.sync(shop.center)
    done = shop.pos.refund(one.claim_id, 200, shop.center, reference="back")
    assert shop.pos.refund(one.claim_id, 200, shop.center, reference="back") == done
    with pytest.raises(PosError, match="another transfer"):
        shop.pos.refund(other.claim_id, 200, shop.center, reference="back")
    assert len(shop.pos.transfers()) == 1


def test_two_processes_may_synchronise_at_once(shop: Shop) -> None:
    """Another POS process does all of it while this one waits for the center's answer."""

    class Overtaken(BadNetwork):
        def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
            with Pos(shop.folder / "pos", clock=lambda: shop.now) as other:
                other.sync(self.center)
            return super().settle(deposit, titles)

        def blacklist(self, since: int = 0) -> tuple[Sequence[o.BlacklistEntry], o.SignedTime]:
            answer = super().blacklist(since)
            shop.now += 10
            with Pos(shop.folder / "pos", clock=lambda: shop.now) as other:
                other.sync(self.center)
            return answer

    path = shop.card()
    copy = clone(shop, path)
    shop.pay(path, 1200)
    shop.pay(copy, 1300)
    report = shop.pos.sync(Overtaken(shop.center, -1, answer=False))
    assert report.changes == []
    assert sorted(shop.states().values()) == ["DISPUTED", "VERIFIED"]
    assert shop.pos.balance().verified_fen == shop.money() == 1200
    blacklist = shop.pos.blacklist
    assert blacklist.complete and blacklist.time == shop.now


# Failures ---------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deposits of two intervals, so that one is prepared and another one booked while one is on its way."""
    monkeypatch.setattr(syncing, "DEPOSIT_INTERVALS", 2)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("answer", [False, True], ids=["message lost", "answer lost"])
def test_any_message_may_be_lost(tmp_path: Path, answer: bool) -> None:
    shop = world(tmp_path)
    expected = finish(shop)
    shop.close()
    for lose in range(10**6):
        (tmp_path / str(lose)).mkdir()
        shop = world(tmp_path / str(lose))
        try:
            shop.pos.sync(BadNetwork(shop.center, lose, answer=answer))
            lost = False
        except CenterUnreachable:
            lost = True
        assert finish(shop) == expected
        shop.close()
        if not lost:
            break
    assert lose == 6


def world(folder: Path) -> Shop:
    """A shop with everything to synchronise: good, doubtful and late payments, a void, a transfer."""
    shop = Shop(folder)
    shop.pos.sync(shop.center)
    late = shop.card("late", window=2 * DAY)
    shop.pay(late, 90)
    path = shop.card(money=(700, 800))
    copy = clone(shop, path)
    shop.pay(path, 750)
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 20)
    shop.pos.give_up()
    shop.now += 4 * DAY
    shop.pay(copy, 1100, fresh=True)
    return shop


def finish(shop: Shop) -> tuple[list[str], int, int, int, int]:
    """Synchronise to the end: the states and the money."""
    shop.crash()
    shop.pos.sync(shop.center)
    balance = shop.pos.balance()
    assert balance.pending_fen == balance.leaving_fen == 0
    assert balance.verified_fen == shop.money()
    return (
        sorted(shop.states().values()),
        balance.verified_fen,
        balance.disputed_fen,
        balance.expired_fen,
        len(shop.pos.blacklist.subjects),
    )


def cut_off_everywhere(
    tmp_path: Path,
    prepare: Callable[[Shop], None],
    work: Callable[[Shop, CenterService], object],
    check: Callable[[Shop], None],
    after: bool,
    each: int,
) -> int:
    """Do the work on copies of one world, each cut off so many SQL statements later; how many there were."""
    template = tmp_path / "template"
    template.mkdir()
    shop = world(template)
    prepare(shop)
    now = shop.now
    shop.close()
    for n in range(after * (each // 2), 10**6, each):
        shutil.copytree(template, tmp_path / str(n))
        shop = Shop(tmp_path / str(n))
        shop.now = now
        try:
            with crash_at(n, after=after):
                work(shop, shop.center)
            done = True
        except Crash:
            done = False
        shop.crash()
        check(shop)
        shop.close()
        shutil.rmtree(tmp_path / str(n))
        if done:
            return n
    raise AssertionError


EACH = pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.long)])
"""Each statement by `make test-long`, else each third; before and after are of different ones."""


@EACH
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_sync_cut_off_at_any_statement_is_resumed(tmp_path: Path, after: bool, each: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = world(tmp_path / "whole")
    expected = finish(whole)
    assert expected[0] == ["DISPUTED", "EXPIRED", "VERIFIED"]
    whole.close()

    def check(shop: Shop) -> None:
        assert finish(shop) == expected

    n = cut_off_everywhere(
        tmp_path, lambda shop: None, lambda shop, center: shop.pos.sync(center), check, after, each
    )
    assert n > 60


@EACH
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_transfer_cut_off_at_any_statement_is_paid_once(
    tmp_path: Path, after: bool, each: int
) -> None:
    """The next sync finishes it, and repeating the order by its reference pays nothing twice."""

    def prepare(shop: Shop) -> None:
        shop.pos.sync(shop.center)

    def order(shop: Shop, center: CenterService) -> None:
        shop.pos.spend(200, shop.net.public("bank"), center, reference="rent")

    def check(shop: Shop) -> None:
        money = shop.pos.balance().verified_fen + shop.pos.balance().leaving_fen
        shop.pos.sync(shop.center)
        assert shop.pos.balance().leaving_fen == 0
        order(shop, shop.center)
        assert shop.center.accounts()["owners"][shop.net.public("bank").hex()] == 200
        assert shop.pos.balance().verified_fen == shop.money()
        assert money - shop.money() in (0, 200)
        (transfer,) = shop.pos.transfers()
        assert transfer.settled_fen == 200

    assert cut_off_everywhere(tmp_path, prepare, order, check, after, each) > 20

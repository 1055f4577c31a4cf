# SPDX-License-Identifier: Apache-2.0
"""Charging: what is stored when, what is repeated, what is given up, and what nobody has to pay twice."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from chipcash.card import CardError, PinError
from chipcash.database import DatabaseError
from chipcash.errors import ChipcashError
from chipcash.pos import (
    AnotherCard,
    AnswerLost,
    Payment,
    PaymentState,
    Pos,
    PosError,
    RequestState,
)
from chipcash.terminal import Policy, Refusal
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash_wire import commands as c
from tests.builders import DAY, NOW, SUITES, network
from tests.cards import PIN, make_card
from tests.pos.shop import Crash, Shop, Torn, crash_at


@pytest.mark.parametrize("suite", SUITES)
def test_a_charge_is_pending(tmp_path: Path, suite: str) -> None:
    shop = Shop(tmp_path, suite)
    shop.pos.sync(shop.center)
    assert shop.pos.last() is None
    paid = shop.pay(shop.card(), 1200)
    assert (paid.amount, paid.state, paid.deadline) == (1200, PaymentState.PENDING, NOW + 7 * DAY)
    balance = shop.pos.balance()
    assert (balance.pending_fen, balance.verified_fen, balance.open_fen) == (1200, 0, 0)
    assert balance.pending == (paid,)
    last = shop.pos.last()
    assert last is not None and last.paid is True and last.payment == paid
    shop.crash()
    assert shop.pos.balance() == balance
    shop.close()


def test_the_fast_path_has_two_commands(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner:
        link = Torn(inner)
        with pytest.raises(AnswerLost):
            shop.pos.charge(link, 1200)
        assert link.instructions == [c.INS_SELECT, c.INS_PAY]


@pytest.mark.parametrize("before", [True, False])
def test_a_torn_charge_is_repeated_and_paid_once(shop: Shop, before: bool) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost) as caught:
        shop.pos.charge(Torn(inner, before=before), 1200)
    assert "may have taken the money" in caught.value.message and "SAME card" in caught.value.hint
    last = shop.pos.last()
    assert last is not None and last.paid is None
    (waiting,) = shop.pos.open_requests()
    assert waiting.nonce == caught.value.nonce
    assert shop.pos.balance().open_fen == 1200
    paid = shop.pay(path, 1200)
    assert paid.nonce == caught.value.nonce
    assert shop.spent(path) == 1200
    assert shop.pos.open_requests() == ()
    with open_path(path) as connection:
        assert shop.pos.retry(connection, paid.nonce) == paid


def test_another_amount_or_fresh_is_another_request(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 1200)
    shop.pay(path, 1300)
    shop.pay(path, 1200, fresh=True)
    assert shop.spent(path) == 3700
    assert len(shop.pos.open_requests()) == 1


def test_a_card_that_was_not_reached_leaves_nothing_open(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(ChipcashError):
        shop.pos.charge(Torn(inner, before=True, maybe=False), 1200)
    last = shop.pos.last()
    assert last is not None and last.paid is False
    assert last.request.state == RequestState.CANCELLED
    assert shop.pos.give_up(last.request.nonce) is None


def test_a_refusing_card_leaves_nothing_open(shop: Shop) -> None:
    path = shop.card(money=(100,))
    with pytest.raises(CardError) as caught:
        shop.pay(path, 1200)
    assert caught.value.sw == c.SW_INSUFFICIENT_FUNDS
    assert shop.pos.open_requests() == ()


def test_pin_above_the_free_limit(shop: Shop) -> None:
    path = shop.card(pin_free=1000)
    with pytest.raises(PinError):
        shop.pay(path, 1200)
    with pytest.raises(PinError) as caught:
        shop.pay(path, 1200, pin="000000")
    assert caught.value.attempts_left == 2
    assert shop.pay(path, 1200, pin=PIN).amount == 1200
    assert shop.pos.open_requests() == ()


def test_pin_over_the_air(shop: Shop) -> None:
    """In a secure channel to a card of this network, as if it were in a reader."""
    path = shop.card(pin_free=1000) + "?contactless=1"
    with pytest.raises(PinError) as caught:
        shop.pay(path, 1200, pin="000000")
    assert caught.value.attempts_left == 2
    assert shop.pay(path, 1200, pin=PIN).amount == 1200
    assert shop.pos.open_requests() == ()


def test_a_retry_is_bound_to_the_card_that_was_seen(shop: Shop) -> None:
    """The first retry binds the request to its card; no other card is asked after that."""
    first, second = shop.card("first"), shop.card("second")
    for _ in range(2):
        with open_path(first) as inner, pytest.raises(AnswerLost):
            shop.pos.charge(Torn(inner), 1200)
    with pytest.raises(AnotherCard) as caught:
        shop.pay(second, 1200)
    assert "not asked to pay" in caught.value.message
    assert shop.spent(second) == 0
    shop.pay(second, 1200, fresh=True)
    shop.pay(first, 1200)
    assert (shop.spent(first), shop.spent(second)) == (1200, 1200)


def test_a_wrong_card_that_refuses_does_not_keep_the_right_one_out(shop: Shop) -> None:
    right, poor = shop.card("right"), shop.card("poor", money=(100,))
    with open_path(right) as inner, pytest.raises(AnswerLost) as lost:
        shop.pos.charge(Torn(inner), 1200)
    with pytest.raises(CardError) as caught:
        shop.pay(poor, 1200)
    assert caught.value.sw == c.SW_INSUFFICIENT_FUNDS and "stays open" in caught.value.hint
    assert shop.pay(right, 1200).nonce == lost.value.nonce
    assert (shop.spent(right), shop.spent(poor)) == (1200, 0)


class Meanwhile(BaseConnection):
    """A card; before a command of one kind reaches it something happens, once. asked: whether it had PAY."""

    def __init__(self, inner: Connection, instruction: int, happens: Callable[[], object]) -> None:
        super().__init__(inner.path, over_air=True)
        self.inner = inner
        self.instruction = instruction
        self.happens: Callable[[], object] | None = happens
        self.asked = False

    def _transceive(self, apdu: bytes) -> bytes:
        if apdu[1] == self.instruction and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        self.asked = self.asked or apdu[1] == c.INS_PAY
        return self.inner.transceive(apdu)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def other(shop: Shop) -> Iterator[Pos]:
    """The same till in another process, which charges as well."""
    with Pos(shop.pos.directory, clock=lambda: shop.now) as pos:
        yield pos


def test_two_processes_never_say_paid_twice_of_one_payment(shop: Shop, other: Pos) -> None:
    """The second one repeats the first one's request of the same amount, to another card, which is faster."""
    first, second = shop.card("first"), shop.card("second")

    def charge() -> None:
        with open_path(second) as connection:
            other.charge(connection, 1200)

    with open_path(first) as inner, pytest.raises(PosError, match="paid by another payment"):
        shop.pos.charge(Meanwhile(inner, c.INS_PAY, charge), 1200)
    assert [each.amount for each in shop.pos.payments()] == [1200]
    last = other.last()
    assert last is not None and last.payment == shop.pos.payments()[0]


def test_nor_where_the_answer_of_one_is_lost(shop: Shop, other: Pos) -> None:
    """It may have paid, and taps again, when the other card's answer is in the books already."""
    first, second = shop.card("first"), shop.card("second")
    lost: list[AnswerLost] = []

    def charge() -> None:
        with open_path(second) as inner, pytest.raises(AnswerLost) as caught:
            other.charge(Torn(inner), 1200)
        lost.append(caught.value)

    with open_path(first) as inner:
        paid = shop.pos.charge(Meanwhile(inner, c.INS_PAY, charge), 1200)
    assert paid.nonce == lost[0].nonce
    with open_path(second) as connection, pytest.raises(PosError, match="Another card has paid"):
        other.retry(connection, paid.nonce)
    with open_path(first) as connection:
        assert other.retry(connection, paid.nonce) == paid


@pytest.mark.parametrize("ending", ["paid", "bound", "given up"])
def test_a_retry_asks_no_card_for_what_became_another_ones(
    shop: Shop, other: Pos, ending: str
) -> None:
    first, second = shop.card("first"), shop.card("second")
    with open_path(first) as inner, pytest.raises(AnswerLost) as lost:
        shop.pos.charge(Torn(inner, before=True), 1200)
    nonce = lost.value.nonce

    def meanwhile() -> None:
        if ending == "given up":
            other.give_up(nonce)
            return
        with open_path(second) as connection:
            if ending == "paid":
                other.retry(connection, nonce)
            else:
                with pytest.raises(AnswerLost):
                    other.retry(Torn(connection), nonce)

    match = {"paid": "Another card has paid", "bound": "may have paid", "given up": "given up"}
    with open_path(first) as inner:
        connection = Meanwhile(inner, c.INS_GET_DATA, meanwhile)
        with pytest.raises(PosError, match=match[ending]):
            shop.pos.charge(connection, 1200)
    assert not connection.asked and shop.spent(first) == 0


def test_a_request_that_another_process_repeats_is_not_closed_as_unpaid(
    shop: Shop, other: Pos
) -> None:
    """The first card has too little; meanwhile the second one was asked for the same request."""
    poor, rich = shop.card("poor", money=(5,)), shop.card("rich")
    asking, refused = threading.Event(), threading.Event()

    def at_rich() -> None:
        asking.set()
        assert refused.wait(10)

    def charge() -> Payment:
        with open_path(rich) as inner:
            return other.charge(Meanwhile(inner, c.INS_PAY, at_rich), 1200)

    with ThreadPoolExecutor(1) as process:
        paying: list[Future[Payment]] = []

        def at_poor() -> None:
            paying.append(process.submit(charge))
            assert asking.wait(10)

        try:
            with open_path(poor) as inner, pytest.raises(CardError):
                shop.pos.charge(Meanwhile(inner, c.INS_PAY, at_poor), 1200)
        finally:
            refused.set()
        assert paying[0].result(10).amount == 1200
    assert shop.pos.balance().pending_fen == shop.spent(rich) == 1200


def test_the_last_charge_is_the_one_that_was_repeated_last(shop: Shop) -> None:
    """Also where a newer one is paid, or who starts the till again would take that for the answer."""
    first, second = shop.card("first"), shop.card("second")
    with open_path(first) as inner, pytest.raises(AnswerLost) as lost:
        shop.pos.charge(Torn(inner), 1200)
    assert shop.pay(second, 1200, fresh=True)
    last = shop.pos.last()
    assert last is not None and last.paid
    with open_path(first) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 1200)
    shop.crash()
    last = shop.pos.last()
    assert last is not None and (last.request.nonce, last.paid) == (lost.value.nonce, None)
    paid = shop.pay(first, 1200)
    last = shop.pos.last()
    assert last is not None and last.payment == paid
    newest = shop.pay(second, 700)
    last = shop.pos.last()
    assert last is not None and last.payment == newest


def test_a_retry_that_the_card_refuses_stays_open(shop: Shop) -> None:
    path, poor = shop.card(), shop.card("poor", money=(5,))
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 1200)
    with pytest.raises(CardError) as caught:
        shop.pay(poor, 1200)
    assert "stays open" in caught.value.hint
    assert len(shop.pos.open_requests()) == 1


def test_giving_up_signs_a_void(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 1200)
    void = shop.pos.give_up()
    assert void is not None and void == shop.pos.give_up(void.nonce)
    assert shop.net.trust.signed_by(void, shop.pos.public)
    with open_path(path) as connection, pytest.raises(PosError, match="given up"):
        shop.pos.retry(connection, void.nonce)
    with pytest.raises(PosError, match="no open request"):
        shop.pos.give_up()
    last = shop.pos.last()
    assert last is not None and last.paid is False


def test_what_is_paid_cannot_be_given_up(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1200)
    with pytest.raises(PosError, match="it is paid") as caught:
        shop.pos.give_up(paid.nonce)
    assert "Refund" in caught.value.hint


def test_a_refused_answer_is_not_stored_and_can_be_given_up(shop: Shop) -> None:
    """The card leaves too little time: refused. Charging again makes a new request."""
    path = shop.card(window=60)
    with pytest.raises(Refusal) as caught:
        shop.pay(path, 1200)
    assert caught.value.reason == "deadline"
    assert shop.pos.payments() == ()
    (waiting,) = shop.pos.open_requests()
    assert waiting.refused == "deadline"
    shop.pos.set_policy(Policy(least_time_to_deposit=60))
    shop.pay(path, 1200)
    assert shop.spent(path) == 2400
    assert shop.pos.give_up() is not None


def test_books_that_fail_behind_an_answer_hide_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored and cannot be read is not known, not unpaid; what was refused is told as refused."""
    path = shop.card()

    def broken(*_: object) -> None:
        raise DatabaseError("The disk does not answer.")

    with monkeypatch.context() as patched, pytest.raises(AnswerLost, match="does not answer"):
        patched.setattr(Pos, "payment", broken)
        shop.pay(path, 1200)
    last = shop.pos.last()
    assert last is not None and last.paid
    monkeypatch.setattr(Pos, "_set_refused", broken)
    shop.pos.set_policy(Policy(least_time_to_deposit=365 * DAY))
    with pytest.raises(Refusal) as refused:
        shop.pay(path, 500)
    assert refused.value.reason == "deadline"


def test_what_would_be_refused_anyway_asks_no_card(shop: Shop) -> None:
    path = shop.card()
    shop.pos.set_policy(Policy(max_per_payment=1000))
    with pytest.raises(PosError, match="at most 10.00 yuan"):
        shop.pay(path, 1200)
    with pytest.raises(PosError, match="above zero"):
        shop.pay(path, 0)
    shop.now += 8 * DAY
    with pytest.raises(PosError, match="too old"):
        shop.pay(path, 500)
    assert shop.spent(path) == 0 and shop.pos.last() is None
    shop.pos.sync(shop.center)
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner, before=True), 500)
    shop.now += 8 * DAY
    attempts: list[Callable[[], object]] = [
        lambda: shop.pay(path, 500),
        lambda: retry(shop, path),
    ]
    for attempt in attempts:
        with pytest.raises(PosError, match="too old"):
            attempt()
    assert shop.spent(path) == 0


def retry(shop: Shop, path: str) -> Payment:
    with open_path(path) as connection:
        return shop.pos.retry(connection)


def test_a_card_of_another_network_is_not_asked(shop: Shop, tmp_path: Path) -> None:
    make_card(tmp_path / "gm.img", network("gm"))
    with pytest.raises(PosError, match="another network"):
        shop.pay(f"sim:{tmp_path / 'gm.img'}", 500)
    assert shop.pos.open_requests() == ()


def test_a_clone_of_a_blacklisted_card_is_refused_after_sync(shop: Shop) -> None:
    path = shop.card()
    paid = shop.pay(path, 100)
    shop.center.block(paid.payer)
    report = shop.pos.sync(shop.center)
    assert report.blacklist_entries == 1
    shop.crash()
    with pytest.raises(Refusal) as caught:
        shop.pay(path, 100)
    assert caught.value.reason == "blacklisted"


def test_init_overwrites_nothing(shop: Shop) -> None:
    folder = shop.folder / "pos"
    with pytest.raises(PosError, match="already"):
        Pos.init(folder, shop.net.trust, "http://center.test")
    shop.crash()
    assert (folder / "pos.key").stat().st_mode & 0o777 == 0o600
    (folder / "pos.db").unlink()
    with pytest.raises(PosError, match="not its books"):
        Pos.init(folder, shop.net.trust, "http://center.test")
    with pytest.raises(PosError, match="holds no POS"):
        Pos(folder)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_init_can_be_cut_off_anywhere(tmp_path: Path, after: bool) -> None:
    for n in range(10**6):
        folder = tmp_path / f"{n}{after}"
        try:
            with crash_at(n, after=after):
                Pos.init(folder, network("p256").trust, "http://center.test").close()
        except Crash:
            if (folder / "pos.db").exists():
                Pos(folder).close()
            else:
                Pos.init(folder, network("p256").trust, "http://center.test").close()
            continue
        assert n > 20
        return


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_charge_cut_off_at_any_statement_is_paid_once(tmp_path: Path, after: bool) -> None:
    """The cashier asks `last` what happened, and charges again unless it says paid."""
    template = tmp_path / "template"
    template.mkdir()
    shop = Shop(template)
    shop.pos.sync(shop.center)
    shop.card(money=(700, 800))
    shop.close()
    crashes = 0
    for n in range(10**6):
        shutil.copytree(template, tmp_path / str(n))
        shop = Shop(tmp_path / str(n))
        path = f"sim:{shop.folder / 'card.img'}"
        try:
            with crash_at(n, after=after):
                shop.pay(path, 1200)
            done = True
        except Crash:
            done = False
            crashes += 1
        shop.crash()
        last = shop.pos.last()
        if last is None or not last.paid:
            shop.pay(path, 1200)
        assert shop.spent(path) == 1200
        (paid,) = shop.pos.payments()
        assert (paid.amount, paid.state) == (1200, PaymentState.PENDING)
        assert shop.pos.open_requests() == ()
        shop.pos.sync(shop.center)
        assert shop.pos.balance().verified_fen == shop.money() == 1200
        shop.close()
        if done:
            break
    assert crashes > 15

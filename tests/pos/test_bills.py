# SPDX-License-Identifier: Apache-2.0
"""Bills: asked for by one device, paid on another, taken once, and never a fen lost in between."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.card import Card, CardReplyError, PinError
from chipcash.cardholder import synchronise
from chipcash.errors import LinkLostError
from chipcash.payer import BillRefused, answer
from chipcash.pos import (
    BILL_GRACE,
    BILL_SECONDS,
    AnotherCard,
    AnswerLost,
    PaymentState,
    Pos,
    PosError,
    RequestState,
)
from chipcash.terminal import Policy, Refusal
from chipcash.transports import Connection, open_path
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import DAY, NOW, Network, changed, network
from tests.cards import PIN
from tests.pos.shop import Crash, Shop, Torn, crash_at


def pay(shop: Shop, path: str, bill: o.Bill, *, pin: str | None = None) -> bytes:
    """What the payer's app does with a bill: the payment's bytes, to be shown."""
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        if pin is not None:
            card.verify_pin(pin)
        return answer(card, bill, shop.now).encode()


def certificate(path: str) -> o.Certificate:
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        return card.certificate()


def test_a_bill_is_paid_and_pending(shop: Shop) -> None:
    path = shop.card()
    bill = shop.pos.bill(1200)
    assert (bill.request.amount, bill.request.payee) == (1200, shop.pos.public)
    assert (bill.expiry, bill.subject) == (NOW + BILL_SECONDS, None)
    last = shop.pos.last()
    assert last is not None and last.paid is None and last.request.expiry == bill.expiry
    assert shop.pos.balance().open_fen == 1200
    data = pay(shop, path, bill)
    shop.crash()  # the till is restarted between bill and answer
    paid = shop.pos.accept(data)
    assert (paid.amount, paid.state, paid.data) == (1200, PaymentState.PENDING, data)
    assert shop.pos.open_requests() == ()
    shop.pos.sync(shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 1200 == shop.spent(path)


def test_an_answer_is_taken_once(shop: Shop) -> None:
    first, second = shop.card("first"), shop.card("second")
    bill = shop.pos.bill(1200)
    data, other = pay(shop, first, bill), pay(shop, second, bill)
    paid = shop.pos.accept(data)
    with pytest.raises(PosError, match="accepted before; it pays for nothing else") as caught:
        shop.pos.accept(data)
    assert caught.value.facts["claim_id"] == paid.claim_id.hex()
    shop.pos.sync(shop.center)
    with pytest.raises(PosError, match="once, as VERIFIED"):
        shop.pos.accept(data)
    with pytest.raises(PosError, match="paid by another payment") as caught:
        shop.pos.accept(other)
    assert "goes back" in caught.value.hint
    assert [payment.payer for payment in shop.pos.payments()] == [paid.payer]
    with pytest.raises(PosError, match="it is paid"):
        shop.pos.give_up(bill.request.nonce)


def test_two_processes_that_scan_at_once_say_paid_once(shop: Shop) -> None:
    data = pay(shop, shop.card(), shop.pos.bill(1200))

    def clock() -> int:
        """Asked when the request was found OPEN and the payment is being verified."""
        if not shop.pos.payments():
            shop.pos.accept(data)
        return shop.now

    with Pos(shop.pos.directory, clock=clock) as other:
        with pytest.raises(PosError, match="accepted before"):
            other.accept(data)
        assert len(other.payments()) == 1


def test_the_payers_app_shows_the_same_again(shop: Shop) -> None:
    path = shop.card()
    bill = shop.pos.bill(1200)
    with open_path(path) as inner:
        card = Card(Torn(inner))
        card.select()
        with pytest.raises(LinkLostError, match="The card may have paid") as caught:
            answer(card, bill, shop.now)
    assert caught.value.maybe_executed and "nothing is paid twice" in caught.value.hint
    data = pay(shop, path, bill)
    assert data == pay(shop, path, bill)
    shop.pos.accept(data)
    assert shop.spent(path) == 1200


def test_an_expired_bill_is_not_paid_but_what_was_paid_can_be_shown(shop: Shop) -> None:
    path = shop.card()
    bill, late = shop.pos.bill(1200), shop.pos.bill(1300, seconds=60)
    shop.now = bill.expiry
    data = pay(shop, path, bill)
    with pytest.raises(BillRefused, match="has expired") as caught:
        pay(shop, path, late)
    assert "needs the PIN" in caught.value.hint
    with pytest.raises(BillRefused, match="has expired"):
        pay(shop, path, late, pin=PIN)
    shop.now = bill.expiry + 1
    with pytest.raises(BillRefused):
        pay(shop, path, bill)
    assert pay(shop, path, bill, pin=PIN) == data  # from the card's log
    assert shop.spent(path) == 1200
    assert shop.pos.accept(data).amount == 1200  # the request is still OPEN


def test_a_bill_that_nobody_answered_is_given_up_and_its_money_goes_back(shop: Shop) -> None:
    path = shop.card()
    bill = shop.pos.bill(1200)
    data = pay(shop, path, bill)
    shop.now = bill.expiry + BILL_GRACE
    assert shop.pos.sync(shop.center).voids_sent == 0
    shop.now += 1
    assert shop.pos.sync(shop.center).voids_sent == 1
    last = shop.pos.last()
    assert last is not None and last.paid is False and last.request.state == RequestState.VOIDED
    with pytest.raises(PosError, match="was given up"):
        shop.pos.accept(data)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.verify_pin(PIN)
        done = synchronise(card, shop.center, shop.net.trust)
    assert done.reclaimed_fen == 1200
    assert shop.money() == 0


def test_what_is_not_for_this_till_is_refused(shop: Shop) -> None:
    path, net = shop.card(), shop.net
    bill = shop.pos.bill(1200)
    good = o.Payment.decode(pay(shop, path, bill))
    foreign = network("gm").payment(network("gm").request())
    for data, reason, words in (
        (good.encode()[:-1], "malformed", "truncated"),
        (foreign.encode(), "network", "network"),
        (net.payment(net.request(payee=net.public("other till"))).encode(), "mismatch", "else"),
        (net.payment(net.request(payee=shop.pos.public)).encode(), "mismatch", "no such request"),
        (wrong_amount(net, bill).encode(), "mismatch", "another request"),
        (changed(good, claim=good.claim.signed(bytes(64))).encode(), "signature", "signature"),
    ):
        with pytest.raises(Refusal, match=words) as caught:
            shop.pos.accept(data)
        assert caught.value.reason == reason
    assert shop.pos.payments() == ()
    assert shop.pos.accept(good.encode()).amount == 1200  # none of that harmed the request


def wrong_amount(net: Network, bill: o.Bill) -> o.Payment:
    """A good payment of a fen less."""
    return net.payment(changed(bill.request, amount=bill.request.amount - 1))


def test_a_bill_for_one_card(shop: Shop) -> None:
    """The payer presents first: nobody else's card pays, and nobody else's payment is taken."""
    first, second = shop.card("first"), shop.card("second")
    bill = shop.pos.bill(1200, payer=certificate(first))
    assert bill.subject == certificate(first).subject
    with pytest.raises(BillRefused, match="for another card"):
        pay(shop, second, bill)
    assert shop.spent(second) == 0
    stolen = pay(shop, second, o.Bill(request=bill.request, expiry=bill.expiry))
    with pytest.raises(Refusal, match="another card's"):
        shop.pos.accept(stolen)
    with open_path(second) as connection, pytest.raises(AnotherCard):
        shop.pos.retry(connection, bill.request.nonce)
    assert shop.pos.accept(pay(shop, first, bill)).payer == bill.subject


def test_a_card_that_would_be_refused_is_not_asked(shop: Shop) -> None:
    net = shop.net
    good = net.certificate(net.public("card"))
    shop.center.block(net.public("listed"))
    shop.pos.sync(shop.center)
    for payer, words in (
        (net.certificate(net.public("card"), signer="card"), "may be a forgery"),
        (net.certificate(net.public("card"), expiry=NOW), "has expired"),
        (net.certificate(net.public("card"), per_payment=1199), "above what this card"),
        (net.certificate(net.public("listed")), "on the blacklist"),
        (network("gm").certificate(net.public("card")), "another network"),
    ):
        with pytest.raises(PosError, match=words) as caught:
            shop.pos.bill(1200, payer=payer)
        assert "No card was asked" in caught.value.message
    assert shop.pos.last() is None
    shop.pos.bill(1200, payer=good)


def test_a_bill_that_could_only_be_refused_is_not_made(shop: Shop) -> None:
    shop.pos.set_policy(Policy(max_per_payment=1000))
    for amount, seconds, words in (
        (1001, 60, "at most"),
        (0, 60, "above zero"),
        (5, 0, "a second at least"),
    ):
        with pytest.raises(PosError, match=words):
            shop.pos.bill(amount, seconds=seconds)
    shop.now += 8 * DAY
    with pytest.raises(PosError, match="too old"):
        shop.pos.bill(5)
    assert shop.pos.last() is None


def test_a_tap_never_repeats_a_bill(shop: Shop) -> None:
    """Somebody else may be paying it at this moment."""
    first, second = shop.card("first"), shop.card("second")
    bill = shop.pos.bill(1200)
    assert shop.pay(second, 1200).nonce != bill.request.nonce
    with open_path(second) as connection, pytest.raises(PosError, match="no open request"):
        shop.pos.retry(connection)
    data = pay(shop, first, bill)
    with open_path(first) as connection:  # its code cannot be read: the card itself is tapped
        paid = shop.pos.retry(connection, bill.request.nonce)
    assert paid.data == data
    assert (shop.spent(first), shop.spent(second)) == (1200, 1200)


def test_a_torn_tap_can_be_finished_by_code(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 1200)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.verify_pin(PIN)
        (payment,) = card.payments()
    assert shop.pos.accept(payment.encode()).amount == 1200
    assert shop.spent(path) == 1200


def test_cards_that_cannot_pay(shop: Shop) -> None:
    bill = shop.pos.bill(1200)
    with pytest.raises(PinError):
        pay(shop, shop.card("careful", pin_free=1000), bill)
    path = shop.card()
    with pytest.raises(BillRefused, match="another network"):
        pay(shop, path, o.Bill(request=network("gm").request(), expiry=NOW + 60))
    shop.now = certificate(path).expiry
    old = changed(bill, expiry=shop.now + 60)
    with pytest.raises(BillRefused, match="certificate has expired"):
        pay(shop, path, old)
    assert shop.spent(path) == 0


class Liar(Torn):
    """A card that answers PAY with what it likes."""

    def __init__(self, inner: Connection, reply: bytes) -> None:
        super().__init__(inner)
        self.reply = reply

    def _transceive(self, apdu: bytes) -> bytes:
        if apdu[1] == c.INS_PAY:
            return self.reply + b"\x90\x00"
        return self.inner.transceive(apdu)


def test_a_card_that_answers_something_else(shop: Shop) -> None:
    path, bill = shop.card(), shop.pos.bill(1200)
    other = shop.net.payment(shop.net.request(1200))
    for reply, words in (
        (b"\xed\x00", "no payment of"),
        (other.encode(), "another request.*may have"),
    ):
        with open_path(path) as inner:
            card = Card(Liar(inner, reply))
            card.select()
            with pytest.raises(CardReplyError, match=words):
                answer(card, bill, shop.now)


ACTIONS = ["bill", "pay", "show", "show first", "give up", "expire", "wait", "sync", "restart"]


@given(st.lists(st.sampled_from(ACTIONS), min_size=4, max_size=14))
@settings(max_examples=25)
def test_whatever_happens_each_fen_is_the_tills_or_the_cards(actions: list[str]) -> None:
    with TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        shop.pos.sync(shop.center)
        path = shop.card()
        bills: list[o.Bill] = []
        answers: list[bytes] = []
        for action in ["bill", "pay", *actions]:
            try:
                if action == "bill":
                    bills.append(shop.pos.bill(100 + len(bills)))
                elif action == "pay":
                    answers.append(pay(shop, path, bills[-1]))
                elif action.startswith("show"):
                    paid = shop.pos.accept(answers[0 if action == "show first" else -1])
                    assert paid.state == PaymentState.PENDING
                elif action == "give up":
                    shop.pos.give_up()
                elif action == "sync":
                    shop.pos.sync(shop.center)
                elif action == "restart":
                    shop.crash()
                else:
                    shop.now += BILL_SECONDS + 1 if action == "expire" else BILL_GRACE
            except (PosError, BillRefused):
                continue
        assert shop.spent(path) == sum(
            claim.amount for claim in {o.Payment.decode(data).claim for data in answers}
        )
        shop.pos.sync(shop.center)
        shop.now += 9 * DAY  # past every deadline and its grace
        with open_path(path) as connection:
            card = Card(connection)
            card.select()
            card.verify_pin(PIN)
            synchronise(card, shop.center, shop.net.trust)
            kept = card.info().balance
        assert kept is not None and kept + shop.money() == 10000
        assert (
            shop.money()
            == shop.pos.balance().verified_fen
            == sum(payment.amount for payment in shop.pos.payments())
        )
        shop.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_till_cut_off_at_any_statement_takes_the_answer_once(tmp_path: Path, after: bool) -> None:
    shop = Shop(tmp_path)
    shop.pos.sync(shop.center)
    path = shop.card(money=(5000, 5000))
    total = 0
    for n in range(10**6):
        data = pay(shop, path, shop.pos.bill(100))
        shop.crash()
        try:
            with crash_at(n, after=after):
                shop.pos.accept(data)
            done = True
        except Crash:
            done = False
        shop.crash()
        last = shop.pos.last()
        assert last is not None
        if not last.paid:
            shop.pos.accept(data)
        with pytest.raises(PosError, match="accepted before"):
            shop.pos.accept(data)
        total += 100
        assert shop.pos.balance().pending_fen == total
        if done:
            break
    assert n > 8
    shop.close()


def test_a_bill_that_is_tapped_and_torn_is_repeated(shop: Shop) -> None:
    """From the tap on it is a tap's request, which the next charge repeats: nothing is paid twice."""
    path = shop.card()
    bill = shop.pos.bill(1200)
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.retry(Torn(inner), bill.request.nonce)
    paid = shop.pay(path, 1200)
    assert paid.nonce == bill.request.nonce
    assert shop.spent(path) == 1200 == shop.pos.balance().pending_fen


def test_a_forged_code_changes_nothing_for_the_card_that_was_tapped(shop: Shop) -> None:
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost) as lost:
        shop.pos.charge(Torn(inner), 1200)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.verify_pin(PIN)
        true = next(card.payments())
    title = changed(true.titles[0], signature=bytes(63) + b"\x01")
    forged = o.Payment(claim=true.claim, titles=(title,), certificate=true.certificate)
    with pytest.raises(Refusal):
        shop.pos.accept(forged.encode())
    paid = shop.pay(path, 1200)
    assert paid.nonce == lost.value.nonce and shop.spent(path) == 1200


def test_a_bill_can_be_the_only_one_that_is_accepted(shop: Shop) -> None:
    """Else a paid bill of one fen, shown late, would stand for the sale on the counter."""
    path = shop.card()
    small, sale = shop.pos.bill(1), shop.pos.bill(4000)
    data = pay(shop, path, small)
    with pytest.raises(Refusal, match="another bill"):
        shop.pos.accept(data, sale.request.nonce)
    assert shop.pos.accept(data, small.request.nonce).amount == 1


def test_a_payment_is_shown_again_when_the_certificate_has_expired(shop: Shop) -> None:
    path = shop.card()
    bill = shop.pos.bill(1200, seconds=400 * DAY)
    data = pay(shop, path, bill)
    shop.now = certificate(path).expiry
    with pytest.raises(BillRefused, match="not asked") as refused:
        pay(shop, path, bill)
    assert "No money moved" not in refused.value.message
    assert pay(shop, path, bill, pin=PIN) == data

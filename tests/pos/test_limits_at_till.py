# SPDX-License-Identifier: Apache-2.0
"""A till goes by the center's rules: before it asks a card, and again when a card has answered.

The arithmetic of each limit: tests/terminal/test_terminal_rules.py and the terminal's vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.cardholder import synchronise
from chipcash.center.parameters import TerminalLimits
from chipcash.pos import AnswerLost, NotAsked, PaymentState, Pos, PosError, RequestState
from chipcash.terminal import Policy, Refusal, RulesError
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import DAY, NOW
from tests.cards import PIN
from tests.pos.shop import Shop, Torn


def rule(shop: Shop, **limits: int) -> None:
    """Have the center's rules be these, and the till know them."""
    terminal = TerminalLimits(**limits)
    shop.center.parameters = replace(shop.center.parameters, terminal=terminal)
    shop.pos.sync(shop.center)


def refused(shop: Shop, path: str, amount: int) -> NotAsked:
    """Charge, be refused before the card is asked, and see that nothing is left of it."""
    before, open_before = shop.spent(path), shop.pos.open_requests()
    with pytest.raises(NotAsked) as caught:
        shop.pay(path, amount)
    assert "No card was asked" in caught.value.message and caught.value.hint
    assert "paid nothing" in str(caught.value.facts["customer"])
    assert shop.spent(path) == before and shop.pos.open_requests() == open_before
    return caught.value


class Between(BaseConnection):
    """A card; something happens just before PAY reaches it. instructions: what it was sent."""

    def __init__(self, inner: Connection, happens: Callable[[], object]) -> None:
        super().__init__(inner.path, over_air=True)
        self.inner = inner
        self.happens = happens
        self.instructions: list[int] = []

    def _transceive(self, apdu: bytes) -> bytes:
        self.instructions.append(apdu[1])
        if apdu[1] == c.INS_PAY:
            self.happens()
        return self.inner.transceive(apdu)

    def close(self) -> None:
        self.inner.close()


class Liar(BaseConnection):
    """A card that shows another one's certificate before it is asked to pay."""

    def __init__(self, inner: Connection, certificate: o.Certificate) -> None:
        super().__init__(inner.path, over_air=True)
        self.inner = inner
        self.certificate = certificate

    def _transceive(self, apdu: bytes) -> bytes:
        if apdu[1] == c.INS_GET_DATA:
            return self.certificate.encode() + b"\x90\x00"
        return self.inner.transceive(apdu)

    def close(self) -> None:
        self.inner.close()


def test_a_sync_brings_the_rules_and_never_older_ones(shop: Shop) -> None:
    first = shop.pos.rules
    assert first is not None and first.message() == shop.center.rules().message()
    assert not shop.pos.sync(shop.center).new_rules
    shop.now += 10
    rule(shop, per_card=7)
    shop.crash()
    assert shop.pos.rules is not None and shop.pos.limits.max_per_card == 7

    class Replayed:
        """The way to the center of somebody who kept the rules of before."""

        def __getattr__(self, name: str) -> object:
            return (lambda: first) if name == "rules" else getattr(shop.center, name)

    shop.pos.sync(Replayed())  # type: ignore[arg-type]
    assert shop.pos.limits.max_per_card == 7


def test_rules_that_the_center_did_not_sign_are_not_taken(shop: Shop, tmp_path: Path) -> None:
    """And the blacklist that comes after them neither, so that a till without rules soon stops."""
    known, time = shop.pos.rules, shop.pos.blacklist.time
    shop.now += 10
    forged = shop.center.rules().signed(bytes(63) + b"\x01")

    class Forged:
        def __getattr__(self, name: str) -> object:
            return (lambda: forged) if name == "rules" else getattr(shop.center, name)

    with pytest.raises(RulesError):
        shop.pos.sync(Forged())  # type: ignore[arg-type]
    assert shop.pos.rules == known and shop.pos.blacklist.time == time


def test_without_rules_no_card_is_asked(shop: Shop) -> None:
    with shop.pos.store.transaction():
        shop.pos.store.execute("DELETE FROM meta WHERE name = 'rules'")
    assert refused(shop, shop.card(), 100).reason == "rules-missing"
    shop.pos.sync(shop.center)
    shop.pay(shop.card("other"), 100)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"per_payment": 599}, "limit"),
        ({"in_all": 1599}, "pending-limit"),
        ({"per_shift": 1599}, "shift-limit"),
        ({"per_card": 1599}, "card-limit"),
        ({"pending_age": DAY - 1}, "pending-age"),
        ({"blacklist_age": DAY - 1}, "blacklist-stale"),
    ],
)
def test_each_limit_of_the_center(shop: Shop, limits: dict[str, int], reason: str) -> None:
    """A charge that just fits, then one that does not, then again after a synchronisation."""
    rule(shop, **limits)
    path = shop.card()
    for _ in range(2):
        shop.pay(path, 500)
    shop.now += DAY
    assert refused(shop, path, 600).reason == reason
    if reason == "limit":
        return
    shop.pos.sync(shop.center)
    shop.pay(path, 600)


def test_just_within_every_limit(shop: Shop) -> None:
    rule(
        shop, per_payment=600, in_all=1600, per_shift=1600, per_card=1600, pending_age=DAY,
        blacklist_age=DAY,
    )  # fmt: skip
    path = shop.card()
    for amount in (500, 500):
        shop.pay(path, amount)
    shop.now += DAY
    shop.pay(path, 600)
    assert refused(shop, path, 1).reason == "pending-limit"


def test_the_shop_may_be_stricter_and_not_laxer(shop: Shop) -> None:
    rule(shop, in_all=1000)
    shop.pos.set_policy(Policy(max_pending=400, max_per_card=300))
    path, other = shop.card(), shop.card("other")
    shop.pay(path, 300)
    assert refused(shop, path, 1).reason == "card-limit"
    assert refused(shop, other, 101).reason == "pending-limit"
    shop.pos.set_policy(Policy(max_pending=5000))
    shop.pay(other, 700)
    assert refused(shop, other, 1).reason == "pending-limit"


def test_a_shift_counts_by_itself(shop: Shop) -> None:
    rule(shop, per_shift=500)
    path = shop.card()
    shop.pay(path, 500)
    assert refused(shop, path, 1).reason == "shift-limit"
    shop.pos.open_shift()
    shop.pay(path, 400)
    assert refused(shop, path, 101).reason == "shift-limit"
    assert shop.pos.exposure().shift_fen == 400 and shop.pos.exposure().pending_fen == 900
    shop.pos.close_shift()
    shop.pos.open_shift()
    shop.pay(path, 500)
    shop.pos.sync(shop.center)
    assert shop.pos.exposure().pending_fen == shop.pos.exposure().shift_fen == 0


def test_the_certificate_is_read_only_where_a_card_is_near_its_limit(shop: Shop) -> None:
    rule(shop, per_card=1000)
    near, other = shop.card(), shop.card("other")
    seen = []
    for path, amount in ((near, 600), (near, 400), (other, 400), (other, 600)):
        with open_path(path) as inner:
            link = Between(inner, lambda: None)
            shop.pos.charge(link, amount, fresh=True)
        seen.append(link.instructions)
    fast, slow = [c.INS_SELECT, c.INS_PAY], [c.INS_SELECT, c.INS_GET_DATA, c.INS_PAY]
    assert seen == [fast, fast, slow, slow]
    assert refused(shop, near, 1).reason == "card-limit"


@pytest.mark.parametrize("reason", ["card-limit", "pending-limit"])
def test_a_card_that_paid_too_much_all_the_same_gets_its_money_back(
    shop: Shop, reason: str
) -> None:
    """It showed another card's certificate; or another reader was faster. The request is given up at once."""
    limits = {"per_card": 1000} if reason == "card-limit" else {"in_all": 1000}
    rule(shop, **limits)
    path, other = shop.card(), shop.card("other")
    if reason == "card-limit":
        shop.pay(path, 600)
    with open_path(path) as inner, open_path(other) as innocent:
        other_card = Card(innocent)
        other_card.select()
        connection: Connection = (
            Liar(inner, other_card.certificate())
            if reason == "card-limit"
            else Between(inner, lambda: shop.pay(other, 600))
        )
        with pytest.raises(Refusal) as caught:
            shop.pos.charge(connection, 500)
    assert caught.value.reason == reason and caught.value.facts["given_up"] is True
    assert "was given up" in caught.value.hint
    last = shop.pos.last()
    assert last is not None and len(shop.pos.payments()) == 1 and not shop.pos.open_requests()
    assert shop.pos.sync(shop.center).voids_sent == 1
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        card.verify_pin(PIN)
        synchronise(card, shop.center, shop.net.trust)
        mine = 600 if reason == "card-limit" else 0
        assert card.info().balance == 10000 - mine
    shop.center.check()


def test_a_bill_that_is_too_much_is_accepted_after_a_synchronisation(shop: Shop) -> None:
    """Its code can be shown again, so it is not given up."""
    rule(shop, in_all=1000)
    path = shop.card()
    bill = shop.pos.bill(500)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        answer = card.pay(bill.request)
    shop.pay(shop.card("other"), 600)
    with pytest.raises(Refusal) as caught:
        shop.pos.accept(answer)
    assert caught.value.reason == "pending-limit" and caught.value.facts["given_up"] is False
    (waiting,) = shop.pos.open_requests()
    assert (waiting.state, waiting.refused) == (RequestState.OPEN, "pending-limit")
    shop.pos.sync(shop.center)
    assert shop.pos.accept(answer).state == PaymentState.PENDING


def test_a_bill_for_a_card_at_its_limit_is_not_made(shop: Shop) -> None:
    rule(shop, per_card=1000)
    path = shop.card()
    shop.pay(path, 800)
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        certificate = card.certificate()
    with pytest.raises(NotAsked) as caught:
        shop.pos.bill(201, payer=certificate)
    assert caught.value.reason == "card-limit"
    shop.pos.bill(200, payer=certificate)
    shop.pos.bill(201)


def test_a_lost_answer_waits_for_the_limit(shop: Shop) -> None:
    """The card may have paid: the request stays, and the card is asked again once there is room."""
    rule(shop, in_all=1000)
    path = shop.card()
    with open_path(path) as inner, pytest.raises(AnswerLost):
        shop.pos.charge(Torn(inner), 500)
    shop.pay(shop.card("other"), 600)
    with open_path(path) as connection, pytest.raises(NotAsked) as caught:
        shop.pos.retry(connection)
    assert caught.value.reason == "pending-limit" and "stays open" in caught.value.hint
    assert caught.value.facts["nonce"] == shop.pos.open_requests()[0].nonce.hex()
    shop.pos.sync(shop.center)
    with open_path(path) as connection:
        assert shop.pos.retry(connection).amount == 500
    assert shop.spent(path) == 500


def test_exposure_nears_its_limit(shop: Shop) -> None:
    rule(shop, in_all=1000, per_card=5000, per_shift=5000, pending_age=5 * DAY)
    path = shop.card()
    shop.pay(path, 799)
    assert not shop.pos.exposure().near
    shop.pay(path, 1)
    found = shop.pos.exposure()
    assert (found.pending_fen, found.limit_fen) == (800, 1000)
    assert found.near and not found.reached
    shop.pay(path, 200)
    assert shop.pos.exposure().reached
    shop.pos.sync(shop.center)
    assert not shop.pos.exposure().near
    shop.pay(path, 1)
    shop.now = NOW + 4 * DAY
    assert shop.pos.exposure().near and not shop.pos.exposure().reached


def test_a_refused_charge_is_told_as_not_paid(shop: Shop) -> None:
    """Where the card was met already: its request is closed, not open."""
    rule(shop, per_card=1000)
    path = shop.card()
    shop.pay(path, 900)
    refused(shop, path, 200)
    last = shop.pos.last()
    assert last is not None and last.paid is False and last.request.amount == 200


def test_two_tills_processes_count_together(shop: Shop) -> None:
    rule(shop, in_all=1000)
    path = shop.card()
    shop.pay(path, 600)
    with Pos(shop.folder / "pos", clock=lambda: shop.now) as other, open_path(path) as connection:
        with pytest.raises(NotAsked):
            other.charge(connection, 500)
        with pytest.raises(PosError):
            other.may_charge(401)
        other.may_charge(400)

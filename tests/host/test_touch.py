# SPDX-License-Identifier: Apache-2.0
"""Touch to touch: one card pays another, whatever breaks, and its holder synchronises later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chipcash.card import Card, CardError
from chipcash.cardholder import synchronise
from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.errors import LinkLostError
from chipcash.genuine import verify_pin
from chipcash.touch import TouchRefused, TouchUnfinished, send
from chipcash.transports import open_path
from chipcash_sim import emulator
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import DAY, NOW, SUITES, Network
from tests.cards import PIN, make_card

MONEY = 10_000


class World:
    """Two cards of a network, one with money, and the center, which is asked for nothing until later."""

    def __init__(self, folder: Path, suite: str = "p256") -> None:
        self.net = Network(suite)
        self.folder = folder
        self.now = NOW
        self.center = Center(
            ":memory:", self.net.key("center"), self.net.trust, Parameters(), lambda: self.now
        )
        self.keys = {name: self.make(name) for name in ("payer", "payee")}
        with self.at("payer") as card:
            card.put(self.center.register_coin(self.net.coin(MONEY, self.keys["payer"])))

    def make(self, name: str) -> bytes:
        key = make_card(self.folder / name, self.net)
        with self.at(name) as card:
            self.center.register_card(card.certificate())
        return key

    @contextmanager
    def at(self, name: str, faults: str = "", pin: bool = False) -> Iterator[Card]:
        with open_path(f"sim:{self.folder / name}{faults}") as connection:
            card = Card(connection)
            card.select()
            if pin:
                verify_pin(card, PIN, self.net.trust)
            yield card

    def send(
        self, amount: int, payer: str = "", payee: str = "", nonce: bytes | None = None
    ) -> o.Claim:
        """payer, payee: faults of the two cards."""
        with self.at("payer", payer) as one, self.at("payee", payee) as other:
            return send(one, other, amount, self.now, nonce)

    def payment(self, nonce: bytes) -> o.Payment:
        """What the payer's card has paid for this nonce."""
        with self.at("payer", pin=True) as card:
            return next(each for each in card.payments() if each.claim.nonce == nonce)

    def money(self, name: str) -> tuple[int | None, int | None]:
        """Balance and pending fen."""
        with self.at(name, pin=True) as card:
            info = card.info()
        return info.balance, info.pending


@pytest.fixture(params=SUITES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, request.param)
    yield made
    made.center.close()


def test_it_is_pending_until_it_is_synchronised(world: World) -> None:
    claim = world.send(700)
    assert (world.money("payer"), world.money("payee")) == ((9_300, 0), (0, 700))
    with world.at("payee", pin=True) as card:
        assert [*card.received()] == [claim]
        assert card.info().room == c.MAX_RECEIVED - 1
        with pytest.raises(CardError) as refused:
            card.pay(world.net.request(1, time=world.now))  # depth one
        assert refused.value.sw == c.SW_INSUFFICIENT_FUNDS
    with world.at("payee") as card:
        done = synchronise(card, world.center, world.net.trust)
        assert (done.received_fen, done.loaded_fen) == (0, 0)  # without the PIN nobody sees it
    with world.at("payee", "?contactless=1", pin=True) as card:
        done = synchronise(card, world.center, world.net.trust)
        assert (done.received_fen, done.lost_fen, done.loaded_fen) == (700, 0, 700)
        assert done.limits_renewed
    assert world.money("payee") == (700, 0)
    world.center.check()
    with world.at("payee") as card:
        card.pay(world.net.request(700, time=world.now))


@pytest.mark.parametrize("who", ["payer", "payee"])
@pytest.mark.parametrize(
    "at", [f"cut_{when}={n}" for when in ("before", "after") for n in range(1, 5)]
)
def test_whatever_is_torn_is_finished_once(tmp_path: Path, who: str, at: str) -> None:
    world = World(tmp_path)
    nonce = None
    try:
        world.send(700, **{who: f"?{at}"})
    except TouchUnfinished as unfinished:
        nonce = unfinished.nonce
        assert nonce.hex() in unfinished.hint
    except (LinkLostError, emulator.CardRemoved):
        assert world.money("payer") == (MONEY, 0)
    world.send(700, nonce=nonce)
    paid = 1 if nonce is not None or world.money("payer") == (9_300, 0) else 2
    assert world.money("payer") == (MONEY - 700 * paid, 0)
    assert world.money("payee") == (0, 700 * paid)
    if nonce is not None:
        world.send(700, nonce=nonce)  # and once more
        assert world.money("payee") == (0, 700)
    world.center.close()


def test_the_synchronisation_may_be_torn_at_any_apdu(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send(700)
    for cut in range(3, 40):
        try:
            with world.at("payee", f"?cut_after={cut}", pin=True) as card:
                synchronise(card, world.center, world.net.trust)
            break
        except LinkLostError:
            pass
    assert world.money("payee") == (700, 0)
    world.center.check()
    world.center.close()


def test_no_room_is_seen_before_anything_is_paid(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(c.MAX_RECEIVED):
        world.send(1)
    with pytest.raises(TouchRefused, match="no room"):
        world.send(1)
    assert world.money("payer") == (MONEY - c.MAX_RECEIVED, 0)
    with world.at("payee", pin=True) as card:
        assert synchronise(card, world.center, world.net.trust).received_fen == c.MAX_RECEIVED
    world.send(1)
    world.center.close()


def test_cards_of_two_networks(tmp_path: Path) -> None:
    world = World(tmp_path)
    make_card(tmp_path / "stranger", Network("p256", b"ELSE"))
    with (
        world.at("payer") as payer,
        open_path(f"sim:{tmp_path / 'stranger'}") as connection,
    ):
        stranger = Card(connection)
        stranger.select()
        with pytest.raises(TouchRefused, match="different networks"):
            send(payer, stranger, 1, world.now)
    world.center.close()


def test_what_was_paid_elsewhere_before_is_lost(tmp_path: Path) -> None:
    """The payer's card was copied; the copy's payment reaches the center first."""
    world = World(tmp_path)
    emulator.clone(tmp_path / "payer", tmp_path / "clone")
    world.send(700)
    with world.at("clone") as card:
        other = o.Payment.decode(card.pay(world.net.request(500, time=world.now)))
    world.center.settle(o.Deposit(header=world.net.header, nonce=bytes(16), claims=(other.claim,)))
    with world.at("payee", pin=True) as card:
        done = synchronise(card, world.center, world.net.trust)
        assert (done.received_fen, done.lost_fen) == (0, 700)
    assert world.money("payee") == (0, 0)
    entries, _ = world.center.blacklist(0)
    assert [entry.subject for entry in entries] == [world.keys["payer"]]
    world.center.close()


def test_what_nobody_deposits_goes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    claim = world.send(700)
    world.now = claim.deadline + Parameters().grace + 1
    with world.at("payee", pin=True) as card:
        done = synchronise(card, world.center, world.net.trust)
        assert (done.received_fen, done.lost_fen) == (0, 700)
    with world.at("payer", pin=True) as card:
        assert synchronise(card, world.center, world.net.trust).reclaimed_fen == 700
    assert world.money("payer") == (MONEY, 0)
    world.center.close()


def test_a_card_forgets_what_is_past_its_deadline(tmp_path: Path) -> None:
    world = World(tmp_path)
    claim = world.send(700)
    with world.at("payee", pin=True) as card:
        card.put(world.net.signed_time(claim.deadline))
        assert card.info().pending == 700
        card.put(world.net.signed_time(claim.deadline + 1))
        assert card.info().pending == 0
        assert claim.deadline < NOW + 30 * DAY
    world.center.close()


def test_a_receipt_for_a_broken_copy_ends_nothing(world: World) -> None:
    """The id does not cover the signature: the payer deposits his claim with another, invalid one."""
    claim = world.send(700)
    broken = claim.signed(bytes(63) + b"\x01")
    receipt = world.center.settle(
        o.Deposit(header=world.net.header, nonce=bytes(16), claims=(broken,))
    )
    assert receipt.results[0].outcomes[0].state == o.INVALID
    with world.at("payee") as card, pytest.raises(CardError) as refused:
        card.put(receipt)
    assert refused.value.sw == c.SW_STALE
    with world.at("payee", pin=True) as card:
        assert synchronise(card, world.center, world.net.trust).received_fen == 700
    assert world.money("payee") == (700, 0)


def test_what_has_settled_does_not_come_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    nonce = bytes(range(16))
    claim = world.send(700, nonce=nonce)
    with world.at("payee", pin=True) as card:
        assert synchronise(card, world.center, world.net.trust).received_fen == 700
    world.now += DAY
    world.send(700, nonce=nonce)  # the same bytes: the card knows them
    assert world.money("payee") == (700, 0)
    with world.at("payee", pin=True) as card:
        card.put(world.net.signed_time(claim.deadline + 1))
        payment = world.payment(nonce)
        with pytest.raises(CardError) as refused:
            card.put(payment)
        assert refused.value.sw == c.SW_EXPIRED
    world.center.close()


def test_no_more_than_can_be_remembered(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(c.MAX_ENDED // c.MAX_RECEIVED):
        for _ in range(c.MAX_RECEIVED):
            world.send(1)
        with world.at("payee", pin=True) as card:
            assert synchronise(card, world.center, world.net.trust).received_fen == c.MAX_RECEIVED
    with pytest.raises(TouchRefused, match="no room"):
        world.send(1)
    assert world.money("payer")[0] == MONEY - c.MAX_ENDED
    world.center.close()


def test_another_payment_is_no_answer(tmp_path: Path) -> None:
    """A payer that repeats an old payment of one fen has not paid fifty yuan."""
    world = World(tmp_path)
    world.send(1)

    class Lying(Card):
        def pay(self, request: o.PayRequest) -> bytes:
            self.verify_pin(PIN)
            return next(self.payments()).encode()

    with world.at("payer") as honest, world.at("payee") as payee:
        payer = Lying(honest.connection)
        with pytest.raises(TouchUnfinished, match="answers another request"):
            send(payer, payee, 5_000, world.now)
    assert world.money("payee") == (0, 1)
    world.center.close()

# SPDX-License-Identifier: Apache-2.0
"""The visual card as a whole: a till charges it, its holder reads the screen and presses a button."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.card import Card, CardError, PinError
from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.genuine import verify_pin
from chipcash.pos import AnswerLost, Pos
from chipcash.touch import TouchUnfinished, send
from chipcash.transports import open_path
from chipcash.transports.times import changed
from chipcash_panel.framebuffer import SIZE
from chipcash_panel.panel import GUARD_MS
from chipcash_sim import emulator, forms, places
from chipcash_sim.hardware.panel import FrontPanel, png
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import NOW, network
from tests.cards import PIN, make_card
from tests.pos.shop import Torn

ABOVE = forms.FORMS["visual-bluetooth"].confirm_above or 0
MONEY = 60_000


class World:
    """A visual card in a field, its holder, and a till."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.net = network("p256")
        image = folder / "a.img"
        make_card(image, self.net, pin_free=20_000, money=MONEY)
        self.front = FrontPanel()
        self.field = places.make("nfc")
        self.card = emulator.Card(image, runtime, confirm_above=ABOVE)
        places.put(self.card, self.field, front=self.front)
        self.center = Center(
            ":memory:", self.net.key("center"), self.net.trust, Parameters(), lambda: NOW
        )
        self.till = Pos.init(folder / "till", self.net.trust, "", clock=lambda: NOW)
        self.till.sync(self.center)
        self.idle = self.front.wait_for_change(bytes(SIZE))

    def close(self) -> None:
        self.card.remove()
        self.front.close()
        self.field.close()
        self.till.close()
        self.center.close()

    def charge(self, amount: int, pin: str | None = None, patience: float = 0.001) -> o.Claim:
        """A tap, and again where the air lost it, as to a machine with much to do: the request is the same.

        patience: seconds that the till lets the holder think while the card is in the field.
        """
        for left in (2, 1, 0):
            with changed(confirm_s=patience), open_path(self.field.path, wait=5) as connection:
                try:
                    payment = self.till.charge(connection, amount, pin=pin)
                    break
                except AnswerLost:
                    if not left:
                        raise
        return o.Payment.decode(payment.data).claim

    def press(self, button: str) -> bytes:
        """Press until the card takes it for meant, which at first it does not; the picture after it."""
        before = self.front.frame
        for _ in range(100):
            self.front.press(button)
            try:
                return self.front.wait_for_change(before, 0.1)
            except TimeoutError:
                pass
        raise TimeoutError(button)

    def asked(self, amount: int, pin: str | None = None) -> bytes:
        """A tap that has the card ask; the picture."""
        before = self.front.frame
        with pytest.raises(CardError) as asked:
            self.charge(amount, pin)
        assert asked.value.sw == c.SW_ASKED
        assert "No money moved" in asked.value.message and "stays open" in asked.value.hint
        return self.front.wait_for_change(before)


@pytest.fixture(params=["cpython", "micropython"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, request.param)
    yield made
    made.close()


def test_small_amounts_ask_nobody_and_are_shown(world: World) -> None:
    assert world.charge(ABOVE).amount == ABOVE
    paid = world.front.wait_for_change(world.idle)
    assert world.press("confirm") not in (paid, world.idle)  # back to the balance, which is another


def test_tap_confirm_tap(world: World) -> None:
    asking = world.asked(ABOVE + 1)
    assert asking != world.idle and len(png(asking)) > 100
    agreed = world.press("confirm")
    claim = world.charge(ABOVE + 1)
    assert (claim.amount, claim.counter) == (ABOVE + 1, 1)
    assert world.front.wait_for_change(agreed) != asking
    assert world.till.open_requests() == ()
    world.asked(ABOVE + 1)  # the next customer's is another request


def test_the_holder_decides_while_the_card_is_on_the_till(world: World) -> None:
    presser = threading.Timer(GUARD_MS / 1000 + 0.3, lambda: world.press("confirm"))
    presser.start()
    assert world.charge(ABOVE + 1, patience=20).amount == ABOVE + 1
    presser.join()


def test_the_holder_refuses(world: World) -> None:
    world.asked(ABOVE + 1)
    world.press("refuse")
    with pytest.raises(CardError, match="refused by the holder") as refused:
        world.charge(ABOVE + 1)
    assert refused.value.sw == c.SW_DECLINED
    assert (
        len(world.till.open_requests()) == 1
    )  # it was sent before, so it is given up, not forgotten
    with open_path(world.field.path, wait=5) as connection:
        card = Card(connection)
        card.select()
        assert card.info().counter == 0


def test_an_agreement_is_for_one_request(world: World) -> None:
    world.asked(ABOVE + 1)
    world.press("confirm")
    other = world.asked(ABOVE + 2)
    world.press("confirm")
    assert world.charge(ABOVE + 2).amount == ABOVE + 2
    assert other != world.front.frame


def test_the_pin_is_entered_once(world: World) -> None:
    with pytest.raises(PinError):
        world.charge(20_001)
    world.asked(20_001, PIN)
    world.press("confirm")
    assert world.charge(20_001).amount == 20_001


def test_touch_to_touch_asks_the_holder_too(world: World, tmp_path: Path) -> None:
    make_card(tmp_path / "other", world.net)
    with open_path(f"sim:{tmp_path / 'other'}") as inner:
        other = Card(inner)
        other.select()

        def touch(nonce: bytes | None = None) -> o.Claim:
            with changed(confirm_s=0.001), open_path(world.field.path, wait=5) as connection:
                payer = Card(connection)
                payer.select()
                return send(payer, other, ABOVE + 1, NOW, nonce)

        with pytest.raises(TouchUnfinished) as asked:
            touch()
        world.front.wait_for_change(world.idle)
        world.press("confirm")
        assert touch(asked.value.nonce).amount == ABOVE + 1
        other.verify_pin(PIN)
        assert other.info().pending == ABOVE + 1


def test_a_torn_tap_after_the_confirmation(world: World) -> None:
    world.asked(ABOVE + 1)
    world.press("confirm")
    with open_path(world.field.path, wait=5) as connection, pytest.raises(AnswerLost):
        world.till.charge(Torn(connection), ABOVE + 1)
    assert world.charge(ABOVE + 1).counter == 1  # from the log, which asks nobody


def test_power_off_forgets_what_was_asked(world: World) -> None:
    world.asked(ABOVE + 1)
    world.press("confirm")
    world.card.remove()
    before = world.front.frame
    places.put(world.card, world.field, front=world.front)
    assert world.front.wait_for_change(before) == world.idle
    world.asked(ABOVE + 1)


def test_why_nothing_was_paid(world: World) -> None:
    with open_path(world.field.path, wait=5) as connection:
        card = Card(connection)
        card.select()
        verify_pin(card, PIN, world.net.trust)
        with pytest.raises(CardError) as refused:
            card.pay(world.net.request(50_001))
        assert refused.value.sw == c.SW_LIMIT_PAYMENT
    assert world.front.wait_for_change(world.idle)

# SPDX-License-Identifier: Apache-2.0
"""The card behind every kind of link that the emulator has: payments, and the link lost at each of their
frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.errors import LinkLostError, NoCardError, NoReaderError, TransportError
from chipcash.genuine import verify_pin
from chipcash.transports import Connection, open_path
from chipcash.transports.times import changed
from chipcash_sim import emulator, places
from chipcash_sim.plug import CardGone
from chipcash_wire import objects as o
from tests.builders import Network
from tests.cards import PIN, make_card

HELD = 10_000
# The emulator answers within milliseconds, so that what is lost can be given up early.
HASTY = {
    "ble_look_s": 1.0,
    "ble_connect_s": 5.0,
    "sd_answer_s": 0.2,
    "sd_greet_s": 0.1,
    "at_answer_s": 0.2,
    "at_greet_s": 0.1,
    "serial_answer_s": 0.2,
    "serial_tries": 2,
    "serial_greet_s": 0.1,
}


@pytest.fixture(params=places.NAMES)
def place(request: pytest.FixtureRequest) -> Iterator[places.Place]:
    """Emulated hardware without a card."""
    made = places.make(request.param)
    with made.findable():
        yield made
    made.close()


@pytest.fixture
def net() -> Network:
    return Network()


@pytest.fixture
def card(tmp_path: Path, net: Network) -> Iterator[emulator.Card]:
    """A personalised card with money, out of any place."""
    image = tmp_path / "a.img"
    make_card(image, net, money=HELD)
    made = emulator.Card(image, "cpython")
    yield made
    made.remove()


def _spent(path: str) -> int:
    """Fen that the card has paid."""
    with open_path(path, wait=5) as opened:
        card = Card(opened)
        card.select()
        return card.info().spent


def _agree(client: Card, net: Network, place: places.Place) -> None:
    """Over Bluetooth a card without buttons pays nothing without its PIN."""
    if place.link == "ble":
        verify_pin(client, PIN, net.trust)


@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_a_payment(card: emulator.Card, net: Network, place: places.Place, runtime: str) -> None:
    card.runtime = runtime
    places.put(card, place)
    with open_path(place.path, wait=5) as opened:
        assert opened.path == place.path
        client = Card(opened)
        client.select()
        _agree(client, net, place)
        request = net.request(700)
        payment = client.pay(request)
        assert client.pay(request) == payment
    assert o.Payment.decode(payment).claim.amount == 700
    assert _spent(place.path) == 700


def test_a_closed_session(card: emulator.Card, place: places.Place) -> None:
    places.put(card, place)
    opened = open_path(place.path, wait=5)
    opened.close()
    opened.close()
    with pytest.raises(LinkLostError) as lost:
        opened.transceive(b"\x00\xa4\x04\x00")
    assert not lost.value.maybe_executed


def test_no_card(place: places.Place) -> None:
    with changed(**HASTY), pytest.raises((NoCardError, NoReaderError)):
        open_path(place.path)


def _opened(place: places.Place, removed: threading.Event) -> Connection:
    """The card's connection; a card that is removed while it is looked for is not waited for."""
    while True:
        try:
            return open_path(place.path, wait=0.5)
        except NoCardError:
            if removed.is_set():
                raise


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.long)])
def test_link_loss_at_every_frame(
    card: emulator.Card, net: Network, place: places.Place, step: int
) -> None:
    """Afterwards the same request brings the payment, which the card has made once."""
    spent = 0
    for cut in range(1, 100, step):
        places.put(card, place)
        removed = threading.Event()

        def cut_here(frame: int, cut: int = cut, removed: threading.Event = removed) -> None:
            if frame == cut:
                card.remove()
                removed.set()
                raise CardGone("pulled out")

        place.plug.on_frame = cut_here
        request = net.request(10)
        payment = b""
        try:
            with changed(**HASTY), _opened(place, removed) as opened:
                client = Card(opened)
                client.select()
                _agree(client, net, place)
                payment = client.pay(request)
                place.plug.on_frame = None
        except TransportError as error:
            assert removed.is_set(), error
            if isinstance(error, LinkLostError) and not error.maybe_executed:
                assert not payment
        place.plug.on_frame = None
        if not removed.is_set():
            assert cut > 4  # a payment has at least two commands and their answers
            return
        places.put(card, place)
        with open_path(place.path, wait=5) as opened:
            client = Card(opened)
            client.select()
            _agree(client, net, place)
            assert payment in (b"", client.pay(request))
        spent += 10
        assert _spent(place.path) == spent
        card.remove()
    pytest.fail("the payment has no end")

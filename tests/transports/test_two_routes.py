# SPDX-License-Identifier: Apache-2.0
"""A phone's card: its antenna and its modem reach one card at once, which has one state and two sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipcash.card import Card, PinError
from chipcash.transports import open_path
from chipcash_sim import emulator, places
from chipcash_wire import objects as o
from tests.builders import Network
from tests.cards import PIN, make_card


@pytest.mark.parametrize("other", ["at", "sd", "serial"])
@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_antenna_and_another_link(tmp_path: Path, runtime: str, other: str) -> None:
    net = Network()
    image = tmp_path / "a.img"
    public = make_card(image, net)
    card = emulator.Card(image, runtime)
    antenna, inside = places.make("nfc"), places.make(other)
    try:
        places.put(card, antenna, inside)
        with open_path(inside.path, wait=5) as app, open_path(antenna.path, wait=5) as till:
            owner, payer = Card(app), Card(till)
            owner.select()
            owner.verify_pin(PIN)
            payer.select()
            # Money comes by the app, and goes by the antenna; each sees at once what the other did.
            owner.put(net.title(public, amount=10_000, hi=10_000))
            request = net.request(700)
            payment = o.Payment.decode(payer.pay(request))
            assert owner.info().balance == 9_300
            assert next(owner.payments()).claim == payment.claim
            # The PIN that the app entered is not the antenna's.
            assert payer.info().balance is None
            with pytest.raises(PinError):
                next(payer.titles())
            # The field goes; the app's session stays.
            till.close()
            assert owner.info().balance == 9_300
            owner.put(net.title(public, amount=500, hi=500))
        with open_path(antenna.path, wait=5) as till:
            payer = Card(till)
            payer.select()
            assert o.Payment.decode(payer.pay(request)) == payment
            assert payer.info().spent == 700
    finally:
        card.remove()
        antenna.close()
        inside.close()

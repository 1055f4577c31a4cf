# SPDX-License-Identifier: Apache-2.0
"""A phone's card: its antenna and its modem reach one card at once, which has one state and two sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipcash.card import Card, PinError
from chipcash.cardholder import synchronise
from chipcash.sandbox import PIN as PIN_OF_SANDBOX
from chipcash.sandbox import Sandbox, reader_for
from chipcash.transports import open_path
from chipcash_sim import emulator, places
from chipcash_sim.forms import FORMS, Form
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


@pytest.mark.parametrize("form", [form for form in FORMS.values() if form.power == "host"])
@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_a_phone_synchronises_by_its_own_link(tmp_path: Path, runtime: str, form: Form) -> None:
    """Its app looks and synchronises by the phone, its antenna pays: one card, one state."""
    image = tmp_path / "a.img"
    with Sandbox(tmp_path / "net") as sandbox, reader_for(form.places, form=form) as reader:
        key = sandbox.new_card(image, 1_000, form=o.FORMS.index(form.name)).subject
        till = sandbox.till()
        reader.insert(image, runtime)
        antenna, inside = reader.paths
        with open_path(inside, wait=5) as app, open_path(antenna, wait=5) as tap:
            till.charge(tap, 300)
            owner = Card(app)
            owner.select()
            owner.verify_pin(PIN_OF_SANDBOX)
            assert (owner.info().balance, owner.info().spent) == (700, 300)
            sandbox.fund(500)
            sandbox.bank.withdraw(500, key)
            done = synchronise(owner, sandbox.center, sandbox.trust)
            assert (done.loaded_fen, done.limits_renewed) == (500, True)
            assert (owner.info().balance, owner.info().spent) == (1_200, 0)
            assert till.charge(tap, 1_150).amount == 1_150  # of both titles
            assert owner.info().balance == 50
        till.sync(sandbox.center)
        assert till.balance().verified_fen == 1_450

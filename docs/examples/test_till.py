# SPDX-License-Identifier: Apache-2.0
"""What a till has to do, tested against emulated cards: by chipcash's fixtures for pytest."""

import pytest

from chipcash.pos import AnswerLost
from chipcash.sandbox import agreeing
from chipcash.transports import open_path
from chipcash_sim.forms import FORMS


def test_pay_offline_and_settle(chipcash_network, chipcash_till, chipcash_card):
    with chipcash_network.offline(), chipcash_card.connect() as connection:
        chipcash_till.charge(connection, 3_680)
    assert chipcash_till.balance().pending_fen == 3_680
    chipcash_till.sync(chipcash_network.center)
    assert chipcash_till.balance().verified_fen == 3_680


def test_a_card_torn_off_pays_once(chipcash_till, chipcash_card, chipcash_link, chipcash_random):
    amount = chipcash_random.randint(1, 5_000)
    pay = 3 if chipcash_link == "at" else 2  # a modem's channel selects the card once more
    chipcash_card.insert(cut_after=pay)
    with chipcash_card.connect() as connection, pytest.raises(AnswerLost):
        chipcash_till.charge(connection, amount)
    chipcash_card.insert()
    with chipcash_card.connect() as connection:
        chipcash_till.charge(connection, amount)
    assert chipcash_till.balance().pending_fen == amount


def test_two_customers_at_two_tills(chipcash_tills, chipcash_cards):
    for name in ("north", "south"):
        card = chipcash_cards(fen=500)
        with card.connect() as connection:
            assert chipcash_tills(name).charge(connection, 500).amount == 500


@pytest.mark.parametrize("chipcash_link", ["sim", "serial"])  # instead of --chipcash-link
def test_both_links(chipcash_till, chipcash_card):
    with chipcash_card.connect() as connection:
        chipcash_till.charge(connection, 1)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_by_every_link(chipcash_till, chipcash_cards, form):
    card = chipcash_cards(form=form, links=FORMS[form].places)
    for path in card.paths:
        with open_path(path, wait=15) as connection, agreeing(card.reader):
            chipcash_till.charge(connection, 100)  # by Bluetooth the card asks its holder

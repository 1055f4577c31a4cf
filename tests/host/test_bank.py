# SPDX-License-Identifier: Apache-2.0
"""Issuing library and bank library: reserves, coins, transfers; what a dead line or a crash leaves undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chipcash.bank.errors import BankError
from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import DEADLINE, MAX_TITLES, BankLibrary
from chipcash.center.errors import CenterUnreachable
from chipcash.center.parameters import Parameters
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError
from tests.builders import changed
from tests.center.world import DAY, World

GRACE = Parameters().grace


class Line:
    """The way to the center: dead before a deposit arrives, or before its receipt does, or alive."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = ""

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        if self.dead == "before":
            raise CenterUnreachable("The line is dead.")
        receipt = self.world.center.settle(deposit, titles)
        if self.dead == "after":
            raise CenterUnreachable("The line went dead.")
        return receipt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.center, name)


class Banks:
    """Both libraries in a folder; reopen() is what a restart of their program does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World()
        self.line = Line(self.world)
        self.open()

    def open(self) -> None:
        world = self.world
        self.issuing = IssuingLibrary(self.folder / "issuing.db", world.key("issuer"), world.trust)
        self.bank = BankLibrary(
            self.folder / "bank.db", world.key("bank"), world.trust, self.line, lambda: world.now
        )

    def close(self) -> None:
        self.issuing.close()
        self.bank.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def buy(self, fen: int) -> o.Coin:
        """A coin for new reserves, in the bank."""
        self.issuing.add_reserve(self.bank.public, fen)
        coin = self.issuing.issue(self.bank.public, fen)
        self.bank.add(self.world.center.register_coin(coin))
        return coin

    def owned(self, name: str) -> int:
        """What the center says somebody owns; and the ledger is consistent."""
        self.world.center.check()
        owners: dict[str, int] = self.world.center.accounts()["owners"]
        return owners.get(self.world.public(name).hex(), 0)


@pytest.fixture
def banks(tmp_path: Path) -> Iterator[Banks]:
    made = Banks(tmp_path)
    yield made
    made.close()
    made.world.center.close()


def test_coins_are_created_against_reserves(banks: Banks) -> None:
    issuing, bank = banks.issuing, banks.bank
    assert issuing.reserve(bank.public) == 0
    assert issuing.add_reserve(bank.public, 1000) == 1000
    with pytest.raises(BankError) as caught:
        issuing.issue(bank.public, 1001)
    assert caught.value.reason == "reserve" and issuing.coins() == []
    coin = issuing.issue(bank.public, 600)
    assert issuing.reserve(bank.public) == 400
    assert (coin.amount, coin.owner) == (600, bank.public)
    assert banks.world.trust.signed_by_issuer(coin)
    with pytest.raises(WireError):
        issuing.issue(bank.public, 0)
    for fen in (0, -1):
        with pytest.raises(ValueError):
            issuing.add_reserve(bank.public, fen)
    banks.reopen()
    assert [found.encode() for found in banks.issuing.coins()] == [coin.encode()]
    assert banks.issuing.reserve(bank.public) == 400


def test_a_bank_takes_only_its_own_money(banks: Banks) -> None:
    mine = banks.world.issue(500, "bank")
    banks.bank.add(mine)
    banks.bank.add(mine)
    assert banks.bank.balance() == 500
    for other in (banks.world.issue(500, "shop"), changed(mine, amount=600, hi=600)):
        with pytest.raises(BankError) as caught:
            banks.bank.add(other)
        assert caught.value.reason == "title"
    assert banks.bank.balance() == 500


def test_it_pays_out_what_it_has(banks: Banks) -> None:
    banks.buy(1000)
    card = banks.world.public("card")
    done = banks.bank.withdraw(300, card)
    assert (done.payee, done.amount) == (card, 300)
    assert [(title.owner, title.hi - title.lo) for title in done.titles] == [(card, 300)]
    assert (banks.bank.balance(), banks.owned("bank"), banks.owned("card")) == (700, 700, 300)
    with pytest.raises(BankError) as caught:
        banks.bank.withdraw(701, card)
    assert caught.value.reason == "funds"
    with pytest.raises(BankError):
        banks.bank.withdraw(0, card)
    assert (banks.bank.balance(), banks.owned("bank")) == (700, 700)
    banks.reopen()
    assert banks.bank.withdraw(700, card).amount == 700
    assert (banks.bank.balance(), banks.owned("card")) == (0, 1000)


def test_it_pays_out_of_many_titles(banks: Banks) -> None:
    """More than one claim holds, up to as many as one transfer takes."""
    for _ in range(MAX_TITLES + 1):
        banks.bank.add(banks.world.issue(10, "bank"))
    with pytest.raises(BankError, match="hold 1600 fen of the 1601"):
        banks.bank.withdraw(1601, banks.world.public("card"))
    done = banks.bank.withdraw(1595, banks.world.public("card"))
    assert len(done.deposit.claims) == MAX_TITLES // o.MAX_INPUTS
    assert sum(title.hi - title.lo for title in done.titles) == 1595 == banks.owned("card")
    assert banks.bank.balance() == 15 == banks.owned("bank")


@pytest.mark.parametrize("dead", ["before", "after"])
def test_a_dead_line_pays_once(banks: Banks, dead: str) -> None:
    banks.buy(1000)
    banks.line.dead = dead
    with pytest.raises(CenterUnreachable):
        banks.bank.withdraw(300, banks.world.public("card"))
    assert banks.bank.balance() == 700  # claimed: nobody else gets it
    banks.line.dead = ""
    banks.reopen()
    (done,) = banks.bank.resume()
    assert done.amount == 300 == sum(title.hi - title.lo for title in done.titles)
    assert banks.bank.resume() == []
    assert (banks.bank.balance(), banks.owned("bank"), banks.owned("card")) == (700, 700, 300)


def test_a_transfer_that_came_too_late_comes_back(banks: Banks) -> None:
    banks.buy(1000)
    banks.line.dead = "before"
    with pytest.raises(CenterUnreachable):
        banks.bank.withdraw(300, banks.world.public("card"))
    banks.line.dead = ""
    banks.world.now += DEADLINE + GRACE + 1
    with pytest.raises(BankError) as caught:
        banks.bank.resume()
    assert caught.value.reason == "outcome" and "300 came back" in caught.value.message
    assert (banks.bank.balance(), banks.owned("bank"), banks.owned("card")) == (1000, 1000, 0)
    assert banks.bank.resume() == []
    banks.bank.withdraw(1000, banks.world.public("card"))
    assert banks.owned("card") == 1000


def test_redemption_gives_the_reserve_back_once(banks: Banks) -> None:
    banks.buy(1000)
    done = banks.bank.redeem(400)
    (claim,), (spent,) = done.deposit.claims, done.spent
    assert banks.world.center.accounts()["redeemed_fen"] == 400
    assert banks.issuing.credit(claim, spent, done.receipt) == 400
    assert banks.issuing.credit(claim, spent, done.receipt) == 0
    assert banks.issuing.reserve(banks.bank.public) == 400
    coin = banks.issuing.issue(banks.bank.public, 400)
    assert coin.serial not in {title.serial for title in spent}


def test_a_redemption_that_a_crash_kept_from_credit(banks: Banks) -> None:
    banks.buy(1000)
    banks.bank.withdraw(100, banks.world.public("card"))
    assert banks.bank.redemptions() == []
    banks.bank.redeem(400)
    banks.line.dead = "after"
    with pytest.raises(CenterUnreachable):
        banks.bank.redeem(50)
    banks.reopen()  # and neither was credited
    assert [found.amount for found in banks.bank.redemptions()] == [400]
    banks.line.dead = ""
    banks.bank.resume()
    for found in banks.bank.redemptions():
        for claim, spent in zip(found.deposit.claims, found.spent, strict=True):
            assert banks.issuing.credit(claim, spent, found.receipt) == found.amount
            assert banks.issuing.credit(claim, spent, found.receipt) == 0
    assert banks.issuing.reserve(banks.bank.public) == 450


def test_what_proves_no_redemption(banks: Banks) -> None:
    banks.buy(1000)
    paid = banks.bank.withdraw(100, banks.world.public("card"))
    done = banks.bank.redeem(400)
    claim, spent = done.deposit.claims[0], done.spent[0]
    forged = changed(done.receipt, time=done.receipt.time + 1)
    wrong: list[tuple[o.Claim, tuple[o.Title, ...], o.Receipt]] = [
        (paid.deposit.claims[0], paid.spent[0], paid.receipt),  # not to the issuing library
        (claim, spent, paid.receipt),  # about another claim
        (claim, spent, forged),  # not signed by the center
        (claim, (changed(spent[0], owner=banks.world.public("shop")),), done.receipt),
        (claim, (), done.receipt),
    ]
    for values in wrong:
        with pytest.raises(BankError) as caught:
            banks.issuing.credit(*values)
        assert caught.value.reason == "receipt"
    assert banks.issuing.reserve(banks.bank.public) == 0


def test_expired_money_is_renewed(banks: Banks) -> None:
    coin = banks.buy(1000)
    banks.bank.withdraw(300, banks.world.public("card"))
    expiry = banks.world.center.titles(banks.bank.public)[0].expiry
    banks.world.now = expiry + GRACE
    with pytest.raises(BankError):
        banks.bank.withdraw(1, banks.world.public("card"))
    assert banks.bank.renew() == 0
    banks.world.now += 1
    assert banks.bank.renew() == 700
    assert banks.bank.renew() == 0
    assert (banks.bank.balance(), banks.owned("bank")) == (700, 700)
    (title,) = banks.world.center.titles(banks.bank.public)
    assert title.serial == coin.serial and title.expiry > banks.world.now + DAY
    assert banks.bank.withdraw(700, banks.world.public("card")).amount == 700
    assert banks.owned("card") == 1000

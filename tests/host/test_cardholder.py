# SPDX-License-Identifier: Apache-2.0
"""The counter and the cardholder's side: real cards, a real registration center, a clock turned by hand."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chipcash.bank.cards import new_puk, personalise
from chipcash.card import Card, CardError, CardReplyError, PinError
from chipcash.cardholder import Synchronisation, load, synchronise
from chipcash.center.parameters import Parameters, TierLimits
from chipcash.center.registration import Center
from chipcash.certification import Authority
from chipcash.errors import LinkLostError
from chipcash.genuine import CardForged, genuine
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash.trust import object_id
from chipcash_sim.image import FileFlash
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError
from tests.builders import NETWORK, NOW, SUITES, Network, network
from tests.cards import PIN, PUK

PARAMETERS = Parameters()
LIMITS: TierLimits = PARAMETERS.tiers[3]


class Bank:
    """A counter that personalises cards, and the center behind it."""

    def __init__(self, folder: Path, suite: str = "p256") -> None:
        self.folder = folder
        self.now = NOW
        self.net: Network = network(suite)
        self.trust = self.net.trust
        self.authority = Authority(self.net.key("certification"), NETWORK, lambda: self.now)
        self.center = Center(
            ":memory:", self.net.key("center"), self.trust, PARAMETERS, lambda: self.now
        )

    def blank(self, name: str = "card") -> str:
        """A new card; its path."""
        image = self.folder / f"{name}.img"
        FileFlash(str(image)).close()
        return f"sim:{image}"

    def personalise(self, path: str, pin: str = PIN, puk: str = PUK, tier: int = 3) -> bytes:
        """Make a card one of the network; its key."""
        with at(path) as card:
            certificate = personalise(
                card, self.authority, self.center, self.trust, pin=pin, puk=puk, tier=tier
            )
        return certificate.subject

    def card(self, *money: int, name: str = "card") -> tuple[str, bytes]:
        """A personalised card whose money waits for it at the center; its path and key."""
        path = self.blank(name)
        key = self.personalise(path)
        for fen in money:
            self.issue(key, fen)
        return path, key

    def issue(self, key: bytes, fen: int) -> o.Title:
        return self.center.register_coin(self.net.coin(fen, key))

    def sync(self, path: str, pin: str | None = None) -> Synchronisation:
        with at(path, pin) as card:
            return synchronise(card, self.center, self.trust)

    def pay(self, path: str, fen: int) -> o.Claim:
        """A payment to a merchant, as it is at the merchant's."""
        with at(path) as card:
            payment = o.Payment.decode(card.pay(self.net.request(fen, time=self.now)))
        return payment.claim

    def deposit(self, claim: o.Claim) -> int:
        """The state in which a claim's only interval ends when the merchant deposits it."""
        deposit = o.Deposit(
            header=self.net.header, nonce=secrets.token_bytes(16), claims=(claim,)
        )  # fmt: skip
        (outcome,) = self.center.settle(deposit).results[0].outcomes
        return outcome.state

    def balance(self, path: str) -> int:
        """What the card holds, in fen; the ledger is consistent."""
        self.center.check()
        with at(path, PIN) as card:
            balance = card.info().balance
        assert balance is not None
        return balance


@contextmanager
def at(path: str, pin: str | None = None) -> Iterator[Card]:
    """The card at a path, selected, with a PIN in a PIN session."""
    with open_path(path) as connection:
        card = Card(connection)
        card.select()
        if pin is not None:
            card.verify_pin(pin)
        yield card


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    made = Bank(tmp_path)
    yield made
    made.center.close()


# The counter ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_a_blank_card_becomes_one_of_the_network(tmp_path: Path, suite: str) -> None:
    bank = Bank(tmp_path, suite)
    path = bank.blank()
    key = bank.personalise(path, tier=3)
    with at(path) as card:
        info, certificate, risk = card.info(), card.certificate(), card.risk()
        genuine(card, bank.trust, secrets.token_bytes(16))
        card.verify_pin(PIN)
        assert list(card.titles()) == []
    assert (info.lifecycle, info.subject) == (o.LIFE_PERSONALISED, key)
    assert (certificate.tier, certificate.form) == (3, o.FORM_IC_CARD)
    assert certificate.time == NOW < certificate.expiry
    assert (risk.sequence, risk.per_payment, risk.cumulative, risk.count, risk.pin_free) == (
        1,
        LIMITS.per_payment,
        LIMITS.cumulative,
        LIMITS.count,
        LIMITS.pin_free,
    )
    bank.center.close()


def test_a_card_is_personalised_once(bank: Bank) -> None:
    path, key = bank.card()
    with pytest.raises(CardError) as caught:
        bank.personalise(path, pin="9999")
    assert caught.value.sw == c.SW_CONDITIONS
    with at(path, PIN) as card:
        assert card.info().subject == key


@pytest.mark.parametrize("fault", ["cut_before=2", "cut_after=2", "cut_before=3"])
def test_a_card_that_was_cut_off_is_personalised_again(bank: Bank, fault: str) -> None:
    """Torn in GENERATE KEY PAIR, or before STORE DATA took effect."""
    path = bank.blank()
    with pytest.raises(LinkLostError):
        bank.personalise(f"{path}?{fault}")
    key = bank.personalise(path)
    bank.issue(key, 500)
    assert bank.sync(path).loaded_fen == 500 == bank.balance(path)


def test_a_card_that_was_cut_off_at_the_end_is_done(bank: Bank) -> None:
    path = bank.blank()
    with pytest.raises(LinkLostError) as caught:
        bank.personalise(f"{path}?cut_after=3")
    assert caught.value.maybe_executed
    with pytest.raises(CardError) as refused:
        bank.personalise(path)
    assert refused.value.sw == c.SW_CONDITIONS
    with at(path, PIN) as card:
        key = card.certificate().subject
    bank.issue(key, 500)
    assert bank.sync(path, PIN).limits_renewed and bank.balance(path) == 500


@pytest.mark.parametrize(
    "wrong", [{"pin": "123"}, {"pin": "1234567890123"}, {"puk": "1234567"}, {"tier": 5}]
)
def test_what_no_card_may_have(bank: Bank, wrong: dict[str, str]) -> None:
    path = bank.blank()
    with pytest.raises(WireError):
        bank.personalise(path, **wrong)  # type: ignore[arg-type]
    with at(path) as card:
        assert card.info().lifecycle == o.LIFE_KEYED
    bank.personalise(path)


def test_puks(bank: Bank) -> None:
    puks = {new_puk() for _ in range(50)}
    assert len(puks) > 40
    assert all(len(puk) == c.PUK_SIZE and puk.isascii() and puk.isdigit() for puk in puks)
    puk = puks.pop()
    path = bank.blank()
    bank.personalise(path, puk=puk)
    with at(path) as card:
        for left in (2, 1, 0):
            with pytest.raises(PinError) as caught:
                card.verify_pin("0000")
            assert caught.value.attempts_left == left
        card.unblock_pin(puk, "4321")
        card.verify_pin("4321")


# Genuine or not ---------------------------------------------------------------------------------------


class Forger(BaseConnection):
    """A card of the network that shows another card's certificate, and if it can says it is that card."""

    def __init__(self, inner: Connection, victim: o.Certificate, net: Network | None) -> None:
        super().__init__(inner.path, over_air=False)
        self.inner = inner
        self.victim = victim
        self.net = net

    def _transceive(self, apdu: bytes) -> bytes:
        if apdu[1] == c.INS_GET_DATA and apdu[2] == c.DATA_CERTIFICATE:
            return self.victim.encode() + b"\x90\x00"
        answer = self.inner.transceive(apdu)
        if apdu[1] != c.INS_INTERNAL_AUTHENTICATE:
            return answer
        own = Card(self.inner).certificate().encode()
        proof = o.GenuineProof.decode(answer[: -2 - len(own)])
        if self.net is not None:
            values = {**proof.__dict__, "subject": self.victim.subject}
            proof = self.net.sign("forger", o.GenuineProof(**values))
        return proof.encode() + self.victim.encode() + b"\x90\x00"

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("lies", [False, True])
def test_a_copied_certificate_is_no_card(bank: Bank, lies: bool) -> None:
    rich, key = bank.card(5000, name="rich")
    poor, _ = bank.card(name="poor")
    with at(rich) as card:
        victim = card.certificate()
    with open_path(poor) as inner:
        forged = Card(Forger(inner, victim, bank.net if lies else None))
        forged.select()
        with pytest.raises(CardForged, match="cannot prove"):
            genuine(forged, bank.trust, secrets.token_bytes(16))
        forged.verify_pin(PIN)
        with pytest.raises(CardForged):
            synchronise(forged, bank.center, bank.trust)
    # The card whose certificate it was has lost nothing: neither its money nor its next limits.
    assert bank.sync(rich, PIN).loaded_fen == 5000
    with at(rich) as card:
        assert card.risk().sequence == 2
        assert card.info().subject == key


def test_a_card_of_another_network_is_none_of_this(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Bank(tmp_path / "other")
    other.net = Network()
    other.trust = other.net.trust
    other.authority = Authority(other.net.key("certification"), NETWORK, lambda: NOW)
    other.center.close()
    other.center = Center(":memory:", other.net.key("center"), other.trust, clock=lambda: NOW)
    path, _ = other.card()
    with at(path) as card:
        genuine(card, other.trust, secrets.token_bytes(16))
        with pytest.raises(CardForged, match="certificate is not signed"):
            genuine(card, bank.trust, secrets.token_bytes(16))
    other.center.close()


def test_an_old_proof_proves_nothing(bank: Bank) -> None:
    path, _ = bank.card()

    class Replay(BaseConnection):
        """Answers every challenge as the first one."""

        kept = b""

        def _transceive(self, apdu: bytes) -> bytes:
            if apdu[1] == c.INS_INTERNAL_AUTHENTICATE:
                self.kept = self.kept or connection.transceive(apdu)
                return self.kept
            return connection.transceive(apdu)

        def close(self) -> None:
            pass

    with open_path(path) as connection:
        card = Card(Replay(path, over_air=False))
        card.select()
        genuine(card, bank.trust, secrets.token_bytes(16))
        with pytest.raises(CardReplyError, match="another challenge"):
            genuine(card, bank.trust, secrets.token_bytes(16))


# Synchronising ----------------------------------------------------------------------------------------


def test_it_brings_the_money_once(bank: Bank) -> None:
    path, key = bank.card(10_000, 2_500)
    done = bank.sync(path, PIN)
    assert (len(done.loaded), done.loaded_fen, done.reclaimed_fen) == (2, 12_500, 0)
    assert (done.limits_renewed, done.refused, done.left) == (True, "", 0)
    assert bank.balance(path) == 12_500
    bank.pay(path, 1_000)
    again = bank.sync(path)
    assert (again.loaded, again.loaded_fen) == ([], 0)
    assert bank.balance(path) == 11_500
    with at(path) as card:
        assert not load(card, done.loaded[0])
        assert load(card, bank.issue(key, 700))
    assert bank.balance(path) == 12_200


def test_it_renews_the_limits(bank: Bank) -> None:
    path, _ = bank.card(100_000, 100_000)
    bank.sync(path, PIN)
    for _ in range(5):
        bank.pay(path, LIMITS.pin_free)
    with pytest.raises(CardError) as caught:
        bank.pay(path, 1)
    assert caught.value.sw == c.SW_LIMIT_CUMULATIVE
    bank.now += 3600
    without = bank.sync(path)  # whoever finds the card renews nothing
    assert (without.limits_renewed, without.refused) == (False, "")
    assert bank.sync(path, PIN).limits_renewed
    with at(path) as card:
        info = card.info()
        assert (info.spent, info.payments, info.time) == (0, 0, bank.now)
        assert card.risk().sequence == 3
    bank.pay(path, 1)
    assert bank.balance(path) == 200_000 - 5 * LIMITS.pin_free - 1


def test_money_that_nobody_deposited_comes_back_with_the_pin(bank: Bank) -> None:
    path, _ = bank.card(10_000)
    bank.sync(path)
    claim = bank.pay(path, 3_680)
    bank.now = claim.deadline + PARAMETERS.grace
    assert bank.sync(path, PIN).loaded == []  # to the last second the merchant may deposit it
    bank.now += 1
    assert bank.sync(path).loaded == []  # without a PIN session nobody learns of payments
    done = bank.sync(path, PIN)
    assert (done.loaded_fen, done.reclaimed_fen) == (3_680, 3_680)
    assert bank.balance(path) == 10_000
    assert bank.sync(path, PIN).loaded == []
    assert bank.deposit(claim) == o.RECLAIMED  # too late
    assert bank.center.accounts()["owners"] == {
        done.loaded[0].owner.hex(): 10_000
    }  # fmt: skip
    bank.pay(path, 10_000)


def test_money_that_was_deposited_does_not_come_back(bank: Bank) -> None:
    path, key = bank.card(10_000)
    bank.sync(path)
    claim = bank.pay(path, 3_680)
    assert bank.deposit(claim) == o.SETTLED
    bank.now = claim.deadline + PARAMETERS.grace + 1
    done = bank.sync(path, PIN)
    assert (done.loaded, done.reclaimed_fen) == ([], 0)
    assert bank.balance(path) == 6_320 == bank.center.accounts()["owners"][key.hex()]


def test_expired_money_comes_back_as_new(bank: Bank) -> None:
    path, _ = bank.card(10_000)
    (title,) = bank.sync(path).loaded
    bank.pay(path, 4_000)
    bank.now = title.expiry + PARAMETERS.grace
    assert bank.sync(path).loaded == []
    bank.now += 1
    done = bank.sync(path)
    # With the title all that was left of it comes back, also what nobody deposited.
    assert (done.loaded_fen, done.reclaimed_fen) == (10_000, 10_000)
    assert all(new.expiry > bank.now and new.epoch > title.epoch for new in done.loaded)
    bank.pay(path, 10_000)
    assert bank.balance(path) == 0


def test_a_card_on_the_blacklist_gets_its_money_but_no_limits(bank: Bank) -> None:
    path, key = bank.card(10_000)
    bank.sync(path, PIN)
    bank.pay(path, 1_000)
    bank.issue(key, 500)
    bank.center.block(key)
    done = bank.sync(path, PIN)
    assert (done.limits_renewed, done.loaded_fen) == (False, 500)
    assert "blacklist" in done.refused
    with at(path) as card:
        info = card.info()
        assert (info.spent, info.payments, card.risk().sequence) == (1_000, 1, 2)


def test_what_finds_no_room_stays_at_the_center(bank: Bank) -> None:
    money = [100 * (number + 1) for number in range(c.MAX_TITLES + 2)]
    path, _ = bank.card(*money)
    done = bank.sync(path)
    assert (len(done.loaded), done.left) == (c.MAX_TITLES, 2)
    assert bank.balance(path) == sum(money) - 100 - 200  # the smallest had to wait
    assert bank.sync(path).left == 2
    bank.pay(path, 300)
    done = bank.sync(path)
    assert (done.loaded_fen, done.left) == (200, 1)
    assert bank.balance(path) == sum(money) - 100 - 300


def test_cut_off_anywhere_it_is_completed_by_another(bank: Bank) -> None:
    """At each command of a synchronisation that renews limits, reclaims and loads."""
    path, key = bank.card(10_000)
    bank.sync(path)
    claim = bank.pay(path, 3_680)
    bank.now = claim.deadline + PARAMETERS.grace + 1
    bank.issue(key, 500)
    image = Path(path.removeprefix("sim:"))
    before = image.read_bytes()
    cuts = 0
    while True:
        image.write_bytes(before)  # the center knows more each time: its half of the work is done
        try:
            bank.sync(f"{path}?cut_after={cuts + 3}", PIN)  # after SELECT and VERIFY
        except LinkLostError:
            cuts += 1
        else:
            break
        bank.sync(path, PIN)
        assert bank.balance(path) == 10_500
    assert cuts > 6
    assert bank.balance(path) == 10_500


def test_a_void_of_the_merchant_brings_the_money_back_at_once(bank: Bank) -> None:
    path, _ = bank.card(10_000)
    bank.sync(path)
    claim = bank.pay(path, 3_680)
    void = o.Void(
        header=bank.net.header,
        payee=claim.payee,
        nonce=claim.nonce,
        amount=claim.amount,
        time=bank.now,
    )
    bank.center.register_void(bank.net.sign("pos", void))
    done = bank.sync(path, PIN)
    assert (done.reclaimed_fen, bank.balance(path)) == (3_680, 10_000)
    assert bank.center.claim(object_id(claim))["outcomes"][0]["state"] == "reclaimed"


def test_a_card_that_the_center_does_not_know(bank: Bank) -> None:
    """Its registration was lost: it says so, and brings the money all the same."""
    path, key = bank.card(500)
    bank.center.close()
    bank.center = Center(
        ":memory:", bank.net.key("center"), bank.trust, PARAMETERS, lambda: bank.now
    )
    bank.issue(key, 700)
    done = bank.sync(path, PIN)
    assert (done.limits_renewed, done.loaded_fen) == (False, 700)
    assert "knows no such card" in done.refused

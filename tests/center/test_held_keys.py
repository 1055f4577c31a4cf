# SPDX-License-Identifier: Apache-2.0
"""Whoever holds one key of a network, and has seen everything that goes over its lines, tries to make money.

The key is a till's, a bank's, a card's that was extracted, a witness's or that of the log. Whatever it signs,
and in whatever order it hands on what others signed: the money in all stays what was issued, the holder gets
no more than it had and was paid, and everybody else keeps what they did not pay away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import BankError
from chipcash.center.errors import CenterRefused
from chipcash.center.registration import Center
from chipcash.crypto import PrivateKey
from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError
from tests.center.world import DAY, START, World

HONEST = ("alice", "bob", "kiosk", "other-bank")
HOLDERS = ("till", "bank", "card", "witness", "log")
FENCE = "fence"
"""A key of the holder's own making, to which it may bring what it takes."""
_COIN = 60


class Holder:
    """Signs as somebody who has this key: of a network, or the Ed25519 key of a witness or log, whose bytes
    are a key of the network's suite as well."""

    def __init__(self, name: str, key: PrivateKey) -> None:
        self.name = name
        self._key = key
        self._other = Ed25519PrivateKey.from_private_bytes(key.private_bytes())
        self.public = key.public
        self.key_id = key.key_id

    def sign(self, obj: Any, foreign: bool = False) -> Any:
        """The object signed; foreign: by Ed25519, whose signatures are as long."""
        message = obj.message()
        return obj.signed(self._other.sign(message) if foreign else self._key.sign(message))


class Theft(RuleBasedStateMachine):
    """What a holder may try. holder: its name; make_world: over which ledger."""

    holder = "till"
    make_world: Callable[[], World] = staticmethod(World)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Everybody has some money, and has signed some of it away."""
        self.world = world = self.make_world()
        self.thief = Holder(self.holder, world.key(self.holder))
        self.center = world.center
        rich = self.holder in ("till", "bank", "card")
        self.start = dict.fromkeys((*HONEST, self.holder, FENCE), 0)
        self.titles: list[o.Title] = []
        for name in (*HONEST, self.holder) if rich else HONEST:
            for _ in range(2):
                self.titles.append(world.issue(_COIN, name))
                self.start[name] += _COIN
        self.issued = sum(self.start.values())
        self.seen: list[tuple[o.Claim, str]] = []  # by honest payers: claim and payer
        for at, payer in enumerate(HONEST):
            first, second = (t for t in self.titles if t.owner == world.public(payer))
            for lo, payee in ((0, self.holder), (10, HONEST[at - 1]), (20, "issuer")):
                window = data.draw(st.sampled_from([0, DAY, 9 * DAY]))
                parts = [(first, lo, lo + 9), (second, lo, lo + 3 + at)]
                self.seen.append((world.claim(payer, payee, parts, window), payer))
        self.certificates = [world.certificate(name) for name in ("alice", self.holder)]
        for certificate in self.certificates:
            self.center.register_card(certificate)
        self.own: list[o.Claim] = []  # what the holder has signed
        self.voids: list[o.Void] = []
        self.settled: dict[bytes, list[tuple[int, int]]] = {}

    # ---- what it draws from ---------------------------------------------------------------------

    def a_name(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from((self.holder, FENCE, "issuer", *HONEST)))

    def a_claim(self, data: st.DataObject) -> o.Claim:
        return data.draw(st.sampled_from([claim for claim, _ in self.seen] + self.own))

    def parts(self, data: st.DataObject) -> tuple[o.Input, ...]:
        found = []
        for title in data.draw(
            st.lists(st.sampled_from(self.titles), min_size=1, max_size=2, unique=True)
        ):
            lo = data.draw(st.integers(max(0, title.lo - 3), title.hi))
            hi = data.draw(st.integers(lo + 1, title.hi + 9))
            found.append(o.Input(title_id=object_id(title), lo=lo, hi=hi))
        return tuple(found)

    # ---- what it tries --------------------------------------------------------------------------

    @rule(data=st.data(), foreign=st.booleans())
    def sign_a_claim(self, data: st.DataObject, foreign: bool) -> None:
        """On its own titles, on those of others, on both, on fen that are not in them."""
        inputs = self.parts(data)
        claim = o.Claim(
            header=self.world.header,
            inputs=inputs,
            amount=sum(item.hi - item.lo for item in inputs),
            payee=self.world.public(self.a_name(data)),
            nonce=self.world.fresh(16),
            counter=1,
            time=self.world.now,
            deadline=self.world.now + data.draw(st.sampled_from([0, DAY])),
        )
        self.own.append(self.thief.sign(claim, foreign))

    @rule(data=st.data(), again=st.booleans())
    def change_a_claim(self, data: st.DataObject, again: bool) -> None:
        """Of somebody else: its payee, intervals, nonce or time; again: signed by the holder."""
        claim = data.draw(st.sampled_from([claim for claim, _ in self.seen]))
        values = {name.rstrip("?*="): getattr(claim, name.rstrip("?*=")) for name in claim.FIELDS}
        way = data.draw(st.integers(0, 3))
        if way == 0:
            values["payee"] = self.world.public(data.draw(st.sampled_from((self.holder, FENCE))))
        elif way == 1:
            values["inputs"] = inputs = self.parts(data)
            values["amount"] = sum(item.hi - item.lo for item in inputs)
        elif way == 2:
            values["nonce"] = self.world.fresh(16)
        else:
            values["deadline"] = claim.deadline + 400 * DAY
        try:
            changed = o.Claim(**values)
        except WireError:
            return
        self.own.append(self.thief.sign(changed) if again else changed)

    @rule(data=st.data(), twice=st.booleans())
    def deposit(self, data: st.DataObject, twice: bool) -> None:
        """Anything in any order, the same twice, with new nonces: and the same deposit again."""
        claims = [self.a_claim(data) for _ in range(data.draw(st.integers(1, 4)))]
        if twice:
            claims += claims[:2]
        deposit = self.world.deposit(*claims)
        receipt = self.center.settle(deposit)
        again = self.center.settle(deposit)
        assert (again.results, set(again.titles)) == (receipt.results, set(receipt.titles))
        self.book(claims, receipt)

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """Of any claim, in the name of its payee."""
        claim = self.a_claim(data)
        void = self.thief.sign(
            o.Void(
                header=self.world.header,
                payee=claim.payee,
                nonce=claim.nonce,
                amount=claim.amount,
                time=self.world.now,
            )
        )
        self.voids.append(void)
        try:
            self.center.register_void(void)
            assert claim.payee == self.thief.public
        except CenterRefused as refused:
            assert refused.name == "signature" and claim.payee != self.thief.public

    @rule(data=st.data())
    def reclaim(self, data: st.DataObject) -> None:
        """Any claim, with any void; any title."""
        claim = self.a_claim(data)
        void = data.draw(st.sampled_from([None, *self.voids]))
        title_id = object_id(data.draw(st.sampled_from(self.titles)))
        if data.draw(st.booleans()):
            request = self.world.reclaim(claim, void)
        else:
            request = self.world.reclaim(title_id=title_id)
        try:
            receipt = self.center.reclaim(request)
        except CenterRefused as refused:
            assert refused.name in ("not-yet", "signature", "void", "unknown")
            return
        for title in receipt.titles:
            self.add(title)

    @rule(data=st.data(), foreign=st.booleans())
    def forge(self, data: st.DataObject, foreign: bool) -> None:
        """A coin, a certificate, a proof: what makes money or limits."""
        world = self.world
        serial = data.draw(st.sampled_from([world.fresh(16), self.titles[0].serial]))
        coin = world.coin(1000, self.holder, serial)
        tries: list[Callable[[], object]] = [
            lambda: self.center.register_coin(self.thief.sign(coin, foreign)),
            lambda: self.center.register_card(self.thief.sign(self.certificates[0], foreign)),
            lambda: self.center.register_card(
                self.thief.sign(world.certificate(FENCE, tier=1), foreign)
            ),
        ]
        nonce = self.center.challenge(world.public("alice"))
        for name in ("alice", self.holder):
            proof = self.thief.sign(world.proof(name, nonce), foreign)
            tries.append(lambda proof=proof: self.center.risk(world.public("alice"), proof))
        for each in tries:
            with pytest.raises(CenterRefused):
                each()

    @precondition(lambda self: self.start[self.holder])
    @rule(data=st.data(), payees=st.permutations(["issuer", FENCE, "kiosk"]))
    def spend_twice(self, data: st.DataObject, payees: list[str]) -> None:
        """Its own money, to several, in one deposit or in more."""
        own = [title for title in self.titles if title.owner == self.thief.public]
        title = data.draw(st.sampled_from(own))
        lo = data.draw(st.integers(title.lo, title.hi - 1))
        parts = [(title, lo, title.hi)]
        claims = [self.world.claim(self.holder, payee, parts) for payee in payees]
        self.own += claims
        groups = [claims] if data.draw(st.booleans()) else [[claim] for claim in claims]
        for group in groups:
            self.book(group, self.world.settle(*group))

    @rule(seconds=st.sampled_from([1, DAY, 3 * DAY, 370 * DAY]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    # ---- what must hold -------------------------------------------------------------------------

    def add(self, title: o.Title) -> None:
        if title not in self.titles:
            self.titles.append(title)

    def book(self, claims: list[o.Claim], receipt: o.Receipt) -> None:
        """What honest payers' claims came to; each counts once."""
        for title in receipt.titles:
            self.add(title)
        honest = [claim for claim, _ in self.seen]
        for claim, result in zip(claims, receipt.results, strict=True):
            if claim in honest:
                done = [(x.lo, x.hi) for x in result.outcomes if x.state == o.SETTLED]
                assert self.settled.setdefault(object_id(claim), done) == done

    @invariant()
    def nobody_lost_and_nothing_came_about(self) -> None:
        world = self.world
        self.center.check()
        totals = self.center.accounts()
        assert totals["issued_fen"] == totals["live_fen"] + totals["redeemed_fen"] == self.issued
        have = {name: totals["owners"].get(world.public(name).hex(), 0) for name in self.start}
        assert sum(have.values()) == totals["live_fen"]
        paid = dict.fromkeys(self.start, 0)
        got = dict.fromkeys(self.start, 0)
        redeemed = 0
        names = {world.public(name): name for name in self.start}
        for claim, payer in self.seen:
            fen = sum(hi - lo for lo, hi in self.settled.get(object_id(claim), []))
            paid[payer] += fen
            if claim.payee == world.public("issuer"):
                redeemed += fen
            else:
                got[names[claim.payee]] += fen
        for name in HONEST:
            # What the holder gave away of its own may be more.
            assert have[name] >= self.start[name] - paid[name] + got[name]
        mine = (self.holder, FENCE)
        most = sum(self.start[name] + got[name] for name in mine)
        assert sum(have[name] for name in mine) + totals["redeemed_fen"] - redeemed <= most
        entries, _ = self.center.blacklist()
        assert {entry.subject for entry in entries} <= {self.thief.public}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.center.close()


def tried(holder: str, **more: Any) -> Any:
    """The machine for one holder, as a test."""
    machine: Any = type(f"TheftBy{holder.title()}", (Theft,), {"holder": holder, **more})
    case = machine.TestCase
    case.settings = settings(
        max_examples=8,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    return case


TestTheftByTill = tried("till")
TestTheftByBank = tried("bank")
TestTheftByCard = tried("card")
TestTheftByWitness = tried("witness")
TestTheftByLog = tried("log")


@pytest.mark.long
@pytest.mark.parametrize("holder", HOLDERS)
def test_many_thefts(holder: str) -> None:
    case = tried(holder)
    case.settings = settings(case.settings, max_examples=1000)
    case("runTest").runTest()


@pytest.mark.parametrize("fault", ["claims", "voids", "coins"])
def test_a_center_that_forgets_a_check_is_robbed(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is tried would succeed."""
    if fault == "claims":
        monkeypatch.setattr(Trust, "signed_by", lambda self, obj, key: True)
    elif fault == "voids":
        monkeypatch.setattr(Center, "_need_payee_signature", lambda self, void: None)
    else:
        monkeypatch.setattr(Trust, "signed_by_issuer", lambda self, coin: True)
    machine: Any = type("Robbery", (Theft,), {"holder": "till"})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=20,
                stateful_step_count=15,
                deadline=None,
                phases=[Phase.generate],
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )


# ---- what is believed without the center --------------------------------------------------------


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("holder", HOLDERS)
def test_nobody_believes_what_a_holder_signs_in_a_higher_name(holder: str, foreign: bool) -> None:
    world = World()
    trust = world.trust
    thief = Holder(holder, world.key(holder))
    title = world.issue(100, "alice")
    claim = world.claim("alice", holder, [(title, 0, 10)])
    receipt = world.settle(claim)
    for signer in (trust.certificate(o.ROLE_CENTER), trust.certificate(o.ROLE_ISSUER)):
        key_id = world.key("center" if signer.role == o.ROLE_CENTER else "issuer").key_id
        time = o.SignedTime(header=world.header, signer=key_id, time=START * 2, sequence=0)
        listed = o.BlacklistEntry(
            header=world.header, signer=key_id, sequence=1, subject=world.public("alice"),
            reason=o.REASON_LOST, time=START,
        )  # fmt: skip
        coin = world.coin(1000, holder)
        for obj in (title, receipt, time, listed, coin, signer, world.certificate(holder)):
            forged = thief.sign(obj, foreign)
            assert not trust.signed_by_center(forged)
            assert not trust.signed_by_issuer(forged)
            assert not trust.signed_by_certification(forged)
    # An accusation of somebody else.
    other = thief.sign(world.claim("alice", "kiosk", [(title, 0, 10)]), foreign)
    for claims in ((claim, other), (claim, claim), (other, other)):
        with pytest.raises((EvidenceInvalid, WireError)):
            verify_evidence(o.Evidence(header=world.header, title=title, claims=claims), trust)
    world.center.close()


def test_what_was_redeemed_comes_back_once() -> None:
    """A bank brings the same redemption in other receipts, in forged ones, and under other titles."""
    world = World()
    issuing = IssuingLibrary(":memory:", world.key("issuer"), world.trust)
    bank = Holder("bank", world.key("bank"))
    issuing.add_reserve(bank.public, 100)
    title = world.center.register_coin(issuing.issue(bank.public, 100))
    claim = world.claim("bank", "issuer", [(title, 0, 40)])
    receipts = [world.settle(claim), world.settle(claim), world.settle(claim, claim)]
    assert issuing.credit(claim, (title,), receipts[0]) == 40
    assert [issuing.credit(claim, (title,), receipt) for receipt in receipts] == [0, 0, 0]
    twice = world.claim("bank", "issuer", [(title, 30, 60)])
    unpaid = world.claim("bank", "issuer", [(title, 60, 100)])
    disputed = world.settle(twice)
    forged = [bank.sign(receipts[0]), bank.sign(disputed), disputed, receipts[0]]
    for each in (twice, unpaid):
        for receipt in forged:
            with pytest.raises(BankError):
                issuing.credit(each, (title,), receipt)
    assert issuing.reserve(bank.public) == 40
    assert world.center.accounts()["redeemed_fen"] == 40
    issuing.close()
    world.center.close()

# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order: money is conserved, and only repeat payment is found as such.

The machine below keeps its own books, fen by fen, and compares them with the ledger after every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chipcash.center.errors import CenterRefused
from chipcash.evidence import verify_evidence
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import DAY, World, states

HONEST = ("alice", "bob", "shop")
CHEAT = "mallory"
EVERYBODY = (*HONEST, CHEAT)
PAYEES = (*EVERYBODY, "issuer")


@dataclass
class Known:
    """A claim as the model knows it. state: what a deposit of it brings, for each interval."""

    claim: o.Claim
    payer: str
    payee: str
    void: o.Void | None = None
    state: list[str] | None = None


class Books(RuleBasedStateMachine):
    """A model of the whole: for each fen of each coin the title it is live under, None if redeemed, b"" if
    recoined."""

    make_world = World

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.titles: dict[bytes, o.Title] = {}
        self.fens: dict[bytes, list[bytes | None]] = {}
        self.pointer: dict[bytes, int] = {}  # of honest owners, by title
        self.spent: list[tuple[bytes, int, int, bytes | None]] = []  # title, lo, hi, claim
        self.registered: list[tuple[bytes, int, int, bytes]] = []  # the same, whatever became of it
        self.known: list[Known] = []
        # And whether it registered claims.
        self.deposits: list[tuple[o.Deposit, o.Receipt, bool]] = []
        self.recoined: set[bytes] = set()  # serials of the center's own coins
        self.evidence: set[tuple[bytes, bytes, bytes]] = set()  # title, first claim, second claim

    # -- the model's rules --

    def live(self, item: o.Input) -> bool:
        fens = self.fens[self.titles[item.title_id].serial]
        return all(fen == item.title_id for fen in fens[item.lo : item.hi])

    def add(self, title: o.Title) -> None:
        title_id = object_id(title)
        assert title_id not in self.titles or self.titles[title_id] == title
        self.titles[title_id] = title
        self.pointer.setdefault(title_id, title.lo)

    def expect(self, known: Known, moved: list[tuple[o.Input, str]], reclaim: bool) -> list[str]:
        """What this claim must come to now; records what moves (item, new owner)."""
        claim, now = known.claim, self.world.now
        if known.state is not None and not reclaim:
            return known.state
        claim_id = object_id(claim)
        if not reclaim and known.void is not None:
            found = ["voided"] * len(claim.inputs)
        elif not reclaim and now > claim.deadline + DAY:
            found = ["expired"] * len(claim.inputs)
        else:
            found = []
            for at, item in enumerate(claim.inputs):
                before = known.state[at] if known.state else None
                if before not in (None, "expired", "voided"):
                    found.append(str(before))
                elif self.live(item):
                    found.append("reclaimed" if reclaim else "settled")
                    moved.append((item, known.payer if reclaim else known.payee))
                    self.spent.append((item.title_id, item.lo, item.hi, claim_id))
                    fens = self.fens[self.titles[item.title_id].serial]
                    fens[item.lo : item.hi] = [b"moving"] * (item.hi - item.lo)
                else:
                    first = next(
                        by
                        for title_id, lo, hi, by in self.spent
                        if title_id == item.title_id and lo < item.hi and hi > item.lo
                    )
                    if first == claim_id:
                        found.append("reclaimed")
                        continue
                    found.append("disputed")
        if known.state is None:
            known.state = found
            self.register(claim, claim_id)
        return found

    def register(self, claim: o.Claim, claim_id: bytes) -> None:
        """A claim is new to the center: the first on the same fen is evidence, whatever became of it."""
        for item in claim.inputs:
            for title_id, lo, hi, by in self.registered:
                if title_id == item.title_id and lo < item.hi and hi > item.lo:
                    self.evidence.add((title_id, by, claim_id))
                    break
        self.registered += [(x.title_id, x.lo, x.hi, claim_id) for x in claim.inputs]

    def apart(self, items: list[o.Input]) -> bool:
        """Whether intervals are more than one stretch of one coin."""
        spans = sorted((self.titles[x.title_id].serial, x.lo, x.hi) for x in items)
        return any((s, hi) != (t, lo) for (s, _, hi), (t, lo, _) in pairwise(spans))

    def ledger_of(self, serial: bytes) -> int:
        """Which ledger a coin is in, where there are several."""
        return 0

    def recoin(self, items: list[o.Input], title: o.Title) -> None:
        """All of it is one fresh coin of its owner, and on no other."""
        amount = sum(item.hi - item.lo for item in items)
        assert title.serial not in self.fens
        assert (title.lo, title.hi, title.amount, title.epoch) == (0, amount, amount, 1)
        self.fens[title.serial] = [object_id(title)] * amount
        self.recoined.add(title.serial)
        for item in items:
            fens = self.fens[self.titles[item.title_id].serial]
            fens[item.lo : item.hi] = [b""] * (item.hi - item.lo)

    def book(
        self, moved: list[tuple[o.Input, str]], titles: tuple[o.Title, ...], recoin: bool
    ) -> None:
        """Put what moved under the titles of the receipt; every one of them must fit exactly."""
        new = [title for title in titles if object_id(title) not in self.titles]
        for title in titles:
            self.add(title)
        together: dict[tuple[str, int], list[o.Input]] = {}
        for item, owner in moved:
            ledger = self.ledger_of(self.titles[item.title_id].serial)
            together.setdefault((owner, ledger), []).append(item)
        for (owner, ledger), items in together.items():
            if recoin and owner != "issuer" and self.apart(items):
                (title,) = [
                    title
                    for title in new
                    if (title.owner, self.ledger_of(title.serial))
                    == (self.world.public(owner), ledger)
                ]
                self.recoin(items, title)
                moved = [each for each in moved if each[0] not in items]
        for item, owner in moved:
            serial = self.titles[item.title_id].serial
            if owner == "issuer":
                under = None
            else:
                (under,) = [
                    object_id(title)
                    for title in titles
                    if (title.serial, title.owner) == (serial, self.world.public(owner))
                    and title.lo <= item.lo
                    and item.hi <= title.hi
                    and title.epoch > self.titles[item.title_id].epoch
                ]
            self.fens[serial][item.lo : item.hi] = [under] * (item.hi - item.lo)

    # -- what may happen --

    @precondition(lambda self: len(self.fens) - len(self.recoined) < 3)
    @rule(amount=st.integers(1, 12), owner=st.sampled_from(EVERYBODY))
    def issue(self, amount: int, owner: str) -> None:
        title = self.world.issue(amount, owner)
        self.add(title)
        self.fens[title.serial] = [object_id(title)] * amount

    @precondition(lambda self: self.titles)
    @rule(
        data=st.data(),
        payer=st.sampled_from(HONEST),
        payee=st.sampled_from(PAYEES),
        window=st.sampled_from([0, DAY, 7 * DAY]),
    )
    def pay(self, data: st.DataObject, payer: str, payee: str, window: int) -> None:
        """An honest card: from its pointers on, from titles that have not expired."""
        parts = []
        for title_id, title in self.titles.items():
            lo = self.pointer[title_id]
            fits = title.owner == self.world.public(payer) and lo < title.hi
            if fits and title.expiry >= self.world.now + window and len(parts) < 3:
                hi = data.draw(st.integers(lo, title.hi))
                if hi > lo:
                    parts.append((title, lo, hi))
                    self.pointer[title_id] = hi
        if parts:
            self.known.append(
                Known(self.world.claim(payer, payee, parts, window=window), payer, payee)
            )

    @precondition(lambda self: self.titles)
    @rule(data=st.data(), payee=st.sampled_from(PAYEES))
    def cheat(self, data: st.DataObject, payee: str) -> None:
        """A broken card: any parts of any titles that were ever its own."""
        own = [t for t in self.titles.values() if t.owner == self.world.public(CHEAT)]
        if not own:
            return
        parts = []
        for title in data.draw(st.lists(st.sampled_from(own), min_size=1, max_size=2, unique=True)):
            lo = data.draw(st.integers(title.lo, title.hi - 1))
            parts.append((title, lo, data.draw(st.integers(lo + 1, title.hi))))
        self.known.append(Known(self.world.claim(CHEAT, payee, parts), CHEAT, payee))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), forged=st.booleans())
    def deposit(self, data: st.DataObject, forged: bool) -> None:
        batch = data.draw(st.lists(st.sampled_from(self.known), min_size=1, max_size=5))
        claims = [known.claim for known in batch]
        if forged:
            claims.insert(0, claims[-1].signed(bytes(63) + b"\x01"))
        deposit = self.world.deposit(*claims)
        receipt = self.world.center.settle(deposit)
        found = states(receipt)
        if forged:
            assert set(found.pop(0)) == {"invalid"}
        registers = any(known.state is None for known in batch)
        moved: list[tuple[o.Input, str]] = []
        expected = [list(self.expect(known, moved, reclaim=False)) for known in batch]
        assert found == expected
        self.book(moved, receipt.titles, recoin=True)
        self.deposits.append((deposit, receipt, registers))

    @precondition(lambda self: self.deposits)
    @rule(data=st.data())
    def deposit_again(self, data: st.DataObject) -> None:
        deposit, receipt, kept = data.draw(st.sampled_from(self.deposits))
        again = self.world.center.settle(deposit)
        assert (again.results, set(again.titles)) == (receipt.results, set(receipt.titles))
        if kept:
            assert again.encode() == receipt.encode()

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.known))
        assume(known.payee != "issuer")
        void = self.world.void(known.payee, known.claim)
        self.world.center.register_void(void)
        known.void = void

    @precondition(lambda self: self.known)
    @rule(data=st.data(), voided=st.booleans())
    def reclaim(self, data: st.DataObject, voided: bool) -> None:
        known = data.draw(st.sampled_from(self.known))
        void = self.world.void(known.payee, known.claim) if voided else None
        request = self.world.reclaim(known.claim, void)
        final = known.state and not set(known.state) & {"expired", "voided"}
        due = self.world.now > known.claim.deadline + DAY or known.void or void
        try:
            receipt = self.world.center.reclaim(request)
        except CenterRefused as refused:
            assert refused.name == "not-yet"
            assert not final and not due
            return
        assert final or due
        if void and not final:
            known.void = void
        moved: list[tuple[o.Input, str]] = []
        assert states(receipt) == [self.expect(known, moved, reclaim=True)]
        self.book(moved, receipt.titles, recoin=False)

    @precondition(lambda self: self.titles)
    @rule(data=st.data())
    def reclaim_title(self, data: st.DataObject) -> None:
        title_id = data.draw(st.sampled_from(list(self.titles)))
        title = self.titles[title_id]
        try:
            receipt = self.world.center.reclaim(self.world.reclaim(title_id=title_id))
        except CenterRefused as refused:
            assert refused.name == "not-yet"
            assert self.world.now <= title.expiry + DAY
            return
        assert self.world.now > title.expiry + DAY
        for new in receipt.titles:
            assert (new.serial, new.owner) == (title.serial, title.owner)
            if object_id(new) not in self.titles:
                self.add(new)
                fens = self.fens[title.serial]
                assert set(fens[new.lo : new.hi]) == {title_id}
                fens[new.lo : new.hi] = [object_id(new)] * (new.hi - new.lo)
                self.spent.append((title_id, new.lo, new.hi, None))
        assert title_id not in self.fens[title.serial]

    @rule(seconds=st.sampled_from([1, DAY, 3 * DAY, 400 * DAY]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    # -- what must hold after every step --

    @invariant()
    def money_is_conserved(self) -> None:
        center = self.world.center
        center.check()
        for serial, fens in self.fens.items():
            owners = [self.titles[t].owner.hex() if t else None for t in fens]
            assert self.world.holdings(serial) == owners
            parts = center.coin(serial)["partition"]
            recoined = sum(x["hi"] - x["lo"] for x in parts if x["state"] == "recoined")
            assert recoined == fens.count(b"")
        accounts = center.accounts()
        issued = sum(len(fens) for x, fens in self.fens.items() if x not in self.recoined)
        redeemed = sum(fens.count(None) for fens in self.fens.values())
        assert (accounts["issued_fen"], accounts["redeemed_fen"]) == (issued, redeemed)
        assert accounts["live_fen"] == sum(accounts["owners"].values()) == issued - redeemed

    @invariant()
    def titles_are_what_is_live(self) -> None:
        for name in EVERYBODY:
            owner = self.world.public(name)
            live = {
                title_id
                for title_id, title in self.titles.items()
                if title.owner == owner and title_id in self.fens[title.serial]
            }
            assert {object_id(title) for title in self.world.center.titles(owner)} == live

    @invariant()
    def each_repeat_payment_is_found_once_and_nobody_else_is_accused(self) -> None:
        found = []
        for known in self.known:
            if known.state is not None:
                for digest in self.world.center.claim(object_id(known.claim))["evidence"]:
                    evidence = self.world.center.evidence(bytes.fromhex(digest))
                    facts = verify_evidence(evidence, self.world.trust)
                    assert facts.payer == self.world.public(CHEAT)
                    found.append((facts.title_id, *facts.claim_ids))
        assert sorted(found) == sorted(self.evidence)
        entries, signed_time = self.world.center.blacklist()
        assert [entry.subject for entry in entries] == (
            [self.world.public(CHEAT)] if self.evidence else []
        )
        assert signed_time.sequence == len(entries)

    def teardown(self) -> None:
        self.world.center.close()


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.long
def test_many_books() -> None:
    run_state_machine_as_test(Books, settings=settings(TestBooks.settings, max_examples=1000))


@st.composite
def disjoint_parts(draw: st.DrawFn) -> list[list[tuple[int, int, int]]]:
    """Claims as lists of (coin, lo, hi) that never overlap."""
    pieces = []
    for coin in range(2):
        cuts = sorted(draw(st.sets(st.integers(0, 20), min_size=2, max_size=8)))
        pieces += [(coin, lo, hi) for lo, hi in pairwise(cuts)]
    pieces = draw(st.permutations(pieces))
    claims: list[list[tuple[int, int, int]]] = []
    for piece in pieces:
        if claims and all(piece[0] != other[0] for other in claims[-1]) and draw(st.booleans()):
            claims[-1].append(piece)
        else:
            claims.append([piece])
    return claims


def settled_in_batches(
    claims: list[o.Claim], sizes: list[int]
) -> tuple[list[list[str]], list[list[str | None]]]:
    """Outcomes and final owners when the claims come in deposits of these sizes, then singly."""
    world = World()
    for serial in (b"a" * 16, b"b" * 16):
        world.issue(20, CHEAT, serial)
    left = list(claims)
    found = []
    for size in [*sizes, *[1] * len(left)]:
        batch, left = left[:size], left[size:]
        if batch:
            found += states(world.settle(*batch))
    world.center.check()
    holdings = [world.followed(serial) for serial in (b"a" * 16, b"b" * 16)]
    world.center.close()
    return found, holdings


@settings(max_examples=40, deadline=None)
@given(disjoint_parts(), st.data())
def test_disjoint_claims_settle_alike_in_any_order_and_batching(
    parts: list[list[tuple[int, int, int]]], data: st.DataObject
) -> None:
    world = World()
    titles = [world.issue(20, CHEAT, serial) for serial in (b"a" * 16, b"b" * 16)]
    claims = [
        world.claim(CHEAT, HONEST[at % 3], [(titles[coin], lo, hi) for coin, lo, hi in part])
        for at, part in enumerate(parts)
    ]
    shuffled = data.draw(st.permutations(claims))
    sizes = data.draw(st.lists(st.integers(1, 5), max_size=4))
    one, holdings = settled_in_batches(claims, [])
    other, same = settled_in_batches(shuffled, sizes)
    assert holdings == same
    assert {state for found in one + other for state in found} == {"settled"}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(1, 8)), min_size=1, max_size=8), st.data()
)
def test_a_batch_is_the_same_as_one_by_one_also_where_claims_overlap(
    spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    world = World()
    titles = [world.issue(20, CHEAT, serial) for serial in (b"a" * 16, b"b" * 16)]
    claims = [
        world.claim(CHEAT, HONEST[lo % 3], [(titles[at % 2], lo, min(20, lo + length))])
        for at, (lo, length) in enumerate(spans)
    ]
    sizes = data.draw(st.lists(st.integers(1, 8), max_size=3))
    assert settled_in_batches(claims, sizes) == settled_in_batches(claims, [])

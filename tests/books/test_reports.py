# SPDX-License-Identifier: Apache-2.0
"""Shift and day reports: they balance with the till, and leave out nothing and no time, whatever happens."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chipcash.card import CardError
from chipcash.center.errors import CenterUnreachable
from chipcash.pos import PaymentState, Pos, PosError
from chipcash.pos.events import Account, What, events, position
from chipcash.pos.reports import Kind, Report, chain, shift_report
from chipcash.pos.store import Store
from chipcash.terminal import Refusal
from chipcash.transports import open_path
from chipcash_wire import objects as o
from tests.builders import DAY, NOW
from tests.pos.shop import BadNetwork, Crash, Shop, crash_at, crash_from_here
from tests.pos.test_at_rest import old_till


def copied(path: str, name: str) -> str:
    """A clone of a card with all that is on it."""
    image = Path(path.removeprefix("sim:"))
    copy = image.with_name(name)
    shutil.copyfile(image, copy)
    return f"sim:{copy}"


def tamper(store: Store, statement: str, *values: object) -> None:
    """Change a till's books by other means than the till's."""
    with store.transaction():
        store.execute(statement, *values)


def agrees(shop: Shop, report: Report) -> None:
    """A report that goes to now has what the till says it has."""
    balance = shop.pos.balance()
    closing = report.closing
    assert closing[Account.PENDING] + closing[Account.SUBMITTED] == balance.pending_fen
    assert closing[Account.VERIFIED] == balance.verified_fen
    assert closing[Account.LEAVING] == balance.leaving_fen
    assert closing[Account.DISPUTED] == balance.disputed_fen
    assert closing[Account.EXPIRED] == balance.expired_fen


class Day(RuleBasedStateMachine):
    """Anything that may happen at a till, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.shop = Shop(Path(self.folder.name))
        self.shop.pos.sync(self.shop.center)
        self.card = self.shop.card(money=(2000, 3000, 4000), cumulative=10**6, count=10**6)
        self.clone = copied(self.card, "clone.img")
        self.zs: list[str] = []
        self.shop.pay(self.card, 1000)
        self.taken = 1000

    def teardown(self) -> None:
        self.shop.close()
        self.folder.cleanup()

    @property
    def center(self) -> BadNetwork:
        return BadNetwork(self.shop.center, -1, answer=False)

    @rule(
        amounts=st.lists(st.integers(1, 500), min_size=1, max_size=3),
        cloned=st.booleans(),
        who=st.sampled_from(["", "an", "bo"]),
    )
    def charge(self, amounts: list[int], cloned: bool, who: str) -> None:
        self.shop.pos.operator = who
        for amount in amounts:
            try:
                self.shop.pay(self.clone if cloned else self.card, amount)
                self.taken += amount
            except (PosError, CardError, Refusal):
                pass  # an empty card, one on the blacklist, an old blacklist

    @rule()
    def sync(self) -> None:
        self.shop.pos.sync(self.shop.center)

    @rule(lose=st.integers(0, 4), answer=st.booleans())
    def sync_badly(self, lose: int, answer: bool) -> None:
        try:
            self.shop.pos.sync(BadNetwork(self.shop.center, lose, answer=answer))
        except CenterUnreachable:
            pass

    @rule(amount=st.integers(1, 500), lose=st.booleans(), redeem=st.booleans())
    def pay_out(self, amount: int, lose: bool, redeem: bool) -> None:
        center = BadNetwork(self.shop.center, 0 if lose else -1, answer=True)
        try:
            if redeem:
                self.shop.pos.redeem(center, amount)
            else:
                self.shop.pos.spend(amount, self.shop.net.public("bank"), center)
        except (PosError, CenterUnreachable):
            pass

    @rule(amount=st.integers(1, 300))
    def refund(self, amount: int) -> None:
        for payment in self.shop.pos.payments(PaymentState.VERIFIED)[:1]:
            try:
                self.shop.pos.refund(payment.claim_id, amount, self.center)
            except PosError:
                pass

    @rule(amount=st.integers(1, 300))
    def somebody_else_pays(self, amount: int) -> None:
        coin = self.shop.net.coin(amount, self.shop.pos.public)
        self.shop.center.register_coin(coin)

    @rule(seconds=st.sampled_from([-3600, 1, DAY, 9 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.shop.now += seconds

    @rule()
    def the_power_goes(self) -> None:
        self.shop.crash()

    @rule(who=st.sampled_from(["an", "bo"]))
    def change_shift(self, who: str) -> None:
        self.shop.pos.operator = who
        if self.shop.pos.shift is None:
            self.shop.pos.open_shift()
            return
        look = self.shop.pos.x_report()
        report = self.shop.pos.z_report(self.shop.pos.close_shift().number)
        assert report.kind == Kind.Z
        assert (look.lines, look.closing) == (report.lines, report.closing)
        self.zs.append(json.dumps(report.as_dict()))

    @rule(amount=st.integers(1, 500), syncs=st.booleans(), pays_out=st.booleans())
    def close_while_another_works(self, amount: int, syncs: bool, pays_out: bool) -> None:
        """What another process does while the Z is made is not held up, and is in the next."""
        if self.shop.pos.shift is None:
            self.shop.pos.open_shift()
        look = self.shop.pos.x_report()

        def meanwhile(*values: Any, **named: Any) -> Report:
            with Pos(self.shop.pos.directory, clock=lambda: self.shop.now) as other:
                try:
                    with open_path(self.card) as connection:
                        other.charge(connection, amount)
                    self.taken += amount
                except (PosError, CardError, Refusal):
                    pass
                if syncs:
                    other.sync(self.shop.center)
                if pays_out:
                    with suppress(PosError):
                        other.redeem(self.center, 1)
            return shift_report(*values, **named)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("chipcash.pos.shifts.shift_report", meanwhile)
            shift = self.shop.pos.close_shift()
        report = self.shop.pos.z_report(shift.number)
        assert (look.lines, look.closing) == (report.lines, report.closing)
        self.zs.append(json.dumps(report.as_dict()))

    @invariant()
    def a_look_balances(self) -> None:
        report = self.shop.pos.x_report()
        assert report.balances() and not report.differences
        agrees(self.shop, report)
        assert sum(report.closing.values()) == 0
        assert Report.from_dict(json.loads(json.dumps(report.as_dict()))) == report

    @invariant()
    def z_reports_hold_all_of_it_once(self) -> None:
        reports = [self.shop.pos.z_report(n + 1) for n in range(len(self.zs))]
        assert [json.dumps(report.as_dict()) for report in reports] == self.zs  # never changed
        last = self.shop.pos.x_report()
        for before, after in zip(reports, [*reports[1:], last], strict=False):
            assert after.opening == before.closing
            assert after.since == before.until <= after.until
        for what in What:
            counted = sum(report.line(what).fen for report in [*reports, last])
            if what == What.TAKEN:
                assert counted == self.taken
            if what == What.REDEEMED:
                assert counted == last.closing[Account.REDEEMED]

    @invariant()
    def days_hold_all_of_it_once(self) -> None:
        """By the clock, cut anywhere."""
        happened = events(self.shop.pos.store)
        cuts = [0, *sorted({event.time for event in happened[::3]}), 1 << 40]
        days = [self.shop.pos.day_report(since, until) for since, until in pairwise(cuts)]
        for before, after in pairwise(days):
            assert after.opening == before.closing
        assert all(day.balances() for day in days)
        assert dict(days[-1].closing) == position(happened)
        assert sum(day.line(What.TAKEN).fen for day in days) == self.taken
        assert days[-1].states == {
            state: (total.count, total.fen)
            for state, total in self.shop.pos.summary().states.items()
        }

    @invariant()
    def groups_are_the_whole(self) -> None:
        report = self.shop.pos.x_report()
        for by in ("operator", "tier", "link"):
            fen = sum(g.lines[0].fen for g in report.groups if g.by == by)
            assert fen == report.line(What.TAKEN).fen, by


TestDay = Day.TestCase
TestDay.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_payment_of_two_shifts_is_explained_in_both(shop: Shop) -> None:
    pos = shop.pos
    pos.operator = "an"
    pos.open_shift()
    path = shop.card()
    shop.pay(path, 1200)
    clone = copied(path, "clone.img")
    first = pos.z_report(pos.close_shift().number)
    pos.operator = "bo"
    pos.open_shift()
    shop.pay(path, 300)
    shop.pay(clone, 500)
    pos.sync(shop.center)
    pos.refund(pos.payments(PaymentState.VERIFIED)[0].claim_id, 100, shop.center)
    second = pos.z_report(pos.close_shift().number)
    assert (first.line(What.TAKEN).fen, first.closing[Account.PENDING]) == (1200, 1200)
    assert (first.opened_by, first.closed_by, second.opened_by) == ("an", "an", "bo")
    verified, disputed = second.line(What.VERIFIED), second.line(What.DISPUTED)
    assert (verified.count, verified.fen) == (2, 1500)
    assert (verified.earlier, verified.earlier_fen) == (1, 1200)
    assert (disputed.fen, disputed.earlier_fen) == (500, 0)
    refunded = second.line(What.REFUNDED)
    assert (refunded.fen, refunded.earlier) == (100, 0)
    by = {group.value: group.lines for group in second.groups if group.by == "operator"}
    assert {line.what: line.fen for line in by["an"]}[What.VERIFIED] == 1200
    assert {(group.by, group.value) for group in second.groups} >= {("tier", "3"), ("link", "sim")}


def test_a_z_is_written_with_its_shifts_end_and_can_be_had_again(shop: Shop) -> None:
    pos = shop.pos
    with pytest.raises(PosError, match="No shift was closed"):
        pos.z_report()
    pos.open_shift()
    shop.pay(shop.card(), 700)
    shift = pos.close_shift()
    assert shift.report is not None
    shop.now += DAY
    pos.sync(shop.center)
    shop.crash()
    assert shop.pos.z_report() == Report.from_dict(json.loads(shift.report))
    assert shop.pos.x_report().line(What.VERIFIED).earlier_fen == 700
    with pytest.raises(PosError, match="no Z report of that shift"):
        shop.pos.z_report(7)
    with pytest.raises(PosError, match="no report of a till that this program knows"):
        Report.from_dict({"version": 99})


def test_a_shift_is_closed_by_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who close it at the same time; the other one's report is dropped, also behind a new shift."""
    shop.pos.open_shift()
    shop.pay(shop.card(), 700)

    def meanwhile(*values: Any, **named: Any) -> Report:
        monkeypatch.setattr("chipcash.pos.shifts.shift_report", shift_report)
        with Pos(shop.pos.directory, clock=lambda: shop.now, operator="wang") as other:
            other.close_shift()
            other.open_shift()
        return shift_report(*values, **named)

    monkeypatch.setattr("chipcash.pos.shifts.shift_report", meanwhile)
    with pytest.raises(PosError, match="Shift 1 was closed by somebody else"):
        shop.pos.close_shift()
    first, second = shop.pos.shifts()[::-1]
    assert (first.closed_by, second.closed) == ("wang", None)
    assert shop.pos.z_report().line(What.TAKEN).fen == 700


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_day_close_that_is_cut_off_anywhere(shop: Shop, after: bool) -> None:
    """The shift is open and has no report, or it is closed and has the one that it would have had."""
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    shop.pos.open_shift()
    wanted = shop.pos.x_report()
    statements = 0
    while shop.pos.shift is not None:
        shop.crash()
        try:
            with crash_at(1 << 30, after=after):
                pos = shop.pos
                crash_from_here(statements)
                pos.close_shift()
        except Crash:
            pass
        shop.crash()
        statements += 1
        report = shop.pos.x_report()
        assert report.balances() and report.closing == wanted.closing
        if shop.pos.shift is not None:
            assert report.lines == wanted.lines
            with pytest.raises(PosError, match="No shift was closed"):
                shop.pos.z_report()
    closed = shop.pos.z_report()
    assert (closed.number, closed.lines, closed.closing) == (1, wanted.lines, wanted.closing)
    assert statements > 5
    assert not [line for line in shop.pos.x_report().lines if line.count]


def test_what_did_not_settle_comes_back_otherwise(shop: Shop) -> None:
    """An order whose deadline passed on its way: the books say where its money is at any time."""
    pos = shop.pos
    shop.pay(shop.card(), 1200)
    pos.sync(shop.center)
    with pytest.raises(CenterUnreachable):
        pos.spend(500, shop.net.public("bank"), BadNetwork(shop.center, 0, answer=False))
    assert pos.x_report().closing[Account.LEAVING] == 500
    shop.now += 3 * DAY
    pos.sync(shop.center)
    report = pos.x_report()
    assert report.line(What.RETURNED).fen == 500
    (row,) = pos.store.all("SELECT data FROM deposits WHERE kind = 'SPEND'")
    (claim,) = o.Deposit.decode(row["data"]).claims
    shop.center.reclaim(o.Reclaim(header=shop.net.header, claims=(claim,), voids=()))
    pos.sync(shop.center)
    report = pos.x_report()
    assert report.line(What.CAME).fen == 500
    assert report.closing[Account.VERIFIED] == 1200 and report.closing[Account.OTHERWISE] == 0


def test_books_that_were_tampered_with_do_not_balance(shop: Shop) -> None:
    pos = shop.pos
    shop.pay(shop.card(), 1200)
    pos.sync(shop.center)
    assert not pos.x_report().differences
    tamper(pos.store, "DELETE FROM changes WHERE after = 'VERIFIED'")
    assert pos.x_report().differences == {Account.SUBMITTED: -1200}


def test_books_of_an_older_version_balance_too(tmp_path: Path) -> None:
    with Pos(old_till(tmp_path / "till"), clock=lambda: NOW) as pos:
        report = pos.x_report()
        assert report.balances() and not report.differences
        assert report.line(What.TAKEN).count == 3
        assert report.closing[Account.VERIFIED] == 3880 and not report.line(What.CAME).count
        assert [str(x.after) for x in pos.changes(pos.payments()[0].claim_id)] == ["PENDING"]
        assert pos.day_report(0, NOW + DAY).closing == report.closing


def test_a_chain_of_tills(tmp_path: Path) -> None:
    reports = []
    for number, amount in enumerate((700, 900)):
        folder = tmp_path / str(number)
        folder.mkdir()
        shop = Shop(folder)
        shop.pos.sync(shop.center)
        shop.pay(shop.card(), amount)
        reports.append(shop.pos.day_report(0, shop.now + 1))
        shop.close()
    whole = chain(reports)
    assert whole.balances()
    assert (whole.line(What.TAKEN).count, whole.line(What.TAKEN).fen) == (2, 1600)
    assert whole.states[PaymentState.PENDING] == (2, 1600)
    tills = {group.value: group.lines[0].fen for group in whole.groups if group.by == "till"}
    assert sorted(tills.values()) == [700, 900]
    with pytest.raises(PosError, match="no till"):
        chain([])

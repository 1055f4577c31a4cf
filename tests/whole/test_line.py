# SPDX-License-Identifier: Apache-2.0
"""Conservation over the whole line: whatever is issued, loaded, paid, torn, retried, given up, cloned,
synchronised, refunded, redeemed and reclaimed, in whatever order, no fen appears or is lost, and each repeat
payment is found exactly once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chipcash.bank.errors import BankError
from chipcash.card import Card, CardError
from chipcash.cardholder import load
from chipcash.center.errors import CenterRefused, CenterUnreachable
from chipcash.errors import LinkLostError
from chipcash.evidence import verify_evidence
from chipcash.pos import Pos
from chipcash.pos.errors import AnswerLost, PosError
from chipcash.pos.model import OpenRequest, PaymentState, Transfer
from chipcash.terminal import Refusal
from chipcash.trust import object_id
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.whole.line import CHEAT, DAY, HONEST, START, Fault, Line, Wallet

T = TypeVar("T")
GRACE = DAY
MONEY = st.integers(1, 400)
PRICE = st.integers(1, 150)
WHO = st.integers(0, 7)  # taken modulo how many there are


def now_and_then(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """None in two of three."""
    return st.tuples(st.integers(0, 2), strategy).map(lambda two: two[1] if two[0] == 2 else None)


def faults(apdus: int) -> st.SearchStrategy[Fault | None]:
    """Faults of a tap of so many APDUs."""
    return now_and_then(
        st.builds(Fault, after=st.integers(1, apdus))
        | st.builds(Fault, before=st.integers(1, apdus))
        | st.builds(Fault, write=st.integers(0, 12), half=st.booleans())
    )


LOSSES = now_and_then(st.tuples(st.integers(0, 7), st.booleans()))
CARD_SAYS_NO = {
    c.SW_INSUFFICIENT_FUNDS, c.SW_LIMIT_CUMULATIVE, c.SW_LIMIT_COUNT, c.SW_EXPIRED, c.SW_TIME_FUTURE,
    c.SW_TIME_PAST,
}  # fmt: skip

happened: Counter[str] = Counter()
"""What all examples together brought about."""
MUST_HAPPEN = {
    "loaded", "paid", "torn", "retried", "given up", "refused", "synchronised", "sync cut off", "settled",
    "expired", "reclaimed", "title returned", "repeat payment", "SPEND settled", "REFUND settled",
    "REDEEM settled", "transfer too late", "all home", "refund promised", "promise KEPT",
}  # fmt: skip
"""Rules that are only ever refused would prove nothing."""


class Machine(RuleBasedStateMachine):
    """Two honest cards, one that may be cloned, two merchants, a bank. Amounts in fen."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.paid_in = 0
        self.issued = 0
        self.credited = 0
        self.balances: dict[str, tuple[bytes, int]] = {}
        self.steps = 0

    def teardown(self) -> None:
        happened.update(self.line.center.counts)
        if self.line.center.repeats:
            happened["repeat payment"] += len(self.line.center.repeats)
        self.line.close()

    # -- who --

    def wallet(self, which: int) -> Wallet:
        return self.line.wallets[which % len(self.line.wallets)]

    def merchant(self, which: int) -> Pos:
        return self.line.merchants[which % 2]

    def lose(self, loss: tuple[int, bool] | None) -> None:
        """From now on until it is mended: whether and where the line to the center breaks."""
        self.line.wire.lose, self.line.wire.answer = loss or (None, False)

    # -- money in --

    @initialize(amounts=st.lists(MONEY, min_size=3, max_size=9))
    def begin(self, amounts: list[int]) -> None:
        """Every card has some money, in several titles perhaps."""
        for number, fen in enumerate(amounts):
            self.withdraw(number, fen, None, None)

    @rule(fen=MONEY)
    def issue(self, fen: int) -> None:
        """The bank pays in reserves and gets a coin."""
        line = self.line
        line.issuing.add_reserve(line.bank.public, fen)
        coin = line.issuing.issue(line.bank.public, fen)
        self.paid_in += fen
        self.issued += fen
        title = line.center.register_coin(coin)
        line.bank.add(title)
        line.bank.add(line.center.register_coin(coin))

    @rule(who=WHO, fen=MONEY, fault=faults(4), loss=LOSSES)
    def withdraw(
        self, who: int, fen: int, fault: Fault | None, loss: tuple[int, bool] | None
    ) -> None:
        """The bank pays out to a card, which may be torn while it takes the titles, or take none at all."""
        line = self.line
        wallet = self.wallet(who)
        if line.bank.balance() < fen:
            self.issue(fen)
        self.lose(loss)
        try:
            titles = line.bank.withdraw(fen, wallet.public).titles
            with line.tap(wallet, fault) as tap:
                card = Card(tap)
                card.select()
                for title in titles:
                    load(card, title)
            happened["loaded"] += 1
        except BankError as error:
            assert error.reason == "funds"  # what it has expires too soon
        except CardError as error:
            assert error.sw == c.SW_NO_SPACE
        except (CenterUnreachable, LinkLostError):
            pass
        finally:
            self.lose(None)

    @rule(who=WHO, fen=MONEY, days=st.sampled_from([0, 1, 9]))
    def withdraw_later(self, who: int, fen: int, days: int) -> None:
        """The line is dead when the bank pays out, and comes back after some days."""
        self.withdraw(who, fen, None, (0, False))
        self.line.now += days * DAY
        self.resume()

    def resume(self) -> None:
        """The bank completes what the line has cut off."""
        try:
            self.line.bank.resume()
        except BankError as error:
            # Too late for the payee: what was not settled is the bank's again.
            assert error.reason == "outcome"
            happened["transfer too late"] += 1

    # -- paying --

    @rule(
        payments=st.lists(
            st.tuples(WHO, WHO, PRICE, faults(2), st.booleans()), min_size=1, max_size=4
        )
    )
    def pay(self, payments: list[tuple[int, int, int, Fault | None, bool]]) -> None:
        for payment in payments:
            self._pay(*payment)

    def _pay(self, who: int, at: int, fen: int, fault: Fault | None, fresh: bool) -> None:
        pos = self.merchant(at)
        if self.line.now - pos.blacklist.time > pos.policy.blacklist_max_age:
            pos.sync(self.line.center)
        try:
            with self.line.tap(self.wallet(who), fault) as tap:
                pos.charge(tap, fen, fresh=fresh)
            happened["paid"] += 1
        except AnswerLost:
            happened["torn"] += 1
        except CardError as error:
            assert error.sw in CARD_SAYS_NO, error.message
        except Refusal as error:
            assert error.reason == "blacklisted" and self.wallet(who).name == CHEAT
            happened["refused"] += 1
        except (LinkLostError, PosError):
            pass

    @rule(who=WHO, at=WHO, which=WHO, fault=faults(3))
    def retry(self, who: int, at: int, which: int, fault: Fault | None) -> None:
        """An open request again, to whichever card comes."""
        pos = self.merchant(at)
        requests = self._open_requests(at, who)
        if not requests:
            return
        try:
            with self.line.tap(self.wallet(who), fault) as tap:
                pos.retry(tap, requests[which % len(requests)].nonce)
            happened["retried"] += 1
        except CardError as error:
            assert error.sw in CARD_SAYS_NO, error.message
        except Refusal as error:
            # A first try of long ago may be answered only now.
            blacklisted = error.reason == "blacklisted" and self.wallet(who).name == CHEAT
            assert blacklisted or error.reason in ("deadline", "title-expired")
        except (LinkLostError, PosError):
            pass

    @rule(at=WHO, which=WHO)
    def give_up(self, at: int, which: int) -> None:
        requests = self._open_requests(at, which)
        if requests:
            nonce = requests[which % len(requests)].nonce
            assert self.merchant(at).give_up(nonce) is not None
            happened["given up"] += 1

    def _open_requests(self, at: int, who: int) -> Sequence[OpenRequest]:
        """The open requests of a merchant; where there is none, one is made, and its answer lost."""
        pos = self.merchant(at)
        if not pos.open_requests():
            self._pay(who, at, 5, Fault(after=2), True)
        return pos.open_requests()

    @precondition(lambda self: len(self.line.wallets) < 5)
    @rule(which=WHO, fen=PRICE, elsewhere=PRICE, again=st.booleans())
    def clone(self, which: int, fen: int, elsewhere: int, again: bool) -> None:
        """A copy of the cheat's flash, as it is now; both pay. Again: once more, when all is known."""
        mine = [at for at, wallet in enumerate(self.line.wallets) if wallet.name == CHEAT]
        at = mine[which % len(mine)]
        self.line.wallets.append(self.line.wallets[at].clone())
        self._pay(at, which, fen, None, True)
        self._pay(len(self.line.wallets) - 1, which + 1, elsewhere, None, True)
        if again:
            for pos in self.line.merchants * 2:
                pos.sync(self.line.center)
            self._pay(at, which, 1, None, True)

    # -- online --

    @rule(at=WHO, loss=LOSSES)
    def sync(self, at: int, loss: tuple[int, bool] | None) -> None:
        self.lose(loss)
        try:
            for promise in self.merchant(at).sync(self.line.wire).promises:
                happened[f"promise {promise.state}"] += 1
        except CenterUnreachable:
            happened["sync cut off"] += 1
        self.lose(None)

    @rule(at=WHO, which=WHO, fen=PRICE, loss=LOSSES)
    def refund(self, at: int, which: int, fen: int, loss: tuple[int, bool] | None) -> None:
        pos = self.merchant(at)
        if not pos.payments():
            self._pay(which, at, fen, None, True)
            pos.sync(self.line.center)
        payments = [each for each in pos.payments() if each.settled_fen]
        if not payments:
            return
        payment = payments[which % len(payments)]
        fen = min(fen, payment.settled_fen)
        self._transfer(lambda: pos.refund(payment.claim_id, fen, self.line.wire), loss)

    @rule(at=WHO, which=WHO, fen=PRICE, loss=LOSSES)
    def promise(self, at: int, which: int, fen: int, loss: tuple[int, bool] | None) -> None:
        """A merchant promises to give pending money back, and synchronises."""
        pos = self.merchant(at)
        if not pos.queue():
            self._pay(which, at, fen, None, True)
        pending = pos.queue()
        if pending:
            payment = pending[which % len(pending)]
            try:
                pos.promise_refund(payment.claim_id, min(fen, payment.amount))
                happened["refund promised"] += 1
            except PosError:
                pass  # all of it is promised already
        self.sync(at, loss)

    @rule(at=WHO, fen=PRICE, to_bank=st.booleans(), loss=LOSSES)
    def spend(self, at: int, fen: int, to_bank: bool, loss: tuple[int, bool] | None) -> None:
        """A merchant pays the other one, or brings its takings to the bank."""
        pos = self.merchant(at)
        payee = self.line.bank.public if to_bank else self.merchant(at + 1).public
        fen = min(fen, max(pos.balance().verified_fen, 1))
        self._transfer(lambda: pos.spend(fen, payee, self.line.wire), loss)

    @rule(at=WHO, fen=PRICE, loss=LOSSES)
    def redeem(self, at: int, fen: int, loss: tuple[int, bool] | None) -> None:
        pos = self.merchant(at)
        fen = min(fen, max(pos.balance().verified_fen, 1))
        self._transfer(lambda: pos.redeem(self.line.wire, fen), loss)

    def _transfer(self, transfer: Callable[[], Transfer], loss: tuple[int, bool] | None) -> None:
        self.lose(loss)
        try:
            done = transfer()
            happened[f"{done.kind} settled" if done.settled_fen else f"{done.kind} too late"] += 1
        except (PosError, CenterUnreachable):
            pass
        self.lose(None)

    @rule(fen=MONEY, loss=LOSSES)
    def bank_redeems(self, fen: int, loss: tuple[int, bool] | None) -> None:
        """The bank takes what merchants brought, and gives money back for its reserve."""
        line = self.line
        line.bank.renew()
        for title in line.center.titles(line.bank.public):
            line.bank.add(title)
        self.lose(loss)
        try:
            line.bank.redeem(fen)
        except BankError as error:
            assert error.reason == "funds"
        except CenterUnreachable:
            pass
        self.lose(None)
        for done in line.bank.redemptions():
            for claim, spent in zip(done.deposit.claims, done.spent, strict=True):
                try:
                    self.credited += line.issuing.credit(claim, spent, done.receipt)
                except BankError as error:
                    assert error.reason == "receipt"  # nothing of it was settled

    @rule(who=WHO, fault=faults(14), loss=LOSSES)
    def synchronise(self, who: int, fault: Fault | None, loss: tuple[int, bool] | None) -> None:
        """A cardholder's app: limits, time, reclaims, titles."""
        self.lose(loss)
        try:
            self.line.synchronise(self.wallet(who), fault)
            happened["synchronised"] += 1
        except (CenterUnreachable, LinkLostError):
            pass
        self.lose(None)

    @rule(which=WHO)
    def anybody_reclaims(self, which: int) -> None:
        """A title that has expired goes back to its owner, whoever asks."""
        center = self.line.center
        keys = sorted(bytes.fromhex(owner) for owner in center.accounts()["owners"])
        titles = [title for owner in keys for title in center.titles(owner)]
        if titles:
            title = titles[which % len(titles)]
            reclaim = o.Reclaim(
                header=self.line.trust.header, claims=(), voids=(), title_id=object_id(title)
            )
            try:
                center.reclaim(reclaim)
            except CenterRefused as refused:
                assert refused.name == "not-yet" and self.line.now <= title.expiry + GRACE

    @rule(days=st.sampled_from([0.04, 0.04, 1, 1, 3, 3, 9, 9, 40, 367]))
    def wait(self, days: float) -> None:
        if self.line.now < START + 1200 * DAY:  # the cards' certificates end after five years
            self.line.now += int(days * DAY)

    @precondition(lambda self: self.steps > 25)
    @rule()
    def everything_comes_home(self) -> None:
        """Once all is synchronised and every deadline is over, each has what the center says it owns."""
        line = self.line
        self.steps = 0
        for pos in line.merchants:
            for request in pos.open_requests():
                pos.give_up(request.nonce)
            pos.sync(line.center)
        line.now += 9 * DAY
        self.resume()
        for wallet in line.wallets[: len(HONEST)]:
            line.synchronise(wallet)
        line.now += 367 * DAY  # what only the titles' expiry brings back
        line.bank.renew()
        for title in line.center.titles(line.bank.public):
            line.bank.add(title)
        for owner in [pos.public for pos in line.merchants]:
            for title in line.center.titles(owner):
                if line.now > title.expiry + GRACE:
                    line.center.reclaim(
                        o.Reclaim(
                            header=line.trust.header,
                            claims=(),
                            voids=(),
                            title_id=object_id(title),
                        )
                    )
        for pos in line.merchants:
            pos.sync(line.center)
            assert pos.balance().verified_fen == line.live(pos.public)
            assert pos.balance().leaving_fen == pos.balance().pending_fen == 0
        assert line.bank.balance() == line.live(line.bank.public)
        for wallet in line.wallets[: len(HONEST)]:
            if not line.synchronise(wallet):  # else it is full, and the rest is for later
                assert line.balance(wallet) == line.live(wallet.public)
                happened["all home"] += 1

    # -- what must hold after every step --

    @invariant()
    def money_is_conserved(self) -> None:
        self.steps += 1
        line = self.line
        line.center.check()
        accounts = line.center.accounts()
        assert accounts["issued_fen"] == self.issued
        assert accounts["issued_fen"] == accounts["live_fen"] + accounts["redeemed_fen"]
        assert accounts["live_fen"] == sum(accounts["owners"].values())
        reserve = line.issuing.reserve(line.bank.public)
        assert reserve + self.issued - self.credited == self.paid_in
        assert self.credited <= accounts["redeemed_fen"]

    @invariant()
    def nobody_has_more_than_the_center_says(self) -> None:
        line = self.line
        for pos in line.merchants:
            assert pos.balance().verified_fen <= line.live(pos.public)
        assert line.bank.balance() <= line.live(line.bank.public)
        for wallet in line.wallets[: len(HONEST)]:
            content = bytes(wallet.content)
            if self.balances.get(wallet.name, (b"", 0))[0] != content:
                self.balances[wallet.name] = content, line.balance(wallet)
            # What it has paid and nobody has deposited yet is live under its key as well.
            under_way = sum(
                payment.amount
                for pos in line.merchants
                for payment in pos.balance().pending
                if payment.payer == wallet.public
                and payment.claim_id not in line.center.claims
                and line.now <= payment.deadline + GRACE
            )
            assert self.balances[wallet.name][1] + under_way <= line.live(wallet.public)

    @invariant()
    def no_more_goes_back_than_was_settled(self) -> None:
        for pos in self.line.merchants:
            for promise in pos.promises():
                payment = pos.payment(promise.claim_id)
                assert promise.paid_fen <= min(promise.amount, payment.settled_fen)
                sent = pos.store.row(
                    "SELECT coalesce(sum(coalesce(settled_fen, amount)), 0) FROM deposits"
                    " WHERE refund_of = ?",
                    payment.claim_id,
                )
                assert sent[0] <= payment.settled_fen

    @invariant()
    def honest_payments_are_good(self) -> None:
        """Whoever was paid by an honest card has the money, unless it came too late."""
        honest = {wallet.public for wallet in self.line.wallets[: len(HONEST)]}
        for pos in self.line.merchants:
            for payment in pos.payments():
                if payment.payer in honest:
                    late = self.line.now > payment.deadline + GRACE
                    lost = payment.state in (PaymentState.DISPUTED, PaymentState.EXPIRED)
                    assert late or not lost

    @invariant()
    def each_repeat_payment_is_found_once_and_nobody_else_is_accused(self) -> None:
        center = self.line.center
        cheat = self.line.wallets[len(HONEST)].public
        found = []
        for claim_id in center.claims:
            for digest in center.claim(claim_id)["evidence"]:
                facts = verify_evidence(center.evidence(bytes.fromhex(digest)), self.line.trust)
                assert facts.payer == cheat and facts.claim_ids[1] == claim_id
                found.append((facts.title_id, *facts.claim_ids))
        assert sorted(found) == sorted(center.repeats)
        assert not found or len(self.line.wallets) > len(HONEST) + 1
        entries, _ = center.blacklist()
        assert [entry.subject for entry in entries] == ([cheat] if found else [])


@pytest.mark.timeout(900)  # a failing example takes minutes to shrink
@pytest.mark.parametrize("histories", [40, pytest.param(300, marks=pytest.mark.long)])
def test_no_fen_appears_or_is_lost(histories: int) -> None:
    """So many histories, and as many again, at most five times, until all has happened that must."""
    happened.clear()
    for turn in range(5):
        run_state_machine_as_test(
            # Else each turn would be of the same ones. They depend on what else this process has imported.
            seed(turn)(Machine),
            settings=settings(
                max_examples=histories,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
        if set(happened) >= MUST_HAPPEN:
            break
    assert set(happened) >= MUST_HAPPEN, MUST_HAPPEN - set(happened)

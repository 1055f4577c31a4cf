# SPDX-License-Identifier: Apache-2.0
"""A deposit's way: stored as the very bytes that are sent, sent until there is a receipt, then booked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chipcash.database import Row
from chipcash.pos import model as m
from chipcash.pos.books import Books, Move
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import TransferKind
from chipcash.terminal import places, verify_receipt
from chipcash.terminal.receipt import Stretch
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = [
    "DEPOSIT_INTERVALS",
    "CenterService",
    "Judged",
    "Sending",
    "Settling",
    "judged",
    "promise_of",
]

DEPOSIT_INTERVALS = 200
"""Most intervals in one deposit: its receipt, with a title for each, has to stay under 64 KiB."""

_WHY = {
    o.DISPUTED: "the same money was paid elsewhere before",
    o.EXPIRED: "deposited after the deadline",
    o.VOIDED: "this POS gave the request up",
    o.RECLAIMED: "the money went back to the payer",
    o.INVALID: "the center does not know this money",
}
"""Reason of an interval that did not settle."""


class CenterService(Protocol):
    """What a POS asks a registration center for; chipcash.center.client.CenterClient is one."""

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Settle a deposit's claims; the receipt. titles: those that they spend."""

    def register_void(self, void: o.Void) -> None:
        """Bar a claim for ever."""

    def titles(self, owner: bytes) -> Sequence[o.Title]:
        """Live titles of an owner."""

    def rules(self) -> o.TerminalRules:
        """What terminals may take offline."""

    def blacklist(self, since: int = 0) -> tuple[Sequence[o.BlacklistEntry], o.SignedTime]:
        """Entries above a sequence, and the signed time that completes them."""


@dataclass(frozen=True)
class Judged:
    """What the center's outcomes make of a payment: its state, fen settled and disputed, and why."""

    state: P
    settled_fen: int
    disputed_fen: int = 0
    reason: str = ""


def judged(outcomes: Sequence[tuple[int, int]]) -> Judged:
    """What a payment is after the outcomes of all its intervals: fen and outcome (o.SETTLED...) of each."""
    settled = sum(fen for fen, state in outcomes if state == o.SETTLED)
    states = {state for _, state in outcomes}
    if states == {o.SETTLED}:
        return Judged(P.VERIFIED, settled)
    if states == {o.EXPIRED}:
        why = "deposited after the deadline: the money went back to the payer"
        return Judged(P.EXPIRED, settled, reason=why)
    lost = sum(fen for fen, state in outcomes if state != o.SETTLED)
    why = ", ".join(sorted(_WHY[state] for state in states - {o.SETTLED}))
    return Judged(P.DISPUTED, settled, lost, why)


@dataclass(frozen=True)
class Sending:
    """A stored deposit and the titles that go with it."""

    deposit: o.Deposit
    titles: Sequence[o.Title]


class Settling(Books):
    """Deposits and what their receipts bring."""

    def _new_deposit(self, claims: Sequence[o.Claim]) -> o.Deposit:
        return o.Deposit(
            header=self.trust.header, nonce=secrets.token_bytes(16), claims=tuple(claims)
        )

    def _store_deposit(
        self,
        deposit: o.Deposit,
        kind: str,
        payee: bytes | None = None,
        reference: str | None = None,
        refund_of: bytes | None = None,
        operator: str | None = None,
    ) -> None:
        self.store.execute(
            "INSERT INTO deposits"
            " (nonce, kind, data, amount, time, payee, reference, refund_of, operator, shift)"
            " VALUES (?,?,?,?,?,?,?,?,?,?)",
            deposit.nonce, kind, deposit.encode(), sum(x.amount for x in deposit.claims),
                self._now(), payee, reference, refund_of,
                    self.operator if operator is None else operator, self._shift_number(),
        )  # fmt: skip

    def _settle(self, client: CenterService, deposit: o.Deposit, report: m.SyncReport) -> None:
        """Send a stored deposit and book its receipt. Idempotent."""
        titles = self._spent_titles(deposit)
        self._book(Sending(deposit, titles), client.settle(deposit, titles), report)

    def _book(self, sent: Sending, receipt: o.Receipt, report: m.SyncReport) -> None:
        """Verify a stored deposit's receipt and book it, in one transaction. Idempotent."""
        deposit = sent.deposit
        verify_receipt(receipt, deposit, self.trust)
        with self.store.transaction():
            row = self._need("SELECT kind, receipt FROM deposits WHERE nonce = ?", deposit.nonce)
            if row["receipt"] is not None:
                return  # booked by another process in the meantime
            report.titles_received += self._add_titles(receipt.titles)
            if row["kind"] == "PAYMENTS":
                settled = self._book_payments(sent, receipt, report)
            else:
                settled = self._book_transfer(deposit, receipt, report)
            self.store.execute(
                "UPDATE deposits SET receipt = ?, settled_fen = ?, settled_time = ? WHERE nonce = ?",
                receipt.encode(),
                settled,
                self._now(),
                deposit.nonce,
            )
            if row["kind"] != "PAYMENTS":
                report.add(self._transfer(deposit.nonce))
                self._book_promise(deposit, receipt, settled, report)

    def _spent_titles(self, deposit: o.Deposit) -> list[o.Title]:
        """The titles that a deposit's claims spend: of payments as they came, of transfers from the books."""
        found = {
            object_id(title): title
            for row in self.store.all("SELECT data FROM payments WHERE deposit = ?", deposit.nonce)
            for title in o.Payment.decode(row["data"]).titles
        }
        for item in (item for claim in deposit.claims for item in claim.inputs):
            if item.title_id not in found:
                row = self.store.one("SELECT data FROM titles WHERE title_id = ?", item.title_id)
                if row is not None:
                    found[item.title_id] = o.Title.decode(row["data"])
        return list(found.values())

    def _book_payments(self, sent: Sending, receipt: o.Receipt, report: m.SyncReport) -> int:
        total = 0
        moves: list[Move] = []
        parts: list[tuple[bytes, Stretch]] = []
        serials = {object_id(title): title.serial for title in sent.titles}
        results = {result.claim_id: result for result in receipt.results}
        for claim in sent.deposit.claims:
            claim_id = object_id(claim)
            outcomes = results[claim_id].outcomes
            told = judged([(x.hi - x.lo, x.state) for x in outcomes])
            moves.append(
                Move(
                    claim_id,
                    told.state,
                    settled_fen=told.settled_fen,
                    disputed_fen=told.disputed_fen,
                    reason=told.reason,
                )
            )
            for x in outcomes:
                if x.state == o.SETTLED:
                    total += x.hi - x.lo
                    parts.append((claim_id, (serials[x.title_id], x.lo, x.hi)))
        for change in self._move(*moves):
            report.add(change)
        found = places(receipt, self.public, [stretch for _, stretch in parts])
        self.store.execute_many(
            "INSERT INTO parts (claim_id, serial, lo, hi) VALUES (?,?,?,?)",
            [
                (claim_id, *stretch)
                for (claim_id, _), stretches in zip(parts, found, strict=True)
                for stretch in stretches
            ],
        )
        self._place_parts()
        return total

    def _book_transfer(self, deposit: o.Deposit, receipt: o.Receipt, report: m.SyncReport) -> int:
        total = 0
        touched: set[bytes] = set()
        for result in receipt.results:
            for outcome in result.outcomes:
                settled = outcome.state == o.SETTLED
                total += (outcome.hi - outcome.lo) * settled
                touched.add(outcome.title_id)
                self.store.execute(
                    "UPDATE spends SET settled = ? WHERE title_id = ? AND lo = ? AND deposit = ?",
                    int(settled),
                    outcome.title_id,
                    outcome.lo,
                    deposit.nonce,
                )
        for title_id in sorted(touched):
            for row in self.store.all(
                "SELECT DISTINCT payments.claim_id FROM parts JOIN payments USING (claim_id)"
                " WHERE parts.title_id = ? AND payments.state = 'VERIFIED'",
                title_id,
            ):
                kinds = self._left_as(row["claim_id"])
                if kinds is not None:
                    to = P.REDEEMED if kinds == {TransferKind.REDEEM} else P.SPENT
                    for change in self._move(Move(row["claim_id"], to)):
                        report.add(change)
        return total

    def _book_promise(
        self, deposit: o.Deposit, receipt: o.Receipt, settled: int, report: m.SyncReport
    ) -> None:
        """What the receipt of a refund means for the promise that it carries out, if it does one."""
        row = self.store.one(
            "SELECT promises.*, payments.reason AS why FROM promises JOIN payments USING (claim_id)"
            " WHERE promises.deposit = ?",
            deposit.nonce,
        )
        if row is None:
            return
        paid = row["paid_fen"] + settled
        failed = {x.state for result in receipt.results for x in result.outcomes} - {o.SETTLED}
        if failed == {o.EXPIRED}:
            # It was on its way for too long. The center never settles it any more, so it is made again: by
            # the center's time, or a slow clock would have one after the other come too late.
            self.store.execute(
                "UPDATE promises SET state = 'PROMISED', deposit = NULL, paid_fen = ?, not_before = ?,"
                " reason = ? WHERE nonce = ?",
                paid, receipt.time, "the refund came too late, and is made again", row["nonce"],
            )  # fmt: skip
            return
        reason = ", ".join(sorted(_WHY[state] for state in failed)) or row["why"]
        state = m.PromiseState.CANCELLED
        if paid:
            state = m.PromiseState.PARTLY
        if paid == row["amount"]:
            state, reason = m.PromiseState.KEPT, ""
        self.store.execute(
            "UPDATE promises SET state = ?, paid_fen = ?, reason = ? WHERE nonce = ?",
            state, paid, reason, row["nonce"],
        )  # fmt: skip
        report.promises.append(
            promise_of(self._need("SELECT * FROM promises WHERE nonce = ?", row["nonce"]))
        )

    def _left_as(self, claim_id: bytes) -> set[str] | None:
        """As what all of a payment's money has left, or None while some of it is here."""
        kinds: set[str] = set()
        for part in self.store.all("SELECT * FROM parts WHERE claim_id = ?", claim_id):
            gone = 0
            for spend in self.store.all(
                "SELECT spends.lo, spends.hi, deposits.kind FROM spends"
                " JOIN deposits ON deposits.nonce = spends.deposit"
                " WHERE spends.title_id = ? AND spends.lo < ? AND spends.hi > ? AND spends.settled = 1",
                part["title_id"], part["hi"], part["lo"],
            ):  # fmt: skip
                gone += min(spend["hi"], part["hi"]) - max(spend["lo"], part["lo"])
                kinds.add(spend["kind"])
            if gone < part["hi"] - part["lo"]:
                return None
        return kinds

    def _add_titles(self, titles: Sequence[o.Title]) -> int:
        """Take over titles that are this POS's and new; how many. Those known keep their pointer."""
        added = 0
        for title in titles:
            title_id = object_id(title)
            if (
                title.owner != self.public
                or self.store.one("SELECT 1 FROM titles WHERE title_id = ?", title_id) is not None
                or not self.trust.signed_by_center(title)
            ):
                continue
            self.store.execute(
                "INSERT INTO titles (title_id, data, serial, lo, hi, epoch, expiry, pointer)"
                " VALUES (?,?,?,?,?,?,?,?)",
                title_id, title.encode(), title.serial, title.lo, title.hi,
                    title.epoch, title.expiry, title.lo,
            )  # fmt: skip
            added += 1
        return added

    def _place_parts(self) -> None:
        """Find the title that each settled interval became, where it has come."""
        self.store.execute(
            "UPDATE parts SET title_id = (SELECT title_id FROM titles WHERE titles.serial = parts.serial"
            " AND titles.lo <= parts.lo AND titles.hi >= parts.hi ORDER BY epoch DESC LIMIT 1)"
            " WHERE title_id IS NULL"
        )


def promise_of(row: Row) -> m.Promise:
    """A row of promises."""
    return m.Promise(
        nonce=row["nonce"],
        claim_id=row["claim_id"],
        amount=row["amount"],
        time=row["time"],
        state=m.PromiseState(row["state"]),
        paid_fen=row["paid_fen"],
        deposit=row["deposit"],
        reason=row["reason"],
        data=row["data"],
        number=row["id"],
        reference=row["reference"],
        operator=row["operator"],
        shift=row["shift"],
    )

# SPDX-License-Identifier: Apache-2.0
"""Reconciliation of three sides: what tills have in their books, what the center recorded, what the bank
credited.

The center's record is, the best first, its signed receipt, its log, its ledger's answer. Where two sides tell
different things there is a finding that says which, by what proof, and what to do next; where there is none
of that kind, they agree.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from chipcash.bank.camt import Entry
from chipcash.books.center import InLog, Record, Signed, Word, ledger_word, receipt_word
from chipcash.database import Row
from chipcash.pos import PaymentState, Pos, TransferKind
from chipcash.pos.errors import yuan
from chipcash.pos.reports import Report, chain, with_fees
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["Finding", "Reconciliation", "Side", "Sums", "Till", "Weight", "claims_of", "reconcile"]


class Weight(StrEnum):
    """DIFFERS: two sides tell different things. LOST: they agree that money did not become the merchant's.
    OPEN: they agree, and something is still to be done."""

    DIFFERS = "DIFFERS"
    LOST = "LOST"
    OPEN = "OPEN"


class Side(StrEnum):
    """Who tells."""

    TILL = "till"
    CENTER = "center"
    BANK = "bank"


@dataclass(frozen=True)
class Till:
    """A till to reconcile. name: its folder, as the commands that are next have it behind --pos."""

    name: str
    pos: Pos


@dataclass(frozen=True)
class Finding:
    """Something that is not as simple as "agreed". code: what it is, one word for programs; ident: claim_id
    or nonce of a transfer, as hex, "" for a till as a whole; fen: how much it is about; said: what each side
    says; evidence: what proves it; next: what to do."""

    weight: Weight
    code: str
    till: str
    ident: str
    fen: int
    said: Mapping[Side, str]
    evidence: tuple[str, ...]
    next: str


@dataclass
class Sums:
    """Fen of one kind by side; None where that side was not asked, or has no say in it."""

    till: int = 0
    center: int | None = None
    bank: int | None = None


@dataclass
class Reconciliation:
    """What came out. Times in seconds since 1970; report: of all tills together, for the period; sums by what
    they are of; asked: who was."""

    since: int
    until: int
    tills: tuple[str, ...]
    report: Report
    asked: tuple[Side, ...]
    sums: dict[str, Sums] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether no two sides tell different things."""
        return not any(finding.weight == Weight.DIFFERS for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "agrees": self.agrees,
            "since": self.since,
            "until": self.until,
            "tills": list(self.tills),
            "asked": [str(side) for side in self.asked],
            "sums": {
                what: {"till_fen": x.till, "center_fen": x.center, "bank_fen": x.bank}
                for what, x in self.sums.items()
            },
            "findings": [
                {
                    "weight": str(x.weight),
                    "code": x.code,
                    "till": x.till,
                    "ident": x.ident,
                    "fen": x.fen,
                    "said": {str(side): text for side, text in x.said.items()},
                    "evidence": list(x.evidence),
                    "next": x.next,
                }
                for x in self.findings
            ],
            "report": self.report.as_dict(),
        }


# Of a deposit only whether it was answered: its bytes would come with each of its payments.
_PAYMENTS = "SELECT received.*, deposits.receipt IS NOT NULL AS answered FROM received" \
    " LEFT JOIN deposits ON deposits.nonce = received.deposit" \
    " WHERE (received.state IN ('PENDING', 'SUBMITTED') AND received.time < ?2) OR claim_id IN" \
    " (SELECT claim_id FROM changes WHERE time >= ?1 AND time < ?2) ORDER BY received.id"  # fmt: skip
_TRANSFERS = "SELECT * FROM deposits WHERE kind <> 'PAYMENTS' AND time < ?2 AND" \
    " (time >= ?1 OR receipt IS NULL OR (settled_time >= ?1 AND settled_time < ?2)) ORDER BY id"  # fmt: skip


def claims_of(tills: Iterable[Till], since: int, until: int) -> set[bytes]:
    """The claims that a reconciliation of that period is about, to look for them in the log."""
    found = set()
    for till in tills:
        found |= {row["claim_id"] for row in till.pos.store.all(_PAYMENTS, since, until)}
        for row in till.pos.store.all(_TRANSFERS, since, until):
            found |= {object_id(claim) for claim in o.Deposit.decode(row["data"]).claims}
    return found


def reconcile(
    tills: Sequence[Till],
    since: int,
    until: int,
    *,
    now: int,
    centers: Mapping[str, Record] | None = None,
    every: bool = False,
    log: InLog | None = None,
    credits: Sequence[Entry] | None = None,
    banks: frozenset[bytes] = frozenset(),
) -> Reconciliation:
    """Compare the sides, from a time until before another, seconds since 1970.

    centers: by a till's name, the center to ask about it: of claims that it has signed no receipt for, and of
    the till's live titles; every: of all claims, and of how much of each title is live; log: what the
    center's log has of these claims; credits: what the bank's statements tell together
    (chipcash.bank.camt), None to leave the bank out; banks: the bank's keys, to which tills pay what they
    deposit: what is spent to others is summed apart then, by default all is the bank's.

    Raises CenterUnreachable, CenterRefused.
    """
    if len({till.pos.public for till in tills}) < len(tills):
        raise ValueError("a till is named twice")
    report = chain([till.pos.day_report(since, until) for till in tills])
    asked = [Side.TILL, Side.CENTER] + [Side.BANK] * (credits is not None)
    done = Reconciliation(since, until, tuple(till.name for till in tills), report, tuple(asked))
    kinds = ["verified", "disputed", "expired", "spent", "refunded", "redeemed"]
    for what in kinds + [_ELSEWHERE] * bool(banks):
        done.sums[what] = Sums(center=0)
    for till in tills:
        center = (centers or {}).get(till.name)
        _Reconciler(done, till, center, every, log, now, banks).compare()
    if credits is not None:
        _compare_bank(done, tills, credits, banks)
    order = list(Weight)
    done.findings.sort(key=lambda finding: (order.index(finding.weight), finding.till))
    return done


@dataclass
class _Reconciler:
    """One till against the center."""

    done: Reconciliation
    till: Till
    center: Record | None
    every: bool
    log: InLog | None
    now: int
    banks: frozenset[bytes]
    receipts: dict[bytes, Signed | None] = field(default_factory=dict)

    def compare(self) -> None:
        """Add sums and findings."""
        pos, done = self.till.pos, self.done
        with pos.store.reading():
            differences = pos.x_report().differences
            payments = pos.store.all(_PAYMENTS, done.since, done.until)
            transfers = pos.store.all(_TRANSFERS, done.since, done.until)
        for account, fen in differences.items():
            self.find(
                Weight.DIFFERS, "books-unbalanced", b"", abs(fen),
                {Side.TILL: f"{account} is {_signed(fen)} off what its history says"},
                ["the till's table of changes against its states"],
                "Stop using this till, and restore its books from the newest backup.",
            )  # fmt: skip
        for row in payments:
            self.payment(row)
        for row in transfers:
            self.transfer(row)
        for row in pos.store.all(
            "SELECT * FROM promises WHERE state = 'PROMISED' AND time < ? ORDER BY id", done.until
        ):
            self.find(
                Weight.OPEN, "refund-promised", row["claim_id"], row["amount"] - row["paid_fen"],
                {Side.TILL: "a refund was promised before the payment was verified"},
                [],
                f"Synchronise: the refund goes out when the payment is verified: {self.command('sync')}",
            )  # fmt: skip
        if self.center is not None:
            self.titles(self.center)

    def payment(self, row: Row) -> None:
        """One payment."""
        state, claim_id = PaymentState(row["state"]), row["claim_id"]
        signed = self.receipt(row)
        word = signed[1].get(claim_id) if signed else None
        if row["answered"] and word is None:
            self.find(
                Weight.DIFFERS, "receipt-forged", claim_id, row["amount"],
                {Side.TILL: f"{state}, by a receipt that the center did not sign"},
                [_of_deposit(row["deposit"])],
                "Restore the till's books from the newest backup; then synchronise.",
            )  # fmt: skip
        if state in (PaymentState.PENDING, PaymentState.SUBMITTED):
            self.waiting(row, state)
            return
        told = self.others(row, word, signed[0].time if signed else 0)
        word = word or told
        mine = (_original(state), row["settled_fen"], row["disputed_fen"])
        changed = self.settled_in_period(claim_id)
        if changed:
            name = {"VERIFIED": "verified", "DISPUTED": "disputed", "EXPIRED": "expired"}[mine[0]]
            lost = row["amount"] - row["settled_fen"]
            self.done.sums["verified"].till += row["settled_fen"]
            if name != "verified":
                self.done.sums[name].till += lost
        if word is None:
            self.find(
                Weight.DIFFERS, "center-denies", claim_id, row["amount"],
                {Side.TILL: str(state), Side.CENTER: "knows no such claim, and has signed no receipt"},
                [], "Restore the till's books from the newest backup; then synchronise.",
            )  # fmt: skip
            return
        his = (word.judged.state, word.judged.settled_fen, word.judged.disputed_fen)
        if changed:
            self.add("verified", his[1])
            if his[0] != PaymentState.VERIFIED:
                self.add(str(his[0]).lower(), row["amount"] - his[1])
        if mine != his:
            self.find(
                Weight.DIFFERS, "books-differ", claim_id, abs(mine[1] - his[1]) or row["amount"],
                {
                    Side.TILL: _says(mine),
                    Side.CENTER: f"{_says(his)}, by its {_SOURCE[word.source]}",
                },
                [_of_deposit(row["deposit"])],
                "What the center has signed holds: restore the till's books from the newest backup.",
            )  # fmt: skip
        elif state == PaymentState.DISPUTED:
            self.find(
                Weight.LOST, "disputed", claim_id, row["disputed_fen"],
                {Side.TILL: f"DISPUTED: {row['reason']}", Side.CENTER: "the same"},
                [_of_deposit(row["deposit"]), *self.evidence(claim_id)],
                "Make the dispute case: "
                + self.command(f"dispute export {claim_id.hex()} -o case-{claim_id.hex()[:16]}"),
            )  # fmt: skip
        elif state == PaymentState.EXPIRED:
            self.find(
                Weight.LOST, "expired", claim_id, row["amount"],
                {Side.TILL: f"EXPIRED: {row['reason']}", Side.CENTER: "the same"},
                [_of_deposit(row["deposit"])],
                "Nothing brings it back; synchronise earlier than the deadline, which the queue shows.",
            )  # fmt: skip

    def receipt(self, row: Row) -> Signed | None:
        """The receipt for a payment's deposit; verified once for all payments in it."""
        nonce = row["deposit"]
        if nonce is None or not row["answered"]:
            return None
        if nonce not in self.receipts:
            found = self.till.pos.store.row("SELECT * FROM deposits WHERE nonce = ?", nonce)
            deposit = o.Deposit.decode(found["data"])
            self.receipts[nonce] = receipt_word(found["receipt"], deposit, self.till.pos.trust)
        return self.receipts[nonce]

    def waiting(self, row: Row, state: PaymentState) -> None:
        """A payment that is Pending Repeat Payment Verification."""
        claim_id, amount = row["claim_id"], row["amount"]
        word = None if self.center is None else ledger_word(self.center, claim_id)
        if word is None and self.log is not None and claim_id in self.log.claims:
            word = self.log.claims[claim_id].word
        late = row["deadline"] < self.now
        if word is not None and word.reclaimed:
            self.find(
                Weight.LOST, "reclaimed", claim_id, word.reclaimed,
                {Side.TILL: str(state), Side.CENTER: "the money went back to the payer"},
                ["the center's answer, which is not signed"],
                "Synchronise: the receipt will say so. The deadline was missed, or the request given up.",
            )  # fmt: skip
        elif word is not None:
            judgement = word.judged
            self.find(
                Weight.OPEN, "answer-outstanding", claim_id, amount,
                {
                    Side.TILL: f"{state}: no answer is here yet",
                    Side.CENTER: _says(
                        (judgement.state, judgement.settled_fen, judgement.disputed_fen)
                    ),
                },
                [f"the center's {_SOURCE[word.source]}"],
                f"Send it again, which brings the center's first answer: {self.command('sync')}",
            )  # fmt: skip
        else:
            silent = "knows nothing of it" if self.center else "was not asked"
            self.find(
                Weight.OPEN, "overdue" if late else "not-deposited", claim_id, amount,
                {Side.TILL: str(state), Side.CENTER: silent},
                [],
                "It is past its deadline; after the center's grace it is the payer's. Synchronise NOW: "
                + self.command("sync")
                if late else f"Synchronise before its deadline: {self.command('sync')}",
            )  # fmt: skip

    def others(self, row: Row, signed: Word | None, time: int) -> Word | None:
        """What log and ledger say of a payment that was settled; findings where they contradict the receipt,
        which is of that time."""
        claim_id = row["claim_id"]
        logged = None
        if self.log is not None:
            entry = self.log.claims.get(claim_id)
            logged = entry.word if entry else None
            if signed and logged is None and time < self.log.last:
                self.find(
                    Weight.DIFFERS, "not-in-log", claim_id, row["amount"],
                    {Side.CENTER: "has signed a receipt, and its log, which goes on, has no such claim"},
                    [_of_deposit(row["deposit"]), f"checkpoint of {self.log.checkpoint.size} entries"],
                    "Keep both, and show them to an auditor of the center: they prove that it left it out.",
                )  # fmt: skip
        asked = None
        if self.center is not None and (self.every or (signed is None and logged is None)):
            asked = ledger_word(self.center, claim_id)
            if asked is None and (signed or logged):
                self.find(
                    Weight.DIFFERS, "center-denies", claim_id, row["amount"],
                    {Side.CENTER: "has signed a receipt, and says that it knows no such claim"},
                    [_of_deposit(row["deposit"])],
                    "Show the receipt to whoever runs the center: it has to restore its ledger.",
                )  # fmt: skip
        for other in (logged, asked):
            if signed and other and other.outcomes != signed.outcomes:
                self.find(
                    Weight.DIFFERS, "center-contradicts", claim_id, row["amount"],
                    {Side.CENTER: f"its {_SOURCE[other.source]} differs from the receipt that it has signed"},
                    [_of_deposit(row["deposit"])],
                    "Show the receipt to whoever runs the center, and to its auditor: the receipt holds.",
                )  # fmt: skip
        return logged or asked

    def transfer(self, row: Row) -> None:
        """Money on its way out."""
        kind, nonce = TransferKind(row["kind"]), row["nonce"]
        deposit = o.Deposit.decode(row["data"])
        if row["receipt"] is None:
            known = self.center is not None and any(
                ledger_word(self.center, object_id(claim)) for claim in deposit.claims
            )
            self.find(
                Weight.OPEN, "transfer-outstanding", nonce, row["amount"],
                {
                    Side.TILL: f"{kind} was ordered, no receipt is here yet",
                    Side.CENTER: "has it" if known else "does not know it, or was not asked",
                },
                [],
                f"Do not give the order a second time; send it again: {self.command('sync')}",
            )  # fmt: skip
            return
        signed = receipt_word(row["receipt"], deposit, self.till.pos.trust)
        name = {"SPEND": "spent", "REFUND": "refunded", "REDEEM": "redeemed"}[kind]
        if kind == TransferKind.SPEND and self.banks and row["payee"] not in self.banks:
            name = _ELSEWHERE
        inside = row["settled_time"] is not None and (
            self.done.since <= row["settled_time"] < self.done.until
        )
        if inside:
            self.done.sums[name].till += row["settled_fen"]
        if signed is None:
            self.find(
                Weight.DIFFERS, "receipt-forged", nonce, row["amount"],
                {Side.TILL: f"{kind} is settled, by a receipt that the center did not sign"},
                [_of_deposit(nonce)],
                "Restore the till's books from the newest backup; then synchronise.",
            )  # fmt: skip
            return
        settled = sum(word.judged.settled_fen for word in signed[1].values())
        if inside:
            self.add(name, settled)
        if settled != row["settled_fen"]:
            self.find(
                Weight.DIFFERS, "books-differ", nonce, abs(settled - row["settled_fen"]),
                {
                    Side.TILL: f"{kind}: {yuan(row['settled_fen'])} settled",
                    Side.CENTER: f"{yuan(settled)}, by its signed receipt",
                },
                [_of_deposit(nonce)],
                "What the center has signed holds: restore the till's books from the newest backup.",
            )  # fmt: skip
        late = self.not_back(signed[0])
        if late:
            self.find(
                Weight.OPEN, "not-settled", nonce, late,
                {Side.TILL: f"{kind}: came too late at the center", Side.CENTER: "the same"},
                [_of_deposit(nonce)],
                "Have it back, then give the order again (a promised refund goes out again by itself): "
                + self.command(f"reclaim {nonce.hex()}"),
            )  # fmt: skip
        gone = sum(
            x.hi - x.lo
            for result in signed[0].results
            for x in result.outcomes
            if x.state in (o.DISPUTED, o.INVALID)
        )
        if gone:
            self.find(
                Weight.DIFFERS, "money-gone", nonce, gone,
                {
                    Side.TILL: f"{kind}: of {yuan(row['amount'])} that could be spent",
                    Side.CENTER: f"{yuan(gone)} of that was no more the till's, by its signed receipt",
                },
                [_of_deposit(nonce)], f"Look into it: {_OLD_COPY}",
            )  # fmt: skip

    def not_back(self, receipt: o.Receipt) -> int:
        """Fen of a transfer that came too late, and have not come back under a new title."""
        return sum(
            x.hi - x.lo
            for result in receipt.results
            for x in result.outcomes
            if x.state == o.EXPIRED
            and self.till.pos.store.one(
                "SELECT 1 FROM titles old JOIN titles new ON new.serial = old.serial"
                " AND new.epoch > old.epoch AND new.lo <= ? AND new.hi >= ? WHERE old.title_id = ?",
                x.lo, x.hi, x.title_id,
            ) is None
        )  # fmt: skip

    def titles(self, center: Record) -> None:
        """The till's verified money against the titles that the center has live for its key."""
        before = self.spendable()
        live = {object_id(title): title for title in center.titles(self.till.pos.public)}
        left = {title_id: title.hi - title.lo for title_id, title in live.items()}
        if self.every:
            asked = {title_id for title_id in live if before.get(title_id)}
            left |= dict.fromkeys(asked, 0)
            # One request a coin: several titles may be of the same.
            for serial in sorted({live[title_id].serial for title_id in asked}):
                for part in center.coin(serial)["partition"]:
                    # What was redeemed has no title.
                    title_id = bytes.fromhex(part["title_id"] or "")
                    if title_id in asked:
                        left[title_id] += part["hi"] - part["lo"]
        # The till may be at work: only what it had before and has still can be compared.
        mine = self.spendable()
        gone = {
            title_id: fen - left.get(title_id, 0)
            for title_id, fen in mine.items()
            if before.get(title_id) == fen > left.get(title_id, 0)
        }
        if gone:
            self.find(
                Weight.DIFFERS, "money-gone", b"", sum(gone.values()),
                {
                    Side.TILL: f"{yuan(sum(mine[title_id] for title_id in gone))} of {len(gone)} titles "
                    "can be spent",
                    Side.CENTER: f"{yuan(sum(gone.values()))} of that is not live",
                },
                [f"title {title_id.hex()}" for title_id in gone],
                f"Synchronise: {self.command('sync')} - and if it stays: {_OLD_COPY}",
            )  # fmt: skip
        coming = [title for title_id, title in live.items() if title_id not in mine]
        if coming:
            fen = sum(title.hi - title.lo for title in coming)
            self.find(
                Weight.OPEN, "money-outstanding", b"", fen,
                {
                    Side.TILL: "does not have it yet",
                    Side.CENTER: f"{len(coming)} titles of up to {yuan(fen)} are live for its key",
                },
                [f"title {object_id(title).hex()}, signed by the center" for title in coming],
                f"Fetch it: {self.command('sync')}",
            )  # fmt: skip

    def spendable(self) -> dict[bytes, int]:
        """Fen left of each title that the till knows."""
        rows = self.till.pos.store.all("SELECT title_id, hi, pointer FROM titles")
        return {row["title_id"]: row["hi"] - row["pointer"] for row in rows}

    def evidence(self, claim_id: bytes) -> list[str]:
        """Evidence that the center has against the payer of a claim."""
        word = None if self.center is None else ledger_word(self.center, claim_id)
        digests = word.answer["evidence"] if word and word.answer else []
        return [f"evidence {digest}, which the case has" for digest in digests]

    def settled_in_period(self, claim_id: bytes) -> bool:
        """Whether it was in this period that a payment was settled, or not."""
        row = self.till.pos.store.one(
            "SELECT 1 FROM changes WHERE claim_id = ? AND before = 'SUBMITTED' AND time >= ? AND time < ?",
            claim_id, self.done.since, self.done.until,
        )  # fmt: skip
        return row is not None

    def command(self, words: str) -> str:
        """A command of this till, as it is typed."""
        return _command(words, self.till)

    def add(self, what: str, fen: int) -> None:
        """Count what the center says."""
        sums = self.done.sums[what]
        sums.center = (sums.center or 0) + fen

    def find(
        self,
        weight: Weight,
        code: str,
        ident: bytes,
        fen: int,
        said: Mapping[Side, str],
        evidence: Iterable[str],
        then: str,
    ) -> None:
        """Note a finding of this till."""
        self.done.findings.append(
            Finding(weight, code, self.till.name, ident.hex(), fen, said, tuple(evidence), then)
        )


def _compare_bank(
    done: Reconciliation, tills: Sequence[Till], credits: Sequence[Entry], banks: frozenset[bytes]
) -> None:
    """What tills have paid to the bank, or redeemed, against what it has credited."""
    counted = Counter(entry.nonce for entry in credits if entry.nonce is not None)
    found = {entry.nonce: entry for entry in credits if entry.nonce is not None}
    spent, redeemed = Sums(bank=0), Sums(bank=0)
    fees = 0
    known = set()
    for till in tills:
        for row in till.pos.store.all(
            "SELECT * FROM deposits WHERE kind IN ('SPEND', 'REDEEM') AND settled_fen > 0 ORDER BY id"
        ):
            if banks and row["kind"] == "SPEND" and row["payee"] not in banks:
                continue
            nonce, fen = row["nonce"], row["settled_fen"]
            known.add(nonce)
            entry = found.get(nonce)
            inside = row["settled_time"] is not None and (
                done.since <= row["settled_time"] < done.until
            )
            if not inside:
                continue
            sums = spent if row["kind"] == "SPEND" else redeemed
            told = 0 if entry is None else entry.fen + entry.fee
            sums.bank = (sums.bank or 0) + told
            fees += 0 if entry is None else entry.fee
            if told != fen or counted[nonce] > 1:
                done.findings.append(_uncredited(till, row, entry, counted[nonce]))
    for entry in credits:
        if entry.nonce is not None and entry.nonce not in known:
            done.findings.append(
                Finding(
                    Weight.DIFFERS, "unknown-credit", "", entry.nonce.hex(), entry.fen + entry.fee,
                    {
                        Side.TILL: "none of these tills has paid that",
                        Side.BANK: f"credited {yuan(entry.fen)} to {entry.account} on {entry.day} as "
                        f"{entry.reference}",
                    },
                    (f"the bank's entry {entry.reference}",),
                    "Name the till that is missing, with --pos. If none is: a till's books are an old copy "
                    "(--every finds that), or the bank has to be asked.",
                )
            )  # fmt: skip
    done.sums["spent"].bank, done.sums["redeemed"].bank = spent.bank, redeemed.bank
    done.report = with_fees(done.report, fees)


def _uncredited(till: Till, row: Row, entry: Entry | None, count: int) -> Finding:
    slip = _of_deposit(row["nonce"])
    paid = f"{row['kind']}: {yuan(row['settled_fen'])}, settled by the center"
    day = datetime.fromtimestamp(row["settled_time"]).date()
    file = f"slip-{row['nonce'].hex()[:8]}.bin"  # one for each finding: none replaces another's
    export = _command(f"export --format slips --day {day} -o {file}", till)
    if entry is None:
        code, told = "not-credited", "nothing"
        then = f"Give the bank the slip, again if need be; it credits none twice: {export}"
    elif count > 1:
        code, told = "credited-twice", f"{count} entries"
        then = "Tell the bank: it will take the second one back."
    else:
        code, told = "credited-otherwise", f"{yuan(entry.fen)}, and kept {yuan(entry.fee)}"
        then = f"Ask the bank, with the slip: {export}"
    return Finding(
        Weight.DIFFERS, code, till.name, row["nonce"].hex(),
        abs(row["settled_fen"] - (entry.fen + entry.fee if entry else 0)) or row["settled_fen"],
        {Side.TILL: paid, Side.CENTER: "the same, by its signed receipt", Side.BANK: told},
        (slip,) if entry is None else (slip, f"the bank's entry {entry.reference}"), then,
    )  # fmt: skip


_ELSEWHERE = "elsewhere"
"""What sums call money that was spent to another key than the bank's."""
_OLD_COPY = (
    "these books are an old copy, or somebody else has the till's key. Pay nothing out of them; bring the "
    "newest ones back."
)
_SOURCE = {"receipt": "signed receipt", "log": "log", "ledger": "ledger, which is not signed"}


def _original(state: PaymentState) -> PaymentState:
    """What the center had said of a payment whose money has left since."""
    left = (PaymentState.SPENT, PaymentState.REDEEMED)
    return PaymentState.VERIFIED if state in left else state


def _command(words: str, till: Till) -> str:
    return f"chipcash pos {words} --pos {shlex.quote(till.name)}"


def _says(said: tuple[PaymentState, int, int]) -> str:
    state, settled, disputed = said
    parts = [str(state)]
    if settled:
        parts.append(f"{yuan(settled)} settled")
    if disputed:
        parts.append(f"{yuan(disputed)} disputed")
    return ", ".join(parts)


def _signed(fen: int) -> str:
    return f"{'-' if fen < 0 else '+'}{yuan(abs(fen))}"


def _of_deposit(nonce: bytes | None) -> str:
    return "no receipt" if nonce is None else f"the center's receipt for deposit {nonce.hex()}"

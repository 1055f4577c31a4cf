# SPDX-License-Identifier: Apache-2.0
"""The case file of a payment that the center did not settle: all that the merchant needs to make its claim.

Both signed claims, the payer's certificate, the center's receipt and evidence, proofs that they are in the
center's log, and what happened when. Everything in it verifies under the network's public file alone.
"""

from __future__ import annotations

import html
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from chipcash import files
from chipcash.books.center import InLog, Record, ledger_word, receipt_word
from chipcash.books.layout import moment
from chipcash.evidence import EvidenceFacts, EvidenceInvalid, verify_evidence
from chipcash.log.reader import LogReader
from chipcash.pos import Payment, PaymentState, Pos, PosError
from chipcash.pos.errors import yuan
from chipcash.terminal.rules import loss
from chipcash.trust import FILE_NAME, object_id
from chipcash_wire import objects as o

__all__ = ["Case", "CaseState", "Loss", "Step", "case_files", "cases", "open_case", "write_case"]


class CaseState(StrEnum):
    """OPEN: the center has not been asked for evidence; PROVEN: there is evidence, verified, that the payer's
    key paid twice; UNPROVEN: the center has none, so nobody is to be accused."""

    OPEN = "OPEN"
    PROVEN = "PROVEN"
    UNPROVEN = "UNPROVEN"


@dataclass(frozen=True)
class Loss:
    """Who bears how many of the disputed fen: the network's guarantee fund, the merchant; not_paid_fen: of
    what was not paid elsewhere, but late, given up or no money: nobody makes that good. by: who says."""

    fund_fen: int
    payee_fen: int
    not_paid_fen: int
    by: str


@dataclass(frozen=True)
class Step:
    """Something that happened. time: seconds since 1970, by whose clock `who` says."""

    time: int
    who: str
    what: str


@dataclass(frozen=True)
class Case:
    """A dispute. deadlines: what ends when, seconds since 1970; evidence, facts: each piece, and what it
    proves; loss: by the center's record, else by its rules as the till has them; None where it has none."""

    payment: Payment
    state: CaseState
    signed: o.Payment
    deposit: o.Deposit
    receipt: o.Receipt
    evidence: tuple[o.Evidence, ...]
    facts: tuple[EvidenceFacts, ...]
    loss: Loss | None
    deadlines: Mapping[str, int]
    timeline: tuple[Step, ...]
    till: bytes

    def others(self) -> tuple[o.Claim, ...]:
        """The claims that had been registered before, and are on the same money."""
        mine = self.payment.claim_id
        found = {
            object_id(claim): claim
            for evidence in self.evidence
            for claim in evidence.claims
            if object_id(claim) != mine
        }
        return tuple(found.values())

    def as_dict(self) -> dict[str, Any]:
        """The case as JSON has it; binary values as hex."""
        payment = self.payment
        return {
            "claim_id": payment.claim_id.hex(),
            "state": str(self.state),
            "payment_state": str(payment.state),
            "reason": payment.reason,
            "amount_fen": payment.amount,
            "settled_fen": payment.settled_fen,
            "disputed_fen": payment.disputed_fen,
            "payee": self.till.hex(),
            "payer": payment.payer.hex(),
            "tier": payment.tier,
            "operator": payment.operator,
            "shift": payment.shift,
            "link": payment.link,
            "outcomes": [
                {
                    "title_id": x.title_id.hex(),
                    "lo": x.lo,
                    "hi": x.hi,
                    "state": o.OUTCOMES[x.state],
                    "earlier_claim": None if x.claim_id is None else x.claim_id.hex(),
                }
                for result in self.receipt.results
                if result.claim_id == payment.claim_id
                for x in result.outcomes
            ],
            "evidence": [
                {
                    "digest": object_id(evidence).hex(),
                    "serial": facts.serial.hex(),
                    "title_id": facts.title_id.hex(),
                    "overlap": [facts.lo, facts.hi],
                    "claims": [claim.hex() for claim in facts.claim_ids],
                }
                for evidence, facts in zip(self.evidence, self.facts, strict=True)
            ],
            "loss": None
            if self.loss is None
            else {
                "guarantee_fund_fen": self.loss.fund_fen,
                "payee_fen": self.loss.payee_fen,
                "not_paid_fen": self.loss.not_paid_fen,
                "by": self.loss.by,
            },
            "deadlines": dict(self.deadlines),
            "timeline": [
                {"time": step.time, "who": step.who, "what": step.what} for step in self.timeline
            ],
        }


def cases(pos: Pos) -> list[Payment]:
    """Payments of a till that are disputed, the newest first."""
    return list(pos.payments(PaymentState.DISPUTED))


def open_case(pos: Pos, which: bytes, center: Record | None = None) -> Case:
    """The case of a disputed payment (its claim_id or nonce). center: to ask for evidence and the loss.

    Raises PosError if it is not disputed, EvidenceInvalid if the center's evidence proves nothing,
    CenterUnreachable, CenterRefused.
    """
    payment = pos.payment(which)
    if payment.state != PaymentState.DISPUTED:
        raise PosError(
            f"This payment is {payment.state}, not DISPUTED: there is no case to make.",
            hint="See chipcash pos dispute list.",
            claim_id=payment.claim_id.hex(),
        )
    row = pos.store.row(
        "SELECT deposits.data, deposits.receipt FROM payments"
        " JOIN deposits ON deposits.nonce = payments.deposit WHERE claim_id = ?",
        payment.claim_id,
    )
    deposit = o.Deposit.decode(row["data"])
    proven = receipt_word(row["receipt"], deposit, pos.trust)
    if proven is None:
        raise PosError(
            "The receipt in these books is not signed by the center: it makes no case.",
            hint="Restore the books from the newest backup.",
            claim_id=payment.claim_id.hex(),
        )
    receipt, _ = proven
    evidence: list[o.Evidence] = []
    (result,) = (x for x in receipt.results if x.claim_id == payment.claim_id)
    borne = None
    if pos.rules is not None:
        by_rules = loss(result, pos.rules.guarantee)
        by = f"the center's rules of {moment(pos.rules.time)}"
        borne = Loss(by_rules.fund, by_rules.payee, by_rules.not_paid, by)
    word = None if center is None else ledger_word(center, payment.claim_id)
    if center is not None and word is not None and word.answer is not None:
        for digest in word.answer["evidence"]:
            evidence.append(center.evidence(bytes.fromhex(digest)))
        told = word.answer["loss"]
        not_paid = loss(result, 0).not_paid
        borne = Loss(told["guarantee_fund_fen"], told["payee_fen"], not_paid, "the center's record")
    facts = tuple(verify_evidence(each, pos.trust) for each in evidence)
    if any(payment.claim_id not in each.claim_ids for each in facts):
        raise EvidenceInvalid("same-claim", "it is about other claims than this payment's")
    without = CaseState.OPEN if center is None else CaseState.UNPROVEN
    signed = o.Payment.decode(payment.data)
    return Case(
        payment=payment,
        state=CaseState.PROVEN if evidence else without,
        signed=signed,
        deposit=deposit,
        receipt=receipt,
        evidence=tuple(evidence),
        facts=facts,
        loss=borne,
        deadlines={
            "deposit": payment.deadline,
            "payer_certificate": signed.certificate.expiry,
            "titles": min(title.expiry for title in signed.titles),
        },
        timeline=_timeline(pos, payment, receipt, evidence),
        till=pos.public,
    )


def case_files(
    case: Case, pos: Pos, log: tuple[LogReader, InLog] | None = None
) -> dict[str, bytes]:
    """The case as files, by name. log: the center's log, and what was found in it: proofs are added."""
    data = case.as_dict()
    found = {
        "payment.bin": case.payment.data,
        "claim.bin": case.signed.claim.encode(),
        "payer-certificate.bin": case.signed.certificate.encode(),
        "deposit.bin": case.deposit.encode(),
        "receipt.bin": case.receipt.encode(),
        FILE_NAME: (pos.directory / FILE_NAME).read_bytes(),
    }
    for number, evidence in enumerate(case.evidence, 1):
        found[f"evidence-{number}.bin"] = evidence.encode()
    for number, claim in enumerate(case.others(), 1):
        found[f"earlier-claim-{number}.bin"] = claim.encode()
    data["log"] = []
    if log is not None:
        reader, there = log
        found["log-checkpoint.txt"] = there.note
        for claim_id in (case.payment.claim_id, *(object_id(x) for x in case.others())):
            logged = there.claims.get(claim_id)
            if logged is not None:
                proof = reader.inclusion(there.checkpoint, logged.index, logged.entry)
                found[f"log-entry-{logged.index}.bin"] = logged.entry
                data["log"].append(
                    {
                        "claim_id": claim_id.hex(),
                        "index": logged.index,
                        "size": there.checkpoint.size,
                        "root": there.checkpoint.root.hex(),
                        "proof": [each.hex() for each in proof],
                        "time": logged.time,
                    }
                )
    found["case.json"] = (json.dumps(data, indent=1) + "\n").encode()
    found["case.html"] = _page(case, sorted(found), data).encode()
    return found


def write_case(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write a case to a new folder, or to a new file if its name ends in .zip. Raises OSError."""
    if target.suffix == ".zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        files.create(target, out.getvalue())
        return
    target.mkdir(mode=0o700)
    for name, content in contents.items():
        files.create(target / name, content)


def _timeline(
    pos: Pos, payment: Payment, receipt: o.Receipt, evidence: Sequence[o.Evidence]
) -> tuple[Step, ...]:
    asked = pos.store.row("SELECT time FROM requests WHERE nonce = ?", payment.nonce)["time"]
    steps = [Step(asked, "till", f"asked a card for {yuan(payment.amount)}")]
    for change in pos.changes(payment.claim_id):
        steps.append(Step(change.time, "till", f"{change.before or 'received'} → {change.after}"))
    steps.append(Step(receipt.time, "center", "signed the receipt: not all of it settled"))
    for each in evidence:
        for claim in each.claims:
            if object_id(claim) != payment.claim_id:
                steps.append(
                    Step(
                        claim.time,
                        "this till" if claim.payee == pos.public else "another payee",
                        f"was paid {yuan(claim.amount)} by the same key out of the same title",
                    )
                )
    listed = pos.store.one("SELECT data FROM blacklist WHERE subject = ?", payment.payer)
    if listed is not None:
        entry = o.BlacklistEntry.decode(listed["data"])
        steps.append(Step(entry.time, "center", "put the payer's key on the blacklist"))
    return tuple(sorted(steps, key=lambda step: step.time))


def _page(case: Case, names: Sequence[str], data: Mapping[str, Any]) -> str:
    """A page for people, which needs nothing but itself."""
    payment = case.payment
    rows = [
        ("State", f"{case.state}: {_STATES[case.state]}"),
        ("Amount", yuan(payment.amount)),
        ("Settled", yuan(payment.settled_fen)),
        ("Disputed", f"{yuan(payment.disputed_fen)} ({payment.reason})"),
        ("Claim", payment.claim_id.hex()),
        ("Payer's key", payment.payer.hex()),
        ("Payee's key", case.till.hex()),
        ("Card's tier", str(payment.tier)),
        ("Taken by", payment.operator or "somebody without a name"),
    ]
    if case.loss is not None:
        rows += [
            ("Borne by the guarantee fund", f"{yuan(case.loss.fund_fen)}, by {case.loss.by}"),
            ("Borne by the merchant", yuan(case.loss.payee_fen)),
        ]
    for facts in case.facts:
        rows.append(("Paid twice", f"fen {facts.lo} to {facts.hi} of title {facts.title_id.hex()}"))
    for entry in data["log"]:
        rows.append(("In the center's log", f"entry {entry['index']} of {entry['size']}"))
    rows += [(_DEADLINES[name], moment(time)) for name, time in case.deadlines.items()]
    steps = "".join(
        f"<tr><td>{moment(x.time)}<td>{html.escape(x.who)}<td>{html.escape(x.what)}"
        for x in case.timeline
    )
    facts_table = "".join(
        f"<tr><th>{html.escape(name)}<td>{html.escape(text)}" for name, text in rows
    )
    checks = "".join(
        f"<li><code>chipcash evidence verify {html.escape(name)} --network {FILE_NAME}</code>"
        for name in names
        if name.startswith("evidence-")
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8">'
        f"<title>Dispute {payment.claim_id.hex()[:16]}</title>\n"
        "<style>body{font:1rem/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "th,td{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0;overflow-wrap:anywhere}"
        "</style>\n"
        f"<h1>Dispute of {yuan(payment.disputed_fen)}</h1>\n<table>{facts_table}</table>\n"
        f"<h2>What happened</h2>\n<table>{steps}</table>\n"
        "<h2>Check it</h2>\n<p>Everything here is signed, and verifies with the network's public file.</p>"
        f"<ul>{checks}</ul>\n<h2>Files</h2>\n<p>{html.escape(', '.join(names))}</p>\n</html>\n"
    )


_STATES = {
    CaseState.OPEN: "the center has not been asked for evidence",
    CaseState.PROVEN: "the payer's key has signed two claims on the same money",
    CaseState.UNPROVEN: "the center has no evidence against the payer",
}
_DEADLINES = {
    "deposit": "To be deposited by",
    "payer_certificate": "Payer's certificate expires",
    "titles": "First of the titles expires",
}

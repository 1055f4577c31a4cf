# SPDX-License-Identifier: Apache-2.0
"""The case of a dispute: everything in it verifies by what is in it, and accuses nobody without proof."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from chipcash.books.center import find_in_log
from chipcash.books.disputes import Case, CaseState, case_files, cases, open_case, write_case
from chipcash.center.publishing import LogWriter
from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.log.merkle import leaf_hash, verify_inclusion
from chipcash.log.note import open_checkpoint
from chipcash.pos import Payment, PosError
from chipcash.terminal import verify_receipt
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from tests.books.test_reports import copied, tamper
from tests.center.test_publishing import new_log, reader
from tests.pos.shop import Shop


@pytest.fixture
def cloned(shop: Shop) -> tuple[Payment, Payment]:
    """Two payments of the same money, both deposited."""
    path = shop.card()
    clone = copied(path, "clone.img")
    first = shop.pay(path, 1200)
    shop.pos.operator = "<b>an</b>"
    second = shop.pay(clone, 1300)
    shop.now += 60
    shop.pos.sync(shop.center)
    return first, second


def test_a_case_is_proven_by_its_files_alone(
    shop: Shop, cloned: tuple[Payment, Payment], tmp_path: Path
) -> None:
    first, second = cloned
    with LogWriter(shop.center, new_log(tmp_path)) as writer:
        writer.publish()
    case = open_case(shop.pos, second.nonce, shop.center)
    assert case.state == CaseState.PROVEN
    assert case.loss is not None and case.loss.by == "the center's record"
    assert (case.loss.fund_fen, case.loss.payee_fen, case.loss.not_paid_fen) == (1300, 0, 0)
    offline = open_case(shop.pos, second.nonce).loss
    assert offline is not None and "rules" in offline.by
    assert (offline.fund_fen, offline.payee_fen) == (1300, 0)
    found = find_in_log(reader(tmp_path), [first.claim_id, second.claim_id])
    contents = case_files(case, shop.pos, (reader(tmp_path), found))
    write_case(tmp_path / "case", contents)
    with pytest.raises(FileExistsError):
        write_case(tmp_path / "case", contents)

    # From here on by what is in the folder.
    folder = tmp_path / "case"
    trust = Trust.load(folder / "network.ccn")
    data = json.loads((folder / "case.json").read_text())
    payment = o.Payment.decode((folder / "payment.bin").read_bytes())
    assert object_id(payment.claim).hex() == data["claim_id"]
    assert trust.signed_by(payment.claim, payment.certificate.subject)
    assert trust.signed_by_certification(payment.certificate)
    assert (folder / "claim.bin").read_bytes() == payment.claim.encode()
    assert (folder / "payer-certificate.bin").read_bytes() == payment.certificate.encode()
    deposit = o.Deposit.decode((folder / "deposit.bin").read_bytes())
    verify_receipt(o.Receipt.decode((folder / "receipt.bin").read_bytes()), deposit, trust)
    facts = verify_evidence(
        o.Evidence.decode((folder / "evidence-1.bin").read_bytes()), trust
    )  # fmt: skip
    other = o.Claim.decode((folder / "earlier-claim-1.bin").read_bytes())
    assert {object_id(other), object_id(payment.claim)} == set(facts.claim_ids)
    checkpoint, _ = open_checkpoint(
        (folder / "log-checkpoint.txt").read_bytes(), reader(tmp_path).log
    )
    assert {entry["claim_id"] for entry in data["log"]} == {x.hex() for x in facts.claim_ids}
    for entry in data["log"]:
        leaf = leaf_hash((folder / f"log-entry-{entry['index']}.bin").read_bytes())
        proof = [bytes.fromhex(each) for each in entry["proof"]]
        assert verify_inclusion(leaf, entry["index"], checkpoint.size, proof, checkpoint.root)
    page = (folder / "case.html").read_text()
    assert "&lt;b&gt;an&lt;/b&gt;" in page and "<b>an" not in page
    assert "chipcash evidence verify evidence-1.bin" in page

    write_case(tmp_path / "case.zip", contents)
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents


def test_what_happened_when(shop: Shop, cloned: tuple[Payment, Payment]) -> None:
    case = open_case(shop.pos, cloned[1].claim_id, shop.center)
    told = [(step.who, step.what) for step in case.timeline]
    assert told[0] == ("till", "asked a card for 13.00 yuan")
    for step in (
        ("till", "received → PENDING"),
        ("this till", "was paid 12.00 yuan by the same key out of the same title"),
        ("till", "SUBMITTED → DISPUTED"),
        ("center", "put the payer's key on the blacklist"),
    ):
        assert step in told
    assert [step.time for step in case.timeline] == sorted(step.time for step in case.timeline)
    assert case.deadlines["deposit"] == cloned[1].deadline
    assert [payment.claim_id for payment in cases(shop.pos)] == [cloned[1].claim_id]


def test_without_evidence_nobody_is_accused(shop: Shop) -> None:
    """Money that went back to its payer is lost, and no repeat payment."""
    paid = shop.pay(shop.card(), 700)
    claim = o.Payment.decode(paid.data).claim
    void = o.Void(
        header=shop.net.header, payee=shop.pos.public, nonce=paid.nonce, amount=700, time=shop.now
    )
    shop.center.register_void(void.signed(shop.pos.key.sign(void.message())))
    shop.pos.sync(shop.center)
    case = open_case(shop.pos, paid.claim_id, shop.center)
    assert (case.state, case.evidence) == (CaseState.UNPROVEN, ())
    assert "gave the request up" in case.payment.reason
    assert case.loss is not None
    assert (case.loss.fund_fen, case.loss.payee_fen, case.loss.not_paid_fen) == (0, 0, 700)
    assert open_case(shop.pos, paid.claim_id).state == CaseState.OPEN
    names = case_files(case, shop.pos)
    assert not [name for name in names if name.startswith(("evidence", "earlier"))]
    assert claim.encode() == names["claim.bin"]


def test_evidence_that_is_about_others_is_refused(
    shop: Shop, cloned: tuple[Payment, Payment]
) -> None:
    class Liar:
        """Answers for one claim with the evidence of another."""

        def claim(self, claim_id: bytes) -> dict[str, Any]:
            return shop.center.claim(cloned[1].claim_id)

        def titles(self, owner: bytes) -> tuple[o.Title, ...]:
            return ()

        def evidence(self, digest: bytes) -> o.Evidence:
            return shop.center.evidence(digest)

    path = shop.card("c")
    clone = copied(path, "d.img")
    shop.pay(path, 100)
    third = shop.pay(clone, 200)
    shop.pos.sync(shop.center)
    assert open_case(shop.pos, third.claim_id, shop.center).state == CaseState.PROVEN
    with pytest.raises(EvidenceInvalid, match="about other claims"):
        open_case(shop.pos, third.claim_id, Liar())


def test_no_case_of_what_is_no_dispute(shop: Shop, cloned: tuple[Payment, Payment]) -> None:
    with pytest.raises(PosError, match="VERIFIED, not DISPUTED"):
        open_case(shop.pos, cloned[0].claim_id)
    with pytest.raises(PosError, match="no such payment"):
        open_case(shop.pos, bytes(32))
    tamper(shop.pos.store, "UPDATE deposits SET receipt = x'00'")
    with pytest.raises(PosError, match="not signed by the center"):
        open_case(shop.pos, cloned[1].claim_id)


def test_a_case_as_json(shop: Shop, cloned: tuple[Payment, Payment]) -> None:
    case: Case = open_case(shop.pos, cloned[1].claim_id, shop.center)
    data = case.as_dict()
    assert data["outcomes"][0]["state"] == "disputed"
    assert data["outcomes"][0]["earlier_claim"] == cloned[0].claim_id.hex()
    assert data["evidence"][0]["claims"] == [x.hex() for x in case.facts[0].claim_ids]
    assert json.loads(json.dumps(data)) == data

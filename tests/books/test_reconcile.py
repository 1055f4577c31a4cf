# SPDX-License-Identifier: Apache-2.0
"""Three sides that agree, and each way in which they may not: found, with its proof and the next step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import chipcash.books.reconcile
from chipcash.bank.accounts import Accounts
from chipcash.bank.camt import Entry, camt053, camt054, read_camt, together
from chipcash.bank.errors import BankError
from chipcash.books.center import find_in_log
from chipcash.books.exports import slips
from chipcash.books.reconcile import (
    Finding,
    Reconciliation,
    Side,
    Till,
    Weight,
    claims_of,
    reconcile,
)
from chipcash.center.errors import CenterRefused, CenterUnreachable
from chipcash.center.publishing import LogWriter
from chipcash.pos import PaymentState, PosError
from chipcash.pos.events import What
from chipcash.slips import SlipInvalid, read_slips, verify_slip
from chipcash_wire import objects as o
from tests.books.test_reports import copied, tamper
from tests.builders import DAY, NOW, Network
from tests.center.test_publishing import new_log, reader
from tests.pos.shop import BadNetwork, Shop


class Bank:
    """The merchant's bank: the accounts, and the network's bank key."""

    def __init__(self, folder: Path, shop: Shop, fee_bp: int = 0) -> None:
        self.key = shop.net.public("bank")
        self.accounts = Accounts(
            folder / "accounts.db", self.key, shop.net.trust, lambda: shop.now, create=True
        )
        self.accounts.add("6222-01", "Kiosk", (shop.pos.public,), fee_bp)

    def statement(self) -> list[Entry]:
        found = self.accounts.statement("6222-01", 0, 1 << 31)
        return read_camt(camt053(found, NOW))


def sides(shop: Shop, credits: Sequence[Entry] | None = None, **options: object) -> Reconciliation:
    """All of the shop's time reconciled, with its center."""
    return reconcile(
        [Till("till", shop.pos)], 0, shop.now + 1, now=shop.now, centers={"till": shop.center},
        credits=credits, **options,
    )  # type: ignore[arg-type]  # fmt: skip


def only(done: Reconciliation) -> Finding:
    (finding,) = done.findings
    assert finding.next
    return finding


def codes(done: Reconciliation) -> list[tuple[str, str, int]]:
    return [(str(x.weight), x.code, x.fen) for x in done.findings]


def test_a_day_on_which_all_agree(shop: Shop, tmp_path: Path) -> None:
    bank = Bank(tmp_path, shop, fee_bp=30)
    path = shop.card()
    payments = [shop.pay(path, amount) for amount in (1200, 1300, 1500)]
    shop.pos.sync(shop.center)
    shop.pos.refund(payments[0].claim_id, 200, shop.center)
    shop.pos.spend(2000, bank.key, shop.center)
    shop.pos.redeem(shop.center, 1000)
    for slip in slips(shop.pos, 0, shop.now + 1):
        assert bank.accounts.credit(slip) is not None
        assert bank.accounts.credit(slip) is None  # once
    done = sides(shop, bank.statement(), every=True)
    assert done.agrees and not done.findings
    found = {what: (x.till, x.center, x.bank) for what, x in done.sums.items()}
    assert found == {
        "verified": (4000, 4000, None),
        "disputed": (0, 0, None),
        "expired": (0, 0, None),
        "refunded": (200, 200, None),
        "spent": (2000, 2000, 2000),
        "redeemed": (1000, 1000, 1000),
    }
    assert done.report.fees_fen == 6 + 3  # 0.3 %, in whole fen, of 20.00 and of 10.00
    assert done.asked == (Side.TILL, Side.CENTER, Side.BANK)


def test_what_still_waits_is_open_and_agrees(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 700)
    finding = only(sides(shop))
    assert (finding.weight, finding.code, finding.fen) == (Weight.OPEN, "not-deposited", 700)
    assert finding.ident == paid.claim_id.hex() and "pos sync" in finding.next
    shop.now = paid.deadline + 1
    assert only(sides(shop)).code == "overdue"
    with pytest.raises(CenterUnreachable):
        shop.pos.sync(BadNetwork(shop.center, 0, answer=True))  # settled, the answer was lost
    done = sides(shop)
    assert codes(done) == [("OPEN", "answer-outstanding", 700), ("OPEN", "money-outstanding", 700)]
    assert done.findings[0].said[Side.CENTER].startswith("VERIFIED") and done.agrees
    shop.pos.sync(shop.center)
    assert sides(shop).agrees and not sides(shop).findings


def test_repeat_payment_leads_to_a_case_and_lateness_to_none(shop: Shop) -> None:
    path = shop.card()
    clone = copied(path, "clone.img")
    shop.pay(path, 1200)
    second = shop.pay(clone, 1300)
    shop.pos.sync(shop.center)
    finding = only(sides(shop))
    assert (finding.weight, finding.code, finding.fen) == (Weight.LOST, "disputed", 1300)
    assert f"dispute export {second.claim_id.hex()}" in finding.next
    assert any(x.startswith("evidence ") for x in finding.evidence)
    late = shop.pay(shop.card("other"), 400)
    shop.now = late.deadline + DAY + 1
    shop.pos.sync(shop.center)
    assert (Weight.LOST, "expired", 400) in codes(sides(shop))
    assert sides(shop).agrees


def test_books_that_say_otherwise_than_the_signed_receipt(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    tamper(shop.pos.store, "UPDATE payments SET settled_fen = 1100")
    finding = next(x for x in sides(shop).findings if x.code == "books-differ")
    assert (finding.weight, finding.fen, finding.ident) == (
        Weight.DIFFERS, 100, paid.claim_id.hex()
    )  # fmt: skip
    assert "signed receipt" in finding.said[Side.CENTER]
    row = shop.pos.store.row("SELECT receipt FROM deposits")
    tamper(
        shop.pos.store,
        "UPDATE deposits SET receipt = ?",
        row["receipt"][:-1] + bytes([row["receipt"][-1] ^ 1]),
    )
    assert "receipt-forged" in [x.code for x in sides(shop).findings]


def test_a_center_that_forgot_or_contradicts_itself(shop: Shop) -> None:
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)

    class Forgetful:
        answer: dict[str, object] | None = None

        def claim(self, claim_id: bytes) -> dict[str, object]:
            if self.answer is None:
                raise CenterRefused("unknown", "No such claim.", status=404)
            return self.answer

        def titles(self, owner: bytes) -> tuple[o.Title, ...]:
            return ()

        def evidence(self, digest: bytes) -> o.Evidence:
            raise AssertionError

    center: Any = Forgetful()
    tills = [Till("till", shop.pos)]
    done = reconcile(
        tills, 0, shop.now + 1, now=shop.now, centers={"till": center}, every=True
    )  # fmt: skip
    assert codes(done) == [("DIFFERS", "center-denies", 1200), ("DIFFERS", "money-gone", 1200)]
    told = shop.center.claim(shop.pos.payments()[0].claim_id)
    told["outcomes"][0]["state"] = "disputed"
    center.answer = told
    done = reconcile(
        tills, 0, shop.now + 1, now=shop.now, centers={"till": center}, every=True
    )  # fmt: skip
    assert codes(done)[0] == ("DIFFERS", "center-contradicts", 1200)
    assert not done.agrees


def test_money_that_went_back_while_it_lay_at_the_till(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 700)
    shop.now = paid.deadline + DAY + 1
    claim = o.Payment.decode(paid.data).claim
    shop.center.reclaim(o.Reclaim(header=shop.net.header, claims=(claim,), voids=()))
    assert codes(sides(shop)) == [("LOST", "reclaimed", 700)]


def test_a_promised_refund_is_still_to_be_kept(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 700)
    shop.pos.promise_refund(paid.claim_id, 300)
    assert codes(sides(shop)) == [("OPEN", "not-deposited", 700), ("OPEN", "refund-promised", 300)]
    shop.pos.sync(shop.center)
    assert not sides(shop).findings
    assert shop.pos.x_report().line(What.REFUNDED).fen == 300


def test_every_finding_is_in_the_manual() -> None:
    """And nothing else is."""
    code = Path(chipcash.books.reconcile.__file__).read_text()
    named = set(re.findall(r'"([a-z]+-[a-z-]+|disputed|expired|reclaimed|overdue)"', code))
    manual = (Path(__file__).parents[2] / "docs" / "books.md").read_text()
    rows = re.findall(r"^\| (?:differs|lost|open) \| (.*?) \|", manual, re.MULTILINE)
    assert set(re.findall(r"`([a-z-]+)`", " ".join(rows))) == named


def test_books_that_do_not_balance(shop: Shop) -> None:
    shop.pay(shop.card(), 700)
    tamper(shop.pos.store, "DELETE FROM changes")
    assert codes(sides(shop))[0] == ("DIFFERS", "books-unbalanced", 700)


def test_a_till_at_work_is_no_finding(shop: Shop) -> None:
    """It pays out while the center is being asked."""
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)

    class Busy(BadNetwork):
        def claim(self, claim_id: bytes) -> dict[str, object]:
            return self.center.claim(claim_id)

        def titles(self, owner: bytes) -> Sequence[o.Title]:
            shop.pos.redeem(self.center)
            return super().titles(owner)

    center: Any = Busy(shop.center, -1, answer=False)
    done = reconcile(
        [Till("till", shop.pos)], 0, shop.now + 1, now=shop.now, centers={"till": center}
    )  # fmt: skip
    assert done.agrees and not done.findings


def test_with_the_log(shop: Shop, tmp_path: Path) -> None:
    """What the center has signed a receipt for is in its log, once that has come so far."""
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    tills = [Till("till", shop.pos)]
    log = new_log(tmp_path)
    with LogWriter(shop.center, log) as writer:
        writer.publish()
        found = find_in_log(reader(tmp_path), claims_of(tills, 0, shop.now + 1))
        (logged,) = found.claims.values()
        assert logged.word.judged.state == PaymentState.VERIFIED
        assert not sides(shop, log=found).findings
        shop.now += 1
        shop.pay(shop.card("later"), 100)
        shop.pos.sync(shop.center)
        assert not sides(shop, log=found).findings  # of later than the log's last entry
        writer.publish()
        hidden = find_in_log(reader(tmp_path), [])
        assert codes(sides(shop, log=hidden)) == [("DIFFERS", "not-in-log", 1200)]


def test_money_that_only_one_side_has(shop: Shop) -> None:
    shop.center.register_coin(shop.net.coin(300, shop.pos.public))
    assert codes(sides(shop)) == [("OPEN", "money-outstanding", 300)]
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    assert not sides(shop).findings
    assert not sides(shop, every=True).findings


@pytest.mark.parametrize(("spent", "whole"), [(1500, 1500), (1200, 1000), (300, 0)])
def test_money_that_another_copy_of_the_books_has_spent(shop: Shop, spent: int, whole: int) -> None:
    """What is gone of a title in part is found if the center is asked about each."""
    card = shop.card()
    for amount in (1000, 500):
        shop.pay(card, amount)
        shop.pos.sync(shop.center)
    shop.crash()
    books = shop.folder / "pos" / "pos.db"
    old = books.read_bytes()
    shop.pos.redeem(shop.center, spent)
    shop.crash()
    books.write_bytes(old)
    gone = [("DIFFERS", "money-gone", whole)] if whole else []
    assert codes(sides(shop)) == gone
    done = sides(shop, every=True)
    assert codes(done) == [("DIFFERS", "money-gone", spent)] and not done.agrees


def test_what_the_bank_did_not_credit(shop: Shop, tmp_path: Path) -> None:
    bank = Bank(tmp_path, shop)
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    sent = shop.pos.spend(1000, bank.key, shop.center)
    finding = only(sides(shop, bank.statement()))
    assert (finding.weight, finding.code, finding.fen) == (Weight.DIFFERS, "not-credited", 1000)
    assert finding.ident == sent.nonce.hex() and "slip" in finding.next
    (slip,) = slips(shop.pos, 0, shop.now + 1)
    bank.accounts.credit(slip)
    (entry,) = bank.statement()
    assert not sides(shop, [entry]).findings
    assert only(sides(shop, [entry, entry])).code == "credited-twice"
    # A day's and a week's statement, or a notice and a statement, tell of one booking; a message of two.
    assert not sides(shop, together([[entry], bank.statement()])).findings
    assert only(sides(shop, together([[entry], [entry, entry]]))).code == "credited-twice"
    # It is told, and takes one back.
    back = replace(entry, fen=-entry.fen, reference="STORNO")
    assert not sides(shop, together([[entry, entry], [back]])).findings
    assert only(sides(shop, together([[entry, back]]))).code == "not-credited"
    less = Entry(entry.nonce, 900, 0, entry.account, entry.reference, entry.day)
    assert codes(sides(shop, [less])) == [("DIFFERS", "credited-otherwise", 100)]
    other = Entry(bytes(16), 50, 0, entry.account, "X", entry.day)
    assert codes(sides(shop, [entry, other])) == [("DIFFERS", "unknown-credit", 50)]
    nothing = Entry(None, 99, 0, entry.account, "rent", entry.day)
    assert not sides(shop, [entry, nothing]).findings
    # Paid to somebody who is no bank.
    shop.pos.spend(100, shop.net.public("center"), shop.center)
    assert not sides(shop, [entry], banks=frozenset([bank.key])).findings


def test_a_transfer_that_came_too_late_is_had_back(shop: Shop) -> None:
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    with pytest.raises(CenterUnreachable):
        shop.pos.spend(500, shop.net.public("bank"), BadNetwork(shop.center, 0, answer=False))
    finding = only(sides(shop))
    assert (finding.weight, finding.code) == (Weight.OPEN, "transfer-outstanding")
    with pytest.raises(PosError, match="no transfer of that number"):
        shop.pos.reclaim(bytes.fromhex(finding.ident), shop.center)
    shop.now += 3 * DAY
    shop.pos.sync(shop.center)
    finding = only(sides(shop))
    assert (finding.weight, finding.code, finding.fen) == (Weight.OPEN, "not-settled", 500)
    assert "pos reclaim" in finding.next
    assert shop.pos.balance().verified_fen == 700
    assert shop.pos.reclaim(bytes.fromhex(finding.ident), shop.center) == 500
    assert shop.pos.reclaim(bytes.fromhex(finding.ident), shop.center) == 0
    assert not sides(shop).findings
    assert shop.pos.balance().verified_fen == 1200 == shop.money()
    good = shop.pos.spend(500, shop.net.public("bank"), shop.center)
    with pytest.raises(PosError, match="Nothing of this transfer came too late"):
        shop.pos.reclaim(good.nonce, shop.center)


def test_a_slip_proves_or_is_refused(shop: Shop, tmp_path: Path) -> None:
    bank = Bank(tmp_path, shop)
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    shop.pos.spend(500, bank.key, shop.center)
    shop.pos.spend(100, shop.net.public("center"), shop.center)
    good, elsewhere = slips(shop.pos, 0, shop.now + 1)
    paid = verify_slip(good, shop.net.trust)
    assert (paid.payer, paid.payee, paid.fen) == (shop.pos.public, bank.key, 500)
    data = good.encode() + elsewhere.encode()
    assert read_slips(data) == [good, elsewhere]
    with pytest.raises(BankError, match="another key"):
        bank.accounts.credit(elsewhere)
    for at in range(0, len(good.encode()), 7):
        broken = bytearray(good.encode())
        broken[at] ^= 1
        with pytest.raises(SlipInvalid):
            for slip in read_slips(bytes(broken)):
                verify_slip(slip, shop.net.trust)
    with pytest.raises(SlipInvalid):
        verify_slip(good, Network().trust)
    stranger = Accounts(tmp_path / "b.db", bank.key, shop.net.trust, create=True)
    with pytest.raises(BankError, match="No merchant"):
        stranger.credit(good)
    for fee in (None, 0, 25):  # that a till is added is no reason to change the fee
        was = bank.accounts.merchant("6222-01").fee_bp
        added = bank.accounts.add("6222-01", "Kiosk", (bytes(32) + b"x",), fee)
        assert added.fee_bp == (was if fee is None else fee)
    assert bank.accounts.add("6222-01", "Kiosk").fee_bp == 25
    assert stranger.add("1", "x").fee_bp == 0
    with pytest.raises(BankError, match="another merchant"):
        bank.accounts.add("6222-02", "Other", (shop.pos.public,))
    for account, name in (("", "x"), ("1" * 35, "x"), ("1\n", "x"), ("1", ""), ("1", "a\x01")):
        with pytest.raises(BankError, match="printable"):
            bank.accounts.add(account, name)
    with pytest.raises(BankError, match="no merchants"):
        Accounts(tmp_path / "none.db", bank.key, shop.net.trust)
    assert bank.accounts.statement("6222-01", 0, 1 << 31).closing == 0


def test_statements_of_days_join(shop: Shop, tmp_path: Path) -> None:
    bank = Bank(tmp_path, shop, fee_bp=100)
    path = shop.card()
    for _ in range(3):
        shop.pay(path, 1000)
        shop.pos.sync(shop.center)
        shop.pos.spend(1000, bank.key, shop.center)
        for slip in slips(shop.pos, 0, shop.now + 1):
            bank.accounts.credit(slip)
        shop.now += DAY // 2
    days = [
        bank.accounts.statement("6222-01", NOW + n * DAY, NOW + (n + 1) * DAY) for n in range(2)
    ]
    assert [len(day.credits) for day in days] == [2, 1]
    assert days[1].opening == days[0].closing == 1980
    assert days[1].closing == 2970
    entries = [entry for day in days for entry in read_camt(camt054(day, NOW))]
    assert sum(entry.fen + entry.fee for entry in entries) == 3000


def test_a_chain_of_tills_is_reconciled_as_one(shop: Shop, tmp_path: Path) -> None:
    bank = Bank(tmp_path, shop)
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other")
    other.center.close()
    other.net, other.center = shop.net, shop.center
    other.pos.sync(shop.center)
    bank.accounts.add("6222-01", "Kiosk", (other.pos.public,))
    tills = [Till("one", shop.pos), Till("two", other.pos)]
    for each, amount in ((shop, 600), (other, 900)):
        each.pay(each.card("c"), amount)
        each.pos.sync(shop.center)
        each.pos.spend(amount, bank.key, shop.center)
        for slip in slips(each.pos, 0, shop.now + 1):
            bank.accounts.credit(slip)
    centers = {"one": shop.center, "two": shop.center}
    done = reconcile(
        tills, 0, shop.now + 1, now=shop.now, centers=centers, credits=bank.statement()
    )
    assert done.agrees and not done.findings
    assert (done.sums["spent"].till, done.sums["spent"].bank) == (1500, 1500)
    # One till is forgotten: the bank's credit for it is nobody's.
    done = reconcile(tills[:1], 0, shop.now + 1, now=shop.now, credits=bank.statement())
    assert codes(done) == [("DIFFERS", "unknown-credit", 900)]
    with pytest.raises(ValueError):
        reconcile([tills[0], tills[0]], 0, 1, now=0)
    other.crash()


def test_what_is_next_names_the_till_and_the_day(shop: Shop, tmp_path: Path) -> None:
    """A chain has several, and what the bank has not credited may be of long ago."""
    shop.pay(shop.card(), 1200)
    tills = [Till("my till", shop.pos)]
    (waiting,) = reconcile(tills, 0, shop.now + 1, now=shop.now).findings
    assert waiting.next.endswith("chipcash pos sync --pos 'my till'")
    shop.pos.sync(shop.center)
    sent = shop.pos.spend(1000, shop.net.public("bank"), shop.center)
    (unpaid,) = reconcile(tills, 0, shop.now + 1, now=shop.now, credits=[]).findings
    day = date.fromtimestamp(shop.now)
    file = f"slip-{sent.nonce.hex()[:8]}.bin"
    assert unpaid.next.endswith(f"slips --day {day} -o {file} --pos 'my till'")


def test_what_is_spent_to_others_is_summed_apart_from_the_banks(shop: Shop, tmp_path: Path) -> None:
    bank = Bank(tmp_path, shop)
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    shop.pos.spend(1000, bank.key, shop.center)
    shop.pos.spend(100, shop.net.public("center"), shop.center)
    bank.accounts.credit(slips(shop.pos, 0, shop.now + 1)[0])
    done = sides(shop, bank.statement(), banks=frozenset([bank.key]))
    assert done.agrees and not done.findings
    found = {what: (x.till, x.center, x.bank) for what, x in done.sums.items()}
    assert found["spent"] == (1000, 1000, 1000)
    assert found["elsewhere"] == (100, 100, None)


def test_what_an_old_copy_of_the_books_tried_to_pay(shop: Shop) -> None:
    """The center has settled nothing of it, and nothing brings it back: the other copy has spent it."""
    shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    shop.crash()
    books = shop.folder / "pos" / "pos.db"
    old = books.read_bytes()
    shop.pos.redeem(shop.center, 1200)
    shop.crash()
    books.write_bytes(old)
    shop.pos.spend(700, shop.net.public("bank"), shop.center)
    finding = next(x for x in sides(shop).findings if x.ident)
    assert (finding.weight, finding.code, finding.fen) == (Weight.DIFFERS, "money-gone", 700)
    assert "reclaim" not in finding.next


def test_a_receipt_that_is_of_other_claims(shop: Shop) -> None:
    """Books of which a row points elsewhere."""
    for amount in (700, 500):
        shop.pay(shop.card(str(amount)), amount)
        shop.pos.sync(shop.center)
    tamper(
        shop.pos.store,
        "UPDATE payments SET deposit = (SELECT min(deposit) FROM payments)",
    )
    assert [x.code for x in sides(shop).findings] == ["receipt-forged"]


def test_a_coin_is_asked_about_once(shop: Shop) -> None:
    """Also where the till has many titles of it."""
    card = shop.card()
    for amount in (1000, 500, 200):
        shop.pay(card, amount)
        shop.pos.sync(shop.center)
    asked = []

    class Counting(BadNetwork):
        def claim(self, claim_id: bytes) -> dict[str, object]:
            return self.center.claim(claim_id)

        def coin(self, serial: bytes) -> dict[str, object]:
            asked.append(serial)
            return self.center.coin(serial)

    center: Any = Counting(shop.center, -1, answer=False)
    done = reconcile(
        [Till("till", shop.pos)], 0, shop.now + 1, now=shop.now, every=True,
        centers={"till": center},
    )  # fmt: skip
    assert not done.findings
    assert len(asked) == len(set(asked)) < shop.pos.store.row("SELECT count(*) FROM titles")[0]

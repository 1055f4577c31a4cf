# SPDX-License-Identifier: Apache-2.0
"""A day's books by commands: shifts, reports, the bank's credit, reconciling, exports, a dispute."""

from __future__ import annotations

import json
import shlex
from datetime import date, timedelta
from pathlib import Path

import pypdf

from tests.cli.conftest import Cli, Server
from tests.cli.test_story import make_money


def test_a_day_of_two_tills(cli: Cli, server: Server) -> None:
    make_money(cli)
    cli.json("sim", "clone", "a.img", "clone.img")
    keys = [cli.json("pos", "init", name)["key"] for name in ("till", "other")]
    for name in ("till", "other"):
        cli.json("pos", "sync", CHIPCASH_POS=name)

    # A shift, and its report.
    assert cli.json("pos", "report", "z", code=12)["error"] == "PosError"
    assert cli.json("pos", "shift", "open", "--operator", "an")["shift"] == 1
    paid = cli.json("pos", "charge", "36.80", "sim:a.img", "--operator", "an")
    cli.json("pos", "charge", "20", "sim:clone.img", CHIPCASH_POS="other")
    assert "36.80" in cli.run("pos", "report", "x", "--language", "zh").stdout
    closed = cli.json("pos", "shift", "close", CHIPCASH_OPERATOR="an")
    assert (closed["kind"], closed["number"], closed["closed_by"]) == ("Z", 1, "an")
    assert closed["balances"] and closed["closing_fen"]["pending"] == 3680
    for name in ("till", "other"):
        cli.json("pos", "sync", CHIPCASH_POS=name)
    assert cli.json("pos", "report", "z", "1", "-o", "z.pdf") == closed
    (page,) = pypdf.PdfReader(cli.folder / "z.pdf").pages
    assert "Z report 1" in page.extract_text() and "36.80" in page.extract_text()
    assert [x["closed_by"] for x in cli.json("pos", "shift", "list")["shifts"]] == ["an"]

    # Paid to the bank; what it has not credited yet does not agree.
    bank = cli.json("bank", "balance")["key"]
    cli.json("pos", "refund", paid["nonce"], "6.80")
    cli.json("pos", "spend", "20", bank)
    cli.json("pos", "redeem", "5")
    both = {"CHIPCASH_POS": "till:other"}
    assert cli.json("bank", "statement", "6222-01", code=30)["error"] == "BankError"
    tills = ("--till", keys[0], "--till", keys[1])
    cli.json("bank", "merchant", "6222-01", "Kiosk", "--fee-bp", "50", *tills)
    cli.json("bank", "statement", "6222-01", "-o", "empty.xml")
    wrong = cli.json("pos", "reconcile", "--statement", "empty.xml", code=1, **both)
    assert not wrong["agrees"]
    codes = sorted((x["weight"], x["code"], x["fen"]) for x in wrong["findings"])
    assert codes == [
        ("DIFFERS", "not-credited", 500),
        ("DIFFERS", "not-credited", 2000),
        ("LOST", "disputed", 2000),
    ]
    text = cli.run("pos", "reconcile", "--statement", "empty.xml", code=1, **both).stdout
    assert "do NOT agree" in text and "next: Give the bank the slip" in text
    # What is next works as it is typed, in a shop of several tills.
    for finding in wrong["findings"]:
        command = shlex.split(finding["next"].rpartition(": ")[2])
        assert command[0] == "chipcash"
        cli.json(*command[1:], **both)
    assert len(list(cli.folder.glob("slip-*.bin"))) == 2

    # The proofs go to the bank, and its statement comes back. What others were paid is not its business.
    cli.json("pos", "spend", "1", keys[1])
    cli.json("pos", "sync", CHIPCASH_POS="other")
    assert cli.json("pos", "export", "--format", "slips", "-o", "slips.bin", **both)["count"] == 3
    reserve = cli.json("bank", "balance")["reserve_fen"]
    credited = cli.json("bank", "credit", "slips.bin")
    assert (credited["amount_fen"], credited["fee_fen"], credited["reserve_fen"]) == (2500, 12, 500)
    assert credited["passed_over"] == 1
    assert cli.json("bank", "credit", "slips.bin")["credits"] == []
    now = cli.json("bank", "balance")
    assert (now["balance_fen"], now["reserve_fen"]) == (2000, reserve + 500)
    found = cli.json("bank", "statement", "6222-01", "--format", "camt054", "-o", "bank.xml")
    assert (found["opening_fen"], found["closing_fen"]) == (0, 2488)
    log = ["--log", "network/log.pub", "--log-at", "network/log/public"]
    log += ["--entries", "network/log/entries"]
    statement = ("--statement", "bank.xml")
    done = cli.json("pos", "reconcile", *statement, "--every", "--bank", bank, *log, **both)
    assert done["agrees"] and [x["code"] for x in done["findings"]] == ["disputed"]
    assert done["sums"]["spent"] == {"till_fen": 2000, "center_fen": 2000, "bank_fen": 2000}
    assert done["sums"]["elsewhere"] == {"till_fen": 100, "center_fen": 100, "bank_fen": None}
    assert done["sums"]["verified"]["till_fen"] == 3680
    assert done["report"]["fees_fen"] == 12
    assert "till and center agree" in cli.run("pos", "reconcile", "--offline").stdout
    cli.json("pos", "shift", "open")
    unwritten = cli.json("pos", "shift", "close", "-o", "none/z.pdf", code=12)
    assert "Shift 2 is closed" in unwritten["message"]
    assert cli.json("pos", "report", "z", "2", "-o", "z.pdf")["number"] == 2
    yesterday = (date.today() - timedelta(days=1)).isoformat()
    assert cli.json("pos", "reconcile", "--day", yesterday, "--offline")["findings"] == []
    assert cli.json("pos", "reconcile", "--day", "today", code=2)
    for day in ("0001-01-01", "9999-12-31"):
        assert "calendar" in cli.json("pos", "report", "day", "--day", day, code=2)["message"]
    for name in ("a\nb", "x" * 65, "\udcff"):
        assert "a name" in cli.json("pos", "shift", "open", "--operator", name, code=2)["message"]
    assert "before --day" in cli.json("pos", "report", "day", "--to", yesterday, code=2)["message"]
    twice = ("--pos", "till", "--pos", "./till")
    assert "named before" in cli.json("pos", "reconcile", *twice, "--offline", code=12)["message"]

    # Exports.
    for kind in ("csv", "beancount"):
        made = cli.json("pos", "export", "--format", kind, "-o", kind, *statement, **both)
        assert made["count"] > 8
    assert "36.80" in (cli.folder / "csv").read_text("utf-8-sig")
    assert "Expenses:Fees  0.12 CNY" in (cli.folder / "beancount").read_text()
    cli.json("pos", "export", "--format", "pdf", "-o", "pdf", *statement, **both)
    text = "".join(page.extract_text() for page in pypdf.PdfReader(cli.folder / "pdf").pages)
    assert "what the bank kept" in text and "0.12" in text
    assert cli.json("bank", "credit", "csv", code=31)["error"] == "SlipInvalid"
    bad = cli.json("pos", "reconcile", "--statement", "csv", code=32)
    assert bad["error"] == "MessageInvalid"

    # The dispute.
    other = {"CHIPCASH_POS": "other"}
    (lost,) = cli.json("pos", "dispute", "list", **other)["disputes"]
    offline = cli.json("pos", "dispute", "show", lost["claim_id"], "--offline", **other)
    assert (offline["state"], offline["loss"]["guarantee_fund_fen"]) == ("OPEN", 2000)
    case = cli.json("pos", "dispute", "export", lost["nonce"], "-o", "case", *log, **other)
    assert case["state"] == "PROVEN"
    assert case["loss"]["guarantee_fund_fen"] + case["loss"]["payee_fen"] == 2000
    assert len(json.loads((cli.folder / "case" / "case.json").read_text())["log"]) == 2
    assert (cli.folder / "case" / "case.html").read_text().startswith("<!DOCTYPE html>")
    network = ("--network", "case/network.ccn")
    verified = cli.json("evidence", "verify", "case/evidence-1.bin", *network)
    assert lost["claim_id"] in verified["claims"] and verified["overlap_fen"] == 2000
    cli.run("pos", "dispute", "export", lost["nonce"], "-o", "case", code=1, **other)
    assert cli.json("pos", "dispute", "show", paid["nonce"], code=12)["error"] == "PosError"
    assert cli.json("pos", "reclaim", "00" * 16, code=12)["error"] == "PosError"


def test_what_a_format_needs_is_named(tmp_path: Path) -> None:
    """Without the extra of the books, the message says which it is."""
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['xlsxwriter'] = sys.modules['reportlab'] = None\n"
        "from chipcash.books.exports import ExtraMissing, excel, pdf\n"
        "for write in excel, pdf:\n"
        "    try: write(None, None)\n"
        "    except ExtraMissing as error: print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("chipcash[books]") == 2

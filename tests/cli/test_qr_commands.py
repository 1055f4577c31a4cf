# SPDX-License-Identifier: Apache-2.0
"""Bills at the command line: the till's and the payer's processes, and between them nothing but codes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from chipcash import qr
from chipcash_wire import objects as o
from tests.cli.conftest import PIN, Cli, Server
from tests.cli.test_story import make_money
from tests.prefork import chipcash

CARD = "sim:a.img"


@pytest.fixture
def till(cli: Cli, server: Server) -> Cli:
    """A till, a card with money, and from here on no network."""
    make_money(cli)
    cli.json("pos", "init", "till")
    cli.json("pos", "sync")
    assert server.stop() == 0
    return cli


def typed(cli: Cli, *words: str, text: str, code: int = 0) -> str:
    """Run a command to which a scanner, or a person, types; what it says."""
    done = subprocess.run(
        [*chipcash(), *words], cwd=cli.folder, env=cli.env, input=text, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def seen(cli: Cli, name: str) -> str:
    """The text of the one code in a picture, as a scanner that is not ours reads it."""
    (code,) = zxingcpp.read_barcodes(Image.open(cli.folder / name))
    return str(code.text)


def spent(cli: Cli) -> int:
    return int(cli.json("card", "info", CARD)["spent_fen"])


def test_from_bill_to_verified_money(till: Cli, server: Server) -> None:
    bill = till.json("pos", "request", "36.80", "--qr", "bill.png")
    assert (bill["amount_fen"], bill["card"], bill["pictures"]) == (3680, None, ["bill.png"])
    text = seen(till, "bill.png")
    assert [text] == bill["texts"]
    assert till.json("pos", "last", code=13)["request"]["expiry"] == bill["expiry"]
    assert "pos accept" in till.run("pos", "last", code=13).stdout
    assert "bill until" in till.run("pos", "requests").stdout

    paid = till.json("card", "answer", text, CARD, "--yes", "--qr", "answer.png")
    assert (paid["paid"], paid["nonce"], paid["payee_id"]) == (
        True,
        bill["nonce"],
        bill["payee_id"],
    )
    answer = seen(till, "answer.png")
    again = till.json("card", "answer", text, CARD, "--yes")
    assert again["texts"] == paid["texts"] == [answer]

    taken = till.json("pos", "accept", answer)
    assert (taken["paid"], taken["state"], taken["claim_id"]) == (
        True,
        "PENDING",
        paid["claim_id"],
    )
    refused = till.json("pos", "accept", answer, code=12)
    assert refused["error"] == "PosError" and "pays for nothing else" in refused["message"]
    assert spent(till) == 3680 and till.json("pos", "last")["paid"]
    server.start()
    (change,) = till.json("pos", "sync")["changes"]
    assert change["state"] == "VERIFIED"
    assert PIN not in till.printed


def test_the_payer_presents_first(till: Cli) -> None:
    shown = till.json("card", "present", CARD, "--qr", "card.png")
    text = seen(till, "card.png")
    bill = till.json("pos", "request", "5", "--payer", text)
    assert bill["card"] == shown["key"]
    till.json("sim", "new", "b.img")
    told = till.json("card", "answer", text, CARD, "--yes", code=25)
    assert told["error"] == "QrError" and "Wanted is a bill" in told["message"]
    assert till.json("card", "answer", *bill["texts"], CARD, "--yes")["paid"]
    told = till.json("pos", "request", "2000", "--payer", text, code=12)
    assert "was asked" in told["message"]


def test_the_holder_is_asked(till: Cli) -> None:
    (text,) = till.json("pos", "request", "5")["texts"]
    said = typed(till, "card", "answer", text, CARD, text="n\n", code=1)
    assert "5.00 yuan" in said and "Nothing was paid" in said
    assert spent(till) == 0
    said = typed(till, "card", "answer", "-", CARD, text=f"{text.lower()}\r\ny\n")
    assert "Pay it?" in said and "The card paid 5.00 yuan" in said
    assert spent(till) == 500
    (line,) = [line for line in said.splitlines() if line.startswith("CHIPCASH:")]
    said = typed(till, "pos", "accept", text=f"\n{line}\n")
    assert "Paid: 5.00 yuan, Pending Repeat Payment Verification." in said


def test_a_person_sees_payee_amount_and_symbol(till: Cli) -> None:
    out = till.run("pos", "request", "5").stdout.splitlines()
    assert out[0].startswith("5.00 yuan, payable until ")
    assert out[1].startswith("Payee ") and len(out[1].split(":")[0]) == len("Payee ") + 19
    assert out[2:-1] == qr.show(out[-1])
    assert "\N{FULL BLOCK}" in out[2]


def test_damaged_incomplete_or_other_codes(till: Cli) -> None:
    bill = till.json("pos", "request", "5")
    (answer,) = till.json("card", "answer", *bill["texts"], CARD, "--yes")["texts"]
    for words, message in (
        (("nonsense",), "no code of chipcash"),
        ((answer[:-1],), "damaged"),
        ((answer[:-8],), "damaged"),
        (bill["texts"], "This code is a bill"),
        ((answer.replace("1/1", "1/2"),), "part 2 of 2 is missing"),
        ((answer, bill["texts"][0]), "different codes"),
    ):
        told = till.json("pos", "accept", *words, code=25)
        assert message in told["message"] and told["hint"], words
    done = subprocess.run(
        [*chipcash(), "pos", "accept", "--json"], cwd=till.folder, env=till.env, input=b"\xff\xfe\n",
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 25 and b"no code of chipcash" in done.stdout
    told = till.json("pos", "accept", code=25)
    assert "not complete" in told["message"]
    assert till.json("pos", "accept", answer)["paid"]


def test_expired(till: Cli) -> None:
    """The payer's clock says so; what was paid before is still taken."""
    bill = till.json("pos", "request", "5")
    request = qr.read(bill["texts"], o.Bill).request
    (old,) = qr.encode(o.Bill(request=request, expiry=request.time + 1).encode())
    answer = till.json("card", "answer", *bill["texts"], CARD, "--yes")["texts"]
    time.sleep(max(0, request.time + 2 - time.time()))
    told = till.json("card", "answer", old, CARD, "--yes", code=26)
    assert told["error"] == "BillRefused" and "has expired" in told["message"]
    assert till.json("card", "answer", old, CARD, "--yes", "--pin")["texts"] == answer
    assert till.json("pos", "accept", *answer)["paid"]


def test_another_till_another_network_and_given_up(till: Cli) -> None:
    till.json("pos", "init", "other")
    bill = till.json("pos", "request", "5")
    answer = till.json("card", "answer", *bill["texts"], CARD, "--yes")["texts"]
    told = till.json("pos", "accept", *answer, code=10, CHIPCASH_POS="other")
    assert told["facts"]["reason"] == "mismatch" and "somebody else" in told["message"]
    till.json("center", "init", "foreign", "--suite", "gm", CHIPCASH_HOME="foreign")
    till.json("pos", "init", "abroad", "--network", "foreign/network.ccn")
    told = till.json("pos", "accept", *answer, code=10, CHIPCASH_POS="abroad")
    assert told["facts"]["reason"] == "network"
    assert till.json("pos", "give-up")["voided"]
    told = till.json("pos", "accept", *answer, code=12)
    assert told["facts"]["state"] == "VOIDED"


def test_a_picture_that_cannot_be_written_takes_no_payment_away(till: Cli) -> None:
    (text,) = till.json("pos", "request", "5")["texts"]
    words = ("card", "answer", text, CARD, "--yes", "--qr")
    told: dict[str, Any] = till.json(*words, "answer.gif", code=2)
    assert ".png" in told["message"] and spent(till) == 0
    done = till.json(*words, str(Path("nowhere") / "answer.png"), code=1)
    assert done["paid"] and "was not written" in done["picture_error"]
    assert "The code above is good" in till.run(*words, "nowhere/answer.svg", code=1).stdout
    assert till.json("pos", "accept", *done["texts"])["paid"]


def test_a_payment_of_several_titles_has_several_parts(cli: Cli, server: Server) -> None:
    cli.json("bank", "reserve", "15")
    cli.json("sim", "new", "a.img")
    cli.json("card", "personalise", CARD)
    for _ in range(3):
        cli.json("bank", "issue", "5")
        cli.json("bank", "load", "5", CARD)
    cli.json("pos", "init", "till")
    cli.json("pos", "sync")
    assert server.stop() == 0
    (text,) = cli.json("pos", "request", "15")["texts"]
    done = cli.json("card", "answer", text, CARD, "--yes", "--qr", "answer.png")
    assert done["pictures"] == ["answer-1.png", "answer-2.png"]
    parts = [seen(cli, name) for name in done["pictures"]]
    assert parts == done["texts"]
    told = cli.json("pos", "accept", parts[1], code=25)
    assert told["facts"] == {"missing": [1], "total": 2}
    said = typed(cli, "pos", "accept", text=f"{parts[1]}\n{parts[1]}\n{parts[0]}\n")
    assert "Paid: 15.00 yuan" in said


def test_a_card_that_refuses_leaves_the_bill_open(till: Cli) -> None:
    (text,) = till.json("pos", "request", "100.01")["texts"]
    told = till.json("card", "answer", text, CARD, "--yes", code=7)
    assert "No money moved" in told["message"]
    (request,) = till.json("pos", "requests")["requests"]
    assert request["amount_fen"] == 10001 and request["expiry"] > request["time"]

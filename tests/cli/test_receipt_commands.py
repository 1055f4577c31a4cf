# SPDX-License-Identifier: Apache-2.0
"""Receipts at the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zxingcpp
from PIL import Image

from chipcash import qr
from chipcash.sandbox import Sandbox
from chipcash_wire import objects as o
from tests.cli.conftest import Cli


@pytest.fixture
def till(cli: Cli) -> Iterator[Cli]:
    """A till in `till`, and a card with money in a.img."""
    with Sandbox(cli.folder / "network") as sandbox:
        sandbox.till("till").close()
        sandbox.new_card(cli.folder / "a.img", 10_000)
        cli.env["CHIPCASH_POS"] = "network/till"
        yield cli


def test_receipts(till: Cli) -> None:
    cli = till
    assert "not paid" in cli.json("pos", "receipt", code=12)["message"]
    shop = ("pos", "shop", "--name", "Golden Dragon", "--site", "https://check.example/")
    assert cli.json(*shop)["name"] == "Golden Dragon"
    assert "no address" in cli.json("pos", "shop", "--site", "x", code=12)["message"]

    paid = cli.json("pos", "charge", "36.80", "sim:a.img")
    told = cli.json("pos", "receipt")
    assert paid["claim_id"].startswith(told["payment"]) and told["amount_fen"] == 3680
    site, _, text = told["code"].partition("#")
    claim = o.Claim.decode(_bytes(text))
    assert (site, claim.nonce.hex()) == ("https://check.example/", paid["nonce"])
    printed = cli.run("pos", "receipt", told["payment"]).stdout
    for words in ("Golden Dragon", "36.80 yuan", "待重复支付验证", "█"):
        assert words in printed

    look = ("--language", "en", "--paper", "58")
    files = ("--pdf", "r.pdf", "--html", "r.html", "--escpos", "r.bin", "--print", "file:lp0")
    (cli.folder / "lp0").touch()
    done = cli.json("pos", "receipt", paid["claim_id"], *look, *files)
    assert done["printed"] and set(done["files"]) == {"r.pdf", "r.html", "r.bin"}
    assert (cli.folder / "r.pdf").read_bytes().startswith(b"%PDF")
    assert (cli.folder / "lp0").read_bytes() == (cli.folder / "r.bin").read_bytes()
    assert "names no printer" in cli.json("pos", "receipt", "--print", "lpt1", code=60)["message"]
    assert "no payment" in cli.json("pos", "receipt", "ffffffff", code=12)["message"]


def _bytes(text: str) -> bytes:
    parts = qr.Parts()
    parts.add(text)
    return parts.data()


def test_a_code_drawn_for_a_terminal_is_the_receipts(till: Cli) -> None:
    """What a customer can photograph off the screen."""
    cli = till
    cli.json("pos", "charge", "1", "sim:a.img")
    code = cli.json("pos", "receipt")["code"]
    drawn = [
        line
        for line in cli.run("pos", "receipt").stdout.splitlines()
        if line and not set(line) - set(" █▀▄")
    ]
    picture = Image.new("L", (len(drawn[0]), 2 * len(drawn)))
    for y, line in enumerate(drawn):
        for x, block in enumerate(line):
            picture.putpixel((x, 2 * y), 255 * (block in "█▀"))
            picture.putpixel((x, 2 * y + 1), 255 * (block in "█▄"))
    large = picture.resize((6 * picture.width, 6 * picture.height), Image.Resampling.NEAREST)
    assert [found.text for found in zxingcpp.read_barcodes(large)] == [code]

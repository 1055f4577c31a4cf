# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong: one clear message, the right exit code, one JSON object where asked; no traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CHIPCASH, Cli, Server


@pytest.mark.parametrize("amount", ["0", "-1", "1.234", "1,50", "abc", "1e3", "1.", "9" * 30, "١"])
def test_amounts_that_are_none(cli: Cli, amount: str) -> None:
    done = cli.run("pos", "charge", "--json", "--", amount, code=2)
    told = json.loads(done.stdout)
    assert told["exit_code"] == 2 and "'AMOUNT'" in told["message"] and told["hint"]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["nonsense"], 2, "No such command"),
        (["pos", "balance", "--nonsense"], 2, "No such option"),
        (["pos", "balance"], 12, "holds no POS"),
        (["center", "check", "--home", "."], 1, "network.ccn"),
        (["center", "coin", "1234"], 2, "32 digits of hex"),
        (["card", "info", "sim:none.img"], 5, "no emulated card"),
        (["card", "info", "teleport:"], 2, "no way to reach a card"),
        (["sim", "clone", "none.img", "b.img"], 2, "does not exist"),
        (["evidence", "verify", "junk", "--network", "junk"], 1, "no chipcash object"),
    ],
)
def test_refusals(cli: Cli, words: list[str], code: int, part: str) -> None:
    (cli.folder / "junk").write_bytes(b"junk")
    told = cli.json(*words, code=code)
    assert part in told["message"], told
    plain = cli.run(*words, code=code)
    assert plain.stdout == "" and part in plain.stderr


def test_a_network_file_that_is_none(cli: Cli) -> None:
    (cli.folder / "junk").write_text("{}")
    told = cli.json("pos", "init", "till", "--network", "junk", code=9)
    assert told["error"] == "TrustError"
    assert not (cli.folder / "till" / "pos.db").exists()


def test_nothing_is_overwritten(cli: Cli, server: Server) -> None:
    before = (cli.folder / "network" / "center.key").read_bytes()
    cli.json("center", "init", "network", code=20)
    assert (cli.folder / "network" / "center.key").read_bytes() == before
    cli.json("pos", "init", "till")
    assert cli.json("pos", "init", "till", code=12)["message"].endswith("nothing was changed.")
    cli.json("sim", "new", "a.img")
    cli.json("sim", "new", "a.img", code=1)


def test_books_that_are_damaged(cli: Cli, server: Server) -> None:
    cli.json("pos", "init", "till")
    for name in ("till/pos.db", "network/bank.db", "network/ledger.db"):
        (cli.folder / name).write_bytes(b"ruined" * 1000)
    server.stop()
    for words in (["pos", "balance"], ["bank", "balance"], ["center", "check"]):
        told = cli.json(*words, code=18)
        assert "cannot be used" in told["message"] and "backup" in told["hint"]


def test_a_ledger_that_is_gone_is_not_begun_anew(cli: Cli, server: Server) -> None:
    server.stop()
    for file in (cli.folder / "network").glob("ledger.db*"):
        file.unlink()
    assert cli.json("center", "check", code=23)["error"] == "LedgerError"
    assert cli.json("center", "serve", "--port", "0", code=23)["error"] == "LedgerError"
    assert not (cli.folder / "network" / "ledger.db").exists()


def test_a_port_in_use(cli: Cli, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = cli.json("center", "serve", "--port", str(port), code=20)
    assert "cannot listen" in told["message"]


def test_somebody_else_answers(cli: Cli, server: Server) -> None:
    """A till of one network that is pointed at the center of another."""
    cli.json("center", "init", "foreign")
    cli.json("pos", "init", "till", "--network", "foreign/network.ccn")
    assert cli.json("pos", "sync", code=24)["error"] == "CenterReplyInvalid"


def test_no_pin_on_a_terminal_that_is_none(cli: Cli, server: Server) -> None:
    cli.json("sim", "new", "a.img")
    cli.json("card", "personalise", "sim:a.img")
    del cli.env["CHIPCASH_PIN"]
    cli.json("card", "titles", "sim:a.img", code=130)
    cli.json("card", "titles", "sim:a.img", code=2, CHIPCASH_PIN="12x4")


def test_a_reader_that_closes_its_end(cli: Cli) -> None:
    """`chipcash … | head` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*CHIPCASH, "doctor"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli: Cli, shell: str) -> None:
    done = subprocess.run(
        [str(Path(CHIPCASH[0]).parent / "chipcash")],
        env={**cli.env, "_CHIPCASH_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_CHIPCASH_COMPLETE" in done.stdout
    words = {"COMP_WORDS": "chipcash po", "COMP_CWORD": "1", "_CHIPCASH_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [str(Path(CHIPCASH[0]).parent / "chipcash")],
        env={**cli.env, **words},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(",")[1].strip() == "pos"


def test_cards_behind_a_private_pcscd(cli: Cli, server: Server) -> None:
    """`chipcash sim exec`: the card's own reader, a client that is not ours, and the client's exit code."""
    cli.json("sim", "new", "a.img")
    cli.json("card", "personalise", "sim:a.img")
    done = cli.run("sim", "exec", "--card", "a.img", "--", "opensc-tool", "-l")
    assert "chipcash 1" in done.stdout and "Yes" in done.stdout
    inner = [*CHIPCASH, "card", "info", "pcsc:", "--json"]
    done = cli.run("sim", "exec", "--card", "a.img", "--", *inner)
    assert '"build": "chipcash 0.1.0 micropython"' in done.stdout
    cli.run("sim", "exec", "--card", "a.img", "--", "sh", "-c", "exit 7", code=7)

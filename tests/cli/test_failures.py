# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong: one clear message, the right exit code, one JSON object where asked; no traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
from click.testing import CliRunner

from chipcash.cli import root
from chipcash.cli.base import until_ended
from chipcash_sim import runtime
from tests.cli.conftest import PIN, Cli, Server
from tests.prefork import CHIPCASH, chipcash


@pytest.mark.parametrize("amount", ["0", "-1", "1.234", "1,50", "abc", "1e3", "1.", "9" * 30, "١"])
def test_amounts_that_are_none(amount: str) -> None:
    words = ["pos", "charge", "--pos", ".", "--json", "--", amount]
    done = CliRunner(catch_exceptions=False).invoke(root, words)
    told = json.loads(done.stdout)
    assert (
        done.exit_code == 2
        and told["exit_code"] == 2
        and "'AMOUNT'" in told["message"]
        and told["hint"]
    )


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
def test_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("junk").write_bytes(b"junk")
    runner = CliRunner(
        catch_exceptions=False, env={"CHIPCASH_POS": ".", "CHIPCASH_NETWORK": "junk"}
    )
    done = runner.invoke(root, [*words, "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == code == told["exit_code"] and part in told["message"], told
    assert done.stderr == ""
    plain = runner.invoke(root, words)
    assert plain.exit_code == code and plain.stdout == "" and part in plain.stderr


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
    for words in (["check"], ["serve", "--port", "0"]):
        told = cli.json("center", *words, code=18)
        assert "ledger.db is missing" in told["message"] and "backup" in told["hint"]
    assert not (cli.folder / "network" / "ledger.db").exists()


@pytest.mark.parametrize("name", ["bank.db", "issuing.db"])
def test_a_bank_whose_books_are_gone_does_not_begin_anew(
    cli: Cli, server: Server, name: str
) -> None:
    """It would pay out the same titles, or issue against the same reserve, a second time."""
    for file in (cli.folder / "network").glob(f"{name}*"):
        file.unlink()
    assert f"{name} is missing" in cli.json("bank", "balance", code=18)["message"]
    assert not (cli.folder / "network" / name).exists()


def test_a_center_that_runs_already(cli: Cli, server: Server) -> None:
    told = cli.json("center", "serve", "--port", "0", code=50)
    assert "Another process is writing the log" in told["message"]


def test_a_port_in_use(cli: Cli) -> None:
    cli.json("center", "init", "network")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = cli.json("center", "serve", "--port", str(port), code=20)
    assert "cannot listen" in told["message"]


def test_somebody_else_answers(cli: Cli, server: Server) -> None:
    """A till of one network that is pointed at the center of another."""
    cli.json("center", "init", "foreign")
    cli.json("pos", "init", "till", "--network", "foreign/network.ccn")
    for command in ("sync", "reconcile"):
        assert cli.json("pos", command, code=24)["error"] == "CenterReplyInvalid"


def test_no_secret_in_the_bytes_that_are_shown(cli: Cli, server: Server) -> None:
    """At -vvv, with every command that carries a PIN or PUK, short and extended APDUs alike."""
    cli.json("sim", "new", "a.img")
    made = cli.run("-vvv", "card", "personalise", "sim:a.img", "--json")
    puk = json.loads(made.stdout)["puk"]
    new = "314159"
    shown = made.stderr
    for words in (
        ["card", "info", "sim:a.img", "--pin"],
        ["card", "change-pin", "sim:a.img"],
        ["card", "unblock", "sim:a.img"],
        ["card", "titles", "sim:a.img"],
    ):
        code = 8 if words[1] == "titles" else 0  # the PIN is another one by now
        secrets = {"CHIPCASH_NEW_PIN": new, "CHIPCASH_PUK": puk}
        shown += cli.run("-vvv", *words, code=code, **secrets).stderr
    for instruction in ("00e28000", "00200080", "00240080", "002c0080"):
        assert re.search(rf"> {instruction} \[\d+ bytes not logged\]", shown), instruction
    for secret in (PIN, new, puk):
        assert secret not in shown and secret.encode().hex() not in shown


def test_what_a_locale_cannot_print(cli: Cli) -> None:
    """Quotes of messages and names of files, where the terminal knows ASCII only."""
    done = cli.run("card", "info", "teleport:", code=2, PYTHONIOENCODING="ascii")
    assert "no way to reach a card" in done.stderr
    told = cli.json("card", "info", "sim:\u94b1.img", code=5, PYTHONIOENCODING="ascii")
    assert told["facts"]["path"] == "sim:\u94b1.img"
    cli.run("sim", "new", "\udcff.img", PYTHONIOENCODING="ascii")
    assert any(file.name == "\udcff.img" for file in cli.folder.iterdir())


def test_a_center_cannot_drive_the_terminal(cli: Cli, server: Server) -> None:
    """Escape sequences in what others send are not passed on."""
    body = json.dumps({"error": "no", "message": "\x1b[2Jred\x9b1m", "hint": "\rover"}).encode()
    head = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)

    def answer(listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link:
            link.recv(65536)
            link.sendall(head + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = cli.run("center", "accounts", "--center", url, code=22)
        thread.join()
    assert "red" in done.stderr and "over" in done.stderr
    assert not any(ord(x) < 32 or 127 <= ord(x) < 160 for x in done.stderr.replace("\n", ""))


def test_files_that_are_something_else(cli: Cli, server: Server) -> None:
    (cli.folder / "file").write_text("")
    (cli.folder / "folder").mkdir()
    cli.json("center", "init", "file", code=2)
    cli.json("center", "init", "file/below", code=1)
    cli.json("pos", "init", "file/below", code=1)
    cli.json("card", "info", "sim:folder", code=5)
    told = cli.json("bank", "balance", "--home", "folder", code=1)
    assert "folder" in told["message"]
    (cli.folder / "network" / "bank.key").write_text("{")
    assert cli.json("bank", "balance", code=19)["error"] == "CryptoError"


def test_a_disk_that_is_full(cli: Cli) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*CHIPCASH, "doctor"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0 and "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c(cli: Cli, server: Server) -> None:
    """While a center does not answer: no traceback, and all goes on afterwards."""
    cli.json("pos", "init", "till")
    cli.json("pos", "sync")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = ["pos", "sync", "--center", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        with subprocess.Popen(
            [*CHIPCASH, *words, "--json"], cwd=cli.folder, env=cli.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            link, _ = silent.accept()
            link.recv(1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
            link.close()
    assert process.returncode == 130 and "Traceback" not in err
    assert json.loads(out)["error"] == "Interrupted"
    assert cli.json("pos", "sync")["pending_fen"] == 0


def test_a_service_manager_ends_the_center(cli: Cli, server: Server) -> None:
    assert server.process is not None and server.process.stdout is not None
    server.process.terminate()
    assert server.process.wait(120) == 0
    assert server.process.stdout.read() == ""  # one object, the one with the URL
    server.process.stdout.close()
    server.process = None


def test_an_interrupt_that_python_drops() -> None:
    """It is raised in a callback here, as an import has them, and comes again."""
    thing = {0}
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    with until_ended():
        del thing
        time.sleep(20)
        pytest.fail("it went on")
    assert reference() is None


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


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("chipcash po", "pos"),
        ("chipcash pos bal", "balance"),
        ("chipcash pos list --sta", "--state"),
    ],
)
def test_completions(typed: str, found: str) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    runner = CliRunner(env={**words, "_CHIPCASH_COMPLETE": "bash_complete"})
    done = runner.invoke(root, prog_name="chipcash")
    assert done.stdout == f"plain,{found}\n"


def test_a_card_in_a_virtual_reader(cli: Cli) -> None:
    """`chipcash sim run` says when the card is there, takes it out when told, and says where none is."""
    cli.json("sim", "new", "a.img")
    told = cli.json("sim", "run", "a.img", "--port", "9", "--runtime", "cpython", code=1)
    assert told["error"] == "SimError" and "No virtual reader" in told["message"]
    script = """
import json, os, signal, subprocess, sys
chipcash = [sys.executable, "-m", "chipcash"]
port = os.environ["CHIPCASH_VPCD_PORTS"]
for number in (signal.SIGINT, signal.SIGTERM):
    card = subprocess.Popen([*chipcash, "sim", "run", "a.img", "--port", port, "--json"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = card.stderr.readline()
    assert "is in the reader \u201cchipcash 1 00 00\u201d (micropython)" in line, line
    info = subprocess.run([*chipcash, "card", "info", "--json"], stdout=subprocess.PIPE)
    assert json.loads(info.stdout)["life"] == "blank"
    card.send_signal(number)
    out, err = card.communicate()
    assert card.returncode == 0 and err == "", err
    assert json.loads(out) == {"image": "a.img", "reader": "chipcash 1 00 00", "ended": "removed"}
    while subprocess.run([*chipcash, "card", "info", "--wait", "0"], capture_output=True).returncode != 5:
        pass
"""
    done = subprocess.run(
        [sys.executable, "-m", "chipcash_sim.pcscd", "--", sys.executable, "-c", script],
        cwd=cli.folder,
        env=cli.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_cards_behind_a_private_pcscd(cli: Cli, server: Server) -> None:
    """`chipcash sim exec`: the card's own reader, a client that is not ours, and the client's exit code."""
    cli.json("sim", "new", "a.img")
    cli.json("card", "personalise", "sim:a.img")
    done = cli.run("sim", "exec", "--card", "a.img", "--", "opensc-tool", "-l")
    assert "chipcash 1" in done.stdout and "Yes" in done.stdout
    inner = [*chipcash(), "card", "info", "pcsc:", "--json"]
    done = cli.run("sim", "exec", "--card", "a.img", "--", *inner)
    assert f'"build": "{runtime.build()} micropython"' in done.stdout
    cli.run("sim", "exec", "--card", "a.img", "--", "sh", "-c", "exit 7", code=7)
    cli.run("sim", "exec", "--card", "a.img", "--", "no-such-program", code=127)
    done = cli.run("sim", "exec", "--card", "a.img", "--json", "--", "echo", "said")
    assert json.loads(done.stdout) == {"program": ["echo", "said"], "exit_code": 0}
    assert done.stderr == "said\n"

# SPDX-License-Identifier: Apache-2.0
"""Tests' commands that are forked are what commands are that the entry point starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import prefork
from tests.cli.conftest import Cli

WAYS = {"forked": prefork.chipcash, "started": lambda: prefork.CHIPCASH}


def outcome(cli: Cli, way: str, *words: str, text: bytes = b"") -> tuple[Any, ...]:
    """What a command does: its exit code, what it prints, the files in its folder."""
    folder = cli.folder / way
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [*WAYS[way](), *words], cwd=folder, env=cli.env, input=text, capture_output=True,
        umask=0o077, timeout=60, check=False,
    )  # fmt: skip
    files = {file.name: file.stat().st_mode for file in folder.iterdir()}
    return done.returncode, done.stdout, done.stderr, files


def test_the_same_comes_of_it(cli: Cli) -> None:
    for words, text in (
        (["--version"], b""),
        (["sim", "new", "\u94b1.img"], b""),
        (["sim", "new", "\u94b1.img", "--json"], b""),  # a failure
        (["card", "info", "teleport:"], b""),  # in words
        (["card", "info", "sim:\udcff"], b""),
        (["nonsense", "--json"], b""),
        (["pos", "accept"], b"\xff\xfe\n"),
        (["-vv", "pos", "balance"], b""),
    ):
        told = [outcome(cli, way, *words, text=text) for way in WAYS]
        assert told[0] == told[1], words


def test_the_same_without_a_client(cli: Cli) -> None:
    for words in (["card", "info", "teleport:"], ["sim", "new", "a.img", "--json"]):
        done = prefork.run(*words, cwd=cli.folder, env=cli.env, timeout=60)
        (cli.folder / "a.img").unlink(missing_ok=True)
        true = subprocess.run(
            [*prefork.CHIPCASH, *words], cwd=cli.folder, env=cli.env, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (
            true.returncode, true.stdout, true.stderr,
        )  # fmt: skip


def test_what_python_reads_at_its_start(cli: Cli) -> None:
    """A command in an environment that would make another Python is started."""
    cli.env["PYTHONIOENCODING"] = "latin-1"
    told = [outcome(cli, way, "card", "info", "sim:\u94b1.img") for way in WAYS]
    assert told[0] == told[1]
    assert rb"\u94b1.img" in told[0][2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("number", "code"), [("SIGINT", 0), ("SIGTERM", 0), ("SIGQUIT", -3), ("SIGKILL", -9)]
)
def test_signals(cli: Cli, way: str, number: str, code: int) -> None:
    """It ends as it is told; what is killed leaves nothing that runs."""
    cli.json("center", "init", "network")
    process = subprocess.Popen(
        [*WAYS[way](), "center", "serve", "--port", "0", "--json"],
        cwd=cli.folder, env=cli.env, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    port = int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
    process.send_signal(getattr(signal, number))
    assert process.wait(120) == code
    assert process.stdout.read() == b""  # its end is closed by now, so it has ended
    process.stdout.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_as_bash_runs_it_in_a_sandbox(tmp_path: Path) -> None:
    """In the namespaces, and behind `&`, where an interrupt is ignored."""
    script = """
        chipcash sim new a.img >out
        chipcash sim exec --card a.img -- chipcash card info --json
        chipcash center init network >>out
        chipcash center serve --home network --port 8700 --json >served &
        until [ -s served ]; do sleep 0.05; done
        kill -INT $!; sleep 0.1; chipcash center accounts --network network/network.ccn >>out
        kill -TERM $!; wait $!
    """
    done = subprocess.run(
        [sys.executable, "-m", "chipcash_sim.pcscd", "--", "bash", "-euc", script],
        cwd=tmp_path,
        env={**prefork.environment(), "PATH": f"{prefork.on_path()}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["life"] == "blank" and done.stderr == ""

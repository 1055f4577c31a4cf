# SPDX-License-Identifier: Apache-2.0
"""The command line as its user runs it: a process for each command, in a folder of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import prefork

PIN = "258013"


class Cli:
    """Runs chipcash in a folder. Keeps all that was printed, to look for secrets in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{name: x for name, x in prefork.environment().items() if "CHIPCASH" not in name},
            "CHIPCASH_HOME": "network",
            "CHIPCASH_NETWORK": "network/network.ccn",
            "CHIPCASH_POS": "till",
            "CHIPCASH_PIN": PIN,
        }
        self.printed = ""

    def run(self, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command, which must end with this exit code and no traceback."""
        done = prefork.run(*words, cwd=self.folder, env={**self.env, **env}, timeout=60)
        both = done.stdout + done.stderr
        self.printed += both
        if done.returncode != code:  # an assertion would show a part of what it printed
            pytest.fail(f"{words}: exit code {done.returncode}, not {code}\n{both}", pytrace=False)
        assert "Traceback" not in both, both
        return done

    def json(self, *words: str, code: int = 0, **env: str) -> dict[str, Any]:
        """Run a command with --json; the one object that it prints."""
        found = json.loads(self.run(*words, "--json", code=code, **env).stdout)
        assert isinstance(found, dict)
        if code and "exit_code" in found:
            assert found["exit_code"] == code
            assert {"error", "message", "hint"} <= found.keys()
        return found


class Server:
    """`chipcash center serve` on a free port, started and stopped as a person would."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Serve; the same port as before, if it ran before."""
        self.process = subprocess.Popen(
            [*prefork.chipcash(), "center", "serve", "--port", str(self.port), "--json"],
            cwd=self.cli.folder,
            env=self.cli.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        url = json.loads(self.process.stdout.readline())["url"]
        self.port = int(url.rpartition(":")[2])
        self.cli.env["CHIPCASH_CENTER"] = url

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(120)
        self.process.stdout.close()
        self.process = None
        return code


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def server(cli: Cli) -> Iterator[Server]:
    cli.json("center", "init", "network")
    found = Server(cli)
    found.start()
    yield found
    if found.process is not None:
        found.stop()

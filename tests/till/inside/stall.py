# SPDX-License-Identifier: Apache-2.0
"""A shop's till as its owner runs it: `chipcash pos run` as a process, at a reader of a private pcscd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chipcash.pos import Pos
from chipcash.sandbox import PcscReader, Sandbox
from chipcash_sim.pcscd import Session

__all__ = ["FIRST", "OWN", "Stall"]

CHIPCASH = [sys.executable, "-m", "chipcash"]
FIRST = {"li": "250250", "wang": "first words for you"}
OWN = {"li": "739146", "wang": "own secret words 77"}
ROLES = {"li": "cashier", "wang": "manager"}


class Stall:
    """A network, a till of it that runs, and its reader.

    url: of the page; directory: of the till.
    """

    def __init__(self, folder: Path, session: Session, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.reader = PcscReader(session.readers[0], session.ports[0])
        sandbox.till("till").close()
        self.directory = sandbox.directory / "till"
        self.env = {**os.environ, "CHIPCASH_POS": str(self.directory), "TZ": "UTC"}
        for name, role in ROLES.items():
            subprocess.run(
                [*CHIPCASH, "pos", "staff", "add", name, "--role", role],
                env={**self.env, "CHIPCASH_STAFF_PASSWORD": FIRST[name]},
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, port: int = 0) -> None:
        """Run the till, after a kill at the same address."""
        port = port or (int(self.url.rpartition(":")[2]) if self.url else 0)
        self._process = subprocess.Popen(
            [*CHIPCASH, "pos", "run", "--reader", self.reader.paths[0], "--port", str(port), "--json"],
            env=self.env, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        assert "url" in told, told
        self.url = told["url"]

    def kill(self) -> None:
        """As a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(120)
        self._process.stdout.close()  # type: ignore[union-attr]
        return code

    @contextmanager
    def books(self) -> Iterator[Pos]:
        """The till's books, looked at from outside."""
        with Pos(self.directory) as pos:
            yield pos

    def close(self) -> None:
        """Take everything away."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.reader.close()

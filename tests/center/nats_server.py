# SPDX-License-Identifier: Apache-2.0
"""NATS servers of the tests' own: one, or a cluster, on ports that are free, with their files in a folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

_START_S = 20


def program() -> str | None:
    """The server, None if it is not installed."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.is_file() else shutil.which("nats-server")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Nats:
    """Servers that run; skips the test if none is installed. start() and kill() take the number of one."""

    def __init__(self, folder: Path, servers: int = 1) -> None:
        found = program()
        if found is None:
            pytest.skip("NATS's server is not installed; run: make setup")
        self._program = found
        self.folder = folder
        ports = free_ports(2 * servers)
        self._clients, self._routes = ports[:servers], ports[servers:]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"nats://127.0.0.1:{port}" for port in self._clients)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    def begin(self, users: Path) -> None:
        """Start all of them. users: the file with the users' permissions."""
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self._routes)
        for number, (port, route) in enumerate(zip(self._clients, self._routes, strict=True)):
            cluster = ""
            if len(self._clients) > 1:
                cluster = f"cluster {{name: test, listen: '127.0.0.1:{route}', routes: [{routes}]}}"
            (self.folder / f"nats{number}.conf").write_text(
                f"include '{users.relative_to(self.folder)}'\n"
                f"server_name: n{number}\nlisten: '127.0.0.1:{port}'\n{cluster}\n"
                f"jetstream {{store_dir: '{self.folder / f'nats{number}'}'}}\n"
            )
            self.start(number)

    def start(self, number: int) -> None:
        """Start one, also after kill()."""
        log = self.folder / f"nats{number}.log"
        with log.open("ab") as told:
            self._processes[number] = subprocess.Popen(
                [self._program, "-c", str(self.folder / f"nats{number}.conf")],
                stdout=subprocess.DEVNULL,
                stderr=told,
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._clients[number])):
                return
            time.sleep(0.02)
        raise AssertionError(log.read_text())

    def kill(self, number: int) -> None:
        """End one at once, as a crash does."""
        process = self._processes.pop(number)
        process.kill()
        process.wait()

    def forget(self, number: int) -> None:
        """Remove all that a killed one has kept."""
        shutil.rmtree(self.folder / f"nats{number}")

    def close(self) -> None:
        """End all of them."""
        for number in list(self._processes):
            self.kill(number)

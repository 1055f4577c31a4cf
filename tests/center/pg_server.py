# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of the tests' own: one for each test process, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

_START_S = 30


def programs() -> Path | None:
    """Where the server's programs are, None if it is not installed."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    return found[-1].resolve() if found else None


class Server:
    """A running server; skips the test if none is installed.

    It listens on a socket in its folder only, so that two never meet. durable: whether it waits for the disk.
    What a killed process wrote is in the system's cache all the same, and no test cuts the machine's power.
    of: the server that it is a standby of, from its beginning on.
    """

    def __init__(self, durable: bool = False, of: Server | None = None) -> None:
        found = programs()
        if found is None:
            pytest.skip("PostgreSQL's server is not installed; run: make setup")
        self._programs = found
        self._fsync = "on" if durable else "off"
        # Sockets have short paths, so not in a test's own folder.
        self.folder = Path(tempfile.mkdtemp(prefix="chipcash-pg-"))
        self._as: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            who = pwd.getpwnam("nobody")
            os.chown(self.folder, who.pw_uid, who.pw_gid)
            self._as = [
                "setpriv",
                f"--reuid={who.pw_uid}",
                f"--regid={who.pw_gid}",
                "--clear-groups",
            ]
        self._data = self.folder / "data"
        data = str(self._data)
        if of is None:
            self._run(["initdb", "--username=chipcash", "--auth=trust", "--no-sync", "-D", data])
        else:
            # It copies what the other is just writing, and follows it from there (-R).
            source = of.url("postgres")
            self._run(["pg_basebackup", "-R", "-c", "fast", "--no-sync", "-d", source, "-D", data])
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, also after kill()."""
        self._begin()
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                assert self._process is not None
                if self._process.poll() is not None:
                    self._begin()  # a killed one's processes were not all gone yet

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [
                *self._as, self._programs / "postgres", "-D", self._data, "-k", self.folder,
                "-c", "listen_addresses=", "-c", f"fsync={self._fsync}", "-c", "max_connections=40",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End all its processes at once, as a crash does. May be repeated."""
        assert self._process is not None
        if self._process.poll() is not None:
            return
        pid = self._process.pid
        os.kill(
            pid, signal.SIGSTOP
        )  # else it may begin one more, which would keep the next from starting
        # Each connection has a process in a session of its own.
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait()
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def wait_for_standby(self) -> None:
        """From now on a commit waits until a standby has it; returns when there is one."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + _START_S
            while not connection.execute(
                "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            ).fetchone():
                assert time.monotonic() < deadline, "the standby does not follow"
                time.sleep(0.02)

    def promote(self) -> None:
        """Make a standby the server that is written to."""
        self._run(["pg_ctl", "promote", "-w", "-D", str(self._data)])

    def close(self) -> None:
        """End it, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Where a database is."""
        return f"postgresql://chipcash@/{database}?host={self.folder}"

    def failover_url(self, database: str, *others: Server) -> str:
        """Where a database is, on whichever of the servers takes what is written."""
        hosts = ",".join(str(server.folder) for server in (self, *others))
        return f"postgresql://chipcash@/{database}?host={hosts}&target_session_attrs=read-write"

    def database(self, name: str) -> str:
        """Where a new empty database is."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run(
            [*self._as, self._programs / command[0], *command[1:]],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )

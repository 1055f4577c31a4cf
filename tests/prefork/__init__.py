# SPDX-License-Identifier: Apache-2.0
"""`chipcash` without the wait for its imports: a server that has done them, and forks for each command.

To import what it needs takes a command up to a second, and tests and documents run more than a thousand of
them. Forked, it is a process all the same: with its caller's arguments, environment, folder, umask, standard
streams and namespaces; signals are passed on to it, its exit code comes back, and it is killed when its
caller is. Not its caller's are process group, session and limits, and /proc shows the server's command line.
tests/cli/test_prefork.py compares both ways. Tests whose point is the start itself take the entry point.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tests.prefork import client

CHIPCASH = [sys.executable, "-m", "chipcash"]
"""The command line of the entry point."""


def environment() -> dict[str, str]:
    """This process's environment without what Python heeds when it starts: in it a command can be forked."""
    early = ("PYTHON", "LC_", "LANG")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(early)},
        "LANG": "C.UTF-8",
    }


@functools.cache
def _server() -> Path:
    """Start a server, which ends with this process; its socket."""
    folder = Path(tempfile.mkdtemp(prefix="chipcash-prefork-"))
    path = folder / "socket"
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("server.py"), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,  # Ctrl-C is for the tests
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"

    def close() -> None:
        process.communicate()
        shutil.rmtree(folder)

    atexit.register(close)
    return path


def chipcash(module: str = "chipcash") -> list[str]:
    """A command line for subprocess, to which chipcash's arguments are added, or those of another module."""
    return [sys.executable, "-IS", client.__file__, str(_server()), module]


def on_path() -> str:
    """A folder for PATH with a program `chipcash`."""
    program = _server().parent / "bin" / "chipcash"
    if not program.exists():
        program.parent.mkdir()
        words = " ".join(f"'{word}'" for word in chipcash())
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(0o755)
    return str(program.parent)


def run(
    *words: str, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run of chipcash, without input, and what it prints captured."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        open(os.devnull) as nothing,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link,
    ):
        link.settimeout(timeout)
        link.connect(str(_server()))
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        client.ask(link, "chipcash", words, dict(env), str(cwd), streams)
        code = client.answer(link)
        if code is None:
            process = subprocess.run(
                [*CHIPCASH, *words], cwd=cwd, env=env, stdin=nothing, stdout=out, stderr=err,
                timeout=timeout, check=False,
            )  # fmt: skip
            code = process.returncode
        return subprocess.CompletedProcess(words, code, _read(out), _read(err))


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()

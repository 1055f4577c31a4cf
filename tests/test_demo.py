# SPDX-License-Identifier: Apache-2.0
"""`chipcash demo` as its user runs it: MicroPython cards behind a real pcscd, and where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chipcash.evidence import verify_evidence
from chipcash.trust import Trust, object_id
from chipcash_sim import pcscd
from chipcash_wire import objects as o


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chipcash", "demo", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("suite", ["p256", "gm"])
def test_the_story(suite: str, tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    done = run("--suite", suite, "--json", "--keep", str(keep))
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    taps = facts.pop("tap_ms")
    evidence = facts.pop("evidence")
    assert facts == {
        "runtime": "micropython",
        "link": "pcsc",
        "suite": suite,
        "pending_fen": 4880,
        "pending_spend_refused": True,
        "torn_retry_same_bytes": True,
        "torn_paid_once": True,
        "verified_fen": {"B": 4880, "C": 0},
        "disputed_fen": {"B": 0, "C": 2000},
        "evidence_verifies": True,
        "clone_refused": True,
        "issued_fen": 10000,
        "live_fen": 5120,
        "redeemed_fen": 4880,
        "accounted_fen": 10000,
        "reserves_fen": {"Bank of China": 0, "ICBC": 4880},
        "notes": [],
    }
    assert len(taps) == 3 and all(tap > 0 for tap in taps)
    # What it leaves behind is what it told of.
    left = o.Evidence.decode((keep / "evidence.bin").read_bytes())
    trust = Trust.load(keep / "network" / "network.ccn")
    assert object_id(left).hex() == evidence
    assert verify_evidence(left, trust).hi == 2000
    assert (keep / "a.img").read_bytes() != (keep / "clone.img").read_bytes()


def test_it_reads_as_a_story() -> None:
    done = run("--link", "sim", "--runtime", "cpython")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    titles = [line[4:] for line in done.stdout.splitlines() if line[:3].strip().isdigit()]
    assert titles == [
        "The central bank issues 100.00 yuan to the Bank of China",
        "The Bank of China gives 100.00 yuan to A's card",
        "Offline: A pays merchant B 36.80 yuan",
        "Offline: A pays B 12.00 yuan more, and the card is torn off before it answers",
        "Offline: the copy of A's card pays merchant C 20.00 yuan",
        "The network is back: B and C synchronise",
        "The copy tries again at C",
        "B deposits 48.80 yuan at its bank, ICBC",
        "ICBC redeems 48.80 yuan",
        "The day's accounts balance to the fen",
    ]
    last = [line for line in done.stdout.splitlines() if "center's record" in line][-1]
    assert last.index("redeemed 48.80") < last.index("A 51.20")


def test_without_pcscd_it_says_so_and_goes_on(tmp_path: Path) -> None:
    """On a machine whose system directories hold no pcscd, which a mount over them makes."""
    assert pcscd.available() is None
    hide = 'for d in /usr/sbin /sbin /usr/local/sbin; do mount -t tmpfs none $d; done; exec "$@"'
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-U", "-r", "-m"]
    demo = [sys.executable, "-m", "chipcash", "demo", "--json"]
    done = subprocess.run(
        [*unshare, "sh", "-c", hide, "sh", *demo],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["link"], facts["runtime"]) == ("sim", "micropython")
    assert "pcscd is not installed" in facts["notes"][0]
    assert "pcscd is not installed" in done.stderr


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = run("--link", "sim", "--json", "--keep", str(tmp_path))
    assert done.returncode == 2 and "not empty" in done.stdout + done.stderr
    assert os.listdir(tmp_path) == ["mine"]

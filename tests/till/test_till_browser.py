# SPDX-License-Identifier: Apache-2.0
"""Starts the tests in Chromium in a private pcscd: inside/test_till_day_inside.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chipcash_sim import pcscd

INNER = Path(__file__).parent / "inside/test_till_day_inside.py"


@pytest.mark.timeout(660)  # a minute, where nobody else wants the processor
def test_the_till_in_a_browser() -> None:
    reason = pcscd.available()
    if reason is not None:
        pytest.fail(reason, pytrace=False)
    session = [sys.executable, "-m", "chipcash_sim.pcscd", "--readers", "1", "--"]
    inner = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",  # slow to load
        "-o",
        "addopts=",
    ]
    done = subprocess.run(
        [*session, *inner, str(INNER)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(done.stdout, done.stderr)
    if done.returncode:
        pytest.fail(f"it failed inside its session:\n{done.stdout}", pytrace=False)

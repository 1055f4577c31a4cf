# SPDX-License-Identifier: Apache-2.0
"""The one place for times and tries."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from chipcash.transports.times import Times, changed, times


def _told(text: str) -> subprocess.CompletedProcess[str]:
    code = "from chipcash.transports.times import times; print(times())"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"CHIPCASH_TIMES": text},
        capture_output=True,
        text=True,
        check=False,
    )


def test_changed_for_a_while() -> None:
    before = times()
    with changed(serial_answer_s=9.5, serial_tries=7):
        assert (times().serial_answer_s, times().serial_tries) == (9.5, 7)
        with changed(serial_tries=8):
            assert (times().serial_answer_s, times().serial_tries) == (9.5, 8)
    assert times() == before


def test_the_environment() -> None:
    assert _told("").stdout.strip() == str(Times())
    told = _told("serial_answer_s=10, serial_tries=5,").stdout
    assert "serial_answer_s=10.0" in told and "serial_tries=5" in told


@pytest.mark.parametrize(
    "text", ["nothing=1", "serial_tries=1.5", "serial_tries=0", "serial_answer_s=x", "x"]
)
def test_badly_written(text: str) -> None:
    done = _told(text)
    assert done.returncode != 0 and "no time or number of tries" in done.stderr


def test_each_is_documented() -> None:
    assert all(f"{field.name}:" in (Times.__doc__ or "") for field in fields(Times))

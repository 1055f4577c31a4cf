# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: the same examples everywhere, and no skipping where CI=true."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

# Tests start hundreds of processes. None should compile the toolkit anew, though the environment says so.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Examples are derived from the test, so that a run on one machine can be repeated on another, and
# have no deadline, since shared machines stall. `pytest --hypothesis-profile explore` looks for new ones.
settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=2000, deadline=None, print_blob=True)

_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
settings.load_profile("ci" if _CI else "default")


_FIRST = (
    "test_partitions.py", "test_docs.py", "test_transport_pcsc.py", "test_micropython.py", "test_bench.py",
    "test_till_browser.py", "test_flashing.py", "test_tearing.py", "test_board_commands.py", "test_image.py",
    "test_line.py", "test_selftest.py", "test_syncing.py", "test_killed_day.py", "test_board_update.py",
)  # fmt: skip
"""What takes longest: if it came last, the other processes would have nothing left to do meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, in this order; the others stay in theirs."""
    place = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where CI=true everything must run: a reader, service or runtime that is missing is a failure."""
    if _CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nNothing may be skipped where CI=true; run: make setup"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one, where CI=true."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one, where CI=true."""
    report = yield
    _refuse_skip(report)
    return report

# SPDX-License-Identifier: Apache-2.0
"""spin visits every state of the payment's model, and finds each mistake that is put into it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "protocols" / "model" / "payment.pml"

_TWO = "-DREQUESTS=2 -DCLAIMS=2"
_CLONE = f"{_TWO} -DCLONE"
_FORGETS = "-DREQUESTS=2 -DLOG=1 -DONE_TITLE -DEPOCHS=8"

CONFIGURATIONS = {
    "three payments": "-DREQUESTS=3 -DCLAIMS=3 -DLAST=0",
    "titles expire": f"{_TWO} -DLAST=2",
    "card forgets": f"{_FORGETS} -DCLAIMS=3 -DLAST=1",
    "clone": f"{_CLONE} -DLAST=1",
    "clone, titles expire": f"{_CLONE} -DLAST=2 -DONE_TITLE",
}
_LONG = ("three payments", "titles expire", "clone", "clone, titles expire")

COVERED = [
    f"{_CLONE} -DLAST=0 -DCOVERAGE",
    f"{_FORGETS} -DCLAIMS=2 -DTRANSFERS -DLAST=1 -DCOVERAGE",
]
"""Configurations that together reach every line."""

_HONEST = f"{_TWO} -DLAST=1"
MUTANTS = {
    "ACCUSED_BY_TITLE": f"{_TWO} -DLAST=2",
    "ANSWER_BEFORE_WRITE": _HONEST,
    "ANSWER_TAKEN_AFTER_VOID": _HONEST,
    "DEADLINE_BEHIND_EXPIRY": f"{_TWO} -DLAST=2",
    "LATE_ON_TIME": _HONEST,
    "LIVE_UNCHECKED": f"{_CLONE} -DLAST=0",
    "NOT_LISTED": f"{_CLONE} -DLAST=0",
    "NO_EVIDENCE": f"{_CLONE} -DLAST=0",
    "ONLY_MOVED_COMPARED": f"{_CLONE} -DLAST=0",
    "NO_RECLAIM_BY_TITLE": f"{_FORGETS} -DCLAIMS=3 -DLAST=0",
    "PAID_BEFORE_STORED": _HONEST,
    "PARTLY_LIVE": f"{_CLONE} -DLAST=0",
    "RECLAIMED_EARLY": _HONEST,
    "RENEWED_EARLY": _HONEST,
    "RETRY_SIGNS_ANEW": _HONEST,
    "SETTLED_ANEW": _HONEST,
    "SPENT_TITLE_TAKEN_AGAIN": _HONEST,
    "TITLE_REUSED": _HONEST,
    "TWO_WRITES": _HONEST,
    "VOID_IGNORED": _HONEST,
    "VOID_OF_A_PAYMENT": _HONEST,
}
"""Mistake: the configuration that shows it."""
_SOME = (
    "ANSWER_BEFORE_WRITE", "DEADLINE_BEHIND_EXPIRY", "LATE_ON_TIME", "NOT_LISTED", "NO_RECLAIM_BY_TITLE",
    "RETRY_SIGNS_ANEW", "SETTLED_ANEW",
)  # fmt: skip
"""Of each configuration one, of the usual one more; all by `make test-long`: a compiler runs for each."""


def _run(command: str, folder: Path) -> str:
    """What a program says. A verifier that was killed has a negative exit code."""
    done = subprocess.run(
        command.split(), cwd=folder, capture_output=True, text=True, timeout=250, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or (command.startswith("./pan") and done.returncode > 0), (
        f"{command}: exit code {done.returncode}\n{said}"
    )
    return said


def _verify(options: str, folder: Path, compiler_options: str = "-O2") -> str:
    """What the verifier says of the model with these options."""
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; run: make setup")
    _run(f"spin {options} -a {MODEL}", folder)
    _run(f"gcc {compiler_options} -w -DSAFETY -DCOLLAPSE -o pan pan.c", folder)
    return _run("./pan -m10000", folder)


def _assert_without_error(said: str) -> None:
    """All states were visited, and no rule is broken in any."""
    assert re.search(r"errors: 0$", said, re.MULTILINE), said
    assert "Full statespace search" in said, said
    for trouble in ("max search depth too small", "out of memory", "Search not completed"):
        assert trouble not in said, said


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.long) if x in _LONG else x for x in CONFIGURATIONS],
)
def test_no_state_breaks_a_rule(name: str, tmp_path: Path) -> None:
    _assert_without_error(_verify(CONFIGURATIONS[name], tmp_path))


def _lines(folder: Path, said: str) -> tuple[set[int], set[int]]:
    """The model's lines that have statements, and those of which at least one was reached."""
    unreached = set()
    process = ""
    for row in said.splitlines():
        if found := re.match(r"unreached in (?:proctype )?(\w+)", row):
            process = found[1]
        elif found := re.match(r'\t\S+:\d+, state (\d+), "', row):
            unreached.add((process, found[1]))
    every, reached = set(), set()
    for row in _run("./pan -d", folder).splitlines():  # the verifier's own table
        if found := re.match(r"(?:proctype )?(\w+)$", row):
            process = found[1]
        elif found := re.match(r"\tstate +(\d+) -.*payment\.pml:(\d+) =>", row):
            every.add(int(found[2]))
            if (process, found[1]) not in unreached:
                reached.add(int(found[2]))
    return every, reached


@pytest.mark.long
def test_every_line_is_reached(tmp_path: Path) -> None:
    every: set[int] = set()
    reached: set[int] = set()
    for options in COVERED:
        # Without -o3 spin merges statements, and says of the first only that it is not reached.
        said = _verify(f"-o3 {options}", tmp_path)
        _assert_without_error(said)
        of_these, of_these_reached = _lines(tmp_path, said)
        every |= of_these
        reached |= of_these_reached
    assert len(every) > 200
    text = MODEL.read_text().splitlines()
    assert {line: text[line - 1] for line in sorted(every - reached)} == {}


@pytest.mark.parametrize(
    "mutant",
    [x if x in _SOME else pytest.param(x, marks=pytest.mark.long) for x in MUTANTS],
)
def test_each_mistake_is_found(mutant: str, tmp_path: Path) -> None:
    said = _verify(f"-DMUTANT_{mutant} {MUTANTS[mutant]}", tmp_path, "-O0")
    assert "assertion violated" in said and re.search(r"errors: 1$", said, re.MULTILINE), said
    # It is a rule that is broken, not the model's size.
    assert "invalid array index" not in said, said


def test_all_mistakes_are_tried() -> None:
    assert set(re.findall(r"MUTANT_([A-Z_]+)", MODEL.read_text())) == MUTANTS.keys()

# SPDX-License-Identifier: Apache-2.0
"""spin visits every state of the payment's model, and finds each mistake that is put into it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "protocols" / "model" / "payment.pml"

CONFIGURATIONS = ["", "-DFEN=2", "-DCLONE", "-DCLONE -DFEN=2"]

MUTANTS = {
    "ANSWER_BEFORE_WRITE": "",
    "LIVE_UNCHECKED": "-DCLONE",
    "NO_RECLAIM": "",
    "OVERLAP_FORGOTTEN": "-DCLONE",
    "PAID_BEFORE_STORED": "",
    "RECLAIMED_EARLY": "",
    "RETRY_SIGNS_ANEW": "",
    "SETTLED_TWICE": "",
    "TITLE_REUSED": "",
    "VOID_AFTER_ANSWER": "",
    "VOID_IGNORED": "",
}
"""Mistake: the configuration that shows it."""


def verify(options: str, folder: Path) -> str:
    """What the verifier says of the model with these options."""
    for program in ("spin", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; run: make setup")
    for command in (
        ["spin", *options.split(), "-a", str(MODEL)],
        ["cc", "-O2", "-DSAFETY", "-DCOLLAPSE", "-w", "-o", "pan", "pan.c"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        ["./pan", "-m100000"], cwd=folder, capture_output=True, text=True, timeout=250, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("options", CONFIGURATIONS)
def test_no_state_breaks_a_rule(options: str, tmp_path: Path) -> None:
    said = verify(options, tmp_path)
    assert re.search(r"errors: 0$", said, re.MULTILINE), said
    assert "Full statespace search" in said
    for trouble in ("max search depth too small", "out of memory", "Search not completed"):
        assert trouble not in said
    unreached = re.findall(r'state \d+, "(.*)"', said)
    if "CLONE" in options:
        assert set(unreached) == {"-end-"}, unreached
    else:
        dispute = {"first[c] = DISPUTED", "now[c] = DISPUTED", "blacklisted = 1", "d = 0"}
        assert set(unreached) == {"-end-", *dispute}, unreached


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_mistake_is_found(mutant: str, tmp_path: Path) -> None:
    said = verify(f"-DMUTANT_{mutant} {MUTANTS[mutant]}", tmp_path)
    assert "assertion violated" in said and re.search(r"errors: 1$", said, re.MULTILINE), said


def test_all_mistakes_are_tried() -> None:
    assert set(re.findall(r"MUTANT_([A-Z_]+)", MODEL.read_text())) == MUTANTS.keys()

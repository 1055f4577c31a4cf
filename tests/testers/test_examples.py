# SPDX-License-Identifier: Apache-2.0
"""What docs/examples holds is what docs/testing.md tells, and can be installed. test_docs.py runs it."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TEXT = (ROOT / "docs" / "testing.md").read_text()


def test_the_tests_shown_are_those_that_run() -> None:
    (shown,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    run = (EXAMPLES / "test_till.py").read_text()
    for part in re.split(r"\n\n\n", shown.strip())[1:]:
        assert part in run


def test_the_workflow() -> None:
    """Its commands that test are the document's; what it installs is what there is."""
    workflow = yaml.safe_load((EXAMPLES / "chipcash.yml").read_text())
    told = re.findall(r"^(?:pytest|python) .*$", TEXT, re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    setup = (ROOT / ".ci" / "setup").read_text().split()
    tested = []
    for step in workflow["jobs"]["test"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        for line in step.get("run", "").splitlines():
            words = shlex.split(line)
            if "pytest" in words and "install" not in words:
                tested.append(line)
            elif words[:2] == ["pip", "install"]:
                wanted = re.fullmatch(r"\./chipcash\[([\w,]+)\]", words[2])
                assert wanted is not None and set(wanted[1].split(",")) <= set(extras)
            elif "install" in words:
                packages = [word for word in words[3:] if not word.startswith("--")]
                assert packages and set(packages) <= set(setup)
            else:
                assert words[1:3] in (["apt-get", "update"], ["sysctl", words[2]]), line
    assert tested == told

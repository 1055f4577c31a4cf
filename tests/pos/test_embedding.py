# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/embedding.md run, each over a real emulated card and a real center."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chipcash.pos import Pos
from tests.pos.test_api import Counter, counter, spent  # noqa: F401
from tests.pos.test_killed_till import till

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
REGISTER = EXAMPLES / "cash_register.py"


def test_a_cash_register_in_python(counter: Counter) -> None:  # noqa: F811
    """An order that is sold again by the same name is not paid again, whatever else is."""
    image = counter.card("a", 10_000)

    def sold(*prices: str) -> str:
        return subprocess.run(
            [sys.executable, REGISTER, counter.directory, f"sim:{image}", *prices],
            capture_output=True, text=True, check=True, input="",
        ).stdout  # fmt: skip

    assert sold("3680", "120") == "order-1, 36.80 yuan: paid\norder-2, 1.20 yuan: paid\n"
    assert sold("3680", "120", "9999").startswith(
        "order-1, 36.80 yuan: paid\norder-2, 1.20 yuan: paid\n"
    )
    assert "order-1, 36.81 yuan: NOT PAID" in sold("3681")
    assert spent(counter, image) == 3800
    with Pos(counter.directory) as pos:
        assert pos.sync(counter.sandbox.center).changes
        assert pos.balance().verified_fen == 3800


def test_the_example_is_short_and_is_the_one_in_the_document() -> None:
    text = REGISTER.read_text()
    assert len(text.splitlines()) < 40
    (added,) = re.findall(r"^# -+\n(.*?)^# -+$", text, re.MULTILINE | re.DOTALL)
    assert f"```python\n{added.strip()}\n```" in (ROOT / "docs" / "embedding.md").read_text()


@pytest.mark.parametrize("point", ["-", "asked"])
def test_a_till_in_javascript(counter: Counter, point: str) -> None:  # noqa: F811
    """It knows HTTP only. Also where the till is killed when the card has paid and nobody has heard of it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; run: make setup")
    image = counter.card("a")
    counter.reader.insert(image, "cpython")
    with till(counter, point) as (client, process):
        url = str(client.base_url).rstrip("/")
        words = [
            node,
            EXAMPLES / "charge.mjs",
            url,
            counter.directory / "api.token",
            "order-1",
            "1250",
        ]
        program = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        if point == "-":
            told, _ = program.communicate(timeout=60)
        else:
            process.wait(30)
    if point != "-":
        with till(counter, port=url.rpartition(":")[2]):
            told, _ = program.communicate(timeout=60)
    assert program.returncode == 0 and told.strip().splitlines()[-1] == "PAID"
    assert spent(counter, image) == 1_250

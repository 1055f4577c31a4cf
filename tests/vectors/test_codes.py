# SPDX-License-Identifier: Apache-2.0
"""Texts of QR codes: what every reader takes, and what none may take."""

from __future__ import annotations

from typing import Any

import pytest

from chipcash import qr
from tests.vectors.make_objects import KINDS
from tests.vectors.reading import load

CODES = load("codes")
GOOD = [line for line in CODES if "object" in line]
BAD = [line for line in CODES if "fault" in line]


@pytest.mark.parametrize("line", GOOD, ids=lambda x: f"{x['object']}-{x['name']}")
def test_good_codes(line: dict[str, Any]) -> None:
    data = bytes.fromhex(line["bytes"])
    assert qr.read(line["texts"], KINDS[line["object"]]).encode() == data


def test_the_texts_of_an_encoder() -> None:
    """Nobody has to cut like this, but this is what the toolkit shows."""
    made = [line for line in GOOD if qr.encode(bytes.fromhex(line["bytes"])) == line["texts"]]
    assert len(made) == len(GOOD) - 3


@pytest.mark.parametrize("line", BAD, ids=lambda x: x["fault"])
def test_bad_codes(line: dict[str, Any]) -> None:
    parts = qr.Parts()
    with pytest.raises(qr.QrError):
        for text in line["texts"]:
            parts.add(text)
        parts.data()


def test_what_is_in_them() -> None:
    assert {line["object"] for line in GOOD} == {"bill", "certificate", "payment"}
    assert {len(line["texts"]) for line in GOOD[:7]} == {1, 3}

# SPDX-License-Identifier: Apache-2.0
"""Under pytest: each test's flash files in a folder of its own, closed at its end."""

from collections.abc import Iterator
from pathlib import Path

import network
import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where cards put their files, and an end to every TestCard."""
    cards = []
    make = network.TestCard.__init__

    def remembered(card: network.TestCard, net: network.Network) -> None:
        cards.append(card)
        make(card, net)

    monkeypatch.setattr(network, "SCRATCH", str(tmp_path))
    monkeypatch.setenv("CHIPCASH_SCRATCH", str(tmp_path))
    monkeypatch.setattr(network.TestCard, "__init__", remembered)
    yield
    for card in cards:
        card.flash.close()

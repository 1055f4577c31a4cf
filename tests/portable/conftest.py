# SPDX-License-Identifier: Apache-2.0
"""Under pytest: each test's flash files in a folder of its own, closed at its end; and the chip of a secure
element."""

from collections.abc import Iterator
from pathlib import Path

import network
import pytest
import tropic_bus

from chipcash_card.keys import KeyStore
from chipcash_sim.hardware import tropic01


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where cards put their files, and an end to every TestCard."""
    cards = []
    make = network.TestCard.__init__

    def remembered(
        card: network.TestCard, net: network.Network, keys: KeyStore | None = None
    ) -> None:
        cards.append(card)
        make(card, net, keys)

    monkeypatch.setattr(network, "SCRATCH", str(tmp_path))
    monkeypatch.setenv("CHIPCASH_SCRATCH", str(tmp_path))
    monkeypatch.setattr(network.TestCard, "__init__", remembered)
    yield
    for card in cards:
        card.flash.close()


@pytest.fixture(scope="module")
def tropic01_port() -> Iterator[int]:
    """A chip behind a port, for the module."""
    with tropic01.Server() as server:
        yield server.port


@pytest.fixture(autouse=True)
def chip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For the tests of TROPIC01: where the chip is, and an end to each connection to it."""
    if request.module.__name__ not in ("test_tropic01", "test_tropic01_card"):
        yield
        return
    port = request.getfixturevalue("tropic01_port")
    monkeypatch.setenv("CHIPCASH_TROPIC01", str(port))
    buses = []
    make = tropic_bus.Bus.__init__

    def remembered(bus: tropic_bus.Bus) -> None:
        buses.append(bus)
        make(bus)

    monkeypatch.setattr(tropic_bus.Bus, "__init__", remembered)
    yield
    for bus in buses:
        bus.close()

# SPDX-License-Identifier: Apache-2.0
"""Fixtures inside a private pcscd: the session, and cards to insert."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chipcash.transports import pcsc
from chipcash_sim import pcscd

ECHO_CARD = Path(__file__).with_name("echo_card.py")
T1 = "3b800181"

Insert = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def session() -> pcscd.Session:
    session = pcscd.current()
    assert session is not None
    return session


@pytest.fixture
def insert(session: pcscd.Session) -> Iterator[Insert]:
    """insert(reader index, ATR in hex): a card process; all are removed after the test."""
    cards = []

    def start(index: int = 0, atr: str = T1) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, str(ECHO_CARD), str(session.ports[index]), atr]
        card = subprocess.Popen(argv)
        cards.append(card)
        return card

    yield start
    for card in cards:
        card.kill()
        card.wait()
    deadline = time.monotonic() + 60
    while pcsc.occupied_readers():
        assert time.monotonic() < deadline, "pcscd does not see that the cards are gone"
        time.sleep(0.05)

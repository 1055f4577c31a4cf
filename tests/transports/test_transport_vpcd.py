# SPDX-License-Identifier: Apache-2.0
"""VpcdServer, our end of vpcd's protocol, with the scripted card as its client."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash_sim.plug import CardGone
from chipcash_sim.vpcd import VpcdServer

ECHO_CARD = Path(__file__).parent / "pcsc" / "echo_card.py"
ATR = "3b800181"
ECHO = b"\x00\xcb\x00\x00"


@pytest.fixture
def reader() -> Iterator[VpcdServer]:
    """A reader with the card in it and powered."""
    with VpcdServer() as server:
        argv = [sys.executable, str(ECHO_CARD), str(server.port), ATR]
        with subprocess.Popen(argv) as card:
            try:
                server.accept()
                server.power_on()
                yield server
            finally:
                card.kill()


def test_atr_apdus_and_controls(reader: VpcdServer) -> None:
    assert reader.atr().hex() == ATR
    reader.reset()
    assert reader.transceive(ECHO) == ECHO + b"\x90\x00"
    reader.power_off()
    reader.power_on()
    assert reader.atr().hex() == ATR


def test_extended_both_ways(reader: VpcdServer) -> None:
    command = ECHO + b"\x00\xea\x60" + bytes(60000) + b"\x00\x00"
    assert reader.transceive(command) == command + b"\x90\x00"


def test_power_lost_in_a_command(reader: VpcdServer) -> None:
    with pytest.raises(CardGone, match="left"):
        reader.transceive(b"\x00\xfe\x00\x00")
    with pytest.raises(CardGone, match="no card is inserted"):
        reader.transceive(ECHO)


def test_a_late_answer_is_not_the_next_commands(reader: VpcdServer) -> None:
    with pytest.raises(CardGone, match="in time"):
        reader.transceive(b"\x00\x51\x05\x00", timeout=0.1)
    with pytest.raises(CardGone):
        reader.transceive(ECHO)


def test_no_card_connects() -> None:
    with VpcdServer() as server, pytest.raises(CardGone, match=r"no card connected within 0\.05 s"):
        server.accept(0.05)


def test_no_apdu_that_the_card_would_take_for_a_control(reader: VpcdServer) -> None:
    with pytest.raises(ValueError, match="4 to 65535 bytes"):
        reader.transceive(b"\x00")


def test_no_acknowledgement_is_delayed(reader: VpcdServer) -> None:
    """It would cost 40 ms an APDU."""
    times = []
    for _ in range(100):
        started = time.perf_counter()
        reader.transceive(ECHO)
        times.append(time.perf_counter() - started)
    assert statistics.quantiles(times, n=5)[0] < 0.02

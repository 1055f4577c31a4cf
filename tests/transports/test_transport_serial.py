# SPDX-License-Identifier: Apache-2.0
"""`serial:` end to end: pyserial, a PTY, and a card process behind the board's own framing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.errors import NoCardError, NoReaderError, PathError
from chipcash.transports import open_path
from chipcash.transports.serial import SerialConnection
from chipcash.transports.times import changed, times
from chipcash_sim import emulator
from chipcash_sim.hardware.pty import PtyLine
from tests.builders import Network
from tests.cards import make_card

AMOUNT = 700
HASTY = {"serial_answer_s": 0.2, "serial_tries": 2, "serial_greet_s": 0.1}


@pytest.fixture
def line() -> Iterator[PtyLine]:
    """A serial line without a card."""
    with PtyLine() as made:
        yield made


def _card(folder: Path, net: Network) -> emulator.Card:
    """A personalised card with 10000 fen."""
    image = folder / "a.img"
    make_card(image, net, money=10_000)
    return emulator.Card(image, "cpython")


def test_long_commands_and_replies(tmp_path: Path, line: PtyLine) -> None:
    made = _card(tmp_path, Network())
    made.echo = True
    made.plug_in(serial=line.plug)
    with open_path(f"serial:{line.device}") as opened:
        apdu = b"\x00\x01\x00\x00\x00\x0f\xf0" + secrets.token_bytes(0x0FF0)
        assert opened.transceive(apdu) == apdu + b"\x90\x00"
    made.remove()


def test_garbage_on_the_line(tmp_path: Path, line: PtyLine) -> None:
    made = _card(tmp_path, Network())
    made.plug_in(serial=line.plug)
    terminal = os.open(line.device, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(terminal, b"\xc0\xdb\x00 a terminal was here\r\n")
    finally:
        os.close(terminal)
    with open_path(f"serial:{line.device}") as opened:
        Card(opened).select()
    made.remove()


def test_work_longer_than_the_patience(tmp_path: Path, line: PtyLine) -> None:
    net = Network()
    made = _card(tmp_path, net)
    made.pace = 55000  # 64 steps of a signature: above the host's 3 s of silence
    made.plug_in(serial=line.plug)
    with open_path(f"serial:{line.device}", wait=30) as opened:
        card = Card(opened)
        card.select()
        assert card.pay(net.request(AMOUNT))
    made.remove()


class _Deaf:
    """pyserial's side of a line at which nobody answers."""

    in_waiting = 0

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def read(self, size: int) -> bytes:
        return b""

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_a_board_that_starts_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its card runs, Ctrl-C takes a board to its prompt: whoever greets it must not send that, whatever
    number it begins with."""
    for first in range(256):
        monkeypatch.setattr("chipcash.transports.serial.os.urandom", lambda n, b=first: bytes((b,)))
        line = _Deaf()
        connection = SerialConnection(line, "deaf")
        with changed(serial_greet_s=0):
            assert not connection.greet()
        connection.close()
        assert line.written.count(b"\xc0") == 2 * (times().serial_greetings + 1)
        assert b"\x03" not in line.written


def test_nothing_there(line: PtyLine, tmp_path: Path) -> None:
    with changed(**HASTY), pytest.raises(NoCardError, match="answers as a chipcash card"):
        open_path(f"serial:{line.device}")
    with pytest.raises(NoReaderError, match="no serial line"):
        open_path(f"serial:{tmp_path}/tty")
    with pytest.raises(PathError):
        open_path("serial:")

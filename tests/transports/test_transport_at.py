# SPDX-License-Identifier: Apache-2.0
"""`at:` end to end: pyserial, a modem on a PTY, and a card process that is its SIM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from chipcash.card import Card, PinError
from chipcash.errors import LinkLostError, NoCardError, NoReaderError, PathError
from chipcash.transports import open_path
from chipcash.transports.at import AtConnection
from chipcash.transports.times import changed
from chipcash_sim import emulator, places
from chipcash_wire import commands as c
from tests.builders import Network
from tests.cards import PIN, make_card


@pytest.fixture
def phone() -> Iterator[places.Place]:
    """A modem without a SIM."""
    made = places.make("at")
    yield made
    made.close()


@pytest.fixture
def card(tmp_path: Path, phone: places.Place) -> Iterator[emulator.Card]:
    """A personalised card as the phone's SIM."""
    image = tmp_path / "a.img"
    make_card(image, Network())
    made = emulator.Card(image, "cpython")
    places.put(made, phone)
    yield made
    made.remove()


def test_esim_and_sim_at_once(card: emulator.Card, phone: places.Place) -> None:
    """Two logical channels and the basic one: each with a selection and a PIN session of its own."""
    with open_path(phone.path) as opened:
        assert isinstance(opened, AtConnection) and opened.channel == 1
        first = Card(opened)
        first.select()
        first.verify_pin(PIN)
        assert first.info().balance == 0
        # Other programs of the phone, as the same modem sees them.
        other = AtConnection(opened._modem, None, "at:basic")  # type: ignore[arg-type]
        basic = Card(other)
        with pytest.raises(Exception, match="conditions"):
            basic.info()
        basic.select()
        assert basic.info().balance is None
        with pytest.raises(PinError):
            list(basic.titles())
        assert first.info().balance == 0
    with open_path(f"{phone.path}?channel=basic") as opened:
        assert isinstance(opened, AtConnection) and opened.channel is None
        basic = Card(opened)
        assert basic.select().lifecycle


def test_a_channel_that_the_modem_has_forgotten(card: emulator.Card, phone: places.Place) -> None:
    with open_path(phone.path) as opened:
        assert isinstance(opened, AtConnection) and opened._modem is not None
        client = Card(opened)
        client.select()
        opened._modem.ask("AT+CFUN=1", 1)  # the modem resets, and its SIM with it
        with pytest.raises(LinkLostError, match="lost its channel") as lost:
            client.info()
        assert lost.value.maybe_executed
    with open_path(phone.path) as opened:
        client = Card(opened)
        client.select()
        assert client.info()


def test_closing_frees_the_channel(card: emulator.Card, phone: places.Place) -> None:
    for _ in range(5):
        with open_path(phone.path) as opened:
            assert isinstance(opened, AtConnection) and opened.channel == 1


def test_long_apdus_go_in_parts(card: emulator.Card, phone: places.Place) -> None:
    with open_path(phone.path) as opened:
        assert opened.transceive(b"\x00\xa4\x04\x00" + bytes(300)) == c.SW_LENGTH.to_bytes(2, "big")
        client = Card(opened)
        client.select()
        assert len(client.certificate().encode()) > 100


def _scripted(answer: Callable[[str], str]) -> AtConnection:
    """A connection to a modem that answers each line by a function."""

    class Line:
        """As much of pyserial's as is used."""

        waiting = b""

        @property
        def in_waiting(self) -> int:
            return len(self.waiting)

        def read(self, n: int) -> bytes:
            data, self.waiting = self.waiting[:n], self.waiting[n:]
            return data

        def write(self, data: bytes) -> None:
            self.waiting += answer(data.decode().strip()).encode()

        def reset_input_buffer(self) -> None:
            self.waiting = b""

        def close(self) -> None:
            pass

    with patch("chipcash.transports.serial.open_device", lambda device, path: Line()):
        connection = open_path("at:scripted")
    assert isinstance(connection, AtConnection)
    return connection


OK = "\r\nOK\r\n"


def test_news_that_nobody_asked_for() -> None:
    def answer(line: str) -> str:
        news = "\r\n+CREG: 1\r\n"
        if line.startswith("AT+CCHO="):
            return news + "\r\n+CCHO: 3\r\n" + OK
        if line.startswith("AT+CGLA=3,"):
            return news + '\r\n+CGLA: 4,"9000"\r\n' + news + OK
        return OK

    with _scripted(answer) as opened:
        assert opened.channel == 3 and opened.transceive(b"\x00\xca\x01\x00") == b"\x90\x00"


def test_a_modem_without_channels() -> None:
    def answer(line: str) -> str:
        if line.startswith("AT+CSIM="):
            return '\r\n+CSIM: 4,"9000"\r\n' + OK
        return "\r\nERROR\r\n" if "+CCHO" in line else OK

    with _scripted(answer) as opened:
        assert opened.channel is None and opened.transceive(b"\x00\xca\x01\x00") == b"\x90\x00"


def test_a_late_answer_is_not_the_next_commands() -> None:
    silent = True

    def answer(line: str) -> str:
        if line.startswith("AT+CCHO="):
            return "\r\n+CCHO: 1\r\n" + OK
        return "" if silent and "+CGLA" in line else OK

    opened = _scripted(answer)
    with changed(at_answer_s=0.05), pytest.raises(LinkLostError) as lost:
        opened.transceive(b"\x00\xca\x01\x00")
    assert lost.value.maybe_executed
    silent = False
    with pytest.raises(LinkLostError, match="closed") as lost:
        opened.transceive(b"\x00\xca\x02\x00")
    assert not lost.value.maybe_executed


def test_nothing_there(phone: places.Place, tmp_path: Path) -> None:
    with changed(at_greet_s=0.05), pytest.raises(NoCardError, match="No modem answers"):
        open_path(phone.path)
    with pytest.raises(NoReaderError):
        open_path(f"at:{tmp_path}/tty")
    for path in ("at:", "at:x?channel=7"):
        with pytest.raises(PathError):
            open_path(path)

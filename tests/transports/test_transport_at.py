# SPDX-License-Identifier: Apache-2.0
"""`at:` end to end: pyserial, a modem on a PTY, and a card process that is its SIM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


def test_nothing_there(phone: places.Place, tmp_path: Path) -> None:
    with changed(at_greet_s=0.05), pytest.raises(NoCardError, match="No modem answers"):
        open_path(phone.path)
    with pytest.raises(NoReaderError):
        open_path(f"at:{tmp_path}/tty")
    for path in ("at:", "at:x?channel=7"):
        with pytest.raises(PathError):
            open_path(path)

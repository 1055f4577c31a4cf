# SPDX-License-Identifier: Apache-2.0
"""`nfc:` end to end: nfcpy's own drivers, an emulated field, and a card process behind ISO/IEC 14443-4."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path

import pytest

from chipcash.card import Card, ChannelNeeded
from chipcash.errors import LinkLostError, NoCardError, NoReaderError, PathError
from chipcash.transports import open_path
from chipcash_sim import emulator
from chipcash_sim.hardware.udp import UdpField
from chipcash_wire import commands as c
from tests.builders import Network
from tests.cards import PIN, make_card


def _card(folder: Path, net: Network, **options: int) -> emulator.Card:
    """A personalised card with 10000 fen."""
    image = folder / "a.img"
    make_card(image, net, money=10_000)
    return emulator.Card(image, "cpython", **options)  # type: ignore[arg-type]


def test_chained_both_ways(tmp_path: Path) -> None:
    made = _card(tmp_path, Network(), echo=True)
    with UdpField() as field:
        made.plug_in(iso14443=field.plug)
        with open_path(f"nfc:udp:{field.address}") as opened:
            assert opened.over_air
            apdu = b"\x00\x01\x00\x00\x00\x0f\xf0" + secrets.token_bytes(0x0FF0)
            assert opened.transceive(apdu) == apdu + b"\x90\x00"
        made.remove()


def test_waiting_time_while_signing(tmp_path: Path) -> None:
    """A signature of 64 steps and 4 ms each takes three times the frame waiting time."""
    net = Network()
    made = _card(tmp_path, net, pace=4000)
    asked = []

    def note(frame: bytes) -> bool:
        asked.append(frame[0] == 0xF2)
        return False

    with UdpField(note) as field:
        made.plug_in(iso14443=field.plug)
        with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
            card = Card(opened)
            card.select()
            for _ in range(3):  # there are two coupons at most
                assert card.pay(net.request(100))
        made.remove()
    assert any(asked)


def test_lost_frames(tmp_path: Path) -> None:
    """One answer in ten is lost on the air; every payment goes through, and is made once."""
    net = Network()
    made = _card(tmp_path, net)
    dice = random.Random(14443)
    lost = []

    def lose(frame: bytes) -> bool:
        lost.append(dice.random() < 0.1)
        return lost[-1]

    paid = 0
    with UdpField() as field:
        made.plug_in(iso14443=field.plug)
        for _ in range(20):
            request = net.request(100)
            while True:
                field.lose = None  # nfcpy asks only once in an activation
                with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
                    field.lose = lose
                    try:
                        card = Card(opened)
                        card.select()
                        assert card.pay(request)
                        break
                    except LinkLostError:
                        continue
            paid += 100
        field.lose = None
        with open_path(f"nfc:udp:{field.address}") as opened:
            card = Card(opened)
            card.select()
            assert card.info().spent == paid
        made.remove()
    assert any(lost)


def test_late_answers_are_lost_on_the_air(tmp_path: Path) -> None:
    """As on a machine with much to do: the reader asks again, and hears no answer to what it asked before."""
    late = False

    def wait(answer: bytes) -> bool:
        nonlocal late
        late = not late
        if late:
            time.sleep(0.1)  # the frame waiting time is 77 ms
        return False

    made = _card(tmp_path, Network(), echo=True)
    with UdpField() as field:
        made.plug_in(iso14443=field.plug)
        with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
            field.lose = wait
            for number in range(10):
                apdu = bytes((0, 1, 0, 0, 1, number, 0))
                assert opened.transceive(apdu) == apdu + b"\x90\x00"
            field.lose = None
        made.remove()


def test_no_pin_in_clear_over_the_air(tmp_path: Path) -> None:
    made = _card(tmp_path, Network())
    with UdpField() as field:
        made.plug_in(iso14443=field.plug)
        with open_path(f"nfc:udp:{field.address}") as opened:
            card = Card(opened)
            card.select()
            with pytest.raises(ChannelNeeded):
                card.verify_pin(PIN)
            # And the card would not have taken it.
            verify = c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN.encode(), le=0)
            assert opened.transceive(verify) == b"\x69\x85"
        made.remove()


def test_paths() -> None:
    with pytest.raises(PathError):
        open_path("nfc:")
    with pytest.raises(NoReaderError):
        open_path("nfc:pigeon")
    with UdpField() as field, pytest.raises(NoCardError):
        open_path(f"nfc:udp:{field.address}")

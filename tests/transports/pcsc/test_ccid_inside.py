# SPDX-License-Identifier: Apache-2.0
"""The card as a serial CCID reader with itself in it, behind a real pcscd and libccid's driver."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.errors import LinkLostError, NoCardError
from chipcash.transports import open_path, pcsc
from chipcash_sim import emulator
from chipcash_sim.hardware.pty import PtyLine
from chipcash_sim.pcscd import Session
from tests.builders import Network
from tests.cards import make_card

LINKS = {"ccid": "T=1", "ccid_t0": "T=0"}
ECHO = b"\x00\xcb\x00\x00"

Attach = Callable[..., str]


@pytest.fixture
def line() -> Iterator[PtyLine]:
    with PtyLine() as line:
        yield line


@pytest.fixture
def attach(session: Session, line: PtyLine) -> Iterator[Attach]:
    """attach(card, link): plug the card into the line and have pcscd find it; the path to open."""
    cards = []

    def start(card: emulator.Card, link: str) -> str:
        cards.append(card)
        card.plug_in(**{link: line.plug})
        return f"pcsc:{session.add_serial(line.device)}"

    yield start
    session.remove_serial()
    for card in cards:
        card.remove()


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_payment(attach: Attach, tmp_path: Path, runtime: str, link: str) -> None:
    net = Network()
    public = make_card(tmp_path / "card", net)
    with open_path(attach(emulator.Card(tmp_path / "card", runtime), link), wait=5) as opened:
        assert isinstance(opened, pcsc.PcscConnection) and not opened.over_air
        assert opened.protocol == LINKS[link]
        card = Card(opened, extended=link == "ccid")
        card.select()
        card.put(net.title(public, amount=5000, hi=5000))
        request = net.request(1200)
        assert card.pay(request) == card.pay(request)
        assert card.info().spent == 1200


def test_chaining_both_ways(attach: Attach, tmp_path: Path) -> None:
    (tmp_path / "card").touch()
    path = attach(emulator.Card(tmp_path / "card", "cpython", echo=True), "ccid")
    with open_path(path, wait=5) as card:
        for size in (0, 255, 4096, 60000):
            body = bytes(n * 7 & 0xFF for n in range(size))
            command = ECHO + b"\x00" + size.to_bytes(2, "big") + body + b"\x00\x00"
            assert card.transceive(command) == command + b"\x90\x00"


def test_wrong_le_under_t0(attach: Attach, tmp_path: Path) -> None:
    (tmp_path / "card").touch()
    path = attach(emulator.Card(tmp_path / "card", "cpython", echo=True), "ccid_t0")
    with open_path(path, wait=5) as card:
        assert card.transceive(ECHO) == b"\x6c\x05"
        assert card.transceive(ECHO + b"\x05") == ECHO + b"\x00\x90\x00"


def test_slower_than_the_driver_waits(attach: Attach, tmp_path: Path) -> None:
    """Without more time asked for, the driver gives up after 3 s."""
    net = Network()
    public = make_card(tmp_path / "card", net)
    slow = emulator.Card(tmp_path / "card", "cpython", pace=15_000)
    with open_path(attach(slow, "ccid"), wait=5) as opened:
        card = Card(opened)
        card.select()
        started = time.monotonic()
        card.put(net.title(public))
        assert time.monotonic() - started > 3.3
        assert card.info().spent == 0


def test_removed_in_a_payment_and_put_back(
    attach: Attach, line: PtyLine, session: Session, tmp_path: Path
) -> None:
    net = Network()
    public = make_card(tmp_path / "card", net)
    lost = emulator.Card(tmp_path / "card", "cpython", cut_after=4)
    path = attach(lost, "ccid")
    request = net.request(1200)
    with open_path(path, wait=5) as opened:
        card = Card(opened)
        card.select()
        card.put(net.title(public, amount=5000, hi=5000))
        assert card.info().spent == 0
        with pytest.raises(LinkLostError) as caught:
            card.pay(request)
        assert caught.value.maybe_executed
    with pytest.raises(NoCardError):
        open_path(path)
    lost.faults()
    lost.plug_in(ccid=line.plug)
    with open_path(path, wait=5) as opened:  # the service runs on
        card = Card(opened)
        card.select()
        assert card.info().spent == 1200
        assert card.pay(request) == card.pay(request)
        assert card.info().spent == 1200

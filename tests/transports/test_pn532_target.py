# SPDX-License-Identifier: Apache-2.0
"""A board's PN532 end to end: nfcpy, an emulated field, the emulated chip in target mode, and the firmware's
driver. And the chip alone: what it answers to a host that does something wrong."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chipcash.card import Card
from chipcash.errors import LinkLostError, NoCardError
from chipcash.transports import open_path
from chipcash_drivers.pn532 import Hsu, I2c, Spi, Target
from chipcash_sim import emulator
from chipcash_sim.hardware import pn532_target as chips
from chipcash_sim.hardware.pn532 import ACK, NACK, information, split
from chipcash_sim.hardware.pn532_target import Pn532Target, TargetChip
from tests.builders import Network
from tests.cards import make_card

HELD = 10_000


@pytest.fixture
def net() -> Network:
    return Network()


@pytest.fixture
def field() -> Iterator[Pn532Target]:
    with Pn532Target() as made:
        yield made


@pytest.fixture
def board(
    tmp_path: Path, net: Network, field: Pn532Target
) -> Iterator[Callable[..., emulator.Card]]:
    """A function that puts a personalised card with money into the field."""
    image = tmp_path / "a.img"
    make_card(image, net, money=HELD)
    made = []

    def put(runtime: str = "cpython", **options: Any) -> emulator.Card:
        made.append(emulator.Card(image, runtime, **options))
        made[-1].plug_in(pn532t=field.plug)
        return made[-1]

    yield put
    for each in made:
        each.remove()


def _pay(field: Pn532Target, request: Any, extended: bool = True) -> bytes:
    with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
        card = Card(opened, extended=extended)
        card.select()
        return card.pay(request)


@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_long_both_ways(
    field: Pn532Target, board: Callable[..., emulator.Card], runtime: str
) -> None:
    board(runtime, echo=True)
    with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
        for size in (1, 61, 62, 253, 254, 255, 259, 260, 261, 262, 263, 523, 0x0FF0):
            apdu = b"\x00\x01\x00\x00\x00" + size.to_bytes(2, "big") + secrets.token_bytes(size)
            assert opened.transceive(apdu) == apdu + b"\x90\x00"


def test_taps_one_after_another(
    field: Pn532Target, net: Network, board: Callable[..., emulator.Card]
) -> None:
    board()
    for _ in range(5):
        request = net.request(100)
        assert _pay(field, request) == _pay(field, request)
    assert field.chip.commands.count(chips.INIT_AS_TARGET) >= 10


def test_short_apdus_need_no_chained_answers(
    field: Pn532Target, net: Network, board: Callable[..., emulator.Card]
) -> None:
    board()
    assert _pay(field, net.request(100), extended=False)
    assert chips.SET_META_DATA not in field.chip.commands
    assert _pay(field, net.request(100))
    assert chips.SET_META_DATA in field.chip.commands


def test_the_chip_asks_for_time_while_the_card_signs(
    field: Pn532Target, net: Network, board: Callable[..., emulator.Card]
) -> None:
    """A signature of 64 steps and 8 ms each takes three times the chip's frame waiting time."""
    asked = []

    def note(frame: bytes) -> bool:
        asked.append(frame[0] == 0xF2)
        return False

    field.lose = note
    board(pace=8000)
    with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
        card = Card(opened)
        card.select()
        for _ in range(3):  # there are two coupons at most
            assert card.pay(net.request(100))
    assert sum(asked) >= 3


def test_lost_frames(field: Pn532Target, net: Network, board: Callable[..., emulator.Card]) -> None:
    """One answer in ten is lost on the air; every payment goes through, and is made once."""
    board()
    dice = random.Random(532)
    lost = []

    def lose(frame: bytes) -> bool:
        lost.append(dice.random() < 0.1)
        return lost[-1]

    for _ in range(10):
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
    field.lose = None
    assert any(lost)
    assert _spent(field) == 1000


def _spent(field: Pn532Target) -> int:
    with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
        card = Card(opened)
        card.select()
        return card.info().spent


@pytest.mark.parametrize("what", ["off", "reset"])
@pytest.mark.parametrize("at", [4, 5, 7, 9])
def test_field_or_chip_lost_within_a_command(
    field: Pn532Target, net: Network, board: Callable[..., emulator.Card], what: str, at: int
) -> None:
    """The field is switched off, or the chip loses all that it knows, instead of the at-th answer (the first
    four activate the card)."""
    board()
    answers = []

    def lose(frame: bytes) -> bool:
        answers.append(frame)
        if len(answers) != at:
            return len(answers) > at
        getattr(field.chip, what)()
        return True

    request = net.request(100)
    field.lose = lose
    with (
        pytest.raises((LinkLostError, NoCardError)),
        open_path(f"nfc:udp:{field.address}", wait=0.2) as opened,
    ):
        card = Card(opened)
        card.select()
        card.pay(request)
    field.lose = None
    assert _pay(field, request) == _pay(field, request)
    assert _spent(field) == 100


def test_a_chip_reset_while_nobody_is_there(
    field: Pn532Target, net: Network, board: Callable[..., emulator.Card]
) -> None:
    board()
    assert _pay(field, net.request(100))
    field.chip.reset()
    assert _pay(field, net.request(100))


def test_a_reader_that_says_nothing_for_long_keeps_its_card(
    field: Pn532Target, net: Network, board: Callable[..., emulator.Card]
) -> None:
    board()
    with open_path(f"nfc:udp:{field.address}", wait=5) as opened:
        card = Card(opened)
        card.select()
        armed = field.chip.commands.count(chips.INIT_AS_TARGET)
        asked = threading.Event()
        field.plug.on_frame = lambda _: (
            asked.set() if chips.GET_TARGET_STATUS in field.chip.commands else None
        )
        assert asked.wait(60)
        assert card.pay(net.request(100))
        assert field.chip.commands.count(chips.INIT_AS_TARGET) == armed


class Bench(TargetChip):
    """The chip without a plug: frames to the host in a list; host is what may go on while the chip waits."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.host: Callable[[], None] = lambda: None
        super().__init__()
        self.plug.close()
        self.awake = True

    def powered(self) -> bool:
        return True

    def say(self, frame: bytes) -> None:
        self.frames.append(frame)

    def wait(self, seconds: float) -> bool:
        before = len(self.commands)
        for _ in range(4):  # receipt, reply, and what a bus needs to read it
            self.host()
        return len(self.commands) > before

    def ask(self, *body: bytes) -> bytes:
        """What it answers to a command at once, TFI and all, after its receipt; nothing if it waits."""
        self.frames.clear()
        self.take(information(b"\xd4" + b"".join(body)))
        assert self.frames.pop(0) == ACK
        return split(self.frames.pop(0))[0][0] if self.frames else b""


INIT = b"\x8c\x04\x04\x00abc\x20" + bytes(28) + b"\x00\x01\x80"


def _activated() -> Bench:
    chip = Bench()
    assert chip.ask(b"\x14\x01") == b"\xd5\x15"
    assert chip.ask(b"\x12\x24") == b"\xd5\x13"
    assert chip.exchange(b"\x26") is None
    assert chip.ask(INIT) == b""
    assert chip.exchange(b"\x26") == b"\x04\x00"
    uid = chip.exchange(b"\x93\x20")
    assert uid is not None and uid[:4] == b"\x08abc"
    assert chip.exchange(b"\x93\x70" + uid) == b"\x20"
    assert chip.exchange(b"\xe0\x80") == b"\x06\x75\x33\x92\x03\x80"
    assert split(chip.frames[0])[0] == [b"\xd5\x8d\x08\xe0\x80"]
    return chip


def test_chip_states() -> None:
    chip = Bench()
    for command in (b"\x86", b"\x8e\x90\x00", b"\x94\x90\x00"):
        assert chip.ask(command)[2:] == b"\x25"
    chip = _activated()
    assert chip.ask(b"\x8a") == b"\xd5\x8b\x01\x00"
    assert chip.ask(b"\x8e\x90\x00")[2:] == b"\x27"  # nobody has asked anything
    assert chip.ask(b"\x86") == b""
    chip.frames.clear()
    assert chip.exchange(b"\xc2") == b"\xc2"
    assert split(chip.frames[0])[0] == [b"\xd5\x87\x29"]
    assert chip.ask(b"\x8a") == b"\xd5\x8b\x02\x00"
    assert chip.ask(b"\x86") == b"\xd5\x87\x25" and chip.exchange(b"\x52") is None


@pytest.mark.parametrize(
    "command",
    [
        b"\x01",
        b"\x14",
        b"\x14\x05",
        b"\x12",
        b"\x86\x00",
        INIT[:-1],
        INIT + b"\x00",
        b"\x8e" + bytes(263),
        b"\x94" + bytes(263),
    ],
)
def test_chip_refuses_what_is_malformed(command: bytes) -> None:
    assert _activated().ask(command) == b"\x7f"


def test_chip_frames() -> None:
    chip = Bench()
    good = information(b"\xd4\x02")
    for at in range(2, len(good) - 1):
        spoilt = Bench()
        spoilt.take(good[:at] + bytes((good[at] ^ 0x40,)) + good[at + 1 :])
        assert not spoilt.frames, at
    chip.take(information(b"\xd5\x02"))
    assert split(b"".join(chip.frames))[0] == [ACK, b"\x7f"]
    assert chip.ask(b"\x02") == b"\xd5\x03\x32\x01\x06\x07"
    chip.frames.clear()
    chip.take(NACK)
    assert split(chip.frames[0])[0] == [b"\xd5\x03\x32\x01\x06\x07"]
    chip.reset()
    chip.commands.clear()
    chip.take(good)
    assert chip.commands == []  # it sleeps until it is woken


def test_chip_gives_up_what_the_host_ends() -> None:
    chip = _activated()
    assert chip.ask(b"\x86") == b""
    chip.take(ACK)
    chip.frames.clear()
    assert chip.exchange(b"\x02ab") == b"\xf2\x01"
    assert not chip.frames
    assert chip.ask(b"\x86") == b"\xd5\x87\x00ab"  # it was kept
    assert chip.exchange(b"\xb2") == b"\xf2\x01"  # what was lost, again
    chip.host = lambda: chip.ask(b"\x8e\x90\x00") and None
    assert chip.exchange(b"\xf2\x01") == b"\x02\x90\x00"
    assert chip.exchange(b"\xb2") == b"\x02\x90\x00"


class Bus:
    """machine.UART, machine.I2C and machine.SPI before a chip, each as the manual has it."""

    def __init__(self, chip: Bench) -> None:
        self.chip = chip
        self.rest = b""
        self.given = b""

    # UART

    def any(self) -> int:
        self.rest += b"".join(self.chip.frames)
        self.chip.frames.clear()
        return len(self.rest)

    def read(self, size: int) -> bytes:
        """Of a UART, and of SPI."""
        if self.given:
            data, self.given = self.given[:size], self.given[size:]
            assert len(data) == size, "read past the end of the frame"
            return _turn(data)
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    # UART and SPI

    def write(self, data: bytes) -> None:
        if not self.spi:
            self.chip.take(data)
            return
        data = _turn(data)
        if data[0] == 1:
            self.chip.take(data[1:])
        elif data[0] == 2:
            self.given = bytes((bool(self.chip.frames),))
        else:
            self.given = self.chip.frames.pop(0)

    spi = False

    def select(self, level: int) -> None:
        self.given = b""

    # I2C

    def writeto(self, address: int, data: bytes) -> None:
        if data == NACK:
            self.chip.frames.clear()
        self.chip.take(data)

    def readfrom(self, address: int, size: int) -> bytes:
        if not self.chip.frames:
            return bytes(size)
        frame = self.chip.frames[0]
        assert size <= 1 + len(frame), "read past the end of the frame"
        if size > 1 and size == 1 + len(frame):
            self.chip.frames.pop(0)
        return b"\x01" + frame[: size - 1]


def _turn(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


class Echo:
    def process(self, apdu: bytes) -> bytes:
        return apdu + b"\x90\x00"

    def reset(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["hsu", "i2c", "spi"])
def test_every_bus(kind: str) -> None:
    chip = Bench()
    bus = Bus(chip)
    bus.spi = kind == "spi"
    made = Hsu(bus) if kind == "hsu" else I2c(bus) if kind == "i2c" else Spi(bus, bus.select)
    target = Target(Echo(), made, secrets.token_bytes)
    chip.host = target.poll
    for _ in range(40):
        target.poll()
    assert chip.exchange(b"\x26") == b"\x04\x00"
    uid = chip.exchange(b"\x93\x20")
    assert uid is not None and chip.exchange(b"\x93\x70" + uid) == b"\x20"
    assert chip.exchange(b"\xe0\x80") is not None
    apdu = secrets.token_bytes(600)
    number = 0
    parts = [apdu[at : at + 61] for at in range(0, len(apdu), 61)]
    for part in parts:
        pcb = (0x02 if part is parts[-1] else 0x12) | number
        answer = chip.exchange(bytes((pcb,)) + part)
        while answer == b"\xf2\x01":
            answer = chip.exchange(answer)
        assert answer
        if part is not parts[-1]:
            assert answer == bytes((0xA2 | number,))
            number ^= 1
    got = answer[1:]
    while answer[0] & 0x10:
        number ^= 1
        answer = chip.exchange(bytes((0xA2 | number,)))
        while answer == b"\xf2\x01":
            answer = chip.exchange(answer)
        assert answer
        got += answer[1:]
    assert got == apdu + b"\x90\x00"
    chip.off()
    for _ in range(40):
        target.poll()
    assert chip.exchange(b"\x26") == b"\x04\x00"

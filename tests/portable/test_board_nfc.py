# SPDX-License-Identifier: Apache-2.0
"""A contactless card from a configuration, on an emulated PN532: chipcash_board.start. Portable."""

import os

from chips import Machine, NorFlash
from loops import until

from chipcash_board.flash import BLOCK, BlockFlash
from chipcash_board.start import Peeked, make_loop
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

SELECT = c.command(c.INS_SELECT, 4, 0, c.AID)


class Config:
    """A board with nothing but the chip."""

    LINKS = {"contactless": ("nfc",)}
    PERIPHERALS = {"contactless": ("pn532",)}
    PN532_BUS = "uart"
    PN532_INSTANCE = 0
    PN532_TX = 0
    PN532_RX = 1


class Pn532:
    """The chip's end of its UART, as far as a reader that finds the card at once and sends it these commands.

    What it is told is answered by the user manual's rules, whole frames each. answers: what the card said.
    mute: as many commands are not acknowledged, as while the chip wakes."""

    def __init__(self, commands, mute=0):
        self.commands = list(commands)
        self.answers = []
        self.mute = mute
        self._waiting = b""

    def any(self):
        """Bytes to be read."""
        return len(self._waiting)

    def read(self, size):
        """So many of them."""
        data = self._waiting[:size]
        self._waiting = self._waiting[size:]
        return data

    def write(self, frame):
        """A frame from the card; preambles and acknowledgements are taken in silence."""
        if frame[:3] != b"\x00\x00\xff" or frame[3:5] == b"\x00\xff":
            return
        long = frame[3:5] == b"\xff\xff"
        assert long or (frame[3] + frame[4]) & 0xFF == 0
        body = frame[8 if long else 5 : -1]
        assert sum(body) & 0xFF == 0 and body[0] == 0xD4
        code, data = body[1], body[2:-1]
        if self.mute:
            self.mute -= 1
            return
        self._waiting += b"\x00\x00\xff\x00\xff\x00"
        reply = {0x14: b"", 0x12: b"", 0x8C: b"\x08\xe0\x80", 0x8A: b"\x01\x00", 0x8E: b"\x00"}.get(
            code
        )
        if code == 0x8E:
            self.answers.append(data)
        elif code == 0x86:
            if not self.commands:
                return  # the reader has no more, and stays
            reply = b"\x00" + self.commands.pop(0)
        assert reply is not None, "%02x" % code
        body = bytes((0xD5, code + 1)) + reply
        self._waiting += b"\x00\x00\xff" + bytes((len(body), -len(body) & 0xFF)) + body
        self._waiting += bytes((-sum(body) & 0xFF, 0))


def answered(chip, count):
    """Power on with this contactless chip, until it has got so many answers; these."""
    device = BlockFlash(NorFlash(4), 0, 2 * BLOCK)
    loop = make_loop(Config, "contactless", device, os.urandom, Machine({(0, None): chip}, {}))
    until(loop, lambda: len(chip.answers) == count)
    return chip.answers


def test_a_tap_through_the_contactless_chip():
    """Also when the chip was asleep and missed the first of its commands."""
    for mute in (0, 2):
        answers = answered(Pn532([SELECT, c.command(c.INS_GET_DATA, c.DATA_INFO)], mute), 2)
        assert [answer[-2:] for answer in answers] == [b"\x90\x00"] * 2
        assert o.CardInfo.decode(answers[1][:-2]).lifecycle == o.LIFE_BLANK


class Absent:
    """A bus on which nobody answers."""

    def read(self):
        """Nobody."""
        raise OSError(5)


def test_a_contactless_chip_that_is_missing_is_one_that_says_nothing():
    """So that its driver goes on trying to set it up."""
    bus = Peeked(Absent())
    assert not bus.ready() and bus.read() == b""

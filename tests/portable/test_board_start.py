# SPDX-License-Identifier: Apache-2.0
"""From a configuration to a card that answers, on emulated chips: chipcash_board.start. Portable."""

import os

from chips import Machine, NorFlash, Pin, Ssd1306
from loops import until

from chipcash_board.flash import BLOCK, BlockFlash
from chipcash_board.start import make_loop
from chipcash_drivers.ssd1306 import ADDRESS
from chipcash_links.serial import COMMAND, REPLY, Reader, frame
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c


class Config:
    """A board with a screen and two buttons."""

    LINKS = {"visual": ("serial", "ble"), "plain": ("serial",)}
    PERIPHERALS = {"visual": ("display", "buttons"), "plain": ()}
    DISPLAY_BUS = "i2c"
    DISPLAY_INSTANCE = 1
    DISPLAY_HZ = 400000
    DISPLAY_ADDRESS = ADDRESS
    DISPLAY_SDA = 10
    DISPLAY_SCL = 11
    BUTTONS_CONFIRM = 14
    BUTTONS_REFUSE = 15


class Port:
    """A line on which these frames come; it ends when the last reply was sent and the card is at rest."""

    def __init__(self, frames):
        self.coming = frames
        self.replies = []

    def ready(self):
        """Whether bytes came."""
        return bool(self.coming)

    def receive(self):
        """They come in two pieces each."""
        first = self.coming[0]
        half = len(first) // 2
        if half:
            self.coming[0] = first[half:]
            return first[:half]
        return self.coming.pop(0)

    def send(self, data):
        """What the card says."""
        self.replies += [body for kind, _, body in Reader().feed(data) if kind == REPLY]


def run(form, device, commands, chip=None):
    """Power on, have the commands answered, wait until the card is at rest, power off; the answers."""
    port = Port([frame(COMMAND, at, command) for at, command in enumerate(commands)])
    machine = Machine({} if chip is None else {(1, ADDRESS): chip}, {14: Pin(), 15: Pin()})
    loop = make_loop(Config, form, device, os.urandom, machine, port)
    until(loop, lambda: len(port.replies) == len(commands))
    return port.replies


SELECT = c.command(c.INS_SELECT, 4, 0, c.AID)


def test_first_power_on_and_the_next():
    """A new board is a blank card; what it was told is there at the next power on."""
    for form in ("plain", "visual"):
        chip = NorFlash(4)
        device = BlockFlash(chip, 0, 2 * BLOCK)
        screen = Ssd1306() if form == "visual" else None
        blank = run(form, device, [SELECT], screen)
        assert blank[0][-2:] == b"\x90\x00"
        assert o.ApplicationInfo.decode(blank[0][:-2]).lifecycle == o.LIFE_BLANK
        if screen is not None:
            assert screen.seen() not in (None, bytes(1024))
        keyed = run(
            form, device, [SELECT, c.command(c.INS_GENERATE_KEY_PAIR, o.SUITE_P256)], screen
        )
        assert len(keyed[1]) == 35
        after = run(form, device, [SELECT], screen)
        assert o.ApplicationInfo.decode(after[0][:-2]).lifecycle == o.LIFE_KEYED


def test_a_screen_that_is_missing_stops_nothing():
    device = BlockFlash(NorFlash(4), 0, 2 * BLOCK)
    answers = run("visual", device, [SELECT, SELECT])
    assert [answer[-2:] for answer in answers] == [b"\x90\x00"] * 2

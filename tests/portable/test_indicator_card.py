# SPDX-License-Identifier: Apache-2.0
"""What a card tells by LED and buzzer, and that no tap waits for it. Portable."""

import os

from chips import NorFlash
from loops import until
from network import Network
from signs import BLUE, GREEN, RED, Pwm, Signs

from chipcash_board.flash import BLOCK, BlockFlash
from chipcash_card.applet import Applet
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c


class Machine:
    """What of MicroPython's module of that name such a board uses. pwm: what was made, by pin."""

    def __init__(self):
        self.pwm = {}

    def Pin(self, number):
        """A pin."""
        return number

    def PWM(self, pin, freq, duty_u16):
        """Of a pin; dark, or silent."""
        assert duty_u16 == 0 and pin not in self.pwm
        self.pwm[pin] = Pwm(freq)
        return self.pwm[pin]

    def unique_id(self):
        """Of the chip."""
        return b"\x01\x02\x03\x04"


class Config:
    """Boards with both, with either, and with none."""

    PERIPHERALS = {"both": ("led", "buzzer"), "led": ("led",), "buzzer": ("buzzer",), "none": ()}
    LINKS = {"both": (), "led": (), "buzzer": (), "none": ()}
    LED_RED = 18
    LED_GREEN = 19
    LED_BLUE = 20
    BUZZER_TONE = 22


def test_on_a_board():
    """A blank card flashes red, with no sound; whoever has no such form has no PWM."""
    from chipcash_board.start import make_loop  # the other tests need none, and memory is short

    device = BlockFlash(NorFlash(4), 0, 2 * BLOCK)
    for form, pins in (("led", 3), ("buzzer", 1), ("none", 0), ("both", 4)):
        machine = Machine()
        loop = make_loop(Config, form, device, os.urandom, machine)
        assert len(machine.pwm) == pins
    red, green, blue, tone = [machine.pwm[number].had for number in (18, 19, 20, 22)]
    until(loop, lambda: red == {0, 65535})
    assert green == blue == tone == {0}


class Card:
    """A card with 10,000 fen and LED and buzzer; with_panel: and with a screen, which asks above 1,000."""

    def __init__(self, with_panel=False):
        self.signs = Signs()
        self.net = Network(o.SUITE_P256)
        device = BlockFlash(NorFlash(4), 0, 2 * BLOCK)
        self.panel = None
        if with_panel:
            from chipcash_panel.panel import Panel

            self.panel = Panel(1000, lambda picture: None, lambda: self.signs.now)
        self.applet = Applet(device, os.urandom, self.panel, None, self.signs.indicator)
        self.session = self.applet.session()
        self.ok(c.INS_SELECT, 4, 0, c.AID, le=256)
        public = self.ok(c.INS_GENERATE_KEY_PAIR, self.net.suite.id, le=256)
        perso = self.net.personalisation(public)
        self.ok(c.INS_STORE_DATA, 0x80, 0, perso.encode(), extended=True)
        self.ok(c.INS_PUT_DATA, 0, 0, self.net.title(public).encode(), extended=True)

    def ok(self, *args, **kwargs):
        """A command that must succeed; its data."""
        reply = self.session.process(c.command(*args, **kwargs))
        assert reply[-2:] == b"\x90\x00", reply[-2:]
        return reply[:-2]

    def pay(self, request):
        """The status word."""
        data = c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
        return int.from_bytes(self.session.process(data)[-2:], "big")


def test_what_the_applet_tells_and_that_no_tap_sets_a_chip():
    card = Card()
    signs = card.signs
    assert signs.watched(1000)[2] == {BLUE}
    before = signs.sets
    request = card.net.request(100)
    assert card.pay(request) == 0x9000
    assert signs.sets == before  # the next tick will
    assert signs.watched(3000)[2] == {GREEN, BLUE}
    assert card.pay(request) == 0x9000  # again, out of the log: nothing was paid anew
    assert signs.watched(1000)[2] == {BLUE}
    assert card.pay(card.net.request(20000)) == c.SW_INSUFFICIENT_FUNDS
    assert RED in signs.watched(500)[2]


def test_who_is_asked_by_the_screen():
    card = Card(True)
    signs = card.signs
    signs.watched(1000)
    request = card.net.request(5000)
    assert card.pay(request) == c.SW_ASKED
    card.panel.tick()
    assert signs.watched(100)[2] == {RED, GREEN, BLUE}
    card.panel.press(2)  # REFUSE
    assert card.pay(request) == c.SW_DECLINED
    assert signs.watched(100)[2] == {RED}


def test_an_indicator_is_no_button():
    """From afar a card without buttons wants the PIN, whatever it can light."""
    card = Card()
    card.session = card.applet.session(over_air=True, far=True)
    card.ok(c.INS_SELECT, 4, 0, c.AID, le=256)
    assert card.pay(card.net.request(100)) == c.SW_SECURITY

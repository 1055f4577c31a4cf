# SPDX-License-Identifier: Apache-2.0
"""A card whose key is in an emulated TROPIC01, and a board with one. Portable, but the chip is another
process's: see tropic_bus."""

import os

from network import NOW, Network, TestCard, check_payment
from tropic_bus import Impatient, driver, fails, new_chip

from chipcash_board.start import make_loop
from chipcash_card.keys import KeyStore
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c


def personalised(bus):
    """A card with money."""
    card = TestCard(Network(o.SUITE_P256), KeyStore(b"", driver(bus))).personalise()
    card.load()
    return card


def power_on(card, bus):
    """As a new power on, of the microcontroller and not of the chip."""
    card.keys = KeyStore(b"", driver(bus))
    card.boot()
    card.select()
    while card.applet.idle():
        pass


def pay(card):
    """A payment that the terminal likes; its request."""
    request = card.network.request(100, time=NOW)
    check_payment(card.network, card.public, card.paid(request), request)
    return request


def test_it_pays_with_the_element_and_after_each_power_on():
    bus = new_chip()
    card = personalised(bus)
    for _ in range(2):
        power_on(card, bus)
        request = pay(card)
        assert card.pay(request) == card.pay(request)  # the log answers, and nothing is signed
    assert bus.get("sessions") == "3"
    assert bus.get("commands").count("112") == 2


def test_a_chip_that_restarts_between_taps_costs_no_payment():
    bus = new_chip()
    card = personalised(bus)
    pay(card)
    bus.reset()
    with Impatient():
        pay(card)


def test_a_chip_that_fails_in_a_tap_costs_no_money():
    """No answer, nothing committed; after the next power on the same request is paid, once."""
    bus = new_chip()
    card = personalised(bus)
    request = card.network.request(100, time=NOW)
    with Impatient():
        for fault in ("silent", "deaf", "forge"):
            bus.set(fault, 1000)
            assert card.pay(request) == (b"", c.SW_INTERNAL)
            bus.set(fault, 0)
            power_on(card, bus)
    paid = card.paid(request)
    check_payment(card.network, card.public, paid, request)
    assert paid.claim.counter == 1
    assert card.pay(request) == (paid.encode(), c.SW_OK)


def test_it_does_not_start_without_its_element():
    bus = new_chip()
    card = personalised(bus)
    card.keys = KeyStore(b"")
    assert fails(card.boot)
    with Impatient():
        bus.set("silent")
        assert fails(power_on, card, bus)
        bus.set("silent", 0)
    power_on(card, bus)
    bus.set("new")  # another chip: without a key, then with one of its own
    assert fails(power_on, card, bus)
    driver(bus).generate()
    assert fails(power_on, card, bus)


class Config:
    """A board with the secure element, and one without."""

    LINKS = {"secure": (), "plain": ()}
    PERIPHERALS = {"secure": ("tropic01",), "plain": ()}
    TROPIC01_INSTANCE = 1
    TROPIC01_HZ = 1000000
    TROPIC01_SCK = 26
    TROPIC01_MOSI = 27
    TROPIC01_MISO = 12
    TROPIC01_SS = 13


class Pins:
    """machine.Pin, of which only one is an output: the chip's CSN."""

    OUT = 1

    def __init__(self, bus):
        self.bus = bus

    def __call__(self, number, mode=None):
        """The pin of that number."""
        assert (number == 13) == (mode == self.OUT)
        return self.bus.select if mode == self.OUT else number


class Machine:
    """What of MicroPython's module of that name such a board uses."""

    def __init__(self, bus):
        self.bus = bus
        self.Pin = Pins(bus)

    def SPI(self, instance, baudrate, polarity, phase, sck, mosi, miso):
        """The one bus, in mode 0."""
        assert (instance, baudrate, polarity, phase) == (1, 1000000, 0, 0)
        assert (sck, mosi, miso) == (26, 27, 12)
        return self.bus

    def unique_id(self):
        """Of the microcontroller."""
        return b""


def test_a_board_uses_the_element_that_it_has():
    bus = new_chip()
    card = personalised(bus)
    card.boot()
    machine = Machine(bus)
    make_loop(Config, "secure", card.flash, os.urandom, machine)
    assert fails(make_loop, Config, "plain", card.flash, os.urandom, machine)
    with Impatient():
        bus.set("silent")
        assert fails(make_loop, Config, "secure", card.flash, os.urandom, machine)

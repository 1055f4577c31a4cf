# SPDX-License-Identifier: Apache-2.0
"""The card on Bluetooth, from a board's configuration to its answers: an emulated module bluetooth.
Portable."""

import os

import network
from ble_central import Bluetooth

from chipcash_board.start import make_loop
from chipcash_links import gatt
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c


class Config:
    """A board that is a Bluetooth card without screen and buttons."""

    LINKS = {"card": ("ble",)}
    PERIPHERALS = {"card": ()}


class Machine:
    """The identifier of no chip: the card's key was made without one."""

    @staticmethod
    def unique_id():
        """Nothing."""
        return b""


class Central:
    """Connected and paired with a board that was just powered on."""

    def __init__(self, device):
        self.bluetooth = Bluetooth()
        self.loop = make_loop(Config, "card", device, os.urandom, Machine, None, self.bluetooth)
        self.bluetooth.connect(mtu=185)
        self.bluetooth.pair()

    def send(self, *args, **kwargs):
        """A command; its status word, and data."""
        for fragment in gatt.fragments(gatt.MSG, c.command(*args, **kwargs), 182):
            self.bluetooth.write(gatt.CONTROL_POINT, fragment)
        reader = gatt.Reader()
        while True:
            while not self.bluetooth.notified:
                self.loop.step()
            message = reader.feed(self.bluetooth.notified.pop(0))
            if message is not None and message[0] == gatt.MSG:
                return int.from_bytes(message[1][-2:], "big"), message[1][:-2]


def test_a_card_without_buttons():
    """No PIN in clear over the air, and from afar no payment without one, however small."""
    net = network.Network(o.SUITE_P256)
    card = network.TestCard(net)
    card.personalise()
    card.load()
    request = net.request(100)
    central = Central(card.flash)
    assert central.send(c.INS_SELECT, 4, 0, c.AID)[0] == c.SW_OK
    assert central.send(c.INS_GET_DATA, c.DATA_INFO)[0] == c.SW_OK
    assert central.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, network.PIN)[0] != c.SW_OK
    pay = (c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
    assert central.send(*pay) == (c.SW_SECURITY, b"")
    card.boot()
    card.select()
    network.check_payment(net, card.public, card.paid(request), request)  # nearer, it is paid


def test_a_port_that_cannot_pair_has_no_bluetooth():
    """The card starts all the same: it may have another link."""
    bluetooth = Bluetooth(pairs=False)
    card = network.TestCard(network.Network(o.SUITE_P256))
    loop = make_loop(Config, "card", card.flash, os.urandom, Machine, None, bluetooth)
    loop.step()
    assert not bluetooth.enabled and bluetooth.advertising is None

# SPDX-License-Identifier: Apache-2.0
"""The card on USB, from a board's configuration to a payment: an emulated machine.USBDevice. Portable."""

import network
from usb_board import flash, plugged

from chipcash_links import t1
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c


def ok(host, *args, **kwargs):
    """A command that must succeed; its data."""
    reply = host.command(c.command(*args, **kwargs))
    assert reply[-2:] == b"\x90\x00", reply[-2:]
    return reply[:-2]


def test_a_payment():
    """A card is personalised, loaded, and pays; it is unplugged, and pays the same once more."""
    device = flash()
    net = network.Network(o.SUITE_P256)
    host = plugged("reader", device)
    host.power_on()
    assert host.block(t1.block(0xC1, b"\xfe")) == (0xE1, b"\xfe")
    ok(host, c.INS_SELECT, 4, 0, c.AID, le=256)
    public = ok(host, c.INS_GENERATE_KEY_PAIR, net.suite.id, le=256)
    perso = net.personalisation(public)
    ok(host, c.INS_STORE_DATA, 0x80, 0, perso.encode(), extended=True)
    ok(host, c.INS_PUT_DATA, 0, 0, net.title(public).encode(), extended=True)
    request = net.request(1234)
    pay = (c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
    paid = ok(host, *pay)
    network.check_payment(net, public, o.Payment.decode(paid), request)
    host = None  # two of them are much for a small heap
    host = plugged("reader", device)
    host.power_on()
    ok(host, c.INS_SELECT, 4, 0, c.AID, le=256)
    assert ok(host, *pay) == paid
    device.close()

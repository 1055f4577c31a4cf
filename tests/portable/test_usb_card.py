# SPDX-License-Identifier: Apache-2.0
"""The card on USB, from a board's configuration to a payment: an emulated machine.USBDevice. Portable."""

import os

import network
from usb_host import Host, UsbDevice

from chipcash_board.start import make_loop
from chipcash_links import t1
from chipcash_links.ccid import ATR_T1
from chipcash_sim.image import FileFlash
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c


class Config:
    """A board that is reader and card in one; with the board's serial line, and without."""

    LINKS = {"reader": ("ccid",), "both": ("ccid", "serial"), "line": ("serial",)}
    PERIPHERALS = {"reader": (), "both": (), "line": ()}


class Machine:
    """MicroPython's module of that name, on such a board."""

    def __init__(self):
        self.usb = UsbDevice()

    def USBDevice(self):
        """The one there is."""
        return self.usb

    def unique_id(self):
        """The chip's identifier."""
        return b"usb-chip"


def flash():
    """An empty one, in a file: a small heap has no room for it beside the network."""
    path = "%s/usb.img" % network.SCRATCH
    open(path, "wb").close()
    return FileFlash(path, size=network.BANK)


def plugged(form, device):
    """A host at a board that was just powered on."""
    machine = Machine()
    loop = make_loop(Config, form, device, os.urandom, machine)
    machine.usb.turn = loop.step
    return Host(machine.usb)


def test_which_form_shows_what():
    for form, interfaces, asked in (("reader", 1, 0), ("both", 3, 2)):
        device = flash()
        host = plugged(form, device)
        assert host.usb.get_descriptor(2)[4] == interfaces and host.interface == asked
        assert host.power_on() == ATR_T1
        device.close()
    device = flash()
    line = Machine()
    make_loop(Config, "line", device, os.urandom, line)
    assert not line.usb.active()
    device.close()


def ok(host, *args, **kwargs):
    """A command that must succeed; its data."""
    reply = host.command(c.command(*args, **kwargs))
    assert reply[-2:] == b"\x90\x00", reply[-2:]
    return reply[:-2]


def test_a_payment():
    """A card is personalised, loaded, and pays; it is unplugged, and pays the same once more."""
    net = network.Network(o.SUITE_P256)
    device = flash()
    host = plugged("reader", device)
    host.power_on()
    assert host.block(t1.block(0xC1, b"\xfe")) == (0xE1, b"\xfe")
    ok(host, c.INS_SELECT, 4, 0, c.AID, le=256)
    public = ok(host, c.INS_GENERATE_KEY_PAIR, net.suite.id, le=256)
    perso = o.Personalisation(
        center_key=net.center.public,
        certification_key=net.certification.public,
        pin=network.PIN,
        puk=network.PUK,
        certificate=net.certificate(public),
        risk=net.risk(public),
    )
    ok(host, c.INS_STORE_DATA, 0x80, 0, perso.encode(), extended=True)
    ok(host, c.INS_PUT_DATA, 0, 0, net.title(public).encode(), extended=True)
    request = net.request(1234)
    pay = (c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
    paid = ok(host, *pay)
    network.check_payment(net, public, o.Payment.decode(paid), request)
    host = plugged("reader", device)
    host.power_on()
    ok(host, c.INS_SELECT, 4, 0, c.AID, le=256)
    assert ok(host, *pay) == paid
    device.close()

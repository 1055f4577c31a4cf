# SPDX-License-Identifier: Apache-2.0
"""A board that is a USB reader with its card in it, on an emulated machine.USBDevice. Portable."""

import os

import network
from usb_host import Host, UsbDevice

from chipcash_board.start import make_loop
from chipcash_sim.image import FileFlash


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

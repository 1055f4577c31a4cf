# SPDX-License-Identifier: Apache-2.0
"""What of a board its form shows on USB, from the board's configuration. Portable."""

import os

from usb_board import Config, Machine, flash, plugged

from chipcash_board.start import make_loop
from chipcash_links.ccid import ATR_T1


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

# SPDX-License-Identifier: Apache-2.0
"""A board without chips: its loop over standard input and output. micropython -m board_process IMAGE"""

import os
import sys

from chipcash_board.start import Stdio, make_loop
from chipcash_sim.image import FileFlash


class Config:
    """A board that is nothing but a serial line."""

    LINKS = {"usb": ("serial",)}
    PERIPHERALS = {"usb": ()}


class Machine:
    """No chips, and the identifier of none: the image's card was made by the emulator."""

    @staticmethod
    def unique_id():
        """Nothing."""
        return b""


make_loop(Config, "usb", FileFlash(sys.argv[1]), os.urandom, Machine, Stdio()).run()

# SPDX-License-Identifier: Apache-2.0
"""What one payment costs, measured under MicroPython's unix port: micropython -m measure IMAGE PAY_COMMAND

IMAGE: a personalised card's, which is read and not changed; PAY_COMMAND: the APDU, in hexadecimal digits.
Prints one line of JSON: see main(). For firmware/build.py."""

import gc
import json
import os
import sys
from binascii import unhexlify

from chipcash_board.polling import BoardLoop
from chipcash_card.applet import COUPONS, Applet
from chipcash_drivers.ssd1306 import Display
from chipcash_panel.panel import Panel
from chipcash_wire import commands as c
from chipcash_wire.compat import ticks_diff, ticks_us

_REPEATS = 5


class Flash:
    """Flash that costs nothing: it is read from the image, and what is programmed is kept by address. pages:
    pages of 256 bytes that were programmed; spent: microseconds in here."""

    def __init__(self, image: str) -> None:
        self._file = open(image, "rb")
        self.size = self._file.seek(0, 2) // 2
        self._written: "list[tuple[int, bytes]]" = []
        self.pages = 0
        self.spent = 0

    def read(self, bank: int, offset: int, n: int) -> bytearray:
        """n bytes of a bank."""
        start = ticks_us()
        first = bank * self.size + offset
        self._file.seek(first)
        data = bytearray(self._file.read(n))
        for at, new in self._written:
            for i in range(max(at, first), min(at + len(new), first + n)):
                data[i - first] = new[i - at]
        self.spent += ticks_diff(ticks_us(), start)
        return data

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """Remember it."""
        start = ticks_us()
        self._written.append((bank * self.size + offset, data))
        self.pages += 1
        self.spent += ticks_diff(ticks_us(), start)

    def erase(self, bank: int) -> None:
        """A card that must do this now is no typical one: choose another image."""
        raise OSError()


class Nothing:
    """A display that takes everything."""

    def command(self, data: bytes) -> None:
        """Take it."""

    def data(self, data: "bytes | memoryview") -> None:
        """Take it."""


def main(image: str, command: bytes) -> "dict[str, int]":
    """The quickest of some payments, each after a new power on.

    rest, payment: bytes of heap in use when the card is at rest with its coupons, code included, and what a
    payment allocates on top of that with nothing collected meanwhile. select, pay, again, sign: microseconds
    for SELECT, for PAY with a coupon ready, for the same PAY again, which is answered out of the log (flash
    left out of all three), and for making a coupon, which is nearly all of a signature. pages: flash pages
    programmed. bytes: of both commands and both answers."""
    found: "dict[str, int]" = {}
    for _ in range(_REPEATS):
        flash = Flash(image)
        panel = Panel(1 << 62, Display(Nothing()).show)
        applet = Applet(flash, os.urandom, panel)
        loop = BoardLoop([], applet)
        start = ticks_us()
        loop.idle()
        sign = ticks_diff(ticks_us(), start)
        for _ in range(COUPONS):
            loop.idle()
        panel.tick()
        session = applet.session(over_air=True)
        select = c.command(c.INS_SELECT, 4, 0, c.AID)
        flash.spent = 0
        start = ticks_us()
        answer = session.process(select)
        selected = ticks_diff(ticks_us(), start) - flash.spent
        size = len(select) + len(answer) + len(command)
        gc.collect()
        gc.disable()
        rest = gc.mem_alloc()  # type: ignore[attr-defined]
        flash.pages = flash.spent = 0
        start = ticks_us()
        reply = session.process(command)
        pay = ticks_diff(ticks_us(), start) - flash.spent
        payment = gc.mem_alloc() - rest  # type: ignore[attr-defined]
        gc.enable()
        if reply[-2:] != b"\x90\x00":
            raise ValueError("PAY was answered %r" % reply[-2:])
        pages = flash.pages
        flash.spent = 0
        start = ticks_us()
        if session.process(command) != reply:
            raise ValueError("the same PAY was answered otherwise")
        again = ticks_diff(ticks_us(), start) - flash.spent
        one = {
            "rest": rest,
            "payment": payment,
            "select": selected,
            "pay": pay,
            "again": again,
            "sign": sign,
            "pages": pages,
        }
        for name in one:
            found[name] = min(found.get(name, one[name]), one[name])
        found["bytes"] = size + len(reply)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], unhexlify(sys.argv[2]))))

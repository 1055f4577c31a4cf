# SPDX-License-Identifier: Apache-2.0
"""What a card can do, and how quickly: known answers, and the times of its arithmetic, journal and payment.

One definition for all who ask. `chipcash board bench` sends this file to a board, which runs it in its memory
with the firmware that it has; firmware/build.py runs it under MicroPython's unix port:

    micropython -m chipcash_board.measure IMAGE PAY_COMMAND

which prints payment() as one line of JSON. tests/bench has signing() under CPython too. No firmware holds it,
and nothing here touches the card's journal. Times are in microseconds."""

import gc
import os
import sys
from binascii import unhexlify

from chipcash_card.suites import BY_NAME, Signer, generate_private
from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_us

if TYPE_CHECKING:
    from typing import BinaryIO

KNOWN: "dict[str, tuple[str, ...]]" = {
    "sm3": ("abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
    "sha256": ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    "gm": (
        "message digest",
        "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8",
        "59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21",
        "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
        "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA",
    ),
    "p256": (
        "sample",
        "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
        "A6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60",
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    ),
}
"""GB/T 32905-2016 A.1 and FIPS 180-4: message, hash. GB/T 32918.5-2017 A.2 and RFC 6979 A.2.5: message,
private key, nonce, signature."""

RECORD = 650
"""Bytes that a payment of one title writes into the journal, about."""
_MESSAGE = bytes(range(220))  # the length of a claim over one title
_KB = 1024


def word_bits() -> int:
    """Bits of the interpreter's machine word."""
    bits = 1
    while sys.maxsize >> bits - 1:
        bits += 1
    return bits


def self_test(unique_id: bytes) -> "dict[str, bool]":
    """Whether each known answer comes out, and what else a card stands on is as it should be. unique_id: the
    chip's, under which the key is sealed."""
    a, b = os.urandom(32), os.urandom(32)
    half = 1 << 30  # the last that is a small integer on a board is one less
    found = {
        "integers": half * half >> 60 == 1
        and -half - half == -(1 << 31)
        and (half - 1) + 1 == half,
        "random": len(a) == 32 and a != b and a != bytes(32),
        "unique_id": len(unique_id) >= 6 and unique_id not in (bytes(len(unique_id)), b"\xff" * 8),
    }
    for name, suite in (("sm3", BY_NAME["gm"]), ("sha256", BY_NAME["p256"])):
        text, digest = KNOWN[name]
        found[name] = suite.hash(text.encode()) == unhexlify(digest)
    for name in BY_NAME:
        suite = BY_NAME[name]
        text, private, k, signed = KNOWN[name]
        message, key, signature = text.encode(), unhexlify(private), unhexlify(signed)
        point = suite.point(key)
        public = suite.public_key(key)
        e = int.from_bytes(suite.hash(suite.prefix(point) + message), "big")
        secret = suite.secret(key)
        coupon = suite.coupon(secret, int.from_bytes(unhexlify(k), "big"))
        found["sign." + name] = suite.finish(secret, coupon, e) == signature
        found["verify." + name] = suite.verify(public, message, signature)
        found["refuse." + name] = not suite.verify(public, message + b"!", signature)
    return found


def signing(name: str, rounds: int, together: int) -> "dict[str, list[float]]":
    """The times of a suite: sign, a signature without coupon; coupon, one with; verify.

    The three take turns, so that what slows the machine down for a while slows down all of them. together:
    how many coupons are used up in one time taken, which is divided by it: one alone may be too short."""
    suite = BY_NAME[name]
    signer = Signer(suite, generate_private(suite, os.urandom), 1, os.urandom)
    times: "dict[str, list[float]]" = {"sign": [], "coupon": [], "verify": []}
    for _ in range(rounds):
        start = ticks_us()
        signature = signer.sign(_MESSAGE)
        times["sign"].append(ticks_diff(ticks_us(), start))

        for _ in range(together):
            signer.prepare()
        start = ticks_us()
        for _ in range(together):
            signer.sign(_MESSAGE)
        times["coupon"].append(ticks_diff(ticks_us(), start) / together)

        start = ticks_us()
        good = suite.verify(signer.public, _MESSAGE, signature)
        times["verify"].append(ticks_diff(ticks_us(), start))
        if signer.coupons or not good:
            raise ValueError("a signature of %s is wrong" % name)
    return times


def hashing(name: str, rounds: int) -> "list[int]":
    """The times of a suite's hash over 1 kB."""
    data = bytes(_KB)
    times = []
    for _ in range(rounds):
        start = ticks_us()
        BY_NAME[name].hash(data)
        times.append(ticks_diff(ticks_us(), start))
    return times


class Counted:
    """A journal's device that counts, and takes times. pages: programmed; erased: times of each bank's."""

    def __init__(self, device) -> None:  # type: ignore[no-untyped-def]
        self._device = device
        self.size = device.size
        self.read = device.read
        self.pages = 0
        self.erased: "list[int]" = []

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """As the device."""
        self._device.program(bank, offset, data)
        self.pages += 1

    def erase(self, bank: int) -> None:
        """As the device."""
        start = ticks_us()
        self._device.erase(bank)
        self.erased.append(ticks_diff(ticks_us(), start))


def journal(device) -> "dict[str, list[int]]":  # type: ignore[no-untyped-def]
    """A journal of its own on a device with nothing of worth on it: times of commits as long as a payment's,
    pages that each programs, times of erasing a bank. Afterwards the device is erased. Raises OSError."""
    from chipcash_card.journal import Journal

    counted = Counted(device)
    found: "dict[str, list[int]]" = {"commit": [], "pages": [], "erase": counted.erased}
    try:
        counted.erase(0)
        counted.erase(1)
        own = Journal(counted)
        while own.free > 2 * RECORD:
            counted.pages = 0
            start = ticks_us()
            own.commit({b"bench": os.urandom(RECORD)})
            found["commit"].append(ticks_diff(ticks_us(), start))
            found["pages"].append(counted.pages)
    finally:
        counted.erase(0)
        counted.erase(1)
    return found


class Flash:
    """Flash that costs nothing: it is read from an image, and what is programmed is kept by address. pages:
    pages of 256 bytes that were programmed; spent: microseconds in here.

    image: a card's; what is behind its end is erased. size: bytes a bank."""

    def __init__(self, image: "BinaryIO", size: int) -> None:
        self._file = image
        self.size = size
        self._written: "list[tuple[int, bytes]]" = []
        self.pages = 0
        self.spent = 0

    def read(self, bank: int, offset: int, n: int) -> bytearray:
        """n bytes of a bank."""
        start = ticks_us()
        first = bank * self.size + offset
        self._file.seek(first)
        data = bytearray(self._file.read(n))
        data += b"\xff" * (n - len(data))
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


def payment(image: "BinaryIO", size: int, command: bytes, repeats: int) -> "dict[str, int]":
    """The quickest of some payments, each after a new power on. image, size: a personalised card's, see
    Flash, which is read and not changed; command: PAY.

    rest, payment: bytes of heap in use when the card is at rest with its coupons, code included, and what a
    payment allocates on top of that with nothing collected meanwhile. select, pay, again, sign: microseconds
    for SELECT, for PAY with a coupon ready, for the same PAY again, which is answered out of the log (flash
    left out of all three), and for making a coupon, which is nearly all of a signature. pages: flash pages
    programmed. bytes: of both commands and both answers."""
    from chipcash_board.polling import BoardLoop
    from chipcash_card.applet import COUPONS, Applet
    from chipcash_drivers.ssd1306 import Display
    from chipcash_panel.panel import Panel
    from chipcash_wire import commands as c

    found: "dict[str, int]" = {}
    for _ in range(repeats):
        flash = Flash(image, size)
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
        length = len(select) + len(answer) + len(command)
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
        found["bytes"] = length + len(reply)
    return found


if __name__ == "__main__":
    import json

    with open(sys.argv[1], "rb") as _image:
        _size = _image.seek(0, 2) // 2
        print(json.dumps(payment(_image, _size, unhexlify(sys.argv[2]), 5)))

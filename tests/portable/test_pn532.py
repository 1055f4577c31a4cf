# SPDX-License-Identifier: Apache-2.0
"""The board's side of a PN532 in target mode: chipcash_drivers.pn532. Portable."""

from echo import Echo

from chipcash_drivers import pn532
from chipcash_drivers.pn532 import ACK, MAX_APDU, MAX_DATA, NACK, Frames, I2c, Spi, Target

ACTIVATED = b"\x8d\x08\xe0\x80"
DATA = bytes(range(250)) * 3


def from_chip(data):
    """The chip's frame of a reply's code and data."""
    made = bytearray(pn532.frame(data))
    at = 8 if made[3:5] == b"\xff\xff" else 5
    made[at] = 0xD5
    made[-2] = (made[-2] - 1) & 0xFF
    return bytes(made)


class Chip:
    """A bus with a chip that acknowledges everything, and answers from a list."""

    def __init__(self):
        self.frames = []
        self.coming = []
        self.woken = 0
        self.deaf = False

    def wake(self):
        """Counted."""
        self.woken += 1

    def write(self, frame):
        """Taken, and acknowledged."""
        if self.deaf:
            raise OSError(5)
        self.frames.append(frame)
        if frame != ACK:
            self.coming.append(ACK)

    def read(self):
        """The next of what is coming."""
        return self.coming.pop(0) if self.coming else b""

    def told(self):
        """The code and the parameters of the command that came last."""
        frame = self.frames[-1]
        return frame[9:-2] if frame[3:5] == b"\xff\xff" else frame[6:-2]


class Card:
    """A card behind a chip."""

    def __init__(self):
        self.chip = Chip()
        self.session = Echo()
        self.late = 0
        self.target = Target(self.session, self.chip, bytes)

    def reply(self, data):
        """Let the chip reply; the command that follows."""
        self.chip.coming.append(from_chip(data))
        while self.chip.coming:
            self.target.poll()
        return self.chip.told()

    def poll_later(self, milliseconds):
        """Poll when so much more time has passed."""
        self.late += milliseconds
        real = pn532.ticks_ms
        pn532.ticks_ms = lambda: real() + self.late
        try:
            self.target.poll()
        finally:
            pn532.ticks_ms = real

    def activated(self):
        """Set up, and found by a reader."""
        assert self.reply(b"\x15") == b"\x12\x24"
        assert self.reply(b"\x13")[:2] == b"\x8c\x04"
        assert self.reply(ACTIVATED) == b"\x86"
        return self


def test_frames():
    assert pn532.frame(b"\x02") == b"\x00\x00\xff\x02\xfe\xd4\x02\x2a\x00"  # the manual's example
    long = pn532.frame(b"\x8e" + bytes(262))
    assert long[:9] == b"\x00\x00\xff\xff\xff\x01\x08\xf7\xd4"
    assert len(long) == pn532.frame_size(long) == 274
    assert pn532.frame(b"\x8e" + bytes(253))[3:5] == b"\xff\x01"
    assert pn532.frame(b"\x8e" + bytes(254))[3:5] == b"\xff\xff"


def test_frames_byte_by_byte_and_at_once():
    bodies = (b"\x87\x00" + DATA[:262], b"\x03\x32\x01\x06\x07", b"\x87\x00" + DATA[:252])
    stream = b"\x00\x00\x00" + ACK
    for body in bodies:
        stream += from_chip(body) + b"\xaa\x00"
    expected = [b""] + [b"\xd5" + body for body in bodies]
    reader = Frames()
    found = []
    for at in range(len(stream)):
        found += reader.feed(stream[at : at + 1])
    assert found == expected
    assert Frames().feed(stream) == expected
    assert Frames().feed(b"\x00\x00\xff\x01\xff\x7f\x81\x00" + NACK) == [b"\x7f"]


def test_spoilt_frames_are_dropped_and_the_next_is_found():
    good = from_chip(b"\x8f\x00")
    for at in range(3, len(good) - 1):
        spoilt = bytearray(good)
        spoilt[at] ^= 0x10
        found = Frames().feed(bytes(spoilt) + good * 2)
        assert found in ([b"\xd5\x8f\x00"] * 2, [b"\xd5\x8f\x00"]) and found


def test_commands_and_answers():
    card = Card()
    assert card.chip.woken == 1 and card.chip.told() == b"\x14\x01\x00\x01"
    card.activated()
    assert card.reply(b"\x87\x00abcd") == b"\x8eabcd\x90\x00"
    assert card.reply(b"\x8f\x00") == b"\x86"
    assert card.session.commands == [b"abcd"]


def test_the_chip_is_told_what_kind_of_card_it_is():
    card = Card()
    card.reply(b"\x15")
    told = card.reply(b"\x13")
    assert told[:8] == b"\x8c\x04\x04\x00" + bytes(3) + b"\x20"  # PICC only; ISO/IEC 14443-4
    assert told[8:36] == bytes(28) and told[36:] == b"\x00\x01\x80"
    assert card.reply(b"\x8d\x04")[:1] == b"\x8c"  # not activated as such: wait again


def test_long_both_ways():
    card = Card().activated()
    parts = [DATA[:MAX_DATA], DATA[MAX_DATA : 2 * MAX_DATA], DATA[2 * MAX_DATA :]]
    assert card.reply(b"\x87\x40" + parts[0]) == b"\x86"
    assert card.reply(b"\x87\x40" + parts[1]) == b"\x86"
    assert card.reply(b"\x87\x00" + parts[2]) == b"\x94" + parts[0]
    assert card.reply(b"\x95\x00") == b"\x94" + parts[1]
    assert card.reply(b"\x95\x00") == b"\x8e" + parts[2] + b"\x90\x00"
    assert card.reply(b"\x8f\x00") == b"\x86"


def test_longer_than_any_apdu_is_refused_and_not_cut():
    card = Card().activated()
    for _ in range(MAX_APDU // 262 + 1):
        assert card.reply(b"\x87\x40" + bytes(262)) == b"\x86"
    assert card.reply(b"\x87\x00" + bytes(262)) == b"\x8e\x67\x00"
    assert not card.session.commands
    card.reply(b"\x8f\x00")
    assert card.reply(b"\x87\x00abcd") == b"\x8eabcd\x90\x00"


def test_a_reader_that_leaves():
    for gone in (b"\x87\x29", b"\x87\x25", b"\x87\x02"):
        card = Card().activated()
        resets = card.session.resets
        assert card.reply(b"\x87\x40ab") == b"\x86"
        assert card.reply(gone)[:1] == b"\x8c" and card.session.resets == resets + 1
        assert card.reply(ACTIVATED) == b"\x86"
        assert card.reply(b"\x87\x00cd") == b"\x8ecd\x90\x00"  # nothing is left of what came before
    card = Card().activated()
    assert card.reply(b"\x87\x00" + DATA[:262])[:1] == b"\x94"
    assert card.reply(b"\x95\x29")[:1] == b"\x8c"
    card.reply(ACTIVATED)
    assert card.reply(b"\x87\x00ab") == b"\x8eab\x90\x00"


def test_a_chip_that_says_nothing_is_set_up_anew():
    card = Card().activated()
    card.reply(b"\x87\x00abcd")
    woken = card.chip.woken
    resets = card.session.resets
    card.poll_later(1500)
    assert card.chip.woken == woken  # the reader may ask for the answer again and again
    card.poll_later(500)
    assert card.chip.woken == woken + 1 and card.session.resets == resets + 1
    assert card.chip.frames[-2] == ACK and card.chip.told()[:1] == b"\x14"
    assert card.reply(b"\x8f\x00")[:1] == b"\x14"  # too late
    card.activated()


def test_a_chip_that_is_not_there():
    card = Card()
    card.chip.coming = []
    card.chip.deaf = True
    for _ in range(3):
        card.poll_later(300)
    card.chip.deaf = False
    card.poll_later(300)
    card.activated()


def test_a_chip_that_hangs_is_reset_where_that_is_wired():
    levels = []
    card = Card()
    card.target = Target(card.session, card.chip, bytes, levels.append)
    assert levels == [0, 1]
    card.activated()
    card.poll_later(2000)
    card.poll_later(0)  # it has acknowledged, and says nothing
    card.poll_later(300)
    assert levels == [0, 1] and card.chip.told()[:1] == b"\x14"
    card.chip.coming = []
    card.poll_later(300)
    assert levels == [0, 1, 0, 1]


def test_a_chip_that_forgot_everything():
    card = Card().activated()
    card.poll_later(2000)
    assert card.chip.told() == b"\x8a"
    assert card.reply(b"\x8b\x01\x00") == b"\x86"  # the reader is there, and has nothing to say
    card.poll_later(2000)
    assert card.reply(b"\x8b\x00\x00")[:1] == b"\x14"
    card.activated()
    assert card.chip.coming == [] and card.target.poll() is None


def test_a_reply_without_its_receipt_is_an_older_commands():
    card = Card()
    card.chip.coming = [from_chip(b"\x15")]
    card.target.poll()
    assert len(card.chip.frames) == 2  # the end of what the chip did, and SAMConfiguration
    card.poll_later(300)
    card.activated()


def test_the_error_frame():
    card = Card().activated()
    card.chip.coming = [b"\x00\x00\xff\x01\xff\x7f\x81\x00"]
    card.target.poll()
    assert card.chip.told()[:1] == b"\x14"


class Wire:
    """machine.I2C with a chip on it that has frames to give."""

    def __init__(self, frames):
        self.frames = frames
        self.written = []
        self.read = []

    def writeto(self, address, data):
        """Taken."""
        assert address == 0x24
        self.written.append(data)

    def readfrom(self, address, size):
        """The byte that says ready, and the frame from its beginning."""
        assert address == 0x24
        self.read.append(size)
        if not self.frames:
            return bytes(size)
        assert size <= 1 + len(self.frames[0])
        if size == 1 + len(self.frames[0]):
            return b"\x01" + self.frames.pop(0)
        return b"\x01" + self.frames[0][: size - 1]


def test_i2c_reads_as_much_as_there_is():
    for reply in (from_chip(b"\x8f\x00"), from_chip(b"\x87\x00" + bytes(200))):
        wire = Wire([ACK, reply])
        bus = I2c(wire)
        bus.write(b"frame")
        assert bus.read() == ACK
        assert bus.read() == b""  # it asks for the frame again
        assert wire.written == [b"frame", NACK]
        assert bus.read() == reply and bus.read() == b""


def turned(data):
    """Each byte with its bits in the other order."""
    return bytes([sum([(byte >> n & 1) << 7 - n for n in range(8)]) for byte in data])


class Lines:
    """machine.SPI and the select line: bits as the chip has them, least significant first."""

    def __init__(self, frames):
        self.frames = frames
        self.written = []
        self.selected = False
        self.answer = b""

    def select(self, level):
        """NSS."""
        self.selected = level == 0
        self.answer = b""

    def write(self, data):
        """The operation, and what is written."""
        assert self.selected
        data = turned(data)
        if data[0] == 2:
            self.answer = bytes((1 if self.frames else 0,))
        elif data[0] == 3:
            self.answer = self.frames.pop(0)
        else:
            self.written.append(data)

    def read(self, size):
        """What the operation gives."""
        assert self.selected and len(self.answer) >= size
        data, self.answer = self.answer[:size], self.answer[size:]
        return turned(data)


def test_spi_turns_the_bits():
    replies = [ACK, from_chip(b"\x8f\x00"), from_chip(b"\x87\x00" + bytes(262))]
    lines = Lines(list(replies))
    bus = Spi(lines, lines.select)
    bus.wake()
    bus.write(b"\x00\x00\xff")
    assert lines.written == [b"\x01\x00\x00\xff"]
    for reply in replies:
        assert bus.read() == reply
    assert bus.read() == b""

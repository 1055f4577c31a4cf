# SPDX-License-Identifier: Apache-2.0
"""The framing of serial lines, without a line: chipcash_links.serial. Portable."""

from echo import Echo

from chipcash_links import serial
from chipcash_links.serial import Reader, Serial, frame

HARD = bytes(range(256)) + b"\xc0\xdb\xdc\xdd\xc0\xc0\xdb"


class Line:
    """Remembers what was sent."""

    def __init__(self):
        self.sent = b""

    def send(self, data):
        """One frame."""
        self.sent += data

    def frames(self):
        """What was sent since the last call."""
        found = Reader().feed(self.sent)
        self.sent = b""
        return found


def made():
    """(session, line, link)."""
    session = Echo()
    line = Line()
    return session, line, Serial(session, line)


def test_crc():
    assert serial.crc16(b"123456789") == 0x906E  # CRC-16/X-25's check value


def test_any_bytes_in_any_pieces():
    reader = Reader()
    found = []
    for byte in frame(serial.COMMAND, 7, HARD) + frame(serial.COMMAND, 0xC0, b""):
        found += reader.feed(bytes((byte,)))
    assert found == [(serial.COMMAND, 7, HARD), (serial.COMMAND, 0xC0, b"")]


def test_a_command_is_answered_and_a_repeated_one_only_answered_again():
    session, line, link = made()
    command = frame(serial.COMMAND, 1, HARD)
    link.take(command[:100])
    assert not line.sent
    link.take(command[100:])
    assert line.frames() == [(serial.REPLY, 1, HARD + b"\x90\x00")]
    link.take(command)
    assert line.frames() == [(serial.REPLY, 1, HARD + b"\x90\x00")]
    assert len(session.commands) == 1
    link.take(frame(serial.COMMAND, 2, b"abcd"))
    assert line.frames() == [(serial.REPLY, 2, b"abcd\x90\x00")]


def test_garbage_costs_at_most_the_frame_it_hits():
    for garbage in (b"\x00", b"\xdb", b"\xc0", b"\xdb\xc0", b"login: \r\n", bytes(range(256))):
        _, line, link = made()
        link.take(garbage)
        link.take(frame(serial.COMMAND, 1, b"abcd"))
        assert line.frames() == [(serial.REPLY, 1, b"abcd\x90\x00")], garbage
        whole = frame(serial.COMMAND, 2, b"abcd")
        for cut in range(1, len(whole) - 1):
            link.take(whole[:cut] + garbage)
            line.frames()
            link.take(frame(serial.COMMAND, 3, b"efgh"))
            assert line.frames()[-1:] == [(serial.REPLY, 3, b"efgh\x90\x00")], (garbage, cut)
            link.take(frame(serial.RESET, 4))
            line.frames()


def test_a_flipped_bit_is_no_command():
    session, line, link = made()
    whole = frame(serial.COMMAND, 1, b"abcd")
    for at in range(1, len(whole) - 1):
        for bit in range(8):
            link.take(whole[:at] + bytes((whole[at] ^ 1 << bit,)) + whole[at + 1 :])
    assert len(session.commands) == 0 and not line.sent


def test_reset_forgets():
    session, line, link = made()
    link.take(frame(serial.COMMAND, 1, b"abcd"))
    link.take(frame(serial.RESET, 9))
    assert line.frames()[-1] == (serial.READY, 9, serial.GREETING)
    assert session.resets == 1
    link.take(frame(serial.COMMAND, 1, b"abcd"))  # another one, though its number is the same
    assert len(session.commands) == 2


def test_too_long_is_dropped():
    session, _, link = made()
    link.take(frame(serial.COMMAND, 1, bytes(serial.MAX_APDU + 1)))
    assert len(session.commands) == 0
    link.take(frame(serial.COMMAND, 2, bytes(serial.MAX_APDU)))
    assert len(session.commands) == 1


def test_signs_of_life():
    session, line, link = made()
    link.PATIENCE_MS = 0
    session.link = link
    link.take(frame(serial.COMMAND, 5, b"abcd"))
    assert line.frames() == [(serial.BUSY, 5, b""), (serial.REPLY, 5, b"abcd\x90\x00")]
    link.working()  # outside of a command nobody waits
    assert not line.sent

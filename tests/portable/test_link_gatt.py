# SPDX-License-Identifier: Apache-2.0
"""The framing over GATT, without Bluetooth: chipcash_links.gatt. Portable."""

from echo import Echo

from chipcash_links import gatt
from chipcash_links.gatt import Gatt, Reader, Spoilt, fragments

LONG = bytes(range(256)) * 16  # MAX_APDU: more than 128 fragments at the smallest MTU
SIZES = (20, 244, 512)


class Port:
    """Remembers what was sent."""

    def __init__(self):
        self.sent = []

    def send(self, data):
        """One packet."""
        self.sent.append(data)

    def messages(self, connection=1):
        """What was sent to a connection since the last call; all must have been for it."""
        reader = Reader()
        found = []
        for packet in self.sent:
            assert packet[0] == connection
            message = reader.feed(packet[1:])
            if message is not None:
                found.append(message)
        self.sent = []
        return found


def made(mtu=23, connection=1):
    """(session, port, link), connected."""
    session = Echo()
    port = Port()
    link = Gatt(session, port)
    connect(link, mtu, connection)
    return session, port, link


def connect(link, mtu=23, connection=1):
    """A central connects."""
    link.take(bytes((connection, gatt.MTU, mtu >> 8, mtu & 0xFF)))


def write(link, *values, connection=1):
    """A central writes these values."""
    for value in values:
        link.take(bytes((connection, gatt.VALUE)) + value)


def code(fragment, reader):
    """The error that a fragment is; None if it is none."""
    try:
        reader.feed(fragment)
    except Spoilt as spoilt:
        return spoilt.args[0]
    return None


def test_any_length_in_fragments_of_any_size():
    for size in SIZES:
        for length in (0, 1, size - 4, size - 3, size - 2, 2 * size - 4, 2 * size - 3, 4096):
            reader = Reader()
            parts = fragments(gatt.MSG, LONG[:length], size)
            assert max([len(part) for part in parts]) <= size
            for part in parts[:-1]:
                assert reader.feed(part) is None
            assert reader.feed(parts[-1]) == (gatt.MSG, LONG[:length]), (size, length)


def test_as_ctap_writes_it():
    assert fragments(0x83, bytes(range(30)), 20) == [
        b"\x83\x00\x1e" + bytes(range(17)),
        b"\x00" + bytes(range(17, 30)),
    ]
    numbers = [part[0] for part in fragments(0x83, LONG, 20)[1:]]
    assert numbers[:2] == [0, 1] and numbers[126:130] == [126, 127, 0, 1]


def test_the_longest_fragment():
    assert [gatt.fragment_size(mtu) for mtu in (23, 247, 515, 517)] == [20, 244, 512, 512]


def test_an_answer_in_fragments_of_the_connection():
    for mtu in (23, 247):
        session, port, link = made(mtu)
        write(link, *fragments(gatt.MSG, LONG[:1000], mtu - 3))
        assert max([len(packet) for packet in port.sent]) == 1 + mtu - 3
        assert port.messages() == [(gatt.MSG, LONG[:1000] + b"\x90\x00")]
        assert len(session.commands) == 1


def test_a_fragment_out_of_sequence_is_told_once():
    session, port, link = made()
    parts = fragments(gatt.MSG, LONG[:200], 20)
    for spoilt in (parts[:3] + parts[4:], parts[:3] + parts[2:]):
        write(link, *spoilt)
        assert port.messages() == [(gatt.ERROR, bytes((gatt.INVALID_SEQ,)))]
    assert len(session.commands) == 0
    write(link, *parts)
    assert port.messages() == [(gatt.MSG, LONG[:200] + b"\x90\x00")]


def test_a_new_message_begins_anew():
    session, port, link = made()
    write(link, *fragments(gatt.MSG, LONG[:200], 20)[:5])
    write(link, *fragments(gatt.MSG, b"abcd", 20))
    assert port.messages() == [(gatt.MSG, b"abcd\x90\x00")]
    assert len(session.commands) == 1


def test_lengths_that_are_wrong():
    reader = Reader()
    for fragment in (b"", b"\x83", b"\x83\x00", b"\x83\x10\x01abcd", b"\x83\x00\x02abcd"):
        reader = Reader()
        assert code(fragment, reader) == gatt.INVALID_LEN, fragment
        assert code(b"\x00rest", reader) is None
    assert code(b"\x83\x00\x03a", reader) is None
    assert code(b"\x00bcd", reader) == gatt.INVALID_LEN
    assert code(b"\x83\x00\x03a", reader) is None
    assert code(b"\x00", reader) == gatt.INVALID_LEN


def test_other_commands_of_ctap_are_refused():
    _, port, link = made()
    for command in (0x81, 0xBE, gatt.KEEPALIVE):
        write(link, *fragments(command, b"", 20))
        assert port.messages() == [(gatt.ERROR, bytes((gatt.INVALID_CMD,)))]


def test_a_connection_begins_with_nothing():
    session, port, link = made(247)
    write(link, *fragments(gatt.MSG, LONG[:400], 244)[:1])
    link.reset()
    resets = session.resets
    connect(link, connection=2)
    assert session.resets > resets
    write(link, *fragments(gatt.MSG, LONG[:400], 244)[1:], connection=2)
    assert port.messages(2) == [(gatt.ERROR, bytes((gatt.INVALID_SEQ,)))]
    write(link, *fragments(gatt.MSG, LONG[:40], 20), connection=2)
    assert max([len(packet) for packet in port.sent]) == 1 + 20  # the MTU is not the last one's
    assert port.messages(2) == [(gatt.MSG, LONG[:40] + b"\x90\x00")]
    # The MTU is agreed on after some values have gone: the session stays.
    resets = session.resets
    connect(link, 247, 2)
    assert session.resets == resets


def test_signs_of_life():
    session, port, link = made()
    link.PATIENCE_MS = 0
    session.link = link
    write(link, *fragments(gatt.MSG, b"abcd", 20))
    assert port.messages() == [
        (gatt.KEEPALIVE, bytes((gatt.PROCESSING,))),
        (gatt.MSG, b"abcd\x90\x00"),
    ]

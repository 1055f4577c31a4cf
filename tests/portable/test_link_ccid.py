# SPDX-License-Identifier: Apache-2.0
"""T=1, T=0 and serial CCID at the card's end, under CPython and under MicroPython. No test framework."""

from chipcash_links import ccid, t0, t1

ATR_T1 = b"\x3b\x80\x01\x81"
ATR_T0 = b"\x3b\x00"
READ = b"\x00\xb0\x00\x00"


class Commands:
    """Repeats each command; a reading command of five bytes is answered as many as it says."""

    def __init__(self):
        self.seen = []
        self.resets = 0
        self.length = None
        self.link = None

    def process(self, apdu):
        self.seen.append(apdu)
        if self.link is not None:
            self.link.extend()
        if self.length is not None:
            return bytes([n & 0xFF for n in range(self.length)]) + b"\x90\x00"
        return apdu + b"\x90\x00"

    def reset(self):
        self.resets += 1


class Port:
    """Remembers what was sent."""

    def __init__(self):
        self.sent = []

    def send(self, data):
        self.sent.append(data)

    def take(self):
        sent = self.sent
        self.sent = []
        return sent


def i_block(number, inf, more=False):
    return t1.block(number << 6 | (0x20 if more else 0), inf)


def r_block(number, error=0):
    return t1.block(0x80 | number << 4 | error)


def protocol(length=None):
    commands = Commands()
    commands.length = length
    return commands, t1.T1(commands.process)


# T=1


def test_t1_sequence():
    commands, card = protocol()
    for n in range(5):
        apdu = bytes((0, n, 0, 0))
        assert card.take(i_block(n & 1, apdu)) == i_block(n & 1, apdu + b"\x90\x00")
    assert len(commands.seen) == 5


def test_t1_sequence_error():
    commands, card = protocol()
    assert card.take(i_block(1, READ)) == r_block(0, 2)
    assert card.take(i_block(0, READ)) == i_block(0, READ + b"\x90\x00")
    assert card.take(i_block(0, READ)) == r_block(1, 2)  # once more the same: not carried out
    assert commands.seen == [READ]


def test_t1_wrong_blocks():
    commands, card = protocol()
    good = i_block(0, READ)
    assert card.take(good[:-1] + bytes((good[-1] ^ 1,))) == r_block(0, 1)
    for n in range(4):
        assert card.take(good[:n]) == r_block(0, 1)
    for body in (
        b"\x12\x00\x04" + READ,  # node addresses
        b"\x00\x00\x05" + READ,  # length
        b"\x00\x00\xff" + READ,
        b"\x00\x01\x04" + READ,  # reserved bits
        b"\x00\x80\x01\x00",
        b"\x00\xa0\x00",
        b"\x00\xc1\x00",
        b"\x00\xc1\x01\x00",
        b"\x00\xc1\x01\xff",
        b"\x00\xc0\x01\x00",
        b"\x00\xc3\x01\x01",  # only a card asks for time
        b"\x00\xe3\x01\x01",
        b"\x00\xff\x00",
    ):
        assert card.take(body + bytes((t1.lrc(body),))) == r_block(0, 2)
    assert commands.seen == []
    assert card.take(good) == i_block(0, READ + b"\x90\x00")


def test_t1_retransmission():
    commands, card = protocol()
    assert card.take(r_block(0)) == r_block(0, 2)  # before anything was sent
    answer = card.take(i_block(0, READ))
    assert card.take(r_block(0, 1)) == answer  # the reader could not read it
    assert card.take(b"garbled") == r_block(1, 1)  # nor we what it asked then
    assert card.take(r_block(0, 1)) == answer
    assert commands.seen == [READ]
    assert card.take(i_block(1, READ)) == i_block(1, READ + b"\x90\x00")


def test_t1_chained_command():
    commands, card = protocol()
    command = bytes([n & 0xFF for n in range(1000)])
    number = 0
    for n in range(0, 960, 32):
        part = i_block(number, command[n : n + 32], more=True)
        number ^= 1
        assert card.take(part) == r_block(number)
        assert card.take(r_block(0, 1)) == r_block(number)  # our receipt came garbled
        assert card.take(part) == r_block(number, 2)  # the part again is not appended again
    assert commands.seen == []
    card.take(i_block(number, command[960:]))
    assert commands.seen == [command]


def chained_reply(card, answer, size):
    """Fetch the rest of a chained reply; garbled receipts and lost parts on the way."""
    data = b""
    number = 0
    while True:
        assert answer[1] & 0xDF == number << 6 and answer[2] <= size
        assert card.take(r_block(number, 1)) == answer
        data += answer[3:-1]
        if not answer[1] & 0x20:
            return data
        assert answer[2] == size
        assert card.take(b"\x00\x80\x00\x81") == r_block(1, 1)
        assert card.take(i_block(1, READ)) == r_block(1, 2)  # no command while a reply goes on
        number ^= 1
        answer = card.take(r_block(number))


def test_t1_chained_reply():
    _, card = protocol(500)
    data = chained_reply(card, card.take(i_block(0, READ)), 32)
    assert data == bytes([n & 0xFF for n in range(500)]) + b"\x90\x00"


def test_t1_information_field_size():
    for size in (1, 100, 254):
        _, card = protocol(500)
        assert card.take(t1.block(0xC1, bytes((size,)))) == t1.block(0xE1, bytes((size,)))
        assert len(chained_reply(card, card.take(i_block(0, READ)), size)) == 502


def test_t1_resynch_and_abort():
    commands, card = protocol(500)
    card.take(i_block(0, b"\x00", more=True))
    assert card.take(t1.block(0xC2)) == t1.block(0xE2)
    assert card.take(i_block(1, READ))[1] == 0x20
    assert commands.seen == [READ]  # without what came before the abort
    assert card.take(t1.block(0xC0)) == t1.block(0xE0)
    assert card.take(r_block(0)) == t1.block(0xE0)
    assert card.take(i_block(0, READ))[1] == 0x20
    assert card.take(t1.block(0xC2)) == t1.block(0xE2)  # nothing follows of this reply
    assert card.take(i_block(1, READ))[1] == 0x60


def test_t1_too_long():
    commands, card = protocol()
    part = bytes(254)
    number = 0
    for _ in range(t1.MAX_APDU // 254 + 1):
        card.take(i_block(number, part, more=True))
        number ^= 1
    assert card.take(i_block(number, part)) == i_block(0, b"\x67\x00")
    assert commands.seen == []


# T=0


def test_t0_cases():
    commands = Commands()
    card = t0.T0(commands.process)
    commands.length = 0
    assert card.take(READ) == card.take(READ + b"\x00") == b"\x90\x00"
    assert card.take(READ + b"\x02ab") == b"\x90\x00"
    assert commands.seen == [READ + b"\x00", READ + b"\x00", READ + b"\x02ab"]
    for wrong in (b"", READ[:3], READ + b"\x02a", READ + b"\x02abc", READ + b"\x00\x01\x00a"):
        assert card.take(wrong) == b"\x67\x00"
    assert len(commands.seen) == 3
    commands.length = 256
    assert len(card.take(READ + b"\x00")) == 258


def test_t0_wrong_length():
    commands = Commands()
    commands.length = 7
    card = t0.T0(commands.process)
    assert card.take(READ + b"\x00") == b"\x6c\x07"
    reply = card.take(READ + b"\x07")
    assert len(reply) == 9 and len(commands.seen) == 1
    card.take(READ + b"\x07")
    assert len(commands.seen) == 2  # asked for anew
    assert card.take(READ + b"\x08") == b"\x6c\x07"
    card.take(b"\x00\xc0\x00\x00\x07")
    assert len(commands.seen) == 4  # another command: what was kept is gone


# CCID


def message(kind, data=b"", seq=0, special=b"\x00\x00\x00", slot=0):
    return bytes((kind,)) + len(data).to_bytes(4, "little") + bytes((slot, seq)) + special + data


def reader(atr=ATR_T1):
    commands = Commands()
    port = Port()
    link = ccid.Ccid(commands, port, atr)
    return commands, port, link


def ask(link, kind, data=b"", seq=7, special=b"\x00\x00\x00", slot=0):
    """Send a message; kind, status, error, last byte of the head, data of the answer."""
    sent = ccid.frame(message(kind, data, seq, special, slot))
    link.take(sent)
    said = link.port.take()
    assert said[0] == sent and len(said) == 2  # the echo first
    answer = said[1]
    assert answer[:2] == b"\x03\x06" and t1.lrc(answer) == 0 and answer[7] == slot
    assert answer[8] == seq and int.from_bytes(answer[3:7], "little") == len(answer) - 13
    return answer[2], answer[9], answer[10], answer[11], answer[12:-1]


def test_ccid_protocol_of():
    assert ccid.protocol_of(ATR_T1) == ccid.protocol_of(b"\x3b\xf0\x11\x00\x00\x81\x31") == 1
    assert ccid.protocol_of(ATR_T0) == ccid.protocol_of(b"\x3b\x10\x11") == 0
    assert ccid.protocol_of(b"\x3b\x80\x00") == 0


def test_ccid_power_and_parameters():
    for atr, usual, other in (
        (ATR_T1, b"\x11\x10\x00\x4d\x00\x20\x00", 0),
        (ATR_T0, b"\x11\x00\x00\x0a\x00", 1),
    ):
        commands, _, link = reader(atr)
        number = 1 - other
        assert ask(link, 0x65) == (0x81, 1, 0, 0, b"")
        assert ask(link, 0x6F, READ) == (0x80, 0x41, 0xFE, 0, b"")
        assert ask(link, 0x62) == (0x80, 0, 0, 0, atr)
        assert ask(link, 0x65) == (0x81, 0, 0, 0, b"")
        assert ask(link, 0x6C) == (0x82, 0, 0, number, usual)
        new = b"\x18" + usual[1:]
        assert ask(link, 0x61, new, special=bytes((number, 0, 0))) == (0x82, 0, 0, number, new)
        assert ask(link, 0x6C)[4] == new
        assert ask(link, 0x61, new, special=bytes((other, 0, 0)))[:3] == (0x82, 0x40, 7)
        assert ask(link, 0x61, new + b"\x00", special=bytes((number, 0, 0)))[:3] == (0x82, 0x40, 10)
        assert ask(link, 0x6D)[4] == usual
        assert ask(link, 0x63) == (0x81, 1, 0, 0, b"")
        assert commands.resets == 2 and commands.seen == []


def test_ccid_exchange():
    for atr, sent, answer in (
        (ATR_T1, i_block(0, READ), i_block(0, READ + b"\x90\x00")),
        (ATR_T0, READ + b"\x01a", READ + b"\x01a\x90\x00"),
    ):
        commands, _, link = reader(atr)
        ask(link, 0x62)
        assert ask(link, 0x6F, sent) == (0x80, 0, 0, 0, answer)
        ask(link, 0x62)
        assert ask(link, 0x6F, sent) == (0x80, 0, 0, 0, answer)  # sequence numbers began anew
        assert commands.resets == 2


def test_ccid_pps():
    _, _, link = reader()
    ask(link, 0x62)
    for good in (b"\xff\x01\xfe", b"\xff\x11\x18\xf6"):
        assert ask(link, 0x6F, good) == (0x80, 0, 0, 0, good)
    for bad in (b"\xff\x01\xff", b"\xff\x00\xff", b"\xff"):
        assert ask(link, 0x6F, bad)[1:3] == (0x40, 0xFE)


def test_ccid_escape_and_refusals():
    _, _, link = reader()
    assert ask(link, 0x6B, b"\x02") == (0x83, 1, 0, 0, ccid.NAME)
    assert ask(link, 0x6B, b"\x01\x01\x01") == (0x83, 1, 0, 0, b"")
    assert ask(link, 0x69)[:3] == (0x81, 0x41, 0)
    assert ask(link, 0x65, slot=1)[:3] == (0x81, 0x41, 5)
    wrong = message(0x65) + b"\x00"
    slot = ccid.Slot(link.answer, link.reset, ATR_T1)
    assert slot.take(wrong)[7:9] == b"\x41\x01"


def test_ccid_stream():
    _, port, link = reader()
    one = ccid.frame(message(0x65))
    for byte in b"\x03\x03\x15\x00garbage\x03\x06\x65\xff\xff\xff\xff" + one:
        link.take(bytes((byte,)))
    assert port.take()[0] == one
    link.take(one + one)
    assert len(port.take()) == 4


def test_ccid_wrong_check():
    commands, port, link = reader()
    one = ccid.frame(message(0x62))
    link.take(one[:-1] + bytes((one[-1] ^ 1,)))
    assert port.take() == [b"\x03\x15\x16"]
    assert commands.resets == 0
    link.take(one)
    echo, answer = port.take()
    link.take(b"\x03\x15\x16")  # the host could not read it
    assert echo == one and port.take() == [answer]
    assert commands.resets == 1


def test_ccid_time():
    commands, port, link = reader(ATR_T0)
    ask(link, 0x62)
    commands.link = link
    sent = ccid.frame(message(0x6F, READ))
    link.take(sent)
    said = port.take()
    assert said[0] == sent and said[1] == b"\x80" and len(said) == 3

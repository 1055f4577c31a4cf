# SPDX-License-Identifier: Apache-2.0
"""ISO/IEC 14443-4 on the card's side, block by block: chipcash_links.iso14443. Portable."""

from echo import Echo

from chipcash_links.iso14443 import ATS, MAX_APDU, Picc

RATS_256 = b"\xe0\x80"
RATS_32 = b"\xe0\x20"
DATA = bytes(range(250)) * 3


class Air:
    """Remembers the frames sent; what the card waits for comes from a list."""

    def __init__(self):
        self.sent = []
        self.coming = []

    def send(self, data):
        """One frame."""
        self.sent.append(data)

    def receive(self):
        """The next of what is coming."""
        return self.coming.pop(0)


class Activated:
    """A card after RATS."""

    def __init__(self, rats=RATS_256):
        self.session = Echo()
        self.air = Air()
        self.link = Picc(self.session, self.air)
        assert self.ask(rats) == ATS

    def ask(self, frame):
        """The answer to a frame, None if there is none."""
        self.link.take(frame)
        assert len(self.air.sent) <= 1
        return self.air.sent.pop() if self.air.sent else None


def test_ats_is_well_formed():
    assert ATS[0] == len(ATS) == 6
    assert ATS[1] == 0x78  # TA, TB and TC follow; FSCI 8
    assert ATS[3] >> 4 == 8  # FWI


def test_nothing_before_rats():
    link = Picc(Echo(), Air())
    for frame in (b"\x02\x00\xa4\x04\x00", b"\xc2", b"\xa2", b"\xe0", b"\xe0\x8f", b"\x26"):
        link.take(frame)
    assert not link.port.sent and not link.session.commands


def test_blocks_alternate():
    card = Activated()
    for n in range(4):
        number = bytes((0x02 | n & 1,))
        assert card.ask(number + b"abcd") == number + b"abcd\x90\x00"


def test_chained_both_ways():
    for rats, size in ((RATS_256, 256), (RATS_32, 32)):
        card = Activated(rats)
        number = 0
        parts = [DATA[at : at + 100] for at in range(0, len(DATA), 100)]
        for part in parts[:-1]:
            assert card.ask(bytes((0x12 | number,)) + part) == bytes((0xA2 | number,))
            number ^= 1
        answer = card.ask(bytes((0x02 | number,)) + parts[-1])
        got = answer[1:]
        while answer[0] & 0x10:
            assert answer[0] == 0x12 | number and len(answer) + 2 == size
            number ^= 1
            answer = card.ask(bytes((0xA2 | number,)))
            got += answer[1:]
        assert got == DATA + b"\x90\x00" and card.session.commands == [DATA]


def test_a_lost_answer_is_sent_again_and_nothing_done_again():
    card = Activated()
    answer = card.ask(b"\x02abcd")
    for frame in (b"\xb2", b"\xb2", b"\xa2"):  # R(NAK), R(ACK) with the number of the last block
        assert card.ask(frame) == answer
    assert card.session.commands == [b"abcd"]
    # A lost block of the reader's: R(NAK) with the other number is answered by R(ACK), and it sends again.
    assert card.ask(b"\xb3") == b"\xa2"
    assert card.ask(b"\x03efgh") == b"\x03efgh\x90\x00"


def test_a_lost_part_of_an_answer_is_sent_again():
    card = Activated(RATS_32)
    first = card.ask(b"\x02" + DATA[:100])
    assert card.ask(b"\xb2") == first
    second = card.ask(b"\xa3")
    assert second[0] == 0x13 and card.ask(b"\xb3") == second
    assert card.ask(b"\xa2")[0] == 0x12


def test_a_presence_check_is_answered():
    card = Activated()
    assert card.ask(b"\xb2") == b"\xa3"  # no block has been sent: R(ACK), rule 12
    assert card.ask(b"\x02abcd") == b"\x02abcd\x90\x00"


def test_cid_is_repeated():
    card = Activated()
    assert card.ask(b"\x0a\x01abcd") == b"\x0a\x01abcd\x90\x00"
    assert card.ask(b"\xca\x01") == b"\xca\x01"


def test_deselect():
    card = Activated()
    resets = card.session.resets
    card.ask(b"\x02abcd")
    assert card.ask(b"\xc2") == b"\xc2"
    assert card.session.resets == resets + 1
    assert card.ask(b"\x03abcd") is None  # halted: only a new activation helps
    assert card.ask(RATS_256) == ATS
    assert card.ask(b"\x02abcd") == b"\x02abcd\x90\x00"


def test_waiting_time_extension():
    card = Activated()
    card.session.link = card.link
    card.link.PATIENCE_MS = 0
    card.air.coming = [b"\xb2", b"\xf2\x0a"]  # the request was lost at first
    card.link.take(b"\x02abcd")
    request = card.air.sent[0]
    assert request[0] == 0xF2 and 1 <= request[1] <= 59
    assert card.air.sent == [request, request, b"\x02abcd\x90\x00"]
    card.air.sent = []
    assert card.ask(b"\xf2\x0a") is None  # nobody asked


def test_longer_than_any_apdu_is_refused_and_not_cut():
    card = Activated()
    number = 0
    part = bytes(250)
    for _ in range(MAX_APDU // len(part) + 1):
        assert card.ask(bytes((0x12 | number,)) + part) == bytes((0xA2 | number,))
        number ^= 1
    assert card.ask(bytes((0x02 | number,)) + b"abcd") == bytes((0x02 | number,)) + b"\x67\x00"
    number ^= 1
    assert not card.session.commands
    assert card.ask(bytes((0x02 | number,)) + b"abcd")[1:] == b"abcd\x90\x00"


def test_frames_that_are_nothing():
    card = Activated()
    for frame in (b"\x00", b"\xff\xff", b"\x50\x00", b"\x26", b"\xd0", b"\x42"):
        assert card.ask(frame) is None
    assert card.ask(b"\x02abcd") == b"\x02abcd\x90\x00"


def test_the_field_is_lost_while_time_is_asked_for():
    card = Activated()
    card.session.link = card.link
    card.link.PATIENCE_MS = 0
    card.air.coming = [b""]
    resets = card.session.resets
    card.link.take(b"\x02abcd")
    request = card.air.sent.pop(0)
    assert request[0] == 0xF2 and not card.air.sent  # nobody is there to answer
    assert card.session.resets == resets + 1
    card.session.link = None
    assert card.ask(RATS_256) == ATS
    assert card.ask(b"\x02abcd") == b"\x02abcd\x90\x00"


def test_nothing_to_send_again():
    card = Activated()
    assert card.ask(b"\xb3") is None and card.ask(b"\xa3") is None

# SPDX-License-Identifier: Apache-2.0
"""The file of an SD card, without one: chipcash_links.sdfile. Portable."""

from echo import Echo

from chipcash_links.sdfile import BUSY, MAX_APDU, REPLY, REQUEST, SIZE, SdFile, parse, record


class File:
    """Remembers what was written."""

    def __init__(self):
        self.written = []

    def send(self, data):
        """The new content."""
        self.written.append(data)


def made():
    """(session, file, link)."""
    session = Echo()
    file = File()
    link = SdFile(session, file)
    # What lay in the file, an unanswered VERIFY perhaps, is wiped at power on.
    assert file.written == [bytes(SIZE)]
    file.written = []
    return session, file, link


def test_records():
    for data in (b"", b"abcd", bytes(range(256)) * 17, bytes(MAX_APDU)):
        content = record(REQUEST, 0x01020304, data)
        assert len(content) == SIZE and parse(content) == (REQUEST, 0x01020304, data)
    for nothing in (b"", bytes(SIZE), b"\xff" * SIZE, record(b"XXXX", 1, b"abcd")):
        assert parse(nothing) is None


def test_what_is_half_written_is_nothing():
    content = record(REQUEST, 7, b"abcdefgh")
    before = record(REPLY, 6, b"\x90\x00" * 40)
    for cut in range(len(b"CCQ1") + 4 + 2 + 8 + 2):
        assert parse(content[:cut] + before[cut:]) in (None, (REPLY, 6, b"\x90\x00" * 40))
    for at in range(20):
        assert parse(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]) is None


def test_a_request_is_answered_and_a_repeated_one_only_answered_again():
    session, file, link = made()
    for _ in range(2):
        link.take(record(REQUEST, 1, b"abcd"))
        assert file.written == [record(REPLY, 1, b"abcd\x90\x00")]
        file.written = []
    assert len(session.commands) == 1
    link.take(record(REQUEST, 2))
    assert session.resets == 1 and file.written == [record(REPLY, 2)]


def test_its_own_answers_are_no_requests():
    session, file, link = made()
    for content in (record(REPLY, 1, b"abcd"), record(BUSY, 1), bytes(SIZE)):
        link.take(content)
    assert not session.commands and not file.written


def test_signs_of_life():
    session, file, link = made()
    link.PATIENCE_MS = 0
    session.link = link
    link.take(record(REQUEST, 5, b"abcd"))
    assert file.written == [record(BUSY, 5), record(REPLY, 5, b"abcd\x90\x00")]

# SPDX-License-Identifier: Apache-2.0
"""An SD card whose applet answers through one file of fixed size, as NFC-SD cards do:
protocols/spec/links.md, SD.

The host writes a request over the file's beginning, the card writes its answer over that. Each record
carries a number and a CRC, so that what lies there from before, or is half written, is taken for nothing.
The host uses the same functions."""

from chipcash_links.link import Link
from chipcash_links.serial import crc16
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_links.link import Commands, Port

NAME = "CHIPCASH.IO"
"""The file, in the root of the file system."""
SIZE = 4608
"""Its bytes, always: nine blocks of the medium. The medium's places never change, so that the card finds
them."""
REQUEST = b"CCQ1"
"""From the host: a command APDU; without any, forget the session."""
REPLY = b"CCR1"
"""From the card: the response APDU to the request of that number."""
BUSY = b"CCB1"
"""From the card: it still works on that number."""
MAX_APDU = SIZE - 12
"""Longest APDU, either way: what the file holds beside kind, number, length and CRC."""


def record(kind: bytes, number: int, data: bytes = b"") -> bytes:
    """The file's content, SIZE bytes: kind, number (4 bytes), length (2), data, CRC-16, zeros."""
    body = kind + number.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
    body += crc16(body).to_bytes(2, "little")
    return body + bytes(SIZE - len(body))


def parse(content: bytes) -> "tuple[bytes, int, bytes] | None":
    """Inverse of record: (kind, number, data); None if the content is no whole record."""
    if len(content) < 12 or content[:4] not in (REQUEST, REPLY, BUSY):
        return None
    end = 10 + (content[8] << 8 | content[9])
    if end + 2 > len(content) or crc16(content[:end]) != content[end] | content[end + 1] << 8:
        return None
    return content[:4], int.from_bytes(content[4:8], "big"), content[10:end]


class SdFile(Link):
    """The card's end: the port brings the file's content whenever the host has written it, and takes the
    new one."""

    def __init__(self, session: "Commands", port: "Port") -> None:
        Link.__init__(self, session, port)
        self._number = -1
        self._reply = b""
        self.port.send(bytes(SIZE))  # an unanswered VERIFY would leave a PIN on the medium

    def reset(self) -> None:
        """The medium was taken out."""
        Link.reset(self)
        self._number = -1

    def take(self, data: bytes) -> None:
        """Answer the request in the file, if it is one; that of the last number without doing it again."""
        found = parse(data)
        if found is None or found[0] != REQUEST:
            return
        _, number, apdu = found
        if number != self._number:
            self._number = number
            if apdu:
                self._reply = record(REPLY, number, self.answer(apdu))
            else:
                Link.reset(self)
                self._reply = record(REPLY, number)
        self.port.send(self._reply)

    def extend(self) -> None:
        """Tell the host that the card still works."""
        self.port.send(record(BUSY, self._number))

# SPDX-License-Identifier: Apache-2.0
"""Bluetooth Low Energy: the GATT service, and FIDO CTAP 2.2's framing of messages in its characteristics
(section 11.4, BLE): protocols/spec/links.md, Bluetooth. The host uses the same.

A message is one initial fragment (command, length high and low, data) and continuation fragments (number
from 0 to 127 and round again, data), each the value of one write or notification. What goes wrong is told
by an error message, and the next initial fragment begins anew.

Here the port brings and takes packets, whose first byte is the number of the connection that they belong
to, another one each time that a central connects: what is late for one is nothing for the next. To the card
MTU or VALUE follows and its data, from the card the value to notify. An empty packet: the central is gone."""

from chipcash_links.link import Link
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_links.link import Commands, Port

SERVICE = "05089db3-ab09-431e-ad7f-d4aad36b36a4"
"""UUID of the service, which the card advertises."""
CONTROL_POINT = "05089db4-ab09-431e-ad7f-d4aad36b36a4"
"""To be written with response: a fragment to the card."""
STATUS = "05089db5-ab09-431e-ad7f-d4aad36b36a4"
"""Notified: a fragment from the card."""
CONTROL_POINT_LENGTH = "05089db6-ab09-431e-ad7f-d4aad36b36a4"
"""To be read: the longest fragment on this connection, either way; two bytes, big-endian."""

MSG = 0x83
"""Either way: an APDU."""
KEEPALIVE = 0x82
"""From the card: it still works. One byte, PROCESSING."""
ERROR = 0xBF
"""From the card: a message was not taken. One byte, one of the following."""

PROCESSING = 0x01
INVALID_CMD = 0x01
"""No such command."""
INVALID_LEN = 0x03
"""Longer than MAX_APDU, or another length than announced."""
INVALID_SEQ = 0x04
"""A continuation fragment that does not continue."""

MTU = 0x01
"""Packet to the card: the ATT_MTU of this connection, two bytes, big-endian; the first of each."""
VALUE = 0x02
"""Packet to the card: a value written to the control point."""

MAX_APDU = 4096
"""Longest APDU on this link, either way: twice what a card's longest command needs."""
_ATT_HEAD = 3  # opcode and handle, in each ATT PDU that brings a value
_DEFAULT_MTU = 23
_LONGEST_VALUE = 512


def fragment_size(mtu: int) -> int:
    """The longest fragment, in bytes, where ATT's PDUs have at most mtu."""
    return min(mtu - _ATT_HEAD, _LONGEST_VALUE)


def fragments(command: int, data: bytes, size: int) -> "list[bytes]":
    """The fragments of a message, each at most size bytes."""
    found = [bytes((command, len(data) >> 8, len(data) & 0xFF)) + data[: size - 3]]
    number = 0
    for at in range(size - 3, len(data), size - 1):
        found.append(bytes((number,)) + data[at : at + size - 1])
        number = number + 1 & 0x7F
    return found


class Spoilt(Exception):
    """What came is no message. args[0]: the code for ERROR."""


class Reader:
    """Puts messages together."""

    def __init__(self) -> None:
        self._command = 0  # none: the next fragment must be an initial one
        self._length = 0
        self._data = bytearray()
        self._number = 0
        self._told = False

    def feed(self, fragment: bytes) -> "tuple[int, bytes] | None":
        """The message that this fragment completes: (command, data).

        Raises Spoilt, and not again for the fragments that follow until an initial one.
        """
        if fragment and fragment[0] & 0x80:
            self._told = False
            if len(fragment) < 3:
                raise self._spoilt(INVALID_LEN)
            self._command = fragment[0]
            self._length = fragment[1] << 8 | fragment[2]
            self._data = bytearray(fragment[3:])
            self._number = 0
            if self._length > MAX_APDU:
                raise self._spoilt(INVALID_LEN)
        elif self._told:
            return None
        elif len(fragment) < 2:
            raise self._spoilt(INVALID_LEN)
        elif not self._command or fragment[0] != self._number:
            raise self._spoilt(INVALID_SEQ)
        else:
            self._data += fragment[1:]
            self._number = self._number + 1 & 0x7F
        if len(self._data) < self._length:
            return None
        if len(self._data) > self._length:
            raise self._spoilt(INVALID_LEN)
        command = self._command
        self._command = 0
        return command, bytes(self._data)

    def _spoilt(self, code: int) -> Spoilt:
        self._command = 0
        self._data = bytearray()
        self._told = True
        return Spoilt(code)


class Gatt(Link):
    """The card's end of one connection after another."""

    PATIENCE_MS = 500
    """As CTAP has it."""

    def __init__(self, session: "Commands", port: "Port") -> None:
        Link.__init__(self, session, port)
        self._connection = b""
        self._forget()

    def _forget(self) -> None:
        self._reader = Reader()
        self._size = fragment_size(_DEFAULT_MTU)

    def reset(self) -> None:
        """The central is gone."""
        Link.reset(self)
        self._forget()

    def take(self, data: bytes) -> None:
        """Take one packet; answer the message that its value completes."""
        if data[:1] != self._connection:
            self.reset()
            self._connection = data[:1]
        if data[1] == MTU:
            self._size = fragment_size(data[2] << 8 | data[3])
            return
        try:
            message = self._reader.feed(data[2:])
        except Spoilt as spoilt:
            self._send(ERROR, bytes((spoilt.args[0],)))
            return
        if message is None:
            return
        if message[0] == MSG:
            self._send(MSG, self.answer(message[1]))
        else:
            self._send(ERROR, bytes((INVALID_CMD,)))

    def extend(self) -> None:
        """Tell the central that the card still works."""
        self._send(KEEPALIVE, bytes((PROCESSING,)))

    def _send(self, command: int, data: bytes) -> None:
        for fragment in fragments(command, data, self._size):
            self.port.send(self._connection + fragment)

# SPDX-License-Identifier: Apache-2.0
"""The board as a PC/SC reader with its card in it: CCID over USB, by MicroPython's machine.USBDevice. It has
never run on hardware: the tests emulate USBDevice and a host at it.

Descriptors are those of USB 2.0, section 9.6, and of the class specification for integrated circuit cards
interface devices (CCID), rev. 1.1, table 5.1-1; the messages and what they do are chipcash_links.ccid's. It
takes nothing of micropython-lib: one interface with three endpoints needs no more than USBDevice itself.

USBDevice calls back between any two bytecodes, also amid a command. So what it calls only keeps packets, and
the board's loop does the work."""

import struct

from chipcash_links.ccid import (
    DATA_BLOCK,
    GET_SLOT_STATUS,
    HEADER,
    ICC_POWER_OFF,
    MAX_MESSAGE,
    Slot,
    protocol_of,
)
from chipcash_links.link import Link
from chipcash_links.t1 import MAX_INF
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from chipcash_links.link import Commands

PACKET = 64
"""Bytes of a bulk packet, at full speed."""
ABORT = 0x72
"""PC_to_RDR_Abort."""

_STRINGS = {2: "chipcash card"}  # the product; the others are MicroPython's
_RELEASE = 0x0200  # not MicroPython's own: hosts remember by it what a device was
_MILLIAMPERES = 250
_VOLTAGES = 0x07  # 5, 3 and 1.8 V: there are no contacts, so any will do
_CLOCK_KHZ = 4000
_BIT_S = 10752  # what an ATR without TA1 means at that clock: Fi 372, Di 1
# Voltage, clock and bit rate take care of themselves; exchanges are at TPDU level. Parameters are not taken
# from the ATR, and neither PPS nor IFSD is negotiated without the host.
_FEATURES = 0x00000008 | 0x00000010 | 0x00000020 | 0x00010000
_SLOT_CHANGE = b"\x50\x03"  # RDR_to_PC_NotifySlotChange: a card is in slot 0, and was not before
_ABORT_REQUEST = b"\x21\x01"  # bmRequestType: host to device, class, interface; bRequest: ABORT
_ACK = 3  # last stage of a control transfer
_FAILED = 0x40
_CMD_ABORTED = 0xFF
_MORE_TIME = b"\x80\x01\x00"  # bStatus: time extension; bError: once more as long


def device_descriptor(builtin: "Any") -> bytes:
    """Of USB 2.0, table 9-8. Vendor and product are MicroPython's for this board: the kit has none of its
    own.

    builtin: one of USBDevice's BUILTIN_ objects, which stays beside the reader."""
    found = bytearray(builtin.desc_dev)
    # Class, subclass and protocol are the interface's; or this device has functions of several interfaces.
    found[4:7] = b"\xef\x02\x01" if builtin.itf_max else b"\x00\x00\x00"
    found[12:14] = _RELEASE.to_bytes(2, "little")
    return bytes(found)


def class_descriptor(protocol: int) -> bytes:
    """Of CCID rev. 1.1, table 5.1-1; protocol: the card's T."""
    return struct.pack(
        "<BBHBBIIIBIIBIIIIIBBHBB",
        54,
        0x21,
        0x0110,
        0,  # highest number of a slot
        _VOLTAGES,
        1 << protocol,
        _CLOCK_KHZ,
        _CLOCK_KHZ,
        0,  # no clocks to list
        _BIT_S,
        _BIT_S,
        0,  # no bit rates to list
        MAX_INF,
        0,  # no synchronous protocols
        0,  # nothing mechanical
        _FEATURES,
        MAX_MESSAGE,
        0,
        0,  # classes of GET RESPONSE and ENVELOPE, of no meaning at TPDU level
        0,  # no display
        0,  # no PIN pad
        1,  # slots busy at once
    )


def configuration(builtin: "Any", protocol: int) -> bytes:
    """Configuration, interface and endpoint descriptors; what is built in comes before the reader."""
    before = bytes(builtin.desc_cfg)[9:]
    number = max(builtin.ep_max, 1)
    # Class 0B by bulk transfers, with an interrupt endpoint although the card never leaves: where there is
    # none, libccid asks for the slot's status several times a second, and each time a coupon is given up.
    ours = struct.pack("<BBBBBBBBB", 9, 4, builtin.itf_max, 0, 3, 0x0B, 0, 0, 0)
    ours += class_descriptor(protocol)
    ours += struct.pack("<BBBBHB", 7, 5, number, 2, PACKET, 0)
    ours += struct.pack("<BBBBHB", 7, 5, 0x80 | number, 2, PACKET, 0)
    ours += struct.pack("<BBBBHB", 7, 5, 0x81 + number, 3, 8, 32)
    size = 9 + len(before) + len(ours)
    head = struct.pack("<BBHBBBBB", 9, 2, size, builtin.itf_max + 1, 1, 0, 0x80, _MILLIAMPERES // 2)
    return head + before + ours


class Messages:
    """A port that brings and takes whole CCID messages. usb: MicroPython's machine.USBDevice().

    console: whether MicroPython's own serial line stays beside the reader. connection: counts how often a
    host began anew; abort: slot and number of what the host aborts by its control request, -1 for nothing."""

    def __init__(self, usb: "Any", protocol: int, console: bool) -> None:
        builtin = usb.BUILTIN_DEFAULT if console else usb.BUILTIN_NONE
        number = max(builtin.ep_max, 1)
        self._usb = usb
        self._interface = builtin.itf_max
        self._out = number
        self._in = 0x80 | number
        self._interrupt = 0x81 + number
        # USBDevice forgets a buffer that is submitted from its own callback: it must live here.
        self._packet = bytearray(PACKET)
        self._sending: "bytes | None" = None
        self._message = b""
        self.connection = 0
        self._reset()
        usb.active(False)
        usb.builtin_driver = builtin
        usb.config(
            device_descriptor(builtin),
            configuration(builtin, protocol),
            _STRINGS,
            self._open,
            self._reset,
            self._control,
            self._done,
        )
        usb.active(True)

    def ready(self) -> bool:
        """Whether receive() has something."""
        return bool(self._message)

    def receive(self) -> bytes:
        """The message that came, of HEADER bytes at least; nothing where none did."""
        message = self._message
        if message:
            self._message = b""
            self._submit(self._out, self._packet)
        return message

    def send(self, data: bytes) -> None:
        """Send a message, after those before it. Where no host is there it is dropped."""
        self._waiting.append(data)
        if self._sending is None:
            self._next()

    def sending(self) -> bool:
        """Whether the host has not yet fetched all that was sent."""
        return self._sending is not None

    def _submit(self, endpoint: int, data: "bytes | bytearray") -> bool:
        try:
            return bool(self._usb.submit_xfer(endpoint, data))
        except OSError:
            return False  # no host, or a transfer of this connection is under way there

    def _next(self) -> None:
        """Send the first of what waits."""
        waiting = self._waiting
        self._sending = waiting.pop(0) if waiting else None
        if self._sending is not None and not self._submit(self._in, self._sending):
            self._sending = None

    def _reset(self) -> None:
        """The bus was reset: what was under way never ends."""
        self.connection += 1
        self.abort = -1
        self._message = b""
        self._coming = bytearray()
        self._sending = None
        self._waiting: "list[bytes]" = []

    def _open(self, _interface: "Any") -> None:
        """The host chose our configuration. It is told of the card, once: it never leaves."""
        self._submit(self._out, self._packet)
        self._submit(self._interrupt, _SLOT_CHANGE)

    def _control(self, stage: int, request: "Any") -> bool:
        """A control request: ABORT is taken, all others are refused, for there is nothing to list."""
        if bytes(request[:2]) != _ABORT_REQUEST or request[4] != self._interface:
            return False
        if stage == _ACK:
            self.abort = request[2] | request[3] << 8
        return True

    def _done(self, endpoint: int, _result: int, count: int) -> None:
        """A transfer ended. Its result is not looked at: success is True by the documentation, 0 by the code
        of MicroPython."""
        if endpoint == self._out:
            self._received(count)
        elif endpoint == self._in:
            # The host reads on until a packet is not full.
            if self._sending and len(self._sending) % PACKET == 0:
                self._sending = b""
                self._submit(self._in, self._sending)
            else:
                self._next()

    def _received(self, count: int) -> None:
        """A packet came. It ends a message when it is not full, or when all is there that the header says:
        hosts differ in whether an empty packet follows a full one."""
        coming = self._coming
        coming += self._packet[: min(count, MAX_MESSAGE + 1 - len(coming))]
        whole = HEADER + int.from_bytes(coming[1:5], "little")
        if count == PACKET and len(coming) < whole:
            self._submit(self._out, self._packet)
            return
        self._coming = bytearray()
        if len(coming) < HEADER:
            self._submit(self._out, self._packet)  # an empty packet, or no message
        else:
            self._message = bytes(coming)  # and the host waits until receive() took it


class UsbCcid(Link):
    """The card in its reader, for the board's loop. usb, console: see Messages; atr: the card's."""

    port: Messages

    def __init__(self, session: "Commands", usb: "Any", atr: bytes, console: bool) -> None:
        Link.__init__(self, session, Messages(usb, protocol_of(atr), console))
        self._slot = Slot(self.answer, session.reset, atr)
        self._connection = self.port.connection
        self._message = b""
        self._aborting = b""

    def ready(self) -> bool:
        """Whether a message came."""
        return self.port.ready()

    def poll(self) -> None:
        """Answer the message that came."""
        if self._connection != self.port.connection:
            self._connection = self.port.connection
            self._aborting = b""
            self._slot.take(bytes((ICC_POWER_OFF,)) + bytes(HEADER - 1))
        message = self.port.receive()
        if message:
            self.take(message)
        # An abortion is a message and a control request, in any order.
        if self._aborting and self.port.abort == int.from_bytes(self._aborting[5:7], "little"):
            self._send(self._status(self._aborting))
            self._aborting = b""
            self.port.abort = -1

    def take(self, data: bytes) -> None:
        """Answer one message."""
        if data[0] == ABORT:
            self._aborting = data
            return
        self._message = data
        reply = self._slot.take(data) if self.port.abort < 0 else b""
        if self.port.abort >= 0:  # perhaps since then
            failed = bytearray(self._status(data))
            failed[7] |= _FAILED
            failed[8] = _CMD_ABORTED
            reply = bytes(failed)
        self._send(reply)

    def extend(self) -> None:
        """Ask the host for more time."""
        if not self.port.sending():
            self._send(bytes((DATA_BLOCK, 0, 0, 0, 0)) + self._message[5:7] + _MORE_TIME)

    def _send(self, reply: bytes) -> None:
        """Send it, if the host that asked is still there."""
        if self._connection == self.port.connection:
            self.port.send(reply)

    def _status(self, message: bytes) -> bytes:
        """RDR_to_PC_SlotStatus with the number of a message."""
        return self._slot.take(bytes((GET_SLOT_STATUS, 0, 0, 0, 0)) + message[5:HEADER])

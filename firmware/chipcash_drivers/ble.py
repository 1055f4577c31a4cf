# SPDX-License-Identifier: Apache-2.0
"""The board's Bluetooth as the card's GATT service, by MicroPython's module bluetooth. It has never run over
the air: the tests emulate that module and a central.

bluetooth calls back amid whatever runs. So what it calls only keeps packets, and the board's loop does the
work. It takes nothing of aioble, whose tasks would want a loop of their own."""

import os
import time

from chipcash_links.gatt import (
    CONTROL_POINT,
    CONTROL_POINT_LENGTH,
    MTU,
    SERVICE,
    STATUS,
    VALUE,
    Gatt,
    fragment_size,
)
from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Any, Callable

    from chipcash_links.link import Commands

_CONNECT = 1
_DISCONNECT = 2
_WRITE = 3
_MTU_EXCHANGED = 21
_GET_SECRET = 29
_SET_SECRET = 30

_READ_FLAGS = 0x0002 | 0x0200  # read, of an encrypted link only
_WRITE_FLAGS = 0x0008 | 0x1000  # write with response, on an encrypted link only
_NOTIFY_FLAGS = 0x0010
_NO_INPUT_OUTPUT = 3  # pairing is Just Works: see protocols/spec/links.md
_PRIVATE_ADDRESS = 2  # changes by itself, and only who is bonded recognises it
_RANDOM_ADDRESS = 1

_INTERVAL_US = 200000  # between advertisements
_MTU = 247
_LEAST_MTU = 23
_LONGEST_VALUE = 512
_MOST_BYTES = 9216  # of memory for what waits: the longest command in the smallest packets
_PACKET_BYTES = 16  # that a packet takes of it beside the value
_SEND_MS = 1000  # so long the radio may have no room for a notification
_MOST_SECRETS = 24  # some eight computers and telephones
_OWN_SECRETS = 10  # sec_type of what is the card's own


class Bonds:
    """What pairing left behind, in a file. path: where; empty: in memory only, until power goes.

    Whoever reads the file can listen to the links of those who are in it, and be taken for the card. What
    passes there is no secret, and is signed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._secrets: "list[tuple[int, bytes, bytes]]" = []  # type, key, value; the oldest first
        self.changed = False
        if path:
            self._load()

    def get(self, kind: int, index: int, key: "bytes | None") -> "bytes | None":
        """The value under a key; without one, the value of that number among those of the type."""
        for each in self._secrets:
            if each[0] == kind:
                if key is None:
                    if not index:
                        return each[2]
                    index -= 1
                elif each[1] == key:
                    return each[2]
        return None

    def set(self, kind: int, key: bytes, value: "bytes | None") -> bool:
        """Set a value, or without one forget it; False if there was none to forget."""
        kept = [each for each in self._secrets if each[:2] != (kind, key)]
        found = len(kept) < len(self._secrets)
        if value is not None:
            if len(kept) >= _MOST_SECRETS:
                for each in kept:
                    if each[0] != _OWN_SECRETS:
                        kept.remove(each)
                        break
            kept.append((kind, key, value))
        self._secrets = kept
        self.changed = True
        return found or value is not None

    def save(self) -> None:
        """Write the file, if something changed. A file system that fails costs a pairing, and no payment."""
        if not self.changed:
            return
        self.changed = False
        if not self._path:
            return
        data = b""
        for kind, key, value in self._secrets:
            data += bytes((kind, len(key))) + len(value).to_bytes(2, "big") + key + value
        try:
            with open(self._path + ".new", "wb") as file:
                file.write(data)
            os.rename(self._path + ".new", self._path)
        except OSError:
            pass

    def _load(self) -> None:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except OSError:
            return
        while len(data) >= 4:
            end = 4 + data[1] + (data[2] << 8 | data[3])
            if end > len(data):
                return
            self._secrets.append((data[0], data[4 : 4 + data[1]], data[4 + data[1] : end]))
            data = data[end:]


def advertisement(name: bytes) -> bytes:
    """Flags, the service, and a name of at most 8 bytes: 31 bytes have no room for more."""
    service = bytes(reversed(bytes.fromhex(SERVICE.replace("-", ""))))
    return b"\x02\x01\x06\x11\x07" + service + bytes((len(name) + 1, 9)) + name


class Packets:
    """A port as chipcash_links.gatt describes it. bluetooth: MicroPython's module."""

    def __init__(self, bluetooth: "Any", bonds: Bonds, random: "Callable[[int], bytes]") -> None:
        self.bonds = bonds
        self._number = 0
        self._handle = -1
        self._packets: "list[bytes]" = []
        self._ble = ble = bluetooth.BLE()
        # Registered first: to be active it asks for the secrets.
        ble.irq(self._event)
        ble.active(True)
        ble.config(bond=True, le_secure=True, mitm=False, io=_NO_INPUT_OUTPUT, mtu=_MTU)
        try:
            ble.config(addr_mode=_PRIVATE_ADDRESS)
        except OSError:  # not every port can
            ble.config(addr_mode=_RANDOM_ADDRESS)
        name = "card%02x%02x" % tuple(random(2))
        ble.config(gap_name=name)
        uuid = bluetooth.UUID
        characteristics = (
            (uuid(CONTROL_POINT), _WRITE_FLAGS),
            (uuid(STATUS), _NOTIFY_FLAGS),
            (uuid(CONTROL_POINT_LENGTH), _READ_FLAGS),
        )
        handles = ble.gatts_register_services(((uuid(SERVICE), characteristics),))[0]
        self._control, self._status, self._length = handles
        ble.gatts_set_buffer(self._control, _LONGEST_VALUE)
        self._advertisement = advertisement(name.encode())
        self._advertise()

    def ready(self) -> bool:
        """Whether receive() has something."""
        return bool(self._packets)

    def receive(self) -> bytes:
        """The first packet that came, which must be one; an empty one: the central is gone."""
        return self._packets.pop(0)

    def send(self, data: bytes) -> None:
        """Notify one value; nothing, if that connection is no more. A central that takes none is let go."""
        since = ticks_ms()
        while self._handle >= 0 and data[0] == self._number:
            try:
                self._ble.gatts_notify(self._handle, self._status, data[1:])
                return
            except OSError:
                if ticks_diff(ticks_ms(), since) > _SEND_MS:
                    self._ble.gap_disconnect(self._handle)
                    return
                time.sleep(0.005)

    def _advertise(self) -> None:
        self._ble.gap_advertise(_INTERVAL_US, self._advertisement)

    def _set_mtu(self, mtu: int) -> None:
        size = mtu.to_bytes(2, "big")
        self._packets.append(bytes((self._number, MTU)) + size)
        self._ble.gatts_write(self._length, fragment_size(mtu).to_bytes(2, "big"))

    def _event(self, event: int, data: "Any") -> "Any":
        """What bluetooth calls. What it hands over is valid only until this returns."""
        if event == _GET_SECRET:
            kind, index, key = data
            return self.bonds.get(kind, index, None if key is None else bytes(key))
        if event == _SET_SECRET:
            kind, key, value = data
            return self.bonds.set(kind, bytes(key), bytes(value) if value else None)
        if event == _CONNECT:
            self._handle = data[0]
            self._number = self._number + 1 & 0xFF
            self._set_mtu(_LEAST_MTU)
        elif event == _DISCONNECT:
            self._handle = -1
            self._packets.append(b"")
            self._advertise()
        elif event == _MTU_EXCHANGED:
            self._set_mtu(data[1])
        elif event == _WRITE and data[1] == self._control:  # and not a subscription
            waiting = 0
            for each in self._packets:  # and no sum of a list: an interrupt should need no memory
                waiting += _PACKET_BYTES + len(each)
            if waiting > _MOST_BYTES:
                self._ble.gap_disconnect(self._handle)
            else:
                value = bytes(self._ble.gatts_read(self._control))
                self._packets.append(bytes((self._number, VALUE)) + value)
        return None


class Ble(Gatt):
    """The link over Bluetooth, for the board's loop."""

    port: Packets

    def __init__(
        self,
        session: "Commands",
        bluetooth: "Any",
        bonds: Bonds,
        random: "Callable[[int], bytes]",
    ) -> None:
        Gatt.__init__(self, session, Packets(bluetooth, bonds, random))

    def ready(self) -> bool:
        """Whether a packet came."""
        return self.port.ready()

    def poll(self) -> None:
        """Take one packet, and answer the message that it completes. Where none came, keep what pairing left
        behind."""
        if not self.port.ready():
            self.port.bonds.save()
            return
        packet = self.port.receive()
        if packet:
            self.take(packet)
        else:
            self.reset()

# SPDX-License-Identifier: Apache-2.0
"""MicroPython's module bluetooth, and a central at its other end, by what the documentation says. Portable.

Pairing is only what of it the module's user sees: the events, and which attributes may be reached without."""

READ = 0x0002
WRITE = 0x0008
NOTIFY = 0x0010
READ_ENCRYPTED = 0x0200
WRITE_ENCRYPTED = 0x1000
ENOMEM = 12


class Refused(Exception):
    """An ATT error. args[0]: its code."""


class Bluetooth:
    """The module. modes: the address modes that the port can; pairs: whether it was built with pairing; full:
    so many notifications find no room."""

    def __init__(self, modes=(0, 1, 2), pairs=True):
        self.modes = modes
        self.pairs = pairs
        self.full = 0
        self.settings = {}
        self.advertising = None  # interval, data
        self.handler = None
        self.enabled = False
        self.services = []
        self.values = {}
        self.flags = {}
        self.sizes = {}
        self.uuids = {}
        self.own = None  # the stack's own secret
        self.connected = None
        self.encrypted = False
        self.mtu = 23
        self.notified = []

    # What the board calls.

    def BLE(self):
        """The one there is."""
        return self

    def UUID(self, value):
        """As it is written."""
        return value

    def irq(self, handler):
        """As BLE."""
        self.handler = handler

    def active(self, on):
        """As BLE; the stack asks for its own secret."""
        self.enabled = on
        if not on:
            return on
        self.own = self.handler(29, (10, 0, None))
        if self.own is None:
            self.own = b"own"
            assert self.handler(30, (10, memoryview(b"irk"), memoryview(self.own)))
        return on

    def config(self, **settings):
        """As BLE."""
        assert self.enabled
        if "bond" in settings and not self.pairs:
            raise ValueError("unknown config param")
        if settings.get("addr_mode", 0) not in self.modes:
            raise OSError(22)
        self.settings.update(settings)

    def gatts_register_services(self, services):
        """As BLE."""
        assert self.enabled and self.advertising is None
        found = []
        handle = 10
        for uuid, characteristics in services:
            self.services.append(uuid)
            handles = []
            for characteristic, flags in characteristics:
                handle += 3
                handles.append(handle)
                self.uuids[characteristic] = handle
                self.flags[handle] = flags
                self.values[handle] = b""
                self.sizes[handle] = 20
            found.append(tuple(handles))
        return tuple(found)

    def gatts_set_buffer(self, handle, size):
        """As BLE."""
        self.sizes[handle] = size

    def gatts_read(self, handle):
        """As BLE."""
        return self.values[handle]

    def gatts_write(self, handle, data):
        """As BLE."""
        self.values[handle] = bytes(data)

    def gatts_notify(self, connection, handle, data):
        """As BLE."""
        if self.full:
            self.full -= 1
            raise OSError(ENOMEM)
        if connection != self.connected:
            raise OSError(107)
        assert self.flags[handle] & NOTIFY and len(data) <= self.mtu - 3
        self.notified.append(bytes(data))

    def gap_advertise(self, interval, data):
        """As BLE."""
        assert self.connected is None
        self.advertising = (interval, bytes(data))

    def gap_disconnect(self, connection):
        """As BLE."""
        assert connection == self.connected
        self.leave()

    # What the central does.

    def connect(self, number=64, mtu=None):
        """Connect, and agree on the size of packets."""
        assert self.advertising is not None
        self.advertising = None
        self.connected = number
        self.encrypted = False
        self.mtu = 23
        self.notified = []
        self.handler(1, (number, 1, memoryview(b"\x00" * 6)))
        if mtu is not None:
            self.mtu = min(mtu, self.settings["mtu"])
            self.handler(21, (number, self.mtu))

    def pair(self, name=b"peer"):
        """Pair by what the board said; with whom it is bonded already, only encrypt."""
        assert self.settings["le_secure"] and self.settings["bond"]
        key = memoryview(name)
        known = self.handler(29, (2, 0, key))
        if known is None:
            assert self.handler(30, (1, key, memoryview(b"ours" + name)))
            assert self.handler(30, (2, key, memoryview(b"theirs" + name)))
        self.encrypted = True
        self.handler(28, (self.connected, 1, 0, 1, 16))
        return known

    def leave(self):
        """Disconnect, or lose the link."""
        number = self.connected
        self.connected = None
        self.handler(2, (number, 1, memoryview(b"\x00" * 6)))

    def read(self, uuid):
        """Read a characteristic."""
        handle = self.uuids[uuid]
        if not self.flags[handle] & READ:
            raise Refused(2)
        if self.flags[handle] & READ_ENCRYPTED and not self.encrypted:
            raise Refused(15)
        return self.values[handle]

    def subscribe(self, uuid):
        """Ask for notifications; some stacks tell of it as of a write."""
        self.handler(3, (self.connected, self.uuids[uuid] + 1))

    def write(self, uuid, value):
        """Write a characteristic, with response."""
        handle = self.uuids[uuid]
        if not self.flags[handle] & WRITE:
            raise Refused(3)
        if self.flags[handle] & WRITE_ENCRYPTED and not self.encrypted:
            raise Refused(15)
        self.values[handle] = value[: self.sizes[handle]]
        self.handler(3, (self.connected, handle))

# SPDX-License-Identifier: Apache-2.0
"""MicroPython's machine.USBDevice, and a host at its other end, by what both document. Portable.

Where MicroPython's documentation of USBDevice and its code differ, this is as the code: a transfer that
succeeded has result 0, and one that is submitted where another is under way raises EBUSY. What TinyUSB
answers by itself (descriptors, configuration) is answered here. While the host waits for something, turn()
lets the board go on."""

import struct

from chipcash_links import t1

EINVAL = 22
EBUSY = 16


class Builtin:
    """One of USBDevice's BUILTIN_ objects."""

    def __init__(self, itf_max, ep_max, str_max, desc_cfg):
        self.itf_max = itf_max
        self.ep_max = ep_max
        self.str_max = str_max
        self.desc_cfg = desc_cfg
        # As of a Raspberry Pi board: USB 2.0, vendor 2E8A, product 0005.
        self.desc_dev = struct.pack(
            "<BBHBBBBHHHBBBB", 18, 1, 0x200, 0xEF, 2, 1, 64, 0x2E8A, 5, 0x100, 1, 2, 3, 1
        )


CDC = (
    b"\x09\x02\x4b\x00\x02\x01\x00\x80\x7d"
    b"\x08\x0b\x00\x02\x02\x02\x00\x00"
    b"\x09\x04\x00\x00\x01\x02\x02\x00\x04"
    b"\x05\x24\x00\x20\x01\x05\x24\x01\x00\x01\x04\x24\x02\x06\x05\x24\x06\x00\x01"
    b"\x07\x05\x81\x03\x08\x00\x10"
    b"\x09\x04\x01\x00\x02\x0a\x00\x00\x00"
    b"\x07\x05\x02\x02\x40\x00\x00\x07\x05\x82\x02\x40\x00\x00"
)
"""The configuration that MicroPython's serial line is."""


def descriptors(data):
    """The descriptors in a row of them."""
    found = []
    while data:
        assert 2 <= data[0] <= len(data)
        found.append(data[: data[0]])
        data = data[data[0] :]
    return found


class Stall(Exception):
    """The device refused a request."""


class Timeout(Exception):
    """The device has nothing to send."""


class UsbDevice:
    """Both ends. turn: called while the host waits for the device."""

    BUILTIN_NONE = Builtin(0, 0, 1, b"")
    BUILTIN_DEFAULT = Builtin(2, 3, 5, CDC)

    def __init__(self):
        self.turn = lambda: None
        self._active = False
        self._driver = self.BUILTIN_NONE
        self._transfers = {}  # by endpoint: [buffer, bytes done]
        self._sizes = {}  # by endpoint: its packets'
        self._config = None

    # What the board calls.

    @property
    def builtin_driver(self):
        """As USBDevice."""
        return self._driver

    @builtin_driver.setter
    def builtin_driver(self, driver):
        if self._active:
            raise OSError(EINVAL)
        self._driver = driver

    def config(self, *config):
        """As USBDevice: desc_dev, desc_cfg, desc_strs, open_itf_cb, reset_cb, control_xfer_cb, xfer_cb."""
        assert len(config) == 7
        self._config = config

    def active(self, *value):
        """As USBDevice."""
        before = self._active
        if value:
            assert not value[0] or self._config is not None
            self._active = bool(value[0])
        return before

    def submit_xfer(self, endpoint, buffer):
        """As USBDevice."""
        if not self._active:
            raise OSError(EINVAL)
        if endpoint & 0x7F == 0:
            raise ValueError("ep")
        assert endpoint & 0x80 or isinstance(buffer, bytearray)
        if endpoint not in self._sizes:
            return False
        if endpoint in self._transfers:
            raise OSError(EBUSY)
        self._transfers[endpoint] = [buffer, 0]
        return True

    # What the host does.

    def get_descriptor(self, kind, index=0):
        """Device (1), configuration (2) or string (3)."""
        assert self._active
        if kind == 3:
            try:
                return self._config[2][index]
            except (IndexError, KeyError):
                return None
        return bytes(self._config[kind - 1])

    def reset(self):
        """Reset the bus."""
        self._transfers = {}
        self._sizes = {}
        self._config[4]()

    def configure(self):
        """Choose the configuration: endpoints are opened, interfaces that are not built in are told."""
        interface, begun = None, b""
        for each in descriptors(bytes(self._config[1])):
            if each[1] == 4:
                self._tell(interface, begun)
                interface, begun = each[2], b""
            if each[1] == 5 and interface >= self._driver.itf_max:
                self._sizes[each[2]] = each[4] | each[5] << 8
            begun += each
        self._tell(interface, begun)

    def _tell(self, interface, described):
        if interface is not None and interface >= self._driver.itf_max:
            self._config[3](memoryview(described))

    def enumerate(self):
        """What a host does with a device that is plugged in."""
        self.reset()
        self.get_descriptor(1)
        self.configure()

    def control(self, kind, request, value=0, index=0, size=0):
        """A control transfer to an interface, without data to the device; what it answers."""
        setup = struct.pack("<BBHHH", kind, request, value, index, size)
        said = self._config[5](1, memoryview(setup))
        if said is False or said is None:
            raise Stall()
        if said is not True:
            assert kind & 0x80 and self._config[5](2, memoryview(setup)) is not False
        self._config[5](3, memoryview(setup))
        return b"" if said is True else bytes(said)[:size]

    def write(self, endpoint, data, empty=False):
        """A bulk transfer to the device; empty: with an empty packet after a full last one."""
        size = self._sizes[endpoint]
        packets = [data[at : at + size] for at in range(0, len(data), size)]
        if empty and len(data) % size == 0:
            packets.append(b"")
        for packet in packets:
            transfer = self._transfer(endpoint)
            buffer, done = transfer
            assert done + len(packet) <= len(buffer)
            buffer[done : done + len(packet)] = packet
            transfer[1] += len(packet)
            if len(packet) < size or transfer[1] == len(buffer):
                self._end(endpoint)

    def read(self, endpoint, most=4096):
        """A bulk or interrupt transfer from the device: it ends by a packet that is not full, or with most
        bytes."""
        size = self._sizes[endpoint]
        data = b""
        while len(data) < most:
            transfer = self._transfer(endpoint)
            packet = bytes(transfer[0][transfer[1] : transfer[1] + size])
            transfer[1] += len(packet)
            data += packet
            if transfer[1] == len(transfer[0]):
                self._end(endpoint)
            if len(packet) < size:
                break
        return data

    def _transfer(self, endpoint):
        """The transfer that the board has submitted there, sooner or later."""
        for _ in range(50):
            if endpoint in self._transfers:
                return self._transfers[endpoint]
            self.turn()
        raise Timeout()

    def _end(self, endpoint):
        """A transfer is complete."""
        done = self._transfers.pop(endpoint)[1]
        self._config[6](endpoint, 0, done)


def message(kind, data=b"", seq=0, special=b"\x00\x00\x00"):
    """A CCID message to slot 0."""
    return bytes((kind,)) + len(data).to_bytes(4, "little") + bytes((0, seq)) + special + data


class Host:
    """A driver for the one interface of class 0B that it finds, wherever its endpoints are."""

    def __init__(self, usb):
        self.usb = usb
        usb.enumerate()
        number = None
        for each in descriptors(usb.get_descriptor(2)):
            if each[1] == 4:
                number = each[2] if each[5] == 0x0B else None
            if number is not None:
                self.interface = number
                if each[1] == 5 and each[3] == 3:
                    self.interrupt = each[2]
                elif each[1] == 5 and each[2] & 0x80:
                    self.bulk_in = each[2]
                elif each[1] == 5:
                    self.bulk_out = each[2]
        self.seq = 0
        self.extended = 0
        self.number = 0

    def send(self, kind, data=b"", empty=False):
        """Send a message."""
        self.seq = self.seq + 1 & 0xFF
        self.usb.write(self.bulk_out, message(kind, data, self.seq), empty)

    def receive(self):
        """The answer: kind, status, error, data."""
        while True:
            said = self.usb.read(self.bulk_in)
            assert said[5:7] == bytes((0, self.seq)) and len(said) <= 271
            assert int.from_bytes(said[1:5], "little") == len(said) - 10
            if said[7] & 0xC0 != 0x80:
                return said[0], said[7], said[8], said[10:]
            assert said[8] == 1  # as long again
            self.extended += 1

    def ask(self, kind, data=b"", empty=False):
        """Send a message; the answer."""
        self.send(kind, data, empty)
        return self.receive()

    def power_on(self):
        """The answer to reset."""
        kind, status, _, atr = self.ask(0x62)
        assert (kind, status) == (0x80, 0)
        self.number = 0
        return atr

    def block(self, block):
        """A T=1 block for a block: control byte, information."""
        kind, status, _, answer = self.ask(0x6F, block)
        assert (kind, status) == (0x80, 0) and t1.lrc(answer) == 0 and answer[2] == len(answer) - 4
        return answer[1], answer[3:-1]

    def command(self, apdu):
        """A command APDU by T=1, in chained blocks where it is long; the response APDU."""
        while len(apdu) > 254:
            pcb, _ = self.block(t1.block(self.number << 6 | 0x20, apdu[:254]))
            self.number ^= 1
            assert pcb == 0x80 | self.number << 4
            apdu = apdu[254:]
        pcb, answer = self.block(t1.block(self.number << 6, apdu))
        self.number ^= 1
        assert not pcb & 0x80
        while pcb & 0x20:
            pcb, more = self.block(t1.block(0x80 | (~pcb & 0x40) >> 2))
            answer += more
        return answer

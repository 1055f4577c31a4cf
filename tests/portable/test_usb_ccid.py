# SPDX-License-Identifier: Apache-2.0
"""The board as CCID on USB: a host at an emulated machine.USBDevice. Portable; no test framework.

The tables of descriptors are written down from the specifications, and not from the driver."""

from usb_host import CDC, Host, Stall, Timeout, UsbDevice, descriptors, message

from chipcash_drivers.usb_ccid import UsbCcid
from chipcash_links import t1
from chipcash_links.ccid import ATR_T0, ATR_T1

READ = b"\x00\xb0\x00\x00"

# Field, bytes, value: USB 2.0, tables 9-8, 9-10, 9-12, 9-13; None: any.
DEVICE = (
    ("bLength", 1, 18),
    ("bDescriptorType", 1, 1),
    ("bcdUSB", 2, 0x200),
    ("bDeviceClass", 1, 0),
    ("bDeviceSubClass", 1, 0),
    ("bDeviceProtocol", 1, 0),
    ("bMaxPacketSize0", 1, 64),
    ("idVendor", 2, 0x2E8A),
    ("idProduct", 2, 5),
    ("bcdDevice", 2, 0x200),
    ("iManufacturer", 1, 1),
    ("iProduct", 1, 2),
    ("iSerialNumber", 1, 3),
    ("bNumConfigurations", 1, 1),
)
CONFIGURATION = (
    ("bLength", 1, 9),
    ("bDescriptorType", 1, 2),
    ("wTotalLength", 2, 93),
    ("bNumInterfaces", 1, 1),
    ("bConfigurationValue", 1, 1),
    ("iConfiguration", 1, 0),
    ("bmAttributes", 1, 0x80),  # by the bus, no remote wake-up
    ("bMaxPower", 1, 125),
)
INTERFACE = (
    ("bLength", 1, 9),
    ("bDescriptorType", 1, 4),
    ("bInterfaceNumber", 1, 0),
    ("bAlternateSetting", 1, 0),
    ("bNumEndpoints", 1, 3),
    ("bInterfaceClass", 1, 0x0B),
    ("bInterfaceSubClass", 1, 0),
    ("bInterfaceProtocol", 1, 0),  # bulk transfers, optional interrupt
    ("iInterface", 1, 0),
)
# CCID rev. 1.1, table 5.1-1.
CLASS = (
    ("bLength", 1, 0x36),
    ("bDescriptorType", 1, 0x21),
    ("bcdCCID", 2, 0x0110),
    ("bMaxSlotIndex", 1, 0),
    ("bVoltageSupport", 1, 7),
    ("dwProtocols", 4, 2),
    ("dwDefaultClock", 4, 4000),
    ("dwMaximumClock", 4, 4000),
    ("bNumClockSupported", 1, 0),
    ("dwDataRate", 4, 10752),
    ("dwMaxDataRate", 4, 10752),
    ("bNumDataRatesSupported", 1, 0),
    ("dwMaxIFSD", 4, 254),
    ("dwSynchProtocols", 4, 0),
    ("dwMechanical", 4, 0),
    ("dwFeatures", 4, 0x00010038),
    ("dwMaxCCIDMessageLength", 4, 271),
    ("bClassGetResponse", 1, 0),
    ("bClassEnvelope", 1, 0),
    ("wLcdLayout", 2, 0),
    ("bPINSupport", 1, 0),
    ("bMaxCCIDBusySlots", 1, 1),
)


def fields(descriptor, table):
    """The values of a descriptor by the names in a table, which it must fill."""
    found = {}
    for name, size, _ in table:
        found[name] = int.from_bytes(descriptor[:size], "little")
        descriptor = descriptor[size:]
    assert descriptor == b""
    return found


def check(descriptor, table, **other):
    """Whether a descriptor has the values of a table, but for others."""
    found = fields(descriptor, table)
    for name, _, value in table:
        assert found[name] == other.get(name, value), "%s: %x" % (name, found[name])


def endpoint(descriptor):
    """bEndpointAddress, bmAttributes, wMaxPacketSize, bInterval."""
    assert descriptor[:2] == b"\x07\x05" and len(descriptor) == 7
    return descriptor[2], descriptor[3], descriptor[4] | descriptor[5] << 8, descriptor[6]


class Commands:
    """Answers a READ with as many bytes as its fifth says, everything else by its first 256 bytes. during:
    called before, once."""

    def __init__(self):
        self.seen = []
        self.resets = 0
        self.during = None

    def process(self, apdu):
        self.seen.append(apdu)
        during = self.during
        self.during = None
        if during is not None:
            during()
        if apdu[:4] == READ and len(apdu) == 5:
            return bytes(apdu[4]) + b"\x90\x00"
        return apdu[:256] + b"\x90\x00"

    def reset(self):
        self.resets += 1


def reader(atr=ATR_T1, console=False):
    """(host, commands, link)."""
    commands = Commands()
    usb = UsbDevice()
    link = UsbCcid(commands, usb, atr, console)
    usb.turn = link.poll
    return Host(usb), commands, link


# Descriptors


def test_descriptors():
    usb = reader()[0].usb
    check(usb.get_descriptor(1), DEVICE)
    assert usb.get_descriptor(3, 2) == "chipcash card" and usb.get_descriptor(3, 1) is None
    data = usb.get_descriptor(2)
    assert len(data) == 93
    found = descriptors(data)
    assert len(found) == 6
    check(found[0], CONFIGURATION)
    check(found[1], INTERFACE)
    check(found[2], CLASS)
    assert endpoint(found[3]) == (0x01, 2, 64, 0)
    assert endpoint(found[4]) == (0x81, 2, 64, 0)
    assert endpoint(found[5]) == (0x82, 3, 8, 32)


def test_descriptors_beside_the_serial_line():
    """MicroPython's own come first as they are; interface and endpoints are the next free ones."""
    host = reader(console=True)[0]
    device = {"bDeviceClass": 0xEF, "bDeviceSubClass": 2, "bDeviceProtocol": 1}
    check(host.usb.get_descriptor(1), DEVICE, **device)
    data = host.usb.get_descriptor(2)
    found = descriptors(data)
    check(found[0], CONFIGURATION, wTotalLength=len(data), bNumInterfaces=3)
    assert data[9 : len(CDC)] == CDC[9:]
    check(found[-5], INTERFACE, bInterfaceNumber=2)
    check(found[-4], CLASS)
    assert [endpoint(each)[0] for each in found[-3:]] == [0x03, 0x83, 0x84]
    addresses = [each[2] for each in found if each[1] == 5]
    assert len(addresses) == len(set(addresses)) == 6
    assert host.interface == 2 and host.power_on() == ATR_T1


def test_the_protocol_is_the_cards():
    for atr, protocols in ((ATR_T0, 1), (ATR_T1, 2)):
        host = reader(atr)[0]
        check(descriptors(host.usb.get_descriptor(2))[2], CLASS, dwProtocols=protocols)
        assert host.power_on() == atr


def test_what_the_class_descriptor_says_is_so():
    """Of dwFeatures, what is there and what is not; and the longest block fits."""
    host, commands, _ = reader()
    found = fields(descriptors(host.usb.get_descriptor(2))[2], CLASS)
    for voltage in range(4):  # 08: the voltage takes care of itself
        host.usb.write(host.bulk_out, message(0x62, b"", host.seq, bytes((voltage, 0, 0))))
        assert host.receive()[3] == ATR_T1
    # not 02: parameters are the defaults and not the ATR's, whose IFSC is 254
    parameters = host.ask(0x6C)[3]
    assert parameters[5] == 32
    # 200 is not there: a node address is refused
    body = b"\x12\x00\x04" + READ
    assert host.block(body + bytes((t1.lrc(body),))) == (0x82, b"")
    # nor is 400: the information field is short until the host asks for more
    assert host.block(t1.block(0, READ + b"\xff"))[0] & 0x20
    host.power_on()
    ifs = bytes((found["dwMaxIFSD"],))
    assert host.block(t1.block(0xC1, ifs)) == (0xE1, ifs)
    longest = READ + bytes(250)
    assert host.block(t1.block(0, longest)) == (0x20, longest)
    assert commands.seen[-1] == longest


# Transfers


def test_the_card_is_told_once():
    host = reader()[0]
    assert host.usb.read(host.interrupt, 8) == b"\x50\x03"
    try:
        host.usb.read(host.interrupt, 8)
        raise AssertionError("told twice")
    except Timeout:
        pass


def test_messages_of_all_lengths():
    """Into packets and out of them: also full ones, with and without an empty packet after them."""
    host, commands, _ = reader(ATR_T0)
    host.power_on()
    for size in (1, 40, 48, 49, 50, 112, 113, 176, 177, 240, 241, 242, 255):
        data = READ[:1] + b"\xd6\x00\x00" + bytes((size,)) + bytes(range(size))
        for empty in (False, True):
            assert host.ask(0x6F, data, empty) == (0x80, 0, 0, data[:256] + b"\x90\x00")
            assert commands.seen.pop() == data
    assert commands.seen == []
    for size in (51, 52, 53, 116, 180, 244):
        assert host.ask(0x6F, READ + bytes((size,))) == (0x80, 0, 0, bytes(size) + b"\x90\x00")


def test_what_is_no_message():
    """It is answered as far as it has a header, and what follows is not misread."""
    host, commands, _ = reader()
    for wrong in (
        message(0x6F, bytes(400))[:390],
        message(0x6F, bytes(100))[:80],
        message(0x6F, bytes(300))[:200],
        b"\x6f\xff\xff\xff\xff" + bytes(500),
        message(0x6F, bytes(261)) + bytes(5),
        message(0x6F, bytes(250)) + bytes(60),
        message(0x65) + b"\x00",
    ):
        host.usb.write(host.bulk_out, wrong, True)
        said = host.usb.read(host.bulk_in)
        assert said[0] == 0x81 and said[7:9] == b"\x41\x01"
        assert host.ask(0x65)[:2] == (0x81, 1)
    for short in (b"", b"\x65", message(0x65)[:9]):
        host.usb.write(host.bulk_out, short, True)
        assert host.ask(0x65)[:2] == (0x81, 1)
    assert commands.seen == []


def test_what_is_too_long_is_not_kept():
    host, _, link = reader()
    host.usb.turn = lambda: None
    host.usb.write(host.bulk_out, b"\x6f\xff\xff\xff\xff" + bytes(2000))
    assert len(link.port.receive()) == 272


def test_one_message_at_a_time():
    """The second message waits in the host until the first one was taken."""
    host, commands, link = reader(ATR_T0)
    host.power_on()
    host.usb.turn = lambda: None
    host.send(0x6F, READ + b"\x01")
    try:
        host.send(0x65)
        raise AssertionError("taken")
    except Timeout:
        pass
    assert link.ready() and commands.seen == []
    host.usb.turn = link.poll
    link.poll()
    assert not link.ready() and len(commands.seen) == 1


def test_time():
    """More time is asked for when it is due, and not again before the host has heard of it."""
    host, commands, link = reader(ATR_T0)
    host.power_on()
    link.PATIENCE_MS = 0

    def work():
        link.working()
        link.working()

    commands.during = work
    assert host.ask(0x6F, READ + b"\x02") == (0x80, 0, 0, b"\x00\x00\x90\x00")
    assert host.extended == 1
    link.working()  # no command any more
    assert host.ask(0x65)[0] == 0x81 and host.extended == 1


# Control requests


def test_requests_that_are_refused():
    """GET_CLOCK_FREQUENCIES, GET_DATA_RATES (there is nothing to list), others, and other interfaces."""
    host = reader(console=True)[0]
    for kind, request, index in (
        (0xA1, 2, 2),
        (0xA1, 3, 2),
        (0x21, 4, 2),
        (0x21, 1, 0),
        (0x41, 1, 2),
        (0x01, 11, 2),
    ):
        try:
            host.usb.control(kind, request, 0, index, 4 if kind & 0x80 else 0)
            raise AssertionError("taken")
        except Stall:
            pass
    assert host.ask(0x65)[:3] == (0x81, 1, 0)


def abort_request(host, seq):
    assert host.usb.control(0x21, 1, seq << 8, host.interface) == b""


def test_abort_before_its_message():
    host, commands, _ = reader(ATR_T0)
    host.power_on()
    abort_request(host, host.seq + 2)
    assert host.ask(0x6F, READ + b"\x01") == (0x81, 0x40, 0xFF, b"")  # not carried out
    assert host.ask(0x72) == (0x81, 0, 0, b"")
    assert commands.seen == []
    assert host.ask(0x6F, READ + b"\x01") == (0x80, 0, 0, b"\x00\x90\x00")


def test_abort_after_its_message():
    host, commands, _ = reader(ATR_T0)
    host.power_on()
    host.send(0x72)
    abort_request(host, host.seq ^ 1)  # of something else
    try:
        host.usb.read(host.bulk_in)
        raise AssertionError("answered")
    except Timeout:
        pass
    abort_request(host, host.seq)
    assert host.receive() == (0x81, 0, 0, b"")
    assert host.ask(0x6F, READ + b"\x01") == (0x80, 0, 0, b"\x00\x90\x00")
    assert len(commands.seen) == 1


def test_abort_amid_a_command():
    """It was carried out, and its answer is withheld: whoever wants it sends the command again."""
    host, commands, _ = reader(ATR_T0)
    host.power_on()
    commands.during = lambda: abort_request(host, host.seq + 1)
    assert host.ask(0x6F, READ + b"\x01") == (0x81, 0x40, 0xFF, b"")
    assert host.ask(0x72) == (0x81, 0, 0, b"")
    assert host.ask(0x6F, READ + b"\x02")[0] == 0x80


def test_abort_of_a_host_that_left():
    host, _, _ = reader(ATR_T0)
    host.send(0x72)
    host.usb.turn()
    host.usb.enumerate()
    abort_request(host, host.seq)
    try:
        host.usb.read(host.bulk_in)
        raise AssertionError("answered")
    except Timeout:
        pass


# The bus


def test_reset_amid_a_message():
    host, commands, _ = reader(ATR_T0)
    host.power_on()
    before = commands.resets
    host.usb.write(host.bulk_out, message(0x6F, bytes(100))[:64])
    host.usb.enumerate()
    assert host.ask(0x65) == (0x81, 1, 0, b"")  # and the card is no longer active
    assert commands.seen == [] and commands.resets == before + 1


def test_reset_amid_a_command():
    """Its answer is for nobody any more."""
    for extended in (False, True):
        host, commands, link = reader(ATR_T0)
        host.power_on()
        link.PATIENCE_MS = 0
        before = commands.resets

        def replug(host=host, link=link, extended=extended):
            if extended:
                link.working()
            host.usb.enumerate()
            link.working()

        commands.during = replug
        host.send(0x6F, READ + b"\x01")
        try:
            host.usb.read(host.bulk_in)
            raise AssertionError("answered")
        except Timeout:
            pass
        assert commands.resets == before + 1
        assert host.ask(0x65) == (0x81, 1, 0, b"")


def test_without_a_host():
    """What the card would say is dropped, and it goes on when a host comes."""
    host, _, link = reader()
    host.usb.reset()
    link.port.send(b"lost")
    link.port.send(b"lost too")
    assert not link.port.sending()
    host.usb.active(False)
    link.port.send(b"lost")
    host.usb.active(True)
    host.usb.enumerate()
    assert host.ask(0x65) == (0x81, 1, 0, b"")


def test_started_again_without_power_off():
    """As from MicroPython's prompt: what was configured before gives way."""
    usb = reader(console=True)[0].usb
    link = UsbCcid(Commands(), usb, ATR_T0, False)
    usb.turn = link.poll
    host = Host(usb)
    assert host.interface == 0 and host.power_on() == ATR_T0

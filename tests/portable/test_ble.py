# SPDX-License-Identifier: Apache-2.0
"""The board's Bluetooth: a central at an emulated module bluetooth. Portable; no test framework."""

import os

from ble_central import Bluetooth, Refused
from echo import Echo

from chipcash_drivers.ble import Ble, Bonds
from chipcash_links import gatt


def made(path="", modes=(0, 1, 2)):
    """(bluetooth, session, link)."""
    bluetooth = Bluetooth(modes)
    session = Echo()
    return bluetooth, session, Ble(session, bluetooth, Bonds(path), lambda n: bytes(range(n)))


def ask(bluetooth, link, apdu):
    """Send a message and let the card answer; all messages that came."""
    size = int.from_bytes(bluetooth.read(gatt.CONTROL_POINT_LENGTH), "big")
    for fragment in gatt.fragments(gatt.MSG, apdu, size):
        bluetooth.write(gatt.CONTROL_POINT, fragment)
    while link.ready():
        link.poll()
    return heard(bluetooth)


def heard(bluetooth):
    """The messages that were notified."""
    reader = gatt.Reader()
    found = [reader.feed(fragment) for fragment in bluetooth.notified]
    bluetooth.notified = []
    return [each for each in found if each is not None]


def refused(do, *args):
    """The ATT error."""
    try:
        do(*args)
    except Refused as error:
        return error.args[0]
    return None


def test_what_is_advertised():
    bluetooth = made()[0]
    interval, data = bluetooth.advertising
    assert interval <= 333333 and len(data) == 31
    assert data[:5] == b"\x02\x01\x06\x11\x07"
    number = bytes(reversed(data[5:21]))
    assert "".join(["%02x" % byte for byte in number]) == gatt.SERVICE.replace("-", "")
    assert data[21:] == b"\x09\x09card0001" and bluetooth.settings["gap_name"] == "card0001"
    assert bluetooth.services == [gatt.SERVICE]
    assert bluetooth.settings["addr_mode"] == 2
    assert made(modes=(0, 1))[0].settings["addr_mode"] == 1  # never the public one


def test_an_encrypted_link_is_needed():
    bluetooth, session, link = made()
    bluetooth.connect()
    fragment = gatt.fragments(gatt.MSG, b"apdu", 20)[0]
    assert refused(bluetooth.write, gatt.CONTROL_POINT, fragment) == 15
    assert refused(bluetooth.read, gatt.CONTROL_POINT_LENGTH) == 15
    assert refused(bluetooth.read, gatt.CONTROL_POINT) == 2
    assert refused(bluetooth.write, gatt.CONTROL_POINT_LENGTH, b"\x00") == 3
    assert not bluetooth.settings["mitm"] and bluetooth.settings["io"] == 3
    bluetooth.pair()
    bluetooth.subscribe(gatt.STATUS)
    assert ask(bluetooth, link, b"apdu") == [(gatt.MSG, b"apdu\x90\x00")]
    assert session.commands == [b"apdu"]


def test_messages_of_all_sizes():
    for mtu, size in ((None, 20), (23, 20), (185, 182), (517, 244)):
        bluetooth, _, link = made()
        bluetooth.connect(mtu=mtu)
        bluetooth.pair()
        assert bluetooth.read(gatt.CONTROL_POINT_LENGTH) == bytes((0, size))
        for length in (1, size, 300, 2000):
            apdu = bytes([n & 0x7F for n in range(length)])
            assert ask(bluetooth, link, apdu) == [(gatt.MSG, apdu + b"\x90\x00")]


def test_signs_of_life():
    bluetooth, session, link = made()
    link.PATIENCE_MS = 0
    session.link = link
    bluetooth.connect()
    bluetooth.pair()
    said = ask(bluetooth, link, b"slow")
    assert said == [(gatt.KEEPALIVE, b"\x01"), (gatt.MSG, b"slow\x90\x00")]


def test_one_central_after_another():
    """A card in use does not advertise; what the first one left half said is nothing for the second."""
    bluetooth, session, link = made()
    bluetooth.connect(64)
    assert bluetooth.advertising is None
    bluetooth.pair()
    bluetooth.write(gatt.CONTROL_POINT, gatt.fragments(gatt.MSG, bytes(30), 20)[0])
    link.poll()
    link.poll()
    resets = session.resets
    bluetooth.leave()
    assert bluetooth.advertising is not None
    link.poll()
    assert session.resets == resets + 1  # also while nobody else comes
    bluetooth.connect(64, 185)
    bluetooth.pair()
    bluetooth.write(gatt.CONTROL_POINT, b"\x00" + bytes(13))
    while link.ready():
        link.poll()
    assert heard(bluetooth) == [(gatt.ERROR, b"\x04")]
    assert ask(bluetooth, link, b"second") == [(gatt.MSG, b"second\x90\x00")]
    assert session.commands == [b"second"]


def test_an_answer_to_who_has_left():
    """It is not sent to the next one, though that has the same handle; nor is anybody waited for."""
    bluetooth, session, link = made()
    bluetooth.connect(64)
    bluetooth.pair()

    class Leaver:
        """The first central leaves while the card works, and perhaps another one connects."""

        again = True

        def working(self):
            """Called amid the command."""
            bluetooth.leave()
            if self.again:
                bluetooth.connect(64)

    session.link = Leaver()
    assert ask(bluetooth, link, b"lost") == [] and session.commands == [b"lost"]
    bluetooth.pair()
    Leaver.again = False
    assert ask(bluetooth, link, b"lost too") == []
    session.link = None
    bluetooth.connect(64)
    bluetooth.pair()
    assert ask(bluetooth, link, b"next") == [(gatt.MSG, b"next\x90\x00")]


def test_a_radio_that_is_full():
    """It is tried again; a central that takes nothing for a second is let go."""
    bluetooth, _, link = made()
    bluetooth.connect()
    bluetooth.pair()
    bluetooth.full = 3
    assert ask(bluetooth, link, bytes(50)) == [(gatt.MSG, bytes(50) + b"\x90\x00")]
    bluetooth.full = 1000000
    assert ask(bluetooth, link, b"apdu") == []
    assert bluetooth.connected is None and bluetooth.advertising is not None


def test_who_floods_is_let_go():
    bluetooth = made()[0]
    bluetooth.connect()
    bluetooth.pair()
    sent = 0
    while bluetooth.connected is not None:
        bluetooth.write(gatt.CONTROL_POINT, bytes(20))
        sent += 20
        assert sent < 10000
    assert sent > gatt.MAX_APDU


def test_bonds():
    """They outlive power, in the file, and only there."""
    path = "%s/bonds" % (os.getenv("CHIPCASH_SCRATCH") or ".")
    for where, known in ((path, b"theirspeer"), ("", None)):
        bluetooth, _, link = made(where)
        bluetooth.connect()
        assert bluetooth.pair() is None
        bluetooth.leave()
        while link.ready():
            link.poll()
        link.poll()
        bluetooth = made(where)[0]
        bluetooth.connect()
        assert bluetooth.pair() == known


def test_secrets():
    bonds = Bonds("")
    assert bonds.get(2, 0, b"a") is None and bonds.get(2, 0, None) is None
    assert bonds.set(10, b"own", b"irk")
    for number in range(40):
        assert bonds.set(2, bytes((number,)), b"value%d" % number)
    assert bonds.get(10, 0, None) == b"irk"  # the oldest, but the card's own
    assert bonds.get(2, 0, bytes((16,))) is None
    assert bonds.get(2, 0, bytes((17,))) == bonds.get(2, 0, None) == b"value17"
    assert bonds.get(2, 22, None) == b"value39" and bonds.get(2, 23, None) is None
    assert bonds.set(2, bytes((39,)), b"new") and bonds.get(2, 0, bytes((39,))) == b"new"
    assert bonds.set(2, bytes((39,)), None) and bonds.get(2, 0, bytes((39,))) is None
    assert not bonds.set(2, bytes((39,)), None)


def test_files_are_written_when_something_changed():
    scratch = os.getenv("CHIPCASH_SCRATCH") or "."
    path = scratch + "/seldom"
    bonds = Bonds(path)
    bonds.save()
    assert "seldom" not in os.listdir(scratch)
    bonds.set(1, b"key", b"value")
    bonds.save()
    os.remove(path)
    bonds.save()
    assert "seldom" not in os.listdir(scratch)
    bonds = Bonds("")
    bonds.set(1, b"key", b"value")
    bonds.save()
    assert ".new" not in os.listdir(".")


def test_a_file_that_is_torn():
    """What is whole of it is kept."""
    path = "%s/torn" % (os.getenv("CHIPCASH_SCRATCH") or ".")
    bonds = Bonds(path)
    bonds.set(1, b"key", b"first")
    bonds.set(2, b"key", b"second")
    bonds.save()
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:-1])
    torn = Bonds(path)
    assert torn.get(1, 0, b"key") == b"first" and torn.get(2, 0, b"key") is None

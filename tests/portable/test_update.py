# SPDX-License-Identifier: Apache-2.0
"""UPDATE FIRMWARE: what a card takes, and what it refuses; power cuts over littlefs. Portable."""

import os
from hashlib import sha256

from network import Network, TestCard
from updates import FILES, NEW, OLD, ROLLBACK, body, head, install_old, running, started, tree

from chipcash_board import install
from chipcash_card.applet import Firmware
from chipcash_card.journal import Journal, NewerFirmware
from chipcash_card.purse import FORMAT, KEY_VERSION
from chipcash_sim.image import PowerCut
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

SUITES = (o.SUITE_GM, o.SUITE_P256)
made = [0]


class World:
    """A card on a board with files, its publisher, and an update."""

    def __init__(self, suite_id=o.SUITE_P256, personalised=True):
        made[0] += 1
        self.root = "%s/files%d/" % (os.getenv("CHIPCASH_SCRATCH") or ".", made[0])
        os.mkdir(self.root[:-1])
        install_old(self.root)
        self.net = Network(suite_id)
        self.publisher = self.net.key()
        self.card = TestCard(self.net)
        self.card.firmware = running(self.net, self.publisher, self.root)
        self.card.boot()
        self.card.select()
        if personalised:
            self.card.personalise()
            self.card.load()
            assert self.card.verify() == c.SW_OK
        self.body = body()
        self.before = tree(self.root)

    def head(self, key=None, **changes):
        return head(self.net, key or self.publisher, self.body, **changes)

    def send(self, step, data=b""):
        """One step; its status word."""
        return self.card.send(c.INS_UPDATE_FIRMWARE, step, 0, data, cla=c.CLA_PROPRIETARY, le=0)[1]

    def begin(self, head):
        return self.send(c.UPDATE_BEGIN, head)

    def part(self, at, data):
        return self.send(c.UPDATE_BODY, at.to_bytes(4, "big") + data)

    def parts(self, size, data=None):
        """The whole body in parts; the last status word."""
        data = self.body if data is None else data
        for at in range(0, len(data), size):
            sw = self.part(at, data[at : at + size])
            if sw != c.SW_OK:
                return sw
        return c.SW_OK

    def finish(self):
        return self.send(c.UPDATE_FINISH)

    def unchanged(self):
        return tree(self.root) == self.before

    def pay(self):
        self.card.paid(self.net.request(10))


def test_an_update_in_parts_of_any_size():
    for suite_id, sizes in ((o.SUITE_GM, (300,)), (o.SUITE_P256, (1, 2000))):
        for size in sizes:
            it = World(suite_id)
            it.pay()
            # What an earlier one left is in nobody's way.
            os.mkdir(it.root + install.FOLDER + "999999999999")
            assert it.begin(it.head()) == c.SW_OK
            assert it.parts(size) == c.SW_OK
            it.pay()
            assert started(it.root) == OLD
            assert it.finish() == c.SW_OK
            it.pay()
            assert started(it.root) == NEW
            files = tree(it.root)
            for path in it.before:
                assert path == install.MAIN or files[path] == it.before[path]
            assert len(files) == len(it.before) + len(FILES)
            # Until power is off and on it goes on as it is, and takes no other.
            assert it.card.info().build == b"1.0+" + OLD.encode()
            assert it.finish() == it.part(0, b"x") == c.SW_CONDITIONS
            assert it.begin(it.head(build=b"3+222222222222")) == c.SW_CONDITIONS
            assert started(it.root) == NEW
            it = None  # before there is another: a small heap has no room for two


def test_a_head_that_is_refused_changes_nothing():
    for suite_id in SUITES:
        it = World(suite_id)
        other = o.SUITE_GM + o.SUITE_P256 - suite_id
        good = it.head()
        forged = good[:-1] + bytes((good[-1] ^ 1,))
        bad_ones = [
            (forged, c.SW_SIGNATURE),
            (it.head(it.net.key()), c.SW_SIGNATURE),
            (it.head(it.net.center), c.SW_SIGNATURE),
            (good.replace(b"board-card", b"board-cart"), c.SW_SIGNATURE),
            (it.head(header=it.net.header), c.SW_NETWORK),
            (it.head(header=o.make_header(bytes(4), other)), c.SW_NETWORK),
        ]
        if suite_id == o.SUITE_P256:
            bad_ones += [
                (it.head(target=b"board-reader"), c.SW_NOT_MINE),
                (it.head(rollback=ROLLBACK - 1), c.SW_STALE),
                (it.head(build=b"2.0+" + OLD.encode()), c.SW_STALE),
                (good[:-1], c.SW_DATA),
                (good + b"\x00", c.SW_DATA),
                (b"", c.SW_DATA),
                (it.net.title(it.card.public).encode(), c.SW_DATA),
            ]
        for bad, sw in bad_ones:
            assert it.begin(bad) == sw, (bad, sw)
            assert it.unchanged()
            assert it.part(0, it.body[:9]) == it.finish() == c.SW_CONDITIONS
        it.pay()
        assert it.begin(good) == c.SW_OK
        assert not it.unchanged()
        it = None


def test_a_body_that_is_refused():
    it = World()
    size = len(it.body)
    # Out of order, twice, too long, empty: the next part may follow all the same.
    assert it.begin(it.head()) == c.SW_OK
    assert it.part(0, it.body[:100]) == c.SW_OK
    for at, data in (
        (0, it.body[:100]),
        (200, it.body[200:300]),
        (99, b"x"),
        (101, b"x"),
        (100, b""),
    ):
        assert it.part(at, data) == c.SW_DATA
    assert it.part(100, it.body[100:] + b"x") == c.SW_DATA
    assert it.send(c.UPDATE_BODY, b"\x00\x00\x00") == c.SW_DATA
    assert it.finish() == c.SW_CONDITIONS
    assert it.part(100, it.body[100:-1]) == c.SW_OK
    assert it.finish() == c.SW_CONDITIONS and started(it.root) == OLD
    # Damaged: in a file, and in what says where files end.
    for at in (size - 1, 30, size // 2):
        assert it.begin(it.head()) == c.SW_OK
        damaged = it.body[:at] + bytes((it.body[at] ^ 1,)) + it.body[at + 1 :]
        assert it.parts(100, damaged) == c.SW_OK
        assert it.finish() == c.SW_SIGNATURE and it.unchanged()
        assert it.finish() == c.SW_CONDITIONS
    # Signed, but no body: it ends within a file, or within its head.
    whole = it.body
    for cut in (1, len(FILES[-1][1]) + 2):
        it.body = whole[:-cut]
        assert it.begin(it.head()) == c.SW_OK
        assert it.parts(100) == c.SW_OK
        assert it.finish() == c.SW_DATA and it.unchanged()
    # Signed, and leading elsewhere.
    for path in (
        "../main.py",
        "/main.py",
        "a//b",
        "a/../../main.py",
        ".",
        "a/",
        "",
        "a\\b",
        "A",
        "a\x00",
    ):
        it.body = body(((path, b"x"),))
        assert it.begin(it.head()) == c.SW_OK
        assert it.parts(100) == c.SW_DATA and it.unchanged(), path
    it.pay()


def test_who_may_update():
    it = World()
    head = it.head()
    it.card.select()
    assert it.begin(head) == c.SW_SECURITY  # no PIN session
    assert it.finish() == it.part(0, b"x") == c.SW_CONDITIONS
    assert it.unchanged()
    for p1, p2 in ((3, 0), (0, 1), (0x7F, 0)):
        assert it.card.send(c.INS_UPDATE_FIRMWARE, p1, p2, cla=c.CLA_PROPRIETARY)[1] == c.SW_P1P2
    # Its parts come from the session that began it.
    assert it.card.verify() == c.SW_OK
    assert it.begin(head) == c.SW_OK
    mine = it.card.session
    it.card.session = it.card.applet.session()
    it.card.select()
    assert it.part(0, it.body[:9]) == it.finish() == c.SW_CONDITIONS
    assert it.begin(head) == c.SW_SECURITY
    it.card.session = mine
    assert it.part(0, it.body[:9]) == c.SW_OK
    # A PIN session that a payment ended is not needed to go on; SELECT ends the update.
    it.card.load(60000)
    it.card.paid(it.net.request(40000))
    assert it.part(9, it.body[9:20]) == c.SW_OK
    it.card.select()
    assert it.part(20, it.body[20:]) == c.SW_CONDITIONS
    assert started(it.root) == OLD
    # Whoever begins takes it over.
    assert it.card.verify() == c.SW_OK
    assert it.begin(head) == c.SW_OK
    it.card.session = it.card.applet.session()
    it.card.select()
    assert it.card.verify() == c.SW_OK
    assert it.begin(head) == c.SW_OK
    other = it.card.session
    it.card.session = mine
    assert it.part(0, it.body) == c.SW_CONDITIONS
    it.card.session = other
    assert it.parts(500) == it.finish() == c.SW_OK
    assert started(it.root) == NEW
    # Without a PIN, by contact only.
    it = mine = other = None
    it = World(personalised=False)
    it.card.contactless = True
    assert it.begin(it.head()) == c.SW_SECURITY and it.unchanged()
    it.card.contactless = False
    assert it.begin(it.head()) == it.parts(500) == it.finish() == c.SW_OK
    # And not on a card that has no files, or no publisher.
    it.card.firmware = Firmware(b"1.0", ROLLBACK)
    it.card.boot()
    it.card.select()
    for step in (c.UPDATE_BEGIN, c.UPDATE_BODY, c.UPDATE_FINISH):
        assert it.send(step, it.head()) == c.SW_NOT_SUPPORTED


def digest(path):
    """SHA-256 of a file, in pieces: a small heap has no room for a card's flash."""
    found = sha256()
    with open(path, "rb") as file:
        data = file.read(512)
        while data:
            found.update(data)
            data = file.read(512)
    return found.digest()


def refused(card, rollback):
    """Whether firmware with that rollback counter does not start the card; it changes nothing then."""
    before = digest(card.path)
    card.firmware = Firmware(b"x", rollback)
    try:
        card.boot()
    except NewerFirmware:
        assert card.flash.writes == 0 and digest(card.path) == before
        return True
    return False


def test_firmware_below_the_rollback_counter_does_not_start_the_card():
    net = Network(o.SUITE_P256)
    card = TestCard(net)
    card.personalise()
    card.load()
    assert not refused(card, 7)
    assert refused(card, 6) and refused(card, 0)
    assert not refused(card, 7) and not refused(card, 8)
    assert refused(card, 7)
    assert not refused(card, 8)
    card.select()
    card.paid(net.request(10))
    # Cut while it is raised: the one or the other, and the card pays.
    for cut in range(1, 4):
        for half in (False, True):
            card.firmware = Firmware(b"x", 8 + cut)
            try:
                card.boot(cut - 1, half)
            except PowerCut:
                pass
            assert not refused(card, 8 + cut)
    card.select()
    card.paid(net.request(10))


def test_what_newer_firmware_stored_is_not_touched():
    card = TestCard(Network(o.SUITE_P256))
    card.personalise()
    version = card.applet._journal.get(KEY_VERSION)
    assert version[0] == FORMAT
    card.applet._journal.commit({KEY_VERSION: bytes((FORMAT + 1,)) + version[1:] + b"more"})
    assert refused(card, 1 << 31)
    # Another layout of the journal itself.
    journal = Journal(card.flash)
    for bank in (0, 1):
        header = bytearray(card.flash.read(bank, 0, 12))
        if header[:4] == b"CCJ1":
            from binascii import crc32

            header[3] = ord("2")
            header[8:] = crc32(header[:8]).to_bytes(4, "big")
            card.flash._put(bank * card.flash.size, header)
    del journal
    assert refused(card, 1 << 31)

# SPDX-License-Identifier: Apache-2.0
"""UPDATE FIRMWARE over littlefs on emulated NOR flash: power cuts, no room, a worn chip. Portable."""

import gc
import os

from chips import NorFlash
from network import PIN, Network
from updates import NEW, OLD, ROLLBACK, body, head, install_old, running, started

from chipcash_board.flash import BLOCK, BlockFlash, Files
from chipcash_board.update import Update
from chipcash_card.applet import Applet
from chipcash_sim.image import PowerCut
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

BLOCKS = 12
JOURNAL = 4
"""Blocks at the end, which are the journal's."""


def littlefs():
    """(vfs, VfsLfs2), or nothing: neither CPython nor the WebAssembly build has littlefs."""
    try:
        import vfs

        return vfs, vfs.VfsLfs2
    except (ImportError, AttributeError):
        return None


class Board:
    """A board's flash, with files and a card on it."""

    ROOT = "/board/"

    def __init__(self, chip, net, publisher):
        self.vfs, self.system = littlefs()
        self.chip = chip
        self.net = net
        self.publisher = publisher
        self.mounted = False

    def mount(self, make=False):
        files = Files(self.chip, JOURNAL)
        if make:
            self.system.mkfs(files, progsize=256)
        self.vfs.mount(self.system(files, progsize=256), "/board")
        self.mounted = True

    def umount(self):
        if self.mounted:
            self.vfs.umount("/board")
        self.mounted = False
        gc.collect()

    def journal(self):
        """The pages of the journal's banks."""
        first = (len(self.chip.erased) - JOURNAL) * BLOCK // self.chip.PAGE
        return {number: page for number, page in self.chip.pages.items() if number >= first}

    def power(self):
        """(applet, session) after power on."""
        flash = BlockFlash(self.chip, len(self.chip.erased) - JOURNAL, JOURNAL // 2 * BLOCK)
        applet = Applet(flash, os.urandom, firmware=running(self.net, self.publisher, self.ROOT))
        session = applet.session()
        assert session.process(c.command(c.INS_SELECT, 4, 0, c.AID))[-2:] == b"\x90\x00"
        return applet, session

    def pay(self):
        _, session = self.power()
        data = self.net.request(10).encode()
        reply = session.process(c.command(c.INS_PAY, 0, 0, data, c.CLA_PROPRIETARY, 65536))
        assert o.Payment.decode(reply[:-2]).claim.amount == 10


def new_board(net, publisher, blocks=BLOCKS):
    """A board with a card that has money."""
    board = Board(NorFlash(blocks), net, publisher)
    board.mount(make=True)
    install_old(board.ROOT)
    _, session = board.power()
    public = session.process(c.command(c.INS_GENERATE_KEY_PAIR, net.suite.id))[:-2]
    for ins, p1, data in (
        (c.INS_STORE_DATA, 0x80, net.personalisation(public).encode()),
        (c.INS_PUT_DATA, 0, net.title(public).encode()),
    ):
        assert session.process(c.command(ins, p1, 0, data, le=0)) == b"\x90\x00"
    return board


def take(board, update, data):
    """An update, which Refused or a power cut may end."""
    owner = board
    update.begin(owner, data)
    whole = body()
    for at in range(0, len(whole), 512):
        update.body(owner, at.to_bytes(4, "big") + whole[at : at + 512])
    update.finish(owner)


def test_power_at_every_operation_of_the_flash():
    """Whole, half done and not at all; the old firmware or all of the new, the journal as it was."""
    if littlefs() is None:
        return
    net = Network(o.SUITE_P256)
    publisher = net.key()
    board = new_board(net, publisher)
    data = head(net, publisher, body())
    board.umount()
    content = board.chip.content()
    journal = board.journal()

    def update():
        return Update((net.suite.id, publisher.public), b"board-card", OLD, ROLLBACK, board.ROOT)

    start = board.chip.operations
    board.mount()
    take(board, update(), data)
    board.umount()
    operations = board.chip.operations - start
    assert operations > 20
    seen = set()
    for cut in range(operations):
        for half in (False, True):
            board.chip = NorFlash(BLOCKS, content)
            board.chip.cut = cut
            board.chip.half = half
            board.mount()
            try:
                take(board, update(), data)
                raise AssertionError("not cut")
            except PowerCut:
                board.umount()
            # Another chip: an open file of before may still want to be closed.
            board.chip = NorFlash(BLOCKS, board.chip.content())
            assert board.journal() == journal
            board.mount()
            found = started(board.ROOT)
            seen.add(found)
            if cut % 8 == 0:
                board.pay()
            if found == OLD and cut % 4 == 0:
                take(board, update(), data)
                assert started(board.ROOT) == NEW
            board.umount()
    assert OLD in seen


def test_a_file_system_that_is_full_or_a_flash_that_is_worn():
    if littlefs() is None:
        return
    net = Network(o.SUITE_P256)
    publisher = net.key()
    for worn in (False, True):
        # Two blocks for each folder, and none for what is longer than fits a folder's own.
        board = new_board(net, publisher, BLOCKS if worn else JOURNAL + 6)
        applet, session = board.power()
        pin = c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN, le=0)
        assert session.process(pin) == b"\x90\x00"
        if worn:
            board.chip.worn = tuple(range(BLOCKS - JOURNAL))
        whole = body()
        found = []
        for step, data in (
            (c.UPDATE_BEGIN, head(net, publisher, whole)),
            (c.UPDATE_BODY, bytes(4) + whole),
            (c.UPDATE_FINISH, b""),
        ):
            apdu = c.command(c.INS_UPDATE_FIRMWARE, step, 0, data, c.CLA_PROPRIETARY, 0)
            found.append(int.from_bytes(session.process(apdu), "big"))
        assert c.SW_MEMORY in found and found[-1] != c.SW_OK, found
        assert not applet.broken
        data = net.request(10).encode()
        pay = c.command(c.INS_PAY, 0, 0, data, c.CLA_PROPRIETARY, 65536)
        assert session.process(pay)[-2:] == b"\x90\x00"
        assert started(board.ROOT) == OLD
        board.umount()
        board.mount()
        assert started(board.ROOT) == OLD
        board.pay()
        board.umount()
        board = applet = session = None  # a small heap has no room for two
        gc.collect()

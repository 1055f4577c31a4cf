# SPDX-License-Identifier: Apache-2.0
"""The journal's device on a board's flash, over emulated NOR: chipcash_board.flash. Portable."""

import gc
import os
import sys
from errno import EINVAL, EIO, ENODEV
from hashlib import sha256

from chips import NorFlash

from chipcash_board.flash import (
    BLOCK,
    LABEL,
    SCRATCH,
    BlockFlash,
    Files,
    board_flash,
    scratch_flash,
)
from chipcash_card.journal import Journal
from chipcash_sim.image import FileFlash, PowerCut

BANK = 2 * BLOCK
BLOCKS = 2 * BANK // BLOCK
FIRST = 3
"""Blocks before the banks, which are somebody else's."""


def failed(act, *args):
    """The number of the OSError that act raises, or None."""
    try:
        act(*args)
    except OSError as error:
        return error.args[0]
    return None


def made(content=None, bank=BANK):
    """(chip, flash)."""
    chip = NorFlash(FIRST + 2 * bank // BLOCK, content)
    return chip, BlockFlash(chip, FIRST, bank)


def test_it_does_what_the_emulated_image_does():
    image = FileFlash("%s/nor.img" % (os.getenv("CHIPCASH_SCRATCH") or "."), size=BANK)
    chip, flash = made()
    end = [0, 0]
    for number in range(60):
        chance = sha256(bytes((number,))).digest()
        bank = number & 1
        data = (chance * 22)[: 1 + (chance[1] << 8 | chance[2]) % 700]
        if end[bank] + len(data) > BANK:
            image.erase(bank)
            flash.erase(bank)
            end[bank] = 0
        image.program(bank, end[bank], data)
        flash.program(bank, end[bank], data)
        end[bank] += len(data)
        start = (chance[3] << 8 | chance[4]) % (BANK - 5000)
        for which in (0, 1):
            assert flash.read(which, start, 5000) == image.read(which, start, 5000)
    image.close()
    assert min(chip.content()) >= FIRST * BLOCK // chip.PAGE
    assert chip.erased[:FIRST] == [0] * FIRST and min(chip.erased[FIRST:]) > 0


def test_what_it_does_not_have():
    _, flash = made()
    for bank, offset, n in ((2, 0, 1), (-1, 0, 1), (0, BANK, 1), (0, BANK - 1, 2), (1, -1, 1)):
        assert failed(flash.read, bank, offset, n) == EINVAL
        assert failed(flash.program, bank, offset, bytes(n)) == EINVAL
    assert failed(flash.erase, 2) == EINVAL
    chip = NorFlash(4)
    assert failed(BlockFlash, chip, 0, 2 * BLOCK) is None
    for first, size in ((1, 2 * BLOCK), (-1, BLOCK), (0, BLOCK + 256)):
        assert failed(BlockFlash, chip, first, size) == EINVAL
    assert failed(board_flash, "linux") == failed(scratch_flash, "linux") == ENODEV


class Ports:
    """The modules of both ports by which they offer their flash; the chip is behind them."""

    TYPE_DATA = 1

    def __init__(self, chip):
        self.Flash = lambda: chip
        self.Partition = self
        self.find = lambda kind, label: iter([chip] if (kind, label) == (1, LABEL) else [])


def test_the_scratch_is_beside_the_banks_and_no_files():
    for port, blocks, banks, scratch in (("rp2", 10, 6, 4), ("esp32", 6, 0, 4)):
        chip = NorFlash(blocks)
        sys.modules[port] = Ports(chip)
        try:
            for flash, first in (
                (board_flash(port, BANK), banks),
                (scratch_flash(port, BANK), scratch),
            ):
                before = chip.content()
                for bank in (0, 1):
                    flash.program(bank, 0, b"chipcash")
                    found = bytearray(8)
                    chip.readblocks(first + bank * flash.size // BLOCK, found, 0)
                    assert found == b"chipcash"
                    flash.erase(bank)
                assert chip.content() == before
        finally:
            del sys.modules[port]
    # What littlefs is told of them: bad blocks.
    chip = NorFlash(10)
    files = Files(chip, BLOCKS + SCRATCH)
    assert [b for b in range(10) if files.ioctl(6, b) == 0] == [0, 1, 2, 3]


class Quiet:
    """A chip that allocates nothing, as a port's own."""

    def __init__(self, blocks):
        self.content = bytearray(blocks * BLOCK)

    def readblocks(self, block, buffer, offset=0):
        content = self.content
        start = block * BLOCK + offset
        assert offset + len(buffer) <= BLOCK
        for at in range(len(buffer)):
            buffer[at] = content[start + at]

    def writeblocks(self, block, buffer, offset=0):
        content = self.content
        start = block * BLOCK + offset
        for at in range(len(buffer)):
            content[start + at] &= buffer[at]

    def ioctl(self, op, arg):
        if op == 6:
            for at in range(arg * BLOCK, (arg + 1) * BLOCK):
                self.content[at] = 0xFF
        return (len(self.content) // BLOCK if op == 4 else BLOCK) if op < 6 else 0


def test_it_allocates_nothing_but_what_it_returns():
    """Whatever lies across pages and blocks. A payment finds the heap as it was."""
    try:
        from micropython import heap_lock, heap_unlock
    except ImportError:
        return  # CPython's heap needs no care
    flash = BlockFlash(Quiet(4), 0, 2 * BLOCK)
    data = bytes(range(256)) * 3
    heap_lock()
    try:
        flash.erase(0)
        flash.erase(1)
        flash.program(0, BLOCK - 300, data)
        flash.program(1, 5, data)
    finally:
        heap_unlock()
    gc.collect()
    gc.disable()
    try:
        for bank, offset in ((0, BLOCK - 300), (1, 5)):
            for n in (1, 256, len(data)):
                before = gc.mem_alloc()
                buffer = bytearray(n)
                buffer = None
                middle = gc.mem_alloc()
                read = flash.read(bank, offset, n)
                after = gc.mem_alloc()
                assert after - middle == middle - before > 0 and buffer is None
                assert read == data[:n]
    finally:
        gc.enable()


def test_a_block_that_takes_nothing_more_is_noticed():
    chip, flash = made()
    chip.worn = (FIRST,)
    flash.program(0, BLOCK, b"abc")  # the block behind it
    assert failed(flash.program, 0, 0, b"abc") == EIO
    flash.erase(1)
    chip.worn = ()
    flash.program(0, 0, b"abc")
    chip.worn = (FIRST,)
    assert failed(flash.erase, 0) == EIO


def test_a_transaction_cut_at_each_operation():
    """Cut at each page and block, whole or half done: what is stored is as before it or as after it."""
    changes = [{b"a": b"1" * 300, b"b": b"2"}, {b"a": None, b"c": b"3" * 600}]
    changes += [{b"c": bytes((number,)) * 600} for number in range(20)]  # moves to the other bank
    chip, flash = made(bank=BLOCK)
    journal = Journal(flash)
    moves = 0
    for change in changes:
        before = chip.content()
        old = {key: journal.get(key) for key in journal.keys(b"")}
        start = chip.operations
        journal.commit(change)
        new = {key: journal.get(key) for key in journal.keys(b"")}
        moves += max(chip.erased)
        kept = 0
        for cut in range(chip.operations - start):
            for half in (False, True):
                torn, flash = made(before, BLOCK)
                again = Journal(flash)
                torn.cut = torn.operations + cut
                torn.half = half
                try:
                    again.commit(change)
                    raise AssertionError("not cut")
                except PowerCut:
                    torn.cut = None
                found = Journal(BlockFlash(torn, FIRST, BLOCK))
                found = {key: found.get(key) for key in found.keys(b"")}
                assert found in (old, new)
                kept += found == old
        assert kept > 0
    assert moves > 2


def test_who_tidies_when_idle_never_erases_in_a_commit():
    chip, flash = made()
    journal = Journal(flash)
    moves = 0
    for number in range(100):
        moves += journal.tidy(1000)
        assert not journal.tidy(1000)  # there is nothing left to do
        before = list(chip.erased)
        journal.commit({bytes((number % 5,)): bytes((number,)) * 300})
        assert chip.erased == before
    assert moves >= 3
    assert Journal(flash).get(b"\x04") == bytes((99,)) * 300


def test_tidying_that_makes_no_room_is_not_done():
    chip, flash = made()
    journal = Journal(flash)
    journal.commit({b"a": bytes(5000)})
    before = list(chip.erased)
    assert not journal.tidy(BANK - 5000) and not journal.tidy(BANK) and chip.erased == before
    journal.commit({b"b": bytes(2000)})
    journal.commit({b"b": None})
    assert journal.tidy(BANK - 5100) and Journal(flash).get(b"a") == bytes(5000)


def test_tidying_cut_at_each_operation():
    chip, flash = made()
    journal = Journal(flash)
    for number in range(4):
        journal.commit({b"a": b"1" * 1500, b"b": bytes((number,))})
    before = chip.content()
    start = chip.operations
    assert journal.tidy(4000)
    for cut in range(chip.operations - start):
        for half in (False, True):
            torn, flash = made(before)
            again = Journal(flash)
            torn.cut = torn.operations + cut
            torn.half = half
            try:
                again.tidy(4000)
                raise AssertionError("not cut")
            except PowerCut:
                torn.cut = None
            found = Journal(BlockFlash(torn, FIRST, BANK))
            assert found.get(b"a") == b"1" * 1500 and found.get(b"b") == b"\x03"
            found.commit({b"b": b"new"})
            assert Journal(BlockFlash(torn, FIRST, BANK)).get(b"b") == b"new"


def test_files_keep_off_the_journal():
    """littlefs fills what it may have, and the banks are as before; the whole device can be read as it is."""
    try:
        import vfs

        littlefs = vfs.VfsLfs2
    except (ImportError, AttributeError):
        return  # neither CPython nor the WebAssembly build has littlefs
    chip = NorFlash(12)
    flash = BlockFlash(chip, 8, BANK)
    journal = Journal(flash)
    journal.commit({b"key": b"money"})
    files = Files(chip, BLOCKS)
    littlefs.mkfs(files, progsize=256)
    vfs.mount(littlefs(files, progsize=256), "/board")
    written = 0
    try:
        while True:
            with open("/board/file%d" % written, "wb") as file:
                for _ in range(BLOCK // 256):
                    file.write(bytes(256))
            written += 1
    except OSError:
        pass  # full
    vfs.umount("/board")
    assert written >= 3
    assert Journal(flash).get(b"key") == b"money"
    vfs.mount(littlefs(chip, progsize=256), "/board")  # as the port does at power on
    try:
        with open("/board/file0", "rb") as file:
            for _ in range(BLOCK // 256):
                assert file.read(256) == bytes(256)
    finally:
        vfs.umount("/board")

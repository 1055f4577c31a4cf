# SPDX-License-Identifier: Apache-2.0
"""The journal's two banks on a board's flash. Has never run on hardware: the tests emulate NOR flash.

MicroPython offers the flash as a block device (vfs.AbstractBlockDev, extended interface): rp2.Flash on the
RP2040 and RP2350, esp32.Partition on the ESP32. Such a chip wears: a block of 4096 bytes takes some 100,000
erasures. The journal erases a bank only when the other one is full, and the banks take turns, so that no
block is erased oftener than its neighbours."""

from errno import EINVAL, EIO

from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class BlockDevice(Protocol):
        """What MicroPython's flash offers: vfs.AbstractBlockDev."""

        def readblocks(self, block: int, buffer: "bytearray | memoryview", offset: int = 0) -> None:
            """Fill the buffer from there."""

        def writeblocks(
            self, block: int, buffer: "bytes | bytearray | memoryview", offset: "int | None" = None
        ) -> "int | None":
            """With an offset: program without erasing. Without: erase, and program."""

        def ioctl(self, op: int, arg: int) -> "int | None":
            """COUNT, SIZE, ERASE and others."""


BLOCK = 4096
"""Bytes that are erased at once."""
BANK = 40960
"""Bytes a bank; a bank holds a full card's state more than once."""
SCRATCH = 2
"""Blocks beside the banks in which nothing is kept: writing is timed there, without a risk to what counts."""
LABEL = "chipcash"
"""Name of the data partition on an ESP32."""
_PAGE = 256  # what is programmed at once; the RP2's SDK takes nothing else
_COUNT = 4
_SIZE = 5
_ERASE = 6
_BAD_BLOCK = -84  # EILSEQ, which littlefs takes for LFS_ERR_CORRUPT


class BlockFlash:
    """Two banks on a block device: chipcash_card.journal says what a device does.

    first: the first block; size: bytes a bank, whole blocks. Nothing else may write to these blocks. What was
    programmed or erased is read back, since neither port tells whether the chip did it. Raises OSError with
    EINVAL where the device has no such blocks, with EIO where the chip holds something else than it should.
    """

    def __init__(self, device: "BlockDevice", first: int, size: int = BANK) -> None:
        if (
            size % BLOCK
            or first < 0
            or device.ioctl(_SIZE, 0) != BLOCK
            or (device.ioctl(_COUNT, 0) or 0) < first + 2 * size // BLOCK
        ):
            raise OSError(EINVAL)
        self.size = size
        self._device = device
        self._first = first
        # Made once. Nothing here allocates but the buffer that read() returns: hence no slice, no
        # tuple, and no range with a step.
        self._page = bytearray(_PAGE)
        self._back = bytearray(_PAGE)

    def read(self, bank: int, offset: int, n: int) -> bytearray:
        """n bytes of a bank. Raises OSError."""
        self._check(bank, offset, n)
        data = bytearray(n)
        start = bank * self.size + offset
        if start % BLOCK + n <= BLOCK:
            self._device.readblocks(self._first + start // BLOCK, data, start % BLOCK)
            return data
        back = self._back
        done = 0
        while done < n:
            at = (start + done) % _PAGE
            part = min(n - done, _PAGE - at)
            self._read_back(start + done - at)
            for i in range(part):
                data[done + i] = back[at + i]
            done += part
        return data

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """Clear the bits that are clear in data, where all were set. Raises OSError."""
        self._check(bank, offset, len(data))
        page = self._page
        back = self._back
        done = 0
        while done < len(data):
            at = (offset + done) % _PAGE
            part = min(len(data) - done, _PAGE - at)
            for i in range(part):
                page[at + i] = data[done + i]
            # Around it ones, which change nothing.
            for i in range(at):
                page[i] = 0xFF
            for i in range(at + part, _PAGE):
                page[i] = 0xFF
            where = bank * self.size + offset + done - at
            self._device.writeblocks(self._first + where // BLOCK, page, where % BLOCK)
            self._read_back(where)
            for i in range(at, at + part):
                if back[i] != page[i]:
                    raise OSError(EIO)
            done += part

    def erase(self, bank: int) -> None:
        """Set all bits of a bank. Raises OSError."""
        self._check(bank, 0, self.size)
        page = self._page
        for i in range(_PAGE):
            page[i] = 0xFF
        where = bank * self.size
        for _ in range(self.size // BLOCK):
            self._device.ioctl(_ERASE, self._first + where // BLOCK)
            # Also where it read as erased: what a power cut left half erased can read so, and not last.
            for _ in range(BLOCK // _PAGE):
                self._read_back(where)
                if self._back != page:
                    raise OSError(EIO)
                where += _PAGE

    def _read_back(self, where: int) -> None:
        """What stands in a page; where: from the first bank's beginning."""
        self._device.readblocks(self._first + where // BLOCK, self._back, where % BLOCK)

    def _check(self, bank: int, offset: int, n: int) -> None:
        if bank not in (0, 1) or offset < 0 or offset + n > self.size:
            raise OSError(EINVAL)


class Files:
    """A block device for the board's files which leaves its last blocks alone, for the journal.

    The RP2's MicroPython mounts a file system on all of rp2.Flash before any of our code runs, and makes a
    new one where it finds one of another size; so the files cannot simply end earlier. Seen through this
    device, blocks kept back are bad ones: littlefs goes round them, and nothing that was written so lies in
    the journal's banks. Files are written only through it: see mount_files().

    device: all of the flash; kept: how many blocks at its end are the journal's, and SCRATCH."""

    def __init__(self, device: "BlockDevice", kept: int = 2 * BANK // BLOCK + SCRATCH) -> None:
        self._device = device
        self._end = (device.ioctl(_COUNT, 0) or 0) - kept

    def readblocks(self, block: int, buffer: "bytearray | memoryview", offset: int = 0) -> None:
        """As the device."""
        self._device.readblocks(block, buffer, offset)

    def writeblocks(
        self, block: int, buffer: "bytes | bytearray | memoryview", offset: "int | None" = None
    ) -> "int | None":
        """As the device, but for the blocks that are kept."""
        if block >= self._end:
            return _BAD_BLOCK
        if offset is None:
            return self._device.writeblocks(block, buffer)
        return self._device.writeblocks(block, buffer, offset)

    def ioctl(self, op: int, arg: int) -> "int | None":
        """As the device, but for the blocks that are kept."""
        if op == _ERASE and arg >= self._end:
            return _BAD_BLOCK
        return self._device.ioctl(op, arg)


def mount_files(device: "BlockDevice") -> Files:
    """Mount the files of an RP2 anew, so that writing them leaves the journal alone.

    device: all of the flash. Raises OSError."""
    import os

    import vfs  # type: ignore[import-not-found]

    files = Files(device)
    system = vfs.VfsLfs2(files, progsize=_PAGE)
    vfs.umount("/")
    vfs.mount(system, "/")
    os.chdir("/")
    return files


def board_flash(platform: str, size: int = BANK) -> BlockFlash:
    """The journal's device on the board that this runs on; platform: sys.platform.

    RP2: the last blocks of the flash that MicroPython keeps for files (see Files). ESP32: the data partition
    LABEL, which must not be an encrypted one, since programming a page twice would spoil it. Raises OSError,
    with ENODEV where there is no such flash.
    """
    device, first = _banks(platform, size)
    return BlockFlash(device, first, size)


def scratch_flash(platform: str, size: int = BANK) -> BlockFlash:
    """Two banks of a block in SCRATCH: below the journal's on an RP2, behind them in an ESP32's partition.
    Arguments and errors as board_flash()."""
    device, first = _banks(platform, size)
    return BlockFlash(device, first - SCRATCH if first else 2 * size // BLOCK, BLOCK)


def _banks(platform: str, size: int) -> "tuple[BlockDevice, int]":
    """The device on which the journal's banks are, and their first block."""
    if platform == "rp2":
        import rp2  # type: ignore[import-not-found]

        device = rp2.Flash()
        return device, device.ioctl(_COUNT, 0) - 2 * size // BLOCK
    if platform == "esp32":
        from esp32 import Partition  # type: ignore[import-not-found]

        for partition in Partition.find(Partition.TYPE_DATA, label=LABEL):
            return partition, 0
    from errno import ENODEV

    raise OSError(ENODEV)

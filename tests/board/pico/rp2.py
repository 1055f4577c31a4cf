# SPDX-License-Identifier: Apache-2.0
"""MicroPython's rp2 on the unix port: a NOR flash in a file, whose power can be cut at an operation.

CHIPCASH_FLASH names the file, CHIPCASH_COUNT the one for the number of operations, CHIPCASH_CUT the number of
the operation at which power goes, half done; CHIPCASH_WORN that from which on the chip takes nothing more."""

import os

_BLOCK = 4096
_ERASED = b"\xff" * _BLOCK
_file = open(os.getenv("CHIPCASH_FLASH"), "r+b")
_count = open(os.getenv("CHIPCASH_COUNT"), "r+")
_cut = int(os.getenv("CHIPCASH_CUT") or -1)
_worn = int(os.getenv("CHIPCASH_WORN") or 1 << 30)
_done = int(_count.read())


class Flash:
    """All of the flash."""

    def readblocks(self, block, buffer, offset=0):
        _file.seek(block * _BLOCK + offset)
        _file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=None):
        if offset is None:
            self.ioctl(6, block)
            offset = 0
        _file.seek(block * _BLOCK + offset)
        old = _file.read(len(buffer))
        _put(block * _BLOCK + offset, bytes(x & y for x, y in zip(old, buffer)))

    def ioctl(self, op, arg):
        if op == 4:
            return _file.seek(0, 2) // _BLOCK
        if op == 5:
            return _BLOCK
        if op == 6:
            _put(arg * _BLOCK, _ERASED)
        return 0


def _put(place, data):
    global _done
    _done += 1
    _file.seek(place)
    if _done == _cut:
        _file.write(data[: len(data) // 2])
        _file.flush()
        os.system("kill -9 $PPID")
    if _done < _worn:
        _file.write(data)
    _file.flush()
    _count.seek(0)
    _count.write(str(_done))
    _count.flush()

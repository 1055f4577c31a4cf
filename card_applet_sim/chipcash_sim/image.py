# SPDX-License-Identifier: Apache-2.0
"""A card's flash as a file (or in memory): two NOR banks, and a power cut at any operation. Portable.

The file is the banks' bytes, nothing else, so that copying it clones the card.
"""

BANK = 40960
"""Bytes a bank; a bank holds a full card's state more than once."""


class PowerCut(BaseException):
    """The emulated supply failed at a write. Nothing of the card may run after it."""


class _Flash:
    """What both devices share: counting operations and cutting the power at one of them.

    cut: index (from 0) of the write operation at which the power fails, None for never;
    half: that operation is half done instead of not at all. writes: operations so far; size: bytes a bank.
    """

    def __init__(self, cut: "int | None", half: bool, size: int) -> None:
        self.size = size
        self.cut = cut
        self.half = half
        self.writes = 0

    def _budget(self, n: int) -> int:
        """How many of n bytes this operation still gets; PowerCut follows if not all."""
        at = self.writes
        self.writes += 1
        if self.cut is None or at < self.cut:
            return n
        if at > self.cut:
            raise PowerCut()
        return n // 2 if self.half else 0

    def read(self, bank: int, offset: int, n: int) -> bytes:
        """n bytes of a bank."""
        return self._get(bank * self.size + offset, n)

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """Clear the bits that are clear in data. Raises PowerCut."""
        n = self._budget(len(data))
        start = bank * self.size + offset
        merged = bytearray(self._get(start, n))
        for i in range(n):
            merged[i] &= data[i]
        self._put(start, merged)
        if n < len(data):
            raise PowerCut()

    def erase(self, bank: int) -> None:
        """Set all bits of a bank. Raises PowerCut."""
        n = self._budget(self.size)
        for at in range(0, n, 1024):
            self._put(bank * self.size + at, b"\xff" * min(1024, n - at))
        if n < self.size:
            raise PowerCut()

    def _get(self, start: int, n: int) -> bytes:
        raise NotImplementedError

    def _put(self, start: int, data: "bytes | bytearray") -> None:
        raise NotImplementedError


class MemoryFlash(_Flash):
    """Flash in memory; content is a bytearray of two banks that outlives the card."""

    def __init__(self, content: bytearray, cut: "int | None" = None, half: bool = False) -> None:
        _Flash.__init__(self, cut, half, len(content) // 2)
        self.content = content

    def _get(self, start: int, n: int) -> bytes:
        return bytes(self.content[start : start + n])

    def _put(self, start: int, data: "bytes | bytearray") -> None:
        self.content[start : start + len(data)] = data


class FileFlash(_Flash):
    """Flash in a file, made if it is missing. Raises OSError if it is no image."""

    def __init__(
        self, path: str, cut: "int | None" = None, half: bool = False, size: int = BANK
    ) -> None:
        _Flash.__init__(self, cut, half, size)
        try:
            self._file = open(path, "r+b")
        except OSError:
            self._file = open(path, "w+b")
        if self._file.seek(0, 2) == 0:
            for _ in range(2 * self.size // 1024):
                self._file.write(b"\xff" * 1024)
            self._file.flush()
        if self._file.seek(0, 2) != 2 * self.size:
            self._file.close()
            raise OSError("not a card image: " + path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _get(self, start: int, n: int) -> bytes:
        self._file.seek(start)
        return self._file.read(n)

    def _put(self, start: int, data: "bytes | bytearray") -> None:
        self._file.seek(start)
        self._file.write(data)
        self._file.flush()

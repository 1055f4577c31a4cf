# SPDX-License-Identifier: Apache-2.0
"""The card's non-volatile store: a log of transactions in two banks of NOR flash.

A transaction sets and deletes keys, all or nothing: it is one record with a CRC, appended and never
changed. When a bank is full, what is live is copied to the other one, whose header is programmed last;
until then the old bank counts. After a power cut at any operation, whole or half done, reading back
finds the state before a transaction or after it.

The device: `size` bytes a bank, `read(bank, offset, n) -> bytes`, `program(bank, offset, data)` which
can only clear bits, `erase(bank)` which sets all; banks 0 and 1. An operation that fails raises OSError.
"""

from binascii import crc32

_MAGIC = b"CCJ1"
_HEADER = 12  # magic, sequence of the bank, CRC
_DELETED = 0xFFFF
_PAGE = 256  # what NOR flash programs at once
MAX_VALUE = 0xFFFE


class Full(Exception):
    """The store has no room for this transaction; nothing was changed."""


class NewerFirmware(Exception):
    """What is stored was left by newer firmware than this one, which must not go on with it. Nothing was
    changed."""


class Journal:
    """Keys (up to 255 bytes) to values (up to 65534 bytes), changed by commit() only.

    An empty or unreadable device becomes an empty store. Raises OSError if the device fails, NewerFirmware
    if it holds a journal of another layout.
    """

    def __init__(self, device) -> None:  # type: ignore[no-untyped-def]
        self._device = device
        self._index: "dict[bytes, tuple[int, int]]" = {}
        self._bank = 0
        self._sequence = 0
        self._end = 0
        self._torn = True
        for bank in (0, 1):
            sequence = self._bank_sequence(bank)
            if sequence > self._sequence:
                self._bank = bank
                self._sequence = sequence
        if self._sequence:
            self._load()
        else:
            self._bank = 1
            self.compact()

    def get(self, key: bytes) -> "bytes | None":
        """The value of a key, or None."""
        place = self._index.get(key)
        if place is None:
            return None
        return bytes(self._device.read(self._bank, place[0], place[1]))

    def keys(self, prefix: bytes) -> "list[bytes]":
        """The keys that begin with prefix, sorted."""
        return sorted([key for key in self._index if key.startswith(prefix)])

    @property
    def free(self) -> int:
        """Bytes left before the next commit must move to the other bank."""
        return self._device.size - self._end  # type: ignore[no-any-return]

    def commit(self, changes: "dict[bytes, bytes | None]") -> None:
        """Set (or, with None, delete) these keys, all or nothing; durable on return.

        Raises Full (nothing changed) or OSError (read back before going on: the caller restarts).
        """
        need = 6
        for key in changes:
            value = changes[key]
            if value is not None and len(value) > MAX_VALUE:
                raise Full()
            need += 3 + len(key) + len(value or b"")
        if self._torn or need > self.free:
            # What is behind a torn record cannot be programmed again.
            self.compact(need)
        self._append(self._bank, self._sequence, changes)

    def tidy(self, room: int) -> bool:
        """Move to the other bank if fewer than room bytes are left and that makes room; whether it did.

        For an idle moment: a bank takes long to erase. Raises OSError, as commit() does."""
        if self._live() + room > self._device.size or (not self._torn and self.free >= room):
            return False
        self.compact()
        return True

    def _live(self) -> int:
        """Bytes that a bank with nothing but what is live takes."""
        size = _HEADER
        for key in self._index:
            size += 9 + len(key) + self._index[key][1]
        return size

    def compact(self, room: int = 0) -> None:
        """Move what is live to the other bank. Raises Full if room bytes would not fit behind it."""
        if self._live() + room > self._device.size:
            raise Full()
        old = self._bank
        index = self._index
        bank = 1 - old
        sequence = self._sequence + 1
        self._device.erase(bank)
        self._end = _HEADER
        # Place by place in the same index: a second one would lie scattered all over the heap. An error
        # leaves it half changed, and whoever gets one reads the journal anew.
        for key in index:
            offset, n = index[key]
            self._append(bank, sequence, {key: self._device.read(old, offset, n)})
        header = _MAGIC + sequence.to_bytes(4, "big")
        self._device.program(bank, 0, header + crc32(header).to_bytes(4, "big"))
        self._bank = bank
        self._sequence = sequence
        self._torn = False

    def _append(self, bank: int, sequence: int, changes: "dict[bytes, bytes | None]") -> None:
        size = 0
        for key in changes:
            size += 3 + len(key) + len(changes[key] or b"")
        writer = _Writer(self._device, bank, self._end, sequence)
        writer.write(size.to_bytes(2, "big"))
        for key in changes:
            value = changes[key]
            n = _DELETED if value is None else len(value)
            writer.write(bytes((len(key),)) + key + n.to_bytes(2, "big"))
            if value:
                writer.write(value)
        writer.close()
        self._apply(bank, self._end + 2, size)
        self._end += 6 + size

    def _apply(self, bank: int, at: int, size: int) -> None:
        """Take the record whose payload stands there into the index."""
        end = at + size
        read = self._device.read
        while at < end:
            n = read(bank, at, 1)[0]
            key = bytes(read(bank, at + 1, n))
            at += 3 + n
            n = int.from_bytes(read(bank, at - 2, 2), "big")
            if n == _DELETED:
                self._index.pop(key, None)
            else:
                self._index[key] = (at, n)
                at += n

    def _bank_sequence(self, bank: int) -> int:
        header = bytes(self._device.read(bank, 0, _HEADER))
        if header[:3] != _MAGIC[:3] or crc32(header[:8]).to_bytes(4, "big") != header[8:]:
            return 0
        if header[3] != _MAGIC[3]:
            raise NewerFirmware("the journal has a layout that this firmware does not know")
        return int.from_bytes(header[4:8], "big")

    def _load(self) -> None:
        device = self._device
        at = _HEADER
        while at + 6 <= device.size:
            n = int.from_bytes(device.read(self._bank, at, 2), "big")
            if n == 0xFFFF or at + 6 + n > device.size:
                break
            # The bank's sequence is part of the sum: a record that an interrupted erase left is none.
            check = self._sequence
            for start in range(at, at + 2 + n, _PAGE):
                check = crc32(device.read(self._bank, start, min(_PAGE, at + 2 + n - start)), check)
            if device.read(self._bank, at + 2 + n, 4) != check.to_bytes(4, "big"):
                break
            self._apply(self._bank, at + 2, n)
            at += 6 + n
        self._end = at
        self._torn = False
        while at < device.size:
            n = min(_PAGE, device.size - at)
            if device.read(self._bank, at, n) != b"\xff" * n:
                self._torn = True
                break
            at += n


class _Writer:
    """Programs a record page by page, its checksum behind it, in one buffer of a page."""

    def __init__(self, device, bank: int, at: int, check: int) -> None:  # type: ignore[no-untyped-def]
        self._device = device
        self._bank = bank
        self._at = at
        self._check = check
        self._page = bytearray(_PAGE)
        self._used = 0

    def write(self, data: bytes) -> None:
        """Add bytes to the record."""
        self._check = crc32(data, self._check)
        self._put(data)

    def close(self) -> None:
        """Add the checksum; what was written is durable on return."""
        self._put(self._check.to_bytes(4, "big"))
        self._flush()

    def _put(self, data: bytes) -> None:
        taken = 0
        while taken < len(data):
            n = min(len(data) - taken, _PAGE - (self._at + self._used) % _PAGE)
            self._page[self._used : self._used + n] = data[taken : taken + n]
            self._used += n
            taken += n
            if (self._at + self._used) % _PAGE == 0:
                self._flush()

    def _flush(self) -> None:
        if self._used:
            self._device.program(self._bank, self._at, bytes(self._page[: self._used]))
            self._at += self._used
            self._used = 0

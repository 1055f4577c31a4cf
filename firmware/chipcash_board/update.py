# SPDX-License-Identifier: Apache-2.0
"""The firmware's next version, taken by the card itself: UPDATE FIRMWARE, protocols/spec/commands.md.
Portable.

It writes files and nothing else: what the purse has is in the journal, and the purse goes on paying. The
firmware that runs stays as it is, in its folder, until the whole of the new one is there."""

import os

from chipcash_board import install
from chipcash_card import busy
from chipcash_card.hashing import hasher
from chipcash_card.purse import Refused
from chipcash_card.suites import suite
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING
from chipcash_wire.firmware import NO_NETWORK, Firmware
from chipcash_wire.tlv import WireError

if TYPE_CHECKING:
    from typing import Any, Callable

    from chipcash_card.hashing import Hasher

_PATH = b"abcdefghijklmnopqrstuvwxyz0123456789_."
_OFFSET = 4  # bytes before each part of the body: where in it that begins
_SIZE = 4  # bytes that say how long a file is


class Update:
    """Takes one update at a time, from its owner: who began it.

    publisher: suite and public key of who may sign one; target: board and form, as in the head of an image;
    build: id of the build that runs; rollback: its rollback counter; root: where the files are, with a slash
    at its end. Each method raises Refused, with SW_MEMORY where the files cannot be written; begin() and
    finish() have then changed nothing that the board starts from."""

    def __init__(
        self,
        publisher: "tuple[int, bytes]",
        target: bytes,
        build: str,
        rollback: int,
        root: str = "/",
    ) -> None:
        self._publisher = publisher
        self._target = target
        self._build = build
        self._rollback = rollback
        self._root = root
        self._owner: "object | None" = None
        self._file: "Any" = None

    def begin(self, owner: object, head: bytes) -> None:
        """Take a head, encoded: all that can be checked of it is, and only then is room made."""
        firmware = Firmware.decode(head)
        suite_id, public = self._publisher
        if firmware.header != o.make_header(NO_NETWORK, suite_id):
            raise Refused(c.SW_NETWORK)
        if not suite(suite_id).verify(public, firmware.message(), firmware.signature):
            raise Refused(c.SW_SIGNATURE)
        if firmware.target != self._target:
            raise Refused(c.SW_NOT_MINE)
        if firmware.rollback < self._rollback or firmware.build_id == self._build:
            raise Refused(c.SW_STALE)
        try:
            with open(self._root + install.MAIN) as file:
                selected = file.read()
            if selected != install.SELECTOR.format(build=self._build):
                raise Refused(c.SW_CONDITIONS)  # one was finished, and waits for power
            self._end()
            self._remove_others()
            os.mkdir(self._folder(firmware.build_id))
        except OSError:
            raise Refused(c.SW_MEMORY)
        self._firmware = firmware
        self._hasher: "Hasher" = hasher(suite_id)
        self._received = 0
        self._head = b""
        self._left = 0
        self._owner = owner

    def body(self, owner: object, data: bytes) -> None:
        """Take the next part: where it begins in the body, 4 bytes, and its bytes. One that is not the next
        changes nothing; one that holds no files in form, or cannot be written, ends the update."""
        self._check_owner(owner)
        end = self._received + len(data) - _OFFSET
        if (
            len(data) <= _OFFSET
            or int.from_bytes(data[:_OFFSET], "big") != self._received
            or end > self._firmware.size
        ):
            raise Refused(c.SW_DATA)
        view = memoryview(data)[_OFFSET:]
        try:
            self._hasher.update(view)
            self._take(view)
        except (OSError, MemoryError):
            self._give_up(c.SW_MEMORY)
        except WireError:
            self._give_up(c.SW_DATA)
        self._received = end

    def finish(self, owner: object) -> None:
        """The body is there: if it is the one that was signed, the board starts from it at next power on."""
        self._check_owner(owner)
        if self._received != self._firmware.size:
            raise Refused(c.SW_CONDITIONS)
        if self._file is not None or self._head:
            self._give_up(c.SW_DATA)
        if self._hasher.digest() != self._firmware.digest:
            self._give_up(c.SW_SIGNATURE)
        self._owner = None
        new = self._root + install.NEW
        try:
            with open(new, "w") as file:
                file.write(install.SELECTOR.format(build=self._firmware.build_id))
            os.rename(new, self._root + install.MAIN)
        except OSError:
            # The folder stays: nobody knows whether it is what the board starts from now.
            raise Refused(c.SW_MEMORY)

    def _check_owner(self, owner: object) -> None:
        if self._owner is None or owner is not self._owner:
            raise Refused(c.SW_CONDITIONS)

    def _folder(self, build_id: str) -> str:
        return self._root + install.FOLDER + build_id

    def _take(self, data: memoryview) -> None:
        """Write what is in a part of the body: for each file the length of its path (1 byte), the path, its
        size (4 bytes), its bytes."""
        at = 0
        while at < len(data):
            if self._file is not None:
                n = min(self._left, len(data) - at)
                self._file.write(data[at : at + n])
                self._left -= n
            else:
                # The length alone first, since it says where the head ends.
                wanted = 1 + self._head[0] + _SIZE if self._head else 1
                n = min(wanted - len(self._head), len(data) - at)
                self._head += bytes(data[at : at + n])
                wanted = 1 + self._head[0] + _SIZE
                if len(self._head) == wanted:
                    self._left = int.from_bytes(self._head[-_SIZE:], "big")
                    path = self._head[1:-_SIZE]
                    self._head = b""
                    self._open(path)
            at += n
            if self._file is not None and not self._left:
                self._close()

    def _open(self, path: bytes) -> None:
        """Begin a file, within the folder of the build."""
        parts = path.split(b"/")
        for part in parts:
            if part in (b"", b".", b".."):
                raise WireError("a path leads elsewhere")
            for letter in part:
                if letter not in _PATH:
                    raise WireError("a path has other letters")
        where = self._folder(self._firmware.build_id)
        for part in parts[:-1]:
            where += "/" + str(part, "ascii")
            try:
                os.mkdir(where)
            except OSError:
                if not os.stat(where)[0] & 0x4000:
                    raise
        self._file = open(where + "/" + str(parts[-1], "ascii"), "wb")

    def _close(self) -> None:
        file = self._file
        self._file = None
        if file is not None:
            file.close()

    def _end(self) -> None:
        """The update that was begun before, if any, is none any more."""
        self._owner = None
        try:
            self._close()
        except OSError:
            pass  # what is in it is of no use any more

    def _give_up(self, sw: int) -> None:
        """End the update, remove what came of it, and refuse."""
        self._end()
        try:
            self._remove_others()
        except OSError:
            pass  # the next one removes it
        raise Refused(sw)

    def _remove_others(self) -> None:
        """All builds but the one that runs."""
        keep = install.FOLDER + self._build
        for name in os.listdir(self._root):
            if name[: len(install.FOLDER)] == install.FOLDER and name != keep:
                remove(self._root + name, busy.working)


def remove(path: str, each: "Callable[[], None] | None" = None) -> None:
    """Remove a file, or a folder with all that is in it; each: called after each of them. Raises OSError."""
    if os.stat(path)[0] & 0x4000:
        for name in os.listdir(path):
            remove(path + "/" + name, each)
        os.rmdir(path)
    else:
        os.remove(path)
    if each is not None:
        each()

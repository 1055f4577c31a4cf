# SPDX-License-Identifier: Apache-2.0
"""A till on a disk of its own that fills up; for test_full_disk. python -m tests.pos.full_disk DISK FOLDER

DISK: the root of a small file system, which nobody else uses; FOLDER: for everything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chipcash.database import DatabaseError
from chipcash.errors import ChipcashError
from chipcash.pos import AnswerLost, Pos, PosError
from chipcash.pos.till import SaleState, Till, Warn
from chipcash.sandbox import Sandbox
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash_wire import commands as c
from tests.pos.test_till import ended

_CHUNK = 1 << 20


class Disk:
    """What fills a file system, and makes room again."""

    def __init__(self, root: Path) -> None:
        self.file = root / "films"

    def fill(self, leave: int = 0) -> None:
        """Write until it is full, then leave so many bytes."""
        with self.file.open("ab", buffering=0) as file:
            for chunk in (_CHUNK, 4096, 1):
                try:
                    while file.write(bytes(chunk)) == chunk:
                        pass
                except OSError:
                    continue
            file.truncate(max(file.tell() - leave, 0))

    def clear(self) -> None:
        self.file.unlink()


class Filling(BaseConnection):
    """A card whose answer to PAY comes when the disk has just filled up."""

    def __init__(self, inner: Connection, disk: Disk) -> None:
        super().__init__(inner.path, over_air=False)
        self.inner = inner
        self.disk = disk

    def _transceive(self, apdu: bytes) -> bytes:
        answer = self.inner.transceive(apdu)
        if apdu[1] == c.INS_PAY:
            self.disk.fill()
        return answer

    def close(self) -> None:
        self.inner.close()


def main(root: Path, folder: Path) -> None:
    """As the module says."""
    disk = Disk(root)
    image = folder / "a.img"
    path = f"sim:{image}"
    with Sandbox(folder / "net") as sandbox:
        sandbox.new_card(image, 10_000)
        with Pos.init(root / "till", sandbox.trust, sandbox.url) as pos:
            pos.sync(sandbox.center)
            with open_path(path) as card:
                pos.charge(card, 100)

            # Nearly full: nobody is asked, and it says so.
            disk.fill(leave=16 << 20)
            with (
                open_path(path) as card,
                pytest.raises(PosError, match=r"nearly full.*No card was asked"),
            ):
                pos.charge(card, 200)
            with Till(root / "till", [path]) as till:
                assert Warn.DISK in till.status().warnings
                with pytest.raises(PosError, match="nearly full"):
                    till.begin(200)
                disk.clear()
                ended(till, till.begin(200), SaleState.PAID)

            # It fills up while the card pays: not paid, and nobody says so; the same card brings it.
            with open_path(path) as card, pytest.raises(AnswerLost, match="could not be kept"):
                pos.charge(Filling(card, disk), 300)
            last = pos.last()
            assert last is not None and last.paid is None and pos.open_count() == 1
            with pytest.raises(DatabaseError, match="room"):
                _told(pos.open_shift)
            disk.clear()
            with open_path(path) as card:
                assert pos.charge(card, 300).amount == 300
            assert pos.open_count() == 0 and len(pos.payments()) == 3

            # It fills up before what was taken is brought to the center: it still is, or waits.
            disk.fill()
            try:
                pos.sync(sandbox.center)
            except DatabaseError:
                disk.clear()
                pos.sync(sandbox.center)
            assert pos.summary().verified_fen == 600
            assert sandbox.ledger.accounts()["owners"][pos.public.hex()] == 600
    print("all told")


def _told(what: object) -> None:
    """Have the hint in the text, where pytest looks."""
    assert callable(what)
    try:
        what()
    except ChipcashError as error:
        raise type(error)(f"{error.message} {error.hint}") from None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

# SPDX-License-Identifier: Apache-2.0
"""Ends a process that appends to a log by SIGKILL before each of its steps on the disk, one after the other.

A step is whatever changes a folder, as the interpreter reports it (sys.audit): a file opened to be written,
renamed, linked, removed; a folder made or removed. A child of this process is killed at step n; then the log
is opened as after a crash, its checkpoint is verified, publishing goes on, and everything is compared.
Run: killing.py FOLDER FIRST THEN, with so many facts before, and so many to append. Prints the steps.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chipcash.log.merkle import Range, leaf_hash
from chipcash.log.note import SIGNATURE, Checkpoint, SigningKey
from chipcash.log.publisher import Publisher
from chipcash.log.reader import Folder, LogReader
from chipcash.log.store import Log

KEY = SigningKey("log.example", SIGNATURE, bytes(32))
_STEPS = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


class Ledger:
    """So many facts, with gaps between their numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def facts(self, after: int) -> Iterator[tuple[int, bytes]]:
        for number in range(1, self.count + 1):
            if 3 * number > after:
                yield 3 * number, b"fact %d" % number


def root(count: int) -> bytes:
    tree = Range()
    for _, entry in Ledger(count).facts(0):
        tree.add(leaf_hash(entry))
    return tree.root()


def publish(folder: Path, count: int) -> Checkpoint:
    with Log(folder / "public", folder / "entries", KEY) as log:
        return Publisher(log, Ledger(count)).publish()


def killed(folder: Path, count: int, at: int) -> bool:
    """Publish in a child that ends before its step number at; whether it did."""
    child = os.fork()
    if child == 0:
        left = at

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            opened = event == "open" and isinstance(arguments[2], int)
            if event in _STEPS or (opened and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        publish(folder, count)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def check(folder: Path, allowed: set[int]) -> Checkpoint:
    """What an outsider sees: a checkpoint of one of these sizes, its root, tiles and entries."""
    reader = LogReader(KEY.key, Folder(folder / "public"), Folder(folder / "entries"))
    checkpoint, _ = reader.checkpoint()
    assert checkpoint.size in allowed, checkpoint.size
    assert checkpoint.root == root(checkpoint.size)
    found = list(reader.entries(checkpoint))
    assert found == [entry for _, entry in Ledger(checkpoint.size).facts(0)]
    for index in {0, checkpoint.size // 2, checkpoint.size - 1} if found else ():
        reader.inclusion(checkpoint, index, found[index])
    return checkpoint


def main(folder: Path, first: int, then: int) -> None:
    """Kill at every step there is."""
    before = folder / "before"
    Log.create(before / "public", before / "entries", KEY).close()
    publish(before, first)
    step = 0
    while True:
        step += 1
        place = folder / "log"
        shutil.copytree(before, place)
        dead = killed(place, first + then, step)
        # The second time something else is new as well: the ledger has gone on.
        old = check(place, {first, first + then} if dead else {first + then})
        new = publish(place, first + then + 1)
        assert new.size == first + then + 1
        check(place, {new.size})
        reader = LogReader(KEY.key, Folder(place / "public"))
        reader.continues(old, new)
        shutil.rmtree(place)
        if not dead:
            break
    print(step - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

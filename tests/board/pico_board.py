# SPDX-License-Identifier: Apache-2.0
"""A board for the tests: MicroPython's unix port as an RP2, its console a terminal that host tools open.

Its file system is littlefs on an emulated flash, in which the last blocks are the journal's."""

from __future__ import annotations

import os
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chipcash_board.flash import BANK, BLOCK
from chipcash_sim import runtime

_PICO = Path(__file__).parent / "pico"
BLOCKS = 96
JOURNAL = BLOCKS * BLOCK - 2 * BANK
"""Where the journal begins."""


class PicoBoard:
    """A board without power; folder: of its own."""

    def __init__(self, folder: Path, blocks: int = BLOCKS) -> None:
        self.flash = folder / "flash.bin"
        self._count = folder / "count"
        self.flash.write_bytes(b"\xff" * blocks * BLOCK)
        try:
            self._micropython = runtime.find("micropython")
        except runtime.RuntimeMissing as missing:
            pytest.skip(str(missing))

    def _environment(self, **more: int) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "CHIPCASH_FLASH": str(self.flash),
            "CHIPCASH_COUNT": str(self._count),
            **{f"CHIPCASH_{name.upper()}": str(value) for name, value in more.items()},
        }

    def start(self) -> str:
        """Power on, nobody at the console: what it prints until main.py ends."""
        done = subprocess.run(
            [self._micropython, str(_PICO / "boot.py")],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    @property
    def operations(self) -> int:
        """Operations on the flash since the last power on."""
        return int(self._count.read_text() or 0)

    @contextmanager
    def on(self, **more: int) -> Iterator[str]:
        """The board with power; the path to its line. more: cut, worn, see pico/rp2.py.

        The line goes with the board, as USB does."""
        line, far = os.openpty()
        tty.setraw(far)
        process = subprocess.Popen(
            [self._micropython, "-i", str(_PICO / "boot.py")],
            env=self._environment(**more),
            stdin=line,
            stdout=line,
            stderr=subprocess.DEVNULL,
        )

        def end() -> None:
            process.wait()
            os.close(line)

        watcher = threading.Thread(target=end)
        watcher.start()
        try:
            yield os.ttyname(far)
        finally:
            process.kill()
            watcher.join()
            os.close(far)

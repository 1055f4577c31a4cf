# SPDX-License-Identifier: Apache-2.0
"""A board for the tests: MicroPython's unix port as an RP2, its console a terminal that host tools open.

Its file system is littlefs on an emulated flash, in which the last blocks are the journal's."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chipcash_board.flash import BANK, BLOCK
from chipcash_sim import runtime

_PICO = Path(__file__).parent / "pico"
_HEAP = ("-X", "heapsize=208k")
"""A board's 192 kB, and what boot.py and rp2.py take, which are native there: 13 kB."""
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
        self._count.write_text("0")
        done = subprocess.run(
            [self._micropython, *_HEAP, str(_PICO / "boot.py")],
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
        return int(self._count.read_text())

    @contextmanager
    def on(self, **more: int) -> Iterator[str]:
        """The board with power; the path to its line. more: cut, worn, see pico/rp2.py.

        It starts again after a reset. When power is cut the line goes, as USB does."""
        self._count.write_text("0")
        line, far = os.openpty()
        tty.setraw(far)
        off = threading.Event()

        def run() -> None:
            ended = 0
            while ended != -signal.SIGKILL and not off.is_set():
                ended = self._run(line, off, self._environment(**more))
            os.close(line)

        board = threading.Thread(target=run)
        board.start()
        try:
            yield os.ttyname(far)
        finally:
            off.set()
            board.join()
            os.close(far)

    def _run(self, line: int, off: threading.Event, environment: dict[str, str]) -> int:
        """From power on or a reset to the next, or until off is set; how MicroPython ended."""
        console, inside = os.openpty()
        tty.setraw(inside)
        process = subprocess.Popen(
            [self._micropython, *_HEAP, "-i", str(_PICO / "boot.py")],
            env={**environment, "CHIPCASH_CONSOLE": "1"},
            stdin=inside,
            stdout=inside,
            stderr=subprocess.DEVNULL,
        )
        booted = False
        while process.poll() is None and not off.is_set():
            ends = [line, console] if booted else [console]
            for ready in select.select(ends, [], [], 0.02)[0]:
                data = os.read(ready, 4096)
                if not booted:
                    booted = True
                    continue
                if ready == console:
                    # What nobody reads is lost, as on USB.
                    if select.select([], [line], [], 1)[1]:
                        os.write(line, data)
                elif b"\x03" in data and _takes_interrupts(process.pid):
                    process.send_signal(signal.SIGINT)
                    os.write(console, data.rpartition(b"\x03")[2])
                else:
                    os.write(console, data)
        process.kill()
        os.close(console)
        os.close(inside)
        return process.wait()


def _takes_interrupts(process: int) -> bool:
    """Whether MicroPython runs a program that Ctrl-C interrupts (micropython.kbd_intr()), once it waits for
    something: a signal on its way from the program to the prompt would come up anywhere later."""
    status = Path(f"/proc/{process}/status")
    for _ in range(1000):
        if "State:\tS" in (text := status.read_text()):
            break
        time.sleep(0.002)
    caught = re.search(r"SigCgt:\s*(\w+)", text)
    return caught is not None and bool(int(caught[1], 16) >> signal.SIGINT - 1 & 1)

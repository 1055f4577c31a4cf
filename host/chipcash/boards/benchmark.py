# SPDX-License-Identifier: Apache-2.0
"""What a board can do, and how quickly, beside what was expected of it.

What is measured stands in chipcash_board.measure, once. on_board() sends that to a board, which runs it in
its memory with the firmware that is installed there; measure() runs it here, under MicroPython's unix port.
The board's card is not asked and not changed: the payment is one of a card that is made here, in memory, and
the journal's times are those of a journal of its own, in blocks of the flash in which nothing is kept
(chipcash_board.flash.scratch_flash)."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from chipcash.boards import board_named
from chipcash.boards.flashing import FlashError, Installed, Prompt
from chipcash.boards.model import Board
from chipcash_board import measure as program
from chipcash_sim import runtime

SUITES = ("gm", "p256")
PAGE_MS = 0.7
"""To program a page of NOR flash, typical; 3 ms at most."""
ERASE_MS = 45.0
"""To erase a block of it, typical."""

_ROUNDS = 3
_TOGETHER = 2  # coupons that are timed as one: each takes a board tenths of a second to make
_SILENCE_S = 60.0  # the longest step, on a board ten times slower than expected
_SM3_BLOCKS = {"a claim": 5, "1 kB": 17}


@dataclass(frozen=True)
class Processor:
    """What compiler and report must know of a board's processor.

    arch: as mpy-cross calls it. sign_s: seconds of a signature without a coupon; an estimate, within 30 %,
    from instructions counted on emulated Cortex-M0 and M3. core: whose counts give the rest of what is
    expected."""

    arch: str
    sign_s: float
    core: str = "M3"


PROCESSORS = {
    "picow": Processor("armv6m", 0.5, "M0"),
    "pico2w": Processor("armv7emsp", 0.3),
    "esp32s3": Processor("xtensawin", 0.25),
}
"""By the board's name: RP2040 at 133 MHz, RP2350 at 150 MHz, ESP32-S3 at 240 MHz. Of an Xtensa nothing was
counted: the M3 stands in for it."""

_MILLIONS = {
    "M0": {
        "sign.p256": 46.5,
        "sign.gm": 42.7,
        "verify.p256": 115.0,
        "verify.gm": 113.0,
        "sm3": 0.07,
        "coupon.gm": 0.05,
    },
    "M3": {
        "sign.p256": 29.8,
        "sign.gm": 26.6,
        "verify.p256": 72.0,
        "verify.gm": 71.0,
        "sm3": 0.06,
        "coupon.gm": 0.05,
    },
}
"""Instructions, in millions, counted under QEMU: signature without coupon, verification with an unknown key,
a block of SM3 in native code, an SM2 signature with coupon and without its hash. sign.p256 is what
Processor.sign_s is for. Of an ECDSA signature with coupon, and of SHA-256, nothing was counted."""


_TITLES = {
    "sign": "signature",
    "coupon": "signature with coupon",
    "verify": "verification",
    "hash.gm": "SM3 of 1 kB",
    "hash.p256": "SHA-256 of 1 kB",
    "journal.commit": f"journal: commit of {program.RECORD} bytes",
    "journal.erase": "journal: erase of a block",
    "pay": "SELECT and PAY in RAM",
    "heap": "heap",
    "heap.free": "heap free, firmware loaded",
}


@dataclass(frozen=True)
class Figure:
    """One thing measured. unit: ms or kB; expected: in the same, None where nothing was."""

    name: str
    value: float
    unit: str
    expected: float | None

    @property
    def title(self) -> str:
        """What was measured, for people."""
        kind, _, suite = self.name.partition(".")
        title = _TITLES.get(self.name) or _TITLES[kind]
        return f"{title}, {suite}" if kind in _TITLES and suite in SUITES else title

    @property
    def ratio(self) -> float | None:
        """How often what was expected the board takes."""
        return self.value / self.expected if self.expected else None


@dataclass(frozen=True)
class Result:
    """What a board did. passed: of each check of the self-test; word_bits: of its integers; mhz: its clock,
    None where its MicroPython does not tell."""

    passed: dict[str, bool]
    word_bits: int
    mhz: int | None
    figures: list[Figure]


def payment(suite: str, folder: Path) -> tuple[Path, bytes]:
    """A card of a network of its own, with money: its image in folder, and a PAY command for it."""
    from chipcash.sandbox import Sandbox
    from chipcash_wire import card_objects as o
    from chipcash_wire import commands as c

    image = folder / f"{suite}.img"
    with Sandbox(folder / suite, suite) as sandbox:
        certificate = sandbox.new_card(image, 10_000)
    request = o.PayRequest(
        header=certificate.header,
        amount=100,
        payee=certificate.subject,
        nonce=bytes(16),
        time=int(time.time()),
    )
    return image, c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536)


def measure(suite: str) -> dict[str, int]:
    """What a payment from one title costs under MicroPython's unix port, see measure.py. suite: gm, p256.

    Raises RuntimeMissing without that."""
    with tempfile.TemporaryDirectory() as scratch:
        image, command = payment(suite, Path(scratch))
        return _measured(image, command)


def _measured(image: Path, command: bytes) -> dict[str, int]:
    argv, environment = runtime.micropython_command(
        "chipcash_board.measure", [str(image), command.hex()], heap="1m"
    )
    done = subprocess.run(argv, env=environment, capture_output=True, check=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def expected(board: Board, pages: float, measured: dict[str, dict[str, int]]) -> dict[str, float]:
    """What each figure of a board should be, by name; those of which nothing is known are left out.

    pages: of flash that a commit programs; measured: of each suite, see measure(). A board is taken to
    interpret slower than the unix port by as much as it signs slower."""
    processor = PROCESSORS[board.id]
    millions = _MILLIONS[processor.core]
    ms = processor.sign_s * 1000 / millions["sign.p256"]
    found = {
        name: count * ms for name, count in millions.items() if name.startswith(("sign", "verify"))
    }
    sm3 = {what: blocks * millions["sm3"] * ms for what, blocks in _SM3_BLOCKS.items()}
    found["hash.gm"] = sm3["1 kB"]
    found["coupon.gm"] = millions["coupon.gm"] * ms + sm3["a claim"]
    found["journal.commit"] = pages * PAGE_MS
    found["journal.erase"] = ERASE_MS
    found["heap"] = board.heap_kb
    for suite, each in measured.items():
        slower = processor.sign_s * 1000 / each["sign"]
        found[f"pay.{suite}"] = (each["select"] + each["pay"]) * slower
    return found


def on_board(prompt: Prompt, installed: Installed, told: Callable[[str], None]) -> Result:
    """Have a board run all of it. told: called with what is measured next. Raises FlashError, also where the
    board's firmware is not whole."""
    if not installed.complete:
        raise FlashError(
            f"The board at {prompt.port} has no whole firmware that could be measured.",
            hint="Flash it: chipcash board flash. What is there says: chipcash board info",
            port=prompt.port,
        )

    board = board_named(installed.manifest["board"])

    def ask(what: str, expression: str) -> Any:
        told(what)
        return json.loads(prompt.run(f"gc.collect()\nprint(json.dumps({expression}))", _SILENCE_S))

    told("the firmware's modules")
    prompt.run(_PRELUDE.format(build=installed.build), _SILENCE_S)
    heap, free = ask("heap", "[gc.mem_free() + gc.mem_alloc(), gc.mem_free()]")
    for definition in _definitions(inspect.getsource(program)):
        prompt.run(definition, _SILENCE_S)
    passed = ask("self-test", "self_test(machine.unique_id())")
    values = {}
    for suite in SUITES:
        values[f"hash.{suite}"] = median(ask(f"hash, {suite}", f"hashing({suite!r}, {_ROUNDS})"))
    for suite in SUITES:
        times = ask(f"signatures, {suite}", f"signing({suite!r}, {_ROUNDS}, {_TOGETHER})")
        values |= {f"{what}.{suite}": median(each) for what, each in times.items()}
    journal = ask("journal", "journal(scratch_flash(sys.platform))")
    values["journal.commit"] = median(journal["commit"])
    values["journal.erase"] = median(journal["erase"])
    here = {}
    with tempfile.TemporaryDirectory() as scratch:
        for suite in SUITES:
            told(f"a card for the payment, {suite}")
            image, command = payment(suite, Path(scratch))
            whole = image.read_bytes()
            written = b64encode(whole.rstrip(b"\xff"))
            card = f"BytesIO(a2b_base64({written!r}))"
            prompt.run(f"card = {card}\ncommand = unhexlify({command.hex()!r})", _SILENCE_S)
            paid = ask(f"payment, {suite}", f"payment(card, {len(whole) // 2}, command, {_ROUNDS})")
            values[f"pay.{suite}"] = paid["select"] + paid["pay"]
            try:
                here[suite] = _measured(image, command)
            except runtime.RuntimeMissing:
                pass  # then nothing is expected of it
    wanted = expected(board, median(journal["pages"]), here)
    figures = [Figure(name, us / 1000, "ms", wanted.get(name)) for name, us in values.items()]
    figures += [
        Figure("heap", heap / 1024, "kB", wanted["heap"]),
        Figure("heap.free", free / 1024, "kB", None),
    ]
    bits, mhz = ask("clock", "[word_bits(), clock() // 1000000]")
    return Result(passed, bits, mhz or None, figures)


def _definitions(source: str) -> Iterator[str]:
    """A module's statements one by one: a board's heap has no room to compile all of them at once."""
    for node in ast.parse(source).body:
        text = ast.get_source_segment(source, node)
        assert text is not None
        yield text


_PRELUDE = """
__name__ = "measure"
import gc, json, machine, sys
from binascii import a2b_base64, unhexlify
from io import BytesIO
if "/chipcash-{build}" not in sys.path:
    sys.path.insert(0, "/chipcash-{build}")
from chipcash_wire.compat import keep_heap_whole
keep_heap_whole()
import chipcash_board.start
from chipcash_board.flash import scratch_flash
from chipcash_card import applet, busy
busy.attend(None)
def clock():
    found = machine.freq() if hasattr(machine, "freq") else 0
    return found if isinstance(found, int) else found[0]
"""
"""What the board has before it is sent what is measured. A card's loop that was stopped still has itself
called during long work, until somebody else attends."""

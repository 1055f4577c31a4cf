# SPDX-License-Identifier: Apache-2.0
"""Traces: what passed between a terminal and a card, on any link, in a text that people can read and keep.

    chipcash trace 1
    path serial:/dev/ttyACM0
    >     0.412 00a404000af04348495043415348010000
    <     1.733 6f0b8006544553540102 9f200103 9000

`path` begins a session with a card. `>` is a command APDU, with the milliseconds since what came before it,
`<` the answer, with the milliseconds that it took; `!` stands for an answer that did not come. Blanks
within the bytes mean nothing. A PIN or PUK is never in a trace: its command ends with how many bytes were
left out."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chipcash.errors import ChipcashError, LinkLostError
from chipcash.transports.base import BaseConnection, Connection, printable
from chipcash_wire import commands as c
from chipcash_wire.status import NAMES, status

__all__ = ["Difference", "Recorder", "Step", "TraceError", "describe", "read", "replay"]

_FIRST = "chipcash trace 1"
_LINE = re.compile(r"([><!]) +([0-9.]+) *([0-9a-fA-F ]*)(\[[0-9]+ bytes not logged\])?$")


class TraceError(ChipcashError):
    """The file is no trace, or what is in it cannot be replayed."""


@dataclass(frozen=True)
class Step:
    """One command and its answer.

    path: of the session's card. command: the APDU, only its header where secret. answer: with its status
    word, None if none came. pause_ms: from the step before it; spent_ms: from command to answer."""

    path: str
    command: bytes
    secret: bool
    answer: bytes | None
    pause_ms: float
    spent_ms: float


class Recorder(BaseConnection):
    """A connection that also writes what passes to the end of a file. Raises OSError if it cannot be
    opened."""

    def __init__(self, inner: Connection, file: Path) -> None:
        super().__init__(inner.path, over_air=inner.over_air)
        self._inner = inner
        self._file = file.open("a", encoding="ascii", errors="backslashreplace")
        self._last = time.perf_counter()
        if not self._file.tell():
            self._write(_FIRST)
        self._write(f"path {inner.path}")

    def _transceive(self, apdu: bytes) -> bytes:
        start = time.perf_counter()
        self._write(f"> {(start - self._last) * 1000:9.3f} {printable(apdu)}")
        try:
            answer = self._inner.transceive(apdu)
        except LinkLostError:
            self._write(f"! {(time.perf_counter() - start) * 1000:9.3f}")
            raise
        finally:
            self._last = time.perf_counter()
        self._write(f"< {(self._last - start) * 1000:9.3f} {answer.hex()}")
        return answer

    def _write(self, line: str) -> None:
        if self._file.closed:
            return
        try:
            print(line, file=self._file, flush=True)  # at once: read after things went wrong
        except OSError as error:
            # A full disk must not cost the answer to a payment: the trace ends here, and nothing else.
            self._log.warning("the trace ends: %s", error)
            with contextlib.suppress(OSError):
                self._file.close()

    def close(self) -> None:
        """Close the connection and the file. May be repeated."""
        self._inner.close()
        with contextlib.suppress(OSError):
            self._file.close()


def read(file: Path) -> list[Step]:
    """The steps of a trace. Raises TraceError, OSError."""
    try:
        lines = file.read_text("ascii").splitlines()
    except UnicodeDecodeError:
        lines = []
    if not lines or lines[0] != _FIRST:
        raise TraceError(f"{file} is no trace: it does not begin with “{_FIRST}”.")
    steps: list[Step] = []
    path = ""
    pending: tuple[bytes, bool, float] | None = None
    for number, line in enumerate(lines[1:], 2):
        if line.startswith("path "):
            path, pending = line[5:], None
            continue
        found = _LINE.match(line)
        try:
            if found is None or (found[1] == ">") != (pending is None):
                raise ValueError
            data = bytes.fromhex(found[3])
            spent = float(found[2])
        except ValueError:
            raise TraceError(f"{file}, line {number}: not a line of a trace.") from None
        if found[1] == ">":
            pending = data, found[4] is not None, spent
        elif pending is not None:
            answer = data if found[1] == "<" else None
            steps.append(Step(path, pending[0], pending[1], answer, pending[2], spent))
            pending = None
    return steps


def describe(steps: Iterable[Step]) -> Iterator[str]:
    """Lines for people: names of commands and status words, sizes, times."""
    path = None
    for step in steps:
        if step.path != path:
            path = step.path
            yield path
        said = f"{len(step.command):5} bytes" if not step.secret else "     secret"
        if step.answer is None:
            came = "no answer"
        else:
            sw = int.from_bytes(step.answer[-2:], "big")
            came = f"{sw:04X} {status(sw)[0]}, {len(step.answer) - 2} bytes"
        yield f"  {_name(step.command):30}{said}  {step.spent_ms:9.3f} ms  {came}"


def _name(apdu: bytes) -> str:
    name = NAMES.get(apdu[1], f"INS {apdu[1]:02X}")
    if apdu[1] in (c.INS_GET_DATA, c.INS_GENERATE_KEY_PAIR):
        name += f" {apdu[2]:02X} {apdu[3]:02X}"
    return name + (" (chained)" if apdu[0] & c.CLA_CHAINED else "")


@dataclass(frozen=True)
class Difference:
    """A step that a card answered otherwise than in the trace: which, from 1, and both answers."""

    number: int
    step: Step
    answer: bytes


def replay(
    steps: Iterable[Step], connection: Connection, pin: str | None = None
) -> list[Difference]:
    """Send a trace's commands to a card again; where it answers with another status word or another length.

    Bytes differ even on the same card, whose signatures and challenges are fresh. Of the commands whose
    secret the trace left out, VERIFY is sent with the pin, if there is one, and no other. Raises
    LinkLostError."""
    found = []
    for number, step in enumerate(steps, 1):
        command = step.command
        if step.secret:
            if command[1] != c.INS_VERIFY or pin is None:
                continue
            command = c.command(c.INS_VERIFY, command[2], command[3], pin.encode("ascii"), le=0)
        answer = connection.transceive(command)
        if step.answer is not None and (
            answer[-2:] != step.answer[-2:] or len(answer) != len(step.answer)
        ):
            found.append(Difference(number, step, answer))
    return found

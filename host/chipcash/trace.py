# SPDX-License-Identifier: Apache-2.0
"""Traces: what passed between a terminal and a card, on any link, in a text that people can read and keep.

    chipcash trace 1
    path serial:/dev/ttyACM0
    >     0.412 00a404000af04348495043415348010000
    <     1.733 6f0b8006544553540102 9f200103 9000

`path` begins a session with a card. `>` is a command APDU, with the milliseconds since what came before it,
`<` the answer, with the milliseconds that it took; `!` stands for an answer that did not come. Blanks
within the bytes mean nothing. A PIN or PUK is never in a trace: its command ends with how many bytes were
left out. Emulated cards write such traces, too, of whatever reaches them by any link: `path` then names the
card's link, and a command without an answer cost it its power."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chipcash.errors import ChipcashError
from chipcash.transports.base import BaseConnection, Connection
from chipcash_wire import commands as c
from chipcash_wire.status import NAMES, status
from chipcash_wire.trace import FIRST, Writer

__all__ = ["Difference", "Recorder", "Step", "TraceError", "describe", "read", "replay"]

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

    @property
    def name(self) -> str:
        """The command's name, such as `GET DATA 01 00`."""
        if len(self.command) < 4:
            return "no command"
        name = NAMES.get(self.command[1], f"INS {self.command[1]:02X}")
        if self.command[1] in (c.INS_GET_DATA, c.INS_GENERATE_KEY_PAIR):
            name += f" {self.command[2]:02X} {self.command[3]:02X}"
        return name + (" (chained)" if self.command[0] & c.CLA_CHAINED else "")

    @property
    def outcome(self) -> str:
        """The status word and its name, such as `9000 ok`."""
        if self.answer is None:
            return "no answer"
        sw = int.from_bytes(self.answer[-2:], "big")
        return f"{sw:04X} {status(sw)[0]}"

    def as_dict(self) -> dict[str, object]:
        """The step, ready for JSON: bytes in hex, times in ms."""
        return {
            "path": self.path,
            "name": self.name,
            "command": self.command.hex(),
            "secret": self.secret,
            "answer": self.answer.hex() if self.answer is not None else None,
            "outcome": self.outcome,
            "pause_ms": self.pause_ms,
            "spent_ms": self.spent_ms,
        }


class Recorder(BaseConnection):
    """A connection that also writes what passes to the end of a file. Raises OSError if it cannot be
    opened."""

    def __init__(self, inner: Connection, file: Path) -> None:
        super().__init__(inner.path, over_air=inner.over_air)
        self._inner = inner
        self._writer = Writer(str(file))
        self._told = False
        self._writer.session(inner.path.encode("ascii", "backslashreplace").decode())

    def _transceive(self, apdu: bytes) -> bytes:
        self._writer.command(apdu)
        answer = None
        try:
            answer = self._inner.transceive(apdu)
        finally:
            self._writer.answer(answer)
            if self._writer.error is not None and not self._told:
                # A full disk must not cost the answer to a payment: the trace ends, and nothing else.
                self._log.warning("the trace ends: %s", self._writer.error)
                self._told = True
        return answer

    def close(self) -> None:
        """Close the connection and the file. May be repeated."""
        self._inner.close()
        self._writer.close()


def read(file: Path) -> list[Step]:
    """The steps of a trace, which may still be written: a last line without its end does not count. Raises
    TraceError, OSError."""
    try:
        text = file.read_text("ascii")
        if not text:
            return []  # the card has yet to begin
        lines = text.split("\n")[:-1]
    except UnicodeDecodeError:
        lines = []
    if not lines or lines[0] != FIRST:
        raise TraceError(f"{file} is no trace: it does not begin with “{FIRST}”.")
    steps: list[Step] = []
    path = ""
    pending: tuple[bytes, bool, float] | None = None
    for number, line in enumerate(lines[1:], 2):
        if line.startswith("path "):
            if pending is not None:  # who wrote it did not live to see the answer
                steps.append(Step(path, pending[0], pending[1], None, pending[2], 0.0))
            path, pending = line[5:], None
            continue
        found = _LINE.match(line)
        try:
            if found is None or (found[1] == ">") != (pending is None):
                raise ValueError
            data = bytes.fromhex(found[3])
            spent = float(found[2])
            if found[4] is not None and len(data) != 4:
                raise ValueError
        except ValueError:
            raise TraceError(f"{file}, line {number}: not a line of a trace.") from None
        if found[1] == ">":
            pending = data, found[4] is not None, spent
        elif pending is not None:
            answer = data if found[1] == "<" else None
            steps.append(Step(path, pending[0], pending[1], answer, pending[2], spent))
            pending = None
    if pending is not None:
        steps.append(Step(path, pending[0], pending[1], None, pending[2], 0.0))
    return steps


def describe(steps: Iterable[Step]) -> Iterator[str]:
    """Lines for people: names of commands and status words, sizes, times."""
    path = None
    for step in steps:
        if step.path != path:
            path = step.path
            yield path
        said = f"{len(step.command):5} bytes" if not step.secret else "     secret"
        came = f", {len(step.answer) - 2} bytes" if step.answer is not None else ""
        yield f"  {step.name:30}{said}  {step.spent_ms:9.3f} ms  {step.outcome}{came}"


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
        if len(command) < 4:  # no transport would send it
            continue
        answer = connection.transceive(command)
        if step.answer is not None and (
            answer[-2:] != step.answer[-2:] or len(answer) != len(step.answer)
        ):
            found.append(Difference(number, step, answer))
    return found

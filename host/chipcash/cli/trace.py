# SPDX-License-Identifier: Apache-2.0
"""`chipcash trace`: record what passes between a command and a card, read it, send it to a card again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from chipcash.cli.base import (
    EXIT_FAILED,
    TRACE_VARIABLE,
    Group,
    Report,
    ask_pin,
    card_path,
    connection_at,
    pin_option,
    wait_option,
)
from chipcash.trace import TraceError, describe, read, replay
from chipcash_wire.status import status

_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group("trace", cls=Group)
def command() -> None:
    """Traces of commands and answers, with names and times, on any link."""


@command.command("record", context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND")
def record(file: Path, words: tuple[str, ...]) -> Report:
    """Run a chipcash command and write to FILE what passes between it and its card.

    Example: chipcash trace record tap.txt -- card info sim:a.img
    """
    if file.exists():
        raise TraceError(
            f"{file} exists already; nothing was done.", hint="Choose another name, or remove it."
        )
    as_json = click.get_current_context().meta["json"]
    done = subprocess.run(
        [sys.executable, "-m", "chipcash", *words],
        env={**os.environ, TRACE_VARIABLE: str(file)},
        stdout=sys.stderr if as_json else None,
        check=False,
    )
    steps = len(read(file)) if file.exists() else 0
    data = {"file": str(file), "commands": steps, "exit_code": done.returncode}
    return Report(data, [f"{file}: {steps} commands"], exit_code=done.returncode)


@command.command("show")
@_file
def show(file: Path) -> Report:
    """Read a trace: commands and status words by name, sizes and times."""
    steps = read(file)
    return Report({"steps": [step.as_dict() for step in steps]}, list(describe(steps)))


@command.command("replay")
@_file
@card_path
@pin_option
@wait_option
def again(file: Path, path: str, with_pin: bool, wait: float) -> Report:
    """Send the commands of a trace to a card; say where it answers otherwise than in the trace.

    A payment among them is made again: use an emulated card. Signatures and challenges are fresh each time,
    so status words and lengths are compared. PINs are not in a trace: with --pin the VERIFY commands are
    sent with this card's."""
    steps = read(file)
    pin = ask_pin() if with_pin else None
    with connection_at(path, wait) as connection:
        differences = replay(steps, connection, pin)
    lines = []
    for each in differences:
        sw = int.from_bytes(each.answer[-2:], "big")
        was = each.step.answer or b""
        lines.append(
            f"command {each.number} ({each.step.command[:4].hex()}): {sw:04X} {status(sw)[0]} with "
            f"{len(each.answer) - 2} bytes; it was {was[-2:].hex().upper()} with {len(was) - 2}"
        )
    lines.append(f"{len(steps)} commands, {len(differences)} answered otherwise")
    data = {
        "commands": len(steps),
        "differences": [
            {"number": each.number, "command": each.step.command.hex(), "answer": each.answer.hex()}
            for each in differences
        ],
    }
    return Report(data, lines, exit_code=EXIT_FAILED if differences else 0)

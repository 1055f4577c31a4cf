# SPDX-License-Identifier: Apache-2.0
"""What all commands share: `--json`, one way to print, one place where failures become text and exit code.

A command returns a Report; nothing below prints. Prompts and progress go to stderr, so that output
can be piped.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from chipcash.errors import ChipcashError
from chipcash.transports import TRAFFIC
from chipcash_wire.tlv import WireError


@dataclass
class Report:
    """What a command found: data for `--json`, lines for people.

    exit_code: for answers that are themselves a "no", such as a doctor that found something.
    """

    data: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    exit_code: int = 0


class Command(click.Command):
    """A click command with `--json`, which prints its Report, or its failure, as one JSON object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and print what it returns."""
        as_json = ctx.params.pop("as_json")
        ctx.meta["json"] = as_json
        try:
            report: Report = super().invoke(ctx)
        except ChipcashError as error:
            if as_json:
                click.echo(json.dumps(error.as_dict(), ensure_ascii=False))
            else:
                _complain(error.message, error.hint)
            ctx.exit(error.exit_code)
        except (WireError, OSError) as error:
            message = _plain(error)
            if as_json:
                click.echo(
                    json.dumps({"error": type(error).__name__, "message": message, "exit_code": 1})
                )
            else:
                _complain(message, "")
            ctx.exit(1)
        if as_json:
            click.echo(json.dumps(report.data, ensure_ascii=False))
        else:
            for line in report.lines:
                click.echo(line)
        ctx.exit(report.exit_code)


class Group(click.Group):
    """A group whose commands are Commands."""

    command_class = Command
    group_class = type


def _plain(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, WireError):
        return f"These bytes are no chipcash object of the kind expected: {error}. Nothing was changed."
    return str(error)


def _complain(message: str, hint: str) -> None:
    click.echo(f"Error: {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)


def start_logging(verbosity: int) -> None:
    """-v: information, -vv: debugging, -vvv: the bytes on the link. To stderr; never secrets."""
    level = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}.get(verbosity, TRAFFIC)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s")
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner with the elapsed time on stderr while something takes long; silent where it is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(text)
        yield


class Yuan(click.ParamType[int]):
    """An amount of money as people write it, `36.80` or `12`, taken as whole fen."""

    name = "yuan"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fen. Fails on more than two decimals, signs, and zero."""
        if isinstance(value, int):
            return value
        whole, point, part = str(value).partition(".")
        digits = whole + part.ljust(2, "0")
        if not digits.isascii() or not digits.isdigit() or len(part) > 2 or (point and not part):
            self.fail(f"{value!r} is no amount; write yuan like 36.80", param, ctx)
        fen = int(digits)
        if not 0 < fen < 1 << 63:
            self.fail("the amount must be above zero and fit 63 bits of fen", param, ctx)
        return fen


YUAN = Yuan()


def yuan(fen: int) -> str:
    """Fen as people read them: 3680 is 36.80."""
    return f"{fen // 100}.{fen % 100:02d}"


def ask_pin(prompt: str = "PIN") -> bytes:
    """A PIN from the terminal, unseen, or from CHIPCASH_PIN for scripts; ASCII digits."""
    import os

    text = os.environ.get("CHIPCASH_PIN") if prompt == "PIN" else None
    if text is None:
        text = click.prompt(prompt, hide_input=True, err=True, type=str)
    if not text.isascii() or not text.isdigit():
        raise click.UsageError("A PIN or PUK has digits only.")
    return text.encode()

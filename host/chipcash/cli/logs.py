# SPDX-License-Identifier: Apache-2.0
"""What the commands about the log share: keys of logs and witnesses, and which log to read, as options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from chipcash.log.cosigning import Witness, parse_witness
from chipcash.log.errors import LogError
from chipcash.log.note import COSIGNATURE, SIGNATURE, Key
from chipcash.log.reader import LogReader, source_at

__all__ = [
    "LOG_KEY",
    "WITNESS",
    "WITNESS_KEY",
    "log_options",
    "reader_of",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class KeyString(click.ParamType):  # type: ignore[type-arg]
    """The key string of a log or a witness, or a file that holds it."""

    name = "key"

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Key:
        """The key."""
        if isinstance(value, Key):
            return value
        text = str(value)
        try:
            if "+" not in text:
                text = Path(text).read_text("utf-8")
            return Key.parse(text, self.kind)
        except LogError as error:
            self.fail(error.message, param, ctx)
        except (OSError, ValueError):
            self.fail(f"{text!r} is no key string, and no file that holds one", param, ctx)


class WitnessAt(click.ParamType):  # type: ignore[type-arg]
    """A witness, as KEY@URL."""

    name = "witness"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Witness:
        """The witness."""
        if isinstance(value, Witness):
            return value
        try:
            return parse_witness(str(value))
        except LogError as error:
            self.fail(f"{error.message} {error.hint}", param, ctx)


WITNESS = WitnessAt()
LOG_KEY = KeyString(SIGNATURE)
WITNESS_KEY = KeyString(COSIGNATURE)

_READ = (
    click.argument("location", metavar="LOG"),
    click.option(
        "--log",
        "log",
        type=LOG_KEY,
        required=True,
        metavar="KEY",
        help="The log's key string, or a file that holds it.",
    ),
    click.option("--entries", metavar="LOG", help="Where the entries are, if not there too."),
    click.option(
        "--witness",
        "witnesses",
        type=WITNESS_KEY,
        multiple=True,
        metavar="KEY",
        help="Key string of a witness, or a file that holds it; may come several times.",
    ),
    click.option(
        "--quorum",
        type=click.IntRange(0),
        help="Cosignatures that the checkpoint needs; more than half of the witnesses if not given.",
    ),
)


def log_options(function: _Function) -> _Function:
    """The argument and the options that say which log to read, whose, and who has to have cosigned it: what
    reader_of() takes."""
    for option in reversed(_READ):
        function = option(function)
    return function


def reader_of(
    location: str, log: Key, entries: str | None, witnesses: tuple[Key, ...], quorum: int | None
) -> LogReader:
    """The log that the options name. Raises LogError."""
    if quorum is None:
        quorum = len(witnesses) // 2 + 1 if witnesses else 0
    return LogReader(
        log, source_at(location), source_at(entries) if entries else None, witnesses, quorum
    )

# SPDX-License-Identifier: Apache-2.0
"""How the till's page writes what the till tells: amounts, times, and errors in the reader's language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

from chipcash.people.words import Words
from chipcash.pos.till import Sale, Warn
from chipcash.terminal.refusals import TO_PAYER
from chipcash.terminal.words import CHINESE, explain

__all__ = ["FILTERS", "WARNINGS", "fen", "to_payer", "told"]

_MAX_FEN = 1 << 63

WARNINGS: dict[Warn, str] = {
    Warn.OVERDUE: "Money is past its deadline: synchronise now, or it goes back to the payers.",
    Warn.DEADLINE: "Money has to be deposited within a day: synchronise soon.",
    Warn.STALE: "The blacklist is too old to take payments: synchronise.",
    Warn.DISK: "The disk is nearly full: nothing is charged before there is room.",
    Warn.CLOCK: "This machine's clock is wrong; the center's time is used. Have it set.",
    Warn.READERS: "No reader can be used: see that they are plugged in.",
    Warn.EXPOSURE: "What is pending nears the most that this till may take offline: synchronise soon.",
    Warn.MIRROR: "The mirror of the books cannot be written: no money is taken before it can.",
    Warn.LIMIT: "What is pending has reached the most that this till may take offline: synchronise now.",
}
"""What each warning says, in English."""


def fen(text: str) -> int | None:
    """Whole fen of an amount as people type it, `36.80` or `12`; None if it is none or zero."""
    found = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,2}))?|\.([0-9]{1,2})", text.strip(), re.ASCII)
    if found is None:
        return None
    whole, part = found[1] or "0", (found[2] or found[3] or "").ljust(2, "0")
    value = int(whole + part)
    return value if 0 < value < _MAX_FEN else None


def yuan(value: int) -> str:
    """Fen as people read them: 368000 is 3,680.00."""
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 100:,}.{abs(value) % 100:02d}"


def _local(seconds: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime(form)
    except (ValueError, OverflowError, OSError):  # objects hold times up to the year 36812
        return f"{seconds} s"


def moment(seconds: int) -> str:
    """A time as people at the till read it, in the machine's zone: 2026-11-28 14:03."""
    return _local(seconds, "%Y-%m-%d %H:%M")


def clock(seconds: int) -> str:
    """The same without its day."""
    return _local(seconds, "%H:%M")


def iso(seconds: int) -> str:
    """The same for programs (the attribute datetime)."""
    return _local(seconds, "%Y-%m-%dT%H:%M:%S%z")


def whole(number: int) -> str:
    """A count."""
    return f"{number:,}"


FILTERS: dict[str, Callable[..., str]] = {
    "yuan": yuan,
    "moment": moment,
    "clock": clock,
    "iso": iso,
    "whole": whole,
}
"""How templates write fen, times and other numbers."""


def told(words: Words, text: str) -> str:
    """What an error says, in the reader's language; as it is where nobody has translated it.

    Errors come as whole English sentences with their values in them. Those that a till meets are in
    `errors.json` with `%(name)s` where a value stands, which may be such a sentence again; refusals are in
    the words of chipcash.terminal.
    """
    if words.language == "en" or not text:
        return text
    if text in CHINESE:
        return CHINESE[text]
    for pattern, translated in _errors():
        found = pattern.fullmatch(text)
        if found is not None:
            return translated % {
                key: told(words, value) for key, value in found.groupdict().items()
            }
    return text


def to_payer(words: Words, sale: Sale) -> str:
    """Why a sale was refused, for who wanted to pay; "" where the cashier knows no more than he does."""
    if sale.reason not in TO_PAYER:
        return ""
    return explain(sale.reason, words.language, asked=sale.nonce is not None).payer


@cache
def _errors() -> tuple[tuple[re.Pattern[str], str], ...]:
    path = Path(__file__).with_name("errors.json")
    found = []
    for english, chinese in json.loads(path.read_text("utf-8")).items():
        pattern = re.sub(r"%\\\((\w+)\\\)s|%\((\w+)\)s", _group, re.escape(english))
        found.append((re.compile(pattern, re.S), chinese))
    return tuple(found)


def _group(found: re.Match[str]) -> str:
    return f"(?P<{found[1] or found[2]}>.+?)"

# SPDX-License-Identifier: Apache-2.0
"""A report as tables for people, in English or Chinese: what the screen, PDF and Excel show alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chipcash.pos.events import ACCOUNTS, Account, Event, What
from chipcash.pos.reports import Group, Kind, Line, Report

__all__ = ["LANGUAGES", "Table", "Words", "event_table", "moment", "money", "tables", "title"]

LANGUAGES = ("en", "zh")

_CHINESE: dict[str, str] = json.loads(Path(__file__).with_name("chinese.json").read_text("utf-8"))

Cell = str | int
"""Text, or an amount in fen or a count: what the table's column says."""


class Words:
    """One language: called with an English text it gives the text there."""

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def __call__(self, text: str) -> str:
        """The text in this language."""
        return _CHINESE[text] if self.language == "zh" else text


@dataclass(frozen=True)
class Table:
    """A table. columns: name and kind of each, kind one of text, count, fen; rows: their cells, to be read
    once where they are many."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: Iterable[tuple[Cell, ...]]


_LINES = {
    What.TAKEN: ("Taken", "paid by customers, Pending Repeat Payment Verification"),
    What.SUBMITTED: ("Submitted", "sent to the center, no answer yet at that moment"),
    What.VERIFIED: ("Verified", "settled by the center: money"),
    What.DISPUTED: ("Disputed", "the center did not settle it"),
    What.EXPIRED: ("Expired", "deposited after its deadline: it went back to the payer"),
    What.ORDERED: ("Ordered out", "claimed away, on its way to the center"),
    What.REFUNDED: ("Refunded", "back to the cards that had paid"),
    What.REDEEMED: ("Redeemed", "given back to the issuing library"),
    What.SPENT: ("Spent", "paid to other keys, such as the bank"),
    What.RETURNED: ("Not settled", "ordered out, and comes back"),
    What.CAME: ("Came otherwise", "verified money that is of no payment here"),
}
_ACCOUNTS = {
    Account.SALES: "Sales, all that was ever taken",
    Account.PENDING: "Pending",
    Account.SUBMITTED: "Submitted",
    Account.VERIFIED: "Verified, can be spent",
    Account.LEAVING: "On its way out",
    Account.DISPUTED: "Disputed",
    Account.EXPIRED: "Expired",
    Account.SPENT: "Spent",
    Account.REFUNDED: "Refunded",
    Account.REDEEMED: "Redeemed",
    Account.OTHERWISE: "Came otherwise",
}
_BY = {"operator": "By operator", "tier": "By card tier", "link": "By link", "till": "By till"}
_TITLES = {
    Kind.X: "X report",
    Kind.Z: "Z report",
    Kind.DAY: "Day report",
    Kind.CHAIN: "Report of several tills",
}
_GROUP_LINES = (What.TAKEN, What.VERIFIED, What.DISPUTED, What.EXPIRED, What.REFUNDED)


def title(report: Report, words: Words) -> list[str]:
    """A report's headline, and lines that say of what it is."""
    number = "" if report.number is None else f" {report.number}"
    lines = [
        words(_TITLES[report.kind]) + number,
        f"{moment(report.since)} – {moment(report.until)}",
    ]
    if report.kind in (Kind.X, Kind.Z):
        if report.number is None:
            lines.append(words("No shift is open."))
        else:
            opened = report.opened_by or words("somebody without a name")
            lines.append(f"{words('Opened by')}: {opened}")
        if report.kind == Kind.Z:
            closed = report.closed_by or words("somebody without a name")
            lines.append(f"{words('Closed by')}: {closed}")
    lines += [f"{words('Till')}: {key}" for key in report.till.split()]
    if report.differences:
        lines.append(
            words("THE BOOKS DO NOT BALANCE: stop using this till, and restore its books.")
        )
    return lines


def tables(report: Report, words: Words) -> list[Table]:
    """All tables of a report."""
    lines: list[tuple[Cell, ...]] = []
    for line in report.lines:
        name, meaning = _LINES[line.what]
        if line.count or line.what in _GROUP_LINES or line.what == What.REDEEMED:
            earlier = _earlier(line, words)
            lines.append((words(name), line.count, line.fen, words(meaning) + earlier))
    if report.fees_fen is None:
        fees = words("the bank's statement was not asked: see reconcile")
    else:
        fees = words("what the bank kept of what it credited")
    lines.append((words("Fees"), "", report.fees_fen or 0, fees))
    found = [
        Table(
            words("What happened"),
            (
                (words("line"), "text"),
                (words("count"), "count"),
                (words("yuan"), "fen"),
                (words("what it is"), "text"),
            ),
            tuple(lines),
        ),
        Table(
            words("Balances"),
            ((words("account"), "text"), (words("before"), "fen"), (words("after"), "fen")),
            tuple(
                (words(_ACCOUNTS[account]), report.opening[account], report.closing[account])
                for account in ACCOUNTS
                if account != Account.SALES and (report.opening[account] or report.closing[account])
            ),
        ),
    ]
    if report.states:
        found.append(
            Table(
                words("Payments by state"),
                ((words("state"), "text"), (words("count"), "count"), (words("yuan"), "fen")),
                tuple(
                    (words(str(state)), *total)
                    for state, total in report.states.items()
                    if total[0]
                ),
            )
        )
    for by, name in _BY.items():
        rows: list[tuple[Cell, ...]] = [
            (_value(group, words), *(_fen(group.lines, what) for what in _GROUP_LINES))
            for group in report.groups
            if group.by == by
        ]
        if rows:
            columns = ((words(_LINES[what][0]), "fen") for what in _GROUP_LINES)
            found.append(Table(words(name), ((words(by), "text"), *columns), tuple(rows)))
    return found


def event_table(happened: Iterable[tuple[str, Event]], words: Words) -> Table:
    """Events, each with its till's name, as a table: one line each."""
    columns = (
        ("till", "text"), ("time", "text"), ("event", "text"), ("id", "text"), ("amount", "fen"),
        ("settled", "fen"), ("disputed", "fen"), ("state", "text"), ("operator", "text"),
        ("tier", "text"), ("link", "text"), ("reason", "text"),
    )  # fmt: skip
    return Table(
        words("Events"),
        tuple((words(name), kind) for name, kind in columns),
        (
            (
                till,
                moment(event.time),
                str(event.what),
                event.ident.hex(),
                event.amount,
                *_became(event),
                "" if event.state is None else str(event.state),
                event.operator,
                "" if event.tier is None else str(event.tier),
                event.link,
                event.reason if event.what in (What.DISPUTED, What.EXPIRED) else "",
            )
            for till, event in happened
        ),
    )


def money(fen: int) -> str:
    """Fen as people read them, below zero too: -50 is -0.50."""
    return f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def moment(time: int) -> str:
    """A time as people read it, in this machine's time zone."""
    return datetime.fromtimestamp(time).astimezone().isoformat(" ", "seconds")


def _earlier(line: Line, words: Words) -> str:
    if not line.earlier:
        return ""
    return f"; {words('of it from before')}: {line.earlier}, {money(line.earlier_fen)}"


def _value(group: Group, words: Words) -> str:
    """Of a till's key its beginning, of anything else all: two names may begin alike."""
    return group.value[: 16 if group.by == "till" else None] or words("none")


def _fen(lines: Iterable[Line], what: What) -> int:
    return next((line.fen for line in lines if line.what == what), 0)


def _became(event: Event) -> tuple[int, int]:
    """Fen settled and disputed, once that is known."""
    if event.what in (What.TAKEN, What.SUBMITTED, What.ORDERED, What.CONSUMED):
        return (0, 0)
    return (event.settled_fen, event.disputed_fen)

# SPDX-License-Identifier: Apache-2.0
"""Shift and day reports of a till: X, a look; Z, which closes a shift and is never changed; a day's.

A report is a pure function of events: opening, what happened, closing, by account, in fen. The period of a
shift's is a stretch of the books, and not of a clock that may be turned back: a Z begins where the one before
it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from chipcash.pos.errors import PosError
from chipcash.pos.events import ACCOUNTS, Account, Event, Marks, What, position, states
from chipcash.pos.model import PaymentState

__all__ = [
    "Group",
    "Kind",
    "Line",
    "Report",
    "chain",
    "day_report",
    "shift_report",
    "with_fees",
]

VERSION = 1
"""Of a report's JSON."""


class Kind(StrEnum):
    """X: a look at a shift; Z: it was closed; DAY: between two times; CHAIN: at several tills."""

    X = "X"
    Z = "Z"
    DAY = "DAY"
    CHAIN = "CHAIN"


@dataclass(frozen=True)
class Line:
    """What happened of one kind: how often, to how many fen.

    fen: what the account of that name gained (of a dispute only what is disputed); earlier, earlier_fen: of
    these, payments that were taken in an earlier period, or transfers that were ordered in one.
    """

    what: What
    count: int = 0
    fen: int = 0
    earlier: int = 0
    earlier_fen: int = 0


@dataclass(frozen=True)
class Group:
    """Lines by the value of something: an operator, a card's tier, a link."""

    by: str
    value: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Report:
    """A report. Amounts are fen, times seconds since 1970; since, until: its period.

    till: the till's key, as hex, or several with spaces between; number: of a Z, its shift's; opening,
    closing: fen by account; states: payments by state at the end, as (count, fen), where all of the books
    was read; end: up to where they were; fees_fen: what the bank kept of what it credited, None where its
    statement was not asked; differences: accounts of which the till's balance says more or less than its
    events do, which is never so while its books are whole.
    """

    kind: Kind
    till: str
    since: int
    until: int
    opening: Mapping[Account, int]
    closing: Mapping[Account, int]
    lines: tuple[Line, ...]
    groups: tuple[Group, ...] = ()
    states: Mapping[PaymentState, tuple[int, int]] = field(default_factory=dict)
    number: int | None = None
    opened_by: str = ""
    closed_by: str = ""
    end: Marks = field(default_factory=Marks)
    fees_fen: int | None = None
    differences: Mapping[Account, int] = field(default_factory=dict)

    def line(self, what: What) -> Line:
        """What happened of that kind."""
        return next((line for line in self.lines if line.what == what), Line(what))

    def balances(self) -> bool:
        """Whether opening and lines come to closing, for every account, and all accounts to nothing."""
        return _balanced(self)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it; from_dict() brings it back."""
        return {
            "version": VERSION,
            "kind": str(self.kind),
            "number": self.number,
            "till": self.till,
            "since": self.since,
            "until": self.until,
            "opened_by": self.opened_by,
            "closed_by": self.closed_by,
            "opening_fen": {str(name): fen for name, fen in self.opening.items()},
            "lines": [_line_dict(line) for line in self.lines],
            "fees_fen": self.fees_fen,
            "closing_fen": {str(name): fen for name, fen in self.closing.items()},
            "states": {
                str(state): {"count": count, "fen": fen}
                for state, (count, fen) in self.states.items()
            },
            "groups": [
                {
                    "by": group.by,
                    "value": group.value,
                    "lines": [_line_dict(line) for line in group.lines],
                }
                for group in self.groups
            ],
            "differences_fen": {str(name): fen for name, fen in self.differences.items()},
            "end": {
                "change": self.end.change,
                "deposit": self.end.deposit,
                "leaving": list(self.end.leaving),
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """A report from its JSON. Raises PosError if it is not one of this version."""
        try:
            if data["version"] != VERSION:
                raise ValueError("version")
            return cls(
                kind=Kind(data["kind"]),
                number=data["number"],
                till=data["till"],
                since=data["since"],
                until=data["until"],
                opened_by=data["opened_by"],
                closed_by=data["closed_by"],
                opening={Account(name): fen for name, fen in data["opening_fen"].items()},
                lines=tuple(_line(line) for line in data["lines"]),
                fees_fen=data["fees_fen"],
                closing={Account(name): fen for name, fen in data["closing_fen"].items()},
                states={
                    PaymentState(name): (found["count"], found["fen"])
                    for name, found in data["states"].items()
                },
                groups=tuple(
                    Group(x["by"], x["value"], tuple(_line(line) for line in x["lines"]))
                    for x in data["groups"]
                ),
                differences={Account(name): fen for name, fen in data["differences_fen"].items()},
                end=Marks(
                    data["end"]["change"], data["end"]["deposit"], tuple(data["end"]["leaving"])
                ),
            )
        except (KeyError, TypeError, ValueError):
            raise PosError(
                "This is no report of a till that this program knows.",
                hint="Read it with the version of chipcash that wrote it.",
            ) from None


def shift_report(
    happened: Sequence[Event],
    *,
    kind: Kind,
    till: str,
    before: Report | None,
    found: Mapping[Account, int],
    until: int,
    end: Marks,
    number: int | None = None,
    opened: int | None = None,
    opened_by: str = "",
    closed_by: str = "",
) -> Report:
    """The report of what happened since the last Z. Pure.

    happened: events behind before.end; before: that Z, None if there was none; found: what the till's balance
    says, by account: of verified money, what no event explains has come or gone OTHERWISE; opened: when the
    shift was, None if none is open.
    """
    opening = dict.fromkeys(ACCOUNTS, 0) | dict(before.closing if before else {})
    closing = position(happened, opening)
    elsewhere = found[Account.VERIFIED] - closing[Account.VERIFIED]
    closing[Account.VERIFIED] += elsewhere
    closing[Account.OTHERWISE] -= elsewhere
    if before is not None:
        since = before.until
    else:
        times = [event.time for event in happened]
        since = min([*times, until if opened is None else opened])
    return Report(
        kind=kind,
        number=number,
        till=till,
        since=since,
        # A clock that was turned back makes a period short, never negative: no two overlap.
        until=max(since, until),
        opened_by=opened_by,
        closed_by=closed_by,
        opening=opening,
        closing=closing,
        lines=_lines(happened, elsewhere),
        groups=_groups(happened),
        end=end,
        differences={
            name: fen - closing[name] for name, fen in found.items() if fen != closing[name]
        },
    )


def day_report(happened: Sequence[Event], *, till: str, since: int, until: int) -> Report:
    """The report of what happened from since until before until, by the till's clock. Pure.

    happened: all events of the till. What came OTHERWISE has no time here: it is in the reports of shifts.
    """
    before = [event for event in happened if event.time < since]
    within = [event for event in happened if since <= event.time < until]
    opening = position(before)
    return Report(
        kind=Kind.DAY,
        till=till,
        since=since,
        until=until,
        opening=opening,
        closing=position(within, opening),
        lines=_lines(within),
        groups=_groups(within),
        states=states([*before, *within]),
    )


def chain(reports: Sequence[Report]) -> Report:
    """One report of the same day of several tills. Raises PosError if there is none."""
    if not reports:
        raise PosError("There is no till to report of.", hint="Name one: --pos DIRECTORY.")
    fees = [report.fees_fen for report in reports if report.fees_fen is not None]
    groups: dict[tuple[str, str], list[tuple[Line, ...]]] = {}
    for report in reports:
        for group in report.groups:
            groups.setdefault((group.by, group.value), []).append(group.lines)
        whole = Group("till", report.till, report.lines)
        groups.setdefault((whole.by, whole.value), []).append(whole.lines)
    counted = dict.fromkeys(PaymentState, (0, 0))
    for report in reports:
        for state, (count, fen) in report.states.items():
            counted[state] = (counted[state][0] + count, counted[state][1] + fen)
    return Report(
        kind=Kind.CHAIN,
        till=" ".join(report.till for report in reports),
        since=min(report.since for report in reports),
        until=max(report.until for report in reports),
        opening=_sum(report.opening for report in reports),
        closing=_sum(report.closing for report in reports),
        lines=_add(report.lines for report in reports),
        groups=tuple(
            Group(by, value, _add(lines)) for (by, value), lines in sorted(groups.items())
        ),
        states=counted,
        fees_fen=sum(fees) if fees else None,
        differences=_sum(report.differences for report in reports),
    )


def with_fees(report: Report, fees_fen: int) -> Report:
    """The same, with what the bank kept of what it credited."""
    return replace(report, fees_fen=fees_fen)


_GAINED = {
    What.TAKEN: Account.PENDING,
    What.SUBMITTED: Account.SUBMITTED,
    What.VERIFIED: Account.VERIFIED,
    What.DISPUTED: Account.DISPUTED,
    What.EXPIRED: Account.EXPIRED,
    What.ORDERED: Account.LEAVING,
    What.SPENT: Account.SPENT,
    What.REFUNDED: Account.REFUNDED,
    What.REDEEMED: Account.REDEEMED,
    What.RETURNED: Account.OTHERWISE,
    What.CAME: Account.VERIFIED,
}
"""Of which account a line tells what it gained. VERIFIED also has what of disputed payments settled."""
_LOST = {
    What.TAKEN: Account.SALES,
    What.SUBMITTED: Account.PENDING,
    What.VERIFIED: Account.SUBMITTED,
    What.DISPUTED: Account.SUBMITTED,
    What.EXPIRED: Account.SUBMITTED,
    What.ORDERED: Account.VERIFIED,
    What.SPENT: Account.LEAVING,
    What.REFUNDED: Account.LEAVING,
    What.REDEEMED: Account.LEAVING,
    What.RETURNED: Account.LEAVING,
    What.CAME: Account.OTHERWISE,
}
"""And from which account that came."""
_ALSO = {
    What.DISPUTED: What.VERIFIED,
    What.SPENT: What.RETURNED,
    What.REFUNDED: What.RETURNED,
    What.REDEEMED: What.RETURNED,
}
"""Events of which a part may end as another line says."""


def _lines(happened: Iterable[Event], came: int = 0) -> tuple[Line, ...]:
    """The lines of events. came: verified money that none of them explains."""
    happened = list(happened)
    # A payment is an earlier period's if it was not taken in this one; a transfer, if it was not ordered.
    here = {event.ident for event in happened if event.what in (What.TAKEN, What.ORDERED)}
    sums = {what: [0, 0, 0, 0] for what in _GAINED}
    for event in happened:
        if event.what == What.CONSUMED:
            continue
        gained = {account: fen for account, fen in event.postings if fen > 0}
        for what in (event.what, _ALSO.get(event.what)):
            if what not in sums or (what != event.what and _GAINED[what] not in gained):
                continue
            fen = gained.get(_GAINED[what], 0)
            line = sums[what]
            line[0] += 1
            line[1] += fen
            if event.ident not in here:
                line[2] += 1
                line[3] += fen
    sums[What.CAME][:2] = [int(came != 0), came]
    return tuple(Line(what, *values) for what, values in sums.items())


_BY: dict[str, Callable[[Event], str | None]] = {
    "operator": lambda event: event.operator,
    "tier": lambda event: None if event.state is None else str(event.tier or ""),
    "link": lambda event: None if event.state is None else event.link,
}
"""What reports group by; None for what has no such thing."""


def _groups(happened: Sequence[Event]) -> tuple[Group, ...]:
    found = []
    for by, value_of in _BY.items():
        parts: dict[str, list[Event]] = {}
        for event in happened:
            value = value_of(event)
            if value is not None:
                parts.setdefault(value, []).append(event)
        found += [Group(by, value, _lines(parts[value])) for value in sorted(parts)]
    return tuple(found)


def _balanced(report: Report) -> bool:
    fen = dict(report.opening)
    for line in report.lines:
        fen[_GAINED[line.what]] += line.fen
        fen[_LOST[line.what]] -= line.fen
    return fen == dict(report.closing) and not sum(fen.values())


def _sum(positions: Iterable[Mapping[Account, int]]) -> dict[Account, int]:
    fen: dict[Account, int] = {}
    for each in positions:
        for account, amount in each.items():
            fen[account] = fen.get(account, 0) + amount
    return fen


def _add(all_lines: Iterable[Sequence[Line]]) -> tuple[Line, ...]:
    sums = {what: Line(what) for what in _GAINED}
    for lines in all_lines:
        for line in lines:
            old = sums[line.what]
            sums[line.what] = Line(
                line.what,
                old.count + line.count,
                old.fen + line.fen,
                old.earlier + line.earlier,
                old.earlier_fen + line.earlier_fen,
            )
    return tuple(sums.values())


def _line_dict(line: Line) -> dict[str, Any]:
    return {
        "what": str(line.what),
        "count": line.count,
        "fen": line.fen,
        "earlier": line.earlier,
        "earlier_fen": line.earlier_fen,
    }


def _line(data: Mapping[str, Any]) -> Line:
    return Line(
        What(data["what"]), data["count"], data["fen"], data["earlier"], data["earlier_fen"]
    )

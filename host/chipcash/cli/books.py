# SPDX-License-Identifier: Apache-2.0
"""What `chipcash pos` does with the books: shifts, reports, reconciling, exports, disputes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chipcash import files
from chipcash.cli.base import (
    KEY,
    Command,
    Group,
    Hex,
    Report,
    center_at,
    progress,
    table,
    when,
)
from chipcash.cli.till import operator_option, other_center_option, pos_option
from chipcash.errors import ChipcashError
from chipcash.pos import Payment, Pos, PosError

if TYPE_CHECKING:
    from chipcash.bank.camt import Entry
    from chipcash.books.center import InLog, Record
    from chipcash.books.disputes import Case
    from chipcash.books.layout import Table
    from chipcash.books.reconcile import Reconciliation, Till
    from chipcash.center.client import CenterClient
    from chipcash.log.reader import LogReader
    from chipcash.pos.reports import Report as BooksReport

__all__ = ["commands"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_offline_option = click.option("--offline", is_flag=True, help="Ask no center.")
_language_option = click.option(
    "--language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="English or Chinese.",
)
_paper_option = click.option(
    "-o",
    "--output",
    "paper",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.pdf",
    help="Also write it as PDF, to be printed; a file that is there is replaced.",
)
_tills_option = click.option(
    "--pos",
    "directories",
    multiple=True,
    required=True,
    envvar="CHIPCASH_POS",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A till's directory; may be given several times, for a chain of tills.",
)
_statement_option = click.option(
    "--statement",
    "statements",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The bank's statement, ISO 20022 camt.053 or camt.054; may be given several times.",
)


class Day(click.ParamType):  # type: ignore[type-arg]
    """A day of the calendar, as YYYY-MM-DD."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The day."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no day like 2026-11-28", param, ctx)


def days_option(function: _Function) -> _Function:
    """The options that say of which days: day, last."""
    function = click.option(
        "--to", "last", type=Day(), metavar="DAY", help="The last day, if it is not the same."
    )(function)
    return click.option(
        "--day",
        type=Day(),
        metavar="YYYY-MM-DD",
        help="Which day, in this machine's time zone; by default today.",
    )(function)


def period_of(day: date | None, last: date | None) -> tuple[int, int]:
    """The period that those options name, in seconds since 1970. Raises UsageError."""
    first = day or datetime.now().date()
    last = last or first
    if last < first:
        raise click.UsageError("--to is a day before --day.")
    try:
        return _midnight(first), _midnight(last + timedelta(days=1))
    except (ValueError, OverflowError):
        raise click.UsageError("That day is outside of this machine's calendar.") from None


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time()).timestamp())


def _log_options(function: _Function) -> _Function:
    """The options that name the center's log: what _reader() takes."""
    for option in (
        click.option(
            "--witness",
            "witnesses",
            multiple=True,
            metavar="KEY",
            help="Key string of a witness of the log; more than half of those given must have cosigned it.",
        ),
        click.option("--entries", metavar="LOG", help="Where the log's entries are, if not there."),
        click.option(
            "--log-at", "location", metavar="LOG", help="Where the center's log is: folder or URL."
        ),
        click.option(
            "--log",
            "log",
            metavar="KEY",
            help="The log's key string, or a file that holds it: look there for proofs.",
        ),
    ):
        function = option(function)
    return function


def _reader(
    log: str | None, location: str | None, entries: str | None, witnesses: tuple[str, ...]
) -> LogReader | None:
    """The log that those options name, None for none. Raises UsageError."""
    if (log is None) != (location is None):
        raise click.UsageError("--log and --log-at go together.")
    if log is None or location is None:
        return None
    # Imported here, with what asks for a log over HTTP: a till should not wait for it.
    from chipcash.cli.logs import LOG_KEY, WITNESS_KEY, reader_of

    key = LOG_KEY.convert(log, None, None)
    cosigners = tuple(WITNESS_KEY.convert(each, None, None) for each in witnesses)
    return reader_of(location, key, entries, cosigners, None)


# Shifts and reports ---------------------------------------------------------------------------------


@click.group("shift", cls=Group)
def shift() -> None:
    """Shifts: who has the till. What is charged or paid out belongs to the one that is open."""


@shift.command("open")
@pos_option
@operator_option
def open_(directory: Path, operator: str) -> Report:
    """Open a shift."""
    with Pos(directory, operator=operator) as pos:
        opened = pos.open_shift()
    return Report(
        {"shift": opened.number, "opened": opened.opened, "opened_by": opened.opened_by},
        [f"Shift {opened.number} is open, since {when(opened.opened)}."],
    )


@shift.command("close")
@pos_option
@operator_option
@_language_option
@_paper_option
def close(directory: Path, operator: str, language: str, paper: Path | None) -> Report:
    """Close the open shift, and write its Z report, which is never changed again."""
    with Pos(directory, operator=operator) as pos:
        closed = pos.close_shift()
        report = pos.z_report(closed.number)
    try:
        return _shown(report, language, paper)
    except (ChipcashError, OSError) as error:
        raise PosError(
            f"Shift {closed.number} is closed, and its Z report is in the books. The PDF was not written: "
            f"{error}",
            hint=f"Have it again: chipcash pos report z {closed.number} -o FILE.pdf",
            shift=closed.number,
        ) from error


@shift.command("list")
@pos_option
def list_shifts(directory: Path) -> Report:
    """All shifts, the newest first."""
    with Pos(directory) as pos:
        found = pos.shifts()
    lines = [
        f"{x.number:>5}  {when(x.opened)}  {x.opened_by or '-'}  "
        + (f"closed {when(x.closed)}  {x.closed_by or '-'}" if x.closed is not None else "open")
        for x in found
    ]
    data = [
        {
            "shift": x.number,
            "opened": x.opened,
            "opened_by": x.opened_by,
            "closed": x.closed,
            "closed_by": x.closed_by,
        }
        for x in found
    ]
    return Report({"shifts": data}, lines or ["No shift was ever opened."])


@click.group("report", cls=Group)
def report() -> None:
    """Reports: opening, what happened, closing, by operator, card tier and link."""


@report.command("x")
@pos_option
@_language_option
@_paper_option
def x(directory: Path, language: str, paper: Path | None) -> Report:
    """A look at what has happened since the last Z report. Changes nothing."""
    with Pos(directory) as pos:
        return _shown(pos.x_report(), language, paper)


@report.command("z")
@click.argument("number", type=click.IntRange(1), required=False)
@pos_option
@_language_option
@_paper_option
def z(number: int | None, directory: Path, language: str, paper: Path | None) -> Report:
    """The Z report of a closed shift, by its NUMBER, as it was written; by default the last."""
    with Pos(directory) as pos:
        return _shown(pos.z_report(number), language, paper)


@report.command("day")
@_tills_option
@days_option
@_language_option
@_paper_option
def day_(
    directories: tuple[Path, ...],
    day: date | None,
    last: date | None,
    language: str,
    paper: Path | None,
) -> Report:
    """What happened on a day, by the till's clock; of several tills together."""
    from chipcash.pos.reports import chain

    since, until = period_of(day, last)
    with _tills(directories) as tills:
        reports = [till.pos.day_report(since, until) for till in tills]
    return _shown(reports[0] if len(reports) == 1 else chain(reports), language, paper)


def _shown(found: BooksReport, language: str, paper: Path | None) -> Report:
    from chipcash.books.layout import Words, tables, title

    words = Words(language)
    if paper is not None:
        from chipcash.books.exports import pdf

        files.replace(paper, pdf(found, words))
    lines = title(found, words)
    for each in tables(found, words):
        lines += ["", *_lines(each)]
    return Report(
        {**found.as_dict(), "balances": found.balances()},
        lines,
        exit_code=1 if found.differences else 0,
    )


def _lines(shown: Table) -> list[str]:
    """A table for a terminal: amounts to the right, the others to the left."""
    from chipcash.books.layout import money

    cells = [[name for name, _ in shown.columns]]
    for row in shown.rows:
        cells.append(
            [
                money(cell) if kind == "fen" and isinstance(cell, int) else str(cell)
                for (_, kind), cell in zip(shown.columns, row, strict=True)
            ]
        )
    widths = [max(_width(row[at]) for row in cells) for at in range(len(shown.columns))]
    found = [shown.name]
    for texts in cells:
        parts = []
        for (_, kind), text, width in zip(shown.columns, texts, widths, strict=True):
            gap = " " * (width - _width(text))
            parts.append(text + gap if kind == "text" else gap + text)
        found.append(("  " + "  ".join(parts)).rstrip())
    return found


def _width(text: str) -> int:
    """Columns that a text takes in a terminal: what is Chinese takes two each."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


# Reconciling ------------------------------------------------------------------------------------


@click.command("reconcile", cls=Command)
@_tills_option
@days_option
@_statement_option
@click.option(
    "--bank",
    "banks",
    type=KEY,
    multiple=True,
    help="The bank's key, to which money is deposited; without it every payment out must be credited.",
)
@other_center_option
@_offline_option
@click.option(
    "--every",
    is_flag=True,
    help="Ask the center of every claim, also where it signed a receipt, and of each title's rest.",
)
@_log_options
def reconcile_command(
    directories: tuple[Path, ...],
    day: date | None,
    last: date | None,
    statements: tuple[Path, ...],
    banks: tuple[bytes, ...],
    url: str | None,
    offline: bool,
    every: bool,
    log: str | None,
    location: str | None,
    entries: str | None,
    witnesses: tuple[str, ...],
) -> Report:
    """Prove that till, center and bank agree on a day, or list what does not, with proof and next step.

    Exit code 1 where two of them tell different things. What only waits, and what was lost by rule, is
    listed too.
    """
    from chipcash.books.center import find_in_log
    from chipcash.books.reconcile import claims_of, reconcile
    from chipcash.clock import system_clock

    since, until = period_of(day, last)
    reader = _reader(log, location, entries, witnesses)
    with _tills(directories) as tills, ExitStack() as stack:
        centers: dict[str, Record] = {}
        if not offline:
            for till in tills:
                centers[till.name] = stack.enter_context(_center_of(till.pos, url))
        with progress("Reconciling"):
            found = None
            if reader is not None:
                found = find_in_log(reader, claims_of(tills, since, until))
            done = reconcile(
                tills,
                since,
                until,
                now=system_clock(),
                centers=centers,
                every=every,
                log=found,
                credits=_credits(statements),
                banks=frozenset(banks),
            )
    return Report(done.as_dict(), _reconciled(done), exit_code=0 if done.agrees else 1)


def _credits(statements: Sequence[Path]) -> list[Entry] | None:
    from chipcash.bank.camt import read_camt, together

    if not statements:
        return None
    return together(read_camt(file.read_bytes()) for file in statements)


def _reconciled(done: Reconciliation) -> list[str]:
    from chipcash.books.layout import Table as Shown
    from chipcash.books.layout import money
    from chipcash.books.reconcile import Side, Weight

    lines = [
        f"{when(done.since)} to {when(done.until)}, {len(done.tills)} "
        f"{'till' if len(done.tills) == 1 else 'tills'}: {', '.join(done.tills)}"
    ]
    sides = [str(side) for side in Side]
    rows = tuple(
        (what, *("-" if fen is None else money(fen) for fen in (x.till, x.center, x.bank)))
        for what, x in done.sums.items()
    )
    columns = (("yuan", "text"), *((side, "count") for side in sides))
    lines += ["", *_lines(Shown("The sides", columns, rows))]
    if done.report.fees_fen:
        lines.append(f"  The bank kept {money(done.report.fees_fen)} yuan of what it credited.")
    headings = {
        Weight.DIFFERS: "DOES NOT AGREE",
        Weight.LOST: "Agreed, and lost",
        Weight.OPEN: "Agreed, and still to be done",
    }
    for weight, heading in headings.items():
        found = [x for x in done.findings if x.weight == weight]
        if found:
            lines += ["", f"{heading}:"]
        for x in found:
            lines.append(f"  {x.code}  {money(x.fen)} yuan  {x.till}  {x.ident}".rstrip())
            lines += [f"    {side}: {text}" for side, text in x.said.items()]
            lines += [f"    proof: {text}" for text in x.evidence]
            lines.append(f"    next: {x.next}")
    asked = " and ".join(str(side) for side in done.asked)
    lines += ["", f"{asked} agree." if done.agrees else f"{asked} do NOT agree."]
    return lines


@click.command("reclaim", cls=Command)
@click.argument("transfer", type=Hex(16))
@pos_option
@other_center_option
def reclaim(transfer: bytes, directory: Path, url: str | None) -> Report:
    """Have back what of a TRANSFER (its number) came too late at the center. Online."""
    from chipcash.books.layout import money

    with Pos(directory) as pos:
        where = url or pos.center_url
        with center_at(where, pos.trust) as center, progress(f"Asking {where}"):
            fen = pos.reclaim(transfer, center)
    return Report({"fen": fen}, [f"{money(fen)} yuan are verified money of this till again."])


# Exports ------------------------------------------------------------------------------------------


@click.command("export", cls=Command)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "xlsx", "pdf", "beancount", "slips"]),
    required=True,
    help="csv, xlsx and pdf for people; beancount: a double-entry journal; slips: proofs for the bank.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; one that is there is replaced.",
)
@_tills_option
@days_option
@_statement_option
@_language_option
def export(
    kind: str,
    output: Path,
    directories: tuple[Path, ...],
    day: date | None,
    last: date | None,
    statements: tuple[Path, ...],
    language: str,
) -> Report:
    """Write the books of a day, of one till or several, to a file.

    With the bank's --statement they also have what the bank kept (not csv, which is of the tills' events).
    """
    from chipcash.books import exports
    from chipcash.books.layout import Words
    from chipcash.pos.reports import with_fees

    since, until = period_of(day, last)
    words = Words(language)
    with _tills(directories) as tills:
        if kind == "slips":
            proofs = [slip for till in tills for slip in exports.slips(till.pos, since, until)]
            data, count = b"".join(slip.encode() for slip in proofs), len(proofs)
        else:
            chosen = exports.period([(till.name, till.pos) for till in tills], since, until)
            credits = _credits(statements)
            fees = exports.kept_fees(chosen, credits or ())
            if credits is not None:
                kept = sum(fen for _, fen in fees)
                chosen = replace(chosen, report=with_fees(chosen.report, kept))
            count = len(chosen.within())
            if kind == "csv":
                data = exports.csv_text(chosen, words).encode("utf-8-sig")
            elif kind == "xlsx":
                data = exports.excel(chosen, words)
            elif kind == "pdf":
                data = exports.pdf(chosen.report, words, chosen.within())
            else:
                data = exports.beancount(chosen, fees).encode()
    files.replace(output, data)
    what = "proofs for the bank" if kind == "slips" else "events"
    return Report(
        {"file": str(output), "format": kind, "count": count, "since": since, "until": until},
        [f"{output}: {count} {what}, {when(since)} to {when(until)}"],
    )


# Disputes -----------------------------------------------------------------------------------------


@click.group("dispute", cls=Group)
def dispute() -> None:
    """Payments that the center did not settle: the case of each."""


@dispute.command("list")
@pos_option
def list_disputes(directory: Path) -> Report:
    """Disputed payments, the newest first."""
    from chipcash.books.disputes import cases
    from chipcash.books.layout import money

    with Pos(directory) as pos:
        found = cases(pos)
    lines = [
        f"{when(x.time)}  {money(x.disputed_fen):>10} of {money(x.amount)} yuan  {x.claim_id.hex()}"
        f"  {x.reason}"
        for x in found
    ]
    return Report({"disputes": [_disputed(x) for x in found]}, lines or ["No disputes."])


@dispute.command("show")
@click.argument("payment", type=Hex(16, 32))
@pos_option
@other_center_option
@_offline_option
def show_dispute(payment: bytes, directory: Path, url: str | None, offline: bool) -> Report:
    """The case of a PAYMENT (its nonce or claim id): what is proven, who bears the loss, what happened."""
    with Pos(directory) as pos, _asked(pos, url, offline) as center:
        from chipcash.books.disputes import open_case

        case = open_case(pos, payment, center)
    return Report(case.as_dict(), _case_lines(case))


@dispute.command("export")
@click.argument("payment", type=Hex(16, 32))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder to make, or a file that ends in .zip; it must not be there yet.",
)
@pos_option
@other_center_option
@_offline_option
@_log_options
def export_dispute(
    payment: bytes,
    output: Path,
    directory: Path,
    url: str | None,
    offline: bool,
    log: str | None,
    location: str | None,
    entries: str | None,
    witnesses: tuple[str, ...],
) -> Report:
    """Write the case of a PAYMENT: both claims, certificate, receipt, evidence, proofs from the log."""
    from chipcash.books.center import find_in_log
    from chipcash.books.disputes import case_files, open_case, write_case
    from chipcash.trust import object_id

    reader = _reader(log, location, entries, witnesses)
    proofs: tuple[LogReader, InLog] | None = None
    with Pos(directory) as pos, _asked(pos, url, offline) as center:
        case = open_case(pos, payment, center)
        if reader is not None:
            wanted = [case.payment.claim_id, *(object_id(claim) for claim in case.others())]
            with progress("Reading the log"):
                proofs = reader, find_in_log(reader, wanted)
        contents = case_files(case, pos, proofs)
    write_case(output, contents)
    return Report(
        {"output": str(output), "files": sorted(contents), **case.as_dict()},
        [*_case_lines(case), f"{output}: {', '.join(sorted(contents))}"],
    )


@contextmanager
def _asked(pos: Pos, url: str | None, offline: bool) -> Iterator[Record | None]:
    if offline:
        yield None
        return
    with progress(f"Asking {url or pos.center_url}"), _center_of(pos, url) as center:
        yield center


@contextmanager
def _center_of(pos: Pos, url: str | None) -> Iterator[CenterClient]:
    """The till's center, once it has proven to be its network's: what it is asked then is not signed, and
    another one would know of nothing."""
    with center_at(url or pos.center_url, pos.trust) as center:
        center.signed_time()
        yield center


def _case_lines(case: Case) -> list[str]:
    from chipcash.books.layout import money

    payment = case.payment
    rows = [
        ("claim", payment.claim_id.hex()),
        ("case", str(case.state)),
        ("disputed", f"{money(payment.disputed_fen)} of {money(payment.amount)} yuan"),
        ("because", payment.reason),
    ]
    if case.loss is not None:
        rows += [
            ("guarantee fund bears", f"{money(case.loss.fund_fen)} yuan, by {case.loss.by}"),
            ("merchant bears", f"{money(case.loss.payee_fen)} yuan"),
        ]
    rows += [
        ("proven", f"fen {x.lo} to {x.hi} of title {x.title_id.hex()} were paid twice by {x.payer.hex()}")
        for x in case.facts
    ]  # fmt: skip
    return table(rows) + [f"  {when(x.time)}  {x.who}: {x.what}" for x in case.timeline]


def _disputed(payment: Payment) -> Mapping[str, Any]:
    return {
        "claim_id": payment.claim_id.hex(),
        "nonce": payment.nonce.hex(),
        "time": payment.time,
        "amount_fen": payment.amount,
        "disputed_fen": payment.disputed_fen,
        "settled_fen": payment.settled_fen,
        "reason": payment.reason,
        "payer": payment.payer.hex(),
    }


# How ----------------------------------------------------------------------------------------------


@contextmanager
def _tills(directories: Sequence[Path]) -> Iterator[list[Till]]:
    """The tills in these directories, named by them. Raises PosError if one is named twice."""
    from chipcash.books.reconcile import Till

    with ExitStack() as stack:
        tills: list[Till] = []
        for directory in directories:
            pos = stack.enter_context(Pos(directory))
            if any(till.pos.public == pos.public for till in tills):
                raise PosError(
                    f"{directory} is a till that was named before; nothing was added up.",
                    hint="Name each till once.",
                )
            tills.append(Till(str(directory), pos))
        yield tills


commands: tuple[click.Command, ...] = (shift, report, reconcile_command, reclaim, export, dispute)
"""What belongs into `chipcash pos`."""

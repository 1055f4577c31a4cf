# SPDX-License-Identifier: Apache-2.0
"""A period of tills' books in the formats of others: CSV, Excel, PDF with charts, a journal in beancount's
format, and slips for the bank."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chipcash.books.layout import Table, Words, event_table, money, tables, title
from chipcash.errors import ChipcashError
from chipcash.pos import Pos
from chipcash.pos.events import ACCOUNTS, Account, Event, What, events, position
from chipcash.pos.reports import Report, chain, day_report
from chipcash.slips import Slip
from chipcash_wire import objects as o

if TYPE_CHECKING:
    from reportlab.platypus import Flowable

    from chipcash.bank.camt import Entry

__all__ = ["Period", "beancount", "csv_text", "excel", "kept_fees", "pdf", "period", "slips"]


class ExtraMissing(ChipcashError):
    """A format needs packages that are not installed."""

    exit_code = 33


@dataclass(frozen=True)
class Period:
    """What is exported: of each till, by its name, its events of all time; since, until: the period, seconds
    since 1970; report: of all of them in it."""

    tills: tuple[tuple[str, tuple[Event, ...]], ...]
    since: int
    until: int
    report: Report

    def within(self) -> list[tuple[str, Event]]:
        """The events in the period, each with its till's name, by time."""
        found = [
            (name, event)
            for name, happened in self.tills
            for event in happened
            if self.since <= event.time < self.until
        ]
        return sorted(found, key=lambda each: each[1].time)


def period(tills: Iterable[tuple[str, Pos]], since: int, until: int) -> Period:
    """A period of these tills' books, by their names. Raises PosError if there is none."""
    found, reports = [], []
    for name, pos in tills:
        # Read once, as they are at one moment: a till may be at work, and report and events must agree.
        with pos.store.reading():
            happened = tuple(events(pos.store))
        found.append((name, happened))
        reports.append(day_report(happened, till=pos.public.hex(), since=since, until=until))
    report = reports[0] if len(reports) == 1 else chain(reports)
    return Period(tuple(found), since, until, report)


def kept_fees(chosen: Period, credits: Iterable[Entry]) -> list[tuple[date, int]]:
    """What the bank kept of what these tills paid out, by the day on which it booked that, fen; of the days
    in the period. credits: what its statements tell."""
    first = datetime.fromtimestamp(chosen.since).date()
    last = datetime.fromtimestamp(chosen.until - 1).date()
    paid = {event.ident for _, happened in chosen.tills for event in happened if event.kind}
    return [
        (day, entry.fee)
        for entry in credits
        if entry.nonce in paid
        and entry.day
        and first <= (day := date.fromisoformat(entry.day)) <= last
    ]


def slips(pos: Pos, since: int, until: int) -> list[Slip]:
    """Proofs for the bank of what a till paid out, or had redeemed, and was settled in the period."""
    found = []
    for row in pos.store.all(
        "SELECT * FROM deposits WHERE kind IN ('SPEND', 'REDEEM') AND settled_fen > 0"
        " AND settled_time >= ? AND settled_time < ? ORDER BY id",
        since, until,
    ):  # fmt: skip
        deposit = o.Deposit.decode(row["data"])
        spent = {item.title_id for claim in deposit.claims for item in claim.inputs}
        titles = [
            o.Title.decode(x["data"])
            for title_id in sorted(spent)
            for x in pos.store.all("SELECT data FROM titles WHERE title_id = ?", title_id)
        ]
        found.append(Slip(deposit, o.Receipt.decode(row["receipt"]), tuple(titles)))
    return found


def csv_text(chosen: Period, words: Words) -> str:
    """The events, one a line, with a header; amounts in yuan (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    table = event_table(chosen.within(), words)
    writer.writerow([name for name, _ in table.columns])
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        writer.writerow([_csv_cell(kind, cell) for (_, kind), cell in cells])
    return out.getvalue()


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with; in East Asian spreadsheets in full width too."""


def _csv_cell(kind: str, cell: str | int) -> str:
    if kind == "fen":
        assert isinstance(cell, int)
        return money(cell)
    text = str(cell)
    # A name must not become a formula where a spreadsheet opens the file.
    return f"'{text}" if text[:1] in _FORMULA else text


SHEET_ROWS = 1_048_576
"""Rows that a sheet can have; what is beyond them XlsxWriter leaves out without a word."""


def excel(chosen: Period, words: Words) -> bytes:
    """A workbook: the report's tables and a chart on one sheet, events on another. Raises ExtraMissing."""
    try:
        import xlsxwriter
    except ImportError:
        raise _missing("Excel") from None
    out = io.BytesIO()
    # Row by row: all cells of a hundred thousand payments would take a gigabyte.
    book = xlsxwriter.Workbook(out, {"constant_memory": True, "strings_to_formulas": False})
    bold = book.add_format({"bold": True})
    formats = {
        "text": book.add_format({}),
        "count": book.add_format({"num_format": "0"}),
        "fen": book.add_format({"num_format": "#,##0.00"}),
    }
    sheet = book.add_worksheet(words("What happened"))
    sheet.set_column(0, 0, 26)
    sheet.set_column(1, 6, 14)
    at = 0
    for line in title(chosen.report, words):
        sheet.write_string(at, 0, line, bold)
        at += 1
    for table in tables(chosen.report, words):
        top = at + 2
        at = _write_table(sheet, at + 1, table, bold, formats)
        if table.name == words("What happened"):
            chart = book.add_chart({"type": "bar"})
            last = at - 2  # without the fees
            shown = list(table.rows)[:-1]
            chart.add_series(
                {
                    "name": words("yuan"),
                    "categories": [sheet.get_name(), top + 1, 0, last, 0],
                    "values": [sheet.get_name(), top + 1, 2, last, 2],
                    # What programs show that compute nothing: with cells gone, nobody else tells it.
                    "categories_data": [row[0] for row in shown],
                    "values_data": [int(row[2]) / 100 for row in shown],
                }
            )
            chart.set_legend({"none": True})
            chart.set_y_axis({"reverse": True})
            sheet.insert_chart(1, 8, chart)
    within = chosen.within()
    for start in range(0, max(len(within), 1), SHEET_ROWS - 1):
        number = start // (SHEET_ROWS - 1)
        details = book.add_worksheet(words("Events") + (f" {number + 1}" if number else ""))
        details.set_column(0, 11, 18)
        table = event_table(within[start : start + SHEET_ROWS - 1], words)
        _write_table(details, -1, table, bold, formats)
        details.freeze_panes(1, 0)
    book.close()
    return out.getvalue()


def _write_table(sheet: Any, at: int, table: Table, bold: Any, formats: dict[str, Any]) -> int:
    """Write a table below its name; the first free row behind it."""
    if at >= 0:
        sheet.write_string(at, 0, table.name, bold)
    at += 1
    for column, (name, _) in enumerate(table.columns):
        sheet.write_string(at, column, name, bold)
    for row in table.rows:
        at += 1
        for column, ((_, kind), cell) in enumerate(zip(table.columns, row, strict=True)):
            if isinstance(cell, str):
                sheet.write_string(at, column, cell)
            elif kind == "fen":
                # A cell holds a binary fraction: exact to the fen up to some ten trillion yuan.
                sheet.write_number(at, column, cell / 100, formats[kind])
            else:
                sheet.write_number(at, column, cell, formats[kind])
    return at + 1


def pdf(report: Report, words: Words, within: Iterable[tuple[str, Event]] = ()) -> bytes:
    """A report on paper (A4): its tables and a chart of the lines. Raises ExtraMissing.

    within: the events of its period, as Period has them, for a chart of the hours.
    """
    try:
        from reportlab.lib import colors
        from reportlab.lib.enums import TA_LEFT, TA_RIGHT
        from reportlab.lib.pagesizes import A4
        from reportlab.lib.styles import ParagraphStyle
        from reportlab.lib.units import mm
        from reportlab.pdfbase import pdfmetrics
        from reportlab.pdfbase.cidfonts import UnicodeCIDFont
        from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer
        from reportlab.platypus import Table as PdfTable
    except ImportError:
        raise _missing("PDF") from None
    from xml.sax.saxutils import escape

    pdfmetrics.registerFont(UnicodeCIDFont(_CHINESE_FONT))

    def said(text: str, size: int = 8, *, right: bool = False) -> Flowable:
        style = ParagraphStyle(
            "text", fontName=_font(text), fontSize=size, leading=1.3 * size,
            spaceBefore=size - 2 if size > 8 else 0, alignment=TA_RIGHT if right else TA_LEFT,
        )  # fmt: skip
        return Paragraph(escape(text), style)

    head, *lines = title(report, words)
    parts: list[Flowable] = [said(head, 16), *(said(line) for line in lines)]
    for table in tables(report, words):
        parts.append(said(table.name, 11))
        cells: list[list[Any]] = [[said(x, right=kind == "fen") for x, kind in table.columns]]
        for row in table.rows:
            cells.append(
                [
                    money(cell) if kind == "fen" and isinstance(cell, int) else said(str(cell))
                    for (_, kind), cell in zip(table.columns, row, strict=True)
                ]
            )
        widths = _widths(table, 180 * mm)
        grid = PdfTable(cells, colWidths=widths, repeatRows=1, hAlign="LEFT")
        style: list[Any] = [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 8),
            ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
            ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
        style += [
            ("ALIGN", (at, 0), (at, -1), "RIGHT")
            for at, (_, kind) in enumerate(table.columns)
            if kind == "fen"
        ]
        grid.setStyle(style)
        parts.append(grid)
    first = tables(report, words)[0]
    bars = [(str(row[0]), int(row[2])) for row in first.rows if row[2]]
    for caption, values in (("What happened", bars), ("Taken by the hour", _hours(within))):
        if values:
            named = said(f"{words(caption)} ({words('yuan')})", 11)
            parts.append(KeepTogether([Spacer(0, 4 * mm), named, _chart(values)]))
    out = io.BytesIO()
    SimpleDocTemplate(
        out, pagesize=A4, title=head, author="chipcash",
        leftMargin=15 * mm, rightMargin=15 * mm, topMargin=15 * mm, bottomMargin=15 * mm,
    ).build(parts)  # fmt: skip
    return out.getvalue()


def _widths(table: Table, whole: float) -> list[float]:
    """Widths of columns: text that explains takes what the others leave."""
    narrow = whole / 8
    if table.columns[-1][1] == "text":
        return [narrow * 1.6, *[narrow] * (len(table.columns) - 2), whole - narrow * (
            len(table.columns) - 0.4
        )]  # fmt: skip
    return [narrow * 2, *[narrow * 1.1] * (len(table.columns) - 1)]


_CHINESE_FONT = "STSong-Light"
"""Not embedded: every reader of PDF brings it, or asks for it."""


def _font(text: str) -> str:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return _CHINESE_FONT
    return "Helvetica"


def _chart(values: Sequence[tuple[str, int]]) -> Flowable:
    from reportlab.graphics.charts.barcharts import VerticalBarChart
    from reportlab.graphics.shapes import Drawing
    from reportlab.lib import colors

    drawing = Drawing(500, 170)
    chart = VerticalBarChart()
    chart.x, chart.y, chart.width, chart.height = 50, 40, 430, 120
    chart.data = [[fen / 100 for _, fen in values]]
    chart.categoryAxis.categoryNames = [text for text, _ in values]
    chart.categoryAxis.labels.fontName = _font("".join(text for text, _ in values))
    chart.bars[0].fillColor = colors.steelblue
    chart.bars[0].strokeColor = None
    chart.categoryAxis.labels.fontSize = 7
    chart.categoryAxis.labels.angle = 20
    chart.categoryAxis.labels.dy = -10
    chart.valueAxis.labels.fontSize = 7
    chart.valueAxis.valueMin = min(0, *(fen / 100 for _, fen in values))
    drawing.add(chart)
    return drawing


def _hours(within: Iterable[tuple[str, Event]]) -> list[tuple[str, int]]:
    """What was taken in each hour of the day, from the first to the last in which something was."""
    fen: dict[int, int] = {}
    for _, event in within:
        if event.what == What.TAKEN:
            hour = datetime.fromtimestamp(event.time).hour
            fen[hour] = fen.get(hour, 0) + event.amount
    if not fen:
        return []
    return [(f"{hour:02}", fen.get(hour, 0)) for hour in range(min(fen), max(fen) + 1)]


_BEANCOUNT = {
    Account.SALES: "Income:Sales",
    Account.PENDING: "Assets:Till:{}:Pending",
    Account.SUBMITTED: "Assets:Till:{}:Submitted",
    Account.VERIFIED: "Assets:Till:{}:Verified",
    Account.LEAVING: "Assets:Till:{}:Leaving",
    Account.DISPUTED: "Expenses:Disputed",
    Account.EXPIRED: "Expenses:Expired",
    Account.SPENT: "Assets:Bank:Paid",
    Account.REFUNDED: "Income:Refunds",
    Account.REDEEMED: "Assets:Bank:Redeemed",
    Account.OTHERWISE: "Equity:Otherwise",
}


def beancount(chosen: Period, fees: Sequence[tuple[date, int]] = ()) -> str:
    """A double-entry journal in beancount's format, with balances before and after that its checker proves.

    fees: what the bank kept, by day, fen; without them none are booked.
    """
    first = datetime.fromtimestamp(chosen.since).date()
    after = datetime.fromtimestamp(chosen.until - 1).date() + timedelta(days=1)
    lines = ['option "title" "chipcash"', 'option "operating_currency" "CNY"', ""]
    names = {
        (till, account): _BEANCOUNT[account].format(f"T{number}")
        for number, (till, _) in enumerate(chosen.tills, 1)
        for account in ACCOUNTS
    }
    for number, (till, _) in enumerate(chosen.tills, 1):
        lines.append(f"; T{number} is {_one_line(till)}")
    accounts = sorted({*names.values(), "Equity:Opening", "Expenses:Fees", "Assets:Bank:Fees"})
    # One day before the first, on which the balances before are booked.
    start = first - timedelta(days=1)
    lines += [f"{start} open {name} CNY" for name in accounts]
    totals = dict.fromkeys(accounts, 0)
    for till, happened in chosen.tills:
        opening = position(event for event in happened if event.time < chosen.since)
        if any(opening.values()):
            lines += ["", f'{start} * "Balances before"']
            lines += _postings(names, till, opening.items(), totals)
    for till, event in chosen.within():
        if event.postings:
            day = datetime.fromtimestamp(event.time).date()
            lines += ["", f'{day} * "{_quoted(_narration(event))}" ^{event.ident.hex()}']
            if event.operator:
                lines.append(f'  operator: "{_quoted(event.operator)}"')
            lines += _postings(names, till, event.postings, totals)
    for day, fen in fees:
        if fen:
            lines += ["", f'{day} * "What the bank kept"']
            for name, amount in (("Expenses:Fees", fen), ("Assets:Bank:Fees", -fen)):
                lines.append(f"  {name}  {money(amount)} CNY")
                totals[name] += amount
    lines.append("")
    lines += [f"{after} balance {name}  {money(fen)} CNY" for name, fen in totals.items()]
    return "\n".join(lines) + "\n"


def _postings(
    names: dict[tuple[str, Account], str],
    till: str,
    booked: Iterable[tuple[Account, int]],
    totals: dict[str, int],
) -> list[str]:
    lines = []
    for account, fen in booked:
        if fen:
            name = names[till, account]
            totals[name] += fen
            lines.append(f"  {name}  {money(fen)} CNY")
    return lines


def _narration(event: Event) -> str:
    if event.kind is not None:
        return f"{event.what} ({event.kind})"
    return f"{event.what} {event.reason}".strip()


def _quoted(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace('"', '\\"')


def _one_line(text: str) -> str:
    return "".join(x if x.isprintable() else " " for x in text)


def _missing(what: str) -> ExtraMissing:
    return ExtraMissing(
        f"This installation of chipcash cannot write {what}.",
        hint="Install its extra: pip install 'chipcash[books]'. CSV and the journal need nothing.",
    )

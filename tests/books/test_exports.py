# SPDX-License-Identifier: Apache-2.0
"""Exports, read back by programs of others: spreadsheets, beancount's checker, PDF, ISO 20022's schemas."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import openpyxl
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from chipcash.bank.accounts import Accounts, Statement
from chipcash.bank.camt import VERSIONS, Entry, MessageInvalid, camt053, camt054, read_camt
from chipcash.books import exports, layout
from chipcash.books.exports import (
    Period,
    beancount,
    csv_text,
    excel,
    kept_fees,
    pdf,
    period,
    slips,
)
from chipcash.books.layout import LANGUAGES, Words, money
from chipcash.pos import Pos
from chipcash.pos.events import Account, Event, What, events
from chipcash.pos.store import Store
from chipcash.slips import SlipInvalid, read_slips
from chipcash.transports import open_path
from tests.books.test_reports import copied
from tests.builders import DAY
from tests.pos.shop import Shop

EN = Words()


@pytest.fixture
def busy(shop: Shop) -> Shop:
    """A till on its second day: something of everything."""
    path = shop.card()
    clone = copied(path, "clone.img")
    shop.pos.operator = "=HYPERLINK(1)"
    first = shop.pay(path, 1200)
    shop.pay(clone, 500)
    shop.pos.sync(shop.center)
    shop.pay(shop.card("a"), 250)
    shop.now += DAY
    shop.pos.sync(shop.center)
    shop.pos.operator = 'Wang "王"\\芳'
    shop.pay(shop.card("b"), 333)
    shop.pos.refund(first.claim_id, 100, shop.center)
    shop.pos.spend(600, shop.net.public("bank"), shop.center)
    shop.pos.redeem(shop.center, 50)
    return shop


def of_second_day(shop: Shop) -> Period:
    start = datetime.combine(date.fromtimestamp(shop.now), datetime.min.time())
    since = int(start.timestamp())
    return period([("kiosk", shop.pos)], since, since + DAY)


def checked(journal: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """beancount's own checker, as a program."""
    file = folder / "journal.beancount"
    file.write_text(journal)
    program = Path(sys.executable).with_name("bean-check")
    return subprocess.run([program, file], capture_output=True, text=True, check=False)


def test_beancount_accepts_the_journal_and_its_balances(busy: Shop, tmp_path: Path) -> None:
    for chosen in (of_second_day(busy), period([("kiosk", busy.pos)], 0, busy.now + 1)):
        journal = beancount(chosen, [(date.fromtimestamp(busy.now), 7)])
        done = checked(journal, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        closing = chosen.report.closing
        assert f"balance Assets:Till:T1:Verified  {money(closing[Account.VERIFIED])} CNY" in journal
        assert f"balance Income:Sales  {money(closing[Account.SALES])} CNY" in journal
        # It is no checker that accepts anything.
        wrong = re.sub(r"(balance Assets:Till:T1:Verified  )\S+", r"\g<1>1.23", journal)
        assert checked(wrong, tmp_path).returncode != 0
        wrong = journal.replace("Pending  3.33", "Pending  3.34", 1)
        assert wrong != journal and checked(wrong, tmp_path).returncode != 0


def test_fees_are_of_the_days_and_tills_of_the_journal(busy: Shop, tmp_path: Path) -> None:
    """And not all that a statement of a week, and of more tills, tells."""
    chosen = of_second_day(busy)
    paid = [event.ident for _, event in chosen.within() if event.what == What.SPENT]
    day = date.fromtimestamp(busy.now)
    credits = [
        Entry(nonce, 599, 1, "1", "x", (day + timedelta(days=days)).isoformat())
        for nonce in (*paid, bytes(16), None)
        for days in (-2, -1, 0, 1)
    ]
    credits.append(Entry(paid[0], 599, 1, "1", "x", ""))
    assert kept_fees(chosen, credits) == [(day, 1)]
    done = checked(beancount(chosen, kept_fees(chosen, credits)), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_till_at_work_is_exported_as_it_was_at_one_moment(
    busy: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report and events tell of the same payments, whatever comes while they are made."""
    other = Pos(busy.pos.directory, clock=lambda: busy.now)
    path = busy.card("late")

    def late(store: Store) -> list[Event]:
        with open_path(path) as connection:
            other.charge(connection, 77)
            found = events(store)
            other.charge(connection, 88)
        return found

    monkeypatch.setattr(exports, "events", late)
    chosen = of_second_day(busy)
    other.close()
    taken = [event for _, event in chosen.within() if event.what == What.TAKEN]
    line = chosen.report.line(What.TAKEN)
    assert (line.count, line.fen) == (len(taken), sum(event.amount for event in taken))


def test_csv(busy: Shop) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(of_second_day(busy), EN))))
    assert [row["event"] for row in rows][:2] == ["submitted", "verified"]
    assert {row["event"] for row in rows} >= {"ordered", "refunded", "spent", "redeemed"}
    (taken,) = [row for row in rows if row["event"] == "taken"]
    assert (taken["amount"], taken["operator"]) == ("3.33", 'Wang "王"\\芳')
    everything = csv_text(period([("kiosk", busy.pos)], 0, busy.now + 1), EN)
    for row in csv.reader(io.StringIO(everything)):
        assert not any(cell.startswith("=") for cell in row)  # an operator's name is no formula
    assert "'=HYPERLINK(1)" in everything
    assert (
        exports._csv_cell("text", "\uff1d1+1") == "'\uff1d1+1"
    )  # in full width, which is read alike


@pytest.mark.parametrize("language", LANGUAGES)
def test_excel(busy: Shop, language: str) -> None:
    chosen = of_second_day(busy)
    book = openpyxl.load_workbook(io.BytesIO(excel(chosen, Words(language))))
    report, details = book.worksheets
    values = {str(row[0]): row[1:] for row in report.iter_rows(values_only=True) if row[0]}
    taken = values[Words(language)("Taken")]
    assert taken[:2] == (1, 3.33)
    assert values[Words(language)("Verified, can be spent")][:2] == (12.0, 7)
    assert len(list(details.iter_rows())) == 1 + len(chosen.within())
    assert all(cell.data_type != "f" for row in details.iter_rows() for cell in row)
    assert len(report._charts) == 1


def test_events_that_one_sheet_cannot_hold_are_on_the_next(
    busy: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SHEET_ROWS", 5)
    chosen = of_second_day(busy)
    made = excel(chosen, EN)
    _, *details = openpyxl.load_workbook(io.BytesIO(made)).worksheets
    assert [sheet.title for sheet in details][:2] == ["Events", "Events 2"]
    ids = [row[3] for sheet in details for row in list(sheet.iter_rows(values_only=True))[1:]]
    assert ids == [event.ident.hex() for _, event in chosen.within()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_pdf(busy: Shop, language: str) -> None:
    chosen = of_second_day(busy)
    made = pdf(chosen.report, Words(language), chosen.within())
    document = pypdf.PdfReader(io.BytesIO(made))
    text = "".join(page.extract_text() for page in document.pages)
    assert "3.33" in text and "-6.00" not in text
    assert chosen.report.till in re.sub(r"\s", "", text)
    if language == "en":
        assert "Day report" in text and "Refunded" in text and "of it from before" in text
    # A chart is drawn: bars are filled rectangles beside those of the tables.
    drawn = b"".join(page.get_contents().get_data() for page in document.pages)  # type: ignore[union-attr]
    assert drawn.count(b" re ") + drawn.count(b" f\n") > 4


def test_every_word_is_there_in_chinese(busy: Shop) -> None:
    zh = Words("zh")
    for report in (busy.pos.x_report(), of_second_day(busy).report):
        for table in layout.tables(report, zh):
            assert re.search("[\u4e00-\u9fff]", table.name)
        assert layout.title(report, zh)
    layout.event_table(of_second_day(busy).within(), zh)
    for name, meaning in layout._LINES.values():
        assert zh(name) != name and zh(meaning) != meaning


def test_names_that_begin_alike_are_told_apart(shop: Shop) -> None:
    for name, amount in (("cashier-of-the-north", 100), ("cashier-of-the-south", 200)):
        shop.pos.operator = name
        shop.pay(shop.card(name), amount)
    (table,) = (x for x in layout.tables(shop.pos.x_report(), EN) if x.name == "By operator")
    assert [row[:2] for row in table.rows] == [
        ("cashier-of-the-north", 100),
        ("cashier-of-the-south", 200),
    ]


SCHEMAS = files("openpurse") / "schemas"


@pytest.fixture
def statement(busy: Shop, tmp_path: Path) -> Statement:
    bank = busy.net.public("bank")
    accounts = Accounts(
        tmp_path / "bank.db", bank, busy.net.trust, lambda: busy.now + 5, create=True
    )
    accounts.add("6222 0000 01", "Kiosk & Söhne <王>", (busy.pos.public,), fee_bp=30)
    for slip in slips(busy.pos, 0, busy.now + 1):
        accounts.credit(slip)
    return accounts.statement("6222 0000 01", busy.now - DAY, busy.now + DAY)


@pytest.mark.parametrize("name", ["camt.053", "camt.054"])
def test_the_published_schema_accepts_the_banks_messages(statement: Statement, name: str) -> None:
    """Of version 13; version 8 has the same elements under another namespace."""
    assert len(statement.credits) == 2
    write = camt053 if name == "camt.053" else camt054
    schema = etree.XMLSchema(etree.fromstring((SCHEMAS / f"{name}.001.13.xsd").read_bytes()))
    made = write(statement, statement.until)
    schema.assertValid(etree.fromstring(made))
    empty = Statement(statement.merchant, statement.since, statement.until, 0, ())
    schema.assertValid(etree.fromstring(write(empty, statement.until)))
    assert not schema.validate(etree.fromstring(made.replace(b"CRDT", b"CREDIT")))
    other = write(statement, statement.until, "08")
    assert other.replace(b".001.08", b".001.13") == made
    for version in VERSIONS:
        entries = read_camt(write(statement, statement.until, version))
        assert [(x.fen, x.fee) for x in entries] == [(599, 1), (50, 0)]
        assert {x.account for x in entries} == {"6222 0000 01"}


def test_balances_of_camt053(statement: Statement) -> None:
    root = etree.fromstring(camt053(statement, statement.until))
    space = {"c": "urn:iso:std:iso:20022:tech:xsd:camt.053.001.13"}
    amounts = root.xpath("//c:Bal/c:Amt/text()", namespaces=space)
    assert amounts == ["0.00", "6.49"]
    assert root.xpath("//c:Ntry/c:NtryRef/text()", namespaces=space)[0] == (
        statement.credits[0].nonce.hex()
    )


def entry(amount: str, currency: str = "CNY") -> str:
    return (
        f'<Document><Stmt><Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
        "<Sts>BOOK</Sts></Ntry></Stmt></Document>"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a/>",
        "<Document/>",
        '<!DOCTYPE x [<!ENTITY a "b">]><Document/>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><Document/>',
        entry("1", "EUR"),
        entry("1.001"),
        entry("NaN"),
        entry("-1"),
        entry("Infinity"),
        entry("1e999999"),
        entry("1_0"),
        entry("1" * 19),
        entry("."),
        entry("1").replace("<Sts>", "<BookgDt><Dt>2026-13-01</Dt></BookgDt><Sts>"),
        '<?xml version="1.0" encoding="klingon"?><Document/>',
    ],
)
def test_what_is_no_statement_is_refused(text: str) -> None:
    assert read_camt(entry("1").encode())
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(MessageInvalid) as refused:
            read_camt(text.encode(encoding))
        assert ("document type" in str(refused.value)) == ("DOCTYPE" in text)


def test_amounts_as_banks_write_them() -> None:
    amounts = ("1", "1.", "1.5", "01.50", "1.50000", " 1.5\n", "+1.5", "0", "9" * 18 + ".99")
    found = [read_camt(entry(amount).encode())[0].fen for amount in amounts]
    assert found == [100, 100, 150, 150, 150, 150, 150, 0, int("9" * 20)]


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_nothing_but_a_refusal_comes_of_any_bytes(data: bytes, at: int, put: bytes) -> None:
    good = entry("1").encode()
    for each in (data, good[:at] + put + good[at + len(put) :]):
        for read, refusal in ((read_camt, MessageInvalid), (read_slips, SlipInvalid)):
            try:
                read(each)
            except refusal:
                pass


def test_a_banks_own_entries_are_read_past() -> None:
    """Of another version, with bookings that are nobody's here: debits, pending ones, other references."""
    booked = (
        '<Ntry><NtryRef>{}</NtryRef><Amt Ccy="CNY">1.5</Amt>'
        "<CdtDbtInd>{}</CdtDbtInd><Sts>{}</Sts></Ntry>"
    )
    data = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt><Stmt>'
        + booked.format("rent", "DBIT", "BOOK")
        + booked.format("x", "CRDT", "PDNG")
        + booked.format("salary", "CRDT", "BOOK")
        + booked.format("ab" * 16, "CRDT", "BOOK")
        + booked.format("ab" * 16, "DBIT", "BOOK").replace("<Sts>", "<RvslInd>true</RvslInd><Sts>")
        + booked.format("rent", "CRDT", "BOOK").replace("<Sts>", "<RvslInd>true</RvslInd><Sts>")
        + "</Stmt></BkToCstmrStmt></Document>"
    )
    assert [(x.nonce, x.fen) for x in read_camt(data.encode())] == [
        (None, 150),
        (bytes.fromhex("ab" * 16), 150),
        (bytes.fromhex("ab" * 16), -150),  # taken back
    ]


@pytest.fixture
def china(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock on the wall is eight hours ahead."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("china")
def test_banks_write_charges_and_times_in_several_ways() -> None:
    def read(fields: str) -> tuple[int, str]:
        (found,) = read_camt(entry("1").replace("<Sts>", f"{fields}<Sts>").encode())
        return found.fee, found.day

    rate = '<Rcrd><Amt Ccy="CNY">0.02</Amt></Rcrd>'
    total = '<TtlChrgsAndTaxAmt Ccy="CNY">0.05</TtlChrgsAndTaxAmt>'
    assert read(f"<Chrgs>{rate}{rate}</Chrgs>")[0] == 4
    back = rate.replace("</Rcrd>", "<CdtDbtInd>CRDT</CdtDbtInd></Rcrd>")
    assert read(f"<Chrgs>{rate}{back}</Chrgs>")[0] == 2
    assert read(f"<Chrgs>{total}{rate}</Chrgs>")[0] == 5
    for text, day in (
        ("<Dt>2026-11-28</Dt>", "2026-11-28"),
        ("<Dt>2026-11-28+08:00</Dt>", "2026-11-28"),
        ("<DtTm>2026-11-28T16:30:00Z</DtTm>", "2026-11-29"),
        ("<DtTm>2026-11-28T16:30:00.5+08:00</DtTm>", "2026-11-28"),
        ("<DtTm>2026-11-28T16:30:00</DtTm>", "2026-11-28"),
        ("<DtTm>2026-11-28T24:00:00</DtTm>", "2026-11-28"),
    ):
        assert read(f"<BookgDt>{text}</BookgDt>")[1] == day


@pytest.mark.usefixtures("china")
def test_a_banks_day_is_the_one_of_its_calendar(statement: Statement) -> None:
    """Also where that is not the one of UTC: what is booked at seven in China is of that day."""
    since = int(datetime(2026, 11, 29).timestamp())
    early = replace(statement.credits[0], time=since + 7 * 3600)
    day = replace(statement, since=since, until=since + DAY, credits=(early,))
    made = camt053(day, since + DAY)
    assert [x.day for x in read_camt(made)] == ["2026-11-29"]
    root = etree.fromstring(made)
    dates = [x.text for x in root.iter("{*}Dt") if x.text and x.text.strip()]
    assert dates == ["2026-11-29", "2026-11-29"]
    schema = (SCHEMAS / "camt.053.001.13.xsd").read_bytes()
    etree.XMLSchema(etree.fromstring(schema)).assertValid(root)


def test_the_journal_books_every_kind(busy: Shop) -> None:
    kinds = {event.what for _, event in period([("kiosk", busy.pos)], 0, busy.now + 1).within()}
    assert kinds >= set(What) - {What.EXPIRED, What.RETURNED, What.CAME, What.CONSUMED}

# SPDX-License-Identifier: Apache-2.0
"""A bank's statements as ISO 20022 messages: camt.053 for a day, camt.054 for what was credited.

Version 13 of both, of 2025; the elements used here are in version 8 as well, which more programs read.
Amounts are yuan (CNY) with two decimals. Digital cash paid in is booked as cash is: PMNT, CNTR, CDPT. An
entry's reference is the nonce of the till's deposit, as hex.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from xml.etree import ElementTree as ET

from chipcash.bank.accounts import Credit, Statement
from chipcash.errors import ChipcashError

__all__ = ["VERSIONS", "Entry", "MessageInvalid", "camt053", "camt054", "read_camt", "together"]

VERSIONS = ("13", "08")
"""Versions of the two messages that can be written."""
_CURRENCY = "CNY"


class MessageInvalid(ChipcashError):
    """This is no bank's statement that can be read here."""

    exit_code = 32


@dataclass(frozen=True)
class Entry:
    """A credit as a statement tells it. nonce: of the till's deposit, None where the entry names none; fen:
    what was booked, below zero where a credit was taken back; fee: what was kept before that; account,
    reference: of the bank; day: of booking (ISO 8601), of this machine's calendar where the message tells the
    moment, "" where it tells none."""

    nonce: bytes | None
    fen: int
    fee: int
    account: str
    reference: str
    day: str


class _Builder(ET.TreeBuilder):
    """Refuses a document type, which no such message has, in whatever encoding: with it come entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called where one begins, before anything in it is taken."""
        raise _invalid("it has a document type, which no such message has")


def camt053(statement: Statement, made: int, version: str = VERSIONS[0]) -> bytes:
    """A statement as camt.053 (Bank to Customer Statement). made: when, seconds since 1970."""
    root, body = _document("camt.053", version, "BkToCstmrStmt")
    ident = _header(body, "S", statement, made)
    stmt = _add(body, "Stmt")
    _add(stmt, "Id", ident)
    _add(stmt, "CreDtTm", _moment(made))
    _period(stmt, statement)
    _account(stmt, statement)
    for code, fen, at in (
        ("OPBD", statement.opening, statement.since),
        ("CLBD", statement.closing, statement.until - 1),
    ):
        balance = _add(stmt, "Bal")
        _add(_add(_add(balance, "Tp"), "CdOrPrtry"), "Cd", code)
        _amount(balance, "Amt", fen)
        _add(balance, "CdtDbtInd", "CRDT")
        _add(_add(balance, "Dt"), "Dt", _day(at))
    _totals(stmt, statement.credits)
    for credit in statement.credits:
        _entry(stmt, credit)
    return _bytes(root)


def camt054(statement: Statement, made: int, version: str = VERSIONS[0]) -> bytes:
    """A statement's credits as camt.054 (Bank to Customer Debit Credit Notification): without balances."""
    root, body = _document("camt.054", version, "BkToCstmrDbtCdtNtfctn")
    ident = _header(body, "N", statement, made)
    notification = _add(body, "Ntfctn")
    _add(notification, "Id", ident)
    _add(notification, "CreDtTm", _moment(made))
    _period(notification, statement)
    _account(notification, statement)
    _totals(notification, statement.credits)
    for credit in statement.credits:
        _entry(notification, credit)
    return _bytes(root)


def read_camt(data: bytes) -> list[Entry]:
    """The booked credits in a camt.053 or camt.054, of any version and any bank, and which of them the bank
    took back. Raises MessageInvalid.

    A camt.054 tells nothing that a camt.053 of the same day does not.
    """
    try:
        root = ET.fromstring(data, ET.XMLParser(target=_Builder()))
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two for encodings
        raise _invalid(f"it is not XML: {error}") from None
    # Banks write several versions, which differ in their namespaces only as far as this goes.
    for element in root.iter():
        element.tag = re.sub(r"\{.*\}", "", element.tag)
    found = []
    statements = [*root.iter("Stmt"), *root.iter("Ntfctn")]
    if root.tag != "Document" or not statements:
        raise _invalid("it is no camt.053 or camt.054")
    for statement in statements:
        account = statement.findtext("Acct/Id/Othr/Id") or statement.findtext("Acct/Id/IBAN") or ""
        for entry in statement.findall("Ntry"):
            if (entry.findtext("Sts/Cd") or entry.findtext("Sts")) != "BOOK":
                continue
            back = (entry.findtext("RvslInd") or "").strip() in ("true", "1")
            credit = entry.findtext("CdtDbtInd") == "CRDT"
            if credit != back:
                read = _read_entry(entry, account)
                found.append(replace(read, fen=-read.fen, fee=0) if back else read)
    return found


def together(messages: Iterable[Iterable[Entry]]) -> list[Entry]:
    """The entries of several messages, without what the bank took back. What several of them tell, such as a
    day's and a week's, was booked once; what one of them tells twice, twice."""
    found: Counter[Entry] = Counter()
    for entries in messages:
        found |= Counter(entries)
    back = Counter((entry.nonce, -entry.fen) for entry in found.elements() if entry.fen < 0)
    standing = []
    for entry in found.elements():
        if back[entry.nonce, entry.fen] > 0:
            back[entry.nonce, entry.fen] -= 1
        elif entry.fen >= 0:
            standing.append(entry)
    return standing


def _read_entry(entry: ET.Element, account: str) -> Entry:
    nonce = None
    for reference in (entry.findtext("NtryRef"), entry.findtext(".//Refs/EndToEndId")):
        # Some banks write all references in capitals.
        if reference and re.fullmatch("[0-9a-fA-F]{32}", reference):
            nonce = bytes.fromhex(reference)
    return Entry(
        nonce=nonce,
        fen=_fen(entry.find("Amt")),
        fee=_fee(entry),
        account=account,
        reference=entry.findtext("AcctSvcrRef") or "",
        day=_booked(entry),
    )


def _booked(entry: ET.Element) -> str:
    day, moment = entry.findtext("BookgDt/Dt"), entry.findtext("BookgDt/DtTm")
    try:
        if day:
            return date.fromisoformat(day[:10]).isoformat()
        if not moment:
            return ""
        booked = date.fromisoformat(moment[:10])
        try:
            at = datetime.fromisoformat(moment)
            # Without an offset it is the bank's own time, and nothing better is known.
            return (booked if at.tzinfo is None else at.astimezone().date()).isoformat()
        except (ValueError, OverflowError):  # such as 24:00:00
            return booked.isoformat()
    except ValueError:
        raise _invalid("a booking has no date") from None


def _fee(entry: ET.Element) -> int:
    """What was kept: the total, which a bank may leave out, or its parts."""
    total = entry.find("Chrgs/TtlChrgsAndTaxAmt")
    if total is not None:
        return _fen(total)
    parts = entry.findall("Chrgs/Rcrd")
    return sum(_fen(x.find("Amt")) for x in parts if x.findtext("CdtDbtInd") != "CRDT")


def _fen(element: ET.Element | None) -> int:
    text = "" if element is None else (element.text or "").strip()
    # Of an amount ISO 20022 allows 18 digits, and five of them behind the point; here all after two are 0.
    parts = re.fullmatch(r"\+?([0-9]{1,18})(?:\.([0-9]{0,2})0{0,3})?", text)
    if element is None or element.get("Ccy") != _CURRENCY or parts is None:
        raise _invalid(f"an amount is not in whole fen of {_CURRENCY}")
    whole, fraction = parts.groups()
    return int(whole) * 100 + int((fraction or "").ljust(2, "0"))


def _document(message: str, version: str, name: str) -> tuple[ET.Element, ET.Element]:
    space = f"urn:iso:std:iso:20022:tech:xsd:{message}.001.{version}"
    root = ET.Element("Document", {"xmlns": space})
    return root, _add(root, name)


def _header(body: ET.Element, kind: str, statement: Statement, made: int) -> str:
    """The group header; the id of what follows, which is the same for the same account and period."""
    ident = f"{kind}-{statement.since}-{statement.until}-{made}"
    header = _add(body, "GrpHdr")
    _add(header, "MsgId", ident)
    _add(header, "CreDtTm", _moment(made))
    return f"{kind}-{statement.since}-{statement.until}"


def _period(parent: ET.Element, statement: Statement) -> None:
    period = _add(parent, "FrToDt")
    _add(period, "FrDtTm", _moment(statement.since))
    _add(period, "ToDtTm", _moment(statement.until))


def _account(parent: ET.Element, statement: Statement) -> None:
    account = _add(parent, "Acct")
    _add(_add(_add(account, "Id"), "Othr"), "Id", statement.merchant.account)
    _add(account, "Ccy", _CURRENCY)
    _add(_add(account, "Ownr"), "Nm", statement.merchant.name)


def _totals(parent: ET.Element, credits: Sequence[Credit]) -> None:
    totals = _add(_add(parent, "TxsSummry"), "TtlCdtNtries")
    _add(totals, "NbOfNtries", str(len(credits)))
    _add(totals, "Sum", _yuan(sum(credit.net for credit in credits)))


def _entry(parent: ET.Element, credit: Credit) -> None:
    entry = _add(parent, "Ntry")
    _add(entry, "NtryRef", credit.nonce.hex())
    _amount(entry, "Amt", credit.net)
    _add(entry, "CdtDbtInd", "CRDT")
    _add(_add(entry, "Sts"), "Cd", "BOOK")
    _add(_add(entry, "BookgDt"), "DtTm", _moment(credit.time))
    _add(_add(entry, "ValDt"), "DtTm", _moment(credit.paid))
    _add(entry, "AcctSvcrRef", f"CREDIT-{credit.number}")
    domain = _add(_add(entry, "BkTxCd"), "Domn")
    _add(domain, "Cd", "PMNT")
    family = _add(domain, "Fmly")
    _add(family, "Cd", "CNTR")
    _add(family, "SubFmlyCd", "CDPT")
    if credit.fee:
        charges = _add(entry, "Chrgs")
        _amount(charges, "TtlChrgsAndTaxAmt", credit.fee)
        record = _add(charges, "Rcrd")
        _amount(record, "Amt", credit.fee)
        _add(record, "CdtDbtInd", "DBIT")
        _add(record, "ChrgInclInd", "true")
    details = _add(_add(entry, "NtryDtls"), "TxDtls")
    _add(_add(details, "Refs"), "EndToEndId", credit.nonce.hex())
    _amount(details, "Amt", credit.net)
    _add(details, "CdtDbtInd", "CRDT")
    if credit.fee:
        _amount(_add(_add(details, "AmtDtls"), "InstdAmt"), "Amt", credit.fen)
    what = "redeemed at the issuing library" if credit.redeemed else "paid to the bank"
    _add(_add(details, "RmtInf"), "Ustrd", f"Digital cash {what} by the till {credit.till.hex()}")


def _add(parent: ET.Element, name: str, text: str | None = None) -> ET.Element:
    child = ET.SubElement(parent, name)
    child.text = text
    return child


def _amount(parent: ET.Element, name: str, fen: int) -> None:
    _add(parent, name, _yuan(fen)).set("Ccy", _CURRENCY)


def _yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02}"


def _moment(time: int) -> str:
    # With this machine's offset, so that the dates in it are those of the day that was asked for.
    return datetime.fromtimestamp(time).astimezone().isoformat().replace("+00:00", "Z")


def _day(time: int) -> str:
    return datetime.fromtimestamp(time).date().isoformat()


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _invalid(why: str) -> MessageInvalid:
    return MessageInvalid(
        f"This is no bank's statement that can be read: {why}.",
        hint="Ask the bank for it as ISO 20022 camt.053.",
    )

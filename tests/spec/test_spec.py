# SPDX-License-Identifier: Apache-2.0
"""The specification says what the code does: its tables against the code, a real card, a real center."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chipcash.center.bodies
import chipcash.center.http
import chipcash.center.inquiry
import chipcash.center.operations
import chipcash.center.registration
import chipcash.center.verification
import chipcash.web
from chipcash.center.batch import MAX_INTERVALS
from chipcash.center.http import ENDPOINTS, MAX_BODY
from chipcash.center.openapi import ERRORS
from chipcash.center.parameters import Parameters
from chipcash.center.registration import MAX_RENEWED
from chipcash.pos import PaymentState, PromiseState, RequestState, books
from chipcash.terminal import REASONS, RETRYABLE, Policy
from chipcash_card.applet import Applet
from chipcash_links import gatt
from chipcash_links.ccid import ATR_T0, ATR_T1
from chipcash_links.iso14443 import ATS
from chipcash_sim.card_process import ATR_CONTACT, ATR_CONTACTLESS
from chipcash_sim.image import MemoryFlash
from chipcash_wire import card_objects, tlv
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire.status import NAMES, STATUS
from tests.center.world import World
from tests.portable.network import DAY, NOW, PIN, PUK, Network

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "protocols" / "spec"
PAGES = sorted(SPEC.glob("*.md"))

Row = list[str]


def text(page: str) -> str:
    return (SPEC / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """The page on one line, so that a sentence may be looked for wherever its lines break."""
    return " ".join(text(page).split())


def tables(page: str) -> list[list[Row]]:
    """Every table of a page: its rows, the head first, the cells without blanks around them."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text(page), re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        assert all(len(row) == len(rows[0]) for row in rows), rows[0]
        found.append([rows[0], *rows[2:]])
    return found


def table(page: str, *head: str) -> list[Row]:
    """The rows of the one table of a page whose head begins like this."""
    found = [rows[1:] for rows in tables(page) if rows[0][: len(head)] == list(head)]
    assert len(found) == 1, (page, head, len(found))
    return found[0]


def code(cell: str) -> str:
    """What stands between backticks."""
    found = re.fullmatch(r"`([^`]+)`", cell)
    assert found is not None, cell
    return found[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


# Objects ------------------------------------------------------------------------------------------


def spelled(cls: type[o.Object]) -> str:
    """The specification's name of an object: PayRequest is the pay request."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", cls.__name__).lower()


CLASSES = {spelled(cls): cls for cls in o.Object.__subclasses__()}


def kind_of(words: str) -> tuple[int, Any]:
    """Kind and size in the codec's terms."""
    if words == "public key":
        return card_objects._KEY, 33
    if bits := re.fullmatch(r"(\d+) bits(, (fen|s|time))?", words):
        return card_objects._UINT, int(bits[1])
    if size := re.fullmatch(r"(\d+) bytes", words):
        return card_objects._BYTES, int(size[1])
    sizes = re.fullmatch(r"(?:(\d+) to )?(\d+) (bytes|ASCII digits)", words)
    assert sizes is not None, words
    return card_objects._BYTES, (int(sizes[1] or sizes[2]), int(sizes[2]))


def test_fields() -> None:
    told = {}
    for row in table("objects.md", "tag", "name", "kind", ""):
        for tag, name, kind in (row[:3], row[4:]):
            if name:
                assert name not in told
                told[name] = (int(code(tag), 16), *kind_of(kind))
    assert told == card_objects._FIELDS


def test_objects() -> None:
    told = {}
    for tag, name, fields, signed_by in table("objects.md", "tag", "object", "fields in order"):
        told[name] = (int(code(tag), 16), fields.split(", "), bool(signed_by))
    expected = {}
    for name, cls in CLASSES.items():
        fields = []
        for field in cls.FIELDS:
            if field[-1] not in "*=":
                fields.append(field)
                continue
            inner, least, most = cls.MANY[field[:-1]]
            times = f"{least}..{most} × " if least != most else f"{least} × "
            fields.append(("" if field[-1] == "=" else times) + spelled(inner))
        expected[name] = (cls.TAG, fields, cls.FIELDS[-1] == "signature")
    assert told == expected


def test_codes() -> None:
    columns = list(zip(*table("objects.md", "code", "role", "form"), strict=True))
    assert columns[0] == tuple(str(i) for i in range(1, len(columns[0]) + 1))
    names = [tuple(name for name in column if name) for column in columns[1:]]
    assert names[0] == o.ROLES[1:]
    assert names[1] == o.FORMS[1:]
    assert names[2] == tuple(
        name[5:].lower()
        for name in sorted(
            (name for name in vars(o) if name.startswith("LIFE_")), key=vars(o).__getitem__
        )
    )
    assert names[3] == o.OUTCOMES[1:]
    reasons = {"repeat payment": o.REASON_REPEAT_PAYMENT, "lost": o.REASON_LOST}
    assert names[4] == tuple(sorted(reasons, key=reasons.__getitem__))


def test_identifiers() -> None:
    told = dict(row[:2] for row in table("objects.md", "what", "value"))
    assert bytes.fromhex(re.match("`([^`]+)`", told["AID"])[1]) == c.AID  # type: ignore[index]
    assert told["protocol version"] == str(o.VERSION)
    suites = {words for words in told if words.startswith("suite")}
    assert suites == {f"suite {number}, `{name}`" for name, number in o.SUITES.items()}


K = b"\x02" + bytes(32)
HEADER = o.make_header(b"TEST", o.SUITE_P256)
SIGNATURE = bytes(64)
U32 = (1 << 32) - 1


def a_title(big: bool) -> o.Title:
    most = o.MAX_AMOUNT
    return o.Title(
        header=HEADER, signer=bytes(8), serial=bytes(16), amount=most if big else 1,
        lo=most - most // 8 if big else 0, hi=most if big else 1, owner=K, epoch=U32 * big,
        expiry=o.MAX_TIME * big, signature=SIGNATURE,
    )  # fmt: skip


def a_certificate(big: bool) -> o.Certificate:
    return o.Certificate(
        header=HEADER, signer=bytes(8), time=o.MAX_TIME - 1 if big else 0,
        expiry=o.MAX_TIME if big else 1, subject=K, role=o.ROLE_CARD, tier=1, form=1,
        per_payment=o.MAX_AMOUNT * big, signature=SIGNATURE,
    )  # fmt: skip


def a_claim(titles: int, big: bool) -> o.Claim:
    title = a_title(big)
    inputs = tuple(
        o.Input(title_id=bytes((i,)) * 32, lo=title.lo, hi=title.hi) for i in range(titles)
    )
    return o.Claim(
        header=HEADER, inputs=inputs, amount=sum(x.hi - x.lo for x in inputs), payee=K,
        nonce=bytes(16), counter=U32 * big, time=o.MAX_TIME * big, deadline=o.MAX_TIME * big,
        signature=SIGNATURE,
    )  # fmt: skip


def a_payment(titles: int, big: bool) -> o.Payment:
    return o.Payment(
        claim=a_claim(titles, big),
        titles=(a_title(big),) * titles,
        certificate=a_certificate(big),
    )


def a_risk(big: bool) -> o.RiskParameters:
    return o.RiskParameters(
        header=HEADER, signer=bytes(8), subject=K, sequence=U32 * big, time=o.MAX_TIME * big,
        per_payment=o.MAX_AMOUNT * big, cumulative=o.MAX_AMOUNT * big, count=U32 * big,
        pin_free=o.MAX_AMOUNT * big, window=U32 * big, horizon=U32 * big, signature=SIGNATURE,
    )  # fmt: skip


def a_request(big: bool) -> o.PayRequest:
    return o.PayRequest(
        header=HEADER, amount=o.MAX_AMOUNT if big else 1, payee=K, nonce=bytes(16),
        time=o.MAX_TIME * big,
    )  # fmt: skip


def a_bill(big: bool) -> o.Bill:
    request = a_request(big)
    values = {**request.__dict__, "time": request.time - big}
    return o.Bill(
        request=o.PayRequest(**values),
        expiry=o.MAX_TIME if big else 1,
        subject=K if big else None,
    )


def a_personalisation(big: bool) -> o.Personalisation:
    return o.Personalisation(
        center_key=K, certification_key=K, pin=b"1" * (c.PIN_MAX if big else c.PIN_MIN),
        puk=PUK, certificate=a_certificate(big), risk=a_risk(big),
    )  # fmt: skip


def test_sizes() -> None:
    makers = {
        "title": a_title,
        "certificate of a card": a_certificate,
        "risk parameters": a_risk,
        "pay request": a_request,
        "bill": a_bill,
        "claim of one title": lambda big: a_claim(1, big),
        "claim of eight titles": lambda big: a_claim(o.MAX_INPUTS, big),
        "payment of one title": lambda big: a_payment(1, big),
        "payment of eight titles": lambda big: a_payment(o.MAX_INPUTS, big),
        "personalisation": a_personalisation,
    }
    told = {
        name: (int(least), int(most))
        for name, least, most in table("objects.md", "object", "least")
    }
    assert told == {
        name: tuple(len(make(big).encode()) for big in (False, True))
        for name, make in makers.items()
    }
    assert f"{c.MAX_COMMAND} bytes for a command" in prose("README.md")
    assert f"{len(a_payment(o.MAX_INPUTS, True).encode()) + 2} for a reply" in prose("README.md")


def test_a_receipt_of_the_largest_deposit_fits() -> None:
    most = o.MAX_AMOUNT
    outcome = o.Outcome(title_id=bytes(32), lo=most - 1, hi=most, state=o.SETTLED)
    receipt = o.Receipt(
        header=HEADER, signer=bytes(8), digest=bytes(32), time=o.MAX_TIME,
        results=(o.Result(claim_id=bytes(32), outcomes=(outcome,)),) * MAX_INTERVALS,
        titles=(a_title(True),) * MAX_INTERVALS, signature=SIGNATURE,
    )  # fmt: skip
    size = len(receipt.encode())
    assert size < tlv.MAX_LENGTH
    assert f"the receipt of {MAX_INTERVALS} is at most {size:,} bytes" in prose("center.md")
    assert f"an object holds {tlv.MAX_LENGTH:,}" in prose("center.md")


# Commands -----------------------------------------------------------------------------------------


def row_bytes(row: Row) -> tuple[int, int, int, int]:
    """CLA INS P1 P2 of a row; nn is 00, ss is suite 2."""
    cla, ins, p1, p2 = (
        int(word, 16)
        for word in code(row[0]).replace("nn", "00").replace("ss", f"{o.SUITE_P256:02x}").split()
    )
    return cla, ins, p1, p2


COMMANDS = table("commands.md", "CLA INS P1 P2")
LIVES = ("blank", "keyed", "personalised", "sam")


class Card:
    """An applet in memory."""

    def __init__(self, life: str) -> None:
        self.net = network()
        self.session = Applet(MemoryFlash(bytearray(b"\xff" * 65536)), os.urandom).session()
        self.public = b""
        self.select()
        if life == "blank":
            return
        if life == "sam":
            codes = tlv.encode(0x9F26, PUK) + tlv.encode(0x9F25, PIN)
            self.ok(c.command(c.INS_SAM, 0, 0, tlv.encode(0x80, self.net.header) + codes, 0x80))
            self.enter_pin()
            self.ok(c.command(c.INS_SAM, 1, 0, cla=0x80))
            return
        self.public = self.ok(c.command(c.INS_GENERATE_KEY_PAIR, self.net.suite.id))
        if life == "personalised":
            personalisation = o.Personalisation(
                center_key=self.net.center.public,
                certification_key=self.net.certification.public,
                pin=PIN,
                puk=PUK,
                certificate=self.net.certificate(self.public),
                risk=self.net.risk(self.public),
            )
            self.ok(c.command(c.INS_STORE_DATA, 0x80, 0, personalisation.encode()))

    def send(self, apdu: bytes | str, contactless: bool = False) -> tuple[bytes, int]:
        if isinstance(apdu, str):
            apdu = bytes.fromhex(apdu)
        self.session.over_air = contactless
        reply = self.session.process(apdu)
        return reply[:-2], int.from_bytes(reply[-2:], "big")

    def sw(self, apdu: bytes | str, contactless: bool = False) -> str:
        return f"{self.send(apdu, contactless)[1]:04X}"

    def ok(self, apdu: bytes) -> bytes:
        data, sw = self.send(apdu)
        assert sw == c.SW_OK, f"{sw:04X}"
        return data

    def select(self) -> bytes:
        return self.ok(c.command(c.INS_SELECT, 4, 0, c.AID))

    def pay(self, request: o.PayRequest) -> tuple[bytes, int]:
        return self.send(c.command(c.INS_PAY, 0, 0, request.encode(), 0x80, 65536, True))

    def in_session(self) -> bool:
        return self.sw("00200080") == "9000"

    def enter_pin(self) -> None:
        self.ok(c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN, le=0))


@cache
def network() -> Network:
    return Network(o.SUITE_P256)


@pytest.fixture(scope="module")
def cards() -> dict[str, Card]:
    """A card of each life, for commands that are refused and so change nothing."""
    return {life: Card(life) for life in LIVES}


def test_commands_are_all_there() -> None:
    names: dict[int, set[str]] = {}
    data_objects = set()
    for row in COMMANDS:
        cla, ins, p1, _ = row_bytes(row)
        names.setdefault(ins, set()).add(row[1].split(",")[0].split(" (")[0])
        assert cla == (c.CLA_PROPRIETARY if ins in c.PROPRIETARY else c.CLA_ISO)
        if ins == c.INS_GET_DATA:
            data_objects.add((p1, row[1].split(", ")[1].split()[0]))
    assert names == {ins: {name} for ins, name in NAMES.items()}
    constants = {
        (value, name[5:].lower()) for name, value in vars(c).items() if name.startswith("DATA_")
    }
    assert data_objects == constants


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row[1])
def test_life_link_selection(row: Row, cards: dict[str, Card]) -> None:
    """Which lives, which links, and what comes before what, asked of real cards."""
    cla, ins, p1, p2 = row_bytes(row)
    if ins in (c.INS_SELECT, c.INS_GET_RESPONSE):
        assert row[4:] == ["any", ""]
        return
    apdu = bytes((cla, ins, p1, p2))
    wrong = bytes((cla, ins, 0x7F, 0x7F))
    lives = LIVES if row[4] == "any" else row[4].split(", ")
    needs = set(row[5].split(", ")) - {""}
    assert needs <= {
        "contact", "secret", "channel", "PIN", "PIN above pin_free", "PIN for risk parameters",
        "PIN once set", "begun",
    }  # fmt: skip
    for life, card in cards.items():
        card.select()
        assert card.sw(bytes((cla ^ 0x80, ins, p1, p2))) == "6E00"
        if life in lives:
            assert card.sw(wrong) == "6A86"
            if ins != c.INS_GENERATE_KEY_PAIR:
                assert (card.sw(apdu) == "6982") == ("PIN" in needs)
                assert (card.sw(apdu) == "6985") == ("channel" in needs)
                assert (card.sw(apdu) == "6A81") == (ins == c.INS_UPDATE_FIRMWARE)
            if needs & {"contact", "secret"}:
                assert card.sw(wrong, contactless=True) == "6985"
            else:
                assert card.sw(wrong, contactless=True) == "6A86"
        else:
            assert card.sw(apdu) == "6985"
            # GET DATA is a command of any life, SAM of two.
            known = ins == c.INS_GET_DATA or (ins == c.INS_SAM and life in ("blank", "sam"))
            assert card.sw(wrong) == ("6A86" if known else "6985")
        card.send(c.command(c.INS_SELECT, 4, 0, b"another"))
        assert card.sw(apdu) == card.sw(wrong) == "6985"


def test_precedence(cards: dict[str, Card]) -> None:
    """Each check of the table against the one behind it: with both wrong, the first is answered."""
    rows = table("commands.md", "#", "check", "status word")
    assert [row[0] for row in rows] == [str(i + 1) for i in range(len(rows))]
    card = cards["personalised"]
    assert card.sw("00a4") == "6700"
    assert card.sw("0fee000005aa") == "6700"
    for cla, sw in ((0x2C, "6E00"), (0x40, "6E00"), (0x0F, "6882"), (0x83, "6881")):
        assert card.sw(bytes((0x10, c.INS_PUT_DATA, 0, 0, 1, 0xE2))) == "9000"
        assert card.sw(bytes((cla, 0xEE, 0, 0))) == sw
    card.send("10da000001e2")
    assert card.sw("00ee0000") == "6883"
    assert card.sw("80ee0000") == "6D00"
    card.send("00a4040000")
    assert card.sw("80ca0100") == "6E00"
    assert card.sw("00ca7f7f") == "6985"
    assert card.sw("00a404000100") == "6A82"
    assert card.sw("00a400000100") == "6A86"


def told_status_words(words: str) -> set[str]:
    return set(re.findall(r"`([0-9A-F]{2}[0-9A-Fx]{2})`", words))


def test_status_words() -> None:
    def spelled_sw(sw: int) -> str:
        shown = f"{sw:04X}"
        if sw in (c.SW_MORE, c.SW_LE):
            return shown[:2] + "xx"
        return shown[:3] + "x" if sw == c.SW_PIN_WRONG else shown

    rows = table("commands.md", "SW", "name", "means")
    told = {code(sw): name for sw, name, _ in rows}
    assert len(told) == len(rows)
    assert told == {spelled_sw(sw): name for sw, (name, _) in STATUS.items()}
    for head in (("command", "checks"), ("#", "check", "status word")):
        for row in table("commands.md", *head):
            assert told_status_words(row[-1]) <= told.keys()
    assert {sw for name in vars(c) if name.startswith("SW_") for sw in [vars(c)[name]]} == set(
        STATUS
    )


def test_room() -> None:
    told = [
        int(row[1].split(",")[0])
        for row in table("commands.md", "what", "least that a card must hold")
    ]
    assert told == [c.MAX_TITLES, c.MAX_SEEN, c.MAX_LOG, c.MAX_RECEIVED, c.MAX_ENDED, c.MAX_COMMAND]
    assert (
        f"4 to {c.PIN_MAX} ASCII digits" in prose("commands.md")
        and c.PIN_MIN == 4
        and f"{c.PIN_TRIES} tries for the PIN, {c.PUK_TRIES} for the PUK" in prose("commands.md")
    )


def test_states_of_the_card() -> None:
    rows = table("commands.md", "state", "leaves by", "to")
    assert {row[0] for row in rows} == set(LIVES)
    steps = {(row[0], row[2].split(",")[0]) for row in rows if row[2]}
    assert steps == {
        ("blank", "keyed"),
        ("keyed", "keyed"),
        ("keyed", "personalised"),
        ("blank", "sam"),
    }
    drawn = transitions(blocks("commands.md", "mermaid")[0])
    assert {step for step in drawn if set(step) <= set(LIVES)} == steps


def test_card_info_fields() -> None:
    told = [row[0] for row in table("commands.md", "field of card info")]
    assert told == [field.rstrip("?") for field in o.CardInfo.FIELDS]


def test_replies_and_get_response() -> None:
    card = Card("blank")
    reply = card.ok(bytes.fromhex("00ca010000"))
    n = len(reply)
    assert card.send("00ca0100") == (b"", 0x6100 | n)
    assert card.send("00c0000003") == (reply[:3], 0x6100 | (n - 3))
    assert card.send("00c0777702aabb00") == (reply[3:], 0x9000)
    assert card.sw("00c0000000") == "6985"
    for dropping in ("00ca", "00ee0000", "00ca010000"):
        card.send("00ca0100")
        card.send(dropping)
        assert card.sw("00c0000000") == "6985"
    for no_length in ("00ca01000000", "00ca010000000001aa", "00ca010002aa"):
        assert card.sw(no_length) == "6700"
    assert card.send("00ca010002aabb") == (b"", 0x6100 | n)
    # More than one byte can say is 00.
    card = Card("personalised")
    card.ok(c.command(c.INS_PUT_DATA, 0, 0, card.net.title(card.public).encode(), le=0))
    request = card.net.request(100).encode()
    assert card.send(c.command(c.INS_PAY, 0, 0, request, 0x80, 0)) == (b"", 0x6100)


def test_chains() -> None:
    card = Card("personalised")
    title = card.net.title(card.public).encode()
    cut = (
        len(title) - 66
    )  # before the signature: what is left begins with its tag, and with no object's
    first = c.command(c.INS_PUT_DATA, 0, 0, title[:cut], c.CLA_CHAINED, 0)
    last = c.command(c.INS_PUT_DATA, 0, 0, title[cut:], le=0)
    assert title[cut] == 0x9E and card.sw(first) == "9000"
    assert card.sw("00ca") == "6700"
    assert card.sw(last) == "9000"
    card.send(first)
    assert card.sw(c.command(c.INS_SELECT, 4, 0, c.AID)) == "6883"
    assert card.sw(last) == "6A80"
    card.send(first)
    assert card.sw("04ca010000") == "6882"
    assert card.sw(last) == "6A80"
    assert card.sw("10ee000001aa") == "9000"
    assert card.sw("00ee000001aa") == "6D00"


def test_select_leaves_the_application() -> None:
    card = Card("blank")
    for refused in ("00a4040000", "00a404000100", "00a400000af0434849504341534801"):
        card.select()
        assert card.sw("00ca010000") == "9000"
        assert card.sw(refused) in ("6A82", "6A86")
        assert card.sw("00ca010000") == "6985"


def test_what_ends_a_pin_session() -> None:
    card = Card("personalised")
    title = card.net.title(card.public, hi=90000, amount=90000)
    card.ok(c.command(c.INS_PUT_DATA, 0, 0, title.encode(), le=0))
    old, new = tlv.encode(0x9F25, PIN), tlv.encode(0x9F25, b"4321")
    puk = tlv.encode(0x9F26, PUK)
    wrong = tlv.encode(0x9F25, b"99999")

    def on_pin(ins: int, data: bytes) -> str:
        return card.sw(c.command(ins, 0, c.PIN_REFERENCE, data, le=0))

    for ends, act in (
        (False, lambda: on_pin(c.INS_VERIFY, b"12")),
        (False, lambda: card.pay(card.net.request(50001))),
        (False, lambda: card.pay(card.net.request(10))),
        (False, lambda: on_pin(c.INS_CHANGE_REFERENCE_DATA, old)),
        (True, lambda: card.pay(card.net.request(30001))),
        (True, lambda: on_pin(c.INS_VERIFY, b"99999")),
        (True, lambda: on_pin(c.INS_CHANGE_REFERENCE_DATA, wrong + new)),
        (True, lambda: on_pin(c.INS_RESET_RETRY_COUNTER, puk + old)),
        (True, card.select),
        (True, lambda: (card.sw("00a404000100"), card.select())),
    ):
        card.select()
        card.enter_pin()
        assert card.in_session()
        act()
        assert card.in_session() != ends
    card.select()
    assert on_pin(c.INS_CHANGE_REFERENCE_DATA, old + new) == "9000"
    assert card.in_session()


def test_floor() -> None:
    """What PUT DATA says of seen titles, and the weakness that it has: titles of one second."""
    card = Card("personalised")
    net = card.net
    expiry = NOW + 300 * DAY

    def title(number: int, expiry: int) -> bytes:
        serial = number.to_bytes(16, "big")
        made: o.Title = net.title(card.public, hi=1, amount=1, serial=serial, expiry=expiry)
        return made.encode()

    def put(data: bytes) -> str:
        return card.sw(c.command(c.INS_PUT_DATA, 0, 0, data, le=0))

    titles = [title(i, expiry) for i in range(c.MAX_SEEN + 2)]
    for data in titles[:-1]:  # the last of these displaces one
        assert put(data) == "9000"
        assert card.pay(net.request(1))[1] == c.SW_OK
    answers = [put(data) for data in titles]
    assert answers.count("940A") == c.MAX_SEEN
    assert answers.count("9405") == 2  # the one that was displaced, and one that never was here
    assert answers[-1] == "9405"
    assert f"takes {c.MAX_SEEN + 1} and refuses the rest" in prose("security.md")
    assert put(title(99, expiry + 1)) == "9000"


def test_atr_and_build() -> None:
    words = prose("commands.md")
    for atr in (ATR_CONTACT, ATR_CONTACTLESS, ATR_T1, ATR_T0):
        assert f"`{atr.hex(' ').upper()}`" in words
    assert f"| ats | `{ATS.hex(' ')}` |" in prose("links.md").lower()
    card = Card("blank")
    build = o.CardInfo.decode(card.ok(bytes.fromhex("00ca010000"))).build.decode()
    told = re.search(r"such as `([^`]+)`", words)
    assert told is not None
    assert re.fullmatch(re.escape(build) + r"\+[0-9a-f]{12}", told[1])


def test_gatt_service() -> None:
    """The identifiers of the service, its messages and their errors."""
    uuids = {row[0]: code(row[1]) for row in table("links.md", "what", "UUID")}
    assert uuids == {
        "service": gatt.SERVICE,
        "control point": gatt.CONTROL_POINT,
        "status": gatt.STATUS,
        "control point length": gatt.CONTROL_POINT_LENGTH,
    }
    found = {row[0] for row in table("links.md", "command", "from")}
    kinds = (("MSG", gatt.MSG), ("KEEPALIVE", gatt.KEEPALIVE), ("ERROR", gatt.ERROR))
    assert found == {f"`{command:02X}` {name}" for name, command in kinds}
    errors = {int(code(row[0]), 16) for row in table("links.md", "code", "when")}
    assert errors == {gatt.INVALID_CMD, gatt.INVALID_LEN, gatt.INVALID_SEQ}


# The terminal -------------------------------------------------------------------------------------


def transitions(diagram: str) -> set[tuple[str, str]]:
    """The arrows of a state diagram, from state to state."""
    return set(re.findall(r"^\s*(\S+) --> (\S+?)(?::.*)?$", diagram, re.MULTILINE))


def diagrams(page: str) -> Iterator[set[tuple[str, str]]]:
    for block in blocks(page, "mermaid"):
        if block.startswith("stateDiagram-v2\n"):
            yield transitions(block)


def between(steps: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without beginning, ends and loops."""
    return {(a, b) for a, b in steps if "[*]" not in (a, b) and a != b}


def test_reasons_in_order() -> None:
    rows = table("payment.md", "#", "check", "reason")
    assert [code(row[2]) for row in rows] == list(REASONS)
    assert [row[0] for row in rows] == [str(i + 1) for i in range(len(rows))]
    told = re.search(r"((?:`[a-z-]+`(?:, | and )?)+) may be overcome", prose("payment.md"))
    assert told is not None
    assert set(re.findall("`([a-z-]+)`", told[1])) == RETRYABLE


def test_policy() -> None:
    policy = Policy()
    assert policy.least_time_to_deposit == DAY and policy.blacklist_max_age == 7 * DAY
    words = (
        f"{policy.max_per_payment:,} fen for one payment, a day to deposit, a blacklist of at most"
    )
    assert f"{words} seven days" in prose("payment.md")


def test_states_of_requests_and_payments() -> None:
    steps: dict[type, set[tuple[str, str]]] = {}
    states: dict[type, set[str]] = {}
    for rows in tables("payment.md"):
        if rows[0] != ["state", "means", "leaves by", "to"]:
            continue
        kind = {"OPEN": RequestState, "PROMISED": PromiseState}.get(rows[1][0], PaymentState)
        states[kind] = {row[0] for row in rows[1:]}
        steps[kind] = {(row[0], row[3]) for row in rows[1:] if row[3]}
        for row in rows[1:]:
            assert row[3] or row[2] == "nothing"
    kinds = (RequestState, PaymentState, PromiseState)
    assert states == {kind: {str(state) for state in kind} for kind in kinds}
    drawn = [between(each) for each in diagrams("payment.md")]
    assert drawn == [steps[RequestState], steps[PaymentState]]
    legal = {(str(a), str(b)) for a, after in books.LEGAL.items() if a for b in after}
    assert steps[PaymentState] == legal


# The center ---------------------------------------------------------------------------------------


def test_http() -> None:
    told = []
    for call, body, answer, _ in table("center.md", "method, path"):
        method, path = call.split(" ", 1)
        told.append((method, code(path), body.split(" (")[0].split(" over ")[0], answer == "204"))
    assert told == [(each.method, each.path, each.body, not each.answer) for each in ENDPOINTS]
    for row, each in zip(table("center.md", "method, path"), ENDPOINTS, strict=True):
        assert row[2].startswith("JSON") == (each.json and each.name != "openapi"), row
        assert row[3] == ("**I**" if each.institutions else ""), row


def refusals(module: ModuleType) -> Iterator[tuple[str, int]]:
    """Name and HTTP status of every refusal that a module's source makes."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        constants = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        if node.func.id == "CenterRefused":
            status = [word.value for word in node.keywords if word.arg == "status"]
            yield constants[0], ast.literal_eval(status[0]) if status else 400
        elif node.func.id == "refusal" and len(constants) >= 2:
            yield constants[1], constants[0]


def test_errors() -> None:
    made = {
        *refusals(chipcash.center.registration),
        *refusals(chipcash.center.inquiry),
        *refusals(chipcash.center.bodies),
        *refusals(chipcash.center.verification),
        *refusals(chipcash.center.http),
        *refusals(chipcash.center.operations),
        *refusals(chipcash.web),
        ("unknown", 404),  # these two by the router
        ("method", 405),
    }
    told = {(code(name), int(status)) for name, status, _ in table("center.md", "error", "HTTP")}
    assert told == made == set(ERRORS.items())
    assert "Bodies have at most 1 MiB" in prose("center.md") and MAX_BODY == 1 << 20


def test_json_members() -> None:
    world = World()
    title = world.issue(1000, "bank")
    claim = world.claim("bank", "merchant", [(title, 0, 400)])
    receipt = world.settle(claim)
    answers = {
        "claim": world.center.claim(receipt.results[0].claim_id),
        "coin": world.center.coin(title.serial),
        "accounts": world.center.accounts(),
    }
    told = {name: members.split(", ") for name, members in table("center.md", "answer", "members")}
    assert told == {name: list(answer) for name, answer in answers.items()}


def test_terminal_limits() -> None:
    told = {
        name: int(value.replace(",", ""))
        for name, _, value in table("center.md", "field", "limits")
    }
    defaults = Parameters()
    assert told == {**asdict(defaults.terminal), "guarantee": defaults.guarantee}
    fields = o.TerminalRules.FIELDS
    assert list(told) == list(fields[fields.index("per_payment") : fields.index("signature")])


def test_center_parameters() -> None:
    defaults = Parameters()
    assert (defaults.grace, defaults.title_lifetime) == (DAY, 365 * DAY)
    assert (defaults.window, defaults.horizon) == (7 * DAY, 90 * DAY)
    words = prose("center.md")
    for said in (
        "(default one day); *title lifetime* (365 days)",
        "(7 and 90 days)",
        f"({defaults.guarantee:,} fen)",
        f"within the last {defaults.challenge_lifetime} s",
        f"At most **{MAX_INTERVALS} intervals** in one deposit",
        f"at most {MAX_RENEWED} with one reclaim",
    ):
        assert said in words, said


def test_states_of_a_claim() -> None:
    rows = table("center.md", "state", "when", "later")
    assert {row[0] for row in rows} - {"*unknown*"} == set(o.OUTCOMES[1:])
    final = {row[0] for row in rows if row[2] == "for good"}
    claims, _ = diagrams("center.md")
    assert {a for a, b in claims if b == "[*]"} == final
    assert {a for a, _ in between(claims)} == {
        row[0] for row in rows if row[2].startswith("a reclaim brings")
    }
    assert {b for a, b in claims if a == "[*]"} == set(o.OUTCOMES[1:]) - {"invalid"}


# The example --------------------------------------------------------------------------------------


COMMENTS = 60
"""Column of the example's words."""


def example() -> list[bytes]:
    """The bytes of each block, without the words behind them."""
    found = []
    for block in blocks("example.md", "text"):
        found.append(bytes.fromhex("".join(line[:COMMENTS] for line in block.splitlines())))
    return found


def vector(kind: str, name: str = "usual") -> bytes:
    """The published object."""
    path = ROOT / "protocols" / "vectors" / "objects-p256.json"
    for each in json.loads(path.read_text()):
        if (each["object"], each["name"]) == (kind, name):
            return bytes.fromhex(each["bytes"])
    raise LookupError(kind)


def test_example_is_the_published_payment() -> None:
    select, info, pay, payment = example()
    assert select == c.command(c.INS_SELECT, 4, 0, c.AID)
    request = vector("pay request")
    assert pay == c.command(c.INS_PAY, 0, 0, request, c.CLA_PROPRIETARY, 65536, True)
    assert (info, payment) == (vector("application info"), vector("payment"))
    decoded = o.Payment.decode(payment)
    told = {row[0]: row[1] for row in table("example.md", "what", "value")}
    for name, obj in (("title_id", decoded.titles[0]), ("claim_id", decoded.claim)):
        digest = hashlib.sha256(obj.message()).hexdigest()
        assert told[name].endswith(f": `{digest}`")
    assert f"`{decoded.titles[0].signer.hex()}` (center)" in prose("example.md")
    assert f"`{decoded.certificate.signer.hex()}` (certification center)" in prose("example.md")


def test_example_sizes_on_a_real_card() -> None:
    card = Card("personalised")
    select = c.command(c.INS_SELECT, 4, 0, c.AID)
    title = card.net.title(card.public, hi=10000, amount=1000000)
    card.ok(c.command(c.INS_PUT_DATA, 0, 0, title.encode()))
    request = card.net.request(1200, time=NOW + 100)
    extended = c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
    short = c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 256)
    sizes = {}
    for name, apdu in (
        ("SELECT", select),
        ("PAY, extended", extended),
        ("PAY, short", short),
        ("GET RESPONSE, Le `f8`", bytes.fromhex("00c00000f8")),
    ):
        sizes[name] = (len(apdu), len(card.session.process(apdu)))
    told = {row[0]: (int(row[1]), int(row[2])) for row in table("example.md", "", "command")}
    assert told == sizes


def on_air(*apdus: int) -> int:
    """Bytes of ISO/IEC 14443-4 for commands and replies of these sizes."""
    total = 0
    for size in apdus:
        chained = -(-size // 253)
        total += size + 3 * chained + 3 * (chained - 1)
    return total


def test_example_on_the_air() -> None:
    largest = len(a_request(True).encode()) + 9
    expected = {
        "this example": on_air(16, 16, 82, 506),
        "largest payment of one title": on_air(
            16, 16, largest, len(a_payment(1, True).encode()) + 2
        ),
        "largest payment of eight titles": on_air(
            16, 16, largest, len(a_payment(o.MAX_INPUTS, True).encode()) + 2
        ),
    }
    for name, size, ms in table("example.md", "SELECT and PAY, extended"):
        assert int(size) == expected.pop(name)
        assert int(ms) == round(int(size) * 9 / (13560 / 128))
    assert not expected


# All pages ----------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings(page: Path) -> None:
    for file, heading in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", text(page.name)):
        target = page.parent / file if file else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in {anchor(each) for each in headings}, heading


def test_the_index_names_every_page() -> None:
    named = set(re.findall(r"^\| \[(\w+\.md)\]", text("README.md"), re.MULTILINE))
    assert named == {page.name for page in PAGES} - {"README.md"}

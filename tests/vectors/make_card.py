# SPDX-License-Identifier: Apache-2.0
"""A card's life as commands and what it must answer. See protocols/vectors/README.md for a step's form."""

from __future__ import annotations

from typing import Any

from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire import sam
from chipcash_wire.tlv import encode
from tests.vectors.make_faults import Node
from tests.vectors.make_objects import fields
from tests.vectors.signing import DAY, T0, WINDOW, YEAR, Key, Network, nonce, serial

_PIN = b"123456"
_PIN_TAG = 0x9F25
_PUK_TAG = 0x9F26


class Script:
    """The steps so far, with the commands in the words of the specification."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.steps: list[dict[str, Any]] = []

    def power(self, name: str, **what: bool) -> None:
        """A new blank card, or power off and on."""
        self.steps.append({"name": name, **what})

    def raw(self, name: str, apdu: bytes, sw: int, **expected: Any) -> None:
        """One command APDU and the status word that it must bring."""
        self.steps.append({"name": name, "apdu": apdu.hex(), "sw": f"{sw:04x}", **expected})

    def send(
        self,
        name: str,
        ins: int,
        p1: int,
        p2: int,
        data: bytes = b"",
        sw: int = c.SW_OK,
        *,
        cla: int = c.CLA_ISO,
        **expected: Any,
    ) -> None:
        """A command, extended where its data or its answer may be long."""
        wide = ins in (c.INS_PAY, c.INS_PUT_DATA, c.INS_STORE_DATA, c.INS_GET_DATA)
        wide |= ins in (c.INS_INTERNAL_AUTHENTICATE, c.INS_GENERAL_AUTHENTICATE)
        apdu = c.command(ins, p1, p2, data, cla, 65536 if wide else 256, extended=wide)
        self.raw(name, apdu, sw, **expected)

    def select(self, header: bytes | None, lifecycle: int) -> None:
        """SELECT, which tells the state of life."""
        info = o.ApplicationInfo(header=header, lifecycle=lifecycle)
        self.send("select", c.INS_SELECT, 4, 0, c.AID, reply=info.encode().hex())

    def agree(self, name: str) -> None:
        """GENERAL AUTHENTICATE: the steps that are sealed go through the channel that it opens."""
        host = Key(self.net.suite, "host channel")
        self.send(
            name, c.INS_GENERAL_AUTHENTICATE, 0, 0, host.public, contactless=True,
            agreement=host.private.hex(), certificate=self.net.certificate().encode().hex(),
        )  # fmt: skip

    def sealed(self, name: str, apdu: bytes, sw: int = c.SW_OK, **expected: Any) -> None:
        """A command through the channel, over the air."""
        self.raw(name, apdu, sw, contactless=True, sealed=True, **expected)

    def put(self, name: str, obj: o.Object | bytes, sw: int = c.SW_OK) -> None:
        """PUT DATA."""
        data = obj if isinstance(obj, bytes) else obj.encode()
        self.send(f"put {name}", c.INS_PUT_DATA, 0, 0, data, sw)

    def refused(self, name: str, request: o.PayRequest | bytes, sw: int, **how: Any) -> None:
        """PAY that is refused."""
        data = request if isinstance(request, bytes) else request.encode()
        self.send(f"pay {name}", c.INS_PAY, 0, 0, data, sw, cla=c.CLA_PROPRIETARY, **how)

    def paid(self, name: str, request: o.PayRequest, payment: o.Payment, **how: Any) -> None:
        """PAY that makes a payment; it is remembered under its name."""
        claim = payment.claim
        behind = b"".join(item.encode() for item in (*payment.titles, payment.certificate))
        expected = {
            "claim": claim.message().hex(),
            "behind": self.net.suite.hash(behind).hex(),
        }
        self.refused(name, request, c.SW_OK, payment=expected, saved=name, **how)

    def again(self, name: str, request: o.PayRequest, first: str) -> None:
        """PAY that must bring an earlier payment's bytes."""
        self.refused(name, request, c.SW_OK, same=first)

    def verify(self, name: str, pin: bytes, sw: int = c.SW_OK, **how: Any) -> None:
        """VERIFY."""
        self.send(name, c.INS_VERIFY, 0, c.PIN_REFERENCE, pin, sw, **how)

    def info(self, name: str, **values: Any) -> None:
        """GET DATA, info: everything but what is the card's own, build and key_place."""
        known = {"lifecycle": o.LIFE_PERSONALISED, "subject": self.net.public("card")}
        if values.get("lifecycle", o.LIFE_PERSONALISED) == o.LIFE_PERSONALISED:
            known["room"] = c.MAX_RECEIVED
        if "balance" in values:
            known["pending"] = 0
        expected = fields(o.CardInfo(**{**known, **values}, build=b"x"))
        del expected["build"]
        self.send(name, c.INS_GET_DATA, c.DATA_INFO, 0, info=expected)

    def record(self, name: str, index: int, title: o.Title, lo: int) -> None:
        """GET DATA, title: one that still holds money."""
        reply = o.TitleRecord(title=title, lo=lo).encode()
        self.send(name, c.INS_GET_DATA, c.DATA_TITLE, index, reply=reply.hex())


def card(net: Network) -> list[dict[str, Any]]:
    """All steps of a suite."""
    script = Script(net)
    _blank(script)
    _personalise(script)
    _read(script)
    _load(script)
    _pay(script)
    _channel(script)
    _receive(script)
    _transport(script)
    _times(script)
    _limits(script)
    _pin(script)
    _renew(script)
    _full(script)
    return script.steps


def till_card(net: Network) -> list[dict[str, Any]]:
    """All steps of a suite for a SAM."""
    script = Script(net)
    _sam(script)
    return script.steps


def _blank(s: Script) -> None:
    net = s.net
    s.power("a new card", blank=True)
    for name, ins, p1, data in (
        ("get data", c.INS_GET_DATA, c.DATA_INFO, b""),
        ("generate", c.INS_GENERATE_KEY_PAIR, net.suite.id, b""),
    ):
        s.send(f"{name} before select", ins, p1, 0, data, c.SW_CONDITIONS)
    s.send("select another application", c.INS_SELECT, 4, 0, b"\xa0\0\0\0\3", c.SW_NOT_FOUND)
    s.send("select part of the name", c.INS_SELECT, 4, 0, c.AID[:-1], c.SW_NOT_FOUND)
    s.send("select by another way", c.INS_SELECT, 0, 0, c.AID, c.SW_P1P2)
    s.select(None, o.LIFE_BLANK)
    blank = {"counter": 0, "time": 0, "sequence": 0, "pin_tries": 0, "spent": 0, "payments": 0}
    s.info("info of a blank card", subject=None, lifecycle=o.LIFE_BLANK, **blank)
    for what in (c.DATA_CERTIFICATE, c.DATA_TITLE, c.DATA_PAYMENT, c.DATA_RISK):
        s.send("get data of a blank card", c.INS_GET_DATA, what, 0, sw=c.SW_CONDITIONS)
    s.put("a title on a blank card", net.small_title, c.SW_CONDITIONS)
    s.refused("with a blank card", net.request(1, "early"), c.SW_CONDITIONS)
    s.verify("verify on a blank card", _PIN, c.SW_CONDITIONS)
    store = net.personalisation().encode()
    s.send("store data without a key", c.INS_STORE_DATA, 0x80, 0, store, c.SW_CONDITIONS)
    for p1, p2 in ((0, 0), (3, 0), (net.suite.id, 1)):
        s.send("generate, wrong suite", c.INS_GENERATE_KEY_PAIR, p1, p2, sw=c.SW_P1P2)
    s.send(
        "generate over the air", c.INS_GENERATE_KEY_PAIR, net.suite.id, 0, sw=c.SW_CONDITIONS,
        contactless=True,
    )  # fmt: skip
    s.send("generate", c.INS_GENERATE_KEY_PAIR, net.suite.id, 0, reply=net.public("card").hex())
    s.select(None, o.LIFE_KEYED)
    keyed = {"subject": net.public("card"), "lifecycle": o.LIFE_KEYED}
    s.info("info of a keyed card", **{**blank, **keyed})


def _personalise(s: Script) -> None:
    net = s.net
    good = net.personalisation()
    data = good.encode()
    tree = Node.parse(data)
    elsewhere = {"header": net.elsewhere}
    other = {"header": net.other_suite}
    for name, sw, bad in (
        ("no data", c.SW_DATA, b""),
        ("truncated", c.SW_DATA, data[:-1]),
        ("bytes behind", c.SW_DATA, data + b"\x00"),
        ("PIN of letters", c.SW_DATA, tree.set("pin", b"secret").encode()),
        ("PIN of 3 digits", c.SW_DATA, tree.set("pin", b"123").encode()),
        ("another center key", c.SW_SIGNATURE, {"center_key": net.public("stranger")}),
        ("another certification key", c.SW_SIGNATURE,
         {"certification_key": net.public("stranger")}),
        ("certificate of a stranger", c.SW_SIGNATURE,
         {"certificate": net.certificate(by="stranger")}),
        ("risk of a stranger", c.SW_SIGNATURE, {"risk": net.risk(by="stranger")}),
        ("certificate of another card", c.SW_NOT_MINE, {"certificate": net.certificate("kiosk")}),
        ("risk of another card", c.SW_NOT_MINE, {"risk": net.risk("kiosk")}),
        ("certificate of a bank", c.SW_NOT_MINE,
         {"certificate": net.certificate("card", o.ROLE_BANK)}),
        ("certificate of another network", c.SW_NETWORK,
         {"certificate": net.certificate(**elsewhere)}),
        ("risk of another network", c.SW_NETWORK, {"risk": net.risk(**elsewhere)}),
        ("all of the other suite", c.SW_NETWORK,
         {"certificate": net.certificate(**other), "risk": net.risk(**other)}),
    ):  # fmt: skip
        if isinstance(bad, dict):
            bad = net.personalisation(**bad).encode()
        s.send(f"store data, {name}", c.INS_STORE_DATA, 0x80, 0, bad, sw)
    s.send("store data, wrong P1", c.INS_STORE_DATA, 0, 0, data, c.SW_P1P2)
    s.send(
        "store data over the air", c.INS_STORE_DATA, 0x80, 0, data, c.SW_CONDITIONS,
        contactless=True,
    )  # fmt: skip
    s.select(None, o.LIFE_KEYED)
    # Chained: three parts of 255 bytes at most.
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    for part in parts[:-1]:
        apdu = c.command(c.INS_STORE_DATA, 0x80, 0, part, c.CLA_CHAINED, 0)
        s.raw("store data, in parts", apdu, c.SW_OK)
    s.raw(
        "store data, the last part", c.command(c.INS_STORE_DATA, 0x80, 0, parts[-1], le=0), c.SW_OK
    )
    s.select(net.header, o.LIFE_PERSONALISED)
    s.send("store data twice", c.INS_STORE_DATA, 0x80, 0, data, c.SW_CONDITIONS)
    s.send(
        "generate when personalised", c.INS_GENERATE_KEY_PAIR, net.suite.id, 0, sw=c.SW_CONDITIONS
    )


def _read(s: Script) -> None:
    net = s.net
    new = {"counter": 0, "time": T0, "sequence": 1, "pin_tries": 3, "spent": 0, "payments": 0}
    s.info("info of a new card", **new)
    certificate = net.certificate().encode().hex()
    s.send("certificate", c.INS_GET_DATA, c.DATA_CERTIFICATE, 0, reply=certificate)
    s.send("risk", c.INS_GET_DATA, c.DATA_RISK, 0, reply=net.risk().encode().hex())
    for what, index in (
        (0, 0),
        (7, 0),
        (c.DATA_INFO, 1),
        (c.DATA_CERTIFICATE, 1),
        (c.DATA_RISK, 1),
    ):
        s.send(f"get data {what:02x}{index:02x}", c.INS_GET_DATA, what, index, sw=c.SW_P1P2)
    for what in (c.DATA_TITLE, c.DATA_PAYMENT):
        s.send("get data without PIN", c.INS_GET_DATA, what, 0, sw=c.SW_SECURITY)
    s.verify("verify over the air", _PIN, c.SW_CONDITIONS, contactless=True)
    s.verify("verify asks: not yet", b"", 0x63C3)
    s.verify("verify", _PIN)
    s.verify("verify asks: yes", b"")
    s.info("info with PIN", **new, balance=0)
    s.send("no title", c.INS_GET_DATA, c.DATA_TITLE, 0, sw=c.SW_RECORD_NOT_FOUND)
    s.send("no payment", c.INS_GET_DATA, c.DATA_PAYMENT, 0, sw=c.SW_RECORD_NOT_FOUND)
    s.select(net.header, o.LIFE_PERSONALISED)
    s.info("select ended the PIN session", **new)

    challenge = nonce("challenge")
    expected = {"nonce": challenge.hex(), "subject": net.public("card").hex()}
    s.send(
        "internal authenticate", c.INS_INTERNAL_AUTHENTICATE, 0, 0, challenge,
        proof=expected, certificate=certificate,
    )  # fmt: skip
    for size in (0, 15, 17, 32):
        s.send(
            f"internal authenticate, {size} bytes", c.INS_INTERNAL_AUTHENTICATE, 0, 0, bytes(size),
            c.SW_DATA,
        )  # fmt: skip
    s.send(
        "internal authenticate, wrong P2", c.INS_INTERNAL_AUTHENTICATE, 0, 1, challenge, c.SW_P1P2
    )


def _load(s: Script) -> None:
    net = s.net
    s.refused("without money", net.request(1, "early"), c.SW_INSUFFICIENT_FUNDS)
    good = net.small_title.encode()
    tree = Node.parse(good)
    for name, sw, bad in (
        ("no data", c.SW_DATA, b""),
        ("a truncated title", c.SW_DATA, good[:-1]),
        ("a title and a byte", c.SW_DATA, good + b"\x00"),
        ("a title of nothing", c.SW_DATA, tree.set("hi", b"\x00").encode()),
        ("a title with a short signature", c.SW_DATA, tree.set("signature", bytes(63)).encode()),
        ("a coin", c.SW_DATA, net.coin(owner="card")),
        ("a claim", c.SW_DATA, net.first_payment.claim),
        ("a title with zeros for a signature", c.SW_SIGNATURE,
         tree.set("signature", bytes(64)).encode()),
        ("a title of the issuer", c.SW_SIGNATURE, net.title("card", 0, 1, 9, by="issuer")),
        ("a title with a larger hi", c.SW_SIGNATURE, tree.set("hi", b"\x27\x11").encode()),
        ("a title of another network", c.SW_NETWORK,
         net.title("card", 0, 1, 9, header=net.elsewhere)),
        ("a title of the other suite", c.SW_NETWORK,
         net.title("card", 0, 1, 9, header=net.other_suite)),
        ("somebody else's title", c.SW_NOT_MINE, net.title("kiosk", 0, 1, 9)),
        ("an expired title", c.SW_EXPIRED, net.title("card", 0, 1, 9, expiry=T0 - 1)),
    ):  # fmt: skip
        s.put(name, bad, sw)
    s.send("put data, wrong P1", c.INS_PUT_DATA, 1, 0, good, c.SW_P1P2)
    s.put("the small title", net.small_title)
    s.put("the large title", net.large_title)
    s.put("a title twice", net.small_title, c.SW_STALE)
    again = net.small_title.signed(net.keys["center"].sign(net.small_title.message(), b"again"))
    s.put("a title signed anew", again, c.SW_STALE)


def _pay(s: Script) -> None:
    net = s.net
    first, second = net.first_payment, net.second_payment
    request = net.request(1_200, "payment 1")
    data = request.encode()
    tree = Node.parse(data)
    for name, sw, bad in (
        ("no data", c.SW_DATA, b""),
        ("truncated", c.SW_DATA, data[:-1]),
        ("bytes behind", c.SW_DATA, data + b"\x00"),
        ("nothing", c.SW_DATA, tree.set("amount", b"\x00").encode()),
        ("an amount with a zero before it", c.SW_DATA, tree.set("amount", b"\x00\x01").encode()),
        ("2^63 fen", c.SW_DATA, tree.set("amount", b"\x80" + bytes(7)).encode()),
        ("2^64 + 1200 fen", c.SW_DATA, tree.set("amount", b"\x01" + bytes(6) + b"\x04\xb0").encode()),
        ("payee no compressed key", c.SW_DATA, tree.set("payee", b"\x04" + bytes(32)).encode()),
        ("unknown suite", c.SW_DATA, tree.set("header", b"TEST\x01\x03").encode()),
        ("unknown version", c.SW_DATA, tree.set("header", b"TEST\x02\x01").encode()),
        ("fields in another order", c.SW_DATA,
         tree.put(1, tree.nodes[2]).put(2, tree.nodes[1]).encode()),
        ("another object", c.SW_DATA, first.claim),
        ("another network", c.SW_NETWORK, net.request(1_200, "payment 1", header=net.elsewhere)),
        ("the other suite", c.SW_NETWORK, net.request(1_200, "payment 1", header=net.other_suite)),
        ("a second too early", c.SW_TIME_PAST, net.request(1_200, "payment 1", time=T0 - 1)),
        ("a second too late", c.SW_TIME_FUTURE,
         net.request(1_200, "payment 1", time=T0 + 90 * DAY + 1)),
        ("above the limit", c.SW_LIMIT_PAYMENT, net.request(30_001, "payment 1")),
        ("without PIN", c.SW_SECURITY, net.request(10_001, "payment 1")),
    ):  # fmt: skip
        if isinstance(bad, o.Object):
            bad = bad.encode()
        s.refused(name, bad, sw)
    s.send("pay, wrong P1", c.INS_PAY, 1, 0, data, c.SW_P1P2, cla=c.CLA_PROPRIETARY)
    s.send("pay, wrong class", c.INS_PAY, 0, 0, data, c.SW_CLA)

    s.paid("12.00", request, first, contactless=True)
    s.again("12.00 again", request, "12.00")
    s.power("power off and on")
    s.refused("before select", request, c.SW_CONDITIONS)
    s.select(net.header, o.LIFE_PERSONALISED)
    s.again("12.00 after power was off", request, "12.00")
    s.again("12.00 at another time", net.request(1_200, "payment 1", time=T0 + 150), "12.00")
    s.again("12.00 before the newest time", net.request(1_200, "payment 1", time=0), "12.00")

    request = net.request(25_000, "payment 2", time=T0 + 160)
    s.refused("250.00 without PIN", request, c.SW_SECURITY)
    s.verify("verify", _PIN)
    s.paid("250.00 out of two titles", request, second)
    s.send("the PIN session has ended", c.INS_GET_DATA, c.DATA_TITLE, 0, sw=c.SW_SECURITY)
    s.again("250.00 again, no PIN", request, "250.00 out of two titles")
    s.again("12.00 still", net.request(1_200, "payment 1"), "12.00")
    s.put("a title that is spent", net.large_title, c.SW_STALE)

    for counter, lo, changed in (
        (3, 6_200, net.request(1_199, "payment 1")),
        (4, 7_399, net.request(1_200, "payment 1", "kiosk")),
    ):
        parts = [(net.small_title, lo, lo + changed.amount)]
        payment = net.payment(changed, parts, counter=counter)
        s.paid(f"first nonce, another request, {counter}", changed, payment)
    s.refused("a fen too much", net.request(1_402, "much"), c.SW_INSUFFICIENT_FUNDS)
    s.info(
        "info after four payments", counter=4, time=T0, sequence=1, pin_tries=3,
        spent=28_599, payments=4,
    )  # fmt: skip
    s.verify("verify", _PIN)
    s.info(
        "balance after four payments", counter=4, time=T0, sequence=1, pin_tries=3,
        balance=1_401, spent=28_599, payments=4,
    )  # fmt: skip
    s.record("the title that is left", 0, net.small_title, 8_599)
    s.send("no other title", c.INS_GET_DATA, c.DATA_TITLE, 1, sw=c.SW_RECORD_NOT_FOUND)
    s.send(
        "the payment before the last two", c.INS_GET_DATA, c.DATA_PAYMENT, 2,
        same="250.00 out of two titles",
    )  # fmt: skip
    s.send("the first payment", c.INS_GET_DATA, c.DATA_PAYMENT, 3, same="12.00")
    s.send("no payment before", c.INS_GET_DATA, c.DATA_PAYMENT, 4, sw=c.SW_RECORD_NOT_FOUND)
    s.select(net.header, o.LIFE_PERSONALISED)


def _transport(s: Script) -> None:
    """Classes, lengths, chains, GET RESPONSE, at the example of a payment made before."""
    net = s.net
    data = net.request(1_200, "payment 1").encode()
    size = len(net.first_payment.encode())
    for name, apdu, sw in (
        ("three bytes", b"\x00\xca\x01", c.SW_LENGTH),
        ("less data than Lc", b"\x00\xda\x00\x00\x05\x00", c.SW_LENGTH),
        ("more data than Lc and Le", b"\x00\xda\x00\x00\x01\x00\x00\x00", c.SW_LENGTH),
        ("extended Lc of 0", b"\x00\xda\x00\x00\x00\x00\x00\x00", c.SW_LENGTH),
        ("unknown instruction", b"\x00\x10\x00\x00\x00", c.SW_INS),
        ("proprietary select", b"\x80\xa4\x04\x00\x00", c.SW_CLA),
        ("class 40", b"\x40\xca\x01\x00\x00", c.SW_CLA),
        ("class FF", b"\xff\xca\x01\x00\x00", c.SW_CLA),
        ("logical channel 1", b"\x01\xca\x01\x00\x00", c.SW_CHANNEL),
        ("secure messaging", b"\x04\xca\x01\x00\x00", c.SW_SECURE_MESSAGING),
        ("get response without one", b"\x00\xc0\x00\x00\x00", c.SW_CONDITIONS),
    ):
        s.raw(name, apdu, sw)
    short = c.command(c.INS_PAY, 0, 0, data, c.CLA_PROPRIETARY)
    response = c.command(c.INS_GET_RESPONSE)
    s.raw("short pay: the first part", short, c.SW_MORE | _left(size - 256))
    s.raw("the second part", response, c.SW_MORE | _left(size - 512) if size > 512 else c.SW_OK,
          **({} if size > 512 else {"same": "12.00"}))  # fmt: skip
    if size > 512:
        s.raw("the last part", response, c.SW_OK, same="12.00")
    s.raw("nothing left", response, c.SW_CONDITIONS)
    s.raw("short pay once more: the first part", short, c.SW_MORE | _left(size - 256))
    s.raw("something in between", c.command(c.INS_GET_DATA, 9, 0), c.SW_P1P2)
    s.raw("the second part is gone", response, c.SW_CONDITIONS)

    def chained(part: bytes, last: bool = False, le: int = 0) -> bytes:
        cla = c.CLA_PROPRIETARY | (0 if last else c.CLA_CHAINED)
        return c.command(c.INS_PAY, 0, 0, part, cla, le)

    s.raw("pay in parts", chained(data[:40]), c.SW_OK)
    s.raw("pay, the last part", chained(data[40:], True, 65536), c.SW_OK, same="12.00")
    s.raw("pay in parts", chained(data[:40]), c.SW_OK)
    s.raw("another command in between", c.command(c.INS_GET_DATA, 1, 0), c.SW_CHAIN_BROKEN)
    s.raw("what was begun is forgotten", chained(data[40:], True), c.SW_DATA)
    for _ in range(10):
        s.raw("2550 bytes in parts", chained(bytes(255)), c.SW_OK)
    s.raw("2560 bytes", chained(bytes(10)), c.SW_OK)
    s.raw("a byte more", chained(bytes(1)), c.SW_LENGTH)
    s.raw("the chain is forgotten", chained(data, True, 65536), c.SW_OK, same="12.00")


def _left(size: int) -> int:
    return min(size, 256) & 0xFF


def _late_title(net: Network) -> o.Title:
    return net.title("card", 100_000, 105_000, 4, expiry=T0 + 8 * DAY)


def _times(s: Script) -> None:
    net = s.net
    late = _late_title(net)
    s.put("a title that expires soon", late)
    at = T0 + 2 * DAY
    s.refused("what expires too early", net.request(6_401, "much", time=at), c.SW_EXPIRED)
    s.refused("more than that", net.request(6_402, "much", time=at), c.SW_INSUFFICIENT_FUNDS)
    request = net.request(1_401, "rest", time=at)
    payment = net.payment(request, [(net.small_title, 8_599, 10_000)], counter=5)
    s.paid("all of the small title", request, payment)
    request = net.request(100, "in time", time=T0 + DAY)
    payment = net.payment(request, [(late, 100_000, 100_100)], counter=6)
    s.paid("a deadline that is the expiry", request, payment)
    s.refused(
        "a deadline a second later", net.request(100, "late", time=T0 + DAY + 1), c.SW_EXPIRED
    )

    newest = T0 + 3 * DAY
    time = net.signed_time(newest)
    for name, sw, bad in (
        ("a truncated time", c.SW_DATA, time.encode()[:-1]),
        ("a stranger's time", c.SW_SIGNATURE, net.signed_time(newest, by="stranger")),
        ("the time of another network", c.SW_NETWORK,
         net.signed_time(newest, header=net.elsewhere)),
        ("the time it knows", c.SW_STALE, net.signed_time(T0)),
        ("an earlier time", c.SW_STALE, net.signed_time(T0 - 1)),
    ):  # fmt: skip
        s.put(name, bad, sw)
    s.put("a later time", time)
    s.put("it twice", time, c.SW_STALE)
    s.info(
        "info after the signed time", counter=6, time=newest, sequence=1, pin_tries=3,
        spent=30_100, payments=6,
    )  # fmt: skip
    for name, at, sw in (
        ("a second before the newest time", newest - 1, c.SW_TIME_PAST),
        ("at the horizon", newest + 90 * DAY, c.SW_EXPIRED),
        ("a second beyond the horizon", newest + 90 * DAY + 1, c.SW_TIME_FUTURE),
        ("at the end of times", o.MAX_TIME, c.SW_TIME_FUTURE),
    ):
        s.refused(name, net.request(100, "late", time=at), sw)
    s.put("the time at which a title expires", net.signed_time(late.expiry))
    last = net.title("card", 110_000, 110_001, 6, expiry=late.expiry)
    s.put("a title that expires now", last)
    s.put("the other one is still known", late, c.SW_STALE)
    s.verify("verify", _PIN)
    known = {"counter": 6, "sequence": 1, "pin_tries": 3, "spent": 30_100, "payments": 6}
    s.info("both are still there", time=late.expiry, balance=4_901, **known)
    s.put("the time after a title expired", net.signed_time(T0 + 9 * DAY))
    s.put("the expired title again", late, c.SW_EXPIRED)
    s.send("they are gone", c.INS_GET_DATA, c.DATA_TITLE, 0, sw=c.SW_RECORD_NOT_FOUND)
    s.select(net.header, o.LIFE_PERSONALISED)


def _channel(s: Script) -> None:
    net = s.net
    verify = c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, _PIN, le=0)
    agree = c.INS_GENERAL_AUTHENTICATE
    good = Key(net.suite, "host channel").public
    s.send("envelope without a channel", c.INS_ENVELOPE, 0, 0, bytes(40), c.SW_CONDITIONS)
    for name, data in (
        ("no data", b""),
        ("32 bytes", good[1:]),
        ("34 bytes", good + b"\x00"),
        ("an uncompressed key", b"\x04" + good[1:]),
        ("a point at no curve", b"\x02" + b"\xff" * 32),
    ):
        s.send(f"general authenticate, {name}", agree, 0, 0, data, c.SW_DATA)
    s.send("general authenticate, wrong P2", agree, 0, 1, good, c.SW_P1P2)
    s.agree("general authenticate")
    s.verify("verify over the air in clear", _PIN, c.SW_CONDITIONS, contactless=True)
    s.sealed("verify asks, sealed", c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, le=0), 0x63C3)
    s.sealed("verify wrongly, sealed", verify[:-1] + b"7", 0x63C2)
    s.sealed("verify, sealed", verify)
    first = o.TitleRecord(title=net.small_title, lo=8_599).encode()
    title = c.command(c.INS_GET_DATA, c.DATA_TITLE, 0, le=65536)
    s.sealed("a title, sealed", title, reply=first.hex())
    s.raw("the same title in clear", title, c.SW_SECURITY)
    s.sealed("le does not matter", title[:4], reply=first.hex())
    for name, apdu, sw in (
        ("no command", b"\x00\xca\x01", c.SW_LENGTH),
        ("chained", b"\x10" + title[1:], c.SW_CLA),
        ("another channel", b"\x01" + title[1:], c.SW_CLA),
        ("select", c.command(c.INS_SELECT, 4, 0, c.AID), c.SW_INS),
        ("get response", c.command(c.INS_GET_RESPONSE), c.SW_INS),
        ("general authenticate", c.command(agree, data=good), c.SW_INS),
        ("envelope", c.command(c.INS_ENVELOPE, data=bytes(40)), c.SW_INS),
        ("unknown", c.command(0xEE), c.SW_INS),
        ("pay, wrong class", c.command(c.INS_PAY), c.SW_CLA),
        ("store data", c.command(c.INS_STORE_DATA, 0x80), c.SW_CONDITIONS),
        ("old limits", c.command(c.INS_PUT_DATA, data=net.risk().encode()), c.SW_STALE),
    ):
        s.sealed(f"{name}, sealed", apdu, sw)
    s.sealed(
        "250.00 again, sealed",
        c.command(c.INS_PAY, data=net.request(25_000, "payment 2").encode(),
                  cla=c.CLA_PROPRIETARY, le=65536),
        same="250.00 out of two titles",
    )  # fmt: skip
    s.sealed("the title is still shown", title, reply=first.hex())
    s.send("envelope, forged", c.INS_ENVELOPE, 0, 0, bytes(40), c.SW_CHANNEL_BROKEN)
    s.send("the channel is closed", c.INS_ENVELOPE, 0, 0, bytes(40), c.SW_CONDITIONS)
    s.agree("general authenticate again")
    s.sealed("a new channel knows no PIN", title, c.SW_SECURITY)
    s.send("envelope, too short", c.INS_ENVELOPE, 0, 0, bytes(15), c.SW_CHANNEL_BROKEN)
    s.agree("general authenticate, third")
    s.sealed("change PIN, sealed", c.command(
        c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE,
        encode(_PIN_TAG, _PIN) + encode(_PIN_TAG, b"9999"), le=0))  # fmt: skip
    s.sealed("unblock, sealed", c.command(
        c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE,
        encode(_PUK_TAG, b"12345678") + encode(_PIN_TAG, _PIN), le=0))  # fmt: skip
    s.sealed("unblocking began no session", title, c.SW_SECURITY)
    s.agree("general authenticate, fourth")
    s.select(net.header, o.LIFE_PERSONALISED)
    s.send("select has closed it", c.INS_ENVELOPE, 0, 0, bytes(40), c.SW_CONDITIONS)
    s.verify("verify in clear", _PIN)
    s.agree("general authenticate, fifth")
    s.sealed("the PIN of one is not that of the other", title, c.SW_SECURITY)
    s.raw("but in clear it still is", title, c.SW_OK, reply=first.hex())
    s.select(net.header, o.LIFE_PERSONALISED)


def _receive(s: Script) -> None:
    """Touch to touch: payments of another card to this one."""
    net = s.net
    kiosk = net.certificate("kiosk")
    title = net.title("kiosk", 300_000, 310_000, 9)

    def payment(
        name: str = "touch", payee: str = "card", certificate: o.Certificate = kiosk,
        of: o.Title = title, by: str = "kiosk", amount: int = 700, **claim: Any,
    ) -> o.Payment:  # fmt: skip
        request = net.request(amount, name, payee)
        parts = [(of, 300_000, 300_000 + amount)]
        return net.payment(request, parts, certificate, by=by, **claim)

    good = payment()
    other_title = net.title("kiosk", 300_000, 310_000, 10)
    of_another = o.Payment(claim=good.claim, titles=(other_title,), certificate=kiosk)
    strange = o.Payment(
        claim=good.claim.signed(net.keys["card"].sign(good.claim.message())),
        titles=good.titles, certificate=kiosk,
    )  # fmt: skip
    late = net.certificate("kiosk", expiry=T0 + 100)
    small = net.certificate("kiosk", per_payment=699)
    soon = net.title("kiosk", 300_000, 310_000, 9, expiry=T0 + 100 + WINDOW - 1)
    for name, sw, bad in (
        ("truncated payment", c.SW_DATA, good.encode()[:-1]),
        ("payment of another network", c.SW_NETWORK, payment(header=net.elsewhere)),
        ("payment to another", c.SW_NOT_MINE, payment(payee="merchant")),
        ("payment by a stranger's certificate", c.SW_SIGNATURE,
         payment(certificate=net.certificate("kiosk", by="stranger"))),
        ("payment by another network's certificate", c.SW_NETWORK,
         payment(certificate=net.certificate("kiosk", header=net.elsewhere))),
        ("payment by an expired certificate", c.SW_EXPIRED, payment(certificate=late)),
        ("payment that is due", c.SW_EXPIRED, payment(time=T0 - 2, deadline=T0 - 1)),
        ("payment by a merchant", c.SW_LIMIT_PAYMENT,
         payment(certificate=net.certificate("kiosk", o.ROLE_MERCHANT))),
        ("payment above its limit", c.SW_LIMIT_PAYMENT, payment(certificate=small)),
        ("payment of a stranger's title", c.SW_SIGNATURE,
         payment(of=net.title("kiosk", 300_000, 310_000, 9, by="stranger"))),
        ("payment of another's title", c.SW_SIGNATURE,
         payment(of=net.title("merchant", 300_000, 310_000, 9))),
        ("payment of another title than it names", c.SW_SIGNATURE, of_another),
        ("payment of a title that ends before", c.SW_EXPIRED, payment(of=soon)),
        ("payment that another signed", c.SW_SIGNATURE, strange),
    ):  # fmt: skip
        s.put(name, bad, sw)
    s.put("a payment to this card", good)
    s.put("the same payment", good, c.SW_STALE)
    again = good.claim.signed(net.keys["kiosk"].sign(good.claim.message(), b"again"))
    s.put("the same, signed anew",
          o.Payment(claim=again, titles=good.titles, certificate=kiosk), c.SW_STALE)  # fmt: skip
    received = c.INS_GET_DATA, c.DATA_RECEIVED
    s.send("received without PIN", *received, 0, sw=c.SW_SECURITY)
    s.verify("verify for what came", _PIN)
    s.send("received", *received, 0, reply=good.claim.encode().hex())
    s.send("no more received", *received, 1, sw=c.SW_RECORD_NOT_FOUND)
    s.info(
        "info with what is pending", counter=4, time=T0, sequence=1, pin_tries=3,
        balance=1_401, pending=700, spent=28_599, payments=4, room=c.MAX_RECEIVED - 1,
    )  # fmt: skip
    s.refused(
        "what is pending cannot be spent", net.request(1_402, "pending"), c.SW_INSUFFICIENT_FUNDS
    )
    for number in range(1, c.MAX_RECEIVED):
        s.put(f"payment {number}", payment(f"touch {number}", counter=number + 1))
    s.put("one more than there may be", payment("touch 8"), c.SW_NO_SPACE)

    def receipt(*names: str, by: str = "center", **changes: Any) -> o.Receipt:
        claims = [payment(name, counter=number + 1).claim for number, name in enumerate(names)]
        return net.receipt(claims, by=by, **changes)

    for name, sw, bad_receipt in (
        ("receipt of a stranger", c.SW_SIGNATURE, receipt("touch", by="stranger")),
        ("receipt of another network", c.SW_NETWORK, receipt("touch", header=net.elsewhere)),
        ("receipt of nothing", c.SW_STALE, receipt()),
        ("receipt of another payment", c.SW_STALE, receipt("touch 9")),
    ):
        s.put(name, bad_receipt, sw)
    s.put("receipt", receipt("touch"))
    s.put("the same receipt", receipt("touch"), c.SW_STALE)
    s.put(
        "receipt of the others", receipt("touch", *(f"touch {n}" for n in range(1, c.MAX_RECEIVED)))
    )
    s.send("nothing is pending", *received, 0, sw=c.SW_RECORD_NOT_FOUND)
    s.select(net.header, o.LIFE_PERSONALISED)


def _fresh_title(net: Network) -> o.Title:
    return net.title("card", 200_000, 210_000, 5, expiry=T0 + 2 * YEAR)


def _limits(s: Script) -> None:
    net = s.net
    at = T0 + 9 * DAY
    fresh = _fresh_title(net)
    s.put("a title that lasts", fresh)
    values: dict[str, Any] = {
        "time": at,
        "per_payment": 1_500,
        "cumulative": 2_000,
        "count": 5,
        "pin_free": 1_500,
    }
    risk = net.risk(sequence=2, **values)
    s.put("risk without PIN", risk, c.SW_SECURITY)
    s.put("truncated risk without PIN", risk.encode()[:-1], c.SW_SECURITY)
    s.verify("verify for limits", _PIN)
    for name, sw, bad in (
        ("truncated risk", c.SW_DATA, risk.encode()[:-1]),
        ("risk of a stranger", c.SW_SIGNATURE, net.risk(sequence=2, by="stranger", **values)),
        ("risk of another network", c.SW_NETWORK,
         net.risk(sequence=2, header=net.elsewhere, **values)),
        ("risk of another card", c.SW_NOT_MINE, net.risk("kiosk", 2, **values)),
        ("risk of the same sequence", c.SW_STALE, net.risk(sequence=1, **values)),
        ("risk of an earlier sequence", c.SW_STALE, net.risk(sequence=0, **values)),
    ):  # fmt: skip
        s.put(name, bad, sw)
    s.put("risk", risk)
    s.put("it twice", risk, c.SW_STALE)
    s.send("the new risk", c.INS_GET_DATA, c.DATA_RISK, 0, reply=risk.encode().hex())
    s.select(net.header, o.LIFE_PERSONALISED)
    s.info(
        "the counts begin anew", counter=6, time=at, sequence=2, pin_tries=3, spent=0, payments=0
    )
    s.refused("above the new limit", net.request(1_501, "much", time=at), c.SW_LIMIT_PAYMENT)
    request = net.request(1_500, "limit", time=at)
    s.paid("at the limit", request, net.payment(request, [(fresh, 200_000, 201_500)], counter=7))
    s.refused("above the total", net.request(501, "much", time=at), c.SW_LIMIT_CUMULATIVE)
    request = net.request(500, "total", time=at)
    s.paid(
        "all of the total", request, net.payment(request, [(fresh, 201_500, 202_000)], counter=8)
    )
    s.refused("a fen more", net.request(1, "much", time=at), c.SW_LIMIT_CUMULATIVE)
    s.verify("verify for limits again", _PIN)
    s.put("risk with few payments", net.risk(sequence=9, time=at, count=1, pin_free=0))
    s.select(net.header, o.LIFE_PERSONALISED)
    request = net.request(1, "count", time=at)
    s.refused("a fen without PIN", request, c.SW_SECURITY)
    s.verify("verify", _PIN)
    s.paid("the only one", request, net.payment(request, [(fresh, 202_000, 202_001)], counter=9))
    s.refused("one more", net.request(1, "much", time=at), c.SW_LIMIT_COUNT)
    s.again("the only one again", request, "the only one")


def _pin(s: Script) -> None:
    def two(first: int, old: bytes, new: bytes) -> bytes:
        return encode(first, old) + encode(_PIN_TAG, new)

    for name, data in (("3 digits", b"123"), ("13 digits", b"1" * 13), ("letters", b"secret")):
        s.verify(f"verify {name}", data, c.SW_DATA)
    s.send("verify, wrong P2", c.INS_VERIFY, 0, 0, _PIN, c.SW_P1P2)
    change = c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE
    unblock = c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE
    good = two(_PIN_TAG, _PIN, b"0099")
    for name, data in (
        ("no data", b""),
        ("only the old PIN", encode(_PIN_TAG, _PIN)),
        ("short new PIN", two(_PIN_TAG, _PIN, b"123")),
        ("letters", two(_PIN_TAG, _PIN, b"secret")),
        ("a PUK", two(_PUK_TAG, b"12345678", b"0000")),
        ("bytes behind", good + b"\x00"),
        ("length not minimal", b"\x9f\x25\x81\x06" + _PIN + encode(_PIN_TAG, b"0000")),
    ):
        s.send(f"change PIN, {name}", *change, data, c.SW_DATA)
    s.send("change PIN over the air", *change, good, c.SW_CONDITIONS, contactless=True)
    s.send("change PIN, wrong PIN", *change, two(_PIN_TAG, b"0000", b"0000"), 0x63C2)
    s.send("change PIN", *change, good)
    s.verify("verify the old one", _PIN, 0x63C2)
    s.verify("verify the old one", _PIN, 0x63C1)
    s.verify("verify asks", b"", 0x63C1)
    s.verify("verify the new one", b"0099")
    s.verify("verify 1", b"1111", 0x63C2)
    s.power("power off and on")
    s.select(s.net.header, o.LIFE_PERSONALISED)
    s.verify("verify 2", b"1111", 0x63C1)
    s.verify("verify 3", b"1111", 0x63C0)
    s.verify("verify the right one, blocked", b"0099", c.SW_BLOCKED)
    s.verify("verify asks, blocked", b"", c.SW_BLOCKED)
    s.send("change PIN, blocked", *change, two(_PIN_TAG, b"0099", b"1111"), c.SW_BLOCKED)
    good = two(_PUK_TAG, b"12345678", _PIN)
    for name, data in (
        ("no data", b""),
        ("short PUK", two(_PUK_TAG, b"1234567", _PIN)),
        ("long new PIN", two(_PUK_TAG, b"12345678", b"1" * 13)),
        ("a PIN", two(_PIN_TAG, b"12345678", _PIN)),
    ):
        s.send(f"unblock, {name}", *unblock, data, c.SW_DATA)
    s.send("unblock over the air", *unblock, good, c.SW_CONDITIONS, contactless=True)
    s.send("unblock, wrong PUK", *unblock, two(_PUK_TAG, b"87654321", _PIN), 0x63C9)
    s.send("unblock", *unblock, good)
    s.verify("verify after unblocking", _PIN)


def _renew(s: Script) -> None:
    """The certificate expires and is renewed."""
    net = s.net
    fresh = _fresh_title(net)
    at = T0 + YEAR
    s.put("a time shortly before the certificate expires", net.signed_time(at - 1))
    s.put("risk after a year", net.risk(sequence=10, time=at - 1))
    request = net.request(401, "renewed", time=at)
    s.refused("when the certificate has expired", request, c.SW_EXPIRED)
    values = {"expiry": T0 + 2 * YEAR, "per_payment": 400}
    new = net.certificate(**values)
    for name, sw, bad in (
        ("a truncated certificate", c.SW_DATA, new.encode()[:-1]),
        ("a certificate of the center", c.SW_SIGNATURE, net.certificate(by="center", **values)),
        ("a certificate of another network", c.SW_NETWORK,
         net.certificate(header=net.elsewhere, **values)),
        ("another card's certificate", c.SW_NOT_MINE, net.certificate("kiosk", **values)),
        ("a merchant's certificate", c.SW_NOT_MINE,
         net.certificate("card", o.ROLE_MERCHANT, expiry=T0 + 2 * YEAR)),
        ("the same certificate", c.SW_STALE, net.certificate()),
        ("one of the same expiry", c.SW_STALE, net.certificate(per_payment=1)),
    ):  # fmt: skip
        s.put(name, bad, sw)
    s.put("a certificate", new)
    s.send("the new one", c.INS_GET_DATA, c.DATA_CERTIFICATE, 0, reply=new.encode().hex())
    s.refused("above the certificate's limit", request, c.SW_LIMIT_PAYMENT)
    request = net.request(400, "renewed", time=at)
    payment = net.payment(request, [(fresh, 202_001, 202_401)], new, counter=10)
    s.paid("at the certificate's limit", request, payment)


def _full(s: Script) -> None:
    """Another card of the same key: as many titles and payments as it holds."""
    net = s.net
    s.power("another new card", blank=True)
    s.select(None, o.LIFE_BLANK)
    s.send("generate", c.INS_GENERATE_KEY_PAIR, net.suite.id, 0, reply=net.public("card").hex())
    s.send("store data", c.INS_STORE_DATA, 0x80, 0, net.personalisation().encode())
    titles = [
        net.title("card", 0, 500 - i, 1, serial=serial(f"coin {i}"), amount=500)
        for i in range(c.MAX_TITLES + 1)
    ]
    for i, title in enumerate(titles):
        s.put(f"title {i}", title, c.SW_OK if i < c.MAX_TITLES else c.SW_NO_SPACE)
    at = T0 + 100
    s.refused("more than eight titles hold", net.request(3_973, "much"), c.SW_INSUFFICIENT_FUNDS)
    request = net.request(3_972, "eight titles")
    parts = [(title, 0, title.hi) for title in titles[: o.MAX_INPUTS]]
    s.paid("all of eight titles", request, net.payment(request, parts))
    s.put("the title for which there was no space", titles[-1])

    # Fen by fen out of the title that holds least: all expire at once.
    last = titles[-1]
    requests = [net.request(1, f"fen {i}", time=at + i) for i in range(2, 11)]
    for counter, request in enumerate(requests, 2):
        lo = counter - 2
        payment = net.payment(request, [(last, lo, lo + 1)], counter=counter)
        s.paid(f"fen {counter}", request, payment)
    s.again("a fen whose payment the log holds", requests[1], "fen 3")
    s.again("the last fen", requests[-1], "fen 10")
    s.verify("verify", _PIN)
    s.send("the oldest payment in the log", c.INS_GET_DATA, c.DATA_PAYMENT, 7, same="fen 3")
    s.send("none before it", c.INS_GET_DATA, c.DATA_PAYMENT, 8, sw=c.SW_RECORD_NOT_FOUND)
    request = requests[0]
    payment = net.payment(request, [(last, 9, 10)], counter=11)
    s.paid("a fen that the log has forgotten", request, payment)
    request = net.request(474, "rest")
    payment = net.payment(request, [(last, 10, 484)], counter=12)
    s.paid("all of the title that holds least", request, payment)


def _sam(s: Script) -> None:
    """A till's own card, whose key is that of the card."""
    net = s.net
    payee = net.public("card")

    def send(name: str, step: int, data: bytes = b"", sw: int = c.SW_OK, **how: Any) -> None:
        s.send(f"sam, {name}", c.INS_SAM, step, 0, data, sw, cla=c.CLA_PROPRIETARY, **how)

    header, puk, pin = (
        encode(0x80, net.header),
        encode(_PUK_TAG, b"12345678"),
        encode(_PIN_TAG, _PIN),
    )
    good = header + puk + pin
    void = o.Void(header=net.header, payee=payee, nonce=nonce("sam"), amount=400, time=T0)
    message = void.message()
    s.power("a new card for a till", blank=True)
    s.select(None, o.LIFE_BLANK)
    for name, step in (("key", sam.KEY), ("sign", sam.SIGN), ("books", sam.BOOKS)):
        send(f"{name} of a blank card", step, message, c.SW_CONDITIONS)
    send("no such step", sam.BOOKS + 1, good, c.SW_P1P2)
    send("make over the air", sam.MAKE, good, c.SW_CONDITIONS, contactless=True)
    for name, bad in (
        ("no data", b""),
        ("bytes behind", good + b"\0"),
        ("PIN first", header + pin + puk),
        ("PIN of 3 digits", header + puk + encode(_PIN_TAG, b"123")),
        ("PUK of letters", header + encode(_PUK_TAG, b"lettersx") + pin),
        ("short header", encode(0x80, net.header[:-1]) + puk + pin),
        ("unknown suite", encode(0x80, net.header[:-1] + b"\x09") + puk + pin),
    ):
        send(f"make, {name}", sam.MAKE, bad, c.SW_DATA)
    s.select(None, o.LIFE_BLANK)
    send("make", sam.MAKE, good)
    s.select(net.header, o.LIFE_SAM)
    new = {"counter": 0, "time": 0, "sequence": 0, "pin_tries": 3, "spent": 0, "payments": 0}
    s.info("info of a SAM without a key", subject=None, lifecycle=o.LIFE_SAM, **new)
    send("make twice", sam.MAKE, good, c.SW_CONDITIONS)
    send("key without PIN", sam.KEY, sw=c.SW_SECURITY)
    s.verify("verify", _PIN)
    send("sign without a key", sam.SIGN, message, c.SW_CONDITIONS)
    send("key", sam.KEY)
    s.info("info of a SAM", lifecycle=o.LIFE_SAM, **new)
    send("key twice", sam.KEY, sw=c.SW_CONDITIONS)
    s.power("power off and on")
    s.select(net.header, o.LIFE_SAM)
    send("sign without PIN", sam.SIGN, message, c.SW_SECURITY)
    send("books without PIN", sam.BOOKS, bytes(32), c.SW_SECURITY)
    s.verify("verify", _PIN)
    promise = o.RefundPromise(
        header=net.header, payee=payee, claim_id=bytes(32), amount=400, nonce=nonce("sam"), time=T0
    )
    inputs = tuple(o.Input(title_id=bytes((i,)) * 32, lo=i, hi=100) for i in range(o.MAX_INPUTS))
    claim = o.Claim(
        header=net.header, inputs=inputs, amount=sum(each.hi - each.lo for each in inputs),
        payee=net.public("merchant"), nonce=nonce("sam"), counter=1, time=T0, deadline=T0 + DAY,
    )  # fmt: skip
    for name, obj in (("void", void), ("promise", promise), ("claim", claim)):
        send(f"sign a {name}", sam.SIGN, obj.message(), signed=obj.message().hex())
    for name, sw, data in (
        ("nothing", c.SW_DATA, b""),
        ("a void with a length", c.SW_DATA, encode(o.Void.TAG, message[1:])),
        ("bytes behind a void", c.SW_DATA, message + b"\0"),
        ("half a void", c.SW_DATA, message[: len(message) // 2]),
        ("a title", c.SW_DATA, net.small_title.message()),
        ("a certificate", c.SW_DATA, net.certificate().message()),
        ("risk parameters", c.SW_DATA, net.risk().message()),
        ("a void of another network", c.SW_NETWORK,
         o.Void(**{**void.__dict__, "header": net.elsewhere}).message()),
        ("a void of another payee", c.SW_NOT_MINE,
         o.Void(**{**void.__dict__, "payee": net.public("merchant")}).message()),
        ("a promise of another payee", c.SW_NOT_MINE,
         o.RefundPromise(**{**promise.__dict__, "payee": net.public("merchant")}).message()),
    ):  # fmt: skip
        send(f"sign {name}", sam.SIGN, data, sw)
    send("sign over the air", sam.SIGN, message, c.SW_CONDITIONS, contactless=True)
    send("books, short pad", sam.BOOKS, bytes(31), c.SW_DATA)
    s.put("a title on a SAM", net.small_title, c.SW_CONDITIONS)
    s.refused("with a SAM", net.request(1, "sam"), c.SW_CONDITIONS)
    s.send("generate on a SAM", c.INS_GENERATE_KEY_PAIR, net.suite.id, 0, sw=c.SW_CONDITIONS)
    store = net.personalisation().encode()
    s.send("store data on a SAM", c.INS_STORE_DATA, 0x80, 0, store, c.SW_CONDITIONS)
    s.verify("wrong PIN", b"000000", 0x63C2)
    send("sign after a wrong PIN", sam.SIGN, message, c.SW_SECURITY)

# SPDX-License-Identifier: Apache-2.0
"""What a terminal accepts and refuses, and evidence that proves something or nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from chipcash_wire import objects as o
from tests.vectors.make_faults import Node
from tests.vectors.make_objects import repeated
from tests.vectors.signing import DAY, T0, WINDOW, Network, serial

Parts = list[tuple[o.Title, int, int]]


_NOTHING: dict[str, int | None] = {"in_all": 0, "shift": 0, "card": 0, "oldest": None}


@dataclass(frozen=True)
class Case:
    """Everything that a verification depends on. The default one is accepted."""

    request: o.PayRequest
    answer: bytes
    entries: tuple[o.BlacklistEntry, ...]
    signed_time: o.SignedTime | None
    now: int = T0 + 100
    max_per_payment: int = 50_000
    least_time_to_deposit: int = DAY
    blacklist_max_age: int = WINDOW
    rules: tuple[o.TerminalRules, ...] | None = None
    """What came as rules, in order; None where this is about checks 1 to 13 only."""
    pending: dict[str, int | None] | None = None

    def line(self, net: Network, name: str, result: str) -> dict[str, Any]:
        """One line of terminal-*.json. result: accepted, or the reason for refusing."""
        found: dict[str, Any] = {
            "name": name,
            "result": result,
            "now": self.now,
            "policy": {
                "max_per_payment": self.max_per_payment,
                "least_time_to_deposit": self.least_time_to_deposit,
                "blacklist_max_age": self.blacklist_max_age,
            },
            "blacklist": [entry.encode().hex() for entry in self.entries],
            "signed_time": self.signed_time.encode().hex() if self.signed_time else None,
            "request": self.request.encode().hex(),
            "answer": self.answer.hex(),
        }
        if self.rules is not None:
            found["rules"] = [rules.encode().hex() for rules in self.rules]
            found["pending"] = {**_NOTHING, **(self.pending or {})}
        if result == "accepted":
            found["claim_id"] = net.id(o.Payment.decode(self.answer).claim).hex()
        return found


class Cases:
    """The lines so far, and the changes that make them."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.lines: list[dict[str, Any]] = []
        self.payment = net.second_payment
        self.request = net.request(25_000, "payment 2", time=T0 + 160)
        entries = (net.entry(1, "lost"), net.entry(2, "stolen"))
        self.base = Case(
            self.request, self.payment.encode(), entries, net.signed_time(T0, 2), now=T0 + 160
        )

    def add(self, result: str, name: str, case: Case) -> None:
        """One more case."""
        self.lines.append(case.line(self.net, name, result))

    def answered(self, payment: o.Payment | bytes) -> Case:
        """The case with another answer."""
        data = payment if isinstance(payment, bytes) else payment.encode()
        return replace(self.base, answer=data)

    def paying(self, parts: Parts | None = None, **claim: Any) -> Case:
        """The case with a claim over other titles or with other fields, validly signed."""
        if parts is None:
            parts = [
                (title, item.lo, item.hi)
                for title, item in zip(self.payment.titles, self.payment.claim.inputs, strict=True)
            ]
        return self.answered(self.net.payment(self.request, parts, **claim))

    def certified(self, certificate: o.Certificate) -> Case:
        """The case with another certificate."""
        values = {"claim": self.payment.claim, "titles": self.payment.titles}
        return self.answered(o.Payment(**values, certificate=certificate))

    def titled(self, title: o.Title) -> Case:
        """The case paid out of one title."""
        return self.paying([(title, title.lo, title.lo + self.request.amount)])


def terminal(net: Network) -> list[dict[str, Any]]:
    """All lines of a suite."""
    cases = Cases(net)
    _accepted(cases)
    _malformed(cases)
    _refused(cases)
    _in_order(cases)
    _rules(cases)
    return cases.lines


def _accepted(x: Cases) -> None:
    net = x.net
    first = net.first_payment
    request = net.request(1_200, "payment 1")
    x.add("accepted", "the first payment", replace(x.base, request=request, answer=first.encode()))
    x.add("accepted", "the second payment, of two titles", x.base)
    x.add("accepted", "a blacklist of nobody",
          replace(x.base, entries=(), signed_time=net.signed_time()))  # fmt: skip
    x.add("accepted", "a slow clock", replace(x.base, now=0))
    x.add("accepted", "at the terminal's limit", replace(x.base, max_per_payment=25_000))
    x.add("accepted", "at the card's limit", x.certified(net.certificate(per_payment=25_000)))
    x.add("accepted", "in the certificate's last second",
          x.certified(net.certificate(expiry=T0 + 161)))  # fmt: skip
    x.add("accepted", "a title that expires with the deadline",
          x.titled(_title(net, expiry=T0 + 160 + WINDOW)))  # fmt: skip
    x.add("accepted", "the latest deposit", x.paying(deadline=T0 + 160 + DAY))
    x.add("accepted", "the oldest blacklist", replace(x.base, blacklist_max_age=160))
    one, two = _title(net), _title(net, epoch=8)
    x.add("accepted", "intervals of one coin that touch",
          x.paying([(one, 300_000, 312_000), (two, 312_000, 325_000)]))  # fmt: skip
    other = _title(net, epoch=1, serial=serial("coin 2"))
    x.add("accepted", "the same interval of two coins",
          x.paying([(one, 300_000, 312_500), (other, 300_000, 312_500)]))  # fmt: skip
    again = net.small_title.signed(net.keys["center"].sign(net.small_title.message(), b"again"))
    signed_anew = o.Payment(
        claim=x.payment.claim, titles=(x.payment.titles[0], again), certificate=net.certificate()
    )
    x.add("accepted", "a title signed anew", x.answered(signed_anew))


def _title(net: Network, *, epoch: int = 7, by: str = "center", **changes: Any) -> o.Title:
    return net.title("card", 300_000, 330_000, epoch, by=by, **changes)


def _malformed(x: Cases) -> None:
    good = x.payment.encode()
    tree = Node.parse(good)
    claim = tree.nodes[0]
    twice = claim.nodes[claim.find("input")]
    for name, answer in (
        ("no answer", b""),
        ("half an answer", good[: len(good) // 2]),
        ("the last byte is missing", good[:-1]),
        ("a byte behind", good + b"\x00"),
        ("only the claim", x.payment.claim.encode()),
        ("the request itself", x.request.encode()),
        ("indefinite length", b"\xed\x80" + tree.body + b"\x00\x00"),
        ("titles exchanged",
         tree.put(1, tree.nodes[2]).put(2, tree.nodes[1]).encode()),
        ("a title twice in the claim",
         tree.put(0, claim.put(claim.find("input") + 1, twice)).encode()),
        ("a short signature", tree.put(0, claim.set("signature", bytes(63))).encode()),
    ):  # fmt: skip
        x.add("malformed", name, x.answered(answer))


def _refused(x: Cases) -> None:
    net, base = x.net, x.base
    elsewhere = {"header": net.elsewhere}
    x.add("network", "the claim's network", x.paying(**elsewhere))
    x.add("network", "the claim's suite", x.paying(header=net.other_suite))
    x.add("network", "the certificate's network", x.certified(net.certificate(**elsewhere)))
    x.add("network", "a title's network", x.titled(_title(net, **elsewhere)))
    x.add("network", "the request's network",
          replace(base, request=net.request(25_000, "payment 2", time=T0 + 160, **elsewhere)))  # fmt: skip

    x.add("mismatch", "nonce", x.paying(nonce=bytes(16)))
    x.add("mismatch", "payee", x.paying(payee=net.public("kiosk")))
    x.add("mismatch", "time", x.paying(time=T0 + 159))
    x.add("mismatch", "amount",
          replace(base, request=net.request(25_001, "payment 2", time=T0 + 160)))  # fmt: skip
    x.add("mismatch", "another payment", x.answered(net.first_payment))

    signature = bytearray(net.certificate().signature or b"")
    signature[63] ^= 1
    x.add("certificate", "signed by the center", x.certified(net.certificate(by="center")))
    x.add("certificate", "one bit of the signature",
          x.certified(net.certificate().signed(bytes(signature))))  # fmt: skip
    x.add("certificate", "names another signer", x.certified(net.certificate(signer=bytes(8))))
    x.add("certificate", "of a merchant", x.certified(net.certificate("card", o.ROLE_MERCHANT)))

    x.add("certificate-expired", "this second", x.certified(net.certificate(expiry=T0 + 160)))
    x.add("certificate-expired", "by the signed time",
          replace(x.certified(net.certificate(expiry=T0 + 170)),
                  signed_time=net.signed_time(T0 + 170, 2)))  # fmt: skip

    listed = (*base.entries, net.entry(3, "card"))
    x.add("blacklisted", "the payer",
          replace(base, entries=listed, signed_time=net.signed_time(T0, 3)))  # fmt: skip
    x.add("blacklisted", "the payer, by an entry newer than the signed time",
          replace(base, entries=listed))  # fmt: skip

    x.add("blacklist-stale", "none", replace(base, entries=(), signed_time=None))
    x.add("blacklist-stale", "no signed time", replace(base, signed_time=None))
    x.add("blacklist-stale", "a second too old", replace(base, blacklist_max_age=159))
    x.add("blacklist-stale", "the last entry is missing", replace(base, entries=base.entries[:1]))
    x.add("blacklist-stale", "the first entry is missing", replace(base, entries=base.entries[1:]))

    x.add("title", "signed by the issuer", x.titled(_title(net, by="issuer")))
    x.add("title", "signed by the card", x.titled(_title(net, by="card")))
    x.add("title", "names another signer", x.titled(_title(net, signer=bytes(8))))
    x.add("title", "somebody else's", x.titled(net.title("kiosk", 300_000, 330_000, 7)))
    x.add("title", "the certificate is another card's", x.certified(net.certificate("kiosk")))
    other = o.Payment(
        claim=x.payment.claim,
        titles=(x.payment.titles[0], net.title("card", 0, 10_000, 9)),
        certificate=x.payment.certificate,
    )
    x.add("title", "not the one that the claim names", x.answered(other))

    x.add("title-expired", "a second before the deadline",
          x.titled(_title(net, expiry=T0 + 159 + WINDOW)))  # fmt: skip

    one, two = _title(net), _title(net, epoch=8)
    for name, lo in (("one fen", 311_999), ("the same interval", 300_000), ("inside", 305_000)):
        amount = 25_000 - 12_000
        parts = [(one, 300_000, 312_000), (two, lo, lo + amount)]
        x.add("overlap", f"{name}, two titles of a coin", x.paying(parts))
    second = _title(net, epoch=1, serial=serial("coin 2"))
    x.add("overlap", "with another coin in between",
          x.paying([(one, 300_000, 310_000), (second, 300_000, 310_000),
                    (two, 309_999, 314_999)]))  # fmt: skip

    x.add("limit", "the card's", x.certified(net.certificate(per_payment=24_999)))
    x.add("limit", "the terminal's", replace(base, max_per_payment=24_999))
    x.add("limit", "the card may pay nothing", x.certified(net.certificate(per_payment=0)))

    x.add("deadline", "a second too early", x.paying(deadline=T0 + 159 + DAY))
    x.add("deadline", "by the signed time",
          replace(base, signed_time=net.signed_time(T0 + 161 + WINDOW - DAY, 2)))  # fmt: skip

    x.add("signature", "of another key", x.paying(by="kiosk"))
    x.add("signature", "zeros", x.answered(_signed(x, bytes(64))))
    x.add("signature", "over another counter",
          x.answered(_signed(x, x.net.payment(x.request, _parts(x), counter=3).claim.signature)))  # fmt: skip
    key = net.keys["card"]
    whole = key.sign(x.payment.claim.encode())
    x.add("signature", "over the whole encoding", x.answered(_signed(x, whole)))


def _parts(x: Cases) -> Parts:
    return [
        (title, item.lo, item.hi)
        for title, item in zip(x.payment.titles, x.payment.claim.inputs, strict=True)
    ]


def _signed(x: Cases, signature: bytes | None) -> o.Payment:
    assert signature is not None
    return o.Payment(
        claim=x.payment.claim.signed(signature),
        titles=x.payment.titles,
        certificate=x.payment.certificate,
    )


def _in_order(x: Cases) -> None:
    """A payment with every fault but the first; the faults go one by one."""
    net = x.net
    # Each fault, in the order of the checks; the reason told is that of the first that is left.
    listed = (net.entry(1, "card"), net.entry(2, "stolen"))
    one, two = _title(net, expiry=T0 + WINDOW), _title(net, epoch=8, expiry=T0 + WINDOW)
    parts: Parts = [(one, 300_000, 312_000), (two, 311_999, 324_999)]
    good_titles: Parts = [(_title(net), 300_000, 312_000), (_title(net, epoch=8), 311_999, 324_999)]
    apart: Parts = [(good_titles[0][0], 300_000, 312_000), (good_titles[1][0], 312_000, 325_000)]
    forged = _title(net, by="card", expiry=T0 + WINDOW)
    bad_titles: Parts = [(forged, 300_000, 312_000), parts[1]]
    expired = net.certificate(expiry=T0 + 160, per_payment=24_999)
    merchant = net.certificate("card", o.ROLE_MERCHANT, expiry=T0 + 160)
    valid = net.certificate(per_payment=24_999)
    claim: dict[str, Any] = {"by": "kiosk", "deadline": T0 + 160}
    base = replace(x.base, entries=listed, blacklist_max_age=1)

    def case(certificate: o.Certificate, parts: Parts, base: Case = base, **more: Any) -> Case:
        payment = net.payment(x.request, parts, certificate, **{**claim, **more})
        return replace(base, answer=payment.encode())

    titles = replace(base, entries=x.base.entries)
    fresh = replace(titles, blacklist_max_age=WINDOW)
    # A title may not expire before the deadline, so these two faults need a deadline that is not at once.
    late = {"deadline": T0 + 160 + WINDOW}
    for reason, found in (
        ("mismatch", case(merchant, bad_titles, nonce=bytes(16), **late)),
        ("certificate", case(merchant, bad_titles, **late)),
        ("certificate-expired", case(expired, bad_titles, **late)),
        ("blacklisted", case(valid, bad_titles, **late)),
        ("blacklist-stale", case(valid, bad_titles, titles, **late)),
        ("title", case(valid, bad_titles, fresh, **late)),
        ("title-expired", case(valid, parts, fresh, **late)),
        ("overlap", case(valid, good_titles, fresh)),
        ("limit", case(valid, apart, fresh)),
        ("deadline", case(net.certificate(), apart, fresh)),
        ("signature", case(net.certificate(), apart, fresh, **late)),
        ("accepted", case(net.certificate(), apart, fresh, by="card", **late)),
    ):
        x.add(reason, "all faults from here on", found)


def _rules(x: Cases) -> None:
    """Terminal rules, and what is pending before this payment of 25,000 fen."""
    net = x.net
    now = x.base.now

    def case(*rules: o.TerminalRules, base: Case = x.base, **pending: int | None) -> Case:
        return replace(base, rules=rules, pending=pending)

    usual = net.rules()
    x.add("accepted", "rules, and nothing pending", case(usual))
    full = {"in_all": 4_975_000, "shift": 1_975_000, "card": 75_000, "oldest": now - 3 * DAY}
    x.add("accepted", "up to every limit", case(usual, **full))
    for reason, name, value in (
        ("pending-age", "oldest", now - 3 * DAY - 1),
        ("pending-limit", "in_all", 4_975_001),
        ("shift-limit", "shift", 1_975_001),
        ("card-limit", "card", 75_001),
    ):
        x.add(reason, "just above", case(usual, **{**full, name: value}))
    slow = replace(x.base, now=0)
    x.add("accepted", "a slow clock, and a payment ahead of it", case(usual, base=slow, oldest=now))
    x.add("pending-age", "by the signed time",
          case(usual, base=slow, oldest=T0 - 3 * DAY - 1))  # fmt: skip
    x.add("limit", "the rules'", case(net.rules(per_payment=24_999)))
    x.add("limit", "the terminal's, where the rules are laxer",
          case(usual, base=replace(x.base, max_per_payment=24_999)))  # fmt: skip
    x.add("blacklist-stale", "by the rules", case(net.rules(blacklist_age=159)))
    nothing = net.rules(per_payment=25_000, per_card=0, per_shift=0, in_all=0)
    x.add("pending-limit", "nothing allowed to be pending", case(nothing))

    x.add("rules-missing", "none", case())
    x.add("rules-missing", "signed by the issuer", case(net.rules(by="issuer")))
    x.add("rules-missing", "another network's", case(net.rules(header=net.elsewhere)))
    x.add("rules-missing", "names another signer", case(net.rules(signer=bytes(8))))
    lax, strict = net.rules(time=T0 + 1), net.rules(time=T0, per_card=24_999)
    x.add("accepted", "older rules change nothing", case(lax, strict))
    x.add("accepted", "newer rules replace older ones", case(strict, lax))
    x.add("card-limit", "unsigned rules change nothing",
          case(strict, net.rules(time=T0 + 1, by="issuer")))  # fmt: skip
    x.add("card-limit", "of one second the later to come", case(net.rules(), strict))

    above = {"in_all": 4_975_001, "shift": 1_975_001, "card": 75_001, "oldest": now - 3 * DAY - 1}
    for reason, gone in (
        ("pending-age", "oldest"), ("pending-limit", "in_all"), ("shift-limit", "shift"),
        ("card-limit", "card"),
    ):  # fmt: skip
        x.add(reason, "all faults from here on", case(usual, **above))
        del above[gone]
    x.add("signature", "before what is pending",
          case(usual, base=x.answered(_signed(x, bytes(64))), in_all=5_000_000))  # fmt: skip


def evidence(net: Network) -> list[dict[str, Any]]:
    """All lines of evidence-*.json: result is proves, or why it proves nothing."""
    title, first, second = net.small_title, net.first_payment.claim, repeated(net)

    def made(title: o.Title = title, *claims: o.Claim, **changes: Any) -> o.Evidence:
        values = {"header": net.header, "title": title, "claims": claims or (first, second)}
        return o.Evidence(**{**values, **changes})

    def kiosk(title: o.Title, lo: int, hi: int, **changes: Any) -> o.Claim:
        return net.transfer("card", "kiosk", title, lo, hi, "repeat", **changes)

    resigned = first.signed(net.keys["card"].sign(first.message(), b"again"))
    stranger = net.transfer("stranger", "kiosk", title, 1_000, 1_500, "repeat")
    later = net.title("card", 0, 10_000, 9)
    to_the_end = net.claim(net.request(1_200, "payment 1"), [(title, 8_800, 10_000)])
    outside = net.claim(net.request(1_200, "payment 1"), [(title, 10_000, 11_200)])
    lines = []
    for result, name, obj in (
        ("proves", "two payees", made()),
        ("proves", "the other way round", made(title, second, first)),
        ("proves", "one payee, other nonces", made(title, first, kiosk(title, 0, 1))),
        ("proves", "the same interval", made(title, first, kiosk(title, 0, 1_200))),
        ("proves", "to the title's end", made(title, to_the_end, kiosk(title, 9_999, 10_000))),
        ("network", "evidence", made(header=net.elsewhere)),
        ("network", "title", made(net.title("card", 0, 10_000, 2, header=net.elsewhere))),
        ("network", "claim", made(title, first, kiosk(title, 0, 1, header=net.elsewhere))),
        ("title", "of the issuer", made(net.title("card", 0, 10_000, 2, by="issuer"))),
        ("same-claim", "twice", made(title, first, first)),
        ("same-claim", "signed anew", made(title, first, resigned)),
        ("intervals", "that touch", made(title, first, kiosk(title, 1_200, 1_500))),
        ("intervals", "of another title", made(title, first, kiosk(later, 0, 1_200))),
        ("intervals", "both of another title", made(later)),
        ("intervals", "outside the title", made(title, outside, kiosk(title, 10_000, 10_001))),
        ("signature", "of somebody else", made(title, first, stranger)),
        ("signature", "zeros", made(title, first.signed(bytes(64)), second)),
    ):
        lines.append({"name": name, "result": result, "bytes": obj.encode().hex()})
    return lines

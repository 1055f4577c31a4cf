# SPDX-License-Identifier: Apache-2.0
"""The center's side as requests and answers in one order. Form: protocols/vectors/README.md."""

from __future__ import annotations

from typing import Any

from chipcash_wire import objects as o
from tests.vectors.make_faults import Node
from tests.vectors.make_objects import repeated
from tests.vectors.signing import DAY, GRACE, T0, WINDOW, YEAR, Network, serial

SETTLED, DISPUTED, EXPIRED, VOIDED, RECLAIMED, INVALID = o.OUTCOMES[1:]


class Ledger:
    """The steps so far."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.steps: list[dict[str, Any]] = []
        self.now = T0

    def post(
        self, name: str, path: str, body: o.Object | bytes, status: int, **expected: Any
    ) -> None:
        """One request with a body, at the center's time `now`."""
        data = body if isinstance(body, bytes) else body.encode()
        step = {"name": name, "now": self.now, "method": "POST", "path": path, "body": data.hex()}
        self.steps.append({**step, "status": status, **expected})

    def get(self, name: str, path: str, status: int = 200, **expected: Any) -> None:
        """One request without a body."""
        step = {"name": name, "now": self.now, "method": "GET", "path": path, "status": status}
        self.steps.append({**step, **expected})

    def refused(
        self, name: str, path: str, body: o.Object | bytes, error: str, status: int = 400
    ) -> None:
        """A body that is refused and changes nothing."""
        self.post(name, path, body, status, error=error)

    def titles(self, *titles: o.Title) -> list[dict[str, Any]]:
        """What the answer's titles must be, their signatures apart."""
        return [
            {
                "title_id": self.net.id(title).hex(),
                "serial": title.serial.hex(),
                "lo": title.lo,
                "hi": title.hi,
                "owner": title.owner.hex(),
            }
            for title in titles
        ]

    def result(self, claim: o.Claim, *states: str, first: o.Claim | None = None) -> dict[str, Any]:
        """What became of a claim, interval by interval. first: the claim with which it is disputed."""
        return {
            "claim_id": self.net.id(claim).hex(),
            "outcomes": [
                {
                    "title_id": item.title_id.hex(),
                    "lo": item.lo,
                    "hi": item.hi,
                    "state": state,
                    "claim_id": self.net.id(first).hex() if state == DISPUTED and first else None,
                }
                for item, state in zip(claim.inputs, states, strict=True)
            ],
        }

    def deposited(
        self,
        name: str,
        deposit: o.Deposit,
        results: list[dict[str, Any]],
        *titles: o.Title,
        **more: Any,
    ) -> None:
        """A deposit that is answered with a receipt."""
        self.post(
            name, "/v1/deposits", deposit, 200, results=results, titles=self.titles(*titles),
            digest=self.net.id(deposit).hex(), **more,
        )  # fmt: skip

    def reclaimed(
        self, name: str, reclaim: o.Reclaim, results: list[dict[str, Any]], *titles: o.Title
    ) -> None:
        """A reclaim that is answered with a receipt."""
        self.post(
            name, "/v1/reclaims", reclaim, 200, results=results, titles=self.titles(*titles),
            digest=self.net.id(reclaim).hex(),
        )  # fmt: skip


def center(net: Network) -> list[dict[str, Any]]:
    """All steps of a suite."""
    x = Ledger(net)
    _issue(x)
    _bad_bodies(x)
    _payments(x)
    _invalid(x)
    _repeat(x)
    _void(x)
    _late(x)
    _cards(x)
    _expired_titles(x)
    return x.steps


def _issue(x: Ledger) -> None:
    net = x.net
    coin = net.coin()
    x.post("coin 1", "/v1/coins", coin, 200, titles=x.titles(net.bank_title))
    x.post("coin 1 again", "/v1/coins", coin, 200, titles=x.titles(net.bank_title))
    again = coin.signed(net.keys["issuer"].sign(coin.message(), b"again"))
    x.post("coin 1 signed anew", "/v1/coins", again, 200, titles=x.titles(net.bank_title))
    x.refused("its serial, another amount", "/v1/coins", net.coin(1_000_001), "conflict", 409)
    x.refused("its serial, another owner", "/v1/coins", net.coin(owner="kiosk"), "conflict", 409)

    small = net.transfer("bank", "card", net.bank_title, 0, 10_000, "withdrawal 1")
    large = net.transfer("bank", "card", net.bank_title, 50_000, 70_000, "withdrawal 2", counter=2)
    x.deposited(
        "the first withdrawal", net.deposit(small, name="withdrawal 1"),
        [x.result(small, SETTLED)], net.small_title,
    )  # fmt: skip
    x.deposited(
        "the second withdrawal", net.deposit(large, name="withdrawal 2"),
        [x.result(large, SETTLED)], net.large_title,
    )  # fmt: skip
    x.get(
        "the card's titles", f"/v1/titles/{net.public('card').hex()}",
        titles=x.titles(net.small_title, net.large_title),
    )  # fmt: skip


def _bad_bodies(x: Ledger) -> None:
    net = x.net
    coin, claim = net.coin(serial=serial("coin 9")), net.first_payment.claim
    deposit, void = net.deposit(claim, name="bad"), net.void(claim, "merchant")
    reclaim, certificate = net.reclaim(claim, void), net.certificate()
    for path, good in (
        ("/v1/coins", coin),
        ("/v1/deposits", deposit),
        ("/v1/voids", void),
        ("/v1/reclaims", reclaim),
        ("/v1/certificates", certificate),
    ):
        data = good.encode()
        tree = Node.parse(data)
        header = tree.set("header", net.header[:5] + b"\x03").encode()
        for name, body in (
            ("nothing", b""),
            ("half", data[: len(data) // 2]),
            ("a byte short", data[:-1]),
            ("a byte more", data + b"\x00"),
            ("twice", data + data),
            ("text", data.hex().encode()),
            ("another object", net.small_title.encode()),
            ("indefinite length", data[:1] + b"\x80" + tree.body + b"\x00\x00"),
            ("unknown suite", header),
            ("unknown field", data[:1] + _length(tree.body + b"\xc0\x01\x00")),
        ):
            x.refused(f"{name}", path, body, "malformed")
        wrong = tree.set("header", net.elsewhere).encode()
        x.refused("another network", path, wrong, "network")
        other = tree.set("header", net.other_suite).encode()
        x.refused("the other suite", path, other, "network")
    tree = Node.parse(net.deposit(claim, name="bad").encode())
    inner = tree.nodes[tree.find("claim")]
    for name, spoilt in (
        ("an amount that is not the sum", inner.set("amount", b"\x01")),
        ("a claim without signature", inner.put(len(inner.nodes) - 1)),
        ("a claim with a short signature", inner.set("signature", bytes(63))),
    ):
        x.refused(name, "/v1/deposits", tree.put(tree.find("claim"), spoilt).encode(), "malformed")
    x.refused("no claim", "/v1/deposits", tree.put(tree.find("claim")).encode(), "malformed")
    x.refused("too many intervals", "/v1/deposits", _too_many(net), "too-large", 413)

    x.refused("a stranger's coin", "/v1/coins", net.sign("stranger", coin), "signature")
    x.refused("a bank's coin", "/v1/coins", net.sign("bank", coin), "signature")
    x.refused("a coin signed with zeros", "/v1/coins", coin.signed(bytes(64)), "signature")
    x.refused("a void that the payer signed", "/v1/voids", net.sign("card", void), "signature")
    x.refused(
        "a reclaim with such a void", "/v1/reclaims",
        net.reclaim(claim, net.sign("card", void)), "signature",
    )  # fmt: skip
    another = net.void(net.second_payment.claim, "merchant")
    x.refused("another claim's void", "/v1/reclaims", net.reclaim(claim, another), "void")
    x.refused("before the deadline", "/v1/reclaims", net.reclaim(claim), "not-yet")
    x.refused("a title still valid", "/v1/reclaims", net.reclaim(title=net.small_title), "not-yet")
    unknown = net.title("card", 0, 1, 99)
    x.refused("an unknown title", "/v1/reclaims", net.reclaim(title=unknown), "unknown", 404)
    for path in ("/v1/claims/", "/v1/evidence/"):
        x.get("unknown", path + bytes(32).hex(), 404, error="unknown")
        x.get("short", path + bytes(31).hex(), 400, error="malformed")
    x.get("unknown", "/v1/coins/" + bytes(16).hex(), 404, error="unknown")
    x.get("upper case", "/v1/coins/" + serial("coin 1").hex().upper(), 400, error="malformed")
    x.get("no number", "/v1/blacklist?since=x", 400, error="malformed")
    x.get("no path", "/v1/nothing", 404, error="unknown")
    x.get("nothing has changed", "/v1/accounts", accounts=[1_000_000, 1_000_000, 0])


def _length(body: bytes) -> bytes:
    n = len(body)
    if n < 0x80:
        return bytes((n,)) + body
    return (bytes((0x81, n)) if n < 0x100 else b"\x82" + n.to_bytes(2, "big")) + body


def _too_many(net: Network) -> o.Deposit:
    """201 intervals in 26 claims."""
    titles = [net.title("card", 0, 1_000, epoch) for epoch in range(100, 108)]
    claims = []
    for i in range(26):
        parts = [(title, i, i + 1) for title in titles[: 8 if i < 25 else 1]]
        request = net.request(len(parts), f"interval {i}")
        claims.append(net.claim(request, parts))
    return net.deposit(*claims, name="too many")


def _payments(x: Ledger) -> None:
    """What the card paid offline arrives."""
    net = x.net
    first, second = net.first_payment.claim, net.second_payment.claim
    x.now = T0 + DAY
    expiry = x.now + YEAR
    to_merchant = net.title("merchant", 0, 1_200, 4, expiry=expiry)
    deposit = net.deposit(first, name="day 1")
    x.deposited("the first payment", deposit, [x.result(first, SETTLED)], to_merchant)
    x.deposited("the same deposit", deposit, [x.result(first, SETTLED)], to_merchant, repeats=True)
    x.deposited(
        "the same claim in another deposit", net.deposit(first, name="day 1 again"),
        [x.result(first, SETTLED)], to_merchant,
    )  # fmt: skip
    resigned = first.signed(net.keys["card"].sign(first.message(), b"again"))
    x.deposited(
        "the same claim signed anew", net.deposit(resigned, name="day 1 anew"),
        [x.result(first, SETTLED)], to_merchant,
    )  # fmt: skip
    x.post(
        "the second payment: two intervals of one coin that do not touch", "/v1/deposits",
        net.deposit(second, name="day 1 second"), 200,
        results=[x.result(second, SETTLED, SETTLED)],
        slices=[{"lo": 0, "hi": 25_000, "owner": net.public("merchant").hex()}],
    )  # fmt: skip
    x.get("all is live", "/v1/accounts", accounts=[1_000_000, 1_000_000, 0])
    x.get(
        "the coin", f"/v1/coins/{serial('coin 1').hex()}",
        partition=[
            _part(net, "merchant", 0, 1_200),
            _part(net, "", 1_200, 6_200),
            _part(net, "card", 6_200, 10_000),
            _part(net, "bank", 10_000, 50_000),
            _part(net, "", 50_000, 70_000),
            _part(net, "bank", 70_000, 1_000_000),
        ],
    )  # fmt: skip
    refund = net.transfer("merchant", "card", to_merchant, 0, 200, "refund", time=x.now)
    x.deposited(
        "a refund", net.deposit(refund, name="refund"), [x.result(refund, SETTLED)],
        net.title("card", 0, 200, 5, expiry=expiry),
    )  # fmt: skip
    redemption = net.transfer(
        "merchant", "issuer", to_merchant, 200, 1_200, "redemption", time=x.now, counter=2
    )
    x.deposited(
        "a redemption", net.deposit(redemption, name="redemption"), [x.result(redemption, SETTLED)]
    )
    x.get("some is redeemed", "/v1/accounts", accounts=[1_000_000, 999_000, 1_000])


def _slice(net: Network, owner: str, lo: int, hi: int) -> dict[str, Any]:
    return {
        "serial": serial("coin 1").hex(), "lo": lo, "hi": hi, "owner": net.public(owner).hex(),
    }  # fmt: skip


def _part(net: Network, owner: str, lo: int, hi: int) -> list[Any]:
    return [lo, hi, net.public(owner).hex() if owner else None]


def _invalid(x: Ledger) -> None:
    net = x.net
    unknown = net.title("card", 0, 10_000, 99)
    beyond = net.transfer("card", "kiosk", net.small_title, 9_000, 10_001, "beyond", time=x.now)
    stranger = net.transfer("stranger", "kiosk", net.small_title, 8_000, 8_100, "theft")
    nothing = net.transfer("card", "kiosk", unknown, 0, 100, "unknown")
    elsewhere = net.transfer(
        "card", "kiosk", net.small_title, 8_000, 8_100, "elsewhere", header=net.elsewhere
    )
    request = net.request(200, "two owners", "kiosk")
    mixed = net.claim(request, [(net.small_title, 8_000, 8_100), (net.bank_title, 90_000, 90_100)])
    good = net.transfer("card", "kiosk", net.small_title, 7_000, 7_100, "good", time=x.now)
    to_kiosk = net.title("kiosk", 7_000, 7_100, 6, expiry=x.now + YEAR)
    for name, claim in (
        ("an interval beyond its title", beyond),
        ("a stranger's signature", stranger),
        ("an unknown title", nothing),
        ("another network in the claim", elsewhere),
        ("zeros for a signature", good.signed(bytes(64))),
    ):
        x.deposited(name, net.deposit(claim, name=name), [x.result(claim, INVALID)])
    x.deposited(
        "titles of two owners", net.deposit(mixed, name="two owners"),
        [x.result(mixed, INVALID, INVALID)],
    )  # fmt: skip
    x.deposited(
        "a good claim behind a bad one", net.deposit(stranger, good, name="mixed"),
        [x.result(stranger, INVALID), x.result(good, SETTLED)], to_kiosk,
    )  # fmt: skip
    x.reclaimed("an invalid claim reclaimed", net.reclaim(stranger), [x.result(stranger, INVALID)])
    x.get("nobody is accused", "/v1/blacklist?since=0", blacklist=[])


def _repeat(x: Ledger) -> None:
    """A copy of the card paid from the state before the first payment."""
    net = x.net
    first, second = net.first_payment.claim, repeated(net)
    subjects = [net.public("card").hex()]
    x.deposited(
        "a repeat payment", net.deposit(second, name="repeat"),
        [x.result(second, DISPUTED, first=first)],
        evidence=[first.encode().hex(), second.encode().hex()], blacklist=subjects,
    )  # fmt: skip
    x.deposited(
        "it again", net.deposit(second, name="repeat again"),
        [x.result(second, DISPUTED, first=first)], blacklist=subjects,
    )  # fmt: skip
    request = net.request(500, "half repeat", "kiosk", time=x.now)
    half = net.claim(
        request, [(net.large_title, 69_900, 70_000), (net.small_title, 9_600, 10_000)], counter=9
    )
    x.deposited(
        "one interval of two repeated: the other settles", net.deposit(half, name="half repeat"),
        [x.result(half, DISPUTED, SETTLED, first=net.second_payment.claim)],
        net.title("kiosk", 9_600, 10_000, 7, expiry=x.now + YEAR),
        evidence=[net.second_payment.claim.encode().hex(), half.encode().hex()],
        blacklist=subjects,
    )  # fmt: skip
    one = net.transfer("bank", "kiosk", net.bank_title, 100_000, 100_100, "one", time=x.now)
    two = net.transfer("bank", "merchant", net.bank_title, 100_050, 100_200, "two", time=x.now)
    x.deposited(
        "two claims of one deposit that overlap: the first is registered first",
        net.deposit(one, two, name="overlap"),
        [x.result(one, SETTLED), x.result(two, DISPUTED, first=one)],
        net.title("kiosk", 100_000, 100_100, 8, expiry=x.now + YEAR),
        evidence=[one.encode().hex(), two.encode().hex()],
        blacklist=[*subjects, net.public("bank").hex()],
    )  # fmt: skip


def _void(x: Ledger) -> None:
    net = x.net
    lost = net.transfer("card", "kiosk", net.small_title, 7_100, 7_200, "lost", time=x.now)
    void = net.void(lost, "kiosk")
    x.post("a void", "/v1/voids", void, 204)
    x.post("the void again", "/v1/voids", void, 204)
    x.deposited("the voided claim", net.deposit(lost, name="lost"), [x.result(lost, VOIDED)])
    back = net.title("card", 7_100, 7_200, 9, expiry=x.now + YEAR)
    x.reclaimed(
        "the voided claim reclaimed", net.reclaim(lost, void), [x.result(lost, RECLAIMED)], back
    )
    x.reclaimed("once more", net.reclaim(lost, void), [x.result(lost, RECLAIMED)], back)
    x.deposited(
        "it keeps its first outcome", net.deposit(lost, name="lost again"),
        [x.result(lost, VOIDED)],
    )  # fmt: skip
    gone = net.transfer("card", "kiosk", net.small_title, 7_200, 7_300, "gone", time=x.now)
    back = net.title("card", 7_200, 7_300, 10, expiry=x.now + YEAR)
    x.reclaimed(
        "a claim that never came, with its void", net.reclaim(gone, net.void(gone, "kiosk")),
        [x.result(gone, RECLAIMED)], back,
    )  # fmt: skip
    x.deposited("it comes after all", net.deposit(gone, name="gone"), [x.result(gone, RECLAIMED)])


def _late(x: Ledger) -> None:
    net = x.net
    made = x.now
    names = ("last second", "too late", "forgotten")
    claims = [
        net.transfer(
            "card", "kiosk", net.small_title, 7_300 + 100 * i, 7_400 + 100 * i, name, time=made
        )
        for i, name in enumerate(names)
    ]
    x.now = made + WINDOW + GRACE
    x.refused("in the last second of grace", "/v1/reclaims", net.reclaim(claims[0]), "not-yet")
    x.deposited(
        "in the last second of grace", net.deposit(claims[0], name=names[0]),
        [x.result(claims[0], SETTLED)], net.title("kiosk", 7_300, 7_400, 11, expiry=x.now + YEAR),
    )  # fmt: skip
    x.now += 1
    x.deposited(
        "a second later", net.deposit(claims[1], name=names[1]), [x.result(claims[1], EXPIRED)]
    )
    back = net.title("card", 7_400, 7_500, 12, expiry=x.now + YEAR)
    x.reclaimed(
        "the expired claim reclaimed", net.reclaim(claims[1]),
        [x.result(claims[1], RECLAIMED)], back,
    )  # fmt: skip
    back = net.title("card", 7_500, 7_600, 13, expiry=x.now + YEAR)
    x.reclaimed(
        "a claim that was never deposited", net.reclaim(claims[2]),
        [x.result(claims[2], RECLAIMED)], back,
    )  # fmt: skip
    x.deposited(
        "it comes too late", net.deposit(claims[2], name=names[2]),
        [x.result(claims[2], RECLAIMED)],
    )  # fmt: skip
    spent = net.transfer("card", "merchant", back, 7_500, 7_600, "spent again", time=x.now)
    x.deposited(
        "what came back is spent honestly", net.deposit(spent, name="spent again"),
        [x.result(spent, SETTLED)], net.title("merchant", 7_500, 7_600, 14, expiry=x.now + YEAR),
    )  # fmt: skip


def _cards(x: Ledger) -> None:
    net = x.net
    for name, certificate, error in (
        ("a merchant's certificate", net.certificate("merchant", o.ROLE_MERCHANT), "role"),
        ("a stranger's certificate", net.certificate("kiosk", by="stranger"), "signature"),
        ("a certificate that expires now", net.certificate("kiosk", expiry=x.now), "expired"),
        ("a blacklisted card's certificate", net.certificate(), "blacklisted"),
    ):
        x.refused(name, "/v1/certificates", certificate, error)
    x.get(
        "a challenge for an unknown card", f"/v1/challenge/{net.public('stranger').hex()}", 404,
        error="unknown",
    )  # fmt: skip
    # A limit is the lower one of the tier's and the certificate's.
    risk = {
        "subject": net.public("kiosk").hex(), "sequence": 1, "time": x.now, "per_payment": 40_000,
        "cumulative": 100_000, "count": 50, "pin_free": 20_000, "window": WINDOW,
        "horizon": 90 * DAY,
    }  # fmt: skip
    certificate = net.certificate("kiosk", per_payment=40_000)
    x.post("a card", "/v1/certificates", certificate, 200, risk=risk)
    x.post("the card again", "/v1/certificates", certificate, 200, risk=risk)
    path = f"/v1/risk/{net.public('card').hex()}"
    x.refused("a proof that answers no challenge", path, net.proof("challenge"), "unknown", 404)
    path = f"/v1/risk/{net.public('kiosk').hex()}"
    x.refused("another card's proof", path, net.proof("challenge"), "subject")
    proof = net.sign(
        "kiosk",
        o.GenuineProof(
            header=net.header,
            nonce=bytes(16),
            digest=bytes(32),
            subject=net.public("kiosk"),
            build=b"x",
        ),
    )
    x.refused("a proof to no challenge", path, proof, "challenge")
    x.refused("a proof signed by another card", path, net.sign("card", proof), "signature")


def _expired_titles(x: Ledger) -> None:
    net = x.net
    x.now = T0 + YEAR + GRACE
    reclaim = net.reclaim(title=net.small_title)
    x.refused("a title in its last second of grace", "/v1/reclaims", reclaim, "not-yet")
    x.now += 1
    # Live under it are still two slices.
    x.post(
        "an expired title", "/v1/reclaims", reclaim, 200, results=[],
        slices=[_slice(net, "card", 6_200, 7_000), _slice(net, "card", 7_600, 9_600)],
    )  # fmt: skip
    x.post(
        "once more", "/v1/reclaims", reclaim, 200, results=[],
        slices=[_slice(net, "card", 6_200, 7_000), _slice(net, "card", 7_600, 9_600)],
    )  # fmt: skip
    old = net.transfer("card", "merchant", net.small_title, 6_200, 6_300, "old", time=x.now)
    x.deposited(
        "a claim on it disputes nothing that anybody paid", net.deposit(old, name="old"),
        [x.result(old, DISPUTED)],
        blacklist=[net.public("card").hex(), net.public("bank").hex()], evidence=[],
    )  # fmt: skip
    x.get("the accounts at the end", "/v1/accounts", accounts=[1_000_000, 999_000, 1_000])

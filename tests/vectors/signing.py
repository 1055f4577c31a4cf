# SPDX-License-Identifier: Apache-2.0
"""Test keys that anyone can derive, and signatures that come out the same each time.

Keys, serials and nonces are hashes of their names. Signatures are made by the card's own code with the
nonce of RFC 6979 (for SM2: the same construction with SM3); the tests verify them with other libraries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

from chipcash_card import suites
from chipcash_wire import objects as o
from chipcash_wire.firmware import NO_NETWORK

NETWORK = b"TEST"
T0 = 1_800_000_000
"""When the story of the vectors begins."""
DAY = 86400
YEAR = 365 * DAY
WINDOW = 7 * DAY
GRACE = DAY
NAMES = ("certification", "issuer", "center", "bank", "card", "merchant", "kiosk", "stranger",
         "publisher")  # fmt: skip

_Object = TypeVar("_Object", bound=o.Object)


def derived(kind: str, name: str) -> bytes:
    """The 32 bytes behind a key, serial or nonce."""
    return hashlib.sha256(f"chipcash test {kind} {name}".encode()).digest()


def serial(name: str) -> bytes:
    """The serial of that name."""
    return derived("serial", name)[:16]


def nonce(name: str) -> bytes:
    """The nonce of that name."""
    return derived("nonce", name)[:16]


class Key:
    """A test key of a suite."""

    def __init__(self, suite: suites.Suite, name: str) -> None:
        self.suite = suite
        self.name = name
        self.private = derived("key", name)
        self._point = suite.point(self.private)
        self.public = suite.public_key(self.private)
        self.key_id = suite.hash(self.public)[:8]

    def sign(self, message: bytes, extra: bytes = b"") -> bytes:
        """The signature over message with the nonce of RFC 6979; extra gives another, as valid."""
        suite = self.suite
        e = int.from_bytes(suite.hash(suite.prefix(self._point) + message), "big")
        h = (e % suite.curve.n).to_bytes(32, "big")
        secret = suite.secret(self.private)
        coupon = suite.coupon(secret, suites.nonce(suite, self.private, h + extra))
        signature = suite.finish(secret, coupon, e)
        assert signature is not None
        return signature


class Network:
    """The network of the vectors in one suite: its keys, and the objects that their holders sign.

    What is made is valid unless the call says otherwise.
    """

    def __init__(self, suite_name: str) -> None:
        self.suite = suites.BY_NAME[suite_name]
        self.header = o.make_header(NETWORK, self.suite.id)
        self.elsewhere = o.make_header(b"TELS", self.suite.id)
        self.other_suite = o.make_header(NETWORK, 3 - self.suite.id)
        self.keys = {name: Key(self.suite, name) for name in NAMES}

    def public(self, name: str) -> bytes:
        """Public key of a party."""
        return self.keys[name].public

    def sign(self, name: str, obj: _Object) -> _Object:
        """The object, signed by a party."""
        return obj.signed(self.keys[name].sign(obj.message()))

    def id(self, obj: o.Object) -> bytes:
        """title_id, claim_id or digest."""
        signed = obj.FIELDS[-1] == "signature"
        return self.suite.hash(obj.message() if signed else obj.encode())

    def _signed(self, cls: type[_Object], signer: str, values: dict[str, Any]) -> _Object:
        if "signer" in cls.FIELDS:
            values.setdefault("signer", self.keys[signer].key_id)
        values.setdefault("header", self.header)
        return self.sign(signer, cls(**values))

    def coin(
        self, amount: int = 1_000_000, owner: str = "bank", *, by: str = "issuer", **changes: Any
    ) -> o.Coin:
        """A coin of the issuing library, or one that the center made."""
        values = {"serial": serial("coin 1"), "amount": amount, "owner": self.public(owner)}
        return self._signed(o.Coin, by, {**values, **changes})

    def title(
        self, owner: str, lo: int, hi: int, epoch: int, *, by: str = "center", **changes: Any
    ) -> o.Title:
        """A title for a slice of coin 1, as the center makes it at T0."""
        values = {
            "serial": serial("coin 1"),
            "amount": 1_000_000,
            "lo": lo,
            "hi": hi,
            "owner": self.public(owner),
            "epoch": epoch,
            "expiry": T0 + YEAR,
        }
        return self._signed(o.Title, by, {**values, **changes})

    def certificate(
        self,
        subject: str = "card",
        role: int = o.ROLE_CARD,
        *,
        by: str = "certification",
        **changes: Any,
    ) -> o.Certificate:
        """A certificate, valid from the day before T0 for a year and a day."""
        card = role == o.ROLE_CARD
        values = {
            "time": T0 - DAY,
            "expiry": T0 + YEAR,
            "subject": self.public(subject),
            "role": role,
            "tier": 3 if card else None,
            "form": o.FORM_IC_CARD if card else None,
            "per_payment": 50_000 if card else None,
        }
        return self._signed(o.Certificate, by, {**values, **changes})

    def risk(
        self, subject: str = "card", sequence: int = 1, *, by: str = "center", **changes: Any
    ) -> o.RiskParameters:
        """Risk parameters for a card."""
        values = {
            "subject": self.public(subject),
            "sequence": sequence,
            "time": T0,
            "per_payment": 30_000,
            "cumulative": 100_000,
            "count": 50,
            "pin_free": 10_000,
            "window": WINDOW,
            "horizon": 90 * DAY,
        }
        return self._signed(o.RiskParameters, by, {**values, **changes})

    def personalisation(self, **changes: Any) -> o.Personalisation:
        """What makes the card a card of this network."""
        values = {
            "center_key": self.public("center"),
            "certification_key": self.public("certification"),
            "pin": b"123456",
            "puk": b"12345678",
            "certificate": self.certificate(),
            "risk": self.risk(),
        }
        return o.Personalisation(**{**values, **changes})

    def request(
        self, amount: int, name: str, payee: str = "merchant", time: int = T0 + 100, **changes: Any
    ) -> o.PayRequest:
        """A pay request; its nonce is that of the name."""
        values = {
            "header": self.header,
            "amount": amount,
            "payee": self.public(payee),
            "nonce": nonce(name),
            "time": time,
        }
        return o.PayRequest(**{**values, **changes})

    def claim(
        self,
        request: o.PayRequest,
        parts: Sequence[tuple[o.Title, int, int]],
        *,
        by: str = "card",
        counter: int = 1,
        **changes: Any,
    ) -> o.Claim:
        """The claim that answers a request with [lo, hi) of each title."""
        values = {
            "inputs": tuple(
                o.Input(title_id=self.id(title), lo=lo, hi=hi) for title, lo, hi in parts
            ),
            "amount": request.amount,
            "payee": request.payee,
            "nonce": request.nonce,
            "counter": counter,
            "time": request.time,
            "deadline": request.time + WINDOW,
        }
        return self._signed(o.Claim, by, {**values, **changes})

    def transfer(
        self,
        by: str,
        payee: str,
        title: o.Title,
        lo: int,
        hi: int,
        name: str,
        *,
        time: int = T0 + 100,
        **changes: Any,
    ) -> o.Claim:
        """A claim on one title that no terminal asked for: withdrawal, refund, redemption, fraud."""
        request = self.request(hi - lo, name, payee, time)
        return self.claim(request, [(title, lo, hi)], by=by, **changes)

    def deposit(self, *claims: o.Claim, name: str, **changes: Any) -> o.Deposit:
        """A deposit; its nonce is that of the name."""
        values = {"header": self.header, "nonce": nonce(f"deposit {name}"), "claims": claims}
        return o.Deposit(**{**values, **changes})

    def void(self, claim: o.Claim, by: str, **changes: Any) -> o.Void:
        """The payee's void for a claim."""
        values = {
            "payee": self.public(by),
            "nonce": claim.nonce,
            "amount": claim.amount,
            "time": T0 + 200,
        }
        return self._signed(o.Void, by, {**values, **changes})

    def rules(self, *, by: str = "center", **changes: Any) -> o.TerminalRules:
        """What terminals may take offline."""
        values = {
            "time": T0,
            "per_payment": 50_000,
            "per_card": 100_000,
            "per_shift": 2_000_000,
            "in_all": 5_000_000,
            "pending_age": 3 * DAY,
            "blacklist_age": 7 * DAY,
            "guarantee": 50_000,
        }
        return self._signed(o.TerminalRules, by, {**values, **changes})

    def promise(
        self, claim: o.Claim, amount: int, *, by: str = "merchant", **changes: Any
    ) -> o.RefundPromise:
        """The payee's promise to give amount of a claim back."""
        values = {
            "payee": self.public(by),
            "claim_id": self.id(claim),
            "amount": amount,
            "nonce": nonce("promise"),
            "time": T0 + 200,
        }
        return self._signed(o.RefundPromise, by, {**values, **changes})

    def reclaim(
        self, claim: o.Claim | None = None, void: o.Void | None = None, title: o.Title | None = None
    ) -> o.Reclaim:
        """A reclaim by claim, with a void or without, or by title."""
        return o.Reclaim(
            header=self.header,
            claims=(claim,) if claim else (),
            voids=(void,) if void else (),
            title_id=self.id(title) if title else None,
        )

    def receipt(
        self, claims: Sequence[o.Claim], *, by: str = "center", **changes: Any
    ) -> o.Receipt:
        """A receipt by which these claims have settled, without its titles."""
        results = tuple(
            o.Result(
                claim_id=self.id(claim),
                outcomes=tuple(
                    o.Outcome(title_id=item.title_id, lo=item.lo, hi=item.hi, state=o.SETTLED)
                    for item in claim.inputs
                ),
            )
            for claim in claims
        )
        values = {"digest": bytes(32), "time": T0 + DAY, "results": results, "titles": ()}
        return self._signed(o.Receipt, by, {**values, **changes})

    def signed_time(
        self, time: int = T0, sequence: int = 0, *, by: str = "center", **changes: Any
    ) -> o.SignedTime:
        """A signed time."""
        return self._signed(o.SignedTime, by, {"time": time, "sequence": sequence, **changes})

    def entry(
        self, sequence: int, subject: str, *, by: str = "center", **changes: Any
    ) -> o.BlacklistEntry:
        """A blacklist entry for a lost card."""
        values = {
            "sequence": sequence,
            "subject": Key(self.suite, subject).public,
            "reason": o.REASON_LOST,
            "time": T0,
        }
        return self._signed(o.BlacklistEntry, by, {**values, **changes})

    def proof(self, name: str) -> o.GenuineProof:
        """A genuine proof of the card."""
        values = {
            "nonce": nonce(name),
            "digest": derived("digest", name),
            "subject": self.public("card"),
            "build": b"1.2.3+0123456789ab",
        }
        return self._signed(o.GenuineProof, "card", values)

    def firmware(self, **changes: Any) -> o.Firmware:
        """The head of a firmware update whose body is 100,000 zero bytes."""
        values = {
            "header": o.make_header(NO_NETWORK, self.suite.id),
            "target": b"pico2w-ic-card",
            "build": b"1.2.3+0123456789ab",
            "rollback": 7,
            "size": 100_000,
            "digest": self.suite.hash(bytes(100_000)),
        }
        return self._signed(o.Firmware, "publisher", {**values, **changes})

    def channel_proof(self, name: str = "channel") -> o.ChannelProof:
        """The card's proof in an agreement whose ephemeral keys are those of `host NAME` and `card NAME`."""
        values = {
            "host_key": Key(self.suite, f"host {name}").public,
            "card_key": Key(self.suite, f"card {name}").public,
            "subject": self.public("card"),
        }
        return self._signed(o.ChannelProof, "card", values)

    # What happens to coin 1 in the story that card, terminal and center vectors tell together.

    @cached_property
    def bank_title(self) -> o.Title:
        """All of coin 1, registered for the bank."""
        return self.title("bank", 0, 1_000_000, 1)

    @cached_property
    def small_title(self) -> o.Title:
        """The first withdrawal onto the card, 100.00."""
        return self.title("card", 0, 10_000, 2)

    @cached_property
    def large_title(self) -> o.Title:
        """The second withdrawal onto the card, 200.00."""
        return self.title("card", 50_000, 70_000, 3)

    @cached_property
    def first_payment(self) -> o.Payment:
        """12.00 out of one title."""
        request = self.request(1_200, "payment 1")
        return self.payment(request, [(self.small_title, 0, 1_200)])

    @cached_property
    def second_payment(self) -> o.Payment:
        """250.00, more than either title holds: all of one and part of the other."""
        request = self.request(25_000, "payment 2", time=T0 + 160)
        parts = [(self.large_title, 50_000, 70_000), (self.small_title, 1_200, 6_200)]
        return self.payment(request, parts, counter=2)

    def payment(
        self,
        request: o.PayRequest,
        parts: Sequence[tuple[o.Title, int, int]],
        certificate: o.Certificate | None = None,
        **claim: Any,
    ) -> o.Payment:
        """What the card answers to a request."""
        return o.Payment(
            claim=self.claim(request, parts, **claim),
            titles=tuple(title for title, _, _ in parts),
            certificate=certificate or self.certificate(),
        )

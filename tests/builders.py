# SPDX-License-Identifier: Apache-2.0
"""A network of raw keys for the tests: everything it makes is valid unless a test says otherwise."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from chipcash.certification import Authority
from chipcash.crypto import PrivateKey
from chipcash.log.facts import Fact
from chipcash.terminal import Blacklist
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

NETWORK = b"TEST"
NOW = 1_800_000_000
DAY = 86400
SUITES = ("p256", "gm")

_Object = TypeVar("_Object", bound=o.Object)


class Network:
    """Keys by name, and what their holders sign. Times are around NOW."""

    def __init__(self, suite: str = "p256", network: bytes = NETWORK) -> None:
        self.suite = suite
        self.network = network
        self.header = o.make_header(network, o.SUITES[suite])
        self._keys: dict[str, PrivateKey] = {}
        self._epoch = 0
        self.authority = Authority(self.key("certification"), network, lambda: NOW - DAY)
        self.trust = Trust(
            network,
            o.SUITES[suite],
            self.public("certification"),
            tuple(
                self.authority.certify_institution(self.public(name), role)
                for name, role in (("issuer", o.ROLE_ISSUER), ("center", o.ROLE_CENTER))
            ),
        )

    def key(self, name: str) -> PrivateKey:
        """The key of somebody, made at first use."""
        if name not in self._keys:
            self._keys[name] = PrivateKey.generate(self.suite)
        return self._keys[name]

    def public(self, name: str) -> bytes:
        return self.key(name).public

    def sign(self, name: str, obj: _Object) -> _Object:
        return obj.signed(self.key(name).sign(obj.message()))

    def coin(self, amount: int, owner: bytes) -> o.Coin:
        return self.sign(
            "issuer",
            o.Coin(
                header=self.header,
                signer=self.key("issuer").key_id,
                serial=secrets.token_bytes(16),
                amount=amount,
                owner=owner,
            ),
        )

    def title(self, owner: bytes, *, signer: str = "center", **changes: Any) -> o.Title:
        self._epoch += 1
        values: dict[str, Any] = {
            "header": self.header,
            "signer": self.key(signer).key_id,
            "serial": secrets.token_bytes(16),
            "amount": 10000,
            "lo": 0,
            "hi": 10000,
            "owner": owner,
            "epoch": self._epoch,
            "expiry": NOW + 365 * DAY,
            **changes,
        }
        return self.sign(signer, o.Title(**values))

    def certificate(
        self, subject: bytes, *, signer: str = "certification", **changes: Any
    ) -> o.Certificate:
        values: dict[str, Any] = {
            "header": self.header,
            "signer": self.key(signer).key_id,
            "time": NOW - DAY,
            "expiry": NOW + 365 * DAY,
            "subject": subject,
            "role": o.ROLE_CARD,
            "tier": 3,
            "form": o.FORM_IC_CARD,
            "per_payment": 50000,
            **changes,
        }
        return self.sign(signer, o.Certificate(**values))

    def request(self, amount: int = 1200, **changes: Any) -> o.PayRequest:
        values: dict[str, Any] = {
            "header": self.header,
            "amount": amount,
            "payee": self.public("pos"),
            "nonce": secrets.token_bytes(16),
            "time": NOW,
            **changes,
        }
        return o.PayRequest(**values)

    def claim(
        self,
        request: o.PayRequest,
        parts: Sequence[tuple[o.Title, int, int]],
        *,
        signer: str = "card",
        **changes: Any,
    ) -> o.Claim:
        """The card's claim for a request over [lo, hi) of each title."""
        values: dict[str, Any] = {
            "header": self.header,
            "inputs": tuple(
                o.Input(title_id=object_id(title), lo=lo, hi=hi) for title, lo, hi in parts
            ),
            "amount": request.amount,
            "payee": request.payee,
            "nonce": request.nonce,
            "counter": 1,
            "time": request.time,
            "deadline": request.time + 7 * DAY,
            **changes,
        }
        return self.sign(signer, o.Claim(**values))

    def payment(self, request: o.PayRequest) -> o.Payment:
        """A valid payment out of two titles of the card."""
        first = self.title(self.public("card"))
        second = self.title(self.public("card"), lo=2000, hi=9000)
        half = request.amount // 2
        parts = [(first, 5, 5 + half), (second, 2000, 2000 + request.amount - half)]
        return o.Payment(
            claim=self.claim(request, parts),
            titles=(first, second),
            certificate=self.certificate(self.public("card")),
        )

    def longest_receipt(self, claim: o.Claim) -> o.Receipt:
        """The longest receipt of one claim: each interval was paid before, and has a title all the same."""
        outcomes = tuple(
            o.Outcome(
                title_id=item.title_id, lo=item.lo, hi=item.hi, state=o.DISPUTED, claim_id=bytes(32)
            )
            for item in claim.inputs
        )
        result = o.Result(claim_id=object_id(claim), outcomes=outcomes)
        largest = {"amount": o.MAX_AMOUNT, "lo": o.MAX_AMOUNT - 1, "hi": o.MAX_AMOUNT}
        return self.sign(
            "center",
            o.Receipt(
                header=self.header,
                signer=self.key("center").key_id,
                digest=bytes(32),
                time=o.MAX_TIME,
                results=(result,),
                titles=tuple(self.title(claim.payee, **largest) for _ in claim.inputs),
            ),
        )

    def signed_time(
        self, time: int = NOW, sequence: int = 0, *, signer: str = "center"
    ) -> o.SignedTime:
        return self.sign(
            signer,
            o.SignedTime(
                header=self.header, signer=self.key(signer).key_id, time=time, sequence=sequence
            ),
        )

    def entry(self, sequence: int, subject: bytes, *, signer: str = "center") -> o.BlacklistEntry:
        return self.sign(
            signer,
            o.BlacklistEntry(
                header=self.header,
                signer=self.key(signer).key_id,
                sequence=sequence,
                subject=subject,
                reason=o.REASON_LOST,
                time=NOW,
            ),
        )

    def blacklist(self) -> Blacklist:
        """A fresh blacklist with two keys that nobody here uses."""
        entries = [self.entry(i, self.public(f"listed {i}")) for i in (1, 2)]
        return Blacklist().extend(entries, self.signed_time(sequence=2), self.trust)

    def risk(self, subject: bytes, **changes: Any) -> o.RiskParameters:
        values: dict[str, Any] = {
            "header": self.header,
            "signer": self.key("center").key_id,
            "subject": subject,
            "sequence": 1,
            "time": NOW - DAY,
            "per_payment": 50000,
            "cumulative": 200000,
            "count": 1000,
            "pin_free": 30000,
            "window": 7 * DAY,
            "horizon": 90 * DAY,
            **changes,
        }
        return self.sign("center", o.RiskParameters(**values))

    def receipt(
        self, deposit: o.Deposit, *, signer: str = "center", states: int = o.SETTLED, **changes: Any
    ) -> o.Receipt:
        """A receipt in which every interval ends in one state."""
        values: dict[str, Any] = {
            "header": self.header,
            "signer": self.key(signer).key_id,
            "digest": object_id(deposit),
            "time": NOW,
            "results": tuple(
                o.Result(
                    claim_id=object_id(claim),
                    outcomes=tuple(
                        o.Outcome(title_id=x.title_id, lo=x.lo, hi=x.hi, state=states)
                        for x in claim.inputs
                    ),
                )
                for claim in deposit.claims
            ),
            "titles": (),
            **changes,
        }
        return self.sign(signer, o.Receipt(**values))


@cache
def network(suite: str) -> Network:
    """The network of a suite that the tests of a run share."""
    return Network(suite)


def changed(obj: _Object, **changes: Any) -> _Object:
    """The object with some fields replaced, its signature kept."""
    return type(obj)(**{**obj.__dict__, **changes})


def make_entry(header: bytes, time: int, fact: Fact, result: o.Result | None = None) -> o.LogEntry:
    """The entry of a fact that was registered at that time. result: of a claim. Raises WireError."""
    values: dict[str, Any] = dict.fromkeys(o.LogEntry.MANY, ())
    (name,) = (name for name, (cls, _, _) in o.LogEntry.MANY.items() if cls is type(fact))
    values[name] = (fact,)
    if result is not None:
        values["results"] = (result,)
    return o.LogEntry(header=header, time=time, **values)

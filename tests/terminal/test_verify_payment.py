# SPDX-License-Identifier: Apache-2.0
"""verify_payment: each reason from one change to a valid payment, and no other way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.terminal import (
    REASONS,
    Blacklist,
    Policy,
    Refusal,
    VerifiedPayment,
    new_request,
    verify_payment,
)
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.builders import DAY, NOW, SUITES, Network, changed, network


@dataclass(frozen=True)
class Case:
    """All that a verification depends on."""

    net: Network
    payment: o.Payment
    request: o.PayRequest
    policy: Policy
    blacklist: Blacklist
    now: int = NOW
    data: bytes | None = None

    def verify(self) -> VerifiedPayment:
        return verify_payment(
            self.payment.encode() if self.data is None else self.data,
            self.request,
            trust=self.net.trust,
            policy=self.policy,
            blacklist=self.blacklist,
            now=self.now,
        )


def valid(suite: str) -> Case:
    net = network(suite)
    request = net.request()
    return Case(net, net.payment(request), request, Policy(), net.blacklist())


def paying(case: Case, *parts: tuple[o.Title, int, int], **claim: object) -> Case:
    """The case with a claim, validly signed, over other titles or with other fields."""
    chosen = parts or tuple(
        (title, item.lo, item.hi)
        for title, item in zip(case.payment.titles, case.payment.claim.inputs, strict=True)
    )
    payment = o.Payment(
        claim=case.net.claim(case.request, chosen, **claim),  # type: ignore[arg-type]
        titles=tuple(title for title, _, _ in chosen),
        certificate=case.payment.certificate,
    )
    return replace(case, payment=payment)


def certified(case: Case, **values: object) -> Case:
    certificate = case.net.certificate(case.net.public("card"), **values)  # type: ignore[arg-type]
    return replace(case, payment=changed(case.payment, certificate=certificate))


def own_title(case: Case, **values: object) -> Case:
    title = case.net.title(case.net.public("card"), **values)  # type: ignore[arg-type]
    return paying(case, (title, title.lo, title.lo + case.request.amount))


def elsewhere(case: Case) -> bytes:
    return o.make_header(b"TELS", case.request.header[5])


def other_suite(case: Case) -> bytes:
    return o.make_header(case.net.network, 3 - case.request.header[5])


def two_slices(case: Case) -> Case:
    """Two titles of one serial, of which the claim spends one fen twice."""
    one = case.net.title(case.net.public("card"))
    two = case.net.title(case.net.public("card"), serial=one.serial, lo=0, hi=5000)
    return paying(case, (one, 0, 600), (two, 599, 1199))


REFUSALS: list[tuple[str, str, Callable[[Case], Case]]] = [
    ("malformed", "empty", lambda x: replace(x, data=b"")),
    ("malformed", "truncated", lambda x: replace(x, data=x.payment.encode()[:-1])),
    ("malformed", "trailing", lambda x: replace(x, data=x.payment.encode() + b"\0")),
    ("malformed", "not a payment", lambda x: replace(x, data=x.payment.claim.encode())),
    ("network", "claim", lambda x: paying(x, header=elsewhere(x))),
    ("network", "claim suite", lambda x: paying(x, header=other_suite(x))),
    ("network", "certificate", lambda x: certified(x, header=elsewhere(x))),
    ("network", "title", lambda x: own_title(x, header=elsewhere(x))),
    ("network", "request", lambda x: replace(x, request=changed(x.request, header=elsewhere(x)))),
    ("mismatch", "nonce", lambda x: paying(x, nonce=bytes(16))),
    ("mismatch", "payee", lambda x: paying(x, payee=x.net.public("somebody"))),
    ("mismatch", "time", lambda x: paying(x, time=NOW - 1)),
    ("mismatch", "amount", lambda x: replace(x, request=changed(x.request, amount=1201))),
    ("certificate", "signer", lambda x: certified(x, signer="center")),
    (
        "certificate",
        "role",
        lambda x: certified(x, role=o.ROLE_BANK, tier=None, form=None, per_payment=None),
    ),
    ("certificate-expired", "at expiry", lambda x: certified(x, expiry=NOW)),
    (
        "certificate-expired",
        "by signed time",
        lambda x: replace(
            certified(x, expiry=NOW + 10),
            blacklist=x.blacklist.extend([], x.net.signed_time(NOW + 10, 2), x.net.trust),
        ),
    ),
    (
        "blacklisted",
        "payer",
        lambda x: replace(
            x,
            blacklist=x.blacklist.extend(
                [x.net.entry(3, x.net.public("card"))], x.net.signed_time(NOW, 3), x.net.trust
            ),
        ),
    ),
    ("blacklist-stale", "never", lambda x: replace(x, blacklist=Blacklist())),
    (
        "blacklist-stale",
        "old",
        lambda x: replace(x, policy=Policy(blacklist_max_age=0), now=NOW + 1),
    ),
    (
        "blacklist-stale",
        "hole",
        lambda x: replace(
            x, blacklist=x.blacklist.extend([], x.net.signed_time(NOW + 1, 3), x.net.trust)
        ),
    ),
    ("title", "signer", lambda x: own_title(x, signer="issuer")),
    ("title", "signature", lambda x: own_title(x, signer="card")),
    (
        "title",
        "owner",
        lambda x: paying(x, (x.net.title(x.net.public("somebody")), 0, x.request.amount)),
    ),
    (
        "title",
        "id",
        lambda x: replace(
            x,
            payment=changed(
                x.payment, titles=tuple(x.net.title(t.owner) for t in x.payment.titles)
            ),
        ),
    ),
    ("title-expired", "before deadline", lambda x: own_title(x, expiry=NOW + 7 * DAY - 1)),
    ("overlap", "one fen", two_slices),
    ("limit", "card", lambda x: certified(x, per_payment=1199)),
    ("limit", "policy", lambda x: replace(x, policy=Policy(max_per_payment=1199))),
    ("deadline", "too near", lambda x: paying(x, deadline=NOW + DAY - 1)),
    ("signature", "other key", lambda x: paying(x, signer="somebody")),
    (
        "signature",
        "other bytes",
        lambda x: replace(x, payment=changed(x.payment, claim=changed(x.payment.claim, counter=2))),
    ),
]


@pytest.mark.parametrize("suite", SUITES)
def test_a_valid_payment_passes(suite: str) -> None:
    case = valid(suite)
    found = case.verify()
    assert found.payment == case.payment
    assert found.data == case.payment.encode()
    assert found.claim_id == object_id(case.payment.claim)
    assert (found.amount, found.payer) == (1200, case.net.public("card"))
    assert found.deadline == NOW + 7 * DAY


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    ("reason", "change"), [(x[0], x[2]) for x in REFUSALS], ids=[f"{x[0]}-{x[1]}" for x in REFUSALS]
)
def test_one_change_one_reason(suite: str, reason: str, change: Callable[[Case], Case]) -> None:
    case = change(valid(suite))
    with pytest.raises(Refusal) as caught:
        case.verify()
    assert caught.value.reason == reason
    assert "You have not been paid" in caught.value.message
    assert caught.value.hint


def test_every_reason_is_tried() -> None:
    later = list(REASONS)[list(REASONS).index("rules-missing") :]  # test_terminal_rules.py
    assert {reason for reason, _, _ in REFUSALS} == set(REASONS) - set(later)


@pytest.mark.parametrize("suite", SUITES)
def test_what_just_passes(suite: str) -> None:
    """The limits themselves are allowed."""
    case = valid(suite)
    replace(case, policy=Policy(max_per_payment=1200, blacklist_max_age=0)).verify()
    certified(case, per_payment=1200, expiry=NOW + 1).verify()
    own_title(case, expiry=NOW + 7 * DAY).verify()
    paying(case, deadline=NOW + DAY).verify()
    replace(case, policy=Policy(blacklist_max_age=10), now=NOW + 10).verify()
    one = case.net.title(case.net.public("card"))
    two = case.net.title(case.net.public("card"), serial=one.serial, lo=0, hi=5000)
    paying(case, (one, 0, 600), (two, 600, 1200)).verify()


def test_a_clock_that_is_behind_is_corrected_by_signed_time() -> None:
    """The time is the later of clock and signed time, also for the deadline and the list's age."""
    case = valid("p256")
    replace(case, now=0, policy=Policy(blacklist_max_age=0)).verify()
    with pytest.raises(Refusal, match="too little time"):
        replace(paying(case, deadline=NOW + DAY - 1), now=0).verify()


def test_the_first_reason_in_the_order_of_the_specification_is_told() -> None:
    """A payment with everything wrong loses its faults one by one; each time the first left is told."""
    case = valid("p256")
    everything = replace(
        paying(case, nonce=bytes(16), deadline=NOW, signer="somebody"),
        policy=Policy(max_per_payment=1, blacklist_max_age=0),
        now=NOW + 400 * DAY,
        blacklist=replace(case.blacklist, subjects=frozenset([case.net.public("card")])),
    )
    seen = []
    for fix in (
        {},
        {"request": changed(case.request, nonce=bytes(16))},
        {"now": NOW + 1},
        {"blacklist": case.blacklist},
        {"policy": Policy(max_per_payment=1)},
        {"policy": Policy()},
        {"policy": Policy(least_time_to_deposit=-1)},
    ):
        everything = replace(everything, **fix)
        with pytest.raises(Refusal) as caught:
            everything.verify()
        seen.append(caught.value.reason)
    assert seen == [
        "mismatch", "certificate-expired", "blacklisted", "blacklist-stale", "limit", "deadline",
        "signature",
    ]  # fmt: skip


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_refused(suite: str, data: st.DataObject) -> None:
    case = FIXED[suite]
    good = case.payment.encode()
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    with pytest.raises(Refusal):
        replace(case, data=good[:at] + bytes((good[at] ^ flip,)) + good[at + 1 :]).verify()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=1200), cut=st.integers(0, 700))
def test_any_bytes_are_refused(data: bytes, cut: int) -> None:
    case = FIXED["p256"]
    for noise in (data, case.payment.encode()[:cut] + data):
        if noise != case.payment.encode():
            with pytest.raises(Refusal):
                replace(case, data=noise).verify()


FIXED = {suite: valid(suite) for suite in SUITES}


def test_new_request_has_a_fresh_nonce() -> None:
    net = network("p256")
    made = [new_request(net.header, 5, net.public("pos"), NOW) for _ in range(2)]
    assert made[0].nonce != made[1].nonce
    assert (made[0].amount, made[0].payee, made[0].time) == (5, net.public("pos"), NOW)

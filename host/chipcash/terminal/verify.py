# SPDX-License-Identifier: Apache-2.0
"""What a terminal verifies offline, check by check in the order of protocols/spec/payment.md.

Pure functions over bytes and values: no I/O, no state, so that any POS can embed them. What nobody can
check offline is that the money was not also paid elsewhere: a verified payment is still PENDING.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import pairwise

from chipcash import crypto
from chipcash.clock import DAY
from chipcash.terminal import refusals as r
from chipcash.terminal.blacklist import Blacklist
from chipcash.terminal.refusals import Refusal
from chipcash.trust import Trust
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["Policy", "VerifiedPayment", "new_request", "verify_payer", "verify_payment"]


@dataclass(frozen=True)
class Policy:
    """What this terminal accepts, beyond what the network demands.

    max_per_payment: fen; least_time_to_deposit: seconds that must be left until the claim's deadline;
    blacklist_max_age: seconds since the blacklist's signed time. Of what is Pending Repeat Payment
    Verification, None where there is no limit of the shop's own: max_per_card, max_per_shift, max_pending
    (in all): fen; pending_max_age: seconds since the oldest such payment. The center's rules make all of
    them stricter: chipcash.terminal.stricter.
    """

    max_per_payment: int = 50000
    least_time_to_deposit: int = DAY
    blacklist_max_age: int = 7 * DAY
    max_per_card: int | None = None
    max_per_shift: int | None = None
    max_pending: int | None = None
    pending_max_age: int | None = None


@dataclass(frozen=True)
class VerifiedPayment:
    """A payment that passed every offline check: PENDING, not yet money that can be spent.

    data: its bytes as received; amount: fen; payer: the card's key; deadline: deposit by then, seconds
    since 1970.
    """

    payment: o.Payment
    data: bytes
    claim_id: bytes
    amount: int
    payer: bytes
    deadline: int


def new_request(header: bytes, amount: int, payee: bytes, time: int) -> o.PayRequest:
    """A pay request with a fresh nonce. Store it before sending it: only it makes a repetition safe.

    header: objects.make_header(network, suite); amount: fen; payee: the terminal's key; time: the later of
    its clock and its blacklist's time. Raises WireError if a value is out of range.
    """
    return o.PayRequest(
        header=header, amount=amount, payee=payee, nonce=secrets.token_bytes(16), time=time
    )


def verify_payer(
    certificate: o.Certificate, *, trust: Trust, blacklist: Blacklist, now: int
) -> None:
    """Verify that a certificate is a card's, good and not blacklisted, or raise Refusal: checks 4 to 6.

    now: seconds since 1970, not before the blacklist's signed time.
    """
    payer = certificate.subject
    if certificate.role != o.ROLE_CARD or not trust.signed_by_certification(certificate):
        raise Refusal(r.CERTIFICATE)
    if certificate.expiry <= now:
        raise Refusal(r.CERTIFICATE_EXPIRED, payer=payer.hex())
    if payer in blacklist.subjects:
        raise Refusal(r.BLACKLISTED, payer=payer.hex())


def verify_payment(
    data: bytes,
    request: o.PayRequest,
    *,
    trust: Trust,
    policy: Policy,
    blacklist: Blacklist,
    now: int,
) -> VerifiedPayment:
    """Verify a card's answer to the request, or raise Refusal with the first reason that applies.

    data: the answer's bytes; now: the terminal's clock in seconds since 1970 (the blacklist's signed time
    counts instead where it is later). Store the payment durably before telling anybody "paid".
    """
    try:
        payment = o.Payment.decode(data)
    except WireError as error:
        raise Refusal(r.MALFORMED, str(error)) from None
    claim, certificate = payment.claim, payment.certificate
    now = max(now, blacklist.time)

    headers = [claim.header, certificate.header, *(title.header for title in payment.titles)]
    if not trust.accepts(request.header) or any(header != request.header for header in headers):
        raise Refusal(r.NETWORK)

    asked = (request.nonce, request.payee, request.amount, request.time)
    if (claim.nonce, claim.payee, claim.amount, claim.time) != asked:
        raise Refusal(r.MISMATCH)

    verify_payer(certificate, trust=trust, blacklist=blacklist, now=now)
    payer = certificate.subject
    age = now - blacklist.time
    if age > policy.blacklist_max_age or not blacklist.complete:
        raise Refusal(r.BLACKLIST_STALE, age_seconds=age, complete=blacklist.complete)

    suite = crypto.suite(o.suite_of(claim))
    for item, title in zip(claim.inputs, payment.titles, strict=True):
        if (
            title.owner != payer
            or suite.hash(title.message()) != item.title_id
            or not trust.signed_by_center(title)
        ):
            raise Refusal(r.TITLE, serial=title.serial.hex())
    for title in payment.titles:
        if title.expiry < claim.deadline:
            raise Refusal(r.TITLE_EXPIRED, serial=title.serial.hex())

    intervals = sorted(
        (title.serial, item.lo, item.hi)
        for item, title in zip(claim.inputs, payment.titles, strict=True)
    )
    for (serial, _, hi), (serial_next, lo_next, _) in pairwise(intervals):
        if serial == serial_next and lo_next < hi:
            raise Refusal(r.OVERLAP, serial=serial.hex())

    limit = min(certificate.per_payment or 0, policy.max_per_payment)
    if claim.amount > limit:
        raise Refusal(r.LIMIT, limit_fen=limit)
    if claim.deadline < now + policy.least_time_to_deposit:
        raise Refusal(r.DEADLINE, deadline=claim.deadline)

    if not crypto.verify(suite.id, payer, claim.message(), claim.signature or b""):
        raise Refusal(r.SIGNATURE)
    return VerifiedPayment(
        payment=payment,
        data=bytes(data),
        claim_id=suite.hash(claim.message()),
        amount=claim.amount,
        payer=payer,
        deadline=claim.deadline,
    )

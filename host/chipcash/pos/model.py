# SPDX-License-Identifier: Apache-2.0
"""What the POS tells about its books: values, amounts in whole fen, times in seconds since 1970."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

__all__ = [
    "Balance",
    "Change",
    "Charge",
    "Exposure",
    "OpenRequest",
    "Payment",
    "PaymentState",
    "Promise",
    "PromiseState",
    "RequestState",
    "Shift",
    "StateChange",
    "Summary",
    "SyncReport",
    "Total",
    "Transfer",
    "TransferKind",
]


class PaymentState(StrEnum):
    """States of a received payment, named everywhere the same (protocols/spec/payment.md)."""

    PENDING = "PENDING"
    """Pending Repeat Payment Verification: verified offline, cannot be spent."""
    SUBMITTED = "SUBMITTED"
    VERIFIED = "VERIFIED"
    DISPUTED = "DISPUTED"
    EXPIRED = "EXPIRED"
    REDEEMED = "REDEEMED"
    SPENT = "SPENT"


class RequestState(StrEnum):
    """OPEN: a card may have answered; ANSWERED: paid; VOIDED: given up; CANCELLED: no card has paid it."""

    OPEN = "OPEN"
    ANSWERED = "ANSWERED"
    VOIDED = "VOIDED"
    CANCELLED = "CANCELLED"


class PromiseState(StrEnum):
    """PROMISED: the payment is not verified yet; SENT: the refund is on its way; KEPT: paid in full; PARTLY,
    CANCELLED: only part, or nothing, of the payment became money that could be given back."""

    PROMISED = "PROMISED"
    SENT = "SENT"
    KEPT = "KEPT"
    PARTLY = "PARTLY"
    CANCELLED = "CANCELLED"


class TransferKind(StrEnum):
    """What verified money leaves the POS for."""

    SPEND = "SPEND"
    REFUND = "REFUND"
    REDEEM = "REDEEM"


@dataclass(frozen=True)
class Payment:
    """A received payment. reason says why money is disputed or lost, empty otherwise.

    number: of its place in the books, from 1; tier: of the card; operator, shift: who took it and in which,
    "" and None where nobody said; link: how it came (a transport's name, or `qr`); reference: the caller's.
    """

    claim_id: bytes
    nonce: bytes
    amount: int
    payer: bytes
    time: int
    deadline: int
    state: PaymentState
    settled_fen: int
    disputed_fen: int
    reason: str
    data: bytes = field(repr=False)
    number: int
    tier: int | None
    operator: str
    shift: int | None
    link: str
    reference: str | None


@dataclass(frozen=True)
class OpenRequest:
    """A pay request and where it stands. refused: why the last answer to it was not accepted.

    expiry: of a bill, until when a card pays it; None where a card was tapped.
    """

    nonce: bytes
    amount: int
    time: int
    state: RequestState
    card: bytes | None
    refused: str | None
    expiry: int | None
    operator: str
    shift: int | None
    link: str
    reference: str | None


@dataclass(frozen=True)
class Charge:
    """The last charge: its request, and its payment where there is one.

    paid: True, False, or None where nobody here knows, because a card may have paid an open request.
    """

    request: OpenRequest
    payment: Payment | None
    paid: bool | None


@dataclass(frozen=True)
class Transfer:
    """Verified money on its way out. settled_fen, settled_time: None until the receipt is there."""

    nonce: bytes
    kind: TransferKind
    amount: int
    payee: bytes
    time: int
    reference: str | None
    settled_fen: int | None
    operator: str
    shift: int | None
    settled_time: int | None


@dataclass(frozen=True)
class Promise:
    """A refund of a payment that was pending. data: the refund promise as signed, for the payer.

    paid_fen: what has reached the payer; deposit: nonce of the refund that carries it out, if there is one;
    reason: why it waits, or why it was not paid in full. The others: as of Payment.
    """

    nonce: bytes
    claim_id: bytes
    amount: int
    time: int
    state: PromiseState
    paid_fen: int
    deposit: bytes | None
    reason: str
    data: bytes = field(repr=False)
    number: int
    reference: str | None
    operator: str
    shift: int | None


@dataclass(frozen=True)
class Balance:
    """What the POS has, in fen.

    pending_fen: received and not verified yet (PENDING, SUBMITTED), not spendable; verified_fen:
    spendable; leaving_fen: claimed away, receipt outstanding; promised_fen: of pending and verified money,
    what is promised to payers as refunds; disputed_fen and expired_fen: received
    offline and not become money; open_fen: asked for in open requests. pending: the payments behind
    pending_fen, the one whose deadline comes first at the front; overdue_fen: of those, past the deadline.
    """

    pending_fen: int
    verified_fen: int
    leaving_fen: int
    promised_fen: int
    disputed_fen: int
    expired_fen: int
    open_fen: int
    overdue_fen: int
    pending: tuple[Payment, ...]


@dataclass(frozen=True)
class Exposure:
    """How much is pending at a till, and how much may be: above a limit it takes nothing. None: no limit.

    pending_fen, limit_fen: altogether; shift_fen, shift_limit_fen: of the open shift; age, age_limit: of the
    oldest pending payment, in seconds.
    """

    pending_fen: int
    limit_fen: int | None
    shift_fen: int
    shift_limit_fen: int | None
    age: int
    age_limit: int | None

    @property
    def near(self) -> bool:
        """Whether one of them is at four fifths of its limit, or above: synchronise."""
        return self._share() >= Fraction(4, 5)

    @property
    def reached(self) -> bool:
        """Whether one of them is at its limit, or above: the till takes nothing more."""
        return self._share() >= 1

    def _share(self) -> Fraction:
        pairs = (
            (self.pending_fen, self.limit_fen),
            (self.shift_fen, self.shift_limit_fen),
            (self.age, self.age_limit),
        )
        found = (
            Fraction(held, limit) if limit else Fraction(1)
            for held, limit in pairs
            if limit is not None
        )
        return max(found, default=Fraction(0))


@dataclass(frozen=True)
class Total:
    """So many, worth fen in all."""

    count: int
    fen: int


@dataclass(frozen=True)
class Summary:
    """What the books hold in all. Amounts as in Balance.

    states: of payments, each state; overdue: pending ones past their deadline; next_deadline,
    oldest_pending: of pending ones the first deadline and the first time, None if there are none.
    """

    states: Mapping[PaymentState, Total]
    verified_fen: int
    leaving_fen: int
    disputed_fen: int
    open_fen: int
    overdue: Total
    next_deadline: int | None
    oldest_pending: int | None

    @property
    def pending(self) -> Total:
        """Payments that are Pending Repeat Payment Verification."""
        two = [self.states[PaymentState.PENDING], self.states[PaymentState.SUBMITTED]]
        return Total(sum(x.count for x in two), sum(x.fen for x in two))


@dataclass(frozen=True)
class Shift:
    """A shift at the till. closed, closed_by and report (JSON of its Z report) are None while it is open."""

    number: int
    opened: int
    opened_by: str
    closed: int | None
    closed_by: str | None
    report: str | None


@dataclass(frozen=True)
class StateChange:
    """A payment's change of state as the books recorded it. before: None when it was received."""

    number: int
    time: int
    claim_id: bytes
    before: PaymentState | None
    after: PaymentState


@dataclass(frozen=True)
class Change:
    """What a sync did to one payment."""

    payment: Payment
    before: PaymentState


@dataclass
class SyncReport:
    """What a sync did: payments settled or not, transfers finished, voids sent, news of the center.

    promises: those that were kept, in full or in part, or cancelled; new_rules: whether the center's rules
    for terminals changed; told: who hears of changes and transfers instead.
    """

    changes: list[Change] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    voids_sent: int = 0
    titles_received: int = 0
    blacklist_entries: int = 0
    new_rules: bool = False
    time: int = 0
    told: Callable[[Change | Transfer], None] | None = None

    def add(self, what: Change | Transfer) -> None:
        """Report a change or a transfer."""
        if self.told is not None:
            self.told(what)
        elif isinstance(what, Change):
            self.changes.append(what)
        else:
            self.transfers.append(what)

# SPDX-License-Identifier: Apache-2.0
"""What happened at a till to its money, one event after the other, each as a booking between accounts.

Nothing is added up here that is not in the till's rows: a state change of a payment, an order to the center,
the center's receipt for it. Reports, journal and exports are made of these events and of nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chipcash.database import Row
from chipcash.pos.model import PaymentState, TransferKind
from chipcash.pos.store import Store

__all__ = ["ACCOUNTS", "Account", "Event", "Marks", "What", "events", "marks", "position", "states"]


class Account(StrEnum):
    """Where a till's money is, or went. SALES and OTHERWISE are where it came from, so they are negative."""

    SALES = "sales"
    """What customers have paid."""
    PENDING = "pending"
    SUBMITTED = "submitted"
    VERIFIED = "verified"
    """Can be spent."""
    LEAVING = "leaving"
    """Claimed away, the center's receipt is not here yet."""
    DISPUTED = "disputed"
    """Received and never became money."""
    EXPIRED = "expired"
    SPENT = "spent"
    """Paid to another key, such as the merchant's bank."""
    REFUNDED = "refunded"
    REDEEMED = "redeemed"
    OTHERWISE = "otherwise"
    """Verified money that came, or went, by other ways than a payment at this till: paid to its key by
    somebody else; on its way back from a transfer that did not settle, or from an expired title."""


ACCOUNTS = tuple(Account)
"""In the order in which reports show them."""


class What(StrEnum):
    """What an event is."""

    TAKEN = "taken"
    SUBMITTED = "submitted"
    VERIFIED = "verified"
    DISPUTED = "disputed"
    EXPIRED = "expired"
    ORDERED = "ordered"
    """Money was claimed away, and is on its way."""
    SPENT = "spent"
    REFUNDED = "refunded"
    REDEEMED = "redeemed"
    RETURNED = "returned"
    """What of a transfer did not settle: it comes back under a new title."""
    CAME = "came"
    """Verified money that no event explains, see Account.OTHERWISE; below zero where it went."""
    CONSUMED = "consumed"
    """All of a payment's money has left: its state says so. Nothing is booked, for the transfers were."""


_CHANGED = {
    PaymentState.PENDING: What.TAKEN,
    PaymentState.SUBMITTED: What.SUBMITTED,
    PaymentState.VERIFIED: What.VERIFIED,
    PaymentState.DISPUTED: What.DISPUTED,
    PaymentState.EXPIRED: What.EXPIRED,
    PaymentState.SPENT: What.CONSUMED,
    PaymentState.REDEEMED: What.CONSUMED,
}
_LEFT = {
    TransferKind.SPEND: (What.SPENT, Account.SPENT),
    TransferKind.REFUND: (What.REFUNDED, Account.REFUNDED),
    TransferKind.REDEEM: (What.REDEEMED, Account.REDEEMED),
}


@dataclass(frozen=True)
class Event:
    """One event. number: its place among those of its table, which no clock can turn around.

    ident: claim_id of a payment, or nonce of a transfer's deposit; amount: of the payment or transfer, fen;
    settled_fen, disputed_fen: what of it became money, and what is disputed; state: of a payment after it;
    tier, link: of a payment; kind: of a transfer.
    """

    what: What
    time: int
    number: int
    ident: bytes
    amount: int
    settled_fen: int = 0
    disputed_fen: int = 0
    reason: str = ""
    state: PaymentState | None = None
    before: PaymentState | None = None
    kind: TransferKind | None = None
    operator: str = ""
    tier: int | None = None
    link: str = ""

    @property
    def postings(self) -> tuple[tuple[Account, int], ...]:
        """What it books, fen by account; together nothing, since no fen is made or lost."""
        what, amount = self.what, self.amount
        if what == What.TAKEN:
            return ((Account.SALES, -amount), (Account.PENDING, amount))
        if what == What.SUBMITTED:
            return ((Account.PENDING, -amount), (Account.SUBMITTED, amount))
        if what in (What.VERIFIED, What.DISPUTED, What.EXPIRED):
            lost = Account.EXPIRED if what == What.EXPIRED else Account.DISPUTED
            return (
                (Account.SUBMITTED, -amount),
                (Account.VERIFIED, self.settled_fen),
                (lost, amount - self.settled_fen),
            )
        if what == What.ORDERED:
            return ((Account.VERIFIED, -amount), (Account.LEAVING, amount))
        if self.kind is not None:
            return (
                (Account.LEAVING, -amount),
                (_LEFT[self.kind][1], self.settled_fen),
                (Account.OTHERWISE, amount - self.settled_fen),
            )
        return ()


@dataclass(frozen=True)
class Marks:
    """Up to which rows of a till's books a report goes: what is behind them belongs to the next one.

    change, deposit: the last row of each table; leaving: rows of transfers that were ordered by then and had
    no receipt yet.
    """

    change: int = 0
    deposit: int = 0
    leaving: tuple[int, ...] = ()


def marks(store: Store) -> Marks:
    """Where a till's books end now."""
    (change,) = store.row("SELECT ifnull(max(id), 0) FROM changes")
    (deposit,) = store.row("SELECT ifnull(max(id), 0) FROM deposits")
    leaving = store.all(
        "SELECT id FROM deposits WHERE receipt IS NULL AND kind <> 'PAYMENTS' ORDER BY id"
    )
    return Marks(change, deposit, tuple(row["id"] for row in leaving))


def events(store: Store, after: Marks | None = None) -> list[Event]:
    """A till's events behind the marks, by default all of them, in the order of their times.

    What has the same time is in the order of its rows.
    """
    after = after or Marks()
    found = [
        _changed(row)
        for row in store.all(
            "SELECT changes.id, changes.time, changes.claim_id, changes.before, changes.after,"
            " payments.amount, payments.settled_fen, payments.disputed_fen, payments.reason,"
            " payments.tier, requests.operator, requests.link"
            " FROM changes JOIN payments USING (claim_id)"
            " JOIN requests ON requests.nonce = payments.nonce"
            " WHERE changes.id > ? ORDER BY changes.id",
            after.change,
        )
    ]
    columns = "id, time, nonce, kind, amount, settled_fen, settled_time, operator"
    for row in store.all(
        f"SELECT {columns} FROM deposits WHERE kind <> 'PAYMENTS' AND id > ? ORDER BY id",
        after.deposit,
    ):
        found.append(_sent(row, What.ORDERED, row["time"]))
    for row in store.all(
        f"SELECT {columns} FROM deposits WHERE kind <> 'PAYMENTS' AND receipt IS NOT NULL"
        " AND (id > ? OR id IN (SELECT value FROM json_each(?))) ORDER BY id",
        after.deposit, json.dumps(after.leaving),
    ):  # fmt: skip
        what = _LEFT[TransferKind(row["kind"])][0]
        # Of before the books noted when a receipt came nothing better is known than when it was ordered.
        at = row["settled_time"]
        found.append(_sent(row, what, row["time"] if at is None else at))
    return sorted(found, key=lambda event: event.time)


def position(
    happened: Iterable[Event], opening: Mapping[Account, int] | None = None
) -> dict[Account, int]:
    """Fen in each account after these events."""
    fen = dict.fromkeys(ACCOUNTS, 0) | dict(opening or {})
    for event in happened:
        for account, amount in event.postings:
            fen[account] += amount
    return fen


def states(happened: Sequence[Event]) -> dict[PaymentState, tuple[int, int]]:
    """How many payments, of how many fen, are in each state after these events, which are all there were."""
    moved = sorted((x for x in happened if x.state is not None), key=lambda event: event.number)
    last = {event.ident: event for event in moved}
    found = dict.fromkeys(PaymentState, (0, 0))
    for event in last.values():
        assert event.state is not None
        count, fen = found[event.state]
        found[event.state] = (count + 1, fen + event.amount)
    return found


def _changed(row: Row) -> Event:
    after = PaymentState(row["after"])
    return Event(
        what=_CHANGED[after],
        time=row["time"],
        number=row["id"],
        ident=row["claim_id"],
        amount=row["amount"],
        settled_fen=row["settled_fen"],
        disputed_fen=row["disputed_fen"],
        reason=row["reason"],
        state=after,
        before=None if row["before"] is None else PaymentState(row["before"]),
        operator=row["operator"],
        tier=row["tier"],
        link=row["link"],
    )


def _sent(row: Row, what: What, time: int) -> Event:
    return Event(
        what=what,
        time=time,
        number=row["id"],
        ident=row["nonce"],
        amount=row["amount"],
        settled_fen=0 if what == What.ORDERED else row["settled_fen"],
        kind=TransferKind(row["kind"]),
        operator=row["operator"],
    )

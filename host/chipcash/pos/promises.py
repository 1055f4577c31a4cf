# SPDX-License-Identifier: Apache-2.0
"""Refunds of pending money: a promise, signed and stored now, carried out once the payment is verified.

The promise moves no money, so the center does not hear of it: it is the payer's proof of what this till
owes. A payment that comes to nothing leaves nothing to give back.

What carries a promise out is an ordinary refund. It is stored in the transaction that marks the promise as
SENT, so that whatever is cut off, there is one of it, which is sent until its receipt is there.
"""

from __future__ import annotations

import secrets

from chipcash.database import Row
from chipcash.pos import model as m
from chipcash.pos.errors import PosError, yuan
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import PromiseState, TransferKind
from chipcash.pos.settling import promise_of
from chipcash.pos.signing import Signing
from chipcash_wire import objects as o

__all__ = ["Promises"]


class Promises(Signing):
    """What a POS owes to payers whose payments are not verified yet."""

    def promise_refund(
        self, payment: bytes, amount: int, *, reference: str | None = None
    ) -> m.Promise:
        """Promise to give amount fen of a pending payment (its nonce or claim_id) back to its payer's card.

        Needs no network. The sync that verifies the payment carries it out, as far as the payment was
        settled; all promises of a payment together stay within it. reference: the caller's name for this
        order: given again it is the same promise. Raises PosError: of a payment that is verified, or came to
        nothing, there is nothing to promise.
        """
        if amount <= 0:
            raise PosError("An amount has to be above zero.", amount_fen=amount)
        with self.store.reading():
            found = self.payment(payment)
            known = self._may_promise(found, amount, reference)
        if known is not None:
            return promise_of(known)
        # Before the transaction: a SAM takes a second to sign, in which nobody else could write.
        promise = o.RefundPromise(
            header=self.trust.header,
            payee=self.public,
            claim_id=found.claim_id,
            amount=amount,
            nonce=secrets.token_bytes(16),
            time=self._now(),
        )
        promise = promise.signed(self.key.sign(promise.message()))
        with self.store.transaction():
            known = self._may_promise(self.payment(payment), amount, reference)
            if known is not None:
                return promise_of(known)
            self.store.execute(
                "INSERT INTO promises"
                " (nonce, claim_id, data, amount, time, state, reference, operator, shift)"
                " VALUES (?,?,?,?,?,'PROMISED',?,?,?)",
                promise.nonce, found.claim_id, promise.encode(), amount, promise.time, reference,
                    self.operator, self._shift_number(),
            )  # fmt: skip
            return self.promise(promise.nonce)

    def _may_promise(self, found: m.Payment, amount: int, reference: str | None) -> Row | None:
        """See that so much of a payment can be promised. The promise that has the reference, if there is one.
        Raises PosError."""
        known = self._known_promise(reference)
        if known is not None:
            self._need_same(known, found.claim_id, amount)
            return known
        if reference is not None and self.store.one(
            "SELECT 1 FROM deposits WHERE reference = ?", reference
        ):
            raise _another(reference)
        if found.state not in (P.PENDING, P.SUBMITTED):
            raise PosError(
                f"This payment is {found.state}: there is nothing to promise.",
                hint="Refund it online." if found.settled_fen else found.reason,
                claim_id=found.claim_id.hex(),
            )
        left = found.amount - self._promised(found.claim_id)
        if amount > left:
            raise PosError(
                f"Of this payment {yuan(left)} can be promised back, not {yuan(amount)}. Nothing was "
                "promised.",
                hint="Promise at most what was paid and not promised before.",
                left_fen=left,
            )
        return None

    def promise(self, nonce: bytes) -> m.Promise:
        """A promise by its nonce (16 bytes). Raises PosError."""
        row = self.store.one("SELECT * FROM promises WHERE nonce = ?", nonce)
        if row is None:
            raise PosError("There is no such promise in these books.", id=nonce.hex())
        return promise_of(row)

    def promises(
        self, payment: bytes | None = None, *, before: int | None = None, limit: int | None = None
    ) -> tuple[m.Promise, ...]:
        """Promised refunds, the newest first; of one payment (its claim_id), if given.

        before: the number of a promise, only older ones; limit: at most so many.
        """
        rows = self.store.all(
            "SELECT * FROM promises WHERE (? IS NULL OR claim_id = ?) AND (? IS NULL OR id < ?)"
            " ORDER BY id DESC LIMIT ?",
            payment, payment, before, before, -1 if limit is None else limit,
        )  # fmt: skip
        return tuple(promise_of(row) for row in rows)

    def _keep_promises(self, report: m.SyncReport, *, most: int | None = None) -> None:
        """Begin the refunds of promises whose payment is decided, inside a transaction. most: so many."""
        begun = 0
        for row in self.store.all(
            "SELECT promises.*, payments.payer, payments.settled_fen, payments.reason AS why"
            " FROM promises JOIN payments USING (claim_id) WHERE promises.state = 'PROMISED'"
            " AND payments.state NOT IN ('PENDING', 'SUBMITTED') AND not_before <= ?"
            " ORDER BY promises.id",
            self._now(),
        ):
            left = row["settled_fen"] - self._refunded(row["claim_id"])
            amount = min(row["amount"] - row["paid_fen"], left)
            if amount <= 0:
                state = PromiseState.PARTLY if row["paid_fen"] else PromiseState.CANCELLED
                self.store.execute(
                    "UPDATE promises SET state = ?, reason = ? WHERE nonce = ?",
                    state,
                    row["why"] or "all of the payment went back before",
                    row["nonce"],
                )
                report.promises.append(self.promise(row["nonce"]))
            elif amount <= self._at_hand():
                deposit = self._begin_transfer(
                    TransferKind.REFUND, amount, row["payer"],
                    refund_of=row["claim_id"], operator=row["operator"],
                )  # fmt: skip
                self.store.execute(
                    "UPDATE promises SET state = 'SENT', deposit = ?, reason = '' WHERE nonce = ?",
                    deposit.nonce,
                    row["nonce"],
                )
                begun += 1
                if begun == most:
                    return
            else:  # the money left by other ways: it waits for more
                self.store.execute(
                    "UPDATE promises SET reason = ? WHERE nonce = ?",
                    "there is too little verified money at this till",
                    row["nonce"],
                )

    def _promised(self, claim_id: bytes) -> int:
        """Fen of a payment that are promised and not on their way yet."""
        return self._sum(
            "SELECT sum(amount - paid_fen) FROM promises WHERE claim_id = ? AND state = 'PROMISED'",
            claim_id,
        )

    def promised(self, reference: str) -> m.Promise | None:
        """The promise with this reference; None if there is none."""
        row = self._known_promise(reference)
        return None if row is None else promise_of(row)

    def _known_promise(self, reference: str | None) -> Row | None:
        if reference is None:
            return None
        return self.store.one("SELECT * FROM promises WHERE reference = ?", reference)

    def _need_same(self, promise: Row, claim_id: bytes | None, amount: int | None) -> None:
        """Raise PosError where a reference is given for another order than that promise."""
        if (promise["claim_id"], promise["amount"]) != (claim_id, amount):
            raise _another(promise["reference"])


def _another(reference: str | None) -> PosError:
    return PosError(
        f"The reference {reference} belongs to another order. Nothing was paid or promised.",
        hint="Use a reference once.",
    )

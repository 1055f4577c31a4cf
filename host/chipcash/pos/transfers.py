# SPDX-License-Identifier: Apache-2.0
"""Verified money out again: spent, refunded, redeemed, online. A claim is stored before it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chipcash.database import Row
from chipcash.pos import model as m
from chipcash.pos.errors import PendingMoney, PosError, yuan
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import PromiseState, TransferKind
from chipcash.pos.promises import Promises
from chipcash.pos.settling import CenterService
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["ReclaimService", "Transfers"]


class ReclaimService(Protocol):
    """What gives money back to its payer; chipcash.center.client.CenterClient is one."""

    def reclaim(self, reclaim: o.Reclaim, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Give money back to its payer; a receipt with its new titles."""


class Transfers(Promises):
    """What a POS does with verified money."""

    def spend(
        self, amount: int, payee: bytes, client: CenterService, *, reference: str | None = None
    ) -> m.Transfer:
        """Pay amount fen of verified money to a key, online.

        reference: the caller's name for this order: the same reference is the same transfer, sent again if
        its answer was lost and never paid twice.

        Raises PendingMoney (the money is there but not verified yet), InsufficientFunds, PosError, or
        CenterUnreachable: then the transfer is stored, and the next sync completes it.
        """
        if payee == self.trust.issuer_key:
            raise PosError(
                "This is the issuing library's key: money paid to it is redeemed. Nothing was paid.",
                hint="Use redeem for that.",
            )
        return self._send(TransferKind.SPEND, amount, payee, client, reference)

    def refund(
        self,
        payment: bytes,
        amount: int,
        client: CenterService,
        *,
        reference: str | None = None,
    ) -> m.Transfer:
        """Give amount fen of a payment (its nonce or claim_id) back to the card that paid it, online.

        The card gets it as a new title when it is synchronised. All refunds of a payment together stay
        within what of it was settled. A pending payment's refund can be promised: promise_refund. A reference
        that a promise has is that promise's refund. Raises as spend does.
        """
        found = self.payment(payment)
        if found.state in (P.PENDING, P.SUBMITTED):
            raise PendingMoney(
                f"This payment is {found.state}: what is Pending Repeat Payment Verification cannot "
                "be refunded. Nothing was paid.",
                hint="Synchronise first, then refund; or promise it now.",
                claim_id=found.claim_id.hex(),
            )
        return self._send(
            TransferKind.REFUND, amount, found.payer, client, reference, refund_of=found
        )

    def redeem(
        self, client: CenterService, amount: int | None = None, *, reference: str | None = None
    ) -> m.Transfer:
        """Give verified money (amount fen; by default as much as one deposit carries) back to the issuing
        library, online. Raises as spend does.
        """
        return self._send(TransferKind.REDEEM, amount, self.trust.issuer_key, client, reference)

    def reclaim(self, nonce: bytes, client: ReclaimService) -> int:
        """Have back what of a transfer (its deposit's nonce) came too late at the center; fen that came.

        Again is harmless. Raises PosError if there is no such transfer or nothing of it expired;
        CenterRefused (not-yet) before the center's grace is over, CenterUnreachable.
        """
        row = self.store.one("SELECT * FROM deposits WHERE nonce = ? AND kind <> 'PAYMENTS'", nonce)
        if row is None or row["receipt"] is None:
            raise PosError(
                "There is no transfer of that number that the center has answered.",
                hint="See chipcash pos transfers; one that is on its way goes on with chipcash pos sync.",
            )
        deposit = o.Deposit.decode(row["data"])
        results = {x.claim_id: x.outcomes for x in o.Receipt.decode(row["receipt"]).results}
        late = [
            claim
            for claim in deposit.claims
            if any(outcome.state == o.EXPIRED for outcome in results[object_id(claim)])
        ]
        if not late:
            raise PosError(
                "Nothing of this transfer came too late: there is nothing to have back.",
                hint="What was paid to somebody is theirs; ask them to pay it back.",
            )
        titles = self._spent_titles(deposit)
        came = 0
        for claim in late:
            request = o.Reclaim(header=self.trust.header, claims=(claim,), voids=())
            receipt = client.reclaim(request, titles)
            with self.store.transaction():
                for title in receipt.titles:
                    came += self._add_titles([title]) * (title.hi - title.lo)
        return came

    def _send(
        self,
        kind: TransferKind,
        amount: int | None,
        payee: bytes,
        client: CenterService,
        reference: str | None,
        refund_of: m.Payment | None = None,
    ) -> m.Transfer:
        if amount is not None and amount <= 0 and kind != TransferKind.REDEEM:
            raise PosError("An amount has to be above zero.", amount_fen=amount)
        claim_id = None if refund_of is None else refund_of.claim_id
        with self.store.transaction():
            self._keep_promises(m.SyncReport())  # what is owed goes first
            known = self._known_transfer(kind, amount, payee, reference, claim_id)
            if known is not None:
                deposit = o.Deposit.decode(known["data"])
            else:
                if amount is None:
                    amount = self._at_hand()
                if amount <= 0:
                    raise self._too_little(1)
                if refund_of is not None:
                    self._may_refund(refund_of, amount)
                deposit = self._begin_transfer(kind, amount, payee, reference, claim_id)
        transfer = self._transfer(deposit.nonce)
        if transfer.settled_fen is None:
            self._settle(client, deposit, m.SyncReport())
            transfer = self._transfer(deposit.nonce)
        return transfer

    def transferred(self, reference: str) -> m.Transfer | None:
        """The transfer with this reference, or of the promise with it; None if there is none."""
        promise = self._known_promise(reference)
        row = self.store.one(
            "SELECT * FROM deposits WHERE reference = ? OR nonce = ?",
            reference,
            None if promise is None else promise["deposit"],
        )
        return None if row is None else self._transfer(row["nonce"])

    def refunded(self, transfer: m.Transfer) -> bytes | None:
        """The claim_id of the payment that a transfer gives back; None if it is no refund."""
        row = self._need("SELECT refund_of FROM deposits WHERE nonce = ?", transfer.nonce)
        claim_id: bytes | None = row["refund_of"]
        return claim_id

    def _known_transfer(
        self,
        kind: TransferKind,
        amount: int | None,
        payee: bytes,
        reference: str | None,
        claim_id: bytes | None,
    ) -> Row | None:
        """The transfer that has this reference, or that carries out the promise that has it.

        Raises PosError where it is another order's, or a promise's without a transfer: nothing is paid twice.
        """
        if reference is None:
            return None
        promise = self._known_promise(reference)
        if promise is not None:
            self._need_same(promise, claim_id, amount)
            if promise["deposit"] is None:
                waits = promise["state"] == PromiseState.PROMISED
                raise PosError(
                    f"The refund of {yuan(promise['amount'])} was promised before, and is "
                    f"{promise['state']}: {promise['reason'] or 'it is not begun yet'}.",
                    hint="Synchronise: that carries it out." if waits else "No more will be paid.",
                    nonce=promise["nonce"].hex(),
                )
            return self._need("SELECT * FROM deposits WHERE nonce = ?", promise["deposit"])
        known = self.store.one("SELECT * FROM deposits WHERE reference = ?", reference)
        if known is not None and (
            (known["kind"], known["payee"], known["refund_of"]) != (kind, payee, claim_id)
            or amount not in (None, known["amount"])
        ):
            raise PosError(
                f"The reference {reference} belongs to another transfer. Nothing was paid.",
                hint="Use a reference once.",
            )
        return known

    def _may_refund(self, payment: m.Payment, amount: int) -> None:
        left = (
            payment.settled_fen
            - self._refunded(payment.claim_id)
            - self._promised(payment.claim_id)
        )
        if amount > left:
            raise PosError(
                f"Of this payment {yuan(left)} can be refunded, not {yuan(amount)}. Nothing was paid.",
                hint="Refund at most what was settled and not refunded or promised before.",
                left_fen=left,
            )

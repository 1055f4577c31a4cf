# SPDX-License-Identifier: Apache-2.0
"""Verified money out again: spent, refunded, redeemed, online. A claim is stored before it leaves."""

from __future__ import annotations

import secrets

from chipcash.clock import DAY
from chipcash.database import Row
from chipcash.pos import model as m
from chipcash.pos.errors import InsufficientFunds, PendingMoney, PosError, yuan
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import TransferKind
from chipcash.pos.settling import DEPOSIT_INTERVALS, CenterService, Settling
from chipcash_wire import objects as o

__all__ = ["Transfers"]

_TRANSFER_WINDOW = DAY
"""Seconds from a transfer to its deadline at the center."""


class Transfers(Settling):
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
        within what of it was settled. Raises as spend does.
        """
        found = self.payment(payment)
        if found.state in (P.PENDING, P.SUBMITTED):
            raise PendingMoney(
                f"This payment is {found.state}: what is Pending Repeat Payment Verification cannot "
                "be refunded. Nothing was paid.",
                hint="Synchronise first, then refund.",
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
        if amount is None and self._known_transfer(reference) is None:
            amount = sum(x["hi"] - x["pointer"] for x in self._spendable()[:DEPOSIT_INTERVALS])
        return self._send(TransferKind.REDEEM, amount, self.trust.issuer_key, client, reference)

    def _send(
        self,
        kind: TransferKind,
        amount: int | None,
        payee: bytes,
        client: CenterService,
        reference: str | None,
        refund_of: m.Payment | None = None,
    ) -> m.Transfer:
        if amount is not None and amount <= 0:
            if kind == TransferKind.REDEEM:
                raise self._too_little(1)
            raise PosError("An amount has to be above zero.", amount_fen=amount)
        with self.store.transaction():
            known = self._known_transfer(reference)
            if known is not None:
                if (known["kind"], known["payee"]) != (kind, payee) or amount not in (
                    None,
                    known["amount"],
                ):
                    raise PosError(
                        f"The reference {reference} belongs to another transfer. Nothing was paid.",
                        hint="Use a reference once.",
                    )
                deposit = o.Deposit.decode(known["data"])
            else:
                if amount is None:
                    raise RuntimeError("a new transfer needs an amount")
                if refund_of is not None:
                    self._may_refund(refund_of, amount)
                deposit = self._sign_transfer(amount, payee)
                self._store_deposit(
                    deposit,
                    kind,
                    payee,
                    reference,
                    refund_of.claim_id if refund_of is not None else None,
                )
                for claim in deposit.claims:
                    for item in claim.inputs:
                        self.store.execute(
                            "INSERT INTO spends (title_id, lo, hi, deposit) VALUES (?,?,?,?)",
                            item.title_id,
                            item.lo,
                            item.hi,
                            deposit.nonce,
                        )
        transfer = self._transfer(deposit.nonce)
        if transfer.settled_fen is None:
            self._settle(client, deposit, m.SyncReport())
            transfer = self._transfer(deposit.nonce)
        return transfer

    def _known_transfer(self, reference: str | None) -> Row | None:
        if reference is None:
            return None
        return self.store.one("SELECT * FROM deposits WHERE reference = ?", reference)

    def _may_refund(self, payment: m.Payment, amount: int) -> None:
        row = self._need(
            "SELECT coalesce(sum(coalesce(settled_fen, amount)), 0) AS fen FROM deposits"
            " WHERE refund_of = ?",
            payment.claim_id,
        )
        left = payment.settled_fen - row["fen"]
        if amount > left:
            raise PosError(
                f"Of this payment {yuan(left)} can be refunded, not {yuan(amount)}. Nothing was paid.",
                hint="Refund at most what was settled and not refunded before.",
                left_fen=left,
            )

    def _sign_transfer(self, amount: int, payee: bytes) -> o.Deposit:
        """Choose titles, move their pointers and sign the claims, inside a transaction."""
        now = self._now()
        chosen: list[o.Input] = []
        left = amount
        for row in self._spendable()[:DEPOSIT_INTERVALS]:
            if not left:
                break
            take = min(left, row["hi"] - row["pointer"])
            lo = row["pointer"]
            chosen.append(o.Input(title_id=row["title_id"], lo=lo, hi=lo + take))
            self.store.execute(
                "UPDATE titles SET pointer = ? WHERE title_id = ?", lo + take, row["title_id"]
            )
            left -= take
        if left:
            raise self._too_little(amount)
        counter = int(self.store.get("counter", "0"))
        claims = []
        for start in range(0, len(chosen), o.MAX_INPUTS):
            group = chosen[start : start + o.MAX_INPUTS]
            counter += 1
            claim = o.Claim(
                header=self.trust.header,
                inputs=tuple(group),
                amount=sum(item.hi - item.lo for item in group),
                payee=payee,
                nonce=secrets.token_bytes(16),
                counter=counter,
                time=now,
                deadline=now + _TRANSFER_WINDOW,
            )
            claims.append(claim.signed(self.key.sign(claim.message())))
        self.store.set("counter", str(counter))
        return self._new_deposit(claims)

    def _too_little(self, amount: int) -> InsufficientFunds:
        balance = self.balance()
        facts = {
            "amount_fen": amount,
            "verified_fen": balance.verified_fen,
            "pending_fen": balance.pending_fen,
        }
        if amount <= balance.verified_fen:
            return InsufficientFunds(
                f"{yuan(amount)} lies in too many pieces for one transfer. Nothing was paid.",
                hint="Split it into smaller transfers.",
                **facts,
            )
        if amount <= balance.verified_fen + balance.pending_fen:
            return PendingMoney(
                f"Only {yuan(balance.verified_fen)} is verified; {yuan(balance.pending_fen)} is "
                "Pending Repeat Payment Verification and cannot be spent yet. Nothing was paid.",
                hint="Synchronise with the registration center first.",
                **facts,
            )
        return InsufficientFunds(
            f"This POS has {yuan(balance.verified_fen)} of verified money. Nothing was paid.",
            hint="Spend less, or synchronise to bring in what is pending.",
            **facts,
        )

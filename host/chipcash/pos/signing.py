# SPDX-License-Identifier: Apache-2.0
"""A transfer of verified money: its claims signed and stored in one transaction, before they leave."""

from __future__ import annotations

import secrets

from chipcash.clock import DAY
from chipcash.pos.errors import InsufficientFunds, PendingMoney, yuan
from chipcash.pos.settling import DEPOSIT_INTERVALS, Settling
from chipcash_wire import objects as o

__all__ = ["Signing"]

_TRANSFER_WINDOW = DAY
"""Seconds from a transfer to its deadline at the center."""


class Signing(Settling):
    """How verified money is claimed away."""

    def _begin_transfer(
        self,
        kind: str,
        amount: int,
        payee: bytes,
        reference: str | None = None,
        refund_of: bytes | None = None,
        operator: str | None = None,
    ) -> o.Deposit:
        """Sign and store a transfer, inside a transaction: the deposit that is to be sent. operator: who
        ordered it, by default this POS's. Raises InsufficientFunds."""
        deposit = self._sign_transfer(amount, payee)
        self._store_deposit(deposit, kind, payee, reference, refund_of, operator)
        for claim in deposit.claims:
            for item in claim.inputs:
                self.store.execute(
                    "INSERT INTO spends (title_id, lo, hi, deposit) VALUES (?,?,?,?)",
                    item.title_id,
                    item.lo,
                    item.hi,
                    deposit.nonce,
                )
        return deposit

    def _at_hand(self) -> int:
        """Fen that one transfer can carry."""
        return sum(x["hi"] - x["pointer"] for x in self._spendable()[:DEPOSIT_INTERVALS])

    def _refunded(self, claim_id: bytes) -> int:
        """Fen of a payment that went back, or are on their way."""
        return self._sum(
            "SELECT sum(coalesce(settled_fen, amount)) FROM deposits WHERE refund_of = ?", claim_id
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

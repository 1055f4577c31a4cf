# SPDX-License-Identifier: Apache-2.0
"""What a POS tells its operator when something does not go on."""

from __future__ import annotations

from typing import Self

from chipcash.errors import ChipcashError
from chipcash.terminal import Refusal, explain


def yuan(fen: int) -> str:
    """An amount in fen as people read it: `12.34 yuan`."""
    return f"{fen // 100}.{fen % 100:02d} yuan"


class PosError(ChipcashError):
    """The POS refuses what was asked; its books are unchanged unless the message says otherwise."""

    exit_code = 12


class NotAsked(PosError):
    """A payment is refused before a card is asked for it: nobody has paid anything.

    reason: one of those in payment.md; message, hint: for the cashier; facts["customer"]: for who wanted to
    pay. In other languages: chipcash.terminal.explain.
    """

    def __init__(
        self, reason: str, message: str | None = None, hint: str | None = None, **facts: object
    ) -> None:
        words = explain(reason, asked=False)
        super().__init__(
            words.cashier if message is None else f"{message} No card was asked.",
            hint=words.hint if hint is None else hint,
            reason=reason,
            **facts,
        )
        self.reason = reason
        self.facts["customer"] = words.payer

    @classmethod
    def of(cls, refusal: Refusal) -> Self:
        """What would only end in this refusal."""
        made = cls(refusal.reason)
        made.facts = {**refusal.facts, **made.facts}
        return made


class AnswerLost(PosError):
    """The link broke while the card was paying, or its answer could not be kept.

    nonce: the request that stays open, to be retried with the same card or given up; why: of the failure's
    message; answered: whether the card's answer was here.
    """

    exit_code = 13

    def __init__(self, nonce: bytes, amount: int, why: str, *, answered: bool = False) -> None:
        happened = (
            f"The card has paid {yuan(amount)}, but the payment could not be kept"
            if answered
            else f"The connection broke while the card was paying {yuan(amount)}"
        )
        super().__init__(
            f"{happened}: {why} The card may have taken the money from the customer; you have not received "
            "it yet.",
            hint="Tap the SAME card again: the same request is repeated and nothing is paid twice. If "
            "that is not possible, give the request up; the money then goes back to the customer.",
            nonce=nonce.hex(),
            amount_fen=amount,
        )
        self.nonce = nonce
        self.amount = amount


class AnotherCard(PosError):
    """An open request may already have been paid by another card than the one that was tapped."""

    exit_code = 14

    def __init__(self, nonce: bytes, amount: int) -> None:
        super().__init__(
            f"Another card than this one may have paid the open request of {yuan(amount)}. "
            "This card was not asked to pay.",
            hint="Tap the first card again, or give that request up, or charge this card with a new one.",
            nonce=nonce.hex(),
            amount_fen=amount,
        )


class InsufficientFunds(PosError):
    """There is less verified money than asked for."""

    exit_code = 15


class PendingMoney(InsufficientFunds):
    """The money is there, but Pending Repeat Payment Verification: it cannot be spent yet."""

    exit_code = 16

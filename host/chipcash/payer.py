# SPDX-License-Identifier: Apache-2.0
"""The payer's side, offline: what an app does with a bill that it scanned and the card of its holder.

Whether to pay is the holder's to say, before any of this: what a bill says is nobody's signature.
"""

from __future__ import annotations

from chipcash.card import Card, answers
from chipcash.errors import ChipcashError, LinkLostError
from chipcash_wire import objects as o

__all__ = ["BillRefused", "answer"]


class BillRefused(ChipcashError):
    """The bill is not for this card, or not any more. The card was not asked; no money moved."""

    exit_code = 26


def answer(card: Card, bill: o.Bill, now: int) -> o.Payment:
    """Pay a bill with a selected card: the payment, to be shown to the till.

    now: seconds since 1970. Repeated before the bill expires it brings the same payment and pays nothing
    twice; afterwards only what the card remembers, and only in a PIN session. Raises BillRefused, CardError
    and PinError (no money moved), CardReplyError and LinkLostError (the card may have paid).
    """
    certificate = card.certificate()
    request = bill.request
    if certificate.header != request.header:
        raise BillRefused(
            "The bill belongs to another network, version or suite than this card. No money moved.",
            hint="Pay it with a card of its network.",
            bill_network=request.header[:4].hex(),
            card_network=certificate.header[:4].hex(),
        )
    if bill.subject not in (None, certificate.subject):
        raise BillRefused(
            "The bill was made for another card. No money moved.",
            hint="Use the card that was shown to the till, or ask the till for a new bill.",
        )
    if now > bill.expiry:
        return _remembered(card, request, "The bill has expired")
    if certificate.expiry <= now:
        return _remembered(card, request, "The card's certificate has expired")
    try:
        data = card.pay(request)
    except LinkLostError as error:
        if not error.maybe_executed:
            raise
        raise LinkLostError(
            f"{error.message} The card may have paid.",
            maybe_executed=True,
            hint="Take the same bill and the SAME card again before the bill expires: nothing is paid twice, "
            "and the payment can still be shown. Later the card's log still has it, with the PIN.",
            **{name: fact for name, fact in error.facts.items() if name != "maybe_executed"},
        ) from error
    return card.payment(data, request)


def _remembered(card: Card, request: o.PayRequest, why: str) -> o.Payment:
    """The payment of a bill that can no longer be paid, from the card's log. Raises BillRefused if there is
    none."""
    hint = "Ask the till for a new bill."
    if card.info().balance is None:
        hint += " If the card has paid this one already, its log still has the payment: it needs the PIN."
    else:
        for payment in card.payments():
            if answers(payment.claim, request):
                return payment
    raise BillRefused(f"{why}; the card was not asked to pay.", hint=hint)

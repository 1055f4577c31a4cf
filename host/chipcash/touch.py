# SPDX-License-Identifier: Apache-2.0
"""Touch to touch: money from one card to another, through a phone or terminal that holds both. Offline.

The payee's card verifies what can be verified offline and keeps the claim as pending repeat payment
verification: it cannot spend it. Its holder's next synchronisation deposits it.
"""

from __future__ import annotations

import secrets

from chipcash.card import Card, CardError
from chipcash.errors import ChipcashError
from chipcash_wire import commands as c
from chipcash_wire import objects as o

__all__ = ["TouchRefused", "TouchUnfinished", "send"]


class TouchRefused(ChipcashError):
    """The two cards cannot do this with each other. No money moved."""

    exit_code = 27


class TouchUnfinished(ChipcashError):
    """It broke off between the two cards: the payer's may have paid what the payee's does not have yet.

    nonce: of the request; the same one again finishes it.
    """

    exit_code = 28

    def __init__(self, nonce: bytes, error: ChipcashError) -> None:
        super().__init__(
            f"{error.message} The paying card may have paid; the other one does not have it yet.",
            hint=f"Repeat it with the same two cards and --request {nonce.hex()}: nothing is paid twice.",
            nonce=nonce.hex(),
        )
        self.nonce = nonce


def send(payer: Card, payee: Card, amount: int, now: int, nonce: bytes | None = None) -> o.Claim:
    """Pay amount fen from one selected card to another; the claim, which the payee's card now has.

    now: seconds since 1970; nonce: of a request that broke off, to finish it. Raises TouchRefused, CardError
    and PinError (no money moved), TouchUnfinished (repeat it with its nonce), LinkLostError before anything
    was asked for.
    """
    to = payee.certificate()
    if payer.certificate().header != to.header:
        raise TouchRefused(
            "The two cards belong to different networks, versions or suites. No money moved.",
            hint="Use cards of one network.",
        )
    if nonce is None and not payee.info().room:
        raise TouchRefused(
            "The receiving card has no room for another payment. No money moved.",
            hint="Synchronise the receiving card first, with its PIN.",
        )
    request = o.PayRequest(
        header=to.header,
        amount=amount,
        payee=to.subject,
        nonce=nonce or secrets.token_bytes(16),
        time=now,
    )
    try:
        # An earlier try, whose nonce was told, had a time of its own.
        payment = payer.payment(payer.pay(request), request, any_time=nonce is not None)
    except CardError as error:
        # Of an internal error nobody knows; and when its holder agrees, the card pays this very request.
        if error.sw not in (c.SW_INTERNAL, c.SW_ASKED):
            raise
        raise TouchUnfinished(request.nonce, error) from error
    except ChipcashError as error:
        raise TouchUnfinished(request.nonce, error) from error
    try:
        payee.put(payment)
    except CardError as error:
        if error.sw != c.SW_STALE:  # else it has it already
            raise TouchUnfinished(request.nonce, error) from error
    except ChipcashError as error:
        raise TouchUnfinished(request.nonce, error) from error
    return payment.claim

# SPDX-License-Identifier: Apache-2.0
"""The terminal library: commands to a verified payment. Pure and embeddable; it does no I/O.

Make a request with `new_request`, store it, send it with chipcash.card.Card.pay, and hand the answer's
bytes to `verify_payment`: it returns a VerifiedPayment or raises Refusal.
"""

from chipcash.terminal.blacklist import Blacklist, BlacklistError
from chipcash.terminal.receipt import ReceiptError, places, verify_receipt
from chipcash.terminal.refusals import REASONS, RETRYABLE, Refusal
from chipcash.terminal.rules import (
    Loss,
    Pending,
    RulesError,
    loss,
    newer,
    stricter,
    verify_pending,
)
from chipcash.terminal.verify import (
    Policy,
    VerifiedPayment,
    new_request,
    verify_payer,
    verify_payment,
)
from chipcash.terminal.words import Words, explain

API_VERSION = "1.0"
"""Of what is in `__all__` here and in chipcash.pos, and of the till over HTTP: docs/embedding.md says what
stays as it is."""

__all__ = [
    "API_VERSION",
    "REASONS",
    "RETRYABLE",
    "Blacklist",
    "BlacklistError",
    "Loss",
    "Pending",
    "Policy",
    "ReceiptError",
    "Refusal",
    "RulesError",
    "VerifiedPayment",
    "Words",
    "explain",
    "loss",
    "new_request",
    "newer",
    "places",
    "stricter",
    "verify_payer",
    "verify_payment",
    "verify_pending",
    "verify_receipt",
]

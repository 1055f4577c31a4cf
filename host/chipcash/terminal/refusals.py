# SPDX-License-Identifier: Apache-2.0
"""Why a terminal refuses a payment: the reasons of protocols/spec/payment.md, in words for a cashier."""

from __future__ import annotations

from chipcash.errors import ChipcashError

MALFORMED = "malformed"
NETWORK = "network"
MISMATCH = "mismatch"
CERTIFICATE = "certificate"
CERTIFICATE_EXPIRED = "certificate-expired"
BLACKLISTED = "blacklisted"
BLACKLIST_STALE = "blacklist-stale"
TITLE = "title"
TITLE_EXPIRED = "title-expired"
OVERLAP = "overlap"
LIMIT = "limit"
DEADLINE = "deadline"
SIGNATURE = "signature"

_RETRY = "Ask for the same card again and retry; if it stays so, give the request up and take other money."
_GIVE_UP = (
    "Take other money, and give the request up: the void that this signs lets the customer's money "
    "go back to the customer."
)
_KEEP_CARD = "Take other money, and give the request up. Do not hand out goods for this card."

REASONS: dict[str, tuple[str, str]] = {
    MALFORMED: ("What the card answered is no payment: it is damaged or not canonical.", _RETRY),
    NETWORK: (
        "The payment belongs to another network, version or crypto suite than this terminal's.",
        "This terminal can never cash it. Take other money, and give the request up.",
    ),
    MISMATCH: ("The card answered another request than the one that was made.", _RETRY),
    CERTIFICATE: ("The card is not certified by this network: it may be a forgery.", _KEEP_CARD),
    CERTIFICATE_EXPIRED: (
        "The card's certificate has expired.",
        _GIVE_UP + " The customer's bank renews the card.",
    ),
    BLACKLISTED: (
        "The card is on the blacklist: it was lost, or paid the same money twice.",
        _KEEP_CARD,
    ),
    BLACKLIST_STALE: (
        "This terminal's blacklist is too old to accept offline payments.",
        "Synchronise the terminal, then retry with the same card; or give the request up.",
    ),
    TITLE: (
        "The money on the card is not certified by the registration center for this card: it may be forged.",
        _KEEP_CARD,
    ),
    TITLE_EXPIRED: (
        "The money on the card expires before it could be deposited.",
        _GIVE_UP + " The customer's bank renews the money on the card.",
    ),
    OVERLAP: (
        "The card pays the same money twice within one payment: it is forged or faulty.",
        _KEEP_CARD,
    ),
    LIMIT: (
        "The amount is above what this card, or this terminal, may move in one offline payment.",
        _GIVE_UP,
    ),
    DEADLINE: (
        "The card leaves this terminal too little time to deposit the payment.",
        _GIVE_UP,
    ),
    SIGNATURE: ("The card's signature is wrong: the payment is forged or damaged.", _RETRY),
}
"""Reason: (what happened, what to do)."""

RETRYABLE = frozenset((MALFORMED, MISMATCH, BLACKLIST_STALE, SIGNATURE))
"""Reasons that the same request, repeated to the same card, may overcome."""

_MONEY = "You have not been paid; the card may have set the money aside."


class Refusal(ChipcashError):
    """A payment is not accepted. reason is one of the names in payment.md; nothing was stored.

    message: what happened and what it means for the money; hint: what to do now.
    """

    exit_code = 10

    def __init__(self, reason: str, detail: str = "", **facts: object) -> None:
        happened, hint = REASONS[reason]
        if detail:
            happened = f"{happened[:-1]} ({detail})."
        super().__init__(f"{happened} {_MONEY}", hint=hint, reason=reason, **facts)
        self.reason = reason

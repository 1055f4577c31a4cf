# SPDX-License-Identifier: Apache-2.0
"""Why a terminal refuses a payment: the reasons of protocols/spec/payment.md, in words for people."""

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
RULES_MISSING = "rules-missing"
PENDING_AGE = "pending-age"
PENDING_LIMIT = "pending-limit"
SHIFT_LIMIT = "shift-limit"
CARD_LIMIT = "card-limit"

_RETRY = "Ask for the same card again and retry; if it stays so, give the request up and take other money."
_GIVE_UP = (
    "Take other money, and give the request up: the void that this signs lets the customer's money "
    "go back to the customer."
)
_SYNC = "Synchronise the terminal to take more; until then take other money."
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
    RULES_MISSING: (
        "This terminal has no rules of the registration center yet, by which it could take money offline.",
        "Synchronise the terminal.",
    ),
    PENDING_AGE: (
        "Payments wait at this terminal for too long to take more before they are verified.",
        _SYNC,
    ),
    PENDING_LIMIT: (
        "With this payment, more would be pending at this terminal than it may take offline.",
        _SYNC,
    ),
    SHIFT_LIMIT: (
        "With this payment, more would be pending of this shift than it may take offline.",
        _SYNC,
    ),
    CARD_LIMIT: (
        "With this payment, more would be pending from this card than this terminal may take offline.",
        _SYNC,
    ),
}
"""Reason: (what happened, what to do)."""

_CARD_UNKNOWN = "This shop cannot recognise your card or the money on it; ask your bank."
_ANSWER_UNREADABLE = "This shop could not read your card's answer, or it was not to this payment."
_OFFLINE_TOO_LONG = "This shop has been offline for too long to take cards."
_OFFLINE_TOO_MUCH = "This shop has taken as much as it may while it is offline."

TO_PAYER: dict[str, str] = {
    MALFORMED: _ANSWER_UNREADABLE,
    NETWORK: "Your card belongs to another network than this shop.",
    MISMATCH: _ANSWER_UNREADABLE,
    CERTIFICATE: _CARD_UNKNOWN,
    CERTIFICATE_EXPIRED: "Your card has expired; your bank renews it.",
    BLACKLISTED: "Your card is blocked; ask your bank.",
    BLACKLIST_STALE: _OFFLINE_TOO_LONG,
    TITLE: _CARD_UNKNOWN,
    TITLE_EXPIRED: "The money on your card is about to expire; your bank renews it.",
    OVERLAP: _CARD_UNKNOWN,
    LIMIT: "The amount is above what your card, or this shop, may move offline at once.",
    DEADLINE: "Your card leaves this shop too little time to have the payment verified.",
    SIGNATURE: _ANSWER_UNREADABLE,
    RULES_MISSING: "This shop is not ready to take cards.",
    PENDING_AGE: _OFFLINE_TOO_LONG,
    PENDING_LIMIT: _OFFLINE_TOO_MUCH,
    SHIFT_LIMIT: _OFFLINE_TOO_MUCH,
    CARD_LIMIT: "This shop has taken as much from your card as it may while it is offline.",
}
"""Reason: why, for who wanted to pay. Nobody is told of what he cannot change, or accused."""

RETRYABLE = frozenset((MALFORMED, MISMATCH, BLACKLIST_STALE, SIGNATURE))
"""Reasons that the same request, repeated to the same card, may overcome."""

MONEY = "You have not been paid; the card may have set the money aside."
PAYER_MONEY = (
    "You have not paid. If your card has set the money aside, it goes back to your card when the shop gives "
    "the request up, or after the deadline."
)
NOT_ASKED = "No card was asked."
NOT_ASKED_HINTS = {
    BLACKLIST_STALE: "Synchronise the terminal.",
    RULES_MISSING: "Synchronise the terminal.",
    LIMIT: "Charge less, or take other money.",
    **dict.fromkeys((PENDING_AGE, PENDING_LIMIT, SHIFT_LIMIT, CARD_LIMIT), _SYNC),
}
"""What to do where no card was asked, so that there is no request to give up; else OTHER_CARD."""
OTHER_CARD = "Ask for another card, or for other money."
PAYER_NOT_ASKED = "Your card was not asked: you have paid nothing."


class Refusal(ChipcashError):
    """A payment is not accepted. reason is one of the names in payment.md; nothing was stored.

    message: what happened and what it means for the money; hint: what to do now; facts["customer"]: the same
    for who wanted to pay. In other languages: chipcash.terminal.explain.
    """

    exit_code = 10

    def __init__(self, reason: str, detail: str = "", **facts: object) -> None:
        happened, hint = REASONS[reason]
        if detail:
            happened = f"{happened[:-1]} ({detail})."
        super().__init__(f"{happened} {MONEY}", hint=hint, reason=reason, **facts)
        self.reason = reason
        self.facts["customer"] = f"{TO_PAYER[reason]} {PAYER_MONEY}"

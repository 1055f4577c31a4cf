# SPDX-License-Identifier: Apache-2.0
"""Touch to touch: payments of other cards to this one, and what became of them. See PUT DATA in
protocols/spec/commands.md.

A received claim is pending: it is kept for its deposit and cannot be spent. What settles comes back as
titles.
"""

from chipcash_card.purse import KEY_ENDED, KEY_RECEIVED, Refused
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from chipcash_card.purse import Purse


def put(data: bytes, purse: "Purse") -> None:
    """PUT DATA of a payment or a receipt. Raises Refused."""
    change = _payment if data[0] == o.Payment.TAG else _receipt
    purse.change_received(change(data, purse))


def _payment(data: bytes, purse: "Purse") -> "dict[bytes, bytes | None]":
    """A payment to this card, verified as far as that can be done offline: what the journal has to store."""
    claim, titles, certificate = o.Payment.parts(data)
    payer = certificate.subject
    purse.check_header(claim)
    if claim.payee != purse.public:
        raise Refused(c.SW_NOT_MINE)
    purse.check_signed(certificate, purse.certification_key)
    newest = purse.newest
    if certificate.expiry <= max(newest, claim.time) or claim.deadline < newest:
        raise Refused(c.SW_EXPIRED)
    if claim.amount > (certificate.per_payment or 0):  # which only a card's certificate has
        raise Refused(c.SW_LIMIT_PAYMENT)
    for item, (start, stop) in zip(claim.inputs, titles):
        title = o.Title.decode(data[start:stop])
        purse.check_signed(title, purse.center_key)
        if title.owner != payer or purse.hash(title.message()) != item.title_id:
            raise Refused(c.SW_SIGNATURE)
        if title.expiry < claim.deadline:
            raise Refused(c.SW_EXPIRED)
    purse.check_signed(claim, payer)
    claim_id = purse.hash(claim.message())
    if purse.was_received(claim_id):
        raise Refused(c.SW_STALE)
    if not purse.room:
        raise Refused(c.SW_NO_SPACE)
    place = claim.deadline.to_bytes(5, "big") + claim.amount.to_bytes(8, "big")
    return {KEY_RECEIVED + claim_id[:16] + place: claim.encode()}


def _receipt(data: bytes, purse: "Purse") -> "dict[bytes, bytes | None]":
    """What became of received claims: they are no longer pending, and must not come again."""
    from chipcash_wire.receipts import Receipt

    ended: "list[bytes]" = []

    def each(name: str, part: "Any") -> None:
        # A copy with a broken signature is invalid; the id does not cover it, and the claim is still good.
        if name == "results" and part.outcomes[0].state != o.INVALID:
            ended.append(part.claim_id)

    found = Receipt.decode(data, each)
    purse.check_signed(found, purse.center_key, o.message_of(data))
    changes: "dict[bytes, bytes | None]" = {}
    for claim_id in ended:
        for key in purse.received_keys(claim_id):
            changes[key] = None
            changes[KEY_ENDED + key[1:22]] = b""
    if not changes:
        raise Refused(c.SW_STALE)
    return changes

# SPDX-License-Identifier: Apache-2.0
"""A slip: the proof, for a merchant's bank, that a till has paid to it or had money redeemed.

It is the deposit that the till sent, the center's signed receipt for it, and the titles that it spent: wire
objects one behind the other, as in the bodies of requests. Who has the network's public file can verify it;
the center need not be asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from chipcash.center.bodies import join, split
from chipcash.errors import ChipcashError
from chipcash.terminal import ReceiptError, verify_receipt
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from chipcash_wire import tlv
from chipcash_wire.tlv import WireError

__all__ = ["Paid", "Slip", "SlipInvalid", "read_slips", "verify_slip"]


class SlipInvalid(ChipcashError):
    """The slip proves nothing: not signed by whom it should be, incomplete, or damaged."""

    exit_code = 31


@dataclass(frozen=True)
class Slip:
    """A deposit, its receipt, and the titles that its claims spent."""

    deposit: o.Deposit
    receipt: o.Receipt
    titles: tuple[o.Title, ...]

    def encode(self) -> bytes:
        """Its bytes; several may stand in one file."""
        return join((self.deposit, self.receipt, *self.titles))


@dataclass(frozen=True)
class Paid:
    """What a slip proves. payer: the till's key; payee: whom it paid; claims: with the fen of each that were
    settled; fen: of all; time: of the receipt, seconds; nonce: of the deposit, by which the till calls it."""

    payer: bytes
    payee: bytes
    claims: tuple[tuple[bytes, int], ...]
    fen: int
    time: int
    nonce: bytes


def read_slips(data: bytes) -> list[Slip]:
    """The slips in a file's bytes. Raises SlipInvalid."""
    found: list[Slip] = []
    try:
        parts = split(data)
        while parts:
            deposit, receipt = o.Deposit.decode(parts.pop(0)), o.Receipt.decode(parts.pop(0))
            titles = []
            while parts and tlv.header(parts[0], 0)[0] == o.Title.TAG:
                titles.append(o.Title.decode(parts.pop(0)))
            found.append(Slip(deposit, receipt, tuple(titles)))
    except (WireError, IndexError):
        raise _invalid("it is damaged, or another kind of file") from None
    return found


def verify_slip(slip: Slip, trust: Trust) -> Paid:
    """Check a slip under the network's keys. Raises SlipInvalid. Pure."""
    try:
        verify_receipt(slip.receipt, slip.deposit, trust)
    except ReceiptError as error:
        raise _invalid(error.message) from None
    titles = {object_id(title): title for title in slip.titles}
    spent = [item.title_id for claim in slip.deposit.claims for item in claim.inputs]
    if not all(title_id in titles for title_id in spent):
        raise _invalid("a title is missing that it spends")
    if not all(trust.signed_by_center(titles[title_id]) for title_id in spent):
        raise _invalid("a title is not signed by the registration center")
    payers = {titles[title_id].owner for title_id in spent}
    payees = {claim.payee for claim in slip.deposit.claims}
    if len(payers) != 1 or len(payees) != 1:
        raise _invalid("it is not of one payer to one payee")
    settled = {
        result.claim_id: sum(x.hi - x.lo for x in result.outcomes if x.state == o.SETTLED)
        for result in slip.receipt.results
    }
    claims = tuple((object_id(claim), settled[object_id(claim)]) for claim in slip.deposit.claims)
    return Paid(
        payer=payers.pop(),
        payee=payees.pop(),
        claims=claims,
        fen=sum(fen for _, fen in claims),
        time=slip.receipt.time,
        nonce=slip.deposit.nonce,
    )


def _invalid(why: str) -> SlipInvalid:
    return SlipInvalid(
        f"This slip proves no payment: {why.rstrip('.')}. Nothing was credited.",
        hint="Get it again from the till: chipcash pos export --format slips.",
    )

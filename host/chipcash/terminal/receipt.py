# SPDX-License-Identifier: Apache-2.0
"""What a payee verifies in the center's receipt for a deposit, before it believes that it has money."""

from __future__ import annotations

from chipcash import crypto
from chipcash.errors import ChipcashError
from chipcash.trust import Trust
from chipcash_wire import objects as o

__all__ = ["ReceiptError", "recoined", "verify_receipt"]


class ReceiptError(ChipcashError):
    """The answer is no receipt for this deposit; what was deposited is as open as before."""

    exit_code = 11


def verify_receipt(receipt: o.Receipt, deposit: o.Deposit, trust: Trust) -> None:
    """Verify that the center signed this receipt for exactly this deposit. Pure.

    Checked: signature, header, digest of the deposit, one result for each claim with the claim's very
    intervals in their order, and the center's signature on every title in it. Raises ReceiptError.
    """
    suite = crypto.suite(o.suite_of(deposit))
    if receipt.header != deposit.header or not trust.signed_by_center(receipt):
        raise _error("it is not signed by this network's registration center")
    if receipt.digest != suite.hash(deposit.encode()):
        raise _error("it is for another deposit")
    claims = {suite.hash(claim.message()): claim for claim in deposit.claims}
    results = {result.claim_id: result for result in receipt.results}
    if results.keys() != claims.keys() or len(receipt.results) != len(results):
        raise _error("its results are not those of the deposited claims")
    for claim_id, claim in claims.items():
        told = [(item.title_id, item.lo, item.hi) for item in results[claim_id].outcomes]
        if told != [(item.title_id, item.lo, item.hi) for item in claim.inputs]:
            raise _error("it speaks of other intervals than the claim")
    for title in receipt.titles:
        if title.header != deposit.header or not trust.signed_by_center(title):
            raise _error("a title in it is not signed by the registration center")


def recoined(receipt: o.Receipt, payee: bytes) -> o.Title | None:
    """The title of the fresh coin that a deposit's settled intervals became, filling it from fen 0 on in the
    order of the deposit; None if they stayed on their coins (protocols/spec/center.md, Recoining).

    For a deposit all of whose claims are the payee's, and new to the center.
    """
    settled = sum(
        item.hi - item.lo
        for result in receipt.results
        for item in result.outcomes
        if item.state == o.SETTLED
    )
    for title in receipt.titles:
        # No title but the first of a coin has epoch 1, and nobody is paid with an issued coin's first.
        if (title.epoch, title.owner, title.amount) == (1, payee, settled):
            return title
    return None


def _error(why: str) -> ReceiptError:
    return ReceiptError(
        f"The center's answer to a deposit is not accepted: {why}. No payment changed its state.",
        hint="Synchronise again; if it stays so, tell the operator of the registration center.",
    )

# SPDX-License-Identifier: Apache-2.0
"""What a payee verifies in the center's receipt for a deposit, before it believes that it has money."""

from __future__ import annotations

from collections.abc import Sequence

from chipcash import crypto
from chipcash.errors import ChipcashError
from chipcash.trust import Trust
from chipcash_wire import objects as o

__all__ = ["ReceiptError", "Stretch", "places", "verify_receipt"]


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


Stretch = tuple[bytes, int, int]
"""Fen of a coin: serial, lo, hi."""


def places(receipt: o.Receipt, payee: bytes, settled: Sequence[Stretch]) -> list[list[Stretch]]:
    """Where money is now that a deposit settled for a payee (protocols/spec/center.md, Recoining).

    settled: what of which coins, in the order of the deposit. It stayed on its coin, or fills the fresh coins
    of the receipt. Where a center of several ledgers made several, which fen went into which is no matter:
    they are filled one after the other.
    """
    titles = [title for title in receipt.titles if title.owner == payee]
    stayed = [(title.serial, title.lo, title.hi) for title in titles if title.epoch > 1]
    fresh = [(title.serial, 0, title.amount) for title in titles if title.epoch == 1]
    found = []
    for serial, lo, hi in settled:
        if not fresh or any(
            serial == of and start <= lo and hi <= end for of, start, end in stayed
        ):
            found.append([(serial, lo, hi)])
            continue
        here: list[Stretch] = []
        left = hi - lo
        while left and fresh:
            of, start, end = fresh.pop(0)
            take = min(left, end - start)
            here.append((of, start, start + take))
            left -= take
            if start + take < end:
                fresh.insert(0, (of, start + take, end))
        if left:  # of a claim that an earlier deposit had settled: its title is not to be told here
            here.append((serial, hi - left, hi))
        found.append(here)
    return found


def _error(why: str) -> ReceiptError:
    return ReceiptError(
        f"The center's answer to a deposit is not accepted: {why}. No payment changed its state.",
        hint="Synchronise again; if it stays so, tell the operator of the registration center.",
    )

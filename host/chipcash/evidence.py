# SPDX-License-Identifier: Apache-2.0
"""Evidence of repeat payment, checkable by anyone who has the network's public file."""

from __future__ import annotations

from dataclasses import dataclass

from chipcash.errors import ChipcashError
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["EvidenceFacts", "EvidenceInvalid", "verify_evidence"]


class EvidenceInvalid(ChipcashError):
    """The evidence proves nothing. reason: network, title, same-claim, intervals or signature."""

    exit_code = 17

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(
            f"This proves no repeat payment: {message}.",
            hint="Do not accuse anybody because of it.",
            reason=reason,
        )
        self.reason = reason


@dataclass(frozen=True)
class EvidenceFacts:
    """What valid evidence proves: payer signed both claims for the fen [lo, hi) of one title.

    payer: public key, 33 bytes; title_id, claim_ids: 32 bytes each; serial: of the coin, 16 bytes;
    lo, hi: the interval that both claims spend, fen, hi not included.
    """

    payer: bytes
    title_id: bytes
    serial: bytes
    lo: int
    hi: int
    claim_ids: tuple[bytes, bytes]


def verify_evidence(evidence: o.Evidence, trust: Trust) -> EvidenceFacts:
    """Check evidence under the network's keys. Raises EvidenceInvalid with the first reason it fails.

    Checked: headers; the title is signed by the center; the claims differ; both spend that title within
    its bounds and overlap there; both are signed by the title's owner.
    """
    title = evidence.title
    first, second = evidence.claims
    if not all(trust.accepts(obj.header) for obj in (evidence, title, first, second)):
        raise EvidenceInvalid("network", "it is not of this network, version and suite")
    if not trust.signed_by_center(title):
        raise EvidenceInvalid("title", "the title is not signed by the registration center")
    title_id = object_id(title)
    ids = (object_id(first), object_id(second))
    if ids[0] == ids[1]:
        raise EvidenceInvalid("same-claim", "both claims are the same one")
    spent = [
        item for claim in (first, second) for item in claim.inputs if item.title_id == title_id
    ]
    if len(spent) != 2 or not any(item.title_id == title_id for item in first.inputs):
        raise EvidenceInvalid("intervals", "the claims do not both spend this title")
    lo, hi = max(item.lo for item in spent), min(item.hi for item in spent)
    if lo >= hi:
        raise EvidenceInvalid("intervals", "the claims spend different parts of the title")
    if any(item.lo < title.lo or item.hi > title.hi for item in spent):
        raise EvidenceInvalid("intervals", "a claim exceeds the title")
    if not all(trust.signed_by(claim, title.owner) for claim in (first, second)):
        raise EvidenceInvalid("signature", "a claim is not signed by the title's owner")
    return EvidenceFacts(title.owner, title_id, title.serial, lo, hi, ids)

# SPDX-License-Identifier: Apache-2.0
"""What the staff's pages show of the ledger: from ids to the values that their templates take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chipcash.center.errors import CenterRefused
from chipcash.center.inquiry import Inquiry, Moment
from chipcash.center.staff import drawing
from chipcash.center.staff.drawing import draw, letters
from chipcash.center.staff.life import Life
from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["FILTERS", "Views"]

_ROWS = 100
"""Rows of a table on one page."""


@dataclass(frozen=True)
class _Proof:
    """A piece of evidence as a page shows it. problem: why it proves nothing, "" if it does; signatures: of
    the title by the center, of both claims by its owner, each as verified just now."""

    digest: str
    title_id: str
    title: o.Title
    claims: tuple[o.Claim, ...]
    ids: tuple[str, ...]
    parts: tuple[tuple[int, int], ...]
    lo: int
    hi: int
    problem: str
    signatures: tuple[bool, ...]


class Views:
    """The ledger as pages show it. Methods raise CenterRefused for what it does not know, LedgerError where
    it contradicts itself."""

    def __init__(self, inquiry: Inquiry, trust: Trust) -> None:
        self.inquiry = inquiry
        self.trust = trust

    def coin(self, serial: bytes, page: int, part: int) -> dict[str, Any]:
        """A coin's page. page, part: which of its moves, and which of what it is now, from 1."""
        life = Life(self.inquiry.coin(serial))
        pages = max(1, -(-len(life.moves) // _ROWS))
        page = min(max(page, 1), pages)
        parts = max(1, -(-len(life.now) // _ROWS))
        part = min(max(part, 1), parts)
        moves = life.moves[(page - 1) * _ROWS : page * _ROWS]
        # The whole, and if it has more moves than a page, what this page tells.
        whole = draw(life, 0, life.steps)
        detail = None
        if pages > 1:
            first, last = life.step_of(moves[0].number), life.step_of(moves[-1].number)
            # Near enough to be seen: only what they touch.
            lo, hi = min(move.lo for move in moves), max(move.hi for move in moves)
            detail = draw(life, first - 1, last, lo, hi)
        return {
            "life": life,
            "name": {key: letters(at) for at, key in enumerate(life.holders)},
            "colour": {key: at % drawing.COLOURS for at, key in enumerate(life.holders)},
            "redeemed": sum(x.hi - x.lo for x in life.now if x.title is None and not x.recoined),
            "recoined": sum(x.hi - x.lo for x in life.now if x.recoined),
            "sources": life.made_of,
            "whole": whole,
            "detail": detail,
            "width": drawing.WIDTH,
            "height": drawing.HEIGHT,
            "moves": moves,
            "page": page,
            "pages": pages,
            "pieces": life.now[(part - 1) * _ROWS : part * _ROWS],
            "part": part,
            "parts": parts,
            "unmoved": [
                (claim_id.hex(), at) for claim_id, at in self.inquiry.unmoved(serial, _ROWS)
            ],
        }

    def title(self, title_id: bytes) -> dict[str, Any]:
        """A title's page: what it says, what is left of it, and what left it."""
        title = self.inquiry.title(title_id)
        life = Life(self.inquiry.coin(title.serial))
        ident = title_id.hex()
        left = [move for move in life.moves if move.title == ident]
        return {
            "title_id": ident,
            "title": title,
            "signed": self.trust.signed_by_center(title),
            "live": [piece for piece in life.now if piece.title == ident][:_ROWS],
            "live_fen": sum(piece.hi - piece.lo for piece in life.now if piece.title == ident),
            "made": [move for move in life.moves if move.new_title == ident][:_ROWS],
            "left": left[:_ROWS],
            "more": max(0, len(left) - _ROWS),
            "issued": life.issued,
        }

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """A claim's page."""
        return {"claim": self.inquiry.claim(claim_id)}

    def disputes(self, before: Moment) -> dict[str, Any]:
        """The list of claims that repeated a payment, newest first, those before a moment."""
        found = self.inquiry.repeats(before, _ROWS)
        return {
            "rows": [(each.moment[1].hex(), each) for each in found],
            "older": found[-1].moment if len(found) == _ROWS else None,
        }

    def dispute(self, claim_id: bytes) -> dict[str, Any]:
        """A dispute's page: the later claim, what became of it, and the evidence, verified now."""
        claim = self.inquiry.claim(claim_id)
        payer = bytes.fromhex(claim["payer"])
        entry = self.inquiry.listed(payer)
        return {
            "claim": claim,
            "proofs": [self._proof(bytes.fromhex(digest)) for digest in claim["evidence"]],
            "listed": entry,
            "listed_signed": entry is not None and self.trust.signed_by_center(entry),
        }

    def _proof(self, digest: bytes) -> _Proof:
        evidence = self.inquiry.evidence(digest)
        title_id = object_id(evidence.title)
        parts = tuple(
            (item.lo, item.hi)
            for claim in evidence.claims
            for item in claim.inputs
            if item.title_id == title_id
        )
        problem = ""
        try:
            verify_evidence(evidence, self.trust)
        except EvidenceInvalid as error:
            problem = error.reason
        return _Proof(
            digest.hex(),
            title_id.hex(),
            evidence.title,
            evidence.claims,
            tuple(object_id(claim).hex() for claim in evidence.claims),
            parts,
            max((lo for lo, _ in parts), default=0),
            min((hi for _, hi in parts), default=0),
            problem,
            (
                self.trust.signed_by_center(evidence.title),
                *(self.trust.signed_by(claim, evidence.title.owner) for claim in evidence.claims),
            ),
        )

    def holder(self, key: bytes, before: Moment) -> dict[str, Any]:
        """A key's page: its titles, its card, its entry of the blacklist. Refused: nothing is known of it."""
        found = self.inquiry.titles_ever(key, before, _ROWS)
        card, listed = self.inquiry.card(key), self.inquiry.listed(key)
        if not found and card is None and listed is None:
            raise CenterRefused("unknown", "The center knows no such key.", status=404)
        return {
            "key": key.hex(),
            "card": card,
            "listed": listed,
            "rows": [(each.moment[1].hex(), each.title, each.live) for each in found],
            "older": found[-1].moment if len(found) == _ROWS else None,
        }


def _yuan(fen: int) -> str:
    return f"{fen // 100:,}.{fen % 100:02d}"


def _whole(number: int) -> str:
    return f"{number:,}"


def _utc(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # objects hold times up to the year 36812
        return f"{seconds} s"


FILTERS: dict[str, Callable[..., str]] = {
    "yuan": _yuan,
    "whole": _whole,
    "utc": _utc,
}
"""How templates write fen, other numbers and times."""

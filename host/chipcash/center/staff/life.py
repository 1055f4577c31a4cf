# SPDX-License-Identifier: Apache-2.0
"""A coin's whole life as a partition over time, from what the ledger tells of it (Inquiry.coin).

Time is counted in *moves*: what the center registered on this coin, in order. Moves that make one title, or
redeem for one claim, happened at once and are one *step*. Before the first step all of [0, amount) is under
the first title; each step takes intervals out of titles and puts them under a new one, redeems them, or makes
them into another coin.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from chipcash.center.batch import broken

__all__ = ["Cell", "Life", "Move", "Piece"]

_LO = attrgetter("lo")


@dataclass(frozen=True)
class Move:
    """[lo, hi) leaves a title. number: from 1; time: seconds since 1970; event: `settled`, `reclaimed`,
    `redeemed` or `recoined`; claim: None where an expired title was renewed; new_title, to: None where it was
    redeemed; new_serial: of the coin that it became, where it did. Ids and keys in hex.
    """

    number: int
    time: int
    event: str
    lo: int
    hi: int
    title: str
    payer: str
    claim: str | None
    new_title: str | None
    to: str | None
    new_serial: str | None


@dataclass(frozen=True)
class Piece:
    """[lo, hi) of the coin, as it is at one moment: under a title, else redeemed or recoined."""

    lo: int
    hi: int
    title: str | None
    holder: str | None
    recoined: bool = False


@dataclass(frozen=True)
class Cell:
    """One or several neighbouring pieces that are drawn as one. holder: None where it is redeemed, recoined,
    or where the pieces have several; pieces: how many they are; title: of a single one."""

    lo: int
    hi: int
    pieces: int
    holder: str | None
    title: str | None
    redeemed: bool
    recoined: bool

    @property
    def mixed(self) -> bool:
        """Whether its pieces have different holders, or fates."""
        return self.holder is None and not self.redeemed and not self.recoined


class Life:
    """A coin's life. coin: what Inquiry.coin() answers. Raises LedgerError if that contradicts itself.

    holders: keys in hex, in the order in which they first got some of the coin; made_of: what of other coins
    it was made of, as that answer has it, nothing where it was issued.
    """

    def __init__(self, coin: dict[str, Any]) -> None:
        self.serial: str = coin["serial"]
        self.amount: int = coin["amount_fen"]
        issued, *moves = coin["history"]
        self.issued: int = issued["time"]
        self.made_of: list[dict[str, Any]] = issued.get("of", [])
        self.moves = [
            Move(
                at, x["time"], x["event"], x["lo"], x["hi"], x["title_id"], x["from"],
                x["claim_id"], x["new_title_id"], x["to"], x.get("new_serial"),
            )
            for at, x in enumerate(moves, 1)
        ]  # fmt: skip
        self.ends = _steps(self.moves)
        self.holders = list(
            dict.fromkeys([issued["to"], *(move.to for move in self.moves if move.to is not None)])
        )
        self._first = Piece(0, self.amount, self._first_title(coin), issued["to"])
        self.now = _joined(
            Piece(x["lo"], x["hi"], x["title_id"], x["owner"], x["state"] == "recoined")
            for x in coin["partition"]
        )
        if list(self.states([self.steps])) != [self.now]:
            raise broken(bytes.fromhex(self.serial), "its history does not lead to its slices")

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.ends)

    def step_of(self, number: int) -> int:
        """The step, from 1, that a move is part of."""
        return bisect_right(self.ends, number - 1) + 1

    def states(self, steps: Sequence[int]) -> Iterator[list[Piece]]:
        """The partition after each of these steps, which must rise; 0 is before the first."""
        los, pieces = [0], [self._first]
        done = 0
        for step in steps:
            end = self.ends[step - 1] if step else 0
            for move in self.moves[done:end]:
                self._take(los, pieces, move)
            done = end
            yield list(pieces)

    def cells(self, steps: Sequence[int], lo: int, hi: int, least: int) -> Iterator[list[Cell]]:
        """As states(), of the fen [lo, hi) only, with pieces of fewer than `least` fen joined to neighbours
        that are as small."""
        for pieces in self.states(steps):
            cells: list[Cell] = []
            small: list[Piece] = []
            first = bisect_right(pieces, lo, key=_LO) - 1
            for piece in pieces[first : bisect_left(pieces, hi, key=_LO)]:
                if piece.lo < lo or hi < piece.hi:
                    piece = replace(piece, lo=max(piece.lo, lo), hi=min(piece.hi, hi))
                if piece.hi - piece.lo < least:
                    small.append(piece)
                    continue
                if small:
                    cells.append(_cell(small))
                    small = []
                cells.append(_cell([piece]))
            if small:
                cells.append(_cell(small))
            yield cells

    def _first_title(self, coin: dict[str, Any]) -> str | None:
        """The coin's first title: the one that the first move leaves, or that all is still under."""
        if self.moves:
            return self.moves[0].title
        title: str | None = coin["partition"][0]["title_id"]
        return title

    def _take(self, los: list[int], pieces: list[Piece], move: Move) -> None:
        """Cut a move out of the piece that holds it."""
        at = bisect_right(los, move.lo) - 1
        old = pieces[at]
        if old.title != move.title or old.holder != move.payer or old.hi < move.hi:
            raise broken(bytes.fromhex(self.serial), f"its move {move.number} left no live slice")
        if move.new_serial is None:
            new = [Piece(move.lo, move.hi, move.new_title, move.to)]
        else:
            new = [Piece(move.lo, move.hi, None, None, recoined=True)]
        if old.lo < move.lo:
            new.insert(0, Piece(old.lo, move.lo, old.title, old.holder))
        if move.hi < old.hi:
            new.append(Piece(move.hi, old.hi, old.title, old.holder))
        # What becomes one title touches; so may what was redeemed.
        first, last = max(0, at - 1), min(len(pieces), at + 2)
        new = _joined([*pieces[first:at], *new, *pieces[at + 1 : last]])
        pieces[first:last] = new
        los[first:last] = [piece.lo for piece in new]


def _steps(moves: Sequence[Move]) -> list[int]:
    """How many moves were done after each step."""
    ends: list[int] = []
    for at, move in enumerate(moves, 1):
        if at > 1:
            before = moves[at - 2]
            if move.new_title is not None:
                same = move.new_title == before.new_title
            else:
                same = before.new_title is None and move.claim == before.claim
            if same:
                ends.pop()
        ends.append(at)
    return ends


def _joined(pieces: Any) -> list[Piece]:
    """Neighbours under one title, both redeemed or both recoined, as one piece."""
    found: list[Piece] = []
    for piece in pieces:
        if found and replace(found[-1], lo=piece.lo, hi=piece.hi) == piece:
            piece = replace(piece, lo=found.pop().lo)
        found.append(piece)
    return found


def _cell(pieces: Sequence[Piece]) -> Cell:
    titles = {piece.title for piece in pieces}
    holders = {piece.holder for piece in pieces}
    gone = titles == {None}
    recoined = {piece.recoined for piece in pieces}
    return Cell(
        pieces[0].lo,
        pieces[-1].hi,
        len(pieces),
        holders.pop() if len(holders) == 1 else None,
        titles.pop() if len(titles) == 1 else None,
        gone and recoined == {False},
        gone and recoined == {True},
    )

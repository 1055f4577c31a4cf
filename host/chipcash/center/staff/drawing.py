# SPDX-License-Identifier: Apache-2.0
"""A coin's life as boxes: fen from top to bottom, steps from left to right, a box for what stays the same.

Edges are whole hundredths of the drawing's unit, each computed in one way from its fen or its column, so
that boxes which touch in the ledger share an edge, and together they cover the drawing exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chipcash.center.staff.life import Cell, Life, Move

__all__ = ["COLOURS", "COLUMNS", "HEIGHT", "WIDTH", "Box", "Drawing", "Mark", "draw", "letters"]

WIDTH = 1000
HEIGHT = 480
COLUMNS = 120
"""Most columns: where there are more steps, one column stands for several."""
ROWS = 128
"""A piece that is thinner than this part of the height is joined with neighbours as thin."""
COLOURS = 12
"""Colours for holders; the next ones begin again."""
_MARKS = 400
"""Most moves that are marked one by one."""
_LABEL_WIDTH, _LABEL_HEIGHT = 16, 13


@dataclass(frozen=True)
class Box:
    """A cell as long as it does not change. x, y, width, height: in units, as SVG writes them; first, last:
    the steps after which it is so; colour: of its holder, -1 if it has none; label: its holder's letters, if
    they fit."""

    cell: Cell
    x: str
    y: str
    width: str
    height: str
    first: int
    last: int
    colour: int
    letters: str
    label: bool


@dataclass(frozen=True)
class Mark:
    """A move, at its place: a line of this height at x, y."""

    move: Move
    x: str
    y: str
    height: str


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn of steps `first` to `last`. each: steps that a column stands for, at most;
    joined: boxes that stand for several pieces; ticks: x and step of some columns; fen: y and fen of some
    heights."""

    boxes: tuple[Box, ...]
    marks: tuple[Mark, ...]
    first: int
    last: int
    each: int
    joined: int
    ticks: tuple[tuple[str, int], ...]
    fen: tuple[tuple[str, int], ...]
    holders: tuple[str, ...]


@dataclass(frozen=True)
class _Span:
    """The fen that are drawn: [lo, hi)."""

    lo: int
    hi: int

    def y(self, fen: int) -> int:
        """Where a fen begins."""
        return (fen - self.lo) * HEIGHT * 100 // (self.hi - self.lo)

    def some(self) -> list[int]:
        """Fen that are written beside the drawing."""
        return [self.lo + part * (self.hi - self.lo) // 4 for part in range(5)]


def letters(at: int) -> str:
    """A name for the holder of this number, from 0: A, B, ..., Z, AA, AB, ..."""
    found = ""
    at += 1
    while at:
        at, rest = divmod(at - 1, 26)
        found = chr(65 + rest) + found
    return found


def draw(life: Life, first: int, last: int, lo: int = 0, hi: int | None = None) -> Drawing:
    """The boxes of a coin's fen [lo, hi), all if that is left out, between two steps, both of them included;
    0 is its issue."""
    span = _Span(lo, life.amount if hi is None else hi)
    count = last - first + 1
    columns = min(count, COLUMNS)
    # The last step of each column: that is what it shows.
    shown = [first - 1 + (at + 1) * count // columns for at in range(columns)]
    least = -(-(span.hi - span.lo) // ROWS)
    number = {holder: at for at, holder in enumerate(life.holders)}

    def box(cell: Cell, start: int, end: int) -> Box:
        x, right = _x(start, columns), _x(end, columns)
        y, bottom = span.y(cell.lo), span.y(cell.hi)
        at = -1 if cell.holder is None else number[cell.holder]
        return Box(
            cell,
            _units(x),
            _units(y),
            _units(right - x),
            _units(bottom - y),
            first if start == 0 else shown[start - 1] + 1,
            shown[end - 1],
            at % COLOURS if at >= 0 else -1,
            letters(at) if at >= 0 else "",
            at >= 0 and right - x >= 100 * _LABEL_WIDTH and bottom - y >= 100 * _LABEL_HEIGHT,
        )

    boxes: list[Box] = []
    standing: dict[Cell, int] = {}
    for column, cells in enumerate(life.cells(shown, span.lo, span.hi, least)):
        now = set(cells)
        boxes += [box(cell, start, column) for cell, start in standing.items() if cell not in now]
        standing = {cell: standing.get(cell, column) for cell in cells}
    boxes += [box(cell, start, columns) for cell, start in standing.items()]
    marks = _marks(life, shown, span) if columns == count else ()
    seen = {found.cell.holder for found in boxes}
    return Drawing(
        tuple(boxes),
        tuple(marks),
        first,
        last,
        -(-count // columns),
        sum(found.cell.pieces > 1 for found in boxes),
        tuple((_units(_x(at, columns)), shown[at]) for at in _some(columns)),
        tuple((_units(span.y(fen)), fen) for fen in span.some()),
        tuple(holder for holder in life.holders if holder in seen),
    )


def _marks(life: Life, shown: Sequence[int], span: _Span) -> Sequence[Mark]:
    """The moves that lead from each of these steps to the next, which follow one another."""
    found = []
    for column, step in enumerate(shown[1:], 1):
        begin = life.ends[step - 2] if step > 1 else 0
        for move in life.moves[begin : life.ends[step - 1]]:
            if move.hi <= span.lo or span.hi <= move.lo:
                continue
            y = span.y(max(move.lo, span.lo))
            height = span.y(min(move.hi, span.hi)) - y
            found.append(Mark(move, _units(_x(column, len(shown))), _units(y), _units(height)))
            if len(found) > _MARKS:
                return ()
    return found


def _some(columns: int) -> range:
    """Columns whose step is written below them."""
    return range(0, columns, -(-columns // 20))


def _x(column: int, columns: int) -> int:
    return column * WIDTH * 100 // columns


def _units(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}"

# SPDX-License-Identifier: Apache-2.0
"""A coin's life as it is drawn: what the ledger said at each moment, each fen once, whatever is merged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.staff import drawing
from chipcash.center.staff.drawing import HEIGHT, WIDTH, Drawing, draw, letters
from chipcash.center.staff.life import Life, Piece
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import DAY, World

NAMES = ("alice", "bob", "shop")
PAYEES = (*NAMES, "issuer")


def hundredths(text: str) -> int:
    """A length of the drawing, exactly."""
    whole, _, part = text.partition(".")
    assert len(part) == 2
    return int(whole) * 100 + int(part)


def assert_covers(found: Drawing, hi: int, lo: int = 0) -> None:
    """At every moment the boxes there cover the drawing, and [lo, hi), without gap or overlap."""
    boxes = [
        (
            hundredths(x.x),
            hundredths(x.x) + hundredths(x.width),
            hundredths(x.y),
            hundredths(x.y) + hundredths(x.height),
            x,
        )
        for x in found.boxes
    ]
    edges = sorted({edge for left, right, *_ in boxes for edge in (left, right)})
    assert (edges[0], edges[-1]) == (0, 100 * WIDTH)
    for left, right in pairwise(edges):
        there = sorted(
            (x for x in boxes if x[0] <= left and right <= x[1]), key=lambda x: x[4].cell.lo
        )
        # No box begins or ends between two edges, so these are all that there are.
        assert sum(x[0] < right and left < x[1] for x in boxes) == len(there)
        y, fen = 0, lo
        step = there[0][4].first
        for _, _, top, bottom, box in there:
            assert (top, box.cell.lo) == (y, fen) and bottom >= top and box.cell.hi > fen
            y, fen = bottom, box.cell.hi
            step = max(step, box.first)
        assert (y, fen) == (100 * HEIGHT, hi)
        assert all(box.first <= step <= box.last for *_, box in there)
    assert min(x.first for x in found.boxes) == found.first
    assert max(x.last for x in found.boxes) == found.last


def holdings(pieces: Sequence[Piece]) -> list[str | None]:
    return [piece.holder for piece in pieces for _ in range(piece.lo, piece.hi)]


class Past:
    """A random history of one coin, and who held which fen of it after each registration."""

    def __init__(self, amount: int) -> None:
        self.world = World()
        first = self.world.issue(amount, "alice")
        self.serial = first.serial
        self.titles = [first]
        self.claims: list[o.Claim] = []
        self.moments: dict[int, list[str | None]] = {}
        self.note()

    def coin(self) -> dict[str, Any]:
        return self.world.center.coin(self.serial)

    def note(self) -> None:
        """Remember who has what, by the number of moves."""
        self.moments[len(self.coin()["history"]) - 1] = self.world.holdings(self.serial)

    def pay(self, data: st.DataObject) -> o.Claim:
        """A claim on some of a title, spent before or not."""
        title = data.draw(st.sampled_from(self.titles))
        owner = next(name for name in NAMES if self.world.public(name) == title.owner)
        lo = data.draw(st.integers(title.lo, title.hi - 1))
        hi = data.draw(st.integers(lo + 1, title.hi))
        claim = self.world.claim(owner, data.draw(st.sampled_from(PAYEES)), [(title, lo, hi)])
        self.claims.append(claim)
        return claim

    def go_on(self, data: st.DataObject) -> None:
        """Something happens."""
        what = data.draw(st.sampled_from(["pay", "pay", "pay", "reclaim", "renew"]))
        titles: tuple[o.Title, ...] = ()
        if what == "pay":
            several = data.draw(st.integers(1, 3))
            titles = self.world.settle(*[self.pay(data) for _ in range(several)]).titles
        else:
            self.world.now += data.draw(st.sampled_from([0, 3 * DAY, 400 * DAY]))
            title = data.draw(st.sampled_from(self.titles))
            if what == "reclaim":
                request = self.world.reclaim(self.pay(data))
            else:
                request = self.world.reclaim(title_id=object_id(title))
            try:
                titles = self.world.center.reclaim(request).titles
            except CenterRefused:
                return
        known = {object_id(title) for title in self.titles}
        self.titles += [title for title in titles if object_id(title) not in known]
        self.note()


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 12), st.data())
def test_the_drawing_is_the_ledgers_past(amount: int, things: int, data: st.DataObject) -> None:
    past = Past(amount)
    for _ in range(things):
        past.go_on(data)
    life = Life(past.coin())
    assert_covers(draw(life, 0, life.steps), amount)
    first = data.draw(st.integers(0, life.steps))
    last = data.draw(st.integers(first, life.steps))
    found = draw(life, first, last)
    assert_covers(found, amount)
    lo = data.draw(st.integers(0, amount - 1))
    hi = data.draw(st.integers(lo + 1, amount))
    part = draw(life, first, last, lo, hi)
    assert_covers(part, hi, lo)
    assert [x.move for x in part.marks] == [
        x.move for x in found.marks if x.move.lo < hi and lo < x.move.hi
    ]
    after = {0: 0, **dict(enumerate(life.ends, 1))}
    for step, pieces in enumerate(life.states(range(life.steps + 1))):
        assert [piece.lo for piece in pieces] == [0, *[piece.hi for piece in pieces[:-1]]]
        if after[step] in past.moments:
            assert holdings(pieces) == past.moments[after[step]]
    # What one settlement did happened at once: no moment of the ledger lies between two steps.
    assert past.moments.keys() <= set(after.values())
    for box in found.boxes:
        if box.cell.pieces == 1 and box.cell.title is not None:
            states = list(life.states(range(box.first, box.last + 1)))
            assert all(
                any((p.lo, p.hi, p.title) == (box.cell.lo, box.cell.hi, box.cell.title) for p in s)
                for s in states
            )
    moves = [move for move in life.moves if first < life.step_of(move.number) <= last]
    assert [mark.move for mark in found.marks] == moves
    past.world.center.close()


def long_coin(moves: int, holders: int = 37) -> dict[str, Any]:
    """What the ledger would tell of a coin from whose first title so many payments were made."""
    owner = [f"{at:066x}" for at in range(holders)]
    amount = 7 * moves + 13
    return {
        "serial": "ab" * 16,
        "amount_fen": amount,
        "partition": [
            {"lo": 7 * at, "hi": 7 * at + 7, "state": "live", "title_id": f"n{at}",
             "owner": owner[at % holders]}
            for at in range(moves)
        ]
        + [{"lo": 7 * moves, "hi": amount, "state": "live", "title_id": "t", "owner": owner[0]}],
        "history": [{"time": 0, "event": "issued", "lo": 0, "hi": amount, "to": owner[0]}]
        + [
            {"time": at, "event": "settled", "lo": 7 * at, "hi": 7 * at + 7, "title_id": "t",
             "claim_id": f"c{at}", "from": owner[0], "new_title_id": f"n{at}",
             "to": owner[at % holders]}
            for at in range(moves)
        ],
    }  # fmt: skip


@pytest.mark.parametrize("holders", [1, 37])
def test_a_coin_of_ten_thousand_moves(holders: int) -> None:
    """It is drawn at once, small, and says what it leaves out."""
    coin = long_coin(10_000, holders)
    start = time.process_time()
    life = Life(coin)
    whole, detail = draw(life, 0, 10_000), draw(life, 5_000, 5_100, 35_000, 35_700)
    assert time.process_time() - start < 2
    assert_covers(whole, life.amount)
    assert_covers(detail, 35_700, 35_000)
    assert len(whole.boxes) < 2_000 and whole.joined
    assert len(detail.boxes) < 400 and (holders == 1 or not detail.joined)
    assert whole.each == 84 and not whole.marks
    assert detail.each == 1 and len(detail.marks) == 100
    merged = {box.cell.holder for box in whole.boxes if box.cell.pieces > 1}
    assert merged == ({"0" * 66} if holders == 1 else {None})
    assert not any(box.cell.redeemed for box in whole.boxes)


def test_at_its_worst_a_drawing_is_still_small() -> None:
    """Every other piece is just thick enough to be drawn by itself."""
    coin = long_coin(1)
    thick, pairs = 100, drawing.ROWS - 10
    lo, moves, pieces = 0, [], []
    for at in range(pairs):
        for size in (thick, 1):
            new, to = f"n{lo}", f"{at % 50:066x}"
            moves.append((lo, lo + size, new, to))
            pieces.append(
                {"lo": lo, "hi": lo + size, "state": "live", "title_id": new, "owner": to}
            )
            lo += size
    amount = lo + 5
    coin["amount_fen"] = amount
    coin["partition"] = [
        *pieces, {"lo": lo, "hi": amount, "state": "live", "title_id": "t", "owner": "0" * 66}
    ]  # fmt: skip
    coin["history"] = [
        {"time": 0, "event": "issued", "lo": 0, "hi": amount, "to": "0" * 66},
        *[
            {"time": 1, "event": "settled", "lo": a, "hi": b, "title_id": "t", "claim_id": f"c{a}",
             "from": "0" * 66, "new_title_id": new, "to": to}
            for a, b, new, to in moves
        ],
    ]  # fmt: skip
    life = Life(coin)
    found = draw(life, 0, life.steps)
    assert_covers(found, amount)
    assert len(found.boxes) < drawing.COLUMNS * 2 * drawing.ROWS


@pytest.mark.parametrize(
    "broken",
    [
        {"lo": 1}, {"hi": 9}, {"title_id": "x"}, {"from": "x"}, {"to": "x"}, {"new_title_id": "x"},
    ],
)  # fmt: skip
def test_a_history_that_contradicts_the_ledger_is_not_drawn(broken: dict[str, Any]) -> None:
    coin = long_coin(3)
    Life(coin)
    coin["history"][1] |= broken
    with pytest.raises(LedgerError):
        Life(coin)


@pytest.mark.long
def test_ten_thousand_payments_in_a_ledger() -> None:
    """From the ledger to the drawing, for a coin that was paid out in so many pieces."""
    world = World()
    title = world.issue(20_000, "alice")
    for start in range(0, 20_000, 400):
        payees = [NAMES[at % 3] for at in range(200)]
        claims = [
            world.claim("alice", payee, [(title, start + 2 * at, start + 2 * at + 2)])
            for at, payee in enumerate(payees)
        ]
        world.settle(*claims)
    start_s = time.process_time()
    life = Life(world.center.coin(title.serial))
    found = draw(life, 0, life.steps)
    assert time.process_time() - start_s < 3
    assert len(life.moves) == 10_000
    assert_covers(found, 20_000)
    world.center.close()


def test_letters() -> None:
    assert [letters(at) for at in (0, 25, 26, 27, 51, 52, 701, 702)] == [
        "A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA",
    ]  # fmt: skip
    assert len({letters(at) for at in range(5_000)}) == 5_000

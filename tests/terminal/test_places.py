# SPDX-License-Identifier: Apache-2.0
"""Where a payee finds what a deposit settled: every fen once, in the titles of the receipt."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.terminal import places
from chipcash_wire import objects as o
from tests.center.world import World

_CUTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(_CUTS, st.booleans())
def test_every_settled_fen_is_in_a_title_of_the_receipt(
    cuts: list[tuple[int, int]], twice: bool
) -> None:
    world = World()
    coins = [world.issue(30, "alice") for _ in range(3)]
    spans = [(coins[coin], 3 * at, 3 * at + 2 + at % 2) for coin, at in cuts]
    if not spans:
        return
    claims = [world.claim("alice", "shop", [span]) for span in spans]
    if twice:  # some of it is settled already: its title comes again, beside the new one
        world.settle(*claims[: len(claims) // 2 + 1])
    receipt = world.settle(*claims)
    settled = [(title.serial, lo, hi) for title, lo, hi in spans]
    found = places(receipt, world.public("shop"), settled)
    assert [sum(hi - lo for _, lo, hi in each) for each in found] == [
        hi - lo for _, lo, hi in settled
    ]
    fens = [(serial, fen) for each in found for serial, lo, hi in each for fen in range(lo, hi)]
    assert len(set(fens)) == len(fens)
    held = {(title.serial, fen) for title in receipt.titles for fen in range(title.lo, title.hi)}
    assert set(fens) == held
    world.center.close()


def test_somebody_elses_titles_are_no_place() -> None:
    world = World()
    one, two = world.issue(10, "alice"), world.issue(10, "alice")
    receipt = world.settle(world.claim("alice", "kiosk", [(one, 0, 4), (two, 0, 4)]))
    assert {title.epoch for title in receipt.titles} == {1}
    settled = [(one.serial, 0, 4)]
    assert places(receipt, world.public("shop"), settled) == [settled]
    assert receipt.results[0].outcomes[0].state == o.SETTLED
    world.center.close()

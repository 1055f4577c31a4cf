# SPDX-License-Identifier: Apache-2.0
"""Terminal rules: what the center signs, also over HTTP and with several ledgers, and where they are set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterError, CenterReplyInvalid
from chipcash.center.parameters import Parameters, TerminalLimits
from chipcash.center.registration import Center
from chipcash.center.service import Service
from chipcash.home import init
from chipcash_wire import objects as o
from tests.center.partitioned import Partitioned
from tests.center.world import World, trust


@pytest.mark.parametrize("kind", [Center, Partitioned])
def test_rules_are_signed_as_of_now(kind: type[Center]) -> None:
    world = World(center=kind)
    limits = TerminalLimits(per_payment=1, per_card=2, per_shift=3, in_all=4, pending_age=5)
    world.center.parameters = replace(world.center.parameters, terminal=limits, guarantee=7)
    for later in (0, 1000):
        world.now += later
        rules = world.center.rules()
        assert world.trust.signed_by_center(rules)
        assert (rules.time, rules.guarantee) == (world.now, 7)
        told = (rules.per_payment, rules.per_card, rules.per_shift, rules.in_all, rules.pending_age)
        assert told == (1, 2, 3, 4, 5) and rules.blacklist_age == limits.blacklist_age
    world.center.close()


def test_rules_over_http(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    with Service(world.center) as service:
        with CenterClient(service.url, world.trust) as client:
            assert client.rules().message() == world.center.rules().message()
        with CenterClient(service.url, trust("gm")) as other, pytest.raises(CenterReplyInvalid):
            other.rules()
    world.center.close()


def test_a_home_keeps_what_was_set(tmp_path: Path) -> None:
    home = init(tmp_path / "bank", "p256", b"TEST")
    assert home.parameters() == Parameters()
    chosen = replace(Parameters(), guarantee=0, terminal=TerminalLimits(per_card=30_000))
    chosen.save(home.parameters_file)
    assert home.parameters() == chosen
    center = home.center()
    rules = center.rules()
    assert (rules.per_card, rules.guarantee, rules.in_all) == (30_000, 0, 5_000_000)
    center.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"terminal": 5}',
        '{"grace": 1}',
        '{"terminal": {"per_coin": 1}}',
        '{"guarantee": -1}',
        '{"guarantee": true}',
        '{"terminal": {"per_card": 1.5}}',
        '{"terminal": {"pending_age": 4294967296}}',
        f'{{"terminal": {{"per_card": {o.MAX_AMOUNT + 1}}}}}',
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    """Rather than going by limits that nobody chose."""
    file = tmp_path / "parameters.json"
    file.write_text(text)
    with pytest.raises(CenterError, match="does not hold parameters"):
        Parameters.load(file)

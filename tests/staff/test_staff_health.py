# SPDX-License-Identifier: Apache-2.0
"""How a center is, asked of a real one: its ledger, its log, a witness that cosigns and one that does not."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from chipcash.center.client import CenterClient
from chipcash.center.publishing import LogWriter
from chipcash.center.service import Service
from chipcash.center.staff.health import Part, health
from chipcash.errors import ChipcashError
from chipcash.log.cosigning import Witness
from tests.center.test_publishing import KEY, new_log
from tests.center.world import World
from tests.log.test_witness import NOW, key, witness


def nobody() -> Sequence[Part]:
    raise ChipcashError("they do not answer")


def test_a_center_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    log = new_log(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        away = Witness(key("away").key, f"http://127.0.0.1:{unused.getsockname()[1]}/x")
    with (
        witness(tmp_path / "state", logs=(KEY.key,)) as bank,
        closing(world.center),
        LogWriter(world.center, log, [bank, away], interval=3600) as writer,
    ):
        service = Service(world.center, log=log)
        client = CenterClient(service.url, world.trust, timeout=5)
        with service:
            found = health(world.center, client.metrics)
            assert (found.facts, found.logged, found.lag, found.parts) == (0, 0, 0, None)
            assert dict(found.witnesses) == {away.key.name: 0, bank.key.name: 0}
            world.issue(100, "alice")
            assert health(world.center, client.metrics).lag == 2
            writer.publish()
            client.signed_time()
            found = health(world.center, client.metrics, lambda: [Part("a", "ok", 0, "m1")])
            assert (found.facts, found.lag) == (2, 0)
            assert dict(found.witnesses) == {away.key.name: 0, bank.key.name: NOW}
            assert ("signedTime", "", 1) in found.requests and found.seconds["signedTime"] > 0
            assert found.parts == [Part("a", "ok", 0, "m1")]
            assert not found.ledger_problem and not found.center_problem
            found = health(world.center, lambda: "no metrics {", nobody)
            assert found.center_problem and found.parts == [] and found.parts_problem
        found = health(world.center, client.metrics)  # it has ended
        assert found.center_problem and found.lag is None and found.facts == 2
        client.close()
    found = health(world.center, lambda: "")
    assert found.ledger_problem and found.facts is None and found.lag is None

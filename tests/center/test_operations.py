# SPDX-License-Identifier: Apache-2.0
"""What those who run a center watch."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from chipcash.center.http import OCTETS
from chipcash.center.publishing import LogWriter
from chipcash.center.service import Service
from chipcash_wire import objects as o
from tests.center.pg_server import Server
from tests.center.test_publishing import new_log
from tests.center.world import World


def samples(url: str) -> dict[tuple[str, ...], float]:
    """Samples by name and values of labels, in the order of the labels' names."""
    answer = httpx.get(f"{url}/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(answer.text)
        for sample in family.samples
    }


def test_what_happens_is_counted(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    title = world.issue(100, "mallory")
    log = new_log(tmp_path)
    with Service(world.center, log=log) as service, closing(log):
        for lo in (0, 50):
            deposit = world.deposit(
                world.claim("mallory", "shop", [(title, lo, lo + 10)]),
                world.claim("mallory", "kiosk", [(title, lo + 5, lo + 20)]),
            )
            answer = httpx.post(f"{service.url}/v1/deposits", content=deposit.encode())
            assert answer.headers["content-type"] == OCTETS and o.Receipt.decode(answer.content)
        assert httpx.post(f"{service.url}/v1/deposits", content=b"?").status_code == 400
        assert httpx.get(f"{service.url}/v1/coins/{bytes(16).hex()}").status_code == 404
        LogWriter(world.center, log).publish()
        assert httpx.get(f"{service.url}/health").json() == {"status": "ok"}
        assert httpx.get(f"{service.url}/ready").json() == {"status": "ok"}
        found = samples(service.url)
        assert found["chipcash_center_requests_total", "", "settle"] == 2
        assert found["chipcash_center_requests_total", "malformed", "settle"] == 1
        assert found["chipcash_center_requests_total", "unknown", "coin"] == 1
        assert found["chipcash_center_request_seconds_count", "settle"] == 3
        assert found["chipcash_center_intervals_total", "settled"] == 2
        assert found["chipcash_center_intervals_total", "disputed"] == 2
        assert found["chipcash_center_ledger_up",] == 1
        facts = found["chipcash_center_facts",]
        # coin and title; two deposits of two claims, each with a move, its title, evidence; one listing
        assert facts == found["chipcash_center_log_fact",] == 2 + 2 * 5 + 1
        text = httpx.get(f"{service.url}/metrics").text
        assert not any(world.public(name).hex() in text for name in ("mallory", "shop"))
    world.center.close()


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_a_ledger_that_is_away(path: str) -> None:
    server = Server()
    try:
        world = World(server.database("ledger"))
        with Service(world.center) as service:
            assert httpx.get(service.url + path).status_code == 200
            server.kill()
            answer = httpx.get(service.url + path, timeout=20)
            if path == "/ready":
                assert answer.status_code == 503 and answer.json()["error"] == "unavailable"
            elif path == "/metrics":
                assert samples(service.url)["chipcash_center_ledger_up",] == 0
            else:
                assert answer.status_code == 200
            server.start()
            # The first question after an outage may still meet a connection that is dead.
            assert 200 in [httpx.get(f"{service.url}/ready").status_code for _ in range(2)]
        world.center.close()
    finally:
        server.close()

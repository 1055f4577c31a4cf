# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL with a synchronous standby: the primary dies under load, the standby takes over, nothing is
lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psycopg
import pytest

from chipcash.center.service import Service
from chipcash.database import DatabaseError
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.pg_server import Server
from tests.center.world import World, states


class Pair:
    """A primary, its synchronous standby, and a world whose ledger is on whichever of them takes writes."""

    def __init__(self) -> None:
        self.primary = Server()
        url = self.primary.database("ledger")
        World(url).center.close()
        self.standby = Server(of=self.primary)
        self.primary.wait_for_standby()
        self.world = World(self.primary.failover_url("ledger", self.standby))

    def close(self) -> None:
        self.world.center.close()
        self.primary.close()
        self.standby.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_a_synchronous_standby(pair: Pair) -> None:
    """First the standby is away for a while, then the primary dies."""
    the_standby_is_away(pair)
    the_primary_dies(pair)


def the_standby_is_away(pair: Pair) -> None:
    """While the standby is away deposits wait, and the time is still told."""
    world = pair.world
    deposit = world.deposit(world.claim("alice", "kiosk", [(world.issue(10, "alice"), 0, 10)]))
    pair.standby.kill()
    with Service(world.center) as service, httpx.Client(base_url=service.url) as client:
        answers: list[httpx.Response] = []

        def ask() -> None:
            url = f"{service.url}/v1/deposits"
            answers.append(httpx.post(url, content=deposit.encode(), timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert client.get("/health").status_code == 200
            answer = client.get("/v1/time")
            assert answer.status_code == 200 and o.SignedTime.decode(answer.content)
            assert not answers
            time.sleep(0.1)
        pair.standby.start()
        asking.join(30)
        (told,) = answers
        assert states(o.Receipt.decode(told.content)) == [["settled"]]
    # It has it indeed.
    with psycopg.connect(pair.standby.url("ledger")) as connection:
        assert connection.execute("SELECT count(*) FROM deposits").fetchone() == (1,)


def the_primary_dies(pair: Pair) -> None:
    """Both sides are counted: what payees have receipts for, and what the new primary's ledger holds."""
    world = pair.world
    titles = [world.issue(10, "alice") for _ in range(250)]
    deposits = [world.deposit(world.claim("alice", "shop", [(title, 0, 10)])) for title in titles]
    receipts: dict[int, bytes] = {}
    some = threading.Event()

    def load(first: int) -> None:
        for at in range(first, len(deposits), 2):
            try:
                receipts[at] = world.center.settle(deposits[at]).encode()
            except DatabaseError:
                return
            if len(receipts) > 20:
                some.set()

    threads = [threading.Thread(target=load, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    assert some.wait(60)
    pair.primary.kill()
    for thread in threads:
        thread.join()
    assert 20 < len(receipts) < len(deposits), "it was killed too late to matter"
    pair.standby.promote()

    # What the payees were told is there before anybody asks again.
    with psycopg.connect(pair.standby.url("ledger")) as connection:
        kept = {
            bytes(digest): bytes(receipt)
            for digest, receipt in connection.execute("SELECT digest, receipt FROM deposits")
        }
    for at, receipt in receipts.items():
        assert kept[object_id(deposits[at])] == receipt
    # Besides them the one of before, and at most one of each thread that was under way.
    assert len(kept) <= 1 + len(receipts) + 2

    # The center goes on, over the same URL; whoever got no answer asks again.
    # The first requests may still meet connections to the one that died.
    for _ in (0, 1):
        with suppress(DatabaseError):
            world.center.settle(deposits[0])
    for at, deposit in enumerate(deposits):
        receipt = world.center.settle(deposit)
        assert states(receipt) == [["settled"]]
        digest = object_id(deposit)
        assert receipt.encode() == receipts.get(at, kept.get(digest, receipt.encode()))
    world.center.check()
    assert world.center.accounts()["owners"] == {
        world.public("shop").hex(): 2500,
        world.public("kiosk").hex(): 10,
    }
    with psycopg.connect(pair.standby.url("ledger")) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT claim) FROM spends").fetchone()
    assert row == (251, 251)

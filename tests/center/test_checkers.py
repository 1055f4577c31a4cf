# SPDX-License-Identifier: Apache-2.0
"""Deposits that are checked in processes of their own end as those that are not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from chipcash.center.batch import MAX_INTERVALS
from chipcash.center.bodies import join
from chipcash.center.errors import CenterRefused
from chipcash_wire import objects as o
from tests.center.world import World, dump, states


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "ledger.db"
    world = World(path)
    world.center.check_in(2)
    yield world
    world.center.close()


def _others() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def test_it_is_the_same_wherever_it_is_checked(world: World) -> None:
    titles = [world.issue(100, name) for name in ("alice", "bob", "mallory")]
    claims = [
        world.claim("alice", "shop", [(titles[0], 0, 10)]),
        world.claim("bob", "shop", [(titles[0], 10, 20)]),  # alice's money
        world.claim("bob", "kiosk", [(titles[1], 90, 100)]),
        world.claim("alice", "shop", [(titles[0], 5, 15)]),  # again
    ]
    forged = claims[0].signed(claims[2].signature or b"")
    deposit = world.deposit(forged, *claims)
    receipt = world.center.settle_body(join((deposit, *titles)))
    assert states(receipt) == [["invalid"], ["settled"], ["invalid"], ["settled"], ["disputed"]]
    assert world.center.settle_body(deposit.encode()) == receipt
    assert world.center.settle(deposit) == receipt  # as this process checks it
    assert len(world.center.blacklist()[0]) == 1
    world.center.check()


def test_a_ledger_in_memory_is_nobody_elses() -> None:
    world = World()
    with pytest.raises(ValueError, match="in a file or at a server"):
        world.center.check_in(2)
    world.center.close()


def test_refusals_come_from_there(world: World) -> None:
    title = world.issue(1000, "alice")
    claims = [
        world.claim("alice", "shop", [(title, at, at + 1)]) for at in range(MAX_INTERVALS + 1)
    ]
    elsewhere = o.Deposit(
        header=o.make_header(b"ELSE", title.header[5]), nonce=bytes(16), claims=claims[:1]
    )
    before = dump(world.center)
    for body, name, status in (
        (b"", "malformed", 400),
        (join((world.deposit(claims[0]), claims[0])), "malformed", 400),
        (elsewhere.encode(), "network", 400),
        (world.deposit(*claims).encode(), "too-large", 413),
    ):
        with pytest.raises(CenterRefused) as refused:
            world.center.settle_body(body)
        assert (refused.value.name, refused.value.status) == (name, status)
        assert refused.value.message and "othing" in refused.value.message
    assert dump(world.center) == before


def test_processes_that_are_killed_are_replaced(world: World) -> None:
    """Under load, again and again: each deposit is settled, once."""
    titles = [world.issue(100, "alice") for _ in range(4)]
    bodies = [
        world.deposit(
            *(world.claim("alice", "shop", [(title, at, at + 1)]) for title in titles)
        ).encode()
        for at in range(60)
    ]
    killed: set[int] = set()
    with ThreadPoolExecutor(3) as pool:
        receipts = []
        for at, receipt in enumerate(pool.map(world.center.settle_body, bodies)):
            receipts.append(receipt)
            if at in (10, 30):
                for child in multiprocessing.active_children():
                    killed.add(child.pid or 0)
                    child.kill()
    assert {state for receipt in receipts for (state,) in states(receipt)} == {"settled"}
    assert len(killed) >= 2 and killed.isdisjoint(_others())
    assert world.center.accounts()["owners"][world.public("shop").hex()] == 4 * len(bodies)
    world.center.check()
    world.center.close()
    assert _others() == []


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(x) for thread in threads for x in (thread / "children").read_text().split()]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_they_end_with_the_center(ending: signal.Signals, tmp_path: Path) -> None:
    """Also by Ctrl-C, which all of a terminal's programs get: nobody is shown a traceback."""
    ledger = str(tmp_path / "ledger.db")
    world = World(ledger)
    deposits = [
        world.deposit(world.claim("alice", "shop", [(world.issue(9, "alice"), 0, 9)])).encode()
        for _ in range(8)
    ]
    world.center.close()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.serving", ledger, "p256", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    with server, httpx.Client(timeout=60) as client:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        url = server.stdout.readline().strip()
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda x: client.post(f"{url}/v1/deposits", content=x), deposits)
            assert {answer.status_code for answer in answers} == {200}
        others = _children(server.pid)
        assert len(others) >= 2  # and the one that keeps count of what they share
        if ending == signal.SIGKILL:
            server.kill()
        else:
            for pid in others:
                os.kill(pid, ending)
            time.sleep(0.2)
            assert client.post(f"{url}/v1/deposits", content=deposits[0]).status_code == 200
            server.stdin.close()
        server.wait(10)
        until = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in others):
            assert time.monotonic() < until, "they are still there"
            time.sleep(0.05)
        assert "Traceback" not in server.stderr.read()

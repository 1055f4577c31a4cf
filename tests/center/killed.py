# SPDX-License-Identifier: Apache-2.0
"""A worker, a gateway or a move that kills itself at a point, as `kill -9` does: only a test's own processes
can. python -m tests.center.killed WHAT HOME POINT [...]; prints a line when it has begun.

The points lie around each step behind which something is durable, or somebody has been told.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from chipcash.center import worker
from chipcash.center.batch import Batch
from chipcash.center.gateway import Gateway
from chipcash.center.jetstream import JetStreamQueue
from chipcash.center.moving import move
from chipcash.center.service import Service
from chipcash.home import Home

WORKER = ("received", "settling", "committed", "replied", "acknowledged")
GATEWAY = ("asked", "queued", "settled", "storing", "stored")

_SKIP = 3
"""How often a point is passed before."""


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    """Die when a function is called for the fourth time."""
    _around(owner, name, lambda: None, kill)


def behind(owner: Any, name: str) -> None:
    """Die when it has returned for the fourth time."""
    _around(owner, name, kill, lambda: None)


def _around(owner: Any, name: str, last: Callable[[], None], first: Callable[[], None]) -> None:
    inner = getattr(owner, name)
    left = _SKIP

    def counted() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    if asyncio.iscoroutinefunction(inner):

        async def waiting(*values: Any, **named: Any) -> Any:
            dies = counted()
            if dies:
                first()
            result = await inner(*values, **named)
            if dies:
                await asyncio.sleep(0.05)  # what was sent is to leave
                last()
            return result

        setattr(owner, name, waiting)
        return

    def plain(*values: Any, **named: Any) -> Any:
        dies = counted()
        if dies:
            first()
        result = inner(*values, **named)
        if dies:
            last()
        return result

    setattr(owner, name, plain)


def run_worker(home: Home, point: str, *nodes: str) -> None:
    {
        "": lambda: None,
        "received": lambda: before(worker, "carry_out"),
        "settling": lambda: before(Batch, "write"),
        "committed": lambda: behind(worker, "carry_out"),
        "replied": lambda: before(Msg, "ack"),
        "acknowledged": lambda: behind(Msg, "ack"),
    }[point]()
    cluster = home.cluster()
    assert cluster is not None
    working = worker.Worker(
        cluster.access("worker"),
        nodes,
        lambda number, of, place: home.partition(number, of, cluster.storage(number, place)),
        home.log_key,
    )
    asyncio.run(working.run(lambda: print("works", flush=True)))


def run_gateway(home: Home, point: str, port: str) -> None:
    {
        "": lambda: None,
        "asked": lambda: before(JetStreamQueue, "ask"),
        "queued": lambda: behind(JetStreamContext, "publish"),
        "settled": lambda: behind(JetStreamQueue, "ask"),
        "storing": lambda: before(Gateway, "_store_receipts"),
        "stored": lambda: behind(Gateway, "settle"),
    }[point]()
    service = Service(home.center(), port=int(port))
    print(service.url, flush=True)
    service.run()


def run_move(home: Home, point: str, number: str, node: str) -> None:
    cluster = home.cluster()
    assert cluster is not None
    print("moves", flush=True)
    move(cluster, int(number), node, lambda name: kill() if name == point else None)


if __name__ == "__main__":
    what, directory, *rest = sys.argv[1:]
    {"worker": run_worker, "gateway": run_gateway, "move": run_move}[what](
        Home(Path(directory)), *rest
    )

# SPDX-License-Identifier: Apache-2.0
"""A center of several ledgers as it runs: NATS servers, two PostgreSQL nodes, workers, a gateway; a load of
deposits that are repeated until they are acknowledged; and a count of both sides at the end."""

from __future__ import annotations

import asyncio
import queue
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from chipcash import home
from chipcash.center import jetstream
from chipcash.center.cluster import Cluster, ClusterGateway
from chipcash.center.errors import CenterUnreachable
from chipcash.center.gateway import Gateway
from chipcash.center.registration import Center
from chipcash.center.worker import Worker
from chipcash.cli.partitions import log_writers
from chipcash.crypto import PrivateKey
from chipcash.database import DatabaseError
from chipcash.log.scope import partition_of
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from tests import prefork
from tests.center import world
from tests.center.nats_server import Nats
from tests.center.pg_server import Server

ROOT = Path(__file__).resolve().parents[2]
NODES = ("a", "b")
_Answer = TypeVar("_Answer")
_WAIT_S = 60


class Premises:
    """Machines and directory of a center; nothing of chipcash runs yet. close() ends and removes all."""

    def __init__(
        self, folder: Path, nodes: dict[str, Server], partitions: int = 4, servers: int = 1
    ) -> None:
        self.folder = folder
        self.nodes = nodes
        # Of all tests that these ledgers served: empty ones would cost seconds for each.
        self.loads: list[Load] = []
        self.home = home.init(folder / "net", "p256", world.NETWORK, partitions=partitions)
        self.nats = Nats(folder, servers)
        urls = {name: server.database(folder.name) for name, server in nodes.items()}
        self.cluster = Cluster(folder / "net", partitions, self.nats.urls, min(servers, 3), urls)
        self.cluster.make_users()
        self.cluster.save()
        self.nats.begin(folder / "net" / "nats.conf")
        deadline = time.monotonic() + _WAIT_S
        while True:  # servers of a cluster take a while to find each other
            try:
                self.cluster.set_up()
                break
            except CenterUnreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self.write_logs()

    def write_logs(self) -> None:
        """As a gateway does that writes the logs: workers hear how far they go, and else take no orders."""
        with closing(self.gateway()) as gateway, log_writers(self.home, gateway, ()):
            pass

    def close(self) -> None:
        self.nats.close()

    @contextmanager
    def working(self, *nodes: str) -> Iterator[None]:
        """A worker in this process."""
        loop = asyncio.new_event_loop()
        ready = threading.Event()
        worker = Worker(
            self.cluster.access("worker"),
            nodes or NODES,
            lambda number, of, place: self.home.partition(
                number, of, self.cluster.storage(number, place)
            ),
            self.home.log_key,
        )
        thread = threading.Thread(
            target=lambda: loop.run_until_complete(worker.run(ready.set)), daemon=True
        )
        thread.start()
        assert ready.wait(_WAIT_S)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(worker.stop)
            thread.join()
            loop.close()

    @contextmanager
    def process(self, what: str, point: str = "", *more: str) -> Iterator[Process]:
        """A process of tests/center/killed.py, which kills itself at a point; it has begun. It is ended."""
        with subprocess.Popen(
            [
                *prefork.chipcash("tests.center.killed"),
                what,
                str(self.home.directory),
                point,
                *more,
            ],
            cwd=ROOT,
            env=prefork.environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline().strip()
                assert said, "it did not begin"
                yield Process(said, process)
            finally:
                process.kill()
                process.stdout.read()  # until it has ended, not only who passes signals on to it

    def gateway(self) -> ClusterGateway:
        found = self.home.center()
        assert isinstance(found, ClusterGateway)
        return found


@dataclass(frozen=True)
class Process:
    """said: its first line."""

    said: str
    popen: subprocess.Popen[str]

    def was_killed(self) -> bool:
        """Wait until it ends: whether it was by itself, at its point."""
        return self.popen.wait(_WAIT_S) == -signal.SIGKILL


class OpenWorld(world.World):
    """The tests' world over a center that runs: with its keys, and the true time."""

    def __init__(self, premises: Premises, center: Center) -> None:
        self.suite = "p256"
        self._made = 0
        self._home = premises.home
        self.trust = premises.home.trust()
        self.center = center
        self._lock = threading.Lock()

    @property
    def now(self) -> int:  # type: ignore[override]
        return int(time.time())

    def fresh(self, n: int) -> bytes:
        with self._lock:
            return random.randbytes(n)

    def key(self, name: str) -> PrivateKey:
        if name in ("issuer", "center", "certification"):
            return self._home.key(name)
        return world.key(name)

    def public(self, name: str) -> bytes:
        return self.key(name).public

    def coins(self, each: int, partitions: int = 4, of_each: int = 1) -> list[o.Title]:
        """Alice's titles of so many coins in each partition, in the order of partitions."""
        found: dict[int, list[o.Title]] = {number: [] for number in range(partitions)}
        while any(len(titles) < of_each for titles in found.values()):
            serial = self.fresh(16)
            titles = found[partition_of(serial, partitions)]
            if len(titles) < of_each:
                coin = self.coin(each, "alice", serial)
                titles.append(repeated(partial(self.center.register_coin, coin)))
        return [title for titles in found.values() for title in titles]


def repeated(ask: Callable[[], _Answer]) -> _Answer:
    """Ask as a client does: again until there is an answer, for which gateways here have little patience."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return ask()
        except CenterUnreachable:
            if time.monotonic() > deadline:
                raise


class Load:
    """Deposits that clients make at once, each repeated until it is acknowledged. A context manager: what is
    left at its end is waited for. settle: what a client calls; fen of each title are paid once, from 0 on."""

    def __init__(
        self,
        place: OpenWorld,
        titles: Sequence[o.Title],
        settle: Callable[[o.Deposit, Sequence[o.Title]], o.Receipt],
        clients: int = 4,
    ) -> None:
        self.acknowledged: list[tuple[o.Deposit, bytes]] = []
        self.repeated = 0
        center = place.center
        self._partitions = center.partitions if isinstance(center, Gateway) else 1
        self._held: dict[_Interval, bytes] = {}
        self._looked_at = 0
        self._settle = settle
        self._titles = titles
        self._deposits: queue.SimpleQueue[o.Deposit | None] = queue.SimpleQueue()
        self._clients = clients
        self._ended = threading.Event()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for at in range(min(title.hi for title in titles)):
            claims = [
                place.claim("alice", ("shop", "kiosk")[at % 2], [(title, at, at + 1)])
                for title in titles[at % 2 :: 2]
            ]
            if (
                at % 3 == 0
            ):  # one claim over several partitions, of several coins in each: recoined there
                claims = [place.claim("alice", "shop", [(title, at, at + 1) for title in titles])]
            self._deposits.put(place.deposit(*claims))
        for _ in range(clients):
            self._deposits.put(None)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is not None:
            self._ended.set()
        self._join()

    def wait(self, more: int) -> None:
        """Until so many more deposits are acknowledged, or all."""
        until = len(self.acknowledged) + more
        deadline = time.monotonic() + _WAIT_S
        while len(self.acknowledged) < until and any(each.is_alive() for each in self._threads):
            assert time.monotonic() < deadline, "nothing is acknowledged any more"
            time.sleep(0.005)

    def stop(self) -> None:
        """Begin no more deposits, and wait until those that were begun are acknowledged."""
        self._stopped.set()
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(_WAIT_S)
            assert not thread.is_alive(), "the load does not end"

    def held(self, trust: Trust) -> dict[_Interval, bytes]:
        """What its clients hold: for each interval that they were told is settled, the title that it became.

        Proves on the way that receipts and titles are signed, and for whom and what they should be.
        """
        serials = {object_id(title): title.serial for title in self._titles}
        for deposit, data in self.acknowledged[self._looked_at :]:
            receipt = o.Receipt.decode(data)
            assert receipt.digest == object_id(deposit)
            for each in (receipt, *receipt.titles):
                assert trust.signed_by_center(each)
            filled = dict.fromkeys(map(object_id, receipt.titles), 0)
            for claim, result in zip(deposit.claims, receipt.results, strict=True):
                assert result.claim_id == object_id(claim)
                for outcome in result.outcomes:
                    assert outcome.state == o.SETTLED, o.OUTCOMES[outcome.state]
                    (title,) = (
                        title
                        for title in receipt.titles
                        if title.owner == claim.payee
                        and self._may_hold(title, serials[outcome.title_id], outcome)
                    )
                    filled[object_id(title)] += outcome.hi - outcome.lo
                    key = (result.claim_id, outcome.title_id, outcome.lo, outcome.hi)
                    assert key not in self._held, "acknowledged twice"
                    self._held[key] = object_id(title)
            for title in receipt.titles:
                assert filled[object_id(title)] == title.hi - title.lo, "a title of other money"
            spent = {serials[item.title_id] for claim in deposit.claims for item in claim.inputs}
            where = {partition_of(serial, self._partitions) for serial in spent}
            made = any(title.epoch == 1 for title in receipt.titles)
            assert made == (len(spent) > len(where)), "coins of one partition become one, no others"
        self._looked_at = len(self.acknowledged)
        return self._held

    def _may_hold(self, title: o.Title, serial: bytes, outcome: o.Outcome) -> bool:
        """Whether an interval can have become some of a title: of its own coin, or of one made there."""
        if title.epoch > 1:
            return title.serial == serial and title.lo <= outcome.lo and outcome.hi <= title.hi
        # Of its own partition, and of no coin that was issued.
        return partition_of(title.serial, self._partitions) == partition_of(
            serial, self._partitions
        )

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (deposit := self._deposits.get()) is not None and not self._stopped.is_set():
            while not self._ended.is_set():
                try:
                    receipt = self._settle(deposit, self._titles)
                    self.acknowledged.append((deposit, receipt.encode()))
                    break
                except (CenterUnreachable, DatabaseError):
                    self.repeated += 1
                    time.sleep(0.02)


_Interval = tuple[bytes, bytes, int, int]
"""claim_id, title_id, lo, hi."""


def count(premises: Premises, gateway: ClusterGateway, loads: Sequence[Load]) -> int:
    """Compare what clients hold with what the ledgers hold, both ways; how many intervals were settled."""
    held: dict[_Interval, bytes] = {}
    for load in loads:
        found = load.held(gateway.trust)
        assert not found.keys() & held.keys(), "acknowledged twice"
        held |= found
    kept: dict[_Interval, bytes] = {}
    table, _ = gateway.stream.table()
    for number, assignment in enumerate(table.assignments):
        with premises.cluster.opened(number, assignment.place) as storage:
            for *key, new in storage.all(
                "SELECT claims.claim_id, spends.title_id, spends.lo, spends.hi, spends.new_title"
                " FROM spends JOIN claims ON claims.seq = spends.claim"
            ):
                claim_id, title_id, lo, hi = key
                assert (claim_id, title_id, lo, hi) not in kept, "settled in two ledgers"
                kept[claim_id, title_id, lo, hi] = new
    assert not held.keys() - kept.keys(), "acknowledged, and in no ledger"
    assert not kept.keys() - held.keys(), "in a ledger, and nobody was told"
    assert held == kept, "under another title than its owner was given"
    gateway.check()
    totals = gateway.accounts()
    assert totals["issued_fen"] == totals["live_fen"] + totals["redeemed_fen"]
    for deposit, data in random.choices(loads[-1].acknowledged, k=3):
        again = repeated(partial(gateway.settle, deposit))
        receipt = o.Receipt.decode(data)
        # Not byte by byte: what an earlier deposit had registered is told in a new receipt.
        assert (again.results, set(again.titles)) == (receipt.results, set(receipt.titles))
    return len(kept)


@contextmanager
def premises(folder: Path, partitions: int = 4, servers: int = 1) -> Iterator[Premises]:
    """All of it, with two PostgreSQL servers of its own."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(jetstream, "_REDELIVER_S", 0.5)
        patch.setattr(jetstream, "_ANSWER_S", 2.0)
        nodes = {}
        for name in NODES:
            nodes[name] = Server()
            stack.callback(nodes[name].close)
        made = Premises(folder, nodes, partitions, servers)
        stack.callback(made.close)
        yield made

# SPDX-License-Identifier: Apache-2.0
"""What settling takes a center of one ledger: by deposits over HTTP, beside what verifying alone takes; for a
single payment online; and in ledgers of many titles. Part of bench.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import httpx
import psycopg

from chipcash import crypto
from chipcash.center.verification import Verifier
from chipcash.crypto import PrivateKey
from chipcash_wire import objects as o
from tests.center import pg_server
from tests.center.world import World

PAYMENT_PARTS = ("verify", "ledger", "rest")

_ROOT = Path(__file__).resolve().parents[2]
_COLD = 3
"""Deposits that are not counted: what they read is in no cache yet."""
_AMOUNT = 1234
_SIGNATURES = 200
_PROCESSORS = os.cpu_count() or 1


def verified(suite: str, times: int) -> float:
    """Signatures a second that the library verifies by itself, in as many threads as there are processors."""
    key = PrivateKey.generate(suite)
    message = bytes(150)
    signature = key.sign(message)

    def verify(_: int) -> None:
        for _ in range(_SIGNATURES):
            assert crypto.verify(key.suite.id, key.public, message, signature)

    rates = []
    with ThreadPoolExecutor(_PROCESSORS) as pool:
        for _ in range(times):
            start = time.perf_counter()
            list(pool.map(verify, range(_PROCESSORS)))
            rates.append(_PROCESSORS * _SIGNATURES / (time.perf_counter() - start))
    return median(rates)


def make_deposit(world: World, claims: int) -> o.Deposit:
    """A deposit of claims by as many cards, over coins that the center has registered."""
    made = []
    for number in range(claims):
        payer = f"card {number}"
        made.append(world.claim(payer, "shop", [(world.issue(10000, payer), 0, _AMOUNT)]))
    return world.deposit(*made)


@dataclass(frozen=True)
class Served:
    """A center in a process of its own, and its ledger as who signs sees it."""

    world: World
    client: httpx.Client
    url: str

    def deposit(self, deposit: bytes) -> bytes:
        """The receipt."""
        answer = self.client.post(f"{self.url}/v1/deposits", content=deposit)
        assert answer.status_code == 200, answer.text
        return answer.content


@contextmanager
def serving(ledger: str, suite: str) -> Iterator[Served]:
    """A center that checks deposits in as many processes as there are processors."""
    program = [sys.executable, "-m", "tests.bench.serving", ledger, suite, str(_PROCESSORS)]
    with (
        closing((world := World(ledger, suite)).center),
        httpx.Client(timeout=60) as client,
        subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        ) as server,
    ):
        assert server.stdin is not None and server.stdout is not None
        try:
            yield Served(world, client, server.stdout.readline().strip())
        finally:
            server.stdin.close()


def _need_settled(receipts: Iterable[bytes]) -> None:
    for receipt in receipts:
        results = o.Receipt.decode(receipt).results
        assert all(x.state == o.SETTLED for result in results for x in result.outcomes)


def settled(center: Served, batch: int, times: int, singles: int, clients: int) -> dict[int, float]:
    """Claims a second over HTTP, from so many clients at once, by claims in a deposit: 1 and batch."""
    rates = {}
    with ThreadPoolExecutor(clients) as pool:
        for claims, count in ((1, times * singles), (batch, times * clients)):
            made = [make_deposit(center.world, claims).encode() for _ in range(count + clients)]
            # Processes begin, and read their files, with the first.
            list(pool.map(center.deposit, made[:clients]))
            start = time.perf_counter()
            receipts = list(pool.map(center.deposit, made[clients:]))
            rates[claims] = claims * count / (time.perf_counter() - start)
            _need_settled(receipts)
    return rates


def payments(center: Served, times: int) -> dict[str, float]:
    """Milliseconds of a single payment online, one after the other: p50, p99, and medians of what it goes to.

    verify: deposit read, signature verified; ledger: settled, on the disk; rest: HTTP, client and server, and
    the way to the process that verifies.
    """
    world = center.world
    whole = []
    for deposit in [make_deposit(world, 1).encode() for _ in range(times + _COLD)]:
        start = time.perf_counter()
        receipt = center.deposit(deposit)
        whole.append((time.perf_counter() - start) * 1000)
        _need_settled([receipt])
    verifier = Verifier(world.center.storage, world.trust)
    checking, settling = [], []
    for deposit in [make_deposit(world, 1).encode() for _ in range(times)]:
        start = time.perf_counter()
        verifier.check_body(deposit)
        checked = time.perf_counter()
        world.center.settle_body(deposit)  # which verifies it again
        checking.append((checked - start) * 1000)
        settling.append((time.perf_counter() - checked - (checked - start)) * 1000)
    whole = whole[_COLD:]
    cut = quantiles(whole, n=100, method="inclusive")
    found = {"p50": cut[49], "p99": cut[98], "verify": median(checking), "ledger": median(settling)}
    return {**found, "rest": max(found["p50"] - found["verify"] - found["ledger"], 0.01)}


def growth(
    server: pg_server.Server, sizes: Sequence[int], batch: int, times: int
) -> dict[int, float]:
    """Microseconds of a claim, verified and settled in PostgreSQL by deposits of batch, by how many titles
    its ledger holds."""
    with ExitStack() as stack:
        worlds = {}
        for size in sizes:
            url = server.database(f"growth{size}")
            worlds[size] = World(url)
            stack.callback(server.database, f"growth{size}")  # empty again: it takes gigabytes
            stack.callback(worlds[size].center.close)
            _fill(url, size)
        spans: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(times + _COLD):
            for size, world in worlds.items():
                deposit = make_deposit(world, batch)
                start = time.perf_counter()
                world.center.settle(deposit)
                spans[size].append((time.perf_counter() - start) / batch * 1e6)
    return {size: median(each[_COLD:]) for size, each in spans.items()}


def _fill(url: str, size: int) -> None:
    """Coins of somebody's with a title each, made up in the server: their ids are random, their signatures
    are none, and nothing spends them. They come in the order of the indexes, else it takes an hour."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET session_replication_role = replica")  # no look at each foreign key
        db.execute("SET synchronous_commit = off")
        db.execute(
            "CREATE TABLE made AS SELECT decode(md5(n::text), 'hex') AS serial, n"
            f" FROM generate_series(1, {int(size)}) AS n ORDER BY 1"
        )
        (first,) = db.execute("SELECT next FROM sequence").fetchone() or (0,)
        with db.cursor() as cursor:
            cursor.execute(
                "INSERT INTO coins (serial, seq, amount, owner, bytes, epoch, time, recoined)"
                " SELECT serial, %s + 2 * n, 10000, serial, repeat('c', 150)::bytea, 1, 0, 0 FROM made",
                [first],
            )
            cursor.execute(
                "INSERT INTO titles (serial, epoch, seq, title_id, lo, hi, owner, bytes, time)"
                " SELECT serial, 1, %s + 2 * n + 1, serial || serial, 0, 10000, serial,"
                " repeat('t', 230)::bytea, 0 FROM made",
                [first],
            )
            cursor.execute(
                "INSERT INTO slices (serial, lo, hi, title_id)"
                " SELECT serial, 0, 10000, serial || serial FROM made"
            )
            cursor.execute("UPDATE sequence SET next = next + %s", [2 * size + 2])
            cursor.execute("DROP TABLE made")
        db.execute("VACUUM ANALYZE")
        db.execute("CHECKPOINT")

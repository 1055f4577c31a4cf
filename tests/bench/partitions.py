# SPDX-License-Identifier: Apache-2.0
"""What a claim costs a center of several ledgers: processor time of all its processes, for 1, 2 and 4
partitions on two PostgreSQL nodes. Part of bench.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg import sql

from chipcash.center.bodies import join
from chipcash.center.client import CenterClient
from chipcash_wire import objects as o
from tests.center import nats_server, pg_server
from tests.center.premises import NODES, OpenWorld, Premises
from tests.center.world import states

PARTITIONS = (1, 2, 4)
PARTS = ("gateway", "workers", "nats", "postgresql")

_CLIENTS = 16
_CLAIMS = 200
"""In one deposit: the most, as a till that was offline for long brings them."""
_MOST = 1.2
_LOGS_S = 60


def missing() -> str | None:
    """Why it cannot be measured here."""
    if pg_server.programs() is None:
        return "PostgreSQL's server is not installed."
    if nats_server.program() is None:
        return "NATS's server is not installed."
    return None


@dataclass
class _Center:
    """One that runs; spent: µs a claim in each turn, by part; rates: claims/s."""

    premises: Premises
    place: OpenWorld
    url: str
    processes: dict[str, list[int]]
    titles: list[o.Title] = field(default_factory=list)
    next: int = 0
    spent: dict[str, list[float]] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    wal: list[float] = field(default_factory=list)

    def turn(self, deposits: int) -> None:
        """Settle so many deposits, each over all partitions."""
        made = []
        for _ in range(deposits):
            claims = []
            for _ in range(_CLAIMS):
                at, title = divmod(self.next, len(self.titles))
                claims.append(
                    self.place.claim("alice", "shop", [(self.titles[title], 2 * at, 2 * at + 1)])
                )
                self.next += 1
            made.append((self.place.deposit(*claims), self.titles))
        with (
            CenterClient(self.url, self.place.trust, timeout=60) as client,
            ThreadPoolExecutor(_CLIENTS) as pool,
        ):
            http: Any = client._http
            bodies = [join((deposit, *titles)) for deposit, titles in made]
            written = self._written()
            before, start = self._used(), time.perf_counter()
            answers = list(pool.map(lambda body: http.post("/v1/deposits", content=body), bodies))
            took = time.perf_counter() - start
            self._wait_for_logs()
            after = self._used()
        for answer in answers:
            receipt = o.Receipt.decode(answer.content)
            assert {state for found in states(receipt) for state in found} == {"settled"}
        claims_made = deposits * _CLAIMS
        self.rates.append(claims_made / took)
        self.wal.append((self._written() - written) / claims_made)
        for part in PARTS:
            spent = (after[part] - before[part]) / claims_made * 1e6
            self.spent.setdefault(part, []).append(spent)

    def _wait_for_logs(self) -> None:
        """Until all that was registered is in the logs, which are written behind it: that is part of what it
        costs, and must not be another turn's."""
        home = self.premises.home
        registered = 0
        for url in self.premises.cluster.nodes.values():
            with psycopg.connect(url) as connection:
                for (schema,) in connection.execute(
                    "SELECT schemaname FROM pg_tables"
                    " WHERE tablename = 'sequence' AND schemaname LIKE 'p0%'"
                ).fetchall():
                    query = sql.SQL("SELECT next - 1 FROM {}.sequence")
                    row = connection.execute(query.format(sql.Identifier(schema))).fetchone()
                    assert row is not None
                    registered += int(row[0])
        deadline = time.monotonic() + _LOGS_S
        while registered > sum(
            home.log_reader(number).checkpoint()[0].size
            for number in range(self.premises.cluster.partitions)
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _written(self) -> int:
        """Bytes that both nodes ever wrote to their logs."""
        found = 0
        for server in self.premises.nodes.values():
            with psycopg.connect(server.url("postgres")) as connection:
                row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
                assert row is not None
                found += int(row[0])
        return found

    def stored(self) -> float:
        """Bytes in tables and indexes of both nodes for each claim."""
        found = 0
        for url in self.premises.cluster.nodes.values():
            with psycopg.connect(url) as connection:
                row = connection.execute(
                    "SELECT COALESCE(SUM(pg_total_relation_size(oid)), 0) FROM pg_class"
                    " WHERE relkind = 'r' AND relnamespace::regnamespace::text LIKE 'p0%'"
                ).fetchone()
                assert row is not None
                found += int(row[0])
        return found / self.next

    def _used(self) -> dict[str, float]:
        return {part: sum(map(_cpu, self.processes[part])) for part in PARTS}


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process and all its children, also those that ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # a child that has just ended: its parent has its time
    ticks = sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(_cpu, map(int, children)))


@contextmanager
def _started(*words: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """A chipcash command that runs: its pid, and what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "chipcash", *words, "--json"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            yield process.pid, json.loads(said)
        finally:
            process.terminate()


def measure(report: Any, turns: int, folder: Path, deposits: int = 32) -> None:
    """Add the rows. turns: of each center, in turn; deposits: in each."""
    with ExitStack() as stack:
        nodes = {}
        for name in NODES:
            nodes[name] = pg_server.Server(durable=True)
            stack.callback(nodes[name].close)
        centers = {n: _center(stack, folder / f"partitions{n}", nodes, n) for n in PARTITIONS}
        for turn in range(turns + 1):
            for center in centers.values():
                center.turn(deposits)
                if turn == 0:  # connections, statistics, caches
                    center.spent.clear()
                    center.rates.clear()
                    center.wal.clear()
        for n, center in centers.items():
            name = f"partitions.cpu.{n}"
            total = median(map(sum, zip(*center.spent.values(), strict=True)))
            report.add(
                name,
                total,
                "µs/claim",
                ratio_to="" if n == 1 else "partitions.cpu.1",
                ratio_at_most=None if n == 1 else _MOST,
            )
            for part in PARTS:
                report.add(f"{name}.{part}", median(center.spent[part]), "µs/claim", ratio_to=name)
            report.add(f"partitions.settled.{n}", median(center.rates), "claims/s")
        last = centers[PARTITIONS[-1]]
        report.add("partitions.stored", last.stored(), "bytes/claim")
        report.add("partitions.wal", median(last.wal), "bytes/claim")


def _center(
    stack: ExitStack, folder: Path, nodes: dict[str, pg_server.Server], partitions: int
) -> _Center:
    folder.mkdir()
    premises = Premises(folder, nodes, partitions)
    stack.callback(premises.close)
    home = str(premises.home.directory)
    workers = [
        stack.enter_context(_started("center", "work", "--home", home, "--node", node))[0]
        for node in NODES
    ]
    pid, said = stack.enter_context(_started("center", "serve", "--home", home, "--port", "0"))
    processes = {
        "gateway": [pid],
        "workers": workers,
        "nats": premises.nats.pids,
        "postgresql": [server.pid for server in nodes.values()],
    }
    with closing(premises.gateway()) as gateway:
        place = OpenWorld(premises, gateway)
        each = 1_000_000 // partitions
        titles = [title for _ in range(4 // partitions) for title in place.coins(each, partitions)]
    return _Center(premises, place, said["url"], processes, titles)

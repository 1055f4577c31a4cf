# SPDX-License-Identifier: Apache-2.0
"""`chipcash center work`, `chipcash center partitions`: a center of several ledgers (docs/partitions.md)."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chipcash.center.collector import collect_seldom
from chipcash.center.errors import CenterError, LedgerError
from chipcash.center.gateway import Gateway
from chipcash.center.heads import Head, need_no_older
from chipcash.center.partitions import PARTITIONS_FILE, Place
from chipcash.center.publishing import LogWriter, compare
from chipcash.center.registration import Center
from chipcash.center.storage import is_postgres
from chipcash.cli.base import Command, Group, Report, home_option, progress, show, table
from chipcash.database import DatabaseError
from chipcash.home import Home
from chipcash.log.cosigning import Witness
from chipcash.log.store import Log

if TYPE_CHECKING:
    from chipcash.center.cluster import Cluster, ClusterGateway
    from chipcash.center.inquiry import Inquiry
    from chipcash.center.jetstream import PartitionState
    from chipcash.center.partitions import Partition
    from chipcash.center.staff.health import Part

__all__ = [
    "Chosen",
    "Settings",
    "command",
    "compare_all",
    "init_options",
    "log_writers",
    "need_recoverable",
    "recover",
    "recover_options",
    "staff_parts",
    "work",
]

_log = logging.getLogger(__name__)

_END_S = 1.0
_LOG_S = 2.0
"""Seconds between two looks of each log's writer: more entries at once cost less."""


class _Node(click.ParamType):  # type: ignore[type-arg]  # click 8.2 has none
    """A PostgreSQL node, NAME=URL."""

    name = "node"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Name and URL."""
        name, _, url = str(value).partition("=")
        if not name.isalnum() or not is_postgres(url):
            self.fail(f"{value!r} is not NAME=postgresql://USER@HOST/DATABASE", param, ctx)
        return name, url


@dataclass(frozen=True)
class Settings:
    """What `init` was told of several ledgers."""

    partitions: int | None
    nodes: tuple[tuple[str, str], ...]
    servers: tuple[str, ...]
    replicas: int

    def cluster(self, directory: Path) -> Cluster | None:
        """It, to be saved; None where one ledger is wanted. Raises CenterError."""
        if self.partitions is None:
            if self.nodes or self.servers:
                raise click.UsageError("--node and --nats are for a center with --partitions.")
            return None
        from chipcash.center.cluster import Cluster

        return Cluster(directory, self.partitions, self.servers, self.replicas, dict(self.nodes))


def init_options(function: Callable[..., Report]) -> Callable[..., Report]:
    """The options of `init` for several ledgers; the command gets them as `settings`."""

    @click.option(
        "--partitions",
        type=int,
        metavar="N",
        help="Keep coins in so many ledgers, a power of two, for good; with --node and --nats.",
    )
    @click.option(
        "--node",
        "nodes",
        type=_Node(),
        multiple=True,
        metavar="NAME=URL",
        help="A PostgreSQL database for some of them; may come several times.",
    )
    @click.option(
        "--nats",
        "servers",
        multiple=True,
        metavar="URL",
        help="A NATS server of theirs; may come several times.",
    )
    @click.option(
        "--replicas",
        type=click.Choice(["1", "3", "5"]),
        default="1",
        show_default=True,
        help="How many NATS servers keep each stream.",
    )
    @wraps(function)
    def wrapped(
        partitions: int | None,
        nodes: tuple[tuple[str, str], ...],
        servers: tuple[str, ...],
        replicas: str,
        **others: Any,
    ) -> Report:
        return function(settings=Settings(partitions, nodes, servers, int(replicas)), **others)

    return wrapped


@click.command("work", cls=Command)
@home_option
@click.option(
    "--node",
    "nodes",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Work for the partitions on this PostgreSQL node; may come several times.",
)
def work(directory: Path, nodes: tuple[str, ...]) -> None:
    """Run a settlement worker until Ctrl-C. Says so once it works."""
    home = Home(directory)
    cluster = _cluster(home)
    for node in nodes:
        cluster.node(node)
    _run(_work(home, cluster, nodes))


def _run(program: Coroutine[Any, Any, None]) -> None:
    """asyncio.run, which may wait for ever: while NATS is away its client can lose the order to end. All that
    was under way is done by then."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(program)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_END_S))
        loop.set_exception_handler(lambda *_: None)  # nor tell of what is left


async def _work(home: Home, cluster: Cluster, nodes: tuple[str, ...]) -> None:
    from chipcash.center.worker import Worker

    def open_ledger(number: int, of: int, place: Place) -> Partition:
        return home.partition(number, of, cluster.storage(number, place))

    worker = Worker(cluster.access("worker"), nodes, open_ledger, home.log_key)
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, worker.stop)
    names = ", ".join(nodes)
    collect_seldom()
    await worker.run(lambda: show(Report({"nodes": list(nodes)}, [f"Working for {names}."])))


@click.group("partitions", cls=Group)
def command() -> None:
    """The ledgers of a center that has several: where they are, and moving them."""


@command.command("setup")
@click.option(
    "--lost",
    is_flag=True,
    help="Partitions that are on no node are gone for good: make empty ones, for `center recover`.",
)
@home_option
def setup(lost: bool, directory: Path) -> Report:
    """Make what is missing in NATS and on the nodes; again is harmless."""
    cluster = _cluster(Home(directory))
    with progress("Making streams and ledgers"):
        made = cluster.set_up(lost)
    return Report(
        {"partitions": len(made)}, [f"{len(made)} partitions are ready: chipcash center work"]
    )


@command.command("list")
@home_option
def list_(directory: Path) -> Report:
    """Where each partition is, and what waits for it."""
    from chipcash.center.jetstream import JetStream

    with closing(JetStream(_cluster(Home(directory)).access("gateway"))) as stream:
        states = stream.states()
    rows = [
        (
            str(state.number),
            f"on {state.node}{f', moving to {state.moving_to}' if state.moving_to else ''}: "
            f"{state.waiting} waiting, {state.under_way} under way, {state.workers} idle workers",
        )
        for state in states
    ]
    return Report({"partitions": [asdict(state) for state in states]}, table(rows))


@command.command("move")
@click.argument("number", type=int)
@click.argument("node")
@home_option
def move_(number: int, node: str, directory: Path) -> Report:
    """Move partition NUMBER to NODE while the center runs. Cut off, order it again; or back."""
    from chipcash.center.moving import move

    cluster = _cluster(Home(directory))
    with progress(f"Moving partition {number} to {node}"):
        place = move(cluster, number, node)
    return Report(
        {"number": number, **asdict(place)}, [f"Partition {number} is on {place.node} now."]
    )


@command.command("add-node")
@click.argument("node", type=_Node(), metavar="NAME=URL")
@home_option
def add_node(node: tuple[str, str], directory: Path) -> Report:
    """Name another PostgreSQL database, or another URL of one; each machine has its own names."""
    cluster = _cluster(Home(directory))
    name, url = node
    replace(cluster, nodes={**cluster.nodes, name: url}).save()
    return Report(
        {"node": name},
        [f"{name} is a node on this machine: tell the others, start a worker for it, then move."],
    )


def recover_options(function: Callable[..., Report]) -> Callable[..., Report]:
    """The options of `recover` for several ledgers; the command gets them as `chosen`."""

    @click.option(
        "--from",
        "backup",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="A backup, for partitions of which it or the log holds more than their nodes do.",
    )
    @click.option(
        "--partition",
        "numbers",
        type=int,
        multiple=True,
        metavar="NUMBER",
        help="Only this one, while the center runs; may come several times.",
    )
    @click.option("--node", metavar="NAME", help="Where they are to be then; else where they are.")
    @click.option(
        "--lost",
        is_flag=True,
        help="What nodes have of these partitions is gone for good, or damaged: do not use it.",
    )
    @wraps(function)
    def wrapped(
        backup: Path | None, numbers: tuple[int, ...], node: str | None, lost: bool, **others: Any
    ) -> Report:
        if lost and not numbers:
            raise click.UsageError("--lost is for partitions that are named: --partition.")
        return function(chosen=Chosen(backup, numbers, node, lost), **others)

    return wrapped


@dataclass(frozen=True)
class Chosen:
    """What `recover` was told of several ledgers; numbers: none for all."""

    backup: Path | None
    numbers: tuple[int, ...]
    node: str | None
    lost: bool


def need_recoverable(home: Home, chosen: Chosen) -> None:
    """Raise UsageError or CenterError where `recover` was told what this center does not have."""
    cluster = home.cluster()
    if cluster is None:
        if chosen != Chosen(None, (), None, False):
            raise click.UsageError("These options are for a center of several ledgers.")
    elif chosen.node is not None:
        cluster.node(chosen.node)


def recover(home: Home, chosen: Chosen) -> dict[int, int | None]:
    """Bring partitions forward: what their logs gave, None where nothing was missing; nothing without any.

    As chipcash.center.restoring.restore().
    """
    cluster = home.cluster()
    if cluster is None:
        return {}
    from chipcash.center.restoring import restore

    found = {}
    for number in chosen.numbers or range(cluster.partitions):
        with progress(f"Partition {number}"):
            found[number] = restore(
                home, number, backup=chosen.backup, node=chosen.node, lost=chosen.lost
            )
    return found


@contextmanager
def log_writers(home: Home, center: Center, witnesses: Sequence[Witness]) -> Iterator[None]:
    """Write the partitions' logs, if the center has any, as long as this lasts."""
    with ExitStack() as stack:
        if home.cluster() is not None:
            from chipcash.center.cluster import ClusterGateway

            assert isinstance(center, ClusterGateway)
            for number in range(center.partitions):
                log = stack.enter_context(home.log(number))
                stack.enter_context(_log_writer(home, center, number, log, witnesses))
        yield


def _log_writer(
    home: Home, center: ClusterGateway, number: int, log: Log, witnesses: Sequence[Witness]
) -> LogWriter:
    """The writer of a partition's log, which has begun if it can."""

    def tell() -> None:
        center.tell_head(number, Head.read(home.log_reader(number)))

    def writer() -> LogWriter:
        return LogWriter(center, log, witnesses, _LOG_S, facts, tell)

    facts = center.partition_facts(number)
    try:
        log.publish_rest()
        need_no_older(facts, Head.read(home.log_reader(number)), log.key.key)
        begun = writer()
        begun.begin()
        return begun
    except (DatabaseError, LedgerError) as error:
        # Its node is away, or its ledger has to be brought forward: the others need not wait, and its worker
        # does.
        _log.error("Partition %d has to wait: %s %s", number, error, error.hint)
        return writer()


def compare_all(home: Home, center: Center) -> int:
    """Compare each partition, if the center has any, with its log; how many entries there were.

    Raises LedgerError, AuditFailed, LogInvalid, LogUnreachable.
    """
    if not isinstance(center, Gateway):
        return 0
    entries = 0
    for number in range(center.partitions):
        storage = center.ledger(number).storage
        partition = home.partition(number, center.partitions, storage)
        entries += compare(partition, home.log_reader(number)).entries
    return entries


def staff_parts(inquiry: Inquiry) -> Callable[[], list[Part]] | None:
    """What the staff's pages tell of a center's partitions; None if it has none."""
    from chipcash.center.cluster import ClusterGateway
    from chipcash.center.staff.health import Part

    if not isinstance(inquiry, ClusterGateway):
        return None

    def part(state: PartitionState) -> Part:
        waits = state.waiting + state.under_way
        how = "ok" if state.workers or state.under_way or not waits else "no worker"
        if state.moving_to is not None:
            how = f"moving to {state.moving_to}"
        return Part(f"partition {state.number}", how, waits, state.node)

    return lambda: [part(state) for state in inquiry.stream.states()]


def _cluster(home: Home) -> Cluster:
    cluster = home.cluster()
    if cluster is None:
        raise CenterError(
            f"The center in {home.directory} has one ledger: there is no {PARTITIONS_FILE}.",
            hint="Partitions are decided on when a network is made: chipcash center init --partitions",
        )
    return cluster

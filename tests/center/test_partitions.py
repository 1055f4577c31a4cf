# SPDX-License-Identifier: Apache-2.0
"""Partitions over real NATS and PostgreSQL: whatever is killed, moved or repeated, nothing acknowledged is
lost and nothing is settled twice. Every test ends by counting both sides."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest

from chipcash.backup import back_up
from chipcash.center import jetstream
from chipcash.center.bodies import join, split
from chipcash.center.client import CenterClient
from chipcash.center.cluster import ClusterGateway
from chipcash.center.errors import CenterError, CenterUnreachable, LedgerError
from chipcash.center.heads import Head
from chipcash.center.jetstream import (
    CONSUMER,
    OPERATION,
    REPLY_TO,
    JetStream,
    JetStreamQueue,
    stream_name,
    subject_of,
)
from chipcash.center.moving import STEPS, move
from chipcash.center.orders import Order, Reply
from chipcash.center.postgres import load_ledger, schemas
from chipcash.center.restoring import STEPS as STEPS_BACK
from chipcash.center.restoring import dump_folder, restore
from chipcash.center.service import Service
from chipcash.database import DatabaseError
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests import prefork
from tests.builders import changed
from tests.center import killed
from tests.center.nats_server import free_ports
from tests.center.premises import NODES, Load, OpenWorld, Premises, count, premises, repeated
from tests.center.world import states


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    with premises(tmp_path_factory.mktemp("premises")) as made:
        yield made


@pytest.fixture
def gateway(here: Premises) -> Iterator[ClusterGateway]:
    with closing(here.gateway()) as opened:
        yield opened


@pytest.fixture
def place(here: Premises, gateway: ClusterGateway) -> OpenWorld:
    return OpenWorld(here, gateway)


def new_load(here: Premises, place: OpenWorld, fen: int, *titles: o.Title) -> Load:
    made = Load(place, titles or place.coins(fen, of_each=2), place.center.settle)
    here.loads.append(made)
    return made


def kill_workers(here: Premises, place: OpenWorld, points: Sequence[str]) -> None:
    with here.working():
        titles = place.coins(40 * len(points), of_each=2)
    gateway = place.center
    assert isinstance(gateway, ClusterGateway)
    with here.working("b"), new_load(here, place, 0, *titles) as load:
        for point in points:
            with here.process("worker", point, "a") as process:
                assert process.was_killed(), point
            assert load.running, f"{point}: it was killed too late to matter"
        with here.working("a"):
            load.wait(1000)
            count(here, gateway, here.loads)


def test_a_worker_is_killed(here: Premises, place: OpenWorld) -> None:
    kill_workers(here, place, ("committed",))


@pytest.mark.long
def test_a_worker_is_killed_at_every_point(here: Premises, place: OpenWorld) -> None:
    kill_workers(here, place, killed.WORKER)


def kill_gateways(here: Premises, place: OpenWorld, points: Sequence[str]) -> None:
    """Clients ask over HTTP, and go on asking whoever comes next at the same address."""
    gateway = place.center
    assert isinstance(gateway, ClusterGateway)
    (port,) = free_ports(1)
    with (
        here.working(),
        CenterClient(f"http://127.0.0.1:{port}", place.trust, timeout=10) as client,
    ):
        load = Load(place, place.coins(40 * len(points), of_each=2), client.settle)
        here.loads.append(load)
        with load:
            for point in points:
                with here.process("gateway", point, str(port)) as process:
                    assert process.was_killed(), point
                assert load.running, f"{point}: it was killed too late to matter"
            with Service(gateway, port=port):
                load.wait(1000)
        assert load.repeated >= len(points)
        count(here, gateway, here.loads)


def test_a_gateway_is_killed(here: Premises, place: OpenWorld) -> None:
    kill_gateways(here, place, ("settled",))


@pytest.mark.long
def test_a_gateway_is_killed_at_every_point(here: Premises, place: OpenWorld) -> None:
    kill_gateways(here, place, killed.GATEWAY)


class Cut(BaseException):
    """A move ends here."""


@pytest.mark.parametrize(
    "points", [STEPS[1:], pytest.param((*STEPS, *STEPS), marks=pytest.mark.long)]
)
def test_partitions_move_under_load_and_moves_are_cut(
    here: Premises, place: OpenWorld, gateway: ClusterGateway, points: Sequence[str]
) -> None:
    """Each move is cut before a step, and then ordered again, or back."""
    with here.working(), new_load(here, place, 50 * len(points)) as load:
        for turn, point in enumerate(points):
            number = turn % 4
            table, _ = gateway.stream.table()
            old = table[number].place
            (new,) = (node for node in NODES if node != old.node)

            def step(name: str, point: str = point) -> None:
                if name == point:
                    raise Cut

            with pytest.raises(Cut):
                move(here.cluster, number, new, step)
            time.sleep(0.05)  # what needs this partition waits now
            goal = new if turn % 3 < 2 or point == "mark" else old.node
            assert move(here.cluster, number, goal).node == goal
            assert gateway.stream.table()[0][number].target is None
            assert load.running, "it moved too late to matter"
            load.wait(8)
    with here.working():
        count(here, gateway, here.loads)


def test_a_node_is_added_and_taken_into_use_under_load(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    """A gateway that has no URL of the new node cannot read there; it settles all the same."""
    url = here.nodes["a"].database("another")
    wider = replace(here.cluster, nodes={**here.cluster.nodes, "c": url})
    wider.save()
    with (
        here.working(),
        here.process("worker", "", "c"),
        new_load(here, place, 80) as load,
        closing(here.gateway()) as informed,
    ):
        load.wait(5)
        assert move(wider, 2, "c").node == "c"
        assert informed.partition_states()[2].node == "c"
        load.wait(10)
        assert load.running, "it moved too late to matter"
        informed.check()
        assert move(wider, 2, "b").node == "b"
    here.cluster.save()
    with here.working():
        count(here, gateway, here.loads)


def test_who_missed_a_move_cannot_settle_where_the_partition_was(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    with here.working():
        titles = place.coins(10)
    table, _ = gateway.stream.table()
    old = table[0].place
    late = here.home.partition(0, 4, here.cluster.storage(0, old))
    waiting = here.home.partition(0, 4, here.cluster.storage(0, old))
    claim = place.claim("alice", "shop", [(titles[0], 0, 10)])
    failed: list[DatabaseError] = []

    def settle() -> None:
        try:
            waiting.settle(place.deposit(claim), titles)
        except DatabaseError as error:
            failed.append(error)

    # One waits for the ledger's lock when it is renamed, another comes later, a third opens it anew.
    thread = threading.Thread(target=settle)
    with late.storage.transaction():
        thread.start()
        mover = threading.Thread(target=move, args=(here.cluster, 0, NODES[old.node == NODES[0]]))
        mover.start()
        time.sleep(0.2)
        assert late.storage.row("SELECT next FROM sequence")
    thread.join()
    mover.join()
    if not failed:  # it was before the move in the queue for the lock, and its claim moved along
        assert gateway.claim(object_id(claim))["outcomes"][0]["state"] == "settled"
    with pytest.raises(DatabaseError):
        late.settle(place.deposit(place.claim("alice", "kiosk", [(titles[0], 0, 10)])), titles)
    with pytest.raises(DatabaseError, match="moved away"):
        here.cluster.storage(0, old)
    for each in (late, waiting):
        each.close()
    once = Load(place, titles, gateway.settle)
    here.loads.append(once)
    with here.working():
        deposit = place.deposit(claim)
        once.acknowledged.append((deposit, settled(gateway, deposit, titles)))
        count(here, gateway, here.loads)


def test_orders_come_twice_late_and_in_any_order(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    """All that gateways ever ordered comes again, while it is ordered and afterwards."""
    sent: list[tuple[int, Order]] = []
    queue = gateway._queue
    ask = queue.ask

    def recorded(orders: Sequence[tuple[int, Order]]) -> list[Reply]:
        sent.extend(orders)
        return ask(orders)

    queue.ask = recorded  # type: ignore[method-assign]
    with (
        here.working(),
        closing(JetStream(here.cluster.access("admin"))) as admin,
        new_load(here, place, 60) as load,
    ):
        while load.running:
            load.wait(5)
            for number, order in random.sample(sent, min(20, len(sent))):
                headers = {OPERATION: order.operation}
                admin.run(admin.js.publish(subject_of(number), order.body, headers=headers))
        for number, order in random.sample(sent, len(sent)):
            headers = {OPERATION: order.operation}
            admin.run(admin.js.publish(subject_of(number), order.body, headers=headers))
        wait_until_idle(gateway)
        count(here, gateway, here.loads)


def wait_until_idle(gateway: ClusterGateway) -> None:
    deadline = time.monotonic() + 60
    while any(state.waiting or state.under_way for state in gateway.stream.states()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nats_and_postgresql_are_killed(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    with here.working(), new_load(here, place, 80) as load:
        load.wait(10)
        here.nats.kill(0)
        time.sleep(0.2)
        here.nats.start(0)
        load.wait(10)
        here.nodes["a"].kill()
        time.sleep(0.2)
        here.nodes["a"].start()
        load.wait(10)
        assert load.running, "they were killed too late to matter"
    with here.working():
        count(here, gateway, here.loads)


def test_the_queue_loses_everything(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    """Streams hold requests that nobody was answered; where partitions are is found from their ledgers."""
    before, _ = gateway.stream.table()
    with here.working(), new_load(here, place, 50) as load:
        load.wait(10)
        here.nats.kill(0)
        here.nats.forget(0)
        here.nats.start(0)
        assert here.cluster.set_up() == before
        here.cluster.upgrade()
        here.write_logs()  # as the gateway does every 10 s
        load.wait(10)
    with here.working():
        count(here, gateway, here.loads)


# ---- ledgers that are lost, or older than their logs -------------------------------------------------


def put_back(here: Premises, gateway: ClusterGateway, number: int, backup: Path) -> None:
    """Replace a partition's ledger by that of a backup, behind everybody's back."""
    place = gateway.stream.table()[0][number].place
    url, schema = here.cluster.node(place.node), place.schema(number)
    load_ledger(dump_folder(backup, number), url, "older")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")
        connection.execute(f"ALTER SCHEMA older RENAME TO {schema}")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def backed_up(here: Premises, place: OpenWorld, backup: Path) -> list[o.Title]:
    """Make a backup while money moves; titles that were there before. The logs know what moved after it."""
    with here.working():
        titles = place.coins(10, of_each=2)
        with new_load(here, place, 300) as load:
            load.wait(10)
            back_up(here.home, backup)
            assert not [*backup.rglob("*.key"), *backup.rglob("*password"), *backup.rglob("*.url")]
            load.wait(10)
            assert load.running, "nothing moves any more"
            load.stop()
    here.write_logs()
    return titles


def settled(gateway: ClusterGateway, deposit: o.Deposit, titles: Sequence[o.Title]) -> bytes:
    """The receipt, however often it has to be asked for."""
    return repeated(partial(gateway.settle, deposit, titles)).encode()


def facts_of(gateway: ClusterGateway, number: int) -> int:
    return gateway._read(number, lambda ledger: ledger.facts())


def test_one_partition_is_brought_back_while_the_others_go_on(
    here: Premises,
    place: OpenWorld,
    gateway: ClusterGateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jetstream, "_ANSWER_S", 0.7)
    backup = tmp_path / "backup"
    titles = backed_up(here, place, backup)
    spent = place.deposit(place.claim("alice", "shop", [(titles[0], 0, 1)]))
    with here.working(), program(here, "serve", "--port", "0") as center:
        newest = facts_of(gateway, 0)
        assert restore(here.home, 0, backup=backup) is None, "nothing was missing"
        put_back(here, gateway, 0, backup)
        older = facts_of(gateway, 0)
        assert older < newest
        # The worker that was at work looks again, as does one that comes.
        for _ in range(2):
            with pytest.raises(CenterUnreachable), here.working():
                gateway.settle(spent, [titles[0]])
        with new_load(here, place, 0, *titles[2:]):
            pass
        for point in STEPS_BACK[1:]:

            def step(name: str, point: str = point) -> None:
                if name == point:
                    raise Cut

            with pytest.raises(Cut):
                restore(here.home, 0, backup=backup, step=step)
        with pytest.raises(CenterUnreachable):
            gateway.settle(spent, [titles[0]])
        assert restore(here.home, 0, backup=backup) == newest - older
        center.send_signal(signal.SIGINT)
        assert center.wait(120) == 0
        waited = Load(place, titles, gateway.settle)
        here.loads.append(waited)
        waited.acknowledged.append((spent, settled(gateway, spent, titles)))
        with new_load(here, place, 5):
            pass
        count(here, gateway, here.loads)
    here.write_logs()
    # One that went on after it was put back is of another history.
    put_back(here, gateway, 0, backup)
    where = gateway.stream.table()[0][0].place
    with closing(here.home.partition(0, 4, here.cluster.storage(0, where))) as forked:
        forked.settle(place.deposit(place.claim("alice", "kiosk", [(titles[1], 0, 10)])))
    with pytest.raises(LedgerError, match="nothing was changed"):
        restore(here.home, 0)
    # It is gone altogether: first nobody says so, then somebody does, and the log has all of it.
    url = here.cluster.node(where.node)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {where.retired(0)} CASCADE")
    with pytest.raises(CenterError, match="cannot be looked at"):
        restore(here.home, 0)
    (other,) = (node for node in NODES if node != where.node)
    assert (restore(here.home, 0, node=other, lost=True) or 0) > newest
    with here.working(), new_load(here, place, 5):
        pass
    count(here, gateway, here.loads)


def test_all_ledgers_are_brought_back(
    here: Premises, place: OpenWorld, gateway: ClusterGateway, tmp_path: Path
) -> None:
    """Nodes, queue and home ledger are lost at once; a backup and the logs are there."""
    backup = tmp_path / "backup"
    backed_up(here, place, backup)
    gateway.close()
    here.nats.kill(0)
    here.nats.forget(0)
    here.nats.start(0)
    for url in here.cluster.nodes.values():
        with psycopg.connect(url, autocommit=True) as connection:
            for schema in schemas(url):
                if schema.startswith("p0"):
                    connection.execute(f"DROP SCHEMA {schema} CASCADE")
    for path in here.home.directory.glob("ledger.db*"):
        path.unlink()
    shutil.copy(backup / "ledger.db", here.home.directory)
    with program(here, "partitions", "setup") as setup:
        assert setup.wait(30) == 0
    with closing(here.gateway()) as fresh:
        place.center = fresh
        # Empty ledgers, and no word of how far their logs go: nobody settles, or registers a coin again.
        with pytest.raises(CenterUnreachable), here.working():
            place.issue(1, "alice")
        here.write_logs()
        with pytest.raises(CenterUnreachable), here.working():
            place.issue(1, "alice")
        with program(here, "recover", "--from", str(backup)) as recovering:
            assert recovering.wait(60) == 0
        with here.working(), new_load(here, place, 5):
            pass
        count(here, fresh, here.loads)


# ---- the programs, as they are run --------------------------------------------------------------------


@contextmanager
def program(here: Premises, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of `chipcash center` that goes on; it has begun, or it has ended."""
    command = [*prefork.chipcash(), "center", *words, "--json"]
    with subprocess.Popen(
        [*command, "--home", str(here.home.directory)],
        env=prefork.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_a_worker_ends_also_where_nats_has_ended(here: Premises) -> None:
    """Again and again: where they end at the same moment, its client can lose the order to end."""
    for pause in (0.0, 0.3):
        with program(here, "work", "--node", "a", "--node", "b") as worker:
            here.nats.kill(0)
            time.sleep(pause)
            worker.terminate()
            said = "".join(worker.communicate(timeout=60))
            assert worker.returncode == 0 and "Traceback" not in said, said
        here.nats.start(0)


def test_a_center_begins_where_a_node_is_away(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    server = here.nodes["a"]
    server.kill()
    with program(here, "serve", "--port", "0") as center:
        assert center.poll() is None
        server.start()
        with here.working(), new_load(here, place, 5):
            pass
        center.send_signal(signal.SIGINT)
        assert center.wait(120) == 0
    count(here, gateway, here.loads)


# ---- who may do what --------------------------------------------------------------------------------


def all_denied(stream: JetStream, requests: dict[str, bytes]) -> bool:
    """Whether NATS refuses requests on all these subjects to this user."""

    async def ask() -> list[object]:
        asked = [
            stream.client.request(subject, data, timeout=0.5) for subject, data in requests.items()
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    return all(isinstance(answer, TimeoutError) for answer in stream.run(ask()))


def test_a_stolen_workers_password_makes_no_money(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    """Its thief can keep orders from being carried out, and read them. Nothing else."""
    with here.working():
        titles = place.coins(10)
        before = gateway.accounts()
    stolen = JetStream(here.cluster.access("worker"))
    order = place.deposit(place.claim("alice", "mallory", [(titles[0], 0, 10)])).encode()
    waiting = [state.waiting for state in gateway.stream.states()]
    with closing(stolen):
        # It can order nothing, and change neither streams, consumers nor where partitions are.
        streams = ("UPDATE", "DELETE", "PURGE", "MSG.DELETE", "MSG.GET", "CREATE")
        wanted = {
            subject_of(0): order,
            "$KV.chipcash.partitions": b"[]",
            "$KV.chipcash.head.0000": b"{}",
            "$JS.API.CONSUMER.DURABLE.CREATE.settle-0000.mine": b"{}",
            "$JS.API.CONSUMER.DELETE.settle-0000.settlement": b"",
            **{f"$JS.API.STREAM.{what}.settle-0000": b"{}" for what in streams},
        }
        assert all_denied(stolen, wanted)
        # It would have been heard: the admin's are.
        with closing(JetStream(here.cluster.access("admin"))) as admin:
            assert not all_denied(admin, {"$JS.API.STREAM.MSG.GET.settle-0000": b"{}"})
        assert [state.waiting for state in gateway.stream.states()] == waiting
        # It hears no replies to gateways.
        heard: list[bytes] = []

        async def listen() -> None:
            async def hear(message: object) -> None:
                heard.append(b"")

            await stolen.client.subscribe("_INBOX.gateway.>", cb=hear)

        stolen.run(listen())
        # It takes an order, and replies what it likes: nothing is believed that the center did not sign.
        thief = threading.Thread(target=lie, args=(stolen, place))
        thief.start()
        deposit = place.deposit(place.claim("alice", "shop", [(titles[0], 0, 10)]))
        with pytest.raises(CenterUnreachable, match="cannot be trusted"):
            gateway.settle(deposit, titles)
        thief.join()
        assert heard == []
    # The order that it took off is repeated, and carried out.
    assert gateway.accounts() == before
    once = Load(place, titles, gateway.settle)
    here.loads.append(once)
    with here.working():
        once.acknowledged.append((deposit, settled(gateway, deposit, titles)))
        count(here, gateway, here.loads)


def lie(stolen: JetStream, place: OpenWorld) -> None:
    """Take one order of any partition, acknowledge it, and reply with a receipt that mallory signed."""

    async def take() -> None:
        subscriptions = [
            await stolen.js.pull_subscribe_bind(CONSUMER, stream_name(number))
            for number in range(4)
        ]
        while True:
            for subscription in subscriptions:
                with suppress(TimeoutError):
                    (message,) = await subscription.fetch(1, timeout=0.1)
                    order = o.Deposit.decode(split(message.data)[0])
                    receipt = o.Receipt(
                        header=place.header,
                        signer=place.key("center").key_id,
                        digest=object_id(order),
                        time=place.now,
                        results=(),
                        titles=(),
                    )
                    forged = receipt.signed(place.key("mallory").sign(receipt.message()))
                    await message.ack()
                    reply_to = message.headers[REPLY_TO]
                    await stolen.client.publish(reply_to, Reply(forged.encode()).encode())
                    await stolen.client.flush()
                    return

    stolen.run(take(), 20)


def test_a_gateway_needs_to_read_ledgers_only(here: Premises) -> None:
    for url in here.cluster.nodes.values():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE ROLE reader LOGIN")
            connection.execute("GRANT pg_read_all_data TO reader")
    urls = {name: url.replace("chipcash@", "reader@") for name, url in here.cluster.nodes.items()}
    replace(here.cluster, nodes=urls).save()
    with closing(here.gateway()) as gateway:
        here.cluster.save()
        place = OpenWorld(here, gateway)
        with here.working(), new_load(here, place, 5):
            pass
        count(here, gateway, here.loads)
        with pytest.raises(DatabaseError, match="permission denied"):
            gateway.ledger(0).storage.execute("DELETE FROM slices")


def test_a_stolen_gateways_password_makes_no_money(
    here: Premises, place: OpenWorld, gateway: ClusterGateway
) -> None:
    """Whatever it orders, workers look at signatures and titles themselves."""
    with here.working(), closing(JetStream(here.cluster.access("gateway"))) as stolen:
        titles = place.coins(10)
        before = gateway.accounts()
        queue = JetStreamQueue(stolen)
        real, foreign = titles[0], titles[1]
        made_up = changed(real, owner=place.public("mallory"))
        not_signed = changed(foreign, owner=place.public("mallory"))
        forged = [
            # signed by somebody else; a title that never was; somebody else's money beside one's own
            place.claim("mallory", "mallory", [(real, 0, 10)]),
            place.claim("mallory", "mallory", [(made_up, 0, 10)]),
            place.claim("mallory", "mallory", [(made_up, 0, 10), (not_signed, 0, 10)]),
            place.claim("mallory", "mallory", [(real, 0, 10), (not_signed, 0, 10)]),
        ]
        for claim in forged:
            body = join((place.deposit(claim), real, foreign, made_up, not_signed))
            for reply in queue.ask([(number, Order("deposit", body)) for number in range(4)]):
                assert set(states(o.Receipt.decode(reply.body))[0]) == {"invalid"}
        coin = changed(place.coin(10**9, "mallory"), amount=10**10)
        for number in range(4):
            for order in (
                Order("coin", coin.encode()),
                Order("void", b""),
                Order("mint", b""),
                Order("deposit", b"\xff"),
            ):
                (reply,) = queue.ask([(number, order)])
                assert reply.refused is not None
        # The right claim in the wrong partition, and a coin too, where it would be issued for a second time.
        good = place.deposit(place.claim("alice", "shop", [(real, 0, 10)]))
        (reply,) = queue.ask([(1, Order("deposit", join((good, real))))])
        assert states(o.Receipt.decode(reply.body)) == [["invalid"]]
        again = place.coin(10, "alice", real.serial)
        (reply,) = queue.ask([(1, Order("coin", again.encode()))])
        assert reply.refused is not None
        wanted = ("$KV.chipcash.partitions", "$JS.API.STREAM.PURGE.settle-0000")
        assert all_denied(stolen, dict.fromkeys(wanted, b""))
        assert gateway.accounts() == before
        count(here, gateway, here.loads)
        # What it says of a log is no log's: a worker that comes then waits until it hears better.
        stolen.tell_head(0, Head(b"forged", ()).encode())
    with pytest.raises(CenterUnreachable), here.working():
        gateway.settle(good, [real])
    here.write_logs()
    once = Load(place, titles, gateway.settle)
    here.loads.append(once)
    with here.working():
        once.acknowledged.append((good, settled(gateway, good, [real])))
        count(here, gateway, here.loads)


# ---- long ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_nats_server_of_three_is_lost_under_load(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each of them in turn, the leader of some streams among them; requests wait, and none is lost."""
    with (
        premises(tmp_path_factory.mktemp("three"), servers=3) as three,
        closing(three.gateway()) as gateway,
        three.working(),
    ):
        place = OpenWorld(three, gateway)
        with Load(place, place.coins(400, of_each=2), gateway.settle) as load:
            for number in range(3):
                load.wait(10)
                leaders = {state.leader for state in gateway.stream.states()}
                assert leaders <= {"n0", "n1", "n2"}
                three.nats.kill(number)
                load.wait(10)
                assert load.running, "it was killed too late to matter"
                three.nats.start(number)
                time.sleep(3)  # it catches up, or the next one would be a second one lost
        count(three, gateway, [load])


@pytest.mark.long
def test_a_minute_of_everything(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Workers, NATS and PostgreSQL are killed at random, and partitions move, all under load."""
    with premises(tmp_path_factory.mktemp("minute")) as here, closing(here.gateway()) as gateway:
        place = OpenWorld(here, gateway)
        with here.working():
            titles = place.coins(3000, of_each=2)
        chance = random.Random(7)
        load = Load(place, titles, gateway.settle)
        until = time.monotonic() + 60

        def work(node: str) -> None:
            while time.monotonic() < until:
                point = chance.choice(("", *killed.WORKER))
                with (
                    here.process("worker", point, node) as process,
                    suppress(subprocess.TimeoutExpired),
                ):
                    process.popen.wait(chance.uniform(1, 4))

        with load:
            workers = [threading.Thread(target=work, args=(node,)) for node in NODES]
            for thread in workers:
                thread.start()
            while time.monotonic() < until and load.running:
                time.sleep(chance.uniform(0.5, 2))
                match chance.randrange(3):
                    case 0:
                        here.nats.kill(0)
                        here.nats.start(0)
                    case 1:
                        node = here.nodes[chance.choice(NODES)]
                        node.kill()
                        node.start()
                    case _:
                        point = chance.choice((*STEPS, ""))
                        number, to = str(chance.randrange(4)), chance.choice(NODES)
                        with here.process("move", point, number, to) as process:
                            process.popen.wait(60)
            for thread in workers:
                thread.join()
            with here.working():
                for number in range(4):
                    move(here.cluster, number, chance.choice(NODES))
                load.stop()
        with here.working():
            assert count(here, gateway, [load]) > 100

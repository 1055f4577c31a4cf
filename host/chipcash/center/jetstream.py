# SPDX-License-Identifier: Apache-2.0
"""What stands between gateways and workers: NATS with JetStream, and what is kept there.

One stream for each partition, kept in files on several servers of a cluster; one durable consumer of it, that
partition's workers; one key with the table of where partitions are. A stream is no ledger: what is lost with
it was never answered, and comes again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from chipcash.center.errors import CenterError, CenterUnreachable
from chipcash.center.orders import Order, Reply
from chipcash.center.partitions import Table

try:
    import nats
    from nats.aio.client import Client as NATS
    from nats.errors import Error as NatsError
    from nats.js import api
    from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
except ImportError as error:
    raise CenterError(
        f"A center of several ledgers needs the Python package nats-py: {error}.",
        hint="Run: pip install 'chipcash[partitions]'",
    ) from None

__all__ = [
    "BUCKET",
    "CONSUMER",
    "MAX_TOGETHER",
    "OPERATION",
    "REPLY_TO",
    "Access",
    "JetStream",
    "JetStreamQueue",
    "PartitionState",
    "connect",
    "read_head",
    "read_table",
    "stream_name",
    "subject_of",
]

_log = logging.getLogger(__name__)

BUCKET = "chipcash"
_TABLE = "partitions"
_HEAD = "head.{:04}"
"""The key with how far a partition's log goes."""
CONSUMER = "settlement"
OPERATION = "Chipcash-Operation"
REPLY_TO = "Chipcash-Reply"

MAX_TOGETHER = 256
"""Most orders that are out for one partition, and that one transaction settles."""
_REDELIVER_S = 5.0
"""After which an order goes to another worker, if the first has not acknowledged it."""
_KEEP_S = 600.0
"""After which an order is dropped: who waited for it has long repeated it."""
_MAX_STREAM_BYTES = 1 << 30
"""What waits for one partition; more is refused, and comes again."""
_CALL_S = 5.0
_ANSWER_S = 20.0
"""How long a gateway waits for replies before it tells its client to repeat the request."""
_PUBLISH_S = 2.0

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Access:
    """How a process gets at NATS. servers: URLs; user: gateway, worker or admin."""

    servers: tuple[str, ...]
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Access({self.servers}, {self.user})"

    @property
    def inbox(self) -> str:
        """What the subjects begin with on which this user, and nobody else, gets replies."""
        return f"_INBOX.{self.user}"

    def options(self) -> dict[str, Any]:
        """For nats.connect: a connection that comes back by itself."""
        return {
            "servers": list(self.servers),
            "user": self.user,
            "password": self.password,
            "name": f"chipcash {self.user}",
            "inbox_prefix": self.inbox,
            "connect_timeout": 2,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.2,
            "error_cb": _told,
        }


async def connect(access: Access) -> NATS:
    """A connection that comes back by itself. Raises CenterUnreachable."""
    try:
        return await asyncio.wait_for(nats.connect(**access.options()), _CALL_S)
    except (NatsError, OSError, TimeoutError) as error:
        raise CenterUnreachable(
            f"NATS at {', '.join(access.servers)} does not let user {access.user} in"
            f" ({str(error) or type(error).__name__}).",
            hint="See that it runs, with the nats.conf of this center.",
            servers=list(access.servers),
        ) from None


async def read_table(client: NATS) -> tuple[Table, int]:
    """Where partitions are, and the revision of that. Raises CenterError where NATS is not set up."""
    try:
        bucket = await client.jetstream(timeout=_CALL_S).key_value(BUCKET)
        entry = await bucket.get(_TABLE)
    except (BucketNotFoundError, KeyNotFoundError):
        raise CenterError(
            "NATS knows of no partitions.",
            hint="Make them there: chipcash center partitions setup",
        ) from None
    return Table.decode(entry.value or b""), entry.revision or 0


async def read_head(client: NATS, number: int) -> bytes:
    """How far a partition's log goes, as who writes it told last. Raises CenterError where nobody did."""
    try:
        bucket = await client.jetstream(timeout=_CALL_S).key_value(BUCKET)
        return (await bucket.get(_HEAD.format(number))).value or b""
    except (BucketNotFoundError, KeyNotFoundError):
        raise CenterError(
            "Nobody has said yet how far its log goes, so that its ledger could be too old.",
            hint="Start the gateway that writes the logs: chipcash center serve",
        ) from None


async def _told(error: Exception) -> None:
    _log.warning("NATS: %s", error or type(error).__name__)


def stream_name(number: int) -> str:
    """The stream of a partition's orders."""
    return f"settle-{number:04}"


def subject_of(number: int) -> str:
    """The subject on which they are published."""
    return f"chipcash.settle.{number:04}"


@dataclass(frozen=True)
class PartitionState:
    """A partition as the queue sees it. waiting: orders that no worker has; under_way: that one has; workers:
    requests of workers for more, 0 if nobody is idle there; leader: the NATS server that leads its stream."""

    number: int
    node: str
    generation: int
    moving_to: str | None
    waiting: int
    under_way: int
    workers: int
    leader: str | None


class JetStream:
    """A connection to NATS in a thread of its own, for programs that are not asynchronous. close() ends it.

    Raises CenterUnreachable where NATS does not answer; what is asked of it may be asked again.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        try:
            self.client = self.run(connect(access), 2 * _CALL_S)
        except BaseException:
            self._end()
            raise
        self.js = self.client.jetstream(timeout=_CALL_S)

    def close(self) -> None:
        """End the connection. May be repeated."""
        if self._loop.is_running():
            try:
                self.run(self.client.close(), _CALL_S)
            except CenterUnreachable:
                pass
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connected(self) -> bool:
        """Whether NATS is there just now."""
        return bool(self.client.is_connected)

    def run(self, coroutine: Coroutine[Any, Any, _Result], timeout: float = _CALL_S) -> _Result:
        """Run something in the connection's thread, and wait for it."""
        with _unreachable(self.access):
            running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            try:
                return running.result(timeout)
            except TimeoutError:
                running.cancel()
                raise

    # ---- set-up, by the admin -----------------------------------------------------------------------

    def set_up(self, table: Table, replicas: int) -> Table:
        """Make streams, consumers and the table, as far as they are missing; the table that is there then."""
        return self.run(self._set_up(table, replicas), 12 * _CALL_S)

    async def _set_up(self, table: Table, replicas: int) -> Table:
        bucket = await self.js.create_key_value(
            api.KeyValueConfig(bucket=BUCKET, history=16, replicas=replicas, direct=True)
        )
        try:
            await bucket.create(_TABLE, table.encode())
        except KeyWrongLastSequenceError:
            table, _ = await read_table(self.client)
        for number in range(len(table)):
            name = stream_name(number)
            await self.js.add_stream(
                api.StreamConfig(
                    name=name,
                    subjects=[subject_of(number)],
                    retention=api.RetentionPolicy.WORK_QUEUE,
                    discard=api.DiscardPolicy.NEW,
                    max_age=_KEEP_S,
                    max_bytes=_MAX_STREAM_BYTES,
                    storage=api.StorageType.FILE,
                    num_replicas=replicas,
                )
            )
            await self.js.add_consumer(
                name,
                api.ConsumerConfig(
                    durable_name=CONSUMER,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=_REDELIVER_S,
                    max_ack_pending=MAX_TOGETHER,
                ),
            )
        return table

    # ---- the table ----------------------------------------------------------------------------------

    def table(self) -> tuple[Table, int]:
        """Where partitions are, and the revision of that."""
        return self.run(read_table(self.client))

    def replace_table(self, table: Table, revision: int) -> int | None:
        """Put another table in the place of that revision; the new one's, None if that is not the newest."""
        return self.run(self._replace_table(table, revision))

    async def _replace_table(self, table: Table, revision: int) -> int | None:
        bucket = await self.js.key_value(BUCKET)
        try:
            return await bucket.update(_TABLE, table.encode(), last=revision)
        except KeyWrongLastSequenceError:
            return None

    def tell_head(self, number: int, head: bytes) -> None:
        """Tell workers how far a partition's log goes."""
        self.run(self._tell_head(number, head))

    async def _tell_head(self, number: int, head: bytes) -> None:
        bucket = await self.js.key_value(BUCKET)
        await bucket.put(_HEAD.format(number), head)

    # ---- what to watch ------------------------------------------------------------------------------

    def states(self) -> list[PartitionState]:
        """Each partition: where it is, and what waits for it."""
        return self.run(self._states(), 4 * _CALL_S)

    async def _states(self) -> list[PartitionState]:
        table, _ = await read_table(self.client)
        infos = await asyncio.gather(
            *(self.js.consumer_info(stream_name(number), CONSUMER) for number in range(len(table)))
        )
        return [
            PartitionState(
                number=number,
                node=assignment.place.node,
                generation=assignment.place.generation,
                moving_to=None if assignment.target is None else assignment.target.node,
                waiting=info.num_pending or 0,
                under_way=info.num_ack_pending or 0,
                workers=info.num_waiting or 0,
                leader=None if info.cluster is None else info.cluster.leader,
            )
            for number, (assignment, info) in enumerate(zip(table.assignments, infos, strict=True))
        ]


class JetStreamQueue:
    """A gateway's way to the partitions (chipcash.center.orders.Queue)."""

    def __init__(self, stream: JetStream) -> None:
        self._stream = stream
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._inbox = f"{stream.access.inbox}.{uuid.uuid4().hex}"
        stream.run(stream.client.subscribe(f"{self._inbox}.*", cb=self._replied))

    async def _replied(self, message: Any) -> None:
        waiting = self._waiting.get(message.subject)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.data)

    def ask(self, orders: Sequence[tuple[int, Order]]) -> list[Reply]:
        """As Queue."""
        try:
            return self._stream.run(self._ask_all(orders), _ANSWER_S + _CALL_S)
        except (ValueError, KeyError):
            raise CenterUnreachable(
                "A reply through the queue could not be understood; it was not used.",
                hint="Repeat the same request, and find out who can write to the queue.",
            ) from None

    async def _ask_all(self, orders: Sequence[tuple[int, Order]]) -> list[Reply]:
        async with asyncio.timeout(_ANSWER_S):
            return await asyncio.gather(*(self._ask(number, order) for number, order in orders))

    async def _ask(self, number: int, order: Order) -> Reply:
        reply_to = f"{self._inbox}.{uuid.uuid4().hex}"
        replied: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[reply_to] = replied
        headers = {OPERATION: order.operation, REPLY_TO: reply_to}
        try:
            while True:
                try:
                    await self._stream.js.publish(
                        subject_of(number), order.body, timeout=_PUBLISH_S, headers=headers
                    )
                    break
                except (NatsError, TimeoutError):
                    # No server leads the stream just now. Twice in the queue is once in the ledger.
                    await asyncio.sleep(0.1)
            return Reply.decode(await replied)
        finally:
            del self._waiting[reply_to]


@contextmanager
def _unreachable(access: Access) -> Iterator[None]:
    try:
        yield
    except (NatsError, OSError, TimeoutError, CancelledError) as error:
        raise CenterUnreachable(
            f"The center's queue did not answer in time ({str(error) or type(error).__name__}). The request "
            "was carried out, or it was not, or it will be.",
            hint="Repeat the same request: it never counts twice.",
            servers=list(access.servers),
        ) from None

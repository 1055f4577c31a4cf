# SPDX-License-Identifier: Apache-2.0
"""A settlement worker: carries out the orders of the partitions that are on its PostgreSQL nodes.

It takes what waits for a partition, up to MAX_TOGETHER orders, has the ledger carry that out in one
transaction where it can, replies, and only then acknowledges. Whatever is cut, the orders come again. Two
workers of one node may run beside each other: the ledger's own lock lets one at a time write.

Before it takes any, and again whenever the database had failed, it sees that the ledger is no older than its
log, as the gateway that writes the logs told it in NATS. Until somebody told it, it waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from chipcash.center.errors import CenterError, CenterRefused
from chipcash.center.facts import LedgerFacts
from chipcash.center.heads import Head, need_no_older
from chipcash.center.jetstream import (
    CONSUMER,
    MAX_TOGETHER,
    OPERATION,
    REPLY_TO,
    Access,
    connect,
    read_head,
    read_table,
    stream_name,
)
from chipcash.center.orders import Order, Reply, carry_out
from chipcash.center.partitions import Partition, Place, Table
from chipcash.database import DatabaseError
from chipcash.errors import ChipcashError
from chipcash.log.note import Key

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_LOOK_S = 0.25
"""How often it looks where partitions are."""
_FETCH_S = 1.0
"""How long it waits for orders before it looks whether it is to end."""
_REST_S = 0.5
"""After a failure."""

Open = Callable[[int, int, Place], Partition]
"""The ledger of a partition: its number, how many there are, where it is."""


class Worker:
    """A worker for the partitions of some nodes: run() it until stop().

    access: as user worker; nodes: names of PostgreSQL nodes; open_ledger: how to get at a partition there;
    log_key: the key of a partition's log, by its number.
    """

    def __init__(
        self,
        access: Access,
        nodes: Collection[str],
        open_ledger: Open,
        log_key: Callable[[int], Key],
    ) -> None:
        self._access = access
        self._nodes = nodes
        self._open = open_ledger
        self._log_key = log_key
        self._ended = asyncio.Event()
        self._working: dict[int, _Work] = {}

    def stop(self) -> None:
        """Finish what is under way, then end run(). Called in its event loop."""
        self._ended.set()

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Work. ready: is called once it does. Raises CenterError where NATS is not set up."""
        client = await connect(self._access)
        try:
            while not self._ended.is_set():
                try:
                    table = await self._look(client)
                except (NatsError, TimeoutError, OSError, CenterError) as error:
                    if ready is not None and isinstance(error, CenterError):
                        raise
                    _log.warning("Where partitions are cannot be read just now: %s", error)
                else:
                    if table is None:
                        break
                    await self._assign(client, table)
                    if ready is not None:
                        ready()
                        ready = None
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _LOOK_S)
        finally:
            await asyncio.gather(*(work.end() for work in self._working.values()))
            with suppress(NatsError, OSError):  # where NATS has ended, so has the connection
                await client.close()

    async def _look(self, client: NATS) -> Table | None:
        """Where partitions are; None if it is to end meanwhile, since NATS may be away for long."""
        looking = asyncio.create_task(read_table(client))
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait((looking, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if looking.done():
            table, _ = looking.result()
            return table
        looking.cancel()
        return None

    async def _assign(self, client: NATS, table: Table) -> None:
        """Work on the partitions that are here and stay, and on no other."""
        for number, assignment in enumerate(table.assignments):
            here = assignment.target is None and assignment.place.node in self._nodes
            work = self._working.get(number)
            if work is not None and (not here or work.place != assignment.place):
                await self._working.pop(number).end()
                work = None
            if here and work is None:
                place = assignment.place
                open_ledger = partial(self._open_checked, number, len(table), place)
                self._working[number] = _Work(client, number, place, open_ledger)

    def _open_checked(self, number: int, of: int, place: Place, head: bytes) -> Partition:
        """A partition's ledger, no older than its log. Raises DatabaseError, LedgerError, LogError."""
        ledger = self._open(number, of, place)
        try:
            facts = LedgerFacts(ledger.storage, ledger.trust.header)
            need_no_older(facts, Head.decode(head), self._log_key(number))
        except BaseException:
            ledger.close()
            raise
        return ledger


class _Work:
    """The work on one partition, as long as it is at one place. Begins at once; end() ends it."""

    def __init__(
        self, client: NATS, number: int, place: Place, open_ledger: Callable[[bytes], Partition]
    ) -> None:
        self.place = place
        self._told = ""
        self._client = client
        self._number = number
        self._open = open_ledger
        self._ending = False
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Finish what is under way."""
        self._ending = True
        await self._task

    async def _run(self) -> None:
        ledger: Partition | None = None
        stream = self._client.jetstream()
        orders = await stream.pull_subscribe_bind(CONSUMER, stream_name(self._number))
        while not self._ending:
            try:
                if ledger is None:
                    head = await read_head(self._client, self._number)
                    ledger = await asyncio.to_thread(self._open, head)
                    self._told = ""
                messages = await orders.fetch(MAX_TOGETHER, timeout=_FETCH_S)
                await self._carry_out(ledger, messages)
            except TimeoutError:
                pass  # nothing waits
            except (NatsError, OSError, ChipcashError) as error:
                if isinstance(error, DatabaseError) and ledger is not None:
                    # Behind the same URL there may be an older ledger now: it is looked at again.
                    ledger.close()
                    ledger = None
                self._tell(f"{error} {getattr(error, 'hint', '')}".strip())
                await asyncio.sleep(_REST_S)
        if ledger is not None:
            ledger.close()
        with suppress(NatsError, OSError):
            await orders.unsubscribe()

    def _tell(self, problem: str) -> None:
        """Say why it has to wait, each time that it is something else."""
        if problem != self._told:
            self._told = problem
            _log.warning("Partition %d has to wait: %s", self._number, problem)

    async def _carry_out(self, ledger: Partition, messages: Sequence[Msg]) -> None:
        """Carry out, reply, acknowledge. Raises DatabaseError; then they come again."""
        orders = [Order((each.headers or {}).get(OPERATION, ""), each.data) for each in messages]
        try:
            replies = await asyncio.to_thread(carry_out, ledger, orders)
        except DatabaseError:
            for message in messages:
                await message.nak(delay=_REST_S)
            raise
        except Exception:
            # One order must not keep the others waiting, whatever is wrong with it.
            if len(messages) > 1:
                for message in messages:
                    await self._carry_out(ledger, [message])
                return
            _log.exception("An order for partition %d failed", self._number)
            replies = [Reply(refused=_FAILED)]
        for message, reply in zip(messages, replies, strict=True):
            reply_to = (message.headers or {}).get(REPLY_TO, "")
            if reply_to.startswith("_INBOX."):
                await self._client.publish(reply_to, reply.encode())
            await message.ack()


_FAILED = CenterRefused(
    "internal",
    "The center failed; the request was carried out wholly or not at all.",
    status=500,
    hint="Repeat the same request: it is safe.",
)

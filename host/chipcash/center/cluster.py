# SPDX-License-Identifier: Apache-2.0
"""A center of several ledgers: which NATS servers and PostgreSQL nodes it has, and who may do what there.

    partitions.json      number of partitions, NATS servers, PostgreSQL nodes by name; URLs may have passwords
    nats.conf            users and their permissions, for the configuration of each NATS server
    nats-USER.password   of gateway, worker, admin: a machine gets the files of what runs there

All are for their owner only (0600).
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from chipcash import files
from chipcash.center import postgres
from chipcash.center.errors import CenterError, CenterUnreachable
from chipcash.center.gateway import Gateway
from chipcash.center.heads import Head
from chipcash.center.inquiry import Inquiry
from chipcash.center.jetstream import (
    BUCKET,
    CONSUMER,
    Access,
    JetStream,
    JetStreamQueue,
    PartitionState,
)
from chipcash.center.partitions import MAX_PARTITIONS, PARTITIONS_FILE, Assignment, Place, Table
from chipcash.database import DatabaseError
from chipcash.errors import ChipcashError

__all__ = ["USERS", "Cluster", "ClusterGateway"]

_log = logging.getLogger(__name__)

USERS = ("gateway", "worker", "admin")

_LOOK_S = 0.25
"""For how long where partitions are is taken to stay so."""

_LIST_S = 1.0

_READ_TABLE = (f"$JS.API.STREAM.INFO.KV_{BUCKET}", f"$JS.API.DIRECT.GET.KV_{BUCKET}.>")
_MAY_PUBLISH = {
    "gateway": (
        "chipcash.settle.*",
        f"$KV.{BUCKET}.head.*",
        f"$JS.API.CONSUMER.INFO.*.{CONSUMER}",
        *_READ_TABLE,
    ),
    # No order, and nothing that makes, changes or empties a stream.
    "worker": (
        f"$JS.API.CONSUMER.MSG.NEXT.*.{CONSUMER}",
        f"$JS.ACK.*.{CONSUMER}.>",
        "_INBOX.gateway.>",
        *_READ_TABLE,
    ),
    "admin": (">",),
}


@dataclass(frozen=True)
class Cluster:
    """The settings of a center of several ledgers, in its home directory.

    partitions: how many there are, for good; servers: NATS URLs; replicas: how many NATS servers keep each
    stream; nodes: PostgreSQL databases by name (URLs of libpq without `options`).
    """

    directory: Path
    partitions: int
    servers: tuple[str, ...]
    replicas: int
    nodes: dict[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= MAX_PARTITIONS or self.partitions & (self.partitions - 1):
            raise CenterError(
                f"{self.partitions} is no number of partitions.",
                hint=f"Take a power of two, up to {MAX_PARTITIONS}.",
            )
        if not self.servers or not self.nodes:
            raise CenterError(
                "Partitions need a NATS server and a PostgreSQL node.", hint="Name one of each."
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """The settings in a file of a home directory. Raises CenterError, OSError."""
        try:
            data = json.loads(path.read_bytes())
            data["servers"] = tuple(data["servers"])
            return cls(path.parent, **data)
        except (ValueError, KeyError, TypeError):
            raise CenterError(
                f"{path} cannot be understood.",
                hint="Restore it from a backup; all machines of a center have the same.",
            ) from None

    def save(self) -> None:
        """Write them."""
        data = asdict(self)
        del data["directory"]
        files.replace(
            self.directory / PARTITIONS_FILE, (json.dumps(data, indent=1) + "\n").encode()
        )

    def make_users(self) -> None:
        """Make the NATS users' passwords, those that there are not yet, and the file for its servers."""
        users = []
        for user in USERS:
            if not self._password(user).is_file():
                files.create(self._password(user), f"{secrets.token_urlsafe(32)}\n".encode())
            password = self._password(user).read_text().strip()
            may = ", ".join(json.dumps(subject) for subject in _MAY_PUBLISH[user])
            inbox = ">" if user == "admin" else f"_INBOX.{user}.>"
            users.append(
                f'    {{user: {user}, password: "{password}", permissions: {{\n'
                f'      publish: [{may}]\n      subscribe: ["{inbox}"]}}}}\n'
            )
        text = f"jetstream: enabled\nauthorization {{\n  users: [\n{''.join(users)}  ]\n}}\n"
        files.replace(self.directory / "nats.conf", text.encode())

    def access(self, user: str) -> Access:
        """How a user gets at NATS. Raises CenterError if this machine has not got its password."""
        try:
            password = self._password(user).read_text().strip()
        except OSError:
            raise CenterError(
                f"{self._password(user)} is missing: this machine may not be NATS user {user}.",
                hint="Copy it from where the center was made, if this is to run here.",
            ) from None
        return Access(self.servers, user, password)

    def _password(self, user: str) -> Path:
        return self.directory / f"nats-{user}.password"

    # ---- ledgers ------------------------------------------------------------------------------------

    def node(self, name: str) -> str:
        """The URL of a node. Raises CenterError if it is unknown."""
        if name not in self.nodes:
            raise CenterError(
                f"There is no PostgreSQL node {name} in {self.directory / PARTITIONS_FILE}.",
                hint="Add it: chipcash center partitions add-node NAME URL",
            )
        return self.nodes[name]

    def storage(self, number: int, place: Place) -> postgres.PostgresStorage:
        """The ledger of a partition. Raises DatabaseError, also where it has moved away."""
        return postgres.PostgresStorage(self.node(place.node), place.schema(number))

    def opened(self, number: int, place: Place) -> closing[postgres.PostgresStorage]:
        """The same, closed at the end of a `with`."""
        return closing(self.storage(number, place))

    def set_up(self, lost: bool = False) -> Table:
        """Make what is missing: streams, the table of partitions, and empty ledgers; the table.

        Where NATS has lost the table, it is made from the ledgers that the nodes have. Raises CenterError if
        some of those are missing although others hold money, unless these are lost: then there are empty
        ones, which no worker takes before restore() has filled them. DatabaseError; CenterUnreachable.
        """
        stream = JetStream(self.access("admin"))
        try:
            found = self._found()
            new = Table.new(self.partitions, list(self.nodes))
            missing = len(found) < self.partitions and not lost
            if missing and any(map(self._holds_money, found.items())):
                raise CenterError(
                    f"{self.partitions - len(found)} partitions are on no node, and others hold money.",
                    hint=f"See that {self.directory / PARTITIONS_FILE} names all nodes; nothing was made. If"
                    " they are gone for good: --lost, then chipcash center recover.",
                )
            for number in range(self.partitions):
                if number not in found:
                    place = new[number].place
                    postgres.create_ledger(self.node(place.node), place.schema(number))
                    found[number] = Assignment(place)
            table = Table(tuple(found[number] for number in range(self.partitions)))
            return stream.set_up(table, self.replicas)
        finally:
            stream.close()

    def upgrade(self) -> None:
        """Bring the ledgers of an older version to this program's; nobody may use them meanwhile. Also what
        NATS users may do, where all of them are known."""
        if all(self._password(user).is_file() for user in USERS):
            self.make_users()
        stream = JetStream(self.access("admin"))
        try:
            table, _ = stream.table()
        finally:
            stream.close()
        for number, assignment in enumerate(table.assignments):
            place = assignment.place
            postgres.upgrade(self.node(place.node), place.schema(number))

    def _found(self) -> dict[int, Assignment]:
        """Where ledgers are by what the nodes hold: of each the newest generation, since nobody wrote to any
        other after that was copied. One that was to move and was not copied is on its way to where it was."""
        found: dict[int, Assignment] = {}
        for node, url in self.nodes.items():
            for name in postgres.schemas(url):
                parts = re.fullmatch("p([0-9]{4})g([0-9]+)(_moved)?", name)
                if parts is None:
                    continue
                number, place = int(parts[1]), Place(node, int(parts[2]))
                if number in found and found[number].place.generation > place.generation:
                    continue
                again = Place(node, place.generation + 1) if parts[3] else None
                found[number] = Assignment(place, again)
        return found

    def _holds_money(self, ledger: tuple[int, Assignment]) -> bool:
        number, assignment = ledger
        if assignment.target is not None:
            return True  # only what was used is moved
        with self.opened(number, assignment.place) as storage:
            return Inquiry(storage).facts() > 0


class _Readers:
    """Ledgers of partitions, to be read: they follow them where they move."""

    def __init__(self, cluster: Cluster, stream: JetStream) -> None:
        self._cluster = cluster
        self._stream = stream
        self._table, _ = stream.table()
        self._read_at = time.monotonic()
        self._reading = threading.Lock()
        # A node that is away must not keep those who read from others.
        self._opening = [threading.Lock() for _ in range(cluster.partitions)]
        self._open: dict[int, tuple[Place, Inquiry]] = {}

    def __call__(self, number: int) -> Inquiry:
        place = self._newest()[number].place
        with self._opening[number]:
            kept = self._open.get(number)
            if kept is None or kept[0] != place:
                if kept is not None:
                    kept[1].storage.close()
                kept = place, Inquiry(self._cluster.storage(number, place))
                self._open[number] = kept
            return kept[1]

    def _newest(self) -> Table:
        """Where partitions are, or were when NATS last answered."""
        with self._reading:
            if self._stream.connected and time.monotonic() - self._read_at > _LOOK_S:
                with suppress(CenterUnreachable):
                    self._table, _ = self._stream.table()
                self._read_at = time.monotonic()
            return self._table

    def close(self) -> None:
        """Close them all."""
        for _, inquiry in self._open.values():
            inquiry.storage.close()


class ClusterGateway(Gateway):
    """The gateway of a cluster. Values as of Center; close() ends its connections too."""

    def __init__(self, cluster: Cluster, *values: Any) -> None:
        self.stream = JetStream(cluster.access("gateway"))
        try:
            self._readers = _Readers(cluster, self.stream)
            queue = JetStreamQueue(self.stream)
            super().__init__(queue, self._readers, cluster.partitions, *values)
        except BaseException:
            self.stream.close()
            raise
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._list_all, name="blacklist", daemon=True)
        self._thread.start()

    def facts(self) -> int:
        """As Inquiry, of the home ledger. Raises DatabaseError also where NATS is away."""
        if not self.stream.connected:
            raise DatabaseError(
                "The center's queue cannot be reached.", hint="It is tried again all the time."
            )
        return super().facts()

    def tell_head(self, number: int, head: Head) -> None:
        """Tell workers how far a partition's log goes. Raises CenterUnreachable."""
        self.stream.tell_head(number, head.encode())

    def partition_states(self) -> list[PartitionState]:
        """Of each partition where it is and where to it moves, what waits, and who works for it.

        Raises CenterUnreachable.
        """
        return self.stream.states()

    def _list_all(self) -> None:
        """List, for ever, keys whose accusation a crash kept from the blacklist."""
        told = ""
        while not self._ended.wait(_LIST_S):
            try:
                self.list_accused()
                told = ""
            except ChipcashError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("Evidence in the partitions could not be read: %s", error)

    def close(self) -> None:
        """Close the home ledger and all connections."""
        self._ended.set()
        self._thread.join()
        super().close()
        self._readers.close()
        self.stream.close()

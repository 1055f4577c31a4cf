# SPDX-License-Identifier: Apache-2.0
"""What is found out of claims before the transaction that settles them: whether they are signed by who owns
what they spend. It needs nothing but titles, which never change once they are made, so it can be done
anywhere: by the thread that settles, or in processes of their own, on all processors."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipcash.center.batch import MAX_INTERVALS, Part, Unverified, Verified
from chipcash.center.bodies import read_with_titles
from chipcash.center.collector import collect_seldom
from chipcash.center.errors import CenterRefused
from chipcash.center.storage import Storage, open_storage
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["Checked", "Checkers", "Foreign", "Verifier"]

_TRIES = 3
"""How often a deposit is given to processes that die of it, or beside it."""

Foreign = Callable[[Sequence[o.Title]], dict[bytes, list[Any]]]
"""Of carried titles, those that count though their coins are not in this ledger: None for the serial, lo, hi,
owner by title_id."""


@dataclass(frozen=True)
class Checked:
    """A deposit that may be settled: its digest, and its claims in their order."""

    digest: bytes
    claims: tuple[Verified | Unverified, ...]


class Verifier:
    """Verifies claims against the titles of a ledger. Safe to use from several threads.

    storage: the ledger; foreign: what else counts, nothing where the ledger has all coins.
    """

    def __init__(
        self, storage: Storage, trust: Trust, foreign: Foreign = lambda carried: {}
    ) -> None:
        self._storage = storage
        self._trust = trust
        self._foreign = foreign

    def check_body(self, body: bytes) -> Checked:
        """A deposit as it is sent, with titles behind it. Raises CenterRefused: malformed, network,
        too-large."""
        deposit, carried = read_with_titles(o.Deposit, body)
        self.need_settleable(deposit)
        (checked,) = self.check([deposit], carried)
        return checked

    def need_settleable(self, deposit: o.Deposit) -> None:
        """Refuse a deposit that is not to be settled at all: network, too-large."""
        self.need_header(deposit)
        if sum(len(claim.inputs) for claim in deposit.claims) > MAX_INTERVALS:
            raise CenterRefused(
                "too-large",
                f"The deposit spends more than {MAX_INTERVALS} intervals; nothing was settled.",
                status=413,
                hint="Split it into several deposits.",
            )

    def need_header(self, obj: Any) -> None:
        """Refuse an object of another network."""
        if not self._trust.accepts(obj.header):
            raise CenterRefused(
                "network",
                "This object is of another network, version or suite; nothing was changed.",
                hint="Check the center's address.",
            )

    def check(self, deposits: Sequence[o.Deposit], carried: Sequence[o.Title]) -> list[Checked]:
        """Deposits that are settleable; carried: titles that came with any of them."""
        left = iter(self.verify([x for deposit in deposits for x in deposit.claims], carried))
        return [
            Checked(object_id(deposit), tuple(next(left) for _ in deposit.claims))
            for deposit in deposits
        ]

    def verify(
        self, claims: Sequence[o.Claim], carried: Sequence[o.Title] = ()
    ) -> list[Verified | Unverified]:
        """Header, titles known and of one owner, bounds, signature."""
        ids = {item.title_id for claim in claims for item in claim.inputs}
        given = self._storage.given({"title_id": bytes}, [(title_id,) for title_id in ids])
        titles = self._foreign(carried)
        titles |= {
            title_id: rest
            for title_id, *rest in self._storage.all(
                "SELECT titles.title_id, titles.serial, titles.lo, titles.hi, titles.owner"
                f" FROM {given.sql} AS given JOIN titles ON titles.title_id = given.title_id",
                *given.values,
            )
        }
        return [self._verify(claim, titles) for claim in claims]

    def _verify(self, claim: o.Claim, titles: dict[bytes, list[Any]]) -> Verified | Unverified:
        claim_id = object_id(claim)
        parts = self._parts(claim, titles)
        owners = {titles[item.title_id][3] for item in claim.inputs} if parts else set()
        if len(owners) != 1 or not self._trust.signed_by(claim, *owners):
            return Unverified(claim_id, tuple((x.title_id, x.lo, x.hi) for x in claim.inputs))
        return Verified(
            claim.encode(), claim_id, owners.pop(), claim.payee, claim.nonce, claim.amount,
            claim.deadline, parts,
        )  # fmt: skip

    def _parts(self, claim: o.Claim, titles: dict[bytes, list[Any]]) -> tuple[Part, ...]:
        """What a claim spends of this ledger's coins; nothing if any of its intervals cannot be."""
        if not self._trust.accepts(claim.header):
            return ()
        parts = []
        for item in claim.inputs:
            if item.title_id not in titles:
                return ()
            serial, lo, hi, _ = titles[item.title_id]
            if item.lo < lo or item.hi > hi:
                return ()
            if serial is not None:
                parts.append(Part(item.title_id, serial, item.lo, item.hi))
        return tuple(parts)


class Checkers:
    """Processes that check deposits beside each other: check() blocks, and is called from several threads.

    ledger: as of open_storage(), a file or a server; trust: the network; processes: how many. They begin with
    the first deposit, and end with close().
    """

    def __init__(self, ledger: str | Path, trust: Trust, processes: int) -> None:
        self._values = (ledger, trust)
        self._processes = processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def check(self, body: bytes) -> Checked:
        """As Verifier.check_body. Raises DatabaseError too."""
        for _ in range(_TRIES - 1):
            pool = self._running()
            try:
                return self._submit(pool, body).result()
            except BrokenProcessPool:  # somebody killed one: nothing was settled, others take over
                self._drop(pool)
        return self._submit(self._running(), body).result()

    def close(self) -> None:
        """End them."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _submit(self, pool: ProcessPoolExecutor, body: bytes) -> Future[Checked]:
        # It may begin a process, which inherits what this thread does not hear: Ctrl-C is for the center.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            return pool.submit(_check, body)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._processes,
                    # The center has threads, and a fork of one that holds a lock would wait for it for ever.
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_begin,
                    initargs=self._values,
                )
            return self._pool

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=False)


_verifier: Verifier | None = None
"""Of a process of Checkers."""


def _begin(ledger: str | Path, trust: Trust) -> None:
    global _verifier
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _verifier = Verifier(open_storage(ledger), trust)
    collect_seldom()


def _end_with_parent() -> None:
    """Wait for the center's end, whatever it died of."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _check(body: bytes) -> Checked:
    assert _verifier is not None
    return _verifier.check_body(body)

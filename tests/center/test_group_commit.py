# SPDX-License-Identifier: Apache-2.0
"""Deposits that share a transaction: each ends as if it were alone, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chipcash.center.errors import LedgerError
from chipcash.center.group_commit import GroupCommit
from chipcash.center.registration import Center
from chipcash.center.storage import SqliteStorage
from chipcash.center.verification import Checked
from chipcash.database import DatabaseError
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import World

_THREADS = 8


class _SlowStorage(SqliteStorage):
    """A ledger on a disk that takes its time; counts transactions."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.transactions = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            self.transactions += 1
            yield
            time.sleep(0.01)


class _SlowCenter(Center):
    def __init__(self, path: str | Path, *values: object) -> None:
        super().__init__(_SlowStorage(path), *values)  # type: ignore[arg-type]


def test_who_waits_for_the_disk_waits_together(tmp_path: Path) -> None:
    """Four payees each deposit the same title's claims, twice over, with their own of other coins."""
    world = World(tmp_path / "ledger.db", center=_SlowCenter)
    storage = world.center.storage
    assert isinstance(storage, _SlowStorage)
    with closing(world.center):
        deposits = []
        for number in range(20):
            twice = world.issue(100, f"mallory {number}")
            for payee in ("shop", "kiosk"):
                own = world.claim("alice", payee, [(world.issue(100, "alice"), 0, 60)])
                cheat = world.claim(f"mallory {number}", payee, [(twice, 0, 50)])
                deposits += 2 * [world.deposit(own, cheat)]
        before = storage.transactions
        with ThreadPoolExecutor(_THREADS) as pool:
            receipts = list(pool.map(world.center.settle, deposits))
        assert storage.transactions - before < len(set(map(object_id, deposits)))
        for deposit, receipt in zip(deposits, receipts, strict=True):
            assert receipt.digest == object_id(deposit)
            assert receipt.encode() == world.center.settle(deposit).encode()
            own, _ = receipt.results
            assert [outcome.state for outcome in own.outcomes] == [o.SETTLED]
        states = [receipt.results[1].outcomes[0].state for receipt in receipts[::2]]
        for pair in zip(states[::2], states[1::2], strict=True):
            assert sorted(pair) == [o.SETTLED, o.DISPUTED]
        world.center.check()


class _Ledger:
    """Settles what is not spoilt, when it may. calls: how many deposits each time."""

    def __init__(self, error: Exception) -> None:
        self.may = threading.Event()
        self.calls: list[int] = []
        self._error = error

    def settle(self, deposits: Sequence[Checked]) -> list[o.Receipt]:
        self.calls.append(len(deposits))
        assert self.may.wait(20)
        if any(deposit.digest == b"spoilt" for deposit in deposits):
            raise self._error
        return [deposit.digest for deposit in deposits]  # type: ignore[misc]


def _together(ledger: _Ledger, *digests: bytes) -> list[Future[o.Receipt]]:
    """Settle one deposit, and while it is under way all of these."""
    group = GroupCommit(ledger.settle)
    with ThreadPoolExecutor(len(digests) + 1) as pool:
        first = pool.submit(group.settle, Checked(b"first", ()))
        while not ledger.calls:
            time.sleep(0.001)
        found = [pool.submit(group.settle, Checked(digest, ())) for digest in digests]
        while len(group._waiting) < len(digests):
            time.sleep(0.001)
        ledger.may.set()
    assert first.result() == b"first"
    return found


def test_one_that_cannot_be_settled_stops_no_other() -> None:
    ledger = _Ledger(LedgerError("broken"))
    good, spoilt, other = _together(ledger, b"good", b"spoilt", b"other")
    assert (good.result(), other.result()) == (b"good", b"other")
    with pytest.raises(LedgerError, match="broken"):
        spoilt.result()
    assert ledger.calls == [1, 3, 1, 1, 1]


def test_a_database_that_fails_is_not_asked_for_each() -> None:
    ledger = _Ledger(DatabaseError("stuck"))
    for found in _together(ledger, b"good", b"spoilt", b"other"):
        with pytest.raises(DatabaseError, match="stuck"):
            found.result()
    assert ledger.calls == [1, 3]

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
from chipcash.center.storage import SqliteStorage
from chipcash.center.verification import Checked
from chipcash.database import DatabaseError
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import World, trust

_THREADS = 8
_FIRST, _GOOD, _SPOILT, _OTHER = (bytes((number,)) * 32 for number in range(4))


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


def test_who_waits_for_the_disk_waits_together(tmp_path: Path) -> None:
    """Two payees deposit claims on the same fen, each twice over, beside one of their own."""
    storage = _SlowStorage(tmp_path / "ledger.db")
    world = World(storage)
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

    def __init__(self, error: BaseException) -> None:
        self.may = threading.Event()
        self.calls: list[int] = []
        self._error = error

    def settle(self, deposits: Sequence[Checked]) -> list[o.Receipt]:
        self.calls.append(len(deposits))
        assert self.may.wait(20)
        if any(deposit.digest == _SPOILT for deposit in deposits):
            raise self._error
        return [_receipt(deposit.digest) for deposit in deposits]


def _receipt(digest: bytes) -> o.Receipt:
    """Of a deposit, without anything in it."""
    return o.Receipt(
        header=trust().header, signer=bytes(8), digest=digest, time=0, results=(), titles=()
    )


def _together(ledger: _Ledger, *digests: bytes) -> list[Future[o.Receipt]]:
    """Settle one deposit, and while it is under way all of these."""
    group = GroupCommit(ledger.settle)
    with ThreadPoolExecutor(len(digests) + 1) as pool:
        first = pool.submit(group.settle, Checked(_FIRST, ()))
        while not ledger.calls:
            time.sleep(0.001)
        found = [pool.submit(group.settle, Checked(digest, ())) for digest in digests]
        while len(group._waiting) < len(digests):
            time.sleep(0.001)
        ledger.may.set()
    assert first.result() == _receipt(_FIRST)
    return found


@pytest.mark.parametrize("error", [LedgerError("broken"), DatabaseError("broken")])
def test_one_that_cannot_be_settled_stops_no_other(error: Exception) -> None:
    ledger = _Ledger(error)
    good, spoilt, other = _together(ledger, _GOOD, _SPOILT, _OTHER)
    assert (good.result(), other.result()) == (_receipt(_GOOD), _receipt(_OTHER))
    with pytest.raises(type(error), match="broken"):
        spoilt.result()
    assert ledger.calls == [1, 3, 1, 1, 1]


def test_whoever_is_interrupted_leaves_nobody_waiting() -> None:
    ledger = _Ledger(KeyboardInterrupt())
    for found in _together(ledger, _GOOD, _SPOILT, _OTHER):
        assert isinstance(found.exception(), KeyboardInterrupt)
    assert ledger.calls == [1, 3]

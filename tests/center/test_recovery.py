# SPDX-License-Identifier: Apache-2.0
"""A ledger from an older backup that its log brings forward: row by row what was lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chipcash.center.errors import LedgerError
from chipcash.center.facts import LedgerFacts
from chipcash.center.inquiry import Inquiry
from chipcash.center.partitions import Partition
from chipcash.center.publishing import LogWriter, compare
from chipcash.center.recovery import recover
from chipcash.center.registration import Center
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.publisher import Publisher
from chipcash.log.reader import Folder, LogReader
from chipcash.log.scope import HOME, Scope
from chipcash.log.store import Log
from chipcash.trust import object_id
from tests.center.partitioned import PARTITIONS, Partitioned
from tests.center.pg_server import Server
from tests.center.test_gateway import two_partitions
from tests.center.test_publishing import new_log, reader
from tests.center.world import DAY, World, dump

PEOPLE = ("alice", "bob", "mallory", "shop")


def live(world: World, chance: Random, steps: int) -> None:
    """Some of all that can happen."""
    titles = [t for name in PEOPLE for t in world.center.titles(world.public(name))]
    names = {world.public(name): name for name in PEOPLE}
    claims = []
    for _ in range(steps):
        way = chance.randrange(12)
        if way < 2 or not titles:
            titles.append(world.issue(100, chance.choice(PEOPLE)))
        elif way < 7:
            made = []
            for _ in range(chance.randrange(1, 4)):
                title = chance.choice(titles)
                lo = chance.randrange(title.lo, title.hi)
                payee = chance.choice((*PEOPLE, "issuer"))
                parts = [(title, lo, chance.randrange(lo, title.hi) + 1)]
                window = chance.choice((0, DAY))
                made.append(world.claim(names[title.owner], payee, parts, window))
            claims += made
            titles += world.settle(*made).titles
        elif way == 7 and claims:
            claim = chance.choice(claims)
            if claim.payee in names:
                void = world.void(names[claim.payee], claim)
                world.center.register_void(void)
                titles += world.center.reclaim(world.reclaim(claim)).titles
        elif way == 8:
            late = [t for t in titles if t.expiry + DAY < world.now]
            if late:
                request = world.reclaim(title_id=object_id(chance.choice(late)))
                titles += world.center.reclaim(request).titles
        elif way == 9:
            world.center.register_card(world.certificate(chance.choice(("card", "phone"))))
        elif way == 10:
            world.now += chance.choice((1, DAY, 3 * DAY))
        else:
            world.now += 200 * DAY


def rows(center: Center) -> dict[str, Any]:
    """The ledger without what a log does not hold, neighbouring slices as one."""
    found: dict[str, Any] = dump(center)
    del found["deposits"]
    found["cards"] = [row[:2] for row in found["cards"]]
    found["claims"] = [row[:6] for row in found["claims"]]
    merged: list[list[Any]] = []
    for serial, lo, hi, title_id in found["slices"]:
        if merged and merged[-1][0] == serial and merged[-1][2:] == [lo, title_id]:
            merged[-1][2] = hi
        else:
            merged.append([serial, lo, hi, title_id])
    found["slices"] = merged
    return found


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def copied(source: Path, target: Path) -> Path:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
    return target


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(x, marks=pytest.mark.long) for x in range(1, 30))]
)
def test_what_the_log_knows_comes_back(seed: int, tmp_path: Path) -> None:
    chance = Random(seed)
    world = World(tmp_path / "ledger.db")
    backups = [copied(tmp_path / "ledger.db", tmp_path / "empty.db")]
    for at in range(2):
        live(world, chance, 25)
        backups.append(copied(tmp_path / "ledger.db", tmp_path / f"backup-{at}.db"))
    facts = world.center.facts()
    with LogWriter(world.center, new_log(tmp_path)):
        pass
    for backup in backups:
        older = World(backup)
        older.now, older._made = world.now, world._made
        had = older.center.facts()
        assert recover(older.center, reader(tmp_path)) == facts - had
        assert rows(older.center) == rows(world.center)
        compare(older.center, reader(tmp_path))
        assert recover(older.center, reader(tmp_path)) == 0
        # And life goes on, for cards too: none has newer limits than the center gives.
        for subject, sequence in world.center.storage.all("SELECT subject, sequence FROM cards"):
            (now,) = older.center.storage.row(
                "SELECT sequence FROM cards WHERE subject = ?", subject
            )
            assert now > sequence or had == facts
        live(older, chance, 10)
        older.center.check()
        older.center.close()
    world.center.close()


def test_into_postgresql(tmp_path: Path, postgres: Server) -> None:
    world = World(tmp_path / "ledger.db")
    live(world, Random(9), 30)
    with LogWriter(world.center, new_log(tmp_path)):
        pass
    other = World(postgres.database("recovered"))
    assert recover(other.center, reader(tmp_path)) == world.center.facts()
    assert rows(other.center) == rows(world.center)
    for each in (other, world):
        each.center.close()


def test_partitions_and_their_home_come_back(tmp_path: Path) -> None:
    """Claims over several partitions among them, repeat payments too: each log has its own part."""
    chance = Random(4)
    world = World(center=Partitioned)
    center = world.center
    assert isinstance(center, Partitioned)
    for _ in range(3):
        live(world, chance, 15)
        one, other = two_partitions(world, "mallory")
        for payee, at in (("shop", 0), ("bob", 5)):
            world.settle(world.claim("mallory", payee, [(one, at, at + 10), (other, at, at + 10)]))
    scopes = [Scope(cards=False, number=at, of=PARTITIONS) for at in range(PARTITIONS)]
    for ledger, scope in zip([*center.parts, center], [*scopes, HOME], strict=True):
        key = SigningKey(f"chipcash/test{scope.suffix}", SIGNATURE, bytes(32))
        folder = tmp_path / key.key.name
        with Log.create(folder / "public", folder / "entries", key) as log:
            Publisher(log, LedgerFacts(ledger.storage, world.header)).publish()
        values = (":memory:", world.key("center"), world.trust)
        again = Partition(scope.number, scope.of, *values) if scope.coins else Center(*values)
        logged = LogReader(key.key, Folder(folder / "public"), Folder(folder / "entries"))
        assert recover(again, logged) == Inquiry.facts(ledger) > 0
        assert rows(again) == rows(ledger)
        again.close()
    assert center.storage.one("SELECT 1 FROM evidence") and rows(center)["blacklist"]
    center.close()


def test_a_ledger_that_went_on_is_not_mixed_with_another_history(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    title = world.issue(100, "alice")
    copied(tmp_path / "ledger.db", tmp_path / "backup.db")
    world.settle(world.claim("alice", "shop", [(title, 0, 60)]))
    with LogWriter(world.center, new_log(tmp_path)):
        pass
    older = World(tmp_path / "backup.db")
    older.settle(older.claim("alice", "bob", [(title, 0, 60)]))
    before = dump(older.center)
    with pytest.raises(LedgerError, match="nothing was changed"):
        recover(older.center, reader(tmp_path))
    assert dump(older.center) == before
    for each in (older, world):
        each.center.close()

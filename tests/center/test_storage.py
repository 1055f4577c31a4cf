# SPDX-License-Identifier: Apache-2.0
"""The ledger's database: SQLite and PostgreSQL keep the same books, also through crashes and new versions."""

from __future__ import annotations

import gzip
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, settings

from chipcash import database
from chipcash.center import migrations, storage
from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.facts import FACT_TABLES, LedgerFacts
from chipcash.center.inquiry import LATEST
from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.crypto import PrivateKey
from chipcash.database import Database, DatabaseError
from chipcash.log.audit import Replay
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from tests.center.pg_server import Server
from tests.center.test_conservation import Books
from tests.center.world import TABLES, World, dump, states

OLD = Path(__file__).parent / "format-2"


@cache
def server() -> Server:
    """The server of this test process."""
    return Server()


@pytest.fixture(scope="module", autouse=True)
def _no_server_is_left() -> Iterator[None]:
    yield
    if server.cache_info().currsize:
        server().close()
        server.cache_clear()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty ledger can be."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    return server().database("ledger")


class SameSignatures(PrivateKey):
    """A key that signs the same message alike, so that two ledgers can be compared byte by byte."""

    def __init__(self, one: PrivateKey) -> None:
        super().__init__(one.suite, one.private_bytes())
        self._made: dict[bytes, bytes] = {}

    def sign(self, message: bytes) -> bytes:
        if message not in self._made:
            self._made[message] = super().sign(message)
        return self._made[message]


class Twins:
    """A center with a ledger in memory and one in PostgreSQL, which must say the same and keep the same."""

    def __init__(
        self,
        path: str,
        signer: PrivateKey,
        trust: Trust,
        parameters: Parameters,
        clock: Callable[[], int],
        fresh_serial: Callable[[], bytes],
    ) -> None:
        signer = SameSignatures(signer)
        self._both = [
            Center(each, signer, trust, parameters, clock, _counted(count(1)))
            for each in (":memory:", _emptied())
        ]

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any) -> Any:
            one, other = (_outcome(getattr(center, name), values) for center in self._both)
            if isinstance(one, CenterRefused):
                assert str(one) == str(other)
                raise one
            assert one == other
            return one

        return call

    def close(self) -> None:
        one, other = (dump(center) for center in self._both)
        assert one == other
        logs = (LedgerFacts(center.storage, center.trust.header) for center in self._both)
        first, second = (list(log.facts(0)) for log in logs)
        assert first == second
        for center in self._both:
            center.close()


def _counted(numbers: Iterator[int]) -> Callable[[], bytes]:
    """The same fresh serials for both."""
    return lambda: next(numbers).to_bytes(16, "big")


def _outcome(function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    try:
        return function(*values)
    except CenterRefused as refused:
        return refused


@cache
def _twin_url() -> str:
    url = server().database("twins")
    World(url).center.close()
    return url


def _emptied() -> str:
    """A ledger that is empty again: faster than a new database."""
    url = _twin_url()
    with psycopg.connect(url) as connection:
        tables = ", ".join(table for table in (*TABLES, "challenges") if table != "sequence")
        connection.execute(f"TRUNCATE {tables}")
        connection.execute("UPDATE sequence SET next = 1")
    return url


class TwinBooks(Books):
    """The model of test_conservation, over both."""

    make_world = staticmethod(lambda: World(center=Twins))  # type: ignore[assignment, arg-type]


TestTwinBooks = TwinBooks.TestCase
TestTwinBooks.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_ledger_is_opened_again(ledger: str) -> None:
    world = World(ledger)
    title = world.issue(100, "alice")
    deposit = world.deposit(world.claim("alice", "shop", [(title, 0, 40)]))
    receipt = world.center.settle(deposit)
    world.center.close()
    again = World(ledger)
    assert again.center.settle(deposit).encode() == receipt.encode()
    assert again.center.accounts()["live_fen"] == 100
    again.center.check()
    again.center.close()


def test_what_two_centers_are_told_at_once_counts_once(ledger: str) -> None:
    """Both take deposits of the same claims in opposite order, and of claims on the same fen."""
    worlds = [World(ledger), World(ledger)]
    titles = [worlds[0].issue(100, "mallory") for _ in range(6)]
    claims = [
        worlds[at].claim("mallory", ("shop", "kiosk")[at], [(title, 10 * at, 60)])
        for title in titles
        for at in (0, 1)
    ]
    receipts: list[list[o.Receipt]] = [[], []]

    def deposit(at: int) -> None:
        for claim in claims if at == 0 else reversed(claims):
            receipts[at].append(worlds[at].settle(claim))

    threads = [threading.Thread(target=deposit, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [
        {receipt.results[0].claim_id: receipt.results[0] for receipt in each} for each in receipts
    ]
    assert told[0] == told[1]
    found = sorted(states(receipt)[0][0] for receipt in receipts[0])
    assert found == ["disputed"] * 6 + ["settled"] * 6
    worlds[0].center.check()
    assert worlds[0].center.accounts()["live_fen"] == 600
    for world in worlds:
        world.center.close()


def test_a_ledger_that_many_begin_at_once_has_what_each_was_told(ledger: str) -> None:
    """Who opens it makes it where it is not there; nobody makes it over somebody else's money."""
    at_once = threading.Barrier(6)
    coins = [World().coin(7, "alice", bytes([at]) * 16) for at in range(6)]

    def begin(coin: o.Coin) -> None:
        at_once.wait(20)
        world = World(ledger)
        world.center.register_coin(coin)
        world.center.close()

    threads = [threading.Thread(target=begin, args=(coin,)) for coin in coins]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world = World(ledger)
    assert world.center.accounts()["issued_fen"] == 6 * 7
    world.center.check()
    world.center.close()


def test_who_looks_first_and_begins_last_leaves_the_others_money(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking whether there is a ledger and making one, another process makes it and uses it."""
    path = tmp_path / "ledger.db"
    look = Database._is_empty

    def slowly(database: Database) -> bool:
        monkeypatch.undo()
        empty = look(database)
        other = World(path)
        other.issue(100, "alice")
        other.center.close()
        return empty

    monkeypatch.setattr(Database, "_is_empty", slowly)
    world = World(path)
    assert world.center.accounts()["issued_fen"] == 100
    world.center.close()


def test_a_title_in_a_thousand_pieces_is_settled_and_read_as_any(ledger: str) -> None:
    """Every other fen goes to the shop; then what lies between comes from behind, and all of it again."""
    world = World(ledger)
    title = world.issue(200, "bank")
    for start in (0, 1):
        for lo in range(start, 200, 100):
            spans = range(lo, lo + 100, 2)
            claims = [world.claim("bank", "shop", [(title, at, at + 1)]) for at in reversed(spans)]
            receipt = world.settle(*claims)
            assert {state for (state,) in states(receipt)} == {"settled"}
            (fresh,) = receipt.titles
            assert fresh.amount == len(spans)
    again = world.settle(world.claim("bank", "kiosk", [(title, 50, 150)]))
    (outcome,) = again.results[0].outcomes
    assert outcome.state == o.DISPUTED
    first = next(
        event["claim_id"]
        for event in world.center.coin(title.serial)["history"]
        if event["event"] == "recoined" and 50 <= event["lo"] < 150
    )
    assert outcome.claim_id is not None and outcome.claim_id.hex() == first
    world.center.check()
    world.center.close()


def test_what_staff_ask_is_answered_alike(ledger: str) -> None:
    """Lists by time and id, a page at a time, also where many have the same second; in words of their own."""
    world = World(ledger)
    center, alice, shop = world.center, world.public("alice"), world.public("shop")
    title = world.issue(100, "alice")
    assert center.title(object_id(title)) == title
    with pytest.raises(CenterRefused, match="title"):
        center.title(bytes(32))
    claims = []
    for at in range(6):
        world.now += at % 2
        claims.append(world.claim("alice", ("shop", "bob")[at % 2], [(title, 5 * at, 5 * at + 9)]))
        world.settle(claims[-1])
    order = [center.claim(object_id(claim))["registered"] for claim in claims]
    repeats = sorted(
        ((at, object_id(claim)) for at, claim in zip(order[1:], claims[1:], strict=True)),
        reverse=True,
    )
    assert [each.moment for each in center.repeats(LATEST, 100)] == repeats
    assert {each.payer for each in center.repeats(LATEST, 100)} == {alice}
    lost = sum(each.fund + each.loss for each in center.repeats(LATEST, 100))
    assert lost == sum(
        outcome["hi"] - outcome["lo"]
        for claim in claims
        for outcome in center.claim(object_id(claim))["outcomes"]
        if outcome["state"] == "disputed"
    )
    for least in (1, 2, 100):
        found, before = [], LATEST
        while rows := center.repeats(before, least):
            found += [each.moment for each in rows]
            before = rows[-1].moment
        assert found == repeats
    held = center.titles_ever(shop, LATEST, 100)
    assert {each.title for each in held} == set(center.titles(shop)) and held
    assert center.titles_ever(shop, held[-1].moment, 100) == []
    (first,) = center.titles_ever(alice, LATEST, 100)
    assert (first.title, first.live) == (
        title,
        100
        - sum(
            each.title.hi - each.title.lo
            for each in held + center.titles_ever(world.public("bob"), LATEST, 100)
        ),
    )
    moved = {
        event["claim_id"] for event in center.coin(title.serial)["history"] if "claim_id" in event
    }
    assert {claim.hex() for claim, _ in center.unmoved(title.serial, 100)} == {
        object_id(claim).hex() for claim in claims
    } - moved
    assert center.card(alice) is None and center.listed(shop) is None
    certificate = world.certificate("bob")
    center.register_card(certificate)
    entry = center.listed(alice)
    assert center.card(world.public("bob")) == certificate
    assert entry is not None and entry.reason == o.REASON_REPEAT_PAYMENT
    center.close()


def test_nothing_acknowledged_is_lost_when_the_server_is_killed() -> None:
    """PostgreSQL dies under load and comes back: whoever asks again gets what was settled, once."""
    own = Server()
    try:
        world = World(own.database("ledger"))
        titles = [world.issue(10, "alice") for _ in range(200)]
        deposits = [
            world.deposit(world.claim("alice", "shop", [(title, 0, 10)])) for title in titles
        ]
        acknowledged: dict[int, bytes] = {}
        some = threading.Event()

        def load(first: int) -> None:
            for at in range(first, len(deposits), 2):
                try:
                    acknowledged[at] = world.center.settle(deposits[at]).encode()
                except DatabaseError:
                    return
                if len(acknowledged) > 20:
                    some.set()

        threads = [threading.Thread(target=load, args=(first,)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        assert some.wait(60)
        own.kill()
        for thread in threads:
            thread.join()
        assert len(acknowledged) < len(deposits), "it was killed too late to matter"
        own.start()
        for at, deposit in enumerate(deposits):
            receipt = world.center.settle(deposit)
            assert states(receipt) == [["settled"]]
            assert receipt.encode() == acknowledged.get(at, receipt.encode())
        world.center.check()
        totals = world.center.accounts()
        assert totals["owners"] == {world.public("shop").hex(): 2000}
        world.center.close()
    finally:
        own.close()


def test_a_server_that_is_away_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseError) as caught:
        World("postgresql://chipcash:hunter2@127.0.0.1:9/ledger")
    assert "ledger at 127.0.0.1" in caught.value.message
    assert "hunter2" not in str(caught.value)


# ---- versions ---------------------------------------------------------------------------------------


def old_ledger(path: Path) -> dict[str, Any]:
    """A ledger that the program of format 2 wrote; what it answered, and when."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(gzip.decompress((OLD / "ledger.sql.gz").read_bytes()).decode())
    answers: dict[str, Any] = json.loads((OLD / "answers.json").read_text())
    return answers


def test_head_is_the_newest_step() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_current_head() == migrations.HEAD


def test_a_ledger_of_format_2_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    answers = old_ledger(path)
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match="format 2") as caught:
        World(path)
    assert "chipcash center upgrade" in caught.value.hint
    with closing(sqlite3.connect(path)) as db:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    storage.upgrade(path)
    storage.upgrade(path)
    assert path.read_bytes() != before and tables
    world = World(path)
    world.now = answers["now"]
    center = world.center
    center.check()
    assert center.accounts() == answers["accounts"]
    for coin in answers["coins"]:
        assert center.coin(bytes.fromhex(coin["serial"])) == coin
    for claim in answers["claims"]:
        assert center.claim(bytes.fromhex(claim["claim_id"])) == claim
    # What was paid before is still known: the same fen again are disputed, with evidence.
    old = o.Title.decode(center.storage.row("SELECT bytes FROM titles WHERE owner = ?"
                                        " ORDER BY epoch LIMIT 1", world.public("bob"))[0])  # fmt: skip
    new = world.settle(world.claim("bob", "kiosk", [(old, 900, 901)]))
    assert states(new) == [["settled"]]
    twice = world.settle(world.claim("bob", "kiosk", [(old, 210, 220)]))
    assert states(twice) == [["disputed"]]
    late = world.settle(world.claim("bob", "kiosk", [(old, 110, 120)]))
    assert states(late) == [["disputed"]]
    assert len(center.claim(late.results[0].claim_id)["evidence"]) == 1
    center.check()
    center.close()


def test_the_facts_of_an_old_ledger_are_numbered_as_they_can_have_happened(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old_ledger(path)
    storage.upgrade(path)
    world = World(path)
    db = world.center.storage
    numbers = [seq for table in FACT_TABLES for (seq,) in db.all(f"SELECT seq FROM {table}")]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert db.row("SELECT next FROM sequence")[0] == len(numbers) + 1
    titles = dict(db.all("SELECT title_id, seq FROM titles"))
    for title_id, seq, claim, new in db.all("SELECT title_id, seq, claim, new_title FROM spends"):
        assert titles[title_id] < seq and (claim is None or claim < seq)
        assert new is None or titles[new] < seq
    for data, seq in db.all("SELECT bytes, seq FROM claims"):
        assert all(titles[item.title_id] < seq for item in o.Claim.decode(data).inputs)
    # An auditor finds them in order.
    with Replay(world.trust) as replay:
        for _, entry in LedgerFacts(db, world.header).facts(0):
            replay.add(entry)
        totals = replay.finish()
    accounts = world.center.accounts()
    assert (totals.live_fen, totals.redeemed_fen) == (
        accounts["live_fen"], accounts["redeemed_fen"],
    )  # fmt: skip
    world.center.close()


def test_an_upgrade_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    old_ledger(path)
    with closing(sqlite3.connect(path)) as db:
        before = list(db.iterdump())
        db.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(
            storage, "connect", lambda path: sqlite3.connect(path, timeout=0, isolation_level=None)
        )
        with pytest.raises(DatabaseError, match="locked"):
            storage.upgrade(path)
        db.rollback()
        monkeypatch.undo()
        # The new tables refuse what the old ones would have held: the same input of a claim twice.
        db.execute(
            "INSERT INTO inputs (serial, title_id, lo, hi, claim_id)"
            " SELECT serial, title_id, lo, hi, claim_id FROM inputs"
        )
        db.commit()
        broken = list(db.iterdump())
        assert before != broken
        with pytest.raises(DatabaseError):
            storage.upgrade(path)
        assert list(db.iterdump()) == broken
    with pytest.raises(LedgerError):
        storage.upgrade(tmp_path / "nothing.db")


def test_a_newer_ledger_is_left_alone(ledger: str) -> None:
    World(ledger).center.close()
    if storage.is_postgres(ledger):
        with psycopg.connect(ledger) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
    else:
        with closing(sqlite3.connect(ledger)) as db:
            db.execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseError, match="99"):
        World(ledger)


def test_empty_ledgers_are_what_the_steps_make(tmp_path: Path) -> None:
    """A new file is a copy; it must not differ from what an upgrade leads to."""
    new, stepped = tmp_path / "new.db", tmp_path / "stepped.db"
    World(new).center.close()
    with closing(database.connect(stepped)) as connection:
        migrations.upgrade(connection, "sqlite", "0001")
    storage.upgrade(stepped)
    found = []
    for path in (new, stepped):
        with closing(sqlite3.connect(path)) as db:
            found.append(db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall())
    assert found[0] == found[1]
    World(stepped).issue(5, "alice")

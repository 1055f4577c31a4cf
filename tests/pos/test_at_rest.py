# SPDX-License-Identifier: Apache-2.0
"""A till's books on a stolen disk show nothing; those of older programs are brought forward whole."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from chipcash import files
from chipcash.crypto import PrivateKey, suite
from chipcash.database import DatabaseError
from chipcash.pos import Pos, keys
from tests.builders import NOW, network
from tests.pos.shop import Crash, Shop, crash_at

_KEY = "286fd2c54c03f2a94e6a01a73dedee5d5725483fea670b389169fa6be7a5df79"
"""Of the till whose books are in books-version-2.sql."""


def test_a_stolen_disk_shows_nothing(shop: Shop) -> None:
    path = shop.card()
    paid = shop.pay(path, 1234)
    pos = shop.pos
    row = pos.store.row("SELECT data FROM requests WHERE nonce = ?", paid.nonce)
    with pos.store.transaction():
        pos.store.set("note", "words that stand in the books")
        # Among them what is in the write-ahead log only, and what was not committed.
        found = b"".join(file.read_bytes() for file in pos.directory.glob("pos.db*"))
    assert (pos.directory / "pos.db-wal").stat().st_size > 0
    found += b"".join(file.read_bytes() for file in pos.directory.glob("pos.db*"))
    for secret in (
        paid.data,
        paid.data[20:60],
        paid.nonce,
        paid.claim_id,
        paid.payer,
        row["data"],
        b"words that stand",
        b"PENDING",
        b"CREATE TABLE",
        b"SQLite format",
    ):
        assert secret not in found
    # The same bytes are there for who has the key.
    assert pos.payment(paid.nonce).data == paid.data


def test_without_the_right_key_nothing_is_read_or_written(shop: Shop) -> None:
    folder = shop.pos.directory
    shop.crash()
    before = (folder / "pos.db").read_bytes()
    files.replace(folder / "books.key", bytes(32).hex().encode())
    with pytest.raises(DatabaseError, match="key is another one's") as caught:
        Pos(folder)
    assert "00000000" not in str(caught.value.as_dict())
    assert (folder / "pos.db").read_bytes() == before


def old_till(folder: Path) -> Path:
    """A till as an older program left it: sales, a transfer, a pending payment, an answer that was lost."""
    folder.mkdir()
    network("p256").trust.save(folder / "network.ccn")
    PrivateKey(suite("p256"), bytes.fromhex(_KEY)).save(folder / "pos.key")
    with closing(sqlite3.connect(folder / "pos.db")) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(Path(__file__).with_name("books-version-2.sql").read_text())
        old.execute("PRAGMA user_version = 2")
    return folder


def check_old_till(pos: Pos) -> None:
    balance = pos.balance()
    assert (balance.verified_fen, balance.pending_fen, balance.open_fen) == (3880, 250, 777)
    assert {(str(x.state), x.amount, x.settled_fen) for x in pos.payments()} == {
        ("VERIFIED", 3680, 3680),
        ("VERIFIED", 1200, 1200),
        ("PENDING", 250, 0),
    }
    assert [(x.reference, x.amount, x.settled_fen) for x in pos.transfers()] == [
        ("rent", 1000, 1000)
    ]
    (request,) = pos.open_requests()
    assert (request.amount, request.operator, request.link, request.reference) == (
        777,
        "",
        "",
        None,
    )
    assert pos.summary().verified_fen == 3880
    assert pos.exposure().pending_fen == pos.summary().pending.fen > 0


def test_books_of_an_older_version_are_brought_forward(tmp_path: Path) -> None:
    folder = old_till(tmp_path / "till")
    for _ in range(2):
        with Pos(folder, clock=lambda: NOW) as pos:
            check_old_till(pos)
    assert not (folder / "pos.db").read_bytes().startswith(b"SQLite format 3")
    assert {file.name for file in folder.iterdir()} <= {
        *("network.ccn", "pos.key", "books.key", "pos.db", "pos.db-wal", "pos.db-shm"),
        *("custody", ".encrypting"),
    }
    # It has the tables of a new one, and goes on: a shift, a charge.
    shop = Shop(tmp_path)
    with Pos.init(tmp_path / "new", network("p256").trust, "http://center.test") as new:
        wanted = _shape(new)
    shutil.copytree(folder, tmp_path / "pos")
    assert _shape(shop.pos) == wanted
    shop.pos.sync(shop.center)
    shop.pos.open_shift()
    assert shop.pay(shop.card(), 600).shift == 1
    assert shop.pos.balance().verified_fen == 3880
    shop.close()


def _shape(pos: Pos) -> dict[str, object]:
    """What books are made of, tables with their columns, indexes, views and triggers."""
    store = pos.store
    found: dict[str, object] = {}
    for kind, name, sql in store.all("SELECT type, name, sql FROM sqlite_schema"):
        if kind == "table":
            columns = store.all(f"PRAGMA table_info({name})")
            found[name] = sorted((x["name"], x["type"], x["notnull"], x["pk"]) for x in columns)
        elif sql is not None and name != "requests_by_reference":
            found[name] = " ".join(sql.split())
    return found


@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_bringing_forward_can_be_cut_off_anywhere(tmp_path: Path, after: bool, each: int) -> None:
    """At each statement by `make test-long`, else at some."""
    for n in range(after * each // 2, 10**6, each):
        folder = old_till(tmp_path / str(n))
        try:
            with crash_at(n, after=after):
                Pos(folder, clock=lambda: NOW).close()
            done = True
        except Crash:
            done = False
        with Pos(folder, clock=lambda: NOW) as pos:
            check_old_till(pos)
        shutil.rmtree(folder)
        if done:
            assert n > 30
            return


_OTHER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("SELECT * FROM meta").fetchall()
print("open", flush=True)
sys.stdin.readline()
db.execute("UPDATE meta SET value = 'http://other.test' WHERE name = 'center_url'")
"""


def test_books_that_another_program_has_open_are_left_alone(tmp_path: Path) -> None:
    folder = old_till(tmp_path / "till")
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER, folder / "pos.db"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(DatabaseError, match="another program has them open"):
            Pos(folder)
        other.communicate("go on\n")
    with Pos(folder, clock=lambda: NOW) as pos:
        assert pos.center_url == "http://other.test"
        check_old_till(pos)


def test_who_waited_for_the_old_file_cannot_write_there(tmp_path: Path) -> None:
    """It has the file open, and is let in when the new one is in its place."""
    folder = old_till(tmp_path / "till")
    shutil.copy(folder / "pos.db", tmp_path / "before")
    handle = (folder / "pos.db").open("rb")
    Pos(folder).close()
    (tmp_path / "left").write_bytes(handle.read())
    handle.close()
    with closing(sqlite3.connect(tmp_path / "left")) as left:
        assert left.execute("PRAGMA user_version").fetchone() == (-1,)


def _open(folder: Path) -> int:
    with Pos(folder, clock=lambda: NOW) as pos:
        return pos.balance().verified_fen


def test_several_programs_may_come_at_once(tmp_path: Path) -> None:
    """One brings the books forward. Another finds that done, or says that it is under way."""
    folder = old_till(tmp_path / "till")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        waiting = [pool.apply_async(_open, (folder,)) for _ in range(4)]
        found = []
        for each in waiting:
            try:
                found.append(each.get(60))
            except DatabaseError as error:
                assert "another program has them open" in str(error)
    assert set(found) == {3880}
    assert _open(folder) == 3880


def test_a_disk_too_full_for_a_second_copy(tmp_path: Path) -> None:
    """Something is where the copy goes, that cannot be removed: as good as a disk that has no room."""
    folder = old_till(tmp_path / "till")
    (folder / "pos.db.encrypted").mkdir()
    with pytest.raises((DatabaseError, OSError)):
        Pos(folder)
    (folder / "pos.db.encrypted").rmdir()
    with Pos(folder, clock=lambda: NOW) as pos:
        check_old_till(pos)
    assert keys.custody_of(folder).path == "file"

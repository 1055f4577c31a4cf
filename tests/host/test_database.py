# SPDX-License-Identifier: Apache-2.0
"""The file under ledger, banks and tills: all or nothing, side by side, and said so to people."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.database import Database, DatabaseError, statements

SCHEMA = ("CREATE TABLE things (name TEXT PRIMARY KEY, fen INTEGER CHECK (fen >= 0)) STRICT",)


def database(path: Path | str, **options: object) -> Database:
    return Database(path, SCHEMA, version=1, what="The book", **options)  # type: ignore[arg-type]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Database]:
    found = database(tmp_path / "book.db")
    yield found
    found.close()


def test_what_was_committed_is_there_after_opening_again(book: Database) -> None:
    with book.transaction():
        book.execute("INSERT INTO things VALUES (?, ?)", "a", 1)
    again = database(book.path)
    assert tuple(again.row("SELECT name, fen FROM things")) == ("a", 1)
    assert again.one("SELECT name FROM things WHERE fen = 2") is None
    again.close()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_transaction_that_fails_leaves_nothing(
    book: Database, error: type[BaseException]
) -> None:
    with pytest.raises(error), book.transaction():
        book.execute("INSERT INTO things VALUES ('a', 1)")
        raise error
    assert not book.in_transaction
    assert book.all("SELECT * FROM things") == []


def test_what_the_schema_forbids_is_said_and_changes_nothing(book: Database) -> None:
    with (
        pytest.raises(DatabaseError, match="Nothing in it was changed") as caught,
        book.transaction(),
    ):
        book.execute("INSERT INTO things VALUES ('a', 1)")
        book.execute("INSERT INTO things VALUES ('b', -1)")
    assert caught.value.message.startswith(f"The book in {book.path} cannot be used: CHECK")
    assert caught.value.hint
    assert book.all("SELECT * FROM things") == []


def test_a_full_disk(book: Database) -> None:
    (pages,) = book.row("PRAGMA page_count")
    book.row(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatabaseError, match="full"), book.transaction():
        for n in range(1000):
            book.execute("INSERT INTO things VALUES (?, ?)", f"{n}" * 50, n)
    assert book.all("SELECT * FROM things") == []
    with book.transaction():
        book.execute("INSERT INTO things VALUES ('small', 1)")


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        database(path)
    assert path.read_bytes().startswith(b"not a database")


def test_another_version(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 7")
    other.execute("CREATE TABLE things (a)")
    other.commit()
    other.close()
    with pytest.raises(DatabaseError, match="has format 7; this program knows 1"):
        database(path)


def test_an_empty_file_is_not_taken_for_new_books(tmp_path: Path) -> None:
    (tmp_path / "book.db").touch()
    with pytest.raises(DatabaseError, match="has format 0"):
        database(tmp_path / "book.db", create=False)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="unable to open"):
        database(tmp_path / "nowhere" / "book.db")


def test_several_reads_see_one_commit(book: Database) -> None:
    other = database(book.path)
    with book.reading():
        assert book.row("SELECT count(*) FROM things")[0] == 0
        with other.transaction():
            other.execute("INSERT INTO things VALUES ('a', 1)")
        with book.reading():
            assert book.row("SELECT count(*) FROM things")[0] == 0
    assert book.row("SELECT count(*) FROM things")[0] == 1
    other.close()


def add(path: Path, times: int) -> None:
    """Read, then write what was read and one more."""
    book = database(path)
    for _ in range(times):
        with book.transaction():
            (fen,) = book.row("SELECT fen FROM things")
            book.execute("UPDATE things SET fen = ?", fen + 1)
    book.close()


def test_processes_and_threads_lose_no_change(book: Database) -> None:
    with book.transaction():
        book.execute("INSERT INTO things VALUES ('a', 0)")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add, args=(book.path, 20)) for _ in range(2)]
    for process in processes:
        process.start()

    def here() -> None:
        for _ in range(20):
            with book.transaction():
                (fen,) = book.row("SELECT fen FROM things")
                book.execute("UPDATE things SET fen = ?", fen + 1)

    threads = [threading.Thread(target=here) for _ in range(3)]
    for thread in threads:
        thread.start()
    for worker in (*threads, *processes):
        worker.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert book.row("SELECT fen FROM things")[0] == 100


def test_made_once_when_several_open_it_first(tmp_path: Path) -> None:
    books: list[Database] = []
    threads = [
        threading.Thread(target=lambda: books.append(database(tmp_path / "book.db")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(books) == 8
    for book in books:
        book.close()


def test_statements_are_split_where_they_end() -> None:
    assert statements("CREATE TABLE a (b);\n-- a; comment\nCREATE TABLE\n c (d);\n") == [
        "CREATE TABLE a (b);\n",
        "-- a; comment\nCREATE TABLE\n c (d);\n",
    ]

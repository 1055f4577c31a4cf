# SPDX-License-Identifier: Apache-2.0
"""Accounts, sessions and the record of a center's staff: who gets in, how long, and what is kept of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from chipcash.center.staff.roles import RULES, Right
from chipcash.database import DatabaseError
from chipcash.people.accounts import (
    ABSOLUTE_S,
    IDLE_S,
    Cost,
    LoginRefused,
    Staff,
    TooManyTries,
    Visitor,
)
from chipcash.people.errors import StaffError, TrailBroken
from chipcash.people.trail import Entry, Head
from tests.staff.desk import CHEAP

PASSWORD = "correct horse battery staple"
OTHER = "incorrect horse battery staple"


class Book:
    """The staff's book, with a clock to turn and one account."""

    def __init__(self, path: Path) -> None:
        self.now = 1_800_000_000
        self.path = path
        self.staff = Staff(path, RULES, create=True, clock=lambda: self.now, cost=CHEAP)
        self.staff.add("ann", "viewer", PASSWORD, "os:root")

    def enter(self, name: str = "ann", password: str = PASSWORD) -> tuple[str, Visitor]:
        """Log in: token and visitor."""
        token = self.staff.login(name, password, "192.0.2.1")
        visitor = self.staff.visitor(token, "192.0.2.1")
        assert visitor is not None
        return token, visitor

    def told(self) -> list[tuple[str, str, str]]:
        return [(x.who, x.action, x.outcome) for x in self.staff.trail.entries()]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path / "staff.db")
    yield book
    book.staff.close()


def test_a_first_password_opens_nothing_but_its_own_change(book: Book) -> None:
    _, visitor = book.enter()
    assert visitor.temporary and not visitor.may(Right.LOOK) and visitor.may(Right.ANY)
    with pytest.raises(LoginRefused):
        book.staff.change_password(visitor, OTHER, f"{OTHER} 2", "::1")
    for wrong in ("short", "x" * 20, "I am ann and so on", PASSWORD):
        with pytest.raises(StaffError):
            book.staff.change_password(visitor, PASSWORD, wrong, "::1")
    second, _ = book.enter()
    book.staff.change_password(visitor, PASSWORD, OTHER, "::1")
    assert book.staff.visitor(second, "::1") is None  # whoever knew the old one is out
    _, visitor = book.enter(password=OTHER)
    assert visitor.may(Right.LOOK) and not visitor.may(Right.DISPUTES)
    with pytest.raises(LoginRefused):
        book.enter()


def test_names_and_roles(book: Book) -> None:
    for name, role in (("Ann", "viewer"), ("", "viewer"), ("a b", "viewer"), ("bob", "admin")):
        with pytest.raises(StaffError):
            book.staff.add(name, role, PASSWORD, "os:root")
    book.staff.remove("ann", "os:root")
    for refused in (
        lambda: book.staff.add("ann", "viewer", PASSWORD, "os:root"),
        lambda: book.staff.remove("ann", "os:root"),
        lambda: book.staff.set_role("ann", "auditor", "os:root"),
        lambda: book.staff.set_password("nobody", PASSWORD, "os:root"),
        lambda: book.staff.login("ann", PASSWORD, "::1"),
    ):
        with pytest.raises(StaffError):
            refused()
    assert book.staff.all() == []


def test_sessions_end(book: Book) -> None:
    token, _ = book.enter()
    book.now += IDLE_S
    visitor = book.staff.visitor(token, "::1")
    assert visitor is not None
    book.staff.record(visitor, "coin", "::1")
    book.now += IDLE_S + 1
    assert book.staff.visitor(token, "::1") is None
    assert book.told()[-1] == ("ann", "session expired", "ok")
    token, _ = book.enter()
    for _ in range(ABSOLUTE_S // IDLE_S):
        book.now += IDLE_S
        visitor = book.staff.visitor(token, "::1")
        assert visitor is not None
        book.staff.record(visitor, "coin", "::1")
    book.now += 1
    assert book.staff.visitor(token, "::1") is None
    token, visitor = book.enter()
    book.staff.logout(visitor, "::1")
    assert book.staff.visitor(token, "::1") is None
    assert book.staff.visitor("no such token", "::1") is None


def test_a_clock_that_was_ahead_keeps_no_session_and_nobody_waits_for_it(book: Book) -> None:
    """As of a machine without a battery that was told a wrong time, and then the right one."""
    book.now += 400 * 86_400
    token, _ = book.enter()
    for _ in range(7):
        with pytest.raises(StaffError):
            book.staff.login("ann", OTHER, "192.0.2.1")
    book.now -= 400 * 86_400
    assert book.staff.visitor(token, "192.0.2.1") is None
    with pytest.raises(TooManyTries) as early:
        book.enter()
    assert early.value.seconds <= 4
    book.now += early.value.seconds
    book.enter()


def test_a_password_that_was_reset_is_not_changed_by_who_knew_the_old_one(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is about to change it, when somebody else sets it, is out: Argon2id takes its time."""
    token, visitor = book.enter()
    matches = book.staff._matches

    def meanwhile(password: str, kept: str) -> bool:
        book.staff.set_password("ann", f"{OTHER} set", "os:root")
        return matches(password, kept)

    with monkeypatch.context() as patched, pytest.raises(StaffError, match="over"):
        patched.setattr(book.staff, "_matches", meanwhile)
        book.staff.change_password(visitor, PASSWORD, OTHER, "::1")
    assert book.staff.visitor(token, "::1") is None
    with pytest.raises(LoginRefused):
        book.enter(password=OTHER)
    _, visitor = book.enter(password=f"{OTHER} set")
    assert visitor.temporary


@pytest.mark.parametrize("how", ["role", "password", "remove"])
def test_what_is_taken_from_an_account_is_taken_at_once(book: Book, how: str) -> None:
    """Also from a request that is being answered: what it found is not shown."""
    token, visitor = book.enter()
    if how == "role":
        book.staff.set_role("ann", "operator", "os:root")
    elif how == "password":
        book.staff.set_password("ann", OTHER, "os:root")
    else:
        book.staff.remove("ann", "os:root")
    with pytest.raises(StaffError, match="over"):
        book.staff.record(visitor, "coin", "::1", subject="00")
    assert book.told()[-1] == ("ann", "coin", "refused")
    assert book.staff.visitor(token, "::1") is None


def refusal(book: Book, name: str, password: str, address: str) -> tuple[type, str]:
    with pytest.raises(StaffError) as caught:
        book.staff.login(name, password, address)
    return type(caught.value), caught.value.message


def test_tries_are_slowed_down_by_account(book: Book) -> None:
    """Wherever they come from; and a name that is no account's is told the same at each step."""
    for at in range(12):
        known = refusal(book, "ann", OTHER, f"192.0.2.{at}")
        unknown = refusal(book, "zoe", OTHER, f"198.51.100.{at}")
        assert known == unknown
        assert known[0] is (LoginRefused if at < 5 else TooManyTries)
    assert refusal(book, "ann", PASSWORD, "203.0.113.1")[0] is TooManyTries
    waited = 0
    for _ in range(12):  # each further one waits twice as long, up to a quarter of an hour
        with pytest.raises(TooManyTries) as caught:
            book.staff.login("ann", OTHER, "203.0.113.1")
        waited = caught.value.seconds
        book.now += waited
        assert refusal(book, "ann", OTHER, "203.0.113.1")[0] is LoginRefused
    assert waited == 900
    book.now += 900
    book.enter()
    assert refusal(book, "ann", OTHER, "192.0.2.1")[0] is LoginRefused
    # One entry for each password that was looked at and each pause, and none of a name that is nobody's.
    assert {who for who, action, _ in book.told() if action == "login"} == {"ann", ""}
    assert book.told().count(("ann", "login", "throttled")) == 12


def test_tries_are_slowed_down_by_address(book: Book) -> None:
    for at in range(20):
        address = f"2001:db8::{at:x}"  # one network of the many that one line has
        assert refusal(book, f"name{at}", OTHER, address)[0] is LoginRefused
    assert refusal(book, "ann", PASSWORD, "2001:db8::ffff")[0] is TooManyTries
    book.enter()
    book.now += 1
    with pytest.raises(LoginRefused):
        book.staff.login("name", OTHER, "2001:db8::1")


def test_many_tries_at_once_win_nothing(book: Book) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(lambda at: refusal(book, "ann", OTHER, f"192.0.2.{at}")[0], range(40))
        )
    assert found.count(LoginRefused) <= 6  # the free ones, and one more in the next second at most


def test_no_secret_is_in_the_file(book: Book) -> None:
    token, visitor = book.enter()
    with pytest.raises(LoginRefused):
        book.staff.login("my password by mistake", PASSWORD, "::1")
    data = b"".join(path.read_bytes() for path in book.path.parent.iterdir())
    assert b"ann" in data
    for secret in (PASSWORD, token, visitor.csrf, "by mistake"):
        assert secret.encode() not in data
    assert token not in repr(visitor) and visitor.csrf not in repr(visitor)
    assert book.path.stat().st_mode & 0o777 == 0o600


def test_the_cost_of_a_password_is_that_of_rfc_9106(tmp_path: Path) -> None:
    with closing(Staff(tmp_path / "staff.db", RULES, create=True)) as staff:
        staff.add("ann", "viewer", PASSWORD, "os:root")
        (kept,) = staff.db.row("SELECT password FROM accounts")
        assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$") and Cost().iterations == 3
        staff.login("ann", PASSWORD, "::1")


def test_a_full_disk_shows_nothing(book: Book) -> None:
    token, visitor = book.enter()
    (pages,) = book.staff.db.row("PRAGMA page_count")
    book.staff.db.row(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatabaseError, match="full"):
        for _ in range(1000):
            book.staff.record(visitor, "coin", "::1", subject="f" * 400)
    with pytest.raises(DatabaseError, match="full"):
        book.staff.record(visitor, "coin", "::1", subject="f" * 400)
    book.staff.trail.verify()
    book.staff.db.row("PRAGMA max_page_count = 100000")
    assert book.staff.visitor(token, "::1") is not None
    book.staff.record(visitor, "coin", "::1")


# ---- the record ------------------------------------------------------------------------------------------


def filled(book: Book, count: int = 8) -> list[Entry]:
    _, visitor = book.enter()
    for at in range(count - 2):
        book.staff.record(visitor, "coin", "::1", subject=f"{at:032x}", note="\n\ud800 x" * 100)
    return list(book.staff.trail.entries())


def forge(book: Book, *statements: str) -> None:
    """Change the file as who can write to it does."""
    with closing(sqlite3.connect(book.path)) as db:
        db.execute("DROP TRIGGER trail_unchanged")
        db.execute("DROP TRIGGER trail_kept")
        for statement in statements:
            db.execute(statement)
        db.commit()


@pytest.mark.parametrize("column", [x.name for x in fields(Entry)] + ["hash"])
def test_a_changed_entry_is_found(book: Book, column: str) -> None:
    entries = filled(book)
    value = {"number": "100", "time": "time + 1", "hash": "x'00'"}.get(column, f"{column} || 'x'")
    forge(book, f"UPDATE trail SET {column} = {value} WHERE number = 4")
    with pytest.raises(TrailBroken) as caught:
        book.staff.trail.verify()
    assert caught.value.facts["number"] == 4
    with pytest.raises(TrailBroken):
        book.staff.trail.page(1000, 100)
    assert len(entries) == 8


@pytest.mark.parametrize("number", range(1, 8))
def test_a_missing_entry_is_found(book: Book, number: int) -> None:
    filled(book)
    forge(book, f"DELETE FROM trail WHERE number = {number}")
    with pytest.raises(TrailBroken) as caught:
        book.staff.trail.verify()
    assert caught.value.facts["number"] == number


def test_entries_that_changed_places_are_found(book: Book) -> None:
    filled(book)
    forge(
        book,
        "UPDATE trail SET number = 100 WHERE number = 3",
        "UPDATE trail SET number = 3 WHERE number = 4",
        "UPDATE trail SET number = 4 WHERE number = 100",
    )
    with pytest.raises(TrailBroken) as caught:
        book.staff.trail.verify()
    assert caught.value.facts["number"] == 3


def test_what_was_cut_off_is_found_by_a_head_that_was_noted(book: Book, tmp_path: Path) -> None:
    filled(book)
    noted = book.staff.trail.verify()
    noted.save(tmp_path / "head")
    filled(book)
    assert book.staff.trail.verify(Head.load(tmp_path / "head")).number > noted.number
    forge(book, "DELETE FROM trail WHERE number >= 6")
    assert book.staff.trail.verify().number == 5  # by itself the rest tells nothing
    with pytest.raises(TrailBroken, match="only 5 entries, and had 8"):
        book.staff.trail.verify(Head.load(tmp_path / "head"))
    filled(book)  # and goes on as if nothing had been
    book.staff.trail.verify()
    with pytest.raises(TrailBroken, match="another entry 8"):
        book.staff.trail.verify(Head.load(tmp_path / "head"))
    (tmp_path / "head").write_text("{}")
    with pytest.raises(StaffError):
        Head.load(tmp_path / "head")


def test_programs_of_ours_cannot_change_it(book: Book) -> None:
    filled(book)
    for statement in ("UPDATE trail SET who = 'x'", "DELETE FROM trail"):
        with pytest.raises(DatabaseError, match="only appended to"):
            book.staff.db.execute(statement)
    book.staff.trail.verify()


def test_two_processes_write_one_record(book: Book) -> None:
    """The pages and the command line."""
    _, visitor = book.enter()
    with closing(Staff(book.path, RULES, clock=lambda: book.now, cost=CHEAP)) as other:
        with ThreadPoolExecutor(4) as pool:
            for at in range(40):
                staff = (book.staff, other)[at % 2]
                pool.submit(staff.record, visitor, "coin", "::1", subject=str(at))
        assert other.trail.verify().number == 42
    assert {x.subject for x in book.staff.trail.entries()} >= {str(at) for at in range(40)}
    pages, before = [], 1 << 62
    while found := book.staff.trail.page(before, 10):
        pages += found
        before = found[-1].number
    assert [x.number for x in pages] == list(range(42, 0, -1))

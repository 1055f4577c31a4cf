# SPDX-License-Identifier: Apache-2.0
"""The staff's pages over HTTP: who may what, what is written down, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount, Route

import chipcash.center.staff
from chipcash.center.inquiry import LATEST
from chipcash.center.staff.roles import ROLES, Right
from chipcash.center.staff.service import Service
from chipcash.center.staff.site import PAGES, Center, create_app
from chipcash.evidence import verify_evidence
from chipcash.people.accounts import ABSOLUTE_S, IDLE_S
from chipcash.people.errors import StaffError
from chipcash.people.words import chinese, preferred
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.languages import check_placeholders, said_by
from tests.staff.desk import FIRST, PASSWORDS, Desk, desk_in
from tests.staff.test_staff_life import long_coin

EVERYBODY = frozenset(ROLES)
RULES: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/"): EVERYBODY,
    ("GET", "/login"): EVERYBODY,
    ("POST", "/login"): EVERYBODY,
    ("POST", "/logout"): EVERYBODY,
    ("GET", "/password"): EVERYBODY,
    ("POST", "/password"): EVERYBODY,
    ("GET", "/health"): EVERYBODY,
    ("GET", "/find"): frozenset({"viewer", "dispute"}),
    ("GET", "/coins/{serial}"): frozenset({"viewer", "dispute"}),
    ("GET", "/titles/{id}"): frozenset({"viewer", "dispute"}),
    ("GET", "/claims/{id}"): frozenset({"viewer", "dispute"}),
    ("GET", "/disputes"): frozenset({"dispute"}),
    ("GET", "/disputes/{id}"): frozenset({"dispute"}),
    ("GET", "/evidence/{digest}"): frozenset({"dispute"}),
    ("GET", "/holders/{key}"): frozenset({"dispute"}),
    ("GET", "/block"): frozenset({"operator"}),
    ("POST", "/block"): frozenset({"operator"}),
    ("GET", "/trail"): frozenset({"auditor"}),
}
"""Which roles each route answers. A route that is not here fails the test."""
PUBLIC = {("GET", "/login"), ("POST", "/login")}
STATIC = {"/static/staff.css", "/static/staff.js", "/static/icon.svg"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_in(tmp_path_factory.mktemp("staff")) as found:
        yield found


def filled(desk: Desk, path: str) -> str:
    """A route's path with what the desk has."""
    names = {"serial": desk.coin, "digest": desk.digest, "key": desk.card}
    names["id"] = {"/titles/{id}": desk.title, "/claims/{id}": desk.claim}.get(path, desk.later)
    return path.format(**names)


def last(desk: Desk) -> tuple[str, str, str, str]:
    """Who, action, subject and outcome of the newest entry of the record."""
    (entry,) = desk.staff.trail.page(1 << 62, 1)
    return entry.who, entry.action, entry.subject, entry.outcome


def number(desk: Desk) -> int:
    return desk.staff.trail.head().number


def test_every_route_has_its_rule(desk: Desk) -> None:
    """Here, and in the table that routes are made from: there are no others."""
    found = set()
    app = create_app(
        Center(desk.world.center, desk.world.trust, print, lambda: desk.health), desk.staff
    )
    for route in app.routes:
        if isinstance(route, Mount):
            assert route.path == "/static"
            folder = Path(chipcash.center.staff.__path__[0]) / "static"
            assert {f"/static/{path.name}" for path in folder.iterdir()} == STATIC
            continue
        assert isinstance(route, Route)
        found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    assert found == set(RULES) == {(page.method, page.path) for page in PAGES}
    assert {(x.method, x.path) for x in PAGES if x.right == Right.PUBLIC} == PUBLIC


@pytest.mark.parametrize("role", ROLES)
def test_every_route_for_every_role(desk: Desk, role: str) -> None:
    """With a good form where it takes one; what is not the role's changes nothing, and is written down."""
    with desk.login(role) as client:
        for (method, path), roles in RULES.items():
            before = number(desk)
            where = filled(desk, path)
            csrf = re.search('name="csrf" value="([0-9a-f]+)"', client.get("/password").text)
            assert csrf is not None
            answer = client.request(
                method, where, data={"csrf": csrf[1]} if method == "POST" else None
            )
            if role not in roles:
                assert answer.status_code == 403, (method, path)
                assert last(desk)[0] == role and last(desk)[3] == "refused"
                assert desk.coin not in answer.text and desk.card not in answer.text
            elif path == "/find":
                assert answer.status_code == 400  # the question is missing
            elif (method, path) in (("POST", "/block"), ("POST", "/password")):
                assert answer.status_code == 400
            elif (method, path) == ("POST", "/login"):
                assert answer.status_code == 403  # its form has a cookie of its own
            elif (method, path) == ("POST", "/logout"):
                assert answer.headers["location"] == "/login"
                desk.enter(client, role)
            else:
                assert answer.status_code in (200, 303), (method, path, answer.text)
            assert number(desk) > before + 1  # the password form, and this
    assert desk.world.center.listed(bytes.fromhex(desk.lost)) is None


def test_only_under_its_own_names(desk: Desk) -> None:
    """A name of somebody else's that leads here (DNS rebinding) is told nothing, and not written down."""
    with desk.login("operator") as client:
        before = number(desk)
        for host in ("evil.example", "evil.example:8720", "127.0.0.2"):
            answer = client.get("/health", headers={"Host": host})
            assert answer.status_code == 400 and "operator" not in answer.text
            assert "--name" in answer.text
        assert number(desk) == before
        assert client.get("/health", headers={"Host": "localhost:8720"}).status_code == 200


def test_every_route_for_nobody(desk: Desk) -> None:
    desk.now += 30  # the tests before tried wrong passwords
    before = number(desk)
    with httpx.Client(base_url=desk.url) as client:
        for (method, path), _ in RULES.items():
            answer = client.request(
                method, filled(desk, path), data={} if method == "POST" else None
            )
            if (method, path) == ("GET", "/login"):
                assert answer.status_code == 200
            elif (method, path) == ("POST", "/login"):
                assert answer.status_code == 403
            else:
                assert answer.headers["location"].startswith("/login")
                assert answer.text == ""
        for path in STATIC:
            assert client.get(path).status_code == 200
        for path in (
            "/nothing",
            "/static/../site.py",
            "/static/%2e%2e/site.py",
            "/coins",
            "/coins/",
        ):
            answer = client.get(path)
            assert answer.status_code == 404 and "Content-Security-Policy" in answer.headers
        assert client.request("DELETE", "/block").status_code == 405
        assert client.post("/login", content=b"x" * (1 << 21)).status_code == 413
    assert number(desk) == before  # nobody fills the record


def test_answers_stay_here(desk: Desk) -> None:
    with desk.login("dispute") as client:
        for path in (
            "/",
            "/login",
            f"/coins/{desk.coin}",
            f"/evidence/{desk.digest}",
            "/static/staff.js",
        ):
            headers = client.get(path).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        page = client.get(f"/coins/{desk.coin}").text
        assert not re.search(r"style=|<style|onclick|javascript:|//[a-z]", page.replace("</", ""))
    with httpx.Client(base_url=desk.url) as client:
        cookie = client.get("/login").headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
        answer = desk.post(client, "/login", "/login", name="viewer", password=PASSWORDS["viewer"])
        assert "HttpOnly" in answer.headers["set-cookie"]


def test_forms_of_others_are_refused(desk: Desk) -> None:
    """Without the token, with another session's, with that of before the login, from another site."""
    with desk.login("operator") as client, desk.login("operator") as other:
        good = re.search('name="csrf" value="([0-9a-f]+)"', client.get("/block").text)
        foreign = re.search('name="csrf" value="([0-9a-f]+)"', other.get("/block").text)
        assert good is not None and foreign is not None and good[1] != foreign[1]
        values = {"key": desk.lost, "reason": "it was stolen", "sure": "yes"}
        site = {"Sec-Fetch-Site": "cross-site"}
        for data, headers in (
            ({}, {}),
            ({"csrf": ""}, {}),
            ({"csrf": foreign[1]}, {}),
            ({"csrf": good[1]}, site),
            ({"csrf": good[1]}, {"Sec-Fetch-Site": "same-site"}),
        ):
            answer = client.post("/block", data={**values, **data}, headers=headers)
            assert answer.status_code == 403
            assert last(desk)[:2] == ("operator", "block") and last(desk)[3] == "refused"
        assert client.post("/logout", data={}).status_code == 403
        assert client.get("/block").status_code == 200
    with httpx.Client(base_url=desk.url) as client:
        client.get("/login")
        data = {"name": "viewer", "password": PASSWORDS["viewer"]}
        assert client.post("/login", data=data).status_code == 403
        data["csrf"] = good[1]
        assert client.post("/login", data=data).status_code == 403
    assert desk.world.center.listed(bytes.fromhex(desk.lost)) is None


def test_a_session_is_over(desk: Desk) -> None:
    with desk.login("viewer") as client:
        assert client.get(f"/coins/{desk.coin}").status_code == 200
        desk.now += IDLE_S + 1
        answer = client.get(f"/coins/{desk.coin}")
        assert answer.headers["location"] == f"/login?next=/coins/{desk.coin}"
        assert last(desk) == ("viewer", "session expired", "", "ok")
        wrong = desk.post(client, "/login", "/login", name="viewer", password="no", next="/trail")
        assert wrong.status_code == 401 and 'name="next" value="/trail"' in wrong.text
        answer = desk.post(
            client, "/login", "/login",
            name="viewer", password=PASSWORDS["viewer"], next=f"/coins/{desk.coin}",
        )  # fmt: skip
        assert answer.headers["location"] == f"/coins/{desk.coin}"
        before = client.cookies["session"]
        for _ in range(ABSOLUTE_S // IDLE_S + 1):
            desk.now += IDLE_S
            answer = client.get("/health")
        assert answer.headers["location"] == "/login?next=/health"
        for bad in ("//evil.example/", "https://evil.example", "/a/../b", "javascript:x"):
            answer = desk.post(
                client, "/login", "/login",
                name="viewer", password=PASSWORDS["viewer"], next=bad,
            )  # fmt: skip
            assert answer.headers["location"] == "/"
            assert client.cookies["session"] != before  # never the one of before the login
            client.cookies.clear()


def test_unknown_names_and_wrong_passwords_are_told_alike(desk: Desk) -> None:
    desk.now += 86_400
    with httpx.Client(base_url=desk.url) as client:
        texts = []
        for name in ("viewer", "nobody"):
            tries = [
                desk.post(client, "/login", "/login", name=name, password="wrong") for _ in range(8)
            ]
            assert [x.status_code for x in tries] == [401] * 5 + [429] * 3
            assert int(tries[-1].headers["retry-after"]) >= 1
            texts.append([re.sub('value="[^"]*"', "", x.text) for x in tries])
        assert texts[0] == texts[1]
    desk.now += 86_400


def test_looking_up(desk: Desk) -> None:
    with desk.login("dispute") as client:
        for text, where in (
            (desk.coin, f"/coins/{desk.coin}"),
            (f" {desk.coin[:8].upper()} {desk.coin[8:]}\n", f"/coins/{desk.coin}"),
            (desk.title, f"/titles/{desk.title}"),
            (desk.claim, f"/claims/{desk.claim}"),
            (desk.digest, f"/evidence/{desk.digest}"),
            (desk.card, f"/holders/{desk.card}"),
        ):
            answer = client.get("/find", params={"q": text})
            assert answer.headers["location"] == where
            assert last(desk) == ("dispute", "find", where.split("/")[2], "ok")
            assert client.get(where).status_code == 200
            assert last(desk)[2:] == (where.split("/")[2], "ok")
        for text, status in (("zz", 400), ("", 400), ("00", 404), ("00" * 32, 404), ("'--", 400)):
            assert client.get("/find", params={"q": text}).status_code == status
        for path, status in (
            (f"/coins/{'0' * 32}", 404), (f"/titles/{'0' * 64}", 404), (f"/claims/{'0' * 64}", 404),
            (f"/evidence/{'0' * 64}", 404), (f"/disputes/{'0' * 64}", 404),
            (f"/holders/02{'0' * 64}", 404), (f"/coins/{'0' * 30}", 400), ("/coins/<b>", 400),
            (f"/coins/{desk.coin.upper()}", 400),
        ):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code == status and "<b>" not in answer.text
            assert last(desk)[3] == ("unknown" if status == 404 else "malformed")


def test_what_the_pages_tell(desk: Desk) -> None:
    with desk.login("dispute") as client:
        coin = client.get(f"/coins/{desk.coin}").text
        for text in (
            "100.00 yuan",
            "settled",
            "redeemed",
            desk.card,
            desk.title,
            desk.claim,
            desk.later,
        ):
            assert text in coin
        cut = client.get(f"/coins/{desk.cut}").text
        assert cut.count('class="away"') >= 3 and f"/coins/{desk.fresh}" in cut  # legend, both ends
        fresh = client.get(f"/coins/{desk.fresh}").text
        assert "Made of other coins" in fresh and fresh.count(f"/coins/{desk.cut}") == 2
        title = client.get(f"/titles/{desk.title}").text
        assert "verified now" in title and "25.00" in title and desk.coin in title
        claim = client.get(f"/claims/{desk.later}").text
        assert "disputed" in claim and f"/disputes/{desk.later}" in claim and desk.claim in claim
        assert f"/disputes/{desk.later}" in client.get("/disputes").text
        dispute = client.get(f"/disputes/{desk.later}").text
        assert dispute.count("✓ verified now") == 4  # title, both claims, blacklist entry
        assert "fen 2,500 to 3,000: 5.00 yuan" in dispute and desk.digest in dispute
        assert "✗" not in dispute
        assert "no evidence" in client.get(f"/disputes/{desk.claim}").text
        holder = client.get(f"/holders/{desk.card}").text
        assert desk.title in holder and "repeat payment" in holder and "tier 3" in holder
        answer = client.get(f"/evidence/{desk.digest}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "attachment" in answer.headers["content-disposition"]
        verify_evidence(o.Evidence.decode(answer.content), desk.world.trust)
        health = client.get("/health").text
        for text in ("facts that it does not have yet: 2", "bank.example/w", "partition 1", "behind",
                     "not since the center&#39;s start", "settle", "10.0"):  # fmt: skip
            assert text in health
    with desk.login("viewer") as client:
        coin = client.get(f"/coins/{desk.coin}").text
        assert desk.card in coin and "/holders/" not in coin  # the key, but not its whole list
        assert "/disputes/" not in client.get(f"/claims/{desk.later}").text


def test_evidence_that_proves_nothing_is_told_as_such(desk: Desk) -> None:
    """A ledger whose evidence was changed: the page verifies it anew."""
    center = desk.world.center
    good = center.evidence(bytes.fromhex(desk.digest))
    first, second = good.claims
    bad = o.Evidence(
        header=good.header, title=good.title, claims=(first, second.signed(bytes(63) + b"\x01"))
    )
    change = "UPDATE evidence SET bytes = ? WHERE digest = ?"
    center.storage.execute(change, bad.encode(), bytes.fromhex(desk.digest))
    with desk.login("dispute") as client:
        page = client.get(f"/disputes/{desk.later}").text
    center.storage.execute(change, good.encode(), bytes.fromhex(desk.digest))
    assert "It proves nothing (signature)" in page and page.count("✗ does not verify") == 1
    assert page.count("✓ verified now") == 3


def test_blocking_a_key(desk: Desk) -> None:
    with desk.login("operator") as client:
        good = {"key": desk.lost, "reason": "the holder came with a passport", "sure": "yes"}
        for wrong in (
            {"key": "00"},
            {"reason": "x"},
            {"reason": "  \n "},
            {"reason": "x" * 401},
            {"sure": ""},
        ):
            answer = desk.post(client, "/block", "/block", **{**good, **wrong})
            assert answer.status_code == 400 and 'role="alert"' in answer.text
        assert desk.world.center.listed(bytes.fromhex(desk.lost)) is None
        assert "no card with this key" in client.get("/block", params={"key": desk.lost}).text
        answer = desk.post(client, "/block", "/block", **good)
        assert answer.status_code == 303
        assert "on the blacklist" in client.get(answer.headers["location"]).text
        entry = desk.world.center.listed(bytes.fromhex(desk.lost))
        assert entry is not None and entry.reason == o.REASON_LOST
        told = [
            x for x in desk.staff.trail.entries() if x.action == "block" and x.subject == desk.lost
        ]
        assert [x.outcome for x in told[-2:]] == ["begun", "ok"]
        assert {x.note for x in told[-2:]} == {good["reason"]}
        desk.post(client, "/block", "/block", **good)  # again: nothing new
        assert desk.world.center.listed(bytes.fromhex(desk.lost)) == entry


def test_nothing_is_shown_that_cannot_be_written_down(desk: Desk) -> None:
    """The disk is full, at each page: no look-up, no download, no block, no session."""
    book = desk.staff.db
    (before,) = book.row("SELECT count(*) FROM sessions")
    key = "02" + "ab" * 32
    with ExitStack() as stack:
        clients = {role: stack.enter_context(desk.login(role)) for role in ROLES}
        forms = {
            path: re.findall('name="csrf" value="([0-9a-f]+)"', clients["operator"].get(path).text)[
                -1
            ]
            for path in ("/block", "/password")
        }
        values = {"key": key, "reason": "it was stolen", "sure": "yes"}
        block = {"csrf": forms["/block"], **values}
        full = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        book.execute(f"CREATE TEMP TRIGGER full BEFORE INSERT ON trail {full}")
        for (method, path), roles in RULES.items():
            if method == "GET" and path != "/login":
                role = sorted(roles)[0]
                answer = clients[role].get(
                    filled(desk, path), params={"q": desk.coin, "key": desk.card}
                )
                assert answer.status_code == 503, path
                shown = answer.text + str(answer.headers)
                assert "nothing is shown" in shown
                assert not any(x in shown for x in (desk.coin, desk.card, desk.title, desk.digest))
        for path in ("/block", "/logout"):
            assert clients["operator"].post(path, data=block).status_code == 503
        with httpx.Client(base_url=desk.url) as client:
            data = {"name": "viewer", "password": PASSWORDS["viewer"]}
            answer = desk.post(client, "/login", "/login", **data)
            assert answer.status_code == 503 and "set-cookie" not in answer.headers
        assert desk.world.center.listed(bytes.fromhex(key)) is None
        assert book.row("SELECT count(*) FROM sessions")[0] == before + len(ROLES)
        # Full between the two entries of a block: it is done, and the first tells of it.
        book.execute("DROP TRIGGER full")
        book.execute(
            f"CREATE TEMP TRIGGER full BEFORE INSERT ON trail WHEN NEW.outcome = 'ok' {full}"
        )
        assert clients["operator"].post("/block", data=block).status_code == 503
        book.execute("DROP TRIGGER full")
        assert desk.world.center.listed(bytes.fromhex(key)) is not None
        assert last(desk) == ("operator", "block", key, "begun")
        for role, client in clients.items():
            assert client.get("/health").status_code == 200, role
    desk.staff.trail.verify()


def test_a_ledger_that_fails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is away; it contradicts itself; the page has a fault: told, and of a look-up there is an entry."""
    storage = desk.world.center.storage
    with desk.login("dispute") as client:
        storage.execute("ALTER TABLE coins RENAME TO gone")
        for path in (f"/coins/{desk.coin}", f"/titles/{desk.title}"):
            answer = client.get(path)
            assert answer.status_code == 503 and "cannot be read" in answer.text
            assert last(desk)[3] == "failed" and desk.coin not in answer.text
        storage.execute("ALTER TABLE gone RENAME TO coins")
        where = "WHERE serial = ? AND lo = 0", bytes.fromhex(desk.coin)
        (title_id,) = storage.row(f"SELECT title_id FROM slices {where[0]}", where[1])
        storage.execute(f"UPDATE slices SET title_id = NULL {where[0]}", where[1])
        answer = client.get(f"/coins/{desk.coin}")
        storage.execute(f"UPDATE slices SET title_id = ? {where[0]}", title_id, where[1])
        assert answer.status_code == 500 and "contradicts itself" in answer.text
        monkeypatch.delattr(desk.world.center.__class__.__mro__[1], "coin")
        answer = client.get(f"/coins/{desk.coin}")
        assert answer.status_code == 500 and "has a fault" in answer.text
        assert answer.headers["content-security-policy"] and "Traceback" not in answer.text


def test_a_first_password_has_to_be_changed(desk: Desk) -> None:
    desk.staff.add("new.one", "viewer", FIRST, "os:test")
    with httpx.Client(base_url=desk.url) as client:
        desk.post(client, "/login", "/login", name="new.one", password=FIRST)
        assert client.get("/").headers["location"] == "/password"
        assert client.get(f"/coins/{desk.coin}").status_code == 403
        new = "several words of my own"
        for values, status in (
            ({"old": FIRST, "new": new, "again": "other"}, 400),
            ({"old": FIRST, "new": "short", "again": "short"}, 400),
            ({"old": "wrong", "new": new, "again": new}, 403),
            ({"old": FIRST, "new": new, "again": new}, 303),
        ):
            assert desk.post(client, "/password", "/password", **values).status_code == status
        assert client.get(f"/coins/{desk.coin}").status_code == 200
        assert b"several words" not in (desk.staff.db.path).read_bytes()


def test_the_record_is_shown_and_its_damage_told(desk: Desk) -> None:
    with desk.login("auditor") as client:
        page = client.get("/trail").text
        assert desk.staff.trail.page(1 << 62, 2)[1].action in page
        older = re.search(r'\?before=(\d+)" rel="next"', page)
        assert older is not None
        client.get(f"/trail?before={older[1]}")
        book = desk.staff.db
        book.execute("DROP TRIGGER trail_unchanged")
        at = number(desk) - 3
        (who,) = book.row("SELECT who FROM trail WHERE number = ?", at)
        book.execute("UPDATE trail SET who = 'x' WHERE number = ?", at)
        told = client.get("/trail").text
        book.execute("UPDATE trail SET who = ? WHERE number = ?", who, at)
        assert f"Entry {at} of the record" in told
    desk.staff.trail.verify()


def test_both_languages(desk: Desk) -> None:
    """Everything that is said in English is there in Chinese, and nothing else."""
    folder = Path(chipcash.center.staff.__path__[0])
    said = (set(ROLES) | set(o.OUTCOMES) | {"issued", "redeemed"}) - {""}
    assert said | said_by(folder, "site.py") == set(chinese(folder))
    check_placeholders(folder)
    assert preferred("zh-CN,zh;q=0.9,en;q=0.8") == "zh"
    assert preferred("fr, en;q=0.3, zh;q=0") == "en" and preferred("\xff") == "en"
    with desk.login("viewer") as client:
        assert "Look up" in client.get("/").text
        page = client.get("/?lang=zh").text
        assert '<html lang="zh">' in page and "查询" in page and "Look up" not in page
        assert "币串" in client.get(f"/coins/{desk.coin}").text  # and stays so
        assert "Look up" in client.get("/?lang=en").text
        assert client.get("/?lang=xx").status_code == 200


def test_without_tls_it_listens_on_this_machine_only(desk: Desk) -> None:
    center = Center(desk.world.center, desk.world.trust, print, lambda: desk.health)
    for host in ("0.0.0.0", "::", "192.0.2.1", "center.example"):
        with pytest.raises(StaffError, match="in the clear"):
            Service(center, desk.staff, host)


def test_a_long_coin_has_pages(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    coin = {**long_coin(10_000), "serial": desk.coin}
    with desk.login("viewer") as client:
        for wrong in ("?page=0", "?page=-1", "?page=999999999999999999", "?page=x&part=%00"):
            assert client.get(f"/coins/{desk.coin}{wrong}").status_code == 200
        monkeypatch.setattr(desk.world.center, "coin", lambda serial: coin)
        page = client.get(f"/coins/{desk.coin}?page=57&part=3").text
        assert len(page) < 1_000_000
        assert "Page 57 of 100" in page and "Moves 5,601 to 5,700." in page
        assert "Page 3 of 101" in page and "which are too thin to draw" in page
        assert "A column stands for up to 84 steps" in page


def test_lists_have_pages(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row once, newest first, also where many things happened in one second."""
    monkeypatch.setattr("chipcash.center.staff.views._ROWS", 3)
    world = desk.world
    title = world.issue(1_000, "mallory")
    twice = [world.claim("mallory", "shop", [(title, at, at + 2)]) for at in range(8)]
    world.settle(*twice)  # each but the first overlaps the one before it
    disputes = {object_id(claim).hex() for claim in twice[1:]} | {desk.later}
    key = world.public("shop").hex()
    mine = {
        held.moment[1].hex() for held in world.center.titles_ever(bytes.fromhex(key), LATEST, 1_000)
    }
    with desk.login("dispute") as client:
        for path, kind, wanted in (
            ("/disputes", "disputes", disputes), (f"/holders/{key}", "titles", mine),
        ):  # fmt: skip
            found: list[str] = []
            where = path
            while where:
                page = client.get(where).text
                rows = list(dict.fromkeys(re.findall(f'href="/{kind}/([0-9a-f]{{64}})"', page)))
                assert len(rows) <= 3
                found += rows
                older = re.search(r'href="(\?before=[0-9a-f-]+)"', page)
                where = path + older[1] if older else ""
            assert len(found) == len(set(found)) and set(found) == wanted

        assert client.get("/disputes?before=x").status_code == 200

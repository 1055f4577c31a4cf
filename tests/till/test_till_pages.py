# SPDX-License-Identifier: Apache-2.0
"""The till's page over HTTP: who may what, what is written down, what is refused, what comes by itself."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trustme
from starlette.routing import Mount, Route

import chipcash.pos
import chipcash.pos.page
from chipcash.database import DatabaseError
from chipcash.people.accounts import LoginRefused, TooManyTries
from chipcash.people.errors import StaffError
from chipcash.people.words import Words, chinese
from chipcash.pos import PaymentState, Pos
from chipcash.pos.metrics import metrics
from chipcash.pos.page.roles import ROLES, RULES, Right
from chipcash.pos.page.service import Service
from chipcash.pos.page.site import PAGES, Site
from chipcash.pos.page.views import WARNINGS, fen, told
from chipcash.pos.till import SaleState, Till, Warn
from chipcash.terminal.refusals import REASONS
from chipcash.terminal.words import explain
from chipcash.tls import client_context, server_context
from chipcash.tls import names as certified
from tests.languages import check_placeholders, said_by
from tests.pos.test_till import wait_for
from tests.till.counter import SECRETS, Counter, center, counter_in
from tests.till.test_till_metrics import numbers

FOLDER = Path(chipcash.pos.page.__path__[0])
BOTH = frozenset(ROLES)
MANAGER = frozenset({"manager"})
RULE: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/"): BOTH,
    ("GET", "/login"): BOTH,
    ("POST", "/login"): BOTH,
    ("POST", "/logout"): BOTH,
    ("GET", "/password"): BOTH,
    ("POST", "/password"): BOTH,
    ("GET", "/charge"): BOTH,
    ("POST", "/charge"): BOTH,
    ("POST", "/cancel"): BOTH,
    ("POST", "/retry"): BOTH,
    ("POST", "/pin"): BOTH,
    ("POST", "/giveup"): BOTH,
    ("POST", "/leave"): BOTH,
    ("GET", "/queue"): BOTH,
    ("GET", "/payments/{payment}"): BOTH,
    ("GET", "/receipts/{payment}"): BOTH,
    ("GET", "/receipts/{payment}/pdf"): BOTH,
    ("POST", "/receipts/{payment}/print"): BOTH,
    ("GET", "/refund/{payment}"): MANAGER,
    ("POST", "/refund/{payment}"): MANAGER,
    ("GET", "/shift"): BOTH,
    ("POST", "/shift/open"): BOTH,
    ("POST", "/shift/close"): BOTH,
    ("GET", "/report"): BOTH,
    ("GET", "/sync"): BOTH,
    ("POST", "/sync"): BOTH,
    ("GET", "/settings"): MANAGER,
}
"""Which roles each route answers. A route that is not here fails the test."""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with counter_in(tmp_path_factory.mktemp("till")) as found:
        yield found


@pytest.fixture(scope="module")
def card(counter: Counter) -> Path:
    image = counter.sandbox.directory / "card.img"
    counter.sandbox.new_card(image, 100_000)
    return image


@pytest.fixture(scope="module")
def payment(counter: Counter, card: Path) -> str:
    """A payment in the books."""
    return counter.charged(card, 3_680).hex()


def last(counter: Counter) -> tuple[str, str, str, str]:
    """Who, action, subject and outcome of the newest entry of the record."""
    (entry,) = counter.staff.trail.page(1 << 62, 1)
    return entry.who, entry.action, entry.subject, entry.outcome


def shift_closed(counter: Counter) -> None:
    with counter.till.pos() as pos:
        if pos.shift is not None:
            pos.close_shift()


def shift_open(counter: Counter, who: str = "cashier") -> None:
    shift_closed(counter)
    with counter.till.pos(who) as pos:
        pos.open_shift()


def test_every_route_has_its_rule(counter: Counter) -> None:
    found = set()
    for route in Site(counter.till, counter.staff, center).app().routes:
        if isinstance(route, Mount):
            assert route.path == "/static"
            continue
        assert isinstance(route, Route)
        if route.path != "/live":  # test_what_changes_comes_by_itself, test_a_stream_ends...
            found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    assert found == set(RULE) == {(page.method, page.path) for page in PAGES}


@pytest.mark.parametrize("role", ROLES)
def test_every_route_for_every_role(counter: Counter, payment: str, role: str) -> None:
    """With a good form where it takes one. What is not the role's changes nothing, and is written down."""
    shift_closed(counter)
    with counter.login(role) as client:
        for (method, path), roles in RULE.items():
            found = re.search('name="csrf" value="([0-9a-f]+)"', client.get("/password").text)
            assert found is not None
            data = {"csrf": found[1]} if method == "POST" else None
            answer = client.request(method, path.format(payment=payment), data=data)
            assert answer.status_code < 500, (method, path, answer.text)
            if role not in roles:
                assert answer.status_code == 403, (method, path)
                assert last(counter)[0] == role and last(counter)[3] == "refused"
                assert payment not in answer.text
            elif path != "/login":
                assert answer.status_code != 403, (method, path, answer.text)
            if path == "/logout":
                assert answer.headers["location"] == "/login"
                counter.enter(client, role)
    with counter.till.pos() as pos:
        assert not pos.transfers()


def test_every_route_for_nobody(counter: Counter, payment: str) -> None:
    before = counter.staff.trail.head().number
    with httpx.Client(base_url=counter.url) as client:
        for method, path in RULE:
            answer = client.request(
                method, path.format(payment=payment), data={} if method == "POST" else None
            )
            if path != "/login":
                assert answer.headers["location"].startswith("/login") and answer.text == ""
        for path in FOLDER.glob("static/*"):
            assert client.get(f"/static/{path.name}").status_code == 200
        assert client.get(f"/payments/{'0' * 63}").status_code in (303, 400)
        with client.stream("GET", "/live?on=charge") as stream:
            told_all = stream.read().decode()
        assert "event: over" in told_all and "event: part" not in told_all
    assert counter.staff.trail.head().number == before


def test_forms_of_others_are_refused(counter: Counter) -> None:
    shift_open(counter)
    with counter.login("cashier") as client, counter.login("cashier") as other:
        good = re.search('name="csrf" value="([0-9a-f]+)"', client.get("/charge").text)
        foreign = re.search('name="csrf" value="([0-9a-f]+)"', other.get("/charge").text)
        assert good is not None and foreign is not None
        for token, site in (
            ("", "same-origin"),
            (foreign[1], "same-origin"),
            (good[1], "cross-site"),
        ):
            answer = client.post(
                "/charge", data={"csrf": token, "amount": "5"}, headers={"Sec-Fetch-Site": site}
            )
            assert answer.status_code == 403 and last(counter)[1:] == ("charge", "", "refused")
    assert counter.till.sale is None


def test_a_form_that_does_not_come(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chipcash.web.BODY_S", 0.2)
    address = (httpx.URL(counter.url).host, httpx.URL(counter.url).port or 0)
    with socket.create_connection(address, timeout=10) as line:
        line.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nna")
        assert line.recv(100).startswith(b"HTTP/1.1 408")


def test_answers_stay_here(counter: Counter) -> None:
    with counter.login("cashier") as client:
        for path in ("/charge", "/queue", "/static/till.js"):
            headers = client.get(path).headers
            assert headers["cache-control"] == "no-store"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'") and "connect-src 'self'" in policy
            assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert not re.search(r"style=|<style|onclick|javascript:", client.get("/charge").text)
        assert {x.name for x in client.cookies.jar} >= {"till-session"}  # not the center's pages'


def test_only_under_its_own_names(counter: Counter) -> None:
    """A name of somebody else's that leads here (DNS rebinding) is told nothing."""
    names = ["till.example", "*.shop.example"]
    with (
        Service(counter.till, counter.staff, center, names=names) as named,
        httpx.Client(base_url=named.url, headers={"Accept-Language": "zh"}) as client,
    ):
        port = httpx.URL(named.url).port
        for host in ("127.0.0.1", "localhost", "[::1]", "till.example", "a.SHOP.example"):
            for given in (host, f"{host}:{port}"):
                assert client.get("/login", headers={"Host": given}).status_code == 200
        client.cookies.clear()
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "xtill.example",
            "shop.example",
            "",
            "[",
        ):
            for path in ("/login", "/live", "/static/till.js"):
                answer = client.get(path, headers={"Host": host})
                assert answer.status_code == 400, (host, path)
                assert "csrf" not in answer.text and "set-cookie" not in answer.headers
                assert answer.headers["cache-control"] == "no-store"
                assert "--name" in answer.text and "本页面" in answer.text
    with counter.login("cashier") as client:
        answer = client.get("/queue", headers={"Host": "evil.example"})
        assert answer.status_code == 400 and "cashier" not in answer.text


def test_a_sale_from_its_form(counter: Counter) -> None:
    shift_closed(counter)
    with counter.login("cashier") as client:
        assert "Open a shift" in client.get("/charge").text
        assert counter.post(client, "/charge", "/charge", amount="5").status_code == 409
        assert counter.post(client, "/shift", "/shift/open").status_code == 303
        assert last(counter)[:2] == ("cashier", "open shift")
        for wrong in ("", "0", "x", "1.234", "-5", "1e3", "٣", "9" * 30):
            answer = counter.post(client, "/charge", "/charge", amount=wrong)
            assert answer.status_code == 400 and 'role="alert"' in answer.text, wrong
        assert counter.till.sale is None
        answer = counter.post(client, "/charge", "/charge", amount="36.8")
        assert answer.headers["location"] == "/charge"
        sale = counter.till.sale
        assert sale is not None and (sale.amount, sale.operator) == (3_680, "cashier")
        assert last(counter) == ("cashier", "charge", sale.id, "ok")
        page = client.get("/charge").text
        assert "Present the card" in page and "36.80" in page
        busy = counter.post(client, "/charge", "/charge", amount="5")
        assert busy.status_code == 409 and "under way" in busy.text
        waits = counter.post(client, "/charge", "/leave", sale=sale.id)
        assert waits.status_code == 409 and "cannot be left open" in waits.text
        answer = counter.post(client, "/charge", "/cancel", sale=sale.id)
        assert "No card has paid" in client.get("/charge").text
        assert 'id="amount"' in client.get(answer.headers["location"]).text
        too_much = counter.post(client, "/charge?after=" + sale.id, "/charge", amount="99999999")
        assert too_much.status_code == 409 and "at most" in too_much.text


def test_only_who_has_the_shift_or_a_manager_closes_it(counter: Counter) -> None:
    shift_open(counter, "manager")
    with counter.login("cashier") as client:
        assert "a manager closes it" in client.get("/shift").text
        with counter.till.pos() as pos:
            shift = pos.shift
        assert shift is not None
        number = str(shift.number)
        assert counter.post(client, "/shift", "/shift/close", shift=number).status_code == 403
    with counter.login("manager") as client:
        wrong = counter.post(client, "/shift", "/shift/close", shift="9999")
        assert wrong.status_code == 409
        look = client.get("/report")
        assert look.status_code == 200 and "X report" in look.text
        answer = counter.post(client, "/shift", "/shift/close", shift=number)
        report = client.get(answer.headers["location"]).text
        assert f"Z report {number}" in report and "What happened" in report
        assert client.get("/report?shift=9999").status_code == 409
    with counter.till.pos() as pos:
        assert pos.shift is None and pos.shifts()[0].closed_by == "manager"


def test_a_refund_is_given_once(counter: Counter, card: Path) -> None:
    paid = counter.charged(card, 2_000)
    counter.till.sync_now()

    def verified() -> bool:
        with counter.till.pos() as pos:
            return pos.payment(paid).state is PaymentState.VERIFIED

    counter.wait(verified)
    where = f"/refund/{paid.hex()}"
    with counter.login("manager") as client:
        form = client.get(where).text
        reference = re.search('name="reference" value="(page-[0-9a-f]{16})"', form)
        assert reference is not None
        values = {"reference": reference[1], "amount": "5.00"}
        for _ in range(2):
            answer = counter.post(client, where, where, **values)
            assert answer.status_code == 303
        assert "The refund is paid" in client.get(answer.headers["location"]).text
        again = counter.post(client, where, where, **{**values, "amount": "4"})
        assert again.status_code == 409 and "another transfer" in again.text
        more = counter.post(client, where, where, reference="page-" + "0" * 16, amount="16")
        assert more.status_code == 409 and "15.00 yuan can be refunded" in more.text
        told_of = [
            (x.outcome, x.note) for x in counter.staff.trail.entries() if x.action == "refund"
        ]
        assert ("begun", f"500 fen, {reference[1]}") in told_of
    with counter.till.pos() as pos:
        assert [x.amount for x in pos.transfers()] == [500]
        assert pos.transfers()[0].operator == "manager"


def test_a_refund_of_pending_money_is_promised(counter: Counter, card: Path) -> None:
    with counter.sandbox.offline():
        paid = counter.charged(card, 800)
        where = f"/refund/{paid.hex()}"
        with counter.login("manager") as client:
            assert "still pending" in client.get(where).text
            for _ in range(2):
                values = {"reference": "page-" + "2" * 16, "amount": "3"}
                answer = counter.post(client, where, where, **values)
                page = client.get(answer.headers["location"]).text
                assert "The refund is promised" in page and "3.00" in page
            assert "3.00 yuan" in client.get(f"/receipts/{paid.hex()}").text
            more = counter.post(client, where, where, reference="page-" + "3" * 16, amount="6")
            assert more.status_code == 409 and "5.00 yuan can be promised back" in more.text
    counter.till.sync_now()

    def kept() -> bool:
        with counter.till.pos() as pos:
            return [x.paid_fen for x in pos.promises(paid)] == [300]

    counter.wait(kept)


def test_a_refund_that_is_recorded_is_not_told_as_not_done(
    counter: Counter, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps its receipt from being booked: who is told so gives it a second time."""
    paid = counter.charged(card, 1_000)
    counter.till.sync_now()
    counter.wait(lambda: counter.till.status().summary.pending.count == 0)
    where = f"/refund/{paid.hex()}"

    def full(*_: object) -> None:
        raise DatabaseError("The disk is full.")

    with counter.login("manager") as client, monkeypatch.context() as patched:
        patched.setattr(Pos, "_book", full)
        answer = counter.post(client, where, where, reference="page-" + "4" * 16, amount="3")
        assert answer.status_code == 503 and "Do not give it again" in answer.text
        assert last(counter)[3] == "unknown"
        patched.setattr(Pos, "_begin_transfer", full)
        answer = counter.post(client, where, where, reference="page-" + "5" * 16, amount="3")
        assert answer.status_code == 503 and "Nothing was done" in answer.text
    counter.till.sync_now()
    counter.wait(lambda: counter.till.status().summary.leaving_fen == 0)
    with counter.till.pos() as pos:
        mine = [x for x in pos.transfers() if pos.refunded(x) == paid]
    assert [(x.amount, x.settled_fen) for x in mine] == [(300, 300)]


def test_a_refund_without_the_network_goes_out_later(counter: Counter, card: Path) -> None:
    paid = counter.charged(card, 1_000)
    counter.till.sync_now()
    counter.wait(lambda: counter.till.status().summary.pending.count == 0)
    where = f"/refund/{paid.hex()}"
    with counter.login("manager") as client:
        with counter.sandbox.offline():
            answer = counter.post(client, where, where, reference="page-" + "1" * 16, amount="3")
            assert answer.status_code == 503 and "Do not give it again" in answer.text
            assert last(counter)[3] == "unknown"
            counter.till.sync_now()
            counter.wait(lambda: bool(counter.till.status().sync.message))
            page = client.get("/sync").text
            assert "does not answer" in page and "the last try failed" in page
            assert "Not synchronised" in client.get("/charge").text
        assert counter.post(client, "/sync", "/sync").status_code == 303
        counter.wait(lambda: not counter.till.status().sync.message)
        with counter.till.pos() as pos:
            assert pos.transfers()[0].settled_fen == 300


def test_the_queue_has_pages(counter: Counter, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each payment once: what is pending by its deadline, the others the newest first."""
    monkeypatch.setattr("chipcash.pos.page.site._ROWS", 2)
    with counter.sandbox.offline(), counter.login("cashier") as client:
        made = [counter.charged(card, 100 + at).hex() for at in range(5)]
        with counter.till.pos() as pos:
            pending = [each.claim_id.hex() for each in pos.queue()]
            every = [each.claim_id.hex() for each in pos.payments()]
        assert set(made) <= set(pending)
        for start, wanted in (("/queue", pending), ("/queue?state=all", every)):
            found: list[str] = []
            where = start
            while where:
                page = client.get(where).text
                rows = re.findall('href="/payments/([0-9a-f]{64})"', page)
                assert len(rows) <= 2
                found += rows
                further = re.search('href="(/queue[^"]*after=[^"]*)" rel="next"', page)
                where = further[1].replace("&amp;", "&") if further else ""
            assert found == wanted
        for odd in ("state=NOTHING", "after=x", "state=%00", "after=9-9&state=SPENT"):
            assert client.get(f"/queue?{odd}").status_code == 200
        assert client.get("/payments/" + "0" * 64).status_code == 409
        assert client.get("/payments/zz").status_code == 400
    counter.till.sync_now()


def test_a_warning_stands_on_every_page_when_a_limit_is_near(counter: Counter, card: Path) -> None:
    counter.till.sync_now()
    counter.wait(lambda: counter.till.status().summary.pending.count == 0)
    shift_open(counter)
    with counter.till.pos() as pos:
        before = pos.policy
        pos.set_policy(replace(before, max_pending=1_000))
    with counter.sandbox.offline(), counter.login("manager") as client:
        for amount, text in ((790, ""), (10, "nears the most"), (200, "has reached the most")):
            counter.charged(card, amount)
            for path in ("/charge", "/queue", "/sync", "/shift", "/settings"):
                page = client.get(path).text
                told = re.search("What is pending ([a-z ]+) that this till may take", page)
                assert (told[1] if told else "") == text, path
        assert 'max="1000"' in client.get("/queue").text
        answer = counter.post(client, "/charge", "/charge", amount="1")
        assert answer.status_code == 409
        assert "For the customer" in answer.text and "while it is offline" in answer.text
    with counter.till.pos() as pos:
        pos.set_policy(before)
    counter.till.sync_now()


def test_looking_keeps_a_session_but_is_not_written_down(counter: Counter) -> None:
    with counter.login("cashier") as client:
        before = counter.staff.trail.head()
        for _ in range(3):
            counter.now += RULES.idle_s
            assert client.get("/queue").status_code == 200
        assert counter.staff.trail.head() == before
        counter.now += RULES.idle_s + 1
        assert client.get("/queue").headers["location"] == "/login?next=/queue"


def events(stream: httpx.Response) -> Iterator[tuple[str, str]]:
    name = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, line[6:]


def test_what_changes_comes_by_itself(counter: Counter) -> None:
    """All parts first, then those that are others now; the session is not kept from getting idle by it."""
    shift_open(counter)
    with counter.login("cashier") as client:
        page = client.get("/charge").text
        with client.stream("GET", "/live?on=charge") as stream:
            found = events(stream)
            first = [
                json.loads(data) for name, data in (next(found), next(found)) if name == "part"
            ]
            assert {each["name"] for each in first} == {"status", "sale"}
            for each in first:
                assert f'data-live="{each["name"]}" data-hash="{each["hash"]}"' in page
            sale = counter.till.begin(777, operator="cashier")
            changed = next(
                json.loads(data)
                for name, data in found
                if name == "part" and json.loads(data)["name"] == "sale"
            )
            assert "Present the card" in changed["html"] and "7.77" in changed["html"]
            counter.till.cancel(sale.id)
            counter.now += RULES.idle_s + 1
            assert any(name == "over" for name, _ in found)
    assert last(counter)[1] == "session expired"


def test_a_stream_ends_with_the_server(counter: Counter) -> None:
    service = Service(counter.till, counter.staff, center)
    with service, httpx.Client(base_url=service.url, timeout=20) as client:
        counter.enter(client, "cashier")
        with client.stream("GET", "/live?on=queue") as stream:
            found = events(stream)
            next(found)
            ender = threading.Timer(0.2, service.stop)
            ender.start()
            for _ in found:
                pass
            ender.join()


def test_many_open_pages_hold_nothing_up(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighty of them: each hears of a sale at once, which is charged as ever. None keeps a thread."""
    monkeypatch.setattr("chipcash.pos.page.site._LOOK_S", 60.0)  # who waits for that is late
    counter.sandbox.till("busy").close()

    async def scene(client: httpx.AsyncClient) -> None:
        here = asyncio.Semaphore(0)

        async def page() -> None:
            async with client.stream("GET", "/live?on=charge") as stream:
                async for line in stream.aiter_lines():
                    if "Present the card" in line:
                        return
                    if '"sale"' in line:
                        here.release()

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for _ in range(80):  # one comes when those before it wait
                group.create_task(page())
                await here.acquire()
            workers = [x for x in threading.enumerate() if x.name == "AnyIO worker thread"]
            assert len(workers) < 50  # 40 for requests, as ever, and a few that draw
            form = re.search('name="csrf" value="([0-9a-f]+)"', (await client.get("/charge")).text)
            assert form is not None
            answer = await client.post("/charge", data={"csrf": form[1], "amount": "9.87"})
            assert answer.status_code == 303

    async def whole(url: str, cookies: httpx.Cookies) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=url, cookies=cookies, limits=limits, timeout=20
        ) as client:
            await scene(client)

    with (
        Till(
            counter.sandbox.directory / "busy", ()
        ) as till,  # no center: nothing else happens here
        Service(till, counter.staff, center) as service,
        httpx.Client(base_url=service.url, timeout=20) as client,
    ):
        with till.pos() as pos:
            with center(pos) as way:
                pos.sync(way)
            pos.open_shift()
        counter.enter(client, "cashier")
        asyncio.run(whole(service.url, client.cookies))


def test_a_cashier_has_a_pin_and_a_manager_a_password(counter: Counter) -> None:
    staff = counter.staff
    for bad in (
        "12345",
        "123456",
        "987654",
        "111222",
        "12345678901234",
        "12a456",
        "password words",
    ):
        with pytest.raises(StaffError):
            staff.add("li", "cashier", bad, "os:test")
    with pytest.raises(StaffError):
        staff.add("li", "manager", "250250", "os:test")
    staff.add("li", "cashier", "250250", "os:test")
    with pytest.raises(StaffError, match="logs in with a password"):
        staff.set_role("li", "manager", "os:test")
    visitor = staff.visitor(staff.login("li", "250250", "::1"), "::1")
    assert visitor is not None and visitor.pin and not visitor.may(Right.CHARGE)
    staff.change_password(visitor, "250250", "802419", "::1")
    staff.set_role("li", "manager", "os:test", "a first password 2")
    with pytest.raises(LoginRefused):
        staff.login("li", "802419", "::1")
    visitor = staff.visitor(staff.login("li", "a first password 2", "::1"), "::1")
    assert visitor is not None and not visitor.may(Right.REFUND)
    with httpx.Client(base_url=counter.url) as client:
        answer = counter.post(client, "/login", "/login", name="li", password="a first password 2")
        assert client.get(client.get(answer.headers["location"]).headers["location"]).url.path
        page = client.get("/password").text
        assert 'minlength="15"' in page and 'minlength="6"' not in page
    # Guessing a PIN: five tries at once, then ever longer pauses.
    staff.set_role("li", "cashier", "os:test", "250250")
    for at in range(5):
        with pytest.raises(LoginRefused):
            staff.login("li", f"13579{at}", f"192.0.2.{at}")
    with pytest.raises(TooManyTries):
        staff.login("li", "250250", "203.0.113.9")
    staff.remove("li", "os:test")


def test_a_mirror_that_cannot_be_written_is_told_before_a_card_comes(
    counter: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chipcash.pos.mirror_watch._LOOK_S", 0.1)
    monkeypatch.setattr("chipcash.pos.mirror_watch._AGAIN_S", 0.1)
    counter.sandbox.till("mirrored").close()
    words = Words("zh", {})
    with (
        Till(counter.sandbox.directory / "mirrored", (), center) as till,
        Service(till, counter.staff, center) as service,
        httpx.Client(base_url=service.url, timeout=20) as client,
    ):
        counter.enter(client, "manager")

        def until(state: str, warned: bool) -> str:
            wait_for(
                till, lambda: numbers(metrics(till).decode())["chipcash_till_mirror", state] == 1
            )
            status = till.status()
            assert (Warn.MIRROR in status.warnings) is warned
            for path in ("/charge", "/queue"):  # in the head of every page
                assert (WARNINGS[Warn.MIRROR] in client.get(path).text) is warned
                assert ("Not mirrored" in client.get(path).text) is warned
            pages = [client.get(path).text for path in ("/sync", "/settings")]
            assert all((str(mirror) in page) is (state != "none") for page in pages)
            return pages[0]

        mirror = tmp_path / "mirror"
        assert "a lost disk loses" in until("none", False)
        with till.pos() as pos:
            pos.store.set_mirror(str(mirror))
        assert "up to date" in until("written", False)
        mirror.rename(tmp_path / "unplugged")
        page = until("failing", True)
        assert "No such file" in page and "Failing since" in page and "Last written" in page
        found = till.status().mirror
        for text in (found.message, found.hint):
            assert told(words, text) != text
        assert "没有这个文件" in told(words, found.message)
        (tmp_path / "unplugged").rename(mirror)
        assert "up to date" in until("written", False)
        with till.pos() as pos:
            pos.store.set_mirror("")
        until("none", False)


def test_without_tls_it_listens_on_this_machine_only(counter: Counter) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "till.example"):
        with pytest.raises(StaffError, match="in the clear"):
            Service(counter.till, counter.staff, center, host)


def test_for_tablets_over_tls(counter: Counter, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    own = authority.issue_cert("127.0.0.1", "::1", "till.example", "*.shop.example")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    names = certified(tmp_path / "pem")
    assert names == ["till.example", "*.shop.example", "127.0.0.1", "::1"]
    tls = server_context(tmp_path / "pem", None, None)
    with (
        Service(counter.till, counter.staff, center, "0.0.0.0", tls=tls, names=names) as service,
        httpx.Client(
            base_url=service.url.replace("0.0.0.0", "127.0.0.1"),
            verify=client_context(tmp_path / "ca"),
            timeout=20,
        ) as client,
    ):
        counter.enter(client, "cashier")
        session = next(x for x in client.cookies.jar if x.name == "__Host-till-session")
        assert session.secure
        for host, status in (("till.example", 303), ("a.shop.example", 303), ("shop.example", 400)):
            assert client.get("/login", headers={"Host": host}).status_code == status
        with client.stream("GET", "/live?on=sync") as stream:
            assert {name for _, (name, _) in zip(range(2), events(stream), strict=False)} == {
                "part"
            }


def test_amounts_as_people_write_them() -> None:
    assert [fen(x) for x in ("36.80", "36.8", " 12 ", ".5", "0.01")] == [3680, 3680, 1200, 50, 1]
    assert not any(
        fen(x) for x in ("0", "0.00", "", ".", "1.", "1.234", "1,2", "+1", "١", "9" * 16)
    )


# ---- languages -------------------------------------------------------------------------------------------


def test_both_languages(counter: Counter) -> None:
    """Everything that the page says in English is there in Chinese, and nothing else."""
    said = set(ROLES) | {str(state) for state in PaymentState} | set(WARNINGS.values())
    assert said | said_by(FOLDER, "site.py") == set(chinese(FOLDER))
    check_placeholders(FOLDER)
    with counter.login("cashier") as client:
        page = client.get("/charge?lang=zh").text
        assert '<html lang="zh">' in page and "收款" in page and "Charge" not in page
        for path in ("/queue?state=all", "/shift", "/sync", "/password"):
            assert not re.search(r">[A-Z][a-z]+ [a-z]+", client.get(path).text.split("<main")[1])
        client.get("/charge?lang=en")


def sentences(path: Path) -> set[str]:
    """The messages and hints that a module has for people, each value in them as 7."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        values = [word.value for word in node.keywords if word.arg in ("message", "hint")]
        if name.endswith(("Error", "Lost", "Card", "Funds", "Money", "__init__")):
            values += node.args[:1]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.add(value.value)
            elif isinstance(value, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant)
                    else "7 yuan" if isinstance(part, ast.FormattedValue)
                    and ast.unparse(part.value).startswith("yuan(")
                    else "7"
                    for part in value.values
                )  # fmt: skip
                found.add("".join(str(part) for part in parts))
    return {text for text in found if text.endswith(".") and " " in text}


def test_refusals_are_told_in_chinese() -> None:
    """What a cashier or payer may be told at the tap, with its values in it."""
    words = Words("zh", {})
    said = {text for pair in REASONS.values() for text in pair}
    for reason in REASONS:
        for asked in (True, False):
            english = explain(reason, asked=asked)
            said |= {english.cashier, english.hint}
    for name in ("till", "errors", "shifts", "promises", "transfers"):
        said |= sentences(Path(chipcash.pos.__path__[0]) / f"{name}.py")
    # Not at the page: of starting a second till on the same directory.
    said = {text for text in said if "runs already" not in text and "Use that one" not in text}
    assert len(said) > 40
    assert {text for text in said if told(words, text) == text} == set()
    lost = (
        "The connection broke while the card was paying 36.80 yuan: The card left the reader's field (gone). "
        "It may have carried out the last command. The card may have taken the money from the customer; you "
        "have not received it yet."
    )
    translated = told(words, lost)
    assert "36.80" in translated and "gone" in translated and not re.search("[a-z]{5}", translated)
    assert told(words, "Nobody has translated this.") == "Nobody has translated this."
    assert told(Words("en", {}), lost) == lost


def test_secrets_stay_out_of_the_record(counter: Counter) -> None:
    with counter.login("cashier") as client:
        shift_open(counter)
        sale = counter.till.begin(100)
        counter.post(client, "/charge", "/pin", sale=sale.id, pin="258013")
        counter.till.cancel(sale.id)
    assert counter.till.sale is not None and counter.till.sale.state is SaleState.CANCELLED
    for path in counter.directory.glob("staff.db*"):
        data = path.read_bytes()
        assert b"258013" not in data and not any(x.encode() in data for x in SECRETS.values())

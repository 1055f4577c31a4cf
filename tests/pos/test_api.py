# SPDX-License-Identifier: Apache-2.0
"""The till over HTTP: over a real center and emulated cards in a reader where they come and go."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from chipcash.center.client import CenterClient
from chipcash.pos import AnswerLost, Pos, PosError
from chipcash.pos import api as a
from chipcash.pos.till import Till
from chipcash.sandbox import PIN, PlaceReader, Sandbox
from chipcash.transports import open_path
from tests.pos.shop import SlowSigner, Torn

TOKEN = "t" * 32


@contextmanager
def center(pos: Pos) -> Iterator[CenterClient]:
    with CenterClient(pos.center_url, pos.trust, timeout=5) as client:
        yield client


class Counter:
    """A till with a reader, its face, and a program that uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sandbox = Sandbox(folder / "net")
        self.sandbox.till("till").close()
        self.directory = self.sandbox.directory / "till"
        self.reader = PlaceReader(["nfc"])
        self.patience = 30.0

    def card(self, name: str, money: int = 50_000) -> Path:
        image = self.folder / f"{name}.img"
        self.sandbox.new_card(image, money)
        return image

    @contextmanager
    def open(self) -> Iterator[httpx.Client]:
        with (
            Till(self.directory, self.reader.paths, center, patience=self.patience) as till,
            a.Service(till, center, TOKEN) as service,
            httpx.Client(
                base_url=service.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=40
            ) as client,
        ):
            yield client

    def close(self) -> None:
        self.reader.close()
        self.sandbox.close()


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    made = Counter(tmp_path)
    yield made
    made.close()


def start(client: httpx.Client, reference: str, amount: int, **more: Any) -> httpx.Response:
    return client.post("/v1/payments", json={"reference": reference, "amount_fen": amount, **more})


def result(client: httpx.Client, reference: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/payments/{reference}", params={"wait": 30, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def act(client: httpx.Client, reference: str, what: str, **body: Any) -> httpx.Response:
    return client.post(f"/v1/payments/{reference}/{what}", **({"json": body} if body else {}))


def test_a_day(counter: Counter) -> None:
    """Charged, waited for, verified, refunded, with a receipt; and each request again changes nothing."""
    image = counter.card("a")
    with counter.open() as client:
        made = start(client, "order-1", 1_250, operator="anna")
        assert made.status_code == 201 and made.json()["state"] == "WAITING"
        assert start(client, "order-1", 1_250).status_code == 200
        assert client.get("/v1/status").json()["current"]["reference"] == "order-1"
        busy = start(client, "order-2", 5)
        assert busy.status_code == 409 and busy.json()["error"] == "busy"
        waiting: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: waiting.append(result(client, "order-1")))
        thread.start()
        counter.reader.insert(image, "cpython")
        thread.join(30)
        (paid,) = waiting
        assert (paid["state"], paid["ended"], paid["operator"]) == ("PAID", True, "anna")
        assert paid["payment"]["amount_fen"] == 1_250 and paid["payment"]["link"] == "nfc"
        again = start(client, "order-1", 1_250)
        assert again.status_code == 200 and again.json()["state"] == "PAID"
        other = start(client, "order-1", 1_251)
        assert other.status_code == 409 and "belongs to a charge of 12.50 yuan" in other.text

        deadline = time.monotonic() + 60
        while result(client, "order-1")["payment"]["state"] != "VERIFIED":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        refund = {"payment": "order-1", "amount_fen": 250, "reference": "refund-1"}
        done = client.post("/v1/refunds", json=refund)
        assert (done.status_code, done.json()["state"]) == (201, "DONE"), done.text
        assert client.post("/v1/refunds", json=refund).json() == done.json()
        assert client.get("/v1/refunds/refund-1").json() == done.json()
        too_much = client.post(
            "/v1/refunds", json={**refund, "amount_fen": 1_001, "reference": "r2"}
        )
        assert too_much.status_code == 409 and "10.00 yuan can be refunded" in too_much.text
        assert client.post("/v1/refunds", json={**refund, "payment": "none"}).status_code == 404
        assert client.get("/v1/refunds/r2").status_code == 404

        receipt = client.get("/v1/payments/order-1/receipt")
        assert "12.50 yuan" in receipt.text and "order-1" in receipt.text
        for form, begin in (("html", b"<article"), ("pdf", b"%PDF"), ("escpos", b"\x1b@")):
            found = client.get("/v1/payments/order-1/receipt", params={"form": form})
            assert found.content.startswith(begin)
        status = client.get("/v1/status").json()
        assert status["last"] == {
            "reference": "order-1", "amount_fen": 1_250, "time": paid["payment"]["time"], "paid": True,
        }  # fmt: skip
        assert client.post("/v1/sync").json() == {"started": True}
    # Another process knows it too.
    with counter.open() as client:
        assert start(client, "order-1", 1_250).json()["state"] == "PAID"
        assert result(client, "order-1")["payment"]["claim_id"] == paid["payment"]["claim_id"]
    assert spent(counter, image) == 1_250


def spent(counter: Counter, image: Path) -> int:
    from chipcash.card import Card
    from chipcash.transports import open_path

    counter.reader.remove()
    with open_path(f"sim:{image}") as connection:
        card = Card(connection)
        card.select()
        return card.info().spent


def test_a_pin_is_asked_for(counter: Counter) -> None:
    with counter.open() as client:
        counter.reader.insert(counter.card("a"), "cpython")
        start(client, "big", 15_000)
        asked = result(client, "big")
        assert asked["state"] == "PIN" and "PIN" in asked["message"] and asked["at_till"]
        assert act(client, "big", "pin", pin="000000").status_code == 200
        deadline = time.monotonic() + 60
        while result(client, "big")["state"] != "PIN":
            assert time.monotonic() < deadline
        assert act(client, "big", "pin", pin=PIN).status_code == 200
        assert result(client, "big")["state"] == "PAID"
        wrong = act(client, "big", "pin", pin=PIN)
        assert wrong.status_code == 409 and PIN not in wrong.text


def test_nobody_pays(counter: Counter) -> None:
    """Cancelled, refused or not in time; tried again under the same name, and never charged by itself."""
    poor = counter.card("poor", 10)
    counter.patience = 3.0
    with counter.open() as client:
        start(client, "gone", 100)
        assert act(client, "gone", "cancel").json()["state"] == "CANCELLED"
        assert act(client, "gone", "cancel").status_code == 200
        assert start(client, "gone", 100).json()["state"] == "CANCELLED"
        start(client, "late", 100)
        late = result(client, "late")
        assert late["state"] == "CANCELLED" and "in time" in late["message"]
        assert result(client, "gone")["state"] == "CANCELLED"  # remembered behind the next one
        counter.reader.insert(poor, "cpython")
        start(client, "poor", 100)
        refused = result(client, "poor")
        assert refused["state"] == "REFUSED" and refused["message"] and refused["retryable"]
        assert client.get("/v1/payments/poor/receipt").status_code == 409
        counter.reader.remove()
        time.sleep(1)
        rich = counter.card("rich")
        tried = act(client, "poor", "retry")
        assert tried.status_code == 200 and tried.json()["state"] == "WAITING", (
            refused,
            tried.text,
        )
        counter.reader.insert(rich, "cpython")
        assert result(client, "poor")["state"] == "PAID"
        assert act(client, "poor", "retry").status_code == 409
        assert act(client, "poor", "give-up").status_code == 409
        assert act(client, "poor", "cancel").status_code == 409
        above = start(client, "above", 10_000_000)
        assert above.status_code == 409 and "at most" in above.text
        assert client.get("/v1/payments/above").status_code == 404
    with counter.open() as client:
        unknown = client.get("/v1/payments/gone")
        assert unknown.status_code == 404 and "no card has paid" in unknown.text


def test_nobody_knows(counter: Counter) -> None:
    """The answer is lost: the same card again, also for another process; or given up."""
    image = counter.card("a")
    with counter.open() as client:
        counter.reader.insert(image, "cpython", cut_before=2)
        start(client, "torn", 700)
        assert result(client, "torn")["state"] == "UNKNOWN"
        assert act(client, "torn", "cancel").status_code == 409
        assert start(client, "torn", 700).json()["at_till"]
    with counter.open() as client:
        found = result(client, "torn")
        assert (found["state"], found["at_till"], found["ended"]) == ("UNKNOWN", False, False)
        assert "SAME card" in found["hint"]
        again = start(client, "torn", 700)
        assert (again.status_code, again.json()["at_till"]) == (200, True)
        counter.reader.insert(image, "cpython")
        assert result(client, "torn", known="WAITING")["state"] in ("PAYING", "PAID")
        assert result(client, "torn")["state"] == "PAID"
        counter.reader.remove()
        time.sleep(1)
        counter.reader.insert(image, "cpython", cut_before=2)
        start(client, "lost", 300)
        assert result(client, "lost")["state"] == "UNKNOWN"
        given = act(client, "lost", "give-up").json()
        assert given["state"] == "CANCELLED" and "given up" in given["message"]
        assert act(client, "lost", "retry").status_code == 409
    with counter.open() as client:
        assert result(client, "lost")["state"] == "CANCELLED"
        assert act(client, "lost", "give-up").json()["state"] == "CANCELLED"
        assert start(client, "lost", 300).json()["state"] == "CANCELLED"
    assert spent(counter, image) <= 1_000


def test_a_refund_of_pending_money_is_promised(counter: Counter) -> None:
    counter.reader.insert(counter.card("a"), "cpython")
    with counter.open() as client:
        with counter.sandbox.offline():
            start(client, "order", 700)
            assert result(client, "order")["payment"]["state"] in ("PENDING", "SUBMITTED")
            refund = {"payment": "order", "amount_fen": 200, "reference": "back"}
            promised = client.post("/v1/refunds", json=refund)
            assert (promised.status_code, promised.json()["state"]) == (201, "PROMISED")
            assert promised.json()["proof"].startswith("CHIPCASH:1/1:")
            again = client.post("/v1/refunds", json=refund)
            assert (again.status_code, again.json()) == (200, promised.json())
            assert client.post("/v1/refunds", json={**refund, "amount_fen": 1}).status_code == 409
            assert promised.json()["proof"] in client.get("/v1/payments/order/receipt").text
        client.post("/v1/sync")
        deadline = time.monotonic() + 60
        while (kept := client.get("/v1/refunds/back").json())["state"] != "DONE":
            assert time.monotonic() < deadline, kept
            time.sleep(0.1)
        assert kept["settled_fen"] == 200
        assert client.post("/v1/refunds", json=refund).json() == kept


def test_refunds_that_wait_for_the_center_leave_room_for_charges(counter: Counter) -> None:
    asked, ends = threading.Event(), threading.Event()

    @contextmanager
    def hangs(pos: Pos) -> Iterator[CenterClient]:
        asked.set()
        assert ends.wait(30)
        with center(pos) as client:
            yield client

    with (
        Till(counter.directory, [], center) as till,
        a.Service(till, hangs, TOKEN) as service,
        httpx.Client(
            base_url=service.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=40
        ) as client,
        ThreadPoolExecutor(50) as others,
    ):
        with till.pos() as pos, open_path(f"sim:{counter.card('a')}") as connection:
            pos.charge(connection, 5_000, reference="order")
        till.sync_now()
        deadline = time.monotonic() + 20
        while till.status().summary.verified_fen != 5_000:
            assert time.monotonic() < deadline
            time.sleep(0.1)

        def refund(number: int) -> int:
            what = {"payment": "order", "amount_fen": 10, "reference": f"back-{number}"}
            return client.post("/v1/refunds", json=what).status_code

        try:
            refunds = [others.submit(refund, number) for number in range(50)]
            assert asked.wait(20)
            time.sleep(0.5)  # until all of them are there
            assert client.get("/v1/status", timeout=10).status_code == 200
        finally:
            ends.set()
        assert {each.result(60) for each in refunds} == {201}


def test_who_gives_up_leaves_room_for_charges(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"sim:{counter.card('a')}"
    with Pos(counter.directory) as pos, open_path(path) as inner, pytest.raises(AnswerLost):
        pos.charge(Torn(inner), 700, reference="lost")
    with counter.open() as client, ThreadPoolExecutor(50) as others:
        slow = SlowSigner(monkeypatch)
        try:
            given = [others.submit(act, client, "lost", "give-up") for _ in range(50)]
            assert slow.signing.wait(60)
            time.sleep(0.5)  # until all of them are there
            assert client.get("/v1/status", timeout=10).status_code == 200
        finally:
            slow.signed.set()
        assert {each.result(60).json()["state"] for each in given} == {"CANCELLED"}


def test_events(counter: Counter) -> None:
    """Each change of the till is told while the line stands."""
    counter.patience = 1.0
    with counter.open() as client:
        seen: list[dict[str, Any]] = []
        with client.stream("GET", "/v1/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:]))
                    if len(seen) == 1:
                        start(client, "one", 100)
                    if seen[-1]["current"] is None and any(each["current"] for each in seen):
                        break
        assert next(each["current"]["reference"] for each in seen if each["current"]) == "one"
        events = [each["event"] for each in seen]
        assert events == sorted(set(events))


def test_who_has_no_token_learns_nothing(counter: Counter, tmp_path: Path) -> None:
    with counter.open() as client:
        start(client, "order", 100)
        for header in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
            for method, path in (("GET", "/v1/status"), ("POST", "/v1/payments"),
                                 ("GET", "/v1/payments/order"), ("GET", "/v1/events")):  # fmt: skip
                answer = client.request(method, path, headers={"Authorization": header})
                assert answer.status_code == 401, (header, path)
                assert "order" not in answer.text and "WWW-Authenticate" in answer.headers
        assert client.get("/openapi.json", headers={"Authorization": ""}).status_code == 200
    path = tmp_path / "token"
    token = a.load_token(path)
    assert a.load_token(path) == token and len(token) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(PosError, match="Others can read"):
        a.load_token(path)
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(PosError, match="no token"):
        a.load_token(path)
    with (
        Till(counter.directory, []) as till,
        pytest.raises(PosError, match="in the clear"),
    ):
        a.Service(till, center, TOKEN, "0.0.0.0")


def test_what_is_malformed(counter: Counter) -> None:
    with counter.open() as client:
        for body in ({}, {"reference": "x"}, {"reference": "x", "amount_fen": 0},
                     {"reference": "x", "amount_fen": 1.5}, {"reference": "x", "amount_fen": "1"},
                     {"reference": "", "amount_fen": 1}, {"reference": "a/b", "amount_fen": 1},
                     {"reference": "x" * 65, "amount_fen": 1}, {"reference": "x", "amount_fen": 1 << 53},
                     {"reference": "x", "amount_fen": True}, {"reference": "x", "amount_fen": 1, "y": 1},
                     {"reference": "x", "amount_fen": 1, "operator": "a\nb"},
                     {"reference": "x\n", "amount_fen": 1}):  # fmt: skip
            answer = client.post("/v1/payments", json=body)
            assert (answer.status_code, answer.json()["error"]) == (400, "malformed"), body
        half = b'{"reference": "x", "amount_fen": 1, "operator": "\\ud800"}'
        answer = client.post(
            "/v1/payments", content=half, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "malformed")
        assert client.post("/v1/payments", content=b"{}").status_code == 415
        bad = client.get("/v1/payments/x", params={"wait": "61"})
        assert bad.status_code == 400
        assert client.get("/v1/payments/x", params={"known": "SOLD"}).status_code == 400
        assert client.get("/v1/payments/%00").status_code == 400
        assert client.get("/v1/payments/x").status_code == 404
        assert client.get("/v1/none").json()["error"] == "unknown"
        assert client.delete("/v1/status").status_code == 405
        assert client.get("/v1/status").json()["current"] is None

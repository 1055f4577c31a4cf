# SPDX-License-Identifier: Apache-2.0
"""A center that answers slowly, twice, out of order, with errors, with nonsense, or is another network's:
nothing is lost or counted twice, and who works at the till is told the truth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chipcash import web
from chipcash.center.client import CenterClient
from chipcash.pos import PaymentState, Pos
from chipcash.pos.till import SaleState, Till
from chipcash.sandbox import Sandbox
from tests.pos.test_till import ended, wait_for

_TIMEOUT_S = 1.0


class Between:
    """Somebody between a till and its center. mood: what he does to what passes; "" is nothing."""

    def __init__(self, center: str, other: str) -> None:
        self.mood = ""
        self.passed = 0
        self._center = center
        self._other = other
        self._before: dict[str, Response] = {}
        self._client = httpx.Client(timeout=30)
        route = Route("/{path:path}", self._answer, methods=["GET", "POST"])
        self._service = web.Service(Starlette(routes=[route]), "127.0.0.1", 0, "between")

    def __enter__(self) -> Between:
        self._service.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._service.__exit__(None, None, None)
        self._client.close()

    @property
    def url(self) -> str:
        return self._service.url

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(self._pass, request, body)

    def _pass(self, request: Request, body: bytes) -> Response:
        self.passed += 1
        path = f"{request.url.path}?{request.url.query}"
        before = self._before.get(request.url.path)
        if self.mood == "late" and before is not None:
            return before
        url = self._other if self.mood == "another network's" else self._center
        if self.mood == "twice":
            self._client.request(request.method, f"{url}{path}", content=body)
        found = self._client.request(request.method, f"{url}{path}", content=body)
        answer = Response(found.content, found.status_code, media_type="application/octet-stream")
        if self.mood == "":
            self._before[request.url.path] = answer
        if self.mood == "slow":
            time.sleep(2 * _TIMEOUT_S)
        if self.mood == "error":
            return Response(b"<h1>Bad gateway</h1>", 502)
        if self.mood == "nonsense":
            return Response(b"<h1>Log in to the hotel's network</h1>", 200)
        if self.mood == "refusing":
            return Response(b"{}", 403)
        return answer


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "net") as made:
        yield made


@contextmanager
def _impatient(pos: Pos) -> Iterator[CenterClient]:
    with CenterClient(pos.center_url, pos.trust, timeout=_TIMEOUT_S) as client:
        yield client


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        ("slow", "does not answer"),
        ("error", "does not answer"),
        ("nonsense", "cannot be trusted"),
        ("refusing", "cannot be trusted"),
        ("late", "cannot be trusted"),
        ("another network's", ""),
        ("twice", None),
    ],
)
def test_whatever_the_center_does(
    sandbox: Sandbox, tmp_path: Path, mood: str, told: str | None
) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)
    with (
        Sandbox(tmp_path / "other", network=b"ELSE") as other,
        Between(sandbox.url, other.url) as between,
    ):
        with Pos.init(tmp_path / "till", sandbox.trust, between.url) as pos:
            pos.sync(sandbox.center)
        with Till(tmp_path / "till", [f"sim:{image}"], _impatient) as till:
            ended(till, till.begin(100), SaleState.PAID)
            wait_for(till, lambda: till.status().summary.verified_fen == 100)
            wait_for(till, lambda: not till.status().sync.running)
            between.mood = mood
            ended(till, till.begin(250), SaleState.PAID)
            if told is None:
                wait_for(till, lambda: till.status().summary.verified_fen == 350)
            else:
                wait_for(till, lambda: bool(till.status().sync.message))
                status = till.status()
                assert told in status.sync.message and status.sync.hint
                assert status.summary.states[PaymentState.SUBMITTED].fen == 250
                assert status.summary.verified_fen == 100
            between.mood = ""
            till.sync_now()
            wait_for(till, lambda: till.status().summary.verified_fen == 350)
            wait_for(till, lambda: not till.status().sync.message)
            with till.pos() as pos:
                owner = pos.public.hex()
        assert sandbox.ledger.accounts()["owners"][owner] == 350
        assert owner not in other.ledger.accounts()["owners"]
        sandbox.ledger.check()

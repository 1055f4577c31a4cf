# SPDX-License-Identifier: Apache-2.0
"""How much, how fast and how slowly a client may ask."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, pairwise, repeat
from pathlib import Path

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from chipcash import web
from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterUnreachable
from chipcash.center.limits import Limits, TooMany
from chipcash.center.service import Service
from chipcash.tls import client_context, server_context
from tests.center.test_operations import samples
from tests.center.test_publishing import new_log
from tests.center.world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.center.close()


def scope(address: str) -> dict[str, object]:
    return {"client": (address, 1)}


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(["10.0.0.1", "10.0.0.2"]))),
    st.sampled_from([0.5, 1, 7]),
)
def test_in_any_time_a_client_gets_no_more_than_its_rate_and_a_bucket(
    asked: list[tuple[int, str]], rate: float
) -> None:
    now = 0
    limits = Limits(rate, clock=lambda: now / 1000)
    served: dict[str, list[float]] = {}
    for wait, who in asked:
        now += wait
        try:
            limits.take(scope(who))
        except TooMany as refused:
            assert refused.seconds >= 1
            # It is true: then it may.
            now += 1000 * refused.seconds
            limits.take(scope(who))
        served.setdefault(who, []).append(now / 1000)
    for times in served.values():
        for first, at in enumerate(times):
            for last, until in enumerate(times[first:], first):
                assert last - first + 1 <= max(1, 10 * rate) + rate * (until - at) + 1e-6
        assert times == sorted(times) and all(a <= b for a, b in pairwise(times))


def test_who_counts_as_one() -> None:
    limits = Limits(0.1, clock=lambda: 0)  # one request
    for address in ("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8:0:1::1", "somebody"):
        limits.take(scope(address))
    for address in ("10.0.0.1", "::ffff:10.0.0.2", "2001:db8::2:3", "2001:db8:0:1:f::", "somebody"):
        with pytest.raises(TooMany):
            limits.take(scope(address))
    bank = {**scope("10.0.0.1"), "extensions": {"tls": {"client_cert_name": "CN=bank"}}}
    for _ in range(100):
        limits.take(bank)


def test_many_addresses_take_no_more_room() -> None:
    limits = Limits(1, clock=lambda: 0)
    for number in range(30_000):
        limits.take(scope(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(limits._buckets) == 20_000


def test_who_asks_too_much_is_told_and_nothing_happens(world: World, tmp_path: Path) -> None:
    log = new_log(tmp_path)
    limits = Limits(1, clock=lambda: 0)
    with Service(world.center, log=log, limits=limits) as service, closing(log):
        with httpx.Client(base_url=service.url) as client:
            title = world.issue(100, "alice")
            found = Counter(client.get("/v1/time").status_code for _ in range(15))
            assert found[200] == 10 and found[429] == 5
            deposit = world.deposit(world.claim("alice", "shop", [(title, 0, 10)]))
            before = world.center.facts()
            answer = client.post("/v1/deposits", content=deposit.encode())
            assert answer.status_code == 429 and answer.json()["error"] == "too-many"
            assert answer.headers["retry-after"] == "1" and "1 s" in answer.json()["hint"]
            assert "no money moved" in answer.json()["message"]
            assert world.center.facts() == before
            assert client.get("/log/checkpoint").status_code == 429
            for path in ("/health", "/ready", "/metrics"):
                assert {client.get(path).status_code for _ in range(15)} == {200}
        counted = samples(service.url)
        assert counted["chipcash_center_requests_total", "too-many", "signedTime"] == 5
        assert counted["chipcash_center_requests_total", "too-many", "settle"] == 1


def test_a_client_comes_again_when_it_is_told_to(world: World) -> None:
    # A second passes when the first request has been refused.
    clock = chain([0.0] * 11, repeat(1.0))
    with (
        Service(world.center, limits=Limits(1, clock=lambda: next(clock))) as service,
        CenterClient(service.url, world.trust) as client,
    ):
        for _ in range(10):
            client.signed_time()
        start = time.monotonic()
        client.signed_time()
        assert time.monotonic() - start >= 1
    with (
        Service(world.center, limits=Limits(0.1, clock=lambda: 0)) as service,
        CenterClient(service.url, world.trust, patience=9) as client,
    ):
        client.signed_time()
        start = time.monotonic()
        # It would be 10 s, and that is too long: the request stays queued.
        with pytest.raises(CenterUnreachable, match="429"):
            client.signed_time()
        assert time.monotonic() - start < 9


def test_institutions_have_a_bucket_of_their_own(world: World, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    for name in ("127.0.0.1", "bank.example", "issuer.example"):
        issued = authority.issue_cert(name, common_name=name)
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / name)
    tls = server_context(tmp_path / "127.0.0.1", None, tmp_path / "ca")
    found = []
    with Service(world.center, tls=tls, limits=Limits(0.1, 0.5, lambda: 0)) as service:
        for name in (None, "bank.example", "issuer.example"):
            verify = client_context(tmp_path / "ca", name and tmp_path / name)
            with httpx.Client(base_url=service.url, verify=verify) as client:
                statuses = [client.get("/v1/time").status_code for _ in range(8)]
                found.append(statuses.count(200))
    assert found == [1, 5, 5]


@pytest.mark.parametrize(("proxies", "served"), [([], 1), (["127.0.0.0/8"], 3), (["10.0.0.9"], 1)])
def test_who_stands_behind_a_proxy(world: World, proxies: list[str], served: int) -> None:
    """Only a proxy that was named is believed, and only what it says itself: the last address of the list."""
    limits = Limits(0.1, clock=lambda: 0)
    with (
        Service(world.center, limits=limits, proxies=proxies) as service,
        httpx.Client(base_url=service.url) as client,
    ):
        found = [
            client.get("/v1/time", headers={"X-Forwarded-For": said}).status_code
            for said in (
                "192.0.2.1",
                "192.0.2.2",
                "192.0.2.1",
                "192.0.2.99, 192.0.2.1",
                "192.0.2.3",
            )
        ]
    assert found.count(200) == served


def talk(url: str, *parts: bytes, pause: float = 0.1, wait: float = 30) -> bytes:
    """Send parts with pauses between them; all that came until the server ended the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as link:

        def send() -> None:
            try:
                for part in parts:
                    link.sendall(part)
                    time.sleep(pause)
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        got = b""
        try:
            while piece := link.recv(65536):
                got += piece
        except ConnectionError:
            pass
        sender.join()
    return got


def test_clients_that_take_for_ever_are_sent_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "HEAD_S", 0.5)
    monkeypatch.setattr(web, "BODY_S", 0.3)
    head = b"POST /v1/coins HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with Service(world.center) as service:
        assert talk(service.url) == b""
        assert talk(service.url, *(bytes([x]) for x in head), pause=0.02) == b""
        assert talk(service.url, b"GET /health HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 20) == b""
        monkeypatch.setattr(web, "HEAD_S", 30)
        answer = talk(service.url, head, *[b"x"] * 10)
        assert b" 408 " in answer and b'"timeout"' in answer and b"nothing was changed" in answer
        monkeypatch.setattr(web, "BODY_S", 30)
        monkeypatch.setattr(web, "EXCHANGE_S", 0.3)
        assert talk(service.url, head, b"x") == b""
        # One answer, and then nothing more is asked.
        monkeypatch.setattr(web, "EXCHANGE_S", 30)
        monkeypatch.setattr(web, "HEAD_S", 1.5)
        answer = talk(service.url, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", *[b"G"] * 20)
        assert b" 200 " in answer
        assert httpx.get(f"{service.url}/health").status_code == 200


def test_a_head_that_is_too_large(world: World) -> None:
    with Service(world.center) as service:
        answer = talk(service.url, b"GET /health HTTP/1.1\r\n", b"X: " + b"a" * 100_000)
        assert answer == b"" or b" 400 " in answer
        assert httpx.get(f"{service.url}/health").status_code == 200


def test_more_connections_than_there_may_be(world: World) -> None:
    with (
        Service(world.center, connections=3) as service,
        CenterClient(service.url, world.trust) as client,
    ):
        client.signed_time()
        host, port = service.url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(3)]
        assert answers(service.url, False)
        for each in held:
            each.close()
        assert answers(service.url, True)


def answers(url: str, wanted: bool) -> bool:
    """Whether a new client is soon answered, or soon no more."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (httpx.get(f"{url}/health").status_code == 200) == wanted:
            return True
        time.sleep(0.05)
    return False

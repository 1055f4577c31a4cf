# SPDX-License-Identifier: Apache-2.0
"""Bad requests to the center's HTTP application: a JSON error, and the ledger as it was.

The ledger has seen every good body that is damaged here. So nothing of it may change, whatever comes, but
that it remembers another deposit: a deposit has a nonce of its own and no signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from chipcash.center.batch import MAX_INTERVALS
from chipcash.center.http import ENDPOINTS, MAX_BODY, create_app
from chipcash.trust import object_id
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError
from tests.center.world import DAY, World, dump
from tests.portable.fuzzing import damaged, rearranged

ERRORS = {
    "malformed": 400, "network": 400, "signature": 400, "role": 400, "expired": 400, "blacklisted": 400,
    "subject": 400, "challenge": 400, "void": 400, "not-yet": 400, "unknown": 404, "method": 405,
    "conflict": 409, "too-large": 413,
}  # fmt: skip
"""Of protocols/spec/center.md; all but `internal`, which is never on purpose."""
KINDS: dict[str, type[o.Object]] = {
    "/v1/coins": o.Coin,
    "/v1/deposits": o.Deposit,
    "/v1/voids": o.Void,
    "/v1/reclaims": o.Reclaim,
    "/v1/certificates": o.Certificate,
    "/v1/risk/{key}": o.GenuineProof,
}


class Http:
    """A center with a history, and its application. bodies: what it was told, by path."""

    def __init__(self) -> None:
        self.world = world = World()
        center = world.center
        coin = world.coin(100, "alice")
        title = center.register_coin(coin)
        expired = world.issue(50, "bob")
        paid = world.claim("alice", "shop", [(title, 0, 60)])
        twice = world.claim("alice", "kiosk", [(title, 50, 70)])
        given_up = world.claim("alice", "shop", [(title, 70, 80)])
        late = world.claim("alice", "shop", [(title, 80, 90)], window=0)
        deposit = world.deposit(paid, twice)
        center.settle(deposit)
        void = world.void("shop", given_up)
        center.register_void(void)
        certificate = world.certificate("card")
        center.register_card(certificate)
        proof = world.proof("card", center.challenge(world.public("card")))
        center.risk(world.public("card"), proof)
        world.now += 367 * DAY
        title = world.issue(1000, "bob")
        reclaims = [
            world.reclaim(given_up, void),
            world.reclaim(given_up),
            world.reclaim(late),
            world.reclaim(title_id=object_id(expired)),
            world.reclaim(paid),
        ]
        for reclaim in reclaims:
            center.reclaim(reclaim)
        deposits = [deposit, world.deposit(given_up, late), world.deposit(late)]
        for deposit in deposits:
            center.settle(deposit)
        self.bodies: dict[str, list[bytes]] = {
            "/v1/coins": [coin.encode()],
            "/v1/deposits": [x.encode() for x in deposits],
            "/v1/voids": [void.encode()],
            "/v1/reclaims": [x.encode() for x in reclaims],
            "/v1/certificates": [certificate.encode()],
            "/v1/risk/{key}": [proof.encode()],
        }
        (entry,), _ = center.blacklist()
        assert entry.digest is not None
        self.ids = {
            "key": world.public("card"),
            "id": object_id(twice),
            "digest": entry.digest,
            "serial": coin.serial,
        }
        self.title = title
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(create_app(center), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://center.test")

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
        self.world.center.close()

    def path(self, path: str) -> str:
        """A path of the table, its id filled in with one that exists."""
        return path.format(**{name: ident.hex() for name, ident in self.ids.items()})

    def ask(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        """A request, whose answer is what every answer must be."""
        before = dump(self.world.center)
        answer = self._runner.run(self._client.request(method, path, content=body))
        after = dump(self.world.center)
        if 400 <= answer.status_code < 500:
            assert after == before
            refusal = answer.json()
            assert answer.headers["content-type"] == "application/json"
            assert set(refusal) == {"error", "message", "hint"}
            assert all(isinstance(text, str) for text in refusal.values()) and refusal["message"]
            assert ERRORS[refusal["error"]] == answer.status_code
        else:
            assert answer.status_code in (200, 204), answer.text
            assert [x for x in after if '"deposits"' not in x] == [
                x for x in before if '"deposits"' not in x
            ]
        return answer

    def refused(self, method: str, path: str, body: bytes = b"") -> str:
        """A request that is refused: why."""
        answer = self.ask(method, path, body)
        assert 400 <= answer.status_code < 500, answer.text
        error: str = answer.json()["error"]
        return error


def flipped(body: bytes, bit: int) -> bytes:
    """The body with one bit changed."""
    at = bit // 8
    return body[:at] + bytes((body[at] ^ 1 << bit % 8,)) + body[at + 1 :]


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    made = Http()
    yield made
    made.close()


def test_the_good_bodies_are_good(http: Http) -> None:
    """Else what follows would prove little. All but the proof, which is good once."""
    for path, bodies in http.bodies.items():
        for body in bodies:
            answer = http.ask("POST", http.path(path), body)
            if path == "/v1/risk/{key}":
                assert answer.json()["error"] == "challenge"
            else:
                assert answer.status_code in (200, 204), answer.text


@settings(max_examples=100)
@given(st.randoms(use_true_random=False))
def test_damaged_bodies(http: Http, chance: Random) -> None:
    for _ in range(5):
        paths = list(http.bodies)
        path = chance.choice(paths)
        body = chance.choice(http.bodies[chance.choice(paths) if chance.random() < 0.1 else path])
        way = chance.randrange(3)
        if way == 0:
            body = flipped(body, chance.randrange(8 * len(body)))
        else:
            body = (damaged if way == 1 else rearranged)(body, chance.randrange)
        answer = http.ask("POST", http.path(path), body)
        try:
            canonical = KINDS[path].decode(body).encode() == body
        except WireError:
            canonical = False
        if canonical:
            assert answer.status_code < 300 or answer.json()["error"] != "malformed"
        else:
            assert answer.json()["error"] == "malformed"


@settings(max_examples=200)
@given(st.binary(max_size=400), st.sampled_from([x for x in ENDPOINTS if x.body]))
def test_random_bodies(http: Http, body: bytes, endpoint: Any) -> None:
    assert http.refused("POST", http.path(endpoint.path), body) == "malformed"


def test_every_truncation_and_what_hangs_over(http: Http) -> None:
    for path, bodies in http.bodies.items():
        for size in range(len(bodies[0])):
            assert http.refused("POST", http.path(path), bodies[0][:size]) == "malformed"
        assert http.refused("POST", http.path(path), bodies[0] + b"\x00") == "malformed"


def test_a_bit_of_every_byte(http: Http) -> None:
    """Not one of them moves money, accuses anybody, or gets past its signature."""
    for path, bodies in http.bodies.items():
        body = bodies[0]
        for at in range(len(body)):
            bad = flipped(body, 8 * at + at % 8)
            answer = http.ask("POST", http.path(path), bad)
            if answer.status_code >= 400:
                continue
            # Signatures are in the claims, and a claim that is not good stops no other.
            assert path in ("/v1/deposits", "/v1/reclaims")
            receipt = o.Receipt.decode(answer.content)
            known = KINDS[path].decode(body).claims
            for claim, result in zip(KINDS[path].decode(bad).claims, receipt.results, strict=True):
                invalid = {x.state for x in result.outcomes} == {o.INVALID}
                assert invalid == (claim not in known)


@pytest.mark.parametrize("path", KINDS)
def test_bodies_that_are_too_large(http: Http, path: str) -> None:
    body = http.bodies[path][0]
    assert http.refused("POST", http.path(path), body + bytes(MAX_BODY)) == "too-large"
    assert http.refused("POST", http.path(path), bytes(MAX_BODY + 1)) == "too-large"
    assert http.refused("POST", http.path(path), bytes(MAX_BODY)) == "malformed"


def test_deposits_that_are_too_large(http: Http) -> None:
    world = http.world
    claims = [
        world.claim("bob", "shop", [(http.title, at, at + 1)]) for at in range(MAX_INTERVALS + 1)
    ]
    body = world.deposit(*claims).encode()
    assert http.refused("POST", "/v1/deposits", body) == "too-large"


def test_methods(http: Http) -> None:
    for endpoint in ENDPOINTS:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
            if method != endpoint.method:
                answer = http.ask(method, http.path(endpoint.path), b"\xe5\x00")
                assert answer.json()["error"] == "method"
                assert endpoint.method in answer.headers["allow"].split(", ")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/coins/", "/v1/network/", "/v2/coins", "/v1/Coins", "//v1/coins", "/v1/coins%00",
             "/v1/../v1/coin", "/v1/titles", "/v1/titles/", "/v1/claims/a/b", "/openapi.json/x", "/v1/%ff%fe",
             "/docs", "/v1/" + "a" * 5000],
)  # fmt: skip
def test_paths_that_are_not_there(http: Http, path: str) -> None:
    for method in ("GET", "POST"):
        assert http.refused(method, path) == "unknown"


@pytest.mark.parametrize("endpoint", [x for x in ENDPOINTS if x.parameter], ids=lambda x: x.name)
def test_ids_that_are_none(http: Http, endpoint: Any) -> None:
    good = http.ids[endpoint.parameter].hex()
    body = http.bodies[endpoint.path][0] if endpoint.body else b""
    assert endpoint.body or http.ask(endpoint.method, http.path(endpoint.path)).status_code == 200
    strange = [good[:-1], good[:-2], good + "00", "z" + good[1:], "%20" + good[1:], "%C3%A9" + good[1:],
               "0x" + good[2:], good[:-1] + "%0A", good + "%0A", "%D9%A1" + good[1:], "-" + good[1:],
               "%00" + good[1:], "'", "null"]  # fmt: skip
    if good.upper() != good:
        strange.append(good.upper())
    for ident in strange:
        path = endpoint.path.format(**{endpoint.parameter: ident})
        assert http.refused(endpoint.method, path, body) == "malformed", ident
    path = endpoint.path.format(**{endpoint.parameter: "02" * (len(good) // 2)})
    if endpoint.name == "titles":
        assert http.ask("GET", path).content == b""
    else:
        expected = "subject" if endpoint.name == "risk" else "unknown"
        assert http.refused(endpoint.method, path, body) == expected


@pytest.mark.parametrize(
    "since", ["", "-1", "+1", "x", "1.0", "0x1", "1 ", " 1", "1e3", "%D9%A1", "9" * 11, "1&since=x", "%00"]
)  # fmt: skip
def test_queries_that_are_none(http: Http, since: str) -> None:
    assert http.refused("GET", f"/v1/blacklist?since={since}") == "malformed"


def test_queries_that_are_good(http: Http) -> None:
    everything = http.ask("GET", "/v1/blacklist").content
    for query in ("?since=0", "?since=000", "?", "?other=x", "?SINCE=7"):
        assert len(http.ask("GET", f"/v1/blacklist{query}").content) == len(everything)
    assert len(http.ask("GET", "/v1/blacklist?since=9999999999").content) < len(everything)


def test_a_body_that_breaks_off(http: Http) -> None:
    """The sender is gone: there is nobody to answer, and nothing was done of what had come."""
    body = http.bodies["/v1/deposits"][0]
    before = dump(http.world.center)
    messages = iter([
        {"type": "http.request", "body": body[:-1], "more_body": True},
        {"type": "http.disconnect"},
    ])  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/deposits", "raw_path": b"/v1/deposits",
        "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http", "root_path": "",
        "server": ("center.test", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    with pytest.raises(ClientDisconnect):
        asyncio.run(create_app(http.world.center)(scope, receive, send))
    assert dump(http.world.center) == before
    assert not [x for x in sent if x.get("status") == 200]

# SPDX-License-Identifier: Apache-2.0
"""A till's mirror with another till, over real HTTP: gone, slow, repeated, asked by strangers."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chipcash import tls
from chipcash.pos import Pos, keys, mirror_peer
from chipcash.pos.mirror import Folder, MirrorError, MirrorTaken
from chipcash.pos.mirror_peer import mirror_id, mirror_service
from chipcash.pos.mirror_watch import MirrorWatch
from chipcash.pos.recovery import load_keys, recover, save_keys
from chipcash.web import Service
from tests.pos.key_stores import TOKEN, make_token
from tests.pos.mirroring import books, kept, lose_disk, set_mirror
from tests.pos.shop import Shop

_Message = dict[str, Any]


class Line:
    """Between a till and its peer: late answers, requests that arrive twice, and again long after."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.delay = 0.0
        self.twice = False
        self.past: list[tuple[_Message, bytes]] = []

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.past.append((dict(scope), body))
        answer = await self.handle(scope, body)
        if self.twice:
            again = await self.handle(scope, body)
            assert again[0]["status"] == answer[0]["status"]
            assert again[1] == answer[1]
        if self.delay:
            await anyio.sleep(self.delay)
        for message in answer:
            await send(message)

    async def handle(self, scope: _Message, body: bytes) -> list[_Message]:
        sent: list[_Message] = []

        bodies = [body]

        async def receive() -> _Message:
            if not bodies:
                await anyio.sleep_forever()
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}

        async def send(message: _Message) -> None:
            sent.append(message)

        await self.app({**scope, "extensions": {}}, receive, send)
        return sent


class World:
    """A shop, and a peer for its till."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop(folder)
        self.shop.pos.sync(self.shop.center)
        self.away = kept(self.shop.pos)
        self.id = mirror_id(self.away.books_key)
        self.folder = folder / "peer"
        self.folder.mkdir()
        self.line = Line(mirror_service(self.folder, [self.id]))
        self.service = Service(self.line, "127.0.0.1", 0, "peer")  # type: ignore[arg-type]

    @property
    def mirror(self) -> Folder:
        return Folder(self.folder / self.id)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, f"{self.service.url}/mirror/{path}", **options)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.service:
        set_mirror(made.shop, made.service.url)
        yield made
        made.shop.close()


def test_a_lost_disk_loses_nothing(world: World) -> None:
    shop, url = world.shop, world.service.url
    path = shop.card()
    shop.pay(path, 1200)
    before = books(shop.pos)
    old = shop.folder / "old"
    shutil.copytree(shop.folder / "pos", old)
    lose_disk(shop, world.away, url)
    assert books(shop.pos) == before
    shop.pay(path, 300)
    shop.pos.sync(shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 1500
    state = world.mirror.state()
    assert state is not None and state.generation == 2
    # The old till is back from the repair shop, with the disk that could not be read.
    with Pos(old) as back, pytest.raises(MirrorTaken):
        back.bill(100)


def test_a_peer_that_does_not_answer(world: World) -> None:
    shop = world.shop
    path = shop.card()
    before = books(shop.pos)
    world.service.stop()
    world.service.__exit__(None, None, None)
    began = time.monotonic()
    with pytest.raises(MirrorError, match="no answer") as caught:
        shop.pay(path, 500)
    assert time.monotonic() - began < 20
    assert "no payment is taken" in caught.value.message
    assert shop.spent(path) == 0
    assert books(shop.pos) == before
    shop.pos.store.set_mirror("")
    shop.pay(path, 500)


def test_a_peer_that_answers_too_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the record, the till undoes the transaction: the mirror begins anew, and nothing is doubled."""
    monkeypatch.setattr(mirror_peer, "_ANSWER_S", 1.5)
    shop = world.shop
    shop.crash()
    path = shop.card()
    before = books(shop.pos)
    world.line.delay = 3
    with pytest.raises(MirrorError, match="no answer"):
        shop.pay(path, 500)
    assert books(shop.pos) == before
    assert shop.spent(path) == 0
    world.line.delay = 0
    shop.pay(path, 500)
    state = world.mirror.state()
    assert state is not None and state.generation == 2
    before = books(shop.pos)
    lose_disk(shop, world.away, world.service.url)
    assert books(shop.pos) == before
    assert [payment.amount for payment in shop.pos.payments()] == [500]


def test_looking_at_a_peer_that_hangs_keeps_nobody_from_the_books(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_peer, "_ANSWER_S", 1.0)
    shop = world.shop
    shop.crash()
    watch = MirrorWatch(lambda: shop.now, lambda: None)
    looked, began = threading.Event(), threading.Event()

    def look() -> None:
        with Pos(shop.folder / "pos") as pos:
            pos.store.noted = watch.noted
            began.set()
            watch.look(pos.store)
        looked.set()

    world.line.delay = 5
    looking = threading.Thread(target=look)
    looking.start()
    assert began.wait(10)
    time.sleep(0.3)
    with shop.pos.store.transaction():
        assert not looked.is_set()
    looking.join()
    world.line.delay = 0
    assert "no answer" in watch.status(shop.pos.store.mirror).message
    shop.pos.store.noted = watch.noted
    watch.look(shop.pos.store)
    assert watch.status(shop.pos.store.mirror).failing is None


def test_requests_that_arrive_twice_and_long_after(world: World) -> None:
    shop = world.shop
    world.line.twice = True
    path = shop.card()
    shop.pay(path, 500)
    shop.pos.store.set_mirror(world.service.url)
    shop.pay(path, 250)
    world.line.twice = False
    shop.pos.bill(40)
    files = {x.name: x.read_bytes() for x in (world.folder / world.id).iterdir()}
    past = list(world.line.past)
    random.Random(7).shuffle(past)

    async def again() -> None:
        for scope, body in past:
            await world.line.handle(scope, body)

    anyio.run(again)
    assert {x.name: x.read_bytes() for x in (world.folder / world.id).iterdir()} == files
    state = world.mirror.state()
    assert state is not None and state.generation == 2
    before = books(shop.pos)
    lose_disk(shop, world.away, world.service.url)
    assert books(shop.pos) == before


def test_strangers_are_refused(world: World) -> None:
    state = world.mirror.state()
    assert state is not None
    before = {x.name: x.read_bytes() for x in (world.folder / world.id).iterdir()}
    secret = mirror_peer._secret(world.away.books_key)
    own = {"Authorization": f"Bearer {secret}"}
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {world.id}"}):
        assert world.ask("GET", world.id, headers=headers).status_code == 403
        assert (
            world.ask("POST", f"{world.id}/take?owner={'0' * 32}", headers=headers).status_code
            == 403
        )
        assert world.ask("GET", f"{world.id}/{state.identity}/snapshot").status_code == 403
    # Another till's secret, for a till that the peer was not told of.
    assert world.ask("GET", "0" * 32, headers=own).status_code == 403
    for path in (
        f"{world.id}/{state.identity}?owner=..&offset=0",
        f"{world.id}/{state.identity}?owner={'0' * 32}&offset=-1",
        f"{world.id}/{state.identity}?owner={'0' * 32}",
        f"{world.id}/{'g' * 32}?owner={'0' * 32}&offset=0",
        f"{world.id}/take?owner=x",
    ):
        assert world.ask("POST", path, headers=own, content=b"x").status_code == 400
    assert world.ask("GET", f"{world.id}/{state.identity}/state", headers=own).status_code == 400
    assert world.ask("GET", f"{world.id}/..%2f..%2fx/log", headers=own).status_code in (400, 404)
    # Its own secret, but not the owner: a till that was recovered elsewhere.
    path = f"{world.id}/{state.identity}?owner={'0' * 32}&offset=0"
    assert world.ask("POST", path, headers=own, content=b"x").status_code == 423
    assert {x.name: x.read_bytes() for x in (world.folder / world.id).iterdir()} == before


@pytest.mark.parametrize("status", [200, 204, 410, 423, 500])
def test_what_answers_in_a_peer_s_place_is_told_as_that(status: int) -> None:
    """A login page of the network, a proxy: whatever it says is no traceback."""

    async def answer(request: Request) -> Response:
        return Response(None if status == 204 else "Log in", status)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    with Service(app, "127.0.0.1", 0, "other") as other:
        peer = mirror_peer.Peer(other.url, bytes(32))
        for act in (peer.state, lambda: peer.take("0" * 32)):
            with pytest.raises(MirrorError):
                act()
        peer.close()


def test_a_peer_is_spoken_to_over_tls(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.pos.sync(shop.center)
    away = kept(shop.pos)
    with pytest.raises(MirrorError, match="in the clear"):
        set_mirror(shop, "http://till-2.example:8741")
    with pytest.raises(MirrorError, match="neither"):
        set_mirror(shop, "ftp://till-2.example")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "own.pem")
    )
    (tmp_path / "peer").mkdir()
    app = mirror_service(tmp_path / "peer", [mirror_id(away.books_key)])
    context = tls.server_context(tmp_path / "own.pem", None, None)
    with Service(app, "127.0.0.1", 0, "peer", tls=context) as service:
        with pytest.raises(MirrorError, match="no answer"):
            set_mirror(shop, service.url)  # nobody certifies it
        shop.pos.store.set_mirror(
            service.url,
            mirror_ca=str(tmp_path / "ca.pem"),
            mirror_network=(tmp_path / "pos" / "network.ccn").read_bytes().hex(),
        )
        shop.pos.bill(100)
        before = books(shop.pos)
        shop.crash()
        shutil.rmtree(tmp_path / "pos")
        recover(service.url, tmp_path / "pos", kept=away, ca=str(tmp_path / "ca.pem"))
        assert books(shop.pos) == before
        shop.pos.bill(100)
        shop.close()


def test_keys_that_were_put_away(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    file = tmp_path / "keys"
    assert shop.pos.public
    save_keys(tmp_path / "pos", "correct horse battery", file)
    assert file.stat().st_mode & 0o777 == 0o600
    away = kept(shop.pos)
    text = file.read_bytes()
    for secret in (away.key.private_bytes(), away.books_key):
        assert secret not in text and secret.hex().encode() not in text
    again = load_keys(file, "correct horse battery")
    assert again.key.public == shop.pos.public
    assert again.books_key == away.books_key
    with pytest.raises(keys.CryptoError, match="passphrase"):
        load_keys(file, "correct horse")
    with pytest.raises(keys.CryptoError, match="exists already"):
        save_keys(tmp_path / "pos", "another one, long", file)
    with pytest.raises(keys.CryptoError, match="no file of a till's keys"):
        load_keys(tmp_path / "pos" / "pos.key", "x")
    shop.close()


def test_a_till_with_a_token_needs_its_token_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in make_token(tmp_path).items():
        monkeypatch.setenv(name, value)
    shop = Shop(tmp_path, custody=TOKEN)
    shop.pos.sync(shop.center)
    set_mirror(shop)
    paid = shop.pay(shop.card(), 1200)
    with pytest.raises(keys.CryptoError, match="cannot leave it"):
        save_keys(tmp_path / "pos", "correct horse battery", tmp_path / "keys")
    path = keys.custody_of(tmp_path / "pos").path
    before, public = books(shop.pos), shop.pos.public
    shop.crash()
    shutil.rmtree(tmp_path / "pos")
    with pytest.raises(keys.CryptoError, match="does not have the keys"):
        recover(str(tmp_path / "mirror"), tmp_path / "pos", kept=None, custody=TOKEN)
    assert (
        recover(str(tmp_path / "mirror"), tmp_path / "pos", kept=None, custody=path).public
        == public
    )
    assert books(shop.pos) == before
    shop.pos.sync(shop.center)
    shop.pos.spend(200, shop.net.key("bank").public, shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 1000
    assert shop.pos.payment(paid.nonce).amount == 1200
    shop.close()

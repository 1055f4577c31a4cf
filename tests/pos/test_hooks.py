# SPDX-License-Identifier: Apache-2.0
"""Webhooks: signed as others verify them, each change in its order and at least once, whatever the receiver
or the till does in between."""

from __future__ import annotations

import base64
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from chipcash.pos import Pos, PosError
from chipcash.pos import hooks as h
from tests.pos.shop import Crash, Shop, _Counter, crash_at


class Receiver:
    """A program that is told: a real HTTP server. answers: the statuses to give, then 204; got: what came."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[int | Callable[[BaseHTTPRequestHandler], int]] = []
        self.headers: dict[str, str] = {}
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.changed:
                    answer = receiver.answers.pop(0) if receiver.answers else 204
                    receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                    receiver.changed.notify_all()
                status = answer if isinstance(answer, int) else answer(self)
                if not status:
                    return  # the line is closed without an answer
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if tls is not None:
            scheme = "https"
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}/till?x=1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def states(self) -> list[str]:
        return [json.loads(body)["data"]["state"] for _, body in self.got]

    def wait(self, count: int, seconds: float = 60) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, seconds), self.got

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def hook_of(pos: Pos) -> h.Hook:
    (found,) = h.hooks(pos)
    return found


def events(receiver: Receiver) -> list[str]:
    """What came first of each message, in order: a receiver drops what it has by webhook-id."""
    return list(dict.fromkeys(headers["webhook-id"] for headers, _ in receiver.got))


def test_what_is_told(shop: Shop, receiver: Receiver) -> None:
    shop.pay(shop.card("early"), 100)  # before the hook was there
    hook, secret = h.add_hook(shop.pos, receiver.url)
    assert secret.startswith("whsec_") and len(base64.b64decode(secret[6:])) == 32
    shop.pos.operator = "Mei Li"
    payment = shop.pay(shop.card(), 3680, reference="order 17")
    shop.pos.sync(shop.center)
    h.send(shop.pos)
    told = [
        Webhook(secret).verify(body, headers)  # as the specification's own library checks it
        for headers, body in receiver.got
    ]
    mine = [event for event in told if event["data"]["claim_id"] == payment.claim_id.hex()]
    assert [event["type"] for event in mine] == [
        "payment.pending", "payment.submitted", "payment.verified",
    ]  # fmt: skip
    assert mine[0]["data"]["before"] is None and mine[1]["data"]["before"] == "PENDING"
    assert mine[0]["data"]["reference"] == "order 17" and mine[0]["data"]["amount_fen"] == 3680
    assert mine[2]["data"]["settled_fen"] == 3680 and "settled_fen" not in mine[0]["data"]
    assert mine[0]["timestamp"] == "2027-01-15T08:00:00Z"
    early = [event for event in told if event not in mine]
    assert [event["type"] for event in early] == ["payment.submitted", "payment.verified"]
    assert [event["data"]["change"] for event in told] == sorted(
        event["data"]["change"] for event in told
    )
    everything = b"".join(body for _, body in receiver.got)
    assert b"Mei" not in everything and payment.payer.hex().encode() not in everything
    assert hook_of(shop.pos).waiting == 0 and hook_of(shop.pos).told > hook.told

    headers, body = receiver.got[0]
    for wrong in ({**headers, "webhook-id": "other"}, {**headers, "webhook-timestamp": "1"}):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, wrong)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)


def test_what_is_not_taken_is_told_again_before_anything_else(
    shop: Shop, receiver: Receiver
) -> None:
    """Errors, redirections, a line that breaks: the same bytes under the same id, in order."""
    h.add_hook(shop.pos, receiver.url)
    shop.pay(shop.card(), 3680)
    shop.pos.sync(shop.center)
    receiver.answers = [500, 302, 0, 404, 204, 503]
    receiver.headers = {"Location": "http://127.0.0.1:1/"}
    for tries in (1, 2, 3, 4):
        h.send(shop.pos)
        assert (hook_of(shop.pos).tries, hook_of(shop.pos).waiting) == (tries, 3)
    assert hook_of(shop.pos).error == "answered 404"
    h.send(shop.pos)
    assert (hook_of(shop.pos).tries, hook_of(shop.pos).waiting) == (1, 2)
    h.send(shop.pos)
    assert (hook_of(shop.pos).error, hook_of(shop.pos).waiting) == ("", 0)
    assert receiver.states() == ["PENDING"] * 5 + ["SUBMITTED"] * 2 + ["VERIFIED"]
    same = {(headers["webhook-id"], body) for headers, body in receiver.got}
    assert len(same) == 3
    # What happened later does not change what is told of before.
    assert all(b"settled_fen" not in body for _, body in receiver.got[:5])


def test_pauses_grow_and_heed_what_the_receiver_asks(shop: Shop, receiver: Receiver) -> None:
    h.add_hook(shop.pos, receiver.url)
    shop.pay(shop.card(), 100)
    receiver.answers = [500] * 40
    pauses = [h.deliver(shop.pos, 1) or 0 for _ in range(12)]
    assert 1 <= pauses[0] < 2 and 2 <= pauses[1] < 3 and pauses[-1] >= 300
    assert all(pause < 400 for pause in pauses)
    receiver.headers = {"Retry-After": "77"}
    with shop.pos.store.transaction():
        shop.pos.store.execute("UPDATE hooks SET tries = 0")
    assert h.deliver(shop.pos, 1) == 77
    for strange in ("soon", "-5", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"):
        receiver.headers = {"Retry-After": strange}
        pause = h.deliver(shop.pos, 1)
        assert pause is not None and pause <= 400


def test_who_says_gone_is_told_nothing_more(shop: Shop, receiver: Receiver) -> None:
    h.add_hook(shop.pos, receiver.url)
    receiver.answers = [410]
    shop.pay(shop.card(), 100)
    h.send(shop.pos)
    h.send(shop.pos)
    assert len(receiver.got) == 1 and hook_of(shop.pos).gone
    h.remove_hook(shop.pos, 1)
    with pytest.raises(PosError, match="no webhook 1"):
        h.remove_hook(shop.pos, 1)
    # Its number is not used again, so that nobody who still has it tells another.
    assert h.add_hook(shop.pos, receiver.url, from_start=True)[0].number == 2
    h.send(shop.pos)
    assert len(receiver.got) == 2


def test_a_till_that_runs_tells_them_all(
    shop: Shop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is down, or slow, keeps no other one waiting; and what other processes do is told too."""
    caplog.set_level(logging.INFO)
    down = Receiver()
    down.close()
    slow = Receiver()
    held = threading.Event()
    slow.answers = [lambda _: 204 if held.wait(120) else 500]
    secrets = [h.add_hook(shop.pos, each.url)[1] for each in (down, slow, receiver)]
    with h.Deliveries(shop.folder / "pos", clock=lambda: shop.now):
        shop.pay(shop.card(), 3680)
        receiver.wait(1)
        shop.pos.sync(shop.center)
        receiver.wait(3)
        assert receiver.states() == ["PENDING", "SUBMITTED", "VERIFIED"]
        # By the till's clock, which the center sets right: receivers refuse what is signed at another time.
        assert {int(headers["webhook-timestamp"]) for headers, _ in receiver.got} == {shop.now}
        slow.wait(1)
        with pytest.raises(PosError, match="Another process"):
            h.send(shop.pos)
        held.set()
        slow.wait(3)
        first, _, _ = h.hooks(shop.pos)
        assert first.waiting == 3 and first.tries and "no answer" in first.error
        back = Receiver()
        with shop.pos.store.transaction():  # it is up again, as far as the till can see
            shop.pos.store.execute("UPDATE hooks SET url = ? WHERE id = 1", back.url)
        back.wait(3)
        h.remove_hook(shop.pos, 3)
        time.sleep(0.6)
        shop.pay(shop.card("b"), 100, fresh=True)
        back.wait(4)
    assert len(receiver.got) == 3 and back.states()[:3] == receiver.states()
    for each in (slow, back):
        each.close()
    logged = "\n".join(repr(vars(record)) for record in caplog.records if "hook" in record.name)
    assert logged and not any(secret[6:] in logged for secret in secrets)
    assert "127.0.0.1" not in logged


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_each_step(shop: Shop, receiver: Receiver, after: bool) -> None:
    """Whatever statement is the last one: everything is told, nothing out of order, nothing left out."""
    h.add_hook(shop.pos, receiver.url)
    shop.pay(shop.card(), 3680)
    shop.pos.sync(shop.center)
    folder = shop.folder / "pos"
    rounds = 0
    while True:
        with shop.pos.store.transaction():
            shop.pos.store.execute("UPDATE hooks SET told = 0")
        receiver.got.clear()
        try:
            with crash_at(10**6, after=after), Pos(folder, clock=lambda: shop.now) as dying:
                _Counter.left = rounds  # the opening of books is not the matter here
                h.send(dying)
            break
        except Crash:
            pass
        h.send(shop.pos)
        assert hook_of(shop.pos).waiting == 0
        seen = [json.loads(body)["data"]["change"] for _, body in receiver.got]
        assert list(dict.fromkeys(seen)) == [1, 2, 3]
        assert seen == sorted(seen) and len(seen) <= 4
        rounds += 1
    assert rounds > 15


@contextmanager
def https_receiver(folder: Path) -> Iterator[tuple[Receiver, Path]]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    made = Receiver(context)
    try:
        yield made, ca
    finally:
        made.close()


def test_https(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is certified by whom was named is told, nobody else; a proxy of the environment is not asked."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with https_receiver(tmp_path) as (receiver, ca):
        h.add_hook(shop.pos, receiver.url)
        shop.pay(shop.card(), 100)
        h.send(shop.pos)
        assert not receiver.got and "ConnectError" in hook_of(shop.pos).error
        h.remove_hook(shop.pos, 1)
        h.add_hook(shop.pos, receiver.url, ca=ca, from_start=True)
        h.send(shop.pos)
        assert receiver.states() == ["PENDING"]
        ca.unlink()
        shop.pos.sync(shop.center)
        h.send(shop.pos)
        assert "does not say whom to believe" in hook_of(shop.pos).error


@pytest.mark.parametrize(
    "url",
    ["http://shop.example/x", "http://10.0.0.1/", "ftp://127.0.0.1/", "https:///x", "https://", "x",
     "https://user:secret@shop.example/", "http://localhost.example/", "https://[x/",
     "http://127.0.0.1:99999/", "https://shop.example/#a", "https://shop.example/\n"],
)  # fmt: skip
def test_where_changes_are_not_told(shop: Shop, url: str) -> None:
    with pytest.raises(PosError, match="nothing was changed"):
        h.add_hook(shop.pos, url)
    assert h.hooks(shop.pos) == ()


def test_one_hook_for_an_address(shop: Shop) -> None:
    hook, secret = h.add_hook(shop.pos, "https://shop.example/hook")
    with pytest.raises(PosError, match="already"):
        h.add_hook(shop.pos, "https://shop.example/hook")
    assert secret[6:] not in repr(hook) and secret[6:] not in repr(h.hooks(shop.pos))

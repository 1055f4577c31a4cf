# SPDX-License-Identifier: Apache-2.0
"""Structured logs: they say what happens, and nothing of anybody's keys and money."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipcash.center.errors import LedgerError
from chipcash.center.publishing import LogWriter
from chipcash.center.service import Service
from chipcash.logs import _LIBRARIES, JsonLines, log_to
from chipcash_wire import objects as o
from tests.center.test_bad_bodies import KINDS, flipped
from tests.center.test_publishing import new_log
from tests.center.world import World, dump, key

PEOPLE = ("alice", "mallory", "shop", "kiosk", "card", "issuer", "center", "certification")


@contextmanager
def logging_to(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the program log as `serve --log -` does."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in _LIBRARIES}
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            log_to("-")
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


def written(data: bytes) -> list[str]:
    """The ways in which bytes could stand in a text."""
    return [
        data.hex(),
        data.hex().upper(),
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        repr(data)[2:-1],
        json.dumps(data.decode("latin1"))[1:-1],
    ]


def secrets_of(world: World) -> set[bytes]:
    """All keys, serials, ids, nonces, digests and objects that the ledger holds, and private keys."""
    found = {key(name).private_bytes() for name in PEOPLE} | {key(name).public for name in PEOPLE}
    found |= {key(name).key_id for name in PEOPLE}
    for rows in dump(world.center).values():
        for row in rows:
            found |= {value for value in row if isinstance(value, bytes)}
    for row in world.center.storage.all("SELECT nonce FROM challenges"):
        found.add(row[0])
    return {data for data in found if len(data) >= 8}


def busy(world: World, client: httpx.Client, chance: Random) -> int:
    """All that a center is asked for, good and bad; how many requests that were."""
    asked = 0

    def ask(method: str, path: str, body: bytes = b"") -> httpx.Response:
        nonlocal asked
        asked += 1
        return client.request(method, path, content=body)

    def post(path: str, obj: o.Object) -> httpx.Response:
        data = obj.encode()
        assert isinstance(obj, KINDS[path])
        for _ in range(3):
            ask("POST", path, flipped(data, chance.randrange(8 * len(data))))
        return ask("POST", path, data)

    for _ in range(6):
        coin = world.coin(100, "mallory")
        title = o.Title.decode(post("/v1/coins", coin).content)
        claims = [
            world.claim("mallory", payee, [(title, lo, lo + 20)])
            for lo, payee in ((0, "shop"), (10, "kiosk"), (40, "shop"))
        ]
        receipt = o.Receipt.decode(post("/v1/deposits", world.deposit(*claims)).content)
        given_up = world.claim("mallory", "shop", [(title, 80, 90)])
        post("/v1/voids", world.void("shop", given_up))
        post("/v1/reclaims", world.reclaim(given_up))
        for serial in (coin.serial, world.fresh(16)):
            ask("GET", f"/v1/coins/{serial.hex()}")
        for result in receipt.results:
            told = ask("GET", f"/v1/claims/{result.claim_id.hex()}").json()
            for digest in told["evidence"]:
                ask("GET", f"/v1/evidence/{digest}")
        ask("GET", f"/v1/titles/{world.public('shop').hex()}")
    post("/v1/certificates", world.certificate("card"))
    card = world.public("card").hex()
    nonce = ask("GET", f"/v1/challenge/{card}").content
    ask("POST", f"/v1/risk/{card}", world.proof("card", nonce).encode())
    for path in (
        "/v1/blacklist", "/v1/accounts", "/v1/network", "/v1/time", "/health", "/ready", "/metrics",
        "/log/checkpoint", f"/v1/{card}", f"/{card}?{card}", f"/v1/titles/{card * 9}",
    ):  # fmt: skip
        ask("GET", path)
    ask("DELETE", f"/v1/titles/{card}")
    return asked


def test_a_busy_center_logs_nothing_of_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "ledger.db")
    log = new_log(tmp_path)
    stream = io.StringIO()
    with logging_to(stream, monkeypatch):
        writer = LogWriter(world.center, log)
        with Service(world.center, log=log) as service, closing(log):
            with httpx.Client(base_url=service.url) as client:
                asked = busy(world, client, Random(1))
            writer.publish()
            secrets = secrets_of(world)
            # And when all goes wrong: somebody damages the ledger, then it is gone.
            storage = world.center.storage
            storage.execute("UPDATE titles SET bytes = serial")
            storage.execute("DROP TABLE blacklist")
            failing = [f"/v1/titles/{world.public('shop').hex()}", "/v1/time", "/v1/blacklist"]
            for path in failing:
                assert httpx.get(service.url + path).status_code == 500
            storage.execute(
                "INSERT INTO voids SELECT payee, nonce, amount + 1, 9999, bytes, time FROM voids LIMIT 1"
            )
            writer.publish()
            world.center.close()
            assert httpx.get(f"{service.url}/ready").status_code == 503
            asked += len(failing) + 1
    text = stream.getvalue()
    for secret in secrets:
        assert not any(form in text for form in written(secret)), secret.hex()
    assert "127.0.0.1" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == asked and len({line["id"] for line in requests}) == asked
    assert len(secrets) > 100
    for line in requests:
        assert set(line) == {"time", "level", "logger", "event", "id", "operation", "status", "error",
                             "ms", "in", "out", "institution"}  # fmt: skip
    told = {(line["operation"], line["status"], line["error"]) for line in requests}
    assert {
        ("settle", 200, ""), ("registerCoin", 400, "signature"), ("coin", 404, "unknown"), ("", 404, ""),
        ("log", 200, ""), ("health", 200, ""), ("ready", 503, ""), ("titles", 500, "internal"),
        ("titles", 405, ""),
    } <= told  # fmt: skip
    failed = [line for line in lines if "at" in line]
    assert len(failed) == 3 and all(
        "storage.py" in str(line["at"]) or line["at"] for line in failed
    )
    assert any("not written" in line["event"] for line in lines)


def record(message: str, *args: Any, error: BaseException | None = None) -> dict[str, Any]:
    made = logging.LogRecord("x", logging.ERROR, "f", 1, message, args, None)
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    found: dict[str, Any] = json.loads(JsonLines().format(made))
    return found


@given(st.binary(min_size=8, max_size=70))
def test_what_would_name_somebody_is_left_out(secret: bytes) -> None:
    for error in (
        LedgerError(f"The coin {secret.hex()} is broken."),
        ValueError(f"{secret!r} {secret.hex()}"),
        OSError(5, "Input/output error", secret.hex()),
    ):
        for told in (record("failed: %s", error), record("failed", error=error)):
            assert not any(form in json.dumps(told) for form in written(secret) if len(form) > 12)
    assert "(id)" in record("%s", LedgerError(f"The coin {secret.hex()} is broken."))["event"]
    assert "(id)" in record("the coin %s", secret.hex())["event"]


def test_what_does_not_name_anybody_stays() -> None:
    assert (
        record("witness %s: %d times", "bank.example/w", 3)["event"]
        == "witness bank.example/w: 3 times"
    )
    told = record("not written: %s", OSError(28, "No space left on device", "/x/y"))["event"]
    assert told == "not written: OSError: No space left on device"
    assert record("100 % of it")["event"] == "100 % of it"


def test_a_log_file_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log_to(str(tmp_path / "log"))
        root.warning("one")
        (tmp_path / "log").rename(tmp_path / "log.1")
        root.warning("two")
    finally:
        for handler in root.handlers:
            handler.close()
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
    assert json.loads((tmp_path / "log.1").read_text())["event"] == "one"
    assert json.loads((tmp_path / "log").read_text())["event"] == "two"

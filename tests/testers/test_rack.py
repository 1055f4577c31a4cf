# SPDX-License-Identifier: Apache-2.0
"""Emulated cards over HTTP: `chipcash sim serve`, and what it refuses."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from chipcash.card import Card, CardError
from chipcash.errors import LinkLostError, NoCardError, SimError
from chipcash.rack import Rack
from chipcash.rack_http import ENDPOINTS, Service, openapi
from chipcash.sandbox import PIN, Sandbox
from chipcash.transports import open_path
from chipcash.transports.times import changed
from chipcash.web import MAX_BODY


class Http:
    """A client that asserts what kind of answer comes."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=20)

    def get(self, path: str) -> dict[str, Any]:
        return self._good(self.client.get(path))

    def post(self, path: str, **body: object) -> dict[str, Any]:
        return self._good(self.client.post(path, json=body))

    def refused(self, method: str, path: str, **options: Any) -> str:
        """The name of the refusal."""
        answer = self.client.request(method, path, **options)
        found = answer.json()
        assert answer.status_code >= 400 and found["message"], found
        assert found.keys() == {"error", "message", "hint"}
        return f"{answer.status_code} {found['error']}"

    def _good(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert isinstance(found, dict)
        return found


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with Rack(tmp_path) as rack, Service(rack) as service:
        http = Http(service.url)
        with http.client:
            yield http


def test_a_card_of_a_network_behind_two_links(tmp_path: Path, http: Http) -> None:
    with Sandbox(tmp_path / "net") as sandbox:
        sandbox.new_card(tmp_path / "a.img", 1_000)
        till = sandbox.till()
        card = http.post("/v1/cards/a/insert", links=["serial", "nfc"])
        assert card["inserted"] and card["powered"] and card["links"] == ["serial", "nfc"]
        for path in card["paths"]:
            with open_path(path, wait=5) as connection:
                till.charge(connection, 300)
        with open_path(card["paths"][0], wait=5) as connection:
            client = Card(connection)
            client.select()
            client.verify_pin(PIN)
            assert client.info().spent == 600
    steps = http.get("/v1/cards/a/apdus")["steps"]
    assert [step["number"] for step in steps] == list(range(1, len(steps) + 1))
    paid = [step["path"] for step in steps if step["name"] == "PAY"]
    assert paid == ["serial", "iso14443"]
    assert any(step["secret"] and step["command"] == "00200080" for step in steps)
    assert PIN.encode().hex() not in json.dumps(steps)
    assert http.get(f"/v1/cards/a/apdus?after={len(steps) - 1}")["steps"] == steps[-1:]


def test_a_card_with_a_screen(tmp_path: Path, http: Http) -> None:
    with Sandbox(tmp_path / "net") as sandbox:
        sandbox.new_card(tmp_path / "a.img", 20_000, tier=3)
        card = http.post("/v1/cards/a/insert", form="visual-bluetooth")
        assert (card["form"], len(card["paths"])) == ("visual-bluetooth", len(card["links"]))
        assert card["environment"].keys() == {"DBUS_SYSTEM_BUS_ADDRESS"}
        till = sandbox.till()

        def screen() -> bytes:
            return base64.b64decode(http.get("/v1/cards/a/screen")["png"])

        def another(than: bytes) -> bytes:
            deadline = time.monotonic() + 60
            while (now := screen()) == than:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            return now

        with (
            changed(confirm_s=0.001),
            open_path(card["paths"][0], wait=5) as connection,
            pytest.raises(CardError, match="holder is asked"),
        ):
            before = screen()
            till.charge(connection, 10_001)
        asking = another(before)
        assert asking.startswith(b"\x89PNG")
        assert http.refused("POST", "/v1/cards/a/press", json={"button": "x"}) == "400 malformed"
        deadline = time.monotonic() + 60
        while screen() == asking:  # a press too early does not count
            assert time.monotonic() < deadline
            http.post("/v1/cards/a/press", button="confirm")
            time.sleep(0.05)
        with open_path(card["paths"][0], wait=5) as connection:
            assert till.charge(connection, 10_001).amount == 10_001
        http.post("/v1/cards/a/insert", links=["serial"])
        assert http.refused("GET", "/v1/cards/a/screen") == "409 front"
        pressed = http.refused("POST", "/v1/cards/a/press", json={"button": "confirm"})
        assert pressed == "409 front"


def test_torn_and_put_in_again(http: Http) -> None:
    http.post("/v1/cards", name="a")
    assert http.post("/v1/cards/a/tear", cut_after=2)["faults"] == {"cut_after": 2}
    first = http.post("/v1/cards/a/insert", links=["sd"], runtime="micropython")
    assert first["faults"] == {}
    with pytest.raises(LinkLostError), open_path(first["paths"][0], wait=5) as connection:
        card = Card(connection)
        card.select()
        card.info()
    deadline = time.monotonic() + 60
    while http.get("/v1/cards/a")["powered"]:  # its links end before its process
        assert time.monotonic() < deadline
    assert http.get("/v1/cards/a")["inserted"]
    assert http.get("/v1/cards/a/apdus")["steps"][-1]["outcome"] == "no answer"

    again = http.post("/v1/cards/a/insert", links=["sd"])
    assert again["paths"] == first["paths"]
    with open_path(again["paths"][0], wait=5) as connection:
        card = Card(connection)
        card.select()
        assert card.info().build.endswith(b"cpython")
    assert not http.post("/v1/cards/a/tear", now=True)["powered"]
    with pytest.raises(NoCardError):
        open_path(again["paths"][0])


def test_the_command_serves_until_it_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chipcash", "sim", "serve", "rack", "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        http = Http(json.loads(process.stdout.readline())["url"])
        http.post("/v1/cards", name="a")
        http.post("/v1/cards", name="b", copy_of="a")
        assert (tmp_path / "rack/a.img").read_bytes() == (tmp_path / "rack/b.img").read_bytes()
        assert [card["name"] for card in http.get("/v1/cards")["cards"]] == ["a", "b"]
        path = http.post("/v1/cards/b/insert", form="sd-card")["paths"][1]
        folder = Path(path.removeprefix("sd:"))
        assert folder.is_dir()
        sim = http.post("/v1/cards/a/insert", links=["sim"])["paths"][0]
        with open_path(sim) as connection:
            Card(connection).select()
        http.client.close()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        process.stdout.close()
    assert not folder.exists()


def test_refused_requests(http: Http, tmp_path: Path) -> None:
    http.post("/v1/cards", name="a")
    assert http.refused("POST", "/v1/cards", json={"name": "a"}) == "409 exists"
    assert http.refused("POST", "/v1/cards", json={"name": "c", "copy_of": "b"}) == "404 unknown"
    for name in ("../a", "", ".a", "a/b", "a\n", "a" * 65, "ä"):
        assert http.refused("POST", "/v1/cards", json={"name": name}) == "400 malformed"
    large = b"{" * (MAX_BODY + 1)
    assert http.refused("POST", "/v1/cards", content=large) == "413 too-large"
    for body in ({}, [], {"name": 1}, {"name": "b", "x": 1}, "b"):
        assert http.refused("POST", "/v1/cards", json=body) == "400 malformed"
    json_type = {"content-type": "application/json"}
    for content in (b"", b"{", b"[" * 100_000, b"\xff"):
        answer = http.refused("POST", "/v1/cards", content=content, headers=json_type)
        assert answer == "400 malformed"
    for path in ("/v1/cards/b", "/v1/cards/b/apdus", "/v1/cards/..%2Fa", "/v1/cards/", "/"):
        assert http.refused("GET", path) == "404 unknown"
    assert http.refused("GET", "/v1/cards/a/apdus?after=-1") == "400 malformed"
    assert http.refused("DELETE", "/v1/cards/a") == "405 method"
    for links in ([], ["serial", "serial"], ["sim", "nfc"]):
        assert http.refused("POST", "/v1/cards/a/insert", json={"links": links}) == "400 links"
    both = {"links": ["nfc"], "form": "esim"}
    assert http.refused("POST", "/v1/cards/a/insert", json=both) == "400 links"
    for wrong in ({"links": "nfc"}, {"links": ["usb"]}, {"runtime": "inprocess"}, {"form": "x"}):
        assert http.refused("POST", "/v1/cards/a/insert", json=wrong) == "400 malformed"
    assert http.refused("POST", "/v1/cards/a/insert", json={"links": ["pcsc"]}) == "501 missing"
    faults: tuple[dict[str, object], ...] = (
        {},
        {"half": True},
        {"cut_after": -1},
        {"cut_after": True},
        {"cut_after": 1, "cut_before": 1},
        {"now": True, "cut_after": 1},
    )
    for fault in faults:
        assert http.refused("POST", "/v1/cards/a/tear", json=fault) == "400 malformed"
    assert not http.get("/v1/cards/a")["inserted"]
    assert sorted(os.listdir(tmp_path)) == ["a.img"]

    (tmp_path / "a.img").chmod(0o400)
    shutil.rmtree(tmp_path)
    assert http.refused("POST", "/v1/cards", json={"name": "b"}) == "500 failed"


def test_web_pages_of_others_are_refused(http: Http) -> None:
    own = str(http.client.base_url)
    port = http.client.base_url.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[", ""):
        assert http.refused("GET", "/v1/cards", headers={"host": host}) == "403 host"
    for origin in ("https://evil.example", "null", f"http://localhost:{port}"):
        assert http.refused("GET", "/v1/cards", headers={"origin": origin}) == "403 origin"
    text = {"content-type": "text/plain"}
    answer = http.refused("POST", "/v1/cards", content=b'{"name": "x"}', headers=text)
    assert answer == "415 media-type"
    assert http.get("/v1/cards") == {"cards": []}
    good = {"origin": own, "host": f"localhost:{port}"}
    assert http.refused("GET", "/v1/cards", headers=good) == "403 origin"
    good = {"origin": f"http://localhost:{port}", "host": f"localhost:{port}"}
    assert http.client.get("/v1/cards", headers=good).status_code == 200


def test_remote_only_when_asked(tmp_path: Path) -> None:
    with Rack(tmp_path) as rack:
        for host in ("0.0.0.0", "::", "example.com"):
            with pytest.raises(SimError, match="nothing was started"):
                Service(rack, host)
        with Service(rack, "0.0.0.0", allow_remote=True) as service:
            url = service.url.replace("0.0.0.0", "127.0.0.1")
            assert httpx.get(f"{url}/v1/cards", headers={"host": "ci.example"}).status_code == 200
            with pytest.raises(SimError, match="cannot listen"):
                Service(rack, "0.0.0.0", int(url.rpartition(":")[2]), allow_remote=True)


def test_openapi(http: Http) -> None:
    assert http.get("/openapi.json") == openapi()
    OpenAPIV31SpecValidator(openapi()).validate()
    described = {
        (method.upper(), path) for path, each in openapi()["paths"].items() for method in each
    }
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}

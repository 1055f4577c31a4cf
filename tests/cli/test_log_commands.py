# SPDX-License-Identifier: Apache-2.0
"""`chipcash witness` and `chipcash audit` as a bank and an auditor run them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from chipcash import web
from chipcash.log.cosigning import Witnesses, parse_witness
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.publisher import Publisher
from chipcash.log.store import Log
from chipcash_wire import objects as o
from tests.cli.conftest import Cli
from tests.log.test_audit import history
from tests.prefork import chipcash

KEY = SigningKey("log.example", SIGNATURE, bytes(32))


class Registered:
    """So many of the facts of a history, or a history of one's own."""

    def __init__(self, entries: tuple[o.LogEntry, ...], count: int | None = None) -> None:
        self.entries = entries[:count]

    def facts(self, after: int) -> Iterator[tuple[int, bytes]]:
        for number, entry in enumerate(self.entries, 1):
            if number > after:
                yield number, entry.encode()


@contextmanager
def witness(cli: Cli, name: str) -> Iterator[tuple[str, str]]:
    """A witness that is served: its key string, its URL."""
    files = ["--key", f"{name}.key", "--state", f"{name}.state"]
    if not (cli.folder / f"{name}.key").exists():
        cli.run("witness", "init", "--name", f"{name}.example/witness", *files)
    words = [
        *chipcash(),
        "witness",
        "serve",
        "--log",
        str(KEY.key),
        *files,
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(words, cwd=cli.folder, env=cli.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        yield found["key"], found["url"]
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0


@pytest.fixture
def place(cli: Cli) -> Path:
    """A network's file and an empty log in the folder of the command line."""
    history("gm").world.trust.save(cli.folder / "network.ccn")
    cli.env["CHIPCASH_NETWORK"] = "network.ccn"
    (cli.folder / "log.pub").write_text(f"{KEY.key}\n")
    Log.create(cli.folder / "public", cli.folder / "entries", KEY).close()
    return cli.folder


def publish(place: Path, facts: Registered, *witnesses: str) -> None:
    with (
        Log(place / "public", place / "entries", KEY) as log,
        closing(Witnesses([parse_witness(each) for each in witnesses])) as asked,
    ):
        Publisher(log, facts, asked).publish()


def test_from_a_banks_witness_to_an_auditors_report(cli: Cli, place: Path) -> None:
    told = history("gm")
    audit = ["audit", "public", "--entries", "entries", "--log", "log.pub", "--checkpoint", "last"]
    with witness(cli, "bank") as (key, url):
        publish(place, Registered(told.entries, told.at["void"]), f"{key}@{url}")
        first = cli.json(*audit, "--witness", key)
        assert (first["size"], first["continues"]) == (told.at["void"], None)
        assert [x["witness"] for x in first["cosigned"]] == ["bank.example/witness"]
        publish(place, Registered(told.entries), f"{key}@{url}")
    app = Starlette(
        routes=[
            Mount("/tile/entries", StaticFiles(directory=place / "entries/tile/entries")),
            Mount("/", StaticFiles(directory=place / "public")),
        ]
    )
    with web.Service(app, "127.0.0.1", 0, "log") as served:
        told_all = cli.json("audit", served.url, *audit[4:], "--witness", key)
        assert (told_all["size"], told_all["continues"]) == (len(told.entries), first["size"])
        assert (told_all["issued_fen"], told_all["redeemed_fen"]) == (2100, 330)
        assert told_all["evidence"] == 1
    said = cli.run(*audit, "--witness", key).stdout
    assert "is in order" in said
    assert "redeemed:        3.30 yuan" in said
    # A witness that has seen more refuses, also after it was started again.
    with witness(cli, "bank") as (key, url):
        other = place / "other"
        Log.create(other / "public", other / "entries", KEY).close()
        publish(other, Registered(told.entries, told.at["paid"]), f"{key}@{url}")
    words = ["audit", "other/public", "--entries", "other/entries", "--log", "log.pub"]
    failed = cli.json(*words, "--witness", key, code=52)
    assert "0 of the 1 cosignatures" in failed["message"]
    # Nor does it continue what was audited before, whoever has cosigned it.
    failed = cli.json(*words, "--checkpoint", "last", code=52)
    assert "history was changed" in failed["message"]
    cli.json(*audit, "--witness", key, "--quorum", "2", code=50)
    assert "PRIVATE" not in cli.printed


def test_what_an_auditor_is_told(cli: Cli, place: Path) -> None:
    told = history("gm")
    at = told.find("paid", o.Move)
    publish(place, Registered((*told.entries[:at], *told.entries[at + 1 :])))
    audit = [
        "audit",
        "public",
        "--entries",
        "entries",
        "--log",
        str(KEY.key),
        "--checkpoint",
        "last",
    ]
    failed = cli.json(*audit, code=53)
    assert failed["facts"] == {"entry": at}
    assert not (place / "last").exists()
    failed = cli.json("audit", "public", "--log", "log.pub", code=52)
    assert "has no tile/entries" in failed["message"]
    # An entry that was changed on the way accuses nobody.
    bundle = next(path for path in (place / "entries").rglob("*.p/*"))
    data = bundle.read_bytes()
    bundle.write_bytes(data[:5] + b"\x00" + data[6:])
    failed = cli.json(*audit, code=52)
    assert "does not hold this as its entry 0" in failed["message"]
    cli.json("audit", "http://127.0.0.1:1", "--log", "log.pub", code=51)
    cli.json("audit", "public", "--log", "x+y+z", code=2)


def test_a_witness_without_its_memory_does_not_serve(cli: Cli) -> None:
    files = ["--key", "w.key", "--state", "w.state"]
    made = cli.json("witness", "init", "--name", "w.example", *files)
    assert made["key"].startswith("w.example+")
    (cli.folder / "w.state").unlink()
    serve = ["witness", "serve", "--log", str(KEY.key), *files, "--port", "0"]
    assert "nothing was begun" in cli.json(*serve, code=50)["message"]
    cli.json("witness", "init", "--name", "w.example", *files, code=50)
    assert not (cli.folder / "w.state").exists()

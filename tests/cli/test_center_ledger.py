# SPDX-License-Identifier: Apache-2.0
"""A bank's center as its operator runs it: in PostgreSQL, its log cosigned, audited from outside."""

from __future__ import annotations

import gzip
import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.center.pg_server import Server as Postgres
from tests.cli.conftest import Cli
from tests.prefork import chipcash

OLD = Path(__file__).parents[1] / "center" / "format-2" / "ledger.sql.gz"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@contextmanager
def served(cli: Cli, *words: str) -> Iterator[dict[str, str]]:
    """A command that serves; what it says once it does."""
    with subprocess.Popen(
        [*chipcash(), *words, "--port", "0", "--json"],
        cwd=cli.folder,
        env=cli.env,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0


def test_a_center_in_postgresql(cli: Cli, postgres: Postgres) -> None:
    url = postgres.database("bank")
    made = cli.json("center", "init", "network", "--ledger", url)
    assert not (cli.folder / "network/ledger.db").exists()
    assert (cli.folder / "network/ledger.url").stat().st_mode & 0o777 == 0o600
    files = ["--key", "w.key", "--state", "w.state"]
    cli.run("witness", "init", "--name", "bank.example/w", *files)
    with served(cli, "witness", "serve", "--log", "network/log.pub", *files) as witness:
        asked = f"{witness['key']}@{witness['url']}"
        with served(cli, "center", "serve", "--witness", asked) as center:
            cli.env["CHIPCASH_CENTER"] = center["url"]
            cli.run("bank", "reserve", "1000")
            cli.run("bank", "issue", "500")
            cli.run("pos", "init", "till")
            checked = cli.json("center", "check")
            assert (checked["issued_fen"], checked["live_fen"]) == (50_000, 50_000)
        with served(cli, "center", "serve", "--witness", asked) as center:
            audit = ["audit", f"{center['url']}/log", "--entries", "network/log/entries"]
            audit += ["--log", made["log_key"], "--witness", witness["key"]]
            report = cli.json(*audit)
            assert [x["witness"] for x in report["cosigned"]] == ["bank.example/w"]
            assert (report["coins"], report["issued_fen"]) == (1, 50_000)
            assert cli.json("center", "check")["log_entries"] == report["size"]
    # The database is another network's now; and one that is away is told as such.
    told = cli.json("center", "init", "other", "--ledger", url, code=20)
    assert "another network" in told["message"]
    postgres.kill()
    cli.json("center", "init", "other", "--ledger", url, code=18)
    assert not (cli.folder / "other").exists(), "keys are left, and never made anew"
    told = cli.json("center", "check", code=18)
    assert "cannot be used" in told["message"] and "repeat" in told["hint"]
    postgres.start()
    cli.json("center", "check")
    cli.json("center", "init", "third", "--ledger", "mysql://x", code=2)


def test_a_ledger_of_an_older_chipcash(cli: Cli) -> None:
    cli.json("center", "init", "network", "--suite", "p256")
    ledger = cli.folder / "network/ledger.db"
    for path in cli.folder.glob("network/ledger.db*"):
        path.unlink()
    with closing(sqlite3.connect(ledger)) as db:
        db.executescript(gzip.decompress(OLD.read_bytes()).decode())
    (cli.folder / "network/log.pub").unlink()
    (cli.folder / "network/log").rename(
        cli.folder / "gone"
    )  # log.key: as if it had broken off there
    told = cli.json("center", "check", code=18)
    assert "format 2" in told["message"] and "chipcash center upgrade" in told["hint"]
    cli.json("center", "upgrade")
    cli.json("center", "upgrade")
    said = cli.run("center", "check").stdout
    assert "Conserved: 11.60 yuan issued" in said and "0 entries" in said
    with served(cli, "center", "serve"):
        pass
    # The old ledger was another network's: who audits it finds that out.
    told = cli.json("center", "check", code=53)
    assert "not signed by the certification center" in told["message"]


def test_what_serve_does_not_begin_with(cli: Cli) -> None:
    """Certificates that are none; a ledger that is older than its log, until that has brought it forward."""
    cli.run("center", "init", "network")
    serve = ("center", "serve", "--port", "0")
    assert "go with --tls-cert" in cli.run(*serve, "--client-ca", "network/log.pub", code=2).stderr
    told = cli.json(*serve, "--tls-cert", "network/log.pub", code=29)
    assert told["error"] == "TlsError" and "log.pub" in told["message"]
    ledger = cli.folder / "network/ledger.db"
    older = ledger.read_bytes()
    with served(cli, "center", "serve") as center:
        cli.run("bank", "reserve", "10")
        cli.run("bank", "issue", "10", CHIPCASH_CENTER=center["url"])
    for each in cli.folder.glob("network/ledger.db-*"):
        each.unlink()
    ledger.write_bytes(older)
    told = cli.json(*serve, code=50)
    assert told["error"] == "LogError" and "chipcash center recover" in str(told["hint"])
    # Not of several ledgers: told, and nothing is done.
    assert "several" in cli.run("center", "recover", "--from", ".", code=2).stderr
    assert cli.json("center", "recover") == {"facts": 2}
    assert cli.json("center", "recover") == {"facts": 0}
    assert cli.json("center", "check")["live_fen"] == 1000


def test_partitions_are_decided_on_at_the_beginning(cli: Cli) -> None:
    """What docs/partitions.md shows runs there; here is what is refused, before anything is made."""
    some = ["--nats", "nats://127.0.0.1:9", "--node", "a=postgresql://x@127.0.0.1:9/y"]
    for wrong, code in (
        (["--partitions", "3", *some], 20),
        (["--partitions", "4"], 20),
        (some, 2),
        (["--partitions", "4", "--nats", "nats://127.0.0.1:9", "--node", "a=mysql://x"], 2),
    ):
        cli.json("center", "init", "network", *wrong, code=code)
        assert not (cli.folder / "network").exists()
    cli.json("center", "init", "network", "--partitions", "4", *some)
    home = cli.folder / "network"
    for name in ("partitions.json", "nats.conf", "nats-worker.password", "log-p0003.key"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    told = cli.json("center", "partitions", "add-node", "b=postgresql://x:hunter2@127.0.0.1:9/z")
    assert "hunter2" not in json.dumps(told)
    (home / "nats-admin.password").unlink()
    told = cli.json("center", "partitions", "setup", code=20)
    assert "may not be NATS user admin" in told["message"]
    assert "no PostgreSQL node c" in cli.json("center", "work", "--node", "c", code=20)["message"]
    told = cli.json("center", "work", "--node", "b", code=21)
    assert "hunter2" not in json.dumps(told)
    assert "workers verify" in cli.run("center", "serve", "--processes", "2", code=2).stderr
    told = cli.json("center", "backup", "copy", code=21)
    assert "NATS" in told["message"] and not (cli.folder / "copy/network.ccn").exists()
    assert "may not be NATS user admin" in cli.json("center", "recover", code=20)["message"]
    assert "--partition" in cli.run("center", "recover", "--lost", code=2).stderr
    cli.json("center", "init", "whole")
    told = cli.json("center", "partitions", "list", "--home", "whole", code=20)
    assert "has one ledger" in told["message"]
    said = cli.run("center", "recover", "--partition", "1", "--home", "whole", code=2).stderr
    assert "several ledgers" in said

# SPDX-License-Identifier: Apache-2.0
"""`chipcash center staff` as those who run a center use it: accounts, pages over TLS, the record."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme
from click.testing import CliRunner

from chipcash.center.client import CenterClient
from chipcash.center.service import Service
from chipcash.cli import root
from chipcash.home import Home
from chipcash.tls import client_context
from tests.cli.conftest import Cli
from tests.cli.test_center_ledger import served

FIRST = "a password of the first day"
OWN = "a password of one's own"


def form(client: httpx.Client, page: str, path: str, **values: str) -> httpx.Response:
    """Send a form of a page."""
    found = re.search('name="csrf" value="([0-9a-f]+)"', client.get(page).text)
    assert found is not None
    return client.post(path, data={"csrf": found[1], **values})


def enter(client: httpx.Client, name: str) -> None:
    """Log in with a first password, and change it."""
    assert form(client, "/login", "/login", name=name, password=FIRST).status_code == 303
    answer = form(client, "/password", "/password", old=FIRST, new=OWN, again=OWN)
    assert answer.status_code == 303


def certificate(folder: Path) -> None:
    """PEM files of an authority and of the pages: ca, pem, key."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "pem", append=True)


@contextmanager
def a_center(cli: Cli) -> Iterator[str]:
    """The center of the network, served, as `center serve` does; the serial of a coin of ten yuan."""
    home = Home(cli.folder / "network")
    bank = home.key("bank").public
    with closing(home.center()) as center, closing(home.issuing()) as issuing, home.log() as log:
        issuing.add_reserve(bank, 1_000)
        coin = issuing.issue(bank, 1_000)
        with Service(center, log=log) as service, CenterClient(service.url, center.trust) as client:
            client.register_coin(coin)
            cli.env["CHIPCASH_CENTER"] = service.url
            yield coin.serial.hex()


def run(cli: Cli, *words: str, code: int = 0) -> dict[str, Any]:
    """`chipcash center staff`, in this process: there are many, and what they print is no matter here."""
    env = {
        **cli.env,
        "CHIPCASH_HOME": str(cli.folder / "network"),
        "CHIPCASH_STAFF_PASSWORD": FIRST,
    }
    done = CliRunner().invoke(root, ["center", "staff", *words, "--json"], env=env)
    cli.printed += done.output
    assert done.exit_code == code, done.output
    found = json.loads(done.output)
    assert isinstance(found, dict)
    return found


def test_the_staff_of_a_center(cli: Cli) -> None:
    cli.json("center", "init", "network")
    run(cli, "add", "zhang", "--role", "dispute")
    run(cli, "add", "li", "--role", "viewer")
    certificate(cli.folder)
    tls = client_context(cli.folder / "ca")
    words = ("center", "staff", "serve", "--tls-cert", "pem", "--tls-key", "key")
    head = str(cli.folder / "head")
    values = {"reason": "lost at the station", "sure": "yes"}
    with (
        a_center(cli) as coin,
        served(cli, *words) as pages,
        httpx.Client(base_url=pages["url"], verify=tls, timeout=30) as client,
    ):
        assert pages["url"].startswith("https://")
        assert "__Host-login" in client.get("/login").headers["set-cookie"]
        enter(client, "zhang")
        assert next(x for x in client.cookies.jar if x.name == "__Host-session").secure
        assert "10.00 yuan" in client.get(f"/coins/{coin}").text
        health = client.get("/health").text
        assert "It answers" in health and "facts that it does not have yet" in health
        assert "registerCoin" in health
        run(cli, "role", "zhang", "--role", "operator")
        assert client.get("/health").headers["location"].startswith("/login")
        assert form(client, "/login", "/login", name="zhang", password=OWN).status_code == 303
        answer = form(client, "/block", "/block", key="02" + "ab" * 32, **values)
        assert "on the blacklist" in client.get(answer.headers["location"]).text
    # The center is away, and its key with it: all but one thing can be done.
    (cli.folder / "network/center.key").rename(cli.folder / "center.key")
    with (
        served(cli, "center", "staff", "serve", "--name", "pages.example") as pages,
        httpx.Client(base_url=pages["url"], timeout=30) as client,
    ):
        assert form(client, "/login", "/login", name="zhang", password=OWN).status_code == 303
        assert "The center does not answer" in client.get("/health").text
        for host, status in (("pages.example", 200), ("other.example", 400)):
            assert client.get("/health", headers={"Host": host}).status_code == status
        answer = form(client, "/block", "/block", key="03" + "cd" * 32, **values)
        assert answer.status_code == 503 and "may not have been done" in answer.text
    for wrong in ("*", "https://pages.example", "*.*.example"):
        assert run(cli, "serve", "--name", wrong, code=2)
    run(cli, "remove", "li")
    (account,) = run(cli, "list")["accounts"]
    assert (account["name"], account["role"], account["temporary"]) == ("zhang", "operator", False)
    shutil.copy(cli.folder / "network/staff.db", cli.folder / "old.db")
    run(cli, "password", "zhang")
    audited = run(cli, "audit", "--head", head, "--last", "1000")
    said = [(x["who"], x["action"], x["outcome"]) for x in audited["entries"]]
    assert audited["number"] == len(said) and audited["noted"] is None
    (operator,) = {who for who, action, _ in said if action.startswith("account")}
    assert operator.startswith("os:")
    blocked = [outcome for who, action, outcome in said if (who, action) == ("zhang", "block")]
    assert blocked == ["begun", "ok", "begun", "failed"] and ("zhang", "coin", "ok") in said
    assert FIRST not in cli.printed and OWN not in cli.printed
    # An older copy in its place is told by the head that was noted.
    for path in (cli.folder / "network").glob("staff.db*"):
        path.unlink()
    shutil.copy(cli.folder / "old.db", cli.folder / "network/staff.db")
    told = run(cli, "audit", "--head", head, code=36)
    assert "was cut off or written anew" in told["message"]

# SPDX-License-Identifier: Apache-2.0
"""The till for other programs, at the command line: webhooks, and HTTP, also beside the till's page."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from chipcash.people.accounts import Staff
from chipcash.pos.page.roles import RULES, staff_file
from tests.cli.conftest import Cli
from tests.cli.test_receipt_commands import till  # noqa: F401
from tests.pos.test_hooks import Receiver
from tests.prefork import chipcash


def test_webhooks(till: Cli) -> None:  # noqa: F811
    cli = till
    assert cli.run("pos", "hook", "list").stdout == "No webhooks.\n"
    receiver = Receiver()
    try:
        added = cli.json("pos", "hook", "add", receiver.url)
        cli.printed = ""
        cli.json("pos", "charge", "1", "sim:a.img")
        receiver.answers = [500]
        assert cli.json("pos", "hook", "send", code=1)["waiting"] == 1
        assert "answered 500, 1 times" in cli.run("pos", "hook", "list").stdout
        assert cli.json("pos", "hook", "send")["hooks"][0]["waiting"] == 0
        assert receiver.states() == ["PENDING", "PENDING"]
        cli.json("pos", "hook", "remove", "1")
        assert "no webhook 1" in cli.json("pos", "hook", "remove", "1", code=12)["message"]
        assert cli.json("pos", "hook", "add", "http://192.0.2.1/", code=12)["error"] == "PosError"
    finally:
        receiver.close()
    assert added["secret"][6:] not in cli.printed


@contextmanager
def running(cli: Cli, *words: str) -> Iterator[dict[str, Any]]:
    """A till that runs on: what it says when it has begun; it ends as a service manager ends it."""
    process = subprocess.Popen(
        [*chipcash(), "pos", *words, "--json"],
        cwd=cli.folder, env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, ""), errors
        assert out == ""


def test_for_other_programs(till: Cli) -> None:  # noqa: F811
    cli = till
    remote = cli.json("pos", "api", "--host", "0.0.0.0", "--port", "0", code=12)
    assert "in the clear" in remote["message"]
    Staff(staff_file(cli.folder / "network" / "till"), RULES, create=True).close()
    charge = {"reference": "order-1", "amount_fen": 1250}
    with running(cli, "api", "--reader", "sim:a.img", "--port", "0") as told:
        file = cli.folder / told["token_file"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        token = {"Authorization": f"Bearer {file.read_text().strip()}"}
        with httpx.Client(base_url=told["url"], headers=token, timeout=40) as client:
            assert client.post("/v1/payments", json=charge).status_code == 201
            paid = client.get("/v1/payments/order-1", params={"wait": 30}).json()
        assert paid["state"] == "PAID"
        assert "runs already" in cli.json("pos", "api", "--port", "0", code=12)["message"]
    with running(cli, "run", "--reader", "sim:a.img", "--port", "0", "--api-port", "0") as told:
        again = httpx.post(f"{told['api']}/v1/payments", json=charge, headers=token)
        assert again.status_code == 200 and again.json()["state"] == "PAID"
        assert httpx.get(f"{told['url']}/login").status_code == 200
    assert cli.json("card", "info", "sim:a.img")["spent_fen"] == 1250
    file.chmod(0o644)
    assert "Others can read" in cli.json("pos", "api", "--port", "0", code=12)["message"]

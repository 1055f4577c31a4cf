# SPDX-License-Identifier: Apache-2.0
"""`kill -9` of the till behind its HTTP face, at each point of a charge and of telling others: the program
that uses it repeats its request, and the card has paid once."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from chipcash.pos import Pos, hooks
from tests import prefork
from tests.pos.killed_till import POINTS
from tests.pos.test_api import Counter, counter, spent  # noqa: F401
from tests.pos.test_hooks import Receiver


@contextmanager
def till(
    counter: Counter,  # noqa: F811
    point: str = "-",
    port: str = "0",
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    words = [
        "pos",
        "api",
        *(word for path in counter.reader.paths for word in ("--reader", path)),
        "--pos",
        str(counter.directory),
        "--port",
        port,
        "--json",
    ]
    process = subprocess.Popen(
        [*prefork.chipcash("tests.pos.killed_till"), point, *words],
        env=prefork.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        token = Path(told["token_file"]).read_text().strip()
        with httpx.Client(
            base_url=told["url"], headers={"Authorization": f"Bearer {token}"}, timeout=40
        ) as client:
            yield client, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        process.stdout.close()


def charge(client: httpx.Client, reference: str, amount: int) -> dict[str, Any]:
    """What any program does, after whatever: start it, wait for its result."""
    client.post(
        "/v1/payments", json={"reference": reference, "amount_fen": amount}
    ).raise_for_status()
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, Any] = client.get(f"/v1/payments/{reference}", params={"wait": 30}).json()
        if found["ended"]:
            return found
        assert time.monotonic() < deadline, found


def test_killed_at_each_point(counter: Counter) -> None:  # noqa: F811
    image = counter.card("a")
    receiver = Receiver()
    with Pos(counter.directory) as pos:
        hooks.add_hook(pos, receiver.url)
    counter.reader.insert(image, "cpython")
    paid = 0
    try:
        for number, point in enumerate(POINTS, 1):
            reference, amount = f"order-{point}", 100 + number
            with till(counter, point) as (client, process):
                with suppress(httpx.HTTPError):
                    charge(client, reference, amount)
                assert process.wait(120) == -signal.SIGKILL, point
            with till(counter) as (client, process):
                found = charge(client, reference, amount)
                assert found["state"] == "PAID", (point, found)
                claim = found["payment"]["claim_id"]
                assert charge(client, reference, amount)["payment"]["claim_id"] == claim
                deadline = time.monotonic() + 60
                while (claim, "PENDING") not in claims(receiver):
                    assert time.monotonic() < deadline, point
                    time.sleep(0.05)
            assert process.returncode == 0
            with Pos(counter.directory) as pos:
                hooks.send(pos)  # what that one was ended over: the next would die of it at once
            paid += amount
            counter.reader.remove()  # or it would not be asked again
            counter.reader.insert(image, "cpython")
        with Pos(counter.directory) as pos:
            payments = pos.payments()
            assert {each.reference for each in payments} == {f"order-{point}" for point in POINTS}
            assert sum(each.amount for each in payments) == paid
            hooks.send(pos)
            history = [change for each in payments for change in pos.changes(each.claim_id)]
        numbers = [json.loads(body)["data"]["change"] for _, body in receiver.got]
        assert list(dict.fromkeys(numbers)) == sorted(change.number for change in history)
    finally:
        receiver.close()
    assert spent(counter, image) == paid


def claims(receiver: Receiver) -> list[tuple[str, str]]:
    events = [json.loads(body)["data"] for _, body in list(receiver.got)]
    return [(event["claim_id"], event["state"]) for event in events]

# SPDX-License-Identifier: Apache-2.0
"""`kill -9` at every point of a day at the till: who works there goes on, and all sides count the same."""

from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path

from chipcash.books.reconcile import Till as Side
from chipcash.books.reconcile import reconcile
from chipcash.card import Card
from chipcash.pos import PaymentState, Pos
from chipcash.pos.events import What
from chipcash.pos.reports import Report
from chipcash.sandbox import PlaceReader, Sandbox
from chipcash.transports import open_path
from tests.pos.killed_day import days

_MOST = 200
"""Points after which the day certainly is over."""


def test_killed_at_each_point_of_a_day(tmp_path: Path) -> None:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.pos.killed_day", "chipcash.transports.serial"])
    image = tmp_path / "a.img"
    with Sandbox(tmp_path / "net") as sandbox, PlaceReader(["serial"]) as reader:
        sandbox.till("till").close()
        sandbox.new_card(image, 50_000, tier=1)  # which pays a hundred times offline
        directory = sandbox.directory / "till"
        path = reader.insert(image, "cpython")

        killed = 0
        for point in range(_MOST):
            process = server.Process(target=days, args=(directory, path, point))
            process.start()
            process.join(60)
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL, point
            killed += 1
        assert 30 < killed < _MOST - 1
        sales = killed + 1
        taken = sum(100 + number for number in range(sales))

        with open_path(path, wait=15) as connection:
            card = Card(connection)
            card.select()
            assert card.info().spent == taken
        with Pos(directory) as pos:
            payments = pos.payments()
            assert {each.reference for each in payments} == {f"sale {n}" for n in range(sales)}
            assert len(payments) == sales and sum(each.amount for each in payments) == taken
            assert {each.state for each in payments} == {PaymentState.VERIFIED}
            assert pos.open_count() == 0 and pos.summary().leaving_fen == 0
            refunded = [each.settled_fen for each in pos.transfers()]
            assert refunded == [1] * sales
            assert pos.summary().verified_fen == taken - sales
            # Each Z report begins where the last one ended: what was taken is in one of them, once.
            closed = [pos.z_report(each.number) for each in pos.shifts() if each.report is not None]
            assert all(report.balances() and not report.differences for report in closed)
            assert _sum(closed, What.TAKEN) == taken
            assert _sum(closed, What.REFUNDED) == sales
            agreed = reconcile(
                [Side("till", pos)], 0, 1 << 40,
                now=int(time.time()), centers={"till": sandbox.center}, every=True,
            )  # fmt: skip
            assert agreed.agrees, agreed.findings
            owner = pos.public.hex()
        assert sandbox.ledger.accounts()["owners"][owner] == taken - sales
        sandbox.ledger.check()


def _sum(reports: list[Report], what: What) -> int:
    return sum(report.line(what).fen for report in reports)

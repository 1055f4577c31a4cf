# SPDX-License-Identifier: Apache-2.0
"""`make bench`, quickly: all rows are there and the sizes are within their targets. No time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chipcash_sim import pcscd, places, runtime
from tests.bench import bench, partitions, settling

pytestmark = pytest.mark.timeout(660)  # a minute, where nobody else wants the processor

_PATHS = ("tap.sim.inprocess", "tap.sim.micropython", "tap.pcsc.micropython")
_AIR = ("air.bytes", "air.commands", "air.apdus")
_CODE = ("cpython", "micropython", "openssl")
_PARTS = ("", ".torn", ".no-coupon", ".424kbit", ".air", ".bus", ".interpreter", ".flash")
_DATABASES = ("", ".postgres")
_NAMES = {
    *(f"{path}.{suite}" for path in _PATHS for suite in ("gm", "p256")),
    *(f"{what}.{link}.{p}" for what in ("apdu", "pay") for link in places.NAMES for p in ("p50", "p95")),
    *(f"link.bytes.{link}" for link in places.NAMES),
    *(f"link.air.{link}.106kbit" for link in ("nfc", "pn532")),
    *(f"link.air.ble.{interval}ms" for interval in ("7.5", "30")),
    *(f"{what}.{n}-title{form}" for what in _AIR for n in (1, 3) for form in ("", ".short")),
    *(f"{what}.{x}.{suite}" for what in ("sign", "verify") for x in _CODE for suite in ("gm", "p256")),
    *(f"sign-coupon.{x}.{suite}" for x in _CODE[:2] for suite in ("gm", "p256")),
    *(f"board.{x}.{suite}{part}" for x in ("picow", "pico2w") for suite in ("gm", "p256") for part in _PARTS),
    "card.mpy",
    *(f"card.heap.{n}-title.{suite}" for n in (1, 8) for suite in ("gm", "p256")),
    *(f"center.verified.{suite}" for suite in ("gm", "p256")),
    *(f"center.settled.{x}{db}.batch-{n}" for x in ("gm", "p256") for db in _DATABASES for n in (1, 20)),
    *(f"center.payment.{x}{db}.{part}" for x in ("gm", "p256") for db in _DATABASES
      for part in ("p50", "p99", *settling.PAYMENT_PARTS)),
    *(f"center.growth.{n}" for n in (50, 200)),
    *(f"log.{what}.{n}" for what in ("append", "proof") for n in (1_000, 10_000)),
    *(f"till.{what}.{p}" for what in ("card", "added") for p in ("p50", "p95")),
    *(f"till.{x}.{n}" for x in ("open", "page", "accepted", "synced", "memory") for n in (50, 100)),
    "log.durable",
    "log.appended",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a quick run writes, which is also what it prints."""
    reason = pcscd.available()
    if reason is not None:
        pytest.skip(reason)
    try:
        runtime.find("micropython")
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    output = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
    argv = [sys.executable, bench.__file__, "--quick", "--json", "--output", str(output)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    written: list[dict[str, Any]] = json.loads(output.read_text())
    assert json.loads(done.stdout) == written
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    return written


def test_each_row_is_there_once(rows: list[dict[str, Any]]) -> None:
    assert sorted(row["name"] for row in rows) == sorted(_NAMES)


def test_the_form_of_the_rows(rows: list[dict[str, Any]]) -> None:
    values = {row["name"]: row["value"] for row in rows}
    for row in rows:
        assert isinstance(row["unit"], str) and row["unit"]
        assert isinstance(row["value"], int | float) and row["value"] > 0
        assert set(row) <= {"name", "value", "unit", "ratio_to", "ratio", "target", "met"}
        assert ("ratio" in row) == ("ratio_to" in row)
        assert ("target" in row) == ("met" in row)
        if "ratio" in row:
            expected = row["value"] / values[row["ratio_to"]]
            assert row["ratio"] == pytest.approx(expected, rel=0.01)
        if "target" in row:
            ((what, limit),) = row["target"].items()
            if what == "ratio_at_least":
                assert row["met"] == (row["ratio"] >= limit)
            else:
                assert row["met"] == (row[what] <= limit)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("air.bytes.1-title", 700),
        ("air.bytes.1-title.short", 700),
        ("air.commands.1-title", 2),
        ("air.commands.1-title.short", 2),
        ("card.mpy", 60_000),
        ("card.heap.1-title.gm", 192),
        ("card.heap.1-title.p256", 192),
        ("card.heap.8-title.gm", 192),
        ("card.heap.8-title.p256", 192),
    ],
)
def test_sizes_keep_what_was_promised(rows: list[dict[str, Any]], name: str, most: int) -> None:
    (row,) = (row for row in rows if row["name"] == name)
    assert row["value"] <= most
    assert row["target"] == {"value": most}
    assert row["met"] is True


def test_extended_apdus_need_no_get_response(rows: list[dict[str, Any]]) -> None:
    values = {row["name"]: row["value"] for row in rows}
    assert values["air.apdus.1-title"] == values["air.apdus.3-title"] == 2
    assert values["air.apdus.1-title.short"] > 2


def test_coupons_have_their_target(rows: list[dict[str, Any]]) -> None:
    for suite in ("gm", "p256"):
        (row,) = (row for row in rows if row["name"] == f"sign-coupon.micropython.{suite}")
        assert row["target"] == {"ratio": 0.01}
        assert row["ratio_to"] == f"sign.micropython.{suite}"


def test_a_missed_target_is_said() -> None:
    report = bench.Report()
    report.add("small", 3, "bytes", at_most=3)
    report.add("large", 4, "bytes", at_most=3)
    report.add("slow", 2, "µs", ratio_to="large", ratio_at_most=0.25)
    assert [row["met"] for row in report.rows] == [True, False, False]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(report.table())
    lines = capture.get().splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["met", "missed", "missed"]
    assert "0.5 × row 2" in lines[2] and "ratio ≤ 0.25" in lines[2]


def test_without_pcscd_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pcscd.PORTS_VARIABLE, raising=False)
    monkeypatch.setattr(pcscd, "available", lambda: "pcscd is not installed.")
    report = bench.Report()
    assert bench.private_session(report) is None
    assert report.notes == ["Nothing was measured over pcsc:. pcscd is not installed."]


@pytest.mark.long
def test_partitions_cost_no_more_the_more_there_are(tmp_path: Path) -> None:
    reason = partitions.missing()
    if reason is not None:
        pytest.skip(reason)
    report = bench.Report()
    partitions.measure(report, 3, tmp_path)
    rows = {row["name"]: row for row in report.rows}
    names = [f"partitions.cpu.{n}" for n in partitions.PARTITIONS]
    assert set(rows) == {
        *names,
        *(f"{name}.{part}" for name in names for part in partitions.PARTS),
        *(f"partitions.settled.{n}" for n in partitions.PARTITIONS),
        "partitions.stored",
        "partitions.wal",
    }
    for name in names[1:]:
        assert rows[name]["target"] == {"ratio": 1.2} and rows[name]["met"], rows[name]

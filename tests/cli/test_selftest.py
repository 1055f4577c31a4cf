# SPDX-License-Identifier: Apache-2.0
"""`chipcash selftest` over everything that the tests' machine has."""

from __future__ import annotations

from pathlib import Path

from chipcash import selftest
from chipcash_sim import places
from chipcash_sim.forms import FORMS
from tests.cli.conftest import Cli


def test_every_link_on_every_runtime(cli: Cli) -> None:
    found = cli.json("selftest")
    rows = {(row["link"], row["form"], row["runtime"]): row for row in found["rows"]}
    assert {(link, runtime) for link, _, runtime in rows} == {
        (link, runtime)
        for link in ("sim", "pcsc", "ccid", "ccid_t0", *places.NAMES)
        for runtime in ("cpython", "micropython")
    }
    for form in FORMS.values():
        assert {link for link, name, _ in rows if name == form.name} >= set(form.places)
    assert found["ok"] and all(row["ok"] and row["milliseconds"] > 0 for row in rows.values())


def test_what_is_missing_is_told_and_no_failure(tmp_path: Path) -> None:
    """Without a smart card service around the process, its rows say so; the others are tried."""
    rows = list(selftest.run(tmp_path, "p256", None))
    for row in rows:
        inside = row.link in ("pcsc", "ccid", "ccid_t0")
        assert row.ok == row.attempted == (not inside)
        assert bool(row.missing) == inside

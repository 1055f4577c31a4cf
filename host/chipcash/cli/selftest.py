# SPDX-License-Identifier: Apache-2.0
"""`chipcash selftest`: one payment over each link that this machine can open."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from chipcash import selftest
from chipcash.cli.base import EXIT_FAILED, Command, Report, progress, suite_option
from chipcash.cli.demo import no_pcsc
from chipcash_sim import pcscd


@click.command("selftest", cls=Command)
@suite_option
def command(suite: str) -> Report:
    """Make one payment over each link of each form, by an emulated card on each runtime, and print how each
    went.

    Exit code 1 if a payment failed; what is not installed is told, and no failure.
    """
    session = None
    if no_pcsc() is None:
        # Starts this program again, inside; from here on there is a pcscd of our own.
        session = pcscd.ensure_private_pcscd()
    rows = []
    with tempfile.TemporaryDirectory() as directory, progress("Paying over each link"):
        for row in selftest.run(Path(directory), suite, session):
            rows.append(row)
    failed = [row for row in rows if not row.ok and row.attempted]
    lines = [f"{'link':8}{'form':18}{'runtime':13}{'ok':9}{'ms':>8}  what is missing"]
    for row in rows:
        ok = "ok" if row.ok else "FAILED" if row.attempted else "missing"
        spent = f"{row.milliseconds:.1f}" if row.milliseconds is not None else "-"
        lines.append(
            f"{row.link:8}{row.form:18}{row.runtime:13}{ok:9}{spent:>8}  {row.missing}".rstrip()
        )
    data = {"ok": not failed, "rows": [asdict(row) for row in rows]}
    return Report(data, lines, exit_code=EXIT_FAILED if failed else 0)

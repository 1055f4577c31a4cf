# SPDX-License-Identifier: Apache-2.0
"""`chipcash doctor`: what is wrong on this machine, and the fix."""

from __future__ import annotations

from dataclasses import asdict

import click

from chipcash.cli.base import Command, Report
from chipcash.doctor import checks


@click.command("doctor", cls=Command)
def command() -> Report:
    """Find what is wrong on this machine (PC/SC, readers, rights, runtimes) and say the fix."""
    found = checks()
    lines = []
    for check in found:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        if not check.ok and check.fix:
            lines.append(f"      fix: {check.fix}")
    bad = sum(not check.ok for check in found)
    lines.append("Nothing is wrong." if not bad else f"{bad} of {len(found)} checks failed.")
    data = {"ok": not bad, "checks": [asdict(check) for check in found]}
    return Report(data, lines, exit_code=1 if bad else 0)

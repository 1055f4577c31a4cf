# SPDX-License-Identifier: Apache-2.0
"""`chipcash doctor`: what is wrong on this machine, and the fix."""

from __future__ import annotations

from dataclasses import asdict

import click

from chipcash.cli.base import EXIT_FAILED, Command, Report
from chipcash.doctor import checks


@click.command("doctor", cls=Command)
def command() -> Report:
    """Find what is wrong on this machine (PC/SC, readers, rights, runtimes) and say the fix.

    Exit code 1 if something is wrong; what only some uses need is noted, and not wrong.
    """
    found = checks()
    lines = []
    for check in found:
        mark = "ok  " if check.ok else "note" if check.optional else "FAIL"
        lines.append(f"{mark}  {check.name}: {check.detail}")
        if not check.ok and check.fix:
            lines.append(f"      fix: {check.fix}")
    wrong = [check.name for check in found if not (check.ok or check.optional)]
    lines.append("Wrong: " + ", ".join(wrong) if wrong else "Nothing is wrong.")
    data = {"ok": not wrong, "wrong": wrong, "checks": [asdict(check) for check in found]}
    return Report(data, lines, exit_code=EXIT_FAILED if wrong else 0)

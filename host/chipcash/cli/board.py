# SPDX-License-Identifier: Apache-2.0
"""`chipcash board`: the reference boards, how they are wired, what to buy."""

from __future__ import annotations

from dataclasses import asdict

import click

from chipcash.boards import board_named, boards, tables
from chipcash.boards.checks import warnings
from chipcash.cli.base import Group, Report, table


@click.group("board", cls=Group)
def command() -> None:
    """Reference boards: what they have, how each form of the card is wired, what to buy."""


@command.command("list")
def list_boards() -> Report:
    """List the boards, the reference board first.

    Heap is of MicroPython; that of boards is an estimate.
    """
    found = boards().values()
    lines = [f"{'board':10}{'role':13}{'heap kB':>8}  {'name':30}forms"]
    lines += [
        f"{board.id:10}{board.role:13}{board.heap_kb:>8}  {board.name:30}{', '.join(board.forms)}"
        for board in found
    ]
    data = [
        {
            "id": board.id,
            "name": board.name,
            "role": board.role,
            "heap_kb": board.heap_kb,
            "forms": list(board.forms),
        }
        for board in found
    ]
    return Report({"boards": data}, lines)


@command.command("show")
@click.argument("board_id", metavar="BOARD")
@click.option("--form", "form_name", metavar="FORM", help="Only this form, as in ic-card.")
def show_board(board_id: str, form_name: str | None) -> Report:
    """Show a board: memory, MicroPython, and for each form its pins and what to buy."""
    board = board_named(board_id)
    if form_name is not None and form_name not in board.forms:
        raise click.UsageError(f"{board.name} has no form {form_name!r}: {', '.join(board.forms)}.")
    lines = [board.name, *table(tables.summary(board))]
    forms = {}
    for form in board.forms.values():
        if form_name not in (None, form.name):
            continue
        lines += ["", f"{form.name}: {', '.join(form.links)}"]
        if form.peripherals:
            lines += tables.table(tables.WIRE_HEAD, tables.wire_rows(board, form))
            lines += ["", "To buy:"]
            for item in tables.bill(board, form):
                example = f" ({'; or '.join(item.order)})" if item.order else ""
                lines.append(f"{item.count:3} {item.name}{example}")
            lines += ["", *tables.notes(board, form)]
        forms[form.name] = {
            "links": list(form.links),
            "wires": [asdict(wire) for wire in tables.wires(board, form)],
            "bill": [asdict(item) for item in tables.bill(board, form)],
            "notes": tables.notes(board, form),
        }
    about = asdict(board)
    del about["peripherals"], about["forms"]
    return Report({**about, "warnings": warnings(board), "forms": forms}, lines)

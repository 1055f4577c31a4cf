# SPDX-License-Identifier: Apache-2.0
"""`chipcash board`: the reference boards, how they are wired, what to buy; the firmware onto them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click

from chipcash.boards import board_named, boards, tables
from chipcash.boards.checks import warnings
from chipcash.cli.base import (
    EXIT_FAILED,
    Group,
    Report,
    center_option,
    optional_home_option,
    progress,
    table,
    wait_for,
)
from chipcash.cli.card import personalised
from chipcash_board.start import SAFE_MS
from chipcash_wire import objects as o

_START_S = 1.0  # what a board takes from its reset to main.py, at most
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

port_option = click.option(
    "--port",
    metavar="LINE",
    help="The board's serial line, as in /dev/ttyACM0. Else it is looked for.",
)
wait_option = wait_for("the board's prompt")


@click.group("board", cls=Group)
def command() -> None:
    """Reference boards: what they have, how each form of the card is wired, what to buy; flashing them."""


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


@command.command("flash")
@click.argument("board_id", metavar="BOARD")
@click.option(
    "--form", "form_name", metavar="FORM", help="The form of card. Else the board's first."
)
@click.option("--image", type=_FOLDER, help="A folder that `make firmware` made. Else it is built.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key file of who will sign the card's updates, where it is built. Without, it takes none.",
)
@click.option(
    "--personalise",
    is_flag=True,
    help="Make the new card one of the network in --home, as `chipcash card personalise` does, over the same "
    "line: for forms with the link serial.",
)
@optional_home_option
@center_option
@port_option
@wait_option
def flash(
    board_id: str,
    form_name: str | None,
    image: Path | None,
    key: Path | None,
    personalise: bool,
    directory: Path | None,
    url: str,
    port: str | None,
    wait: float,
) -> Report:
    """Put the card's firmware onto a board that runs MicroPython.

    Broken off, it leaves the firmware that was there, or a board that asks for the same command again. The
    card's key and money are not touched.
    """
    from chipcash.boards import flashing

    board = board_named(board_id)
    form = form_name or next(iter(board.forms))
    if board.role == "emulator":
        raise click.UsageError("The emulator needs no flashing: chipcash sim new")
    if form not in board.forms:
        raise click.UsageError(f"{board.name} has no form {form!r}: {', '.join(board.forms)}.")
    quiet = click.get_current_context().meta["json"]
    wrote = []

    def told(path: str, number: int, count: int, written: bool) -> None:
        if written:
            wrote.append(path)
        if not quiet:
            click.echo(f"{number}/{count} {path}{'' if written else ': is there'}", err=True)

    with tempfile.TemporaryDirectory() as scratch:
        if image is not None:
            made = flashing.Image.load(image)
        else:
            with progress(f"Building the firmware for {board.name}, {form}"):
                made = flashing.build_image(board, form, Path(scratch, "image"), key)
    has = made.manifest["board"], made.manifest["form"]
    if has != (board.id, form) and (form_name is not None or has[0] != board.id):
        raise click.UsageError(f"{image} is an image for {has[0]}, {has[1]}.")
    form = has[1]
    serial = "serial" in board.forms[form].links
    if personalise and not serial:
        raise click.UsageError(
            f"A board as {form} is personalised at a reader: chipcash card personalise"
        )
    if personalise and directory is None:
        raise click.UsageError("--personalise needs --home, the network's directory.")
    line = port or flashing.find_port()
    with flashing.opened(line, wait, board) as prompt:
        before = prompt.installed()
        prompt.refuse(before, board, made)
        prompt.deploy(made, told)
    data = {
        "port": line,
        "board": board.id,
        "form": form,
        "build": made.build,
        "before": before.build,
        "files": len(made.files),
        "written": len(wrote),
    }
    lines = [
        f"The board at {line} is a card: {board.name}, {form}, build {made.build}; "
        f"{len(wrote)} of {len(made.files)} files were written, all were verified.",
    ]
    if not personalise or directory is None:
        where = f" serial:{line}" if serial else ", with a reader"
        return Report(
            data, [*lines, f"If it is new, it is blank: chipcash card personalise{where}"]
        )
    time.sleep(SAFE_MS / 1000 + _START_S)  # till then what is sent may stop it
    card = personalised(f"serial:{line}", directory, url, 4, o.FORMS[o.FORM_IC_CARD], wait)
    return Report({**data, **card.data}, [*lines, *card.lines])


@command.command("info")
@port_option
@wait_option
def board_info(port: str | None, wait: float) -> Report:
    """What a board runs: MicroPython, the card's firmware, whether that is complete.

    The card on it is stopped for that, and starts again. Exit code 1 if it has to be flashed.
    """
    from chipcash.boards import flashing

    line = port or flashing.find_port()
    with flashing.opened(line, wait) as prompt:
        found = prompt.installed()
    version = ".".join(map(str, found.version))
    board, form = found.manifest.get("board"), found.manifest.get("form")
    if found.complete:
        state = "complete"
    elif found.build is None:
        state = "none: the board asks to be flashed (chipcash board flash)"
    else:
        state = f"damaged: {', '.join(found.damaged)}; flash it again (chipcash board flash)"
    rows = [
        ("line", line),
        ("MicroPython", f"{version}, {found.machine}"),
        ("firmware", state),
    ]
    if found.build is not None:
        rows.append(("build", found.build))
    if board is not None:
        rows.append(("card", f"{board}, {form}"))
    if found.foreign:
        rows.append(("other files", ", ".join(found.foreign)))
    data = {
        "port": line,
        "micropython": version,
        "machine": found.machine,
        "port_board": found.port_board,
        "arch": found.arch,
        "build": found.build,
        "board": board,
        "form": form,
        "complete": found.complete,
        "damaged": found.damaged,
        "other_files": found.foreign,
    }
    return Report(data, table(rows), exit_code=0 if found.complete else EXIT_FAILED)


@command.command("bench")
@port_option
@wait_option
def bench(port: str | None, wait: float) -> Report:
    """Have a board test itself, and say how quick it is, beside what was expected of it.

    The card on it is stopped for that, and starts again; its key and money are not touched. Exit code 1 if
    the board does not compute what is known. Takes about a minute.
    """
    from chipcash.boards import benchmark, flashing

    where = port or flashing.find_port()
    quiet = click.get_current_context().meta["json"]

    def told(what: str) -> None:
        if not quiet:
            click.echo(f"... {what}", err=True)

    with flashing.opened(where, wait) as prompt:
        installed = prompt.installed()
        found = benchmark.on_board(prompt, installed, told)
    board = installed.manifest["board"]
    failed = [name for name, good in found.passed.items() if not good]
    rows = [
        ("line", where),
        ("card", f"{board}, {installed.manifest['form']}, build {installed.build}"),
        ("MicroPython", f"{'.'.join(map(str, installed.version))}, {installed.machine}"),
        ("integers", f"{found.word_bits} bits a word"),
        ("clock", f"{found.mhz} MHz" if found.mhz else "not told"),
        (
            "self-test",
            f"FAILED: {', '.join(failed)}" if failed else f"passed, {len(found.passed)} checks",
        ),
    ]
    lines = [*table(rows), "", f"{'':36}{'board':>10}{'expected':>10}{'ratio':>8}"]
    for each in found.figures:
        line = f"{each.title:33}{each.unit:3}{each.value:10.2f}"
        if each.expected is not None:
            line += f"{each.expected:10.2f}{each.ratio:8.2f}"
        lines.append(line)
    lines += ["", "What is expected are estimates, within 30 % at best: firmware/README.md"]
    if failed:
        lines.append("A board that computes wrongly must carry no money: do not use it as a card.")
    data = {
        "port": where,
        "board": board,
        "form": installed.manifest["form"],
        "build": installed.build,
        "word_bits": found.word_bits,
        "mhz": found.mhz,
        "passed": not failed,
        "self_test": found.passed,
        "figures": [
            {**asdict(each), "title": each.title, "ratio": each.ratio} for each in found.figures
        ],
    }
    return Report(data, lines, exit_code=EXIT_FAILED if failed else 0)


@command.command("wipe")
@click.option("--yes", is_flag=True, help="Wipe without asking.")
@port_option
@wait_option
def wipe(yes: bool, port: str | None, wait: float) -> Report:
    """Remove everything from a board: all files, and the card with its key, its money and its log.

    Its money is lost to its holder, since nobody else can sign for it: spend it before.
    """
    from chipcash.boards import flashing

    line = port or flashing.find_port()
    if not yes:
        click.echo(
            f"The board at {line} loses all files, and the card its key, money and log. Money that is on it "
            "is lost to its holder: nothing brings it back. Spend it before.",
            err=True,
        )
        if not click.confirm("Wipe it?", err=True):
            return Report({"wiped": False}, ["Nothing was changed."], exit_code=EXIT_FAILED)
    with flashing.opened(line, wait) as prompt:
        prompt.wipe()
    return Report(
        {"wiped": True, "port": line},
        [f"The board at {line} is empty. Flash it: chipcash board flash"],
    )


@command.command("console")
@port_option
def console(port: str | None) -> None:
    """Open a board's prompt, with mpremote; Ctrl-] leaves it. Ctrl-C stops the card, Ctrl-D starts it."""
    from chipcash.boards import flashing

    line = port or flashing.find_port()
    words = [sys.executable, "-m", "mpremote", "connect", line, "resume", "repl"]
    os.execv(sys.executable, words)

# SPDX-License-Identifier: Apache-2.0
"""`chipcash sim`: emulated cards, without a reader or behind a real PC/SC stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from chipcash.cli.base import Group, Report
from chipcash.errors import ChipcashError
from chipcash_sim import emulator, pcscd

_RUNTIME = click.Choice(["cpython", "micropython"])


class SimError(ChipcashError):
    """An emulated card cannot be run as asked."""


@click.group("sim", cls=Group)
def command() -> None:
    """Emulated cards. `sim:IMAGE` is a card path for every other command."""


@command.command("new")
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
def new(image: Path) -> Report:
    """Make a blank card; `chipcash card personalise` then makes it a card of a network."""
    if image.exists():
        raise SimError(
            f"{image} exists already. It may hold money, so nothing was done.",
            hint="Choose another name, or remove it yourself.",
        )
    with emulator.Card(image) as card:
        del card
    return Report({"image": str(image)}, [f"{image}: a blank card. Its path is sim:{image}"])


@command.command("clone")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("copy", type=click.Path(dir_okay=False, path_type=Path))
def clone(image: Path, copy: Path) -> Report:
    """Copy a card with its keys and its money, to attack with."""
    if copy.exists():
        raise SimError(f"{copy} exists already; nothing was done.", hint="Choose another name.")
    emulator.clone(image, copy)
    return Report({"image": str(copy)}, [f"{copy}: a clone of {image}"])


@command.command("run")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--runtime", type=_RUNTIME, default="micropython", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the virtual reader is.")
@click.option(
    "--port", type=int, default=35963, show_default=True, help="Its port (vpcd's default)."
)
@click.option("--contactless", is_flag=True, help="Behave as over the air: no PIN in clear.")
@click.option("--cut-write", type=int, help="Cut the power at this flash write (from 0).")
@click.option("--cut-before", type=int, default=0, help="Cut it before this APDU (from 1).")
@click.option("--cut-after", type=int, default=0, help="Cut it after this APDU, unanswered.")
def run(
    image: Path,
    runtime: str,
    host: str,
    port: int,
    contactless: bool,
    cut_write: int | None,
    cut_before: int,
    cut_after: int,
) -> Report:
    """Put a card into a running virtual reader (vpcd) until Ctrl-C, its removal or a power cut."""
    card = emulator.Card(
        image,
        runtime,
        contactless,
        cut_write=cut_write,
        cut_before=cut_before,
        cut_after=cut_after,
    )
    card.insert(port, host)
    time.sleep(0.3)
    if not card.alive and cut_write is None:
        raise SimError(
            f"No virtual reader answers at {host} port {port}.",
            hint="Start pcscd with vsmartcard-vpcd, or use `chipcash sim exec`.",
        )
    click.echo(f"{image} is in the reader ({runtime}). Ctrl-C takes it out.", err=True)
    try:
        while card.alive:
            time.sleep(0.1)
        reason = "power cut, or reader gone"
    except KeyboardInterrupt:
        reason = "removed"
    card.remove()
    return Report({"image": str(image), "ended": reason}, [f"{image}: {reason}"])


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.option(
    "--card",
    "images",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Image of a card to insert; repeat for more readers.",
)
@click.option("--runtime", type=_RUNTIME, default="micropython", show_default=True)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(images: tuple[Path, ...], runtime: str, program: tuple[str, ...]) -> Report:
    """Run a program beside a private PC/SC service with these cards inserted, one reader each.

    Example: chipcash sim exec --card a.img -- opensc-tool -l
    """
    reason = pcscd.available()
    if reason:
        raise SimError(f"A private PC/SC service cannot run here: {reason}", hint="chipcash doctor")
    inner = [sys.executable, "-m", "chipcash.cli.sim_exec", runtime, str(len(images))]
    inner += [str(image.absolute()) for image in images] + list(program)
    outer = [
        sys.executable,
        "-m",
        "chipcash_sim.pcscd",
        "--readers",
        str(len(images)),
        "--",
        *inner,
    ]
    process = subprocess.Popen(outer)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        code = process.wait()
    return Report({"program": list(program), "exit_code": code}, [], exit_code=code)


def inside(arguments: list[str]) -> int:
    """Inside the private PC/SC service: insert the cards, run the program, take the cards out."""
    runtime, count = arguments[0], int(arguments[1])
    images, program = arguments[2 : 2 + count], arguments[2 + count :]
    ports = [int(port) for port in os.environ["CHIPCASH_VPCD_PORTS"].split(",")]
    cards = [emulator.Card(image, runtime) for image in images]
    try:
        for card, port in zip(cards, ports, strict=False):
            card.insert(port)
        time.sleep(1.0)  # pcscd looks for cards every 400 ms
        return subprocess.run(program, check=False).returncode
    finally:
        for card in cards:
            card.remove()

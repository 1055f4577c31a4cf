# SPDX-License-Identifier: Apache-2.0
"""`chipcash demo`: the founding story with real parts, drawn step by step."""

from __future__ import annotations

import importlib.util
import tempfile
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from chipcash import demo, sandbox
from chipcash.cli.base import Command, Report, suite_option, yuan
from chipcash_sim import pcscd, runtime

_COLOURS = {
    "Bank of China": "cyan",
    "A": "green",
    "B": "yellow",
    "C": "magenta",
    "ICBC": "blue",
    "redeemed": "bright_black",
}
_INDENT = "    "
_WIDTH = 100
_LABEL = 16
_BAR = 60


@click.command("demo", cls=Command)
@suite_option
@click.option(
    "--link",
    type=click.Choice(["pcsc", "sim"]),
    help="How tills reach the card; without it pcsc where this machine can, else sim.",
)
@click.option(
    "--runtime",
    "wanted_runtime",
    type=click.Choice(["micropython", "cpython"]),
    help="What runs the card; without it MicroPython where it is installed.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="An empty directory to leave network, tills, cards and evidence in.",
)
def command(suite: str, link: str | None, wanted_runtime: str | None, keep: Path | None) -> Report:
    """Tell the founding story with real parts: issue, pay offline, tear, clone, settle, redeem."""
    as_json = click.get_current_context().meta["json"]
    notes = []
    if link is None:
        reason = no_pcsc()
        link = "sim" if reason else "pcsc"
        if reason:
            notes.append(f"Without a PC/SC stack: {reason} Cards are reached as sim: instead.")
    if wanted_runtime is None:
        try:
            runtime.compile_tree()
            wanted_runtime = "micropython"
        except runtime.RuntimeMissing as missing:
            wanted_runtime = "cpython"
            notes.append(f"Without MicroPython: {missing}. The card runs on CPython instead.")
    readers: Sequence[sandbox.Reader]
    if link == "pcsc":
        try:
            # Starts this program again, inside; from here on there is a pcscd of our own.
            session = pcscd.ensure_private_pcscd(demo.READERS)
        except pcscd.PcscdError as error:
            raise demo.DemoFailed(str(error), hint="Or use: chipcash demo --link sim") from None
        slots = zip(session.readers, session.ports, strict=True)
        readers = [sandbox.PcscReader(name, port) for name, port in slots]
    else:
        readers = [sandbox.SimReader() for _ in range(demo.READERS)]
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty.")
    for note in notes:
        click.echo(note, err=True)
    console = Console(highlight=False, soft_wrap=True)
    scenes = 0

    def tell(scene: demo.Scene) -> None:
        nonlocal scenes
        scenes += 1
        if not as_json:
            _draw(console, scenes, scene)

    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory() as directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        facts = demo.run(Path(directory), suite, wanted_runtime, readers, tell)
    failed = _failed(facts)
    lines = [f"The story is not as it must be: {what}." for what in failed]
    if keep:
        lines.append(
            f"Everything is in {keep}; look around with chipcash pos, center, card, evidence."
        )
    data = {**facts.as_dict(), "notes": notes}
    return Report(data, lines, exit_code=demo.DemoFailed.exit_code if failed else 0)


def no_pcsc() -> str | None:
    """Why cards cannot be behind a real PC/SC stack here; None if they can."""
    if importlib.util.find_spec("smartcard") is None:
        return "pyscard is not installed (pip install chipcash[pcsc])."
    return pcscd.available()


def _failed(facts: demo.Facts) -> list[str]:
    """What the story had to show and did not."""
    must = {
        "pending money was not refused": facts.pending_spend_refused,
        "the retry brought other bytes": facts.torn_retry_same_bytes,
        "the torn payment was paid twice": facts.torn_paid_once,
        "the evidence does not verify": facts.evidence_verifies,
        "the clone was not refused": facts.clone_refused,
        "the accounts do not balance": facts.issued_fen == facts.accounted_fen,
    }
    return [what for what, holds in must.items() if not holds]


def _draw(console: Console, number: int, scene: demo.Scene) -> None:
    console.print(Text(f"{number:2}  {scene.title}", style="bold"))
    width = min(console.width, _WIDTH) - len(_INDENT)
    for line in textwrap.wrap(scene.text, width):
        console.print(_INDENT + line, markup=False)
    for bar in scene.bars:
        row = Text(f"{_INDENT}{bar.view:>{_LABEL}} ")
        at = 0
        for span in bar.spans:
            lo = span.lo * _BAR // scene.amount
            hi = span.hi * _BAR // scene.amount
            row.append(" " * (lo - at))
            label = f" {span.who} {yuan(span.hi - span.lo)} "
            row.append(f"├{label:─^{max(hi - lo - 2, 0)}}┤", style=_COLOURS.get(span.who, ""))
            at = max(hi, lo + len(label) + 2)
        console.print(row)
    console.print()

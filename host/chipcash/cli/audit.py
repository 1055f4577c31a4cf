# SPDX-License-Identifier: Apache-2.0
"""`chipcash audit`: replay the center's log, and prove that no money was made, lost or paid twice in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from chipcash import files
from chipcash.cli.base import Command, Report, network_option, progress, table, when, yuan
from chipcash.cli.logs import log_options, reader_of
from chipcash.log.audit import Replay, audit
from chipcash.log.note import Checkpoint, Key, open_checkpoint
from chipcash.log.scope import scope_of
from chipcash.trust import Trust


@click.command("audit", cls=Command)
@log_options
@network_option
@click.option(
    "--checkpoint",
    "kept",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the checkpoint is kept from one audit to the next: the log must continue it.",
)
def command(
    location: str,
    network_file: Path,
    log: Key,
    entries: str | None,
    witnesses: tuple[Key, ...],
    quorum: int | None,
    kept: Path | None,
) -> Report:
    """Replay the log at LOG, a folder or a URL, from its first entry, trusting nobody's database.

    Proves that it is signed and cosigned, continues what the last audit saw, and that in it every coin was
    issued once, every title and payment is ordered by its owner's signature, each fen was moved once, and
    repeat payment is told with its evidence.
    """
    trust = Trust.load(network_file)
    reader = reader_of(location, log, entries, witnesses, quorum)
    note = reader.fetch()
    checkpoint, cosigned = reader.verify(note)
    before = _before(kept, log)
    if before is not None:
        reader.continues(before, checkpoint)
    scope = scope_of(checkpoint.origin)
    with Replay(trust, scope) as replay, progress(f"Replaying {checkpoint.size} entries"):
        totals = audit(reader, checkpoint, replay)
    if kept is not None:
        files.replace(kept, note, 0o644)
    data = {
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "cosigned": [{"witness": x.key.name, "time": x.time} for x in cosigned],
        "continues": None if before is None else before.size,
        **asdict(totals),
    }
    lines = [f"The log {checkpoint.origin} of {checkpoint.size} entries is in order."]
    lines += [f"Cosigned by {x.key.name}, {when(x.time)}" for x in cosigned]
    if not cosigned:
        lines.append("No witness was asked for: another log may have been shown to somebody else.")
    if before is not None:
        lines.append(f"It continues the {before.size} entries of the last audit.")
    lines += table(
        [
            ("coins", str(totals.coins)),
            ("payments", str(totals.claims)),
            ("repeat payments", str(totals.evidence)),
            ("issued", f"{yuan(totals.issued_fen)} yuan"),
            ("live", f"{yuan(totals.live_fen)} yuan"),
            ("redeemed", f"{yuan(totals.redeemed_fen)} yuan"),
        ]
    )
    return Report(data, lines)


def _before(kept: Path | None, log: Key) -> Checkpoint | None:
    """The checkpoint of the last audit, if there was one."""
    if kept is None or not kept.exists():
        return None
    return open_checkpoint(kept.read_bytes(), log)[0]

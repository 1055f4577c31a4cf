# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos hook`: programs that a till tells of its payments (docs/embedding.md)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from chipcash.cli.base import EXIT_FAILED, Group, Report, progress
from chipcash.cli.till import pos_option
from chipcash.pos import Pos

_URL = click.argument("url")
_NUMBER = click.argument("number", type=click.IntRange(min=1))


@click.group("hook", cls=Group)
def command() -> None:
    """Webhooks: programs that this till tells of each change of a payment's state.

    They are told by `chipcash pos run` and `chipcash pos api`, each change until it was taken. Requests are
    signed by the Standard Webhooks specification.
    """


@command.command("add")
@_URL
@pos_option
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who certifies it: PEM; else whom the system trusts.",
)
@click.option("--from-start", is_flag=True, help="Tell it also what has happened so far.")
def add(url: str, directory: Path, ca: Path | None, from_start: bool) -> Report:
    """Tell URL of changes: https, or http on this machine. Prints the secret, once, with which it checks that
    they come from this till."""
    from chipcash.pos.hooks import add_hook

    with Pos(directory) as pos:
        hook, secret = add_hook(pos, url, ca=ca, from_start=from_start)
    lines = [
        f"Webhook {hook.number} is told of changes from now on.",
        f"Its secret, which is not shown again: {secret}",
    ]
    if from_start:
        lines[0] = f"Webhook {hook.number} is told of changes, {hook.waiting} that were before too."
    return Report({**asdict(hook), "secret": secret}, lines)


@command.command("list")
@pos_option
def list_hooks(directory: Path) -> Report:
    """Which there are, and how far each is."""
    from chipcash.pos.hooks import hooks

    with Pos(directory) as pos:
        found = hooks(pos)
    lines = []
    for hook in found:
        state = f"{hook.waiting} waiting" if hook.waiting else "all taken"
        if hook.gone:
            state = f"asked for no more; {state}"
        elif hook.error:
            state += f"; {hook.error}, {hook.tries} times"
        lines.append(f"{hook.number}  {hook.url}  {state}")
    return Report({"hooks": [asdict(hook) for hook in found]}, lines or ["No webhooks."])


@command.command("remove")
@_NUMBER
@pos_option
def remove(number: int, directory: Path) -> Report:
    """Tell webhook NUMBER nothing more, and forget its secret."""
    from chipcash.pos.hooks import remove_hook

    with Pos(directory) as pos:
        remove_hook(pos, number)
    return Report({"removed": number}, [f"Webhook {number} is removed."])


@command.command("send")
@pos_option
def send(directory: Path) -> Report:
    """Tell all of them now what they have not taken, once each: exit code 1 if something is left.

    For a till without a process that runs on: while there is one, it tells them, and this is refused.
    """
    from chipcash.pos.hooks import hooks
    from chipcash.pos.hooks import send as send_all

    with Pos(directory) as pos:
        with progress("Telling the webhooks"):
            send_all(pos)
        found = hooks(pos)
    left = sum(hook.waiting for hook in found if not hook.gone)
    lines = [f"{hook.number}  {hook.url}  {hook.error or 'all taken'}" for hook in found]
    return Report(
        {"hooks": [asdict(hook) for hook in found], "waiting": left},
        lines or ["No webhooks."],
        exit_code=EXIT_FAILED if left else 0,
    )

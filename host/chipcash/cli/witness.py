# SPDX-License-Identifier: Apache-2.0
"""`chipcash witness`: cosign the center's log, so that it has one history for everybody."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from chipcash.cli.base import Group, Report, listen_options, show, until_ended
from chipcash.cli.logs import LOG_KEY
from chipcash.log.note import COSIGNATURE, Key, SigningKey
from chipcash.log.witness import State, Witness, WitnessService

key_option = click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with the witness's private key.",
)
state_option = click.option(
    "--state",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with what the witness remembers: back it up, never go back to an old one.",
)


@click.group("witness", cls=Group)
def command() -> None:
    """A witness: cosigns the center's log as long as it only grows."""


@command.command("init")
@click.option(
    "--name",
    required=True,
    help="What to be known by: like a URL without https://, such as bank.example/witness.",
)
@key_option
@state_option
def init(name: str, key_file: Path, state: Path) -> Report:
    """Make a witness: its key, and an empty memory. Prints the key string to give to others."""
    key = SigningKey.generate(name, COSIGNATURE)
    # The memory first: a key with no memory beside it must not come about.
    State.create(state)
    try:
        key.save(key_file)
    except BaseException:
        state.unlink()
        raise
    return Report(
        {"name": name, "key": str(key.key), "key_file": str(key_file), "state": str(state)},
        [str(key.key), f"Give this line to others; keep {key_file} and {state} to yourself."],
    )


@command.command("serve")
@click.option(
    "--log",
    "logs",
    type=LOG_KEY,
    multiple=True,
    required=True,
    metavar="KEY",
    help="Key string of a log to cosign, or a file that holds it; may come several times.",
)
@key_option
@state_option
@listen_options(8710)
def serve(logs: tuple[Key, ...], key_file: Path, state: Path, host: str, port: int) -> None:
    """Run the witness until Ctrl-C. Prints its URL once it answers; a fork of a log is told on stderr."""
    key = SigningKey.load(key_file, COSIGNATURE)
    with until_ended(), closing(State(state)) as memory:
        service = WitnessService(Witness(key, logs, memory), host, port)
        names = [log.name for log in logs]
        show(
            Report(
                {"url": service.url, "key": str(key.key), "logs": names},
                [f"The witness {key.key.name} is at {service.url}", *names],
            )
        )
        service.run()

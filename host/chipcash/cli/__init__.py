# SPDX-License-Identifier: Apache-2.0
"""The command line, over all of the toolkit. Only it prints, prompts and exits."""

from __future__ import annotations

import sys
import traceback

import click

from chipcash import __version__
from chipcash.cli.base import Group, start_logging


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Shell completion: eval "$(_CHIPCASH_COMPLETE=bash_source chipcash)" (or zsh_source, fish_source).',
)
@click.version_option(__version__, prog_name="chipcash")
@click.option("-v", "--verbose", count=True, help="Say more; -vvv shows the bytes on the link.")
def root(verbose: int) -> None:
    """Dual-offline digital cash: cards, tills and the registration center."""
    start_logging(verbose)


def main() -> None:
    """Entry point of `chipcash`: no traceback reaches a user unless asked for with -vv."""
    from chipcash.cli import bank, card, center, demo, doctor, evidence, pos, sim

    for module in (bank, card, center, demo, doctor, evidence, pos, sim):
        root.add_command(module.command)
    try:
        root(prog_name="chipcash")
    except Exception as error:  # the last resort: what nobody foresaw
        if any(argument.startswith("-vv") for argument in sys.argv):
            traceback.print_exc()
        click.echo(f"Error: chipcash has a fault: {type(error).__name__}: {error}", err=True)
        click.echo(
            "  What was stored before is safe; ask again to see whether it happened. "
            "Please report it with the output of the same command after `chipcash -vv`.",
            err=True,
        )
        sys.exit(70)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The command line, over all of the toolkit. Only it prints, prompts and exits."""

from __future__ import annotations

import io
import sys
import types

import click

from chipcash import __version__
from chipcash.cli.base import Root, start_logging

# httpx has a command line of its own, for which it would import rich and pygments: as long as all its rest.
sys.modules.setdefault("httpx._main", types.ModuleType("httpx._main"))

COMMANDS = (
    "audit",
    "bank",
    "board",
    "card",
    "center",
    "demo",
    "doctor",
    "evidence",
    "pos",
    "selftest",
    "sim",
    "site",
    "trace",
    "witness",
)
"""Modules of this package with a command, or a group of commands, of that name."""


@click.group(
    cls=Root,
    modules=(__name__, COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Completion: eval "$(_CHIPCASH_COMPLETE=bash_source chipcash)"; or zsh_source, fish_source.',
)
@click.version_option(__version__, prog_name="chipcash")
@click.option("-v", "--verbose", count=True, help="Say more; -vvv shows the bytes on the link.")
def root(verbose: int) -> None:
    """Dual-offline digital cash: cards, tills and the registration center."""
    start_logging(verbose)


def main() -> None:
    """Entry point of `chipcash`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a locale, or a strange file name, cannot express must not end a command.
            stream.reconfigure(errors="backslashreplace")
    root(prog_name="chipcash")


if __name__ == "__main__":
    main()

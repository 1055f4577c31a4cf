# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md names every command and every exit code, and nothing that is not there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import click

import chipcash
from chipcash.cli import root
from chipcash.errors import ChipcashError

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def errors(kind: type[ChipcashError] = ChipcashError) -> set[type[ChipcashError]]:
    """This class of errors and all below it."""
    return {kind}.union(*(errors(each) for each in kind.__subclasses__()))


def commands() -> dict[str, click.Command]:
    """Every command that does something, by its words."""
    found = {}
    context = click.Context(root)
    left = [(name, root.get_command(context, name)) for name in root.list_commands(context)]
    while left:
        name, command = left.pop()
        assert command is not None
        if isinstance(command, click.Group):
            left += [(f"{name} {sub}", each) for sub, each in command.commands.items()]
        else:
            found[name] = command
    return found


def test_exit_codes() -> None:
    for module in pkgutil.walk_packages(chipcash.__path__, "chipcash."):
        if module.name.rpartition(".")[2] not in (
            "__main__",
            "env",
            "sim_exec",
        ):  # alembic runs env
            importlib.import_module(module.name)
    told = {
        name: int(code)
        for code, names in re.findall(r"^\| (\d+) \| ([\w, ]*) \| .+ \|$", TEXT, re.MULTILINE)
        for name in names.split(", ")
        if name
    }
    assert told == {kind.__name__: kind.exit_code for kind in errors()}


def test_commands() -> None:
    told = set()
    for group, rest in re.findall(r"^\| `chipcash ([\w ]+)` \| (.*) \|$", TEXT, re.MULTILINE):
        names = re.findall(r"`([\w-]+)`", rest)
        told |= {f"{group} {name}" for name in names} or {group}
    assert told == set(commands())


def test_every_command_has_json_and_a_help_that_says_what_it_does() -> None:
    for words, command in commands().items():
        assert "as_json" in {param.name for param in command.params}, words
        assert command.help, words
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, (words, param.name)


def test_variables() -> None:
    used = {
        str(param.envvar)
        for command in commands().values()
        for param in command.params
        if param.envvar
    }
    assert used == set(re.findall(r"^\| `(CHIPCASH_\w+)` \|", TEXT, re.MULTILINE))

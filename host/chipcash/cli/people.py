# SPDX-License-Identifier: Apache-2.0
"""Commands that keep the accounts of staff: of a center's (`center staff`), of a till's (`pos staff`)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from chipcash.cli.base import Group, Report, progress, when
from chipcash.people.accounts import Rules, Staff
from chipcash.people.trail import Entry, Head

__all__ = ["account_commands"]

_PASSWORD = "CHIPCASH_STAFF_PASSWORD"


def account_commands(
    group: Group,
    rules: Rules,
    where: Callable[[Any], Any],
    book: Callable[[Path], Path],
) -> None:
    """Add to a group the commands for accounts and their record.

    rules: of the accounts; where: the option that says in which `directory`; book: the file of accounts of
    such a directory.
    """
    role_option = click.option(
        "--role",
        type=click.Choice(list(rules.roles)),
        required=True,
        help="What the account may do; it has one role.",
    )

    def staff_at(directory: Path, create: bool = False) -> Staff:
        return Staff(book(directory), rules, create=create)

    @group.command("add")
    @click.argument("name")
    @role_option
    @where
    def add(name: str, role: str, directory: Path) -> Report:
        """Make an account with a first password or PIN, which NAME has to change."""
        password = _ask_password(name, role, rules)
        with closing(staff_at(directory, create=True)) as staff:
            staff.add(name, role, password, operator())
        return Report({"name": name, "role": role}, [f"{name} may log in, as {role}."])

    @group.command("remove")
    @click.argument("name")
    @where
    def remove(name: str, directory: Path) -> Report:
        """Remove an account at once. Its name is not given again."""
        with closing(staff_at(directory)) as staff:
            staff.remove(name, operator())
        return Report({"name": name}, [f"{name} has no account any more."])

    @group.command("role")
    @click.argument("name")
    @role_option
    @where
    def role(name: str, role: str, directory: Path) -> Report:
        """Give an account another role; it has to log in again."""
        with closing(staff_at(directory)) as staff:
            first = None
            if staff.needs_password(name, role):
                first = _ask_password(name, role, rules)
            staff.set_role(name, role, operator(), first)
        return Report({"name": name, "role": role}, [f"{name} is {role} now."])

    @group.command("password")
    @click.argument("name")
    @where
    def password(name: str, directory: Path) -> Report:
        """Give an account a new first password, and end its sessions."""
        with closing(staff_at(directory)) as staff:
            new = _ask_password(name, staff.account(name).role, rules)
            staff.set_password(name, new, operator())
        return Report({"name": name}, [f"{name} may log in with the new password."])

    @group.command("list")
    @where
    def list_accounts(directory: Path) -> Report:
        """Who has an account, and its role."""
        with closing(staff_at(directory)) as staff:
            found = staff.all()
        lines = [
            f"{each.name:<20} {each.role:<10} since {when(each.made)}"
            + (", first password not changed yet" if each.temporary else "")
            for each in found
        ]
        return Report({"accounts": [asdict(each) for each in found]}, lines or ["There are none."])

    @group.command("audit")
    @click.option(
        "--head",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Keep how far the record goes in this file, and prove that it still goes through what"
        " that says.",
    )
    @click.option(
        "--last",
        type=click.IntRange(0),
        default=20,
        show_default=True,
        help="How many of the newest entries to print.",
    )
    @where
    def audit(file: Path | None, last: int, directory: Path) -> Report:
        """Verify the record of what staff did, and print its end."""
        noted = Head.load(file) if file is not None and file.exists() else None
        with (
            closing(staff_at(directory)) as staff,
            progress("Verifying the record of staff"),
        ):
            head = staff.trail.verify(noted)
            entries = staff.trail.page(head.number + 1, last)[::-1] if last else []
        if file is not None:
            head.save(file)
        lines = [entry_line(entry) for entry in entries]
        lines.append(f"{head.number} entries, none missing or changed; head {head.hash.hex()}")
        if noted is not None:
            lines.append(f"They go through entry {noted.number}, as it was noted in {file}.")
        return Report(
            {
                "verified": True,
                "number": head.number,
                "hash": head.hash.hex(),
                "noted": None if noted is None else noted.number,
                "entries": [asdict(entry) for entry in entries],
            },
            lines,
        )


def _ask_password(name: str, role: str, rules: Rules) -> str:
    """A first password or PIN from the terminal, unseen and twice, or for scripts from the environment."""
    found = os.environ.get(_PASSWORD)
    if found is None:
        kind = "PIN" if role in rules.pins else "password"
        question = f"First {kind} for {name}"
        found = str(click.prompt(question, hide_input=True, err=True, confirmation_prompt=True))
    return found


def entry_line(entry: Entry) -> str:
    words = (entry.role, entry.address, entry.action, entry.subject, entry.outcome, entry.note)
    said = " ".join(word for word in words if word)
    return f"{entry.number:>6}  {when(entry.time)}  {entry.who or 'unknown'} {said}"


def operator() -> str:
    """Who runs the command, for the record."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"os:{name}"

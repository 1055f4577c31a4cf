# SPDX-License-Identifier: Apache-2.0
"""`chipcash center staff`: accounts for the center's staff, their pages, the record of what they did."""

from __future__ import annotations

import os
import pwd
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from chipcash.center.staff.accounts import Staff
from chipcash.center.staff.roles import ROLES
from chipcash.center.staff.trail import Entry, Head
from chipcash.cli.base import (
    Group,
    Report,
    center_at,
    center_option,
    home_option,
    listen_options,
    progress,
    server_tls,
    show,
    tls_options,
    until_ended,
    when,
)
from chipcash.cli.partitions import staff_parts
from chipcash.home import Home

_PASSWORD = "CHIPCASH_STAFF_PASSWORD"
_HEALTH_S = 3.0
"""How long the page of the center's health waits for it."""

role_option = click.option(
    "--role",
    type=click.Choice(list(ROLES)),
    required=True,
    help="What the account may do; it has one role.",
)


@click.group("staff", cls=Group)
def command() -> None:
    """The center's staff: their accounts, their pages, the record of what they did."""


@command.command("serve")
@home_option
@listen_options(8720)
@tls_options
@center_option
def serve(
    directory: Path, host: str, port: int, tls_cert: Path | None, tls_key: Path | None, url: str
) -> None:
    """Run the staff's pages until Ctrl-C. Prints their URL once they answer."""
    from chipcash.center.staff.health import health
    from chipcash.center.staff.service import Service
    from chipcash.center.staff.site import Center

    tls = server_tls(tls_cert, tls_key)
    home = Home(directory)
    trust = home.trust()

    def block(key: bytes) -> None:
        # The center's key is read for this, and forgotten after it.
        with closing(home.center()) as center:
            center.block(key)

    with (
        until_ended(),
        closing(Staff(home.staff_file)) as staff,
        closing(home.inquiry()) as inquiry,
        center_at(url, trust, timeout=_HEALTH_S) as client,
    ):
        parts = staff_parts(inquiry)
        center = Center(inquiry, trust, block, lambda: health(inquiry, client.metrics, parts))
        service = Service(center, staff, host, port, tls=tls)
        show(Report({"url": service.url}, [f"The staff's pages are at {service.url}"]))
        service.run()


@command.command("add")
@click.argument("name")
@role_option
@home_option
def add(name: str, role: str, directory: Path) -> Report:
    """Make an account with a first password, which NAME has to change."""
    password = _ask_password(f"First password for {name}")
    with closing(Staff(Home(directory).staff_file, create=True)) as staff:
        staff.add(name, role, password, _operator())
    return Report({"name": name, "role": role}, [f"{name} may log in, as {role}."])


@command.command("remove")
@click.argument("name")
@home_option
def remove(name: str, directory: Path) -> Report:
    """Remove an account at once. Its name is not given again."""
    with closing(Staff(Home(directory).staff_file)) as staff:
        staff.remove(name, _operator())
    return Report({"name": name}, [f"{name} has no account any more."])


@command.command("role")
@click.argument("name")
@role_option
@home_option
def role(name: str, role: str, directory: Path) -> Report:
    """Give an account another role; it has to log in again."""
    with closing(Staff(Home(directory).staff_file)) as staff:
        staff.set_role(name, role, _operator())
    return Report({"name": name, "role": role}, [f"{name} is {role} now."])


@command.command("password")
@click.argument("name")
@home_option
def password(name: str, directory: Path) -> Report:
    """Give an account a new first password, and end its sessions."""
    new = _ask_password(f"First password for {name}")
    with closing(Staff(Home(directory).staff_file)) as staff:
        staff.set_password(name, new, _operator())
    return Report({"name": name}, [f"{name} may log in with the new password."])


@command.command("list")
@home_option
def list_accounts(directory: Path) -> Report:
    """Who has an account, and its role."""
    with closing(Staff(Home(directory).staff_file)) as staff:
        found = staff.all()
    lines = [
        f"{each.name:<20} {each.role:<10} since {when(each.made)}"
        + (", first password not changed yet" if each.temporary else "")
        for each in found
    ]
    return Report({"accounts": [asdict(each) for each in found]}, lines or ["There are none."])


@command.command("audit")
@click.option(
    "--head",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep how far the record goes in this file, and prove that it still goes through what that says.",
)
@click.option(
    "--last",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many of the newest entries to print.",
)
@home_option
def audit(file: Path | None, last: int, directory: Path) -> Report:
    """Verify the record of what staff did, and print its end."""
    noted = Head.load(file) if file is not None and file.exists() else None
    with (
        closing(Staff(Home(directory).staff_file)) as staff,
        progress("Verifying the record of staff"),
    ):
        head = staff.trail.verify(noted)
        entries = staff.trail.page(head.number + 1, last)[::-1] if last else []
    if file is not None:
        head.save(file)
    lines = [_line(entry) for entry in entries]
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


def _line(entry: Entry) -> str:
    words = (entry.role, entry.address, entry.action, entry.subject, entry.outcome, entry.note)
    said = " ".join(word for word in words if word)
    return f"{entry.number:>6}  {when(entry.time)}  {entry.who or 'unknown'} {said}"


def _ask_password(what: str) -> str:
    """A password from the terminal, unseen and twice, or for scripts from the environment."""
    found = os.environ.get(_PASSWORD)
    if found is None:
        found = str(click.prompt(what, hide_input=True, err=True, confirmation_prompt=True))
    return found


def _operator() -> str:
    """Who runs the command, for the record."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"os:{name}"

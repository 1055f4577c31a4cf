# SPDX-License-Identifier: Apache-2.0
"""`chipcash center staff`: accounts for the center's staff, their pages, the record of what they did."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from chipcash.center.staff.roles import RULES
from chipcash.cli.base import (
    Group,
    Report,
    center_at,
    center_option,
    home_option,
    listen_options,
    names_option,
    page_names,
    server_tls,
    show,
    tls_options,
    until_ended,
)
from chipcash.cli.partitions import staff_parts
from chipcash.cli.people import account_commands
from chipcash.home import Home
from chipcash.people.accounts import Staff

_HEALTH_S = 3.0
"""How long the page of the center's health waits for it."""


@click.group("staff", cls=Group)
def command() -> None:
    """The center's staff: their accounts, their pages, the record of what they did."""


@command.command("serve")
@home_option
@listen_options(8720)
@tls_options
@names_option
@center_option
def serve(
    directory: Path,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    names: tuple[str, ...],
    url: str,
) -> None:
    """Run the staff's pages until Ctrl-C. Prints their URL once they answer."""
    from chipcash.center.staff.health import health
    from chipcash.center.staff.service import Service
    from chipcash.center.staff.site import Center

    tls = server_tls(tls_cert, tls_key)
    known = page_names(names, tls_cert)
    home = Home(directory)
    trust = home.trust()

    def block(key: bytes) -> None:
        # The center's key is read for this, and forgotten after it.
        with closing(home.center()) as center:
            center.block(key)

    with (
        until_ended(),
        closing(Staff(home.staff_file, RULES)) as staff,
        closing(home.inquiry()) as inquiry,
        center_at(url, trust, timeout=_HEALTH_S) as client,
    ):
        parts = staff_parts(inquiry)
        center = Center(inquiry, trust, block, lambda: health(inquiry, client.metrics, parts))
        service = Service(center, staff, host, port, tls=tls, names=known)
        show(Report({"url": service.url}, [f"The staff's pages are at {service.url}"]))
        service.run()


account_commands(command, RULES, home_option, lambda directory: Home(directory).staff_file)

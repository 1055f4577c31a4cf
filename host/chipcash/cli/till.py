# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos run` and `chipcash pos staff`: a till that works, its page, and who works at it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chipcash.cli.base import (
    Command,
    Group,
    Report,
    center_of_options,
    center_tls_options,
    listen_options,
    names_option,
    page_names,
    server_tls,
    show,
    tls_options,
    until_ended,
)
from chipcash.cli.people import account_commands
from chipcash.logs import log_to
from chipcash.people.accounts import Staff
from chipcash.pos.page.roles import RULES, staff_file

if TYPE_CHECKING:
    from chipcash.center.client import CenterClient
    from chipcash.pos import Pos

__all__ = [
    "PATIENCE_S",
    "log_option",
    "operator_option",
    "other_center_option",
    "pos_option",
    "readers_option",
    "run",
    "staff",
]

PATIENCE_S = 15.0
"""How long the till waits for an answer of the center, seconds."""

pos_option = click.option(
    "--pos",
    "directory",
    envvar="CHIPCASH_POS",
    show_envvar=True,
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The till's directory.",
)


def _operator(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A name as the API takes it too: it has to fit into a report's line, and into its file."""
    if len(value) > 64 or any(unicodedata.category(each) in ("Cc", "Cs") for each in value):
        raise click.BadParameter("a name has at most 64 characters, all printable.", ctx, param)
    return value


operator_option = click.option(
    "--operator",
    callback=_operator,
    envvar="CHIPCASH_OPERATOR",
    show_envvar=True,
    default="",
    metavar="NAME",
    help="Who does it, for the books.",
)


def other_center_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options for a center that is not where the till was made for, and how it is spoken to."""
    return click.option(
        "--center",
        "url",
        metavar="URL",
        help="Another center URL than the one the till was made with.",
    )(center_tls_options(function))


readers_option = click.option(
    "--reader",
    "readers",
    multiple=True,
    metavar="PATH",
    help="Where cards are tapped; may be given several times. By default the first reader of PC/SC.",
)
log_option = click.option(
    "--log",
    "log_file",
    metavar="FILE",
    help="Write a line of JSON for each event; - is stderr. No keys, ids or persons.",
)


@click.command("run", cls=Command)
@pos_option
@readers_option
@other_center_option
@click.option(
    "--idle",
    type=click.IntRange(1, 24 * 60),
    default=RULES.idle_s // 60,
    show_default=True,
    metavar="MINUTES",
    help="After how long without a request somebody has to log in again.",
)
@listen_options(8740)
@tls_options
@names_option
@click.option(
    "--api-port",
    type=click.IntRange(0, 65535),
    help="Have `chipcash pos api` at this port too, with the token in api.token of the till.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Give Prometheus its numbers at this port, on this machine only; 0 takes a free one.",
)
@log_option
def run(
    directory: Path,
    readers: tuple[str, ...],
    url: str | None,
    idle: int,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    names: tuple[str, ...],
    api_port: int | None,
    metrics_port: int | None,
    log_file: str | None,
) -> None:
    """Run the till until Ctrl-C: readers, queue, synchronising, and its page. Prints the page's URL.

    The page takes the accounts of `chipcash pos staff`. It listens on this machine only, unless it has a
    certificate.
    """
    from chipcash.pos import api
    from chipcash.pos.hooks import Deliveries
    from chipcash.pos.metrics import metrics_served
    from chipcash.pos.page.service import Service
    from chipcash.pos.till import Till

    tls = server_tls(tls_cert, tls_key)
    known = page_names(names, tls_cert)
    if log_file is not None:
        log_to(log_file)
    reach = center_of_options(PATIENCE_S)

    def center(pos: Pos) -> CenterClient:
        return reach(url or pos.center_url, pos.trust)

    rules = replace(RULES, idle_s=60 * idle)
    with (
        until_ended(),
        closing(Staff(staff_file(directory), rules)) as accounts,
        Till(directory, readers or ("pcsc:",), center) as till,
        Deliveries(directory, clock=till.clock),
        ExitStack() as faces,
    ):
        service = Service(till, accounts, center, host, port, tls=tls, names=known)
        data, lines = {"url": service.url}, [f"The till's page is at {service.url}"]
        if api_port is not None:
            token = api.load_token(directory / api.TOKEN_FILE)
            face = api.Service(till, center, token, host, api_port, tls=tls)
            data["api"] = faces.enter_context(face).url
            lines.append(f"For other programs it is at {face.url}")
        if metrics_port is not None:
            data["metrics"] = faces.enter_context(metrics_served(till, metrics_port))
            lines.append(f"Its numbers are at {data['metrics']}")
        show(Report(data, lines))
        service.run()


@click.group("staff", cls=Group)
def staff() -> None:
    """Who works at the till: their accounts, the record of what they did.

    A cashier charges, and logs in with a PIN of 6 digits or more; a manager also refunds, and logs in with a
    password.
    """


account_commands(staff, RULES, pos_option, staff_file)

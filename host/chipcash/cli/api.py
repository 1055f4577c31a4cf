# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos api`: the till over HTTP, for tills written in other languages (docs/embedding.md)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import click

from chipcash.cli.base import (
    Command,
    Report,
    listen_options,
    server_tls,
    show,
    tls_options,
    until_ended,
)
from chipcash.cli.till import pos_option
from chipcash.pos import CenterService, Pos

TOKEN_FILE = "api.token"


@click.command("api", cls=Command)
@click.argument("readers", nargs=-1, metavar="[READER]...")
@pos_option
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The token that clients show, made if it is not there; by default {TOKEN_FILE} of the till.",
)
@listen_options(8750)
@tls_options
def api(
    readers: tuple[str, ...],
    directory: Path,
    token_file: Path | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Run the till for other programs, over HTTP, until Ctrl-C: charge, wait for the tap, get the result.

    READER: paths of readers, as of cards, by default pcsc:. It synchronises by itself, and tells the
    webhooks. Prints its URL, at which /openapi.json describes it, and where the token is.
    """
    from chipcash.center.client import CenterClient
    from chipcash.pos.api import Service, load_token
    from chipcash.pos.hooks import Deliveries
    from chipcash.pos.till import Till

    tls = server_tls(tls_cert, tls_key)
    with Pos(directory):  # is it one?
        path = token_file or directory / TOKEN_FILE
        token = load_token(path)

    def center(pos: Pos) -> AbstractContextManager[CenterService]:
        return CenterClient(pos.center_url, pos.trust)

    with (
        until_ended(),
        Till(directory, readers or ("pcsc:",), center) as till,
        Deliveries(directory, clock=till.clock),
    ):
        service = Service(till, center, token, host, port, tls=tls)
        show(
            Report(
                {"url": service.url, "token_file": str(path)},
                [f"The till is at {service.url}; clients show the token in {path}."],
            )
        )
        service.run()

# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos api`: the till over HTTP, for tills written in other languages (docs/embedding.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chipcash.cli.base import (
    Command,
    Report,
    center_of_options,
    listen_options,
    server_tls,
    show,
    tls_options,
    until_ended,
)
from chipcash.cli.till import (
    PATIENCE_S,
    log_option,
    other_center_option,
    pos_option,
    readers_option,
)
from chipcash.logs import log_to

if TYPE_CHECKING:
    from chipcash.center.client import CenterClient
    from chipcash.pos import Pos


@click.command("api", cls=Command)
@pos_option
@readers_option
@other_center_option
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The token that clients show, made if it is not there; by default api.token of the till.",
)
@listen_options(8750)
@tls_options
@log_option
def api(
    directory: Path,
    readers: tuple[str, ...],
    url: str | None,
    token_file: Path | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    log_file: str | None,
) -> None:
    """Run the till for other programs, over HTTP, until Ctrl-C: charge, wait for the tap, get the result.

    It synchronises by itself, and tells the webhooks. Prints its URL, at which /openapi.json describes it,
    and where the token is. `chipcash pos run --api-port` has the same beside the till's page.
    """
    from chipcash.pos.api import TOKEN_FILE, Service, load_token
    from chipcash.pos.hooks import Deliveries
    from chipcash.pos.till import Till

    tls = server_tls(tls_cert, tls_key)
    if log_file is not None:
        log_to(log_file)
    reach = center_of_options(PATIENCE_S)

    def center(pos: Pos) -> CenterClient:
        return reach(url or pos.center_url, pos.trust)

    with (
        until_ended(),
        Till(directory, readers or ("pcsc:",), center) as till,
        Deliveries(directory, clock=till.clock),
    ):
        path = token_file or directory / TOKEN_FILE
        service = Service(till, center, load_token(path), host, port, tls=tls)
        lines = [f"The till is at {service.url}; clients show the token in {path}."]
        show(Report({"url": service.url, "token_file": str(path)}, lines))
        service.run()

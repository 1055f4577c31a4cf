# SPDX-License-Identifier: Apache-2.0
"""`chipcash site`: pages on which anybody checks a title, receipt or evidence, made from the center's log."""

from __future__ import annotations

from pathlib import Path

import click

from chipcash import files
from chipcash.cli.base import (
    Group,
    Report,
    listen_options,
    network_option,
    progress,
    show,
    until_ended,
    when,
)
from chipcash.cli.logs import (
    WITNESS_KEY,
    log_options,
    reader_of,
)
from chipcash.log.note import COSIGNATURE, Key, SigningKey
from chipcash.log.reader import source_at
from chipcash.log.scope import scope_of
from chipcash.site.building import build as build_site
from chipcash.site.building import confirm as confirm_site
from chipcash.site.serving import SiteService
from chipcash.trust import Trust


@click.group("site", cls=Group)
def command() -> None:
    """The verification site: who holds a title, receipt or evidence checks it in a browser."""


@command.command("build")
@log_options
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@network_option
@click.option(
    "--auditor",
    "auditors",
    type=WITNESS_KEY,
    multiple=True,
    metavar="KEY",
    help="Key string of an auditor who confirms the records; may come several times.",
)
def build(
    location: str,
    folder: Path,
    network_file: Path,
    log: Key,
    entries: str | None,
    witnesses: tuple[Key, ...],
    quorum: int | None,
    auditors: tuple[Key, ...],
) -> Report:
    """Audit the log at LOG, a folder or a URL, and write the site of it into FOLDER, or bring it up to date.

    Any static web server can serve FOLDER; nothing in it is secret. Repeat it as often as the site is to
    learn what happened since. Of a center of several ledgers, build each log into the same FOLDER.
    """
    reader = reader_of(location, log, entries, witnesses, quorum)
    with progress("Replaying the log"):
        site = build_site(folder, reader, Trust.load(network_file), auditors=auditors)
    data = {
        "folder": str(folder),
        "size": site.checkpoint.size,
        "root": site.checkpoint.root.hex(),
        "cosigned": [{"witness": x.key.name, "time": x.time} for x in site.cosigned],
        "records": site.index.count,
        "records_root": site.index.root.hex(),
    }
    lines = [
        f"{folder} is the site of {site.checkpoint.origin} with {site.checkpoint.size} entries.",
        f"The root of its {site.index.count} records is {site.index.root.hex()}: whoever has the "
        "entries makes the same.",
        *[f"Cosigned by {x.key.name}, {when(x.time)}" for x in site.cosigned],
    ]
    return Report(data, lines)


@command.command("confirm")
@log_options
@click.argument("site", metavar="SITE")
@network_option
@click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with the auditor's private key, as `chipcash witness init` makes it; not a witness's.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, to be put into the site as `confirmation`.",
)
def confirm(
    location: str,
    site: str,
    network_file: Path,
    log: Key,
    entries: str | None,
    witnesses: tuple[Key, ...],
    quorum: int | None,
    key_file: Path,
    output: Path,
) -> Report:
    """Make the records of SITE, a folder or a URL, anew from the log at LOG, and sign that they are the same.

    This is what no proof in the browser can show: that nothing is missing in what the site tells.
    """
    reader = reader_of(location, log, entries, witnesses, quorum)
    key = SigningKey.load(key_file, COSIGNATURE)
    part = f"{site.rstrip('/')}/{scope_of(log.name).folder}"
    with progress("Replaying the log"):
        note = confirm_site(source_at(part), reader, Trust.load(network_file), key)
    files.replace(output, note, 0o644)
    return Report(
        {"confirmed": True, "file": str(output), "key": str(key.key)},
        [f"The site's records are those of the log: {output} says so, signed by {key.key.name}."],
    )


@command.command("serve")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@listen_options(8730)
def serve(folder: Path, host: str, port: int) -> None:
    """Serve the site in FOLDER until Ctrl-C. Prints its URL once it answers."""
    with until_ended():
        service = SiteService(folder, host, port)
        show(Report({"url": service.url}, [f"The verification site is at {service.url}"]))
        service.run()

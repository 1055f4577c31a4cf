# SPDX-License-Identifier: Apache-2.0
"""What the commands for QR codes share: texts in from arguments or a scanner, symbols and pictures out."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from chipcash import crypto, qr
from chipcash.cli.base import EXIT_FAILED, Report
from chipcash_wire import objects as o

_Object = TypeVar("_Object", bound=o.Object)


def _picture(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in qr.SUFFIXES:
        raise click.BadParameter(f"{value} ends neither in .png nor in .svg", ctx, param)
    return value


picture_option = click.option(
    "--qr",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_picture,
    metavar="FILE",
    help="Write the code as a picture, .png or .svg; several parts as NAME-1, NAME-2, ...",
)


def scanned(texts: Sequence[str], kind: type[_Object]) -> _Object:
    """The object in codes given as arguments; `-`, or none at all, means that a scanner types the lines."""
    if texts and tuple(texts) != ("-",):
        return qr.read(texts, kind)
    parts = qr.Parts()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no text is no code either
    while parts.missing:
        if sys.stdin.isatty():
            click.echo(f"Scan part {parts.missing[0]} of {parts.total or '?'}:", err=True)
        line = sys.stdin.readline(4096)
        if not line:
            break
        if line.strip():
            parts.add(line)
    return qr.read(parts, kind)


def shown(report: Report, obj: o.Object, picture: Path | None) -> Report:
    """A report with an object's code: texts and symbols, and the pictures where they are wanted.

    A picture that cannot be written is told, and takes nothing else away: the object may be money.
    """
    texts = qr.encode(obj.encode())
    pictures: list[Path] = []
    data: dict[str, Any] = {**report.data, "texts": texts}
    lines = list(report.lines)
    for text in texts:
        lines += [*qr.show(text), text]
    code = report.exit_code
    if picture is not None:
        try:
            pictures = qr.save(texts, picture)
        except OSError as error:
            data["picture_error"] = f"{picture} was not written: {error.strerror or error}."
            lines.append(f"{data['picture_error']} The code above is good.")
            code = EXIT_FAILED
    data["pictures"] = [str(path) for path in pictures]
    return Report(data, lines, exit_code=code)


def payee_id(request: o.PayRequest) -> str:
    """The payee as till and app both show it: its key's id in hex, in groups, so that people can compare."""
    return crypto.key_id(o.suite_of(request), request.payee).hex(" ", 2)

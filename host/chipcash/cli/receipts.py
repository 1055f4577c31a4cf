# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos receipt`, `chipcash pos shop`: what customers get about their payments."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from chipcash import files, qr
from chipcash.cli.base import Command, Report, table
from chipcash.cli.till import pos_option
from chipcash.pos import Pos, PosError
from chipcash.pos.receipts import (
    LANGUAGES,
    PAPERS,
    Receipt,
    Shop,
    find_payment,
    render_html,
    render_text,
)

__all__ = ["receipt", "shop"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_language_option = click.option(
    "--language", type=click.Choice(list(LANGUAGES)), help="English, Chinese, or both."
)
_paper_option = click.option(
    "--paper", type=click.Choice([str(paper) for paper in PAPERS]), help="Width of the paper, mm."
)


@click.command("receipt", cls=Command)
@click.argument("payment", metavar="[PAYMENT]", required=False)
@pos_option
@click.option("--pdf", type=_FILE, help="Write it as PDF.")
@click.option("--html", "page", type=_FILE, help="Write it as a piece of a web page.")
@click.option("--escpos", type=_FILE, help="Write what an ESC/POS printer is sent.")
@click.option(
    "--print",
    "printer",
    is_flag=False,
    flag_value="-",
    metavar="[PRINTER]",
    help="Print it: tcp:HOST:9100, file:/dev/usb/lp0, serial:/dev/ttyUSB0; by default the shop's printer.",
)
@_language_option
@_paper_option
def receipt(
    payment: str | None,
    directory: Path,
    pdf: Path | None,
    page: Path | None,
    escpos: Path | None,
    printer: str | None,
    language: str | None,
    paper: str | None,
) -> Report:
    """The receipt of PAYMENT, by default of the last one, as things stand now.

    PAYMENT: the number on its receipt, its claim id or nonce, or your name for the order. Its code asks the
    verification site what became of the payment; `chipcash pos shop` says where that is.
    """
    with Pos(directory) as pos:
        found = Receipt.of(pos, _last(pos) if payment is None else find_payment(pos, payment))
    changes = _given(language=language, paper=paper)
    found = replace(found, shop=replace(found.shop, **changes))
    lines = render_text(found)
    if not (pdf or page or escpos or printer):
        for caption, text in found.codes():
            lines += ["", *([caption] if caption else ()), *qr.show(text)]
    written = []
    if page is not None:
        files.replace(page, render_html(found).encode())
        written.append(str(page))
    if pdf or escpos or printer:
        from chipcash.pos.printing import print_receipt, render_escpos, render_pdf

        if pdf is not None:
            files.replace(pdf, render_pdf(found))
            written.append(str(pdf))
        if escpos is not None:
            files.replace(escpos, render_escpos(found))
            written.append(str(escpos))
        if printer is not None:
            print_receipt(found, found.shop.printer if printer == "-" else printer)
    data = {
        "payment": found.payment,
        "amount_fen": found.amount,
        "time": found.time,
        "state": str(found.state),
        "lost_fen": found.lost,
        "deadline": found.deadline,
        "card": found.card,
        "reference": found.reference or None,
        "operator": found.operator or None,
        "shift": found.shift,
        "returns": [
            {"amount_fen": each.amount, "time": each.time, "state": each.state}
            for each in found.returns
        ],
        "code": found.code,
        "proofs": [{"amount_fen": amount, "code": text} for amount, text in found.proofs],
        "files": written,
        "printed": printer is not None,
    }
    return Report(data, lines)


@click.command("shop", cls=Command)
@pos_option
@click.option("--name", help="The shop's name, the heading of its receipts.")
@click.option("--till", help="What this till is called on them.")
@click.option(
    "--site", metavar="URL", help="The verification site, at which customers check their receipts."
)
@_language_option
@_paper_option
@click.option("--printer", help="Where receipts are printed, as of `chipcash pos receipt --print`.")
def shop(
    directory: Path,
    name: str | None,
    till: str | None,
    site: str | None,
    language: str | None,
    paper: str | None,
    printer: str | None,
) -> Report:
    """What this till prints of its shop; with options, change it. An empty text takes something away."""
    with Pos(directory) as pos:
        before = Shop.load(pos)
        changes = _given(
            name=name, till=till, site=site, language=language, paper=paper, printer=printer
        )
        now = replace(before, **changes)
        if now != before:
            now.save(pos)
    rows = [(label, str(value) or "-") for label, value in asdict(now).items()]
    return Report(asdict(now), table(rows))


def _given(**options: Any) -> dict[str, Any]:
    """Those that were given, as Shop has them."""
    found = {name: value for name, value in options.items() if value is not None}
    if "paper" in found:
        found["paper"] = int(found["paper"])
    return found


def _last(pos: Pos) -> Any:
    found = pos.last()
    if found is None or found.payment is None:
        raise PosError(
            "The last charge was not paid: it has no receipt.",
            hint="Name a payment; chipcash pos list shows them.",
        )
    return found.payment

# SPDX-License-Identifier: Apache-2.0
"""Receipts on paper: as PDF (reportlab) and for ESC/POS printers (python-escpos), extra `receipts`."""

from __future__ import annotations

import html
import io
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chipcash import qr
from chipcash.errors import ChipcashError
from chipcash.pos.receipts import PAPERS, Receipt, render_text, wrapped

__all__ = ["PrinterError", "print_receipt", "render_escpos", "render_pdf"]

_MM = 72 / 25.4
_CODE_MM = 42
_MARGIN_MM = 5
_QUIET = 4
"""Modules of white around a code."""
_LARGEST_MODULE = 6
"""Dots."""
_TIMEOUT_S = 10.0
_CHINESE_FONT = "STSong-Light"
"""One of those that every PDF reader has to have for Chinese; nothing is embedded."""
_CHINESE = re.compile(r"[^\x00-\xff]+")
_CHINESE_ON, _CHINESE_OFF = b"\x1c&", b"\x1c."
"""FS &, FS .: two bytes make one letter, and back."""


class PrinterError(ChipcashError):
    """A receipt was not printed. The payment stands; it can be printed again."""

    exit_code = 60


def render_pdf(receipt: Receipt) -> bytes:
    """The receipt as a PDF of one page, as wide as the shop's paper; the same receipt is the same bytes."""
    with _extra():
        from reportlab.lib.styles import ParagraphStyle
        from reportlab.pdfbase import pdfmetrics
        from reportlab.pdfbase.cidfonts import UnicodeCIDFont
        from reportlab.pdfgen.canvas import Canvas
        from reportlab.platypus import Image, Paragraph, Spacer, Table

    pdfmetrics.registerFont(UnicodeCIDFont(_CHINESE_FONT))

    def paragraph(text: str, size: float, *, center: bool = False, bold: bool = False) -> Any:
        marked = _CHINESE.sub(
            lambda found: f'<font name="{_CHINESE_FONT}">{found[0]}</font>', html.escape(text)
        )
        style = ParagraphStyle(
            "",
            fontName="Helvetica-Bold" if bold else "Helvetica",
            fontSize=size,
            leading=1.35 * size,
            alignment=1 if center else 0,
            wordWrap="CJK" if _CHINESE.search(text) else None,
        )
        return Paragraph(marked, style)

    width = (receipt.shop.paper - 2 * _MARGIN_MM) * _MM
    story: list[Any] = []
    before = ""
    for line in receipt.lines():
        if before and line.kind != before:
            story.append(Spacer(0, 2 * _MM))
        before = line.kind
        if line.kind == "row":
            cells = [[paragraph(line.label, 7), paragraph(line.value, 7)]]
            story.append(Table(cells, (0.42 * width, 0.58 * width), style=_TIGHT))
        else:
            size = {"heading": 12, "amount": 16}.get(line.kind, 8)
            big = line.kind in ("heading", "amount")
            story.append(paragraph(line.value, size, center=big, bold=big or line.kind == "state"))
    side = min(_CODE_MM * _MM, width)
    for caption, text in receipt.codes():
        if caption:
            story += [Spacer(0, 2 * _MM), paragraph(caption, 8)]
        picture = io.BytesIO()
        qr.symbol(text).save(picture, kind="png", scale=8, border=_QUIET)
        story += [Spacer(0, 3 * _MM), Image(picture, side, side)]

    heights = [each.wrap(width, 1e6)[1] for each in story]
    height = sum(heights) + 2 * _MARGIN_MM * _MM
    out = io.BytesIO()
    canvas = Canvas(out, (receipt.shop.paper * _MM, height), invariant=1)
    canvas.setTitle(receipt.title)
    at = height - _MARGIN_MM * _MM
    for each, taken in zip(story, heights, strict=True):
        at -= taken
        inset = (width - side) / 2 if isinstance(each, Image) else 0
        each.drawOn(canvas, _MARGIN_MM * _MM + inset, at)
    canvas.save()
    return out.getvalue()


_TIGHT = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 0),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]


def render_escpos(receipt: Receipt) -> bytes:
    """The receipt as what an ESC/POS printer is sent: text, in GB 18030 where it is Chinese, the codes
    as raster pictures, a cut."""
    with _extra():
        from PIL import Image

        printers = _escpos()
    columns, dots = PAPERS[receipt.shop.paper]
    printer = printers.Dummy()
    # Else it would say on the standard output that it does not know.
    media = {"width": {"pixels": dots, "mm": receipt.shop.paper}}
    printer.profile.profile_data = {**printer.profile.profile_data, "media": media}
    printer.hw("INIT")
    lines = [*render_text(receipt, columns), ""]
    for caption, content in receipt.codes():
        if caption:
            lines = ["", *wrapped(caption, columns)]
        text = "\n".join([*lines, ""]).encode("gb18030")
        printer._raw(text if text.isascii() else _CHINESE_ON + text + _CHINESE_OFF)
        picture = io.BytesIO()
        symbol = qr.symbol(content)
        modules = symbol.symbol_size(border=_QUIET)[0]
        symbol.save(picture, kind="png", scale=min(_LARGEST_MODULE, dots // modules), border=_QUIET)
        code = Image.open(picture).convert("1")
        page = Image.new("1", (dots, code.height), 1)
        page.paste(code, ((dots - code.width) // 2, 0))
        printer.image(page, impl="bitImageRaster")
    printer.cut()
    output: bytes = printer.output
    return output


def print_receipt(receipt: Receipt, printer: str) -> None:
    """Print the receipt. printer: `tcp:HOST:PORT` (9100, where none is named), `file:/dev/usb/lp0`, or
    `serial:/dev/ttyUSB0`. Raises PrinterError."""
    data = render_escpos(receipt)
    scheme, _, place = printer.partition(":")
    host, _, port = place.rpartition(":") if place.count(":") == 1 else (place, "", "9100")
    printers = _escpos()
    device = None
    if scheme == "tcp" and host and port.isascii() and port.isdigit() and int(port) < 1 << 16:
        device = printers.Network(host, port=int(port), timeout=_TIMEOUT_S)
    elif scheme == "file" and place:
        device = printers.File(place, auto_flush=False)
    elif scheme == "serial" and place:
        device = printers.Serial(devfile=place, timeout=_TIMEOUT_S)
    if device is None:
        raise PrinterError(
            f"{printer!r} names no printer. Nothing was printed.",
            hint="Write tcp:HOST:9100, file:/dev/usb/lp0 or serial:/dev/ttyUSB0.",
        )
    from escpos.exceptions import Error

    try:
        device.open()
        device._raw(data)
        if scheme == "file":
            device.flush()
        device.close()
    except (Error, OSError, RuntimeError) as error:
        raise PrinterError(
            f"The printer at {printer} does not take the receipt: {error}".replace("\n", " "),
            hint="See that it is on and has paper, then print the receipt again; the payment stands.",
        ) from None


def _escpos() -> Any:
    """python-escpos' printers. Version 3.1 leaves a folder among the temporary files and a handler at the
    root logger when it is imported: neither stays."""
    handlers = list(logging.root.handlers)
    from escpos import capabilities, printer

    if "ESCPOS_CAPABILITIES_PICKLE_DIR" not in os.environ:
        shutil.rmtree(capabilities.pickle_dir, ignore_errors=True)
    for handler in set(logging.root.handlers) - set(handlers):
        logging.root.removeHandler(handler)
    return printer


@contextmanager
def _extra() -> Iterator[None]:
    """Says which extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PrinterError(
            f"{error.name} is not installed, which receipts on paper take. Nothing was printed.",
            hint="Install chipcash with it: pip install 'chipcash[receipts]'.",
        ) from None

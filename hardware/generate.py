# SPDX-License-Identifier: Apache-2.0
"""Writes what follows from the boards' data: tables, wiring diagrams, and the firmware's board modules.

`make boards` after a change of hardware/parts.toml or hardware/boards/; a test fails when it was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import schemdraw
from schemdraw import elements

from chipcash.boards import boards, tables
from chipcash.boards.model import Board, Form
from chipcash.boards.tables import Wire

ROOT = Path(__file__).parents[1]
_COLOURS = ("#1f6fb4", "#b8860b", "#2e8b57", "#8a4fbf", "#c2571a", "#4a6670")
_RAIL_COLOUR = "#c62828"
_BLACK = "#000000"
_Align = Literal["left", "center", "right"]
# In schemdraw's units: between two wires; the right edge of the board, the left edge of what is wired to it.
_STEP = 0.6
_LEFT, _RIGHT = 5.0, 9.0


def generated() -> dict[str, str]:
    """Every generated file: path from the repository's root, and its text."""
    schemdraw.use("svg")
    found = {}
    for board in boards().values():
        found[f"firmware/chipcash_boards/{board.id}.py"] = _module(board)
        if board.role == "emulator":
            continue
        found[f"hardware/wiring/{board.id}.md"] = _page(board)
        for form in board.forms.values():
            found[f"hardware/wiring/{board.id}-{form.name}.svg"] = _diagram(board, form)
    return found


def _page(board: Board) -> str:
    """Pin tables and bills of materials of all forms of a board."""
    lines = [
        f"# {board.name}",
        "",
        f"Written by `make boards` from [{board.id}.toml](../boards/{board.id}.toml); not by hand.",
        "",
        *tables.table(("", ""), tables.summary(board)),
    ]
    for form in board.forms.values():
        lines += [
            "",
            f"## {form.name}",
            "",
            f"Links: {', '.join(form.links)}.",
            "",
            f"![Wiring of {board.name} as {form.name}]({board.id}-{form.name}.svg)",
            "",
            *tables.table(tables.WIRE_HEAD, tables.wire_rows(board, form)),
            "",
            *tables.table(tables.BILL_HEAD, tables.bill_rows(board, form)),
            "",
            *(f"- {note}" for note in tables.notes(board, form)),
        ]
    return "\n".join(lines) + "\n"


def _module(board: Board) -> str:
    """A board's constants for the firmware. Portable."""
    return "\n".join(_module_lines(board)) + "\n"


def _module_lines(board: Board) -> Iterator[str]:
    yield "# SPDX-License-Identifier: Apache-2.0"
    yield f'"""{board.name}: pins, by GPIO number, and buses, by MicroPython\'s number. Portable.'
    yield ""
    yield f'Written by `make boards` from hardware/boards/{board.id}.toml; not by hand."""'
    yield ""
    yield f'BOARD = "{board.id}"'
    yield "LINKS = {"
    for form in board.forms.values():
        yield f'    "{form.name}": {_tuple(form.links)},'
    yield "}"
    yield "PERIPHERALS = {"
    for form in board.forms.values():
        yield f'    "{form.name}": {_tuple(form.peripherals)},'
    yield "}"
    for each in board.peripherals.values():
        prefix = each.id.upper()
        yield ""
        yield f'{prefix}_PART = "{each.part.id}"'
        if each.bus != "gpio":
            yield f'{prefix}_BUS = "{each.bus}"'
            yield f"{prefix}_INSTANCE = {each.instance}"
            yield f"{prefix}_HZ = {each.hz}"
        if each.bus == "i2c":
            yield f"{prefix}_ADDRESS = {each.part.i2c_address}"
        for signal, gpio in each.pins.items():
            yield f"{prefix}_{signal} = {gpio}"


def _tuple(names: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"({quoted},)" if len(names) == 1 else f"({quoted})"


def _diagram(board: Board, form: Form) -> str:
    """The wiring of a form as SVG: the board on the left, its parts on the right, a line for each wire."""
    drawing = schemdraw.Drawing(show=False)
    drawing.config(lw=1.5, bgcolor="white")
    y = 0.0  # downwards negative, as schemdraw has it
    with drawing:
        for name in form.peripherals:
            own = [wire for wire in tables.wires(board, form) if wire.peripheral == name]
            bottom = y - _STEP * (len(own) + 1)
            _box(_RIGHT, y, _RIGHT + 4, bottom)
            part = board.peripherals[name].part.id
            _text(name if name == part else f"{name}: {part}", _RIGHT, y + 0.25, "left")
            for number, wire in enumerate(own):
                at = y - _STEP * (number + 1)
                colour = _colour(wire, number)
                elements.Line().at((_LEFT, at)).to((_RIGHT, at)).color(colour)
                _text(f"{wire.pin}  (pin {wire.header})", _LEFT - 0.15, at - 0.06, "right")
                _text(wire.use, (_LEFT + _RIGHT) / 2, at + 0.17, "center", colour, 9)
                _text(wire.signal, _RIGHT + 0.15, at - 0.06, "left")
            y = bottom - 2 * _STEP
        _box(0, 0, _LEFT, y + 2 * _STEP)
        _text(f"{board.name}: {form.name}", 0, 0.25, "left")
    svg = drawing.get_imagedata("svg").decode()
    # CSS knows no family "sans", and schemdraw hardly another.
    return svg.replace('font-family="sans"', 'font-family="sans-serif"') + "\n"


# Within a drawing, an element is drawn when it is made.


def _box(left: float, top: float, right: float, bottom: float) -> None:
    elements.Rect((0, 0), (right - left, top - bottom)).at((left, bottom)).theta(0)


def _text(
    text: str, x: float, y: float, align: _Align, colour: str = _BLACK, size: float = 11
) -> None:
    label = elements.Label().at((x, y)).theta(0)
    label.label(
        text,
        "center",
        halign=align,
        valign="center",
        color=colour,
        fontsize=size,
    )


def _colour(wire: Wire, number: int) -> str:
    if wire.gpio is not None:
        return _COLOURS[number % len(_COLOURS)]
    return _BLACK if wire.use == "ground" else _RAIL_COLOUR


if __name__ == "__main__":
    for folder, ending in (("hardware/wiring", "*"), ("firmware/chipcash_boards", "*.py")):
        (ROOT / folder).mkdir(exist_ok=True)
        for old in (ROOT / folder).glob(ending):
            if old.name != "__init__.py" and old.is_file():
                old.unlink()
    for path, text in generated().items():
        (ROOT / path).write_text(text, "utf-8")

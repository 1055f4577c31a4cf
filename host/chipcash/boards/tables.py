# SPDX-License-Identifier: Apache-2.0
"""What follows from a board's data for people: wires, bills of materials, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chipcash.boards.checks import warnings
from chipcash.boards.model import Board, Form


@dataclass(frozen=True)
class Wire:
    """One wire of a form: a peripheral's signal to a pin of the board (GND and supplies have no gpio)."""

    peripheral: str
    signal: str
    pin: str
    header: str
    use: str
    gpio: int | None


@dataclass(frozen=True)
class Item:
    """One line of a bill of materials. order: what to ask any supplier for; one of them is enough."""

    count: int
    name: str
    order: tuple[str, ...] = ()


def wires(board: Board, form: Form) -> list[Wire]:
    """Every wire of a form, peripheral by peripheral: signals, then the supply, then ground."""
    found = []
    for each in (board.peripherals[x] for x in form.peripherals):
        for signal, gpio in each.pins.items():
            use = each.need(signal)
            found.append(
                Wire(
                    each.id, signal, board.pin(gpio), board.header[gpio], _USES.get(use, use), gpio
                )
            )
        if each.rail is not None:
            rail = board.rails[each.rail]
            feeds = each.part.feeds_volts is not None
            signal, use = ("OUT", "feeds the board") if feeds else ("VCC", "supply")
            found.append(Wire(each.id, signal, each.rail, rail.header, use, None))
        found.append(Wire(each.id, "GND", "GND", board.rails["GND"].header, "ground", None))
    return found


_USES = {"in": "input", "out": "output", "pwm": "PWM", "adc": "ADC"}


def bill(board: Board, form: Form) -> list[Item]:
    """What to buy for a form: the board, the parts, and what goes with them."""
    if board.role == "emulator":
        return []
    found = [Item(1, board.name, board.order)]
    for each in (board.peripherals[x] for x in form.peripherals):
        found.append(Item(1, each.part.name, each.part.order))
        found += [Item(count, name) for name, count in each.part.extra.items()]
    return found


WIRE_HEAD = ("part", "signal", "board pin", "header", "as")
BILL_HEAD = ("count", "what", "for example")


def summary(board: Board) -> list[tuple[str, str]]:
    """What a board is, as names and values."""
    memory = {"flash": board.flash_kb, "for files": board.storage_kb, "RAM": board.ram_kb}
    sizes = [f"{size} kB {name}" for name, size in memory.items() if size is not None]
    found = [
        ("role", board.role),
        ("chip", board.chip),
        ("memory", ", ".join([*sizes, f"about {board.heap_kb} kB heap"])),
        ("MicroPython", f"{board.port}, {board.port_board}, from version {board.version} on"),
        *([("get it from", board.runtime_url)] if board.role != "emulator" else []),
        ("secure element", "yes" if board.secure_element else "no"),
    ]
    found += [("note", each) for each in warnings(board)]
    return [*found, ("source", board.source)]


def wire_rows(board: Board, form: Form) -> list[tuple[str, ...]]:
    """The wires of a form under WIRE_HEAD."""
    return [(x.peripheral, x.signal, x.pin, x.header, x.use) for x in wires(board, form)]


def bill_rows(board: Board, form: Form) -> list[tuple[str, ...]]:
    """The bill of materials of a form under BILL_HEAD."""
    return [(str(x.count), x.name, "; or ".join(x.order)) for x in bill(board, form)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, columns below each other."""
    cells = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(f"{x:{width}}" for x, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def notes(board: Board, form: Form) -> list[str]:
    """What to mind about the parts of a form, and where what is said of them is from."""
    return [f"{x}: {board.peripherals[x].part.source}." for x in form.peripherals]

# SPDX-License-Identifier: Apache-2.0
"""Files to boards. Strict: a word that nobody knows, or a value of another type, is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from chipcash.boards.checks import check
from chipcash.boards.chips import BUS_SIGNALS
from chipcash.boards.model import Board, BoardError, Form, Part, Peripheral, Rail

_Value = TypeVar("_Value")
_REQUIRED: Any = object()


class _Table:
    """A TOML table of which every key must be taken, with the type it should have."""

    def __init__(self, data: object, where: str, problems: list[str]) -> None:
        self._data = dict(data) if isinstance(data, dict) else {}
        if not isinstance(data, dict):
            problems.append(f"{where}: is no table")
        self.where = where
        self.problems = problems

    def take(
        self, key: str, good: Callable[[Any], bool], what: str, default: _Value = _REQUIRED
    ) -> _Value:
        """The value of a key, or the default after a problem was noted."""
        if key not in self._data:
            if default is _REQUIRED:
                self.problems.append(f"{self.where}: {key} is missing")
            return default
        value = self._data.pop(key)
        if not good(value):
            self.problems.append(f"{self.where}: {key} is not {what}: {value!r}")
            return default
        return cast(_Value, value)

    def text(self, key: str, default: str = _REQUIRED) -> str:
        return self.take(key, lambda x: isinstance(x, str) and x != "", "text", default)

    def flag(self, key: str) -> bool:
        return self.take(key, lambda x: isinstance(x, bool), "true or false")

    def number(self, key: str, default: int | None = _REQUIRED) -> int:
        return cast(int, self.take(key, _is_count, "a whole number", default))

    def volts(self, key: str, default: float | None = _REQUIRED) -> float | None:
        return self.take(key, _is_volts, "volts", default)

    def texts(self, key: str, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        value = self.take(key, _is_texts, "a list of texts", default)
        return () if value is _REQUIRED else tuple(value)

    def range(self, key: str, default: Any = None) -> Any:
        value = self.take(key, _is_range, "[least, most] in volts", default)
        return tuple(value) if isinstance(value, list) else value

    def counts(self, key: str) -> dict[str, int]:
        return self.take(key, _is_counts, "a table of whole numbers", {})

    def tables(self, key: str) -> dict[str, _Table]:
        found: dict[str, Any] = self.take(key, _is_table, "a table", {})
        return {x: _Table(y, f"{self.where}: {key}.{x}", self.problems) for x, y in found.items()}

    def table(self, key: str) -> _Table:
        return _Table(
            self.take(key, _is_table, "a table", {}),
            f"{self.where}: {key}",
            self.problems,
        )

    def gpios(self, key: str) -> dict[int, str]:
        found: dict[str, Any] = self.take(key, _is_table, "a table", {})
        for gpio, text in found.items():
            if not gpio.isdecimal() or not isinstance(text, str):
                self.problems.append(f"{self.where}: {key}.{gpio} is not a GPIO number and a text")
        return {int(x): str(y) for x, y in found.items() if x.isdecimal()}

    def rest(self) -> dict[str, str]:
        """All that is left, taken as texts."""
        return {key: self.text(key) for key in list(self._data)}

    def end(self) -> None:
        """Note the keys that nobody took."""
        for key in self._data:
            self.problems.append(f"{self.where}: {key} is no word of this table")


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_counts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_volts(value: object) -> bool:
    return type(value) is float and 0 <= value < 60


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(map(_is_volts, value))
        and value[0] <= value[1]
    )


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BoardError(
            f"{file} cannot be read: {error}.",
            hint="It is TOML of the schema in hardware/README.md.",
            path=str(file),
        ) from None


def _refuse_problems(what: str, problems: list[str]) -> None:
    if problems:
        raise BoardError(
            f"{what} cannot be built as its file says: {'; '.join(problems)}.",
            hint="Mend the file; hardware/README.md says what each word means.",
            board=what,
            problems=problems,
        )


def _part(part: str, table: _Table) -> Part:
    signals = {bus: pins.rest() for bus, pins in table.tables("signals").items()}
    for bus, pins in signals.items():
        words = {"in", "out", "pwm", "adc", *BUS_SIGNALS.get(bus, ())}
        if bus not in (*BUS_SIGNALS, "gpio"):
            table.problems.append(f"{table.where}: signals.{bus} is no bus")
        for signal, need in pins.items():
            if need not in words:
                table.problems.append(f"{table.where}: {signal} needs {need!r}, which no pin does")
    found = Part(
        part,
        table.text("name"),
        table.text("kind"),
        table.texts("order"),
        table.text("source"),
        signals,
        table.counts("max_hz"),
        table.counts("extra"),
        table.range("supply_volts"),
        table.range("feeds_volts"),
        table.range("sense_volts"),
        table.number("current_ma", 0),
        table.volts("logic_volts", None),
        table.number("i2c_address", None),
    )
    table.end()
    return found


def load_parts(file: Path) -> dict[str, Part]:
    """The parts of a file by their ids. Raises BoardError."""
    problems: list[str] = []
    found = {
        part: _part(part, _Table(data, part, problems)) for part, data in _read_toml(file).items()
    }
    _refuse_problems(file.name, problems)
    return found


def _peripheral(name: str, table: _Table, parts: dict[str, Part]) -> Peripheral | None:
    part = table.text("part")
    pins, bus = table.counts("pins"), table.text("bus", "gpio")
    instance, hz = table.number("instance", None), table.number("hz", None)
    rail = table.text("rail", cast(str, None))
    table.end()
    if part not in parts:
        table.problems.append(f"{table.where}: there is no part {part!r}")
        return None
    return Peripheral(name, parts[part], pins, bus, instance, hz, rail)


def load(file: Path, parts: dict[str, Part]) -> Board:
    """The board of a file, checked. Raises BoardError."""
    return read_board(file.stem, _read_toml(file), parts)


def read_board(board_id: str, data: dict[str, Any], parts: dict[str, Part]) -> Board:
    """The board that a file's data describes, checked. Raises BoardError that lists all that is wrong."""
    problems: list[str] = []
    top = _Table(data, board_id, problems)
    python, memory = top.table("micropython"), top.table("memory")
    rails = {}
    for name, each in top.tables("rails").items():
        rails[name] = Rail(
            each.text("header"), each.range("volts", _REQUIRED), each.number("supplies_ma", None)
        )
        each.end()
    peripherals = {
        name: _peripheral(name, each, parts) for name, each in top.tables("peripherals").items()
    }
    forms = {}
    for name, each in top.tables("forms").items():
        forms[name] = Form(name, each.texts("links"), each.texts("peripherals", ()))
        each.end()
    board = Board(
        board_id,
        top.text("name"),
        top.text("role"),
        top.text("chip"),
        top.texts("order"),
        top.text("source"),
        top.text("gpio_prefix", "GPIO"),
        top.volts("io_volts", None),
        top.flag("bluetooth"),
        top.flag("usb_device"),
        top.flag("secure_element"),
        python.text("port"),
        python.text("board"),
        python.text("version"),
        memory.number("heap_kb"),
        memory.number("flash_kb", None),
        memory.number("storage_kb", None),
        memory.number("ram_kb", None),
        top.gpios("reserved"),
        top.gpios("header"),
        rails,
        {name: each for name, each in peripherals.items() if each is not None},
        forms,
    )
    for table in (python, memory, top):
        table.end()
    _refuse_problems(board_id, problems)  # what is missing cannot be checked further
    _refuse_problems(board_id, check(board))
    return board

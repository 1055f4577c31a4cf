# SPDX-License-Identifier: Apache-2.0
"""Boards and what is wired to them, as read from their files."""

from __future__ import annotations

from dataclasses import dataclass

from chipcash.boards.chips import BUS_SIGNALS
from chipcash.errors import ChipcashError

LINKS = ("nfc", "ble", "at", "sd", "ccid", "serial")
"""Links that a form may have, in the words of chipcash_sim.forms and of transport paths."""
ROLES = ("reference", "alternative", "minimum", "emulator")


class BoardError(ChipcashError):
    """A board is not there, or its file says what cannot be. Facts: board, problems."""


@dataclass(frozen=True)
class Part:
    """Something that is wired to a board; hardware/README.md says what each key means.

    signals: for each bus that the part can be set to ("i2c", "spi", "uart"), or for "gpio", its pins and what
    each needs of the chip. max_hz: by bus. extra: what is bought with it, and how many. Volts are least
    and most: that it works on, that it gives to its rail, that it has at an ADC pin. current_ma: most that it
    takes. source: where this is from, and what to mind."""

    id: str
    name: str
    kind: str
    order: tuple[str, ...]
    source: str
    signals: dict[str, dict[str, str]]
    max_hz: dict[str, int]
    extra: dict[str, int]
    supply_volts: tuple[float, float] | None
    feeds_volts: tuple[float, float] | None
    sense_volts: tuple[float, float] | None
    current_ma: int
    logic_volts: float | None
    i2c_address: int | None


@dataclass(frozen=True)
class Peripheral:
    """A part on a board. pins: the part's signals to GPIO numbers; bus "gpio" is none."""

    id: str
    part: Part
    pins: dict[str, int]
    bus: str
    instance: int | None
    hz: int | None
    rail: str | None

    def need(self, signal: str) -> str:
        """What a signal needs of its pin, in the words of Chip.functions."""
        need = self.part.signals[self.bus][signal]
        shared = need in BUS_SIGNALS.get(self.bus, ())
        return f"{self.bus.upper()}{self.instance} {need}" if shared else need


@dataclass(frozen=True)
class Rail:
    """A supply pin. volts: least and most; supplies_ma: what peripherals may take together, None for any."""

    header: str
    volts: tuple[float, float]
    supplies_ma: int | None


@dataclass(frozen=True)
class Form:
    """A form of the card on a board: its links and peripherals. Names are those of chipcash_sim.forms, and
    usb-reader for a board that is its own reader."""

    name: str
    links: tuple[str, ...]
    peripherals: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """A board. Kilobytes are of 1024 bytes; flash_kb, storage_kb and ram_kb are None for the emulator."""

    id: str
    name: str
    role: str
    chip: str
    order: tuple[str, ...]
    source: str
    gpio_prefix: str
    io_volts: float | None
    bluetooth: bool
    usb_device: bool
    secure_element: bool
    port: str
    port_board: str
    version: str
    heap_kb: int
    flash_kb: int | None
    storage_kb: int | None
    ram_kb: int | None
    reserved: dict[int, str]
    header: dict[int, str]
    rails: dict[str, Rail]
    peripherals: dict[str, Peripheral]
    forms: dict[str, Form]

    @property
    def runtime_url(self) -> str:
        """Where its MicroPython is, with how to put it there."""
        return f"https://micropython.org/download/{self.port_board}/"

    def pin(self, gpio: int) -> str:
        """A pin as it is printed on the board."""
        return f"{self.gpio_prefix}{gpio}"

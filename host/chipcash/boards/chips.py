# SPDX-License-Identifier: Apache-2.0
"""Chips: which pins they have, and what these can do. From the data sheets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """What a chip's pins can do.

    gpios: those that it has. functions: of one pin, in the words "in", "out", "pwm", "adc" and
    "<bus><instance> <signal>" like "I2C0 SDA", with MicroPython's numbers of buses. pwm_slice: what shares
    one frequency, None where MicroPython gives each pin its own. adc_volts: full scale."""

    gpios: frozenset[int]
    functions: Callable[[int], frozenset[str]]
    pwm_slice: Callable[[int], int] | None = None
    adc_volts: float = 0.0


def _rp2(gpio: int) -> frozenset[str]:
    """RP2040 data sheet 1.4.3, RP2350 data sheet 1.2.3 (functions F1 to F4): the same for GPIO0 to 29."""
    spi = ("MISO", "SS", "SCK", "MOSI")[gpio % 4]
    uart = ("TX", "RX", "CTS", "RTS")[gpio % 4]
    found = {
        "in",
        "out",
        "pwm",
        f"I2C{gpio // 2 % 2} {('SDA', 'SCL')[gpio % 2]}",
        f"SPI{gpio // 8 % 2} {spi}",
        f"UART{(gpio + 4) // 8 % 2} {uart}",
    }
    return frozenset(found | ({"adc"} if gpio >= 26 else set()))


def _esp32s3(gpio: int) -> frozenset[str]:
    """ESP32-S3 technical reference manual, IO MUX and GPIO matrix: any signal on any pin. Only ADC1, since
    the radio may hold ADC2. SPI1 and 2 are MicroPython's names for SPI2 and SPI3; UART0 is the console."""
    found = {"in", "out", "pwm"}
    found |= {f"I2C{i} {signal}" for i in (0, 1) for signal in ("SDA", "SCL")}
    found |= {f"SPI{i} {signal}" for i in (1, 2) for signal in ("MISO", "SS", "SCK", "MOSI")}
    found |= {f"UART{i} {signal}" for i in (1, 2) for signal in ("TX", "RX", "CTS", "RTS")}
    return frozenset(found | ({"adc"} if 1 <= gpio <= 10 else set()))


def _rp2_slice(gpio: int) -> int:
    """RP2040 data sheet 4.5.2: eight slices of two channels, for the pins of both halves."""
    return gpio // 2 % 8


_RP2 = Chip(frozenset(range(30)), _rp2, _rp2_slice, 3.3)
CHIPS = {
    "rp2040": _RP2,
    "rp2350a": _RP2,
    "esp32s3": Chip(frozenset({*range(22), *range(26, 49)}), _esp32s3, None, 2.9),
    "unix": Chip(frozenset(), lambda gpio: frozenset()),
}


BUS_SIGNALS = {
    "i2c": ("SDA", "SCL"),
    "spi": ("SCK", "MOSI", "MISO"),
    "uart": ("TX", "RX"),
}
"""Signals that belong to an instance of a bus. A chip select of SPI is any output."""

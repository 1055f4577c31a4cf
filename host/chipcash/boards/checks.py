# SPDX-License-Identifier: Apache-2.0
"""What cannot be about a board: pins, buses, addresses, voltages, memory, forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from chipcash.boards.chips import BUS_SIGNALS, CHIPS, Chip
from chipcash.boards.model import LINKS, ROLES, Board, Form, Peripheral
from chipcash_sim.forms import FORMS

_Value = TypeVar("_Value")

HEAP_LEAST_KB = 152
"""Heap in which a card with its most titles pays: measured on 64-bit MicroPython by tests/bench, and objects
of a 32-bit board are smaller."""
HEAP_WANTED_KB = 192
"""Heap that the card is tested with."""
STORAGE_LEAST_KB = 384
"""Flash for files: twice 104 kB for the compiled code of card, links and drivers, since an image is written
beside the one before it; 80 kB for the two banks of the journal; the rest for littlefs."""


def check(board: Board) -> list[str]:
    """What cannot be about a board, one sentence each; empty if it can be built.

    Pins are checked over all peripherals at once, so that one set of pin numbers serves every form."""
    if board.role not in ROLES:
        return [f"role is none of {', '.join(ROLES)}: {board.role!r}"]
    chip = CHIPS.get(board.chip)
    if chip is None:
        return [f"chip is none of {', '.join(CHIPS)}: {board.chip!r}"]
    found = _check_board(board, chip)
    if found:  # else each peripheral would say it again
        return found
    for each in board.peripherals.values():
        found += [f"{each.id}: {problem}" for problem in _check_peripheral(each, board, chip)]
    if found:
        return found
    found += _check_together(board, chip)
    for form in board.forms.values():
        found += [f"form {form.name}: {problem}" for problem in _check_form(form, board)]
    return found + _check_memory(board)


def _check_board(board: Board, chip: Chip) -> list[str]:
    found = []
    for where, gpios in (("reserved", board.reserved), ("header", board.header)):
        found += [
            f"{where}: {board.chip} has no GPIO{gpio}" for gpio in gpios if gpio not in chip.gpios
        ]
    places = [*board.header.values(), *(rail.header for rail in board.rails.values())]
    found += [f"header: {place} is two pins" for place in _twice(places)]
    if board.peripherals and (board.io_volts is None or "GND" not in board.rails):
        found.append("with peripherals it needs io_volts and a rail GND")
    return found


def _check_peripheral(each: Peripheral, board: Board, chip: Chip) -> list[str]:
    part = each.part
    wanted = part.signals.get(each.bus)
    if wanted is None:
        return [f"a {part.id} has no {each.bus}, only {', '.join(part.signals)}"]
    found = []
    if set(each.pins) != set(wanted):
        found.append(f"its pins are {', '.join(wanted)}, not {', '.join(each.pins)}")
    if (each.bus == "gpio") != (each.instance is None) or (each.bus == "gpio") != (each.hz is None):
        found.append("instance and hz belong to a bus, and to nothing else")
    elif each.hz is not None and not 0 < each.hz <= part.max_hz.get(each.bus, 0):
        found.append(f"{each.hz} Hz is not up to {part.max_hz.get(each.bus, 0)} Hz on {each.bus}")
    for signal in sorted(set(each.pins) & set(wanted)):
        need, gpio = each.need(signal), each.pins[signal]
        pin = board.pin(gpio)
        if gpio not in chip.gpios:
            found.append(f"{signal} on {pin}, which {board.chip} does not have")
        elif gpio in board.reserved:
            found.append(f"{signal} on {pin}, which is reserved: {board.reserved[gpio]}")
        elif gpio not in board.header:
            found.append(f"{signal} on {pin}, which is on no header pin")
        elif need not in chip.functions(gpio):
            found.append(f"{signal} on {pin}, which cannot be {need}")
    if part.logic_volts is not None and part.logic_volts != board.io_volts:
        found.append(f"its signals are of {part.logic_volts} V, the board's of {board.io_volts} V")
    if part.sense_volts is not None and part.sense_volts[1] > chip.adc_volts:
        found.append(f"{part.sense_volts[1]} V at an ADC pin of {chip.adc_volts} V")
    return found + _check_supply(each, board)


def _check_supply(each: Peripheral, board: Board) -> list[str]:
    part = each.part
    if each.rail is None:
        powered = part.supply_volts is not None or part.feeds_volts is not None
        return ["it needs a rail"] if powered else []
    rail = board.rails.get(each.rail)
    if rail is None:
        return [f"the board has no rail {each.rail}"]
    if part.supply_volts is None and part.feeds_volts is None:
        return ["it needs no rail"]
    for given, taken in ((rail.volts, part.supply_volts), (part.feeds_volts, rail.volts)):
        if given and taken and (given[0] < taken[0] or given[1] > taken[1]):
            what = f"{taken[0]} to {taken[1]} V, and gets {given[0]} to {given[1]} V"
            return [f"{'it' if taken is part.supply_volts else each.rail} takes {what}"]
    return []


def _check_together(board: Board, chip: Chip) -> list[str]:
    """What peripherals have to agree on: pins and buses, addresses, PWM."""
    found = []
    buses: dict[tuple[str, int | None], list[Peripheral]] = {}
    for each in board.peripherals.values():
        if each.bus != "gpio":
            buses.setdefault((each.bus, each.instance), []).append(each)
    for (bus, instance), members in buses.items():
        name = f"{bus.upper()}{instance}"
        for signal in BUS_SIGNALS[bus]:
            gpios = {
                each.pins[own]
                for each in members
                for own, need in each.part.signals[bus].items()
                if need == signal
            }
            if len(gpios) > 1:
                found.append(
                    f"{name}: {signal} is on {', '.join(map(board.pin, sorted(gpios)))} at once"
                )
        if bus == "uart" and len(members) > 1:
            found.append(f"{name}: {' and '.join(x.id for x in members)} cannot share a line")
        if bus == "i2c":
            found += [f"{x.id}: has no i2c_address" for x in members if x.part.i2c_address is None]
            addresses = [each.part.i2c_address or 0 for each in members]
            found += [f"{name}: two parts at address {x:#04x}" for x in _twice(addresses)]
        if len({each.hz for each in members}) > 1:
            found.append(f"{name}: its parts want different clocks")
    uses: dict[int, list[str]] = {}
    for each in board.peripherals.values():
        for signal, gpio in each.pins.items():
            need = each.need(signal)
            # What a bus shares is one use of its pin.
            use = need if need.startswith(each.bus.upper()) else f"{each.id} {signal}"
            if use not in uses.setdefault(gpio, []):
                uses[gpio].append(use)
    found += [
        f"{board.pin(gpio)} is used by {' and '.join(names)}"
        for gpio, names in sorted(uses.items())
        if len(names) > 1
    ]
    return found + _check_pwm(board, chip)


def _check_pwm(board: Board, chip: Chip) -> list[str]:
    """What PWM pins have to agree on where a slice has one frequency, and two channels with one duty each."""
    if chip.pwm_slice is None:
        return []
    found = []
    slices: dict[int, dict[int, str]] = {}
    for each in board.peripherals.values():
        for signal, gpio in each.pins.items():
            if each.need(signal) == "pwm":
                slices.setdefault(chip.pwm_slice(gpio), {})[gpio] = each.id
    for number, pins in slices.items():
        ids = sorted(set(pins.values()))
        if len(ids) > 1:
            found.append(f"PWM slice {number}: {' and '.join(ids)} share one frequency there")
        for channel in _twice(gpio % 2 for gpio in pins):
            found.append(f"PWM slice {number}: two pins on its channel {'AB'[channel]}")
    return found


def _check_form(form: Form, board: Board) -> list[str]:
    found = [f"there is no link {link!r}" for link in form.links if link not in LINKS]
    found += [
        f"the board has no peripheral {x!r}" for x in form.peripherals if x not in board.peripherals
    ]
    if found:
        return found
    if not form.links:
        found.append("it has no link")
    known = FORMS.get(form.name)
    if known is None and form.name != "usb-reader":
        return [f"there is no such form; there are {', '.join(FORMS)} and usb-reader"]
    if known is not None and form.links != known.places:
        found.append(f"its links are {', '.join(known.places)}")
    if "ble" in form.links and not board.bluetooth:
        found.append("ble needs Bluetooth, which the board does not have")
    if {"ccid", "serial"} & set(form.links) and not board.usb_device:
        found.append("ccid and serial need USB, which the board does not have")
    if board.role == "emulator":
        return found
    members = [board.peripherals[x] for x in form.peripherals]
    kinds = Counter(each.part.kind for each in members)
    needed = {"nfc": "nfc" in form.links}
    if known is not None:
        needed |= {
            "display": known.display is not None,
            "buttons": bool(known.buttons),
            "battery": known.power == "battery",
        }
    for kind, wanted in needed.items():
        if kinds[kind] != wanted:
            found.append(
                f"it has {kinds[kind]} peripherals of kind {kind}, and needs {int(wanted)}"
            )
    for name, rail in board.rails.items():
        taken = sum(each.part.current_ma for each in members if each.rail == name)
        if rail.supplies_ma is not None and taken > rail.supplies_ma:
            found.append(f"{taken} mA from {name}, which gives {rail.supplies_ma} mA")
    return found


def _check_memory(board: Board) -> list[str]:
    found = []
    if board.heap_kb < HEAP_LEAST_KB:
        found.append(f"memory: a heap of {board.heap_kb} kB, and a full card needs {HEAP_LEAST_KB}")
    if board.role == "emulator":
        return found
    flash, storage, ram = board.flash_kb, board.storage_kb, board.ram_kb
    if flash is None or storage is None or ram is None:
        return [*found, "memory: flash_kb, storage_kb and ram_kb are missing"]
    if not storage < flash or not board.heap_kb < ram:
        found.append("memory: storage is part of the flash, and heap part of the RAM")
    if storage < STORAGE_LEAST_KB:
        found.append(f"memory: {storage} kB for files, and the card needs {STORAGE_LEAST_KB}")
    return found


def _twice(values: Iterable[_Value]) -> list[_Value]:
    return [value for value, count in Counter(values).items() if count > 1]


def warnings(board: Board) -> list[str]:
    """What is less than wanted on a board that can be built, one sentence each."""
    found = []
    if board.heap_kb < HEAP_WANTED_KB:
        found.append(
            f"About {board.heap_kb} kB of heap: a full card needs {HEAP_LEAST_KB} kB, but was tested with"
            f" {HEAP_WANTED_KB} kB; do not count on more titles than a card holds now."
        )
    if not board.secure_element and board.role != "emulator":
        found.append("No secure element: whoever reads the flash has the card's key.")
    return found

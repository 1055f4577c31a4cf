# SPDX-License-Identifier: Apache-2.0
"""How long the toolkit waits for a card and how often it tries: the one place for it.

`CHIPCASH_TIMES="serial_answer_s=10,serial_tries=5"` in the environment changes them for slow boards and poor
links. Trying again is safe on every link: a card answers a payment request that it has seen with the same
bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from chipcash.errors import PathError

__all__ = ["Times", "changed", "times"]

_VARIABLE = "CHIPCASH_TIMES"


@dataclass(frozen=True)
class Times:
    """Times in seconds, tries in numbers.

    busy_s: how long a card may work at one command, though it gives signs of life (Bluetooth, SD, serial).
    confirm_s: how long a card that asks its holder to confirm a payment is asked again, confirm_poll_s: pause
    in between.

    at_answer_s: how long a modem may take to bring a SIM's answer, the SIM's own work included. at_greet_s:
    how long it may take for a command of its own, at_greetings: how often it is asked whether it is there.

    serial_answer_s: silence after which a frame on a serial line counts as lost; a working card gives a
    sign of life each second. serial_tries: how often a frame is sent before the link counts as lost.
    serial_greet_s: how long a board may take to greet, serial_greetings: how often it is asked: one just
    opened may still start. nfc_poll_s: pause between two looks for a card in the field. sd_answer_s: silence
    after which an SD card counts as lost, sd_greet_s: when it is opened. pcsc_restart_s: pause before the
    smart card service, found restarting, is asked once more. pcsc_poll_s: how long one wait for a card lasts.

    ble_look_s: how long one search for a Bluetooth card lasts; cards advertise several times a second.
    ble_survey_s: how long a search without a name looks whether there are several. ble_connect_s: how long
    connecting, with pairing, or one write may take. ble_answer_s: silence after which the card counts as
    lost; a working one gives a sign of life twice a second."""

    busy_s: float = 30.0
    confirm_s: float = 30.0
    confirm_poll_s: float = 0.3
    serial_answer_s: float = 3.0
    serial_tries: int = 3
    serial_greet_s: float = 0.5
    serial_greetings: int = 4
    at_answer_s: float = 10.0
    at_greet_s: float = 0.5
    at_greetings: int = 4
    nfc_poll_s: float = 0.1
    sd_answer_s: float = 3.0
    sd_greet_s: float = 0.5
    pcsc_restart_s: float = 0.5
    pcsc_poll_s: float = 0.25
    ble_look_s: float = 2.0
    ble_survey_s: float = 0.7
    ble_connect_s: float = 10.0
    ble_answer_s: float = 3.0


_changed: list[Times] = []


def times() -> Times:
    """What holds now. Raises PathError if the environment's are not written well."""
    if not _changed:
        _changed.append(_read(os.environ.get(_VARIABLE, "")))
    return _changed[-1]


@contextmanager
def changed(**values: float) -> Iterator[None]:
    """Other times for a while."""
    _changed.append(replace(times(), **values))  # type: ignore[arg-type]  # fields of both kinds
    try:
        yield
    finally:
        _changed.pop()


def _read(text: str) -> Times:
    kinds = {field.name: type(getattr(Times, field.name)) for field in fields(Times)}
    values: dict[str, float] = {}
    for part in text.replace(" ", "").split(","):
        if not part:
            continue
        name, _, value = part.partition("=")
        try:
            values[name] = kinds[name](value)
            if not 0 < values[name] <= 3600:
                raise ValueError
        except (KeyError, ValueError):
            raise PathError(
                f"“{part}” in {_VARIABLE} is no time or number of tries that there is.",
                hint="Write name=value, name=value of: " + ", ".join(kinds),
            ) from None
    return replace(Times(), **values)  # type: ignore[arg-type]

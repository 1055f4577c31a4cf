# SPDX-License-Identifier: Apache-2.0
"""SIM and eSIM cards behind a modem, by path `at:/dev/ttyUSB2`: AT commands of 3GPP TS 27.007 section 8.

A logical channel is opened to the application (+CCHO, +CGLA, +CCHC); where a modem knows none of these, or
with `?channel=basic`, commands go over the basic channel (+CSIM)."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from chipcash.errors import LinkLostError, NoCardError, NoReaderError, PathError, TransportError
from chipcash.transports import serial
from chipcash.transports.base import BaseConnection
from chipcash.transports.times import times
from chipcash_wire import commands as c

_MAX_SHORT = 261
_BASIC = "?channel=basic"


class _Refused(Exception):
    """The modem answered ERROR."""


class _Silent(Exception):
    """The modem did not answer, or the line failed."""


class _Modem:
    """The modem on an open line."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self._buffer = b""

    def ask(self, command: str, seconds: float) -> list[str]:
        """The lines that a command is answered with, before its OK. Raises _Refused, _Silent."""
        try:
            self._line.reset_input_buffer()
            self._buffer = b""
            self._line.write(command.encode("ascii") + b"\r")
            lines: list[str] = []
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                self._buffer += self._line.read(self._line.in_waiting or 1)
                *whole, self._buffer = self._buffer.replace(b"\r", b"\n").split(b"\n")
                for each in whole:
                    text = each.decode("ascii", "replace").strip()
                    if text == "OK":
                        return lines
                    if text == "ERROR" or text.startswith(("+CME ERROR", "+CMS ERROR")):
                        raise _Refused(text)
                    if text:
                        lines.append(text)
        except serial.failures() as error:
            raise _Silent(str(error)) from None
        raise _Silent("no answer")

    def close(self) -> None:
        self._line.close()


class AtConnection(BaseConnection):
    """A session with a SIM's application. Make it with open_modem(). channel: None for the basic one."""

    def __init__(self, modem: _Modem, channel: int | None, path: str) -> None:
        super().__init__(path, over_air=False)
        self._modem: _Modem | None = modem
        self.channel = channel

    def _transceive(self, apdu: bytes) -> bytes:
        if self._modem is None:
            raise LinkLostError(
                "The session with the SIM is closed.",
                maybe_executed=False,
                hint="Open the card again.",
                path=self.path,
            )
        if len(apdu) > _MAX_SHORT or (len(apdu) > 6 and not apdu[4]):
            # Modems carry short APDUs: the card client then says it in parts.
            return c.SW_LENGTH.to_bytes(2, "big")
        name = "+CSIM" if self.channel is None else "+CGLA"
        where = "" if self.channel is None else f"{self.channel},"
        command = f'AT{name}={where}{2 * len(apdu)},"{apdu.hex().upper()}"'
        try:
            for line in self._modem.ask(command, times().at_answer_s):
                if line.startswith(f"{name}:"):
                    size, _, digits = line.partition(":")[2].strip().partition(",")
                    answer = bytes.fromhex(digits.strip('"'))
                    if int(size) == 2 * len(answer) >= 4:
                        return answer
            self._lost("The modem's answer is none")
        except ValueError:
            self._lost("The modem's answer is none")
        except _Refused:
            self._lost("The modem has lost its channel to the SIM, as after a reset")
        except _Silent as silent:
            self._lost(f"The modem stopped answering ({silent})")

    def _lost(self, what: str) -> NoReturn:
        # AT answers carry no number: a late one would be taken for the next command's.
        self.close()
        raise LinkLostError(
            f"{what}. The card may have carried out the last command.",
            maybe_executed=True,
            hint="Open the card again and repeat the same request: a card never pays it twice.",
            path=self.path,
        )

    def close(self) -> None:
        """Close the channel, so that what was verified is forgotten, and leave the line. May be repeated."""
        if self._modem is None:
            return
        try:
            if self.channel is not None:
                self._modem.ask(f"AT+CCHC={self.channel}", times().at_greet_s)
        except (_Refused, _Silent):
            pass  # it is closed already
        self._modem.close()
        self._modem = None


def open_modem(text: str, *, wait: float = 0.0) -> AtConnection:
    """Open the application of the SIM behind a modem; text: the line's name, with or without
    `?channel=basic`.

    wait: seconds to wait for a modem. Raises PathError, NoReaderError (no such line), NoCardError (no
    modem, or its SIM has no such application), TransportError."""
    path = f"at:{text}"
    device = text.removesuffix(_BASIC)
    if not device or "?" in device:
        raise PathError(
            f"“{path}” names no modem.",
            hint="Write at:/dev/ttyUSB2 or at:/dev/ttyUSB2?channel=basic",
            path=path,
        )
    deadline = time.monotonic() + wait
    while True:
        try:
            return _open(device, text.endswith(_BASIC), path)
        except (NoReaderError, NoCardError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(times().at_greet_s)


def _open(device: str, basic: bool, path: str) -> AtConnection:
    modem = _Modem(serial.open_device(device, path))
    try:
        _greet(modem, device, path)
        if basic:
            return AtConnection(modem, None, path)
        try:
            for line in modem.ask(f'AT+CCHO="{c.AID.hex().upper()}"', times().at_answer_s):
                # Old modems answer the bare number; other lines are news that nobody asked for.
                number = line.removeprefix("+CCHO:").strip()
                if number.isascii() and number.isdigit():
                    return AtConnection(modem, int(number), path)
            raise ValueError
        except _Refused:
            try:
                modem.ask("AT+CCHO=?", times().at_greet_s)
            except _Refused:
                return AtConnection(modem, None, path)  # it knows no channels
            raise NoCardError(
                f"The SIM behind {device} has no chipcash application, or no channel is free.",
                hint="Is it the right SIM? If another program uses it, close that.",
                path=path,
            ) from None
        except ValueError:
            raise TransportError(
                f"The modem at {device} answers what no modem should.",
                hint="Is it the line for AT commands? Modems often have several lines.",
                path=path,
            ) from None
    except _Silent as silent:
        modem.close()
        raise NoCardError(
            f"The modem at {device} stopped answering ({silent}).", hint="Try again.", path=path
        ) from None
    except BaseException:
        modem.close()
        raise


def _greet(modem: _Modem, device: str, path: str) -> None:
    """Find out that there is a modem, and have it not repeat what it is told."""
    for _ in range(times().at_greetings):
        try:
            modem.ask("ATE0", times().at_greet_s)
            return
        except (_Refused, _Silent):
            continue
    raise NoCardError(
        f"No modem answers at {device}.",
        hint="Is it the line for AT commands? Modems often have several lines.",
        path=path,
    )

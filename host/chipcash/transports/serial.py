# SPDX-License-Identifier: Apache-2.0
"""Boards on a serial line, USB-CDC or UART, by path `serial:/dev/ttyACM0`: protocols/spec/links.md, Serial.

A command whose answer does not come is sent again under its number, which the card answers with the same
bytes."""

from __future__ import annotations

import importlib
import os
import termios
import time
from typing import Any

from chipcash.errors import LinkLostError, NoCardError, NoReaderError, PathError, TransportError
from chipcash.transports.base import BaseConnection
from chipcash.transports.times import times
from chipcash_links import serial as framing

_BAUD = 115200
"""Bits a second on a UART; USB-CDC does not care."""
_CTRL_C = b"\x03"
_LOOK_S = 0.05
"""Longest wait of one read; a stop is noticed after it."""


class SerialConnection(BaseConnection):
    """A session with the card on a serial line. Make it with open_line()."""

    def __init__(self, line: Any, device: str) -> None:
        super().__init__(f"serial:{device}", over_air=False)
        self._line = line
        self._lost = failures()
        self._reader = framing.Reader()
        # Any beginning will do, but another one than that of the session before.
        self._number = os.urandom(1)[0]

    def greet(self) -> bool:
        """Have the card forget everything of this line; False if none answers."""
        for _ in range(times().serial_greetings):
            self._send(self._reset())
            if self._wait(framing.READY, times().serial_greet_s) is not None:
                return True
        return False

    def _transceive(self, apdu: bytes) -> bytes:
        if self._line is None:
            raise self._loss("The session on this line is closed", False)
        self._number = self._number + 1 & 0xFF
        command = framing.frame(framing.COMMAND, self._number, apdu)
        try:
            for _ in range(times().serial_tries):
                self._send(command)
                answer = self._wait(framing.REPLY, times().serial_answer_s)
                if answer is not None:
                    return answer
        except self._lost as error:
            raise self._loss(f"The line failed ({error})", True) from None
        raise self._loss("The card stopped answering", True)

    def close(self) -> None:
        """Have the card forget what was verified, and leave the line. May be repeated."""
        if self._line is None:
            return
        try:
            self._send(self._reset())
            self._line.flush()
        except self._lost:
            pass  # unplugged: it has forgotten by itself
        self._line.close()
        self._line = None

    def _reset(self) -> bytes:
        """RESET with the next number that does not stop a board which still starts: until its card runs it
        takes Ctrl-C, from whoever wants its prompt."""
        while True:
            self._number = self._number + 1 & 0xFF
            frame = framing.frame(framing.RESET, self._number)
            if _CTRL_C not in frame:
                return frame

    def _send(self, frame: bytes) -> None:
        self._line.write(frame)

    def _wait(self, kind: int, seconds: float) -> bytes | None:
        """The frame of a kind with the current number; None after so many seconds of silence."""
        deadline = time.monotonic() + seconds
        give_up = time.monotonic() + times().busy_s
        while time.monotonic() < min(deadline, give_up):
            for got, number, data in self._reader.feed(self._line.read(self._line.in_waiting or 1)):
                if number != self._number:
                    continue  # of an earlier command
                if got == kind:
                    return data
                if got == framing.BUSY:
                    deadline = time.monotonic() + seconds
        return None

    def _loss(self, what: str, maybe: bool) -> LinkLostError:
        if maybe:
            what += ". The card may have carried out the last command."
            hint = (
                "Open the card again and repeat the same request: it never pays the same one twice."
            )
        else:
            what += ". The last command did not reach the card."
            hint = "Open the card again."
        return LinkLostError(what, maybe_executed=maybe, hint=hint, path=self.path)


def open_line(device: str, *, wait: float = 0.0) -> SerialConnection:
    """Open the card on a serial line; device: its name, such as /dev/ttyACM0. wait: seconds to wait for a
    card.

    Raises PathError, NoReaderError (no such line), NoCardError (nobody greets), TransportError (not
    allowed, or used by another program)."""
    path = f"serial:{device}"
    if not device:
        raise PathError("The path serial: names no line.", hint="serial:/dev/ttyACM0", path=path)
    deadline = time.monotonic() + wait
    while True:
        try:
            connection = SerialConnection(open_device(device, path), device)
        except NoReaderError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_S)
            continue
        try:
            if connection.greet():
                return connection
        except failures():
            pass  # unplugged meanwhile
        connection.close()
        if time.monotonic() >= deadline:
            raise NoCardError(
                f"Nothing on the line {device} answers as a chipcash card.",
                hint="Is it the right line, and does the board run the chipcash firmware? Then unplug it and "
                "plug it in again.",
                path=path,
            )


def _library() -> Any:
    """pyserial, loaded late: every other transport works without it."""
    try:
        return importlib.import_module("serial")
    except ImportError as error:
        raise TransportError(
            f"Serial lines need the Python package pyserial, which cannot be loaded: {error}.",
            hint="Run: pip install pyserial",
        ) from None


def failures() -> tuple[type[Exception], ...]:
    """What a line raises when it fails, for other transports over lines too. pyserial lets through what the
    system says when the other end of a line is gone."""
    return (_library().SerialException, OSError, termios.error)


def open_device(device: str, path: str) -> Any:
    """An open serial line of pyserial's, for other transports over lines too. path: for messages.

    Raises NoReaderError (no such line), TransportError (not allowed, or used by another program).
    """
    serial = _library()
    try:
        return serial.Serial(
            device, _BAUD, timeout=_LOOK_S, write_timeout=times().serial_answer_s, exclusive=True
        )
    except serial.SerialException as error:
        number = getattr(error, "errno", None)
        if not os.path.exists(device):
            raise NoReaderError(
                f"There is no serial line {device}.",
                hint="Plug the board in; boards are often /dev/ttyACM0 or /dev/ttyUSB0.",
                path=path,
            ) from None
        if number == 13:
            raise TransportError(
                f"This user may not open {device}.",
                hint="Add the user to the group that owns it (often dialout), and log in again.",
                path=path,
            ) from None
        raise TransportError(
            f"The line {device} cannot be opened: {error}.",
            hint="Close the other program that uses it.",
            path=path,
        ) from None

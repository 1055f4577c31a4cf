# SPDX-License-Identifier: Apache-2.0
"""Push buttons between pins and ground: debounced, by polling. Has never run on hardware.

A press counts once, when the button is let go or has been down for TOGETHER_MS, and only if no other button
was down meanwhile: who squeezes the card presses both, and means neither."""

from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Callable, Protocol

    class Pin(Protocol):
        """An input with a pull-up, as machine.Pin."""

        def value(self) -> int:
            """0 while the button is down."""


DEBOUNCE_MS = 10
"""A level counts when it was the same for so long."""
TOGETHER_MS = 80
"""Buttons that go down within so long were pressed together."""


class Buttons:
    """The buttons of a card. pins: each button's number (as Panel.press() takes it) and its pin; clock:
    milliseconds, as compat.ticks_ms. What is down at the beginning must be let go before anything counts."""

    def __init__(
        self, pins: "list[tuple[int, Pin]]", clock: "Callable[[], int]" = ticks_ms
    ) -> None:
        self._pins = pins
        self._clock = clock
        self._level = self.held()  # as last seen
        self._since = clock()  # when it was first seen so
        self._spoilt = bool(self._level)  # until nothing is down
        self._down: "list[int]" = []  # debounced
        self._start = 0  # when the button that is down went down
        self._presses: "list[int]" = []

    def held(self) -> "list[int]":
        """The buttons that are down at this moment, not debounced."""
        return [button for button, pin in self._pins if not pin.value()]

    def poll(self) -> None:
        """Look at the pins. Cheap; to be called every few milliseconds, in long work too."""
        now = self._clock()
        level = self.held()
        if level != self._level:
            self._level = level
            self._since = now
        if ticks_diff(now, self._since) >= DEBOUNCE_MS and level != self._down:
            self._change(level)
        if len(self._down) == 1 and ticks_diff(now, self._start) >= TOGETHER_MS:
            self._count()

    @property
    def waiting(self) -> bool:
        """Whether presses() has something."""
        return bool(self._presses)

    def presses(self) -> "list[int]":
        """The buttons that were pressed since the last call, in their order."""
        self.poll()
        presses = self._presses
        self._presses = []
        return presses

    def _change(self, level: "list[int]") -> None:
        """Others are down than before."""
        if len(level) > 1:
            self._spoilt = True
        elif level and not self._down:
            self._start = self._since
        elif not level:
            if len(self._down) == 1:
                self._count()
            self._spoilt = False
        self._down = level

    def _count(self) -> None:
        """The one button that is down was pressed; it counts once."""
        if not self._spoilt:
            self._spoilt = True
            self._presses.append(self._down[0])

# SPDX-License-Identifier: Apache-2.0
"""Time as everything here counts it: whole seconds since 1970-01-01 UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["DAY", "Clock", "SteadyClock", "system_clock"]

Clock = Callable[[], int]
"""Tells the time; tests turn one by hand."""

DAY = 86400
"""Seconds."""


def system_clock() -> int:
    """This machine's time."""
    return int(time.time())


class SteadyClock:
    """This machine's time as it was at the beginning, and what has passed since: it does not jump when
    somebody sets the machine's clock. correct() sets it, by a time that is known to be right.

    clock, passed: the machine's, and what counts seconds without ever being set.
    """

    def __init__(
        self, clock: Clock = system_clock, passed: Callable[[], float] | None = None
    ) -> None:
        self._clock = clock
        self._passed = passed or _passed
        # With its parts of a second: a card that was synchronised just now refuses who is behind by one.
        now = time.time() if clock is system_clock else clock()
        self._base = now - self._passed()

    def __call__(self) -> int:
        """Seconds since 1970."""
        return int(self._base + self._passed())

    @property
    def off(self) -> int:
        """By how many seconds the machine's clock is ahead of this one."""
        return self._clock() - self()

    def correct(self, now: int) -> None:
        """Set it, if it is off by more than a request may take."""
        if abs(now - self()) > _EXACT_S:
            self._base = now - self._passed()


_EXACT_S = 30
"""Seconds."""


def _passed() -> float:
    """Seconds since the machine started, asleep or not where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

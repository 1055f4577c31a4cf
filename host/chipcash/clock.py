# SPDX-License-Identifier: Apache-2.0
"""Time as everything here counts it: whole seconds since 1970-01-01 UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["DAY", "Clock", "system_clock"]

Clock = Callable[[], int]
"""Tells the time; tests turn one by hand."""

DAY = 86400
"""Seconds."""


def system_clock() -> int:
    """This machine's time."""
    return int(time.time())

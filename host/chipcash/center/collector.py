# SPDX-License-Identifier: Apache-2.0
"""How processes of the center collect garbage."""

from __future__ import annotations

import gc

__all__ = ["collect_seldom"]

_AT_ONCE = 50_000
"""Objects made and not freed before Python looks for cycles: those of some deposits, instead of 700."""


def collect_seldom() -> None:
    """For a process that settles or verifies, once it has loaded what it needs.

    What a deposit is decided with has no cycles, and is freed when it is over. Looking for some in the middle
    of it took a fifth of settling.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_AT_ONCE)

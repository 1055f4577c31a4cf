# SPDX-License-Identifier: Apache-2.0
"""The till's clock beside the machine's."""

from __future__ import annotations

import time

from chipcash.clock import SteadyClock, system_clock


def test_it_is_never_behind_the_machines() -> None:
    """Not by a second either, whenever within one it was made: a card knows the time of its last
    synchronisation, and refuses an older one."""
    for _ in range(3):
        clock = SteadyClock()
        for _ in range(20):
            before = system_clock()
            assert clock() >= before
            time.sleep(0.02)

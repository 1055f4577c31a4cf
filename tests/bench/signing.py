# SPDX-License-Identifier: Apache-2.0
"""Times the card's signatures, under CPython or MicroPython: signing.py ROUNDS prints JSON. Portable.

{suite: {"sign": [...], "coupon": [...], "verify": [...]}}, microseconds each. The three take turns, so that
what slows the machine down for a while slows down all of them.
"""

import json
import os
import sys
import time

from chipcash_card.suites import BY_NAME, Signer, generate_private
from chipcash_wire.compat import keep_heap_whole

_MESSAGE = bytes(range(220))  # the length of a claim over one title
_TOGETHER = 8  # a coupon's signature is too short to be timed alone

try:
    from time import perf_counter_ns

    def now():
        """Microseconds since some moment."""
        return perf_counter_ns() / 1000

except ImportError:

    def now():
        """Microseconds since some moment."""
        return time.ticks_us()


def measure(suite, rounds):
    """The times of a suite."""
    signer = Signer(suite, generate_private(suite, os.urandom), 1, os.urandom)
    times = {"sign": [], "coupon": [], "verify": []}
    for _ in range(rounds):
        start = now()
        signature = signer.sign(_MESSAGE)
        times["sign"].append(now() - start)

        for _ in range(_TOGETHER):
            signer.prepare()
        start = now()
        for _ in range(_TOGETHER):
            signer.sign(_MESSAGE)
        times["coupon"].append((now() - start) / _TOGETHER)
        assert not signer.coupons

        start = now()
        good = suite.verify(signer.public, _MESSAGE, signature)
        times["verify"].append(now() - start)
        assert good
    return times


def main(rounds):
    """Measure both suites, in the circumstances of a card."""
    keep_heap_whole()
    print(json.dumps({name: measure(BY_NAME[name], rounds) for name in sorted(BY_NAME)}))


main(int(sys.argv[1]))

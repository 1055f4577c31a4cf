# SPDX-License-Identifier: Apache-2.0
"""Times the card's signatures, under CPython or MicroPython: signing.py ROUNDS prints JSON. Portable.

{suite: {"sign": [...], "coupon": [...], "verify": [...]}}, microseconds each: see
chipcash_board.measure.signing().
"""

import json
import sys

from chipcash_board.measure import signing
from chipcash_card.suites import BY_NAME
from chipcash_wire.compat import keep_heap_whole

_TOGETHER = 8  # a coupon's signature is too short to be timed alone


def main(rounds):
    """Measure both suites, in the circumstances of a card."""
    keep_heap_whole()
    print(json.dumps({name: signing(name, rounds, _TOGETHER) for name in sorted(BY_NAME)}))


main(int(sys.argv[1]))

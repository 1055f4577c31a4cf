# SPDX-License-Identifier: Apache-2.0
"""The test network's center as a process of its own: python -m tests.bench.serving LEDGER SUITE PROCESSES

Prints its URL, and serves until its standard input ends. Deposits are checked in so many processes, or in its
own if that is 1. No TLS and no limits: what is measured is the settling.
"""

from __future__ import annotations

import sys
from contextlib import closing

from chipcash.center.collector import collect_seldom
from chipcash.center.registration import Center
from chipcash.center.service import Service
from tests.center.world import START, key, trust


def main() -> None:
    """As the module says."""
    ledger, suite, processes = sys.argv[1:]
    with closing(Center(ledger, key("center", suite), trust(suite), clock=lambda: START)) as center:
        if int(processes) > 1:
            center.check_in(int(processes))
        with Service(center) as service:
            collect_seldom()
            print(service.url, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()

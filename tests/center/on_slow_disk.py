# SPDX-License-Identifier: Apache-2.0
"""A center in a process of its own, for test_slow_disk: the World's, over the ledger at the path given."""

from __future__ import annotations

import sys

from chipcash.center.service import Service
from tests.center.world import World

if __name__ == "__main__":
    served = Service(World(sys.argv[1]).center)
    print(served.url, flush=True)
    served.run()

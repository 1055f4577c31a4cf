# SPDX-License-Identifier: Apache-2.0
"""The inner half of `chipcash sim exec`, run inside the private PC/SC service."""

import sys

from chipcash.cli.sim import inside

if __name__ == "__main__":
    sys.exit(inside(sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""`python -m chipcash` is `chipcash`."""

from chipcash.cli import main

main()

# SPDX-License-Identifier: Apache-2.0
"""How the firmware lies on a board: each build in a folder of its own, and /main.py, which names the one that
the board starts. It is replaced by a rename, which littlefs does whole or not at all.

For the card itself (chipcash_board.update) and for the host that flashes it (chipcash.boards.flashing).
Portable."""

import sys

MAIN = "main.py"
NEW = "main.new"
"""What is renamed to MAIN."""
FOLDER = "chipcash-"
"""What the names of the builds' folders begin with; behind it comes the build id."""
BONDS = "bonds"
"""What pairing left behind (chipcash_drivers.ble)."""
SELECTOR = """# chipcash {build}
import sys

sys.path.insert(0, "/chipcash-{build}")
import main
"""
"""MAIN, but for the build id."""


def running() -> str:
    """The build id of the firmware that SELECTOR started, empty if it was not."""
    folder = sys.path[0]
    return folder[1 + len(FOLDER) :] if folder[: 1 + len(FOLDER)] == "/" + FOLDER else ""

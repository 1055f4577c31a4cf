# SPDX-License-Identifier: Apache-2.0
"""A till whose disk is full says so, takes nothing that it could lose, and has lost nothing afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MOUNTED = 'mount -t tmpfs -o size=64m tmpfs "$1" && exec "$2" -m tests.pos.full_disk "$1" "$3"'


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """On a file system that this test makes, in a mount namespace of its own."""
    disk, folder = tmp_path / "disk", tmp_path / "folder"
    disk.mkdir()
    folder.mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", _MOUNTED, "sh", disk, sys.executable, folder],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all told\n"

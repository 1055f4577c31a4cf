# SPDX-License-Identifier: Apache-2.0
"""A command does not wait for what only others need."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys
import chipcash.cli
for group in ("bank", "card", "center", "pos"):
    chipcash.cli.root.get_command(None, group)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_heavy_libraries_are_for_who_needs_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"click", "httpx"} <= loaded  # it would be seen
    for name in ("alembic", "nats", "PIL", "prometheus_client", "psycopg", "reportlab", "rich",
                 "sqlalchemy", "starlette", "uvicorn"):  # fmt: skip
        assert name not in loaded, name

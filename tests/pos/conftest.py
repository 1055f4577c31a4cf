# SPDX-License-Identifier: Apache-2.0
"""A synchronised shop for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pos.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    made.pos.sync(made.center)
    yield made
    made.close()

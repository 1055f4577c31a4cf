# SPDX-License-Identifier: Apache-2.0
"""One story of each suite for all tests here; who spoils a site copies it first."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.site.published import Story


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Story]:
    return cache(lambda suite: Story(tmp_path_factory.mktemp(suite), suite))

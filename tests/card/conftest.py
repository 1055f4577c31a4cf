# SPDX-License-Identifier: Apache-2.0
"""The cards here hash with OpenSSL's SM3, where there is one.

They run under CPython, where the card's own takes half of the time that a card of the gm suite takes, and
they are about what is on the flash. That both say the same is tested in tests/portable, for every runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from chipcash_card import suites


def _sm3(data: bytes) -> bytes:
    return hashlib.new("sm3", data).digest()


@pytest.fixture(scope="package", autouse=True)
def quick_sm3() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if "sm3" in hashlib.algorithms_available:
            patch.setattr(suites, "sm3", _sm3)
        yield

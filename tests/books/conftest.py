# SPDX-License-Identifier: Apache-2.0
"""A synchronised shop for each test."""

from __future__ import annotations

from tests.pos.conftest import shop

__all__ = ["shop"]

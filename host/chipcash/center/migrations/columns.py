# SPDX-License-Identifier: Apache-2.0
"""How the steps write columns down: bytes, and whole numbers of 63 bits, on either database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

__all__ = ["KEYED", "STRICT", "WHOLE", "binary", "whole"]

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STRICT: dict[str, Any] = {"sqlite_strict": True}
"""Of every table: SQLite takes no value of another type."""

KEYED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
"""Of a table with small rows, which SQLite keeps in the order of its key."""


def binary(name: str, *rest: sa.schema.SchemaItem, null: bool = False) -> sa.Column[bytes]:
    """A column of bytes."""
    return sa.Column(name, sa.LargeBinary(), *rest, nullable=null)


def whole(name: str, *rest: sa.schema.SchemaItem, null: bool = False) -> sa.Column[int]:
    """A column of whole numbers."""
    return sa.Column(name, WHOLE, *rest, nullable=null)

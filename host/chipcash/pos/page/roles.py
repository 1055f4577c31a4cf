# SPDX-License-Identifier: Apache-2.0
"""What who works at a till may do. docs/till/README.md says why these roles and no others."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from chipcash.people.accounts import ANY, PUBLIC, Rules

__all__ = ["ROLES", "RULES", "Right", "staff_file"]


class Right(StrEnum):
    """What an account may do by its role; `ANY` is what every account may, `PUBLIC` what everybody may."""

    PUBLIC = PUBLIC
    ANY = ANY
    CHARGE = "charge"
    CLOSE = "close"
    REFUND = "refund"
    SETTINGS = "settings"


ROLES: dict[str, frozenset[Right]] = {
    "cashier": frozenset({Right.CHARGE}),
    "manager": frozenset({Right.CHARGE, Right.CLOSE, Right.REFUND, Right.SETTINGS}),
}
"""Role and its rights. CLOSE: the shift of somebody else. No role makes accounts: that takes the till's
machine."""

RULES = Rules(
    ROLES, "chipcash pos staff", pins=frozenset({"cashier"}), idle_s=30 * 60, absolute_s=14 * 3600
)
"""Of their accounts. Who takes money logs in with a PIN, often and with a customer waiting; who gives money
back logs in with a password. docs/till/README.md says what a PIN is worth."""


def staff_file(directory: Path) -> Path:
    """Accounts of a till, and the record of what they did, in its directory."""
    return directory / "staff.db"

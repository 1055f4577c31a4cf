# SPDX-License-Identifier: Apache-2.0
"""What staff of a center may do. docs/staff.md says why these roles and no others."""

from __future__ import annotations

from enum import StrEnum

from chipcash.people.accounts import ANY, PUBLIC, Rules

__all__ = ["ROLES", "RULES", "Right"]


class Right(StrEnum):
    """What an account may do by its role; `ANY` is what every account may, `PUBLIC` what everybody may."""

    PUBLIC = PUBLIC
    ANY = ANY
    LOOK = "look"
    DISPUTES = "disputes"
    BLOCK = "block"
    TRAIL = "trail"


ROLES: dict[str, frozenset[Right]] = {
    "viewer": frozenset({Right.LOOK}),
    "dispute": frozenset({Right.LOOK, Right.DISPUTES}),
    "operator": frozenset({Right.BLOCK}),
    "auditor": frozenset({Right.TRAIL}),
}
"""Role and its rights. An account has one role. No role makes accounts: that takes the center's machine."""

RULES = Rules(ROLES, "chipcash center staff")
"""Of their accounts."""

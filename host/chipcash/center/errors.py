# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between a participant and the registration center."""

from __future__ import annotations

from functools import partial
from typing import Any

from chipcash.errors import ChipcashError

__all__ = ["CenterError", "CenterRefused", "CenterReplyInvalid", "CenterUnreachable", "LedgerError"]


class CenterError(ChipcashError):
    """Base of the failures at or on the way to the registration center."""

    exit_code = 20


class CenterUnreachable(CenterError):
    """No answer from the center: no money changed hands that the same request would not bring again."""

    exit_code = 21


class CenterReplyInvalid(CenterUnreachable):
    """Something answered, but not provably this network's center: taken as no answer."""

    exit_code = 24


class CenterRefused(CenterError):
    """The center answered no; nothing changed there.

    name: what for, for programs (`signature`, `network`, `unknown`, `conflict`, ...); status: of HTTP.
    """

    exit_code = 22

    def __init__(self, name: str, message: str, *, status: int = 400, hint: str = "") -> None:
        super().__init__(message, hint=hint, name=name, status=status)
        self.name = name
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """Refusals come from other processes too."""
        return partial(CenterRefused, status=self.status, hint=self.hint), (self.name, self.message)


class LedgerError(CenterError):
    """The ledger breaks its own rule, conservation of money: stop the center and restore a backup."""

    exit_code = 23

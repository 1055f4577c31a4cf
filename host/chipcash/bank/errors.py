# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in the issuing library and the bank library."""

from __future__ import annotations

from chipcash.errors import ChipcashError

__all__ = ["BankError"]


class BankError(ChipcashError):
    """A library cannot do what was asked; the message says where the money is.

    reason: reserve, funds, title, outcome, receipt.
    """

    exit_code = 30

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.reason = reason

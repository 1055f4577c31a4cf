# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a log."""

from __future__ import annotations

from chipcash.errors import ChipcashError

__all__ = ["AuditFailed", "LogError", "LogInvalid", "LogUnreachable"]


class LogError(ChipcashError):
    """A log or a witness cannot be run as it stands. Nothing in it was changed."""

    exit_code = 50


class LogUnreachable(LogError):
    """The log cannot be read just now; this says nothing about what is in it."""

    exit_code = 51


class LogInvalid(LogError):
    """What was read is not the log that it should be: not signed, not whole, or not a continuation."""

    exit_code = 52


class AuditFailed(LogError):
    """An entry breaks the ledger's rules. entry: its number in the log, from 0."""

    exit_code = 53

    def __init__(self, entry: int, message: str, hint: str = "") -> None:
        super().__init__(
            f"Entry {entry} of the log: {message}",
            hint=hint
            or "Keep a copy of the log and its checkpoint: they prove what the center signed.",
            entry=entry,
        )
        self.entry = entry

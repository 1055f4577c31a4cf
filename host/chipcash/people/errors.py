# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around accounts and the pages they open."""

from __future__ import annotations

from chipcash.errors import ChipcashError

__all__ = ["StaffError", "TrailBroken"]


class StaffError(ChipcashError):
    """An account, a password or a session is refused; no account was changed."""

    exit_code = 35


class TrailBroken(ChipcashError):
    """The record of what staff did was tampered with. number: of the first entry that is not as it was."""

    exit_code = 36

# SPDX-License-Identifier: Apache-2.0
"""A POS as its users see it: books, charging, transfers, synchronising, shifts.

Money first: a request is stored before it is sent, a payment before anybody hears "paid", a claim
before it leaves. Whatever is cut off in between is finished by repeating the same bytes.
"""

from __future__ import annotations

from chipcash.pos.shifts import Shifts
from chipcash.pos.syncing import Synchronising

__all__ = ["Pos"]


class Pos(Synchronising, Shifts):
    """A merchant's terminal over one directory: `pos.key` (0600), `network.ccn` and `pos.db`.

    Open one with Pos(directory), make one with Pos.init. A context manager; one object per thread, as
    many processes as like. clock: seconds since 1970; extended: see chipcash.card.Card; operator: who
    works at it, for the books. Raises PosError if the directory is no POS, CryptoError or TrustError if its
    files are damaged.

    Titles whose claims were signed are remembered only here: never run a POS from an old backup
    beside, or after, the one that was backed up.
    """

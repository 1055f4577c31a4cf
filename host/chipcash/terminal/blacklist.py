# SPDX-License-Identifier: Apache-2.0
"""The blacklist as a terminal holds it: a value that only grows by what the center signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chipcash.errors import ChipcashError
from chipcash.trust import Trust
from chipcash_wire import objects as o

__all__ = ["Blacklist", "BlacklistError"]


class BlacklistError(ChipcashError):
    """A blacklist entry or signed time is not from this network's center; nothing was taken over."""

    exit_code = 11


@dataclass(frozen=True)
class Blacklist:
    """Keys not to be accepted, and how new that knowledge is. The default one knows nothing.

    subjects: the keys (33 bytes); sequence: entries 1..sequence are all in it, without a hole;
    promised: how many entries there were at `time`, as the center signed it; time: the newest signed
    time, seconds since 1970.
    """

    subjects: frozenset[bytes] = frozenset()
    sequence: int = 0
    promised: int = 0
    time: int = 0

    @property
    def complete(self) -> bool:
        """Whether every entry is there that the center had at `time`."""
        return self.sequence >= self.promised

    def extend(
        self, entries: Iterable[o.BlacklistEntry], signed_time: o.SignedTime | None, trust: Trust
    ) -> Blacklist:
        """This blacklist and what the center adds. Entries already there may come again, in any order.

        Entries behind a hole are left out, so that `complete` tells it. An older signed time changes
        nothing. Raises BlacklistError for anything that the center did not sign.
        """
        subjects = set(self.subjects)
        sequence = self.sequence
        for entry in sorted(entries, key=lambda entry: entry.sequence):
            if not trust.signed_by_center(entry):
                raise _foreign("blacklist entry")
            if entry.sequence > sequence + 1:
                break
            subjects.add(entry.subject)
            sequence = max(sequence, entry.sequence)
        promised, newest = self.promised, self.time
        if signed_time is not None:
            if not trust.signed_by_center(signed_time):
                raise _foreign("signed time")
            if signed_time.time > newest:
                promised, newest = max(promised, signed_time.sequence), signed_time.time
        return Blacklist(frozenset(subjects), sequence, promised, newest)


def _foreign(what: str) -> BlacklistError:
    return BlacklistError(
        f"A {what} is not signed by this network's registration center; it was not taken over.",
        hint="Check the center's address: it may belong to another network, or somebody is in between.",
    )

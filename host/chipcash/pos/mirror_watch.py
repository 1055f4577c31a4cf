# SPDX-License-Identifier: Apache-2.0
"""Whether a till's mirror takes what is written, known before the next customer wants to pay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from chipcash.clock import Clock
from chipcash.pos.mirror import MirrorError
from chipcash.pos.store import Store

__all__ = ["MirrorStatus", "MirrorWatch"]

_LOOK_S = 30.0
"""Seconds without a record in the mirror after which one is written, to see that it can be."""
_AGAIN_S = 5.0
"""Seconds until a mirror that could not be written is tried again."""


@dataclass(frozen=True)
class MirrorStatus:
    """A till's mirror. Times in seconds since 1970.

    where: its folder or URL, "" for none; written: when it last took a record while this till runs, None if
    it has not yet; failing: since when it cannot be written, None if it can; message, hint: why, for people.
    """

    where: str = ""
    written: int | None = None
    failing: int | None = None
    message: str = ""
    hint: str = ""


class MirrorWatch:
    """What a running till knows of its mirror, from all its stores. May be used by several threads.

    clock: seconds since 1970; changed: called where a screen has to show something else.
    """

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()
        self._found = MirrorStatus()
        self._heard = float("-inf")

    def noted(self, where: str, error: MirrorError | None) -> None:
        """A store has written a record to the mirror at where, or could not. See Store.noted."""
        now = self._clock()
        with self._lock:
            before = self._of(where)
            if error is None:
                self._found = MirrorStatus(where, written=now)
                self._heard = time.monotonic()
            else:
                since = now if before.failing is None else before.failing
                self._found = replace(before, failing=since, message=error.message, hint=error.hint)
            after = self._found
        if (before.failing, before.message) != (after.failing, after.message) or not before.written:
            self._changed()

    def look(self, store: Store) -> float:
        """Write to the mirror if nobody else has for a while; the seconds until it should be looked at again.

        Raises DatabaseError if it is the books that cannot be written.
        """
        where = store.mirror
        if not where:
            return _LOOK_S
        if self.status(where).failing is not None or time.monotonic() - self._heard >= _LOOK_S:
            try:
                # First without the books' lock, which a payment wants: who does not answer takes seconds.
                store.mirror_state()
            except MirrorError as error:
                self.noted(where, error)
            else:
                with suppress(MirrorError):  # noted() was told
                    store.touch_mirror(self._clock())
        return _LOOK_S if self.status(where).failing is None else _AGAIN_S

    def status(self, where: str) -> MirrorStatus:
        """What is known of the mirror at a place."""
        with self._lock:
            return self._of(where)

    def _of(self, where: str) -> MirrorStatus:
        return self._found if self._found.where == where else MirrorStatus(where)

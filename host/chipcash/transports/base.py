# SPDX-License-Identifier: Apache-2.0
"""What every transport offers: command APDU in, response APDU out. No transport knows a command."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Protocol, Self

from chipcash_wire.trace import printable

TRAFFIC = 5
"""Log level under DEBUG at which transports write the bytes that pass."""
logging.addLevelName(TRAFFIC, "TRAFFIC")


class Connection(Protocol):
    """An open session with one card, by whatever path.

    path: how the user would name this very connection, for messages.
    over_air: True where the bytes travel by radio (ISO/IEC 14443, Bluetooth), so that others may hear them.
    insertion: grows with each card put there, so that a larger number is another tap; a smaller one says
    nothing, since the count may begin anew. None where a reader does not count.
    """

    @property
    def path(self) -> str:
        """How the user would name this very connection."""

    @property
    def over_air(self) -> bool:
        """True where the bytes travel by radio."""

    @property
    def insertion(self) -> int | None:
        """Grows with each card put there; None where a reader does not count."""

    def transceive(self, apdu: bytes) -> bytes:
        """Send one command APDU, short or extended; return the answer with its status word.

        61xx and 6Cxx are returned as they came. Raises LinkLostError when no answer came, and
        ValueError for an APDU below four bytes.
        """

    def close(self) -> None:
        """End the session; the card forgets what was selected and verified. May be repeated."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class BaseConnection(ABC):
    """What the transports have in common: the context manager and the traffic log.

    A transport implements `_transceive` and `close`.
    """

    def __init__(self, path: str, *, over_air: bool) -> None:
        self._path = path
        self._over_air = over_air
        self._log = logging.getLogger(type(self).__module__)

    @property
    def path(self) -> str:
        """How the user would name this very connection."""
        return self._path

    @property
    def over_air(self) -> bool:
        """True where the bytes travel by radio."""
        return self._over_air

    @property
    def insertion(self) -> int | None:
        """Grows with each card put there; None where a reader does not count."""
        return None

    def transceive(self, apdu: bytes) -> bytes:
        """Send one command APDU, return the answer with its status word; see Connection."""
        if len(apdu) < 4:
            raise ValueError("a command APDU has at least four bytes")
        if not self._log.isEnabledFor(TRAFFIC):
            return self._transceive(apdu)
        self._log.log(TRAFFIC, "%s > %s", self._path, printable(apdu))
        answer = self._transceive(apdu)
        self._log.log(TRAFFIC, "%s < %s", self._path, answer.hex())
        return answer

    @abstractmethod
    def _transceive(self, apdu: bytes) -> bytes:
        """Exchange the bytes; raise LinkLostError when no answer came."""

    @abstractmethod
    def close(self) -> None:
        """End the session. May be repeated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

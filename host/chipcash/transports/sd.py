# SPDX-License-Identifier: Apache-2.0
"""SD cards with an applet, by path `sd:/where/it/is/mounted`: protocols/spec/links.md, SD."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from chipcash.errors import LinkLostError, NoCardError, PathError, TransportError
from chipcash.transports.base import BaseConnection
from chipcash.transports.times import times
from chipcash_links import sdfile
from chipcash_wire import commands as c

_LOOK_S = 0.002


class SdConnection(BaseConnection):
    """A session with the card through its file. Make it with open_card()."""

    def __init__(self, file: Path, path: str) -> None:
        super().__init__(path, over_air=False)
        # Another number than any that lies in the file from before.
        self._number = int.from_bytes(os.urandom(4), "big")
        self._path_of_file = file
        # Held until close(): two programs in one file would end each other's sessions.
        self._lock = os.open(file.parent, os.O_RDONLY)
        self._open = True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._lock)
            raise

    def greet(self) -> bool:
        """Have the card forget the session before; False if it does not answer. Raises OSError."""
        return self._ask(b"", times().sd_greet_s) is not None

    def _transceive(self, apdu: bytes) -> bytes:
        if not self._open:
            raise self._lost("The session with the SD card is closed", maybe=False)
        if len(apdu) > sdfile.MAX_APDU:
            return c.SW_LENGTH.to_bytes(2, "big")  # the card client then says it in parts
        try:
            answer = self._ask(apdu, times().sd_answer_s)
        except OSError as error:
            raise self._lost(f"The SD card was taken out ({error.strerror})", maybe=True) from None
        if answer is None or len(answer) < 2:
            raise self._lost("The SD card stopped answering", maybe=True)
        return answer

    def _ask(self, apdu: bytes, seconds: float) -> bytes | None:
        """Write a request and wait for the reply of its number; None after so many seconds without a sign
        of life."""
        self._number = self._number + 1 & 0xFFFFFFFF
        # Opened each time: a medium that was changed has another file of the same name.
        with self._path_of_file.open("r+b") as file:
            number = file.fileno()
            os.pwrite(number, sdfile.record(sdfile.REQUEST, self._number, apdu), 0)
            os.fsync(number)
        deadline = time.monotonic() + seconds
        busy = False
        while time.monotonic() < deadline:
            with self._path_of_file.open("rb") as file:
                if hasattr(os, "posix_fadvise"):
                    # What the card wrote is on the medium, and not in this system's memory of it.
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                found = sdfile.parse(file.read(sdfile.SIZE))
            if found is not None and found[1] == self._number:
                if found[0] == sdfile.REPLY:
                    return found[2]
                if found[0] == sdfile.BUSY and not busy:
                    busy = True
                    deadline = time.monotonic() + times().busy_s
            time.sleep(_LOOK_S)
        return None

    def abandon(self) -> None:
        """Leave a card that does not answer to others."""
        self._open = False
        os.close(self._lock)

    def close(self) -> None:
        """Have the card forget what was verified. May be repeated."""
        if self._open:
            try:
                self._ask(b"", times().sd_greet_s)
            except OSError:
                pass  # taken out: it has forgotten by itself
            self.abandon()

    def _lost(self, what: str, *, maybe: bool) -> LinkLostError:
        if maybe:
            what += ". The card may have carried out the last command."
            hint = "Put the same card back and repeat the same request: a card never pays it twice."
        else:
            what += ". The last command did not reach the card."
            hint = "Open the card again."
        return LinkLostError(what, maybe_executed=maybe, hint=hint, path=self.path)


def open_card(folder: str, *, wait: float = 0.0) -> SdConnection:
    """Open the card that is mounted at a folder. wait: seconds to wait for it.

    Raises PathError, NoCardError (no card, or one without the applet), TransportError (not allowed).
    """
    path = f"sd:{folder}"
    if not folder:
        raise PathError("The path sd: names no folder.", hint="sd:/media/CARD", path=path)
    file = Path(folder, sdfile.NAME)
    deadline = time.monotonic() + wait
    while True:
        connection: SdConnection | None = None
        try:
            connection = SdConnection(file, path)
            if connection.greet():
                return connection
        except BlockingIOError:
            raise TransportError(
                f"Another program uses the SD card at {folder}.",
                hint="Close it and try again.",
                path=path,
            ) from None
        except PermissionError:
            if connection is not None:
                connection.abandon()
            raise TransportError(
                f"This user may not write to {file}.",
                hint="Mount the card so that its files belong to this user.",
                path=path,
            ) from None
        except OSError:
            pass  # not mounted, or taken out meanwhile
        if connection is not None:
            connection.abandon()
        if time.monotonic() >= deadline:
            raise NoCardError(
                f"There is no SD card with a chipcash applet at {folder}.",
                hint=f"Put it in and mount it; its file {sdfile.NAME} must be there.",
                path=path,
            )
        time.sleep(times().sd_greet_s / 10)

# SPDX-License-Identifier: Apache-2.0
"""Traces of what passes between a terminal and a card: how their lines are written. Portable.

What they look like, and how they are read, is in chipcash.trace; a card need not know any of it."""

from chipcash_wire import commands as c
from chipcash_wire.compat import ticks_diff, ticks_us

FIRST = "chipcash trace 1"
"""The first line of a trace."""

SECRET_DATA = (
    c.INS_VERIFY,
    c.INS_CHANGE_REFERENCE_DATA,
    c.INS_RESET_RETRY_COUNTER,
    c.INS_STORE_DATA,
    c.INS_SAM,
)
"""Instructions whose data are a PIN or PUK, or open what is secret in the answer."""


def printable(apdu: bytes) -> str:
    """An APDU in hex for a log; where its data is secret, only header and length."""
    if len(apdu) > 4 and apdu[1] in SECRET_DATA:
        return "%s [%d bytes not logged]" % (apdu[:4].hex(), len(apdu) - 4)
    return apdu.hex()


class Writer:
    """Writes a trace to the end of a file. Raises OSError if it cannot be opened.

    error: why the trace has ended, if it has: what passes is worth more than its trace, so that no method
    raises anything."""

    def __init__(self, file: str) -> None:
        self.error: "OSError | None" = None
        self._path = ""
        self._last = ticks_us()
        self._file = open(file, "ab")
        if not self._file.seek(0, 2):
            self._write(FIRST)

    def session(self, path: str) -> None:
        """What follows passes on the link of this name; written where it is another than before."""
        if path != self._path:
            self._path = path
            self._write("path " + path)

    def command(self, apdu: bytes) -> None:
        """A command APDU passes."""
        now = ticks_us()
        self._write("> %9.3f %s" % (ticks_diff(now, self._last) / 1000, printable(apdu)))
        self._last = now

    def answer(self, apdu: "bytes | None") -> None:
        """Its answer passes; None: there is none."""
        now = ticks_us()
        spent = ticks_diff(now, self._last) / 1000
        self._last = now
        if apdu is None:
            self._write("! %9.3f" % spent)
        else:
            self._write("< %9.3f %s" % (spent, apdu.hex()))

    def close(self) -> None:
        """Close the file. May be repeated."""
        try:
            self._file.close()
        except OSError:
            pass

    def _write(self, line: str) -> None:
        if self.error is not None:
            return
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()  # at once: read after things went wrong
        except OSError as error:
            self.error = error
            self.close()

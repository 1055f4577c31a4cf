# SPDX-License-Identifier: Apache-2.0
"""A serial line: a pseudo-terminal that the host opens as its serial device, with a card's plug behind."""

import os
import select
import time
import tty

from chipcash_sim.hardware import Hardware
from chipcash_sim.plug import CardGone, Plug

_TICK_S = 0.02  # how soon a card that was plugged in, or close(), is noticed
_CHUNK = 4096
_OVERRUN_S = 1.0


class PtyLine(Hardware):
    """A serial line with the host at one end and a card's stream link (serial, ccid, at) at the other.

    device: path of the terminal for the host to open, as often as it likes. What the host sends while there
    is no card is lost, as is what the card sends when nobody reads for a second: a UART has no memory. The
    line is in raw mode; its speed does not matter."""

    def __init__(self) -> None:
        # The far end stays open here: otherwise, when the host closes it, reading ours fails with EIO.
        self._line, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._line, False)
        self.device = os.ttyname(self._far)
        super().__init__(Plug(), self.device)

    def _release(self) -> None:
        os.close(self._line)
        os.close(self._far)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                ends = [self._line, self.plug.fileno()] if self.plug.plugged else [self._line]
                select.select(ends, [], [], _TICK_S)
                # Asked again: the card may have been changed meanwhile, and the new one may be silent.
                if self.plug.plugged and select.select([self.plug], [], [], 0)[0]:
                    self._to_host(self.plug.receive())
                if select.select([self._line], [], [], 0)[0]:
                    data = os.read(self._line, _CHUNK)
                    if self.plug.plugged:
                        self.plug.send(data)
            except (CardGone, OSError, ValueError):
                pass  # the card left, perhaps between two of these steps (a socket that is closed)

    def _to_host(self, data: bytes) -> None:
        deadline = time.monotonic() + _OVERRUN_S
        while data and not self._closing.is_set() and time.monotonic() < deadline:
            if select.select([], [self._line], [], _TICK_S)[1]:
                data = data[os.write(self._line, data) :]

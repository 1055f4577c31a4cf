# SPDX-License-Identifier: Apache-2.0
"""What stands between a card process and a host's stack where a real card would be: fields, chips, lines,
slots."""

import threading
from abc import abstractmethod

from chipcash_sim.plug import Closing, Plug


class Hardware(Closing):
    """One piece of emulated hardware, at work in a thread of its own until close().

    plug: where a card is plugged in (emulator.Card.plug_in), at any time and again later.
    """

    def __init__(self, plug: Plug, name: str) -> None:
        self.plug = plug
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Unplug the card and take the hardware away. May be repeated."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            self.plug.close()
            self._release()

    @abstractmethod
    def _serve(self) -> None:
        """Work until _closing is set."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the host's side was made of."""

# SPDX-License-Identifier: Apache-2.0
"""The main loop of a board, whose links are asked and do not wait, and its front. It has never run on one."""

import time

from chipcash_board.loop import TICK_MS, Loop
from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Protocol

    from chipcash_drivers.buttons import Buttons
    from chipcash_drivers.indicator import Indicator
    from chipcash_drivers.ssd1306 import Display
    from chipcash_panel.panel import Panel

    class BoardLink(Protocol):
        """A link whose medium is asked, and does not wait."""

        def ready(self) -> bool:
            """Whether something came that poll() will take."""

        def poll(self) -> None:
            """Take what came, and answer it; nothing where nothing came. OSError: the medium fails;
            MemoryError: there is no room for it."""

        def reset(self) -> None:
            """Begin anew."""

        def working(self) -> None:
            """The card works on what came: ask for more time when it is due."""


class Front:
    """A visual card's screen and buttons, as one: each press wakes a dark screen first.

    A screen that fails stops nothing else: the panel draws again with the next tick, and takes no
    confirmation of what it could not draw."""

    def __init__(self, panel: "Panel", display: "Display", buttons: "Buttons") -> None:
        self.panel = panel
        self.display = display
        self.buttons = buttons

    def tick(self) -> None:
        """Time passes: take the presses, draw what is new, go dark after a while."""
        try:
            for button in self.buttons.presses():
                if not self.display.wake():
                    self.panel.press(button)
            self.panel.tick()
            self.display.tick()
        except OSError:
            pass


class BoardLoop(Loop):
    """The loop of a board. applet: what has idle(); front: screen and buttons, indicator: LED and buzzer, on
    a card that has them."""

    QUIET_MS = 100
    """A reader takes its time between the commands of one tap, and a coupon would be in the way."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        links: "list[BoardLink]",
        applet,
        front: "Front | None" = None,
        indicator: "Indicator | None" = None,
    ) -> None:
        Loop.__init__(self, self, TICK_MS, self.QUIET_MS)
        self._links = links
        self._applet = applet
        self._front = front
        self._indicator = indicator
        self._current: "BoardLink | None" = None

    def answer(self, wait_ms: int) -> bool:
        """As Loop has it. Returns early, with False, when the holder is waiting for an answer to a press."""
        start = ticks_ms()
        while True:
            found = False
            for link in self._links:
                found = self._poll(link) or found
            if found:
                return True
            if self._indicator is not None:
                self._indicator.tick()
            if self._front is not None:
                self._front.buttons.poll()
                if self._front.buttons.waiting:
                    return False
            if ticks_diff(ticks_ms(), start) >= wait_ms:
                return False
            time.sleep(0.001)

    def _poll(self, link: "BoardLink") -> bool:
        """Let one link answer; whether it had to."""
        self._current = link
        try:
            found = link.ready()
            link.poll()
        except (OSError, MemoryError):
            # The medium fails, or what came is longer than the heap has room for: it has to begin anew.
            found = False
            link.reset()
        self._current = None
        return found

    def wanted(self) -> bool:
        """Whether a link has got something."""
        for link in self._links:
            try:
                if link.ready():
                    return True
            except OSError:
                pass  # poll() will see to it
        return False

    def working(self) -> None:
        """Nobody's press is missed, no tone gets stuck, and no reader gives up, while the card works."""
        if self._indicator is not None:
            self._indicator.tick()
        if self._front is not None:
            self._front.buttons.poll()
        if self._current is not None:
            self._current.working()

    def tick(self) -> None:
        """Time passes for the front."""
        if self._front is not None:
            self._front.tick()

    def idle(self) -> bool:
        """One piece of the applet's idle work."""
        return bool(self._applet.idle())

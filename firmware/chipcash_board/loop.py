# SPDX-License-Identifier: Apache-2.0
"""The card's main loop: what comes first when everything wants the one processor.

First whatever came on a link, then the front (buttons, screen), then one piece of idle work, such as a
signature coupon; and each only while nothing came. The emulator keeps the same order over sockets. This has
never run on a board."""

import time

from chipcash_card import busy
from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Protocol

    from chipcash_drivers.buttons import Buttons
    from chipcash_drivers.ssd1306 import Display
    from chipcash_panel.panel import Panel

    class Chores(Protocol):
        """What the card does besides answering."""

        def tick(self) -> None:
            """Time passes: take presses, draw what is new."""

        def idle(self) -> bool:
            """Do one piece of work that can wait; False when there is none left."""

    class BoardLink(Protocol):
        """A link whose medium is asked, and does not wait."""

        def ready(self) -> bool:
            """Whether something came that poll() will take."""

        def poll(self) -> None:
            """Take what came, and answer it; nothing where nothing came. OSError: the medium fails."""

        def reset(self) -> None:
            """Begin anew."""

        def working(self) -> None:
            """The card works on what came: ask for more time when it is due."""


QUIET_MS = 20
"""So long nothing came: now other work may begin."""
TICK_MS = 200
"""How often a card with nothing to do lets its front know that time passes."""


class Interrupted(Exception):
    """Idle work was given up, because something came on a link."""


class Loop:
    """The order of things. card: what there is to do besides answering; rest_ms: how long it waits at most
    when there is nothing to do, -1 without end; quiet_ms: see QUIET_MS."""

    def __init__(self, card: "Chores", rest_ms: int, quiet_ms: int = QUIET_MS) -> None:
        self._card = card
        self._rest_ms = rest_ms
        self._quiet_ms = quiet_ms
        self._wait_ms = quiet_ms
        self._idling = False

    def answer(self, wait_ms: int) -> bool:
        """Answer what came on the links. If nothing did, wait for it, at most so long (-1: without end).
        Whether something came."""
        raise NotImplementedError

    def wanted(self) -> bool:
        """Whether something came for which idle work should be given up."""
        return False

    def working(self) -> None:
        """One more step of long work was done, for the link that is answered or while idle."""
        raise NotImplementedError

    def run(self) -> None:
        """Go on for ever, until answer() or tick() raise something."""
        busy.attend(self._step_of_work)
        while True:
            self.step()

    def step(self) -> None:
        """Answer, or else do one thing that can wait."""
        if self.answer(self._wait_ms):
            self._wait_ms = self._quiet_ms
            return
        self._card.tick()
        self._idling = True
        try:
            self._wait_ms = 0 if self._card.idle() else self._rest_ms
        except Interrupted:
            self._wait_ms = self._quiet_ms
        finally:
            self._idling = False

    def _step_of_work(self) -> None:
        self.working()
        # A coupon takes a board tenths of a second, and no tap has them. What was begun of it is lost.
        if self._idling and self.wanted():
            raise Interrupted()


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
    """The loop of a board. applet: what has idle(); front: screen and buttons, on a card that has them."""

    QUIET_MS = 100
    """A reader takes its time between the commands of one tap, and a coupon would be in the way."""

    def __init__(self, links: "list[BoardLink]", applet, front: "Front | None" = None) -> None:  # type: ignore[no-untyped-def]
        Loop.__init__(self, self, TICK_MS, self.QUIET_MS)
        self._links = links
        self._applet = applet
        self._front = front
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
        except OSError:
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
        """Nobody's press is missed, and no reader gives up, while the card works."""
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

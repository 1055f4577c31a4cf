# SPDX-License-Identifier: Apache-2.0
"""The card's main loop: what comes first when everything wants the one processor.

First whatever came on a link, then the front (buttons, screen), then one piece of idle work, such as a
signature coupon; and each only while nothing came. The emulator runs it over sockets
(chipcash_sim.card_process), a board over links that it asks (chipcash_board.polling)."""

from chipcash_card import busy
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Chores(Protocol):
        """What the card does besides answering."""

        def tick(self) -> None:
            """Time passes: take presses, draw what is new."""

        def idle(self) -> bool:
            """Do one piece of work that can wait; False when there is none left."""


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

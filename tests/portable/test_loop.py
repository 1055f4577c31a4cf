# SPDX-License-Identifier: Apache-2.0
"""What the main loop does first, on a board and elsewhere: chipcash_board.loop. Portable."""

from chips import Pin, Ssd1306
from loops import End, until

from chipcash_board.loop import Interrupted, Loop
from chipcash_board.polling import BoardLoop, Front
from chipcash_card import busy
from chipcash_drivers.buttons import DEBOUNCE_MS, TOGETHER_MS, Buttons
from chipcash_drivers.ssd1306 import BLANK_MS, Display, I2c
from chipcash_panel.panel import AGREED, ASKED, CONFIRM, DECLINED, GUARD_MS, REFUSE, Panel

REQUEST = (b"nonce", bytes(8), 20000)


class Medium:
    """A link with a queue of what comes; answers each with `answer`, while the card works."""

    def __init__(self, done, name, steps=0):
        self.done = done
        self.name = name
        self.steps = steps
        self.queue = []
        self.broken = None

    def ready(self):
        """Whether something came."""
        return bool(self.queue)

    def poll(self):
        """Answer one."""
        if self.broken is not None:
            raise self.broken
        if self.queue:
            self.done.append((self.name, self.queue.pop(0)))
            for _ in range(self.steps):
                busy.working()

    def reset(self):
        """Begin anew."""
        self.done.append((self.name, "reset"))
        self.broken = None

    def working(self):
        """The card works for it."""
        self.done.append((self.name, "working"))


class Applet:
    """Idle work of some pieces, each of some steps; during(step) is called at each."""

    def __init__(self, done, pieces=0):
        self.done = done
        self.pieces = pieces
        self.during = None

    def idle(self):
        """One piece."""
        if not self.pieces:
            return False
        for step in range(4):
            if self.during is not None:
                self.during(step)
            busy.working()
        self.pieces -= 1
        self.done.append("piece")
        return True


def test_links_come_before_everything_and_all_of_them():
    done = []
    links = [Medium(done, "a"), Medium(done, "b")]
    applet = Applet(done, 2)
    loop = BoardLoop(links, applet)
    for link in links:
        link.queue = [1, 2]
    until(loop, lambda: not applet.pieces)
    assert done == [("a", 1), ("b", 1), ("a", 2), ("b", 2), "piece", "piece"]


def test_signs_of_life_are_for_the_link_that_is_answered():
    done = []
    links = [Medium(done, "a", 2), Medium(done, "b", 1)]
    links[0].queue = [1]
    links[1].queue = [1]
    applet = Applet(done, 1)
    until(BoardLoop(links, applet), lambda: not applet.pieces)
    assert done == [
        ("a", 1), ("a", "working"), ("a", "working"), ("b", 1), ("b", "working"), "piece"
    ]  # fmt: skip


def test_idle_work_gives_way_to_a_tap():
    done = []
    link = Medium(done, "a")
    applet = Applet(done, 2)

    def tap(step):
        if step == 1 and not done:
            link.queue = [1]
        assert step < 2 or done  # nothing more of it was done

    applet.during = tap
    until(BoardLoop([link], applet), lambda: not applet.pieces)
    assert done == [("a", 1), "piece", "piece"]


def test_a_medium_that_fails_begins_anew_and_stops_no_other():
    for error in (OSError(5), MemoryError()):  # the latter: a command that the heap has no room for
        done = []
        links = [Medium(done, "a"), Medium(done, "b")]
        links[0].broken = error
        links[1].queue = [1]
        until(BoardLoop(links, Applet(done)), lambda: True)
        assert done == [("a", "reset"), ("b", 1)]
        links[0].queue = [2]
        until(BoardLoop(links, Applet(done)), lambda: True)
        assert done[2:] == [("a", 2)]


def test_a_loop_without_interruptions():
    """As the emulator has it: idle work is done in whole pieces."""

    class Plain(Loop):
        def answer(self, wait_ms):
            waits.append(wait_ms)
            if len(waits) == 6:
                raise End()
            return len(waits) == 1

        def working(self):
            done.append("working")

    class Card:
        def tick(self):
            done.append("tick")

        def idle(self):
            return applet.idle()

    done = []
    waits = []
    applet = Applet(done, 2)
    try:
        Plain(Card(), -1, 7).run()
    except End:
        busy.attend(None)
    assert waits == [7, 7, 0, 0, -1, -1]
    assert done == 2 * (["tick"] + 4 * ["working"] + ["piece"]) + ["tick", "tick"]
    assert issubclass(Interrupted, Exception)


class Visual:
    """A front on emulated chips, with a clock of its own."""

    def __init__(self):
        self.now = 0
        self.chip = Ssd1306()
        self.pins = {CONFIRM: Pin(), REFUSE: Pin()}
        clock = lambda: self.now  # noqa: E731
        display = Display(I2c(self.chip), clock)
        self.panel = Panel(0, display.show, clock)
        self.front = Front(self.panel, display, Buttons(list(self.pins.items()), clock))
        self.panel.balance(50000, 0)
        self.front.tick()

    def wait(self, ms):
        """Time passes, as between two taps."""
        while ms > 0:
            self.now += min(ms, 5)
            ms -= 5
            self.front.buttons.poll()
        self.front.tick()

    def press(self, button):
        """After reading."""
        self.wait(GUARD_MS)
        self.pins[button].level = 0
        self.wait(DEBOUNCE_MS + TOGETHER_MS + 10)
        self.pins[button].level = 1
        self.wait(DEBOUNCE_MS + 10)

    def ask(self):
        """A tap."""
        answer = self.panel.consent(*REQUEST, False)
        self.front.tick()
        return answer


def test_the_holder_agrees_or_refuses():
    for button, answer in ((CONFIRM, AGREED), (REFUSE, DECLINED)):
        visual = Visual()
        idle = visual.chip.seen()
        assert visual.ask() == ASKED
        assert visual.chip.seen() not in (None, idle)
        visual.press(button)
        assert visual.ask() == answer


def test_nobody_confirms_what_the_screen_did_not_show():
    visual = Visual()
    visual.chip.gone = True
    assert visual.ask() == ASKED
    visual.press(CONFIRM)
    visual.press(CONFIRM)
    assert visual.ask() == ASKED
    visual.chip.gone = False
    visual.chip.reset()
    visual.wait(5)
    assert visual.chip.seen() is not None
    visual.press(CONFIRM)
    assert visual.ask() == AGREED


def test_a_press_on_a_dark_screen_only_wakes_it():
    visual = Visual()
    idle = visual.chip.seen()
    visual.wait(BLANK_MS)
    assert visual.chip.seen() is None
    visual.press(CONFIRM)
    assert visual.chip.seen() == idle
    visual.wait(BLANK_MS)
    assert visual.ask() == ASKED and visual.chip.seen() not in (None, idle)

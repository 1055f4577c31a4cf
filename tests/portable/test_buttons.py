# SPDX-License-Identifier: Apache-2.0
"""Two push buttons on emulated pins: chipcash_drivers.buttons. Portable."""

from chips import Pin

from chipcash_drivers.buttons import DEBOUNCE_MS, TOGETHER_MS, Buttons
from chipcash_panel.panel import CONFIRM, REFUSE


class Holder:
    """Presses, while the card polls each millisecond."""

    def __init__(self, down=()):
        self.now = 0
        self.pins = {CONFIRM: Pin(), REFUSE: Pin()}
        self.set(down)
        self.buttons = Buttons(list(self.pins.items()), lambda: self.now)

    def set(self, down):
        """These buttons are down, no others."""
        for button in self.pins:
            self.pins[button].level = 0 if button in down else 1

    def hold(self, down, ms):
        """Hold them for so long; what was pressed."""
        self.set(down)
        for _ in range(ms):
            self.now += 1
            self.buttons.poll()
        return self.buttons.presses()


def test_a_press_counts_once_however_long():
    for button in (CONFIRM, REFUSE):
        holder = Holder()
        assert holder.hold((button,), TOGETHER_MS) == []
        assert holder.hold((button,), 20) == [button]
        assert holder.hold((button,), 5000) == []
        assert holder.hold((), 100) == []
        assert holder.hold((button,), 30) + holder.hold((), 100) == [button]  # a short one


def test_a_contact_bounces():
    holder = Holder()
    found = []
    for _ in range(2):
        for _ in range(7):
            found += holder.hold((CONFIRM,), 2) + holder.hold((), 3)
        found += holder.hold((CONFIRM,), 200)
        for _ in range(7):
            found += holder.hold((), 3) + holder.hold((CONFIRM,), 2)
        found += holder.hold((), 200)
    assert found == [CONFIRM, CONFIRM]


def test_a_spike_is_no_press():
    holder = Holder()
    for _ in range(20):
        assert holder.hold((CONFIRM,), DEBOUNCE_MS - 1) == []
        assert holder.hold((), 100) == []


def test_both_together_are_neither():
    both = (CONFIRM, REFUSE)
    for first in both:
        holder = Holder()
        found = holder.hold((first,), TOGETHER_MS - 10) + holder.hold(both, 500)
        found += holder.hold((first,), 500) + holder.hold((), 100)
        assert found == []
        assert holder.hold((first,), 200) == [first]  # after both were let go


def test_the_other_one_while_one_is_held():
    holder = Holder()
    assert holder.hold((CONFIRM,), 500) == [CONFIRM]
    assert holder.hold((CONFIRM, REFUSE), 500) == []
    assert holder.hold((REFUSE,), 500) == []
    assert holder.hold((), 100) == []
    assert holder.hold((REFUSE,), 500) == [REFUSE]


def test_what_is_down_at_power_on_is_held_and_not_pressed():
    holder = Holder((REFUSE,))
    assert holder.buttons.held() == [REFUSE]
    assert holder.hold((REFUSE,), 1000) + holder.hold((), 100) == []
    assert holder.hold((REFUSE,), 200) == [REFUSE]


def test_presses_wait_while_the_card_works():
    """Polled from within long work, they are there in their order afterwards."""
    holder = Holder()
    holder.set((REFUSE,))
    for button in (REFUSE, None, CONFIRM, None):
        holder.set((button,))
        for _ in range(50):
            holder.now += 4
            holder.buttons.poll()
    assert holder.buttons.presses() == [REFUSE, CONFIRM]

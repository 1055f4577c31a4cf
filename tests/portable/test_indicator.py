# SPDX-License-Identifier: Apache-2.0
"""LED and buzzer: what they say, and that it is told by rhythm alone. Portable."""

from signs import BLUE, GREEN, RED, Pwm, Signs

from chipcash_board.polling import BoardLoop
from chipcash_card import busy
from chipcash_drivers.indicator import Indicator


def told(signs, event):
    """Tell of one; None: of nothing."""
    indicator = signs.indicator
    if event == "asked":
        indicator.asked()
    elif event == "paid":
        indicator.paid(b"payee", 1, 2, 3)
    elif event == "received":
        indicator.received(1, 2, 3)
    elif event == "refused":
        indicator.failed("why")


EVENTS = ("ready", "asked", "paid", "received", "refused")


def test_each_sign_has_a_rhythm_of_its_own_in_light_and_in_sound():
    """By brightness alone, and by when there is a tone alone: no colour, no pitch."""
    lights, sounds = [], []
    for event in EVENTS + ("closed",):
        signs = Signs()
        if event != "closed":
            signs.indicator.balance(0, 0)
        told(signs, event)
        light, sound, colours = signs.watched(4000)
        lights.append(light)
        sounds.append([(ms, hz > 0) for ms, hz in sound])
        wanted = {"refused": {RED, BLUE}, "closed": {RED}, "ready": {BLUE}}
        assert colours == wanted.get(event, colours)
        if event in ("paid", "received"):
            assert colours == {GREEN, BLUE}
    for at, light in enumerate(lights):
        assert light not in lights[:at]
    events = sounds[1:5]
    for at, sound in enumerate(events):
        assert sound not in events[:at] and len(sound) > 1
    assert sounds[0] == sounds[5] == [(4000, False)]  # states are silent


def test_a_sign_ends_in_the_state():
    for event in EVENTS[1:]:
        signs = Signs()
        signs.indicator.balance(5, 0)
        told(signs, event)
        signs.watched(12000)
        assert signs.lit() == [BLUE] and not signs.sounds()
        told(signs, event)
        signs.watched(50)
        signs.indicator.balance(None, 0)  # it waits for the end of what is shown
        assert BLUE not in signs.lit() or event == "asked"
        light, _, _ = signs.watched(30000)
        assert light[-2:][0][1] != light[-1][1] and signs.watched(4000)[2] == {RED}


def test_the_last_event_is_what_is_shown():
    signs = Signs()
    told(signs, "refused")
    signs.watched(20)
    assert signs.lit() == [RED]
    told(signs, "paid")
    signs.watched(20)
    assert signs.lit() == [GREEN]


def test_a_tick_that_comes_late_leaves_out_nothing_and_stops_the_tone():
    signs = Signs()
    told(signs, "received")
    tones = []
    for _ in range(4):
        signs.indicator.tick()
        tones.append(signs.sounds())
        signs.now += 5000
    assert tones[0] and not tones[1] and tones[2] > tones[0] and not tones[3]


def test_the_clock_wraps():
    """MicroPython's ticks_ms() begins again after some days; ticks_diff() knows."""
    signs = Signs()
    try:
        from time import ticks_add
    except ImportError:
        return
    signs.now = ticks_add(0, -100)
    told(signs, "paid")
    signs.indicator.tick()
    assert signs.sounds()
    signs.now = ticks_add(signs.now, 500)
    signs.indicator.tick()
    assert signs.lit() == [GREEN] and not signs.sounds()


def test_half_of_it():
    """An LED alone, a buzzer alone."""
    led = [Pwm(), Pwm(), Pwm()]
    only = Indicator(led, None, lambda: 0)
    only.paid(b"", 1, 1, 1)
    only.tick()
    assert [pwm.duty > 0 for pwm in led] == [False, True, False]
    buzzer = Pwm()
    only = Indicator([], buzzer, lambda: 0)
    only.paid(b"", 1, 1, 1)
    only.tick()
    assert buzzer.duty


def test_a_tone_does_not_get_stuck_in_long_work():
    """The loop ticks at each step of it."""
    signs = Signs()

    class Working:
        """Idle work of a second."""

        def idle(self):
            for _ in range(100):
                signs.now += 10
                busy.working()
            raise KeyboardInterrupt

    told(signs, "paid")
    loop = BoardLoop([], Working(), None, signs.indicator)
    heard = []
    tick = signs.indicator.tick

    def ticked():
        tick()
        heard.append(signs.sounds())

    signs.indicator.tick = ticked
    try:
        loop.run()
    except KeyboardInterrupt:
        pass
    finally:
        busy.attend(None)
    assert max(heard) and not heard[-1]

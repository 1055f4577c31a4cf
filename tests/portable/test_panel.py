# SPDX-License-Identifier: Apache-2.0
"""The panel of a visual card: who decides what and when, and how it is drawn. Portable."""

from chipcash_panel.font import columns
from chipcash_panel.framebuffer import COLUMNS, ROWS, SIZE, Framebuffer
from chipcash_panel.panel import (
    AGREED,
    ASKED,
    CONFIRM,
    DECLINED,
    GUARD_MS,
    REFUSE,
    REQUEST_MS,
    RESULT_MS,
    Panel,
    fingerprint,
    yuan,
)

PAYEE = bytes(range(0xA0, 0xA8))
OTHER = bytes(range(0x10, 0x18))
PAYMENT = (b"nonce 1", PAYEE, 12345)


class Holder:
    """A panel with its holder: looks at it, presses, and lets time pass."""

    def __init__(self):
        self.now = 0
        self.frames = []
        self.panel = Panel(10000, lambda frame: self.frames.append(bytes(frame)), lambda: self.now)
        self.panel.balance(50000, 0)
        self.idle = self.sees()

    def sees(self):
        """The last picture, when the links are idle."""
        self.panel.tick()
        return self.frames[-1]

    def ask(self, payment=PAYMENT, with_pin=False):
        """The applet asks, and the card leaves the terminal."""
        answer = self.panel.consent(*payment, with_pin)
        self.panel.tick()
        return answer

    def wait(self, ms):
        """Time passes, with a tick at its end."""
        self.now += ms
        self.panel.tick()

    def press(self, button):
        """After reading."""
        self.now += GUARD_MS
        self.panel.press(button)


def test_a_confirmed_payment():
    holder = Holder()
    assert holder.ask() == ASKED
    asking = holder.sees()
    assert asking != holder.idle and len(asking) == SIZE
    assert holder.ask() == ASKED and holder.sees() is asking  # the same again shows nothing new
    holder.press(CONFIRM)
    assert holder.sees() not in (asking, holder.idle)
    assert holder.ask() == AGREED
    assert holder.ask() == AGREED  # a tap was torn before the payment was committed
    holder.panel.paid(PAYEE, 12345, 37655, 0)
    assert holder.ask() == ASKED  # an agreement is for one payment


def test_a_refused_payment():
    holder = Holder()
    holder.ask()
    holder.press(REFUSE)
    assert holder.ask() == DECLINED
    holder.wait(RESULT_MS)
    assert holder.sees() == holder.idle
    assert holder.ask() == DECLINED and holder.sees() == holder.idle  # not asked again and again
    holder.press(CONFIRM)
    assert holder.ask() == DECLINED
    holder.wait(REQUEST_MS)
    assert holder.ask() == ASKED


def test_an_agreement_is_for_what_was_shown():
    changed = (
        (b"nonce 2", PAYEE, 12345),
        (b"nonce 1", OTHER, 12345),
        (b"nonce 1", PAYEE, 12346),
    )
    for other in changed:
        holder = Holder()
        holder.ask()
        holder.press(CONFIRM)
        assert holder.ask(other) == ASKED
        assert holder.ask() == ASKED  # and the first is forgotten


def test_an_agreement_can_be_withdrawn():
    holder = Holder()
    holder.ask()
    holder.press(CONFIRM)
    holder.press(REFUSE)
    assert holder.ask() == DECLINED


def test_nobody_confirms_what_they_have_not_seen():
    holder = Holder()
    holder.ask()
    holder.now += GUARD_MS
    bigger = (b"nonce 2", OTHER, 99999)
    holder.ask(bigger)  # just before the press
    holder.now += GUARD_MS - 1
    holder.panel.press(CONFIRM)
    assert holder.ask(bigger) == ASKED
    holder.now += 1
    holder.panel.press(CONFIRM)
    assert holder.ask(bigger) == AGREED


def test_no_tap_waits_for_the_picture():
    holder = Holder()
    assert holder.panel.consent(*PAYMENT, False) == ASKED
    holder.now += GUARD_MS
    assert len(holder.frames) == 1
    holder.panel.press(CONFIRM)  # the press finds it not yet drawn
    assert len(holder.frames) == 2 and holder.ask() == ASKED
    holder.press(CONFIRM)
    assert len(holder.frames) == 3 and holder.ask() == AGREED
    holder.panel.paid(PAYEE, 12345, 37655, 0)
    holder.now += RESULT_MS
    assert len(holder.frames) == 3
    holder.panel.tick()
    assert len(holder.frames) == 4 and holder.sees() != holder.idle  # shown, and its time begins


def test_a_refusal_counts_at_once():
    holder = Holder()
    holder.ask()
    holder.panel.press(REFUSE)
    assert holder.ask() == DECLINED


def test_a_press_before_the_request_is_no_consent():
    holder = Holder()
    for button in (CONFIRM, REFUSE, 0, 3):
        holder.press(button)
    assert holder.sees() is holder.idle
    assert holder.ask() == ASKED
    holder.press(3)
    assert holder.ask() == ASKED


def test_requests_and_decisions_are_forgotten():
    holder = Holder()
    holder.ask()
    holder.wait(REQUEST_MS - 1)
    holder.panel.press(CONFIRM)
    holder.wait(REQUEST_MS - 1)  # from the press on
    assert holder.ask() == AGREED
    holder.wait(1)
    assert holder.sees() == holder.idle
    assert holder.ask() == ASKED
    holder.now += REQUEST_MS  # nobody called tick()
    holder.panel.press(CONFIRM)
    assert holder.sees() == holder.idle
    holder.ask()
    holder.press(CONFIRM)
    holder.now += REQUEST_MS
    assert holder.ask() == ASKED


def test_asking_again_does_not_prolong():
    holder = Holder()
    holder.ask()
    holder.now += REQUEST_MS - 1
    asking = holder.sees()
    assert holder.ask() == ASKED and holder.sees() is asking
    holder.wait(1)
    assert holder.sees() == holder.idle


def test_the_pin_counts_for_the_second_tap_of_its_request_only():
    holder = Holder()
    other = (b"nonce 2", PAYEE, 12345)
    holder.ask(with_pin=True)
    assert not holder.panel.pin_was_verified(*PAYMENT)  # not before the holder agrees
    holder.press(CONFIRM)
    assert holder.panel.pin_was_verified(*PAYMENT)
    assert not holder.panel.pin_was_verified(*other)
    assert holder.ask() == AGREED and holder.panel.pin_was_verified(*PAYMENT)
    holder.ask(other)
    holder.press(CONFIRM)
    assert not holder.panel.pin_was_verified(*other)
    holder.ask(other, with_pin=True)  # it may come with a later tap
    assert holder.panel.pin_was_verified(*other)
    holder.now += REQUEST_MS
    assert not holder.panel.pin_was_verified(*other)
    holder.ask(with_pin=True)
    holder.press(REFUSE)
    assert not holder.panel.pin_was_verified(*PAYMENT)


def test_results_end_by_time_or_press():
    holder = Holder()
    results = (
        lambda: holder.panel.paid(PAYEE, 1, 50000, 0),
        lambda: holder.panel.received(1, 50000, 0),
        lambda: holder.panel.failed("The card is full."),
    )
    seen = []
    for result in results:
        result()
        shown = holder.sees()
        assert shown != holder.idle and shown not in seen
        seen.append(shown)
        holder.wait(RESULT_MS - 1)
        assert holder.sees() is shown
        holder.wait(1)
        assert holder.sees() == holder.idle
        for button in (CONFIRM, REFUSE):
            result()
            holder.panel.press(button)  # it finds the result not yet drawn
            assert holder.sees() == shown
            holder.press(button)
            assert holder.sees() == holder.idle


def test_a_result_ends_a_request():
    for end in (
        lambda panel: panel.paid(OTHER, 500, 0, 0),
        lambda panel: panel.received(500, 0, 500),
        lambda panel: panel.failed("The card is full."),
    ):
        holder = Holder()
        holder.ask()
        holder.press(CONFIRM)
        end(holder.panel)
        assert holder.ask() == ASKED


def test_the_balance_shows_when_idle():
    frames = []
    panel = Panel(10000, lambda frame: frames.append(bytes(frame)))
    assert frames == []  # dark until the applet knows
    for money in ((None, 0), (0, 0), (1, 0), (1, 1), (1, 0)):
        panel.balance(*money)
        panel.tick()
        panel.balance(*money)
        panel.tick()
    assert len(frames) == 5 and frames[2] == frames[4]


def test_a_new_balance_does_not_hide_what_the_holder_is_asked():
    holder = Holder()
    holder.ask()
    asking = holder.sees()
    holder.panel.balance(2, 0)
    assert holder.sees() is asking
    holder.press(REFUSE)
    holder.press(CONFIRM)
    assert holder.sees() not in (asking, holder.idle)


def test_amounts():
    assert yuan(0) == "¥ 0.00"
    assert yuan(5) == "¥ 0.05"
    assert yuan(99999) == "¥ 999.99"
    assert yuan(100000) == "¥ 1,000.00"
    assert yuan(50000000) == "¥ 500,000.00"
    assert yuan(123456789012) == "¥ 1,234,567,890.12"
    assert yuan((1 << 63) - 1) == "¥ 92233720368547758.07"


def test_fingerprint():
    assert fingerprint(PAYEE) == "a0a1 a2a3 a4a5 a6a7"
    assert fingerprint(OTHER) == "1011 1213 1415 1617"


def lit(canvas):
    """The lit pixels."""
    return [(x, y) for y in range(ROWS) for x in range(COLUMNS) if canvas.pixel(x, y)]


def test_layout_is_that_of_the_display():
    canvas = Framebuffer()
    canvas.fill(3, 10, 1, 1)
    assert canvas.buffer[128 + 3] == 1 << 2 and lit(canvas) == [(3, 10)]
    try:
        import framebuf
    except ImportError:
        return
    shown = framebuf.FrameBuffer(canvas.buffer, COLUMNS, ROWS, framebuf.MONO_VLSB)
    canvas.text("¥ 12.34", 5, 6, 2)
    for y in range(ROWS):
        for x in range(COLUMNS):
            assert shown.pixel(x, y) == canvas.pixel(x, y)


def test_shapes():
    canvas = Framebuffer()
    canvas.rect(2, 5, 4, 13)
    edge = [(x, y) for y in range(5, 18) for x in range(2, 6) if x in (2, 5) or y in (5, 17)]
    assert lit(canvas) == edge
    canvas.invert(2, 5, 4, 13)
    assert lit(canvas) == [(x, y) for y in range(6, 17) for x in (3, 4)]
    canvas.clear()
    assert lit(canvas) == []


def test_what_is_outside_is_not_drawn():
    canvas = Framebuffer()
    canvas.fill(-3, -5, 4, 7)
    assert lit(canvas) == [(0, 0), (0, 1)]
    canvas.clear()
    canvas.fill(126, 62, 9, 9)
    assert lit(canvas) == [(126, 62), (127, 62), (126, 63), (127, 63)]
    canvas.text("WWW", 120, 60, 2)
    canvas.text("WWW", -7, -3, 2)


def test_text():
    canvas = Framebuffer()
    canvas.text("A¥", 1, 3)
    glyphs = columns("A") + columns("¥")
    pixels = [(x, y) for y in range(8) for x in range(10) if glyphs[x] >> y & 1]
    assert lit(canvas) == [(1 + x, 3 + y) for x, y in pixels]
    double = Framebuffer()
    double.text("A¥", 1, 3, 2)
    for x, y in lit(double):
        assert ((x - 1) // 2, (y - 3) // 2) in pixels
    assert len(lit(double)) == 4 * len(pixels)


def test_every_character_is_there_and_its_own():
    seen = []
    for code in range(0x20, 0x7F):
        found = columns(chr(code))
        assert len(found) == 5 and found not in seen and (any(found) or code == 0x20)
        seen.append(found)
    assert columns("¥") not in seen
    assert columns("€") == columns("?") == columns("\x7f") == columns("\n")

# SPDX-License-Identifier: Apache-2.0
"""The screen and the two buttons of a card that has them: what it shows, and what its holder agrees to.

No I/O: pictures go out through a function, presses come in by Panel.press(). States, times and the reasons
for them: firmware/README.md."""

from chipcash_panel.font import WIDTH
from chipcash_panel.framebuffer import COLUMNS, ROWS, Framebuffer
from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Callable

CONFIRM = 1
REFUSE = 2
"""The buttons, as Panel.press() takes them."""

ASKED = 0
AGREED = 1
DECLINED = 2
"""What consent() answers: the holder has not decided yet, agrees, refused."""

CONFIRM_ABOVE = 10000
"""Fen above which a card with buttons asks its holder: the least that any tier pays without a PIN. So
whatever needs the PIN is confirmed on the card's own screen too, and no terminal gets a PIN for another
amount than it showed."""
GUARD_MS = 500
"""A confirmation so soon after the picture changed was not meant for it: people take longer to read."""
REQUEST_MS = 60000
"""How long a request waits for the holder, and then the holder's decision for the next tap."""
RESULT_MS = 5000
"""How long a result is shown."""

_IDLE = 0
_REQUEST = 1
_RESULT = 2

_LINE = COLUMNS // WIDTH
_BAR = 11  # rows of the bar on top, and of a button's label
_LABEL = 60  # columns of a button's label
_STEP = 10  # rows from one line of a paragraph to the next


def yuan(fen: int) -> str:
    """An amount as people read it, such as ¥ 1,234.56; never too long for one line of the screen."""
    text = str(fen // 100)
    for at in range(len(text) - 3, 0, -3):
        text = text[:at] + "," + text[at:]
    text = "¥ %s.%02d" % (text, fen % 100)
    return text if len(text) <= _LINE else text.replace(",", "")


def fingerprint(payee: bytes) -> str:
    """What the screen shows of a payee: its key id (8 bytes) in hexadecimal digits, in groups of four.

    The card knows no names. A till shows the same digits, so that the holder sees which of two tills asks."""
    digits = "".join(["%02x" % byte for byte in payee])
    return " ".join([digits[at : at + 4] for at in range(0, len(digits), 4)])


class Panel:
    """Screen and buttons as a state machine: idle (the balance), a request for consent, or a result.

    confirm_above: fen; a payment of more needs the holder's consent, so the applet asks consent(). show:
    called with each new picture (framebuffer.SIZE bytes), which the next one is drawn over: who wants to keep
    it copies it, and the heap needs no room for another one here. clock: milliseconds, as compat.ticks_ms.
    Whoever serves the links calls tick() when they are idle, and press() for a button. Only tick() and
    press() draw, so that no tap waits for a picture. The screen is dark until the first balance()."""

    def __init__(
        self,
        confirm_above: int,
        show: "Callable[[bytearray], None]",
        clock: "Callable[[], int]" = ticks_ms,
    ) -> None:
        self.confirm_above = confirm_above
        self._show = show
        self._clock = clock
        self._canvas = Framebuffer()
        self._money: "tuple[int | None, int] | None" = None
        self._request: "tuple[bytes, bytes, int] | None" = None
        self._answer = ASKED
        self._pin = False
        self._since = 0  # when the request was made or decided
        self._screen = _IDLE
        self._picture: "tuple[str, int | None, tuple[str, ...], tuple[str, ...]] | None" = None
        self._shown = 0  # when the picture was drawn

    # What the applet says ---------------------------------------------------------------------

    def balance(self, fen: "int | None", pending: int) -> None:
        """Set what the idle screen shows: fen to spend, None if the card cannot pay (it is blank or locked),
        and fen received that are pending repeat payment verification."""
        if self._money != (fen, pending):
            self._money = (fen, pending)
            if self._screen == _IDLE:
                self._idle()

    def consent(self, request_id: bytes, payee: bytes, amount: int, with_pin: bool) -> int:
        """Whether the holder agrees to pay: ASKED, AGREED or DECLINED.

        request_id: what tells requests apart (the terminal's nonce); payee: key id, 8 bytes; amount: fen;
        with_pin: the PIN was verified for this tap. The first call has the screen show the request; the
        decision comes by press(), and is for that request alone: each of the three counts. It stays until
        paid(), so that a torn tap can be repeated, until another request replaces it, or for REQUEST_MS."""
        self._forget()
        request = (request_id, payee, amount)
        if request != self._request:
            self._request = request
            self._pin = False
            self._decide(ASKED)
            self._ask("Pay?", request, ("Refuse", "Confirm"))
        self._pin = self._pin or with_pin
        return self._answer

    def pin_was_verified(self, request_id: bytes, payee: bytes, amount: int) -> bool:
        """Whether the holder agreed to this very request and a tap of it came with the PIN: then the tap
        that follows the press needs no PIN again."""
        self._forget()
        agreed = self._answer == AGREED and self._request == (request_id, payee, amount)
        return agreed and self._pin

    def paid(self, payee: bytes, amount: int, balance: int, pending: int) -> None:
        """A payment is committed: show it, with the balance after it. Ends a request."""
        self._money = (balance, pending)
        self._result("Paid", amount, _to(payee), _labelled("Balance", balance))

    def received(self, amount: int, balance: int, pending: int) -> None:
        """A payment was received, and is pending: show it, with what is pending in all. Ends a request."""
        self._money = (balance, pending)
        self._result("Received", amount, "to be verified", _labelled("Pending", pending))

    def failed(self, text: str) -> None:
        """Nothing was paid: show why, up to 5 lines of 25 characters. Ends a request."""
        self._result("Not paid", None, text)

    # What the holder and time do --------------------------------------------------------------

    def press(self, button: int) -> None:
        """A button was pressed: CONFIRM or REFUSE; anything else does nothing.

        A refusal counts at once, since it costs nothing; a confirmation only when the request has been on
        the screen for GUARD_MS. On a result either leads back to the idle screen, after GUARD_MS too."""
        self.tick()
        request = self._request
        if button not in (CONFIRM, REFUSE):
            return
        if self._screen == _RESULT and self._for(GUARD_MS):
            self._idle()
        elif self._screen != _REQUEST or request is None:
            return
        elif button == REFUSE:
            _, payee, amount = request
            self._result("Refused", amount, _to(payee), "Nothing was paid.")
            self._request = request  # the terminal has yet to hear of it
            self._decide(DECLINED)
        elif self._answer == ASKED and self._for(GUARD_MS):
            self._decide(AGREED)
            self._ask("Tap again to pay", request, ("Refuse",))
        self.tick()

    def tick(self) -> None:
        """Time passes: forget what waited too long, end what was shown long enough, draw what is new."""
        self._forget()
        if self._picture is None and self._screen == _RESULT and self._for(RESULT_MS):
            self._idle()
        if self._picture is not None:
            self._draw(self._picture)
            self._picture = None
            self._shown = self._clock()

    def _for(self, ms: int) -> bool:
        """Whether the picture has been on the screen for so long."""
        return bool(ticks_diff(self._clock(), self._shown) >= ms)

    def _forget(self) -> None:
        """Forget a request, or the decision on it, when its time is over."""
        if self._request is not None and ticks_diff(self._clock(), self._since) >= REQUEST_MS:
            self._request = None
            if self._screen == _REQUEST:
                self._idle()

    def _decide(self, answer: int) -> None:
        self._answer = answer
        self._since = self._clock()

    # Screens ----------------------------------------------------------------------------------

    def _idle(self) -> None:
        self._screen = _IDLE
        fen, pending = self._money or (None, 0)
        if fen is None:
            text = "This card cannot pay now. Please ask your bank."
            self._picture = ("Card not in use", None, (text,), ())
        else:
            lines = ("Received, to be verified:", yuan(pending)) if pending else ()
            self._picture = ("Balance", fen, lines, ())

    def _ask(
        self, title: str, request: "tuple[bytes, bytes, int]", buttons: "tuple[str, ...]"
    ) -> None:
        self._screen = _REQUEST
        self._picture = (title, request[2], (_to(request[1]),), buttons)

    def _result(self, title: str, amount: "int | None", *lines: str) -> None:
        self._request = None
        self._screen = _RESULT
        self._picture = (title, amount, lines, ())

    def _draw(self, picture: "tuple[str, int | None, tuple[str, ...], tuple[str, ...]]") -> None:
        """Draw a picture and show it: a title, then an amount and short lines or one text, then buttons."""
        title, amount, lines, buttons = picture
        canvas = self._canvas
        canvas.clear()
        self._centred(title, 2)
        canvas.invert(0, 0, COLUMNS, _BAR)
        if amount is None:
            y = _BAR + 4
            for line in _wrapped(lines[0]):
                canvas.text(line, 2, y)
                y += _STEP
        else:
            text = yuan(amount)
            if len(text) <= _LINE // 2:
                self._centred(text, 15, 2)
            else:
                self._centred(text, 20)
            y = 37
            for line in lines:
                self._centred(line, y)
                y += 14
        x = 0
        for button in buttons:
            canvas.text(button, x + (_LABEL - len(button) * WIDTH) // 2, ROWS - _BAR + 2)
            canvas.rect(x, ROWS - _BAR, _LABEL, _BAR)
            x = COLUMNS - _LABEL
        self._show(canvas.buffer)

    def _centred(self, text: str, y: int, scale: int = 1) -> None:
        width = (len(text) * WIDTH - 1) * scale  # the last column of a character is its gap
        self._canvas.text(text, (COLUMNS - width) // 2, y, scale)


def _to(payee: bytes) -> str:
    return "to " + fingerprint(payee)


def _wrapped(text: str) -> "list[str]":
    """A text in lines."""
    lines = [""]
    for word in text.split():
        if not lines[-1]:
            lines[-1] = word
        elif len(lines[-1]) + 1 + len(word) <= _LINE:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _labelled(label: str, fen: int) -> str:
    """An amount and what it is; the amount alone where there is no room for both."""
    text = label + " " + yuan(fen)
    return text if len(text) <= _LINE else yuan(fen)

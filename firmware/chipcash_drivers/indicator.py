# SPDX-License-Identifier: Apache-2.0
"""An RGB LED and a buzzer, both by PWM, as signs of what becomes of a payment. Has never run on hardware: the
tests emulate machine.PWM.

| sign | LED | buzzer |
|---|---|---|
| ready | faint blue | |
| cannot pay: blank, locked | red, a flash every 2 s | |
| asked: the holder is to confirm on the card's screen | white, blinks slowly for 10 s | two short tones |
| paid | green, 2 s | one long high tone |
| received, to be verified | green, blinks three times | two tones, the second higher |
| refused | red, blinks quickly | three short low tones |

Each has a rhythm of its own, in light as in sound: nobody needs to tell red from green, to see, or to hear.

Who tells of a payment waits for nothing: a sign is set up by the next tick(). A tick that comes late makes a
step longer and leaves none out."""

from chipcash_wire.compat import TYPE_CHECKING, ticks_diff, ticks_ms

if TYPE_CHECKING:
    from typing import Callable, Protocol

    class Pwm(Protocol):
        """machine.PWM."""

        def freq(self, hz: int) -> None:
            """Set the frequency."""

        def duty_u16(self, duty: int) -> None:
            """Set how much of the time the pin is high: 0 never, 65535 always."""

    Step = tuple[int, int, int]


LED_HZ = 1000
"""More than eyes see."""

_FULL = 65535
_FAINT = 2048
_TONE = 32768  # a square wave, which is the loudest

_OFF = 0
_RED = 1
_GREEN = 2
_BLUE = 4
_WHITE = 7
_DIM = 8  # as a bit beside a colour: faint

# Steps of (milliseconds, colour, hertz). The signs of a state begin again, those of an event go back to the
# state's. A piezo element is loudest at some 4 kHz; 2 kHz and more are hard to hear for older people.
_READY = ((1000, _BLUE | _DIM, 0),)
_CLOSED = ((100, _RED, 0), (1900, _OFF, 0))
_ASKED = ((100, _WHITE, 1500), (100, _WHITE, 0), (100, _WHITE, 1500), (200, _WHITE, 0)) + (
    (500, _OFF, 0),
    (500, _WHITE, 0),
) * 10
_PAID = ((400, _GREEN, 1800), (1600, _GREEN, 0))
_RECEIVED = (
    ((150, _GREEN, 1000), (50, _OFF, 0), (300, _GREEN, 1500))
    + ((300, _OFF, 0), (300, _GREEN, 0)) * 2
    + ((300, _OFF, 0),)
)
_REFUSED = ((80, _RED, 400), (80, _OFF, 0)) * 3 + ((80, _RED, 0), (80, _OFF, 0)) * 5


class Indicator:
    """The signs. led: PWM of red, green and blue, lit while high, empty where there is no LED; buzzer: PWM,
    or None; clock: milliseconds, as compat.ticks_ms. Whoever serves the links calls tick() often, in long
    work too; what the applet says is as for chipcash_panel.Panel."""

    def __init__(
        self,
        led: "list[Pwm]",
        buzzer: "Pwm | None",
        clock: "Callable[[], int]" = ticks_ms,
    ) -> None:
        self._led = led
        self._buzzer = buzzer
        self._clock = clock
        self._state: "tuple[Step, ...]" = _CLOSED
        self._event: "tuple[Step, ...]" = ()
        self._at = -1  # the step that is shown; -1: none yet
        self._since = 0

    def balance(self, fen: "int | None", pending: int) -> None:
        """What is there to spend, None if the card cannot pay."""
        state = _CLOSED if fen is None else _READY
        if state is not self._state:
            self._state = state
            if not self._event:
                self._at = -1

    def asked(self) -> None:
        """The holder is to decide."""
        self._begin(_ASKED)

    def paid(self, payee: bytes, amount: int, balance: int, pending: int) -> None:
        """A payment is committed."""
        self._begin(_PAID)

    def received(self, amount: int, balance: int, pending: int) -> None:
        """A payment was received."""
        self._begin(_RECEIVED)

    def failed(self, text: str) -> None:
        """Nothing was paid."""
        self._begin(_REFUSED)

    def tick(self) -> None:
        """Time passes: go on to the next step when it is due. Cheap."""
        steps = self._event or self._state
        now = self._clock()
        if self._at >= 0:
            if ticks_diff(now, self._since) < steps[self._at][0]:
                return
            if self._at + 1 == len(steps):
                self._event = ()
                steps = self._state
                self._at = -1
        self._at += 1
        self._since = now
        _, colour, hz = steps[self._at]
        level = _FAINT if colour & _DIM else _FULL
        for number, pwm in enumerate(self._led):
            pwm.duty_u16(level if colour >> number & 1 else 0)
        if self._buzzer is not None:
            if hz:
                self._buzzer.freq(hz)
            self._buzzer.duty_u16(_TONE if hz else 0)

    def _begin(self, event: "tuple[Step, ...]") -> None:
        self._event = event
        self._at = -1

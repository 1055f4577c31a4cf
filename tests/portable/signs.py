# SPDX-License-Identifier: Apache-2.0
"""LED and buzzer on emulated PWM, and the time. Portable."""

from chipcash_drivers.indicator import Indicator

RED, GREEN, BLUE = range(3)
STEP_MS = 10


class Pwm:
    """machine.PWM: its frequency, its duty and those that it had, and how often it was set."""

    def __init__(self, hz=0):
        self.hz = hz
        self.duty = self.sets = 0
        self.had = set()

    def freq(self, hz):
        """Set the frequency; the real one takes none of 0."""
        assert 8 <= hz <= 20000
        self.hz = hz
        self.sets += 1

    def duty_u16(self, duty):
        """Set the duty."""
        assert 0 <= duty <= 65535
        self.duty = duty
        self.had.add(duty)
        self.sets += 1


class Signs:
    """An indicator, its chips, and the time."""

    def __init__(self):
        self.now = 0
        self.led = [Pwm(), Pwm(), Pwm()]
        self.buzzer = Pwm()
        self.indicator = Indicator(self.led, self.buzzer, lambda: self.now)

    @property
    def sets(self):
        """How often any chip was set."""
        return sum([pwm.sets for pwm in self.led]) + self.buzzer.sets

    def lit(self):
        """The colours that are lit."""
        return [number for number, pwm in enumerate(self.led) if pwm.duty]

    def sounds(self):
        """The tone, 0 for none."""
        return self.buzzer.hz if self.buzzer.duty else 0

    def watched(self, ms):
        """What there is to see and to hear for so long: ([(ms, brightness)], [(ms, tone)], colours lit)."""
        light, sound, colours = [], [], set()
        for _ in range(0, ms, STEP_MS):
            self.indicator.tick()
            seen = max([pwm.duty for pwm in self.led])
            colours.update(self.lit())
            for run, value in ((light, seen), (sound, self.sounds())):
                if run and run[-1][1] == value:
                    run[-1] = (run[-1][0] + STEP_MS, value)
                else:
                    run.append((STEP_MS, value))
            self.now += STEP_MS
        return light, sound, colours

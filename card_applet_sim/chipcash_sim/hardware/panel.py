# SPDX-License-Identifier: Apache-2.0
"""The screen and the buttons of a card that has them, as its holder sees and presses them."""

import io
import select
import threading

from chipcash_panel.framebuffer import COLUMNS, ROWS, SIZE
from chipcash_panel.panel import CONFIRM, REFUSE
from chipcash_sim.hardware import Hardware
from chipcash_sim.plug import CardGone, Plug

BUTTONS = {"confirm": CONFIRM, "refuse": REFUSE}
"""The buttons by name."""

_TICK_S = 0.02  # how soon a card that was plugged in, or close(), is noticed
_PATIENCE_S = 10.0
_LIT = (0xE8, 0xF4, 0xFF)
_DARK = (0x08, 0x0C, 0x14)


class FrontPanel(Hardware):
    """What is on the front of a visual card. The card's link is `panel`."""

    def __init__(self) -> None:
        self._frame = bytes(SIZE)
        self._changed = threading.Condition()
        super().__init__(Plug(), "front panel")

    @property
    def frame(self) -> bytes:
        """The picture that the screen shows (chipcash_panel.framebuffer); dark before the first."""
        return self._frame

    def png(self, scale: int = 4) -> bytes:
        """The picture as a PNG file; see png()."""
        return png(self._frame, scale)

    def press(self, button: str) -> None:
        """Press a button: one of BUTTONS. Raises ValueError for another, CardGone without a card."""
        if button not in BUTTONS:
            raise ValueError(f"{button!r} is none of {', '.join(BUTTONS)}")
        self.plug.send(bytes((BUTTONS[button],)))

    def wait_for_change(self, since: bytes, timeout: float = _PATIENCE_S) -> bytes:
        """Wait (seconds) until the screen shows anything but the picture `since`; what it shows then.

        Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame != since, timeout):
                raise TimeoutError(f"the screen did not change within {timeout:g} s")
            return self._frame

    def _release(self) -> None:
        pass

    def _serve(self) -> None:
        while not self._closing.is_set():
            if not self.plug.plugged:
                self._closing.wait(_TICK_S)
                continue
            try:
                if select.select([self.plug], [], [], _TICK_S)[0]:
                    frame = self.plug.receive()
                    with self._changed:
                        self._frame = frame
                        self._changed.notify_all()
            except (CardGone, OSError, ValueError):
                pass  # the card left, perhaps between two of these steps (a socket that is closed)


def png(frame: bytes, scale: int = 4) -> bytes:
    """A picture in the layout of chipcash_panel.framebuffer as a PNG file, each pixel scale by scale.

    Raises ImportError if Pillow (the extra `sim`) is not installed."""
    from PIL import Image  # here, since only pictures need it

    image = Image.new("P", (COLUMNS, ROWS))
    image.putpalette(_DARK + _LIT)
    image.putdata(
        [frame[(y >> 3) * COLUMNS + x] >> (y & 7) & 1 for y in range(ROWS) for x in range(COLUMNS)]
    )
    file = io.BytesIO()
    image.resize((COLUMNS * scale, ROWS * scale), Image.Resampling.NEAREST).save(
        file, "PNG", bits=1, optimize=True
    )
    return file.getvalue()

# SPDX-License-Identifier: Apache-2.0
"""Our own end of vsmartcard's vpcd protocol: a virtual reader that a card process connects to.

The same card process connects to the real vpcd, and so goes behind a real PC/SC stack. Messages have a 16-bit
big-endian length. From the reader, one byte is a control (0 off, 1 on, 2 reset: unanswered; 4: the card
answers with its ATR); anything longer is a command APDU, answered by a response APDU."""

from chipcash_sim.plug import Plug

_OFF = b"\x00"
_ON = b"\x01"
_RESET = b"\x02"
_GET_ATR = b"\x04"


class VpcdServer(Plug):
    """A virtual reader for one card."""

    def atr(self) -> bytes:
        """The card's answer to reset. Raises CardGone."""
        self.send(_GET_ATR)
        return self.receive()

    def power_on(self) -> None:
        """Power the card; it answers nothing: atr() tells whether it lives. Raises CardGone."""
        self.send(_ON)

    def power_off(self) -> None:
        """Take the card's power, leaving it inserted. Raises CardGone."""
        self.send(_OFF)

    def reset(self) -> None:
        """Warm reset: the card forgets what was selected and verified. Raises CardGone."""
        self.send(_RESET)

    def transceive(self, apdu: bytes, timeout: float = 30.0) -> bytes:
        """Send one command APDU, return the response APDU; the timeout is in seconds.

        Raises CardGone; the card may have processed the command all the same.
        """
        if not 4 <= len(apdu) <= 0xFFFF:
            raise ValueError("an APDU on this link has 4 to 65535 bytes")
        self.send(apdu)
        return self.receive(timeout)

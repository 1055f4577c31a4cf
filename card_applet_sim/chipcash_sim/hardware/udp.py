# SPDX-License-Identifier: Apache-2.0
"""A reader's field over UDP, as nfcpy's UDP driver has it: datagrams of a bit rate and a frame in hex."""

import binascii
import contextlib
import select
import socket
from collections.abc import Callable

from chipcash_sim.hardware import Hardware
from chipcash_sim.hardware.field import Field

_RATE = b"106A"
_OFF = b"RFOFF"
_TICK_S = 0.05


class UdpField(Hardware):
    """A field that nfcpy opens at address as `udp:<host>:<port>`.

    The card's link is `iso14443`. lose: called with each answer; where it is true the answer
    is lost on the air. field: what is in it, if not a card whose chip leaves ISO/IEC 14443-4 to the card."""

    def __init__(
        self, lose: Callable[[bytes], bool] | None = None, field: Field | None = None
    ) -> None:
        self.lose = lose
        self._field = field or Field()
        self._socket = _bound()
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"
        super().__init__(self._field.plug, self.address)

    def _release(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            if self._heard(_TICK_S):
                self._hear()

    def _hear(self) -> None:
        """Take the datagram that is there, and answer it."""
        data, sender = self._socket.recvfrom(2048)
        rate, _, text = data.partition(b" ")
        if rate == _OFF:
            self._field.off()
        elif rate == _RATE:
            with contextlib.suppress(binascii.Error):
                answer = self._field.exchange(binascii.unhexlify(text.strip()))
                if answer is None or (self.lose and self.lose(answer)):
                    return
                # Who has sent something more does not listen for this any more. A datagram would wait for
                # him, as nothing in the air does, and answer his next frame.
                if not self._heard(0):
                    self._socket.sendto(_RATE + b" " + binascii.hexlify(answer), sender)

    def _heard(self, wait: float) -> bool:
        return bool(select.select([self._socket], [], [], wait)[0])


def _bound() -> socket.socket:
    """A socket on a free port that has no name: nfcpy takes names for numbers."""
    while True:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.bind(("127.0.0.1", 0))
        if socket.getnameinfo(found.getsockname(), socket.NI_NUMERICHOST)[1].isdigit():
            return found
        found.close()

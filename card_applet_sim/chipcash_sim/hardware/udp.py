# SPDX-License-Identifier: Apache-2.0
"""A reader's field over UDP, as nfcpy's UDP driver has it: datagrams of a bit rate and a frame in hex."""

import binascii
import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from chipcash_sim.hardware.field import Field

_RATE = b"106A"
_OFF = b"RFOFF"
_TICK_S = 0.05


class UdpField:
    """A field that nfcpy opens at address as `udp:<host>:<port>`.

    plug: where the card goes, link `iso14443`. lose: called with each answer; where it is true the answer
    is lost on the air."""

    def __init__(self, lose: Callable[[bytes], bool] | None = None) -> None:
        self.lose = lose
        self._field = Field()
        self.plug = self._field.plug
        self._socket = _bound()
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=self.address, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the reader away. May be repeated."""
        self._closing.set()
        self._thread.join()
        self._socket.close()
        self.plug.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._socket], [], [], _TICK_S)[0]:
                continue
            data, sender = self._socket.recvfrom(2048)
            rate, _, text = data.partition(b" ")
            if rate == _OFF:
                self._field.off()
            elif rate == _RATE:
                with contextlib.suppress(binascii.Error):
                    answer = self._field.exchange(binascii.unhexlify(text.strip()))
                    if answer is not None and not (self.lose and self.lose(answer)):
                        self._socket.sendto(_RATE + b" " + binascii.hexlify(answer), sender)


def _bound() -> socket.socket:
    """A socket on a free port that has no name: nfcpy takes names for numbers."""
    while True:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.bind(("127.0.0.1", 0))
        try:
            socket.getservbyport(found.getsockname()[1], "udp")
        except OSError:
            return found
        found.close()

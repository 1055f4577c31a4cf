# SPDX-License-Identifier: Apache-2.0
"""Our own end of vsmartcard's vpcd protocol: a virtual reader that a card process connects to.

The same card process connects to the real vpcd, and so goes behind a real PC/SC stack. Messages
have a 16-bit big-endian length. From the reader, one byte is a control (0 off, 1 on, 2 reset:
unanswered; 4: the card answers with its ATR); anything longer is a command APDU, answered by a
response APDU.
"""

import socket
import time
from types import TracebackType
from typing import Self

_OFF = b"\x00"
_ON = b"\x01"
_RESET = b"\x02"
_GET_ATR = b"\x04"
_CONTROL_TIMEOUT = 10.0


class CardGone(Exception):
    """The card process did not connect, closed the link, or did not answer in time."""


class VpcdServer:
    """A virtual reader for one card, on a loopback port that the system chooses."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._link: socket.socket | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1 that the card process has to connect to."""
        port = self._listener.getsockname()[1]
        assert isinstance(port, int)
        return port

    def accept(self, timeout: float = _CONTROL_TIMEOUT) -> None:
        """Wait (seconds) until the card is inserted. Raises CardGone if none comes."""
        self._hang_up()
        self._listener.settimeout(timeout)
        try:
            self._link, _ = self._listener.accept()
        except TimeoutError:
            raise CardGone(f"no card connected within {timeout:g} s") from None
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def atr(self) -> bytes:
        """The card's answer to reset. Raises CardGone."""
        return self._exchange(_GET_ATR, _CONTROL_TIMEOUT)

    def power_on(self) -> None:
        """Power the card; it answers nothing: atr() tells whether it lives. Raises CardGone."""
        self._control(_ON)

    def power_off(self) -> None:
        """Take the card's power, leaving it inserted. Raises CardGone."""
        self._control(_OFF)

    def reset(self) -> None:
        """Warm reset: the card forgets what was selected and verified. Raises CardGone."""
        self._control(_RESET)

    def transceive(self, apdu: bytes, timeout: float = 30.0) -> bytes:
        """Send one command APDU, return the response APDU; the timeout is in seconds.

        Raises CardGone; the card may have processed the command all the same. After a timeout the
        link is closed, since a late answer would be taken for the next command's.
        """
        if not 4 <= len(apdu) <= 0xFFFF:
            raise ValueError("an APDU on this link has 4 to 65535 bytes")
        return self._exchange(apdu, timeout)

    def close(self) -> None:
        """Remove the card and free the port. May be repeated."""
        self._hang_up()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _control(self, code: bytes) -> None:
        self._send(code, time.monotonic() + _CONTROL_TIMEOUT)

    def _exchange(self, message: bytes, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        self._send(message, deadline)
        return self._receive(int.from_bytes(self._receive(2, deadline), "big"), deadline)

    def _send(self, message: bytes, deadline: float) -> None:
        link = self._ready(deadline)
        try:
            link.sendall(len(message).to_bytes(2, "big") + message)
        except OSError as error:
            raise self._gone(error) from None

    def _receive(self, n: int, deadline: float) -> bytes:
        data = b""
        while len(data) < n:
            link = self._ready(deadline)
            try:
                if hasattr(socket, "TCP_QUICKACK"):
                    # Linux disarms it again by itself; without it each APDU costs 40 ms.
                    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                part = link.recv(n - len(data))
            except OSError as error:
                raise self._gone(error) from None
            if not part:
                raise self._gone(ConnectionError("it closed the link"))
            data += part
        return data

    def _ready(self, deadline: float) -> socket.socket:
        """The link, set to give up at the deadline (monotonic seconds)."""
        if self._link is None:
            raise CardGone("no card is inserted")
        self._link.settimeout(max(deadline - time.monotonic(), 0.001))
        return self._link

    def _gone(self, error: OSError) -> CardGone:
        self._hang_up()
        if isinstance(error, TimeoutError):
            return CardGone("the card did not answer in time")
        return CardGone(f"the card left: {error}")

# SPDX-License-Identifier: Apache-2.0
"""Where a card process plugs in: one socket for each of its links, carrying packets.

A packet is a 16-bit big-endian length and so many bytes: a frame of the link, or some bytes where the link
is a stream. An empty packet to the card says that the other side of the link is gone (no field, a reset
line). Those of a vpcd link are vsmartcard's, so that the same card process connects to the real vpcd."""

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

_PATIENCE_S = 10.0


class CardGone(Exception):
    """The card process did not connect, closed the link, or did not answer in time."""


class Closing(ABC):
    """What is to be closed, and is where a `with` around it ends."""

    @abstractmethod
    def close(self) -> None:
        """Take it away. May be repeated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Plug(Closing):
    """Our end of one link, on a loopback port that the system chooses.

    frames: packets that have passed, in both directions, since the card was plugged in; to_card, from_card:
    lengths in bytes of those that went each way. on_frame: called
    before each passes, with its number from 1; what it raises keeps the packet from passing (faults are
    made of it)."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._link: socket.socket | None = None
        self.frames = 0
        self.to_card: list[int] = []
        self.from_card: list[int] = []
        self.on_frame: Callable[[int], None] | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1 that the card process has to connect to."""
        port = self._listener.getsockname()[1]
        assert isinstance(port, int)
        return port

    @property
    def plugged(self) -> bool:
        """Whether a card is on the other end, as far as is known."""
        return self._link is not None

    def fileno(self) -> int:
        """For select(): readable when the card has sent something or left. Raises CardGone."""
        return self._ready(None).fileno()

    def accept(self, timeout: float = _PATIENCE_S) -> None:
        """Wait (seconds) until a card is plugged in. Raises CardGone if none comes."""
        self.hang_up()
        self._listener.settimeout(timeout)
        try:
            self._link, _ = self._listener.accept()
        except TimeoutError:
            raise CardGone(f"no card connected within {timeout:g} s") from None
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frames = 0
        self.to_card, self.from_card = [], []

    def send(self, packet: bytes, timeout: float = _PATIENCE_S) -> None:
        """Send one packet to the card; the timeout is in seconds. Raises CardGone."""
        self._count()
        link = self._ready(time.monotonic() + timeout)
        try:
            link.sendall(len(packet).to_bytes(2, "big") + packet)
        except OSError as error:
            raise self._gone(link, error) from None
        self.to_card.append(len(packet))

    def receive(self, timeout: float = _PATIENCE_S) -> bytes:
        """Wait for a packet from the card; the timeout is in seconds.

        Raises CardGone. After a timeout the link is closed, since a late answer would be taken for the next
        one."""
        deadline = time.monotonic() + timeout
        packet = self._receive(int.from_bytes(self._receive(2, deadline), "big"), deadline)
        self._count()
        self.from_card.append(len(packet))
        return packet

    def hang_up(self) -> None:
        """Unplug the card. May be repeated."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def close(self) -> None:
        """Unplug the card and free the port. May be repeated."""
        self.hang_up()
        self._listener.close()

    def _count(self) -> None:
        self.frames += 1
        if self.on_frame is not None:
            self.on_frame(self.frames)

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
                raise self._gone(link, error) from None
            if not part:
                raise self._gone(link, ConnectionError("it closed the link"))
            data += part
        return data

    def _ready(self, deadline: float | None) -> socket.socket:
        """The link, set to give up at the deadline (monotonic seconds)."""
        link = self._link  # once: another thread may unplug it meanwhile
        if link is None:
            raise CardGone("no card is inserted")
        if deadline is not None:
            try:
                link.settimeout(max(deadline - time.monotonic(), 0.001))
            except OSError:
                raise CardGone("no card is inserted") from None
        return link

    def _gone(self, link: socket.socket, error: OSError) -> CardGone:
        if self._link is link:  # else another card was plugged in meanwhile
            self.hang_up()
        if isinstance(error, TimeoutError):
            return CardGone("the card did not answer in time")
        return CardGone(f"the card left: {error}")

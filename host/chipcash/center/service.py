# SPDX-License-Identifier: Apache-2.0
"""The registration center listening for HTTP."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn

from chipcash.center.errors import CenterError
from chipcash.center.http import create_app
from chipcash.center.ledger import Center

__all__ = ["Service"]


class Service:
    """A center listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    host, port: where to listen; port 0 takes a free one. Listening begins at once. Raises CenterError if
    the address cannot be used.
    """

    def __init__(self, center: Center, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.create_server(address[:2], family=family)
            # Connections inherit it. Without it an answer's body waits 40 ms for an acknowledgement of
            # its head: asyncio does not set it here, as create_server names no protocol.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise CenterError(
                f"The center cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(center),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until stop() or, in the main thread, an interrupt."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Finish what is being answered, then end run()."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="center", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()

# SPDX-License-Identifier: Apache-2.0
"""The registration center listening for HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from chipcash import web
from chipcash.center.errors import CenterError
from chipcash.center.http import create_app
from chipcash.center.limits import Limits
from chipcash.center.registration import Center
from chipcash.log.store import Log

__all__ = ["Service"]


class Service(web.Service):
    """A center listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    host, port: where to listen; port 0 takes a free one; log: the center's, to be served under /log; tls: of
    tls.server_context(), for https; where that knows clients, see create_app(); limits: of requests, None is
    without; connections, proxies: as web.Service. Listening begins at once. Raises CenterError if the address
    cannot be used.
    """

    def __init__(
        self,
        center: Center,
        host: str = "127.0.0.1",
        port: int = 0,
        log: Log | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        connections: int | None = None,
        proxies: Sequence[str] = (),
    ) -> None:
        certified = tls is not None and tls.verify_mode != ssl.CERT_NONE
        app = create_app(center, log, certified=certified, limits=limits)
        try:
            super().__init__(
                app, host, port, "center", tls=tls, connections=connections, proxies=proxies
            )
        except OSError as error:
            raise CenterError(
                f"The center cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None

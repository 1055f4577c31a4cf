# SPDX-License-Identifier: Apache-2.0
"""Pages that people log in to, listening for HTTP."""

from __future__ import annotations

import ssl

from starlette.applications import Starlette

from chipcash import web
from chipcash.people.errors import StaffError

__all__ = ["Service"]


class Service(web.Service):
    """Pages listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    app: of Site.app(); what: they are, as in "The staff's pages"; host, port: where to listen; port 0 takes a
    free one; tls: of tls.server_context(), for https; without it only a loopback address is taken, since
    passwords go over it. Raises StaffError if that, or any other reason, keeps it from listening.
    """

    def __init__(
        self,
        app: Starlette,
        what: str,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if tls is None and not web.is_loopback(host):
            raise StaffError(
                f"Passwords would go over the network in the clear: {host} is not this machine.",
                hint="Give --tls-cert, or listen on 127.0.0.1.",
            )
        try:
            super().__init__(app, host, port, "pages", tls=tls)
        except OSError as error:
            raise StaffError(
                f"{what} cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None

# SPDX-License-Identifier: Apache-2.0
"""The staff's pages listening for HTTP."""

from __future__ import annotations

import ipaddress
import ssl

from chipcash import web
from chipcash.center.staff.accounts import Staff
from chipcash.center.staff.errors import StaffError
from chipcash.center.staff.site import Center, create_app

__all__ = ["Service"]


class Service(web.Service):
    """The pages listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    host, port: where to listen; port 0 takes a free one; tls: of tls.server_context(), for https; without it
    only a loopback address is taken, since passwords go over it. Raises StaffError if that, or any other
    reason, keeps it from listening.
    """

    def __init__(
        self,
        center: Center,
        staff: Staff,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if tls is None and not _is_loopback(host):
            raise StaffError(
                f"Passwords would go over the network in the clear: {host} is not this machine.",
                hint="Give --tls-cert, or listen on 127.0.0.1.",
            )
        try:
            super().__init__(create_app(center, staff), host, port, "staff", tls=tls)
        except OSError as error:
            raise StaffError(
                f"The staff's pages cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

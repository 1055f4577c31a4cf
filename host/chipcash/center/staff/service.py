# SPDX-License-Identifier: Apache-2.0
"""The staff's pages listening for HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from chipcash.center.staff.site import Center, create_app
from chipcash.people.accounts import Staff
from chipcash.people.service import Service as PeopleService

__all__ = ["Service"]


class Service(PeopleService):
    """The staff's pages; see chipcash.people.service.Service. names: hosts by which they are opened, beside
    host."""

    def __init__(
        self,
        center: Center,
        staff: Staff,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        names: Sequence[str] = (),
    ) -> None:
        app = create_app(center, staff, [host, *names])
        super().__init__(app, "The staff's pages", host, port, tls=tls)

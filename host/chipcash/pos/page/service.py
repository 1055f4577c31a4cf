# SPDX-License-Identifier: Apache-2.0
"""The till's page listening for HTTP."""

from __future__ import annotations

import ssl

from chipcash.people.accounts import Staff
from chipcash.people.service import Service as PeopleService
from chipcash.pos.page.site import Site
from chipcash.pos.till import CenterFactory, Till

__all__ = ["Service"]


class Service(PeopleService):
    """The page of a running till; see chipcash.people.service.Service. center: as Till has it."""

    def __init__(
        self,
        till: Till,
        staff: Staff,
        center: CenterFactory,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # Streams last: they have to be told that the server ends.
        site = Site(till, staff, center, ending=lambda: self._server.should_exit)
        super().__init__(site.app(), "The till's page", host, port, tls=tls)

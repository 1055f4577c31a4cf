# SPDX-License-Identifier: Apache-2.0
"""The till's page listening for HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from chipcash.people.accounts import Staff
from chipcash.people.service import Service as PeopleService
from chipcash.pos.page.site import Site
from chipcash.pos.till import CenterFactory, Till

__all__ = ["Service"]


class Service(PeopleService):
    """The page of a running till; see chipcash.people.service.Service. center: as Till has it; names: hosts
    by which it is opened, beside host."""

    def __init__(
        self,
        till: Till,
        staff: Staff,
        center: CenterFactory,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        names: Sequence[str] = (),
    ) -> None:
        # Streams last: they have to be told that the server ends.
        site = Site(till, staff, center, ending=lambda: self._server.should_exit)
        super().__init__(site.app([host, *names]), "The till's page", host, port, tls=tls)

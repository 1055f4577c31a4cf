# SPDX-License-Identifier: Apache-2.0
"""Serving the verification site: a folder of files, with the headers that any server of it should send."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from chipcash import web
from chipcash.log.errors import LogError
from chipcash.site.building import CONFIG

__all__ = ["HEADERS", "SiteService"]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer (protocols/spec/site.md, Serving)."""
_FOREVER = re.compile(r"((home|p[0-9]{4})/)?(records/|log/tile/(?!.*\.p/))")
"""Paths of files that never change. Partial tiles do not either, but are taken away."""


class _Files(StaticFiles):
    """Static files with the headers. A cache asks each time for what may change."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        lasting = _FOREVER.match(path) is not None
        response.headers["Cache-Control"] = "max-age=31536000, immutable" if lasting else "no-cache"
        response.headers.update(HEADERS)
        return response


class SiteService(web.Service):
    """A site's folder listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    Raises LogError if there is no site in the folder, or the address cannot be used.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        if not (folder / CONFIG).is_file():
            raise LogError(
                f"There is no verification site in {folder}.", hint="Make one: chipcash site build"
            )
        app = Starlette(routes=[Mount("/", _Files(directory=folder, html=True))])
        try:
            super().__init__(app, host, port, "site")
        except OSError as error:
            raise LogError(
                f"The site cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None

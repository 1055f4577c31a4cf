# SPDX-License-Identifier: Apache-2.0
"""What the toolkit's HTTP services share: listening, and errors as JSON objects with a name for programs, a
message and a hint for people."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from chipcash import tls as chipcash_tls

__all__ = [
    "COMPONENTS",
    "MAX_BODY",
    "BadBody",
    "Service",
    "TooLarge",
    "TooSlow",
    "body",
    "is_loopback",
    "json_body",
    "mismatch",
    "on_bad_body",
    "on_http",
    "on_too_large",
    "on_too_slow",
    "refusal",
]

MAX_BODY = 1 << 20
"""Largest request body in bytes."""
HEAD_S = 15.0
"""How long a client may take for the head of a request, seconds."""
BODY_S = 30.0
"""How long a client may take for the body of a request, seconds."""
EXCHANGE_S = 150.0
"""How long a request may take, until the client has the whole answer, seconds."""

COMPONENTS: dict[str, Any] = {
    "responses": {
        "Error": {
            "description": "refused; nothing changed",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    },
    "schemas": {
        "Error": {
            "type": "object",
            "required": ["error", "message", "hint"],
            "properties": {
                "error": {"type": "string", "description": "name, for programs"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
            },
        }
    },
}
"""Of an OpenAPI description: what refusal() answers."""


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TooLarge(Exception):
    """The body has more than MAX_BODY bytes."""


class TooSlow(Exception):
    """The body did not come within BODY_S."""


class BadBody(Exception):
    """The body is not what a request takes. Values as of refusal()."""

    def __init__(
        self, message: str, hint: str = "", *, status: int = 400, name: str = "malformed"
    ) -> None:
        super().__init__(message)
        self.status, self.name, self.message, self.hint = status, name, message, hint


class Service:
    """An application listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    host, port: where to listen; port 0 takes a free one. Listening begins at once. name: of the thread.
    tls: of tls.server_context(), for https; connections: most at once, others are told 503; proxies:
    addresses or networks of those who are believed about whom they ask for (X-Forwarded-For). url: where it
    is. Raises OSError if the address cannot be used.
    """

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        name: str,
        *,
        tls: ssl.SSLContext | None = None,
        connections: int | None = None,
        proxies: Sequence[str] = (),
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self._socket = socket.create_server(address[:2], family=family)
        # Connections inherit it. Without it an answer's body waits 40 ms for an acknowledgement of
        # its head: asyncio does not set it here, as create_server names no protocol.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{shown}:{self._socket.getsockname()[1]}"
        self._name = name
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",  # by itself it would import what is there for them
                ssl_context_factory=None if tls is None else lambda *_: tls,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # By itself it would believe whoever is on this machine.
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies),
                limit_concurrency=connections,
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

    @property
    def ending(self) -> bool:
        """Whether it is about to end: who has an answer that waits for something should give it now."""
        return self._server.should_exit

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name=self._name, daemon=True)
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


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with what it lacks: the TLS extension of ASGI, which tells who the client is, and
    an end for clients that take for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio.Protocol. A handshake is over by now."""
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        extensions = {} if connection is None else {"tls": chipcash_tls.extension(connection)}
        app = self.app

        async def handle(scope: Any, receive: Any, send: Any) -> None:
            self._end_in(EXCHANGE_S)
            scope.setdefault("extensions", {}).update(extensions)
            await app(scope, receive, send)

        self.app = handle
        self._end: asyncio.TimerHandle | None = None
        self._end_in(HEAD_S)

    def on_response_complete(self) -> None:
        """As H11Protocol, which may begin with the next request at once."""
        self._end_in(HEAD_S)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio.Protocol."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def _end_in(self, seconds: float) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)


async def body(request: Request) -> bytes:
    """A request's body, never more than MAX_BODY of it in memory. Raises TooLarge, TooSlow."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_BODY:
                    raise TooLarge
    except TimeoutError:
        raise TooSlow from None
    return bytes(data)


async def json_body(request: Request, name: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    """The JSON object in a body, as a schema wants it; empty where there is none, and there is to be none.

    name: of the schema, for people. Raises BadBody, TooLarge, TooSlow.
    """
    data = await body(request)
    if schema is None:
        if data not in (b"", b"{}"):
            raise BadBody("This request takes no body.")
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadBody(
            "The body is not declared as JSON.",
            "Send it with Content-Type: application/json.",
            status=415,
            name="media-type",
        )
    try:
        found: dict[str, Any] = json.loads(data)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise BadBody("The body is not JSON.") from None
    wrong = mismatch("the body", found, schema)
    if wrong:
        raise BadBody(wrong, f"See {name} in /openapi.json.")
    return found


_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def mismatch(what: str, value: object, schema: dict[str, Any]) -> str:
    """What is wrong with a value, for people; empty if nothing. Knows what the schemas of bodies use."""
    if type(value) is not _TYPES[schema["type"]]:
        return f"{what} is no JSON {schema['type']}."
    if value not in schema.get("enum", [value]):
        return f"{what} is none of {', '.join(schema['enum'])}."
    if "pattern" in schema and not re.fullmatch(schema["pattern"], str(value)):
        return f"{what} is not written like {schema['pattern']}."
    if isinstance(value, int) and value < schema.get("minimum", value):
        return f"{what} is below {schema['minimum']}."
    if isinstance(value, int) and value > schema.get("maximum", value):
        return f"{what} is above {schema['maximum']}."
    found = ""
    if isinstance(value, list):
        for item in value:
            found = found or mismatch(f"an item of {what}", item, schema["items"])
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                return f"{what} has no “{name}”."
        for name, item in value.items():
            if name not in schema["properties"]:
                return f"{what} has a “{name}”, which is not known."
            found = found or mismatch(f"“{name}”", item, schema["properties"][name])
    return found


def on_bad_body(request: Request, error: Exception) -> Response:
    """The answer to a body that is none of those which a request takes (BadBody)."""
    bad = cast(BadBody, error)
    return refusal(bad.status, bad.name, bad.message, bad.hint)


def refusal(status: int, name: str, message: str, hint: str = "") -> JSONResponse:
    """The answer "no"."""
    return JSONResponse({"error": name, "message": message, "hint": hint}, status_code=status)


def on_http(request: Request, error: Exception) -> Response:
    """The answer to a path or method that is not there (starlette's HTTPException)."""
    known = cast(HTTPException, error)
    name = {404: "unknown", 405: "method"}.get(known.status_code, "http")
    answer = refusal(known.status_code, name, f"{known.detail}.", "See /openapi.json.")
    answer.headers.update(known.headers or {})  # Allow, which RFC 9110 asks for with 405
    return answer


def on_too_large(request: Request, error: Exception) -> Response:
    """The answer to a body that is too large (TooLarge)."""
    return refusal(
        413,
        "too-large",
        f"The body has more than {MAX_BODY} bytes; nothing was changed.",
        "Split it into several requests.",
    )


def on_too_slow(request: Request, error: Exception) -> Response:
    """The answer to a body that does not come (TooSlow)."""
    answer = refusal(
        408,
        "timeout",
        f"The body did not come within {BODY_S:.0f} s; nothing was changed.",
        "Repeat the request; if the line is slow, split it into several.",
    )
    answer.headers["Connection"] = "close"
    return answer

# SPDX-License-Identifier: Apache-2.0
"""The registration center over HTTP, as the table in protocols/spec/center.md defines it.

Bodies are wire objects as bytes; nothing but signatures and hashes makes them trustworthy, so a plain
connection suffices for authenticity. Confidentiality needs TLS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from chipcash.center.bodies import join, read, read_with_titles
from chipcash.center.errors import CenterRefused, CenterUnreachable
from chipcash.center.limits import Limits, TooMany
from chipcash.center.openapi import describe
from chipcash.center.operations import Operations, RequestLog, need_certificate
from chipcash.center.registration import Center
from chipcash.log.store import Log
from chipcash.web import (
    MAX_BODY,
    TooLarge,
    TooSlow,
    body,
    on_http,
    on_too_large,
    on_too_slow,
    refusal,
)
from chipcash_wire import objects as o

__all__ = ["MAX_BODY", "OCTETS", "create_app", "openapi"]

OCTETS = "application/octet-stream"
_Object = TypeVar("_Object", bound=o.Object)
# Threads. What writes waits for the disk: when that is stuck, questions are to be answered still. Both
# together are as many as a ledger in PostgreSQL has connections.
_WRITERS = 12
_READERS = 4
_SIZES = {"key": 33, "id": 32, "digest": 32, "serial": 16}


@dataclass(frozen=True)
class Call:
    """A request as a handler sees it. ident: the id in the path, if any; since: of the blacklist."""

    body: bytes
    ident: bytes
    since: int
    operations: Operations


Handler = Callable[[Center, Call], Response]


@dataclass(frozen=True)
class Endpoint:
    """One row of the table: body and answer name what they hold; an answer of "" has no content.

    institutions: where clients are certified, it answers those who show a certificate only; refusals: names
    of the errors that are its own, beside those of every request, body or id.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    body: str = ""
    answer: str = ""
    json: bool = False
    institutions: bool = False
    refusals: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether it changes the ledger, and so waits for other writers and for the disk."""
        return bool(self.body) or self.handler is _challenge

    @property
    def parameter(self) -> str:
        """Name of the id in the path, or ""."""
        found = re.search(r"{(\w+)}", self.path)
        return found[1] if found else ""


def _octets(*items: o.Object) -> Response:
    return Response(join(items), media_type=OCTETS)


def _network(center: Center, call: Call) -> Response:
    return _octets(*center.network())


def _coins(center: Center, call: Call) -> Response:
    return _octets(center.register_coin(read(o.Coin, call.body)))


def _deposits(center: Center, call: Call) -> Response:
    receipt = center.settle_body(call.body)
    call.operations.deposited(receipt)
    return _octets(receipt)


def _voids(center: Center, call: Call) -> Response:
    center.register_void(read(o.Void, call.body))
    return Response(status_code=204)


def _reclaims(center: Center, call: Call) -> Response:
    return _octets(center.reclaim(*read_with_titles(o.Reclaim, call.body)))


def _certificates(center: Center, call: Call) -> Response:
    return _octets(center.register_card(read(o.Certificate, call.body)))


def _titles(center: Center, call: Call) -> Response:
    return _octets(*center.titles(call.ident))


def _time(center: Center, call: Call) -> Response:
    return _octets(center.signed_time())


def _blacklist(center: Center, call: Call) -> Response:
    entries, signed_time = center.blacklist(call.since)
    return _octets(*entries, signed_time)


def _rules(center: Center, call: Call) -> Response:
    return _octets(center.rules())


def _challenge(center: Center, call: Call) -> Response:
    return Response(center.challenge(call.ident), media_type=OCTETS)


def _risk(center: Center, call: Call) -> Response:
    return _octets(center.risk(call.ident, read(o.GenuineProof, call.body)))


def _claim(center: Center, call: Call) -> Response:
    return JSONResponse(center.claim(call.ident))


def _evidence(center: Center, call: Call) -> Response:
    return _octets(center.evidence(call.ident))


def _coin(center: Center, call: Call) -> Response:
    return JSONResponse(center.coin(call.ident))


def _accounts(center: Center, call: Call) -> Response:
    return JSONResponse(center.accounts())


def _openapi(center: Center, call: Call) -> Response:
    return JSONResponse(openapi())


ENDPOINTS = (
    Endpoint("GET", "/v1/network", "network", "Certificates of issuing library and center", _network,
             answer="certificates"),
    Endpoint("POST", "/v1/coins", "registerCoin", "Register a coin", _coins,
             institutions=True, body="coin",
             answer="title of the coin's owner, the same again for the same coin",
             refusals=("network", "signature", "conflict")),
    Endpoint("POST", "/v1/deposits", "settle", "Settle claims", _deposits,
             body="deposit, titles", answer="receipt, the same again for the same deposit",
             refusals=("network",)),
    Endpoint("POST", "/v1/voids", "registerVoid", "Bar a claim for ever", _voids, body="void",
             refusals=("network", "signature")),
    Endpoint("POST", "/v1/reclaims", "reclaim", "Give money back to its payer", _reclaims,
             body="reclaim, titles", answer="receipt",
             refusals=("network", "signature", "void", "not-yet", "unknown")),
    Endpoint("POST", "/v1/certificates", "registerCard", "Register a certified card", _certificates,
             institutions=True, body="certificate", answer="risk parameters",
             refusals=("network", "signature", "role", "expired", "blacklisted")),
    Endpoint("GET", "/v1/titles/{key}", "titles", "Live titles of an owner", _titles,
             answer="titles"),
    Endpoint("GET", "/v1/time", "signedTime", "The center's time", _time, answer="signed time"),
    Endpoint("GET", "/v1/blacklist", "blacklist", "Blacklist entries", _blacklist,
             answer="blacklist entries above since, then the signed time"),
    Endpoint("GET", "/v1/rules", "rules", "What terminals may take offline", _rules,
             answer="terminal rules"),
    Endpoint("GET", "/v1/challenge/{key}", "challenge", "A challenge for a card", _challenge,
             answer="16 bytes, to be answered once", refusals=("unknown",)),
    Endpoint("POST", "/v1/risk/{key}", "risk", "Renew a card's offline limits", _risk,
             body="genuine proof", answer="risk parameters",
             refusals=("network", "subject", "signature", "challenge", "expired", "blacklisted", "unknown")),
    Endpoint("GET", "/v1/claims/{id}", "claim", "What became of a claim", _claim, json=True,
             answer="outcomes, losses, evidence digests", refusals=("unknown",)),
    Endpoint("GET", "/v1/evidence/{digest}", "evidence", "Evidence of repeat payment", _evidence,
             answer="evidence", refusals=("unknown",)),
    Endpoint("GET", "/v1/coins/{serial}", "coin", "A coin's whole life", _coin, json=True,
             institutions=True, answer="partition and history", refusals=("unknown",)),
    Endpoint("GET", "/v1/accounts", "accounts", "Issued, live and redeemed money", _accounts,
             json=True, institutions=True, answer="totals in fen, live fen by owner"),
    Endpoint("GET", "/openapi.json", "openapi", "This description", _openapi, json=True,
             answer="OpenAPI description"),
)  # fmt: skip


def create_app(
    center: Center,
    log: Log | None = None,
    *,
    certified: bool = False,
    limits: Limits | None = None,
) -> Starlette:
    """The ASGI application of a center. Calls run in threads; the ledger takes one writer at a time.

    log: the center's, whose public files are served under /log; certified: whether clients show certificates
    (the TLS extension of ASGI), so that what is for institutions wants one; limits: of requests, None is
    without. /health, /ready and /metrics are for those who run it, and not limited: see docs/center.md.
    """
    limits = limits or Limits()
    threads = {True: CapacityLimiter(_WRITERS), False: CapacityLimiter(_READERS)}
    operations = Operations(center, log, certified=certified)

    def route(endpoint: Endpoint) -> Route:
        async def handle(request: Request) -> Response:
            with operations.observed(request.scope, endpoint.name):
                limits.take(request.scope)
                if certified and endpoint.institutions:
                    need_certificate(request)
                data = await body(request)
                since = _since(request) if endpoint.handler is _blacklist else 0
                call = Call(data, _ident(request, endpoint.parameter), since, operations)
                return await run_sync(
                    endpoint.handler, center, call, limiter=threads[endpoint.writes]
                )

        return Route(endpoint.path, handle, methods=[endpoint.method], name=endpoint.name)

    app = Starlette(
        routes=[
            *[route(endpoint) for endpoint in ENDPOINTS],
            *operations.routes,
            *([] if log is None else [Mount("/log", _limited(log.public, limits), name="log")]),
        ],
        middleware=[Middleware(RequestLog)],
        exception_handlers={
            CenterRefused: _on_refused,
            CenterUnreachable: _on_unreachable,
            HTTPException: on_http,
            TooLarge: on_too_large,
            TooMany: _on_too_many,
            TooSlow: on_too_slow,
            Exception: _on_failure,
        },
    )
    app.router.redirect_slashes = False  # a path that is not in the table is unknown
    return app


def _limited(folder: Path, limits: Limits) -> ASGIApp:
    """The files of a folder."""
    files = StaticFiles(directory=folder)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        limits.take(scope)
        await files(scope, receive, send)

    return serve


def _ident(request: Request, parameter: str) -> bytes:
    if not parameter:
        return b""
    text: str = request.path_params[parameter]
    size = _SIZES[parameter]
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise CenterRefused("malformed", f"The {parameter} is not {size} bytes in lower-case hex.")
    return bytes.fromhex(text)


def _since(request: Request) -> int:
    text = request.query_params.get("since", "0")
    if not re.fullmatch("[0-9]{1,10}", text):
        raise CenterRefused("malformed", "since is not the sequence of a blacklist entry.")
    return int(text)


def _on_refused(request: Request, error: Exception) -> Response:
    refused = cast(CenterRefused, error)
    return refusal(refused.status, refused.name, refused.message, refused.hint)


def _on_unreachable(request: Request, error: Exception) -> Response:
    unreachable = cast(CenterUnreachable, error)
    return refusal(503, "unavailable", unreachable.message, unreachable.hint)


def _on_too_many(request: Request, error: Exception) -> Response:
    seconds = cast(TooMany, error).seconds
    answer = refusal(
        429,
        "too-many",
        "This client asks too much at once; this request was not carried out, and no money moved.",
        f"Repeat the same request in {seconds} s; what is queued stays queued.",
    )
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _on_failure(request: Request, error: Exception) -> Response:
    return refusal(
        500,
        "internal",
        "The center failed; the request was carried out wholly or not at all.",
        "Repeat the same request: it is safe.",
    )


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description, made from the same table as the routes."""
    return describe(ENDPOINTS, _SIZES)

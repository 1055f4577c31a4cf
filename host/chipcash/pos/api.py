# SPDX-License-Identifier: Apache-2.0
"""The till over HTTP, for tills written in other languages: JSON in and out (docs/embedding.md).

Who has the token can charge cards and give refunds; nothing is answered without it but the description. Each
charge and each refund has a name that its caller gives it: the same name is the same one, so that any request
may be repeated.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from chipcash import files, qr, web
from chipcash.center.errors import CenterUnreachable
from chipcash.database import DatabaseError
from chipcash.errors import ChipcashError
from chipcash.pos import model as m
from chipcash.pos.api_schema import MAX_WAIT, REFERENCE, SCHEMAS, describe
from chipcash.pos.errors import PosError
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import PromiseState
from chipcash.pos.orders import ENDS, Order, Orders, UnknownOrder
from chipcash.pos.receipts import Receipt, render_html, render_text
from chipcash.pos.till import CenterFactory, SaleState, Status, Till
from chipcash.terminal import Refusal

__all__ = ["ENDPOINTS", "TOKEN_FILE", "Service", "create_app", "load_token", "openapi"]

_log = logging.getLogger(__name__)

TOKEN_FILE = "api.token"
"""In a till's directory: the token, unless another file is named."""
_TOKEN_SIZE = 32
_SLICE_S = 1.0
"""How long one look for an event takes: then the service sees whether it ends, or its client has left."""
_STREAM_S = 120.0
"""After which a stream of events ends; its client comes again."""
_BEAT_S = 15.0
_WAITING = 64
"""Most clients that wait for something at once."""
_SLOW = 8
"""Most requests at once that wait for the center, or for what signs: threads are left for the others."""
_CONNECTIONS = 200


@dataclass(frozen=True)
class Call:
    """A request as a handler sees it: the name in its path, its body, and its query."""

    name: str
    body: dict[str, Any]
    query: dict[str, str]


Answer = dict[str, Any] | tuple[int, dict[str, Any]] | Response


@dataclass(frozen=True)
class Endpoint:
    """One row of the table. answer, body: names of schemas, "" for none; made: answers 201 for what is new;
    refusals: statuses beside those that each has; open: without a token; query: its parameters; slow: it may
    wait long for the center, or for what signs."""

    method: str
    path: str
    name: str
    summary: str
    handler: str
    answer: str
    body: str = ""
    made: bool = False
    refusals: tuple[int, ...] = ()
    open: bool = False
    query: tuple[str, ...] = ()
    slow: bool = False


ENDPOINTS = (
    Endpoint("POST", "/v1/payments", "charge", "Charge the next card", "charge", "Charge",
             body="NewCharge", made=True, refusals=(409,)),
    Endpoint("GET", "/v1/payments/{reference}", "payment", "How a charge stands, or wait for its result",
             "payment", "Charge", refusals=(400, 404), query=("wait", "known")),
    Endpoint("POST", "/v1/payments/{reference}/cancel", "cancel", "Wait no more for a card", "cancel",
             "Charge", refusals=(404, 409)),
    Endpoint("POST", "/v1/payments/{reference}/pin", "pin", "Give the payer's PIN, where the card wants one",
             "pin", "Charge", body="Pin", refusals=(404, 409)),
    Endpoint("POST", "/v1/payments/{reference}/retry", "retry",
             "Wait for a card again, where none has paid or nobody knows", "retry", "Charge",
             refusals=(404, 409)),
    Endpoint("POST", "/v1/payments/{reference}/give-up", "give_up",
             "Give up a charge of which nobody knows: what a card has paid goes back", "give_up", "Charge",
             refusals=(404, 409), slow=True),
    Endpoint("GET", "/v1/payments/{reference}/receipt", "receipt", "The receipt of a charge that is PAID",
             "receipt", "Receipt", refusals=(400, 404, 409), query=("form",)),
    Endpoint("POST", "/v1/refunds", "refund", "Give money of a payment back to its card", "refund", "Refund",
             body="NewRefund", made=True, refusals=(404, 409, 503), slow=True),
    Endpoint("GET", "/v1/refunds/{reference}", "refund_state", "How a refund stands", "refund_state",
             "Refund", refusals=(404,)),
    Endpoint("GET", "/v1/status", "status", "How the till stands", "status", "Status"),
    Endpoint("POST", "/v1/sync", "sync", "Synchronise now", "sync", "Started"),
    Endpoint("GET", "/v1/events", "events", "Server-sent events: the status, whenever it changes", "events",
             "Events"),
    Endpoint("GET", "/openapi.json", "openapi", "This description", "openapi", "OpenApi", open=True),
)  # fmt: skip


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description, made from the same table as the routes."""
    return describe(ENDPOINTS)


def load_token(path: Path) -> str:
    """The token in a file that only its owner can read, made if it is not there. Raises PosError."""
    try:
        files.create(path, secrets.token_urlsafe(_TOKEN_SIZE).encode() + b"\n")
    except FileExistsError:
        pass
    if path.stat().st_mode & 0o077:
        raise PosError(
            f"Others can read {path}: who has the token can give refunds. Nothing was started.",
            hint=f"chmod 600 {path}; or remove it, and a new token is made.",
            path=str(path),
        )
    token = path.read_text().strip()
    if len(token) < 16:
        raise PosError(
            f"{path} holds no token.", hint="Remove it, and a token is made.", path=str(path)
        )
    return token


class Face:
    """What the endpoints do. ending: whether the service is about to end, and nobody should wait."""

    def __init__(self, till: Till, center: CenterFactory, ending: Callable[[], bool]) -> None:
        self._till = till
        self._center = center
        self._ending = ending
        self._orders = Orders(till)
        self._waiting = CapacityLimiter(_WAITING)

    # Charges ------------------------------------------------------------------------------------

    def charge(self, call: Call) -> Answer:
        """POST /v1/payments."""
        body = call.body
        order, made = self._orders.start(
            body["reference"],
            body["amount_fen"],
            operator=body.get("operator", ""),
            pin=body.get("pin"),
        )
        return 201 if made else 200, self._charge(order)

    async def payment(self, call: Call, request: Request) -> Answer:
        """GET /v1/payments/{reference}?wait=seconds&known=state."""
        text = call.query.get("wait", "0")
        if not re.fullmatch("[0-9]{1,3}", text) or int(text) > MAX_WAIT:
            raise web.BadBody(f"wait is no number of seconds up to {MAX_WAIT}.")
        known = call.query.get("known")
        if known is not None and known not in list(SaleState):
            raise web.BadBody("known is no state of a charge.")
        awaited = (SaleState.WAITING, SaleState.PAYING) if known is None else (SaleState(known),)
        deadline = time.monotonic() + int(text)
        while True:
            event = await to_thread.run_sync(self._till.wait, -1, 0.0)
            order = await to_thread.run_sync(self._orders.get, call.name)
            left = deadline - time.monotonic()
            if not order.sale or order.state not in awaited or order.state in ENDS or left <= 0:
                return self._charge(order)
            if not await self._event(request, event, left):
                return self._charge(order)

    async def _event(self, request: Request, after: int, seconds: float) -> bool:
        """Wait for an event of the till. False if there is nobody any more to wait for it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._ending() or self._till.closing or await request.is_disconnected():
                return False
            if self._waiting.available_tokens < 1:
                await anyio.sleep(min(left, _SLICE_S))
                return True
            now = await to_thread.run_sync(
                self._till.wait, after, min(left, _SLICE_S), limiter=self._waiting
            )
            if now > after:
                return True
        return True

    def cancel(self, call: Call) -> Answer:
        """POST /v1/payments/{reference}/cancel."""
        return self._charge(self._orders.cancel(call.name))

    def pin(self, call: Call) -> Answer:
        """POST /v1/payments/{reference}/pin."""
        return self._charge(self._orders.give_pin(call.name, call.body["pin"]))

    def retry(self, call: Call) -> Answer:
        """POST /v1/payments/{reference}/retry."""
        return self._charge(self._orders.retry(call.name))

    def give_up(self, call: Call) -> Answer:
        """POST /v1/payments/{reference}/give-up."""
        return self._charge(self._orders.give_up(call.name))

    def receipt(self, call: Call) -> Answer:
        """GET /v1/payments/{reference}/receipt?form=..."""
        form = call.query.get("form", "text")
        if form not in ("text", "html", "pdf", "escpos"):
            raise web.BadBody("form is none of text, html, pdf, escpos.")
        payment = self._paid(call.name)
        with self._till.pos() as pos:
            found = Receipt.of(pos, payment)
        if form == "text":
            return Response(
                "\n".join([*render_text(found), *(text for _, text in found.codes()), ""]),
                media_type="text/plain",
            )
        if form == "html":
            return Response(render_html(found), media_type="text/html")
        from chipcash.pos.printing import render_escpos, render_pdf

        if form == "pdf":
            return Response(render_pdf(found), media_type="application/pdf")
        return Response(render_escpos(found), media_type="application/octet-stream")

    def _paid(self, reference: str) -> m.Payment:
        order = self._orders.get(reference)
        if order.payment is None:
            raise PosError(
                f"The charge {reference} is {order.state}: there is no payment.",
                hint="Wait until it is PAID.",
                state=str(order.state),
            )
        return order.payment

    def _charge(self, order: Order) -> dict[str, Any]:
        payment = order.payment
        return {
            "reference": order.reference,
            "amount_fen": order.amount,
            "state": str(order.state),
            "ended": order.state in ENDS,
            "at_till": bool(order.sale) and order.state not in ENDS,
            "retryable": order.retryable,
            "operator": order.operator,
            "reason": order.reason,
            "message": order.message,
            "hint": order.hint,
            "payment": None
            if payment is None
            else {
                "claim_id": payment.claim_id.hex(),
                "number": payment.number,
                "amount_fen": payment.amount,
                "state": str(payment.state),
                "time": payment.time,
                "deadline": payment.deadline,
                "settled_fen": payment.settled_fen,
                "disputed_fen": payment.disputed_fen,
                "reason": payment.reason,
                "link": payment.link,
                "shift": payment.shift,
            },
        }

    # Refunds ------------------------------------------------------------------------------------

    def refund(self, call: Call) -> Answer:
        """POST /v1/refunds."""
        body = call.body
        reference, amount = body["reference"], body["amount_fen"]
        payment = self._paid(body["payment"])
        with self._till.pos(body.get("operator", "")) as pos:
            promise = pos.promised(reference)
            if promise is not None or payment.state in (P.PENDING, P.SUBMITTED):
                made = promise is None
                promise = pos.promise_refund(payment.nonce, amount, reference=reference)
                return 201 if made else 200, _promise(promise, body["payment"])
            known = pos.transferred(reference)
            if known is not None and pos.refunded(known) != payment.claim_id:
                raise PosError(
                    f"The name {reference} belongs to something else. Nothing was paid.",
                    hint="Give each refund a name of its own.",
                )
            try:
                with self._center(pos) as client:
                    transfer = pos.refund(payment.nonce, amount, client, reference=reference)
            except CenterUnreachable:
                recorded = pos.transferred(reference)
                if recorded is None:
                    raise
                transfer = recorded  # the next synchronisation completes it
                self._till.sync_now()
            return 200 if known else 201, _refund(transfer, body["payment"])

    def refund_state(self, call: Call) -> Answer:
        """GET /v1/refunds/{reference}."""
        with self._till.pos() as pos:
            promise = pos.promised(call.name)
            if promise is not None:
                return _promise(promise, pos.payment(promise.claim_id).reference)
            transfer = pos.transferred(call.name)
            claim_id = None if transfer is None else pos.refunded(transfer)
            if transfer is None or claim_id is None:
                raise UnknownOrder(f"There is no refund {call.name}.", hint="It may be made.")
            return _refund(transfer, pos.payment(claim_id).reference)

    # The till -----------------------------------------------------------------------------------

    def status(self, call: Call) -> Answer:
        """GET /v1/status."""
        return self._status(self._till.status())

    def sync(self, call: Call) -> Answer:
        """POST /v1/sync."""
        self._till.sync_now()
        return {"started": True}

    async def events(self, call: Call, request: Request) -> Answer:
        """GET /v1/events."""

        async def stream() -> AsyncIterator[str]:
            yield "retry: 1000\n\n"
            end, told = time.monotonic() + _STREAM_S, -1
            while time.monotonic() < end and not self._ending():
                status = await to_thread.run_sync(self._till.status)
                if status.event > told:
                    told = status.event
                    yield f"id: {told}\nevent: status\ndata: {json.dumps(self._status(status))}\n\n"
                else:
                    yield ":\n\n"
                if not await self._event(request, told, _BEAT_S):
                    return

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    def openapi(self, call: Call) -> Answer:
        """GET /openapi.json."""
        return openapi()

    def _status(self, status: Status) -> dict[str, Any]:
        sale, last, total = status.sale, status.last, status.summary
        current = None
        if sale is not None and sale.state not in ENDS:
            current = {
                "reference": sale.reference,
                "amount_fen": sale.amount,
                "state": str(sale.state),
                "message": sale.message,
                "hint": sale.hint,
            }
        return {
            "event": status.event,
            "time": status.time,
            "readers": [
                {
                    "path": each.path,
                    "state": str(each.state),
                    "message": each.message,
                    "hint": each.hint,
                }
                for each in status.readers
            ],
            "current": current,
            "last": None
            if last is None
            else {
                "reference": last.request.reference,
                "amount_fen": last.request.amount,
                "time": last.request.time,
                "paid": last.paid,
            },
            "open": status.open,
            "pending": {"count": total.pending.count, "fen": total.pending.fen},
            "overdue": {"count": total.overdue.count, "fen": total.overdue.fen},
            "verified_fen": total.verified_fen,
            "next_deadline": total.next_deadline,
            "sync": {
                "running": status.sync.running,
                "succeeded": status.sync.succeeded,
                "next_try": status.sync.next_try,
                "message": status.sync.message,
                "hint": status.sync.hint,
            },
            "shift": None if status.shift is None else status.shift.number,
            "warnings": [str(each) for each in status.warnings],
        }


def _refund(transfer: m.Transfer, payment: str | None) -> dict[str, Any]:
    state = "DONE"
    if transfer.settled_fen is None:
        state = "UNDER_WAY"
    elif transfer.settled_fen < transfer.amount:
        state = "PARTLY"
    return {
        "reference": transfer.reference,
        "payment": payment,
        "amount_fen": transfer.amount,
        "state": state,
        "settled_fen": transfer.settled_fen,
        "time": transfer.time,
        "proof": None,
    }


def _promise(promise: m.Promise, payment: str | None) -> dict[str, Any]:
    state = {
        PromiseState.PROMISED: "PROMISED",
        PromiseState.SENT: "UNDER_WAY",
        PromiseState.KEPT: "DONE",
        PromiseState.PARTLY: "PARTLY",
        PromiseState.CANCELLED: "CANCELLED",
    }[promise.state]
    return {
        "reference": promise.reference,
        "payment": payment,
        "amount_fen": promise.amount,
        "state": state,
        "settled_fen": None if state in ("PROMISED", "UNDER_WAY") else promise.paid_fen,
        "time": promise.time,
        "proof": qr.encode(promise.data)[0],
    }


# HTTP -------------------------------------------------------------------------------------------------


def create_app(
    till: Till, center: CenterFactory, token: str, ending: Callable[[], bool] = lambda: False
) -> Starlette:
    """The ASGI application of a running till. center: opens the way to the center, for refunds; token: what a
    client shows; ending: whether the service is about to end."""
    face = Face(till, center, ending)
    slow = CapacityLimiter(_SLOW)
    wanted = hashlib.sha256(token.encode()).digest()

    def may(request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        found = hashlib.sha256(given.strip().encode()).digest()
        return hmac.compare_digest(found, wanted) and scheme.lower() == "bearer"

    def route(endpoint: Endpoint) -> Route:
        handler = getattr(face, endpoint.handler)
        schema = SCHEMAS[endpoint.body] if endpoint.body else None

        async def handle(request: Request) -> Response:
            if not endpoint.open and not may(request):
                answer = web.refusal(
                    401,
                    "unauthorized",
                    "The token is missing or wrong.",
                    "Send Authorization: Bearer and the token in the file that chipcash pos api names.",
                )
                answer.headers["WWW-Authenticate"] = 'Bearer realm="chipcash"'
                return answer
            name = request.path_params.get("reference", "")
            if name and not re.fullmatch(REFERENCE, name):
                raise web.BadBody(f"The name in the path is not written like {REFERENCE}.")
            body = await web.json_body(request, endpoint.body, schema)
            call = Call(name, body, dict(request.query_params))
            if endpoint.name in ("payment", "events"):
                found = await cast(Callable[..., Awaitable[Answer]], handler)(call, request)
            else:
                limiter = slow if endpoint.slow else None
                found = await to_thread.run_sync(handler, call, limiter=limiter)
            if isinstance(found, Response):
                return found
            status, data = found if isinstance(found, tuple) else (200, found)
            return JSONResponse(data, status_code=status)

        return Route(endpoint.path, handle, methods=[endpoint.method], name=endpoint.name)

    app = Starlette(
        routes=[route(endpoint) for endpoint in ENDPOINTS],
        exception_handlers={
            web.BadBody: web.on_bad_body,
            web.TooLarge: web.on_too_large,
            web.TooSlow: web.on_too_slow,
            ChipcashError: _on_failed,
            HTTPException: web.on_http,
            Exception: _on_fault,
        },
    )
    app.router.redirect_slashes = False
    return app


def _on_failed(request: Request, error: Exception) -> Response:
    failed = cast(ChipcashError, error)
    name, status = type(failed).__name__, 500
    if isinstance(failed, UnknownOrder):
        name, status = "unknown", 404
    elif isinstance(failed, PosError):
        name, status = ("busy" if "sale" in failed.facts else name), 409
    elif isinstance(failed, Refusal):
        status = 409
    elif isinstance(failed, (CenterUnreachable, DatabaseError)):
        status = 503
    return web.refusal(status, name, failed.message, failed.hint)


def _on_fault(request: Request, error: Exception) -> Response:
    _log.error("a request failed", exc_info=error)
    return web.refusal(
        500,
        "internal",
        "The till failed at this request.",
        "Ask how the charge stands: the same request is never charged twice.",
    )


class Service(web.Service):
    """A till's face listening on a TCP port, as chipcash.web.Service does.

    tls: of tls.server_context(), for https; without it only a loopback address is taken, since the token goes
    over it. Raises PosError if that, or any other reason, keeps it from listening.
    """

    def __init__(
        self,
        till: Till,
        center: CenterFactory,
        token: str,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if tls is None and not web.is_loopback(host):
            raise PosError(
                f"The token would go over the network in the clear: {host} is not this machine.",
                hint="Give --tls-cert, or listen on 127.0.0.1.",
            )
        app = create_app(till, center, token, lambda: self.ending)
        try:
            super().__init__(app, host, port, "till", tls=tls, connections=_CONNECTIONS)
        except OSError as error:
            raise PosError(
                f"The till cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None

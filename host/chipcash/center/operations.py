# SPDX-License-Identifier: Apache-2.0
"""What those who run a center watch: whether it lives, whether it can answer, what it does (Prometheus)."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import fail_after
from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chipcash import tls
from chipcash.center.errors import CenterRefused
from chipcash.center.limits import TooMany
from chipcash.center.registration import Center
from chipcash.database import DatabaseError
from chipcash.log.store import Log
from chipcash.web import TooLarge, TooSlow, refusal
from chipcash_wire import objects as o

__all__ = ["Operations", "RequestLog", "need_certificate"]

_READY_S = 5
"""A ledger that has not answered by then is not ready."""
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


_ERROR = "chipcash.error"
"""In a scope: the name of the error that a request was refused with, or ""."""
_log = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware: one record for each request, and an id for it, which the client gets as X-Request-Id.

    Fields: id; operation, the name in the table of endpoints, "" where there is none; status; error, its
    name; ms until the answer was sent; in and out, bytes of the bodies; institution, whether the client
    showed a certificate. Nothing of whom, of what, or from where.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        start = time.perf_counter()
        ident = secrets.token_hex(6)
        status, sizes = 500, {"in": 0, "out": 0}

        async def received() -> Message:
            message = await receive()
            sizes["in"] += len(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", ident.encode())]
            sizes["out"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, received, sent)
        finally:
            fields = {
                "id": ident,
                "operation": getattr(scope.get("route"), "name", ""),
                "status": status,
                "error": scope.get(_ERROR, ""),
                "ms": round(1000 * (time.perf_counter() - start), 1),
                **sizes,
                "institution": bool(tls.peer(scope)),
            }
            _log.info("request", extra={"fields": fields})


class Operations:
    """Counts what a center answers. log: the center's log, if this process writes it; certified: whether the
    numbers are for clients with a certificate only.

    No number here is of a person, a key or a payment.
    """

    def __init__(self, center: Center, log: Log | None = None, *, certified: bool = False) -> None:
        self._center = center
        self._certified = certified
        self._registry = CollectorRegistry()
        self._registry.register(_State(center, log))
        self._seconds = Histogram(
            "chipcash_center_request_seconds",
            "How long requests took, by operation",
            ["operation"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._answers = Counter(
            "chipcash_center_requests",
            "Requests that were answered, by operation and error; without one it is empty",
            ["operation", "error"],
            registry=self._registry,
        )
        self._intervals = Counter(
            "chipcash_center_intervals",
            "Intervals that deposits were told of, by outcome; repeated deposits count again",
            ["outcome"],
            registry=self._registry,
        )
        self.routes = [
            Route("/health", self._health, methods=["GET"], name="health"),
            Route("/ready", self._ready, methods=["GET"], name="ready"),
            Route("/metrics", self._metrics, methods=["GET"], name="metrics"),
        ]

    @contextmanager
    def observed(self, scope: Scope, operation: str) -> Iterator[None]:
        """Count what happens inside as one request, and tell the ASGI scope what it was refused for."""
        start = time.perf_counter()
        error = "internal"
        try:
            yield
            error = ""
        except CenterRefused as refused:
            error = refused.name
            raise
        except TooLarge:
            error = "too-large"
            raise
        except TooSlow:
            error = "timeout"
            raise
        except TooMany:
            error = "too-many"
            raise
        finally:
            scope[_ERROR] = error
            self._answers.labels(operation, error).inc()
            self._seconds.labels(operation).observe(time.perf_counter() - start)

    def deposited(self, receipt: o.Receipt) -> None:
        """Count the outcomes of a deposit."""
        states = [outcome.state for result in receipt.results for outcome in result.outcomes]
        for state, count in Tally(states).items():
            self._intervals.labels(o.OUTCOMES[state]).inc(count)

    async def _health(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        """The ledger answers too."""
        try:
            with fail_after(_READY_S):
                await run_sync(self._center.facts, abandon_on_cancel=True)
        except (DatabaseError, TimeoutError) as error:
            _log.warning("not ready: %s", error)
            return refusal(503, "unavailable", "The ledger does not answer; nothing changed.")
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        if self._certified:
            need_certificate(request)
        data = await run_in_threadpool(generate_latest, self._registry)
        return Response(data, media_type=CONTENT_TYPE_LATEST)


def need_certificate(request: Request) -> None:
    """Refuse a request whose client has shown no certificate. Raises CenterRefused."""
    if not tls.peer(request.scope):
        raise CenterRefused(
            "certificate",
            "This is for institutions, and the client has shown no certificate. Nothing changed.",
            status=403,
            hint="Give the client its certificate: --center-cert.",
        )


class _State(Collector):
    """What is read when it is asked for."""

    def __init__(self, center: Center, log: Log | None) -> None:
        self._center = center
        self._log = log

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The sizes of ledger and log; where the ledger is away, only that."""
        try:
            facts = self._center.facts()
        except DatabaseError:
            yield _gauge("chipcash_center_ledger_up", "Whether the ledger answers", 0)
            return
        yield _gauge("chipcash_center_ledger_up", "Whether the ledger answers", 1)
        yield _gauge("chipcash_center_facts", "Number of the newest registered fact", facts)
        if self._log is not None:
            logged = self._log.fact
            yield _gauge("chipcash_center_log_fact", "Number of the newest fact in the log", logged)
            cosigned = GaugeMetricFamily(
                "chipcash_center_cosigned_seconds",
                "When a witness last cosigned the log, seconds since 1970; 0 if not since the start",
                labels=["witness"],
            )
            for name, at in sorted(self._log.cosigned.items()):
                cosigned.add_metric([name], at)
            yield cosigned


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=value)

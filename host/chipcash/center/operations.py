# SPDX-License-Identifier: Apache-2.0
"""What those who run a center watch: whether it lives, whether it can answer, what it does (Prometheus)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chipcash import tls
from chipcash.center.errors import CenterRefused
from chipcash.center.limits import TooMany
from chipcash.center.registration import Center
from chipcash.database import DatabaseError
from chipcash.log.store import Log
from chipcash.web import TooLarge, TooSlow, refusal
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["Operations", "need_certificate"]

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


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
            Route("/health", self._health, methods=["GET"]),
            Route("/ready", self._ready, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]

    @contextmanager
    def observed(self, operation: str) -> Iterator[None]:
        """Count what happens inside as one request."""
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
        except WireError:
            error = "malformed"
            raise
        finally:
            self._answers.labels(operation, error).inc()
            self._seconds.labels(operation).observe(time.perf_counter() - start)

    def deposited(self, receipt: o.Receipt) -> None:
        """Count the outcomes of a deposit."""
        for result in receipt.results:
            for outcome in result.outcomes:
                self._intervals.labels(o.OUTCOMES[outcome.state]).inc()

    async def _health(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        """The ledger answers too."""
        try:
            await run_in_threadpool(self._center.facts)
        except DatabaseError as error:
            return refusal(503, "unavailable", error.message, error.hint)
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


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=value)

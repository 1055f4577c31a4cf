# SPDX-License-Identifier: Apache-2.0
"""What those who look after many tills watch of one, in Prometheus' text format.

No number here is of a person, a card or a single payment. What a till takes is its merchant's business: they
are given out on the till's own machine only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chipcash.database import DatabaseError
from chipcash.pos.till import ReaderState, Till, Warn
from chipcash.web import Service

__all__ = ["metrics", "metrics_served"]


def metrics(till: Till) -> bytes:
    """A running till's numbers, as Prometheus reads them."""
    return generate_latest(_registry(till))


@contextmanager
def metrics_served(till: Till, port: int) -> Iterator[str]:
    """Serve them on this machine for as long as this lasts; where, a URL. port: 0 takes a free one. Raises
    OSError."""
    registry = _registry(till)

    def answer(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    # Others' names that lead here (DNS rebinding) would let their web pages read them.
    ours = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app = Starlette(routes=[Route("/metrics", answer)], middleware=[ours])
    with Service(app, "127.0.0.1", port, "metrics") as service:
        yield f"{service.url}/metrics"


def _registry(till: Till) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_State(till))
    return registry


class _State(Collector):
    """What is read when it is asked for."""

    def __init__(self, till: Till) -> None:
        self._till = till

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: names are told with the numbers, so that registering reads no books."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """How the till stands; where its books cannot be read, only that."""
        try:
            status = self._till.status()
            with self._till.pos() as pos:
                exposure = pos.exposure()
        except DatabaseError:
            yield _gauge("chipcash_till_books_up", "Whether the books can be read", 0)
            return
        summary = status.summary
        yield _gauge("chipcash_till_books_up", "Whether the books can be read", 1)
        states = {str(state): total for state, total in summary.states.items()}
        yield _labelled(
            "chipcash_till_payments",
            "Payments by state, all that there ever were",
            "state",
            {state: total.count for state, total in states.items()},
        )
        yield _labelled(
            "chipcash_till_payments_fen",
            "Payments by state, fen",
            "state",
            {state: total.fen for state, total in states.items()},
        )
        yield _gauge("chipcash_till_verified_fen", "Fen to spend", summary.verified_fen)
        yield _gauge("chipcash_till_leaving_fen", "Fen on their way out", summary.leaving_fen)
        yield _gauge("chipcash_till_disputed_fen", "Fen disputed, ever", summary.disputed_fen)
        yield _gauge(
            "chipcash_till_open_requests", "Requests that a card may have paid", status.open
        )
        yield _gauge("chipcash_till_overdue", "Payments past their deadline", summary.overdue.count)
        yield _gauge(
            "chipcash_till_next_deadline_seconds",
            "Seconds until the first deadline of what is pending; below zero past it; 0 if nothing is",
            0 if summary.next_deadline is None else summary.next_deadline - status.time,
        )
        yield _gauge("chipcash_till_pending_age_seconds", "Of the oldest pending one", exposure.age)
        limits = {
            "pending": (exposure.pending_fen, exposure.limit_fen),
            "shift": (exposure.shift_fen, exposure.shift_limit_fen),
            "age": (exposure.age, exposure.age_limit),
        }
        yield _labelled(
            "chipcash_till_limit_ratio",
            "How much of a limit for what is pending is used; at 1 the till takes nothing more",
            "limit",
            {
                name: held / limit if limit else 1.0
                for name, (held, limit) in limits.items()
                if limit is not None
            },
        )
        yield _gauge(
            "chipcash_till_synchronised_seconds",
            "When it last synchronised, seconds since 1970; 0 if not since it runs",
            status.sync.succeeded or 0,
        )
        yield _gauge(
            "chipcash_till_sync_failed",
            "Whether the last try to synchronise failed",
            bool(status.sync.message),
        )
        mirror = status.mirror
        failing = mirror.failing is not None
        yield _labelled(
            "chipcash_till_mirror",
            "How the mirror of the books is; where it is failing no money is taken",
            "state",
            {
                "none": not mirror.where,
                "written": mirror.written is not None and not failing,
                "failing": failing,
            },
        )
        yield _labelled(
            "chipcash_till_readers",
            "Readers by state",
            "state",
            {
                str(state): sum(reader.state == state for reader in status.readers)
                for state in ReaderState
            },
        )
        yield _labelled(
            "chipcash_till_warning",
            "What who works at the till is being told",
            "warning",
            {str(warning): warning in status.warnings for warning in Warn},
        )
        yield _gauge(
            "chipcash_till_shift_open", "Whether a shift is open", status.shift is not None
        )


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=value)


def _labelled(name: str, what: str, label: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family

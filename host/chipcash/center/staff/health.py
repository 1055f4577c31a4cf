# SPDX-License-Identifier: Apache-2.0
"""How the center is: its ledger, its log and who cosigns it, what it was asked; and the parts it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from chipcash.center.inquiry import Inquiry
from chipcash.errors import ChipcashError

__all__ = ["Health", "Part", "Parts", "health"]


@dataclass(frozen=True)
class Part:
    """One of the parts that a center is split into: a partition of its ledger, or a queue.

    state: `ok`, or what is wrong with it, in a word; lag: how many things wait there; owner: what machine has
    it now.
    """

    name: str
    state: str
    lag: int
    owner: str


Parts = Callable[[], Sequence[Part]]
"""Asks for the parts of a center that is split. Raises ChipcashError if they do not answer."""


@dataclass
class Health:
    """What was found; a `..._problem` says what is in the way of the rest of its group.

    facts: number of the newest registered fact; milliseconds: how long the ledger took to say so; logged: the
    number of the newest fact in the log; witnesses: names and when they last cosigned, 0 for never since the
    center's start; requests: operation, error ("" for none), and how many; seconds: mean by operation.
    """

    facts: int | None = None
    milliseconds: int = 0
    ledger_problem: str = ""
    center_problem: str = ""
    logged: int | None = None
    witnesses: list[tuple[str, int]] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    parts: list[Part] | None = None
    parts_problem: str = ""

    @property
    def lag(self) -> int | None:
        """Facts that the log does not have yet."""
        if self.facts is None or self.logged is None:
            return None
        return max(0, self.facts - self.logged)


def health(inquiry: Inquiry, metrics: Callable[[], str], parts: Parts | None = None) -> Health:
    """Ask ledger, center and parts how they are. metrics: what the center counts, in Prometheus' format."""
    found = Health()
    try:
        start = time.perf_counter()
        found.facts = inquiry.facts()
        found.milliseconds = round(1000 * (time.perf_counter() - start))
    except ChipcashError as error:
        found.ledger_problem = error.message
    try:
        _read(found, metrics())
    except (ChipcashError, ValueError) as error:
        found.center_problem = str(error)
    if parts is not None:
        try:
            found.parts = list(parts())
        except ChipcashError as error:
            found.parts, found.parts_problem = [], error.message
    return found


def _read(found: Health, text: str) -> None:
    """Take what is shown out of the center's metrics. Raises ValueError if they are none."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            match sample.name:
                case "chipcash_center_log_fact":
                    found.logged = int(sample.value)
                case "chipcash_center_cosigned_seconds":
                    found.witnesses.append((labels["witness"], int(sample.value)))
                case "chipcash_center_requests_total":
                    row = labels["operation"], labels["error"], int(sample.value)
                    found.requests.append(row)
                case "chipcash_center_request_seconds_sum":
                    sums[labels["operation"]] = sample.value
                case "chipcash_center_request_seconds_count":
                    counts[labels["operation"]] = sample.value
    found.requests.sort()
    found.seconds = {name: sums[name] / count for name, count in counts.items() if count}

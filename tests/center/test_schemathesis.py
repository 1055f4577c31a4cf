# SPDX-License-Identifier: Apache-2.0
"""schemathesis against the description that a center gives of itself: every answer is one that it names.

schemathesis makes requests from the description alone: none of this network's, and many that break it. Half
of the time ids in paths and bodies are exchanged for ones of a center with a history, so that more than the
first check is met. Its stateful phase would have to make signed bytes out of answers: test_conservation.py
and test_held_keys.py do that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import load_all_checks

from chipcash.center.http import ENDPOINTS, openapi
from chipcash.center.openapi import ERRORS
from chipcash.center.service import Service
from tests.center.test_bad_bodies import Http, flipped
from tests.center.world import dump

load_all_checks()
NOT_MEANT = [
    # What fits the description need not be of this network, or signed.
    schemathesis.checks.CHECKS.get_one("positive_data_acceptance"),
    # Certificates are TLS's, and this center asks for none: test_tls.py.
    schemathesis.checks.CHECKS.get_one("ignored_auth"),
]
api = schemathesis.openapi.from_dict(openapi())


class Target:
    """A center with a history, served. answers: statuses by operation."""

    def __init__(self) -> None:
        self.http = Http()
        self.chance = Random(1)
        self.answers: Counter[tuple[str, int]] = Counter()

    def improve(self, case: schemathesis.Case) -> None:
        """Give a case ids that are known, and a body that is good or nearly so."""
        for name in case.path_parameters or {}:
            case.path_parameters[name] = self.http.ids[name].hex()
        bodies = self.http.bodies.get(case.operation.path)
        if bodies:
            body = self.chance.choice(bodies)
            if self.chance.random() < 0.5:
                body = flipped(body, self.chance.randrange(8 * len(body)))
            case.body = body
            case.media_type = "application/octet-stream"

    def got_through(self) -> None:
        """Each operation that was asked for was asked for good and bad, and answered both."""
        for endpoint in ENDPOINTS:
            statuses = {status for name, status in self.answers if name == endpoint.name}
            if not statuses:  # another process has that one
                continue
            assert statuses & {200, 204} or endpoint.name == "risk", endpoint.name
            assert 400 in statuses or not (endpoint.parameter or endpoint.body), endpoint.name
            assert not statuses & {500, 503}


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[Target, str]]:
    made = Target()
    with Service(made.http.world.center) as service:
        yield made, service.url
    made.http.close()
    made.got_through()


def test_the_description_is_one() -> None:
    description = openapi()
    OpenAPIV31SpecValidator(description).validate()
    for endpoint in ENDPOINTS:
        operation = description["paths"][endpoint.path][endpoint.method.lower()]
        told = {
            int(status): answer
            for status, answer in operation["responses"].items()
            if status >= "3"
        }
        assert {ERRORS[name] for name in endpoint.refusals} <= set(told)


def try_case(case: schemathesis.Case, target: tuple[Target, str]) -> None:
    """Call it as it is, or improved; nothing that is refused may change the ledger."""
    found, url = target
    center = found.http.world.center
    if (
        found.chance.random() < 0.5
        and case.meta is not None
        and case.method == case.operation.method.upper()
    ):
        found.improve(case)
        case._meta = None  # what it was made to break is mended
    before = dump(center)
    answer = case.call(base_url=url)
    found.answers[case.operation.definition.raw["operationId"], answer.status_code] += 1
    case.validate_response(answer, excluded_checks=NOT_MEANT)
    if answer.status_code >= 400:
        assert dump(center) == before


@api.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_described(case: schemathesis.Case, target: tuple[Target, str]) -> None:
    try_case(case, target)


@pytest.mark.long
@api.parametrize()
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_described_at_length(
    case: schemathesis.Case, target: tuple[Target, str]
) -> None:
    try_case(case, target)

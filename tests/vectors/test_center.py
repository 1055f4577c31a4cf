# SPDX-License-Identifier: Apache-2.0
"""The center's vectors over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from chipcash import crypto
from chipcash.center.bodies import split
from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.center.service import Service
from chipcash.evidence import verify_evidence
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.world import dump
from tests.vectors.reading import SUITES, load, private, trust
from tests.vectors.signing import GRACE, T0, YEAR


class Runner:
    """A center with an empty ledger, the vectors' key and a clock that the steps set."""

    client: httpx.Client

    def __init__(self, suite: str) -> None:
        self.trust = trust(suite)
        self.now = T0
        parameters = Parameters(title_lifetime=YEAR, grace=GRACE)
        self.center = Center(
            ":memory:", private(suite, "center"), self.trust, parameters, lambda: self.now
        )
        self.last = b""

    def get(self, path: str) -> httpx.Response:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    def step(self, step: dict[str, Any]) -> None:
        """Do one step; an assertion fails where the center answers otherwise."""
        self.now = step["now"]
        before = dump(self.center)
        body = bytes.fromhex(step.get("body", ""))
        answer = self.client.request(step["method"], step["path"], content=body)
        if answer.status_code >= 400:
            assert dump(self.center) == before
        if step.get("repeats"):
            assert answer.content == self.last
        self.last = answer.content
        self.check(step, answer)
        self.center.check()

    def check(self, step: dict[str, Any], answer: httpx.Response) -> None:
        """Compare an answer, and what may be asked afterwards, with what the step expects."""
        assert answer.status_code == step["status"], answer.text
        if "error" in step:
            assert answer.json()["error"] == step["error"]
        if "digest" in step:
            self.receipt(step, o.Receipt.decode(answer.content))
        elif "results" in step:
            self.outcomes(step, o.Receipt.decode(answer.content))
        elif "titles" in step:
            self.titles(step["titles"], [o.Title.decode(x) for x in split(answer.content)])
        if "slices" in step:
            titles = [shown(title) for title in o.Receipt.decode(answer.content).titles]
            for title, made in zip(titles, o.Receipt.decode(answer.content).titles, strict=True):
                del title["title_id"]
                if made.epoch == 1:  # of a coin that the center made: its serial is anything new
                    assert (
                        len(self.client.get(f"/v1/coins/{made.serial.hex()}").json()["history"])
                        == 1
                    )
                    del title["serial"]
            assert sorted(titles, key=str) == sorted(step["slices"], key=str)
        if "risk" in step:
            risk = o.RiskParameters.decode(answer.content)
            assert self.trust.signed_by_center(risk)
            values = {name: getattr(risk, name) for name in step["risk"]}
            assert {**values, "subject": risk.subject.hex()} == step["risk"]
        if "accounts" in step:
            found = answer.json()
            names = ("issued_fen", "live_fen", "redeemed_fen")
            assert [found[name] for name in names] == step["accounts"]
        if "partition" in step:
            parts = answer.json()["partition"]
            assert [[x["lo"], x["hi"], x["owner"]] for x in parts] == step["partition"]
        if "evidence" in step:
            self.evidence(step)
        if "blacklist" in step:
            *entries, _ = split(self.get("/v1/blacklist?since=0").content)
            found = [o.BlacklistEntry.decode(entry) for entry in entries]
            assert [entry.subject.hex() for entry in found] == step["blacklist"]
            assert all(self.trust.signed_by_center(entry) for entry in found)

    def receipt(self, step: dict[str, Any], receipt: o.Receipt) -> None:
        assert receipt.digest.hex() == step["digest"]
        self.outcomes(step, receipt)
        self.titles(step["titles"], list(receipt.titles))

    def outcomes(self, step: dict[str, Any], receipt: o.Receipt) -> None:
        assert self.trust.signed_by_center(receipt)
        found = [
            {
                "claim_id": result.claim_id.hex(),
                "outcomes": [
                    {
                        "title_id": x.title_id.hex(),
                        "lo": x.lo,
                        "hi": x.hi,
                        "state": o.OUTCOMES[x.state],
                        "claim_id": x.claim_id.hex() if x.claim_id else None,
                    }
                    for x in result.outcomes
                ],
            }
            for result in receipt.results
        ]
        assert found == step["results"]

    def titles(self, expected: list[dict[str, Any]], titles: list[o.Title]) -> None:
        assert all(self.trust.signed_by_center(title) for title in titles)
        found = [shown(title) for title in titles]
        assert sorted(found, key=str) == sorted(expected, key=str)

    def evidence(self, step: dict[str, Any]) -> None:
        """The evidence that the last claim of the step brought."""
        claim_id = step["results"][-1]["claim_id"]
        digests = self.get(f"/v1/claims/{claim_id}").json()["evidence"]
        if not step["evidence"]:
            assert digests == []
            return
        (digest,) = digests
        evidence = o.Evidence.decode(self.get(f"/v1/evidence/{digest}").content)
        assert object_id(evidence).hex() == digest
        assert [claim.encode().hex() for claim in evidence.claims] == step["evidence"]
        verify_evidence(evidence, self.trust)


def shown(title: o.Title) -> dict[str, Any]:
    """A title as the vectors tell it."""
    return {
        "title_id": object_id(title).hex(),
        "serial": title.serial.hex(),
        "lo": title.lo,
        "hi": title.hi,
        "owner": title.owner.hex(),
    }


@contextmanager
def running(suite: str, cls: type[Runner] = Runner) -> Iterator[Runner]:
    """A runner whose center serves until the end."""
    runner = cls(suite)
    try:
        with Service(runner.center) as service, httpx.Client(base_url=service.url) as client:
            runner.client = client
            yield runner
    finally:
        runner.center.close()


@pytest.mark.parametrize("suite", SUITES)
def test_center(suite: str) -> None:
    with running(suite) as runner:
        for step in load(f"center-{suite}"):
            try:
                runner.step(step)
            except AssertionError as error:
                error.add_note(f"in the step: {step['name']}, {step['path']}")
                raise


_PATHS = {
    "coin": "/v1/coins",
    "deposit": "/v1/deposits",
    "void": "/v1/voids",
    "reclaim": "/v1/reclaims",
    "certificate": "/v1/certificates",
    "genuine proof": "/v1/risk/" + "02" * 33,
}


@pytest.mark.parametrize("suite", SUITES)
def test_bad_objects_are_no_bodies(suite: str) -> None:
    bad = [line for line in load(f"bad-objects-{suite}") if line["object"] in _PATHS]
    bad += load("large-objects")[1:]
    with running(suite) as runner:
        for step in load(f"center-{suite}")[:6]:
            runner.step(step)
        before = dump(runner.center)
        for line in bad:
            body = bytes.fromhex(line["bytes"])
            answer = runner.client.post(_PATHS[line["object"]], content=body)
            assert (answer.status_code, answer.json()["error"]) == (400, "malformed"), line
        assert dump(runner.center) == before
    assert len(bad) > 300


@pytest.mark.parametrize("suite", SUITES)
def test_signatures_of_the_bodies(suite: str) -> None:
    """What the steps expect to be settled is signed by its payer, by another library's word."""
    owners = {}
    checked = 0
    for step in load(f"center-{suite}"):
        for title in step.get("titles", ()):
            owners[title["title_id"]] = title["owner"]
        for result, claim in zip(step.get("results", ()), _claims(step), strict=False):
            payer = owners.get(claim.inputs[0].title_id.hex())
            if {x["state"] for x in result["outcomes"]} == {"settled"}:
                assert payer is not None
                assert crypto.suite(suite).verify(
                    bytes.fromhex(payer), claim.message(), claim.signature
                )
                checked += 1
    assert checked > 10


def _claims(step: dict[str, Any]) -> tuple[o.Claim, ...]:
    if step["path"] != "/v1/deposits" or step["status"] != 200:
        return ()
    return o.Deposit.decode(bytes.fromhex(step["body"])).claims

# SPDX-License-Identifier: Apache-2.0
"""The terminal's vectors on chipcash.terminal, and evidence."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.terminal import (
    Blacklist,
    Pending,
    Policy,
    Refusal,
    RulesError,
    VerifiedPayment,
    newer,
    stricter,
    verify_payment,
    verify_pending,
)
from chipcash_wire import objects as o
from tests.vectors.reading import SUITES, load, trust

CASES = [(suite, line) for suite in SUITES for line in load(f"terminal-{suite}")]


def verify(suite: str, line: dict[str, Any]) -> VerifiedPayment:
    """Verify a line's answer, as a terminal of that network."""
    network = trust(suite)
    entries = [o.BlacklistEntry.decode(bytes.fromhex(entry)) for entry in line["blacklist"]]
    time = line["signed_time"]
    signed_time = o.SignedTime.decode(bytes.fromhex(time)) if time else None
    policy = Policy(**line["policy"])
    rules = None
    for text in line.get("rules", ()):
        with suppress(RulesError):
            rules = newer(rules, o.TerminalRules.decode(bytes.fromhex(text)), network)
    blacklist = Blacklist().extend(entries, signed_time, network)
    if "rules" in line:
        policy = stricter(policy, rules)
    found = verify_payment(
        bytes.fromhex(line["answer"]),
        o.PayRequest.decode(bytes.fromhex(line["request"])),
        trust=network,
        policy=policy,
        blacklist=blacklist,
        now=line["now"],
    )
    if "rules" in line:
        now = max(line["now"], blacklist.time)
        verify_pending(found.amount, Pending(**line["pending"]), policy=policy, now=now)
    return found


@pytest.mark.parametrize(
    ("suite", "line"), CASES, ids=[f"{s}-{x['result']}-{x['name']}" for s, x in CASES]
)
def test_terminal(suite: str, line: dict[str, Any]) -> None:
    if line["result"] == "accepted":
        assert verify(suite, line).claim_id.hex() == line["claim_id"]
        return
    with pytest.raises(Refusal) as caught:
        verify(suite, line)
    assert caught.value.reason == line["result"]


@pytest.mark.parametrize("suite", SUITES)
def test_bad_payments_are_malformed(suite: str) -> None:
    base = load(f"terminal-{suite}")[0]
    bad = [line for line in load(f"bad-objects-{suite}") if line["object"] == "payment"]
    assert len(bad) > 30
    for line in bad:
        with pytest.raises(Refusal) as caught:
            verify(suite, {**base, "answer": line["bytes"]})
        assert caught.value.reason == "malformed", line


@pytest.mark.parametrize("suite", SUITES)
def test_evidence(suite: str) -> None:
    found = []
    for line in load(f"evidence-{suite}"):
        evidence = o.Evidence.decode(bytes.fromhex(line["bytes"]))
        try:
            facts = verify_evidence(evidence, trust(suite))
        except EvidenceInvalid as error:
            found.append(error.reason)
        else:
            found.append("proves")
            assert facts.payer == evidence.title.owner
    assert found == [line["result"] for line in load(f"evidence-{suite}")]

# SPDX-License-Identifier: Apache-2.0
"""Mutated deposits: errors, or what their payers signed; never money from nowhere, never somebody else's.

A million of them take a quarter of an hour of one core (`make test-long`).
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from chipcash.center.verification import Verifier
from chipcash.database import DatabaseError
from chipcash.trust import Trust
from chipcash_wire import objects as o
from tests.center.mutants import Attack

_EACH = 10_000
"""Mutants that one center is told: then its ledger is thrown away, with all that it remembers."""


def attacked(seed: int, number: int = _EACH, suite: str = "p256") -> Counter[str]:
    """Verdicts on so many mutants."""
    attack = Attack(seed, suite)
    for _ in range(number):
        attack.tell(attack.mutant())
    attack.check()
    attack.world.center.close()
    return attack.counts


@pytest.mark.parametrize(("suite", "number"), [("p256", 2000), ("gm", 300)])
def test_mutants(suite: str, number: int) -> None:
    counts = attacked(1, number, suite)
    # They get as far as they can: to every verdict that there is for them.
    wanted = {"malformed", "network", "invalid", "known", "settled", "disputed", "same deposit"}
    assert wanted <= set(counts) and counts["invalid"] > number / 4


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_million_mutants() -> None:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(attacked, range(1_000_000 // _EACH)))
    assert len(found) * _EACH == 1_000_000
    assert sum(found, Counter())["invalid"] > 200_000


@pytest.mark.parametrize("fault", ["signature", "bounds", "header", "repeated"])
def test_a_center_that_forgets_a_check_is_found_out(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the mutants would find, if it were there."""
    if fault == "signature":
        monkeypatch.setattr(Trust, "signed_by", lambda self, obj, key: True)
    elif fault == "header":
        monkeypatch.setattr(Trust, "accepts", lambda self, header: True)
    elif fault == "bounds":
        verify = Verifier._verify

        def lax(verifier: Verifier, claim: o.Claim, titles: dict[bytes, list[Any]]) -> Any:
            wide = {
                key: [serial, 0, 1 << 62, owner] for key, (serial, _, _, owner) in titles.items()
            }
            return verify(verifier, claim, wide)

        monkeypatch.setattr(Verifier, "_verify", lax)
    else:
        monkeypatch.setattr("chipcash.center.batch.Batch.known", lambda batch, claim_id: None)
    # Where this test does not find it, the ledger's own tables do.
    with pytest.raises((AssertionError, DatabaseError)):
        attacked(2, 1500)

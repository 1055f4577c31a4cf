# SPDX-License-Identifier: Apache-2.0
"""A whole payment over the vectors: what a card really answers goes to the terminal and on to the center.

And the runners themselves: whatever a step expects, they notice when it does not come.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.portable.test_vectors import Card, lines
from tests.vectors.reading import SUITES, load
from tests.vectors.test_center import Runner, running
from tests.vectors.test_terminal import verify

# Name of the payment at the card, at the terminal and at the center.
PAYMENTS = (
    ("12.00", "the first payment", "the first payment"),
    (
        "250.00 out of two titles",
        "the second payment, of two titles",
        "the second payment: two intervals of one coin that do not touch",
    ),
)


def run_card(card: Card, path: Path, kind: str = "card") -> dict[str, bytes]:
    """All steps of a card or a SAM; the replies that were saved."""
    card.path = str(path / "card.img")
    try:
        for step in lines(f"{kind}-{card.suite.name}.json"):
            card.step(step)
    finally:
        card.close()
    saved: dict[str, bytes] = card.saved
    return saved


@pytest.mark.parametrize("suite", SUITES)
def test_what_the_card_pays_the_terminal_takes_and_the_center_settles(
    suite: str, tmp_path: Path
) -> None:
    answers = run_card(Card(suite), tmp_path)
    terminal = {line["name"]: line for line in load(f"terminal-{suite}")}
    claims: dict[str, o.Claim] = {}
    for at_card, at_terminal, at_center in PAYMENTS:
        line = {**terminal[at_terminal], "answer": answers[at_card].hex()}
        accepted = verify(suite, line)
        assert accepted.claim_id.hex() == line["claim_id"]
        claims[at_center] = accepted.payment.claim
    with running(suite) as runner:
        for step in load(f"center-{suite}"):
            claim = claims.pop(step["name"], None)
            if claim is not None:
                deposit = o.Deposit.decode(bytes.fromhex(step["body"]))
                real = o.Deposit(header=deposit.header, nonce=deposit.nonce, claims=(claim,))
                step["body"] = real.encode().hex()
                if "digest" in step:
                    step["digest"] = object_id(real).hex()
            elif step["name"].startswith("the same"):  # deposits of the first payment again
                continue
            runner.step(step)
            if not claims:
                break
        assert runner.center.accounts()["live_fen"] == 1_000_000
        paid = sum(title.hi - title.lo for title in runner.center.titles(claim.payee))
        assert paid == 26_200


def leaves(value: Any) -> Iterator[Any]:
    """The value again and again, each time with another of its leaves wrong."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for wrong in leaves(inner):
                yield {**value, key: wrong}
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            for wrong in leaves(inner):
                yield [*value[:at], wrong, *value[at + 1 :]]
        if not value:
            yield [[]]
        else:
            yield value[:-1]
    elif isinstance(value, str):
        yield value[:-1] + ("1" if value[-1:] == "0" else "0")
    else:
        yield 7 if value is None else value + 1


def wrong_steps(step: dict[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The step with each of its expectations spoilt."""
    for name in names:
        if name in step:
            for wrong in leaves(step[name]):
                yield {**step, name: wrong}


class CarefulCard(Card):
    """Also sees that no wrong expectation is met."""

    noticed = 0

    def check(self, step: dict[str, Any], sw: str, data: bytes) -> None:
        super().check(step, sw, data)
        names = ("sw", "reply", "payment", "proof", "certificate", "info", "signed")
        spoilt = list(wrong_steps(step, names))
        if sw == "9000" and not set(step) & {"reply", "payment", "proof", "info", "same", "signed"}:
            spoilt.append({**step, "reply": "00"})
        if "same" in step:
            spoilt.append({**step, "same": "at the limit"})
            self.saved.setdefault("at the limit", b"another payment")
        for wrong in spoilt:
            with pytest.raises((AssertionError, ValueError)):
                super().check(wrong, sw, data)
            self.noticed += 1


@pytest.mark.parametrize("kind", ["card", "sam"])
@pytest.mark.parametrize("suite", SUITES)
def test_the_card_runner_notices(suite: str, kind: str, tmp_path: Path) -> None:
    card = CarefulCard(suite)
    run_card(card, tmp_path, kind)
    assert card.noticed > len(load(f"{kind}-{suite}"))


class CarefulRunner(Runner):
    """Also sees that no wrong expectation is met."""

    noticed = 0

    def check(self, step: dict[str, Any], answer: httpx.Response) -> None:
        super().check(step, answer)
        names = (
            "status", "error", "digest", "results", "titles", "slices", "risk", "accounts",
            "partition", "blacklist", "evidence",
        )  # fmt: skip
        for wrong in wrong_steps(step, names):
            with pytest.raises((AssertionError, ValueError)):
                super().check(wrong, answer)
            self.noticed += 1


@pytest.mark.parametrize("suite", SUITES)
def test_the_center_runner_notices(suite: str) -> None:
    with running(suite, CarefulRunner) as runner:
        steps = load(f"center-{suite}")
        for step in steps:
            runner.step(step)
        assert runner.noticed > len(steps)

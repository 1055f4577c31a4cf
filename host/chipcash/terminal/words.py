# SPDX-License-Identifier: Apache-2.0
"""A refusal in words, for the cashier and for the payer, in English and in Chinese."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from chipcash.terminal.refusals import (
    MONEY,
    NOT_ASKED,
    NOT_ASKED_HINTS,
    OTHER_CARD,
    PAYER_MONEY,
    PAYER_NOT_ASKED,
    REASONS,
    TO_PAYER,
)

__all__ = ["CHINESE", "Words", "explain"]

CHINESE: dict[str, str] = json.loads(Path(__file__).with_name("chinese.json").read_text("utf-8"))
"""English text and its Chinese."""


@dataclass(frozen=True)
class Words:
    """What is refused and why. cashier: with what it means for the money; hint: what the cashier does now;
    payer: the same for who wanted to pay."""

    cashier: str
    hint: str
    payer: str


def explain(reason: str, language: str = "en", *, asked: bool) -> Words:
    """A reason of REASONS in words. language: en or zh; asked: whether a card was asked to pay, so that it
    may have set the money aside."""
    happened, hint = REASONS[reason]
    if not asked:
        hint = NOT_ASKED_HINTS.get(reason, OTHER_CARD)
    cashier = [happened, MONEY if asked else NOT_ASKED]
    payer = [TO_PAYER[reason], PAYER_MONEY if asked else PAYER_NOT_ASKED]
    if language == "zh":
        return Words(
            "".join(CHINESE[text] for text in cashier),
            CHINESE[hint],
            "".join(CHINESE[text] for text in payer),
        )
    return Words(" ".join(cashier), hint, " ".join(payer))

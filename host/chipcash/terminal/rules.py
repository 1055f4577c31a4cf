# SPDX-License-Identifier: Apache-2.0
"""The center's rules for terminals: what may be pending at one at a time, and who bears a repeat payment.

Pure, as all of this library. A terminal enforces its own limits: a cloned card ignores its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chipcash.errors import ChipcashError
from chipcash.terminal import refusals as r
from chipcash.terminal.refusals import Refusal
from chipcash.terminal.verify import Policy
from chipcash.trust import Trust
from chipcash_wire import objects as o

__all__ = ["Loss", "Pending", "RulesError", "loss", "newer", "stricter", "verify_pending"]


class RulesError(ChipcashError):
    """Terminal rules are not from this network's center; they were not taken over."""

    exit_code = 11


@dataclass(frozen=True)
class Pending:
    """What a terminal holds Pending Repeat Payment Verification before a payment, in fen.

    in_all: altogether; shift: of the open shift; card: from the card that pays, 0 while it is not known;
    oldest: time of the oldest such payment, None if there is none.
    """

    in_all: int = 0
    shift: int = 0
    card: int = 0
    oldest: int | None = None


def newer(known: o.TerminalRules | None, rules: o.TerminalRules, trust: Trust) -> o.TerminalRules:
    """The rules that hold once these have come: they, or those known already where these are older. Raises
    RulesError for what the center did not sign."""
    if not trust.signed_by_center(rules):
        raise RulesError(
            "Rules for terminals are not signed by this network's registration center; they were not taken "
            "over.",
            hint="Check the center's address: it may belong to another network, or somebody is in between.",
        )
    return known if known is not None and rules.time < known.time else rules


def stricter(policy: Policy, rules: o.TerminalRules | None) -> Policy:
    """The policy that keeps the center's rules, check 14: of two limits the stricter one. Raises Refusal
    where there are no rules."""
    if rules is None:
        raise Refusal(r.RULES_MISSING)
    return replace(
        policy,
        max_per_payment=min(policy.max_per_payment, rules.per_payment),
        max_per_card=_least(policy.max_per_card, rules.per_card),
        max_per_shift=_least(policy.max_per_shift, rules.per_shift),
        max_pending=_least(policy.max_pending, rules.in_all),
        pending_max_age=_least(policy.pending_max_age, rules.pending_age),
        blacklist_max_age=min(policy.blacklist_max_age, rules.blacklist_age),
    )


def verify_pending(amount: int, pending: Pending, *, policy: Policy, now: int) -> None:
    """Verify that with amount fen more the terminal keeps to its policy, or raise Refusal: checks 15 to 18.

    Before a card is asked, with what is known then; and of an answer, since only it tells the card.
    """
    if pending.oldest is not None and policy.pending_max_age is not None:
        age = now - pending.oldest
        if age > policy.pending_max_age:
            raise Refusal(r.PENDING_AGE, age_seconds=age, limit_seconds=policy.pending_max_age)
    for reason, held, limit in (
        (r.PENDING_LIMIT, pending.in_all, policy.max_pending),
        (r.SHIFT_LIMIT, pending.shift, policy.max_per_shift),
        (r.CARD_LIMIT, pending.card, policy.max_per_card),
    ):
        if limit is not None and held + amount > limit:
            raise Refusal(reason, amount_fen=amount, pending_fen=held, limit_fen=limit)


@dataclass(frozen=True)
class Loss:
    """Who bears what of a payment that did not settle, in fen.

    fund, payee: of what was paid elsewhere before, the guarantee fund and the payee; not_paid: what did not
    settle for another reason (late, given up, gone back to the payer, or no money at all): the payee never
    had it, and the guarantee is not for it.
    """

    fund: int
    payee: int
    not_paid: int


def loss(result: o.Result, guarantee: int) -> Loss:
    """Who bears a loss, by what a receipt says of a payment and the guarantee of the rules, in fen.

    The same arithmetic as the center's (protocols/spec/center.md, Loss).
    """
    repeated = not_paid = 0
    for outcome in result.outcomes:
        if outcome.state == o.DISPUTED:
            repeated += outcome.hi - outcome.lo
        elif outcome.state != o.SETTLED:
            not_paid += outcome.hi - outcome.lo
    fund = min(repeated, guarantee)
    return Loss(fund, repeated - fund, not_paid)


def _least(own: int | None, limit: int) -> int:
    return limit if own is None else min(own, limit)

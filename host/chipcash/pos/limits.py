# SPDX-License-Identifier: Apache-2.0
"""What a till may take offline: the center's rules, the shop's policy, and how much is pending already."""

from __future__ import annotations

import shutil

from chipcash.pos import model as m
from chipcash.pos.books import Books
from chipcash.pos.errors import NotAsked, PosError, yuan
from chipcash.terminal import (
    Blacklist,
    Pending,
    Policy,
    Refusal,
    newer,
    stricter,
    verify_pending,
)
from chipcash.terminal.refusals import BLACKLIST_STALE, LIMIT, RULES_MISSING
from chipcash_wire import objects as o

__all__ = ["LEAST_FREE", "Limits"]

LEAST_FREE = 32 << 20
"""Bytes that the disk must have free before a card is asked, so that its answer can be kept."""


class Limits(Books):
    """What a POS goes by before it asks a card, and again when one has answered."""

    @property
    def rules(self) -> o.TerminalRules | None:
        """The center's newest rules as of the last sync; None before the first."""
        text = self.store.get("rules")
        return o.TerminalRules.decode(bytes.fromhex(text)) if text else None

    @property
    def limits(self) -> Policy:
        """What this POS accepts: its policy, as far as it is stricter than the center's rules."""
        rules = self.rules
        return self.policy if rules is None else stricter(self.policy, rules)

    def exposure(self) -> m.Exposure:
        """What is pending, and how much may be."""
        limits = self.limits
        oldest = self._oldest_pending()
        return m.Exposure(
            pending_fen=self._exposed("all", 0),
            limit_fen=limits.max_pending,
            shift_fen=self._exposed("shift", self._shift_number() or 0),
            shift_limit_fen=limits.max_per_shift,
            age=0 if oldest is None else max(0, self._now() - oldest),
            age_limit=limits.pending_max_age,
        )

    def may_charge(self, amount: int) -> None:
        """Raise PosError if no card would be asked for amount fen now: limits, blacklist, disk."""
        self._may_charge(amount, self._now(), self.limits, self.blacklist)

    @property
    def blacklist_is_stale(self) -> bool:
        """Whether the blacklist is too old, or not complete, to take offline payments."""
        blacklist = self.blacklist
        age = self._now() - blacklist.time
        return age > self.limits.blacklist_max_age or not blacklist.complete

    @property
    def disk_is_full(self) -> bool:
        """Whether the disk has too little room left to take money onto it."""
        return shutil.disk_usage(self.directory).free < LEAST_FREE

    def _take_rules(self, rules: o.TerminalRules) -> bool:
        """Keep the newer of these rules and those that are here; whether they say something else. Raises
        RulesError."""
        with self.store.transaction():
            known = self.rules
            newest = newer(known, rules, self.trust)
            self.store.set("rules", newest.encode().hex())
        return known is None or _said(known) != _said(newest)

    def _may_charge(self, amount: int, now: int, policy: Policy, blacklist: Blacklist) -> None:
        """Refuse what could only end in a Refusal, before a card takes money for it."""
        if amount <= 0:
            raise PosError("An amount has to be above zero.", amount_fen=amount)
        if amount > policy.max_per_payment:
            raise NotAsked(
                LIMIT,
                f"This POS takes at most {yuan(policy.max_per_payment)} in one offline payment.",
                "Charge less, or change the policy of this POS.",
                amount_fen=amount,
                limit_fen=policy.max_per_payment,
            )
        if self.disk_is_full:
            raise PosError(
                "The disk of this POS is nearly full: a payment might not be kept. No card was asked.",
                hint=f"Make room in {self.directory}; at least {LEAST_FREE >> 20} MB have to be free.",
                least_free_bytes=LEAST_FREE,
            )
        age = now - blacklist.time
        if age > policy.blacklist_max_age or not blacklist.complete:
            raise NotAsked(
                BLACKLIST_STALE,
                "This POS's blacklist is missing or too old to take offline payments.",
                "Synchronise the POS first.",
                age_seconds=age,
                complete=blacklist.complete,
            )
        if self.rules is None:
            raise NotAsked(RULES_MISSING)
        refusal = self._exceeded(amount, policy)
        if refusal is not None:
            raise NotAsked.of(refusal)

    def _may_ask(self, card: bytes, amount: int, policy: Policy) -> None:
        """Refuse a card whose payment would be refused for what is pending from it already."""
        refusal = self._exceeded(amount, policy, card)
        if refusal is not None:
            raise NotAsked.of(refusal)

    def _card_matters(self, amount: int, policy: Policy) -> bool:
        """Whether there is a card from which so much is pending that it may not pay amount fen more."""
        limit = policy.max_per_card
        most = self._sum("SELECT max(fen) FROM exposure WHERE kind = 'card'")
        return limit is not None and most + amount > limit

    def _exceeded(self, amount: int, policy: Policy, card: bytes | None = None) -> Refusal | None:
        """Why amount fen more may not be pending, if they may not. card: from whom, where that is known."""
        pending = Pending(
            in_all=self._exposed("all", 0),
            shift=self._exposed("shift", self._shift_number() or 0),
            card=0 if card is None else self._exposed("card", card),
            oldest=self._oldest_pending(),
        )
        try:
            verify_pending(amount, pending, policy=policy, now=self._now())
        except Refusal as refusal:
            return refusal
        return None

    def _exposed(self, kind: str, of: int | bytes) -> int:
        return self._sum("SELECT sum(fen) FROM exposure WHERE kind = ? AND of = ?", kind, of)

    def _oldest_pending(self) -> int | None:
        return self._least(
            "SELECT min(time) FROM payments WHERE state = 'PENDING'",
            "SELECT min(time) FROM payments WHERE state = 'SUBMITTED'",
        )


def _said(rules: o.TerminalRules) -> list[int]:
    """What rules say, whenever they say it."""
    fields = o.TerminalRules.FIELDS
    first = fields.index("per_payment")
    return [getattr(rules, name) for name in fields[first:-1]]

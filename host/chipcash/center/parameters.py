# SPDX-License-Identifier: Apache-2.0
"""What who runs a registration center decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from chipcash.clock import DAY

__all__ = ["Parameters", "TierLimits"]


@dataclass(frozen=True)
class TierLimits:
    """Offline limits of a card of one tier, fen; count: payments between two synchronisations."""

    per_payment: int
    cumulative: int
    count: int
    pin_free: int


def _tier_limits() -> dict[int, TierLimits]:
    # About a tenth of what e-CNY wallets of types 1 and 2 may pay online per payment and day; for the
    # small types 3 and 4 about the scale of other offline pilots (500 per payment, 2000 in all).
    return {
        1: TierLimits(500_000, 1_000_000, 100, 30_000),
        2: TierLimits(100_000, 200_000, 50, 30_000),
        3: TierLimits(50_000, 100_000, 50, 20_000),
        4: TierLimits(20_000, 50_000, 30, 10_000),
    }


@dataclass(frozen=True)
class Parameters:
    """Times in seconds, money in fen.

    title_lifetime: from a title's making to its expiry; grace: after a deadline or an expiry, before
    money goes back; guarantee: how much of a disputed claim the guarantee fund bears, the payee bears the
    rest; window: from payment to deadline; horizon: how far a terminal's time may be ahead of what a card
    knows; challenge_lifetime: of a challenge for a genuine proof; tiers: offline limits by tier.
    """

    title_lifetime: int = 365 * DAY
    grace: int = DAY
    guarantee: int = 50_000
    window: int = 7 * DAY
    horizon: int = 90 * DAY
    challenge_lifetime: int = 600
    tiers: dict[int, TierLimits] = field(default_factory=_tier_limits)

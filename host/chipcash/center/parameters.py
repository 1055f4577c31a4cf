# SPDX-License-Identifier: Apache-2.0
"""What who runs a registration center decides."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chipcash import files
from chipcash.center.errors import CenterError
from chipcash.clock import DAY
from chipcash_wire import objects as o

__all__ = ["Parameters", "TerminalLimits", "TierLimits"]


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
class TerminalLimits:
    """What a terminal may take offline: fen, and seconds; see chipcash_wire.objects.TerminalRules."""

    per_payment: int = 50_000
    per_card: int = 100_000
    per_shift: int = 2_000_000
    in_all: int = 5_000_000
    pending_age: int = 5 * DAY
    blacklist_age: int = 7 * DAY


@dataclass(frozen=True)
class Parameters:
    """Times in seconds, money in fen.

    title_lifetime: from a title's making to its expiry; grace: after a deadline or an expiry, before
    money goes back; guarantee: how much of a disputed claim the guarantee fund bears, the payee bears the
    rest; window: from payment to deadline; horizon: how far a terminal's time may be ahead of what a card
    knows; challenge_lifetime: of a challenge for a genuine proof; tiers: offline limits of cards by tier;
    terminal: those of terminals.
    """

    title_lifetime: int = 365 * DAY
    grace: int = DAY
    guarantee: int = 50_000
    window: int = 7 * DAY
    horizon: int = 90 * DAY
    challenge_lifetime: int = 600
    tiers: dict[int, TierLimits] = field(default_factory=_tier_limits)
    terminal: TerminalLimits = TerminalLimits()

    @classmethod
    def load(cls, path: Path) -> Parameters:
        """The parameters with what a file says otherwise; the defaults where there is none.

        The file is JSON: {"guarantee": fen, "terminal": {...}}. Raises CenterError if it is damaged.
        """
        defaults = cls()
        try:
            data = json.loads(path.read_bytes())
            terminal = TerminalLimits(**data.pop("terminal", {}))
            guarantee = data.pop("guarantee", defaults.guarantee)
            if data:
                raise ValueError(f"it names {', '.join(data)}")
            _check({"guarantee": guarantee, **asdict(terminal)})
        except FileNotFoundError:
            return defaults
        except (ValueError, TypeError, AttributeError) as error:
            raise CenterError(
                f"{path} does not hold parameters of a center: {error}.",
                hint="Correct the file, or remove it: then the defaults hold.",
                path=str(path),
            ) from None
        return replace(defaults, guarantee=guarantee, terminal=terminal)

    def save(self, path: Path) -> None:
        """Write what load() reads: guarantee and terminal."""
        data = {"guarantee": self.guarantee, "terminal": asdict(self.terminal)}
        files.replace(path, (json.dumps(data, indent=1) + "\n").encode(), 0o644)


def _check(numbers: dict[str, Any]) -> None:
    """Refuse what the wire cannot carry. Raises ValueError."""
    for name, value in numbers.items():
        most = (1 << 32) - 1 if name.endswith("_age") else o.MAX_AMOUNT
        if type(value) is not int or not 0 <= value <= most:
            raise ValueError(f"{name} is no number from 0 to {most}")

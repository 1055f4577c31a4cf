# SPDX-License-Identifier: Apache-2.0
"""What a ledger answers: titles, claims, coins, evidence, totals; and the proof that it keeps its rule."""

from __future__ import annotations

from typing import Any

from chipcash.center.batch import broken
from chipcash.center.errors import CenterRefused
from chipcash.center.storage import Storage
from chipcash_wire import objects as o

__all__ = ["Inquiry", "unknown"]


class Inquiry:
    """Questions to a ledger, which change nothing. storage: where it is."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def facts(self) -> int:
        """The number of the newest registered fact, 0 if there is none."""
        (seq,) = self.storage.row("SELECT next FROM sequence")
        return int(seq) - 1

    def titles(self, owner: bytes) -> tuple[o.Title, ...]:
        """Titles of this owner under which some money is live, oldest first."""
        rows = self.storage.all(
            "SELECT bytes FROM titles WHERE owner = ? AND EXISTS (SELECT 1 FROM slices"
            " WHERE slices.title_id = titles.title_id) ORDER BY seq",
            owner,
        )
        return tuple(o.Title.decode(row[0]) for row in rows)

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """What became of a claim, as JSON: first outcome, losses by policy, evidence. Refused: unknown."""
        with self.storage.reading():
            row = self.storage.one(
                "SELECT seq, payer, bytes, time, result, fund, loss FROM claims WHERE claim_id = ?",
                claim_id,
            )
            if row is None:
                raise unknown("claim")
            seq, payer, data, at, result, fund, loss = row
            evidence = self.storage.all(
                "SELECT digest FROM evidence WHERE claim = ? ORDER BY seq", seq
            )
            spends = self.storage.all(
                "SELECT title_id, state, new_title FROM spends WHERE claim = ?", seq
            )
        claim = o.Claim.decode(data)
        led_to = {title_id: (state, new) for title_id, state, new in spends}
        outcomes = []
        for outcome in o.Result.decode(result).outcomes:
            moved, new_title = led_to.get(outcome.title_id, (None, None))
            outcomes.append(
                {
                    "title_id": outcome.title_id.hex(),
                    "lo": outcome.lo,
                    "hi": outcome.hi,
                    "state": o.OUTCOMES[outcome.state],
                    "claim_id": _hex(outcome.claim_id),
                    "reclaimed": moved == o.RECLAIMED,
                    "new_title_id": _hex(new_title),
                }
            )
        return {
            "claim_id": claim_id.hex(),
            "payer": payer.hex(),
            "payee": claim.payee.hex(),
            "amount_fen": claim.amount,
            "deadline": claim.deadline,
            "registered": at,
            "outcomes": outcomes,
            "loss": {"guarantee_fund_fen": fund, "payee_fen": loss},
            "evidence": [digest.hex() for (digest,) in evidence],
        }

    def evidence(self, digest: bytes) -> o.Evidence:
        """The evidence with this digest. Refused: unknown."""
        row = self.storage.one("SELECT bytes FROM evidence WHERE digest = ?", digest)
        if row is None:
            raise unknown("evidence")
        return o.Evidence.decode(row[0])

    def coin(self, serial: bytes) -> dict[str, Any]:
        """A coin's partition now and its whole life, as JSON. Refused: unknown."""
        with self.storage.reading():
            row = self.storage.one("SELECT amount, owner, time FROM coins WHERE serial = ?", serial)
            if row is None:
                raise unknown("serial")
            slices = self.storage.all(
                "SELECT slices.lo, slices.hi, slices.title_id, titles.owner FROM slices"
                " LEFT JOIN titles ON titles.title_id = slices.title_id"
                " WHERE slices.serial = ? ORDER BY slices.lo",
                serial,
            )
            spends = self.storage.all(
                "SELECT spends.time, spends.lo, spends.hi, spends.state, spends.title_id,"
                " claims.claim_id, old.owner, spends.new_title, new.owner FROM spends"
                " LEFT JOIN claims ON claims.seq = spends.claim"
                " JOIN titles AS old ON old.title_id = spends.title_id"
                " LEFT JOIN titles AS new ON new.title_id = spends.new_title"
                " WHERE spends.serial = ? ORDER BY spends.seq",
                serial,
            )
        amount, owner, at = row
        issued = {"time": at, "event": "issued", "lo": 0, "hi": amount, "to": owner.hex()}
        return {
            "serial": serial.hex(),
            "amount_fen": amount,
            "partition": [
                {
                    "lo": lo,
                    "hi": hi,
                    "state": "redeemed" if title_id is None else "live",
                    "title_id": _hex(title_id),
                    "owner": _hex(holder),
                }
                for lo, hi, title_id, holder in slices
            ],
            "history": [issued]
            + [
                {
                    "time": moved,
                    "event": "redeemed" if new is None else o.OUTCOMES[state],
                    "lo": lo,
                    "hi": hi,
                    "title_id": title_id.hex(),
                    "claim_id": _hex(claim_id),
                    "from": payer.hex(),
                    "new_title_id": _hex(new),
                    "to": _hex(payee),
                }
                for moved, lo, hi, state, title_id, claim_id, payer, new, payee in spends
            ],
        }

    def accounts(self) -> dict[str, Any]:
        """Totals in fen, as JSON: issued_fen = live_fen + redeemed_fen, and live fen by owner."""
        with self.storage.reading():
            # Halves are summed apart: SQLite's integers overflow where the sums of 63-bit amounts do not.
            # PostgreSQL's sums are decimals.
            issued = self.storage.row(
                "SELECT COALESCE(SUM(amount >> 32), 0), COALESCE(SUM(amount & 4294967295), 0)"
                " FROM coins"
            )
            held = self.storage.all(
                "SELECT titles.owner, SUM((slices.hi - slices.lo) >> 32),"
                " SUM((slices.hi - slices.lo) & 4294967295)"
                " FROM slices LEFT JOIN titles ON titles.title_id = slices.title_id"
                " GROUP BY titles.owner"
            )
        owners = {owner: (int(high) << 32) + int(low) for owner, high, low in held}
        redeemed = owners.pop(None, 0)
        return {
            "issued_fen": (int(issued[0]) << 32) + int(issued[1]),
            "live_fen": sum(owners.values()),
            "redeemed_fen": redeemed,
            "owners": {owner.hex(): fen for owner, fen in sorted(owners.items())},
        }

    def check(self) -> None:
        """Prove the ledger's rule for every serial: its slices cover [0, amount), each fen once.

        Also that each live slice lies within its title and is not spent under it. Raises LedgerError
        with the serial.
        """
        with self.storage.reading():
            rows = self.storage.all(
                "SELECT coins.serial, coins.amount, slices.lo, slices.hi, slices.title_id,"
                " titles.serial, titles.lo, titles.hi FROM coins"
                " LEFT JOIN slices ON slices.serial = coins.serial"
                " LEFT JOIN titles ON titles.title_id = slices.title_id"
                " ORDER BY coins.serial, slices.lo"
            )
            spent = self.storage.one(
                "SELECT slices.serial FROM slices JOIN spends"
                " ON spends.serial = slices.serial AND spends.title_id = slices.title_id"
                " WHERE spends.lo < slices.hi AND spends.hi > slices.lo LIMIT 1"
            )
        if spent is not None:
            raise broken(spent[0], "a live slice is recorded as spent under its title")
        covered: dict[bytes, int] = {}
        amounts: dict[bytes, int] = {}
        for serial, amount, lo, hi, title_id, of, title_lo, title_hi in rows:
            amounts[serial] = amount
            if lo != covered.get(serial, 0) or hi <= lo:
                raise broken(serial, f"its slices have a gap or overlap at fen {lo}")
            if title_id is not None and not (of == serial and title_lo <= lo and hi <= title_hi):
                raise broken(serial, f"the slice at fen {lo} is not within its title")
            covered[serial] = hi
        for serial, amount in amounts.items():
            if covered[serial] != amount:
                raise broken(serial, f"its slices end at fen {covered[serial]} of {amount}")


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def unknown(what: str) -> CenterRefused:
    """The refusal for what nobody registered."""
    return CenterRefused("unknown", f"The center knows no such {what}.", status=404)

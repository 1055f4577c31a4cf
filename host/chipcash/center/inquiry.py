# SPDX-License-Identifier: Apache-2.0
"""What a ledger answers: titles, claims, coins, evidence, totals; and the proof that it keeps its rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chipcash.center.batch import MAX_INTERVALS, broken
from chipcash.center.errors import CenterRefused
from chipcash.center.storage import Storage
from chipcash_wire import objects as o

__all__ = ["LATEST", "Held", "Inquiry", "Moment", "Repeat", "unknown"]

Moment = tuple[int, bytes]
"""Where something stands in a list by time: seconds since 1970, and an id for what has the same. Unlike the
numbers of facts it means the same in every ledger of a center."""

LATEST: Moment = (1 << 62, b"")
"""After everything."""


@dataclass(frozen=True)
class Held:
    """A title that somebody had. moment: when it was made, and its id; live: fen still under it."""

    moment: Moment
    title: o.Title
    live: int


@dataclass(frozen=True)
class Repeat:
    """A claim that repeated a payment. moment: when it was registered, and its id; payer: public key; fund,
    loss: fen of it that the guarantee fund and the payee bear."""

    moment: Moment
    payer: bytes
    fund: int
    loss: int


class Inquiry:
    """Questions to a ledger, which change nothing. storage: where it is."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def close(self) -> None:
        """Close the ledger."""
        self.storage.close()

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

    def titles_known(self, title_ids: Sequence[bytes]) -> list[o.Title]:
        """Those of the titles with these ids that were ever made here."""
        given = self.storage.given({"title_id": bytes}, [(each,) for each in title_ids])
        rows = self.storage.all(
            f"SELECT titles.bytes FROM {given.sql} AS given"
            " JOIN titles ON titles.title_id = given.title_id",
            *given.values,
        )
        return [o.Title.decode(row[0]) for row in rows]

    def evidence_after(self, seq: int) -> list[tuple[int, o.Evidence]]:
        """Evidence whose number is higher, with it, in the order of registration."""
        rows = self.storage.all("SELECT seq, bytes FROM evidence WHERE seq > ? ORDER BY seq", seq)
        return [(number, o.Evidence.decode(data)) for number, data in rows]

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """What became of a claim, as JSON: first outcome, losses by policy, evidence. Refused: unknown."""
        found = self.registered(claim_id)
        if found is None:
            raise unknown("claim")
        return found[1]

    def registered(self, claim_id: bytes) -> tuple[o.Claim, dict[str, Any]] | None:
        """A claim and what became of it, as claim(); None if it was never registered here."""
        with self.storage.reading():
            row = self.storage.one(
                "SELECT seq, payer, bytes, time, result, fund, loss FROM claims WHERE claim_id = ?",
                claim_id,
            )
            if row is None:
                return None
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
        return claim, {
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

    def title(self, title_id: bytes) -> o.Title:
        """A title that was ever made. Refused: unknown."""
        row = self.storage.one("SELECT bytes FROM titles WHERE title_id = ?", title_id)
        if row is None:
            raise unknown("title")
        return o.Title.decode(row[0])

    def titles_ever(self, owner: bytes, before: Moment, count: int) -> list[Held]:
        """Titles of this owner, newest first; at most so many, and only those before a moment."""
        rows = self.storage.all(
            "SELECT time, title_id, bytes, (SELECT SUM(hi - lo) FROM slices"
            " WHERE slices.serial = titles.serial AND slices.title_id = titles.title_id)"
            " FROM titles WHERE owner = ? AND (time, title_id) < (?, ?)"
            " ORDER BY time DESC, title_id DESC LIMIT ?",
            owner, *before, count,
        )  # fmt: skip
        return [
            Held((at, title_id), o.Title.decode(data), int(live or 0))
            for at, title_id, data, live in rows
        ]

    def card(self, key: bytes) -> o.Certificate | None:
        """The newest certificate that a card was registered with; None if no card has this key."""
        row = self.storage.one("SELECT certificate FROM cards WHERE subject = ?", key)
        return None if row is None else o.Certificate.decode(row[0])

    def listed(self, key: bytes) -> o.BlacklistEntry | None:
        """A key's entry of the blacklist."""
        row = self.storage.one("SELECT bytes FROM blacklist WHERE subject = ?", key)
        return None if row is None else o.BlacklistEntry.decode(row[0])

    def repeats(self, before: Moment, count: int) -> list[Repeat]:
        """Claims that repeated a payment, as far as there is evidence of it, newest first; at most so many,
        and only those before a moment."""
        rows = self.storage.all(
            "SELECT time, claim_id, payer, fund, loss FROM claims"
            " WHERE seq IN (SELECT claim FROM evidence) AND (time, claim_id) < (?, ?)"
            " ORDER BY time DESC, claim_id DESC LIMIT ?",
            *before, count,
        )  # fmt: skip
        return [
            Repeat((at, claim_id), payer, fund, loss) for at, claim_id, payer, fund, loss in rows
        ]

    def unmoved(self, serial: bytes, count: int) -> list[tuple[bytes, int]]:
        """Claims on a coin of which some interval did not move, newest first: claim_id and time."""
        rows = self.storage.all(
            "SELECT claim_id, time FROM claims WHERE seq IN"
            " (SELECT claim FROM inputs WHERE serial = ?) ORDER BY seq DESC LIMIT ?",
            serial, count,
        )  # fmt: skip
        return [tuple(row) for row in rows]

    def coin(self, serial: bytes) -> dict[str, Any]:
        """A coin's partition now and its whole life, as JSON. Refused: unknown."""
        with self.storage.reading():
            row = self.storage.one(
                "SELECT amount, owner, time, recoined, seq FROM coins WHERE serial = ?", serial
            )
            if row is None:
                raise unknown("serial")
            amount, owner, at, recoined, seq = row
            slices = self.storage.all(
                "SELECT slices.lo, slices.hi, slices.title_id, titles.owner FROM slices"
                " LEFT JOIN titles ON titles.title_id = slices.title_id"
                " WHERE slices.serial = ? ORDER BY slices.lo",
                serial,
            )
            spends = self.storage.all(
                "SELECT spends.time, spends.lo, spends.hi, spends.state, spends.title_id,"
                " claims.claim_id, old.owner, spends.new_title, new.owner, new.serial FROM spends"
                " LEFT JOIN claims ON claims.seq = spends.claim"
                " JOIN titles AS old ON old.title_id = spends.title_id"
                " LEFT JOIN titles AS new ON new.title_id = spends.new_title"
                " WHERE spends.serial = ? ORDER BY spends.seq",
                serial,
            )
            sources = self._made_of(serial, seq) if recoined else []
        made: dict[str, Any] = {
            "time": at,
            "event": "made" if recoined else "issued",
            "lo": 0,
            "hi": amount,
            "to": owner.hex(),
        }
        if recoined:
            made["of"] = sources
        into = [(lo, hi) for _, lo, hi, *_, other in spends if other not in (None, serial)]
        return {
            "serial": serial.hex(),
            "amount_fen": amount,
            "partition": [
                {
                    "lo": lo,
                    "hi": hi,
                    "state": _state(title_id, lo, hi, into),
                    "title_id": _hex(title_id),
                    "owner": _hex(holder),
                }
                for lo, hi, title_id, holder in slices
            ],
            "history": [made]
            + [
                {
                    "time": moved,
                    "event": _event(state, new, other != serial),
                    "lo": lo,
                    "hi": hi,
                    "title_id": title_id.hex(),
                    "claim_id": _hex(claim_id),
                    "from": payer.hex(),
                    "new_title_id": _hex(new),
                    "to": _hex(payee),
                    **({"new_serial": other.hex()} if other not in (None, serial) else {}),
                }
                for moved, lo, hi, state, title_id, claim_id, payer, new, payee, other in spends
            ],
        }

    def _made_of(self, serial: bytes, seq: int) -> list[dict[str, Any]]:
        """What a coin was made of: its fen [lo, hi), and where they were before.

        Its moves are the facts behind its title, which is behind the coin itself.
        """
        rows = self.storage.all(
            "SELECT spends.serial, spends.title_id, spends.lo, spends.hi FROM titles JOIN spends"
            " ON spends.seq > titles.seq AND spends.seq <= titles.seq + ?"
            " AND spends.new_title = titles.title_id"
            " WHERE titles.serial = ? AND titles.epoch = 1 ORDER BY spends.seq",
            MAX_INTERVALS, serial,
        )  # fmt: skip
        found = []
        at = 0
        for of, title_id, lo, hi in rows:
            found.append(
                {
                    "lo": at,
                    "hi": at + hi - lo,
                    "from_serial": of.hex(),
                    "from_lo": lo,
                    "title_id": title_id.hex(),
                }
            )
            at += hi - lo
        return found

    def accounts(self) -> dict[str, Any]:
        """Totals in fen, as JSON: issued_fen = live_fen + redeemed_fen, and live fen by owner."""
        with self.storage.reading():
            # Halves are summed apart: SQLite's integers overflow where the sums of 63-bit amounts do not.
            # PostgreSQL's sums are decimals.
            sums = dict.fromkeys((0, 1), 0)
            for recoined, high, low in self.storage.all(
                "SELECT recoined, SUM(amount >> 32), SUM(amount & 4294967295) FROM coins"
                " GROUP BY recoined"
            ):
                sums[recoined] = (int(high) << 32) + int(low)
            held = self.storage.all(
                "SELECT titles.owner, SUM((slices.hi - slices.lo) >> 32),"
                " SUM((slices.hi - slices.lo) & 4294967295)"
                " FROM slices LEFT JOIN titles ON titles.title_id = slices.title_id"
                " GROUP BY titles.owner"
            )
        owners = {owner: (int(high) << 32) + int(low) for owner, high, low in held}
        gone = owners.pop(None, 0)
        return {
            "issued_fen": sums[0],
            "live_fen": sum(owners.values()),
            "redeemed_fen": gone - sums[1],
            "owners": {owner.hex(): fen for owner, fen in sorted(owners.items())},
        }

    def check(self) -> None:
        """Prove the ledger's rule for every serial: its slices cover [0, amount), each fen once.

        Also that each live slice lies within its title and is not spent under it, and that each coin that the
        center made of others has what went into it. Raises LedgerError with the serial.
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
            made = self.storage.one(
                "SELECT coins.serial FROM coins"
                " JOIN titles ON titles.serial = coins.serial AND titles.epoch = 1"
                " LEFT JOIN (SELECT new_title, SUM(hi - lo) AS fen FROM spends GROUP BY new_title)"
                " AS moved ON moved.new_title = titles.title_id"
                " WHERE coins.recoined = 1 AND coins.amount <> COALESCE(moved.fen, 0) LIMIT 1"
            )
        if spent is not None:
            raise broken(spent[0], "a live slice is recorded as spent under its title")
        if made is not None:
            raise broken(made[0], "it was made of other coins, and has not what went into it")
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


def _state(title_id: bytes | None, lo: int, hi: int, into: Sequence[tuple[int, int]]) -> str:
    """The state of a slice. into: what of its coin went into other coins, which is for good."""
    if title_id is not None:
        return "live"
    return "recoined" if any(start < hi and end > lo for start, end in into) else "redeemed"


def _event(state: int, new_title: bytes | None, elsewhere: bool) -> str:
    """How the history calls a move. elsewhere: under a title of another coin."""
    if new_title is None:
        return "redeemed"
    return "recoined" if elsewhere else o.OUTCOMES[state]


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def unknown(what: str) -> CenterRefused:
    """The refusal for what nobody registered."""
    return CenterRefused("unknown", f"The center knows no such {what}.", status=404)

# SPDX-License-Identifier: Apache-2.0
"""The registration center's ledger: who owns which fen of which coin (protocols/spec/center.md).

Every coin's [0, amount) is partitioned into slices; a slice is live under exactly one title or redeemed.
Value changes hands in one function only, `Center._move`, always inside one transaction of SQLite that
is durable before anything is answered. Whatever is needed to answer the same request with the same bytes
is written in the same transaction, so a crash between commit and answer costs nothing.

Signatures are verified before the transaction begins: titles never change once they are made.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chipcash import crypto
from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.schema import SCHEMA
from chipcash.clock import DAY, Clock, system_clock
from chipcash.database import Database
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["MAX_INTERVALS", "Center", "Parameters", "TierLimits"]

MAX_INTERVALS = 200
"""Most intervals in one deposit, so that its receipt fits one object (65535 bytes) in the worst case."""
MAX_RENEWED = 200
"""Most slices that one reclaim of a title brings back; the next reclaim brings the next."""


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
    """What who runs a center decides. Times in seconds, money in fen.

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


@dataclass(frozen=True)
class _Cut:
    """One interval on its way: out of the slice live under title, to an owner, or to nobody (redeemed)."""

    title_id: bytes
    serial: bytes
    lo: int
    hi: int
    owner: bytes | None
    claim_id: bytes | None
    state: int


@dataclass(frozen=True)
class _Verified:
    """A claim whose header, titles and signature were checked; titles in the order of its inputs."""

    claim: o.Claim
    claim_id: bytes
    titles: tuple[o.Title, ...]

    @property
    def payer(self) -> bytes:
        return self.titles[0].owner


class _Cuts:
    """What a transaction has decided to move but not moved yet."""

    def __init__(self) -> None:
        self.all: list[_Cut] = []
        self._by_title: dict[bytes, list[_Cut]] = {}

    def add(self, cut: _Cut) -> None:
        self.all.append(cut)
        self._by_title.setdefault(cut.title_id, []).append(cut)

    def overlapping(self, title_id: bytes, lo: int, hi: int) -> _Cut | None:
        """The first cut of this title that overlaps [lo, hi)."""
        for cut in self._by_title.get(title_id, ()):
            if cut.lo < hi and cut.hi > lo:
                return cut
        return None


class Center:
    """A registration center over one SQLite file. Safe to use from several threads.

    path: the ledger's file, or ":memory:"; key: the center's private key; trust: the network, whose
    center certificate must be for that key; clock: seconds since 1970. Methods raise CenterRefused where
    the center says no, and then nothing has changed.
    """

    def __init__(
        self,
        path: str | Path,
        key: crypto.PrivateKey,
        trust: Trust,
        parameters: Parameters | None = None,
        clock: Clock = system_clock,
    ) -> None:
        if key.public != trust.center_key:
            raise LedgerError(
                "This private key is not the one that the network's center certificate names.",
                hint="Start the center with the directory that belongs to this network file.",
            )
        self.trust = trust
        self.parameters = parameters or Parameters()
        self._key = key
        self._clock = clock
        self._db = Database(path, SCHEMA, version=2, what="The ledger")

    def close(self) -> None:
        """Close the ledger's file."""
        self._db.close()

    # ---- money in, money on -------------------------------------------------------------------------

    def register_coin(self, coin: o.Coin) -> o.Title:
        """Register a new coin of the issuing library; its title for the coin's owner.

        The same coin brings the same title. Refused: signature, network, conflict (the serial was
        registered with other content).
        """
        self._need_header(coin)
        if not self.trust.signed_by_issuer(coin):
            raise _refused_signature("coin", "the issuing library")
        with self._db.transaction():
            row = self._db.one("SELECT bytes FROM coins WHERE serial = ?", coin.serial)
            if row is not None:
                if o.Coin.decode(row[0]).message() != coin.message():
                    raise CenterRefused(
                        "conflict",
                        "This serial was registered before with another amount or owner.",
                        status=409,
                        hint="A serial is never reused: create another coin.",
                    )
                return self._title_of_epoch(coin.serial, 1)
            self._db.execute(
                "INSERT INTO coins (serial, amount, owner, bytes, epoch, time) VALUES (?,?,?,?,0,?)",
                coin.serial, coin.amount, coin.owner, coin.encode(), self._clock(),
            )  # fmt: skip
            title = self._make_title(coin.serial, coin.amount, 0, coin.amount, coin.owner)
            self._db.execute(
                "INSERT INTO slices (serial, lo, hi, title_id) VALUES (?,?,?,?)",
                coin.serial, 0, coin.amount, object_id(title),
            )  # fmt: skip
            return title

    def settle(self, deposit: o.Deposit) -> o.Receipt:
        """Settle a deposit's claims, each interval by itself, in one transaction.

        The same deposit brings the same receipt, a claim registered before its first outcome. The receipt
        carries the titles that the claims led to. A claim that does not verify ends *invalid* and
        stops no other. Refused: network, too-large (more than MAX_INTERVALS intervals).
        """
        self._need_header(deposit)
        if sum(len(claim.inputs) for claim in deposit.claims) > MAX_INTERVALS:
            raise CenterRefused(
                "too-large",
                f"The deposit spends more than {MAX_INTERVALS} intervals; nothing was settled.",
                status=413,
                hint="Split it into several deposits.",
            )
        digest = object_id(deposit)
        known = self._receipt(digest)
        if known is not None:
            return known
        checked = [(claim, self._verify(claim)) for claim in deposit.claims]
        with self._db.transaction():
            known = self._receipt(digest)
            if known is not None:  # the same deposit came twice at once
                return known
            cuts = _Cuts()
            results = []
            for claim, verified in checked:
                if verified is None:
                    results.append(_uniform(claim, o.INVALID))
                else:
                    results.append(self._settle_claim(verified, cuts))
            self._move(cuts.all)
            # An invalid claim may bear the id of a good one: the id does not cover the signature.
            valid = [result.claim_id for result in results if not _is_invalid(result)]
            titles = self._titles_led_to(valid, o.SETTLED)
            receipt = self._make_receipt(digest, results, titles)
            self._db.execute(
                "INSERT INTO deposits (digest, time, receipt) VALUES (?,?,?)",
                digest, receipt.time, receipt.encode(),
            )  # fmt: skip
            return receipt

    def register_void(self, void: o.Void) -> None:
        """Bar the claim with this nonce, payee and amount for ever; it may come again.

        Refused: signature, network.
        """
        self._need_header(void)
        self._need_payee_signature(void)
        with self._db.transaction():
            self._store_void(void)

    def reclaim(self, reclaim: o.Reclaim) -> o.Receipt:
        """Give money back to its payer: the intervals of a claim, or what is left of an expired title.

        The receipt carries the payer's new titles; asking again brings them again. Refused: network,
        signature (of the void), not-yet (neither past deadline or expiry and grace, nor voided), unknown.
        """
        self._need_header(reclaim)
        if reclaim.title_id is not None:
            return self._reclaim_title(reclaim, reclaim.title_id)
        return self._reclaim_claim(reclaim, reclaim.claims[0])

    # ---- cards --------------------------------------------------------------------------------------

    def register_card(self, certificate: o.Certificate) -> o.RiskParameters:
        """Register a certified card: its first risk parameters (sequence 1), or its newest if it was.

        A later certificate for the same key replaces the stored one. Refused: signature, network, role,
        expired, blacklisted.
        """
        self._need_header(certificate)
        if not self.trust.signed_by_certification(certificate):
            raise _refused_signature("certificate", "the certification center")
        if certificate.role != o.ROLE_CARD:
            raise CenterRefused("role", "This certificate is not a card's; nothing was registered.")
        self._need_unexpired(certificate)
        with self._db.transaction():
            self._need_unlisted(certificate.subject)
            row = self._db.one(
                "SELECT certificate, risk FROM cards WHERE subject = ?", certificate.subject
            )
            if row is None:
                risk = self._make_risk(certificate, 1)
                self._db.execute(
                    "INSERT INTO cards (subject, certificate, sequence, risk) VALUES (?,?,1,?)",
                    certificate.subject, certificate.encode(), risk.encode(),
                )  # fmt: skip
                return risk
            if certificate.expiry > o.Certificate.decode(row[0]).expiry:
                self._db.execute(
                    "UPDATE cards SET certificate = ? WHERE subject = ?",
                    certificate.encode(), certificate.subject,
                )  # fmt: skip
            return o.RiskParameters.decode(row[1])

    def challenge(self, key: bytes) -> bytes:
        """16 fresh bytes for the card with this key to prove itself with, once. Refused: unknown."""
        nonce = secrets.token_bytes(16)
        with self._db.transaction():
            self._card(key)
            now = self._clock()
            self._db.execute(
                "DELETE FROM challenges WHERE time < ?", now - self.parameters.challenge_lifetime
            )
            self._db.execute(
                "INSERT INTO challenges (nonce, subject, time) VALUES (?,?,?)", nonce, key, now
            )
        return nonce

    def risk(self, key: bytes, proof: o.GenuineProof) -> o.RiskParameters:
        """The card's next risk parameters, against its genuine proof over a challenge of this center.

        Refused: unknown, network, subject, signature, challenge, expired, blacklisted.
        """
        self._need_header(proof)
        if proof.subject != key:
            raise CenterRefused("subject", "The proof is another card's.")
        if not self.trust.signed_by(proof, key):
            raise _refused_signature("proof", "the card")
        with self._db.transaction():
            certificate, sequence = self._card(key)
            row = self._db.one(
                "SELECT time FROM challenges WHERE nonce = ? AND subject = ?", proof.nonce, key
            )
            if row is None or row[0] + self.parameters.challenge_lifetime < self._clock():
                raise CenterRefused(
                    "challenge",
                    "The proof answers no challenge that is open for this card.",
                    hint="Get a new challenge and repeat.",
                )
            self._need_unexpired(certificate)
            self._need_unlisted(key)
            risk = self._make_risk(certificate, sequence + 1)
            self._db.execute("DELETE FROM challenges WHERE nonce = ?", proof.nonce)
            self._db.execute(
                "UPDATE cards SET sequence = ?, risk = ? WHERE subject = ?",
                sequence + 1, risk.encode(), key,
            )  # fmt: skip
            return risk

    def block(self, key: bytes) -> None:
        """Put a lost card's key on the blacklist. For who runs the center: no request over HTTP does it."""
        with self._db.transaction():
            self._list(key, o.REASON_LOST, None)

    # ---- questions ----------------------------------------------------------------------------------

    def network(self) -> tuple[o.Certificate, ...]:
        """The certificates of the issuing library and of this center."""
        return self.trust.certificates

    def titles(self, owner: bytes) -> tuple[o.Title, ...]:
        """Titles of this owner under which some money is live, oldest first."""
        rows = self._db.all(
            "SELECT bytes FROM titles WHERE owner = ? AND EXISTS (SELECT 1 FROM slices"
            " WHERE slices.title_id = titles.title_id) ORDER BY seq",
            owner,
        )
        return tuple(o.Title.decode(row[0]) for row in rows)

    def signed_time(self) -> o.SignedTime:
        """The center's time and the number of blacklist entries."""
        with self._db.reading():
            (sequence,) = self._db.row("SELECT COALESCE(MAX(sequence), 0) FROM blacklist")
            signed_time: o.SignedTime = self._signed(
                o.SignedTime(
                    header=self.trust.header,
                    signer=self._key.key_id,
                    time=self._clock(),
                    sequence=sequence,
                )
            )
            return signed_time

    def blacklist(self, since: int = 0) -> tuple[tuple[o.BlacklistEntry, ...], o.SignedTime]:
        """Entries with a sequence above since, in order, and the signed time that completes them."""
        with self._db.reading():
            rows = self._db.all(
                "SELECT bytes FROM blacklist WHERE sequence > ? ORDER BY sequence", since
            )
            signed_time = self.signed_time()
        return tuple(o.BlacklistEntry.decode(row[0]) for row in rows), signed_time

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """What became of a claim, as JSON: first outcome, losses by policy, evidence. Refused: unknown."""
        with self._db.reading():
            row = self._db.one(
                "SELECT payer, bytes, time, result, fund, loss FROM claims WHERE claim_id = ?",
                claim_id,
            )
            if row is None:
                raise _unknown("claim")
            payer, data, at, result, fund, loss = row
            evidence = self._db.all(
                "SELECT digest FROM evidence WHERE claim_id = ? ORDER BY seq", claim_id
            )
            spends = self._db.all(
                "SELECT title_id, state, new_title FROM spends WHERE claim_id = ?", claim_id
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
        row = self._db.one("SELECT bytes FROM evidence WHERE digest = ?", digest)
        if row is None:
            raise _unknown("evidence")
        return o.Evidence.decode(row[0])

    def coin(self, serial: bytes) -> dict[str, Any]:
        """A coin's partition now and its whole life, as JSON. Refused: unknown."""
        with self._db.reading():
            row = self._db.one("SELECT amount, owner, time FROM coins WHERE serial = ?", serial)
            if row is None:
                raise _unknown("serial")
            slices = self._db.all(
                "SELECT slices.lo, slices.hi, slices.title_id, titles.owner FROM slices"
                " LEFT JOIN titles USING (title_id) WHERE slices.serial = ? ORDER BY slices.lo",
                serial,
            )
            spends = self._db.all(
                "SELECT spends.time, spends.lo, spends.hi, spends.state, spends.title_id,"
                " spends.claim_id, old.owner, spends.new_title, new.owner FROM spends"
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
        with self._db.reading():
            # Halves are summed apart: SQLite's integers overflow where the sums of 63-bit amounts do not.
            issued = self._db.row(
                "SELECT COALESCE(SUM(amount >> 32), 0), COALESCE(SUM(amount & 4294967295), 0)"
                " FROM coins"
            )
            held = self._db.all(
                "SELECT titles.owner, SUM((slices.hi - slices.lo) >> 32),"
                " SUM((slices.hi - slices.lo) & 4294967295)"
                " FROM slices LEFT JOIN titles USING (title_id) GROUP BY titles.owner"
            )
        owners = {owner: (high << 32) + low for owner, high, low in held}
        redeemed = owners.pop(None, 0)
        return {
            "issued_fen": (issued[0] << 32) + issued[1],
            "live_fen": sum(owners.values()),
            "redeemed_fen": redeemed,
            "owners": {owner.hex(): fen for owner, fen in sorted(owners.items())},
        }

    def check(self) -> None:
        """Prove the ledger's rule for every serial: its slices cover [0, amount), each fen once.

        Also that each live slice lies within its title and is not spent under it. Raises LedgerError
        with the serial.
        """
        with self._db.reading():
            rows = self._db.all(
                "SELECT coins.serial, coins.amount, slices.lo, slices.hi, slices.title_id,"
                " titles.serial, titles.lo, titles.hi FROM coins LEFT JOIN slices USING (serial)"
                " LEFT JOIN titles USING (title_id) ORDER BY coins.serial, slices.lo"
            )
            spent = self._db.one(
                "SELECT slices.serial FROM slices JOIN spends USING (serial, title_id)"
                " WHERE spends.lo < slices.hi AND spends.hi > slices.lo LIMIT 1"
            )
        if spent is not None:
            raise _broken(spent[0], "a live slice is recorded as spent under its title")
        covered: dict[bytes, int] = {}
        amounts: dict[bytes, int] = {}
        for serial, amount, lo, hi, title_id, of, title_lo, title_hi in rows:
            amounts[serial] = amount
            if lo != covered.get(serial, 0) or hi <= lo:
                raise _broken(serial, f"its slices have a gap or overlap at fen {lo}")
            if title_id is not None and not (of == serial and title_lo <= lo and hi <= title_hi):
                raise _broken(serial, f"the slice at fen {lo} is not within its title")
            covered[serial] = hi
        for serial, amount in amounts.items():
            if covered[serial] != amount:
                raise _broken(serial, f"its slices end at fen {covered[serial]} of {amount}")

    # ---- settling -----------------------------------------------------------------------------------

    def _verify(self, claim: o.Claim) -> _Verified | None:
        """What needs no transaction: header, titles known and of one owner, bounds, signature."""
        if not self.trust.accepts(claim.header):
            return None
        titles = []
        for item in claim.inputs:
            row = self._db.one("SELECT bytes FROM titles WHERE title_id = ?", item.title_id)
            if row is None:
                return None
            title = o.Title.decode(row[0])
            if item.lo < title.lo or item.hi > title.hi:
                return None
            titles.append(title)
        payer = titles[0].owner
        if any(title.owner != payer for title in titles):
            return None
        if not self.trust.signed_by(claim, payer):
            return None
        return _Verified(claim, object_id(claim), tuple(titles))

    def _settle_claim(self, verified: _Verified, cuts: _Cuts) -> o.Result:
        """Decide and register one claim; its first outcome if it was registered before."""
        known = self._result(verified.claim_id)
        if known is not None:
            return known
        claim = verified.claim
        if self._is_void(claim):
            result = _uniform(claim, o.VOIDED)
        elif self._clock() > claim.deadline + self.parameters.grace:
            result = _uniform(claim, o.EXPIRED)
        else:
            redeemed = claim.payee == self.trust.issuer_key
            owner = None if redeemed else claim.payee
            result = self._decide(verified, cuts, o.SETTLED, owner)
        self._register_claim(verified, result, deposited=True)
        return result

    def _decide(
        self, verified: _Verified, cuts: _Cuts, state: int, owner: bytes | None
    ) -> o.Result:
        """Interval by interval: to owner if it is wholly live under its title, else disputed."""
        outcomes = []
        for item, title in zip(verified.claim.inputs, verified.titles, strict=True):
            first = None
            if self._take(verified, item, title, cuts, state, owner):
                became = state
            else:
                became = o.DISPUTED
                first = self._first_overlap(item, title.serial, cuts)
            outcomes.append(
                o.Outcome(
                    title_id=item.title_id, lo=item.lo, hi=item.hi, state=became, claim_id=first
                )
            )
        return o.Result(claim_id=verified.claim_id, outcomes=tuple(outcomes))

    def _take(
        self,
        verified: _Verified,
        item: o.Input,
        title: o.Title,
        cuts: _Cuts,
        state: int,
        owner: bytes | None,
    ) -> bool:
        """Decide to move the whole interval, if it is live under its title."""
        if cuts.overlapping(item.title_id, item.lo, item.hi) is not None:
            return False
        if self._live_slice(title.serial, item.title_id, item.lo, item.hi) is None:
            return False
        cuts.add(
            _Cut(item.title_id, title.serial, item.lo, item.hi, owner, verified.claim_id, state)
        )
        return True

    def _live_slice(self, serial: bytes, title_id: bytes, lo: int, hi: int) -> Any:
        """(lo, hi) of the slice live under the title that holds the whole of [lo, hi), or None."""
        row = self._db.one(
            "SELECT lo, hi, title_id FROM slices WHERE serial = ? AND lo <= ?"
            " ORDER BY lo DESC LIMIT 1",
            serial, lo,
        )  # fmt: skip
        return row if row is not None and row[1] >= hi and row[2] == title_id else None

    def _first_overlap(self, item: o.Input, serial: bytes, cuts: _Cuts) -> bytes | None:
        """The first registered claim that spent some of the interval under the same title."""
        row = self._db.one(
            "SELECT claim_id FROM spends WHERE serial = ? AND title_id = ? AND lo < ? AND hi > ?"
            " ORDER BY seq LIMIT 1",
            serial, item.title_id, item.hi, item.lo,
        )  # fmt: skip
        if row is not None:
            claim_id: bytes | None = row[0]
            return claim_id
        cut = cuts.overlapping(item.title_id, item.lo, item.hi)
        if cut is None:
            raise _broken(serial, "an interval is neither live nor spent under its title")
        return cut.claim_id

    def _register_claim(self, verified: _Verified, result: o.Result, *, deposited: bool) -> None:
        """Record a claim with its first outcome; evidence and blacklist where it repeats a payment.

        It does where any claim before it spends some of the same fen under the same title, whatever became
        of either: late, voided or reclaimed, two signatures are two signatures.
        """
        claim = verified.claim
        disputed = sum(x.hi - x.lo for x in result.outcomes if x.state == o.DISPUTED)
        loss = disputed if deposited else 0  # of a reclaim nobody bears one
        fund = min(loss, self.parameters.guarantee)
        self._db.execute(
            "INSERT INTO claims (claim_id, payer, bytes, time, result, fund, loss)"
            " VALUES (?,?,?,?,?,?,?)",
            verified.claim_id, verified.payer, claim.encode(), self._clock(), result.encode(), fund,
            loss - fund,
        )  # fmt: skip
        for item, title in zip(claim.inputs, verified.titles, strict=True):
            first = self._db.one(
                "SELECT claim_id FROM inputs WHERE serial = ? AND title_id = ? AND lo < ? AND hi > ?"
                " ORDER BY seq LIMIT 1",
                title.serial, item.title_id, item.hi, item.lo,
            )  # fmt: skip
            if first is not None:
                self._store_evidence(title, first["claim_id"], verified)
            self._db.execute(
                "INSERT INTO inputs (serial, title_id, lo, hi, claim_id) VALUES (?,?,?,?,?)",
                title.serial, item.title_id, item.lo, item.hi, verified.claim_id,
            )  # fmt: skip

    def _store_evidence(self, title: o.Title, first_id: bytes, second: _Verified) -> None:
        (first,) = self._db.row("SELECT bytes FROM claims WHERE claim_id = ?", first_id)
        evidence = o.Evidence(
            header=self.trust.header, title=title, claims=(o.Claim.decode(first), second.claim)
        )
        digest = object_id(evidence)
        self._db.execute(
            "INSERT INTO evidence (digest, bytes, claim_id, time) VALUES (?,?,?,?)",
            digest, evidence.encode(), second.claim_id, self._clock(),
        )  # fmt: skip
        self._list(title.owner, o.REASON_REPEAT_PAYMENT, digest)

    def _list(self, subject: bytes, reason: int, digest: bytes | None) -> None:
        """Put a key on the blacklist, unless it is there."""
        if self._is_listed(subject):
            return
        (sequence,) = self._db.row("SELECT COALESCE(MAX(sequence), 0) + 1 FROM blacklist")
        entry = self._signed(
            o.BlacklistEntry(
                header=self.trust.header,
                signer=self._key.key_id,
                sequence=sequence,
                subject=subject,
                reason=reason,
                time=self._clock(),
                digest=digest,
            )
        )
        self._db.execute(
            "INSERT INTO blacklist (sequence, subject, bytes) VALUES (?,?,?)",
            sequence, subject, entry.encode(),
        )  # fmt: skip

    # ---- reclaiming ---------------------------------------------------------------------------------

    def _reclaim_claim(self, reclaim: o.Reclaim, claim: o.Claim) -> o.Receipt:
        for void in reclaim.voids:
            self._need_header(void)
            self._need_payee_signature(void)
            if (void.payee, void.nonce, void.amount) != (claim.payee, claim.nonce, claim.amount):
                raise CenterRefused("void", "The void is for another claim; nothing was returned.")
        verified = self._verify(claim)
        digest = object_id(reclaim)
        if verified is None:
            return self._make_receipt(digest, [_uniform(claim, o.INVALID)], [])
        with self._db.transaction():
            known = self._result(verified.claim_id)
            open_states = (o.EXPIRED, o.VOIDED)
            if known is None or any(x.state in open_states for x in known.outcomes):
                due = self._clock() > claim.deadline + self.parameters.grace
                if not (due or reclaim.voids or self._is_void(claim)):
                    raise CenterRefused(
                        "not-yet",
                        "The payee may still deposit this claim; nothing was returned.",
                        hint="Wait until deadline and grace are over, or ask the payee for a void.",
                    )
                for void in reclaim.voids:
                    self._store_void(void)
            cuts = _Cuts()
            if known is None:
                result = self._decide(verified, cuts, o.RECLAIMED, verified.payer)
                self._register_claim(verified, result, deposited=False)
            else:
                result = self._reclaim_known(verified, known, cuts)
            self._move(cuts.all)
            titles = self._titles_led_to([verified.claim_id], o.RECLAIMED)
            return self._make_receipt(digest, [result], titles)

    def _reclaim_known(self, verified: _Verified, known: o.Result, cuts: _Cuts) -> o.Result:
        """Reclaim of a claim that was deposited before, without success: expired or voided.

        Its first outcome stays what a deposit of it brings; the receipt of the reclaim says what is now.
        """
        outcomes = []
        for item, title, outcome in zip(
            verified.claim.inputs, verified.titles, known.outcomes, strict=True
        ):
            if outcome.state in (o.EXPIRED, o.VOIDED):
                back = self._take(verified, item, title, cuts, o.RECLAIMED, title.owner)
                if not back:
                    first = self._first_overlap(item, title.serial, cuts)
                    back = first == verified.claim_id
                    outcome = outcome if back else _with_state(outcome, o.DISPUTED, first)
                if back:
                    outcome = _with_state(outcome, o.RECLAIMED, None)
            outcomes.append(outcome)
        return o.Result(claim_id=verified.claim_id, outcomes=tuple(outcomes))

    def _reclaim_title(self, reclaim: o.Reclaim, title_id: bytes) -> o.Receipt:
        row = self._db.one("SELECT bytes FROM titles WHERE title_id = ?", title_id)
        if row is None:
            raise _unknown("title")
        title = o.Title.decode(row[0])
        if self._clock() <= title.expiry + self.parameters.grace:
            raise CenterRefused(
                "not-yet",
                "The title has not expired, grace included; nothing was returned.",
                hint="Until then it can be spent, also to its own owner.",
            )
        with self._db.transaction():
            rows = self._db.all(
                "SELECT lo, hi FROM slices WHERE title_id = ? AND serial = ? ORDER BY lo LIMIT ?",
                title_id, title.serial, MAX_RENEWED,
            )  # fmt: skip
            self._move(
                [
                    _Cut(title_id, title.serial, lo, hi, title.owner, None, o.RECLAIMED)
                    for lo, hi in rows
                ]
            )
            # Those of this reclaim come first; when nothing was left, those of the one before.
            titles = self._db.all(
                "SELECT bytes FROM titles WHERE title_id IN (SELECT new_title FROM spends"
                " WHERE serial = ? AND title_id = ? AND claim_id IS NULL) ORDER BY seq DESC LIMIT ?",
                title.serial, title_id, len(rows) or MAX_RENEWED,
            )  # fmt: skip
            return self._make_receipt(
                object_id(reclaim), [], [o.Title.decode(data) for (data,) in titles]
            )

    # ---- where money moves --------------------------------------------------------------------------

    def _move(self, cuts: Sequence[_Cut]) -> None:
        """The one function in which value changes hands: cut the intervals out of their slices and put
        them under new titles of their new owners, or under none (redeemed).

        Intervals that go to the same owner and touch on one serial become one title. Every cut must be
        wholly live under its title; LedgerError, and with it no transaction, if it is not.
        """
        now = self._clock()
        for group in _touching(cuts):
            serial, owner = group[0].serial, group[0].owner
            new_title = None
            if owner is not None:
                (amount,) = self._db.row("SELECT amount FROM coins WHERE serial = ?", serial)
                title = self._make_title(serial, amount, group[0].lo, group[-1].hi, owner)
                new_title = object_id(title)
            for cut in group:
                row = self._live_slice(serial, cut.title_id, cut.lo, cut.hi)
                if row is None:
                    raise _broken(serial, "an interval that is to move is not live")
                lo, hi, _ = row
                if lo < cut.lo:
                    self._db.execute(
                        "UPDATE slices SET hi = ? WHERE serial = ? AND lo = ?", cut.lo, serial, lo
                    )
                else:
                    self._db.execute("DELETE FROM slices WHERE serial = ? AND lo = ?", serial, lo)
                if cut.hi < hi:
                    self._db.execute(
                        "INSERT INTO slices (serial, lo, hi, title_id) VALUES (?,?,?,?)",
                        serial, cut.hi, hi, cut.title_id,
                    )  # fmt: skip
                self._db.execute(
                    "INSERT INTO spends (serial, title_id, lo, hi, claim_id, state, new_title, time)"
                    " VALUES (?,?,?,?,?,?,?,?)",
                    serial, cut.title_id, cut.lo, cut.hi, cut.claim_id, cut.state, new_title, now,
                )  # fmt: skip
            self._db.execute(
                "INSERT INTO slices (serial, lo, hi, title_id) VALUES (?,?,?,?)",
                serial, group[0].lo, group[-1].hi, new_title,
            )  # fmt: skip

    # ---- making signed objects ----------------------------------------------------------------------

    def _signed(self, obj: Any) -> Any:
        return obj.signed(self._key.sign(obj.message()))

    def _make_title(self, serial: bytes, amount: int, lo: int, hi: int, owner: bytes) -> o.Title:
        """A new title under the serial's next epoch, stored."""
        (epoch,) = self._db.row(
            "UPDATE coins SET epoch = epoch + 1 WHERE serial = ? RETURNING epoch", serial
        )
        title: o.Title = self._signed(
            o.Title(
                header=self.trust.header,
                signer=self._key.key_id,
                serial=serial,
                amount=amount,
                lo=lo,
                hi=hi,
                owner=owner,
                epoch=epoch,
                expiry=self._clock() + self.parameters.title_lifetime,
            )
        )
        self._db.execute(
            "INSERT INTO titles (title_id, serial, epoch, lo, hi, owner, bytes)"
            " VALUES (?,?,?,?,?,?,?)",
            object_id(title), serial, epoch, lo, hi, owner, title.encode(),
        )  # fmt: skip
        return title

    def _make_receipt(
        self, digest: bytes, results: Sequence[o.Result], titles: Sequence[o.Title]
    ) -> o.Receipt:
        receipt: o.Receipt = self._signed(
            o.Receipt(
                header=self.trust.header,
                signer=self._key.key_id,
                digest=digest,
                time=self._clock(),
                results=tuple(results),
                titles=tuple(titles),
            )
        )
        return receipt

    def _make_risk(self, certificate: o.Certificate, sequence: int) -> o.RiskParameters:
        limits = self.parameters.tiers[certificate.tier or 0]
        risk: o.RiskParameters = self._signed(
            o.RiskParameters(
                header=self.trust.header,
                signer=self._key.key_id,
                subject=certificate.subject,
                sequence=sequence,
                time=self._clock(),
                per_payment=min(limits.per_payment, certificate.per_payment or 0),
                cumulative=limits.cumulative,
                count=limits.count,
                pin_free=limits.pin_free,
                window=self.parameters.window,
                horizon=self.parameters.horizon,
            )
        )
        return risk

    # ---- reading ------------------------------------------------------------------------------------

    def _receipt(self, digest: bytes) -> o.Receipt | None:
        row = self._db.one("SELECT receipt FROM deposits WHERE digest = ?", digest)
        return None if row is None else o.Receipt.decode(row[0])

    def _result(self, claim_id: bytes) -> o.Result | None:
        row = self._db.one("SELECT result FROM claims WHERE claim_id = ?", claim_id)
        return None if row is None else o.Result.decode(row[0])

    def _titles_led_to(self, claim_ids: Sequence[bytes], state: int) -> list[o.Title]:
        """The titles that these claims' intervals became, each once, in the claims' order."""
        found: dict[bytes, o.Title] = {}
        for claim_id in claim_ids:
            for title_id, data in self._db.all(
                "SELECT titles.title_id, titles.bytes FROM spends"
                " JOIN titles ON titles.title_id = spends.new_title"
                " WHERE spends.claim_id = ? AND spends.state = ? ORDER BY spends.seq",
                claim_id, state,
            ):  # fmt: skip
                if title_id not in found:
                    found[title_id] = o.Title.decode(data)
        return list(found.values())

    def _title_of_epoch(self, serial: bytes, epoch: int) -> o.Title:
        (data,) = self._db.row(
            "SELECT bytes FROM titles WHERE serial = ? AND epoch = ?", serial, epoch
        )
        return o.Title.decode(data)

    def _card(self, key: bytes) -> tuple[o.Certificate, int]:
        row = self._db.one("SELECT certificate, sequence FROM cards WHERE subject = ?", key)
        if row is None:
            raise _unknown("card")
        return o.Certificate.decode(row[0]), row[1]

    def _is_void(self, claim: o.Claim) -> bool:
        row = self._db.one(
            "SELECT 1 FROM voids WHERE payee = ? AND nonce = ? AND amount = ?",
            claim.payee, claim.nonce, claim.amount,
        )  # fmt: skip
        return row is not None

    def _is_listed(self, key: bytes) -> bool:
        return self._db.one("SELECT 1 FROM blacklist WHERE subject = ?", key) is not None

    def _store_void(self, void: o.Void) -> None:
        self._db.execute(
            "INSERT INTO voids (payee, nonce, amount, bytes, time) VALUES (?,?,?,?,?)"
            " ON CONFLICT DO NOTHING",
            void.payee, void.nonce, void.amount, void.encode(), self._clock(),
        )  # fmt: skip

    # ---- refusing -----------------------------------------------------------------------------------

    def _need_header(self, obj: Any) -> None:
        if not self.trust.accepts(obj.header):
            raise CenterRefused(
                "network",
                "This object is of another network, version or suite; nothing was changed.",
                hint="Check the center's address.",
            )

    def _need_payee_signature(self, void: o.Void) -> None:
        if not self.trust.signed_by(void, void.payee):
            raise _refused_signature("void", "its payee")

    def _need_unexpired(self, certificate: o.Certificate) -> None:
        if certificate.expiry <= self._clock():
            raise CenterRefused(
                "expired",
                "The card's certificate has expired.",
                hint="Have it renewed at the bank.",
            )

    def _need_unlisted(self, key: bytes) -> None:
        if self._is_listed(key):
            raise CenterRefused(
                "blacklisted",
                "This card is on the blacklist; its offline limits are not renewed.",
                hint="Its owner has to see the bank; the evidence is in the blacklist entry.",
            )


def _touching(cuts: Sequence[_Cut]) -> Iterator[list[_Cut]]:
    """Group cuts that go to the same owner and touch on one serial, in order of (serial, lo)."""
    ordered = sorted(cuts, key=lambda cut: (cut.serial, cut.owner or b"", cut.lo))
    group: list[_Cut] = []
    for cut in ordered:
        if group:
            last = group[-1]
            if (last.serial, last.owner, last.hi) != (cut.serial, cut.owner, cut.lo):
                yield group
                group = []
        group.append(cut)
    if group:
        yield group


def _uniform(claim: o.Claim, state: int) -> o.Result:
    """A result in which every interval ended the same way."""
    return o.Result(
        claim_id=object_id(claim),
        outcomes=tuple(
            o.Outcome(title_id=item.title_id, lo=item.lo, hi=item.hi, state=state)
            for item in claim.inputs
        ),
    )


def _is_invalid(result: o.Result) -> bool:
    return result.outcomes[0].state == o.INVALID


def _with_state(outcome: o.Outcome, state: int, claim_id: bytes | None) -> o.Outcome:
    return o.Outcome(
        title_id=outcome.title_id, lo=outcome.lo, hi=outcome.hi, state=state, claim_id=claim_id
    )


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _unknown(what: str) -> CenterRefused:
    return CenterRefused("unknown", f"The center knows no such {what}.", status=404)


def _refused_signature(what: str, whose: str) -> CenterRefused:
    return CenterRefused(
        "signature", f"The {what} is not signed by {whose} of this network; nothing was changed."
    )


def _broken(serial: bytes, why: str) -> LedgerError:
    return LedgerError(
        f"The ledger is inconsistent for serial {serial.hex()}: {why}. Nothing was changed.",
        hint="Stop the center, keep the file, and restore the last backup that passes the check.",
        serial=serial.hex(),
    )

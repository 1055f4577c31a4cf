# SPDX-License-Identifier: Apache-2.0
"""Replays a log alone, and proves what the center signed in it (protocols/spec/log.md, Audit).

In memory is what is live now: coins of which some fen are live, with their slices, and the titles that these
are under, some 700 bytes for each title with its slice, and what a transaction has begun and not ended. All
that must never be forgotten (who owned a title that is spent, which claims there were) is in a temporary
file of SQLite's, some 250 bytes for each payment, which nobody else sees and which is gone at the end.
"""

from __future__ import annotations

import heapq
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from chipcash.evidence import EvidenceFacts, EvidenceInvalid, verify_evidence
from chipcash.log.errors import AuditFailed
from chipcash.log.facts import fact_of
from chipcash.log.note import Checkpoint
from chipcash.log.reader import LogReader
from chipcash.log.scope import WHOLE, Scope
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["CoinState", "Replay", "Slice", "Totals", "audit"]

_SCHEMA = """
CREATE TABLE coins (serial BLOB PRIMARY KEY, amount INT, epoch INT) WITHOUT ROWID;
CREATE TABLE titles (title_id BLOB PRIMARY KEY, serial BLOB, lo INT, hi INT, owner BLOB, expiry INT,
    longest INT) WITHOUT ROWID;
CREATE TABLE claims (claim_id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE inputs (title_id BLOB, lo INT, claim_id BLOB, hi INT, state INT,
    PRIMARY KEY (title_id, lo, claim_id)) WITHOUT ROWID;
CREATE TABLE moves (title_id BLOB, lo INT, hi INT, claim_id BLOB, PRIMARY KEY (title_id, lo)) WITHOUT ROWID;
CREATE TABLE voids (payee BLOB, nonce BLOB, amount INT, PRIMARY KEY (payee, nonce, amount)) WITHOUT ROWID;
CREATE TABLE evidence (digest BLOB PRIMARY KEY, payer BLOB) WITHOUT ROWID;
CREATE TABLE listed (subject BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE cards (subject BLOB PRIMARY KEY, expiry INT) WITHOUT ROWID;
"""

_UNDONE = (o.EXPIRED, o.VOIDED)
"""First outcomes of an interval that a reclaim may still bring back."""


@dataclass(frozen=True)
class Slice:
    """Fen [lo, hi) of a coin, live under a title of an owner; both None where redeemed or recoined."""

    lo: int
    hi: int
    title_id: bytes | None
    owner: bytes | None


@dataclass(frozen=True)
class CoinState:
    """A coin at the end of the log. epoch: of its newest title; slices: a partition of [0, amount).

    Slices that touch and are under the same title, or under none, are one.
    """

    serial: bytes
    amount: int
    epoch: int
    slices: tuple[Slice, ...]


@dataclass
class Totals:
    """What was in the log: numbers of facts, and fen."""

    entries: int = 0
    coins: int = 0
    titles: int = 0
    claims: int = 0
    moves: int = 0
    voids: int = 0
    evidence: int = 0
    blacklisted: int = 0
    certificates: int = 0
    issued_fen: int = 0
    live_fen: int = 0
    redeemed_fen: int = 0
    recoined_fen: int = 0


@dataclass(slots=True)
class _Coin:
    """slices: (lo, hi, title_id or None), in order, the whole amount once. recoined: made of other coins."""

    amount: int
    owner: bytes
    recoined: bool
    epoch: int = 0
    slices: list[tuple[int, int, bytes | None]] = field(default_factory=list)


@dataclass(slots=True)
class _Title:
    """filled: up to where moves have made it; recoined: out of other coins; live: fen under it; longest:
    interval that a claim spends; due: what claims have settled and is to move: (lo, hi, claim_id)."""

    serial: bytes
    lo: int
    hi: int
    owner: bytes
    expiry: int
    filled: int
    recoined: bool = False
    live: int = 0
    longest: int = 0
    due: list[tuple[int, int, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class _Due:
    """A move that the result of a claim promises. entry: the claim's."""

    hi: int
    state: int
    payee: bytes
    entry: int


class Replay:
    """Takes a log's entries in their order, and refuses the first that breaks a rule. A context manager.

    `add` each entry, then `finish`; both raise AuditFailed with the entry's number. trust: the network;
    scope: what the log is to hold.
    """

    def __init__(self, trust: Trust, scope: Scope = WHOLE) -> None:
        self.trust = trust
        self.scope = scope
        self._issuer = trust.issuer_key
        self.totals = Totals()
        self._coins: dict[bytes, _Coin] = {}
        self._titles: dict[bytes, _Title] = {}
        # What a transaction has begun, each with the number of the entry that began it.
        self._unborn: dict[bytes, int] = {}  # serials of coins without a title
        self._open: dict[bytes, int] = {}  # titles that moves have not filled
        self._due: dict[tuple[bytes, bytes, int], _Due] = {}  # by claim, title, lo
        self._repeated: dict[tuple[bytes, bytes], int] = {}  # title and claim that lack evidence
        self._accused: dict[bytes, tuple[int, bytes]] = {}  # keys to be listed, with the evidence
        self._db = sqlite3.connect("", isolation_level=None)  # a temporary file, gone when closed
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget it all."""
        self._db.close()

    def add(self, data: bytes) -> None:
        """Take the next entry. Raises AuditFailed; nothing behind that entry means anything."""
        try:
            entry = o.LogEntry.decode(data)
        except WireError as error:
            self._fail(f"it is no log entry: {error}.")
        if not self.trust.accepts(entry.header):
            self._fail("it is of another network, version or suite.")
        fact = fact_of(entry)
        if isinstance(fact, o.Coin):
            self._coin(fact)
        elif isinstance(fact, o.Title):
            self._title(fact)
        elif isinstance(fact, o.Claim):
            self._claim(fact, entry.results[0], entry.time)
        elif isinstance(fact, o.Move):
            self._move(fact, entry.time)
        elif isinstance(fact, o.Void):
            self._void(fact)
        elif isinstance(fact, o.Evidence):
            self._evidence(fact)
        elif isinstance(fact, o.BlacklistEntry):
            self._listing(fact)
        else:
            self._certificate(fact, entry.time)
        self.totals.entries += 1

    def finish(self) -> Totals:
        """The end of the log: nothing may be half done, and every fen must be somewhere, once."""
        for serial, entry in self._unborn.items():
            self._unfinished(entry, f"the coin {serial.hex()} got no title.")
        for title_id, entry in self._open.items():
            filled, title = self._titles[title_id].filled, self._titles[title_id]
            self._unfinished(
                entry,
                f"the title {title_id.hex()} promises fen {title.lo} to {title.hi}, and only those up to "
                f"{filled} were moved under it.",
            )
        for (claim_id, _, lo), due in self._due.items():
            self._unfinished(
                due.entry,
                f"the claim {claim_id.hex()} ended as {o.OUTCOMES[due.state]}, and its fen {lo} to {due.hi} "
                "did not move.",
            )
        for (_, claim_id), entry in self._repeated.items():
            self._unfinished(
                entry, f"the claim {claim_id.hex()} repeats a payment, and there is no evidence."
            )
        for subject, (entry, _) in self._accused.items():
            self._unfinished(
                entry, f"the key {subject.hex()} paid twice and is not on the blacklist."
            )
        live = gone = 0
        for coin in self.coins():
            at = 0
            for part in coin.slices:
                if part.lo != at:
                    raise AssertionError(f"the replay itself lost a fen of {coin.serial.hex()}")
                at = part.hi
                if part.title_id is None:
                    gone += part.hi - part.lo
                else:
                    live += part.hi - part.lo
            if at != coin.amount:
                raise AssertionError(f"the replay itself lost a fen of {coin.serial.hex()}")
        # What became another coin is gone from its own, and live or redeemed there.
        self.totals.live_fen = live
        self.totals.redeemed_fen = redeemed = gone - self.totals.recoined_fen
        assert self.totals.issued_fen == live + redeemed
        return self.totals

    def coins(self) -> Iterator[CoinState]:
        """Every coin as it is now, in the order of serials: what a ledger has to agree with."""
        gone = (
            CoinState(serial, amount, epoch, (Slice(0, amount, None, None),))
            for serial, amount, epoch in self._db.execute(
                "SELECT serial, amount, epoch FROM coins ORDER BY serial"
            )
        )
        live = (self._state(serial, self._coins[serial]) for serial in sorted(self._coins))
        return heapq.merge(gone, live, key=lambda coin: coin.serial)

    # ---- facts --------------------------------------------------------------------------------------

    def _coin(self, coin: o.Coin) -> None:
        recoined = self.trust.signed_by_center(coin)
        if not recoined and not self.trust.signed_by_issuer(coin):
            self._fail(
                "the coin is not signed by the issuing library: this money was never issued."
            )
        serial = coin.serial
        if not self.scope.holds(serial):
            self._fail(f"the coin {serial.hex()} belongs in another log of this center.")
        if serial in self._coins or self._known("coins", "serial", serial):
            self._fail(f"the serial {serial.hex()} is registered for the second time.")
        self._coins[serial] = _Coin(coin.amount, coin.owner, recoined)
        self._unborn[serial] = self.totals.entries
        self.totals.coins += 1
        if not recoined:  # else it has to be filled, by its title
            self.totals.issued_fen += coin.amount

    def _title(self, title: o.Title) -> None:
        if not self.trust.signed_by_center(title):
            self._fail("the title is not signed by the registration center.")
        coin = self._coins.get(title.serial)
        if coin is None:
            self._fail(f"the title is for the coin {title.serial.hex()}, of which nothing is live.")
        if title.amount != coin.amount:
            self._fail(f"the title says {title.amount} fen of a coin that has {coin.amount}.")
        if title.epoch != coin.epoch + 1:
            self._fail(
                f"the title is number {title.epoch} of its coin, where {coin.epoch + 1} is next: a title was "
                "left out, or made twice."
            )
        coin.epoch = title.epoch
        title_id = object_id(title)
        made = _Title(title.serial, title.lo, title.hi, title.owner, title.expiry, title.lo)
        if title.epoch == 1:
            if (title.lo, title.hi, title.owner) != (0, coin.amount, coin.owner):
                self._fail("the coin's first title is not for all of it, or not for its owner.")
            made.recoined = coin.recoined
            coin.slices = [(0, title.hi, title_id)]
            del self._unborn[title.serial]
        if title.epoch == 1 and not coin.recoined:
            made.filled, made.live = title.hi, title.hi
        else:
            self._open[title_id] = self.totals.entries
        self._titles[title_id] = made
        self.totals.titles += 1

    def _claim(self, claim: o.Claim, result: o.Result, time: int) -> None:
        claim_id = object_id(claim)
        if result.claim_id != claim_id:
            self._fail("the result is another claim's.")
        if self._known("claims", "claim_id", claim_id):
            self._fail(f"the claim {claim_id.hex()} is registered for the second time.")
        found = [(item, self._claimed(item)) for item in claim.inputs]
        inputs = [item for item, title in found if title is not None]
        titles = [title for _, title in found if title is not None]
        if not titles:
            self._fail("the claim spends nothing that is in this log.")
        payer = titles[0].owner
        if any(title.owner != payer for title in titles):
            self._fail("the claim spends titles of several owners.")
        if not self.trust.signed_by(claim, payer):
            self._fail(
                "the claim is not signed by the owner of its titles: nobody ordered this payment."
            )
        spent = [(item.title_id, item.lo, item.hi) for item in inputs]
        if spent != [(x.title_id, x.lo, x.hi) for x in result.outcomes]:
            self._fail("the result tells of other intervals than the claim.")
        self._check_states(claim, {x.state for x in result.outcomes}, time)
        for outcome, title in zip(result.outcomes, titles, strict=True):
            self._outcome(outcome, title, claim, claim_id)
        self._db.execute("INSERT INTO claims VALUES (?)", (claim_id,))
        self.totals.claims += 1

    def _claimed(self, item: o.Input) -> _Title | None:
        """The title that a claim spends; None if it is another partition's, as far as this one can see."""
        title = self._find(item.title_id)
        if title is None:
            if self.scope.of > 1:
                return None
            self._fail(
                f"the claim spends the title {item.title_id.hex()}, which is not in the log."
            )
        if item.title_id in self._open:
            self._fail("the claim spends a title that was not complete.")
        if item.lo < title.lo or item.hi > title.hi:
            self._fail("the claim spends more than its title holds.")
        return title

    def _check_states(self, claim: o.Claim, states: set[int], time: int) -> None:
        """Outcomes that can stand beside each other, with the void and the time that they need."""
        void = self._db.execute(
            "SELECT 1 FROM voids WHERE payee = ? AND nonce = ? AND amount = ?",
            (claim.payee, claim.nonce, claim.amount),
        ).fetchone()
        if states == {o.EXPIRED}:
            if time <= claim.deadline:
                self._fail("the claim is called expired before its deadline.")
        elif states == {o.VOIDED}:
            if void is None:
                self._fail("the claim is called voided, and its payee has signed no void.")
        elif states <= {o.RECLAIMED, o.DISPUTED} and o.RECLAIMED in states:
            if void is None and time <= claim.deadline:
                self._fail("the claim is taken back before its deadline, and without a void.")
        elif not states <= {o.SETTLED, o.DISPUTED}:
            names = ", ".join(sorted(o.OUTCOMES[state] for state in states))
            self._fail(f"one claim cannot end as {names}.")
        elif void is not None and o.SETTLED in states:
            self._fail("the claim is settled, although its payee has voided it.")

    def _outcome(self, outcome: o.Outcome, title: _Title, claim: o.Claim, claim_id: bytes) -> None:
        """One interval of a claim: whether it could end so, and what is to follow."""
        title_id, lo, hi, state = outcome.title_id, outcome.lo, outcome.hi, outcome.state
        waiting = [each for each in title.due if each[0] < hi and each[1] > lo]
        free = not waiting and self._is_live(title, title_id, lo, hi)
        if state in (o.SETTLED, o.RECLAIMED):
            if not free:
                self._fail(
                    f"fen {lo} to {hi} of the title {title_id.hex()} are {o.OUTCOMES[state]} although they "
                    "had been spent: this is money paid twice."
                )
            self._due[claim_id, title_id, lo] = _Due(hi, state, claim.payee, self.totals.entries)
            title.due.append((lo, hi, claim_id))
        elif state == o.DISPUTED:
            if free:
                self._fail(
                    f"fen {lo} to {hi} of the title {title_id.hex()} are disputed, and were free."
                )
            first = {each[2] for each in waiting} | {
                found
                for (found,) in self._db.execute(
                    "SELECT claim_id FROM moves WHERE title_id = ? AND lo < ? AND hi > ?",
                    (title_id, hi, lo),
                )
            }
            if outcome.claim_id not in first:
                self._fail("the claim is disputed because of one that did not move these fen.")
        if (state != o.DISPUTED) and outcome.claim_id is not None:
            self._fail("only what is disputed has an earlier claim.")
        earlier = self._db.execute(
            "SELECT 1 FROM inputs WHERE title_id = ? AND lo > ? AND lo < ? AND hi > ? LIMIT 1",
            (title_id, lo - title.longest, hi, lo),
        ).fetchone()
        if earlier is not None:
            self._repeated[title_id, claim_id] = self.totals.entries
        self._db.execute(
            "INSERT INTO inputs VALUES (?,?,?,?,?)", (title_id, lo, claim_id, hi, state)
        )
        if hi - lo > title.longest:
            title.longest = hi - lo
            if title_id not in self._titles:
                self._db.execute(
                    "UPDATE titles SET longest = ? WHERE title_id = ?", (title.longest, title_id)
                )

    def _move(self, move: o.Move, time: int) -> None:
        title_id, lo, hi = move.title_id, move.lo, move.hi
        title = self._titles.get(title_id)
        if title is None or not self._is_live(title, title_id, lo, hi):
            self._fail(
                f"fen {lo} to {hi} are moved out of the title {title_id.hex()}, under which they are not "
                "live: this is money moved twice, or money that was never there."
            )
        if title_id in self._open:
            self._fail("money is moved out of a title that is not complete.")
        owner = self._ordered(move, title, time)
        coin = self._coins[title.serial]
        if move.new_title_id is None:
            if owner != self._issuer:
                self._fail("the money is redeemed although its payee is not the issuing library.")
            under = None
        else:
            under = self._fill(move, title.serial, owner)
        _cut(coin.slices, lo, hi, under)
        self._db.execute("INSERT INTO moves VALUES (?,?,?,?)", (title_id, lo, hi, move.claim_id))
        title.live -= hi - lo
        self.totals.moves += 1
        self._let_go(title_id, title, coin)

    def _ordered(self, move: o.Move, title: _Title, time: int) -> bytes:
        """Who the money of a move goes to, by the claim or the expiry that allows it."""
        if move.claim_id is None:
            if time <= title.expiry:
                self._fail("a title is taken back that had not expired.")
            if any(each[0] < move.hi and each[1] > move.lo for each in title.due):
                self._fail("fen are taken back that a claim had just settled.")
            return title.owner
        due = self._due.pop((move.claim_id, move.title_id, move.lo), None)
        if due is not None:
            if (due.hi, due.state) != (move.hi, move.state):
                self._fail("what moves is not what the claim's result says.")
            title.due.remove((move.lo, move.hi, move.claim_id))
            return due.payee if move.state == o.SETTLED else title.owner
        found = self._db.execute(
            "SELECT hi, state FROM inputs WHERE title_id = ? AND lo = ? AND claim_id = ?",
            (move.title_id, move.lo, move.claim_id),
        ).fetchone()
        if found is None or found[0] != move.hi:
            self._fail("no claim in the log orders this move.")
        if move.state != o.RECLAIMED or found[1] not in _UNDONE:
            self._fail("the claim did not end so that this could move by it.")
        return title.owner

    def _fill(self, move: o.Move, serial: bytes, owner: bytes) -> bytes | None:
        """Put fen under a new title, from its lo to its hi without a gap. What they are under on their own
        coin from now on: that title, or None if they became another coin."""
        title_id, lo, hi = move.new_title_id, move.lo, move.hi
        new = None if title_id is None else self._titles.get(title_id)
        if new is None or title_id is None or title_id not in self._open:
            self._fail("the money goes under a title that is not in the log, or is complete.")
        if new.owner != owner or owner == self._issuer:
            self._fail("the money goes to somebody else than the one whom it was paid to.")
        if new.recoined:
            if move.state != o.SETTLED:
                self._fail("money that goes back to its payer becomes another coin.")
            self.totals.recoined_fen += hi - lo
            lo, hi = new.filled, new.filled + hi - lo
        elif new.serial != serial:
            self._fail("the money goes under a title of another coin.")
        if lo != new.filled or hi > new.hi:
            self._fail(
                f"fen {lo} to {hi} go under a title where fen {new.filled} is next, and {new.hi} the end."
            )
        new.filled = hi
        new.live += hi - lo
        if hi == new.hi:
            del self._open[title_id]
        return None if new.recoined else title_id

    def _void(self, void: o.Void) -> None:
        if not self.trust.signed_by(void, void.payee):
            self._fail("the void is not signed by its payee.")
        self._once(
            "INSERT INTO voids VALUES (?,?,?)", (void.payee, void.nonce, void.amount), "the void"
        )
        self.totals.voids += 1

    def _evidence(self, evidence: o.Evidence) -> None:
        try:
            facts = verify_evidence(evidence, self.trust)
        except EvidenceInvalid as error:
            self._fail(f"the evidence accuses a key and proves nothing: {error.message}")
        if self.scope.coins:
            self._need_both_claims(facts)
        digest = object_id(evidence)
        self._once("INSERT INTO evidence VALUES (?,?)", (digest, facts.payer), "the evidence")
        if self.scope.cards and not self._known("listed", "subject", facts.payer):
            self._accused.setdefault(facts.payer, (self.totals.entries, digest))
        self.totals.evidence += 1

    def _need_both_claims(self, facts: EvidenceFacts) -> None:
        """Evidence is about two claims in the log, and the later one had none on this title yet."""
        first, second = facts.claim_ids
        entry = self._repeated.pop((facts.title_id, second), None)
        known = self._db.execute(
            "SELECT 1 FROM inputs WHERE title_id = ? AND lo <= ? AND hi >= ? AND claim_id = ?",
            (facts.title_id, facts.lo, facts.hi, first),
        ).fetchone()
        if entry is None or known is None or self._find(facts.title_id) is None:
            self._fail(
                "the evidence is not about two claims that are in the log, the later one last."
            )

    def _listing(self, entry: o.BlacklistEntry) -> None:
        if not self.scope.cards:
            self._fail("the blacklist belongs in the home log of this center.")
        if not self.trust.signed_by_center(entry):
            self._fail("the blacklist entry is not signed by the registration center.")
        if entry.sequence != self.totals.blacklisted + 1:
            following = self.totals.blacklisted + 1
            self._fail(
                f"the blacklist entry is number {entry.sequence}, where {following} is next."
            )
        if entry.reason == o.REASON_REPEAT_PAYMENT:
            found = self._db.execute(
                "SELECT payer FROM evidence WHERE digest = ?", (entry.digest,)
            ).fetchone()
            if found is None or found[0] != entry.subject:
                self._fail("a key is called a repeat payer's, and no evidence in the log says so.")
        elif entry.reason != o.REASON_LOST or entry.digest is not None:
            self._fail("a key is on the blacklist for no reason that there is.")
        self._once("INSERT INTO listed VALUES (?)", (entry.subject,), "the key's listing")
        self._accused.pop(entry.subject, None)
        self.totals.blacklisted += 1

    def _certificate(self, certificate: o.Certificate, time: int) -> None:
        if not self.scope.cards:
            self._fail("the certificate belongs in the home log of this center.")
        if not self.trust.signed_by_certification(certificate):
            self._fail("the certificate is not signed by the certification center.")
        if certificate.role != o.ROLE_CARD:
            self._fail("the certificate is not a card's.")
        subject = certificate.subject
        if certificate.expiry <= time:
            self._fail("the certificate had expired when it was registered.")
        if self._known("listed", "subject", subject):
            self._fail("the certificate is for a key on the blacklist.")
        before = self._db.execute(
            "SELECT expiry FROM cards WHERE subject = ?", (subject,)
        ).fetchone()
        if before is not None and before[0] >= certificate.expiry:
            self._fail("the certificate does not expire later than the one before it.")
        self._db.execute("INSERT OR REPLACE INTO cards VALUES (?,?)", (subject, certificate.expiry))
        self.totals.certificates += 1

    # ---- state --------------------------------------------------------------------------------------

    def _find(self, title_id: bytes) -> _Title | None:
        """A title, also one under which nothing is live any more."""
        found = self._titles.get(title_id)
        if found is not None:
            return found
        row = self._db.execute(
            "SELECT serial, lo, hi, owner, expiry, hi, 0, 0, longest FROM titles WHERE title_id = ?",
            (title_id,),
        ).fetchone()
        return None if row is None else _Title(*row)

    def _is_live(self, title: _Title, title_id: bytes, lo: int, hi: int) -> bool:
        """Whether all of [lo, hi) is live under the title."""
        coin = self._coins.get(title.serial)
        if coin is None:
            return False
        _, end, under = coin.slices[_at(coin.slices, lo)]
        return under == title_id and hi <= end

    def _let_go(self, title_id: bytes, title: _Title, coin: _Coin) -> None:
        """What is not live goes from memory to the file."""
        if title.live:
            return
        # A claim whose fen were live cannot wait here: what is due is live.
        del self._titles[title_id]
        values = (title.serial, title.lo, title.hi, title.owner, title.expiry, title.longest)
        self._db.execute("INSERT INTO titles VALUES (?,?,?,?,?,?,?)", (title_id, *values))
        if coin.slices == [(0, coin.amount, None)]:
            del self._coins[title.serial]
            self._db.execute(
                "INSERT INTO coins VALUES (?,?,?)", (title.serial, coin.amount, coin.epoch)
            )

    def _state(self, serial: bytes, coin: _Coin) -> CoinState:
        slices = (
            Slice(lo, hi, under, None if under is None else self._titles[under].owner)
            for lo, hi, under in coin.slices
        )
        return CoinState(serial, coin.amount, coin.epoch, tuple(slices))

    def _known(self, table: str, column: str, value: bytes) -> bool:
        query = f"SELECT 1 FROM {table} WHERE {column} = ?"
        return self._db.execute(query, (value,)).fetchone() is not None

    def _once(self, statement: str, values: Sequence[Any], what: str) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.IntegrityError:
            self._fail(f"{what} is registered for the second time.")

    def _fail(self, message: str) -> NoReturn:
        raise AuditFailed(self.totals.entries, message) from None

    def _unfinished(self, entry: int, message: str) -> NoReturn:
        raise AuditFailed(
            entry,
            message[:-1] + " up to the end of the log.",
            hint="A center signs its log only where all is done. Keep a copy of the log and its checkpoint.",
        )


def audit(reader: LogReader, checkpoint: Checkpoint, replay: Replay) -> Totals:
    """Replay the whole log of a checkpoint that the reader has verified.

    Afterwards replay.coins() is how the log ends: what the ledger's database has to say too. Raises
    AuditFailed, and then that entry is proven to be in the log, so that the center has to answer for it;
    LogInvalid if what was read is not the log; LogUnreachable.
    """
    for number, entry in enumerate(reader.entries(checkpoint)):
        try:
            replay.add(entry)
        except AuditFailed:
            reader.inclusion(checkpoint, number, entry)
            raise
    return replay.finish()


def _at(slices: list[tuple[int, int, bytes | None]], lo: int) -> int:
    """Where the slice is that holds the fen lo."""
    return bisect_right(slices, lo, key=lambda each: each[0]) - 1


def _cut(
    slices: list[tuple[int, int, bytes | None]], lo: int, hi: int, under: bytes | None
) -> None:
    """Put [lo, hi), which is inside one slice, under a title, or none; neighbours under the same are one."""
    at = _at(slices, lo)
    start, end, before = slices[at]
    first, last = at, at + 1
    parts: list[tuple[int, int, bytes | None]] = []
    if start < lo:
        parts.append((start, lo, before))
    elif at > 0 and slices[at - 1][2] == under:
        first, lo = at - 1, slices[at - 1][0]
    if hi < end:
        parts += [(lo, hi, under), (hi, end, before)]
    else:
        if last < len(slices) and slices[last][2] == under:
            hi = slices[last][1]
            last += 1
        parts.append((lo, hi, under))
    slices[first:last] = parts

# SPDX-License-Identifier: Apache-2.0
"""A ledger from an older backup, brought forward by its log: what was registered since is registered again.

The log holds every fact, signed by whom it should be, so that nothing has to be believed. It does not hold
what is nobody's money: receipts of deposits (the same claims bring the same outcomes, in a new receipt), open
challenges, and how often a card renewed its limits.
"""

from __future__ import annotations

from chipcash.center.errors import LedgerError
from chipcash.center.facts import LedgerFacts
from chipcash.center.registration import Center
from chipcash.center.storage import Storage
from chipcash.log.audit import Replay, audit
from chipcash.log.facts import fact_of
from chipcash.log.reader import LogReader
from chipcash.log.scope import scope_of
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["forget_receipts", "recover"]

_CLOCKS_S = 3600
"""By how much at most the clocks of a center's machines differ."""
_RENEWED = 1 << 16
"""How often at most a card renewed its limits since the backup: it takes none of a lower sequence."""


def recover(center: Center, reader: LogReader) -> int:
    """Register in a center's ledger what its log has more; how many facts that were. All or nothing.

    Nobody else may use the ledger. First all of the log is audited, and what the ledger has is compared with
    it. Raises AuditFailed, LogInvalid, LogUnreachable, LedgerError if they are not of one history.
    """
    checkpoint, _ = reader.checkpoint()
    with Replay(center.trust, scope_of(checkpoint.origin)) as replay:
        audit(reader, checkpoint, replay)
    entries = reader.entries(checkpoint)
    known = 0
    for known, fact in enumerate(LedgerFacts(center.storage, center.trust.header).facts(0), 1):
        entry = next(entries, None)
        if entry is None:
            return 0  # the ledger is the newer one: serving fills the log up
        if fact != (known, entry):
            raise LedgerError(
                f"Fact {known} of the ledger is not entry {known} of the log; nothing was changed.",
                hint="They are of different networks, or the ledger went on after an older backup was"
                " restored: take a backup of before that.",
            )
    number = known
    with center.storage.transaction():
        taker = _Taker(center)
        for number, entry in enumerate(entries, known + 1):
            taker.take(number, o.LogEntry.decode(entry))
        center.storage.execute("UPDATE sequence SET next = ?", number + 1)
        if number > known:
            taker.renew_cards()
    center.check()
    return number - known


def forget_receipts(home: Center, partition: Center) -> None:
    """Have a home ledger forget its receipts of deposits that a partition may have lost with what was not in
    its log: what is there is told again, in new receipts, and what is not is settled when it comes again."""
    last = 0
    facts = LedgerFacts(partition.storage, partition.trust.header)
    for _, entry in facts.facts(partition.facts() - 1):
        last = o.LogEntry.decode(entry).time
    home.storage.execute("DELETE FROM deposits WHERE time >= ?", last - _CLOCKS_S)


class _Taker:
    """Registers facts under their numbers, in a transaction."""

    def __init__(self, center: Center) -> None:
        self._center = center
        self._db: Storage = center.storage

    def take(self, seq: int, entry: o.LogEntry) -> None:
        """Register one fact."""
        fact = fact_of(entry)
        if isinstance(fact, o.Coin):
            self._db.execute(
                "INSERT INTO coins (serial, seq, amount, owner, bytes, epoch, time, recoined)"
                " VALUES (?,?,?,?,?,0,?,?)",
                fact.serial, seq, fact.amount, fact.owner, fact.encode(), entry.time,
                int(self._center.trust.signed_by_center(fact)),
            )  # fmt: skip
        elif isinstance(fact, o.Title):
            self._title(seq, fact, entry.time)
        elif isinstance(fact, o.Claim):
            self._claim(seq, fact, entry.results[0], entry.time)
        elif isinstance(fact, o.Move):
            self._move(seq, fact, entry.time)
        elif isinstance(fact, o.Void):
            self._db.execute(
                "INSERT INTO voids (payee, nonce, amount, seq, bytes, time) VALUES (?,?,?,?,?,?)",
                fact.payee, fact.nonce, fact.amount, seq, fact.encode(), entry.time,
            )  # fmt: skip
        elif isinstance(fact, o.Evidence):
            self._db.execute(
                "INSERT INTO evidence (digest, seq, bytes, claim, time) VALUES (?,?,?,?,?)",
                object_id(fact), seq, fact.encode(), self._accusing(fact), entry.time,
            )  # fmt: skip
        elif isinstance(fact, o.BlacklistEntry):
            self._db.execute(
                "INSERT INTO blacklist (sequence, seq, subject, bytes) VALUES (?,?,?,?)",
                fact.sequence, seq, fact.subject, fact.encode(),
            )  # fmt: skip
        else:
            self._certificate(seq, fact, entry.time)

    def renew_cards(self) -> None:
        """Have every card's next risk parameters be newer than any that it may have got."""
        for subject, data, sequence in self._db.all(
            "SELECT subject, certificate, sequence FROM cards ORDER BY subject"
        ):
            risk = self._center.make_risk(o.Certificate.decode(data), sequence + _RENEWED)
            self._db.execute(
                "UPDATE cards SET sequence = ?, risk = ? WHERE subject = ?",
                risk.sequence, risk.encode(), subject,
            )  # fmt: skip

    def _title(self, seq: int, title: o.Title, time: int) -> None:
        title_id = object_id(title)
        self._db.execute(
            "INSERT INTO titles (serial, epoch, seq, title_id, lo, hi, owner, bytes, time)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            title.serial, title.epoch, seq, title_id, title.lo, title.hi, title.owner,
            title.encode(), time,
        )  # fmt: skip
        self._db.execute("UPDATE coins SET epoch = ? WHERE serial = ?", title.epoch, title.serial)
        if title.epoch == 1:
            self._slice(title.serial, title.lo, title.hi, title_id)

    def _claim(self, seq: int, claim: o.Claim, result: o.Result, time: int) -> None:
        owner = b""
        # Those of a partition's intervals, where the claim has others too.
        for outcome in result.outcomes:
            serial, owner = self._db.row(
                "SELECT serial, owner FROM titles WHERE title_id = ?", outcome.title_id
            )
            if outcome.state not in (o.SETTLED, o.RECLAIMED):
                self._db.execute(
                    "INSERT INTO inputs (serial, title_id, lo, hi, claim) VALUES (?,?,?,?,?)",
                    serial, outcome.title_id, outcome.lo, outcome.hi, seq,
                )  # fmt: skip
        # By the policy of deposits: a claim that a reclaim registered, wholly disputed, looks the same.
        states = {outcome.state for outcome in result.outcomes}
        disputed = sum(x.hi - x.lo for x in result.outcomes if x.state == o.DISPUTED)
        loss = 0 if o.RECLAIMED in states else disputed
        fund = min(loss, self._center.parameters.guarantee)
        self._db.execute(
            "INSERT INTO claims (claim_id, seq, payer, bytes, time, result, fund, loss)"
            " VALUES (?,?,?,?,?,?,?,?)",
            object_id(claim), seq, owner, claim.encode(), time, result.encode(), fund, loss - fund,
        )  # fmt: skip

    def _move(self, seq: int, move: o.Move, time: int) -> None:
        serial, lo, hi = self._db.row(
            "SELECT serial, lo, hi FROM slices WHERE title_id = ? AND lo <= ? AND hi >= ?",
            move.title_id, move.lo, move.hi,
        )  # fmt: skip
        self._db.execute("DELETE FROM slices WHERE serial = ? AND lo = ?", serial, lo)
        if lo < move.lo:
            self._slice(serial, lo, move.lo, move.title_id)
        if move.hi < hi:
            self._slice(serial, move.hi, hi, move.title_id)
        under = move.new_title_id
        before = None
        if under is not None:
            (of,) = self._db.row("SELECT serial FROM titles WHERE title_id = ?", under)
            under = under if of == serial else None  # else it became another coin
            # The moves of a title follow each other, and become one slice.
            before = self._db.one(
                "SELECT lo FROM slices WHERE serial = ? AND hi = ? AND title_id = ?",
                serial, move.lo, under,
            )  # fmt: skip
        if before is not None:
            self._db.execute(
                "UPDATE slices SET hi = ? WHERE serial = ? AND lo = ?", move.hi, serial, before[0]
            )
        else:
            self._slice(serial, move.lo, move.hi, under)
        claim = None if move.claim_id is None else self._seq_of(move.claim_id)
        self._db.execute(
            "INSERT INTO spends (serial, title_id, lo, hi, seq, claim, state, new_title, time)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            serial, move.title_id, move.lo, move.hi, seq, claim, move.state, move.new_title_id, time,
        )  # fmt: skip

    def _certificate(self, seq: int, certificate: o.Certificate, time: int) -> None:
        subject, data = certificate.subject, certificate.encode()
        self._db.execute(
            "INSERT INTO certificates (subject, seq, bytes, time) VALUES (?,?,?,?)",
            subject, seq, data, time,
        )  # fmt: skip
        if self._db.one("SELECT 1 FROM cards WHERE subject = ?", subject) is not None:
            self._db.execute("UPDATE cards SET certificate = ? WHERE subject = ?", data, subject)
            return
        risk = self._center.make_risk(certificate, 1)
        self._db.execute(
            "INSERT INTO cards (subject, certificate, sequence, risk) VALUES (?,?,1,?)",
            subject, data, risk.encode(),
        )  # fmt: skip

    def _slice(self, serial: bytes, lo: int, hi: int, title_id: bytes | None) -> None:
        self._db.execute(
            "INSERT INTO slices (serial, lo, hi, title_id) VALUES (?,?,?,?)",
            serial, lo, hi, title_id,
        )  # fmt: skip

    def _accusing(self, evidence: o.Evidence) -> int:
        """The number of the claim that repeated a payment; 0 in a home ledger, which has no claims."""
        claim_id = object_id(evidence.claims[1])
        row = self._db.one("SELECT seq FROM claims WHERE claim_id = ?", claim_id)
        return 0 if row is None else int(row[0])

    def _seq_of(self, claim_id: bytes) -> int:
        (seq,) = self._db.row("SELECT seq FROM claims WHERE claim_id = ?", claim_id)
        return int(seq)

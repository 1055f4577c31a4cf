# SPDX-License-Identifier: Apache-2.0
"""A POS's directory and its books: who it is, what it knows, and where a payment changes its state."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chipcash import crypto
from chipcash.clock import Clock, system_clock
from chipcash.database import Row
from chipcash.pos import keys
from chipcash.pos import model as m
from chipcash.pos.errors import PosError
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import RequestState as R
from chipcash.pos.model import TransferKind
from chipcash.pos.store import Store, encrypt
from chipcash.terminal import Blacklist, Policy, VerifiedPayment
from chipcash.trust import FILE_NAME, Trust

__all__ = ["LEGAL", "Books", "Move", "request_of"]

_log = logging.getLogger(__name__)

_LAST = 1 << 62
"""Above the number of every payment."""

LEGAL: dict[P, frozenset[P]] = {
    P.PENDING: frozenset((P.SUBMITTED,)),
    P.SUBMITTED: frozenset((P.VERIFIED, P.DISPUTED, P.EXPIRED)),
    P.VERIFIED: frozenset((P.REDEEMED, P.SPENT)),
    P.DISPUTED: frozenset(),
    P.EXPIRED: frozenset(),
    P.REDEEMED: frozenset(),
    P.SPENT: frozenset(),
}
"""From which state a payment may go to which. A new one is PENDING."""


@dataclass(frozen=True)
class Move:
    """A payment's next state, and what else changes with it; None stays as it is.

    deposit: the nonce of that with which it becomes SUBMITTED; the others: what the center said.
    """

    claim_id: bytes
    to: P
    deposit: bytes | None = None
    settled_fen: int | None = None
    disputed_fen: int | None = None
    reason: str | None = None


class Books:
    """A merchant's books over one directory; what can be done with them is in the classes that build on this.
    See `Pos`."""

    def __init__(
        self,
        directory: str | Path,
        *,
        clock: Clock = system_clock,
        extended: bool = True,
        operator: str = "",
    ) -> None:
        self.directory = Path(directory)
        if not (self.directory / "pos.db").is_file():
            raise PosError(
                f"{self.directory} holds no POS.",
                hint="Give the folder of a POS, or make one with Pos.init (chipcash pos init).",
                path=str(self.directory),
            )
        custody = keys.custody_of(self.directory)
        key = custody.key()
        if key is None:
            raise PosError(
                f"The key of the till in {self.directory} is not where it has to be: {custody.path}.",
                hint="Restore it. Without it the till's money cannot be spent; what is pending can still be "
                "deposited for it.",
                path=str(self.directory),
            )
        self.key = key
        self.trust = Trust.load(self.directory / FILE_NAME)
        self.store = _open_store(self.directory / "pos.db", custody)
        self.operator = operator
        self._clock = clock
        self._extended = extended
        self._blacklist = Blacklist()
        if self.key.suite.id != self.trust.suite:
            self.close()
            raise PosError(
                f"The key of this POS is of suite {self.key.suite.name}, its network is not.",
                hint="Restore its key and the network file from the same backup.",
            )

    @classmethod
    def init(
        cls,
        directory: str | Path,
        trust: Trust,
        center_url: str,
        *,
        policy: Policy | None = None,
        clock: Clock = system_clock,
        extended: bool = True,
        custody: str = keys.FILE,
    ) -> Self:
        """Make a POS with a new key of the network's suite. Synchronise it before its first charge.

        directory: made if missing; custody: where its keys are made and kept, see chipcash.pos.keys. Raises
        PosError if a POS is there already, CryptoError if there is no such custody or it fails.
        """
        folder = Path(directory)
        database = folder / "pos.db"
        if database.exists():
            raise PosError(
                f"{folder} holds a POS already; nothing was changed.",
                hint="Choose another folder.",
                path=str(folder),
            )
        # Written under another name: a directory with a pos.db is complete. Where the keys are comes first,
        # the key to which money is paid after the draft: such a key without either tells that its books
        # were lost.
        draft = folder / "pos.db.new"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = keys.custody_of(folder)  # what was cut off goes on where it began
        key = kept.key()
        if key is None and not keys.same_kind(kept.path, custody):
            kept = keys.custody_at(keys.new_path(custody), folder)
            key = kept.key()
        if key is not None and not draft.exists():
            raise PosError(
                f"{folder} holds the key of a POS but not its books; nothing was changed.",
                hint="Restore pos.db from the newest backup, or choose another folder. New books for an old "
                "key could pay the same money twice.",
                path=str(folder),
            )
        keys.remember(kept)
        trust.save(folder / FILE_NAME)  # a SAM is made for a network
        books_key = kept.make_books_key()
        for leftover in ("-wal", "-shm", ""):
            Path(f"{draft}{leftover}").unlink(missing_ok=True)
        store = Store(draft, books_key, create=True)
        with store.transaction():
            store.set("center_url", center_url)
            store.set("policy", json.dumps(asdict(policy or Policy())))
        store.close()
        if key is None:
            kept.make_key(crypto.suite(trust.suite))
        draft.rename(database)
        return cls(folder, clock=clock, extended=extended)

    def close(self) -> None:
        """Close the books. May be repeated."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What it is ---------------------------------------------------------------------------------

    @property
    def public(self) -> bytes:
        """This POS's key, 33 bytes: the payee of its requests, and its address at the center."""
        return self.key.public

    @property
    def center_url(self) -> str:
        """Where its registration center is."""
        return self.store.get("center_url")

    @property
    def policy(self) -> Policy:
        """What this POS accepts."""
        return Policy(**json.loads(self.store.get("policy")))

    def set_policy(self, policy: Policy) -> None:
        """Change what this POS accepts, from the next charge on."""
        with self.store.transaction():
            self.store.set("policy", json.dumps(asdict(policy)))

    @property
    def blacklist(self) -> Blacklist:
        """The blacklist as of the last sync."""
        known = self._blacklist
        sequence = self._sum("SELECT max(sequence) FROM blacklist")
        subjects = known.subjects
        if sequence != known.sequence:
            subjects = frozenset(
                row["subject"] for row in self.store.all("SELECT subject FROM blacklist")
            )
        self._blacklist = Blacklist(
            subjects=subjects,
            sequence=sequence,
            promised=int(self.store.get("blacklist_promised", "0")),
            time=int(self.store.get("blacklist_time", "0")),
        )
        return self._blacklist

    # The one place where payments change their states -------------------------------------------

    def _receive(self, received: VerifiedPayment) -> None:
        """Enter a new payment, PENDING; inside a transaction."""
        claim = received.payment.claim
        self.store.execute(
            "INSERT INTO payments"
            " (claim_id, nonce, data, amount, payer, time, deadline, state, tier)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            received.claim_id, claim.nonce, received.data, received.amount, received.payer,
                claim.time, received.deadline, P.PENDING, received.payment.certificate.tier,
        )  # fmt: skip
        self._record([(received.claim_id, None, P.PENDING)])

    def _move(self, *moves: Move) -> list[m.Change]:
        """Change payments' states, inside a transaction. Raises PosError if a step is not legal."""
        before = {
            row["claim_id"]: P(row["state"])
            for row in self.store.all(
                f"SELECT claim_id, state FROM payments WHERE claim_id IN ({_places(moves)})",
                *(move.claim_id for move in moves),
            )
        }
        for move in moves:
            was = before.get(move.claim_id)
            if was is None or move.to not in LEGAL[was]:
                raise PosError(
                    f"A payment cannot go from {was or 'nothing'} to {move.to}; nothing was changed.",
                    hint="Somebody changed the books by other means: restore them from a backup.",
                    claim_id=move.claim_id.hex(),
                )
        self.store.execute_many(
            "UPDATE payments SET state = ?, deposit = ifnull(?, deposit),"
            " settled_fen = ifnull(?, settled_fen), disputed_fen = ifnull(?, disputed_fen),"
            " reason = ifnull(?, reason) WHERE claim_id = ?",
            [(x.to, x.deposit, x.settled_fen, x.disputed_fen, x.reason, x.claim_id) for x in moves],
        )
        self._record([(move.claim_id, before[move.claim_id], move.to) for move in moves])
        after = {
            row["claim_id"]: _payment(row)
            for row in self.store.all(
                f"SELECT * FROM received WHERE claim_id IN ({_places(moves)})",
                *(move.claim_id for move in moves),
            )
        }
        return [m.Change(after[move.claim_id], before[move.claim_id]) for move in moves]

    def _record(self, changes: Sequence[tuple[bytes, P | None, P]]) -> None:
        now = self._now()
        self.store.execute_many(
            "INSERT INTO changes (time, claim_id, before, after) VALUES (?,?,?,?)",
            [(now, *change) for change in changes],
        )
        for claim_id, before, after in changes:
            _log.info("payment %s: %s -> %s", claim_id.hex(), before, after)

    # Looking ------------------------------------------------------------------------------------

    def balance(self) -> m.Balance:
        """What the POS has, in fen, and what still has to be deposited until when."""
        now = self._now()
        pending = tuple(
            _payment(row)
            for row in self.store.all(
                "SELECT * FROM received WHERE state IN ('PENDING', 'SUBMITTED') ORDER BY deadline, id"
            )
        )
        return m.Balance(
            pending_fen=sum(x.amount for x in pending),
            verified_fen=sum(x["hi"] - x["pointer"] for x in self._spendable()),
            leaving_fen=self._sum("SELECT sum(hi - lo) FROM spends WHERE settled IS NULL"),
            promised_fen=self._sum(
                "SELECT sum(amount - paid_fen) FROM promises WHERE state = 'PROMISED'"
            ),
            disputed_fen=self._sum("SELECT sum(disputed_fen) FROM payments"),
            expired_fen=self._sum("SELECT sum(amount) FROM payments WHERE state = 'EXPIRED'"),
            open_fen=self._sum("SELECT sum(amount) FROM requests WHERE state = 'OPEN'"),
            overdue_fen=sum(x.amount for x in pending if x.deadline < now),
            pending=pending,
        )

    def summary(self) -> m.Summary:
        """Counts and sums, read from indexes, so that they cost little whatever the queue's length."""
        now = self._now()
        with self.store.reading():
            counts = {
                P(row["state"]): m.Total(row["count"], row["fen"])
                for row in self.store.all(
                    "SELECT state, count(*) AS count, sum(amount) AS fen FROM payments GROUP BY state"
                )
            }
            overdue = self._need(
                "SELECT count(*) AS count, coalesce(sum(amount), 0) AS fen FROM payments"
                " WHERE state IN ('PENDING', 'SUBMITTED') AND deadline < ?",
                now,
            )
            return m.Summary(
                states={state: counts.get(state, m.Total(0, 0)) for state in P},
                verified_fen=self._sum("SELECT sum(hi - pointer) FROM titles WHERE pointer < hi"),
                leaving_fen=self._sum("SELECT sum(hi - lo) FROM spends WHERE settled IS NULL"),
                disputed_fen=self._sum(
                    "SELECT sum(disputed_fen) FROM payments WHERE state = 'DISPUTED'"
                ),
                open_fen=self._sum("SELECT sum(amount) FROM requests WHERE state = 'OPEN'"),
                overdue=m.Total(overdue["count"], overdue["fen"]),
                next_deadline=self._least(
                    "SELECT min(deadline) FROM payments WHERE state = 'PENDING'",
                    "SELECT min(deadline) FROM payments WHERE state = 'SUBMITTED'",
                ),
                oldest_pending=self._least(
                    "SELECT min(time) FROM payments WHERE state = 'PENDING'",
                    "SELECT min(time) FROM payments WHERE state = 'SUBMITTED'",
                ),
            )

    def payments(
        self, state: P | None = None, *, before: int | None = None, limit: int | None = None
    ) -> tuple[m.Payment, ...]:
        """Received payments, the newest first; of one state, if given.

        before: the number of a payment, only older ones; limit: at most so many.
        """
        of_state = "" if state is None else f"state = '{state}' AND"
        rows = self.store.all(
            f"SELECT * FROM received WHERE {of_state} id < ? ORDER BY id DESC LIMIT ?",
            _LAST if before is None else before,
            -1 if limit is None else limit,
        )
        return tuple(_payment(row) for row in rows)

    def queue(
        self, *, after: tuple[int, int] | None = None, limit: int | None = None
    ) -> tuple[m.Payment, ...]:
        """Payments that are PENDING or SUBMITTED, the one whose deadline comes first at the front.

        after: deadline and number of a payment, only those behind it; limit: at most so many.
        """
        deadline, number = after or (-1, -1)
        each = (
            "SELECT * FROM (SELECT * FROM received WHERE state = '{}' AND (deadline, id) > (?, ?)"
            " ORDER BY deadline, id LIMIT ?)"
        )
        values = (deadline, number, -1 if limit is None else limit)
        rows = self.store.all(
            f"{each.format(P.PENDING)} UNION ALL {each.format(P.SUBMITTED)}"
            " ORDER BY deadline, id LIMIT ?",
            *values,
            *values,
            values[-1],
        )
        return tuple(_payment(row) for row in rows)

    def changes(self, claim_id: bytes) -> tuple[m.StateChange, ...]:
        """How a payment's state changed, the oldest first."""
        return tuple(
            m.StateChange(
                row["id"],
                row["time"],
                row["claim_id"],
                None if row["before"] is None else P(row["before"]),
                P(row["after"]),
            )
            for row in self.store.all(
                "SELECT * FROM changes WHERE claim_id = ? ORDER BY id", claim_id
            )
        )

    def payment(self, which: bytes) -> m.Payment:
        """A payment by its nonce (16 bytes) or claim_id (32). Raises PosError."""
        row = self.store.one("SELECT * FROM received WHERE claim_id = ? OR nonce = ?", which, which)
        if row is None:
            raise PosError(
                "There is no such payment in these books.",
                hint="Look for it among the payments and the open requests.",
                id=which.hex(),
            )
        return _payment(row)

    def transfers(self) -> tuple[m.Transfer, ...]:
        """Verified money that left or is leaving, the newest first."""
        rows = self.store.all("SELECT * FROM deposits WHERE kind <> 'PAYMENTS' ORDER BY id DESC")
        return tuple(_transfer(row) for row in rows)

    def open_requests(self) -> tuple[m.OpenRequest, ...]:
        """Requests that a card may have paid without an answer here, the newest first."""
        rows = self.store.all("SELECT * FROM requests WHERE state = 'OPEN' ORDER BY id DESC")
        return tuple(request_of(row) for row in rows)

    def open_count(self) -> int:
        """How many requests a card may have paid without an answer here."""
        return self._sum("SELECT count(*) FROM requests WHERE state = 'OPEN'")

    def last(self) -> m.Charge | None:
        """Did the last payment succeed? None if there never was one."""
        row = self.store.one("SELECT * FROM requests ORDER BY id DESC LIMIT 1")
        if row is None:
            return None
        newest, _, repeated = self.store.get("last_charge").partition(" ")
        if newest == row["nonce"].hex():
            row = self._request_row(bytes.fromhex(repeated))
        state = R(row["state"])
        payment = self.payment(row["nonce"]) if state == R.ANSWERED else None
        paid = None if state == R.OPEN else state == R.ANSWERED
        return m.Charge(request_of(row), payment, paid)

    # How ----------------------------------------------------------------------------------------

    def _now(self) -> int:
        """The terminal's time: the later of its clock and the newest signed time."""
        return max(self._clock(), int(self.store.get("blacklist_time", "0")))

    def _is_last(self, nonce: bytes) -> None:
        """Note that this request is the last charge, inside a transaction: an older one may be repeated."""
        newest = self._need("SELECT nonce FROM requests ORDER BY id DESC LIMIT 1")["nonce"]
        noted = "" if newest == nonce else f"{newest.hex()} {nonce.hex()}"
        if noted != self.store.get("last_charge"):
            self.store.set("last_charge", noted)

    def _request_row(self, nonce: bytes | None, *, of_tap: bool = False) -> Row:
        if nonce is None:
            row = self.store.one(
                "SELECT * FROM requests WHERE state = 'OPEN' AND (expiry IS NULL OR NOT ?)"
                " ORDER BY id DESC LIMIT 1",
                of_tap,
            )
        else:
            row = self.store.one("SELECT * FROM requests WHERE nonce = ?", nonce)
        if row is None:
            raise PosError("There is no open request.", hint="Charge the card.")
        return row

    def _transfer(self, nonce: bytes) -> m.Transfer:
        return _transfer(self._need("SELECT * FROM deposits WHERE nonce = ?", nonce))

    def _need(self, statement: str, *values: Any) -> Row:
        row = self.store.one(statement, *values)
        if row is None:
            raise PosError(
                "The books of this POS miss an entry.", hint="Restore them from a backup."
            )
        return row

    def _sum(self, statement: str, *values: Any) -> int:
        return int(self.store.row(statement, *values)[0] or 0)

    def _least(self, *statements: str) -> int | None:
        found = [self.store.row(statement)[0] for statement in statements]
        return min((int(value) for value in found if value is not None), default=None)

    def _shift_number(self) -> int | None:
        row = self.store.one("SELECT id FROM shifts WHERE closed IS NULL")
        return None if row is None else int(row["id"])

    def _spendable(self) -> list[Row]:
        """Titles with money left, the most first."""
        return self.store.all(
            "SELECT * FROM titles WHERE pointer < hi ORDER BY hi - pointer DESC, title_id"
        )


def _open_store(path: Path, custody: keys.Custody) -> Store:
    """The books, under the key that their custody has. Those from before there was one get it."""
    if not keys.remembered(custody.directory):
        encrypt(path, custody)
    key = custody.books_key()
    if key is None:
        raise PosError(
            f"The key of the books in {path} is not where it has to be: {custody.path}.",
            hint="Restore it. Do not begin new books for an old key: they could pay the same money twice.",
            path=str(path),
        )
    return Store(path, key)


def _places(values: Sequence[object]) -> str:
    """As many places for values in a statement."""
    return ",".join("?" * len(values))


def _payment(row: Row) -> m.Payment:
    return m.Payment(
        claim_id=row["claim_id"],
        nonce=row["nonce"],
        amount=row["amount"],
        payer=row["payer"],
        time=row["time"],
        deadline=row["deadline"],
        state=P(row["state"]),
        settled_fen=row["settled_fen"],
        disputed_fen=row["disputed_fen"],
        reason=row["reason"],
        data=row["data"],
        number=row["id"],
        tier=row["tier"],
        operator=row["operator"],
        shift=row["shift"],
        link=row["link"],
        reference=row["reference"],
    )


def request_of(row: Row) -> m.OpenRequest:
    """A row of requests."""
    return m.OpenRequest(
        nonce=row["nonce"],
        amount=row["amount"],
        time=row["time"],
        state=R(row["state"]),
        card=row["card"],
        refused=row["refused"],
        expiry=row["expiry"],
        operator=row["operator"],
        shift=row["shift"],
        link=row["link"],
        reference=row["reference"],
    )


def _transfer(row: Row) -> m.Transfer:
    return m.Transfer(
        nonce=row["nonce"],
        kind=TransferKind(row["kind"]),
        amount=row["amount"],
        payee=row["payee"],
        time=row["time"],
        reference=row["reference"],
        settled_fen=row["settled_fen"],
        operator=row["operator"],
        shift=row["shift"],
        settled_time=row["settled_time"],
    )

# SPDX-License-Identifier: Apache-2.0
"""The POS: payments to a durable queue, sync with the registration center, verified money out again.

Money first: a request is stored before it is sent, a payment before anybody hears "paid", a claim
before it leaves. Whatever is cut off in between is finished by repeating the same bytes.

Which card may answer a request: in the tap itself nobody asks, for that would be a third command. A
retry reads the card's certificate first and binds the request to that card; another one is not asked.
Before the first retry the card is not known, and another one may answer: then its payment closes
the request, and what the first card may have paid is never deposited here and goes back after its
deadline. Charging with fresh=True keeps customers apart.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from chipcash import crypto
from chipcash.card import Card, CardError, CardReplyError
from chipcash.clock import DAY, Clock, system_clock
from chipcash.database import Row
from chipcash.errors import ChipcashError, LinkLostError
from chipcash.genuine import verify_pin
from chipcash.pos import model as m
from chipcash.pos.errors import (
    AnotherCard,
    AnswerLost,
    InsufficientFunds,
    PendingMoney,
    PosError,
    yuan,
)
from chipcash.pos.model import PaymentState as P
from chipcash.pos.model import RequestState as R
from chipcash.pos.model import TransferKind
from chipcash.pos.store import Store
from chipcash.terminal import (
    REASONS,
    RETRYABLE,
    Blacklist,
    Policy,
    Refusal,
    VerifiedPayment,
    new_request,
    places,
    verify_payer,
    verify_payment,
    verify_receipt,
)
from chipcash.terminal.receipt import Stretch
from chipcash.terminal.refusals import LIMIT, MALFORMED, MISMATCH, NETWORK
from chipcash.transports import Connection
from chipcash.trust import FILE_NAME, Trust, object_id
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire.status import STATUS
from chipcash_wire.tlv import WireError

__all__ = ["BILL_GRACE", "BILL_SECONDS", "CenterService", "Pos"]

_log = logging.getLogger(__name__)

_TRANSFER_WINDOW = DAY
"""Seconds from a transfer to its deadline at the center."""
BILL_SECONDS = 300
"""Seconds for which a bill can be paid, unless the caller says otherwise."""
BILL_GRACE = 3600
"""Seconds after a bill's expiry after which a sync gives it up."""
_DEPOSIT_INTERVALS = 200
"""Most intervals in one deposit: its receipt, with a title for each, has to stay under 64 KiB."""

_LEGAL: dict[P | None, frozenset[P]] = {
    None: frozenset((P.PENDING,)),
    P.PENDING: frozenset((P.SUBMITTED,)),
    P.SUBMITTED: frozenset((P.VERIFIED, P.DISPUTED, P.EXPIRED)),
    P.VERIFIED: frozenset((P.REDEEMED, P.SPENT)),
}
"""From which state a payment may go to which."""


class CenterService(Protocol):
    """What a POS asks a registration center for; chipcash.center.client.CenterClient is one."""

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Settle a deposit's claims; the receipt. titles: those that they spend."""

    def register_void(self, void: o.Void) -> None:
        """Bar a claim for ever."""

    def titles(self, owner: bytes) -> Sequence[o.Title]:
        """Live titles of an owner."""

    def blacklist(self, since: int = 0) -> tuple[Sequence[o.BlacklistEntry], o.SignedTime]:
        """Entries above a sequence, and the signed time that completes them."""


class Pos:
    """A merchant's terminal over one directory: `pos.key` (0600), `network.ccn` and `pos.db`.

    Open one with Pos(directory), make one with Pos.init. A context manager; one object per thread, as
    many processes as like. clock: seconds since 1970; extended: see chipcash.card.Card. Raises PosError
    if the directory is no POS, CryptoError or TrustError if its files are damaged.

    Titles whose claims were signed are remembered only here: never run a POS from an old backup
    beside, or after, the one that was backed up.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        clock: Clock = system_clock,
        extended: bool = True,
    ) -> None:
        self.directory = Path(directory)
        if not (self.directory / "pos.db").is_file():
            raise PosError(
                f"{self.directory} holds no POS.",
                hint="Give the folder of a POS, or make one with Pos.init (chipcash pos init).",
                path=str(self.directory),
            )
        self.key = crypto.PrivateKey.load(self.directory / "pos.key")
        self.trust = Trust.load(self.directory / FILE_NAME)
        self.store = Store(self.directory / "pos.db")
        self._clock = clock
        self._extended = extended
        self._blacklist = Blacklist()
        if self.key.suite.id != self.trust.suite:
            self.close()
            raise PosError(
                f"The key of this POS is of suite {self.key.suite.name}, its network is not.",
                hint="Restore pos.key and the network file from the same backup.",
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
    ) -> Pos:
        """Make a POS with a new key of the network's suite. Synchronise it before its first charge.

        directory: made if missing. Raises PosError if a POS is there already.
        """
        folder = Path(directory)
        database = folder / "pos.db"
        if database.exists():
            raise PosError(
                f"{folder} holds a POS already; nothing was changed.",
                hint="Choose another folder.",
                path=str(folder),
            )
        # Written under another name: a directory with a pos.db is complete. The key comes after it, so
        # that a key without either tells that the books of that key were lost.
        draft = folder / "pos.db.new"
        key_file = folder / "pos.key"
        if key_file.exists() and not draft.exists():
            raise PosError(
                f"{folder} holds the key of a POS but not its books; nothing was changed.",
                hint="Restore pos.db from the newest backup, or choose another folder. New books for an old "
                "key could pay the same money twice.",
                path=str(folder),
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in ("-wal", "-shm", ""):
            Path(f"{draft}{leftover}").unlink(missing_ok=True)
        trust.save(folder / FILE_NAME)
        store = Store(draft, create=True)
        with store.transaction():
            store.set("center_url", center_url)
            store.set("policy", json.dumps(asdict(policy or Policy())))
        store.close()
        if not key_file.exists():
            crypto.PrivateKey.generate(trust.suite).save(key_file)
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

    # Charging -----------------------------------------------------------------------------------

    def charge(
        self,
        connection: Connection,
        amount: int,
        *,
        pin: str | None = None,
        fresh: bool = False,
    ) -> m.Payment:
        """Take amount fen from the card at the connection. Returns the stored PENDING payment: paid.

        An OPEN request of the same amount, whose answer was lost, is repeated instead of charging again;
        fresh=True charges anew all the same (another customer). pin: for amounts above the card's free
        limit; ask for it when PinError says so.

        A card with buttons may ask its holder first; where he does not decide in time the request stays OPEN,
        and the next tap repeats it.

        Raises PosError or CardError (nothing was paid), Refusal (the answer is not accepted), AnswerLost
        (the card may have paid: charge or retry with the same card, or give up), AnotherCard.
        """
        blacklist = self.blacklist
        now = max(self._clock(), blacklist.time)
        policy = self.policy
        self._may_charge(amount, now, policy, blacklist)
        if not fresh:
            for row in self.store.all(
                "SELECT nonce, refused FROM requests"
                " WHERE state = 'OPEN' AND amount = ? AND expiry IS NULL ORDER BY id",
                amount,
            ):
                if row["refused"] is None or row["refused"] in RETRYABLE:
                    return self.retry(connection, row["nonce"], pin=pin)
        request = self._open(amount, now)
        card = Card(connection, extended=self._extended)
        sent = False
        try:
            self._select(card, pin)
            sent = True
            answer = card.pay(request)
        except ChipcashError as error:
            if not sent or _certainly_unpaid(error):
                # Nobody has paid this very request, so nobody needs a void for it.
                self._cancel(request.nonce)
                raise
            if isinstance(error, CardError) and error.sw == c.SW_ASKED:
                raise _stays_open(error, request) from None
            raise AnswerLost(request.nonce, amount, error.message) from error
        return self._take(request, answer, policy, blacklist)

    def retry(
        self, connection: Connection, nonce: bytes | None = None, *, pin: str | None = None
    ) -> m.Payment:
        """Repeat an OPEN request, by default the newest of a tap, to the card that may have answered it.

        Once it is answered, returns that payment and asks no card. The card's certificate is read first:
        a request whose card is known is sent to no other, so that two cards do not pay it. Raises as
        charge does, and leaves the request OPEN.
        """
        row = self._request_row(nonce, of_tap=True)
        if row["state"] == R.ANSWERED:
            return self.payment(row["nonce"])
        if row["state"] != R.OPEN:
            raise _not_open(row)
        request = o.PayRequest.decode(row["data"])
        policy, blacklist = self.policy, self.blacklist
        self._may_charge(request.amount, self._now(), policy, blacklist)
        card = Card(connection, extended=self._extended)
        try:
            self._select(card, pin)
            subject = card.certificate().subject
            if row["card"] is not None and row["card"] != subject:
                raise AnotherCard(request.nonce, request.amount)
            with self.store.transaction():
                self.store.execute(
                    # A bill that was tapped is a tap's request from now on: charge repeats it.
                    "UPDATE requests SET card = ?, expiry = NULL WHERE nonce = ? AND ifnull(card, ?) = ?",
                    subject,
                    request.nonce,
                    subject,
                    subject,
                )
            answer = card.pay(request)
        except (LinkLostError, CardReplyError) as error:
            raise AnswerLost(request.nonce, request.amount, error.message) from error
        except CardError as error:
            raise _stays_open(error, request) from None
        return self._take(request, answer, policy, blacklist)

    def bill(
        self, amount: int, *, seconds: int = BILL_SECONDS, payer: o.Certificate | None = None
    ) -> o.Bill:
        """Open a request of amount fen to be shown to the payer's own device, and answered by `accept`.

        seconds: for how long a card may pay it; payer: the certificate that the payer showed first: only
        that card can pay the bill, and one that would be refused anyway is not asked. Raises PosError.
        """
        blacklist = self.blacklist
        now = max(self._clock(), blacklist.time)
        self._may_charge(amount, now, self.policy, blacklist)
        if seconds <= 0:
            raise PosError("A bill has to be payable for a second at least.", seconds=seconds)
        if payer is not None:
            self._may_pay(payer, amount, now, blacklist)
        subject = None if payer is None else payer.subject
        request = self._open(amount, now, card=subject, expiry=now + seconds)
        return o.Bill(request=request, expiry=now + seconds, subject=subject)

    def accept(self, answer: bytes, nonce: bytes | None = None) -> m.Payment:
        """Take the payment that a payer's device shows for an OPEN request. Returns it, stored: paid.

        answer: the payment's bytes, verified as those of a tap are. nonce: the request that it must answer;
        without one it may be any, so look at the amount before you hand over the goods. Each answer is
        accepted once, and also after the bill's expiry while the request is OPEN. Raises Refusal (it is not
        accepted), PosError (it was accepted before, or its request was given up).
        """
        try:
            payment = o.Payment.decode(answer)
        except WireError as error:
            raise Refusal(MALFORMED, str(error)) from None
        claim = payment.claim
        if not self.trust.accepts(claim.header):
            raise Refusal(NETWORK)
        if nonce not in (None, claim.nonce):
            raise _mismatch("it answers another bill", nonce=claim.nonce.hex())
        if claim.payee != self.public:
            raise _mismatch("it pays somebody else", payee=claim.payee.hex())
        row = self.store.one("SELECT * FROM requests WHERE nonce = ?", claim.nonce)
        if row is None:
            raise _mismatch("this till has no such request", nonce=claim.nonce.hex())
        if row["state"] == R.ANSWERED:
            raise self._used(row, claim)
        if row["state"] != R.OPEN:
            raise _not_open(row)
        if row["card"] not in (None, payment.certificate.subject):
            raise _mismatch("it is another card's", nonce=claim.nonce.hex())
        request = o.PayRequest.decode(row["data"])
        return self._take(request, answer, self.policy, self.blacklist, once=True)

    def give_up(self, nonce: bytes | None = None) -> o.Void | None:
        """Give an OPEN request up, by default the newest: the signed void, sent with the next sync.

        Whatever a card has paid for it will not be deposited and goes back to the customer. None for a
        request that certainly no card has paid. Raises PosError if it was answered: then refund.
        """
        row = self._request_row(nonce)
        if row["state"] == R.CANCELLED:
            return None
        if row["state"] == R.VOIDED:
            return o.Void.decode(row["void"])
        void = o.Void(
            header=self.trust.header,
            payee=self.public,
            nonce=row["nonce"],
            amount=row["amount"],
            time=self._now(),
        )
        void = void.signed(self.key.sign(void.message()))
        with self.store.transaction():
            changed = self.store.execute(
                "UPDATE requests SET state = 'VOIDED', void = ? WHERE nonce = ? AND state = 'OPEN'",
                void.encode(),
                row["nonce"],
            ).rowcount
        if not changed:
            row = self._request_row(row["nonce"])
            if row["state"] == R.VOIDED:
                return o.Void.decode(row["void"])
            raise _not_open(row)
        return void

    def _may_charge(self, amount: int, now: int, policy: Policy, blacklist: Blacklist) -> None:
        """Refuse what could only end in a Refusal, before a card takes money for it."""
        if amount <= 0:
            raise PosError("An amount has to be above zero.", amount_fen=amount)
        if amount > policy.max_per_payment:
            raise PosError(
                f"This POS takes at most {yuan(policy.max_per_payment)} in one offline payment. "
                "No card was asked.",
                hint="Charge less, or change the policy of this POS.",
                amount_fen=amount,
                limit_fen=policy.max_per_payment,
            )
        age = now - blacklist.time
        if age > policy.blacklist_max_age or not blacklist.complete:
            raise PosError(
                "This POS's blacklist is missing or too old to take offline payments. "
                "No card was asked.",
                hint="Synchronise the POS first.",
                age_seconds=age,
                complete=blacklist.complete,
            )

    def _may_pay(self, payer: o.Certificate, amount: int, now: int, blacklist: Blacklist) -> None:
        """Refuse a card whose certificate was shown and whose payment would be refused."""
        try:
            if not self.trust.accepts(payer.header):
                raise Refusal(NETWORK)
            verify_payer(payer, trust=self.trust, blacklist=blacklist, now=now)
            if amount > (payer.per_payment or 0):
                raise Refusal(LIMIT, limit_fen=payer.per_payment)
        except Refusal as refusal:
            raise PosError(
                f"{REASONS[refusal.reason][0]} It was not asked to pay.",
                hint="Ask for another card, or for other money.",
                **refusal.facts,
            ) from None

    def _open(
        self, amount: int, now: int, *, card: bytes | None = None, expiry: int | None = None
    ) -> o.PayRequest:
        """A new request, stored before anybody sees it."""
        request = new_request(self.trust.header, amount, self.public, now)
        with self.store.transaction():
            self.store.execute(
                "INSERT INTO requests (nonce, data, amount, time, state, card, expiry)"
                " VALUES (?,?,?,?,'OPEN',?,?)",
                request.nonce,
                request.encode(),
                amount,
                request.time,
                card,
                expiry,
            )
        return request

    def _select(self, card: Card, pin: str | None) -> None:
        header = card.select().header
        if header is not None and header != self.trust.header:
            raise PosError(
                "This card belongs to another network, version or suite. It was not asked to pay.",
                hint="Ask for a card of this network, or for other money.",
                card_network=header[:4].hex(),
            )
        if pin is not None:
            verify_pin(card, pin, self.trust)

    def _take(
        self,
        request: o.PayRequest,
        answer: bytes,
        policy: Policy,
        blacklist: Blacklist,
        *,
        once: bool = False,
    ) -> m.Payment:
        """Verify an answer and store it; the request stays OPEN when it is refused.

        once: raise PosError if somebody else stored an answer in the meantime.
        """
        try:
            verified = verify_payment(
                answer,
                request,
                trust=self.trust,
                policy=policy,
                blacklist=blacklist,
                now=self._clock(),
            )
        except Refusal as refusal:
            # Of a code nobody knows who made it: it says nothing about the card that was tapped.
            with self.store.transaction():
                self.store.execute(
                    "UPDATE requests SET refused = ? WHERE nonce = ? AND state = 'OPEN'"
                    " AND (expiry IS NOT NULL OR NOT ?)",
                    refusal.reason,
                    request.nonce,
                    once,
                )
            refusal.facts["nonce"] = request.nonce.hex()
            raise
        with self.store.transaction():
            changed = self.store.execute(
                "UPDATE requests SET state = 'ANSWERED', card = ?, refused = NULL"
                " WHERE nonce = ? AND state = 'OPEN'",
                verified.payer,
                request.nonce,
            ).rowcount
            if changed:
                self._move(verified.claim_id, P.PENDING, received=verified)
        row = self._request_row(request.nonce)
        if row["state"] != R.ANSWERED:
            raise _not_open(row)  # given up by somebody else in the meantime
        if once and not changed:
            raise self._used(row, verified.payment.claim)
        return self.payment(request.nonce)

    def _used(self, row: Row, claim: o.Claim) -> PosError:
        """Why an answer to an ANSWERED request is not accepted: it was before, or another one was."""
        payment = self.payment(row["nonce"])
        facts = {"nonce": row["nonce"].hex(), "state": row["state"]}
        if payment.claim_id == object_id(claim):
            return PosError(
                f"This payment of {yuan(payment.amount)} was accepted before; it pays for nothing else. "
                f"It is in the books once, as {payment.state}.",
                hint="For another sale, show the customer a new bill.",
                claim_id=payment.claim_id.hex(),
                **facts,
            )
        return PosError(
            f"The bill of {yuan(payment.amount)} was paid by another payment. This one was not accepted, "
            "and will not be deposited here.",
            hint="Its money goes back to the customer's card after its deadline.",
            deadline=claim.deadline,
            **facts,
        )

    def _cancel(self, nonce: bytes) -> None:
        with self.store.transaction():
            self.store.execute(
                "UPDATE requests SET state = 'CANCELLED' WHERE nonce = ? AND state = 'OPEN'",
                nonce,
            )

    # The one place where a payment changes its state --------------------------------------------

    def _move(
        self,
        claim_id: bytes,
        to: P,
        *,
        received: VerifiedPayment | None = None,
        deposit: bytes | None = None,
        settled_fen: int = 0,
        disputed_fen: int = 0,
        reason: str = "",
    ) -> m.Change | None:
        """Change a payment's state, inside a transaction; every change of it happens here.

        received: the payment that becomes PENDING; deposit: with which it becomes SUBMITTED; the others:
        what the center said. Returns None for a new payment. Raises PosError if the step is not legal.
        """
        if not self.store.in_transaction:
            raise RuntimeError("a payment changes its state only inside a transaction")
        row = self.store.one("SELECT * FROM payments WHERE claim_id = ?", claim_id)
        before = None if row is None else P(row["state"])
        if to not in _LEGAL.get(before, frozenset()):
            raise PosError(
                f"A payment cannot go from {before or 'nothing'} to {to}; nothing was changed.",
                hint="Somebody changed the books by other means: restore them from a backup.",
                claim_id=claim_id.hex(),
            )
        if received is not None:
            claim = received.payment.claim
            self.store.execute(
                "INSERT INTO payments (claim_id, nonce, data, amount, payer, time, deadline, state)"
                " VALUES (?,?,?,?,?,?,?,?)",
                claim_id, claim.nonce, received.data, received.amount, received.payer,
                    claim.time, received.deadline, to,
            )  # fmt: skip
        elif to == P.SUBMITTED:
            self.store.execute(
                "UPDATE payments SET state = ?, deposit = ? WHERE claim_id = ?",
                to,
                deposit,
                claim_id,
            )
        elif before == P.SUBMITTED:
            self.store.execute(
                "UPDATE payments SET state = ?, settled_fen = ?, disputed_fen = ?, reason = ?"
                " WHERE claim_id = ?",
                to,
                settled_fen,
                disputed_fen,
                reason,
                claim_id,
            )
        else:
            self.store.execute("UPDATE payments SET state = ? WHERE claim_id = ?", to, claim_id)
        _log.info("payment %s: %s -> %s", claim_id.hex(), before, to)
        if before is None:
            return None
        return m.Change(
            _payment(self._need("SELECT * FROM payments WHERE claim_id = ?", claim_id)), before
        )

    # Synchronising ------------------------------------------------------------------------------

    def sync(self, client: CenterService) -> m.SyncReport:
        """Bring everything to the center, and its answers and news here. Repeat it as often as you like.

        First what an earlier sync or transfer left under way, with the same bytes; then pending payments,
        the one whose deadline comes first at the front; then voids, also of bills that expired an hour ago,
        titles, blacklist and signed time. Each step is durable before the next begins. Raises
        CenterUnreachable or CenterRefused; what was done before stays done, the rest is still queued.
        """
        report = m.SyncReport()
        while True:
            deposit = self._next_deposit()
            if deposit is None:
                break
            self._settle(client, deposit, report)
        self._give_up_bills()
        for row in self.store.all(
            "SELECT nonce, void FROM requests WHERE state = 'VOIDED' AND void_sent = 0 ORDER BY id"
        ):
            client.register_void(o.Void.decode(row["void"]))
            with self.store.transaction():
                self.store.execute(
                    "UPDATE requests SET void_sent = 1 WHERE nonce = ?", row["nonce"]
                )
            report.voids_sent += 1
        titles = client.titles(self.public)
        with self.store.transaction():
            report.titles_received += self._add_titles(titles)
            self._drop_expired({object_id(title) for title in titles})
            self._place_parts()
        self._sync_blacklist(client, report)
        return report

    def _give_up_bills(self) -> None:
        """Give up the bills whose payment nobody has shown long after their expiry."""
        for row in self.store.all(
            "SELECT nonce FROM requests WHERE state = 'OPEN' AND expiry < ? ORDER BY id",
            self._now() - BILL_GRACE,
        ):
            try:
                self.give_up(row["nonce"])
            except PosError:
                _log.info("request %s was answered meanwhile", row["nonce"].hex())

    def _next_deposit(self) -> o.Deposit | None:
        """The next deposit to send: one under way, else a new one of pending payments, SUBMITTED now."""
        row = self.store.one("SELECT data FROM deposits WHERE receipt IS NULL ORDER BY id LIMIT 1")
        if row is not None:
            return o.Deposit.decode(row["data"])
        with self.store.transaction():
            claims: list[o.Claim] = []
            intervals = 0
            for row in self.store.all(
                "SELECT data FROM payments WHERE state = 'PENDING' ORDER BY deadline, id LIMIT ?",
                o.MAX_CLAIMS,
            ):
                claim = o.Payment.decode(row["data"]).claim
                intervals += len(claim.inputs)
                if intervals > _DEPOSIT_INTERVALS:
                    break
                claims.append(claim)
            if not claims:
                return None
            deposit = self._new_deposit(claims)
            self._store_deposit(deposit, "PAYMENTS")
            for claim in claims:
                self._move(object_id(claim), P.SUBMITTED, deposit=deposit.nonce)
        return deposit

    def _new_deposit(self, claims: Sequence[o.Claim]) -> o.Deposit:
        return o.Deposit(
            header=self.trust.header, nonce=secrets.token_bytes(16), claims=tuple(claims)
        )

    def _store_deposit(
        self,
        deposit: o.Deposit,
        kind: str,
        payee: bytes | None = None,
        reference: str | None = None,
        refund_of: bytes | None = None,
    ) -> None:
        self.store.execute(
            "INSERT INTO deposits (nonce, kind, data, amount, time, payee, reference, refund_of)"
            " VALUES (?,?,?,?,?,?,?,?)",
            deposit.nonce, kind, deposit.encode(), sum(x.amount for x in deposit.claims),
                self._now(), payee, reference, refund_of,
        )  # fmt: skip

    def _settle(self, client: CenterService, deposit: o.Deposit, report: m.SyncReport) -> None:
        """Send a stored deposit and book its receipt, in one transaction. Idempotent."""
        receipt = client.settle(deposit, self._spent_titles(deposit))
        verify_receipt(receipt, deposit, self.trust)
        with self.store.transaction():
            row = self._need("SELECT kind, receipt FROM deposits WHERE nonce = ?", deposit.nonce)
            if row["receipt"] is not None:
                return  # booked by another process in the meantime
            report.titles_received += self._add_titles(receipt.titles)
            if row["kind"] == "PAYMENTS":
                settled = self._book_payments(deposit, receipt, report)
            else:
                settled = self._book_transfer(deposit, receipt, report)
            self.store.execute(
                "UPDATE deposits SET receipt = ?, settled_fen = ? WHERE nonce = ?",
                receipt.encode(),
                settled,
                deposit.nonce,
            )
            if row["kind"] != "PAYMENTS":
                report.transfers.append(self._transfer(deposit.nonce))

    def _spent_titles(self, deposit: o.Deposit) -> list[o.Title]:
        """The titles that a deposit's claims spend: of payments as they came, of transfers from the books."""
        found = {
            object_id(title): title
            for row in self.store.all("SELECT data FROM payments WHERE deposit = ?", deposit.nonce)
            for title in o.Payment.decode(row["data"]).titles
        }
        for item in (item for claim in deposit.claims for item in claim.inputs):
            if item.title_id not in found:
                row = self.store.one("SELECT data FROM titles WHERE title_id = ?", item.title_id)
                if row is not None:
                    found[item.title_id] = o.Title.decode(row["data"])
        return list(found.values())

    def _book_payments(self, deposit: o.Deposit, receipt: o.Receipt, report: m.SyncReport) -> int:
        total = 0
        parts: list[tuple[bytes, Stretch]] = []
        results = {result.claim_id: result for result in receipt.results}
        for claim in deposit.claims:
            claim_id = object_id(claim)
            outcomes = results[claim_id].outcomes
            settled = sum(x.hi - x.lo for x in outcomes if x.state == o.SETTLED)
            states = {x.state for x in outcomes}
            reason = ""
            disputed = 0
            if states == {o.SETTLED}:
                to = P.VERIFIED
            elif states == {o.EXPIRED}:
                to = P.EXPIRED
                reason = "deposited after the deadline: the money went back to the payer"
            else:
                to = P.DISPUTED
                disputed = claim.amount - settled
                reason = ", ".join(sorted(_WHY[state] for state in states - {o.SETTLED}))
            change = self._move(
                claim_id, to, settled_fen=settled, disputed_fen=disputed, reason=reason
            )
            if change is not None:
                report.changes.append(change)
            row = self._need("SELECT data FROM payments WHERE claim_id = ?", claim_id)
            for outcome, title in zip(outcomes, o.Payment.decode(row["data"]).titles, strict=True):
                if outcome.state == o.SETTLED:
                    total += outcome.hi - outcome.lo
                    parts.append((claim_id, (title.serial, outcome.lo, outcome.hi)))
        found = places(receipt, self.public, [stretch for _, stretch in parts])
        for (claim_id, _), stretches in zip(parts, found, strict=True):
            for stretch in stretches:
                self.store.execute(
                    "INSERT INTO parts (claim_id, serial, lo, hi) VALUES (?,?,?,?)",
                    claim_id, *stretch,
                )  # fmt: skip
        self._place_parts()
        return total

    def _add_titles(self, titles: Sequence[o.Title]) -> int:
        """Take over titles that are this POS's and new; how many. Those known keep their pointer."""
        added = 0
        for title in titles:
            title_id = object_id(title)
            if (
                title.owner != self.public
                or self.store.one("SELECT 1 FROM titles WHERE title_id = ?", title_id) is not None
                or not self.trust.signed_by_center(title)
            ):
                continue
            self.store.execute(
                "INSERT INTO titles (title_id, data, serial, lo, hi, epoch, expiry, pointer)"
                " VALUES (?,?,?,?,?,?,?,?)",
                title_id, title.encode(), title.serial, title.lo, title.hi,
                    title.epoch, title.expiry, title.lo,
            )  # fmt: skip
            added += 1
        return added

    def _drop_expired(self, live: set[bytes]) -> None:
        """What expired and is not live any more came back under a new title: stop counting the old one."""
        for row in self.store.all(
            "SELECT title_id, pointer FROM titles WHERE pointer < hi AND expiry < ?", self._now()
        ):
            if row["title_id"] not in live:
                self.store.execute(
                    "UPDATE titles SET pointer = hi WHERE title_id = ?", row["title_id"]
                )
                self.store.execute(
                    "UPDATE parts SET title_id = NULL WHERE title_id = ? AND lo >= ?",
                    row["title_id"],
                    row["pointer"],
                )

    def _place_parts(self) -> None:
        """Find the title that each settled interval became, where it has come."""
        self.store.execute(
            "UPDATE parts SET title_id = (SELECT title_id FROM titles WHERE titles.serial = parts.serial"
            " AND titles.lo <= parts.lo AND titles.hi >= parts.hi ORDER BY epoch DESC LIMIT 1)"
            " WHERE title_id IS NULL"
        )

    def _sync_blacklist(self, client: CenterService, report: m.SyncReport) -> None:
        known = self.blacklist
        entries, signed_time = client.blacklist(known.sequence)
        fresh = known.extend(entries, signed_time, self.trust)
        with self.store.transaction():
            for entry in entries:
                if known.sequence < entry.sequence <= fresh.sequence:
                    report.blacklist_entries += self.store.execute(
                        "INSERT INTO blacklist VALUES (?,?,?) ON CONFLICT (sequence) DO NOTHING",
                        entry.sequence,
                        entry.subject,
                        entry.encode(),
                    ).rowcount
            # Another process may have brought newer knowledge in the meantime.
            if fresh.time >= int(self.store.get("blacklist_time", "0")):
                self.store.set("blacklist_time", str(fresh.time))
                self.store.set("blacklist_promised", str(fresh.promised))
        report.time = fresh.time

    # Verified money out -------------------------------------------------------------------------

    def spend(
        self, amount: int, payee: bytes, client: CenterService, *, reference: str | None = None
    ) -> m.Transfer:
        """Pay amount fen of verified money to a key, online.

        reference: the caller's name for this order: the same reference is the same transfer, sent again if
        its answer was lost and never paid twice.

        Raises PendingMoney (the money is there but not verified yet), InsufficientFunds, PosError, or
        CenterUnreachable: then the transfer is stored, and the next sync completes it.
        """
        if payee == self.trust.issuer_key:
            raise PosError(
                "This is the issuing library's key: money paid to it is redeemed. Nothing was paid.",
                hint="Use redeem for that.",
            )
        return self._send(TransferKind.SPEND, amount, payee, client, reference)

    def refund(
        self,
        payment: bytes,
        amount: int,
        client: CenterService,
        *,
        reference: str | None = None,
    ) -> m.Transfer:
        """Give amount fen of a payment (its nonce or claim_id) back to the card that paid it, online.

        The card gets it as a new title when it is synchronised. All refunds of a payment together stay
        within what of it was settled. Raises as spend does.
        """
        found = self.payment(payment)
        if found.state in (P.PENDING, P.SUBMITTED):
            raise PendingMoney(
                f"This payment is {found.state}: what is Pending Repeat Payment Verification cannot "
                "be refunded. Nothing was paid.",
                hint="Synchronise first, then refund.",
                claim_id=found.claim_id.hex(),
            )
        return self._send(
            TransferKind.REFUND, amount, found.payer, client, reference, refund_of=found
        )

    def redeem(
        self, client: CenterService, amount: int | None = None, *, reference: str | None = None
    ) -> m.Transfer:
        """Give verified money (amount fen; by default as much as one deposit carries) back to the issuing
        library, online. Raises as spend does.
        """
        if amount is None and self._known_transfer(reference) is None:
            amount = sum(x["hi"] - x["pointer"] for x in self._spendable()[:_DEPOSIT_INTERVALS])
        return self._send(TransferKind.REDEEM, amount, self.trust.issuer_key, client, reference)

    def _send(
        self,
        kind: TransferKind,
        amount: int | None,
        payee: bytes,
        client: CenterService,
        reference: str | None,
        refund_of: m.Payment | None = None,
    ) -> m.Transfer:
        if amount is not None and amount <= 0:
            if kind == TransferKind.REDEEM:
                raise self._too_little(1)
            raise PosError("An amount has to be above zero.", amount_fen=amount)
        with self.store.transaction():
            known = self._known_transfer(reference)
            if known is not None:
                if (known["kind"], known["payee"]) != (kind, payee) or amount not in (
                    None,
                    known["amount"],
                ):
                    raise PosError(
                        f"The reference {reference} belongs to another transfer. Nothing was paid.",
                        hint="Use a reference once.",
                    )
                deposit = o.Deposit.decode(known["data"])
            else:
                if amount is None:
                    raise RuntimeError("a new transfer needs an amount")
                if refund_of is not None:
                    self._may_refund(refund_of, amount)
                deposit = self._sign_transfer(amount, payee)
                self._store_deposit(
                    deposit,
                    kind,
                    payee,
                    reference,
                    refund_of.claim_id if refund_of is not None else None,
                )
                for claim in deposit.claims:
                    for item in claim.inputs:
                        self.store.execute(
                            "INSERT INTO spends (title_id, lo, hi, deposit) VALUES (?,?,?,?)",
                            item.title_id,
                            item.lo,
                            item.hi,
                            deposit.nonce,
                        )
        transfer = self._transfer(deposit.nonce)
        if transfer.settled_fen is None:
            self._settle(client, deposit, m.SyncReport())
            transfer = self._transfer(deposit.nonce)
        return transfer

    def _known_transfer(self, reference: str | None) -> Row | None:
        if reference is None:
            return None
        return self.store.one("SELECT * FROM deposits WHERE reference = ?", reference)

    def _may_refund(self, payment: m.Payment, amount: int) -> None:
        row = self._need(
            "SELECT coalesce(sum(coalesce(settled_fen, amount)), 0) AS fen FROM deposits"
            " WHERE refund_of = ?",
            payment.claim_id,
        )
        left = payment.settled_fen - row["fen"]
        if amount > left:
            raise PosError(
                f"Of this payment {yuan(left)} can be refunded, not {yuan(amount)}. Nothing was paid.",
                hint="Refund at most what was settled and not refunded before.",
                left_fen=left,
            )

    def _spendable(self) -> list[Row]:
        """Titles with money left, the most first."""
        return self.store.all(
            "SELECT * FROM titles WHERE pointer < hi ORDER BY hi - pointer DESC, title_id"
        )

    def _sign_transfer(self, amount: int, payee: bytes) -> o.Deposit:
        """Choose titles, move their pointers and sign the claims, inside a transaction."""
        now = self._now()
        chosen: list[o.Input] = []
        left = amount
        for row in self._spendable()[:_DEPOSIT_INTERVALS]:
            if not left:
                break
            take = min(left, row["hi"] - row["pointer"])
            lo = row["pointer"]
            chosen.append(o.Input(title_id=row["title_id"], lo=lo, hi=lo + take))
            self.store.execute(
                "UPDATE titles SET pointer = ? WHERE title_id = ?", lo + take, row["title_id"]
            )
            left -= take
        if left:
            raise self._too_little(amount)
        counter = int(self.store.get("counter", "0"))
        claims = []
        for start in range(0, len(chosen), o.MAX_INPUTS):
            group = chosen[start : start + o.MAX_INPUTS]
            counter += 1
            claim = o.Claim(
                header=self.trust.header,
                inputs=tuple(group),
                amount=sum(item.hi - item.lo for item in group),
                payee=payee,
                nonce=secrets.token_bytes(16),
                counter=counter,
                time=now,
                deadline=now + _TRANSFER_WINDOW,
            )
            claims.append(claim.signed(self.key.sign(claim.message())))
        self.store.set("counter", str(counter))
        return self._new_deposit(claims)

    def _too_little(self, amount: int) -> InsufficientFunds:
        balance = self.balance()
        facts = {
            "amount_fen": amount,
            "verified_fen": balance.verified_fen,
            "pending_fen": balance.pending_fen,
        }
        if amount <= balance.verified_fen:
            return InsufficientFunds(
                f"{yuan(amount)} lies in too many pieces for one transfer. Nothing was paid.",
                hint="Split it into smaller transfers.",
                **facts,
            )
        if amount <= balance.verified_fen + balance.pending_fen:
            return PendingMoney(
                f"Only {yuan(balance.verified_fen)} is verified; {yuan(balance.pending_fen)} is "
                "Pending Repeat Payment Verification and cannot be spent yet. Nothing was paid.",
                hint="Synchronise with the registration center first.",
                **facts,
            )
        return InsufficientFunds(
            f"This POS has {yuan(balance.verified_fen)} of verified money. Nothing was paid.",
            hint="Spend less, or synchronise to bring in what is pending.",
            **facts,
        )

    def _book_transfer(self, deposit: o.Deposit, receipt: o.Receipt, report: m.SyncReport) -> int:
        total = 0
        touched: set[bytes] = set()
        for result in receipt.results:
            for outcome in result.outcomes:
                settled = outcome.state == o.SETTLED
                total += (outcome.hi - outcome.lo) * settled
                touched.add(outcome.title_id)
                self.store.execute(
                    "UPDATE spends SET settled = ? WHERE title_id = ? AND lo = ? AND deposit = ?",
                    int(settled),
                    outcome.title_id,
                    outcome.lo,
                    deposit.nonce,
                )
        for title_id in sorted(touched):
            for row in self.store.all(
                "SELECT DISTINCT payments.claim_id FROM parts JOIN payments USING (claim_id)"
                " WHERE parts.title_id = ? AND payments.state = 'VERIFIED'",
                title_id,
            ):
                kinds = self._left_as(row["claim_id"])
                if kinds is not None:
                    to = P.REDEEMED if kinds == {TransferKind.REDEEM} else P.SPENT
                    change = self._move(row["claim_id"], to)
                    if change is not None:
                        report.changes.append(change)
        return total

    def _left_as(self, claim_id: bytes) -> set[str] | None:
        """As what all of a payment's money has left, or None while some of it is here."""
        kinds: set[str] = set()
        for part in self.store.all("SELECT * FROM parts WHERE claim_id = ?", claim_id):
            gone = 0
            for spend in self.store.all(
                "SELECT spends.lo, spends.hi, deposits.kind FROM spends"
                " JOIN deposits ON deposits.nonce = spends.deposit"
                " WHERE spends.title_id = ? AND spends.lo < ? AND spends.hi > ? AND spends.settled = 1",
                part["title_id"], part["hi"], part["lo"],
            ):  # fmt: skip
                gone += min(spend["hi"], part["hi"]) - max(spend["lo"], part["lo"])
                kinds.add(spend["kind"])
            if gone < part["hi"] - part["lo"]:
                return None
        return kinds

    # Looking ------------------------------------------------------------------------------------

    def balance(self) -> m.Balance:
        """What the POS has, in fen, and what still has to be deposited until when."""
        now = self._now()
        pending = tuple(
            _payment(row)
            for row in self.store.all(
                "SELECT * FROM payments WHERE state IN ('PENDING', 'SUBMITTED') ORDER BY deadline, id"
            )
        )
        return m.Balance(
            pending_fen=sum(x.amount for x in pending),
            verified_fen=sum(x["hi"] - x["pointer"] for x in self._spendable()),
            leaving_fen=self._sum("SELECT sum(hi - lo) FROM spends WHERE settled IS NULL"),
            disputed_fen=self._sum("SELECT sum(disputed_fen) FROM payments"),
            expired_fen=self._sum("SELECT sum(amount) FROM payments WHERE state = 'EXPIRED'"),
            open_fen=self._sum("SELECT sum(amount) FROM requests WHERE state = 'OPEN'"),
            overdue_fen=sum(x.amount for x in pending if x.deadline < now),
            pending=pending,
        )

    def payments(self, state: P | None = None) -> tuple[m.Payment, ...]:
        """Received payments, the newest first; of one state, if given."""
        rows = self.store.all(
            "SELECT * FROM payments WHERE ? IS NULL OR state = ? ORDER BY id DESC", state, state
        )
        return tuple(_payment(row) for row in rows)

    def payment(self, which: bytes) -> m.Payment:
        """A payment by its nonce (16 bytes) or claim_id (32). Raises PosError."""
        row = self.store.one("SELECT * FROM payments WHERE claim_id = ? OR nonce = ?", which, which)
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
        return tuple(_request(row) for row in rows)

    def last(self) -> m.Charge | None:
        """Did the last payment succeed? None if there never was one."""
        row = self.store.one("SELECT * FROM requests ORDER BY id DESC LIMIT 1")
        if row is None:
            return None
        state = R(row["state"])
        payment = self.payment(row["nonce"]) if state == R.ANSWERED else None
        paid = None if state == R.OPEN else state == R.ANSWERED
        return m.Charge(_request(row), payment, paid)

    # How ----------------------------------------------------------------------------------------

    def _now(self) -> int:
        """The terminal's time: the later of its clock and the newest signed time."""
        return max(self._clock(), int(self.store.get("blacklist_time", "0")))

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

    def _sum(self, statement: str) -> int:
        return int(self.store.row(statement)[0] or 0)


_WHY = {
    o.DISPUTED: "the same money was paid elsewhere before",
    o.EXPIRED: "deposited after the deadline",
    o.VOIDED: "this POS gave the request up",
    o.RECLAIMED: "the money went back to the payer",
    o.INVALID: "the center does not know this money",
}
"""Reason of an interval that did not settle."""


def _stays_open(error: CardError, request: o.PayRequest) -> CardError:
    """A refusal after which the request can still be paid, with a word about that."""
    error.hint += f" The request of {yuan(request.amount)} stays open."
    error.facts["nonce"] = request.nonce.hex()
    return error


def _certainly_unpaid(error: ChipcashError) -> bool:
    """Whether a PAY sent for the first time, that failed like this, leaves no payment on the card."""
    if isinstance(error, CardError):
        # A refused command changes nothing; of an internal error nobody knows what came before it. Who is
        # asked to confirm has not paid either, but may: his card then pays this very request.
        return error.sw in STATUS and error.sw not in (c.SW_INTERNAL, c.SW_ASKED)
    return isinstance(error, LinkLostError) and not error.maybe_executed


def _not_open(row: Row) -> PosError:
    meaning = {
        R.ANSWERED: ("was answered: it is paid", "Refund the payment to give the money back."),
        R.VOIDED: ("was given up", "Charge the card with a new request."),
        R.CANCELLED: ("was not paid", "Charge the card with a new request."),
    }[R(row["state"])]
    return PosError(
        f"The request of {yuan(row['amount'])} {meaning[0]}; nothing was changed.",
        hint=meaning[1],
        nonce=row["nonce"].hex(),
        state=row["state"],
    )


def _mismatch(detail: str, **facts: object) -> Refusal:
    refusal = Refusal(MISMATCH, detail, **facts)
    refusal.hint = (
        "Have the customer scan a new bill of this till. What was paid to another one goes back to the "
        "customer's card, unless its payee deposits it."
    )
    return refusal


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
    )


def _request(row: Row) -> m.OpenRequest:
    return m.OpenRequest(
        nonce=row["nonce"],
        amount=row["amount"],
        time=row["time"],
        state=R(row["state"]),
        card=row["card"],
        refused=row["refused"],
        expiry=row["expiry"],
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
    )

# SPDX-License-Identifier: Apache-2.0
"""Taking money offline: by a tap, or by a code that the payer's device shows.

A request is stored before it is sent, a payment before anybody hears "paid". What is cut off in between is
finished by repeating the same bytes.

Which card may answer a request: in the tap itself nobody asks, for that would be a third command. A
retry reads the card's certificate first and binds the request to that card; another one is not asked.
Before the first retry the card is not known, and another one may answer: then its payment closes
the request, and what the first card may have paid is never deposited here and goes back after its
deadline. Charging with fresh=True keeps customers apart.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from chipcash.card import Card, CardError, CardReplyError
from chipcash.database import DatabaseError, Row
from chipcash.errors import ChipcashError, LinkLostError
from chipcash.genuine import verify_pin
from chipcash.pos import model as m
from chipcash.pos.books import request_of
from chipcash.pos.errors import AnotherCard, AnswerLost, NotAsked, PosError, yuan
from chipcash.pos.limits import Limits
from chipcash.pos.model import RequestState as R
from chipcash.terminal import (
    RETRYABLE,
    Blacklist,
    Policy,
    Refusal,
    new_request,
    verify_payer,
    verify_payment,
)
from chipcash.terminal.refusals import LIMIT, MALFORMED, MISMATCH, NETWORK
from chipcash.transports import Connection
from chipcash.trust import object_id
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire.status import STATUS
from chipcash_wire.tlv import WireError

__all__ = ["BILL_SECONDS", "Charging"]

_Error = TypeVar("_Error", bound=ChipcashError)

BILL_SECONDS = 300
"""Seconds for which a bill can be paid, unless the caller says otherwise."""


class Charging(Limits):
    """What a POS does at the tap."""

    def charge(
        self,
        connection: Connection,
        amount: int,
        *,
        pin: str | None = None,
        fresh: bool = False,
        reference: str | None = None,
    ) -> m.Payment:
        """Take amount fen from the card at the connection. Returns the stored PENDING payment: paid.

        An OPEN request of the same amount, whose answer was lost, is repeated instead of charging again;
        fresh=True charges anew all the same (another customer). pin: for amounts above the card's free
        limit; ask for it when PinError says so. reference: the caller's name for this charge: given again it
        is the same one, never charged twice, unless no card has paid it.

        A card with buttons may ask its holder first; where he does not decide in time the request stays OPEN,
        and the next tap repeats it.

        Raises PosError or CardError (nothing was paid), Refusal (the answer is not accepted), AnswerLost
        (the card may have paid: charge or retry with the same card, or give up), AnotherCard.
        """
        blacklist = self.blacklist
        now = max(self._clock(), blacklist.time)
        policy = self.limits
        known = None if reference is None else self.charged(reference)
        if known is not None:
            if known.amount != amount:
                raise PosError(
                    f"The reference {reference} belongs to a charge of {yuan(known.amount)}. "
                    "No card was asked.",
                    hint="Use a reference once.",
                )
            return self.retry(connection, known.nonce, pin=pin)
        self._may_charge(amount, now, policy, blacklist)
        if reference is None and not fresh:
            for row in self.store.all(
                "SELECT * FROM requests WHERE state = 'OPEN' AND amount = ?"
                " AND expiry IS NULL AND reference IS NULL ORDER BY id",
                amount,
            ):
                if row["refused"] is None or row["refused"] in RETRYABLE:
                    return self._ask_again(connection, row, pin)
        request = self._open(amount, now, link=_link(connection), reference=reference)
        card = Card(connection, extended=self._extended)
        sent = False
        try:
            self._select(card, pin)
            if self._card_matters(amount, policy):
                self._may_ask(card.certificate().subject, amount, policy)
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

        Once it is answered, returns that payment and asks no card to pay; without a reference only for the
        card that has paid it. The card's certificate is read first: a request whose card is known is sent to
        no other, so that two cards do not pay it. Raises as charge does, and leaves the request OPEN.
        """
        row = self._request_row(nonce, of_tap=True)
        if row["state"] == R.ANSWERED:
            if row["reference"] is None:
                # Another process may have repeated it to somebody else's card, who is not this customer.
                card = Card(connection, extended=self._extended)
                self._select(card, None)
                if card.certificate().subject != row["card"]:
                    raise _paid_otherwise(row)
            return self.payment(row["nonce"])
        if row["state"] != R.OPEN:
            raise _not_open(row)
        return self._ask_again(connection, row, pin)

    def _ask_again(self, connection: Connection, row: Row, pin: str | None) -> m.Payment:
        """Send a request that was OPEN to the card at the connection, if it may be that card's."""
        request = o.PayRequest.decode(row["data"])
        policy, blacklist = self.limits, self.blacklist
        card = Card(connection, extended=self._extended)
        first = False  # the first card that it is known to have been sent to
        try:
            self._may_charge(request.amount, self._now(), policy, blacklist)
            self._select(card, pin)
            subject = card.certificate().subject
            if row["card"] is not None and row["card"] != subject:
                raise AnotherCard(request.nonce, request.amount)
            self._may_ask(subject, request.amount, policy)
            with self.store.transaction():
                first = self._request_row(request.nonce)["card"] is None
                bound = self.store.execute(
                    # A bill that was tapped is a tap's request from now on: charge repeats it.
                    "UPDATE requests SET card = ?, expiry = NULL, link = ?"
                    " WHERE nonce = ? AND state = 'OPEN' AND ifnull(card, ?) = ?",
                    subject,
                    _link(connection),
                    request.nonce,
                    subject,
                    subject,
                ).rowcount
                if bound:
                    self._is_last(request.nonce)
            if not bound:  # somebody else has answered it, given it up or bound it to another card
                row = self._request_row(request.nonce)
                if row["state"] == R.OPEN:
                    raise AnotherCard(request.nonce, request.amount)
                if row["state"] != R.ANSWERED:
                    raise _not_open(row)
                if row["card"] != subject:
                    raise _paid_otherwise(row)
                return self.payment(row["nonce"])
            answer = card.pay(request)
        except (LinkLostError, CardReplyError) as error:
            raise AnswerLost(request.nonce, request.amount, error.message) from error
        except (CardError, NotAsked) as error:
            if first and _certainly_unpaid(error):
                self._unbind(request.nonce, subject)
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
        policy = self.limits
        self._may_charge(amount, now, policy, blacklist)
        if seconds <= 0:
            raise PosError("A bill has to be payable for a second at least.", seconds=seconds)
        if payer is not None:
            self._may_pay(payer, amount, now, policy, blacklist)
        subject = None if payer is None else payer.subject
        request = self._open(amount, now, card=subject, expiry=now + seconds, link="qr")
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
        return self._take(request, answer, self.limits, self.blacklist, once=True)

    def charged(self, reference: str) -> m.OpenRequest | None:
        """The request of the charge with this reference, whatever became of it; None if there is none."""
        row = self.store.one("SELECT * FROM requests WHERE reference = ?", reference)
        return None if row is None else request_of(row)

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
        void = self._void(row["nonce"], row["amount"])
        with self.store.transaction():
            changed = self._set_void(void)
        if not changed:
            row = self._request_row(row["nonce"])
            if row["state"] == R.VOIDED:
                return o.Void.decode(row["void"])
            raise _not_open(row)
        return void

    def _void(self, nonce: bytes, amount: int) -> o.Void:
        void = o.Void(
            header=self.trust.header,
            payee=self.public,
            nonce=nonce,
            amount=amount,
            time=self._now(),
        )
        return void.signed(self.key.sign(void.message()))

    def _set_void(self, void: o.Void) -> bool:
        """Put a void in the place of its request, inside a transaction; whether it was OPEN still."""
        changed = self.store.execute(
            "UPDATE requests SET state = 'VOIDED', void = ? WHERE nonce = ? AND state = 'OPEN'",
            void.encode(),
            void.nonce,
        ).rowcount
        return bool(changed)

    def _may_pay(
        self, payer: o.Certificate, amount: int, now: int, policy: Policy, blacklist: Blacklist
    ) -> None:
        """Refuse a card whose certificate was shown and whose payment would be refused."""
        try:
            if not self.trust.accepts(payer.header):
                raise Refusal(NETWORK)
            verify_payer(payer, trust=self.trust, blacklist=blacklist, now=now)
            if amount > (payer.per_payment or 0):
                raise Refusal(LIMIT, limit_fen=payer.per_payment)
        except Refusal as refusal:
            raise NotAsked.of(refusal) from None
        self._may_ask(payer.subject, amount, policy)

    def _open(
        self,
        amount: int,
        now: int,
        *,
        link: str,
        card: bytes | None = None,
        expiry: int | None = None,
        reference: str | None = None,
    ) -> o.PayRequest:
        """A new request, stored before anybody sees it."""
        request = new_request(self.trust.header, amount, self.public, now)
        with self.store.transaction():
            self.store.execute(
                "INSERT INTO requests"
                " (nonce, data, amount, time, state, card, expiry, operator, shift, link, reference)"
                " VALUES (?,?,?,?,'OPEN',?,?,?,?,?,?)",
                request.nonce,
                request.encode(),
                amount,
                request.time,
                card,
                expiry,
                self.operator,
                self._shift_number(),
                link,
                reference,
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
        """Verify an answer and store it; the request stays OPEN when it is refused, but where it would be
        too much: then that of a tap is given up.

        once: it came in a code; raise PosError if somebody else stored an answer in the meantime.
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
            # What is wrong with the card is told, also where it cannot be written down.
            with suppress(DatabaseError), self.store.transaction():
                self._set_refused(request.nonce, refusal, once)
            refusal.facts["nonce"] = request.nonce.hex()
            raise
        too_much = None
        try:
            with self.store.transaction():
                row = self._request_row(request.nonce)
                changed = row["state"] == R.OPEN
                if changed:
                    # Only here nobody else takes anything at the same time.
                    too_much = self._exceeded(verified.amount, policy, verified.payer)
                if too_much is not None:
                    self._set_refused(request.nonce, too_much, once)
                elif changed:
                    self.store.execute(
                        "UPDATE requests SET state = 'ANSWERED', card = ?, refused = NULL WHERE nonce = ?",
                        verified.payer,
                        request.nonce,
                    )
                    self._receive(verified)
                    self._is_last(request.nonce)
            row, stored = self._request_row(request.nonce), None
            if row["state"] == R.ANSWERED:
                stored = self.payment(request.nonce)
        except DatabaseError as error:
            raise AnswerLost(request.nonce, request.amount, error.message, answered=True) from error
        if too_much is not None:
            given_up = False
            if not once:
                # Not in the transaction: a SAM takes a second to sign, in which nobody else could write.
                with suppress(ChipcashError):
                    self.give_up(request.nonce)
                    given_up = True
            raise _too_much(too_much, request, once, given_up)
        if stored is None:
            raise _not_open(row)  # given up by somebody else in the meantime
        if not changed and (once or stored.claim_id != verified.claim_id):
            raise self._used(row, verified.payment.claim)
        return stored

    def _set_refused(self, nonce: bytes, refusal: Refusal, once: bool) -> None:
        """Record why an answer was refused, inside a transaction."""
        # Of a code nobody knows who made it: it says nothing about the card that was tapped.
        self.store.execute(
            "UPDATE requests SET refused = ? WHERE nonce = ? AND state = 'OPEN'"
            " AND (expiry IS NOT NULL OR NOT ?)",
            refusal.reason,
            nonce,
            once,
        )

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

    def _unbind(self, nonce: bytes, subject: bytes) -> None:
        """Let other cards pay a request: this one refused it, so it is not the one that was asked first."""
        with self.store.transaction():
            self.store.execute(
                "UPDATE requests SET card = NULL WHERE nonce = ? AND state = 'OPEN' AND card = ?",
                nonce,
                subject,
            )

    def _cancel(self, nonce: bytes) -> None:
        """Close a request that the only card that was asked has not paid."""
        with self.store.transaction():
            # One with a card is being repeated, by another process, to that card, which may pay it.
            self.store.execute(
                "UPDATE requests SET state = 'CANCELLED', reference = NULL"
                " WHERE nonce = ? AND state = 'OPEN' AND card IS NULL",
                nonce,
            )


def _link(connection: Connection) -> str:
    return connection.path.partition(":")[0]


def _stays_open(error: _Error, request: o.PayRequest) -> _Error:
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


def _paid_otherwise(row: Row) -> PosError:
    return PosError(
        f"Another card has paid the request of {yuan(row['amount'])} meanwhile, and not this one.",
        hint="Charge this card with a new request; what it may have set aside for this one goes back.",
        nonce=row["nonce"].hex(),
        state=row["state"],
    )


def _too_much(refusal: Refusal, request: o.PayRequest, once: bool, given_up: bool) -> Refusal:
    """A refusal of an answer that was good, with what became of its request."""
    refusal.facts |= {"nonce": request.nonce.hex(), "given_up": given_up}
    if once:
        hint = "Once it is synchronised, the customer's code can be scanned again; or give the request up."
    elif given_up:
        hint = "The request was given up: with the next synchronisation the customer's money goes back."
    else:
        hint = "Give the request up: the customer's money then goes back."
    refusal.hint += f" {hint}"
    return refusal


def _mismatch(detail: str, **facts: object) -> Refusal:
    refusal = Refusal(MISMATCH, detail, **facts)
    refusal.hint = (
        "Have the customer scan a new bill of this till. What was paid to another one goes back to the "
        "customer's card, unless its payee deposits it."
    )
    return refusal

# SPDX-License-Identifier: Apache-2.0
"""Charges by the name that their caller gives them: the same name is the same charge, always.

A running till forgets what no card was asked for. What a card may have paid is in the books under its name,
and is found there by whoever asks, also after this process was killed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from chipcash.pos import model as m
from chipcash.pos.errors import PosError, yuan
from chipcash.pos.model import RequestState as R
from chipcash.pos.till import Sale, SaleState, Till
from chipcash.terminal import REASONS, RETRYABLE

__all__ = ["ENDS", "Order", "Orders", "UnknownOrder"]

ENDS = (SaleState.PAID, SaleState.REFUSED, SaleState.CANCELLED)
"""States from which a charge goes on only if somebody says so."""
_BUSY = (SaleState.WAITING, SaleState.PAYING, SaleState.PIN)
_KEPT = 1000
"""How many charges that no card has paid are remembered."""


class UnknownOrder(PosError):
    """There is no charge, or no refund, of that name: no card has paid it."""


@dataclass(frozen=True)
class Order:
    """A charge and where it stands. Values as of Sale; payment: as it is now; sale: the id of its sale at the
    till, "" where it is none any more."""

    reference: str
    amount: int
    state: SaleState
    operator: str
    message: str = ""
    hint: str = ""
    reason: str = ""
    retryable: bool = False
    nonce: bytes | None = None
    payment: m.Payment | None = None
    sale: str = ""


class Orders:
    """The charges of a running till by their names. May be used from any thread."""

    def __init__(self, till: Till) -> None:
        self.till = till
        self._lock = threading.RLock()
        self._seen: OrderedDict[str, Sale] = OrderedDict()
        self._signing = threading.Lock()
        self._leaving = ""
        """Name of the charge that is being given up just now, where it is not the one at the till."""

    def start(
        self, reference: str, amount: int, *, operator: str = "", pin: str | None = None
    ) -> tuple[Order, bool]:
        """Charge amount fen to the next card; the charge, and whether it is a new one.

        One that is there already is given as it is, and no card is asked again; but where a card may have
        paid and nobody waits for it any more, the same card is waited for once more. Raises PosError, and as
        Till.begin does.
        """
        with self._lock:
            known = self.find(reference)
            if known is not None:
                if known.amount != amount:
                    raise PosError(
                        f"The name {reference} belongs to a charge of {yuan(known.amount)}. "
                        "No card was asked.",
                        hint="Give each charge a name of its own.",
                        amount_fen=known.amount,
                    )
                if known.state is not SaleState.UNKNOWN or known.sale:
                    return known, False
            self._begin(reference, amount, operator, pin)
            return self.get(reference), known is None

    def find(self, reference: str) -> Order | None:
        """A charge by its name, as it stands; None if no card has paid one, and none is waited for."""
        with self._lock:
            sale = self._note()
            at_till = sale is not None and sale.reference == reference
            if not at_till:
                sale = self._seen.get(reference)
            with self.till.pos() as pos:
                request = pos.charged(reference)
                payment = None
                if request is not None and request.state is R.ANSWERED:
                    payment = pos.payment(request.nonce)
        # Where somebody else has tapped that card again, or given the request up, the books know better.
        settled = request is not None and request.state is not R.OPEN
        if sale is not None and (
            request is None or (at_till and not (sale.state is SaleState.UNKNOWN and settled))
        ):
            return _of_sale(sale, payment, at_till=at_till)
        return None if request is None else _of_request(request, payment, sale)

    def get(self, reference: str) -> Order:
        """As find, but raises UnknownOrder."""
        found = self.find(reference)
        if found is None:
            raise UnknownOrder(
                f"There is no charge {reference}: no card has paid it, and none is waited for.",
                hint="It may be started.",
            )
        return found

    def retry(self, reference: str, *, pin: str | None = None) -> Order:
        """Wait for a card again, for a charge that no card has paid, or of which nobody knows. Raises
        PosError, UnknownOrder."""
        with self._lock:
            found = self.get(reference)
            if found.state in _BUSY or (found.state is SaleState.UNKNOWN and found.sale):
                return found  # that is what it does
            given_up = found.state is SaleState.CANCELLED and found.nonce is not None
            final = found.state is SaleState.REFUSED and found.nonce and not found.retryable
            if found.state is SaleState.PAID or given_up or final:
                raise PosError(
                    f"This charge is {found.state}, and stays so.",
                    hint="Start another one under another name.",
                    state=str(found.state),
                )
            if found.sale and found.state is SaleState.REFUSED and found.nonce:
                self.till.retry(found.sale)
            else:
                self._begin(reference, found.amount, found.operator, pin)
            return self.get(reference)

    def give_pin(self, reference: str, pin: str) -> Order:
        """The payer's PIN, where the card wants one. Raises PosError, UnknownOrder."""
        return self._at_till(reference, lambda sale: self.till.give_pin(sale, pin))

    def cancel(self, reference: str) -> Order:
        """Wait no more for a card. Raises PosError if one is being asked or may have paid, UnknownOrder."""
        if self.get(reference).state is SaleState.CANCELLED:
            return self.get(reference)
        return self._at_till(reference, self.till.cancel)

    def give_up(self, reference: str) -> Order:
        """Give up a charge of which nobody knows whether a card has paid it: if one has, the money goes back.
        Raises PosError, UnknownOrder."""
        # Signing can take a SAM seconds: only who gives up as well waits for it, not who charges.
        with self._signing:
            with self._lock:
                found = self.get(reference)
                if found.state is SaleState.CANCELLED:
                    return found
                if not found.sale:
                    if found.nonce is None or found.state is SaleState.PAID:
                        raise PosError(
                            f"This charge is {found.state}: there is nothing to give up.",
                            hint="A payment that was made is given back by a refund.",
                            state=str(found.state),
                        )
                    self._leaving = reference
            if found.sale:
                return self._at_till(reference, self.till.give_up)
            try:
                with self.till.pos(found.operator) as pos:
                    pos.give_up(found.nonce)
                with self._lock:
                    self._seen.pop(reference, None)
            finally:
                self._leaving = ""
        self.till.sync_now()
        return self.get(reference)

    def _at_till(self, reference: str, act: Callable[[str], Sale]) -> Order:
        found = self.get(reference)
        if not found.sale:
            raise PosError(
                f"This charge is {found.state}, and not the one at the till.",
                hint="Ask how it stands, or have it tried again.",
                state=str(found.state),
            )
        act(found.sale)
        return self.get(reference)

    def _begin(self, reference: str, amount: int, operator: str, pin: str | None) -> None:
        if reference == self._leaving:
            raise PosError(
                "This charge is being given up; no card was asked.", hint="Ask how it stands."
            )
        self.till.begin(amount, operator=operator, pin=pin, reference=reference)
        self._note()

    def _note(self) -> Sale | None:
        """The sale at the till, remembered under its name."""
        sale = self.till.sale
        if sale is not None and sale.reference is not None:
            self._seen[sale.reference] = sale
            self._seen.move_to_end(sale.reference)
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        return sale


def _of_sale(sale: Sale, payment: m.Payment | None, *, at_till: bool) -> Order:
    state = sale.state
    if not at_till and state not in ENDS:
        # Another sale took its place before it ended, and no card has paid: else it were in the books.
        state = SaleState.CANCELLED
    return Order(
        reference=sale.reference or "",
        amount=sale.amount,
        state=state,
        operator=sale.operator,
        message=sale.message,
        hint=sale.hint,
        reason=sale.reason,
        retryable=sale.retryable or (state is not SaleState.PAID and sale.nonce is None),
        nonce=sale.nonce,
        payment=payment or sale.payment,
        sale=sale.id if at_till else "",
    )


def _of_request(request: m.OpenRequest, payment: m.Payment | None, sale: Sale | None) -> Order:
    """A charge that only the books know. sale: its last one at the till, for what happened there."""
    state, message, hint, reason = SaleState.UNKNOWN, "", "", request.refused or ""
    if payment is not None:
        state = SaleState.PAID
    elif request.state is R.VOIDED:
        state = SaleState.CANCELLED
        message = (
            "The request was given up. You have not been paid; what the card has set aside goes back to "
            "the customer."
        )
    elif request.refused:
        state = SaleState.REFUSED
        message, hint = REASONS.get(request.refused, ("", ""))
    elif sale is not None:
        message, hint = sale.message, sale.hint
    else:
        message = "A card was asked, and may have paid."
        hint = "Tap the SAME card again: nothing is paid twice. If that is not possible, give the charge up."
    return Order(
        reference=request.reference or "",
        amount=request.amount,
        state=state,
        operator=request.operator,
        message=message,
        hint=hint,
        reason=reason,
        retryable=state is SaleState.UNKNOWN or (bool(reason) and reason in RETRYABLE),
        nonce=request.nonce,
        payment=payment,
    )

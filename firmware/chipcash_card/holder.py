# SPDX-License-Identifier: Apache-2.0
"""What the holder of the card says to a payment: the PIN, and on a card with a screen the button."""

from chipcash_card.purse import Refused
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_card.suites import Suite
    from chipcash_drivers.indicator import Indicator
    from chipcash_panel.panel import Panel
    from chipcash_wire import card_objects as o

_SHOWN = {
    c.SW_SECURITY: "This payment needs your PIN.",
    c.SW_INSUFFICIENT_FUNDS: "There is not enough money on this card.",
    c.SW_LIMIT_PAYMENT: "This is more than one payment may be.",
    c.SW_LIMIT_CUMULATIVE: "The limit for payments without network is reached. Please synchronise this card.",
    c.SW_LIMIT_COUNT: "The limit for payments without network is reached. Please synchronise this card.",
    c.SW_EXPIRED: "This card has expired. Please synchronise it.",
}
"""Refusals that the holder can do something about. Others are the terminal's to see."""


class Holder:
    """The holder during one PAY. suite: of the card; pin_verified: the command's PIN session; far: it comes
    from farther than a hand's breadth; panel: screen and buttons, None on a card without; indicator: LED and
    buzzer, which tell and cannot ask, None on a card without."""

    def __init__(
        self,
        suite: "Suite",
        pin_verified: bool,
        far: bool,
        panel: "Panel | None",
        indicator: "Indicator | None",
    ) -> None:
        self._suite = suite
        self._pin = pin_verified
        self._far = far
        self._panel = panel
        self._indicator = indicator

    @property
    def must_verify(self) -> bool:
        """Whether this payment needs the PIN whatever the amount: from afar, and there is no button."""
        return self._far and self._panel is None

    def verified(self, request: "o.PayRequest") -> bool:
        """Whether the holder has given the PIN for this payment, now or before confirming it."""
        return self._pin or (
            self._panel is not None and self._panel.pin_was_verified(*self._what(request))
        )

    def agree(self, request: "o.PayRequest") -> None:
        """Ask the holder to confirm a payment that only waits for this. Raises Refused while he has not."""
        panel = self._panel
        if panel is None or (request.amount <= panel.confirm_above and not self._far):
            return
        from chipcash_panel.panel import ASKED, DECLINED  # most cards have no panel

        nonce, payee, amount = self._what(request)
        answer = panel.consent(nonce, payee, amount, self._pin)
        if answer == ASKED:
            raise Refused(c.SW_ASKED)
        if answer == DECLINED:
            raise Refused(c.SW_DECLINED)

    def paid(self, request: "o.PayRequest", balance: int, pending: int) -> None:
        """Tell the holder of a payment that is stored; balance and pending: fen after it."""
        for front in (self._panel, self._indicator):
            if front is not None:
                _, payee, amount = self._what(request)
                front.paid(payee, amount, balance, pending)

    def refused(self, sw: int) -> None:
        """Tell the holder why there is no payment."""
        indicator = self._indicator
        if self._panel is not None and sw in _SHOWN:
            self._panel.failed(_SHOWN[sw])
        if indicator is not None and sw == c.SW_ASKED:
            indicator.asked()
        elif indicator is not None and (sw in _SHOWN or sw == c.SW_DECLINED):
            indicator.failed("")

    def _what(self, request: "o.PayRequest") -> "tuple[bytes, bytes, int]":
        return request.nonce, self._suite.hash(request.payee)[:8], request.amount

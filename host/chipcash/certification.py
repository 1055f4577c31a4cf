# SPDX-License-Identifier: Apache-2.0
"""The certification center: certifies the keys of institutions and cards (objects.md, certificate).

It alone knows which person a card's key belongs to; that link is kept outside of this toolkit and appears
in no certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chipcash import crypto
from chipcash.clock import DAY, Clock, system_clock
from chipcash_wire import objects as o

__all__ = ["CARD_VALIDITY", "INSTITUTION_VALIDITY", "TIER_PER_PAYMENT", "Authority"]

INSTITUTION_VALIDITY = 10 * 365 * DAY
"""Default validity of an institution's certificate, seconds."""
CARD_VALIDITY = 5 * 365 * DAY
"""Default validity of a card's certificate, seconds."""
TIER_PER_PAYMENT = {1: 500_000, 2: 100_000, 3: 50_000, 4: 20_000}
"""Default limit of one offline payment by tier, fen."""


@dataclass(frozen=True)
class Authority:
    """A certification center. key: its private key; network: 4 bytes; clock: seconds since 1970."""

    key: crypto.PrivateKey = field(repr=False)
    network: bytes
    clock: Clock = system_clock

    def certify_institution(
        self, subject: bytes, role: int, *, validity: int = INSTITUTION_VALIDITY
    ) -> o.Certificate:
        """Certify an issuing library, center, bank or merchant (role 1 to 4).

        subject: its public key, 33 bytes; validity: seconds from now. Raises WireError for another role.
        """
        return self._certify(subject, role, validity)

    def certify_card(
        self,
        subject: bytes,
        *,
        tier: int,
        form: int = o.FORM_IC_CARD,
        per_payment: int | None = None,
        validity: int = CARD_VALIDITY,
    ) -> o.Certificate:
        """Certify a card's key.

        subject: public key, 33 bytes; tier 1 to 4 as the wallet types; form 1 to 5; per_payment: most fen
        of one offline payment, by default the tier's; validity: seconds from now. Raises WireError if
        tier or form is unknown.
        """
        if per_payment is None:
            per_payment = TIER_PER_PAYMENT.get(tier, 0)
        return self._certify(subject, o.ROLE_CARD, validity, tier, form, per_payment)

    def _certify(
        self,
        subject: bytes,
        role: int,
        validity: int,
        tier: int | None = None,
        form: int | None = None,
        per_payment: int | None = None,
    ) -> o.Certificate:
        now = self.clock()
        certificate = o.Certificate(
            header=o.make_header(self.network, self.key.suite.id),
            signer=self.key.key_id,
            time=now,
            expiry=now + validity,
            subject=subject,
            role=role,
            tier=tier,
            form=form,
            per_payment=per_payment,
        )
        return certificate.signed(self.key.sign(certificate.message()))

# SPDX-License-Identifier: Apache-2.0
"""A bank's counter: blank cards become cards of a network (GlobalPlatform: personalisation)."""

from __future__ import annotations

import secrets

from chipcash.card import Card
from chipcash.center.client import CenterApi
from chipcash.certification import Authority
from chipcash.trust import Trust
from chipcash_wire import commands as c
from chipcash_wire import objects as o

__all__ = ["new_puk", "personalise"]


def new_puk() -> str:
    """A PUK from the system's generator, digits."""
    return str(secrets.randbelow(10**c.PUK_SIZE)).zfill(c.PUK_SIZE)


def personalise(
    card: Card,
    authority: Authority,
    center: CenterApi,
    trust: Trust,
    *,
    pin: str,
    puk: str,
    tier: int,
    form: int = o.FORM_IC_CARD,
) -> o.Certificate:
    """Make a selected card, blank or keyed, a card of the network; its certificate.

    The card makes its own key; authority certifies it; the center registers it and gives its first limits.
    pin: 4 to 12 digits; puk: 8 digits; tier 1 to 4, form 1 to 5 as in objects.md. A card that was cut off
    in between is done again: it then gets another key. Raises CardError (6985: it is personalised
    already), WireError for a PIN, PUK, tier or form that does not exist, CenterError.
    """
    public = card.generate_key(trust.suite)
    certificate = authority.certify_card(public, tier=tier, form=form)
    risk = center.register_card(certificate)
    card.personalise(
        o.Personalisation(
            center_key=trust.center_key,
            certification_key=trust.certification_key,
            pin=pin.encode(),
            puk=puk.encode(),
            certificate=certificate,
            risk=risk,
        )
    )
    return certificate

# SPDX-License-Identifier: Apache-2.0
"""The cardholder's side, online: what an app or a bank's machine does for a card that is in its reader.

Everything here may be repeated or cut off at any point: the center answers the same again, and the card
takes each thing once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from chipcash.card import Card, CardError
from chipcash.center.client import CenterApi
from chipcash.center.errors import CenterRefused
from chipcash.genuine import genuine
from chipcash.trust import Trust, object_id
from chipcash_wire import commands as c
from chipcash_wire import objects as o

__all__ = ["Synchronisation", "load", "synchronise"]

_NOT_YET = ("not-yet", "unknown")


@dataclass
class Synchronisation:
    """What a synchronisation did. Amounts in fen.

    loaded: titles that the card took; loaded_fen: their money; reclaimed_fen: of it, what came back from
    payments that nobody deposited or from expired titles; received_fen: what other cards had paid to this one
    and is now verified; lost_fen: what they had paid and is not good, because it was paid elsewhere before or
    came too late; limits_renewed: whether the offline counts were
    reset; refused: why the center would not, for people; left: titles that the card did not take, for want
    of room or because they are too old for it: they stay the card's at the center, and come back renewed
    when they expire.
    """

    loaded: list[o.Title] = field(default_factory=list)
    loaded_fen: int = 0
    reclaimed_fen: int = 0
    received_fen: int = 0
    lost_fen: int = 0
    limits_renewed: bool = False
    refused: str = ""
    left: int = 0


def load(card: Card, title: o.Title) -> bool:
    """Put a title on the card: True, or False if the card has had it before. Raises CardError."""
    try:
        card.put(title)
    except CardError as error:
        if error.sw != c.SW_STALE:
            raise
        return False
    return True


def synchronise(card: Card, center: CenterApi, trust: Trust) -> Synchronisation:
    """Bring a selected card up to date: limits and time, money that came back, titles that are its own.

    Only in a PIN session it deposits what other cards paid to this one, renews the limits, and reclaims what
    the card's last payments left with terminals that never deposited it; without one, that money comes back
    when its title expires. A card on the blacklist gets no new limits (`refused` says so), but its titles.
    Raises CardForged, CardError, LinkLostError, CenterError; after any of them repeat it.
    """
    done = Synchronisation()
    key = card.certificate().subject
    in_pin_session = card.info().balance is not None
    if in_pin_session:
        _deposit(
            card, center, trust, done
        )  # before the card learns a time that may be past a deadline
        try:
            proof, _ = genuine(card, trust, center.challenge(key))
            card.put(center.risk(key, proof))
            done.limits_renewed = True
        except CenterRefused as refused:
            done.refused = refused.message
    now = center.signed_time()
    try:
        card.put(now)
    except CardError as error:
        if error.sw != c.SW_STALE:
            raise
    back = _reclaim_claims(card, center, trust) if in_pin_session else []
    titles = []
    for title in center.titles(key):
        if title.expiry < now.time:
            reclaim = o.Reclaim(header=trust.header, claims=(), voids=(), title_id=object_id(title))
            back += _reclaim(center, reclaim, (title,))
        else:
            titles.append(title)
    returned = {object_id(title) for title in back}
    known = {object_id(title) for title in titles}
    titles += [title for title in back if title.owner == key and object_id(title) not in known]
    # The largest first: a card has few places, and anybody can send it titles of one fen.
    for title in sorted(titles, key=lambda title: title.lo - title.hi):
        try:
            if not load(card, title):
                continue
        except CardError as error:
            if error.sw not in (c.SW_NO_SPACE, c.SW_EXPIRED):
                raise
            done.left += 1
            continue
        done.loaded.append(title)
        done.loaded_fen += title.hi - title.lo
        if object_id(title) in returned:
            done.reclaimed_fen += title.hi - title.lo
    return done


def _deposit(card: Card, center: CenterApi, trust: Trust, done: Synchronisation) -> None:
    """Have the center verify what other cards paid to this one. One by one: a card takes short receipts."""
    for claim in list(card.received()):
        deposit = o.Deposit(header=trust.header, nonce=secrets.token_bytes(16), claims=(claim,))
        receipt = center.settle(deposit)
        try:
            card.put(receipt)
        except CardError as error:
            if error.sw != c.SW_STALE:  # an invalid claim stays, should there be one
                raise
        for result in receipt.results:
            for outcome in result.outcomes:
                fen = outcome.hi - outcome.lo
                if outcome.state == o.SETTLED:
                    done.received_fen += fen
                else:
                    done.lost_fen += fen


def _reclaim_claims(card: Card, center: CenterApi, trust: Trust) -> list[o.Title]:
    """Ask for the money of the payments that the card remembers; they are shown in a PIN session."""
    back: list[o.Title] = []
    for payment in card.payments():
        reclaim = o.Reclaim(header=trust.header, claims=(payment.claim,), voids=())
        back += _reclaim(center, reclaim, payment.titles)
    return back


def _reclaim(center: CenterApi, reclaim: o.Reclaim, titles: Sequence[o.Title]) -> list[o.Title]:
    """The titles that a reclaim brings back; none while the payee may still deposit."""
    try:
        return list(center.reclaim(reclaim, titles).titles)
    except CenterRefused as refused:
        if refused.name in _NOT_YET:
            return []
        raise

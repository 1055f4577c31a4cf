# SPDX-License-Identifier: Apache-2.0
"""Who the card is that one talks to: genuine proofs, and the secure channel that rests on the same key.

See protocols/spec/channel.md. Offline; what is trusted is the network's certification key.
"""

from __future__ import annotations

from chipcash import crypto
from chipcash.card import Card, CardError, ChannelNeeded
from chipcash.errors import ChipcashError
from chipcash.trust import Trust
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire.channel import Channel

__all__ = ["CardForged", "genuine", "keep_secret", "open_channel", "verify_pin"]


class CardForged(ChipcashError):
    """What is in the reader cannot prove that it is a certified card of this network."""

    exit_code = 11


def genuine(card: Card, trust: Trust, challenge: bytes) -> tuple[o.GenuineProof, o.Certificate]:
    """Have the card prove over a fresh challenge (16 bytes) that it holds its certified key.

    Raises CardForged if the certificate or the proof is not good.
    """
    proof, certificate = card.authenticate(challenge)
    _check(proof, certificate, trust)
    return proof, certificate


def open_channel(card: Card, trust: Trust) -> o.Certificate:
    """Have all further commands to a selected card travel in a secure channel; the card's certificate.

    Nobody between this process and the certified card reads or changes them from here on, until SELECT.
    Raises CardForged if the other end is not a certified card of this network, CardError.
    """
    suite = crypto.suite(trust.suite)
    ephemeral = crypto.PrivateKey.generate(suite)
    try:
        proof, certificate = card.agree(ephemeral.public)
    except CardError as error:
        if error.sw != c.SW_DATA:
            raise
        raise CardForged(
            f"The card does not take a key of suite {suite.name}: it belongs to another network.",
            hint="Ask for a card of this network.",
        ) from None
    _check(proof, certificate, trust)
    try:
        secret = ephemeral.agree(proof.card_key)
    except crypto.CryptoError:
        raise CardForged(
            "The card's half of the key agreement is no point of the curve.",
            hint="Do not use it: it is forged, or faulty.",
        ) from None
    card.seal(Channel(suite.hash, suite.cipher, secret, proof.message(), card=False))
    return certificate


def keep_secret(card: Card, trust: Trust | None) -> None:
    """Make sure that nobody reads along what is sent to a selected card: a channel, where radio is the path.

    trust: the card's network. Raises ChannelNeeded if it is None and a channel is needed; as open_channel.
    """
    if not card.connection.over_air or card.sealed:
        return
    if trust is None:
        raise ChannelNeeded(
            card.connection.path,
            hint="Name the network whose cards are trusted by its public file, with --network; or put the "
            "card in contact with a reader.",
        )
    open_channel(card, trust)


def verify_pin(card: Card, pin: str, trust: Trust | None) -> None:
    """Begin a PIN session with a selected card, over any link. Raises PinError, and as keep_secret."""
    keep_secret(card, trust)
    card.verify_pin(pin)


def _check(
    proof: o.GenuineProof | o.ChannelProof, certificate: o.Certificate, trust: Trust
) -> None:
    if certificate.role != o.ROLE_CARD or not trust.signed_by_certification(certificate):
        raise CardForged(
            "The card's certificate is not signed by this network's certification center.",
            hint="Do not accept it: it is forged, or of another network.",
        )
    if proof.subject != certificate.subject or not trust.signed_by(proof, certificate.subject):
        raise CardForged(
            "The card cannot prove that it holds the key of its certificate.",
            hint="Do not accept it: it is a copy of somebody else's certificate.",
        )

# SPDX-License-Identifier: Apache-2.0
"""The secure channel from the host's side, to emulated cards, with somebody in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash import crypto
from chipcash.card import Card, CardError, CardReplyError, ChannelNeeded, PinError
from chipcash.errors import LinkLostError
from chipcash.genuine import CardForged, keep_secret, open_channel, verify_pin
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash_card import suites
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire import tlv
from chipcash_wire.channel import TAG, Channel, ChannelBroken
from tests.builders import NOW, SUITES, Network, network
from tests.cards import PIN, PUK, make_card


class Between(BaseConnection):
    """Somebody who hears everything, and may change it. answer: what comes back instead, if anything does."""

    def __init__(self, inner: Connection) -> None:
        super().__init__(inner.path, over_air=inner.over_air)
        self.inner = inner
        self.heard: list[bytes] = []
        self.command: Callable[[bytes], bytes] = lambda apdu: apdu
        self.answer: Callable[[bytes], bytes] = lambda answer: answer

    def _transceive(self, apdu: bytes) -> bytes:
        answer = self.inner.transceive(self.command(apdu))
        self.heard += [apdu, answer]
        return self.answer(answer)

    def close(self) -> None:
        self.inner.close()


class World:
    def __init__(self, folder: Path, suite: str) -> None:
        self.net: Network = network(suite)
        self.image = folder / "card.img"
        self.public = make_card(self.image, self.net)

    def open(self, runtime: str = "inprocess", air: bool = True) -> Between:
        return Between(open_path(f"sim:{self.image}?runtime={runtime}&contactless={int(air)}"))


@pytest.fixture(params=SUITES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


@pytest.fixture
def air(world: World) -> Iterator[Between]:
    with world.open() as opened:
        yield opened


@pytest.fixture
def card(air: Between) -> Card:
    card = Card(air)
    card.select()
    return card


@pytest.mark.parametrize("runtime", ["inprocess", "cpython", "micropython"])
def test_everything_that_needs_the_pin_over_the_air(world: World, runtime: str) -> None:
    net = world.net
    with world.open(runtime) as air:
        card = Card(air)
        card.select()
        verify_pin(card, PIN, net.trust)
        assert card.sealed
        assert card.info().balance == 0
        title = net.title(world.public, amount=40_000, hi=40_000)
        card.put(title)
        card.put(net.risk(world.public, sequence=2, time=NOW, pin_free=1))
        assert [record.title for record in card.titles()] == [title]
        payment = o.Payment.decode(card.pay(net.request(39_000)))
        assert payment.claim.amount == 39_000
        with pytest.raises(PinError):
            card.pay(net.request(2))  # the session ended with the payment that needed it
        card.change_pin(PIN, "4321")
        assert card.pin_tries() == 3
        card.unblock_pin(PUK, PIN)
        with pytest.raises(PinError) as wrong:
            card.verify_pin("4321")
        assert wrong.value.attempts_left == 2
        heard = b"".join(air.heard)
        for secret in (PIN, PUK, "4321"):
            assert secret.encode() not in heard
        assert title.encode() not in heard and payment.encode() not in heard


def test_the_pin_of_a_channel_is_only_in_it(world: World, card: Card, air: Between) -> None:
    """Somebody else who can send commands on the same link gains nothing by the holder's PIN."""
    verify_pin(card, PIN, world.net.trust)
    other = Card(air)  # without SELECT, which would end everything
    assert other.info().balance is None
    with pytest.raises(PinError):
        list(other.titles())
    assert card.info().balance == 0  # and what he says in between ends nothing
    open_channel(other, world.net.trust)
    with pytest.raises(PinError):
        list(other.titles())
    with pytest.raises(LinkLostError):
        card.info()


def test_contacts_need_no_channel(world: World) -> None:
    with world.open(air=False) as contact:
        card = Card(contact)
        card.select()
        verify_pin(card, PIN, None)
        assert not card.sealed and card.info().balance == 0
        open_channel(card, world.net.trust)  # but may have one
        assert card.info().balance is None
        card.verify_pin(PIN)
        assert card.info().balance == 0


def test_no_pin_is_sent_to_nobody_knows_whom(card: Card, air: Between) -> None:
    before = len(air.heard)
    with pytest.raises(ChannelNeeded, match="not sent"):
        verify_pin(card, PIN, None)
    assert len(air.heard) == before


def test_no_pin_is_sent_to_a_card_of_another_network(card: Card, air: Between) -> None:
    with pytest.raises(CardForged, match="not signed by this network|another network"):
        verify_pin(card, PIN, Network("p256").trust)
    assert air.heard[-2][1] == c.INS_GENERAL_AUTHENTICATE


def test_who_has_only_a_certificate_gets_no_pin(world: World, card: Card, air: Between) -> None:
    """In the middle, with the true card's proof and certificate, but an ephemeral key of one's own."""
    mine = crypto.PrivateKey.generate(world.net.suite)

    def forged(answer: bytes) -> bytes:
        _, _, end = tlv.header(answer, 0)
        proof = o.ChannelProof.decode(answer[:end])
        changed = o.ChannelProof(**{**proof.__dict__, "card_key": mine.public})
        return changed.encode() + answer[end:]

    air.answer = forged
    with pytest.raises(CardForged, match="cannot prove"):
        verify_pin(card, PIN, world.net.trust)
    assert not card.sealed and air.heard[-2][1] == c.INS_GENERAL_AUTHENTICATE


def test_an_old_agreement_opens_nothing(world: World, card: Card, air: Between) -> None:
    open_channel(card, world.net.trust)
    old = air.heard[-1]
    card.select()
    air.answer = lambda answer: old
    with pytest.raises(CardReplyError, match="another agreement"):
        verify_pin(card, PIN, world.net.trust)


@pytest.mark.parametrize("at", [7, -3])
def test_a_changed_command_is_not_carried_out(
    world: World, card: Card, air: Between, at: int
) -> None:
    card.put(world.net.title(world.public))
    open_channel(card, world.net.trust)

    def changed(apdu: bytes) -> bytes:
        flipped = bytearray(apdu)
        flipped[at] ^= 1  # the first byte sealed, or the last of the tag
        return bytes(flipped)

    air.command = changed
    request = world.net.request(100)
    with pytest.raises(LinkLostError, match=r"6988") as lost:
        card.pay(request)
    assert lost.value.maybe_executed  # for all that this end can know
    air.command = lambda apdu: apdu
    assert not card.sealed and card.info().counter == 0
    card.pay(request)


def test_a_changed_reply_is_a_lost_answer(world: World, card: Card, air: Between) -> None:
    """The card has paid; the same request brings the payment that nobody could read."""
    card.put(world.net.title(world.public))
    open_channel(card, world.net.trust)
    air.answer = lambda answer: bytes((answer[0] ^ 1,)) + answer[1:]
    request = world.net.request(100)
    with pytest.raises(LinkLostError) as lost:
        card.pay(request)
    assert lost.value.maybe_executed
    air.answer = lambda answer: answer
    assert card.info().counter == 1
    again = o.Payment.decode(card.pay(request))
    assert (again.claim.counter, card.info().counter) == (1, 1)


def test_a_status_word_from_outside_is_nobodys(world: World, card: Card, air: Between) -> None:
    """“Insufficient funds” in clear would make a terminal believe that nothing was paid."""
    card.put(world.net.title(world.public))
    open_channel(card, world.net.trust)
    air.answer = lambda answer: b"\x94\x01"
    with pytest.raises(LinkLostError, match="9401") as lost:
        card.pay(world.net.request(100))
    assert lost.value.maybe_executed


def test_no_pin_in_clear_once_the_channel_broke(world: World, card: Card, air: Between) -> None:
    verify_pin(card, PIN, world.net.trust)
    air.answer = lambda answer: bytes((answer[0] ^ 1,)) + answer[1:]
    with pytest.raises(LinkLostError):
        card.info()
    air.answer = lambda answer: answer
    before = len(air.heard)
    for act in (
        lambda: card.verify_pin(PIN),
        lambda: card.change_pin(PIN, "4321"),
        lambda: card.unblock_pin(PUK, PIN),
    ):
        with pytest.raises(ChannelNeeded):
            act()
    assert len(air.heard) == before
    verify_pin(card, PIN, world.net.trust)  # a new channel


def test_a_reply_that_was_kept_is_not_the_next_one(world: World, card: Card, air: Between) -> None:
    """Who keeps one sealed reply back, and gives it for the next command's, is found out."""
    verify_pin(card, PIN, world.net.trust)
    kept: list[bytes] = []

    def keep(answer: bytes) -> bytes:
        kept.append(answer)
        raise LinkLostError("The line broke.", maybe_executed=True)

    air.answer = keep
    with pytest.raises(LinkLostError):
        card.info()
    air.answer = lambda answer: kept[0]
    with pytest.raises((ChannelNeeded, LinkLostError, CardReplyError)):
        card.change_pin(PIN, "4321")
    air.answer = lambda answer: answer
    card.select()
    verify_pin(card, PIN, world.net.trust)  # the PIN is the old one


def test_a_repeated_command_closes_the_channel(world: World, card: Card, air: Between) -> None:
    verify_pin(card, PIN, world.net.trust)
    sealed = air.heard[-2]
    assert air.transceive(sealed) == b"\x69\x88"
    with pytest.raises(LinkLostError):
        card.info()


def test_short_apdus_carry_it_too(world: World, air: Between) -> None:
    card = Card(air, extended=False)
    card.select()
    verify_pin(card, PIN, world.net.trust)
    for _ in range(3):
        card.put(world.net.title(world.public, amount=1000, hi=1000))
    assert len(o.Payment.decode(card.pay(world.net.request(2500))).titles) == 3
    assert max(len(apdu) for apdu in air.heard[::2]) <= 261


def test_refusals_are_those_of_the_command(world: World, card: Card) -> None:
    open_channel(card, world.net.trust)
    with pytest.raises(CardError) as refused:
        card.pay(world.net.request(100))
    assert (refused.value.sw, refused.value.command) == (c.SW_INSUFFICIENT_FUNDS, "PAY")
    keep_secret(card, None)  # it is one already


# The two ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_host_and_card_agree(suite: str) -> None:
    curve = suites.BY_NAME[suite].curve
    for _ in range(10):
        mine, other = (crypto.PrivateKey.generate(suite) for _ in range(2))
        point = curve.decompress(other.public)
        assert point is not None
        number = int.from_bytes(mine.private_bytes(), "big")
        assert curve.agree(number, point) == mine.agree(other.public) == other.agree(mine.public)
    for bad in (b"", b"\x02" + b"\xff" * 32, b"\x04" + bytes(32), other.public + b"\x00"):
        with pytest.raises(crypto.CryptoError):
            mine.agree(bad)


def ends(suite: str) -> tuple[Channel, Channel]:
    host, card = crypto.suite(suite), suites.BY_NAME[suite]
    made = [
        Channel(end.hash, end.cipher, bytes(32), b"proof", is_card)
        for end, is_card in ((host, False), (card, True))
    ]
    return made[0], made[1]


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.binary(max_size=70), max_size=4), data=st.data())
def test_what_is_sealed_opens_once_and_unchanged(
    suite: str, texts: list[bytes], data: st.DataObject
) -> None:
    host, card = ends(suite)
    for text in texts:
        assert card.open(host.seal(text)) == text
        assert host.open(card.seal(text)) == text
    sealed = host.seal(b"the next")
    how = data.draw(st.sampled_from(["flip", "cut", "grow", "again", "own"]))
    if how == "flip":
        at = data.draw(st.integers(0, len(sealed) - 1))
        sealed = (
            sealed[:at] + bytes((sealed[at] ^ data.draw(st.integers(1, 255)),)) + sealed[at + 1 :]
        )
    elif how == "cut":
        sealed = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    elif how == "grow":
        sealed += data.draw(st.binary(min_size=1, max_size=40))
    elif how == "again":
        assert card.open(sealed) == b"the next"
    else:
        sealed = card.seal(b"the next")
    with pytest.raises(ChannelBroken):
        card.open(sealed)


@settings(max_examples=50, deadline=None)
@given(text=st.binary(max_size=200), before=st.integers(0, 3))
def test_the_ccm_is_everybodys(text: bytes, before: int) -> None:
    """That of OpenSSL, which has it for AES; make_channel.py puts SM4's together in another way."""
    host, _ = ends("p256")
    key = crypto.suite("p256").hash(bytes(32) + b"\x00\x00\x00\x01" + b"proof")[:16]
    for _ in range(before):
        host.seal(b"")
    theirs = AESCCM(key, tag_length=TAG).encrypt(before.to_bytes(13, "big"), text, None)
    assert host.seal(text) == theirs

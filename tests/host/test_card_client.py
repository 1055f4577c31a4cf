# SPDX-License-Identifier: Apache-2.0
"""The card client against the emulated card: every command, over long, short and broken links."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash import crypto
from chipcash.card import Card, CardError, CardReplyError, Exchange, PinError
from chipcash.errors import LinkLostError
from chipcash.terminal import verify_payment
from chipcash.terminal.verify import Policy
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import DAY, NOW, SUITES, network
from tests.cards import PIN, PUK, make_card


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def connection(suite: str, tmp_path: Path) -> Iterator[Connection]:
    image = tmp_path / "card.img"
    make_card(image, network(suite))
    with open_path(f"sim:{image}") as opened:
        yield opened


class ShortLink(BaseConnection):
    """A T=0 like link in front of a card: no extended length, replies in pieces, 6Cxx for a wrong Le."""

    def __init__(self, inner: Connection, *, strict_le: bool = False) -> None:
        super().__init__("short:", over_air=False)
        self.inner = inner
        self.strict_le = strict_le
        self.longest = 0
        self.corrected = 0

    def _transceive(self, apdu: bytes) -> bytes:
        self.longest = max(self.longest, len(apdu))
        if len(apdu) > 5 and apdu[4] == 0:
            return b"\x67\x00"
        if self.strict_le and apdu[1] == c.INS_SELECT and apdu[-1] == 0:
            self.corrected += 1
            return b"\x6c\x20"
        return self.inner.transceive(apdu)

    def close(self) -> None:
        self.inner.close()


class Scripted(BaseConnection):
    """A card that answers what it is told to; LinkLostError where an answer is None."""

    def __init__(self, *answers: bytes | None, reached: bool = False) -> None:
        super().__init__("scripted:", over_air=False)
        self.answers = list(answers)
        self.reached = reached

    def _transceive(self, apdu: bytes) -> bytes:
        answer = self.answers.pop(0)
        if answer is None:
            raise LinkLostError("gone", maybe_executed=self.reached)
        return answer

    def close(self) -> None: ...


def test_every_reading_command(suite: str, connection: Connection) -> None:
    net = network(suite)
    card = Card(connection)
    info = card.select()
    assert info.header == net.header and info.lifecycle == o.LIFE_PERSONALISED
    certificate = card.certificate()
    assert net.trust.signed_by_certification(certificate)
    assert card.risk().subject == certificate.subject
    assert card.info().balance is None
    title = net.title(certificate.subject)
    card.put(title)
    with pytest.raises(PinError) as caught:
        list(card.titles())
    assert caught.value.sw == c.SW_SECURITY and caught.value.attempts_left is None
    card.verify_pin(PIN)
    assert card.info().balance == 10000
    assert [record.title for record in card.titles()] == [title]
    assert list(card.payments()) == []
    request = net.request(1200)
    answer = card.pay(request)
    assert card.pay(request) == answer
    assert [payment.encode() for payment in card.payments()] == [answer]
    (record,) = card.titles()
    assert record.lo == 1200


def test_a_payment_of_the_card_verifies(suite: str, connection: Connection) -> None:
    net = network(suite)
    card = Card(connection)
    card.select()
    for amount in (700, 800):
        card.put(net.title(card.certificate().subject, amount=amount, hi=amount))
    request = net.request(1200)
    verified = verify_payment(
        card.pay(request),
        request,
        trust=net.trust,
        policy=Policy(),
        blacklist=net.blacklist(),
        now=NOW,
    )
    assert len(verified.payment.titles) == 2


def test_authenticate(suite: str, connection: Connection) -> None:
    card = Card(connection)
    card.select()
    challenge = secrets.token_bytes(16)
    proof, certificate = card.authenticate(challenge)
    key = certificate.subject
    assert proof.subject == key
    assert crypto.verify(o.SUITES[suite], key, proof.message(), proof.signature)


def test_pin(connection: Connection) -> None:
    card = Card(connection)
    card.select()
    assert card.pin_tries() == 3
    with pytest.raises(PinError) as caught:
        card.verify_pin("999999")
    assert caught.value.attempts_left == 2 and "2 tries left" in caught.value.message
    assert "999999" not in f"{caught.value!r} {caught.value.as_dict()}"
    assert card.pin_tries() == 2
    card.change_pin(PIN, "24680")
    card.verify_pin("24680")
    assert card.pin_tries() == 3
    card.select()
    for left in (2, 1, 0):
        with pytest.raises(PinError) as caught:
            card.verify_pin(PIN)
        assert caught.value.attempts_left == left
    with pytest.raises(PinError) as caught:
        card.verify_pin("24680")
    assert caught.value.sw == c.SW_BLOCKED and card.pin_tries() == 0
    with pytest.raises(PinError) as caught:
        card.unblock_pin("00000000", PIN)
    assert "PUK" in caught.value.message and caught.value.attempts_left == 9
    card.unblock_pin(PUK, PIN)
    card.verify_pin(PIN)


def test_a_code_that_is_no_number_is_not_sent_nor_shown(connection: Connection) -> None:
    seen: list[Exchange] = []
    with pytest.raises(ValueError) as caught:
        Card(connection, trace=seen.append).verify_pin("12a456")
    assert not seen and "12a456" not in str(caught.value)


def test_the_trace_shows_bytes_but_no_pin(connection: Connection) -> None:
    seen: list[Exchange] = []
    card = Card(connection, trace=seen.append)
    card.select()
    card.verify_pin(PIN)
    assert [x.name for x in seen] == ["SELECT", "VERIFY"]
    assert seen[0].command.startswith("00a40400") and seen[0].milliseconds > 0
    assert PIN.encode().hex() not in seen[1].command and PIN not in seen[1].command


@pytest.mark.parametrize("told", [True, False])
def test_a_link_without_extended_length(suite: str, tmp_path: Path, told: bool) -> None:
    """Personalisation goes chained, payments come by GET RESPONSE; told so, or found out by 6700."""
    net = network(suite)
    image = tmp_path / "card.img"
    make_card(image, net, link=ShortLink, extended=not told)
    with open_path(f"sim:{image}") as inner:
        link = ShortLink(inner, strict_le=True)
        card = Card(link, extended=not told)
        card.select()
        assert link.corrected == 1
        card.put(net.title(card.certificate().subject))
        request = net.request(1200)
        payment = o.Payment.decode(card.pay(request))
        assert len(payment.encode()) > 256
        assert payment.claim.nonce == request.nonce
        if told:
            assert link.longest <= 261


def test_refusals_carry_status_word_and_name(suite: str, connection: Connection) -> None:
    net = network(suite)
    card = Card(connection)
    with pytest.raises(CardError) as caught:
        card.info()
    assert caught.value.sw == c.SW_CONDITIONS
    card.select()
    with pytest.raises(CardError) as caught:
        card.pay(net.request(1200))
    error = caught.value
    assert (error.sw, error.name, error.command) == (0x9401, "insufficient funds", "PAY")
    assert "No money moved" in error.message
    assert error.facts["sw"] == "9401"
    with pytest.raises(CardError) as caught:
        card.put(net.title(net.public("somebody")))
    assert caught.value.sw == c.SW_NOT_MINE


def test_generate_key_makes_a_keyed_card(suite: str, tmp_path: Path) -> None:
    with open_path(f"sim:{make_blank(tmp_path)}") as opened:
        card = Card(opened)
        assert card.select().lifecycle == o.LIFE_BLANK
        public = card.generate_key(o.SUITES[suite])
        assert card.generate_key(o.SUITES[suite]) != public
        assert card.info().lifecycle == o.LIFE_KEYED


def make_blank(folder: Path) -> Path:
    from chipcash_sim.image import FileFlash

    image = folder / "blank.img"
    FileFlash(str(image)).close()
    return image


def test_not_a_chipcash_card() -> None:
    with pytest.raises(CardError, match="no chipcash application"):
        Card(Scripted(b"\x6a\x82")).select()


@pytest.mark.parametrize(
    "answers",
    [
        (b"\x90",),
        (b"\x90\x00",),
        (b"\x6f\x00\x90\x00",),
        (b"\x61\x10", b"\x61\x10"),
        (b"\x6f\x61\x10", b"\x6d\x00"),
    ],
    ids=["no status", "empty", "not an object", "endless", "breaks off"],
)
def test_nonsense_is_no_refusal(answers: tuple[bytes, ...]) -> None:
    """CardError would say that nothing happened; after half a reply nobody knows that."""
    with pytest.raises(CardReplyError):
        Card(Scripted(*answers)).select()


@pytest.mark.parametrize("reached", [True, False])
def test_a_link_lost_while_fetching_the_reply_may_have_paid(reached: bool) -> None:
    card = Card(Scripted(b"\xed\x61\x10", None, reached=reached), extended=False)
    with pytest.raises(LinkLostError) as caught:
        card.pay(network("p256").request())
    assert caught.value.maybe_executed


def test_a_link_lost_before_the_command_has_not_paid() -> None:
    with pytest.raises(LinkLostError) as caught:
        Card(Scripted(None)).pay(network("p256").request())
    assert not caught.value.maybe_executed


def test_certificate_and_times_can_be_put(suite: str, connection: Connection) -> None:
    net = network(suite)
    card = Card(connection)
    card.select()
    subject = card.certificate().subject
    card.put(net.signed_time(NOW))
    assert card.info().time == NOW
    card.put(net.certificate(subject, expiry=NOW + 400 * DAY))
    assert card.certificate().expiry == NOW + 400 * DAY
    card.verify_pin(PIN)
    card.put(net.risk(subject, sequence=2, time=NOW, count=7))
    assert card.risk().count == 7
    with pytest.raises(CardError) as caught:
        card.put(net.signed_time(NOW - 1))
    assert caught.value.sw == c.SW_STALE

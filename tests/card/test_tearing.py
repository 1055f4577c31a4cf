# SPDX-License-Identifier: Apache-2.0
"""Power cuts at every flash write, whole and half done, and around every answer: enumerated, both suites."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from chipcash_card.applet import Applet
from chipcash_card.journal import Journal
from chipcash_card.suites import Signer, generate_private, suite
from chipcash_sim.image import MemoryFlash, PowerCut
from chipcash_wire import commands as c
from chipcash_wire import objects as o

from tests.portable.network import NOW, PIN, PUK, Network

BANK = 8192
SUITES = [o.SUITE_GM, o.SUITE_P256]


class Card:
    """An applet on memory flash that can be cut, cloned and restarted."""

    def __init__(self, content: bytearray) -> None:
        self.content = content

    def power(self, cut: int | None = None, half: bool = False) -> MemoryFlash:
        """Power on; PowerCut may come out of it."""
        self.flash = MemoryFlash(self.content, cut, half)
        self.applet = Applet(self.flash, os.urandom)
        return self.flash

    def send(self, *args: object, **kwargs: object) -> tuple[bytes, int]:
        """One extended APDU; (data, sw)."""
        reply = self.applet.process(c.command(*args, le=65536, **kwargs))  # type: ignore[arg-type]
        return reply[:-2], int.from_bytes(reply[-2:], "big")

    def ok(self, *args: object, **kwargs: object) -> bytes:
        """One APDU that must succeed."""
        data, sw = self.send(*args, **kwargs)
        assert sw == c.SW_OK, hex(sw)
        return data

    def select(self) -> None:
        """SELECT."""
        self.ok(c.INS_SELECT, 4, 0, c.AID)

    def pay(self, request: o.PayRequest) -> bytes:
        """PAY that must succeed."""
        return self.ok(c.INS_PAY, data=request.encode(), cla=c.CLA_PROPRIETARY)

    def balance(self) -> int:
        """Balance in fen."""
        self.select()
        self.ok(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)
        info = o.CardInfo.decode(self.ok(c.INS_GET_DATA, c.DATA_INFO))
        assert info.balance is not None
        return info.balance


@pytest.fixture(scope="module", params=SUITES, ids=["gm", "p256"])
def world(request: pytest.FixtureRequest) -> tuple[Network, bytes, bytes]:
    """A network, its card's public key, and the flash of a card with three titles and two payments."""
    net = Network(request.param)
    card = Card(bytearray(b"\xff" * 2 * BANK))
    card.power()
    card.select()
    public = card.ok(c.INS_GENERATE_KEY_PAIR, request.param)
    perso = o.Personalisation(
        center_key=net.center.public,
        certification_key=net.certification.public,
        pin=PIN,
        puk=PUK,
        certificate=net.certificate(public),
        risk=net.risk(public),
    )
    card.ok(c.INS_STORE_DATA, 0x80, 0, perso.encode())
    for hi in (1000, 400, 300):
        card.ok(c.INS_PUT_DATA, data=net.title(public, hi=hi, amount=hi).encode())
    card.pay(net.request(100))
    card.pay(net.request(50))
    return net, public, bytes(card.content)


def every_cut(content: bytes, act: Callable[[Card], object]) -> list[tuple[Card, bool]]:
    """The cards that result from cutting act at every write, whole and half done; whether it ended."""
    card = Card(bytearray(content))
    flash = card.power()
    booted = flash.writes
    act(card)
    total = flash.writes
    assert total > booted
    out = []
    for half in (False, True):
        for cut in range(total):
            card = Card(bytearray(content))
            with pytest.raises(PowerCut):
                card.power(cut, half)
                act(card)
            out.append((card, cut >= booted))
    return out


def claims_of(card: Card) -> list[o.Claim]:
    """The log."""
    claims = []
    for n in range(c.MAX_LOG):
        data, sw = card.send(c.INS_GET_DATA, c.DATA_PAYMENT, n)
        if sw != c.SW_OK:
            break
        claims.append(o.Payment.decode(data).claim)
    return claims


def test_torn_payment(world: tuple[Network, bytes, bytes]) -> None:
    """After any cut the card lives, has the money or the claim, and the retry pays exactly once."""
    net, public, content = world
    request = net.request(1200)  # needs two titles, ends one

    def pay(card: Card) -> None:
        card.select()
        card.pay(request)

    before = 1700 - 150
    seen = set()
    for card, _ in every_cut(content, pay):
        card.power()
        held = card.balance()
        done = any(claim.nonce == request.nonce for claim in claims_of(card))
        assert held == before - (1200 if done else 0)
        seen.add(done)
        first = card.pay(request)
        assert card.pay(request) == first
        payment = o.Payment.decode(first)
        assert net.suite.verify(public, payment.claim.message(), payment.claim.signature or b"")
        assert card.balance() == before - 1200
        card.power()
        card.select()
        assert card.pay(request) == first
        # What is signed afterwards never overlaps what was signed before.
        other = o.Payment.decode(card.pay(net.request(350)))
        spent = [(i.title_id, i.lo, i.hi) for claim in claims_of_all(card) for i in claim.inputs]
        assert other.claim.counter == payment.claim.counter + 1
        for at, (title, lo, hi) in enumerate(spent):
            for title2, lo2, hi2 in spent[at + 1 :]:
                assert title != title2 or hi <= lo2 or hi2 <= lo
    assert seen == {True, False} or seen == {False}


def claims_of_all(card: Card) -> list[o.Claim]:
    """The log, PIN included."""
    card.balance()
    return claims_of(card)


def test_answer_cut_at_every_byte(world: tuple[Network, bytes, bytes]) -> None:
    """However much of the answer arrived, repeating the request brings all of it, and nothing twice."""
    net, _, content = world
    card = Card(bytearray(content))
    card.power()
    request = net.request(1200)
    card.select()
    whole = card.pay(request)
    after = bytes(card.content)
    for size in range(len(whole) + 1):
        with_cut = Card(bytearray(after))
        with_cut.power()
        with_cut.select()
        again = with_cut.pay(request)
        assert again == whole
        if size < len(whole):
            with pytest.raises(ValueError):
                o.Payment.decode(whole[:size])
    assert with_cut.balance() == 1700 - 150 - 1200


def test_cut_before_the_command_changes_nothing(world: tuple[Network, bytes, bytes]) -> None:
    net, _, content = world
    card = Card(bytearray(content))
    card.power()
    assert card.balance() == 1550
    assert all(claim.amount in (50, 100) for claim in claims_of(card))
    del net


@pytest.mark.parametrize("what", ["title", "risk", "time", "pin", "wrong-pin", "change-pin"])
def test_torn_changes(world: tuple[Network, bytes, bytes], what: str) -> None:
    """Everything else that writes is old or new after a cut, and can be done again."""
    net, public, content = world
    obj: o.Object | None = {
        "title": net.title(public, hi=77, amount=77),
        "risk": net.risk(public, 9, cumulative=5),
        "time": net.time(NOW + 99),
    }.get(what)
    pins = {"pin": PIN, "wrong-pin": b"0000"}
    change = b"\x9f\x25\x06" + PIN + b"\x9f\x25\x044321"

    def act(card: Card) -> None:
        card.select()
        if obj is not None:
            card.send(c.INS_PUT_DATA, data=obj.encode())
        elif what in pins:
            card.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, pins[what])
        else:
            card.send(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, change)

    for card, begun in every_cut(content, act):
        card.power()
        card.select()
        info = o.CardInfo.decode(card.ok(c.INS_GET_DATA, c.DATA_INFO))
        assert info.pin_tries in ((2, 3) if begun and "pin" in what else (3,))
        if obj is not None:
            sw = card.send(c.INS_PUT_DATA, data=obj.encode())[1]
            assert sw in (c.SW_OK, c.SW_STALE)
            assert card.send(c.INS_PUT_DATA, data=obj.encode())[1] == c.SW_STALE
            assert card.balance() == 1550 + (77 if what == "title" else 0)
        elif what == "change-pin":
            old = card.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)[1]
            new = card.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"4321")[1]
            assert (old == c.SW_OK) != (new == c.SW_OK)
        else:
            assert card.balance() == 1550


def test_torn_personalisation() -> None:
    """A card torn while it is made is blank, keyed or personalised, and can be finished."""
    net = Network(o.SUITE_P256)
    blank = Card(bytearray(b"\xff" * 2 * BANK))
    blank.power()
    content = bytes(blank.content)

    def finish(card: Card) -> None:
        card.select()
        life = o.CardInfo.decode(card.ok(c.INS_GET_DATA, c.DATA_INFO)).lifecycle
        if life == o.LIFE_PERSONALISED:
            return
        public = card.ok(c.INS_GENERATE_KEY_PAIR, o.SUITE_P256)
        perso = o.Personalisation(
            center_key=net.center.public,
            certification_key=net.certification.public,
            pin=PIN,
            puk=PUK,
            certificate=net.certificate(public),
            risk=net.risk(public),
        )
        card.ok(c.INS_STORE_DATA, 0x80, 0, perso.encode())

    for card, _ in every_cut(content, finish):
        card.power()
        finish(card)
        assert card.balance() == 0


@pytest.mark.parametrize("half", [False, True])
def test_journal_is_old_or_new(half: bool) -> None:
    """Every write of a long history of transactions, moves to the other bank included."""
    size = 2048
    content = bytearray(b"\xff" * 2 * size)
    state: dict[bytes, bytes | None] = {}

    def check(flash: bytearray, *allowed: dict[bytes, bytes | None]) -> None:
        journal = Journal(MemoryFlash(flash))
        found = {key: journal.get(key) for key in journal.keys(b"")}
        assert found in allowed
        journal.commit({b"alive": b"yes"})
        assert Journal(MemoryFlash(flash)).get(b"alive") == b"yes"

    for step in range(60):
        changes: dict[bytes, bytes | None] = {b"a": bytes([step]) * (step * 7 % 300)}
        changes[b"k%d" % (step % 5)] = None if step % 3 == 0 else os.urandom(90)
        new = {key: value for key, value in {**state, **changes}.items() if value is not None}
        counter = MemoryFlash(bytearray(content))
        Journal(counter).commit(changes)
        for cut in range(counter.writes):
            torn = bytearray(content)
            with pytest.raises(PowerCut):
                Journal(MemoryFlash(torn, cut, half)).commit(changes)
            check(torn, state, new)
        Journal(MemoryFlash(content)).commit(changes)
        state = dict(new)
    assert Journal(MemoryFlash(content))._sequence > 5  # it did move between the banks


def test_no_nonce_comes_twice_from_a_dead_generator() -> None:
    """With a random source that always says the same, two boots still sign with different nonces."""
    key = suite(o.SUITE_P256)
    private = generate_private(key, os.urandom)
    signatures = [
        Signer(key, private, boot, lambda n: bytes(n)).sign(b"same message")[:32]
        for boot in range(1, 5)
    ]
    assert len(set(signatures)) == 4

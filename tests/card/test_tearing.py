# SPDX-License-Identifier: Apache-2.0
"""Power cuts at every flash write, whole and half done, and around every byte of an answer: enumerated.

Cards get their randomness from a generator that begins anew with power, so that what a card does can be
done again, cut elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chipcash.card import Card as CardClient
from chipcash.errors import LinkLostError
from chipcash.terminal import Blacklist, Policy, Refusal, verify_payment
from chipcash.terminal.refusals import MALFORMED
from chipcash.transports import open_path
from chipcash.trust import Trust
from chipcash_card.applet import Applet
from chipcash_card.journal import Journal
from chipcash_card.suites import Signer, generate_private, suite
from chipcash_sim.image import BANK as IMAGE_BANK
from chipcash_sim.image import MemoryFlash, PowerCut
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.portable.fuzzing import Dice
from tests.portable.network import DAY, NOW, PIN, PUK, Network

BANK = 8192
SUITES = [o.SUITE_GM, o.SUITE_P256]
MONEY = 1550
"""Fen on the card of a world."""

Store = dict[bytes, bytes | None]


class Card:
    """An applet on memory flash that can be cut, cloned and restarted."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    def power(self, cut: int | None = None, half: bool = False) -> MemoryFlash:
        """Power on; PowerCut may come out of it."""
        self.flash = MemoryFlash(self.content, cut, half)
        self.session = Applet(self.flash, Dice(7).bytes).session()
        return self.flash

    def send(self, *args: object, **kwargs: object) -> tuple[bytes, int]:
        """One extended APDU; (data, sw)."""
        kwargs.setdefault("le", 65536)
        reply = self.session.process(c.command(*args, **kwargs))  # type: ignore[arg-type]
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

    def info(self) -> o.CardInfo:
        """Card info."""
        return o.CardInfo.decode(self.ok(c.INS_GET_DATA, c.DATA_INFO))

    def balance(self) -> int:
        """Balance in fen."""
        self.select()
        self.ok(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)
        balance = self.info().balance
        assert balance is not None
        return balance

    def claims(self) -> list[o.Claim]:
        """The log."""
        self.balance()
        claims = []
        for n in range(c.MAX_LOG):
            data, sw = self.send(c.INS_GET_DATA, c.DATA_PAYMENT, n)
            if sw != c.SW_OK:
                break
            claims.append(o.Payment.decode(data).claim)
        return claims


@dataclass(frozen=True)
class World:
    """A network, its card's public key, and the flash of a card with three titles and two payments."""

    net: Network
    public: bytes
    content: bytes
    titles: list[o.Title]


def make_world(suite_id: int, bank: int = BANK) -> World:
    net = Network(suite_id)
    card = Card(b"\xff" * 2 * bank)
    card.power()
    card.select()
    public = card.ok(c.INS_GENERATE_KEY_PAIR, suite_id)
    card.ok(c.INS_STORE_DATA, 0x80, 0, net.personalisation(public).encode())
    titles = [net.title(public, hi=hi, amount=hi) for hi in (1000, 400)]
    titles.append(net.title(public, hi=300, amount=300, expiry=NOW + 30 * DAY))
    for title in titles:
        card.ok(c.INS_PUT_DATA, data=title.encode())
    card.pay(net.request(100))
    card.pay(net.request(50))
    assert card.balance() == MONEY
    return World(net, public, bytes(card.content), titles)


@pytest.fixture(scope="module", params=SUITES, ids=["gm", "p256"])
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


@pytest.fixture(params=[False, True], ids=["roomy", "tight"])
def content(request: pytest.FixtureRequest, world: World) -> bytes:
    """The world's card; tight: its next command must first move everything to the other bank."""
    card = Card(world.content)
    while request.param and Journal(MemoryFlash(card.content)).free >= 96:
        card.power()  # writes a boot epoch, 48 bytes
    return bytes(card.content)


def stored(content: bytes) -> Store:
    """What a power on would find in this flash."""
    journal = Journal(MemoryFlash(bytearray(content)))
    return {key: journal.get(key) for key in journal.keys(b"")}


def every_cut(content: bytes, act: Callable[[Card], object], transactions: int) -> list[Card]:
    """The cards that result from cutting act, power on included, at every write, whole and half done.

    On the way it is checked what they store: what was stored before, between or after the transactions of
    act, one after the other, and nothing else. transactions: how many there must be.
    """
    card = Card(content)
    flash = card.power()
    booted = flash.writes
    act(card)
    assert flash.writes > booted
    steps = [stored(content)]
    torn = []
    for cut in range(flash.writes):
        for half in (False, True):
            cut_off = Card(content)
            with pytest.raises(PowerCut):
                cut_off.power(cut, half)
                act(cut_off)
            torn.append(cut_off)
            steps.append(stored(cut_off.content))
    steps.append(stored(card.content))
    changes = [at for at in range(1, len(steps)) if steps[at] != steps[at - 1]]
    power_on = 1 if b"S" in steps[0] else 0  # a boot epoch, once there is a key
    assert len(changes) == power_on + transactions
    return torn


def test_torn_payment(world: World, content: bytes) -> None:
    """Cut at any write, nothing was paid: the money is there, and the retry pays exactly once."""
    net = world.net
    request = net.request(1200)  # needs two titles, ends one

    def pay(card: Card) -> None:
        card.select()
        card.pay(request)

    for card in every_cut(content, pay, transactions=1):
        card.power()
        assert request.nonce not in [claim.nonce for claim in card.claims()]
        assert card.balance() == MONEY
        first = card.pay(request)
        assert card.pay(request) == first
        payment = o.Payment.decode(first)
        signature = payment.claim.signature or b""
        assert net.suite.verify(world.public, payment.claim.message(), signature)
        assert card.balance() == MONEY - 1200
        card.power()
        card.select()
        assert card.pay(request) == first
        # What is signed afterwards never overlaps what was signed before.
        other = o.Payment.decode(card.pay(net.request(350)))
        spent = [(i.title_id, i.lo, i.hi) for claim in card.claims() for i in claim.inputs]
        assert other.claim.counter == payment.claim.counter + 1
        for at, (title, lo, hi) in enumerate(spent):
            for title2, lo2, hi2 in spent[at + 1 :]:
                assert title != title2 or hi <= lo2 or hi2 <= lo


def test_answer_cut_at_every_byte(world: World) -> None:
    """Cut after any number of bytes of the answer have left: the card has paid, and the retry, which
    brings the same bytes, pays nothing more. The terminal takes no answer that lacks a byte.
    """
    net = world.net
    request = net.request(200)
    data = request.encode()
    trust = Trust(
        b"TEST",
        net.suite.id,
        net.certification.public,
        (
            net.certificate(net.key().public, role=o.ROLE_ISSUER),
            net.certificate(net.center.public, role=o.ROLE_CENTER),
        ),
    )

    def verify(answer: bytes) -> bytes:
        blacklist = Blacklist(subjects=frozenset(), sequence=0, promised=0, time=NOW)
        return verify_payment(
            answer, request, trust=trust, policy=Policy(), blacklist=blacklist, now=NOW
        ).data

    left = 0
    while True:
        card = Card(world.content)
        card.power()
        card.select()
        # A short Le each: what the card sends are exactly these bytes, and 61xx behind each part.
        part = min(left, 255)
        got, sw = card.send(c.INS_PAY, data=data, cla=c.CLA_PROPRIETARY, le=part)
        while len(got) < left:
            assert sw >> 8 == c.SW_MORE >> 8
            more, sw = card.send(c.INS_GET_RESPONSE, le=min(left - len(got), 255))
            got += more
        assert len(got) == left
        card.power()
        card.select()
        assert card.send(c.INS_GET_RESPONSE)[1] == c.SW_CONDITIONS
        assert (card.info().counter, card.info().spent) == (3, 350)
        whole = card.pay(request)
        assert verify(whole) == whole and whole[:left] == got
        assert (card.info().counter, card.balance()) == (3, MONEY - 200)
        if sw == c.SW_OK:
            break
        with pytest.raises(Refusal) as refusal:
            verify(got)
        assert refusal.value.reason == MALFORMED
        left += 1
    assert left == len(whole)


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
@pytest.mark.parametrize("apdu", [1, 2, 3])
def test_cut_before_and_after_each_command(
    world: World, tmp_path: Path, when: str, apdu: int
) -> None:
    """The tap of a terminal (SELECT, PAY, and GET RESPONSE where APDUs are short) without power around a
    command: nothing was paid before PAY, all was after it, and the next tap brings the payment.
    """
    large = make_world(world.net.suite.id, IMAGE_BANK)
    image = tmp_path / "card.img"
    image.write_bytes(large.content)
    request = large.net.request(1200)

    def tap(path: str) -> bytes:
        with open_path(path) as connection:
            card = CardClient(connection, extended=False)
            card.select()
            return card.pay(request)

    with pytest.raises(LinkLostError) as lost:
        tap(f"sim:{image}?{when}={apdu}")
    assert lost.value.maybe_executed
    card = Card(image.read_bytes())
    card.power()
    paid = apdu == 3 or (apdu, when) == (2, "cut_after")
    assert card.balance() == MONEY - (1200 if paid else 0)
    again = tap(f"sim:{image}")
    assert tap(f"sim:{image}") == again
    if paid:
        assert card.pay(request) == again
    card = Card(image.read_bytes())
    card.power()
    assert card.balance() == MONEY - 1200


@dataclass(frozen=True)
class Change:
    """A command that writes. transactions: how many; gain: of money on the card, fen."""

    ins: int
    data: Callable[[World], bytes]
    transactions: int
    gain: int = 0


def tlvs(*codes: tuple[int, bytes]) -> bytes:
    return b"".join(tag.to_bytes(2, "big") + bytes((len(code),)) + code for tag, code in codes)


def received(world: World) -> o.Payment:
    """A payment of another card to this one."""
    net = world.net
    title = net.title(net.payee.public, hi=9, amount=9)
    item = o.Input(title_id=net.suite.hash(title.message()), lo=0, hi=9)
    claim = o.Claim(
        header=net.header, inputs=(item,), amount=9, payee=world.public, nonce=bytes(16),
        counter=1, time=NOW, deadline=NOW + 9,
    )  # fmt: skip
    certificate = net.certificate(net.payee.public)
    return o.Payment(claim=net.sign(net.payee, claim), titles=(title,), certificate=certificate)


CHANGES = {
    "title": Change(
        c.INS_PUT_DATA, lambda w: w.net.title(w.public, hi=77, amount=77).encode(), 1, 77
    ),
    # What a payee gives back is a slice that this card has paid, under the serial's next epoch.
    "refund": Change(
        c.INS_PUT_DATA,
        lambda w: w.net.title(
            w.public, lo=0, hi=30, amount=300, serial=w.titles[2].serial
        ).encode(),
        1,
        30,
    ),
    # Needs the PIN, whose verification writes twice.
    "risk": Change(c.INS_PUT_DATA, lambda w: w.net.risk(w.public, 9, cumulative=5).encode(), 3),
    "time": Change(c.INS_PUT_DATA, lambda w: w.net.time(NOW + 99).encode(), 1),
    # Drops the third title, of which 150 fen are paid.
    "time-that-drops": Change(
        c.INS_PUT_DATA, lambda w: w.net.time(NOW + 40 * DAY).encode(), 1, -150
    ),
    "received": Change(c.INS_PUT_DATA, lambda w: received(w).encode(), 1),
    "certificate": Change(
        c.INS_PUT_DATA,
        lambda w: w.net.certificate(w.public, expiry=NOW + 500 * DAY).encode(),
        1,
    ),
    "pin": Change(c.INS_VERIFY, lambda w: PIN, 2),
    "wrong-pin": Change(c.INS_VERIFY, lambda w: b"0000", 1),
    "change-pin": Change(
        c.INS_CHANGE_REFERENCE_DATA, lambda w: tlvs((0x9F25, PIN), (0x9F25, b"4321")), 3
    ),
    "unblock": Change(
        c.INS_RESET_RETRY_COUNTER, lambda w: tlvs((0x9F26, PUK), (0x9F25, b"4321")), 3
    ),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize(
    ("world", "content"),
    [
        pytest.param(o.SUITE_GM, False, id="gm-roomy"),
        pytest.param(o.SUITE_GM, True, id="gm-tight"),
        pytest.param(o.SUITE_P256, False, id="p256-roomy"),
        pytest.param(o.SUITE_P256, True, id="p256-tight", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_torn_changes(world: World, content: bytes, what: str) -> None:
    """Everything else that writes is old or new after a cut, and can be done again. What moves to the other
    bank knows no suite: that of both is for `make test-long`."""
    change = CHANGES[what]
    data = change.data(world)
    p2 = 0 if change.ins == c.INS_PUT_DATA else c.PIN_REFERENCE

    def act(card: Card) -> tuple[bytes, int]:
        card.select()
        if what == "risk":
            card.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)
        return card.send(change.ins, 0, p2, data)

    for card in every_cut(content, act, change.transactions):
        card.power()
        card.select()
        tries = card.info().pin_tries
        assert tries in ((2, 3) if "pin" in what or what == "risk" else (3,))
        if change.ins == c.INS_PUT_DATA:
            # Never taken, or wholly: then a repetition is stale. Afterwards it is.
            assert act(card)[1] in (c.SW_OK, c.SW_STALE)
            assert act(card)[1] == c.SW_STALE
            assert card.balance() == MONEY + change.gain
        elif what == "wrong-pin":
            assert act(card)[1] == c.SW_PIN_WRONG | tries - 1
            assert card.balance() == MONEY
        elif what == "pin":
            assert act(card)[1] == c.SW_OK
            assert card.balance() == MONEY
        else:
            old = card.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)[1]
            new = card.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"4321")[1]
            assert (old == c.SW_OK) != (new == c.SW_OK)
            back = tlvs((0x9F26, PUK), (0x9F25, PIN))
            card.ok(c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE, back)
            assert card.balance() == MONEY


def test_torn_displacement() -> None:
    """Where a title comes for which a spent one must be forgotten, both happen or neither."""
    world = make_world(o.SUITE_P256, 2 * BANK)
    net = world.net
    card = Card(world.content)
    card.power()
    card.select()
    for number in range(c.MAX_SEEN - len(world.titles)):
        # Each is paid away at once, since it expires first; what has to go later is the first of them.
        title = net.title(world.public, hi=10, amount=10, expiry=NOW + 8 * DAY + number)
        card.ok(c.INS_PUT_DATA, data=title.encode())
        card.pay(net.request(10))
        if not number:
            displaced = title
    assert card.balance() == MONEY
    content = bytes(card.content)
    title = net.title(world.public, hi=77, amount=77)

    def act(card: Card) -> None:
        card.select()
        card.ok(c.INS_PUT_DATA, data=title.encode())

    for card in every_cut(content, act, transactions=1):
        card.power()
        card.select()
        assert card.send(c.INS_PUT_DATA, data=displaced.encode())[1] == c.SW_STALE
        act(card)
        assert card.send(c.INS_PUT_DATA, data=displaced.encode())[1] == c.SW_EXPIRED
        assert card.balance() == MONEY + 77


def test_torn_personalisation() -> None:
    """A card torn while it is made is blank, keyed or personalised, and can be finished."""
    net = Network(o.SUITE_P256)
    blank = Card(b"\xff" * 2 * BANK)
    blank.power()

    def finish(card: Card) -> None:
        card.select()
        life = o.CardInfo.decode(card.ok(c.INS_GET_DATA, c.DATA_INFO)).lifecycle
        if life == o.LIFE_PERSONALISED:
            return
        public = card.ok(c.INS_GENERATE_KEY_PAIR, o.SUITE_P256)
        card.ok(c.INS_STORE_DATA, 0x80, 0, net.personalisation(public).encode())

    for card in every_cut(bytes(blank.content), finish, transactions=2):
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

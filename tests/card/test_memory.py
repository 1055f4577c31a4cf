# SPDX-License-Identifier: Apache-2.0
"""The fullest card within its heap: the card process as it is, under MicroPython, with nothing beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chipcash.card import Card, CardError
from chipcash.genuine import open_channel
from chipcash.terminal import Policy, verify_payment
from chipcash.touch import send
from chipcash.transports.sim import SimConnection
from chipcash_sim import emulator, runtime
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import DAY, SUITES, Network, network
from tests.cards import PIN, fill_card, make_card

_TIGHT = "176k"
"""16 kB less than the real heap: what no test meets has that much. With 172k one run of some dozens fails."""
_IDLE_S = 0.2
"""Long enough for a card process to make its coupons."""


class Full:
    """A full card in an image file, and a terminal for it."""

    def __init__(self, suite: str, image: Path, net: Network | None = None) -> None:
        self.net = net or network(suite)
        self.image = image
        self.key = make_card(image, self.net)
        self.now = fill_card(image, self.net, self.key)
        self._blacklist = self.net.blacklist()

    @contextmanager
    def power(self, heap: str = _TIGHT) -> Iterator[Card]:
        """The card in a process of its own, selected."""
        try:
            emulated = emulator.Card(self.image, "micropython", heap=heap)
            emulated.power_on()
        except runtime.RuntimeMissing as missing:
            pytest.skip(str(missing))
        assert emulated._process is not None
        self._clock = (~emulated._process.pid << 3) | 2  # as clock_getcpuclockid(3) makes it
        with SimConnection(emulated, "sim:") as connection:
            card = Card(connection)
            card.select()
            yield card

    def processor_s(self) -> float:
        """Processor time of the card that was powered up last."""
        return time.clock_gettime(self._clock)

    def request(self, amount: int) -> o.PayRequest:
        return self.net.request(amount, time=self.now)

    def judge(self, answer: bytes, request: o.PayRequest) -> o.Payment:
        """The payment, verified as a terminal does, with the host's crypto."""
        verified = verify_payment(
            answer,
            request,
            trust=self.net.trust,
            policy=Policy(blacklist_max_age=365 * DAY),
            blacklist=self._blacklist,
            now=self.now,
        )
        return verified.payment

    def pay(self, card: Card, amount: int) -> o.Payment:
        request = self.request(amount)
        return self.judge(card.pay(request), request)


@pytest.fixture(params=SUITES)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Full:
    return Full(request.param, tmp_path / "card.img")


def test_the_log_of_a_full_card_is_full(full: Full) -> None:
    """What the other tests rest on."""
    with full.power() as card:
        card.verify_pin(PIN)
        assert [len(each.titles) for each in card.payments()] == [o.MAX_INPUTS] * c.MAX_LOG
        assert len(list(card.titles())) == c.MAX_TITLES
        with pytest.raises(CardError, match="6A84"):
            card.put(full.net.title(full.key, expiry=full.now + DAY))


def test_payments_from_as_many_titles_as_there_may_be(full: Full) -> None:
    requests = [full.request(1000 * o.MAX_INPUTS - 1), full.request(1000 * o.MAX_INPUTS)]
    with full.power() as card:
        answers = [card.pay(request) for request in requests]
        for answer, request in zip(answers, requests, strict=True):
            assert len(full.judge(answer, request).titles) == o.MAX_INPUTS
        assert [card.pay(request) for request in requests] == answers  # out of the log
        full.pay(card, 1)
    with full.power() as card:
        assert [card.pay(request) for request in requests] == answers


def test_the_longest_payment_in_a_secure_channel(full: Full) -> None:
    """Twice in memory: as it is, and sealed."""
    with full.power() as card:
        open_channel(card, full.net.trust)
        card.verify_pin(PIN)
        assert len(full.pay(card, 1000 * o.MAX_INPUTS - 1).titles) == o.MAX_INPUTS
        assert [len(each.titles) for each in card.payments()] == [o.MAX_INPUTS] * c.MAX_LOG


@pytest.mark.parametrize(("heap", "sealed"), [(_TIGHT, False), (runtime.HEAP, True)])
def test_the_longest_payment_received(full: Full, tmp_path: Path, heap: str, sealed: bool) -> None:
    """Another full card pays this one from as many titles as there may be, and the center says so."""
    other = Full(full.net.suite, tmp_path / "other.img", full.net)
    with other.power() as payer, full.power(heap) as payee:
        if sealed:
            open_channel(payee, full.net.trust)
        claim = send(payer, payee, 1000 * o.MAX_INPUTS - 1, full.now)
        payee.verify_pin(PIN)
        assert [*payee.received()] == [claim] and len(claim.inputs) == o.MAX_INPUTS
        payee.put(full.net.longest_receipt(claim))
        assert [*payee.received()] == []
        assert len(full.pay(payee, 1000 * o.MAX_INPUTS - 1).titles) == o.MAX_INPUTS


def test_a_card_that_stays_in_its_reader(full: Full) -> None:
    """Fifty payments with pauses, then everything else that a card does, without power-off."""
    with full.power() as card:
        for number in range(50):
            if number % 10 == 0:
                time.sleep(_IDLE_S)
            full.pay(card, 1)
        for _ in range(2):
            time.sleep(_IDLE_S)
            assert len(full.pay(card, 1000 * o.MAX_INPUTS - 50).titles) == o.MAX_INPUTS
        card.verify_pin(PIN)
        info = card.info()
        assert info.balance == 1000 * (c.MAX_TITLES - 2 * o.MAX_INPUTS) + 50
        assert len(list(card.payments())) == c.MAX_LOG
        proof, _ = card.authenticate(bytes(16))
        assert full.net.trust.signed_by(proof, full.key)
        later = full.now + 100 * DAY
        card.put(full.net.signed_time(later))  # forgets all that it has seen
        for _ in range(c.MAX_TITLES):
            card.put(full.net.title(full.key, expiry=later + 90 * DAY))
        card.put(full.net.risk(full.key, sequence=2, time=later))
        assert card.info().balance == 10000 * c.MAX_TITLES


def test_an_idle_card_process_makes_coupons(full: Full) -> None:
    """The quickest of some payments, by the card's own processor time: a busy machine costs it none."""

    def quickest(pause: float) -> float:
        spent = []
        for _ in range(8):
            request = full.request(1)
            time.sleep(pause)
            start = full.processor_s()
            card.pay(request)
            spent.append(full.processor_s() - start)
        return min(spent)

    with full.power(runtime.HEAP) as card:
        hasty = quickest(0)
        assert 3 * quickest(_IDLE_S) < hasty

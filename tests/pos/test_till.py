# SPDX-License-Identifier: Apache-2.0
"""The till as a process: sales over readers, synchronising by itself, what a screen is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from chipcash.card import Card
from chipcash.center.client import CenterClient
from chipcash.clock import SteadyClock
from chipcash.database import DatabaseError
from chipcash.pos import AnswerLost, PaymentState, Pos, PosError
from chipcash.pos import till as till_module
from chipcash.pos.orders import Orders
from chipcash.pos.settling import CenterService
from chipcash.pos.till import ReaderState, Sale, SaleState, Till, Warn
from chipcash.sandbox import PIN, PlaceReader, Sandbox
from chipcash.transports import Connection, open_path
from chipcash_wire import objects as o
from tests.builders import network
from tests.cards import make_card
from tests.pos.shop import SlowSigner, Torn


@contextmanager
def center(pos: Pos) -> Iterator[CenterClient]:
    with CenterClient(pos.center_url, pos.trust, timeout=5) as client:
        yield client


def wait_for(till: Till, true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what some event of the till brings."""
    deadline = time.monotonic() + seconds
    event = 0
    while not true():
        assert time.monotonic() < deadline, till.status()
        event = till.wait(event, 0.5)


def ended(till: Till, sale: Sale, state: SaleState) -> Sale:
    wait_for(till, lambda: till.sale is not None and till.sale.state is state)
    now = till.sale
    assert now is not None and now.id == sale.id
    return now


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "net") as made:
        made.till("till").close()
        yield made


@pytest.fixture
def reader() -> Iterator[PlaceReader]:
    """A reader at nfcpy, where cards come and go."""
    with PlaceReader(["nfc"]) as made:
        yield made


def folder(sandbox: Sandbox) -> Path:
    return sandbox.directory / "till"


def test_a_sale_waits_for_its_card_and_is_brought_to_the_center(
    sandbox: Sandbox, reader: PlaceReader, tmp_path: Path
) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)
    with Till(folder(sandbox), reader.paths, center) as till:
        sale = till.begin(1_250, operator="anna")
        assert sale.state is SaleState.WAITING
        with pytest.raises(PosError, match="under way"):
            till.begin(1)
        reader.insert(image, "cpython")
        paid = ended(till, sale, SaleState.PAID)
        assert paid.payment is not None
        assert (paid.payment.amount, paid.payment.operator, paid.payment.link) == (
            1_250, "anna", "nfc",
        )  # fmt: skip
        wait_for(till, lambda: till.status().summary.verified_fen == 1_250)
        with till.pos() as pos:
            history = [change.after for change in pos.changes(paid.payment.claim_id)]
        assert history == [PaymentState.PENDING, PaymentState.SUBMITTED, PaymentState.VERIFIED]
        last = till.status().last
        assert last is not None and last.paid is True


def test_who_comes_next_is_not_paid_for_by_the_card_that_still_lies_there(
    sandbox: Sandbox, reader: PlaceReader, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.img", tmp_path / "b.img"
    sandbox.new_card(first, 10_000)
    other = sandbox.new_card(second, 10_000)
    with Till(folder(sandbox), reader.paths) as till:
        reader.insert(first, "cpython")
        ended(till, till.begin(100), SaleState.PAID)
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.OCCUPIED)
        sale = till.begin(100, fresh=True)
        time.sleep(1)
        assert till.sale is not None and till.sale.state is SaleState.WAITING
        reader.remove()
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)
        reader.insert(second, "cpython")
        paid = ended(till, sale, SaleState.PAID)
        assert paid.payment is not None and paid.payment.payer == other.subject


def test_nor_by_one_whose_sale_was_cancelled_at_its_pin(
    sandbox: Sandbox, reader: PlaceReader, tmp_path: Path
) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 50_000)
    with Till(folder(sandbox), reader.paths) as till:
        reader.insert(image, "cpython")
        first = ended(till, till.begin(15_000), SaleState.PIN)
        till.cancel(first.id)
        sale = till.begin(100)
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.OCCUPIED)
        time.sleep(1)
        assert till.sale is not None and till.sale.state is SaleState.WAITING
        assert till.status().last is not None and not till.status().summary.pending.count
        reader.remove()
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)
        reader.insert(image, "cpython")
        ended(till, sale, SaleState.PAID)


def test_a_fault_of_the_till_is_no_answer(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something that nobody thought of happens after the card has paid: it is told as not known, and the next
    tap brings that very payment."""
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)
    pay = Card.pay

    def faulty(card: Card, request: o.PayRequest) -> bytes:
        pay(card, request)
        monkeypatch.setattr(Card, "pay", pay)
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(Card, "pay", faulty)
    with Till(folder(sandbox), [f"sim:{image}"]) as till:
        sale = till.begin(300, fresh=True)
        paid = ended(till, sale, SaleState.PAID)
        assert paid.payment is not None and till.status().open == 0
        assert till.status().summary.pending.fen == 300
    with open_path(f"sim:{image}") as connection:
        card = Card(connection)
        card.select()
        assert card.info().spent == 300


def test_a_fault_is_not_told_of_another_charge(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the card would be asked to pay that one, and two charges be told as paid by it."""
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)

    def faulty(*_: object, **__: object) -> None:
        raise RuntimeError("nobody thought of this")

    with Till(folder(sandbox), [f"sim:{image}"]) as till:
        torn(till, image, 300, "order 7")
        monkeypatch.setattr(Pos, "charge", faulty)
        others: list[dict[str, Any]] = [{"reference": "order 8"}, {"fresh": True}, {}]
        for options in others:
            sale = till.begin(300, **options)
            assert ended(till, sale, SaleState.REFUSED).nonce is None


def test_a_reader_that_fails_as_nobody_thought_is_told_and_looked_at_again(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)

    def broken(path: str, *, wait: float = 0.0) -> Connection:
        raise RuntimeError("nobody thought of this")

    with monkeypatch.context() as patched:
        patched.setattr(till_module, "open_path", broken)
        with Till(folder(sandbox), [f"sim:{image}"]) as till:
            wait_for(till, lambda: Warn.READERS in till.status().warnings)
            assert "has a fault" in till.status().readers[0].message
            patched.undo()
            wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)
            ended(till, till.begin(100), SaleState.PAID)


def test_a_pin_is_asked_for_and_forgotten(sandbox: Sandbox, tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 50_000)
    with Till(folder(sandbox), [f"sim:{image}"]) as till:
        sale = till.begin(15_000)
        asked = ended(till, sale, SaleState.PIN)
        assert "PIN" in asked.message
        till.give_pin(sale.id, "000000")
        wait_for(till, lambda: till.sale is not None and "wrong" in till.sale.message.lower())
        ended(till, sale, SaleState.PIN)
        till.give_pin(sale.id, PIN)
        ended(till, sale, SaleState.PAID)
        assert PIN not in repr(vars(till))


def test_an_answer_that_is_lost_is_asked_for_again_from_the_same_card(
    sandbox: Sandbox, reader: PlaceReader, tmp_path: Path
) -> None:
    image, other = tmp_path / "a.img", tmp_path / "b.img"
    sandbox.new_card(image, 10_000)
    sandbox.new_card(other, 10_000)
    with Till(folder(sandbox), reader.paths) as till:
        reader.insert(image, "cpython", cut_before=2)  # its power goes before it has answered PAY
        sale = till.begin(700)
        lost = ended(till, sale, SaleState.UNKNOWN)
        assert lost.nonce is not None and "SAME card" in lost.hint
        with pytest.raises(PosError):
            till.cancel(sale.id)
        reader.insert(image, "cpython")
        ended(till, sale, SaleState.PAID)
        assert till.status().open == 0
        # First that it is still there: before that it is not known either that it has left.
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.OCCUPIED)
        reader.remove()
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)
        sale = till.begin(800)
        reader.insert(other, "cpython", cut_before=2)
        ended(till, sale, SaleState.UNKNOWN)
        reader.remove()
        given = till.give_up(sale.id)
        assert given.state is SaleState.CANCELLED and till.status().open == 0


def torn(till: Till, image: Path, amount: int, reference: str | None = None) -> bytes:
    """A charge of which nobody knows, of before this till was started; its nonce."""
    with till.pos() as pos, open_path(f"sim:{image}") as inner, pytest.raises(AnswerLost) as lost:
        pos.charge(Torn(inner), amount, reference=reference)
    return lost.value.nonce


def test_a_charge_that_may_be_paid_does_not_end_as_if_it_were_not(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Asked for again by its name, whatever comes of that: a card may have paid it the first time."""
    image, foreign = tmp_path / "a.img", tmp_path / "foreign.img"
    sandbox.new_card(image, 10_000)
    make_card(foreign, network("gm"))
    with Till(folder(sandbox), [], patience=0.5) as till:
        nonce = torn(till, image, 700, "order 7")
        orders = Orders(till)
        assert orders.retry("order 7").state is SaleState.WAITING
        with pytest.raises(PosError, match="cannot be cancelled"):
            orders.cancel("order 7")
        # Another customer is served all the same.
        assert orders.start("order 8", 100)[1]
        assert orders.get("order 7").state is SaleState.UNKNOWN and not orders.get("order 7").sale
        assert orders.cancel("order 8").state is SaleState.CANCELLED
        orders.retry("order 7")
        assert till.sale is not None
        assert ended(till, till.sale, SaleState.UNKNOWN).nonce == nonce  # no card came in time
        assert orders.get("order 7").state is SaleState.UNKNOWN
    with Till(folder(sandbox), [f"sim:{foreign}"]) as till:
        sale = till.begin(700, reference="order 7")
        wait_for(till, lambda: till.sale is not None and "another network" in till.sale.message)
        assert ended(till, sale, SaleState.UNKNOWN).nonce == nonce
    with Till(folder(sandbox), [f"sim:{image}"]) as till:
        sale = till.begin(700, reference="order 7")
        ended(till, sale, SaleState.PAID)
        assert till.status().summary.pending.fen == 700


def test_who_comes_next_is_not_asked_for_what_was_left_open(
    sandbox: Sandbox, reader: PlaceReader, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.img", tmp_path / "b.img"
    sandbox.new_card(first, 10_000)
    sandbox.new_card(second, 10_000)
    with Till(folder(sandbox), reader.paths) as till:
        reader.insert(first, "cpython", cut_before=2)
        sale = ended(till, till.begin(700), SaleState.UNKNOWN)
        reader.remove()
        wait_for(till, lambda: not till._readers[0].asked)  # it has seen that the first card left
        till.leave(sale.id)
        assert till.sale is None
        with pytest.raises(PosError, match="not the sale"):
            till.leave(sale.id)
        reader.insert(second, "cpython")
        time.sleep(1)  # in which the reader would have asked it
        assert till.status().open == 1 and till.status().summary.pending.fen == 0
        ended(till, till.begin(300), SaleState.PAID)


def test_giving_a_charge_up_holds_no_other_one_up(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing takes a SAM seconds: meanwhile others are charged, and this one is not begun again."""
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)
    with Till(folder(sandbox), []) as till, ThreadPoolExecutor(2) as others:
        torn(till, image, 700, "order 7")
        orders = Orders(till)
        slow = SlowSigner(monkeypatch)
        given = others.submit(orders.give_up, "order 7")
        assert slow.signing.wait(10)
        again = others.submit(orders.give_up, "order 7")
        with pytest.raises(PosError, match="being given up"):
            orders.retry("order 7")
        assert orders.start("order 8", 100)[1]
        assert orders.get("order 7").state is SaleState.UNKNOWN
        slow.signed.set()
        assert given.result(10).state is again.result(10).state is SaleState.CANCELLED
        assert orders.cancel("order 8").state is SaleState.CANCELLED
        assert till.status().open == 0


def test_giving_up_holds_no_screen_up_and_asks_no_card(
    sandbox: Sandbox, reader: PlaceReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing takes a SAM seconds. Meanwhile screens go on, and the card, which is back, is not asked."""
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)

    def full(*_: object) -> bool:
        raise DatabaseError("The disk is full.")

    with Till(folder(sandbox), reader.paths) as till, ThreadPoolExecutor(1) as other:
        reader.insert(image, "cpython", cut_before=2)
        sale = till.begin(700)
        before = ended(till, sale, SaleState.UNKNOWN)
        reader.remove()
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)
        # What cannot be done leaves the sale as it was.
        with monkeypatch.context() as patched, pytest.raises(DatabaseError):
            patched.setattr(Pos, "_set_void", full)
            till.give_up(sale.id)
        assert till.sale == before
        slow = SlowSigner(monkeypatch)
        given = other.submit(till.give_up, sale.id)
        assert slow.signing.wait(60)
        reader.insert(image, "cpython")
        status = till.status()
        assert status.sale is not None and "being given up" in status.sale.message
        for act in (till.give_up, till.cancel, till.retry):
            with pytest.raises(PosError):
                act(sale.id)
        with pytest.raises(PosError, match="under way"):
            till.begin(700)
        time.sleep(1.5)  # in which the reader would have asked it
        assert till.status().last is not None and till.status().summary.pending.fen == 0
        slow.signed.set()
        assert given.result(60).state is SaleState.CANCELLED and till.status().open == 0
        assert till.status().summary.pending.fen == 0


def test_a_repeated_reference_is_one_payment(sandbox: Sandbox, tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)
    with Till(folder(sandbox), [f"sim:{image}"]) as till:
        first = ended(till, till.begin(100, reference="order 7"), SaleState.PAID)
        again = ended(till, till.begin(100, reference="order 7"), SaleState.PAID)
        assert first.payment == again.payment
        ended(till, till.begin(99, reference="order 7"), SaleState.REFUSED)
        assert till.status().summary.pending.fen == 100


def test_without_the_center_it_tries_again_by_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    sandbox.new_card(image, 10_000)
    with Till(folder(sandbox), [f"sim:{image}"], center) as till:
        wait_for(till, lambda: till.status().sync.succeeded is not None)
        with sandbox.offline():
            ended(till, till.begin(100), SaleState.PAID)
            wait_for(till, lambda: bool(till.status().sync.message))
            assert "does not answer" in till.status().sync.message
            assert till.status().summary.pending.fen == 100
        wait_for(till, lambda: till.status().sync.message == "")
        assert till.status().summary.verified_fen == 100


def test_a_clock_that_jumps_is_told_and_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    now = [int(time.time()), 1_000.0]
    clock = SteadyClock(lambda: int(now[0]), lambda: now[1])
    with Till(folder(sandbox), [], center, clock=clock) as till:
        wait_for(till, lambda: till.status().sync.succeeded is not None)
        before = clock()
        now[0] += 400 * 86_400
        now[1] += 5
        assert clock() == before + 5
        assert Warn.CLOCK in till.status().warnings
        with till.pos() as pos:
            pos.may_charge(100)  # the certificates are as good as before
    wrong = SteadyClock(
        lambda: int(time.time()) - 86_400 * 3_000
    )  # no battery, started without a network
    with Till(folder(sandbox), [], center, clock=wrong) as till:
        wait_for(till, lambda: till.status().sync.succeeded is not None)
        assert abs(wrong() - time.time()) < 60


def test_an_old_answer_of_the_center_turns_no_clock_back(sandbox: Sandbox) -> None:
    """Who stands between and sends it again would keep a stale blacklist good for ever."""
    passed = [1_000.0]
    clock = SteadyClock(lambda: int(time.time()), lambda: passed[0])
    kept: list[tuple[Sequence[o.BlacklistEntry], o.SignedTime]] = []

    class Replayed:
        """The way to the real center, whose first blacklist comes again and again."""

        def __init__(self, client: CenterClient) -> None:
            self.client = client

        def __getattr__(self, name: str) -> object:
            return getattr(self.client, name)

        def blacklist(self, since: int = 0) -> tuple[Sequence[o.BlacklistEntry], o.SignedTime]:
            kept.append(self.client.blacklist(since))
            return kept[0]

    @contextmanager
    def replaying(pos: Pos) -> Iterator[CenterService]:
        with center(pos) as client:
            yield cast(CenterService, Replayed(client))

    with Till(folder(sandbox), [], replaying, clock=clock) as till:
        wait_for(till, lambda: till.status().sync.succeeded is not None)
        before = clock()
        passed[0] += 30 * 86_400
        till.sync_now()
        wait_for(till, lambda: (till.status().sync.succeeded or 0) > before + 86_400)
        assert clock() == before + 30 * 86_400 and Warn.STALE in till.status().warnings


def test_two_processes_do_not_share_a_till(sandbox: Sandbox) -> None:
    with Till(folder(sandbox), []), pytest.raises(PosError, match="runs already"):
        Till(folder(sandbox), []).__enter__()
    with Till(folder(sandbox), []):
        pass


def test_a_sale_without_a_card_ends(sandbox: Sandbox, reader: PlaceReader) -> None:
    with Till(folder(sandbox), reader.paths, patience=0.2) as till:
        gone = ended(till, till.begin(100), SaleState.CANCELLED)
        assert "No card has paid" in gone.message
        assert till.cancel(gone.id).state is SaleState.CANCELLED
        assert till.status().last is None


def test_a_reader_that_is_not_there_is_told_and_comes_back(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    image, line = tmp_path / "a.img", tmp_path / "line"
    sandbox.new_card(image, 10_000)
    with Till(folder(sandbox), [f"serial:{line}"]) as till, PlaceReader(["serial"]) as board:
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.FAILED)
        assert till.status().readers[0].message and Warn.READERS in till.status().warnings
        board.insert(image, "cpython")
        line.symlink_to(board.paths[0].removeprefix("serial:"))
        wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)
        ended(till, till.begin(100), SaleState.PAID)

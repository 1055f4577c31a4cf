# SPDX-License-Identifier: Apache-2.0
"""A till at a real pcscd that is restarted under it."""

import threading
import time
from pathlib import Path

import pytest

from chipcash.errors import LinkLostError
from chipcash.pos import AnswerLost
from chipcash.pos.till import ReaderState, SaleState, Till, Warn
from chipcash.sandbox import PcscReader, Sandbox
from chipcash.transports import open_path, pcsc
from chipcash_sim import emulator
from chipcash_sim.pcscd import Session
from tests.pos.test_till import ended, wait_for


def test_a_till_goes_on_when_pcscd_restarts(session: Session, tmp_path: Path) -> None:
    """Between taps, while it waits for the next customer, and in the middle of a tap: one process, all paid
    once. The card is put in again each time, since vpcd's end of it is gone with pcscd."""
    image = tmp_path / "a.img"
    with (
        Sandbox(tmp_path / "net") as sandbox,
        PcscReader(session.readers[0], session.ports[0]) as reader,
    ):
        sandbox.new_card(image, 10_000)
        till = sandbox.till()

        def tap() -> None:
            with open_path(reader.paths[0], wait=15) as connection:
                till.charge(connection, 100)

        reader.insert(image, "cpython")
        tap()
        session.restart()
        reader.insert(image, "cpython")
        tap()
        reader.remove()
        restart = threading.Timer(0.5, session.restart)
        restart.start()
        arrival = threading.Timer(1.5, lambda: reader.insert(image, "cpython"))
        arrival.start()
        tap()  # which waits through all of this
        restart.join()
        arrival.join()
        with open_path(reader.paths[0], wait=15) as connection:
            session.restart()
            with pytest.raises((LinkLostError, AnswerLost)):
                till.charge(connection, 200)
        reader.insert(image, "cpython")
        with open_path(reader.paths[0], wait=15) as connection:
            till.charge(connection, 200)
        assert till.balance().pending_fen == 500
        till.sync(sandbox.center)
        assert till.balance().verified_fen == 500
        assert till.open_requests() == ()


def test_a_till_that_runs_goes_on_when_pcscd_restarts(session: Session, tmp_path: Path) -> None:
    """While nobody taps, and while a sale waits for its card; it tells when there is no reader, and when one
    is back."""
    image = tmp_path / "a.img"
    with (
        Sandbox(tmp_path / "net") as sandbox,
        PcscReader(session.readers[0], session.ports[0]) as reader,
    ):
        sandbox.new_card(image, 10_000)
        sandbox.till("till").close()
        with Till(sandbox.directory / "till", reader.paths) as till:

            def sale(amount: int) -> None:
                ended(till, till.begin(amount), SaleState.PAID)
                reader.remove()
                wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)

            reader.insert(image, "cpython")
            sale(100)
            session.restart()
            reader.insert(image, "cpython")
            sale(100)
            waiting = till.begin(100)
            session.restart()
            assert till.sale is not None and till.sale.state is SaleState.WAITING
            reader.insert(image, "cpython")
            ended(till, waiting, SaleState.PAID)
            reader.remove()
            assert till.status().summary.pending.fen == 300 and till.status().open == 0
        with Till(sandbox.directory / "till", ["pcsc:unplugged"]) as till:
            wait_for(till, lambda: Warn.READERS in till.status().warnings)
            assert "There is no reader called" in till.status().readers[0].message


def test_the_next_card_is_there_before_anybody_saw_the_last_one_leave(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A customer close behind another pays his own sale; a card that stays is not asked for it. The till
    looks seldom here, since no card comes and goes faster than this pcscd looks itself."""
    monkeypatch.setattr("chipcash.pos.till._PAUSE_S", 2)
    first, second = tmp_path / "a.img", tmp_path / "b.img"
    with (
        Sandbox(tmp_path / "net") as sandbox,
        PcscReader(session.readers[0], session.ports[0]) as reader,
    ):
        for image in (first, second):
            sandbox.new_card(image, 10_000)
        sandbox.till("till").close()
        with Till(sandbox.directory / "till", reader.paths) as till:
            for image in (first, second):
                with emulator.Card(image, "cpython") as card:
                    card.insert(session.ports[0])
                    ended(till, till.begin(100), SaleState.PAID)
                    card.remove()
                    while pcsc.insertions(session.readers[0]) % 2:
                        time.sleep(0.01)
            with emulator.Card(first, "cpython") as card:
                card.insert(session.ports[0])
                ended(till, till.begin(100), SaleState.PAID)
                waiting = till.begin(100)
                wait_for(till, lambda: till.status().readers[0].state is ReaderState.OCCUPIED)
                assert till.sale == waiting

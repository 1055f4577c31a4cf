# SPDX-License-Identifier: Apache-2.0
"""A till's card (SAM) in one reader of a real pcscd, the customers' cards in the other, both MicroPython."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.crypto import CryptoError
from chipcash.pos import Pos, keys, sam
from chipcash.pos.till import ReaderState, SaleState, Till
from chipcash.sandbox import PcscReader, Sandbox
from chipcash.transports import open_path
from chipcash_sim.image import FileFlash
from chipcash_sim.pcscd import Session
from tests.pos.test_till import ended, wait_for

PIN = "274163"
_SPEND = (
    "import sys; from chipcash.pos import Pos\n"
    "with Pos(sys.argv[1]) as pos:\n"
    "    for _ in range(3): pos.give_up(pos.bill(100).request.nonce)\n"
)


@pytest.fixture(autouse=True)
def codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PIN_VARIABLE, PIN)
    monkeypatch.setenv(sam.PUK_VARIABLE, "83615927")


@pytest.fixture
def readers(session: Session) -> Iterator[list[PcscReader]]:
    made = [
        PcscReader(name, port) for name, port in zip(session.readers, session.ports, strict=True)
    ]
    yield made
    for reader in made:
        reader.close()


def test_a_day_at_a_till_with_its_sam_in_a_second_reader(
    session: Session, readers: list[PcscReader], tmp_path: Path
) -> None:
    own, customers = readers
    image = tmp_path / "sam.img"
    FileFlash(str(image)).close()
    with Sandbox(tmp_path / "net") as sandbox:
        folder = sandbox.directory / "till"

        def insert() -> None:
            own.insert(image, "micropython")
            open_path(own.paths[0], wait=15).close()

        own.insert(image, "micropython")
        Pos.init(folder, sandbox.trust, sandbox.url, custody=f"sam:{own.paths[0]}").close()
        with Pos(folder) as pos:
            pos.sync(sandbox.center)
        sandbox.new_card(tmp_path / "a.img", 10_000)
        with Till(folder, customers.paths) as till:

            def tap(amount: int) -> None:
                customers.insert(tmp_path / "a.img", "micropython")
                ended(till, till.begin(amount), SaleState.PAID)
                customers.remove()
                wait_for(till, lambda: till.status().readers[0].state is ReaderState.READY)

            tap(3680)
            with till.pos() as pos:
                pos.sync(sandbox.center)
                public = pos.public
                pos.spend(1000, sandbox.trust.center_key, sandbox.center)
                assert pos.balance().verified_fen == 2680
            # Its service is restarted, which takes the cards' power.
            session.restart()
            insert()
            tap(100)
            with till.pos() as pos:
                pos.spend(1000, sandbox.trust.center_key, sandbox.center)
            # The SAM is pulled out: the till goes on taking money, and says what it cannot do.
            own.remove()
            tap(200)
            with till.pos() as pos:
                with pytest.raises(CryptoError, match="cannot be used"):
                    pos.spend(500, sandbox.trust.center_key, sandbox.center)
                assert pos.balance().verified_fen == 1680
            insert()
            # Two processes of one till, both at its SAM: each waits for the other.
            others = [
                subprocess.Popen([sys.executable, "-c", _SPEND, folder], env=dict(os.environ))
                for _ in range(2)
            ]
            with till.pos() as pos:
                pos.spend(680, sandbox.trust.center_key, sandbox.center)
            assert [other.wait(60) for other in others] == [0, 0]
            with till.pos() as pos:
                report = pos.sync(sandbox.center)
                assert report.voids_sent == 6
                assert pos.balance().verified_fen == 1300
                assert pos.public == public
            wait_for(till, lambda: till.status().open == 0)
        with open_path(own.paths[0]) as connection:
            assert not connection.over_air

# SPDX-License-Identifier: Apache-2.0
"""A backup taken while money moves, restored: whole, no older than its log, and told where it is too old."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chipcash.backup import back_up
from chipcash.bank.errors import BankError
from chipcash.bank.library import Transfer
from chipcash.center.errors import CenterError
from chipcash.center.publishing import LogWriter, compare
from chipcash.center.registration import Center
from chipcash.home import Home, init
from chipcash.log.cosigning import Witness
from chipcash.log.errors import LogError
from chipcash.log.note import SIGNATURE, Checkpoint, Key
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.pg_server import Server, programs
from tests.log.test_witness import witness

_COIN = 100_000


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@dataclass
class Busy:
    """A network whose bank pays out in a thread. paid: what it was told is settled, with when."""

    home: Home
    center: Center
    paid: list[tuple[float, Transfer]] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)

    def pay(self) -> None:
        with closing(self.home.bank(self.center)) as bank:
            at = 0
            while not self.end.is_set():
                payee = (
                    self.home.key("issuer").public
                    if at % 7 == 0
                    else bytes([2]) + bytes([at % 5]) * 32
                )
                transfer = bank.withdraw(1 + at % 3, payee)
                self.paid.append((time.monotonic(), transfer))
                at += 1

    def wait_for(self, more: int) -> None:
        wanted = len(self.paid) + more
        until = time.monotonic() + 60
        while len(self.paid) < wanted:
            assert time.monotonic() < until
            time.sleep(0.01)


def dumped(server: Server, url: str, folder: Path) -> str:
    """A PostgreSQL ledger copied by its own tools, as docs/center.md says; where the copy is."""
    found = programs()
    assert found is not None
    subprocess.run([found / "pg_dump", "-Fc", "-d", url, "-f", folder / "ledger.dump"], check=True)
    restored = server.database("restored")
    subprocess.run(
        [found / "pg_restore", "--exit-on-error", "-d", restored, folder / "ledger.dump"],
        check=True,
    )
    return restored


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_under_load(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = None
    if kind == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        url = server.database("ledger")
    home = init(tmp_path / "network", "p256", b"TEST", ledger=url)
    with ExitStack() as stack:
        asked = stack.enter_context(witness(tmp_path / "state", logs=(_log_key(home),)))
        witnesses = [Witness(asked.key, asked.url)]
        center = stack.enter_context(closing(home.center()))
        with closing(home.issuing()) as issuing, closing(home.bank(center)) as bank:
            issuing.add_reserve(bank.public, _COIN)
            bank.add(center.register_coin(issuing.issue(bank.public, _COIN)))
        busy = Busy(home, center)
        paying = threading.Thread(target=busy.pay)
        with LogWriter(center, home.log(), witnesses, interval=0.02):
            paying.start()
            busy.wait_for(20)
            began = time.monotonic()
            copy = tmp_path / "backup"
            assert back_up(home, copy) == (kind == "sqlite")
            if url is not None:
                (tmp_path / "url").write_text(dumped(server, url, tmp_path))
            busy.wait_for(20)
            busy.end.set()
            paying.join()
        totals = center.accounts()
        center.check()

    # No key is in it; they come from where they are kept.
    assert not list(copy.rglob("*.key")) and not (copy / "ledger.url").exists()
    for key in home.directory.glob("*.key"):
        shutil.copy(key, copy)
    if url is not None:
        shutil.copy(tmp_path / "url", copy / "ledger.url")
    restored = Home(copy)
    with closing(restored.center()) as center:
        center.check()
        compare(center, restored.log_reader())
        assert center.accounts()["issued_fen"] == _COIN
        known = {bytes(x[0]) for x in center.storage.all("SELECT digest FROM deposits")}
        missing = []
        for at, transfer in busy.paid:
            if object_id(transfer.deposit) in known:
                assert center.settle(transfer.deposit).encode() == transfer.receipt.encode()
            else:
                assert at > began  # acknowledged before, and lost
                missing.append(transfer)
        assert missing and len(missing) < len(busy.paid) - 15

        # A witness has seen more: then nobody is answered, for that money could be paid again.
        with (
            witness(tmp_path / "state", logs=(_log_key(home),)) as asked,
            closing(restored.log()) as log,
        ):
            writer = LogWriter(center, log, [Witness(asked.key, asked.url)])
            with pytest.raises(LogError, match="old backup was restored") as caught:
                writer.begin()
            assert "at least as new" in caught.value.hint
        # So has the log itself, if that was not lost.
        with closing(home.log()) as log, pytest.raises(LogError, match="not what the log holds"):
            LogWriter(center, log).begin()

        # Whoever settles again what is missing has what was there, to the fen: the payees have their claims.
        for transfer in missing:
            receipt = center.settle(transfer.deposit)
            assert {x.state for result in receipt.results for x in result.outcomes} == {o.SETTLED}
        center.check()
        assert center.accounts() == totals
        # The bank's books are no older than the ledger.
        with closing(restored.bank(center)) as bank:
            for title in center.titles(bank.public):
                bank.add(title)
            bank.resume()
            assert bank.balance() >= totals["owners"][bank.public.hex()]


def _log_key(home: Home) -> Key:
    return Key.parse(home.log_key_file.read_text("utf-8"), SIGNATURE)


def _begun(center: Center, home: Home, witnesses: list[Witness]) -> Checkpoint:
    """The log after a center has begun with it, and ended."""
    log = home.log()
    writer = LogWriter(center, log, witnesses)
    writer.begin()
    with writer:
        return log.checkpoint()


def test_a_ledger_newer_than_its_log_fills_it_up(tmp_path: Path) -> None:
    """As a backup has them: the log goes on to the very heads that were given out before."""
    home = init(tmp_path / "network", "p256", b"TEST")
    with closing(home.center()) as center:
        with closing(home.issuing()) as issuing, closing(home.bank(center)) as bank:
            issuing.add_reserve(bank.public, _COIN)
            bank.add(center.register_coin(issuing.issue(bank.public, _COIN)))
            for _ in range(5):
                bank.withdraw(3, bytes([2]) * 33)
            _begun(center, home, [])
            shutil.copytree(home.directory / "log", tmp_path / "old-log")
            for _ in range(300):
                bank.withdraw(3, bytes([2]) * 33)
        with witness(tmp_path / "state", logs=(_log_key(home),)) as asked:
            witnesses = [Witness(asked.key, asked.url)]
            given = _begun(center, home, witnesses)
            shutil.rmtree(home.directory / "log")
            shutil.copytree(tmp_path / "old-log", home.directory / "log")
            with closing(home.log()) as log:
                assert log.checkpoint() != given
            assert _begun(center, home, witnesses) == given
        compare(center, home.log_reader())


def test_the_banks_accounts_are_in_it(tmp_path: Path) -> None:
    home = init(tmp_path / "network", "p256", b"TEST")
    with pytest.raises(BankError, match="no merchants"):
        home.accounts()
    with closing(home.accounts(create=True)) as accounts:
        accounts.add("6222-01", "Kiosk")
    back_up(home, tmp_path / "backup")
    shutil.copytree(home.directory, tmp_path / "restored")
    (tmp_path / "restored" / "accounts.db").unlink()
    shutil.copy(tmp_path / "backup" / "accounts.db", tmp_path / "restored")
    with closing(Home(tmp_path / "restored").accounts()) as accounts:
        assert [merchant.name for merchant in accounts.merchants()] == ["Kiosk"]


def test_a_backup_does_not_go_over_another_one(tmp_path: Path) -> None:
    home = init(tmp_path / "network", "p256", b"TEST")
    back_up(home, tmp_path / "backup")
    before = (tmp_path / "backup" / "ledger.db").read_bytes()
    with pytest.raises(CenterError, match="not empty"):
        back_up(home, tmp_path / "backup")
    assert (tmp_path / "backup" / "ledger.db").read_bytes() == before

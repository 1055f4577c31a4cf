# SPDX-License-Identifier: Apache-2.0
"""A ledger on a disk that is slow, stuck or failing: nothing is acknowledged before it is durable, everybody
else is still answered, and what was acknowledged is there after a crash, once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterUnreachable
from chipcash_wire import objects as o
from tests.center.world import World, states

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("it takes Linux and gcc; run: make setup")
    built = tmp_path_factory.mktemp("disk") / "slow_disk.so"
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-o",
        built,
        HERE / "slow_disk.c",
    ]
    subprocess.run([*command, "-ldl"], check=True)
    return built


class Disk:
    """A center over a ledger on a disk with moods. world: signs for its payers; titles: money there."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self._ledger = folder / "ledger.db"
        self._mood = folder / "mood"
        self._shim = shim
        self.mood("")
        with closing(World(self._ledger).center):
            pass
        self.world = World()
        self.start()
        self.deposits: list[o.Deposit] = []
        with self.client() as client:
            for _ in range(12):
                title = client.register_coin(self.world.coin(10, "alice"))
                claim = self.world.claim("alice", "shop", [(title, 0, 10)])
                self.deposits.append(self.world.deposit(claim))

    def mood(self, text: str) -> None:
        new = self._mood.with_suffix(".new")
        new.write_text(text)
        new.replace(self._mood)

    def start(self) -> None:
        env = {
            **os.environ, "LD_PRELOAD": str(self._shim), "SLOW_DISK": str(self._mood),
            "PYTHONPATH": str(HERE.parents[1]),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.center.on_slow_disk", str(self._ledger)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def client(self, timeout: float = 20) -> CenterClient:
        return CenterClient(self.url, self.world.trust, timeout=timeout)

    def count(self) -> dict[str, int]:
        """What the file holds, whoever serves it: by owner."""
        with closing(World(self._ledger).center) as center:
            center.check()
            owners: dict[str, int] = center.accounts()["owners"]
            return {
                name: owners.get(self.world.public(name).hex(), 0) for name in ("alice", "shop")
            }


@pytest.fixture
def disk(tmp_path: Path, shim: Path) -> Iterator[Disk]:
    made = Disk(tmp_path, shim)
    yield made
    made.mood("")
    made.kill()
    made.world.center.close()


def test_a_disk_that_is_stuck(disk: Disk) -> None:
    """More deposits than there are threads wait, while everybody else is answered; then the power goes."""
    with disk.client() as client:
        receipts = {0: client.settle(disk.deposits[0]).encode()}
    disk.mood("stuck")

    def ask(at: int) -> None:
        with disk.client(timeout=3) as client:
            try:
                receipts[at] = client.settle(disk.deposits[at % 12]).encode()
            except CenterUnreachable as error:
                told.append(error)

    told: list[CenterUnreachable] = []
    asking = [threading.Thread(target=ask, args=(at,)) for at in range(1, 31)]
    for thread in asking:
        thread.start()
    until = time.monotonic() + 1.5
    with disk.client() as client:
        while time.monotonic() < until:
            for path in ("/health", "/ready", "/metrics"):
                assert httpx.get(disk.url + path, timeout=20).status_code == 200
            client.signed_time()
            assert len(client.titles(disk.world.public("shop"))) == 1
            time.sleep(0.1)
    for thread in asking:
        thread.join()
    # What was settled before is told again without the disk; of the rest nobody is told that it is paid.
    assert set(receipts) <= {0, 12, 24} and len(told) >= 28
    assert "the same request will bring what it became" in told[0].message
    disk.kill()
    disk.mood("")
    counted = disk.count()
    assert counted["shop"] >= 10 and sum(counted.values()) == 120
    disk.start()
    with disk.client() as client:
        assert client.settle(disk.deposits[0]).encode() == receipts[0]
        for deposit in disk.deposits:
            assert states(client.settle(deposit)) == [["settled"]]
    assert disk.count() == {"alice": 0, "shop": 120}


def test_a_disk_that_is_slow(disk: Disk) -> None:
    disk.mood("1000")
    with disk.client() as client:
        for deposit in disk.deposits[:2]:
            start = time.monotonic()
            receipt = client.settle(deposit).encode()
            # Not before it was synced; and it is there at once for whoever looks at the file.
            assert time.monotonic() - start > 1
            disk.mood("stuck")
            assert client.settle(deposit).encode() == receipt
            disk.mood("1000")
    disk.kill()
    assert disk.count() == {"alice": 100, "shop": 20}
    disk.start()


def test_a_disk_that_fails(disk: Disk) -> None:
    """An error of the disk is no payment; the same deposit is settled once when the disk is well again."""
    with disk.client() as client:
        client.settle(disk.deposits[0])
        disk.mood("fail")
        for deposit in disk.deposits[1:4]:
            with pytest.raises(CenterUnreachable):
                client.settle(deposit)
            answer = httpx.post(f"{disk.url}/v1/deposits", content=deposit.encode(), timeout=10)
            assert answer.status_code == 500 and answer.json()["error"] == "internal"
        client.signed_time()
        assert len(client.titles(disk.world.public("shop"))) == 1
        disk.mood("")
        for deposit in disk.deposits[:2]:
            assert states(client.settle(deposit)) == [["settled"]]
    disk.kill()
    assert disk.count() == {"alice": 100, "shop": 20}
    disk.start()
    with disk.client() as client:
        for deposit in disk.deposits:
            assert states(client.settle(deposit)) == [["settled"]]
    assert disk.count() == {"alice": 0, "shop": 120}

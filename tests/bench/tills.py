# SPDX-License-Identifier: Apache-2.0
"""What a till adds to a tap, and how it bears a long queue: opening, lists, synchronising. Part of bench.py.

python -m tests.bench.tills DIRECTORY URL synchronises one queue, in a process whose memory is its own; prints
seconds and peak memory, kB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from unittest.mock import patch

import httpx

from chipcash.center.client import CenterClient
from chipcash.certification import Authority
from chipcash.people.accounts import Staff
from chipcash.pos import PaymentState, Pos
from chipcash.pos import till as till_module
from chipcash.pos.page.roles import RULES, staff_file
from chipcash.pos.page.service import Service
from chipcash.pos.settling import DEPOSIT_INTERVALS
from chipcash.pos.till import SaleState, Till
from chipcash.sandbox import PlaceReader
from chipcash.terminal import VerifiedPayment, new_request
from chipcash.transports import Connection
from chipcash.transports.base import BaseConnection
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.bench.settling import Served
from tests.center.world import NETWORK, START, World, key
from tests.till.counter import CHEAP, Counter, center, counter_in

_ROOT = Path(__file__).resolve().parents[2]
_FEN = 10
_PAYERS = 400
"""Cards behind a queue: twice as many as claims in a deposit, so that no two of these are neighbours."""
_COLD = 2
_WAIT_S = 30.0


# A tap ----------------------------------------------------------------------------------------------


class _Timed(BaseConnection):
    """A link that tells when it was first used, and for how long in all."""

    first = 0.0
    spent = 0.0

    def __init__(self, inner: Connection) -> None:
        super().__init__(inner.path, over_air=inner.over_air)
        self.inner = inner

    def _transceive(self, apdu: bytes) -> bytes:
        start = time.perf_counter()
        try:
            return self.inner.transceive(apdu)
        finally:
            _Timed.first = _Timed.first or start
            _Timed.spent += time.perf_counter() - start

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class Taps:
    """Milliseconds of taps: the card's own, and all that the till adds until the page shows the result."""

    card: list[float]
    added: list[float]


def taps(folder: Path, runtime: str, times: int) -> Taps:
    """Taps at a till whose page a browser has open: verified, on the disk, and on the page."""
    image = folder / "tap.img"
    opened = till_module.open_path

    def timed(path: str, *, wait: float = 0.0) -> Connection:
        return _Timed(opened(path, wait=wait))

    found = Taps([], [])
    with (
        PlaceReader(["serial"]) as reader,
        patch.object(till_module, "open_path", timed),
        counter_in(folder / "counter", reader.paths) as counter,
        counter.login("cashier") as client,
    ):
        counter.post(client, "/charge", "/shift/open")
        counter.sandbox.new_card(image, 10_000, tier=1)  # it pays a hundred times offline
        reader.insert(image, runtime)
        with client.stream("GET", "/live?on=charge", timeout=_WAIT_S) as stream:
            lines = stream.iter_lines()
            for _ in range(times + _COLD):
                card, added = _tap(counter, lines)
                found.card.append(card)
                found.added.append(added)
    return Taps(found.card[_COLD:], found.added[_COLD:])


def _tap(counter: Counter, lines: Iterator[str]) -> tuple[float, float]:
    counter.wait(lambda: counter.till.status().sync.running is False)
    _Timed.first = _Timed.spent = 0.0
    sale = counter.till.begin(_FEN, operator="cashier")
    for line in lines:
        if line.startswith("data: {"):
            part = json.loads(line.removeprefix("data: "))
            if part["name"] == "sale" and f"after={sale.id}" in part["html"]:
                break
    end = time.perf_counter()
    assert counter.till.sale is not None and counter.till.sale.state is SaleState.PAID
    return _Timed.spent * 1000, (end - _Timed.first - _Timed.spent) * 1000


def p95(values: list[float]) -> float:
    """Of 20 values, 19 are below it."""
    return quantiles(values, n=100, method="inclusive")[94]


# A queue --------------------------------------------------------------------------------------------


def _claims(world: World, payee: bytes, number: int) -> Iterator[tuple[o.Title, o.Claim]]:
    """So many claims of a few fen each, none beside another one in the same deposit."""
    payers = min(_PAYERS, number)
    each = -(-number // payers)
    titles = [(f"card {n}", world.issue(each * _FEN, f"card {n}")) for n in range(payers)]
    for n in range(number):
        payer, title = titles[n % payers]
        lo = n // payers * _FEN
        claim = o.Claim(
            header=world.header,
            inputs=(o.Input(title_id=object_id(title), lo=lo, hi=lo + _FEN),),
            amount=_FEN,
            payee=payee,
            nonce=world.fresh(16),
            counter=n + 1,
            time=START,
            deadline=START + 86_400 + n,
        )
        yield title, claim.signed(world.key(payer).sign(claim.message()))


def make_queue(center: Served, directory: Path, number: int) -> None:
    """A till with so many payments pending, which its center will settle."""
    world = center.world
    authority = Authority(key("certification", world.suite), NETWORK, lambda: START)
    certificates: dict[bytes, o.Certificate] = {}
    with Pos.init(directory, world.trust, center.url, clock=lambda: START) as pos:
        made = _claims(world, pos.public, number)
        with pos.store.transaction():
            for title, claim in made:
                owner = title.owner
                if owner not in certificates:
                    certificates[owner] = authority.certify_card(owner, tier=4)
                _receive(pos, title, claim, certificates[owner])


def _receive(pos: Pos, title: o.Title, claim: o.Claim, certificate: o.Certificate) -> None:
    """A payment as if it had been charged, without a disk's wait for each."""
    request = new_request(pos.trust.header, claim.amount, pos.public, claim.time)
    payment = o.Payment(claim=claim, titles=(title,), certificate=certificate)
    pos.store.execute(
        "INSERT INTO requests (nonce, data, amount, time, state, card) VALUES (?,?,?,?,'ANSWERED',?)",
        claim.nonce, request.encode(), claim.amount, claim.time, title.owner,
    )  # fmt: skip
    pos._receive(
        VerifiedPayment(
            payment, payment.encode(), object_id(claim), claim.amount, title.owner, claim.deadline
        )
    )


def opened(directory: Path) -> float:
    """Milliseconds until a till stands and says what it has."""
    start = time.perf_counter()
    with Till(directory, []) as till:
        assert till.status().summary.pending.count
        return (time.perf_counter() - start) * 1000


def paged(directory: Path, times: int) -> float:
    """Milliseconds of a page of the queue over HTTP, each further back; the longest."""
    staff = Staff(staff_file(directory), RULES, create=True, cost=CHEAP)
    secret = "739146"
    staff.add("cashier", "cashier", "250250", "os:test")
    visitor = staff.visitor(staff.login("cashier", "250250", "::1"), "::1")
    assert visitor is not None
    staff.change_password(visitor, "250250", secret, "::1")
    spent = []
    with (
        Till(directory, []) as till,
        Service(till, staff, center) as service,
        httpx.Client(base_url=service.url, timeout=_WAIT_S) as client,
    ):
        Counter.post(client, "/login", "/login", name="cashier", password=secret)
        where = "/queue"
        for _ in range(times + 1):
            start = time.perf_counter()
            page = client.get(where)
            spent.append((time.perf_counter() - start) * 1000)
            assert page.status_code == 200
            where = _next_page(page.text) or where
    staff.close()
    return max(spent[1:])


def _next_page(text: str) -> str:
    """The link to the next page of the queue, if there is one."""
    for part in text.split('href="')[1:]:
        target = part.partition('"')[0].replace("&amp;", "&")
        if target.startswith("/queue?") and "after" in target:
            return target
    return ""


@dataclass(frozen=True)
class Synced:
    """A queue brought to the center: payments a second, peak memory in MB."""

    rate: float
    memory: float


def synced(center: Served, directory: Path, number: int) -> Synced:
    """A queue of so many brought to the center by a process of its own."""
    program = [sys.executable, "-m", "tests.bench.tills", str(directory), center.url]
    done = subprocess.run(program, capture_output=True, text=True, cwd=_ROOT, check=True)
    seconds, memory = done.stdout.split()
    with Pos(directory, clock=lambda: START) as pos:
        assert pos.summary().states[PaymentState.VERIFIED].count == number
    return Synced(number / float(seconds), int(memory) / 1024)


def accepted(center: Served, number: int) -> float:
    """Claims a second that the center settles of such deposits, made before, one after the other."""
    world = center.world
    claims = [claim for _, claim in _claims(world, world.public("shop"), number)]
    deposits = [
        world.deposit(*claims[n : n + DEPOSIT_INTERVALS]).encode()
        for n in range(0, number, DEPOSIT_INTERVALS)
    ]
    start = time.perf_counter()
    for deposit in deposits:
        center.deposit(deposit)
    return number / (time.perf_counter() - start)


@contextmanager
def _client(directory: Path, url: str) -> Iterator[tuple[Pos, CenterClient]]:
    with (
        Pos(directory, clock=lambda: START) as pos,
        CenterClient(url, pos.trust, timeout=60) as client,
    ):
        yield pos, client


def main() -> None:
    """As the module says."""
    directory, url = sys.argv[1:]
    with _client(Path(directory), url) as (pos, client):
        start = time.perf_counter()
        pos.sync(client, told=lambda _: None)
        spent = time.perf_counter() - start
    # Not getrusage: on Linux that begins with what the parent had.
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    print(spent, peak)


if __name__ == "__main__":
    main()

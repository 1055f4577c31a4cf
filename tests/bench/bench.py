# SPDX-License-Identifier: Apache-2.0
"""Measures what chipcash promises, and writes it down: `make bench`, or bench.py [--quick] [--json].

build/bench.json is a list of {name, value, unit}; where a row compares, with ratio_to (a row of the same run)
and ratio; where something was promised, with target ({"value": n} or {"ratio": n}, at most, or
{"ratio_at_least": n}) and met.
Times are medians. What is compared takes turns within the run.

| name | what |
|---|---|
| tap.PATH.RUNTIME.SUITE | SELECT and PAY from one title by a card with a coupon, seen by the terminal |
| apdu.LINK.p50, .p95 | a command of 80 bytes and its echo over an emulated link |
| pay.LINK.p50, .p95 | SELECT and PAY over it, by a card with a coupon; p50 compares with the echo's |
| link.bytes.LINK | all bytes of SELECT and PAY on that link, with its framing; ratio to the APDUs alone |
| link.air.LINK.AT | computed: how long they take at 106 kbit/s; by Bluetooth at this connection interval |
| air.bytes.N-title | all bytes of command and response APDUs of one payment, the link's framing aside |
| air.commands.N-title, air.apdus.N-title | without and with GET RESPONSE; .short: no extended APDU passes |
| sign, sign-coupon, verify | one signature; cpython and micropython: the card's code, openssl: the host's |
| board.BOARD.SUITE, .torn | computed: a tap on a board with a PN532; one that is torn and asked again |
| board.BOARD.SUITE.air, .bus, .interpreter, .flash | what of it goes to that |
| board.BOARD.SUITE.no-coupon, .424kbit | what it would be without a coupon; with a quicker reader and chip |
| card.mpy | the applet and the protocol, compiled |
| card.heap.N-title.SUITE | the smallest heap of 64-bit MicroPython in which a full card can pay |
| center.verified.SUITE | signatures of claims that the library alone verifies, on all processors |
| center.settled.SUITE.batch-N | claims settled durably in SQLite, by deposits of N, several at once |
| center.payment.SUITE.p50, .p99 | a single payment online, over HTTP, with its ledger in SQLite |
| center.payment.SUITE.verify, .ledger, .rest | medians of what that goes to |
| center.NAME.SUITE.postgres.… | both in PostgreSQL, if its server is installed |
| center.growth.N | a claim verified and settled in PostgreSQL, in a ledger of N titles |
| partitions.cpu.N | processor time of all processes of a center of N partitions, for one claim |
| partitions.cpu.N.PART | what of it gateway, workers, NATS and PostgreSQL take; not measured by --quick |
| partitions.settled.N | claims verified and settled durably by it, over HTTP, by deposits of 200 |
| partitions.stored, partitions.wal | what a claim takes in tables and indexes, and in PostgreSQL's own log |
| till.card.p50, .p95 | SELECT and PAY over an emulated serial line, as a till with a page makes them |
| till.added.p50, .p95 | all that the till adds, from the first command until the open page shows "paid" |
| till.open.N | a till with N pending payments opened, until it says what it has |
| till.page.N | a page of its queue over HTTP, the slowest of some, each further back |
| till.accepted.N | claims that the center settles of a till's deposits, sent one after the other |
| till.synced.N | payments that a till with N pending ones brings there in the same way, and books |
| till.memory.N | the most memory that the synchronising process had |
| log.append.N | one entry appended to a log of N; its files are in memory: a disk takes the same for all N |
| log.proof.N | one proof of inclusion and one of consistency, from tiles read anew, in a log of N |
| log.durable, log.appended | one entry appended durably; entries appended durably in batches |
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from chipcash import crypto
from chipcash.card import Card
from chipcash.errors import ChipcashError
from chipcash.genuine import verify_pin
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.store import Log
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash.transports.sim import SimConnection
from chipcash_sim import emulator, pcscd, places, runtime
from chipcash_sim.plug import Plug
from chipcash_wire import commands as c
from chipcash_wire import objects as o

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from firmware import build
from tests.bench import partitions, settling, tills
from tests.builders import SUITES, Network
from tests.cards import PIN, fill_card, make_card
from tests.center import pg_server

_ROOT = Path(__file__).resolve().parents[2]

_ECHO = bytes.fromhex("80eeffff4b") + bytes(75)
_FIELDS = ("nfc", "pn532")
_NFC_KBIT_S = 13560 / 128
_FRAME_DELAY_MS = 1172 / 13560
_BLE_INTERVALS_MS = (7.5, 30.0)
"""The shortest that there is, and one that phones choose."""
_MAX_COMMANDS = 2
_MAX_AIR_BYTES = 700
_MAX_COUPON = 0.01
_MAX_TAP_MS = {"pico2w": 200.0, "picow": 300.0}
_MAX_MPY_BYTES = 60_000
_MAX_HEAP_KB = 192
_MAX_LOG_GROWTH = 4.0
"""Twice the logarithm's ratio from a thousand to a million."""

_IDLE_S = 0.15
"""Long enough for a card process to make its coupons."""
_READER_S = 10.0
_LEAST_HEAP_KB = 100
"""Below it the card's code alone does not fit."""
_AMOUNT = 3680
_SHARE = {"p256": 0.7, "gm": 0.85}
"""Of what verifying alone would reach, this much is to be reached with settling and all."""
_MAX_PAYMENT_MS = 50.0
_MAX_GROWTH = 1.3
_MAX_ADDED_MS = 30.0
_MAX_OPEN_MS = 2000.0
_MAX_PAGE_MS = 100.0
_MAX_MEMORY = 1.3
"""Of a queue a hundred times as long."""
_ACCEPTED = 20_000
_LOG_KEY = SigningKey("log.example", SIGNATURE, bytes(32))
_LOG_TURNS = 25
_LOG_BATCH = 4096
_TABLE_WIDTH = 100
_SIGNING = Path(__file__).with_name("signing.py")


@dataclass(frozen=True)
class Effort:
    """How often each thing is measured."""

    taps: int
    signatures: int
    heap_step_kb: int
    heap_tries: int
    settlings: int
    singles: int
    log_sizes: tuple[int, ...]
    batch: int
    clients: int
    payments: int
    ledger_sizes: tuple[int, ...]
    growths: int
    partition_turns: int
    charges: int
    queues: tuple[int, ...]


FULL = Effort(
    taps=40,
    signatures=40,
    heap_step_kb=2,
    heap_tries=3,
    settlings=5,
    singles=40,
    log_sizes=(1_000, 10_000, 100_000, 1_000_000),
    batch=200,  # the most, as a till that was offline for long brings them
    clients=8,
    payments=1000,
    ledger_sizes=(100_000, 1_000_000, 10_000_000),
    growths=15,
    partition_turns=8,
    charges=60,
    queues=(1_000, 100_000),
)
QUICK = Effort(
    taps=3,
    signatures=3,
    heap_step_kb=16,
    heap_tries=1,
    settlings=1,
    singles=10,
    log_sizes=(1_000, 10_000),
    batch=20,
    clients=1,
    payments=20,
    ledger_sizes=(50, 200),
    growths=1,
    partition_turns=0,
    charges=3,
    queues=(50, 100),
)


class Report:
    """The rows so far, and what could not be measured."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_most: float | None = None,
        ratio_to: str = "",
        ratio_at_most: float | None = None,
        ratio_at_least: float | None = None,
    ) -> None:
        """Add a measurement; ratio_to names an earlier row."""
        row: dict[str, Any] = {"name": name, "value": _rounded(value), "unit": unit}
        if ratio_to:
            (other,) = (each["value"] for each in self.rows if each["name"] == ratio_to)
            row |= {"ratio_to": ratio_to, "ratio": _rounded(value / other)}
        if at_most is not None:
            row |= {"target": {"value": at_most}, "met": value <= at_most}
        if ratio_at_most is not None:
            row |= {"target": {"ratio": ratio_at_most}, "met": row["ratio"] <= ratio_at_most}
        if ratio_at_least is not None:
            met = row["ratio"] >= ratio_at_least
            row |= {"target": {"ratio_at_least": ratio_at_least}, "met": met}
        self.rows.append(row)

    def table(self) -> Table:
        """The rows for people."""
        table = Table(box=None, pad_edge=False)
        table.add_column("", justify="right")
        table.add_column("measured", no_wrap=True)
        table.add_column("value", justify="right", no_wrap=True)
        for title in ("unit", "ratio", "target", ""):
            table.add_column(title, no_wrap=True)
        names = [row["name"] for row in self.rows]
        for number, row in enumerate(self.rows, 1):
            ratio = target = met = ""
            if "ratio" in row:
                ratio = f"{row['ratio']:.3g} × row {names.index(row['ratio_to']) + 1}"
            if "target" in row:
                ((what, limit),) = row["target"].items()
                least = what == "ratio_at_least"
                target = f"ratio ≥ {limit:g}" if least else f"{what} ≤ {limit:g}"
                met = "[green]met[/]" if row["met"] else "[bold red]missed[/]"
            table.add_row(
                str(number), row["name"], f"{row['value']:.8g}", row["unit"], ratio, target, met
            )
        return table


def _rounded(value: float) -> float:
    """Four digits: more is noise."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


# The tap ------------------------------------------------------------------------------------------


class Counting(BaseConnection):
    """A link that counts what passes: command instructions and bytes, both ways."""

    def __init__(self, inner: Connection) -> None:
        super().__init__(inner.path, over_air=True)
        self.inner = inner
        self.instructions: list[int] = []
        self.bytes = 0

    def _transceive(self, apdu: bytes) -> bytes:
        answer = self.inner.transceive(apdu)
        self.instructions.append(apdu[1])
        self.bytes += len(apdu) + len(answer)
        return answer

    def close(self) -> None:
        self.inner.close()


class Wallet:
    """A card with money in an image file, and the network that it belongs to."""

    def __init__(self, suite: str, image: Path, *titles: int) -> None:
        self.net = Network(suite)
        self.image = image
        public = make_card(image, self.net)
        with open_path(f"sim:{image}") as connection:
            card = Card(connection)
            card.select()
            for amount in titles:
                card.put(self.net.title(public, amount=amount, hi=amount))

    def tap(
        self,
        connection: Connection,
        amount: int,
        *,
        extended: bool = True,
        far: Plug | None = None,
    ) -> float:
        """One payment as a terminal makes it; milliseconds. far: the plug of a card that asks for the PIN
        first; what is for that is not counted, neither here nor there."""
        request = self.net.request(amount)
        start = time.perf_counter()
        card = Card(connection, extended=extended)
        card.select()
        if far is not None:
            begun, there, back = time.perf_counter(), len(far.to_card), len(far.from_card)
            verify_pin(card, PIN, self.net.trust)
            del far.to_card[there:], far.from_card[back:]
            start += time.perf_counter() - begun
        answer = card.pay(request)
        spent = (time.perf_counter() - start) * 1000
        assert o.Payment.decode(answer).claim.nonce == request.nonce
        return spent


def measure_air(report: Report, folder: Path) -> None:
    """What one payment sends, which is the same for both suites."""
    for titles, amount in ((1, _AMOUNT), (3, 3 * _AMOUNT)):
        for form, extended in (("", True), (".short", False)):
            wallet = Wallet("p256", folder / f"air{titles}{form}.img", *[5000] * titles)
            with open_path(f"sim:{wallet.image}") as opened:
                link = Counting(opened)
                wallet.tap(link, amount, extended=extended)
            name = f"{titles}-title{form}"
            asked = [ins for ins in link.instructions if ins != c.INS_GET_RESPONSE]
            single = titles == 1
            report.add(
                f"air.bytes.{name}",
                link.bytes,
                "bytes",
                at_most=_MAX_AIR_BYTES if single else None,
                ratio_to="" if single else f"air.bytes.1-title{form}",
            )
            report.add(
                f"air.commands.{name}",
                len(asked),
                "commands",
                at_most=_MAX_COMMANDS if single else None,
            )
            report.add(f"air.apdus.{name}", len(link.instructions), "APDUs")


@dataclass
class Tapped:
    """One path to a card, and how long its taps took in milliseconds."""

    name: str
    wallet: Wallet
    connection: Connection
    idle: Callable[[], bool]
    times: list[float]


def _paths(
    suite: str,
    effort: Effort,
    folder: Path,
    session: pcscd.Session | None,
    stack: contextlib.ExitStack,
) -> Iterator[Tapped]:
    """Cards of one suite by all paths that there are here, with power."""

    def make(name: str) -> Wallet:
        return Wallet(suite, folder / f"{name}.{suite}.img", effort.taps * _AMOUNT)

    for kind in ("inprocess", *_boards()):
        name = f"tap.sim.{kind}.{suite}"
        wallet = make(name)
        card = emulator.Card(wallet.image, kind)
        card.power_on()
        connection = stack.enter_context(SimConnection(card, f"sim:{wallet.image}"))
        yield Tapped(name, wallet, connection, card.idle, [])
    for kind in _boards() if session is not None else ():
        assert session is not None
        name = f"tap.pcsc.{kind}.{suite}"
        wallet = make(name)
        card = emulator.Card(wallet.image, kind)
        card.insert(session.ports[0])
        stack.callback(_take_out, card)
        reader = stack.enter_context(open_path(f"pcsc:{session.readers[0]}", wait=_READER_S))
        yield Tapped(name, wallet, reader, card.idle, [])


def _take_out(card: emulator.Card) -> None:
    """Remove a card, and wait until pcscd has seen it."""
    from chipcash.transports import pcsc

    card.remove()
    deadline = time.monotonic() + _READER_S
    while pcsc.occupied_readers():
        assert time.monotonic() < deadline, "pcscd does not see that the card is gone"
        time.sleep(0.05)


def measure_taps(
    report: Report, effort: Effort, folder: Path, session: pcscd.Session | None
) -> None:
    """A tap as the terminal sees it, by each path to a card."""
    for suite in SUITES:
        with contextlib.ExitStack() as stack:
            paths = list(_paths(suite, effort, folder, session, stack))
            for turn in range(effort.taps):
                time.sleep(_IDLE_S)
                # The first after a pause is slower: each is first in its turn.
                for path in paths[turn % len(paths) :] + paths[: turn % len(paths)]:
                    while path.idle():
                        pass
                    path.times.append(path.wallet.tap(path.connection, _AMOUNT))
        for path in paths:
            compared = path.name.replace(".pcsc.", ".sim.")
            report.add(
                path.name,
                median(path.times),
                "ms",
                ratio_to=compared if compared != path.name else "",
            )


def measure_links(report: Report, effort: Effort, folder: Path) -> None:
    """A payment over each emulated link, beside the bare link: a card that answers each command with
    itself."""
    kind = (*_boards(), "cpython")[0]
    for name in places.NAMES:
        wallet = Wallet("p256", folder / f"link.{name}.img", effort.taps * _AMOUNT)
        for what in ("apdu", "pay"):
            card = emulator.Card(wallet.image, kind, echo=what == "apdu")
            place = places.make(name)
            taken = []
            try:
                places.put(card, place)
                with place.findable(), open_path(place.path, wait=_READER_S) as connection:
                    for _ in range(effort.taps):
                        time.sleep(_IDLE_S)  # for a coupon
                        if what == "pay":
                            place.plug.to_card.clear()
                            place.plug.from_card.clear()
                            taken.append(
                                wallet.tap(
                                    connection, _AMOUNT, far=place.plug if name == "ble" else None
                                )
                            )
                            continue
                        start = time.perf_counter()
                        connection.transceive(_ECHO)
                        taken.append((time.perf_counter() - start) * 1000)
            finally:
                card.remove()
                place.close()
            if what == "pay":
                _add_passed(report, name, place.plug)
            bare = f"apdu.{name}.p50" if what == "pay" else ""
            report.add(f"{what}.{name}.p50", median(taken), "ms", ratio_to=bare)
            report.add(f"{what}.{name}.p95", sorted(taken)[len(taken) * 95 // 100], "ms")


def _add_passed(report: Report, name: str, plug: Plug) -> None:
    """What the last payment over a link has sent, and how long that takes on the air."""
    there, back = list(plug.to_card), list(plug.from_card)
    if name == "ble":  # the values of characteristics, without what the emulator puts before them
        there, back = [n - 2 for n in there], [n - 1 for n in back]
    if name in _FIELDS:  # CRC_A, which the emulated air leaves out
        there, back = [n + 2 for n in there], [n + 2 for n in back]
    report.add(f"link.bytes.{name}", sum(there) + sum(back), "bytes", ratio_to="air.bytes.1-title")
    if name in _FIELDS:
        # ISO/IEC 14443-3: nine bits a byte, start and end of a frame; and the least delay before each.
        bits = sum(9 * n + 2 for n in there + back)
        spent = bits / _NFC_KBIT_S + len(there + back) * _FRAME_DELAY_MS
        report.add(f"link.air.{name}.106kbit", spent, "ms")
    if name == "ble":
        for interval in _BLE_INTERVALS_MS:
            # Each write waits for its response, which comes in the same event; so does each notification.
            spent = (len(there) + len(back)) * interval
            report.add(f"link.air.ble.{interval:g}ms", spent, "ms")


# The card's code ----------------------------------------------------------------------------------


def _boards() -> tuple[str, ...]:
    """The runtimes of a board that are installed: micropython, or none."""
    try:
        runtime.find("micropython")
        runtime.find("mpy-cross")
    except runtime.RuntimeMissing:
        return ()
    return ("micropython",)


def _host_signing(suite: str, rounds: int) -> dict[str, list[float]]:
    """What signing.py measures, of the host's library."""
    key = crypto.PrivateKey.generate(suite)
    times: dict[str, list[float]] = {"sign": [], "verify": []}
    message = bytes(range(220))
    for _ in range(10 * rounds):
        start = time.perf_counter_ns()
        signature = key.sign(message)
        between = time.perf_counter_ns()
        good = crypto.verify(o.SUITES[suite], key.public, message, signature)
        times["verify"].append((time.perf_counter_ns() - between) / 1000)
        times["sign"].append((between - start) / 1000)
        assert good
    return times


def measure_signing(report: Report, effort: Effort) -> None:
    """Signing and verifying by the card's code on each runtime, and by the host's library."""
    rounds = str(effort.signatures)
    runs = {"cpython": ([sys.executable, str(_SIGNING), rounds], dict(os.environ))}
    for kind in _boards():
        runs[kind] = runtime.micropython_command(_SIGNING.stem, [rounds], path=str(_SIGNING.parent))
    times: dict[str, dict[str, dict[str, list[float]]]] = {}
    for kind, (argv, environment) in runs.items():
        done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, check=True)
        times[kind] = json.loads(done.stdout)
    times["openssl"] = {suite: _host_signing(suite, effort.signatures) for suite in SUITES}
    for suite in SUITES:
        for kind, measured in times.items():
            for what in ("sign", "coupon", "verify"):
                if what not in measured[suite]:
                    continue  # OpenSSL has no coupons
                coupon = what == "coupon"
                report.add(
                    f"{'sign-coupon' if coupon else what}.{kind}.{suite}",
                    median(measured[suite][what]),
                    "µs",
                    ratio_to=f"sign.{kind}.{suite}" if coupon else "",
                    ratio_at_most=_MAX_COUPON if coupon and kind == "micropython" else None,
                )


def measure_boards(report: Report) -> None:
    """What a tap is expected to take on the boards, and what makes it so: computed, see firmware/build.py."""
    for suite in SUITES if _boards() else ():
        measured = build.measure(suite)
        for board, limit in _MAX_TAP_MS.items():
            name = f"board.{board}.{suite}"
            taps = build.taps(board, measured)
            usual = taps["usual"]
            report.add(name, usual["total"], "ms", at_most=limit)
            report.add(f"{name}.torn", taps["torn"]["total"], "ms", at_most=2 * limit)
            for part in ("air", "bus", "interpreter", "flash"):
                report.add(f"{name}.{part}", usual[part], "ms", ratio_to=name)
            for other in ("no-coupon", "424kbit"):
                report.add(f"{name}.{other}", taps[other]["total"], "ms", ratio_to=name)


def _pays(image: Path, request: o.PayRequest, heap_kb: int) -> bool:
    """Whether the card in a copy of the image makes this payment in such a heap."""
    copy = image.with_suffix(".copy")
    shutil.copyfile(image, copy)
    card = emulator.Card(copy, "micropython", heap=f"{heap_kb}k")
    try:
        card.power_on()
        with SimConnection(card, "sim:") as connection:
            client = Card(connection)
            client.select()
            client.pay(request)
    except (emulator.CardRemoved, ChipcashError):
        return False
    finally:
        card.power_off()
    return True


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Silence a card process that runs out of memory: here that is an answer."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def measure_card(report: Report, effort: Effort, folder: Path) -> None:
    """What a board must have for the card: bytes of code, heap."""
    if not _boards():
        return
    report.add("card.mpy", runtime.size(), "bytes", at_most=_MAX_MPY_BYTES)
    for suite in SUITES:
        net = Network(suite)
        image = folder / f"full.{suite}.img"
        now = fill_card(image, net, make_card(image, net))
        for titles, amount in ((1, 1000), (o.MAX_INPUTS, 1000 * o.MAX_INPUTS)):
            request = net.request(amount, time=now)
            # The smallest that serves every time; `low` is known not to.
            low, enough = _LEAST_HEAP_KB, _MAX_HEAP_KB
            with _no_stderr():
                while not _pays(image, request, enough):
                    low, enough = enough, 2 * enough
                    assert enough < 4096, "the card does not pay in any heap"
                while enough - low > effort.heap_step_kb:
                    middle = (low + enough) // 2
                    if all(_pays(image, request, middle) for _ in range(effort.heap_tries)):
                        enough = middle
                    else:
                        low = middle
            report.add(f"card.heap.{titles}-title.{suite}", enough, "kB", at_most=_MAX_HEAP_KB)


# The center ---------------------------------------------------------------------------------------


def measure_center(report: Report, effort: Effort, folder: Path) -> None:
    """Claims per second by a center with its ledger on the disk, beside what verifying alone would take; what
    a single payment takes; how that grows with the ledger."""
    ledgers: dict[str, Callable[[str], str]] = {
        "": lambda suite: str(folder / f"ledger.{suite}.db")
    }
    with contextlib.ExitStack() as stack:
        server = None
        if pg_server.programs() is None:
            report.notes.append("Nothing was settled in PostgreSQL: its server is not installed.")
        else:
            server = pg_server.Server(durable=True)
            stack.callback(server.close)
            ledgers[".postgres"] = server.database
        for suite in SUITES:
            rate = settling.verified(suite, effort.settlings)
            report.add(f"center.verified.{suite}", rate, "signatures/s")
            for name, where in ledgers.items():
                with settling.serving(where(suite), suite) as center:
                    rates = settling.settled(
                        center, effort.batch, effort.settlings, effort.singles, effort.clients
                    )
                    found = settling.payments(center, effort.payments)
                for claims, rate in rates.items():
                    share = _SHARE[suite] if claims > 1 else None
                    report.add(
                        f"center.settled.{suite}{name}.batch-{claims}",
                        rate,
                        "claims/s",
                        ratio_to=f"center.verified.{suite}",
                        ratio_at_least=share,
                    )
                for part, ms in found.items():
                    most = _MAX_PAYMENT_MS if part == "p99" else None
                    report.add(f"center.payment.{suite}{name}.{part}", ms, "ms", at_most=most)
        if server is not None:
            sizes = effort.ledger_sizes
            for size, us in settling.growth(server, sizes, effort.batch, effort.growths).items():
                compared = {} if size == sizes[0] else {"ratio_to": f"center.growth.{sizes[0]}"}
                most = _MAX_GROWTH if size == sizes[-1] else None
                report.add(f"center.growth.{size}", us, "µs", **compared, ratio_at_most=most)


def measure_partitions(report: Report, effort: Effort, folder: Path) -> None:
    """What a claim costs a center of several ledgers, which takes a dozen processes."""
    if not effort.partition_turns:
        return
    reason = partitions.missing()
    if reason is not None:
        report.notes.append(f"No partitions were measured. {reason}")
        return
    partitions.measure(report, effort.partition_turns, folder)


# The log ------------------------------------------------------------------------------------------


def _grow(log: Log, size: int, batch: int = 65_536) -> None:
    """Append entries of 16 bytes until there are so many."""
    while log.size < size:
        numbers = range(log.size + 1, min(size, log.size + batch) + 1)
        log.append([(number, b"%016d" % number) for number in numbers])


def measure_tills(report: Report, effort: Effort, folder: Path) -> None:
    """What a till adds to a tap, and how it bears a long queue."""
    board = "micropython" if _boards() else "cpython"
    taps = tills.taps(folder, board, effort.charges)
    for what, values in (("card", taps.card), ("added", taps.added)):
        report.add(f"till.{what}.p50", median(values), "ms")
        most = _MAX_ADDED_MS if what == "added" else None
        report.add(f"till.{what}.p95", tills.p95(values), "ms", at_most=most)
    with settling.serving(str(folder / "tills.db"), "p256") as served:
        for size in effort.queues:
            directory = folder / f"queue-{size}"
            tills.make_queue(served, directory, size)
            report.add(f"till.open.{size}", tills.opened(directory), "ms", at_most=_MAX_OPEN_MS)
            page = tills.paged(directory, effort.singles)
            report.add(f"till.page.{size}", page, "ms", at_most=_MAX_PAGE_MS)
            accepted = f"till.accepted.{size}"
            rate = tills.accepted(served, min(size, _ACCEPTED))
            report.add(accepted, rate, "claims/s")
            done = tills.synced(served, directory, size)
            report.add(f"till.synced.{size}", done.rate, "payments/s", ratio_to=accepted)
            first = effort.queues[0]
            report.add(
                f"till.memory.{size}",
                done.memory,
                "MB",
                ratio_to=f"till.memory.{first}" if size != first else "",
                ratio_at_most=_MAX_MEMORY if size != first else None,
            )


def _log(folder: Path) -> Log:
    return Log.create(folder / "public", folder / "entries", _LOG_KEY)


def measure_log(report: Report, effort: Effort, folder: Path) -> None:
    """How appending and proving grow with the log: as its logarithm, or less."""
    memory = Path("/dev/shm")
    with contextlib.ExitStack() as stack:
        place = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else folder)
            )
        )
        logs = {size: stack.enter_context(_log(place / str(size))) for size in effort.log_sizes}
        times: dict[tuple[str, int], list[float]] = {}
        for size, log in logs.items():
            _grow(log, size)
        for turn in range(_LOG_TURNS):
            for size, log in logs.items():
                start = time.perf_counter()
                _grow(log, log.size + 1)
                appended = time.perf_counter()
                log.inclusion(turn * 7919 % size)
                log.consistency(1 + turn * 7907 % size)
                times.setdefault(("append", size), []).append(appended - start)
                times.setdefault(("proof", size), []).append(time.perf_counter() - appended)
        first, *_, last = effort.log_sizes
        for what in ("append", "proof"):
            for size in effort.log_sizes:
                report.add(
                    f"log.{what}.{size}",
                    median(times[what, size]) * 1000,
                    "ms",
                    ratio_to=f"log.{what}.{first}" if size != first else "",
                    ratio_at_most=_MAX_LOG_GROWTH if size == last else None,
                )
    with _log(folder / "log") as log:
        spent = []
        for _ in range(effort.singles):
            start = time.perf_counter()
            _grow(log, log.size + 1)
            spent.append((time.perf_counter() - start) * 1000)
        report.add("log.durable", median(spent), "ms")
        start, before = time.perf_counter(), log.size
        _grow(log, before + 2 * _LOG_BATCH, _LOG_BATCH)
        rate = (log.size - before) / (time.perf_counter() - start)
        report.add("log.appended", rate, "entries/s")


# All of it ----------------------------------------------------------------------------------------


def private_session(report: Report) -> pcscd.Session | None:
    """A private pcscd: this program starts again inside one, where that is possible."""
    reason = None
    if pcscd.current() is None:
        reason = pcscd.available()
    if reason is None:
        try:
            import smartcard  # noqa: F401
        except ImportError:
            reason = "pyscard is not installed. Run: pip install chipcash[pcsc]"
    if reason is None:
        return pcscd.ensure_private_pcscd()
    report.notes.append(f"Nothing was measured over pcsc:. {reason}")
    return None


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the file, print; the exit code is 0 also where a target was missed."""
    parser = argparse.ArgumentParser(description="Measure what chipcash promises.")
    parser.add_argument("--quick", action="store_true", help="few repetitions: sizes, rough times")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "bench.json")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL

    report = Report()
    session = private_session(report)
    if not _boards():
        report.notes.append(
            "Nothing was measured under MicroPython, which is not installed. Run: pip install chipcash[sim]"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output and not in /tmp, which may be memory: the ledger is to be durable.
    with tempfile.TemporaryDirectory(dir=options.output.parent) as scratch:
        folder = Path(scratch)
        measure_taps(report, effort, folder, session)
        measure_air(report, folder)
        measure_links(report, effort, folder)
        measure_signing(report, effort)
        measure_boards(report)
        measure_card(report, effort, folder)
        measure_center(report, effort, folder)
        measure_partitions(report, effort, folder)
        measure_tills(report, effort, folder)
        measure_log(report, effort, folder)
    options.output.write_text(json.dumps(report.rows, indent=1, ensure_ascii=False) + "\n")
    if options.json:
        print(json.dumps(report.rows, indent=1, ensure_ascii=False))
    else:
        # Whole lines also where the output is no terminal.
        console = Console(highlight=False, width=max(Console().width, _TABLE_WIDTH))
        console.print(report.table())
        console.print(f"Written to {options.output}", soft_wrap=True)
    for note in report.notes:
        print(note, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

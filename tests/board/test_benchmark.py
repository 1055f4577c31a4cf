# SPDX-License-Identifier: Apache-2.0
"""`chipcash board bench`: real MicroPython with the real firmware tests and times itself, and the figures are
those of this machine."""

from __future__ import annotations

import inspect
import json
import shutil
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chipcash.boards import benchmark, board_named
from chipcash.boards.flashing import FlashError, opened
from chipcash.card import Card
from chipcash.cli import root
from chipcash.transports import open_path
from chipcash_board.flash import BLOCK, SCRATCH
from chipcash_sim import runtime
from firmware import build
from tests.board.pico_board import PicoBoard

ROOT = Path(__file__).parents[2]
BLOCKS = 212
FILES = (BLOCKS - 20 - SCRATCH) * BLOCK
JOURNAL = (BLOCKS - 20) * BLOCK
STEPS = [
    *("the firmware's modules", "heap", "self-test", "hash, gm", "hash, p256"),
    *("signatures, gm", "signatures, p256", "journal"),
]


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flash of a board with the firmware, which has been a blank card once."""
    folder = tmp_path_factory.mktemp("flashed")
    config = (ROOT / "firmware" / "chipcash_boards" / "pico2w.py").read_text()
    config = config.replace('"ccid", ', "")  # the emulated board has no USB device
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(build.PROCESSORS, "pico2w", build.Processor("x64", 0.3))
            build.build("pico2w", config, "usb-reader", folder / "image")
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    pico = PicoBoard(folder, BLOCKS)
    pico.start()
    with pico.on() as line:
        done = cli("flash", "pico2w", "--image", str(folder / "image"), "--port", line)
        assert done.exit_code == 0, done.output
    with pico.on() as line:
        is_a_card(line)
    return pico.flash


@pytest.fixture
def pico(flashed: Path, tmp_path: Path) -> PicoBoard:
    board = PicoBoard(tmp_path)
    shutil.copy(flashed, board.flash)
    return board


def cli(*words: str) -> Result:
    return CliRunner().invoke(root, ["board", *words])


def is_a_card(line: str) -> None:
    with open_path(f"serial:{line}", wait=10) as connection:
        Card(connection).select()


def lasting(flash: Path) -> tuple[bytes, bytes]:
    """Files and journal; not the blocks between, in which nothing is kept."""
    content = flash.read_bytes()
    return content[:FILES], content[JOURNAL:]


def test_every_figure(pico: PicoBoard, flashed: Path) -> None:
    with pico.on() as line:
        done = cli("bench", "--port", line, "--json")
        assert done.exit_code == 0, done.output
        is_a_card(line)  # it started again
    told = json.loads(done.output)
    assert told["passed"] and len(told["self_test"]) == 11 and all(told["self_test"].values())
    assert told["word_bits"] == 64 and told["mhz"] == 150 and told["board"] == "pico2w"
    figures = {each["name"]: each for each in told["figures"]}
    suites = {
        f"{what}.{suite}"
        for what in ("sign", "coupon", "verify", "hash", "pay")
        for suite in ("gm", "p256")
    }
    assert set(figures) == suites | {"journal.commit", "journal.erase", "heap", "heap.free"}
    for name, each in figures.items():
        assert each["value"] > 0, name
        if name in ("hash.p256", "coupon.p256", "heap.free"):
            assert each["expected"] is each["ratio"] is None
        else:
            assert each["ratio"] == pytest.approx(each["value"] / each["expected"])
    value = {name: each["value"] for name, each in figures.items()}
    for suite in ("gm", "p256"):
        # A verification is twice a signature, and what a coupon saves is nearly all of one.
        assert value[f"coupon.{suite}"] < value[f"sign.{suite}"] / 10
        assert value[f"sign.{suite}"] < value[f"verify.{suite}"]
    assert value["heap.free"] < value["heap"]
    assert figures["sign.p256"]["expected"] == 300
    assert figures["heap"]["expected"] == board_named("pico2w").heap_kb
    assert lasting(pico.flash) == lasting(flashed)
    assert set(pico.flash.read_bytes()[FILES:JOURNAL]) == {0xFF}


def test_what_is_expected() -> None:
    """The estimates for a signature and a verification, of which all is made: within their 30 %."""
    here = {"gm": {"sign": 10_000, "select": 100, "pay": 500}}
    for board, sign, verify in (("picow", 500, 1300), ("pico2w", 300, 750), ("esp32s3", 250, 620)):
        found = benchmark.expected(board_named(board), 3, here)
        assert found["sign.p256"] == pytest.approx(sign)
        assert found["sign.gm"] == pytest.approx(sign, rel=0.15)
        assert found["verify.p256"] == pytest.approx(verify, rel=0.05)
        assert found["pay.gm"] == pytest.approx(600 * sign / 10_000)
        assert found["journal.commit"] == pytest.approx(2.1)
        assert found["hash.gm"] < 15 and found["coupon.gm"] < 10


@pytest.mark.parametrize(
    "digits, failed",
    [
        ("66c7f0f462eeedd9", {"sm3"}),
        ("EFD48B2AACB6A8FD", {"sign.p256", "verify.p256"}),
        ("59276E27D506861A", {"sign.gm"}),
    ],
)
def test_a_board_that_computes_wrongly(
    pico: PicoBoard, monkeypatch: pytest.MonkeyPatch, digits: str, failed: set[str]
) -> None:
    source = inspect.getsource(benchmark.program)
    assert digits in source
    monkeypatch.setattr(inspect, "getsource", lambda _: source.replace(digits, digits[::-1]))
    monkeypatch.setattr(benchmark, "SUITES", ())
    with pico.on() as line:
        done = cli("bench", "--port", line)
    assert done.exit_code == 1
    assert f"FAILED: {', '.join(sorted(failed))}\n" in done.stdout
    assert "must carry no money" in done.stdout


def test_interrupted(pico: PicoBoard, flashed: Path) -> None:
    """Ctrl-C comes while the board signs: it is stopped, and is a card again."""

    def told(what: str) -> None:
        if what == "signatures, gm":
            signal.setitimer(signal.ITIMER_REAL, 0.02)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pico.on() as line:
            with pytest.raises(KeyboardInterrupt), opened(line, 10) as prompt:
                benchmark.on_board(prompt, prompt.installed(), told)
            is_a_card(line)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert lasting(pico.flash) == lasting(flashed)


def test_unplugged(pico: PicoBoard, flashed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power goes while its flash is written: nothing of what lasts has changed."""
    monkeypatch.setattr(benchmark, "_ROUNDS", 1)
    for cut in (1, 3, 12):
        steps: list[str] = []
        with (
            pico.on(cut=cut) as line,
            pytest.raises(FlashError, match="the line failed"),
            opened(line, 10) as prompt,
        ):
            benchmark.on_board(prompt, prompt.installed(), steps.append)
        assert steps == STEPS
        assert lasting(pico.flash) == lasting(flashed)
    with pico.on() as line:
        is_a_card(line)


def test_what_cannot_be_measured(pico: PicoBoard, tmp_path: Path) -> None:
    with pico.on() as line, opened(line, 10) as prompt:
        installed = prompt.installed()
        name = f"/chipcash-{installed.build}/chipcash_card/ec.mpy"
        prompt.run(f"with open({name!r}, 'ab') as f: f.write(b'x')")
    with pico.on() as line:
        done = cli("bench", "--port", line)
        assert done.exit_code == FlashError.exit_code and "chipcash board flash" in done.stderr
    (tmp_path / "new").mkdir()
    new = PicoBoard(tmp_path / "new")
    new.start()
    with new.on() as line:
        done = cli("bench", "--port", line)
        assert done.exit_code == FlashError.exit_code and "no whole firmware" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""The firmware onto a board: real MicroPython with littlefs on an emulated flash, interrupted everywhere."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
import tty
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from chipcash.boards import board_named, flashing
from chipcash.boards.flashing import FlashError, Image, RuntimeWanted, opened
from chipcash.cli import root
from chipcash.errors import NoReaderError, TransportError
from chipcash_board import install
from chipcash_board.flash import BLOCK
from chipcash_sim import runtime
from firmware import build
from tests.board.pico_board import BLOCKS, JOURNAL, PicoBoard

ROOT = Path(__file__).parents[2]
BOARD = board_named("pico2w")
MONEY = bytes(range(256)) * ((BLOCKS * BLOCK - JOURNAL) // 256)
"""What the journal's banks hold."""


def make_image(folder: Path, version: str, arch: str = "x64") -> Path:
    """An image of a firmware that says its version; the real main.py, and a module of more than a block."""
    sources = folder / "sources"
    (sources / "firmware" / "chipcash_board").mkdir(parents=True)
    wire = sources / "protocols" / "chipcash_wire"
    wire.mkdir(parents=True)
    shutil.copy(ROOT / "firmware" / "main.py", sources / "firmware")
    (wire / "__init__.py").write_text("")
    (wire / "compat.py").write_text("def keep_heap_whole():\n    pass\n")
    (sources / "firmware" / "chipcash_board" / "__init__.py").write_text("")
    (sources / "firmware" / "chipcash_board" / "start.py").write_text(
        f"def start(config, form):\n    print(form, {version!r}, {version * 500!r} > '')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build.PROCESSORS, "pico2w", build.Processor(arch, 1.0))
        build.build("pico2w", "", "ic-card", folder / "image", sources)
    shutil.rmtree(sources)
    return folder / "image"


def says(version: str) -> str:
    return f"ic-card {version} True\n"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Those of two versions."""
    try:
        return [make_image(tmp_path_factory.mktemp(name), name) for name in ("1.0", "2.0-longer")]
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def pico(tmp_path: Path) -> PicoBoard:
    """A new board: MicroPython has made its file system; the journal's banks are in use all the same."""
    board = PicoBoard(tmp_path)
    content = board.flash.read_bytes()
    board.flash.write_bytes(content[:JOURNAL] + MONEY)
    assert board.start() == ""
    return board


def put(line: str, image: Path, stop: int = 0) -> list[str]:
    """Flash; what was written. stop: after so many files comes a Ctrl-C."""
    wrote = []

    def progress(path: str, number: int, count: int, written: bool) -> None:
        assert count == len(made.files) and path == list(made.files)[number - 1]
        if written:
            wrote.append(path)
        if number == stop:
            raise KeyboardInterrupt

    made = Image.load(image)
    with opened(line, 10) as prompt:
        prompt.refuse(prompt.installed(), BOARD, made)
        prompt.deploy(made, progress)
    return wrote


def flashed(pico: PicoBoard, image: Path) -> list[str]:
    with pico.on() as line:
        return put(line, image)


def installed(pico: PicoBoard) -> flashing.Installed:
    with pico.on() as line, opened(line, 10) as prompt:
        return prompt.installed()


def money(pico: PicoBoard) -> bytes:
    return pico.flash.read_bytes()[JOURNAL:]


def test_a_new_board_and_the_next_version(pico: PicoBoard, images: list[Path]) -> None:
    assert installed(pico).build is None and not installed(pico).complete
    for image, version in zip(images, ("1.0", "2.0-longer"), strict=True):
        made = Image.load(image)
        assert flashed(pico, image) == list(made.files)
        assert pico.start() == says(version)
        found = installed(pico)
        assert found.complete and found.build == made.build and found.manifest == made.manifest
        assert found.foreign == []
        before = pico.flash.read_bytes()
        assert flashed(pico, image) == []  # all is there
        assert pico.start() == says(version) and before[JOURNAL:] == money(pico) == MONEY
    with pico.on() as line, opened(line, 10) as prompt:
        assert sorted(each.name for each in prompt._transport.fs_listdir("/")) == [
            f"chipcash-{made.build}",
            "main.py",
        ]


@pytest.mark.parametrize(
    ("each", "finished"),
    [pytest.param(3, 4, id="each third"), pytest.param(1, 1, id="all", marks=pytest.mark.long)],
)
@pytest.mark.parametrize(
    ("old", "fault"),
    [
        (False, "cut"),
        (True, "cut"),
        (True, "worn"),
        pytest.param(False, "worn", marks=pytest.mark.long),
    ],
    ids=["new board, cut", "old firmware, cut", "old firmware, worn", "new board, worn"],
)
def test_power_at_every_operation_of_the_flash(
    pico: PicoBoard, images: list[Path], old: bool, fault: str, each: int, finished: int
) -> None:
    """Power goes half way through, or the chip takes nothing from there on: the old, or all of the new.
    each: only so many, for the time that they take, and where the outcome changes those between; finished:
    after each so many of them the same command finishes it."""
    if old:
        flashed(pico, images[0])
    content = pico.flash.read_bytes()
    flashed(pico, images[1])
    operations = pico.operations
    before, after = says("1.0") if old else "", says("2.0-longer")
    new = Image.load(images[1]).build

    def interrupted(number: int) -> tuple[bool, str]:
        """Whether a failure was told, and what the board says then."""
        pico.flash.write_bytes(content)
        told = ""
        with pico.on(**{fault: number}) as line:
            try:
                put(line, images[1])
            except FlashError as error:
                told = error.message
        said = pico.start()
        assert said in (before, after), number
        assert said == after or told
        found = installed(pico)
        if not told:
            assert found.complete and found.build == new
        elif "has no firmware yet" in told or "still has the firmware" in told:
            assert said == before, number
        assert money(pico) == MONEY
        return bool(told), said

    seen = {}
    for turn, number in enumerate((*range(1, operations, each), operations), 1):
        seen[number] = interrupted(number)
        if turn % finished == 0:
            flashed(pico, images[1])
            assert pico.start() == after and installed(pico).complete
    for first, last in pairwise(sorted(seen)):
        if seen[first] != seen[last]:
            seen |= {number: interrupted(number) for number in range(first + 1, last)}
    outcomes = set(seen.values())
    assert (True, before) in outcomes
    assert not old or (True, after) in outcomes  # the old folder was still to be removed


@pytest.mark.parametrize("old", [False, True], ids=["new board", "old firmware"])
def test_interrupted_at_every_file(pico: PicoBoard, images: list[Path], old: bool) -> None:
    if old:
        flashed(pico, images[0])
    content = pico.flash.read_bytes()
    files = list(Image.load(images[1]).files)
    for number in range(1, len(files) + 1):
        pico.flash.write_bytes(content)
        with pico.on() as line, pytest.raises(KeyboardInterrupt):
            put(line, images[1], number)
        assert pico.start() == (says("1.0") if old else "")
        assert installed(pico).complete is old
        assert flashed(pico, images[1]) == files[number:]
        assert pico.start() == says("2.0-longer")


def test_a_damaged_firmware_is_told_and_mended(pico: PicoBoard, images: list[Path]) -> None:
    flashed(pico, images[0])
    made = Image.load(images[0])
    with pico.on() as line, opened(line, 10) as prompt:
        name = f"/chipcash-{made.build}/chipcash_board/start.mpy"
        prompt._transport.exec(f"with open({name!r}, 'ab') as f: f.write(b'x')")
        assert prompt.installed().damaged == ["chipcash_board/start.mpy"]
    assert not installed(pico).complete
    assert flashed(pico, images[0]) == ["chipcash_board/start.mpy"]
    with pico.on() as line, opened(line, 10) as prompt:
        prompt._transport.fs_rmfile(f"/chipcash-{made.build}/manifest.json")
        assert prompt.installed().damaged == ["manifest.json"]


def test_what_does_not_fit_is_refused(pico: PicoBoard, images: list[Path], tmp_path: Path) -> None:
    flashed(pico, images[0])
    content = pico.flash.read_bytes()
    with pico.on() as line, opened(line, 10) as prompt:
        found = prompt.installed()
        made = Image.load(images[1])
        prompt.refuse(found, BOARD, made)
        for board, what in (
            ({"port_board": "RPI_PICO_W"}, r"is that of RPI_PICO2_W \(.+\), not of RPI_PICO_W"),
            ({"version": "1.100.0"}, r"is 1\.\d+\.0, and 1.100.0 or newer is wanted"),
        ):
            other = dataclasses.replace(BOARD, **board)
            with pytest.raises(RuntimeWanted, match=what) as caught:
                prompt.refuse(found, other, made)
            assert f"micropython.org/download/{other.port_board}/" in caught.value.hint
        arm = Image.load(make_image(tmp_path, "3", "armv7emsp"))
        with pytest.raises(RuntimeWanted, match=r"takes \.mpy 6\.3 for x64, and .* armv7emsp"):
            prompt.refuse(found, BOARD, arm)
        old = dataclasses.replace(found, mpy=(5, 0))
        with pytest.raises(RuntimeWanted, match=r"takes \.mpy 5\.0"):
            prompt.refuse(old, BOARD, made)
        with pytest.raises(RuntimeWanted, match="takes no .mpy"):
            prompt.refuse(dataclasses.replace(found, mpy=None), BOARD, made)
        unnamed = dataclasses.replace(found, port_board="")  # MicroPython before 1.25
        prompt.refuse(unnamed, BOARD, made)
        theirs = dataclasses.replace(found, foreign=["boot.py", "blink.py"])
        with pytest.raises(FlashError, match=r"files that are not chipcash's: boot.py, blink.py"):
            prompt.refuse(theirs, BOARD, made)
    assert pico.flash.read_bytes() == content


def test_what_pairing_left_is_nobody_elses(pico: PicoBoard, images: list[Path]) -> None:
    flashed(pico, images[0])
    with pico.on() as line, opened(line, 10) as prompt:
        for name in (install.BONDS, install.BONDS + ".new"):
            prompt._transport.fs_writefile("/" + name, b"x")
        assert prompt.installed().foreign == []
    assert pico.start() == says("1.0") and money(pico) == MONEY


def test_an_esp32_needs_its_partition(pico: PicoBoard, images: list[Path]) -> None:
    """Its module, emulated; the boot.py that MicroPython itself makes there is no reason to refuse."""
    esp32 = dataclasses.replace(BOARD, port="esp32")
    made = Image.load(images[0])
    with pico.on() as line, opened(line, 10) as prompt:
        found = dataclasses.replace(prompt.installed(), foreign=["boot.py"])
        prompt._transport.exec(
            "import sys\nfound = []\n"
            "class Partition:\n TYPE_DATA = 1\n"
            " @staticmethod\n def find(kind, label):\n"
            "  return iter(found if (kind, label) == (1, 'chipcash') else ())\n"
            "class Module: pass\n"
            "m = Module()\nm.Partition = Partition\nsys.modules['esp32'] = m\n"
        )
        with pytest.raises(RuntimeWanted, match="no data partition 'chipcash'") as caught:
            prompt.refuse(found, esp32, made)
        assert " ".join(flashing.partition_command(esp32, "DOWNLOADED.bin", "chipcash.bin")) in (
            caught.value.hint
        )
        prompt._transport.exec("found.append(1)")
        prompt.refuse(found, esp32, made)


def test_a_full_board_keeps_what_it_had(tmp_path: Path, images: list[Path]) -> None:
    pico = PicoBoard(tmp_path, blocks=34)  # twelve of them for files
    pico.start()
    flashed(pico, images[0])
    with pytest.raises(FlashError, match=r"file system is full\. It still has the firmware"):
        flashed(pico, images[1])
    assert pico.start() == says("1.0") and installed(pico).complete


@pytest.mark.parametrize("answer", [b"", b"hello\r\n"], ids=["silence", "nonsense"])
def test_who_is_no_micropython(answer: bytes) -> None:
    line, far = os.openpty()
    tty.setraw(far)

    def echo() -> None:
        while os.read(line, 100) != b"end":
            os.write(line, answer)

    thread = threading.Thread(target=echo)
    thread.start()
    try:
        with (
            pytest.raises(RuntimeWanted, match="answers as MicroPython") as caught,
            opened(os.ttyname(far), 0, BOARD),
        ):
            pass
        assert "https://micropython.org/download/RPI_PICO2_W/" in caught.value.hint
    finally:
        os.write(far, b"end")
        thread.join()
        os.close(line)
        os.close(far)


def test_lines_that_cannot_be_opened(tmp_path: Path) -> None:
    with (
        pytest.raises(NoReaderError, match="There is no serial line"),
        opened(str(tmp_path / "no"), 0),
    ):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(TransportError, match="cannot be opened"), opened(str(tmp_path / "file"), 0):
        pass


def test_the_board_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports

    ports = [
        SimpleNamespace(device="/dev/ttyS0", vid=None),
        SimpleNamespace(device="x", vid=0x1234),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    with pytest.raises(NoReaderError, match="No board is plugged in"):
        flashing.find_port()
    ports.append(SimpleNamespace(device="/dev/ttyACM0", vid=0x2E8A))
    assert flashing.find_port() == "/dev/ttyACM0"
    ports.append(SimpleNamespace(device="/dev/ttyACM1", vid=0x303A))
    with pytest.raises(NoReaderError, match="/dev/ttyACM0, /dev/ttyACM1"):
        flashing.find_port()


def test_broken_images(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FlashError, match="holds no image"):
        Image.load(tmp_path)
    shutil.copytree(images[0], tmp_path / "image")
    (tmp_path / "image" / "main.py").write_text("")
    with pytest.raises(FlashError, match=r"is damaged: main\.py"):
        Image.load(tmp_path / "image")
    (tmp_path / "image" / "main.py").unlink()
    with pytest.raises(FlashError, match="holds no image"):
        Image.load(tmp_path / "image")


def test_an_image_is_built(tmp_path: Path) -> None:
    made = flashing.build_image(BOARD, "ic-card", tmp_path / "a")
    config = (ROOT / "firmware" / "chipcash_boards" / "pico2w.py").read_text()
    assert build.build("pico2w", config, "ic-card", tmp_path / "b") == made.manifest
    assert made.manifest["arch"] == "armv7emsp"


# The commands ---------------------------------------------------------------------------------------


def cli(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(root, ["board", *words], input=text)


def test_commands(pico: PicoBoard, images: list[Path]) -> None:
    with pico.on() as line:
        done = cli("info", "--port", line)
        assert done.exit_code == 1 and "the board asks to be flashed" in done.stdout
    words = ["flash", "pico2w", "--image", str(images[0])]
    with pico.on() as line:
        done = cli(*words, "--port", line)
        assert done.exit_code == 0, done.output
        files = list(Image.load(images[0]).files)
        count = len(files)
        assert done.stderr.splitlines() == [f"{n}/{count} {x}" for n, x in enumerate(files, 1)]
        assert f"{count} of {count} files were written" in done.stdout
    with pico.on() as line:
        done = cli(*words, "--port", line, "--json")
        told = json.loads(done.output)
        assert told["written"] == 0 and told["before"] == told["build"]
    with pico.on() as line:
        done = cli("info", "--port", line, "--json")
        told = json.loads(done.output)
        assert done.exit_code == 0 and told["complete"] and told["form"] == "ic-card"
    done = cli(*words, "--form", "usb-reader")
    assert done.exit_code == 2 and "is an image for pico2w, ic-card" in done.stderr
    done = cli(*words, "--port", "/dev/none", "--wait", "0")
    assert done.exit_code == 4 and "no serial line" in done.stderr


def test_wiping(pico: PicoBoard, images: list[Path]) -> None:
    flashed(pico, images[0])
    content = pico.flash.read_bytes()
    with pico.on() as line:
        done = cli("wipe", "--port", line, text="n\n")
        assert done.exit_code == 1 and "lost to its holder" in done.stderr
    assert pico.flash.read_bytes() == content
    with pico.on() as line:
        assert cli("wipe", "--port", line, "--yes").exit_code == 0
    operations = pico.operations
    assert set(money(pico)) == {0xFF}
    assert pico.start() == "" and installed(pico).foreign == []
    for cut in range(1, operations + 1):
        pico.flash.write_bytes(content)
        with pico.on(cut=cut) as line:
            assert cli("wipe", "--port", line, "--yes").exit_code == FlashError.exit_code
        said = pico.start()
        assert said == "" or (said, money(pico)) == (says("1.0"), MONEY), cut
    with pico.on() as line:
        assert cli("wipe", "--port", line, "--yes").exit_code == 0
    flashed(pico, images[1])
    assert pico.start() == says("2.0-longer")


def test_the_console_is_mpremotes(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(os, "execv", lambda program, words: ran.append((program, words)))
    assert cli("console", "--port", "/dev/x").exit_code == 0
    assert ran == [
        (
            sys.executable,
            [sys.executable, "-m", *["mpremote", "connect", "/dev/x", "resume", "repl"]],
        )
    ]


def test_where_to_get_micropython() -> None:
    assert "https://micropython.org/download/RPI_PICO2_W/" in cli("show", "pico2w").stdout
    assert "micropython.org" not in cli("show", "unix").stdout


def test_there_is_no_such_form() -> None:
    assert "has no form 'esim'" in cli("flash", "pico2w", "--form", "esim").stderr
    assert "needs no flashing" in cli("flash", "unix").stderr

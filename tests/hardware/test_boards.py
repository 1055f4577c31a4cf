# SPDX-License-Identifier: Apache-2.0
"""The boards' data, its checks, and what is generated from it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chipcash import boards
from chipcash.boards import checks
from chipcash.boards.chips import CHIPS
from chipcash.boards.model import Board, BoardError
from chipcash.boards.reading import read_board
from chipcash.boards.tables import Wire, wires
from chipcash.cli import root
from chipcash_sim import runtime
from chipcash_sim.forms import FORMS
from chipcash_sim.image import BANK
from hardware import generate

ROOT = Path(__file__).parents[2]
DATA = ROOT / "hardware"
ALL = boards.boards()
MODULES = {board: importlib.import_module(f"chipcash_boards.{board}") for board in ALL}

# Each break of a good file: board, what is replaced by what, what the error must say.
PN532 = "{ SDA = 4, SCL = 5, IRQ = 6, RSTPDN = 7 }"
SPI = "SCK = 12, MOSI = 11, MISO = 13, SS = 10, IRQ = 14"
BROKEN = [
    # Pins.
    ("pico2w", "CONFIRM = 14", "CONFIRM = 6", "GP6 is used by pn532 IRQ and buttons CONFIRM"),
    ("pico2w", "CONFIRM = 14", "CONFIRM = 4", "GP4 is used by I2C0 SDA and buttons CONFIRM"),
    ("pico2w", "CONFIRM = 14", "CONFIRM = 15", "GP15 is used by buttons CONFIRM and buttons REF"),
    ("pico2w", "CONFIRM = 14", "CONFIRM = 30", "GP30, which rp2350a does not have"),
    ("esp32s3", "CONFIRM = 15", "CONFIRM = 22", "GPIO22, which esp32s3 does not have"),
    ("pico2w", "CONFIRM = 14", "CONFIRM = 25", "GP25, which is reserved: wireless chip: WL_CS"),
    ("esp32s3", "CONFIRM = 15", "CONFIRM = 0", "GPIO0, which is reserved: strapping"),
    ("esp32s3", "CONFIRM = 15", "CONFIRM = 20", "GPIO20, which is reserved: USB D+"),
    ("esp32s3", "CONFIRM = 15", "CONFIRM = 35", "GPIO35, which is reserved: octal PSRAM"),
    ("pico2w", '14 = "19"\n', "", "GP14, which is on no header pin"),
    ("pico2w", '14 = "19"', '14 = "20"', "header: 20 is two pins"),
    ("pico2w", '23 = "wireless', '31 = "wireless', "reserved: rp2350a has no GPIO31"),
    ("pico2w", "SENSE = 28", "SENSE = 21", "SENSE on GP21, which cannot be adc"),
    ("esp32s3", "SENSE = 1 ", "SENSE = 17 ", "SENSE on GPIO17, which cannot be adc"),
    ("pico2w", "REFUSE = 15", "DENY = 15", "its pins are CONFIRM, REFUSE, not CONFIRM, DENY"),
    # Buses.
    ("pico2w", "SDA = 4, SCL = 5", "SDA = 5, SCL = 4", "SDA on GP5, which cannot be I2C0 SDA"),
    ("pico2w", "SDA = 4, SCL = 5", "SDA = 4, SCL = 3", "SCL on GP3, which cannot be I2C0 SCL"),
    ("pico2w", "SDA = 10, SCL = 11", "SDA = 8, SCL = 9", "SDA on GP8, which cannot be I2C1 SDA"),
    ("pico2w", "instance = 0", "instance = 2", "SDA on GP4, which cannot be I2C2 SDA"),
    ("esp32s3", "instance = 1", "instance = 0", "SCK on GPIO12, which cannot be SPI0 SCK"),
    ("pico2w", "instance = 0\n", "", "instance and hz belong to a bus"),
    (
        "pico2w",
        'part = "rgb-led"',
        'part = "rgb-led"\nhz = 1000',
        "instance and hz belong to a bus",
    ),
    (
        "pico2w",
        "instance = 0\nhz = 400_000",
        "instance = 0\nhz = 1_000_000",
        "1000000 Hz is not up",
    ),
    ("esp32s3", "hz = 1_000_000", "hz = 0", "0 Hz is not up to 5000000 Hz on spi"),
    ("esp32s3", 'bus = "i2c"', 'bus = "spi"', "a ssd1306 has no spi, only i2c"),
    (
        "pico2w",
        "instance = 1\nhz = 400_000\npins = { SDA = 10, SCL = 11 }",
        "instance = 0\nhz = 400_000\npins = { SDA = 8, SCL = 5 }",
        "I2C0: SDA is on GP4, GP8 at once",
    ),
    (
        "pico2w",
        "instance = 1\nhz = 400_000\npins = { SDA = 10, SCL = 11 }",
        "instance = 0\nhz = 100_000\npins = { SDA = 4, SCL = 5 }",
        "I2C0: its parts want different clocks",
    ),
    # PWM.
    ("pico2w", "TONE = 22", "TONE = 21", "PWM slice 2: buzzer and led share one frequency"),
    ("pico2w", "BLUE = 20", "BLUE = 2", "PWM slice 1: two pins on its channel A"),
    # Supply.
    ("pico2w", 'rail = "3V3"', 'rail = "5V"', "the board has no rail 5V"),
    ("pico2w", 'part = "pn532"\nrail = "3V3"', 'part = "pn532"', "pn532: it needs a rail"),
    ("pico2w", 'part = "buzzer"', 'part = "buzzer"\nrail = "3V3"', "buzzer: it needs no rail"),
    ("pico2w", "volts = [3.3, 3.3]", "volts = [1.8, 3.3]", "it takes 2.7 to 5.4 V, and gets 1.8"),
    ("pico2w", "volts = [1.8, 5.5]", "volts = [1.8, 5.0]", "VSYS takes 1.8 to 5.0 V, and gets 3.0"),
    ("pico2w", "io_volts = 3.3", "io_volts = 1.8", "signals are of 3.3 V, the board's of 1.8 V"),
    ("pico2w", "io_volts = 3.3\n", "", "with peripherals it needs io_volts and a rail GND"),
    ("pico2w", "[rails.GND]", "[rails.AGND]", "with peripherals it needs io_volts and a rail GND"),
    ("pico2w", "supplies_ma = 300", "supplies_ma = 190", "240 mA from 3V3, which gives 190 mA"),
    # Memory.
    ("picow", "heap_kb = 190", "heap_kb = 151", "a heap of 151 kB, and a full card needs 152"),
    ("picow", "storage_kb = 848", "storage_kb = 311", "311 kB for files, and the card needs 384"),
    ("picow", "flash_kb = 2048", "flash_kb = 512", "storage is part of the flash"),
    ("picow", "ram_kb = 264", "ram_kb = 128", "heap part of the RAM"),
    ("picow", "ram_kb = 264", "", "flash_kb, storage_kb and ram_kb are missing"),
    ("unix", "heap_kb = 192", "heap_kb = 100", "a heap of 100 kB"),
    # Forms.
    ("pico2w", 'links = ["nfc"]', 'links = ["nfc", "ir"]', "form ic-card: there is no link 'ir'"),
    ("pico2w", 'links = ["nfc"]', 'links = ["nfc", "ble"]', "form ic-card: its links are nfc"),
    ("pico2w", 'links = ["ccid", "serial"]', "links = []", "form usb-reader: it has no link"),
    ("pico2w", "[forms.ic-card]", "[forms.watch]", "form watch: there is no such form"),
    (
        "pico2w",
        '= ["pn532", "atecc608", "tropic01"]',
        '= ["rc522"]',
        "the board has no peripheral 'rc522'",
    ),
    (
        "pico2w",
        '= ["pn532", "atecc608", "tropic01"]',
        '= ["led"]',
        "0 peripherals of kind nfc, and needs 1",
    ),
    ("pico2w", ', "buttons", "battery", ', ', "battery", ', "0 peripherals of kind buttons"),
    ("pico2w", '"display", ', "", "0 peripherals of kind display"),
    (
        "pico2w",
        '"buttons", "battery", "atecc608", "tropic01"]',
        '"buttons"]',
        "0 peripherals of kind battery",
    ),
    ("pico2w", "bluetooth = true", "bluetooth = false", "ble needs Bluetooth"),
    ("pico2w", "usb_device = true", "usb_device = false", "ccid and serial need USB"),
    # The file itself.
    ("pico2w", 'role = "reference"', 'role = "best"', "role is none of"),
    ("pico2w", 'chip = "rp2350a"', 'chip = "rp2350z"', "chip is none of"),
    ("pico2w", 'chip = "rp2350a"\n', "", "pico2w: chip is missing"),
    ("pico2w", 'role = "reference"', 'role = "reference"\ncolour = "green"', "colour is no word"),
    (
        "pico2w",
        'part = "rgb-led"',
        'part = "rgb-led"\nbuzz = 1',
        "peripherals.led: buzz is no word",
    ),
    ("pico2w", 'part = "rgb-led"', 'part = "led"', "there is no part 'led'"),
    ("pico2w", "heap_kb = 440", 'heap_kb = "440"', "memory: heap_kb is not a whole number"),
    ("pico2w", "bluetooth = true", "bluetooth = 1", "bluetooth is not true or false"),
    ("pico2w", "volts = [3.3, 3.3]", "volts = [3.4, 3.3]", "volts is not [least, most]"),
    ("pico2w", '14 = "19"', 'GP14 = "19"', "header.GP14 is not a GPIO number"),
    ("pico2w", "TONE = 22", "TONE = true", "pins is not a table of whole numbers"),
    ("pico2w", "[memory]", "[memory", "cannot be read"),
]
# The same of parts.toml, read with the Pico 2 W as it is.
BROKEN_PARTS = [
    ("i2c_address = 0x24\n", "", "pn532: has no i2c_address"),
    ("sense_volts = [1.5, 2.63]", "sense_volts = [1.5, 4.2]", "4.2 V at an ADC pin of 3.3 V"),
    ("feeds_volts = [3.0, 5.25]", "feeds_volts = [3.0, 6.0]", "VSYS takes 1.8 to 5.5 V, and gets"),
    ('CONFIRM = "in"', 'CONFIRM = "touch"', "CONFIRM needs 'touch', which no pin does"),
    ('SDA = "SDA"', 'SDA = "SCK"', "SDA needs 'SCK', which no pin does"),
    ("[rgb-led.signals]\ngpio", "[rgb-led.signals]\ncan", "signals.can is no bus"),
    ('kind = "sound"', 'kind = "sound"\nprice = 1', "buzzer: price is no word"),
]


def changed(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


@pytest.mark.parametrize(("board", "old", "new", "says"), BROKEN)
def test_a_broken_board_is_refused(
    board: str, old: str, new: str, says: str, tmp_path: Path
) -> None:
    file = tmp_path / f"{board}.toml"
    file.write_text(changed((DATA / "boards" / file.name).read_text(), old, new))
    with pytest.raises(BoardError, match=re.escape(says)):
        boards.load(file, boards.load_parts(DATA / "parts.toml"))


@pytest.mark.parametrize(("old", "new", "says"), BROKEN_PARTS)
def test_a_broken_part_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "parts.toml"
    file.write_text(changed((DATA / "parts.toml").read_text(), old, new))
    with pytest.raises(BoardError, match=re.escape(says)):
        boards.load(DATA / "boards" / "pico2w.toml", boards.load_parts(file))


def test_parts_may_share_a_bus_but_no_address(tmp_path: Path) -> None:
    """One I2C bus for both, on the same pins, is fine, until they have one address."""
    shared = tmp_path / "pico2w.toml"
    text = (DATA / "boards" / "pico2w.toml").read_text()
    text = changed(text, "instance = 1", "instance = 0")
    shared.write_text(changed(text, "SDA = 10, SCL = 11", "SDA = 4, SCL = 5"))
    parts = (DATA / "parts.toml").read_text()
    file = tmp_path / "parts.toml"
    file.write_text(parts)
    assert boards.load(shared, boards.load_parts(file)).peripherals["display"].instance == 0
    file.write_text(changed(parts, "0x3C\nmax", "0x24\nmax"))
    with pytest.raises(BoardError, match="I2C0: two parts at address 0x24"):
        boards.load(shared, boards.load_parts(file))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 50),
    st.floats(0, 6),
    st.sampled_from(["", "3V3", "i2c", "nfc", "unix", "SDA"]),
    st.lists(st.sampled_from(["nfc", "pn532", "led", 1.0, 2]), max_size=2),
    st.dictionaries(st.sampled_from(["SDA", "part", "7"]), st.integers(0, 30), max_size=2),
)


@given(st.sampled_from(["pico2w", "esp32s3", "unix"]), st.data())
def test_whatever_a_file_says_it_is_read_or_refused(board: str, data: st.DataObject) -> None:
    """Anything in place of anything: no other error than BoardError, and no second board from a bad file."""
    tree = tomllib.loads((DATA / "boards" / f"{board}.toml").read_text())
    table = tree
    while True:
        key = data.draw(st.sampled_from(sorted(table)))
        if not isinstance(table[key], dict) or not table[key] or data.draw(st.booleans()):
            break
        table = table[key]
    table[key] = data.draw(junk)
    try:
        found = read_board(board, tree, boards.load_parts(DATA / "parts.toml"))
    except BoardError as error:
        assert error.facts["problems"]
    else:
        for form in found.forms:
            pins = [wire.gpio for wire in wires_of(found, form) if wire.gpio is not None]
            assert len(pins) == len(set(pins))


def test_no_two_parts_on_one_uart(tmp_path: Path) -> None:
    file = tmp_path / "pico2w.toml"
    text = (DATA / "boards" / "pico2w.toml").read_text()
    text = re.sub(r'bus = "i2c" # not.*', 'bus = "uart"', text)
    text = changed(text, PN532, "{ RXD = 0, TXD = 1, RSTPDN = 7 }")
    file.write_text(text)
    parts = boards.load_parts(DATA / "parts.toml")
    assert "UART0 TX" in {x.use for x in wires_of(boards.load(file, parts), "ic-card")}
    start = text.index("[peripherals.pn532]")
    second = text[start : text.index("[peripherals.display]")].replace("pn532]", "second]")
    file.write_text(text + "\n" + second.replace("RXD = 0, TXD = 1, RSTPDN = 7", SECOND))
    with pytest.raises(BoardError, match="UART0: pn532 and second cannot share a line"):
        boards.load(file, parts)


SECOND = "RXD = 0, TXD = 1, RSTPDN = 8"


def wires_of(board: Board, form: str) -> list[Wire]:
    return wires(board, board.forms[form])


# Rows of the data sheets' tables, GPIO by GPIO: RP2040 1.4.3, RP2350 1.2.3 (to GPIO29 the same).
RP2 = """
0 SPI0 MISO, UART0 TX, I2C0 SDA    1 SPI0 SS, UART0 RX, I2C0 SCL
2 SPI0 SCK, UART0 CTS, I2C1 SDA    3 SPI0 MOSI, UART0 RTS, I2C1 SCL
4 SPI0 MISO, UART1 TX, I2C0 SDA    5 SPI0 SS, UART1 RX, I2C0 SCL
6 SPI0 SCK, UART1 CTS, I2C1 SDA    7 SPI0 MOSI, UART1 RTS, I2C1 SCL
8 SPI1 MISO, UART1 TX, I2C0 SDA    9 SPI1 SS, UART1 RX, I2C0 SCL
10 SPI1 SCK, UART1 CTS, I2C1 SDA   11 SPI1 MOSI, UART1 RTS, I2C1 SCL
12 SPI1 MISO, UART0 TX, I2C0 SDA   13 SPI1 SS, UART0 RX, I2C0 SCL
14 SPI1 SCK, UART0 CTS, I2C1 SDA   15 SPI1 MOSI, UART0 RTS, I2C1 SCL
16 SPI0 MISO, UART0 TX, I2C0 SDA   17 SPI0 SS, UART0 RX, I2C0 SCL
18 SPI0 SCK, UART0 CTS, I2C1 SDA   19 SPI0 MOSI, UART0 RTS, I2C1 SCL
20 SPI0 MISO, UART1 TX, I2C0 SDA   21 SPI0 SS, UART1 RX, I2C0 SCL
22 SPI0 SCK, UART1 CTS, I2C1 SDA   23 SPI0 MOSI, UART1 RTS, I2C1 SCL
24 SPI1 MISO, UART1 TX, I2C0 SDA   25 SPI1 SS, UART1 RX, I2C0 SCL
26 SPI1 SCK, UART1 CTS, I2C1 SDA   27 SPI1 MOSI, UART1 RTS, I2C1 SCL
28 SPI1 MISO, UART0 TX, I2C0 SDA   29 SPI1 SS, UART0 RX, I2C0 SCL
"""


@pytest.mark.parametrize("name", ["rp2040", "rp2350a"])
def test_pins_of_the_data_sheets(name: str) -> None:
    chip = CHIPS[name]
    table = dict(re.findall(r"(\d+) (\S+ \S+, \S+ \S+, \S+ \S+)", RP2))
    assert {str(gpio) for gpio in chip.gpios} == set(table)
    for gpio, functions in table.items():
        others = {"in", "out", "pwm"} | ({"adc"} if int(gpio) >= 26 else set())
        assert chip.functions(int(gpio)) == set(functions.split(", ")) | others, gpio


def test_every_form_has_a_board_and_the_emulator_all() -> None:
    assert set(ALL["unix"].forms) == {*FORMS, "usb-reader"}
    for board in ("pico2w", "picow", "esp32s3"):
        assert set(ALL[board].forms) == {"visual-bluetooth", "ic-card", "usb-reader"}


def test_memory_is_what_the_card_needs() -> None:
    """The figures that boards are held against are those of the card as it is."""
    assert runtime.HEAP == f"{checks.HEAP_WANTED_KB}k" == f"{ALL['unix'].heap_kb}k"
    try:
        tree = runtime.compile_tree()
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    code = sum(file.stat().st_size for file in tree.rglob("*.mpy"))
    assert 2 * code + 2 * BANK <= checks.STORAGE_LEAST_KB * 1024


def test_what_is_less_than_wanted_is_told() -> None:
    assert any("190 kB of heap" in each for each in checks.warnings(ALL["picow"]))
    assert not any("of heap" in each for each in checks.warnings(ALL["pico2w"]))
    assert any("No secure element" in each for each in checks.warnings(ALL["pico2w"]))
    assert checks.warnings(ALL["unix"]) == []


def test_what_is_generated_is_up_to_date() -> None:
    """If this fails: make boards."""
    for path, text in generate.generated().items():
        assert (ROOT / path).read_text() == text, f"{path} is old: make boards"
    there = {*DATA.glob("wiring/*"), *(ROOT / "firmware/chipcash_boards").glob("*.py")}
    names = {str(file.relative_to(ROOT)) for file in there}
    assert names == {*generate.generated(), "firmware/chipcash_boards/__init__.py"}


def test_a_diagram_shows_each_wire() -> None:
    for board in ALL.values():
        for form in board.forms.values() if board.role != "emulator" else ():
            svg = (DATA / "wiring" / f"{board.id}-{form.name}.svg").read_text()
            texts = re.findall(r"<tspan[^>]*>([^<]+)</tspan>", svg)
            for wire in wires(board, form):
                place = texts.index(f"{wire.pin}  (pin {wire.header})")
                assert texts[place + 1 : place + 3] == [wire.use, wire.signal], (board.id, wire)
                del texts[place : place + 3]


@pytest.mark.parametrize("board", ALL.values(), ids=lambda board: board.id)
def test_the_firmware_has_the_pins(board: Board) -> None:
    module = MODULES[board.id]
    assert board.id == module.BOARD
    assert {name: form.links for name, form in board.forms.items()} == module.LINKS
    assert {name: form.peripherals for name, form in board.forms.items()} == module.PERIPHERALS
    for each in board.peripherals.values():
        for signal, gpio in each.pins.items():
            assert getattr(module, f"{each.id.upper()}_{signal}") == gpio


def test_the_firmwares_boards_run_on_micropython() -> None:
    try:
        program = runtime.find("micropython")
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    code = "".join(f"import chipcash_boards.{x} as x; print(x.BOARD); " for x in ALL)
    done = subprocess.run(
        [program, "-c", code],
        env={"MICROPYPATH": str(ROOT / "firmware")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == list(ALL)


def test_boards_are_in_the_package(tmp_path: Path) -> None:
    """A wheel, built and unpacked, has them without the checkout."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = "from chipcash import boards; print(boards.data_folder(), *boards.boards())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / "site" / "chipcash" / "hardware"), *ALL]


def cli(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(root, list(words))
    assert done.exit_code == code, done.output
    return done.output


def test_commands() -> None:
    assert cli("board", "list").splitlines()[1].startswith("pico2w")
    listed = json.loads(cli("board", "list", "--json"))["boards"]
    assert [each["id"] for each in listed] == list(ALL)
    shown = cli("board", "show", "esp32s3", "--form", "ic-card")
    assert re.search(r"pn532 +\| MOSI +\| GPIO11 +\| J1-17 +\| SPI1 MOSI", shown)
    assert "ssd1306" not in shown.lower()
    assert "never together with USB" in cli("board", "show", "esp32s3")
    form = json.loads(cli("board", "show", "pico2w", "--json"))["forms"]["ic-card"]
    assert {"signal": "SDA", "gpio": 4}.items() <= form["wires"][0].items()
    assert form["bill"][0]["count"] == 1


def test_commands_refuse() -> None:
    failed = json.loads(cli("board", "show", "pico9", "--json", code=1))
    assert failed["error"] == "BoardError"
    assert "pico2w" in failed["hint"]
    assert "no form 'esim'" in cli("board", "show", "pico2w", "--form", "esim", code=2)

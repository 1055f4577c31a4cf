# SPDX-License-Identifier: Apache-2.0
"""A board takes the next version of its firmware over its link: the real firmware on MicroPython, with
littlefs on an emulated RP2's flash, its console a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chipcash import crypto
from chipcash.boards import board_named
from chipcash.boards.flashing import Image, opened
from chipcash.card import Card
from chipcash.cli import root
from chipcash.crypto import PrivateKey
from chipcash.firmware import PART, Update, UpdateError, make_update
from chipcash.transports import open_path
from chipcash_board import install
from chipcash_board.flash import BANK
from chipcash_sim import runtime
from chipcash_wire import objects as o
from firmware import build
from tests.board.pico_board import PicoBoard
from tests.builders import Network, network
from tests.cards import PIN, personalise

ROOT = Path(__file__).parents[2]
BOARD = board_named("pico2w")
TARGET = "pico2w-usb-reader"


def make_image(folder: Path, publisher: PrivateKey, version: str, rollback: int) -> Path:
    """An image of the real firmware, for the emulated board; beside it the update file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build.PROCESSORS, "pico2w", build.Processor("x64", 1.0))
        config = (ROOT / "firmware" / "chipcash_boards" / "pico2w.py").read_text()
        config = config.replace('"ccid", ', "")  # the emulated board has no USB device
        image = folder / version
        try:
            build.build(
                "pico2w", config, "usb-reader", image,
                publisher=publisher, version=version, rollback=rollback,
            )  # fmt: skip
        except runtime.RuntimeMissing as missing:
            pytest.skip(str(missing))
    return image


def flash(line: str, image: Path) -> None:
    with opened(line, 10) as prompt:
        made = Image.load(image)
        prompt.refuse(prompt.installed(), BOARD, made)
        prompt.deploy(made, lambda *_: None)


def cli(*words: str, code: int = 0) -> dict[str, object]:
    done = CliRunner().invoke(root, ["card", *words, "--json"], env={"CHIPCASH_PIN": PIN})
    assert done.exit_code == code, done.output
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def pay(net: Network, public: bytes, card: Card, amount: int) -> None:
    request = net.request(amount)
    claim = card.payment(card.pay(request), request).claim
    assert crypto.verify(o.suite_of(claim), public, claim.message(), claim.signature)


def start(pico: PicoBoard, image: Path) -> None:
    """Have the board start another firmware that is there: the last step of flashing it."""
    with pico.on() as line, opened(line, 10) as prompt:
        build = Image.load(image).build
        prompt._transport.fs_writefile("/main.py", install.SELECTOR.format(build=build).encode())
        found = prompt.installed()
    assert found.complete and found.build == build


def balance(line: str) -> object:
    return cli("info", f"serial:{line}", "--pin")["balance_fen"]


def test_a_card_is_updated_and_goes_on_paying(tmp_path: Path) -> None:
    net = network("p256")
    publisher, stranger = PrivateKey.generate("gm"), PrivateKey.generate("gm")
    old = make_image(tmp_path, publisher, "1.0", 3)
    new = make_image(tmp_path, publisher, "2.0", 4)
    files = {
        each.relative_to(new).as_posix(): each.read_bytes()
        for each in new.rglob("*")
        if each.is_file()
    }
    update = Update.load(tmp_path / "2.0.ccf")
    assert update.build == f"2.0+{Image.load(new).build}"
    assert (tmp_path / "2.0.ccf").read_bytes() == make_update(files, TARGET, "2.0", 4, publisher)
    for name, target, rollback, key in (
        ("forged", TARGET, 4, stranger),
        ("elsewhere", "picow-ic-card", 4, publisher),
        ("lower", TARGET, 2, publisher),
    ):
        (tmp_path / name).write_bytes(make_update(files, target, "2.0", rollback, key))

    pico = PicoBoard(tmp_path, blocks=212)  # what a Pico W has for files
    pico.start()
    with pico.on() as line:
        flash(line, old)
        with open_path(f"serial:{line}", wait=20) as connection:
            card = Card(connection)
            public = personalise(card, net, 10_000)
            before = card.info().build
            assert before.decode() == f"1.0+{Image.load(old).build}"
            pay(net, public, card, 1)
            card.verify_pin(PIN)
            for name, why in (
                ("forged", "takes no updates of this publisher"),
                ("lower", "rollback counter above 2"),
                ("elsewhere", r"not what this update is for \(picow-ic-card\)"),
            ):
                with pytest.raises(UpdateError, match=why):
                    Update.load(tmp_path / name).send(card, lambda *_: None)

            paid = []

            def during(done: int, size: int) -> None:
                if len(paid) < 3 and done > len(paid) * size // 3:
                    paid.append(done)
                    pay(net, public, card, 10)

            # One breaks off; the card goes on with what it has, and takes the next.
            card.begin_update(update.head)
            card.update_body(0, update.body[:PART])
            card.select()
            pay(net, public, card, 100)
            card.verify_pin(PIN)
            update.send(card, during)
            assert len(paid) == 3
            pay(net, public, card, 1000)
            assert card.info().build == before
            with pytest.raises(UpdateError, match="waits for power"):
                update.send(card, during)
    with pico.on() as line:
        assert balance(line) == 10_000 - 1131
        told = cli("info", f"serial:{line}")
        assert told["build"] == update.build
        with open_path(f"serial:{line}", wait=20) as connection:
            card = Card(connection)
            card.select()
            proof, _ = card.authenticate(bytes(16))
            assert proof.build.decode() == update.build
            pay(net, public, card, 1)
        again = cli("update", str(tmp_path / "2.0.ccf"), f"serial:{line}", "--pin", code=43)
        assert "has this build" in str(again["message"])
    # What its rollback counter forbids does not start the card, and leaves the board to be flashed.
    start(pico, old)
    money = pico.flash.read_bytes()[-2 * BANK :]
    assert (
        "not started, and the card is as it was: rollback counter 4 ran it, not 3" in pico.start()
    )
    assert pico.flash.read_bytes()[-2 * BANK :] == money
    start(pico, new)
    # The same by command line, with as little as makes a firmware.
    little = {"main.py": b"print('little')\n", "manifest.json": b"{}"}
    (tmp_path / "little").write_bytes(make_update(little, TARGET, "3.0", 4, publisher))
    words = ("update", str(tmp_path / "little"))
    with pico.on() as line:
        assert balance(line) == 10_000 - 1132
        refused = cli(*words, f"serial:{line}", code=8)
        assert "With --pin you are asked for it." in str(refused["hint"])
        told = cli(*words, f"serial:{line}", "--pin")
        assert told["build"] == Update.load(tmp_path / "little").build
        assert told["before"] == update.build
    assert pico.start() == "little\n"

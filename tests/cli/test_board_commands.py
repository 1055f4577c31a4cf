# SPDX-License-Identifier: Apache-2.0
"""From a new board to a payment: the real firmware, flashed onto MicroPython with an RP2's flash; twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware import build
from tests.board.pico_board import PicoBoard
from tests.cli.conftest import Cli, Server

ROOT = Path(__file__).parents[2]


def test_a_new_board_becomes_a_card_and_keeps_its_money(
    cli: Cli, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pico = PicoBoard(tmp_path, blocks=212)  # what a Pico W has for files
    pico.start()
    monkeypatch.setitem(build.PROCESSORS, "pico2w", build.Processor("x64", 1.0))
    config = (ROOT / "firmware" / "chipcash_boards" / "pico2w.py").read_text()
    config = config.replace('"ccid", ', "")  # the emulated board has no USB device
    build.build("pico2w", config, "usb-reader", tmp_path / "image")
    flash = ["board", "flash", "pico2w", "--image", "image"]
    with pico.on() as line:
        made = cli.json(*flash, "--personalise", "--port", line)
        assert made["written"] == made["files"] and len(made["puk"]) == 8
        card = f"serial:{line}"
        cli.run("bank", "reserve", "20")
        cli.run("bank", "issue", "20")
        cli.run("bank", "load", "20", card)
        assert cli.json("card", "info", card, "--pin")["key"] == made["key"]
        # The card has the console: the board's prompt is not to be had before the next power on.
        refused = cli.json(*flash, "--port", line, "--wait", "0", code=42)
        assert "plug it in while that waits" in refused["hint"]
        assert cli.json("card", "info", card, "--pin")["balance_fen"] == 2000
    (tmp_path / "image" / "manifest.json").write_text(
        (tmp_path / "image" / "manifest.json").read_text().replace("MicroPython", "Another")
    )
    with pico.on() as line:
        again = cli.json(*flash, "--port", line)
        assert again["before"] == made["build"] != again["build"]
        assert again["written"] == again["files"]
    with pico.on() as line:
        card = f"serial:{line}"
        assert cli.json("card", "info", card, "--pin")["balance_fen"] == 2000
        cli.run("pos", "init", "till")
        cli.run("pos", "sync")
        cli.run("pos", "charge", "12.34", card)
        assert cli.json("card", "info", card, "--pin")["balance_fen"] == 766
    with pico.on() as line:
        found = cli.json("board", "info", "--port", line)
        assert found["complete"] and found["form"] == "usb-reader"


def test_who_cannot_be_personalised_over_the_line(cli: Cli, tmp_path: Path) -> None:
    del cli.env["CHIPCASH_HOME"]
    flash = ["board", "flash", "pico2w", "--personalise", "--port", "/dev/none"]
    done = cli.json(*flash, "--form", "ic-card", code=2)
    assert "at a reader" in done["message"]
    done = cli.json(*flash, "--form", "usb-reader", code=2)
    assert "--home" in done["message"]

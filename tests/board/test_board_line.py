# SPDX-License-Identifier: Apache-2.0
"""The board's main program under real MicroPython, its console a terminal that the host's tools open."""

from __future__ import annotations

import os
import subprocess
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.transports import open_path
from chipcash_sim import runtime
from firmware.build import modules
from tests.builders import SUITES, network
from tests.cards import make_card

_PROGRAM = Path(__file__).parents[1] / "portable" / "board_process.py"


@contextmanager
def board(image: Path, folder: Path) -> Iterator[str]:
    """The board with power, its files those of an image; the path to its line."""
    tree = folder / "tree"
    files = modules()
    files |= {name: file for name, file in runtime.sources() if name.startswith("chipcash_sim/")}
    files[_PROGRAM.name] = _PROGRAM
    try:
        for name, file in files.items():
            compiled = (tree / name).with_suffix(".mpy")
            runtime.compile_file(file.read_bytes(), name, compiled, None)
        argv, environment = runtime.micropython_command("board_process", [str(image)])
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    line, far = os.openpty()
    tty.setraw(far)
    process = subprocess.Popen(
        argv, env={**environment, "MICROPYPATH": str(tree)}, stdin=line, stdout=line
    )
    try:
        yield os.ttyname(far)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        os.close(line)
        os.close(far)


@pytest.mark.parametrize("suite", SUITES)
def test_a_payment(tmp_path: Path, suite: str) -> None:
    net = network(suite)
    image = tmp_path / "card.img"
    public = make_card(image, net)
    request = net.request(1234)
    with board(image, tmp_path) as line, open_path(f"serial:{line}") as opened:
        card = Card(opened)
        card.select()
        card.put(net.title(public))
        paid = card.pay(request)
    with board(image, tmp_path) as line, open_path(f"serial:{line}") as opened:
        card = Card(opened)
        card.select()
        assert card.pay(request) == paid
        assert card.info().payments == 1

# SPDX-License-Identifier: Apache-2.0
"""`chipcash sim run --form visual-bluetooth`: a card with a screen to look at, and buttons to press."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from PIL import Image, ImageChops

from tests.cli.conftest import Cli
from tests.prefork import chipcash

GOLDEN = Path(__file__).parents[1] / "panel" / "golden"


def same(first: Path, second: Path) -> bool:
    """Whether two pictures have the same pixels."""
    with Image.open(first) as a, Image.open(second) as b:
        return ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getbbox() is None


def test_a_screen_to_look_at(cli: Cli) -> None:
    cli.json("sim", "new", "a.img")
    card = subprocess.Popen(
        [*chipcash(), "sim", "run", "a.img", "--form", "visual-bluetooth", "--screen", "a.png"],
        cwd=cli.folder,
        env=cli.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert card.stdin is not None and card.stderr is not None
    try:
        assert "Its buttons: confirm, refuse." in card.stderr.readline()
        assert card.stderr.readline().startswith("Where ble:")
        deadline = time.monotonic() + 60
        screen = cli.folder / "a.png"
        while not screen.exists() or not same(screen, GOLDEN / "locked.png"):  # it is blank
            assert time.monotonic() < deadline, "the screen does not show what the card shows"
            time.sleep(0.05)
        card.stdin.write("confirm\nrefuse\n\ncancel\n")
        card.stdin.flush()
        assert card.stderr.readline() == "No such button. There are: confirm, refuse\n"
        card.stdin.close()
        card.stdin = None
        assert [file.name for file in cli.folder.iterdir() if "png" in file.name] == ["a.png"]
    finally:
        card.send_signal(signal.SIGINT)
        out, err = card.communicate(timeout=120)
    assert (card.returncode, out, err) == (0, "a.img: removed\n", "")


def test_screens_that_cannot_be(cli: Cli) -> None:
    cli.json("sim", "new", "a.img")
    for form in ((), ("--form", "ic-card"), ("--link", "serial")):
        done = cli.run("sim", "run", "a.img", *form, "--screen", "a.png", code=2)
        assert "--screen needs a --form that has a screen" in done.stderr
    told = cli.json(
        "sim", "run", "a.img", "--form", "visual-bluetooth", "--screen", "no/a.png", code=1
    )
    assert "cannot be written to no/a.png: No such file or directory" in told["message"]

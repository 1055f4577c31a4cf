# SPDX-License-Identifier: Apache-2.0
"""`chipcash sim run --link`: a card behind each kind of link, as a person would use it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from chipcash_sim import forms, places
from chipcash_wire import objects
from tests.cli.conftest import Cli
from tests.prefork import chipcash

CHOICES = [
    *(("--link", name) for name in places.NAMES),
    *(("--form", name) for name in forms.FORMS),
]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_card_behind_links(cli: Cli, choice: tuple[str, str]) -> None:
    cli.json("sim", "new", "a.img")
    for _ in range(5):
        path = _run_and_remove(cli, choice)
        if not Path(path.partition(":")[2]).is_char_device():
            break
        # Another process has got a terminal of that name since: what it answers says nothing of ours.
    done = subprocess.run(
        [*chipcash(), "card", "info", path, "--wait", "0", "--json"],
        cwd=cli.folder,
        env=cli.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (4, 5) and json.loads(done.stdout)["error"].startswith("No")


def _run_and_remove(cli: Cli, choice: tuple[str, str]) -> str:
    """Emulate the card, ask it over each of its links, remove it; the path of the first one."""
    card = subprocess.Popen(
        [*chipcash(), "sim", "run", "a.img", *choice, "--json"],
        cwd=cli.folder,
        env=cli.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert card.stderr is not None
    line = card.stderr.readline()
    assert line.startswith("a.img is at ") and "(micropython)" in line, line
    paths = line.removeprefix("a.img is at ").partition(" (")[0].split(", ")
    if choice[0] == "--form":
        assert len(paths) == len(forms.FORMS[choice[1]].places)
    if any(path.startswith("ble:") for path in paths):
        # What a program elsewhere must have in its environment.
        _, _, told = card.stderr.readline().rstrip("\n").partition("export ")
        name, _, value = told.partition("=")
        cli.env[name] = value.strip("'")
    try:
        for path in paths:
            assert cli.json("card", "info", path)["life"] == "blank"
    finally:
        card.send_signal(signal.SIGINT)
        out, err = card.communicate(timeout=120)
    assert card.returncode == 0 and err == "", err
    assert json.loads(out) == {"image": "a.img", "paths": paths, "ended": "removed"}
    return paths[0]


def test_forms_are_those_of_certificates() -> None:
    assert tuple(forms.FORMS) == objects.FORMS[1:]


def test_a_named_line(cli: Cli) -> None:
    cli.json("sim", "new", "a.img")
    (cli.folder / "taken").write_text("")
    told = cli.json("sim", "run", "a.img", "--link", "serial=taken", code=1)
    assert "taken" in told["message"]
    assert (cli.folder / "taken").exists()
    cli.run("sim", "run", "a.img", "--link", "pigeon", code=2)

# SPDX-License-Identifier: Apache-2.0
"""`chipcash trace`: what passed, for people and for a second time."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import PIN, Cli, Server


def test_record_show_replay(cli: Cli, server: Server) -> None:
    cli.json("sim", "new", "a.img")
    cli.json("card", "personalise", "sim:a.img")
    words = ("trace", "record", "--json", "t.txt", "--", "card", "info", "sim:a.img", "--pin")
    done = json.loads(cli.run(*words).stdout)
    assert done["exit_code"] == 0 and done["commands"] >= 4
    text = (cli.folder / "t.txt").read_text()
    assert PIN.encode().hex() not in text and "bytes not logged]" in text
    shown = cli.run("trace", "show", "t.txt").stdout
    assert "sim:a.img\n" in shown and "SELECT" in shown and "GET DATA 01 00" in shown
    assert "secret" in shown and "9000 ok" in shown
    steps = cli.json("trace", "show", "t.txt")["steps"]
    assert len(steps) == done["commands"] and steps[0]["answer"].endswith("9000")

    again = cli.json("trace", "replay", "t.txt", "sim:a.img", "--pin")
    assert again == {"commands": len(steps), "differences": []}
    # Without the PIN the card tells no balance; a blank card has less to tell.
    assert cli.json("trace", "replay", "t.txt", "sim:a.img", code=1)["differences"]
    cli.json("sim", "new", "b.img")
    assert cli.json("trace", "replay", "t.txt", "sim:b.img", "--pin", code=1)["differences"]


def test_a_lost_answer_is_in_the_trace(cli: Cli) -> None:
    cli.json("sim", "new", "a.img")
    cli.run("trace", "record", "t.txt", "card", "info", "sim:a.img?cut_after=2", code=6)
    last = (cli.folder / "t.txt").read_text().splitlines()[-1]
    assert last.startswith("! ")
    assert "no answer" in cli.run("trace", "show", "t.txt").stdout


def test_what_is_no_trace(cli: Cli) -> None:
    (cli.folder / "t.txt").write_text("hello\n")
    assert "is no trace" in cli.json("trace", "show", "t.txt", code=1)["message"]
    for wrong in ("<  1.0 9000", "> 1.0 00a4\n> 1.0 00a4", "> x 00", "> 1.0 0g", "nothing"):
        (cli.folder / "t.txt").write_text(f"chipcash trace 1\npath x\n{wrong}\n")
        assert "line" in cli.json("trace", "show", "t.txt", code=1)["message"], wrong
    assert "exists already" in cli.run("trace", "record", "t.txt", "card", "info", code=1).stderr


def test_a_full_disk_costs_the_trace_and_not_the_answer(cli: Cli) -> None:
    cli.json("sim", "new", "a.img")
    done = cli.run("card", "info", "sim:a.img", "--json", CHIPCASH_TRACE="/dev/full")
    assert json.loads(done.stdout)["life"] == "blank" and "the trace ends" in done.stderr


@pytest.mark.parametrize("runtime", ["inprocess", "cpython", "micropython"])
def test_the_card_s_own_trace(cli: Cli, server: Server, runtime: str) -> None:
    """It holds what the other end's has, without PINs, and ends with what cost the card its power."""
    cli.json("sim", "new", "a.img")
    cli.json("card", "personalise", "sim:a.img")
    path = f"sim:a.img?runtime={runtime}&trace=card.txt"
    cli.json("trace", "record", "t.txt", "card", "info", path, "--pin")
    cli.run("trace", "record", "t2.txt", "card", "info", f"{path}&cut_before=2", code=6)
    parts = ("name", "command", "secret", "answer", "outcome")

    def told(file: str) -> list[list[object]]:
        return [[step[part] for part in parts] for step in cli.json("trace", "show", file)["steps"]]

    assert told("card.txt") == told("t.txt") + told("t2.txt")
    assert told("card.txt")[-1][-1] == "no answer"
    assert PIN.encode().hex() not in (cli.folder / "card.txt").read_text()
    nowhere = cli.json("card", "info", f"sim:a.img?runtime={runtime}&trace=no/card.txt", code=3)
    assert "no/card.txt" in nowhere["message"]


def test_a_trace_that_is_still_written(cli: Cli) -> None:
    """Commands without an answer have none, at its end and where the next session begins; half lines do not
    count."""
    text = "chipcash trace 1\npath a\n> 1.0 00ca0100\npath b\n> 1.0 00ca0200\n< 1.0 90"
    (cli.folder / "t.txt").write_text(text)
    steps = cli.json("trace", "show", "t.txt")["steps"]
    assert [(step["path"], step["outcome"]) for step in steps] == [
        ("a", "no answer"),
        ("b", "no answer"),
    ]

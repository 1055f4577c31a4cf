# SPDX-License-Identifier: Apache-2.0
"""The log on the disk: what is written is what a reader proves, whatever is cut, and never a fork."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.log.errors import LogError, LogInvalid, LogUnreachable
from chipcash.log.merkle import EMPTY
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.publisher import Publisher
from chipcash.log.reader import Folder, LogReader, Web
from chipcash.log.store import Log
from chipcash.log.tiles import TileNodes, bundle_path, join_entries, split_entries, tile_path
from tests.log.killing import KEY, Ledger, check, publish, root

ROOT = Path(__file__).parents[2]
os_replace = os.replace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Log.create(tmp_path / "public", tmp_path / "entries", KEY).close()
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_paths_are_those_of_tlog_tiles() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(2, 0, 1) == "tile/2/000.p/1"
    assert bundle_path(999, 255) == "tile/entries/999.p/255"
    assert bundle_path(1000) == "tile/entries/x001/000"


def test_a_tree_of_70000_has_the_tiles_of_the_specification(folder: Path) -> None:
    """The example of tlog-tiles; appended at once."""
    publish(folder, 70_000)
    tiles = folder / "public" / "tile"
    found = {str(p.relative_to(tiles)): p.stat().st_size for p in tiles.rglob("*") if p.is_file()}
    full = {f"0/{n:03d}": 8192 for n in range(273)} | {"1/000": 8192}
    partial = {"0/273.p/112": 112 * 32, "1/001.p/17": 17 * 32, "2/000.p/1": 32}
    # One append of 4096 entries at a time: what was partial in between may stay until its tile is full.
    assert full.items() <= found.items()
    assert partial.items() <= found.items()
    check(folder, {70_000})
    nodes = TileNodes(70_000, Folder(folder / "public").get)
    assert nodes(16, 0) == root(65_536)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.booleans())
def test_however_it_is_appended_the_log_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], reopen: bool
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = Log.create(folder / "public", folder / "entries", KEY)
    total, seen = 0, []
    for size in sizes:
        total += size
        seen.append(Publisher(log, Ledger(total)).publish())
        assert seen[-1].size == total
        assert seen[-1].root == root(total)
        if reopen:
            log.close()
            log = Log(folder / "public", folder / "entries", KEY)
    reader = LogReader(KEY.key, Folder(folder / "public"), Folder(folder / "entries"))
    newest, _ = reader.checkpoint()
    assert newest == seen[-1]
    for old in seen:
        reader.continues(old, newest)
        assert (
            len(list(reader.entries(old))) == old.size
        )  # partial tiles of old checkpoints are served
    log.close()


@pytest.mark.parametrize(("first", "then"), [(0, 3), (250, 10)])
def test_killed_at_every_step(tmp_path: Path, first: int, then: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.log.killing", str(tmp_path), str(first), str(then)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_a_disk_that_fails_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same process goes on, once there is room again."""
    with Log(folder / "public", folder / "entries", KEY) as log:
        Publisher(log, Ledger(250)).publish()
        right, failures = os_replace, 0
        while True:
            left = failures + 1

            def replace(old: str, new: Path) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise OSError(28, "No space left on device")
                right(old, new)

            monkeypatch.setattr("chipcash.files.os.replace", replace)
            try:
                Publisher(log, Ledger(260)).publish()
                break
            except OSError:
                failures += 1
                check(folder, {250, 260})
    assert failures > 5
    monkeypatch.undo()
    check(folder, {260})
    assert not [path for path in folder.rglob(".*") if path.is_file()], (
        "what failed was cleared away"
    )


def test_nothing_new_changes_nothing(folder: Path) -> None:
    publish(folder, 5)
    before = files(folder)
    publish(folder, 5)
    assert files(folder) == before


def test_an_empty_log(folder: Path) -> None:
    reader = LogReader(KEY.key, Folder(folder / "public"))
    checkpoint, _ = reader.checkpoint()
    assert (checkpoint.size, checkpoint.root) == (0, EMPTY)
    assert list(reader.entries(checkpoint)) == []
    assert publish(folder, 0) == checkpoint


def test_public_files_hold_no_entry(folder: Path) -> None:
    publish(folder, 300)
    assert all(b"fact" not in data for data in files(folder / "public").values())
    private = [p for p in (folder / "entries").rglob("*") if p.is_file()]
    assert {p.stat().st_mode & 0o777 for p in private} == {0o600}
    shown = [p for p in (folder / "public").rglob("*") if p.is_file()]
    assert {p.stat().st_mode & 0o777 for p in shown} == {0o644}


def test_one_writer(folder: Path) -> None:
    with (
        Log(folder / "public", folder / "entries", KEY),
        pytest.raises(LogError, match="Another process"),
    ):
        Log(folder / "public", folder / "entries", KEY)


def test_no_log_is_begun_by_mistake(folder: Path, tmp_path: Path) -> None:
    publish(folder, 5)
    with pytest.raises(LogError, match="already"):
        Log.create(folder / "public", folder / "entries", KEY)
    with pytest.raises(LogError, match="no new one was begun"):
        Log(folder / "public", tmp_path / "lost", KEY)
    with pytest.raises(LogError, match="whose entries are not in"):
        Log.create(folder / "public", tmp_path / "lost", KEY)
    other = SigningKey("log.example", SIGNATURE, bytes(range(32)))
    with pytest.raises(LogInvalid, match="not signed by the log"):
        Log(folder / "public", folder / "entries", other)


class Other(Ledger):
    """A ledger whose last facts are not those that were logged."""

    def facts(self, after: int) -> Iterator[tuple[int, bytes]]:
        for number, entry in super().facts(after):
            yield number, entry + b"!"


@pytest.mark.parametrize("ledger", [Other(9), Ledger(5)], ids=["another", "an older one"])
def test_a_ledger_that_is_not_the_logs_adds_nothing(folder: Path, ledger: Ledger) -> None:
    publish(folder, 7)
    before = files(folder)
    with (
        Log(folder / "public", folder / "entries", KEY) as log,
        pytest.raises(LogError, match="Nothing was appended"),
    ):
        Publisher(log, ledger).publish()
    assert files(folder) == before


def test_bad_facts_add_nothing(folder: Path) -> None:
    with Log(folder / "public", folder / "entries", KEY) as log:
        log.append([(5, b"five")])
        for facts in ([(5, b"again")], [(7, b"x"), (6, b"y")], [(6, bytes(65536))]):
            with pytest.raises(LogError):
                log.append(facts)
        assert (log.size, log.fact, log.last) == (1, 5, b"five")
        log.append([(6, bytes(65535))])
        assert (log.size, log.last) == (2, bytes(65535))


@pytest.mark.parametrize("name", ["public/tile/0/001.p/44", "public/tile/1/000.p/1",
                                  "entries/tile/entries/001.p/44", "entries/head"])  # fmt: skip
@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_damage_is_found_when_it_is_opened(folder: Path, name: str, how: str) -> None:
    publish(folder, 300)
    path = folder / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-2] if how == "cut" else data[:-3] + b"000")
    with pytest.raises(LogError, match="no new one was begun|damaged"):
        Log(folder / "public", folder / "entries", KEY)


def test_a_head_of_an_older_backup_is_found(folder: Path) -> None:
    publish(folder, 5)
    head = (folder / "entries/head").read_bytes()
    publish(folder, 9)
    (folder / "entries/head").write_bytes(head)
    with pytest.raises(LogError, match="was given out"):
        Log(folder / "public", folder / "entries", KEY)


@pytest.mark.parametrize("name", ["public/tile/0/000", "entries/tile/entries/000"])
def test_a_reader_finds_what_was_changed(folder: Path, name: str) -> None:
    publish(folder, 300)
    reader = LogReader(KEY.key, Folder(folder / "public"), Folder(folder / "entries"))
    checkpoint, _ = reader.checkpoint()
    data = bytearray((folder / name).read_bytes())
    data[5] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(LogInvalid):
        for index, entry in enumerate(reader.entries(checkpoint)):
            reader.inclusion(checkpoint, index, entry)
    shutil.rmtree(folder / "entries")
    with pytest.raises(LogInvalid, match=r"has no tile/entries/000"):
        list(reader.entries(checkpoint))


def test_a_changed_history_is_no_continuation(folder: Path, tmp_path: Path) -> None:
    old = publish(folder, 7)
    other = tmp_path / "other"
    with Log.create(other / "public", other / "entries", KEY) as log:
        Publisher(log, Other(9)).publish()
    forked = LogReader(KEY.key, Folder(other / "public"))
    new, _ = forked.checkpoint()
    with pytest.raises(LogInvalid, match="history was changed"):
        forked.continues(old, new)
    with pytest.raises(LogInvalid, match="history was changed"):
        forked.continues(new, old)


def test_a_bundle_that_is_cut() -> None:
    data = join_entries([b"one", b"", b"three"])
    assert list(split_entries(data)) == [b"one", b"", b"three"]
    for size in (1, 2, 4, 6, 8, len(data) - 1):
        with pytest.raises(LogInvalid):
            assert list(split_entries(data[:size])) == [b"one", b"", b"three"]


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(LogUnreachable):
        LogReader(KEY.key, Folder(tmp_path)).checkpoint()
    with pytest.raises(LogUnreachable, match="does not answer"):
        LogReader(KEY.key, Web("http://127.0.0.1:1")).checkpoint()

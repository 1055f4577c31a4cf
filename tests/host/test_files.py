# SPDX-License-Identifier: Apache-2.0
"""Durable files: what is on the disk before what, and that nothing half is ever there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from chipcash import files


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is synced and named, in order, by the name that it has then."""
    found: list[tuple[str, str]] = []

    def name(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def watch(step: str) -> None:
        real = getattr(os, step)

        def act(*values: Any, **more: Any) -> Any:
            what = name(values[0]) if step == "fsync" else Path(values[-1]).name
            result = real(*values, **more)
            found.append((step, what))
            return result

        monkeypatch.setattr(files.os, step, act)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell a descriptor's name")
    for step in ("fsync", "replace", "link"):
        watch(step)
    return found


def test_a_file_is_synced_then_named_then_its_folder_synced(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    files.replace(tmp_path / "a", b"1")
    files.create(tmp_path / "b", b"2")
    found = [(step, "aside" if what.startswith(".") else what) for step, what in steps]
    folder = ("fsync", tmp_path.name)
    assert found == [
        ("fsync", "aside"), ("replace", "a"), folder,
        ("fsync", "aside"), ("link", "b"), folder,
    ]  # fmt: skip


def test_a_folder_is_synced_into_the_one_above(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    files.make_folder(tmp_path / "x" / "y")
    files.make_folder(tmp_path / "x" / "y")
    assert steps == [("fsync", tmp_path.name), ("fsync", "x")]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.create(path, b"1")
    with pytest.raises(FileExistsError):
        files.create(path, b"2")
    with pytest.raises(OSError):
        files.replace(tmp_path, b"3")
    with pytest.raises(OSError):
        files.replace(tmp_path / "missing" / "a", b"3")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"1"
    assert path.stat().st_mode & 0o777 == 0o600
    files.replace(path, b"4", 0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"4", 0o644)


def test_one_has_a_lock(tmp_path: Path) -> None:
    first = files.lock(tmp_path / "lock")
    assert first is not None
    assert files.lock(tmp_path / "lock") is None
    os.close(first)
    again = files.lock(tmp_path / "lock")
    assert again is not None
    os.close(again)

# SPDX-License-Identifier: Apache-2.0
"""Small files that are there whole or not at all, and stay: written aside, synced, and only then named."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

__all__ = ["create", "lock", "make_folder", "replace", "sync_folder"]


def create(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600. Raises FileExistsError, and OSError if it cannot be written."""
    scratch = _aside(path, data)
    try:
        os.link(scratch, path)  # unlike a rename this never replaces anything
    finally:
        os.unlink(scratch)
    sync_folder(path.parent)


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file in the place of the one that may be there. Raises OSError if it cannot be written."""
    scratch = _aside(path, data)
    try:
        os.chmod(scratch, mode)
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where there is none; durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def lock(path: Path) -> int | None:
    """Have something alone, by a file that stands for it: a descriptor to close, or None if another has it.

    The system lets go of it when the process ends, however it does.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _aside(path: Path, data: bytes) -> str:
    """A synced file with this content beside path; mode 0600."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(scratch)
        raise
    return scratch

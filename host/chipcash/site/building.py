# SPDX-License-Identifier: Apache-2.0
"""Making the verification site: a folder that any static web server can serve, out of public things and a
log's entries (protocols/spec/site.md).

What changes is named by its content or only grows, and state.json is written last: so a site may be rebuilt
under those who use it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from chipcash import files
from chipcash.clock import Clock, system_clock
from chipcash.log.audit import Replay, Totals
from chipcash.log.errors import LogError, LogInvalid, LogUnreachable
from chipcash.log.merkle import leaf_hash, subtree
from chipcash.log.note import Checkpoint, Key, Signature, SigningKey, open_checkpoint
from chipcash.log.reader import LogReader, Source
from chipcash.log.scope import scope_of
from chipcash.log.tiles import CHECKPOINT, WIDTH, tile_path
from chipcash.site.records import Index, Records
from chipcash.trust import Trust

__all__ = ["CONFIG", "CONFIRMATION", "STATE", "Site", "build", "confirm", "part_of"]

CONFIG = "config.json"
"""Whom the site's pages believe."""
STATE = "state.json"
"""What the site knows: a checkpoint, and the root of its records."""
CONFIRMATION = "confirmation"
"""That auditors have made the same records: a signed note, put there by hand."""
FORMAT = "chipcash-site-1"
_LOG = "log"
_INDEX = "records"
_MODE = 0o644
_KEPT = 2
"""Versions of the records that are kept: a page that has just read the state before this one finds them."""


@dataclass(frozen=True)
class Site:
    """A site that was built. cosigned: by whom its checkpoint is; index: its records; totals: of the log."""

    checkpoint: Checkpoint
    cosigned: tuple[Signature, ...]
    index: Index
    totals: Totals


def _replay(
    reader: LogReader,
    checkpoint: Checkpoint,
    trust: Trust,
    folder: Path,
    each_leaf: Callable[[bytes], None] = lambda leaf: None,
) -> tuple[Index, Totals]:
    """Audit a log and write its records into an empty folder. Raises as audit() does."""
    scope = scope_of(checkpoint.origin)
    with Replay(trust, scope) as replay, Records() as records:
        for number, entry in enumerate(reader.entries(checkpoint)):
            replay.add(entry)
            records.add(number, entry)
            each_leaf(leaf_hash(entry))
        totals = replay.finish()
        return records.write(folder), totals


def build(
    folder: Path,
    reader: LogReader,
    trust: Trust,
    clock: Clock = system_clock,
    auditors: Sequence[Key] = (),
) -> Site:
    """Audit a log and write the site of its newest checkpoint into a folder, or bring the one there up to
    date. Of a center of several ledgers each log is built so into the same folder.

    reader: of the log and its entries; its witnesses and quorum are what the pages ask for too; auditors:
    whose confirmations the pages show. Raises AuditFailed, LogInvalid, LogUnreachable, and LogError if the
    folder holds something else: what was served before is then served still.
    """
    now = clock()
    note = reader.fetch()
    checkpoint, cosigned = reader.verify(note)
    pages = folder
    folder = part_of(pages, reader.log)
    partitions = None if folder == pages else _partitions(pages, trust, reader.log)
    before = _before(folder, reader.log)
    if before is not None:
        reader.continues(before, checkpoint)
    files.make_folder(folder / _LOG)  # an empty log has no tiles
    files.make_folder(folder / _INDEX)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder / _INDEX) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        tiles = _Tiles(Path(scratch))
        index, totals = _replay(reader, checkpoint, trust, fresh, tiles.add)
        tiles.end()
        tiles.move(folder / _LOG)
        final = folder / _INDEX / index.root.hex()
        if not final.exists():
            fresh.rename(final)
    os.utime(final)
    _copy(resources.files("chipcash.site") / "static", pages)
    if partitions is not None:
        center = {"format": FORMAT, "network": trust.as_dict(), "partitions": partitions}
        files.replace(pages / CONFIG, _json(center), _MODE)
    config = {
        "format": FORMAT,
        "network": trust.as_dict(),
        "log": str(reader.log),
        "witnesses": [str(key) for key in reader.witnesses],
        "quorum": reader.quorum,
        "auditors": [str(key) for key in auditors],
    }
    files.replace(folder / CONFIG, _json(config), _MODE)
    files.replace(folder / _LOG / CHECKPOINT, note, _MODE)
    state = {
        "format": FORMAT,
        "checkpoint": note.decode(),
        "time": now,
        "records": {"root": index.root.hex(), "depth": index.depth, "count": index.count},
    }
    files.replace(folder / STATE, _json(state), _MODE)
    _forget(folder / _INDEX)
    return Site(checkpoint, cosigned, index, totals)


def confirm(
    site: Source, reader: LogReader, trust: Trust, key: SigningKey, clock: Clock = system_clock
) -> bytes:
    """Make a site's records anew from a log that one has oneself; a signed note that they are the same.

    site: its files; reader: of one's own copy of the log; key: of an auditor, with which no log is cosigned.
    Raises LogInvalid if the site's records are others, and as audit() does.
    """
    data = site.get(STATE)
    try:
        state = json.loads(data or b"")
        note = str(state["checkpoint"]).encode()
        told = (str(state["records"]["root"]), int(state["records"]["depth"]))
    except (ValueError, KeyError, TypeError):
        raise LogUnreachable(
            "There is no verification site here.", hint="Check the address or the folder."
        ) from None
    checkpoint, _ = reader.verify(note)
    with tempfile.TemporaryDirectory() as scratch:
        index, _ = _replay(reader, checkpoint, trust, Path(scratch))
    if told != (index.root.hex(), index.depth):
        raise LogInvalid(
            f"The records of this site are not those of its log of {checkpoint.size} entries.",
            hint="Who uses the site may be told wrong things. Keep its files, and ask who runs it.",
        )
    root = base64.b64encode(checkpoint.root).decode()
    records = base64.b64encode(index.root).decode()
    text = f"{checkpoint.origin}/records\n{checkpoint.size}\n{root}\n{index.depth} {records}\n"
    return f"{text}\n{key.sign(text, clock())}".encode()


def part_of(site: Path, log: Key) -> Path:
    """The folder of what a log gives to a site: one of its own, where the center has several logs."""
    return site / scope_of(log.name).folder


def _partitions(folder: Path, trust: Trust, log: Key) -> int:
    """How many partitions the site in a folder knows of, with a log that is one of several; 0 if that is the
    home log, and the first. Raises LogError if something else is there."""
    scope = scope_of(log.name)
    named = scope.of if scope.coins else 0
    if not folder.exists() or not any(folder.iterdir()):
        return named
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        known = int(config["partitions"])
        if config["network"] == trust.as_dict() and (not named or known in (0, named)):
            return named or known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise LogError(
        f"{folder} holds something else than the site of this center's logs; nothing was changed.",
        hint="Name an empty or a new folder.",
    )


def _before(folder: Path, log: Key) -> Checkpoint | None:
    """The checkpoint of the site that is in a folder. Raises LogError if something else is there."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    try:
        state = json.loads((folder / STATE).read_bytes())
        if state["format"] != FORMAT:
            raise ValueError
        note = str(state["checkpoint"]).encode()
    except (OSError, ValueError, KeyError, TypeError):
        raise LogError(
            f"{folder} holds something else than a verification site; nothing was changed.",
            hint="Name an empty or a new folder.",
        ) from None
    return open_checkpoint(note, log)[0]


class _Tiles:
    """Writes the tiles of a tree as its leaves come, into a scratch folder: until the last leaf nobody knows
    that they are the log's."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._rows: list[list[bytes]] = []  # of each level, what is not full
        self._written: list[int] = []  # of each level, how many are

    def add(self, node: bytes, level: int = 0) -> None:
        """Add the hash of a leaf, or of a full tile to the level above it."""
        if level == len(self._rows):
            self._rows.append([])
            self._written.append(0)
        row = self._rows[level]
        row.append(node)
        if len(row) == WIDTH:
            self._write(level)
            self._rows[level] = []
            self._written[level] += 1
            self.add(subtree(row), level + 1)

    def end(self) -> None:
        """Write the tiles that are not full."""
        for level, row in enumerate(self._rows):
            if row:
                self._write(level)

    def move(self, folder: Path) -> None:
        """Put those that are new into a folder; partial ones go away once the full one is there."""
        for found in sorted(self._scratch.glob("tile/**/*")):
            path = folder / found.relative_to(self._scratch)
            if found.is_dir() or path.exists():
                continue
            files.make_folder(path.parent)
            files.replace(path, found.read_bytes(), _MODE)
            shutil.rmtree(path.with_name(path.name + ".p"), ignore_errors=True)

    def _write(self, level: int) -> None:
        row = self._rows[level]
        path = self._scratch / tile_path(level, self._written[level], len(row))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(row))


def _copy(source: Traversable, folder: Path) -> None:
    """Copy the pages' files, each whole."""
    for each in source.iterdir():
        if each.is_dir():
            files.make_folder(folder / each.name)
            _copy(each, folder / each.name)
        else:
            files.replace(folder / each.name, each.read_bytes(), _MODE)


def _json(data: Mapping[str, object]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _forget(index: Path) -> None:
    """Take away all records but the newest versions."""
    versions = sorted(index.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime_ns)
    for path in versions[:-_KEPT]:
        shutil.rmtree(path)

# SPDX-License-Identifier: Apache-2.0
"""The log as who runs it keeps it: tiles that the public gets, entries that auditors get, and its head.

    PUBLIC/checkpoint, PUBLIC/tile/LEVEL/...     hashes only: for everybody
    ENTRIES/tile/entries/...                     all payments of pseudonymous keys: for auditors and banks
    ENTRIES/head                                 size, root, and the number of the last fact; for nobody

Appending writes entries, then tiles, then the head, each file whole or not at all and synced; the head is
what makes them part of the log. Only what the head says is ever signed. So whatever is cut, the next start
goes on from the head, writes the same files again, and signs nothing that could contradict what it signed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chipcash import files
from chipcash.log.errors import LogError, LogInvalid
from chipcash.log.merkle import (
    EMPTY,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    prefix_root,
    root_of,
    subtree,
)
from chipcash.log.note import Checkpoint, SigningKey, open_checkpoint
from chipcash.log.tiles import (
    CHECKPOINT,
    MAX_ENTRY,
    WIDTH,
    TileNodes,
    bundle_path,
    get_bundle,
    join_entries,
    partials,
    tile_path,
)

__all__ = ["Log"]

_FORMAT = "chipcash-log-1"
_HEAD = "head"
_LOCK = "lock"
_PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class _Head:
    """What is part of the log. fact: number of the fact that is the last entry, 0 if there is none."""

    size: int = 0
    root: bytes = EMPTY
    fact: int = 0

    def encode(self) -> bytes:
        data = {"format": _FORMAT, "size": self.size, "root": self.root.hex(), "fact": self.fact}
        return (json.dumps(data) + "\n").encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> _Head:
        """Raises ValueError, KeyError, TypeError."""
        values = json.loads(data)
        if values["format"] != _FORMAT:
            raise ValueError
        return cls(int(values["size"]), bytes.fromhex(values["root"]), int(values["fact"]))


class Log:
    """A log to append to. One process has it at a time; a context manager, whose end lets it go.

    public, entries: its folders; key: what it signs with, whose name is the log's. Opening proves that the
    files are those of the head, and that the checkpoint given out last is a part of it. Raises LogError.
    cosigned: by the name of a witness, when it last cosigned, as far as this process knows; 0 for never.
    """

    def __init__(self, public: Path, entries: Path, key: SigningKey) -> None:
        self.public = public
        self.entries = entries
        self.key = key
        if not (entries / _HEAD).is_file():
            raise LogError(
                f"There is no log in {entries}; no new one was begun in its place.",
                hint="Restore it from a backup. Only a ledger that never had a log gets a new one.",
            )
        self.cosigned: dict[str, int] = {}
        self._edge: list[list[bytes]] = []
        self._bundle: list[bytes] = []
        self._lock = files.lock(entries / _LOCK)
        if self._lock is None:
            raise LogError(
                f"Another process is writing the log in {entries}.", hint="One is enough: end one."
            )
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, public: Path, entries: Path, key: SigningKey) -> Log:
        """A new log without entries. Raises LogError if there is one."""
        if (entries / _HEAD).exists():
            raise LogError(f"There is a log in {entries} already; nothing was changed.")
        path = public / CHECKPOINT
        if path.exists() and open_checkpoint(path.read_bytes(), key.key)[0].size:
            raise LogError(
                f"{public} holds tiles of a log whose entries are not in {entries}.",
                hint="Restore the entries from a backup; a second log under the same key is a fork.",
            )
        files.make_folder(public)
        files.make_folder(entries)
        empty = Checkpoint(key.key.name, 0, EMPTY)
        files.replace(path, empty.signed([key.sign(empty.text)]), _PUBLIC_MODE)
        files.replace(entries / _HEAD, _Head().encode())
        return cls(public, entries, key)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have it. May be repeated."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._head.size

    @property
    def fact(self) -> int:
        """Number of the fact that is the last entry; 0 if there is none."""
        return self._head.fact

    @property
    def last(self) -> bytes | None:
        """The last entry."""
        if not self.size:
            return None
        if self._bundle:
            return self._bundle[-1]
        return get_bundle(self._get_entries, self.size // WIDTH - 1, WIDTH)[-1]

    def append(self, facts: Sequence[tuple[int, bytes]]) -> None:
        """Append entries, each with the number of its fact; durable when it returns, all or none of them.

        Raises LogError, and nothing was appended, if numbers do not rise or an entry is too long.
        """
        if not facts:
            return
        number = self.fact
        for fact, entry in facts:
            if fact <= number:
                raise LogError(f"Fact {fact} comes behind fact {number}; nothing was appended.")
            if len(entry) > MAX_ENTRY:
                raise LogError(f"Fact {fact} has more than {MAX_ENTRY} bytes.")
            number = fact
        full: list[Path] = []
        bundle = self._write_entries([entry for _, entry in facts], full)
        edge = self._write_tiles([leaf_hash(entry) for _, entry in facts], full)
        head = _Head(self.size + len(facts), root_of(_peaks(edge)), number)
        files.replace(self.entries / _HEAD, head.encode())
        self._head, self._edge, self._bundle = head, edge, bundle
        for path in full:  # its partial tiles are not needed any more
            shutil.rmtree(path.with_name(path.name + ".p"), ignore_errors=True)

    def checkpoint(self) -> Checkpoint:
        """The log as it is, not signed."""
        return Checkpoint(self.key.key.name, self.size, self._head.root)

    def published(self) -> bytes:
        """The checkpoint that was given out last, a signed note."""
        return (self.public / CHECKPOINT).read_bytes()

    def publish(self, cosignatures: Sequence[str]) -> bytes:
        """Sign the log as it is, and give it out with these lines of witnesses; the signed note."""
        checkpoint = self.checkpoint()
        data = checkpoint.signed([self.key.sign(checkpoint.text), *cosignatures])
        files.replace(self.public / CHECKPOINT, data, _PUBLIC_MODE)
        return data

    def publish_rest(self) -> None:
        """Give out what was appended and not given out, because that was cut off."""
        if open_checkpoint(self.published(), self.key.key)[0] != self.checkpoint():
            self.publish([])

    def consistency(self, old: int) -> list[bytes]:
        """Proof that the log continues what it was at that size. Raises ValueError if it was smaller."""
        return consistency_proof(TileNodes(self.size, self._get_public), old, self.size)

    def inclusion(self, index: int) -> list[bytes]:
        """Proof that an entry is in the log as it is. Raises ValueError if it is not."""
        return inclusion_proof(TileNodes(self.size, self._get_public), index, self.size)

    # ---- files --------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._head = _Head.decode((self.entries / _HEAD).read_bytes())
        except (ValueError, KeyError, TypeError):
            raise self._damaged(f"{self.entries / _HEAD} cannot be understood") from None
        size = self._head.size
        nodes = TileNodes(size, self._get_public)
        try:
            for level, index, _ in partials(size):
                self._edge += [[] for _ in range(level + 1 - len(self._edge))]
                self._edge[level] = list(nodes.tile(level, index))
            index, width = divmod(size, WIDTH)
            self._bundle = get_bundle(self._get_entries, index, width) if width else []
        except LogInvalid as error:
            raise self._damaged(error.message) from None
        if root_of(_peaks(self._edge)) != self._head.root:
            raise self._damaged("its tiles do not give the root in its head")
        if [leaf_hash(entry) for entry in self._bundle] != (self._edge or [[]])[0]:
            raise self._damaged("its last entries are not those in its tiles")
        given, _ = open_checkpoint(self.published(), self.key.key)
        if given.size > size or prefix_root(nodes, given.size) != given.root:
            raise self._damaged(
                f"it has {size} entries, and a checkpoint of {given.size} that it does not continue "
                "was given out"
            )

    def _write_entries(self, entries: list[bytes], full: list[Path]) -> list[bytes]:
        """Write the bundles that these entries change; the entries of the one that is not full."""
        index = self.size // WIDTH
        rest = self._bundle + entries
        while len(rest) >= WIDTH:
            full.append(self._write_entry_bundle(index, rest[:WIDTH]))
            rest = rest[WIDTH:]
            index += 1
        if rest:
            self._write_entry_bundle(index, rest)
        return rest

    def _write_entry_bundle(self, index: int, entries: list[bytes]) -> Path:
        path = self.entries / bundle_path(index, len(entries))
        files.make_folder(path.parent)
        files.replace(path, join_entries(entries))
        return path

    def _write_tiles(self, hashes: list[bytes], full: list[Path]) -> list[list[bytes]]:
        """Write the tiles that these leaves change; the hashes of the tiles that are not full, by level."""
        edge = [list(row) for row in self._edge]
        level = 0
        while hashes:
            if level == len(edge):
                edge.append([])
            index = (self.size >> (8 * level)) // WIDTH
            row = edge[level] + hashes
            hashes = []
            while len(row) >= WIDTH:
                full.append(self._write_tile(level, index, row[:WIDTH]))
                hashes.append(subtree(row[:WIDTH]))
                row = row[WIDTH:]
                index += 1
            if row:
                self._write_tile(level, index, row)
            edge[level] = row
            level += 1
        return edge

    def _write_tile(self, level: int, index: int, hashes: list[bytes]) -> Path:
        path = self.public / tile_path(level, index, len(hashes))
        files.make_folder(path.parent)
        files.replace(path, b"".join(hashes), _PUBLIC_MODE)
        return path

    def _get_public(self, path: str) -> bytes | None:
        return _read(self.public / path)

    def _get_entries(self, path: str) -> bytes | None:
        return _read(self.entries / path)

    def _damaged(self, why: str) -> LogError:
        return LogError(
            f"The log in {self.entries} is damaged: {why.rstrip('.')}. Nothing was changed.",
            hint="Keep its files, and restore the newest backup in which it is whole; entries behind it "
            "come from the ledger again. Do not begin a new log: witnesses would call it a fork.",
        )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _peaks(edge: list[list[bytes]]) -> Iterator[bytes]:
    """The complete subtrees of a tree, from left to right, out of its tiles that are not full."""
    for row in reversed(edge):
        at = 0
        while at < len(row):
            step = 1 << ((len(row) - at).bit_length() - 1)
            yield subtree(row[at : at + step])
            at += step

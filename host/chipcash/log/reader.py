# SPDX-License-Identifier: Apache-2.0
"""Reading a log that somebody else runs, from a folder or over HTTP, and believing only what is proven."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import httpx

from chipcash.log.errors import LogError, LogInvalid, LogUnreachable
from chipcash.log.merkle import (
    Range,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from chipcash.log.note import Checkpoint, Key, Signature, open_checkpoint
from chipcash.log.tiles import CHECKPOINT, MAX_ENTRY, WIDTH, TileNodes, get_bundle
from chipcash.tls import verifying

__all__ = ["Folder", "LogReader", "Source", "Web", "source_at"]

_MAX_FILE = WIDTH * (MAX_ENTRY + 2)
"""Bytes of the largest file that a log can have: a full bundle of the longest entries."""
_TIMEOUT_S = 30.0


class Source(Protocol):
    """Where a log's files are."""

    def get(self, path: str) -> bytes | None:
        """The content of a file, None if there is none. Raises LogUnreachable."""


class Folder:
    """A log's files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, path: str) -> bytes | None:
        """The content of a file, None if there is none. Raises LogUnreachable."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LogUnreachable(
                f"{self.folder / path} cannot be read: {error.strerror}."
            ) from None


class Web:
    """A log's files behind a URL (prefix)."""

    def __init__(self, url: str, timeout: float = _TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(timeout=timeout, verify=verifying(url))

    def get(self, path: str) -> bytes | None:
        """The content of a file, None if there is none. Raises LogUnreachable."""
        data = bytearray()
        try:
            with self._http.stream("GET", f"{self.url}/{path}") as answer:
                if answer.status_code in (404, 410):
                    return None
                if answer.status_code != 200:
                    raise LogUnreachable(
                        f"{self.url}/{path} cannot be read: HTTP status {answer.status_code}.",
                        hint="Entries are for auditors: you may have to ask for access.",
                    )
                for chunk in answer.iter_bytes():
                    data += chunk
                    if len(data) > _MAX_FILE:
                        raise LogInvalid(f"{self.url}/{path} is larger than a log's file can be.")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LogUnreachable(
                f"The log at {self.url} does not answer: {type(error).__name__}.",
                hint="Check the address and the network, then repeat.",
            ) from None
        return bytes(data)


def source_at(location: str) -> Source:
    """The files at a folder or a URL."""
    if re.match("https?://", location):
        return Web(location)
    return Folder(Path(location))


class LogReader:
    """A log as its keys vouch for it.

    log: the log's key; source: its files; entries: where its entries are, if not there too; witnesses,
    quorum: whose cosignatures count, and how many of them a checkpoint needs.
    """

    def __init__(
        self,
        log: Key,
        source: Source,
        entries: Source | None = None,
        witnesses: Sequence[Key] = (),
        quorum: int = 0,
    ) -> None:
        # By its public key: under two names one witness is still one.
        if len({key.public for key in witnesses}) < len(witnesses) or not 0 <= quorum <= len(
            witnesses
        ):
            raise LogError(
                f"A quorum of {quorum} of {len(witnesses)} witnesses cannot be.",
                hint="Name each witness once, and ask for no more cosignatures than there are witnesses.",
            )
        self.log = log
        self.witnesses = tuple(witnesses)
        self.quorum = quorum
        self._source = source
        self._entries = entries or source

    def fetch(self) -> bytes:
        """The newest checkpoint as a signed note, not verified. Raises LogUnreachable."""
        data = self._source.get(CHECKPOINT)
        if data is None:
            raise LogUnreachable(
                "There is no checkpoint of a log here.", hint="Check the address or the folder."
            )
        return data

    def checkpoint(self) -> tuple[Checkpoint, tuple[Signature, ...]]:
        """The newest checkpoint, and who cosigned it. Raises LogInvalid, LogUnreachable."""
        return self.verify(self.fetch())

    def verify(self, note: bytes) -> tuple[Checkpoint, tuple[Signature, ...]]:
        """A checkpoint and who cosigned it, from its signed note. Raises LogInvalid."""
        checkpoint, cosignatures = open_checkpoint(note, self.log, self.witnesses)
        if len(cosignatures) < self.quorum:
            names = ", ".join(found.key.name for found in cosignatures) or "none"
            raise LogInvalid(
                f"The checkpoint has {len(cosignatures)} of the {self.quorum} cosignatures that it needs "
                f"({names} of {len(self.witnesses)} witnesses).",
                hint="Wait for a newer checkpoint. If it stays so, ask the witnesses: they refuse a log that "
                "shows them another history.",
            )
        return checkpoint, cosignatures

    def continues(self, old: Checkpoint, new: Checkpoint) -> None:
        """Prove that nothing that was in the log has been changed or taken out since. Raises LogInvalid."""
        good = old.origin == new.origin and old.size <= new.size
        if good:
            proof = consistency_proof(self._nodes(new), old.size, new.size)
            good = verify_consistency(old.size, old.root, new.size, new.root, proof)
        if not good:
            raise LogInvalid(
                f"The log of {new.size} entries does not continue the one of {old.size}: its history was "
                "changed.",
                hint="Keep both checkpoints, signed by the log: together they prove it to everybody.",
            )

    def inclusion(self, checkpoint: Checkpoint, index: int, entry: bytes) -> list[bytes]:
        """The proof, verified, that an entry is in the log under a number. Raises LogInvalid."""
        proof: list[bytes] = []
        good = 0 <= index < checkpoint.size
        if good:
            proof = inclusion_proof(self._nodes(checkpoint), index, checkpoint.size)
            leaf = leaf_hash(entry)
            good = verify_inclusion(leaf, index, checkpoint.size, proof, checkpoint.root)
        if not good:
            raise LogInvalid(f"The log does not hold this as its entry {index}.")
        return proof

    def last(self, checkpoint: Checkpoint) -> bytes:
        """The last entry of a log that has some, not proven. Raises LogInvalid, LogUnreachable."""
        index, before = divmod(checkpoint.size - 1, WIDTH)
        return get_bundle(self._entries.get, index, before + 1)[-1]

    def entries(self, checkpoint: Checkpoint) -> Iterator[bytes]:
        """All entries in their order.

        Raises LogInvalid, at the latest behind the last, if they are not those of the checkpoint: what
        was made of them before it ends proves nothing.
        """
        tree = Range()
        for index in range(-(-checkpoint.size // WIDTH)):
            width = min(WIDTH, checkpoint.size - index * WIDTH)
            for entry in get_bundle(self._entries.get, index, width):
                tree.add(leaf_hash(entry))
                yield entry
        if tree.root() != checkpoint.root:
            raise LogInvalid(
                "The entries are not those that the checkpoint's root stands for.",
                hint="Take the entries again; if they stay so, what is given out as the log is not it.",
            )

    def _nodes(self, checkpoint: Checkpoint) -> TileNodes:
        return TileNodes(checkpoint.size, self._source.get)

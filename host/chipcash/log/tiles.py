# SPDX-License-Identifier: Apache-2.0
"""The geometry of C2SP tlog-tiles: which file of a log holds which hashes and which entries.

A tile of level L holds up to 256 neighbouring nodes of height 8 L; a bundle up to 256 entries, each behind
its length in two bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

from chipcash.log.errors import LogInvalid
from chipcash.log.merkle import SIZE, subtree

__all__ = [
    "CHECKPOINT",
    "MAX_ENTRY",
    "WIDTH",
    "Get",
    "TileNodes",
    "bundle_path",
    "get_bundle",
    "get_tile",
    "join_entries",
    "partials",
    "split_entries",
    "tile_path",
]

CHECKPOINT = "checkpoint"
"""Path of the checkpoint."""
WIDTH = 256
"""Hashes of a full tile, entries of a full bundle."""
MAX_ENTRY = 0xFFFF
"""Most bytes of an entry."""
_HEIGHT = 8
Get = Callable[[str], bytes | None]
"""The content of a log's file by its path; None if there is none."""
_TILES_KEPT = 64


def _number(index: int, width: int) -> str:
    """The end of a tile's path: 1234067 is x001/x234/067."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([*("x" + group for group in groups[:-1]), groups[-1]])
    return path if width == WIDTH else f"{path}.p/{width}"


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Path of a tile; partial below the full width."""
    return f"tile/{level}/{_number(index, width)}"


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Path of a bundle of entries; partial below the full width."""
    return f"tile/entries/{_number(index, width)}"


def partials(size: int) -> list[tuple[int, int, int]]:
    """Level, index and width of the partial tiles of a tree of that size."""
    found = []
    level = 0
    while size:
        if size % WIDTH:
            found.append((level, size // WIDTH, size % WIDTH))
        size //= WIDTH
        level += 1
    return found


def join_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle of entries."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def split_entries(data: bytes) -> Iterator[bytes]:
    """The entries of a bundle. Raises LogInvalid if it is cut."""
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise LogInvalid("A bundle of entries is cut.")
        yield data[at + 2 : end]
        at = end


def get_tile(get: Get, level: int, index: int, width: int) -> bytes:
    """A tile of at least that width. Raises LogInvalid if there is none.

    A log may drop a partial tile once the full one is there.
    """
    return _either(get, tile_path(level, index, width), tile_path(level, index))


def get_bundle(get: Get, index: int, width: int) -> list[bytes]:
    """The first entries of a bundle, width of them. Raises LogInvalid if there are fewer."""
    path = bundle_path(index, width)
    found = list(split_entries(_either(get, path, bundle_path(index))))[:width]
    if len(found) < width:
        raise LogInvalid(f"The bundle {path} has only {len(found)} entries.")
    return found


def _either(get: Get, path: str, full: str) -> bytes:
    data = get(path)
    if data is None and path != full:
        data = get(full)
    if data is None:
        raise LogInvalid(
            f"The log has no {path}, which its checkpoint says is there.",
            hint="Take the whole log again; if it is missing there too, the log is damaged.",
        )
    return data


class TileNodes:
    """The nodes of a tree of some size, out of its tiles: what proofs are made from.

    get: the log's files. The tiles used last are kept. What is made from them proves itself: a tile that is
    wrong makes proofs that do not verify.
    """

    def __init__(self, size: int, get: Get) -> None:
        self.size = size
        self._get = get
        self._kept: OrderedDict[tuple[int, int], Sequence[bytes]] = OrderedDict()

    def __call__(self, height: int, index: int) -> bytes:
        """The root of a complete subtree. Raises LogInvalid if its tile is not what it should be."""
        level, within = divmod(height, _HEIGHT)
        first = index << within
        hashes = self.tile(level, first // WIDTH)
        at = first % WIDTH
        return subtree(hashes[at : at + (1 << within)])

    def tile(self, level: int, index: int) -> Sequence[bytes]:
        """The hashes of a tile, as many as this tree has. Raises LogInvalid."""
        found = self._kept.get((level, index))
        if found is not None:
            self._kept.move_to_end((level, index))
            return found
        width = min(WIDTH, (self.size >> (_HEIGHT * level)) - index * WIDTH)
        data = get_tile(self._get, level, index, width)
        if len(data) % SIZE or len(data) < width * SIZE:
            raise LogInvalid(f"The tile {tile_path(level, index, width)} has a wrong length.")
        found = [data[at : at + SIZE] for at in range(0, width * SIZE, SIZE)]
        self._kept[level, index] = found
        if len(self._kept) > _TILES_KEPT:
            self._kept.popitem(last=False)
        return found

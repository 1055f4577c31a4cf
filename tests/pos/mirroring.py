# SPDX-License-Identifier: Apache-2.0
"""A shop whose till has a mirror, to lose its disk and get it back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from chipcash.pos import Pos, keys
from chipcash.pos.mirror import Folder
from chipcash.pos.recovery import KeptKeys, Recovered, recover
from tests.pos.shop import Shop


def kept(pos: Pos) -> KeptKeys:
    """The keys of a till, as somebody has put them away."""
    custody = keys.custody_of(pos.directory)
    key, books_key = custody.export(), custody.books_key()
    assert key is not None and books_key is not None
    return KeptKeys(key, books_key)


def mirrored(folder: Path, where: str | None = None) -> Shop:
    """A synchronised shop with a mirror, by default in its folder."""
    shop = Shop(folder)
    shop.pos.sync(shop.center)
    set_mirror(shop, where)
    return shop


def set_mirror(shop: Shop, where: str | None = None) -> None:
    network = (shop.pos.directory / "network.ccn").read_bytes().hex()
    shop.pos.store.set_mirror(where or str(shop.folder / "mirror"), mirror_network=network)


def books(pos: Pos) -> dict[str, list[tuple[Any, ...]]]:
    """All that is in the books, but for where the mirror is and how far."""
    tables = pos.store.all("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    found = {}
    for (table,) in tables:
        rows = [tuple(row) for row in pos.store.all(f"SELECT * FROM {table}")]
        if table == "meta":
            rows = [row for row in rows if not row[0].startswith("mirror")]
        found[table] = sorted(rows, key=repr)
    return found


def lose_disk(shop: Shop, keys: KeptKeys, where: str | None = None) -> Recovered:
    """The till's disk is gone; a new till from its mirror is in its place."""
    shop.crash()
    directory = shop.folder / "pos"
    shutil.rmtree(directory)
    return recover(where or str(shop.folder / "mirror"), directory, kept=keys)


def log_of(mirror: Path) -> Path:
    state = Folder(mirror).state()
    assert state is not None
    return mirror / f"{state.identity}.log"

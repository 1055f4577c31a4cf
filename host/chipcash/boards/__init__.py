# SPDX-License-Identifier: Apache-2.0
"""Reference boards as data: what they have, how each form of the card is wired, what to buy.

The data is parts.toml and boards/*.toml of the folder hardware/, which an installed package has inside it;
their schema is in hardware/README.md. Nothing is used unchecked: load() refuses a file with words that it
does not know, and a board on which a pin, bus, voltage, address or memory cannot be what the file says.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from chipcash.boards.model import ROLES, Board, BoardError
from chipcash.boards.reading import load, load_parts


def data_folder() -> Path:
    """Where parts.toml and boards/ are: inside an installed package, or in a checkout's hardware folder."""
    inside = Path(__file__).parents[1] / "hardware"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "hardware"


@cache
def boards() -> dict[str, Board]:
    """All boards by their ids, the reference board first. Raises BoardError."""
    parts = load_parts(data_folder() / "parts.toml")
    found = [load(file, parts) for file in sorted((data_folder() / "boards").glob("*.toml"))]
    return {board.id: board for board in sorted(found, key=lambda x: ROLES.index(x.role))}


def board_named(name: str) -> Board:
    """A board by its id. Raises BoardError."""
    found = boards().get(name)
    if found is None:
        raise BoardError(
            f"There is no board {name!r}.",
            hint=f"There are: {', '.join(boards())}.",
            board=name,
        )
    return found

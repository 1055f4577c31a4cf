# SPDX-License-Identifier: Apache-2.0
"""Shifts: who has the till, and when. What is charged or paid out belongs to the one that is open."""

from __future__ import annotations

from chipcash.database import Row
from chipcash.pos import model as m
from chipcash.pos.books import Books
from chipcash.pos.errors import PosError

__all__ = ["Shifts"]


class Shifts(Books):
    """Opening and closing the till."""

    @property
    def shift(self) -> m.Shift | None:
        """The open shift, if there is one."""
        row = self.store.one("SELECT * FROM shifts WHERE closed IS NULL")
        return None if row is None else _shift(row)

    def shifts(self) -> tuple[m.Shift, ...]:
        """All shifts, the newest first."""
        return tuple(_shift(row) for row in self.store.all("SELECT * FROM shifts ORDER BY id DESC"))

    def open_shift(self) -> m.Shift:
        """Open a shift for this POS's operator. Raises PosError if one is open."""
        with self.store.transaction():
            found = self.shift
            if found is not None:
                raise PosError(
                    f"Shift {found.number} is open since it was begun by "
                    f"{found.opened_by or 'somebody without a name'}; nothing was changed.",
                    hint="Close it first: its takings are counted for who had it.",
                    shift=found.number,
                )
            self.store.execute(
                "INSERT INTO shifts (opened, opened_by) VALUES (?, ?)", self._now(), self.operator
            )
            opened = self.shift
        if opened is None:
            raise RuntimeError("the shift was opened and is not there")
        return opened

    def close_shift(self, report: str = "{}") -> m.Shift:
        """Close the open shift. report: its Z report as JSON. Raises PosError if none is open."""
        with self.store.transaction():
            found = self.shift
            if found is None:
                raise PosError(
                    "No shift is open; nothing was closed.", hint="Open one to charge in it."
                )
            self.store.execute(
                "UPDATE shifts SET closed = ?, closed_by = ?, report = ? WHERE id = ?",
                self._now(), self.operator, report, found.number,
            )  # fmt: skip
            row = self._need("SELECT * FROM shifts WHERE id = ?", found.number)
        return _shift(row)


def _shift(row: Row) -> m.Shift:
    return m.Shift(
        row["id"], row["opened"], row["opened_by"], row["closed"], row["closed_by"], row["report"]
    )

# SPDX-License-Identifier: Apache-2.0
"""Shifts: who has the till, and when. What is charged or paid out belongs to the one that is open.

Closing one writes its Z report, in the same transaction. What happens while none is open is in the next, and
so is what comes while the report is being made: that takes long after many payments, and holds nobody up.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from chipcash.database import Row
from chipcash.pos import model as m
from chipcash.pos.books import Books
from chipcash.pos.errors import PosError
from chipcash.pos.events import Account, What, events, marks
from chipcash.pos.reports import Kind, Report, day_report, shift_report

__all__ = ["Shifts"]

_log = logging.getLogger(__name__)


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

    def close_shift(self) -> m.Shift:
        """Close the open shift and write its Z report. Raises PosError if none is open, or if somebody else
        closes it at the same time."""
        with self.store.reading():
            found = self.shift
            if found is None:
                raise PosError(
                    "No shift is open; nothing was closed.", hint="Open one to charge in it."
                )
            report = self._since_last(Kind.Z, found)
        text = json.dumps(report.as_dict())
        with self.store.transaction():
            # Its period ends where this report has read to. As long as the shift is open no other Z was
            # written, so the next one begins there.
            closed = self.store.execute(
                "UPDATE shifts SET closed = ?, closed_by = ?, report = ? WHERE id = ? AND closed IS NULL",
                report.until, self.operator, text, found.number,
            )  # fmt: skip
            if not closed.rowcount:
                raise PosError(
                    f"Shift {found.number} was closed by somebody else meanwhile; nothing was changed.",
                    hint="Its Z report is in the list of shifts.",
                    shift=found.number,
                )
            row = self._need("SELECT * FROM shifts WHERE id = ?", found.number)
        _log.info(
            "shift closed",
            extra={
                "fields": {
                    "shift": found.number,
                    "payments": report.line(What.TAKEN).count,
                    "taken_fen": report.line(What.TAKEN).fen,
                    "balances": report.balances() and not report.differences,
                }
            },
        )
        return _shift(row)

    def x_report(self) -> Report:
        """What has happened since the last Z report. Changes nothing."""
        with self.store.reading():
            return self._since_last(Kind.X, self.shift)

    def z_report(self, number: int | None = None) -> Report:
        """The Z report of a closed shift, as it was written; by default of the last. Raises PosError."""
        row = self.store.one(
            "SELECT report FROM shifts WHERE report IS NOT NULL AND id = ifnull(?, id)"
            " ORDER BY id DESC LIMIT 1",
            number,
        )
        if row is None:
            raise PosError(
                "There is no Z report of that shift." if number else "No shift was closed yet.",
                hint="A shift has one from when it is closed: chipcash pos shift close.",
                shift=number,
            )
        return Report.from_dict(json.loads(row["report"]))

    def day_report(self, since: int, until: int) -> Report:
        """What happened from a time until before another, seconds since 1970."""
        with self.store.reading():
            happened = events(self.store)
        return day_report(happened, till=self.public.hex(), since=since, until=until)

    def _since_last(self, kind: Kind, shift: m.Shift | None) -> Report:
        last = self.store.one("SELECT max(id) AS number FROM shifts WHERE report IS NOT NULL")
        before = self.z_report(last["number"]) if last and last["number"] else None
        summary = self.summary()
        states = {state: (total.count, total.fen) for state, total in summary.states.items()}
        report = shift_report(
            events(self.store, None if before is None else before.end),
            kind=kind,
            till=self.public.hex(),
            before=before,
            found={
                Account.PENDING: states[m.PaymentState.PENDING][1],
                Account.SUBMITTED: states[m.PaymentState.SUBMITTED][1],
                Account.VERIFIED: summary.verified_fen,
                Account.LEAVING: summary.leaving_fen,
                Account.DISPUTED: summary.disputed_fen,
                Account.EXPIRED: states[m.PaymentState.EXPIRED][1],
            },
            until=self._now(),
            end=marks(self.store),
            number=None if shift is None else shift.number,
            opened=None if shift is None else shift.opened,
            opened_by="" if shift is None else shift.opened_by,
            closed_by=self.operator if kind == Kind.Z else "",
        )
        return replace(report, states=states)


def _shift(row: Row) -> m.Shift:
    return m.Shift(
        row["id"], row["opened"], row["opened_by"], row["closed"], row["closed_by"], row["report"]
    )

# SPDX-License-Identifier: Apache-2.0
"""The center's log beside its ledger: written as the ledger grows, and compared with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import Self

from chipcash.center.batch import broken
from chipcash.center.errors import LedgerError
from chipcash.center.facts import FACT_TABLES, LedgerFacts
from chipcash.center.registration import Center
from chipcash.errors import ChipcashError
from chipcash.log.audit import CoinState, Replay, Slice, Totals, audit
from chipcash.log.cosigning import Witness, Witnesses
from chipcash.log.errors import LogError
from chipcash.log.publisher import Facts, Publisher
from chipcash.log.reader import LogReader
from chipcash.log.scope import scope_of
from chipcash.log.store import Log

__all__ = ["LogWriter", "compare"]

_log = logging.getLogger(__name__)

_INTERVAL_S = 0.5
_TELL_S = 10.0


class LogWriter:
    """Writes a center's facts into its log, signed and cosigned, in a thread of its own while it is entered.

    Money never waits for the log: what cannot be written now is told in the program's log, and written later.
    witnesses: who is asked to cosign; interval: seconds between two looks at the ledger; facts: those of the
    log, if they are not those of the center's own ledger; tell: has others know how far the log goes, called
    at the beginning, when it has grown, every 10 s, and at the end.
    """

    def __init__(
        self,
        center: Center,
        log: Log,
        witnesses: Sequence[Witness] = (),
        interval: float = _INTERVAL_S,
        facts: Facts | None = None,
        tell: Callable[[], None] | None = None,
    ) -> None:
        self._witnesses = Witnesses(witnesses)
        self._publisher = Publisher(
            log,
            facts or LedgerFacts(center.storage, center.trust.header),
            self._witnesses,
        )
        self._interval = interval
        self._tell = tell
        self._tell_at = 0.0
        self._told_size = 0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._told = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()
        self._tell_at = 0.0
        self.publish()
        self._witnesses.close()
        self._publisher.log.close()

    def begin(self) -> None:
        """Before anybody is answered: see that the ledger is not older than its log, nor both older than what
        a witness has cosigned.

        With an older one, money that was paid could be paid again. A witness that cannot be reached stops
        nothing. Raises LogError.
        """
        try:
            self._publisher.log.publish_rest()
            self._tell_if_due()
            self._publisher.publish(afresh=True)
            for name, why in self._witnesses.refusals.items():
                raise LogError(
                    f"The witness {name} has seen this network's log: {why}. The center does not start,"
                    " since money that was paid after that backup could be paid again.",
                    hint="Restore a ledger that is at least as new as what was cosigned.",
                )
        except BaseException:
            self._witnesses.close()
            raise

    def publish(self) -> None:
        """Bring the log up to date; what is in the way is told, each time that it is something else."""
        with self._writing:  # a log has one writer
            self._publish()

    def _publish(self) -> None:
        problems = []
        for step, failed in (
            (self._publisher.publish, "The center's log was not written:"),
            (self._tell_if_due, "How far the center's log goes could not be told:"),
        ):
            try:
                step()
            except (ChipcashError, OSError) as error:
                problems.append(f"{failed} {error}")
        told = " ".join(problems)
        if told and told != self._told:
            _log.error("%s", told)
        self._told = told

    def _tell_if_due(self) -> None:
        size = self._publisher.log.size
        now = time.monotonic()
        if self._tell is not None and (size != self._told_size or now >= self._tell_at):
            self._tell()
            self._told_size, self._tell_at = size, now + _TELL_S

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self.publish()


def compare(center: Center, reader: LogReader) -> Totals:
    """Replay a center's log, and prove that its ledger says the same: every coin, cut and owned alike.

    Coins on which something was registered since the log's checkpoint are left out. Raises AuditFailed,
    LogInvalid, LogUnreachable, and LedgerError with the serial.
    """
    checkpoint, _ = reader.checkpoint()
    with Replay(center.trust, scope_of(checkpoint.origin)) as replay:
        totals = audit(reader, checkpoint, replay)
        with center.storage.reading():
            newer = _touched_since(center, checkpoint.size)
            pairs = zip_longest(
                (coin for coin in replay.coins() if coin.serial not in newer),
                (coin for coin in _coins(center) if coin.serial not in newer),
            )
            for logged, kept in pairs:
                if logged == kept:
                    continue
                serial = min(coin.serial for coin in (logged, kept) if coin is not None)
                raise broken(serial, "the log says otherwise")
    return totals


def _touched_since(center: Center, size: int) -> set[bytes]:
    """Serials of facts behind the first so many. Raises LedgerError if there are not so many."""
    if size == 0:
        last = 0
    else:
        union = " UNION ALL ".join(f"SELECT seq FROM {table}" for table in FACT_TABLES)
        row = center.storage.one(
            f"SELECT seq FROM ({union}) AS facts ORDER BY seq LIMIT 1 OFFSET ?", size - 1
        )
        if row is None:
            raise LedgerError(
                f"The log has {size} entries, and the ledger holds fewer facts.",
                hint="An old backup of the ledger was restored: restore a newer one.",
            )
        last = row[0]
    return {
        serial
        for table in ("coins", "titles", "spends")
        for (serial,) in center.storage.all(f"SELECT serial FROM {table} WHERE seq > ?", last)
    }


def _coins(center: Center) -> Iterator[CoinState]:
    """The ledger's coins in the order of serials, as a replay gives them."""
    rows = center.storage.all(
        "SELECT coins.serial, coins.amount, coins.epoch, slices.lo, slices.hi, slices.title_id,"
        " titles.owner FROM coins JOIN slices ON slices.serial = coins.serial"
        " LEFT JOIN titles ON titles.title_id = slices.title_id ORDER BY coins.serial, slices.lo"
    )
    for (serial, amount, epoch), parts in groupby(rows, key=itemgetter(0, 1, 2)):
        slices: list[Slice] = []
        for part in parts:
            lo, hi, title_id, owner = part[3:]
            if slices and (slices[-1].hi, slices[-1].title_id) == (lo, title_id):
                lo = slices.pop().lo
            slices.append(Slice(lo, hi, title_id, owner))
        yield CoinState(serial, amount, epoch, tuple(slices))

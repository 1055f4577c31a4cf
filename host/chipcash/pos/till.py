# SPDX-License-Identifier: Apache-2.0
"""The till as a process: a thread for each reader, one that synchronises, and what a screen shows of both.

The books are in the POS's directory; what is here may be killed at any time. A sale that was under way is
found again there: as a payment, or as an open request, which the next charge of the same amount repeats.

One sale at a time. Whatever reader sees a card first asks it. A card that has been asked has to be taken
away before the next sale is asked of it, so that nobody pays for who comes after him.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from chipcash.card import PinError
from chipcash.clock import DAY, SteadyClock
from chipcash.errors import ChipcashError, LinkLostError, NoCardError, TransportError
from chipcash.files import lock
from chipcash.pos import model as m
from chipcash.pos.errors import NotAsked, PosError, yuan
from chipcash.pos.mirror_watch import MirrorStatus, MirrorWatch
from chipcash.pos.pos import Pos
from chipcash.pos.settling import CenterService
from chipcash.terminal import RETRYABLE, Refusal
from chipcash.transports import Connection, open_path

__all__ = [
    "PATIENCE_S",
    "ReaderState",
    "ReaderStatus",
    "Sale",
    "SaleState",
    "Status",
    "SyncStatus",
    "Till",
    "Warn",
]

_log = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""Seconds for which a sale waits for a card."""
_LOOK_S = 0.5
"""Seconds of one look for a card, after which a reader sees whether the sale is still wanted."""
_PAUSE_S = 0.25
"""Seconds until a card is asked again, or looked at whether it has left."""
_REST_S = 2.0
"""Seconds between two looks at a reader that is not there."""
_SETTLE_S = 0.5
"""Seconds from a payment to the synchronisation that it sets off: others may come with it."""
_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 300.0
"""Seconds until the center is asked again after a failure, which double with each further one."""
_PROGRESS_S = 0.5
"""Seconds between two events of a synchronisation that goes on."""
_ROUTINE_S = 300.0
"""Seconds between two synchronisations when there is nothing to bring: for the blacklist and the time."""
_CLOCK_S = 60
"""Seconds by which a clock may be wrong before anybody is told."""
_TAPPED = ("pcsc", "nfc", "ble")
"""Links at which cards come and go. At others the card is part of the device."""


class SaleState(StrEnum):
    """Where a charge stands. WAITING: for a card; PIN: for the payer's PIN, then the card again; UNKNOWN: a
    card may have paid, the same one has to be tapped again; the others are its end."""

    WAITING = "WAITING"
    PAYING = "PAYING"
    PIN = "PIN"
    UNKNOWN = "UNKNOWN"
    PAID = "PAID"
    REFUSED = "REFUSED"
    CANCELLED = "CANCELLED"


_ACTIVE = (SaleState.WAITING, SaleState.PAYING, SaleState.PIN)
_ENDS = (SaleState.PAID, SaleState.REFUSED, SaleState.CANCELLED)
_DECIDED = (m.RequestState.ANSWERED, m.RequestState.VOIDED, m.RequestState.CANCELLED)
"""In which an error of a request says that no card can pay it any more."""


@dataclass(frozen=True)
class Sale:
    """A charge at the till.

    amount: fen; nonce: of its request, if a card may have paid that; message, hint: what happened last, for
    people; reason: its name, of a Refusal or of the error; retryable: whether `Till.retry` may help; payment:
    once it is PAID; reader: the path of the reader that has or had the card.
    """

    id: str
    amount: int
    operator: str
    state: SaleState
    began: int
    fresh: bool = False
    reference: str | None = None
    nonce: bytes | None = None
    message: str = ""
    hint: str = ""
    reason: str = ""
    retryable: bool = False
    reader: str = ""
    payment: m.Payment | None = None


class ReaderState(StrEnum):
    """READY: it can take a card; OCCUPIED: the last sale's card is still there; FAILED: it cannot be used."""

    READY = "READY"
    OCCUPIED = "OCCUPIED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class ReaderStatus:
    """A reader by its path. message, hint: why it FAILED, for people."""

    path: str
    state: ReaderState
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class SyncStatus:
    """How the last synchronisation went. Times in seconds since 1970, None where there was none.

    running: one is under way; succeeded: when the last whole one ended; next_try: when the next one begins at
    the latest; message, hint: why the last one failed, for people, else empty.
    """

    running: bool = False
    succeeded: int | None = None
    next_try: int | None = None
    message: str = ""
    hint: str = ""


class Warn(StrEnum):
    """What who works at the till has to know.

    OVERDUE: pending money is past its deadline; DEADLINE: some will be within a day; STALE: the blacklist is
    too old to charge; DISK: the disk is nearly full; CLOCK: this machine's clock is wrong; READERS: no reader
    can be used; EXPOSURE: the money pending, or its age, nears its limit; LIMIT: it has reached it; MIRROR:
    the mirror of the books cannot be written, so no money is taken.
    """

    OVERDUE = "OVERDUE"
    DEADLINE = "DEADLINE"
    STALE = "STALE"
    DISK = "DISK"
    CLOCK = "CLOCK"
    READERS = "READERS"
    EXPOSURE = "EXPOSURE"
    LIMIT = "LIMIT"
    MIRROR = "MIRROR"


@dataclass(frozen=True)
class Status:
    """What a screen shows.

    event: the number to wait behind; last: the last charge, whoever made it; open: how many requests a card
    may have paid without an answer here; time: the till's.
    """

    event: int
    time: int
    readers: tuple[ReaderStatus, ...]
    sale: Sale | None
    last: m.Charge | None
    open: int
    summary: m.Summary
    sync: SyncStatus
    mirror: MirrorStatus
    shift: m.Shift | None
    warnings: tuple[Warn, ...]


CenterFactory = Callable[[Pos], AbstractContextManager[CenterService]]
"""Opens the way to a POS's registration center."""


@dataclass
class _Reader:
    path: str
    state: ReaderState = ReaderState.READY
    error: ChipcashError | None = None
    looked: float = field(default=float("-inf"))
    asked: str = ""
    """The sale that the card here was asked for, as long as it may still be the same card."""
    insertion: int | None = None
    """That card's Connection.insertion."""

    @property
    def status(self) -> ReaderStatus:
        if self.error is None:
            return ReaderStatus(self.path, self.state)
        return ReaderStatus(self.path, self.state, self.error.message, self.error.hint)

    def holds_asked(self, connection: Connection) -> bool:
        """Whether the card here may be the one that was asked already."""
        if not self.asked or self.path.partition(":")[0] not in _TAPPED:
            return False
        before, now = self.insertion, connection.insertion
        # A smaller count than its own is of a service that began anew, which does not know.
        return before is None or now is None or now <= before


class Till:
    """A running till over a POS's directory. A context manager: within it, it works.

    readers: paths of chipcash.transports; center: opens the way to the center; without it nothing is
    synchronised; clock: the till's, corrected by the center's signed time; patience: seconds for which a sale
    waits for a card. All methods may be called from any thread. Raises PosError if another Till has the
    directory.
    """

    def __init__(
        self,
        directory: str | Path,
        readers: Sequence[str],
        center: CenterFactory | None = None,
        *,
        clock: SteadyClock | None = None,
        patience: float = PATIENCE_S,
    ) -> None:
        self.directory = Path(directory)
        self.clock = clock or SteadyClock()
        self._center = center
        self._patience = patience
        self._readers = [_Reader(path) for path in readers]
        self._changed = threading.Condition()
        self._event = 0
        self._sale: Sale | None = None
        self._pin: str | None = None
        self._deadline = 0.0
        self._sync = SyncStatus()
        self._mirror = MirrorWatch(self.clock, self._bump)
        self._asked = threading.Event()
        self._retry_s = _FIRST_RETRY_S
        self._shown = float("-inf")
        self._closing = threading.Event()
        self._idle: list[Pos] = []
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._close_books)
            with self.pos():  # is it one, and can it be read?
                pass
            handle = lock(self.directory / "till.lock")
            if handle is None:
                raise PosError(
                    f"The till in {self.directory} runs already.",
                    hint="Use that one, or end it first (chipcash pos run in another window or service).",
                    path=str(self.directory),
                )
            stack.callback(os.close, handle)
            for reader in self._readers:
                self._start(reader.path, partial(self._serve, reader))
            self._start("mirror", self._watch_mirror)
            if self._center is not None:
                self._start("sync", self._synchronise)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End what is under way: a tap is finished, a synchronisation after its present step."""
        self._closing.set()
        self._asked.set()
        self._bump()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    @contextmanager
    def pos(self, operator: str = "") -> Iterator[Pos]:
        """The POS, for one thread at a time as long as this lasts; operator: who works with it."""
        try:
            pos = self._idle.pop()
        except IndexError:
            pos = Pos(self.directory, clock=self.clock)
            pos.store.noted = self._mirror.noted
        pos.operator = operator
        try:
            yield pos
        finally:
            self._idle.append(pos)

    # The sale -----------------------------------------------------------------------------------

    @property
    def sale(self) -> Sale | None:
        """The last sale of this process, under way or not."""
        return self._sale

    def begin(
        self,
        amount: int,
        *,
        operator: str = "",
        fresh: bool = False,
        pin: str | None = None,
        reference: str | None = None,
    ) -> Sale:
        """Charge amount fen to the next card at any reader. Values as of Pos.charge.

        Raises PosError if another sale is under way, or if no card would be asked anyway (limits, blacklist,
        disk): then none was begun.
        """
        with self.pos(operator) as pos:
            known = None if reference is None else pos.charged(reference)
            if known is None:
                pos.may_charge(amount)
        # A card may have paid one that is known already, so it does not end as if none had.
        nonce = known.nonce if known is not None and known.amount == amount else None
        sale = Sale(
            id=secrets.token_hex(8), amount=amount, operator=operator, state=SaleState.WAITING,
            began=self.clock(), fresh=fresh, reference=reference, nonce=nonce,
        )  # fmt: skip
        with self._changed:
            busy = self._sale
            # One that a card may have paid is left open for another, whether or not a card is waited for.
            left = busy is not None and busy.state is SaleState.WAITING and busy.nonce is not None
            if busy is not None and busy.state in _ACTIVE and not left:
                raise PosError(
                    f"A sale of {yuan(busy.amount)} is under way; no other was begun.",
                    hint="Finish it, or cancel it.",
                    sale=busy.id,
                )
            self._pin = pin
            self._set(sale)
        return sale

    def retry(self, sale: str) -> Sale:
        """Ask a card once more for a REFUSED sale that is retryable. Raises PosError."""
        with self._changed:
            found = self._need(sale)
            if found.state is not SaleState.REFUSED or not found.retryable:
                raise PosError("This sale cannot be repeated as it is.", hint="Begin a new one.")
            return self._set(replace(found, state=SaleState.WAITING))

    def give_pin(self, sale: str, pin: str) -> Sale:
        """The payer's PIN for a sale that wants one; the card is asked again. Raises PosError."""
        with self._changed:
            found = self._need(sale)
            if found.state is not SaleState.PIN:
                raise PosError("This sale does not wait for a PIN.", state=str(found.state))
            self._pin = pin
            return self._set(replace(found, state=SaleState.WAITING))

    def cancel(self, sale: str) -> Sale:
        """Stop waiting for a card. Raises PosError if a card is being asked, or may have paid."""
        with self._changed:
            found = self._need(sale)
            if found.state is SaleState.CANCELLED:
                return found
            if found.nonce is not None or found.state not in (SaleState.WAITING, SaleState.PIN):
                raise PosError(
                    f"This sale cannot be cancelled: it is {found.state}.",
                    hint="If a card may have paid it, tap that card again, or give the request up. A payment "
                    "that was made is given back by a refund.",
                    state=str(found.state),
                )
            return self._set(
                replace(
                    found,
                    state=SaleState.CANCELLED,
                    message="The sale was cancelled. No card has paid.",
                )
            )

    def leave(self, sale: str) -> None:
        """Ask no card any more for an UNKNOWN sale, or who comes next would be asked to pay it. Its request
        stays open. Raises PosError."""
        with self._changed:
            found = self._need(sale)
            if found.state is not SaleState.UNKNOWN:
                raise PosError(
                    f"This sale cannot be left open: it is {found.state}.",
                    hint="Wait for its end, or cancel it.",
                    state=str(found.state),
                )
            self._sale = None
            self._bump()

    def give_up(self, sale: str) -> Sale:
        """Give an UNKNOWN sale's request up: what a card has paid for it goes back to the payer.

        Raises PosError if a card is being asked just now, or the request was answered.
        """
        with self._changed:
            found = self._need(sale)
            if found.nonce is None or found.state is SaleState.PAYING:
                raise PosError(
                    "There is nothing to give up in this sale.",
                    hint="Wait for its end, or cancel it.",
                    state=str(found.state),
                )
            # As if a card were asked: none is, and nothing else is begun, while the void is signed. That can
            # take a SAM seconds, in which screens must not stand still.
            self._set(
                replace(
                    found,
                    state=SaleState.PAYING,
                    message="The request is being given up: wait for the result.",
                    hint="",
                )
            )
        try:
            with self.pos(found.operator) as pos:
                pos.give_up(found.nonce)
        except BaseException:
            self._set(found)
            raise
        given = self._set(
            replace(
                found,
                state=SaleState.CANCELLED,
                message=f"The request of {yuan(found.amount)} is given up. You have not been paid; what the "
                "card has set aside goes back to the customer.",
                hint="",
            )
        )
        self.sync_now()
        return given

    # Looking ------------------------------------------------------------------------------------

    def wait(self, after: int, timeout: float) -> int:
        """The number of the last event, once it is above `after` or timeout seconds are over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._event > after or self._closing.is_set(), timeout=timeout
            )
            self._expire()  # where no reader's thread does
            return self._event

    @property
    def closing(self) -> bool:
        """Whether the till is being closed: who waits for events should end."""
        return self._closing.is_set()

    def status(self) -> Status:
        """How everything stands. Raises DatabaseError if the books cannot be read."""
        with self._changed:
            event, sale, sync = self._event, self._sale, self._sync
            readers = tuple(reader.status for reader in self._readers)
        with self.pos() as pos:
            summary = pos.summary()
            mirror = self._mirror.status(pos.store.mirror)
            return Status(
                event=event,
                time=self.clock(),
                readers=readers,
                sale=sale,
                last=pos.last(),
                open=pos.open_count(),
                summary=summary,
                sync=sync,
                mirror=mirror,
                shift=pos.shift,
                warnings=tuple(self._warnings(pos, summary, readers, mirror)),
            )

    def sync_now(self) -> None:
        """Synchronise at once, whatever the last try said."""
        self._retry_s = _FIRST_RETRY_S
        self._asked.set()

    # How ----------------------------------------------------------------------------------------

    def _warnings(
        self,
        pos: Pos,
        summary: m.Summary,
        readers: Sequence[ReaderStatus],
        mirror: MirrorStatus,
    ) -> Iterator[Warn]:
        now = self.clock()
        if mirror.failing is not None:
            yield Warn.MIRROR
        if summary.overdue.count:
            yield Warn.OVERDUE
        elif summary.next_deadline is not None and summary.next_deadline < now + DAY:
            yield Warn.DEADLINE
        if pos.blacklist_is_stale:
            yield Warn.STALE
        if pos.disk_is_full:
            yield Warn.DISK
        exposure = pos.exposure()
        if exposure.reached:
            yield Warn.LIMIT
        elif exposure.near:
            yield Warn.EXPOSURE
        if abs(self.clock.off) > _CLOCK_S:
            yield Warn.CLOCK
        if readers and all(reader.state is ReaderState.FAILED for reader in readers):
            yield Warn.READERS

    def _need(self, sale: str) -> Sale:
        if self._sale is None or self._sale.id != sale:
            raise PosError(
                "This is not the sale at the till any more.",
                hint="Look at the last payment and at the open requests.",
            )
        return self._sale

    def _set(self, sale: Sale) -> Sale:
        with self._changed:
            self._sale = sale
            if sale.state is SaleState.WAITING:
                self._deadline = time.monotonic() + self._patience
            elif sale.state is not SaleState.PAYING:
                self._pin = None
            self._bump()
        return sale

    def _bump(self) -> None:
        with self._changed:
            self._event += 1
            self._changed.notify_all()

    def _serve(self, reader: _Reader) -> None:
        """The life of a reader's thread."""
        while not self._closing.is_set():
            pause = _PAUSE_S if reader.state is ReaderState.OCCUPIED else _LOOK_S
            with self._changed:
                self._changed.wait_for(
                    lambda: self._wants_card() or self._closing.is_set(), timeout=pause
                )
                self._expire()
                wanted = self._wants_card()
            if self._closing.is_set():
                return
            try:
                if wanted and reader.state is ReaderState.READY:
                    self._ask(reader)
                else:
                    self._look_at(reader)
            except NoCardError:
                reader.asked = ""
                self._mark(reader, ReaderState.READY)
            except ChipcashError as error:
                self._mark(reader, ReaderState.FAILED, error)
            except Exception:
                _log.exception("a reader has a fault")
                self._mark(reader, ReaderState.FAILED, _fault(reader.path))

    def _ask(self, reader: _Reader) -> None:
        """Have the card at a reader pay, once one is there. Raises as open_path does."""
        connection = open_path(reader.path, wait=_LOOK_S)
        asked = False
        try:
            with connection:
                asked = self._tap(reader, connection)
        except Exception:
            _log.exception("a reader could not end a session")
        sale = self._sale
        if asked and sale is not None and sale.state in _ENDS and reader.holds_asked(connection):
            self._mark(reader, ReaderState.OCCUPIED)
        elif reader.state is ReaderState.READY:
            self._closing.wait(_PAUSE_S)  # it is asked again, if it is still there

    def _wants_card(self) -> bool:
        sale = self._sale
        return sale is not None and sale.state in (SaleState.WAITING, SaleState.UNKNOWN)

    def _expire(self) -> None:
        """End a sale for which no card has come."""
        sale = self._sale
        if (
            sale is not None
            and sale.state is SaleState.WAITING
            and time.monotonic() > self._deadline
        ):
            if sale.nonce is not None:
                self._set(replace(sale, state=SaleState.UNKNOWN))
            else:
                self._set(
                    replace(
                        sale,
                        state=SaleState.CANCELLED,
                        message="No card was presented in time. No card has paid.",
                    )
                )

    def _look_at(self, reader: _Reader) -> None:
        """See whether a reader that was not there is back, and a card that was there gone; at first too.
        Raises as open_path does."""
        now = time.monotonic()
        if reader.state is ReaderState.READY and reader.looked > float("-inf"):
            return
        pause = _REST_S if reader.state is ReaderState.FAILED else _PAUSE_S
        if now - reader.looked < pause:
            self._closing.wait(_PAUSE_S)
            return
        reader.looked = now
        with open_path(reader.path) as connection:
            if reader.state is ReaderState.FAILED or not reader.holds_asked(connection):
                self._mark(reader, ReaderState.READY)

    def _mark(
        self, reader: _Reader, state: ReaderState, error: ChipcashError | None = None
    ) -> None:
        told = None if error is None else error.message
        before = None if reader.error is None else reader.error.message
        if (reader.state, before) != (state, told):
            reader.state, reader.error = state, error
            self._bump()

    def _tap(self, reader: _Reader, connection: Connection) -> bool:
        """Have the card at a reader pay the sale, if nobody else has it. Whether this one was asked."""
        with self._changed:
            sale, pin = self._sale, self._pin
            if sale is None or not self._wants_card():
                return False
            if reader.asked != sale.id and reader.holds_asked(connection):
                # The card of an earlier sale, of whatever end: cancelled at its PIN, left open.
                self._mark(reader, ReaderState.OCCUPIED)
                return False
            reader.asked, reader.insertion = sale.id, connection.insertion
            sale = self._set(
                replace(sale, state=SaleState.PAYING, reader=reader.path, message="", hint="")
            )
        try:
            with self.pos(sale.operator) as pos:
                if sale.nonce is not None:
                    payment = pos.retry(connection, sale.nonce, pin=pin)
                else:
                    payment = pos.charge(
                        connection, sale.amount, pin=pin, fresh=sale.fresh, reference=sale.reference
                    )
        except ChipcashError as error:
            self._set(_after(sale, error))
        except Exception:
            _log.exception("a sale was not finished")
            self._set(self._after_fault(sale))
        else:
            self._set(
                replace(
                    sale,
                    state=SaleState.PAID,
                    payment=payment,
                    nonce=payment.nonce,
                    retryable=False,
                )
            )
            if not self._sync.message:  # else the center is asked again when its pause is over
                self._asked.set()
        return True

    def _after_fault(self, sale: Sale) -> Sale:
        """A sale in which something failed that nobody thought of: what the books say of it."""
        told = replace(
            sale,
            state=SaleState.REFUSED,
            message="This till has a fault, and does not know whether the card has paid.",
            hint="Look at the last payment and at the open requests before you charge again.",
        )
        nonce, payment = sale.nonce, None
        try:
            with self.pos() as pos:
                asked = _asked_for(pos, sale) if nonce is None else None
                if asked is not None and asked.state is m.RequestState.OPEN:
                    nonce = asked.nonce
                elif asked is not None and asked.state is m.RequestState.ANSWERED:
                    payment = pos.payment(asked.nonce)
        except ChipcashError:
            _log.warning("the books do not say what became of a sale")
        if nonce is not None:
            hint = "Tap the SAME card again: nothing is paid twice."
            return replace(told, state=SaleState.UNKNOWN, nonce=nonce, hint=hint)
        if payment is not None:
            return replace(told, state=SaleState.PAID, payment=payment, message="", hint="")
        return told

    def _watch_mirror(self) -> None:
        """The life of the thread that sees whether the mirror can be written."""
        pause = 0.0
        while not self._closing.wait(pause):
            try:
                with self.pos() as pos:
                    pause = self._mirror.look(pos.store)
            except ChipcashError as error:
                _log.warning("the mirror was not looked at: %s", error)
                pause = _REST_S
            except Exception:
                _log.exception("looking at the mirror has a fault")
                pause = _LONGEST_RETRY_S

    def _synchronise(self) -> None:
        """The life of the thread that synchronises."""
        pause = 0.0
        while not self._closing.is_set():
            self._tell_sync(next_try=self.clock() + int(pause))
            if self._asked.wait(pause):
                self._closing.wait(_SETTLE_S)
            if self._closing.is_set():
                return
            self._asked.clear()
            pause = self._sync_once()

    def _sync_once(self) -> float:
        """One synchronisation; the seconds until the next."""
        center = self._center
        if center is None:
            raise RuntimeError("there is no center to synchronise with")
        self._tell_sync(running=True)
        try:
            with self.pos() as pos, center(pos) as client:
                known = pos.blacklist.time
                report = pos.sync(client, told=self._progress, stop=self._closing.is_set)
                # An old answer that comes once more does not turn time back.
                if report.time > min(known, self.clock()):
                    self.clock.correct(report.time)
        except ChipcashError as error:
            _log.warning("not synchronised: %s", error)
            self._tell_sync(running=False, message=error.message, hint=error.hint)
            self._asked.clear()  # what waits will not go faster for being new
            pause, self._retry_s = self._retry_s, min(2 * self._retry_s, _LONGEST_RETRY_S)
            return pause * (0.75 + secrets.randbelow(501) / 1000)
        except Exception:
            _log.exception("synchronising has a fault")
            self._tell_sync(
                running=False,
                message="Synchronising has a fault; what is queued stays queued.",
                hint="Tell who looks after this till; its log says more.",
            )
            return _LONGEST_RETRY_S
        self._retry_s = _FIRST_RETRY_S
        self._tell_sync(running=False, succeeded=self.clock(), message="", hint="")
        return _ROUTINE_S

    def _progress(self, _: m.Change | m.Transfer) -> None:
        """Show how far a synchronisation is, now and then: screens are not to be drawn for each payment."""
        now = time.monotonic()
        if now - self._shown > _PROGRESS_S:
            self._shown = now
            self._bump()

    def _tell_sync(self, **values: object) -> None:
        with self._changed:
            self._sync = replace(self._sync, **values)  # type: ignore[arg-type]
            self._bump()

    def _close_books(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _asked_for(pos: Pos, sale: Sale) -> m.OpenRequest | None:
    """The request that was made, or repeated, for a sale, as far as the books tell; never another sale's."""
    if sale.reference is not None:
        return pos.charged(sale.reference)
    for each in pos.open_requests():
        own = each.time >= sale.began or not sale.fresh
        if own and (each.amount, each.reference, each.expiry) == (sale.amount, None, None):
            return each
    last = pos.last()
    if last is None or last.request.reference is not None or last.request.time < sale.began:
        return None
    return last.request if last.request.amount == sale.amount else None


def _fault(path: str) -> TransportError:
    return TransportError(
        f"The reader at {path} has a fault that this till does not know. No card is asked there.",
        hint="Unplug it and plug it in again; the till's log says more.",
        path=path,
    )


def _after(sale: Sale, error: ChipcashError) -> Sale:
    """A sale after its card, or the way to it, has failed."""
    told = replace(
        sale,
        message=error.message,
        hint=error.hint,
        reason=error.reason if isinstance(error, (Refusal, NotAsked)) else type(error).__name__,
    )
    nonce = error.facts.get("nonce")
    if isinstance(nonce, str):
        told = replace(told, nonce=bytes.fromhex(nonce))
    if isinstance(error, PinError):
        return replace(told, state=SaleState.PIN)
    if isinstance(error, Refusal):
        return replace(
            told, state=SaleState.REFUSED, retryable=error.reason in RETRYABLE and bool(told.nonce)
        )
    if told.nonce is not None and error.facts.get("state") not in _DECIDED:
        # Whatever kept this card from being asked, the one that was asked before may have paid.
        return replace(told, state=SaleState.UNKNOWN)
    if isinstance(error, LinkLostError):  # before the card was asked to pay: it was held too short
        return replace(told, state=SaleState.WAITING)
    return replace(told, state=SaleState.REFUSED)

# SPDX-License-Identifier: Apache-2.0
"""Synchronising with the registration center: pending money there, its answers and news here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from chipcash.crypto import CryptoError
from chipcash.pos import model as m
from chipcash.pos.books import Move
from chipcash.pos.charging import Charging
from chipcash.pos.errors import PosError
from chipcash.pos.model import PaymentState as P
from chipcash.pos.settling import DEPOSIT_INTERVALS, CenterService, Sending
from chipcash.pos.transfers import Transfers
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["BILL_GRACE", "Synchronising"]

_log = logging.getLogger(__name__)

BILL_GRACE = 3600
"""Seconds after a bill's expiry after which a sync gives it up."""


class Synchronising(Charging, Transfers):
    """What a POS does with the center."""

    def sync(
        self,
        client: CenterService,
        *,
        told: Callable[[m.Change | m.Transfer], None] | None = None,
        stop: Callable[[], bool] = bool,
    ) -> m.SyncReport:
        """Bring everything to the center, and its answers and news here. Repeat it as often as you like.

        First what an earlier sync or transfer left under way, with the same bytes; then pending payments,
        the one whose deadline comes first at the front, and refunds that were promised of what is verified;
        then voids, also of bills that expired an hour ago, titles, rules, blacklist and signed time. Each
        step is durable before the next begins.

        Without the till's key what is pending is deposited all the same. Only what has to be signed waits:
        promised refunds, voids of bills.

        told: is called with each change and transfer, which the report then does not hold, so that its size
        stays bounded. stop: asked before each deposit; once it is true, no further one is begun. Raises
        CenterUnreachable or CenterRefused; what was done before stays done, the rest is still queued. Raises
        CryptoError at the end, where the key was missed.
        """
        report = m.SyncReport(told=told)
        unsigned: list[CryptoError] = []
        self._sync_deposits(client, report, stop, unsigned)
        self._give_up_bills(unsigned)
        for row in self.store.all(
            "SELECT nonce, void FROM requests WHERE state = 'VOIDED' AND void_sent = 0 ORDER BY id"
        ):
            client.register_void(o.Void.decode(row["void"]))
            with self.store.transaction():
                self.store.execute(
                    "UPDATE requests SET void_sent = 1 WHERE nonce = ?", row["nonce"]
                )
            report.voids_sent += 1
        titles = client.titles(self.public)
        with self.store.transaction():
            report.titles_received += self._add_titles(titles)
            self._drop_expired({object_id(title) for title in titles})
            self._place_parts()
        # Rules before the blacklist: who holds them back holds that back too, and the till soon stops.
        report.new_rules = self._take_rules(client.rules())
        self._sync_blacklist(client, report)
        if unsigned:
            raise unsigned[0]
        return report

    def _give_up_bills(self, unsigned: list[CryptoError]) -> None:
        """Give up the bills whose payment nobody has shown long after their expiry. unsigned: gets why the
        key could not be used."""
        for row in self.store.all(
            "SELECT nonce FROM requests WHERE state = 'OPEN' AND expiry < ? ORDER BY id",
            self._now() - BILL_GRACE,
        ):
            if unsigned:
                return
            try:
                self.give_up(row["nonce"])
            except PosError:
                _log.info("request %s was answered meanwhile", row["nonce"].hex())
            except CryptoError as error:
                unsigned.append(error)

    def _sync_deposits(
        self,
        client: CenterService,
        report: m.SyncReport,
        stop: Callable[[], bool],
        unsigned: list[CryptoError],
    ) -> None:
        """Send all deposits and book their receipts, in their order. While one is at the center, the next is
        prepared here and the last one booked, so that neither waits for the other."""
        with ThreadPoolExecutor(1, "deposits") as line:

            def send(sending: Sending) -> tuple[Sending, Future[o.Receipt]]:
                return sending, line.submit(client.settle, sending.deposit, sending.titles)

            flying: tuple[Sending, Future[o.Receipt]] | None = None
            while True:
                begun = flying and flying[0].deposit.nonce
                upcoming = None if stop() else self._next_deposit(report, begun, unsigned)
                if flying is None:
                    if upcoming is None:
                        return
                    flying = send(upcoming)
                    continue
                sent, answer = flying
                receipt = answer.result()
                flying = send(upcoming) if upcoming else None
                self._book(sent, receipt, report)

    def _next_deposit(
        self, report: m.SyncReport, begun: bytes | None, unsigned: list[CryptoError]
    ) -> Sending | None:
        """The next deposit to send: one that waits, but for that with the nonce begun, which is on its way;
        else of a promised refund that is due; else a new one of pending payments, SUBMITTED now."""
        waiting = (
            "SELECT data FROM deposits WHERE receipt IS NULL AND nonce IS NOT ? ORDER BY id LIMIT 1"
        )
        row = self.store.one(waiting, begun)
        if row is None and not unsigned:
            kept = m.SyncReport()
            try:
                # One at a time: a SAM signs for a second, in which nobody else writes these books.
                with self.store.transaction():
                    self._keep_promises(kept, most=1)
                report.promises += kept.promises
            except CryptoError as error:
                # Money that is pending has a deadline, and goes to the center without the key.
                unsigned.append(error)
            row = self.store.one(waiting, begun)
        if row is None:
            with self.store.transaction():
                return self._submit_pending()
        deposit = o.Deposit.decode(row["data"])
        return Sending(deposit, self._spent_titles(deposit))

    def _submit_pending(self) -> Sending | None:
        """A deposit of the payments whose deadline comes first, inside a transaction; None if none is
        pending."""
        taken: list[tuple[bytes, o.Payment]] = []
        intervals = 0
        for row in self.store.all(
            "SELECT claim_id, data FROM payments WHERE state = 'PENDING' ORDER BY deadline, id LIMIT ?",
            o.MAX_CLAIMS,
        ):
            payment = o.Payment.decode(row["data"])
            intervals += len(payment.claim.inputs)
            if intervals > DEPOSIT_INTERVALS:
                break
            taken.append((row["claim_id"], payment))
        if not taken:
            return None
        deposit = self._new_deposit([payment.claim for _, payment in taken])
        self._store_deposit(deposit, "PAYMENTS")
        self._move(*(Move(claim_id, P.SUBMITTED, deposit.nonce) for claim_id, _ in taken))
        titles = {object_id(title): title for _, payment in taken for title in payment.titles}
        return Sending(deposit, list(titles.values()))

    def _drop_expired(self, live: set[bytes]) -> None:
        """What expired and is not live any more came back under a new title: stop counting the old one."""
        for row in self.store.all(
            "SELECT title_id, pointer FROM titles WHERE pointer < hi AND expiry < ?", self._now()
        ):
            if row["title_id"] not in live:
                self.store.execute(
                    "UPDATE titles SET pointer = hi WHERE title_id = ?", row["title_id"]
                )
                self.store.execute(
                    "UPDATE parts SET title_id = NULL WHERE title_id = ? AND lo >= ?",
                    row["title_id"],
                    row["pointer"],
                )

    def _sync_blacklist(self, client: CenterService, report: m.SyncReport) -> None:
        known = self.blacklist
        entries, signed_time = client.blacklist(known.sequence)
        fresh = known.extend(entries, signed_time, self.trust)
        with self.store.transaction():
            for entry in entries:
                if known.sequence < entry.sequence <= fresh.sequence:
                    report.blacklist_entries += self.store.execute(
                        "INSERT INTO blacklist VALUES (?,?,?) ON CONFLICT (sequence) DO NOTHING",
                        entry.sequence,
                        entry.subject,
                        entry.encode(),
                    ).rowcount
            # Another process may have brought newer knowledge in the meantime.
            if fresh.time >= int(self.store.get("blacklist_time", "0")):
                self.store.set("blacklist_time", str(fresh.time))
                self.store.set("blacklist_promised", str(fresh.promised))
        report.time = fresh.time

# SPDX-License-Identifier: Apache-2.0
"""Synchronising with the registration center: pending money there, its answers and news here."""

from __future__ import annotations

import logging
from collections.abc import Callable

from chipcash.pos import model as m
from chipcash.pos.charging import Charging
from chipcash.pos.errors import PosError
from chipcash.pos.model import PaymentState as P
from chipcash.pos.settling import DEPOSIT_INTERVALS, CenterService
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

        told: is called with each change and transfer, which the report then does not hold, so that its size
        stays bounded. stop: asked between two deposits; once it is true, no further one is sent. Raises
        CenterUnreachable or CenterRefused; what was done before stays done, the rest is still queued.
        """
        report = m.SyncReport(told=told)
        while not stop():
            deposit = self._next_deposit(report)
            if deposit is None:
                break
            self._settle(client, deposit, report)
        self._give_up_bills()
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
        return report

    def _give_up_bills(self) -> None:
        """Give up the bills whose payment nobody has shown long after their expiry."""
        for row in self.store.all(
            "SELECT nonce FROM requests WHERE state = 'OPEN' AND expiry < ? ORDER BY id",
            self._now() - BILL_GRACE,
        ):
            try:
                self.give_up(row["nonce"])
            except PosError:
                _log.info("request %s was answered meanwhile", row["nonce"].hex())

    def _next_deposit(self, report: m.SyncReport) -> o.Deposit | None:
        """The next deposit to send: one under way, else of a promised refund that is due, else a new one of
        pending payments, SUBMITTED now."""
        row = self.store.one("SELECT data FROM deposits WHERE receipt IS NULL ORDER BY id LIMIT 1")
        if row is not None:
            return o.Deposit.decode(row["data"])
        with self.store.transaction():
            if self._keep_promises(report):
                row = self._need(
                    "SELECT data FROM deposits WHERE receipt IS NULL ORDER BY id LIMIT 1"
                )
                return o.Deposit.decode(row["data"])
            claims: list[o.Claim] = []
            intervals = 0
            for row in self.store.all(
                "SELECT data FROM payments WHERE state = 'PENDING' ORDER BY deadline, id LIMIT ?",
                o.MAX_CLAIMS,
            ):
                claim = o.Payment.decode(row["data"]).claim
                intervals += len(claim.inputs)
                if intervals > DEPOSIT_INTERVALS:
                    break
                claims.append(claim)
            if not claims:
                return None
            deposit = self._new_deposit(claims)
            self._store_deposit(deposit, "PAYMENTS")
            for claim in claims:
                self._move(object_id(claim), P.SUBMITTED, deposit=deposit.nonce)
        return deposit

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

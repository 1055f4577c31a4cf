# SPDX-License-Identifier: Apache-2.0
"""The registration center of several ledgers, as its clients see it: what `Center` does, over partitions.

A gateway decides nothing about money. It finds out by the titles' serials which partitions a request belongs
to, has their workers carry it out through the queue, and puts their signed replies together. It answers when
what it tells is durable in every ledger that it tells of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chipcash.center.bodies import join
from chipcash.center.errors import CenterRefused, CenterReplyInvalid
from chipcash.center.facts import LedgerFacts
from chipcash.center.inquiry import Held, Inquiry, Moment, Repeat, unknown
from chipcash.center.orders import Order, Queue, Reply
from chipcash.center.registration import Center, is_invalid
from chipcash.database import DatabaseError
from chipcash.errors import ChipcashError
from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.log.publisher import Facts
from chipcash.log.scope import partition_of
from chipcash.trust import object_id
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["Gateway", "Ledgers"]

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_Signed = TypeVar("_Signed", o.Title, o.Receipt)

_READERS = 16
"""Partitions that are asked at once."""

_TRIES = 3
_REST_S = 0.3

Ledgers = Callable[[int], Inquiry]
"""The ledger of a partition, to be read."""


@dataclass(frozen=True)
class _PartitionFacts:
    """The facts of a partition that may move (chipcash.log.publisher.Facts)."""

    gateway: Gateway
    number: int

    def facts(self, after: int) -> Iterable[tuple[int, bytes]]:
        """As Facts."""
        storage = self.gateway.ledger(self.number).storage
        return LedgerFacts(storage, self.gateway.trust.header).facts(after)


@dataclass
class _Share:
    """A claim as it is sent to partitions. titles: those it spends and that are known, by id."""

    claim: o.Claim
    titles: dict[bytes, o.Title] = field(default_factory=dict)

    def partitions(self, of: int) -> list[int]:
        """Where its titles are; nowhere if one of them is unknown, which makes all of it invalid."""
        if any(item.title_id not in self.titles for item in self.claim.inputs):
            return []
        return sorted({partition_of(title.serial, of) for title in self.titles.values()})


class Gateway(Center):
    """A registration center whose coins are in partitions. Safe to use from several threads.

    Its own ledger, the home ledger, has cards and blacklist, and the receipts of deposits that touched
    several partitions. queue: the way to the partitions; ledgers: how to read them; partitions: how many; the
    others: as of Center. What changes money raises CenterUnreachable where a partition did not answer in
    time: the same request, repeated, brings what it became.
    """

    def __init__(
        self, queue: Queue, ledgers: Ledgers, partitions: int, *values: Any, **named: Any
    ) -> None:
        super().__init__(*values, **named)
        self._queue = queue
        self._ledgers = ledgers
        self.partitions = partitions
        self._pool = ThreadPoolExecutor(_READERS, "partition")
        self._listed: dict[int, tuple[Inquiry, int]] = {}

    def close(self) -> None:
        """Close the home ledger; queue and partitions are their owner's to close."""
        self._pool.shutdown()
        super().close()

    # ---- money in, money on -------------------------------------------------------------------------

    def register_coin(self, coin: o.Coin) -> o.Title:
        """As Center."""
        where = partition_of(coin.serial, self.partitions)
        (reply,) = self._ask([(where, Order("coin", coin.encode()))])
        return self._signed_reply(o.Title, reply)

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """As Center. Each partition settles its intervals by itself, and all or none of those."""
        self.verifier.need_settleable(deposit)
        digest = object_id(deposit)
        known = self._receipts([digest])
        if digest in known:
            return known[digest]
        shares = self._shares(deposit.claims, titles)
        places = [share.partitions(self.partitions) for share in shares]
        if places[0] and all(where == places[0] and len(where) == 1 for where in places):
            # One partition has it all: its receipt is the receipt, and it remembers it.
            (reply,) = self._ask([(places[0][0], _deposit(deposit, shares))])
            return self._receipt_for(digest, reply)
        by_partition: dict[int, list[int]] = {}
        for at, where in enumerate(places):
            for number in where:
                by_partition.setdefault(number, []).append(at)
        orders = {}
        for number, claims in sorted(by_partition.items()):
            part = o.Deposit(
                header=deposit.header,
                nonce=deposit.nonce,
                claims=tuple(deposit.claims[at] for at in claims),
            )
            orders[number] = part, _deposit(part, [shares[at] for at in claims])
        replies = self._ask([(number, order) for number, (_, order) in orders.items()])
        judged: list[list[o.Result]] = [[] for _ in shares]
        made: list[o.Title] = []
        for (number, (part, _)), reply in zip(orders.items(), replies, strict=True):
            receipt = self._receipt_for(object_id(part), reply)
            made += receipt.titles
            for at, result in zip(by_partition[number], receipt.results, strict=True):
                judged[at].append(result)
        # Who judged a claim alone judged all of its inputs: what it does not know makes a claim invalid.
        results = [
            found[0] if len(found) == 1 else _result(share.claim, found)
            for share, found in zip(shares, judged, strict=True)
        ]
        with self.storage.transaction():
            known = self._receipts([digest])  # the same deposit may have come twice at once
            if not known:
                known = {digest: self._make_receipt(digest, results, made)}
                if not all(map(is_invalid, results)):
                    self._store_receipts(known)
        return known[digest]

    def register_void(self, void: o.Void) -> None:
        """As Center: in every partition, since nobody knows which coins the claim spends."""
        self.verifier.need_header(void)
        self._need_payee_signature(void)
        order = Order("void", void.encode())
        for reply in self._ask([(number, order) for number in range(self.partitions)]):
            self._receipt_for(object_id(void), reply)

    def reclaim(self, reclaim: o.Reclaim, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """As Center."""
        self.verifier.need_header(reclaim)
        digest = object_id(reclaim)
        if reclaim.title_id is not None:
            found = self._found([reclaim.title_id], titles).get(reclaim.title_id)
            if found is None:
                raise unknown("title")
            order = Order("reclaim", reclaim.encode())
            (reply,) = self._ask([(partition_of(found.serial, self.partitions), order)])
            return self._receipt_for(digest, reply)
        (share,) = self._shares(reclaim.claims, titles)
        where = share.partitions(self.partitions)
        for void in reclaim.voids:
            self._need_void_for(void, share.claim)
            if where:
                self.register_void(void)
        order = Order("reclaim", join((reclaim, *share.titles.values())))
        receipts = [
            self._receipt_for(digest, reply)
            for reply in self._ask([(number, order) for number in where])
        ]
        if len(receipts) == 1:
            return receipts[0]
        result = _result(share.claim, [receipt.results[0] for receipt in receipts])
        made = [title for receipt in receipts for title in receipt.titles]
        return self._make_receipt(digest, [result], made)

    # ---- the blacklist ------------------------------------------------------------------------------

    def list_accused(self) -> None:
        """List the keys that evidence in the partitions accuses and that are not listed yet.

        It is done with each answer; this finishes what a crash left undone. Partitions that cannot be read
        just now are left out, and the first of their failures is raised at the end.
        """
        failed = None
        for number in range(self.partitions):
            try:
                self._list_accused(number)
            except ChipcashError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _list_accused(self, number: int) -> None:
        ledger = self._ledgers(number)
        of, after = self._listed.get(number, (ledger, 0))
        # Where it moved, or was brought forward from a backup, its numbers may be others.
        if of is not ledger:
            after = 0
        for seq, evidence in ledger.evidence_after(after):
            try:
                self._register_evidence(evidence)
            except EvidenceInvalid as error:  # nobody is accused by who can write to a node
                _log.error("Evidence in partition %d is none: %s", number, error)
            after = seq
        self._listed[number] = ledger, after

    def _register_evidence(self, evidence: o.Evidence) -> None:
        """Keep evidence that a partition found, and list the key that it accuses. Raises EvidenceInvalid."""
        facts = verify_evidence(evidence, self.trust)
        digest = object_id(evidence)
        with self.storage.transaction():
            if self.storage.one("SELECT 1 FROM evidence WHERE digest = ?", digest) is not None:
                return
            # Its claims are in the partition, and have no number here.
            self.storage.execute(
                "INSERT INTO evidence (digest, seq, bytes, claim, time) VALUES (?,?,?,0,?)",
                digest, self._fact(), evidence.encode(), self._clock(),
            )  # fmt: skip
            self._accuse(facts.payer, digest, self._fact)

    def partition_facts(self, number: int) -> Facts:
        """What a partition's log is written from, wherever the partition is just then."""
        return _PartitionFacts(self, number)

    # ---- questions ----------------------------------------------------------------------------------

    def titles(self, owner: bytes) -> tuple[o.Title, ...]:
        """As Inquiry; those of one partition are together."""
        return tuple(
            title for found in self._gather(lambda ledger: ledger.titles(owner)) for title in found
        )

    def titles_known(self, title_ids: Sequence[bytes]) -> list[o.Title]:
        """As Inquiry."""
        found = self._gather(lambda ledger: ledger.titles_known(title_ids))
        return [title for titles in found for title in titles]

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """As Inquiry: of the intervals that were registered, in the claim's order."""
        answers = self._gather(lambda ledger: ledger.registered(claim_id))
        pairs = [pair for pair in answers if pair is not None]
        if not pairs:
            raise unknown("claim")
        claim, whole = pairs[0]
        found = [answer for _, answer in pairs]
        order = {item.title_id.hex(): at for at, item in enumerate(claim.inputs)}
        outcomes = [outcome for answer in found for outcome in answer["outcomes"]]
        loss = sum(sum(answer["loss"].values()) for answer in found)
        fund = min(loss, self.parameters.guarantee)
        return whole | {
            "registered": min(answer["registered"] for answer in found),
            "outcomes": sorted(outcomes, key=lambda outcome: order[outcome["title_id"]]),
            "loss": {"guarantee_fund_fen": fund, "payee_fen": loss - fund},
            "evidence": [digest for answer in found for digest in answer["evidence"]],
        }

    def evidence(self, digest: bytes) -> o.Evidence:
        """As Inquiry."""
        try:
            return super().evidence(digest)
        except CenterRefused:
            self.list_accused()
            return super().evidence(digest)

    def coin(self, serial: bytes) -> dict[str, Any]:
        """As Inquiry."""
        where = partition_of(serial, self.partitions)
        return self._read(where, lambda ledger: ledger.coin(serial))

    def title(self, title_id: bytes) -> o.Title:
        """As Inquiry."""
        found = self.titles_known([title_id])
        if not found:
            raise unknown("title")
        return found[0]

    def titles_ever(self, owner: bytes, before: Moment, count: int) -> list[Held]:
        """As Inquiry."""
        found = self._gather(lambda ledger: ledger.titles_ever(owner, before, count))
        titles = (held for each in found for held in each)
        return sorted(titles, key=lambda held: held.moment, reverse=True)[:count]

    def repeats(self, before: Moment, count: int) -> list[Repeat]:
        """As Inquiry. What several partitions have of a claim is one, with the newest of its moments."""
        found: dict[bytes, Repeat] = {}
        for each in self._gather(lambda ledger: ledger.repeats(before, count)):
            for repeat in each:
                other = found.get(repeat.moment[1], Repeat((0, b""), repeat.payer, 0, 0))
                loss = repeat.fund + repeat.loss + other.fund + other.loss
                fund = min(loss, self.parameters.guarantee)
                moment = max(repeat.moment, other.moment)
                found[repeat.moment[1]] = Repeat(moment, repeat.payer, fund, loss - fund)
        return sorted(found.values(), key=lambda repeat: repeat.moment, reverse=True)[:count]

    def unmoved(self, serial: bytes, count: int) -> list[tuple[bytes, int]]:
        """As Inquiry."""
        return self._ledgers(partition_of(serial, self.partitions)).unmoved(serial, count)

    def accounts(self) -> dict[str, Any]:
        """As Inquiry: the sums. Money does not move between partitions, so they agree though each partition
        is read at a moment of its own."""
        found = self._gather(lambda ledger: ledger.accounts())
        owners: dict[str, int] = {}
        for accounts in found:
            for owner, fen in accounts["owners"].items():
                owners[owner] = owners.get(owner, 0) + fen
        sums = {
            name: sum(accounts[name] for accounts in found)
            for name in ("issued_fen", "live_fen", "redeemed_fen")
        }
        return sums | {"owners": dict(sorted(owners.items()))}

    def check(self) -> None:
        """As Inquiry, of every partition; also that each coin is in its own. Raises LedgerError."""
        self._gather(lambda ledger: ledger.check())

    def ledger(self, number: int) -> Inquiry:
        """The ledger of a partition, to be read."""
        return self._ledgers(number)

    # ---- how ----------------------------------------------------------------------------------------

    def _read(self, number: int, question: Callable[[Inquiry], _Answer]) -> _Answer:
        """What a partition answers; asked again where it has just moved. Raises DatabaseError."""
        for _ in range(_TRIES - 1):
            try:
                return question(self._ledgers(number))
            except DatabaseError:
                time.sleep(_REST_S)
        return question(self._ledgers(number))

    def _gather(self, question: Callable[[Inquiry], _Answer]) -> list[_Answer]:
        """What every partition answers, in their order."""
        return list(
            self._pool.map(lambda number: self._read(number, question), range(self.partitions))
        )

    def _found(
        self, title_ids: Iterable[bytes], carried: Sequence[o.Title]
    ) -> dict[bytes, o.Title]:
        """Titles by id: as they came with the request, else looked for everywhere.

        A title that was made up leads to a partition that does not know it, and to nothing else.
        """
        wanted = set(title_ids)
        found = {object_id(title): title for title in carried}
        missing = sorted(wanted - found.keys())
        if missing:
            found |= {object_id(title): title for title in self.titles_known(missing)}
        return {title_id: title for title_id, title in found.items() if title_id in wanted}

    def _shares(self, claims: Sequence[o.Claim], carried: Sequence[o.Title]) -> list[_Share]:
        found = self._found((item.title_id for claim in claims for item in claim.inputs), carried)
        shares = [_Share(claim, _spent(claim, found)) for claim in claims]
        for share in shares:
            # Partitions judge a claim alike only if each can trust what it sees of the others' titles.
            if len(share.partitions(self.partitions)) > 1 and not all(
                map(self.trust.signed_by_center, share.titles.values())
            ):
                share.titles = _spent(share.claim, self._found(share.titles, ()))
        return shares

    def _ask(self, orders: Sequence[tuple[int, Order]]) -> list[Reply]:
        """The partitions' replies. Raises CenterRefused with the first refusal."""
        replies = self._queue.ask(orders)
        for (number, _), reply in zip(orders, replies, strict=True):
            if reply.accused:
                try:
                    self._list_accused(number)
                except ChipcashError as error:  # list_accused() does it later; the money has moved
                    _log.warning("Evidence in partition %d is not listed yet: %s", number, error)
        for reply in replies:
            if reply.refused is not None:
                raise reply.refused
        return replies

    def _signed_reply(self, kind: type[_Signed], reply: Reply) -> _Signed:
        """The object in a reply. A worker's place in the queue is no proof: the center's signature is."""
        try:
            found = kind.decode(reply.body)
        except WireError as error:
            raise _forged(str(error)) from None
        if not self.trust.signed_by_center(found):
            raise _forged("it is not signed by the center")
        return found

    def _receipt_for(self, digest: bytes, reply: Reply) -> o.Receipt:
        receipt = self._signed_reply(o.Receipt, reply)
        if receipt.digest != digest:
            raise _forged("it is for another request")
        return receipt


def _spent(claim: o.Claim, titles: dict[bytes, o.Title]) -> dict[bytes, o.Title]:
    """The titles that a claim spends, in its order, as far as they are there."""
    return {
        item.title_id: titles[item.title_id] for item in claim.inputs if item.title_id in titles
    }


def _deposit(deposit: o.Deposit, shares: Sequence[_Share]) -> Order:
    """The order to settle a deposit. Titles of its own coins a partition knows better than the order does."""
    titles = {title_id: title for share in shares for title_id, title in share.titles.items()}
    return Order("deposit", join((deposit, *titles.values())))


def _result(claim: o.Claim, judged: Sequence[o.Result]) -> o.Result:
    """The result of a claim from what its partitions say, each of its own titles; invalid where none does."""
    outcomes = {outcome.title_id: outcome for result in judged for outcome in result.outcomes}
    return o.Result(
        claim_id=object_id(claim),
        outcomes=tuple(
            outcomes.get(item.title_id)
            or o.Outcome(title_id=item.title_id, lo=item.lo, hi=item.hi, state=o.INVALID)
            for item in claim.inputs
        ),
    )


def _forged(why: str) -> CenterReplyInvalid:
    return CenterReplyInvalid(
        f"A reply that came through the queue cannot be trusted: {why}. It was not used.",
        hint="Repeat the same request, and find out who can write to the queue.",
    )

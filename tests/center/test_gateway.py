# SPDX-License-Identifier: Apache-2.0
"""A center of several ledgers is to its clients what one of one ledger is, also where the queue repeats."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from chipcash.center.facts import LedgerFacts
from chipcash.log.audit import Replay, Totals
from chipcash.log.errors import AuditFailed
from chipcash.log.scope import HOME, WHOLE, Scope, partition_of, scope_of
from chipcash_wire import objects as o
from tests.center.partitioned import PARTITIONS, Partitioned
from tests.center.test_conservation import Books
from tests.center.world import World, states


def replayed(center: Partitioned) -> list[Totals]:
    """What auditors find in the logs: of each partition, and last of the home ledger."""
    found = []
    scopes = [Scope(cards=False, number=at, of=PARTITIONS) for at in range(PARTITIONS)]
    for ledger, scope in zip([*center.parts, center], [*scopes, HOME], strict=True):
        with Replay(center.trust, scope) as replay:
            for _, entry in LedgerFacts(ledger.storage, center.trust.header).facts(0):
                replay.add(entry)
            found.append(replay.finish())
    return found


class PartitionedBooks(Books):
    """The model of test_conservation, over partitions."""

    make_world = staticmethod(lambda: World(center=Partitioned))  # type: ignore[assignment]

    def ledger_of(self, serial: bytes) -> int:
        return partition_of(serial, PARTITIONS)

    def teardown(self) -> None:
        center = self.world.center
        assert isinstance(center, Partitioned)
        *parts, home = replayed(center)
        accounts = center.accounts()
        assert sum(totals.live_fen for totals in parts) == accounts["live_fen"]
        assert sum(totals.redeemed_fen for totals in parts) == accounts["redeemed_fen"]
        assert sum(totals.evidence for totals in parts) == home.evidence == len(self.evidence)
        super().teardown()


TestPartitionedBooks = PartitionedBooks.TestCase
TestPartitionedBooks.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def two_partitions(world: World, owner: str) -> tuple[o.Title, o.Title]:
    """Titles of coins in different partitions."""
    titles: dict[int, o.Title] = {}
    while len(titles) < 2:
        title = world.issue(100, owner)
        titles.setdefault(partition_of(title.serial, PARTITIONS), title)
    one, other = titles.values()
    return one, other


def test_logs_say_by_their_names_what_they_are_to_hold() -> None:
    assert scope_of("chipcash/54455354/0123456789abcdef") == WHOLE
    for scope in (WHOLE, HOME, Scope(cards=False, number=7, of=16)):
        assert scope_of(f"chipcash/54455354/0123456789abcdef{scope.suffix}") == scope


def test_doubled_partitions_split_each_in_two() -> None:
    serials = [bytes([at]) * 16 for at in range(256)]
    for serial in serials:
        assert partition_of(serial, 1) == 0
        for partitions in (1, 2, 16, 512):
            assert partition_of(serial, 2 * partitions) // 2 == partition_of(serial, partitions)
    assert {partition_of(serial, 16) for serial in serials} == set(range(16))


def test_a_coin_that_is_in_two_partitions_is_found() -> None:
    """A center that registers a serial twice has made money; each log alone shows one of them."""
    world = World(center=Partitioned)
    center = world.center
    assert isinstance(center, Partitioned)
    title = world.issue(100, "alice")
    other = center.parts[(partition_of(title.serial, PARTITIONS) + 1) % PARTITIONS]
    other.of, other.number = 1, 0  # it holds itself for the only one
    other.register_coin(world.coin(100, "mallory", title.serial))
    with pytest.raises(AuditFailed, match="belongs in another log"):
        replayed(center)
    center.close()


def test_a_claim_over_partitions_whose_parts_end_differently() -> None:
    world = World(center=Partitioned)
    center = world.center
    one, other = two_partitions(world, "mallory")
    world.settle(world.claim("mallory", "shop", [(one, 0, 10)]))
    receipt = world.settle(world.claim("mallory", "kiosk", [(one, 5, 15), (other, 5, 15)]))
    assert states(receipt) == [["disputed", "settled"]]
    assert [title.serial for title in receipt.titles] == [other.serial]
    told = center.claim(receipt.results[0].claim_id)
    assert [outcome["state"] for outcome in told["outcomes"]] == ["disputed", "settled"]
    assert told["loss"] == {"guarantee_fund_fen": 10, "payee_fen": 0}
    assert len(center.blacklist()[0]) == 1
    center.close()


def test_titles_with_a_broken_signature_are_looked_up_instead() -> None:
    """Else partitions would judge one claim differently: each knows its own titles, and trusts no others."""
    world = World(center=Partitioned)
    one, other = two_partitions(world, "alice")
    claim = world.claim("alice", "shop", [(one, 0, 10), (other, 0, 10)])
    carried = [one.signed(bytes(63) + b"\x01"), other]
    receipt = world.center.settle(world.deposit(claim), carried)
    assert states(receipt) == [["settled", "settled"]]
    world.center.close()


def test_evidence_that_a_crash_kept_from_the_blacklist_is_listed_later() -> None:
    world = World(center=Partitioned)
    center = world.center
    assert isinstance(center, Partitioned)
    title = world.issue(100, "mallory")
    world.settle(world.claim("mallory", "shop", [(title, 0, 10)]))
    part = center.parts[partition_of(title.serial, PARTITIONS)]
    # The worker settled it; the gateway that ordered it never heard of that.
    part.settle(world.deposit(world.claim("mallory", "kiosk", [(title, 5, 15)])))
    assert center.blacklist()[0] == ()
    for _ in range(2):
        center.list_accused()
    (entry,) = center.blacklist()[0]
    assert entry.subject == world.public("mallory")
    assert entry.digest is not None
    assert center.evidence(entry.digest).title == title
    center.close()

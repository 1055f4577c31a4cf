# SPDX-License-Identifier: Apache-2.0
"""The replay: honest histories pass and end as the ledger does; a center that lies in its log is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant

from chipcash.log.audit import Replay, Totals
from chipcash.log.errors import AuditFailed
from chipcash.log.facts import fact_of
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from tests.builders import changed, make_entry
from tests.center.test_conservation import EVERYBODY, Books
from tests.center.world import DAY, World
from tests.log.recording import Recorder


def replayed(entries: Iterable[o.LogEntry], trust: Trust) -> tuple[Totals, Any]:
    """Totals, and each coin's slices by serial."""
    with Replay(trust) as replay:
        for entry in entries:
            replay.add(entry.encode())
        totals = replay.finish()
        coins = {
            coin.serial: [(x.lo, x.hi, x.title_id, x.owner) for x in coin.slices]
            for coin in replay.coins()
        }
        return totals, coins


def ledgers(world: World) -> dict[bytes, list[tuple[int, int, bytes | None, bytes | None]]]:
    """What the ledger says, as the replay says it: redeemed slices that touch are one."""
    found = {}
    for (serial,) in world.center.storage.all("SELECT serial FROM coins"):
        slices: list[tuple[int, int, bytes | None, bytes | None]] = []
        for part in world.center.coin(serial)["partition"]:
            ids = [
                None if part[x] is None else bytes.fromhex(part[x]) for x in ("title_id", "owner")
            ]
            if slices and slices[-1][2:] == (None, None) == tuple(ids):
                slices[-1] = (slices[-1][0], part["hi"], None, None)
            else:
                slices.append((part["lo"], part["hi"], ids[0], ids[1]))
        found[serial] = slices
    return found


class Audited(Books):
    """The random life of the conservation test, with a log of it that is replayed at the end."""

    # tests/center looks at these after each step, and slowly.
    money_is_conserved = titles_are_what_is_live = None

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder(self.world)

    @invariant()
    def log(self) -> None:
        self.recorder.look()

    def teardown(self) -> None:
        world = self.world
        totals, coins = replayed(self.recorder.entries, world.trust)
        accounts = world.center.accounts()
        for name in ("issued_fen", "live_fen", "redeemed_fen"):
            assert getattr(totals, name) == accounts[name]
        assert coins == ledgers(world)
        moves = [at for at, entry in enumerate(self.recorder.entries) if entry.moves]
        for at in {moves[0], moves[-1]} if moves else ():
            for times in (0, 2):
                wrong = [*self.recorder.entries]
                wrong[at : at + 1] = [wrong[at]] * times
                with pytest.raises(AuditFailed):
                    replayed(wrong, world.trust)
        super().teardown()


TestAudited = Audited.TestCase
TestAudited.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# ---- one history with everything in it --------------------------------------------------------------


class History:
    """A world, what happened in it by name, and its log."""

    def __init__(self, suite: str) -> None:
        world = self.world = World(suite=suite)
        self.recorder = Recorder(world)
        self.at: dict[str, int] = {}
        center = world.center
        self.step("card", lambda: center.register_card(world.certificate("alice")))
        alices = self.step("coin", lambda: world.issue(1000, "alice"))
        other = self.step("coin 2", lambda: world.issue(1000, "alice"))
        cheats = self.step("cheat's coin", lambda: world.issue(100, "mallory"))
        paid = world.claim("alice", "shop", [(alices, 0, 300)])
        touching = world.claim("alice", "shop", [(alices, 300, 400)])
        (shops,) = self.step("paid", lambda: world.settle(paid, touching)).titles
        apart = world.claim("alice", "shop", [(alices, 750, 800), (other, 750, 799)])
        further = world.claim("alice", "shop", [(alices, 850, 861)])
        (fresh,) = self.step("recoined", lambda: world.settle(apart, further)).titles
        self.step(
            "cheat 1", lambda: world.settle(world.claim("mallory", "shop", [(cheats, 0, 60)]))
        )
        again = world.claim("mallory", "bob", [(cheats, 50, 100)])
        self.step("cheat 2", lambda: world.settle(again))
        voided = world.claim("alice", "bob", [(alices, 400, 500)])
        self.step("void", lambda: center.register_void(world.void("bob", voided)))
        self.step("voided", lambda: world.settle(voided))
        self.step("voided back", lambda: center.reclaim(world.reclaim(voided)))
        late = world.claim("alice", "bob", [(alices, 500, 600)])
        lost = world.claim("alice", "bob", [(alices, 600, 700)])
        given_up = world.claim("alice", "bob", [(alices, 700, 750)])
        void = world.void("bob", given_up)
        self.step("given up", lambda: center.reclaim(world.reclaim(given_up, void)))
        world.now += 3 * DAY
        self.step("late", lambda: world.settle(late))
        self.step("late back", lambda: center.reclaim(world.reclaim(late)))
        self.step("lost", lambda: center.reclaim(world.reclaim(lost)))
        back = world.claim("shop", "issuer", [(shops, 100, 400), (fresh, 40, 70)])
        self.step("redeemed", lambda: world.settle(back))
        self.step("blocked", lambda: center.block(world.public("bob")))
        world.now += 500 * DAY
        self.step("renewed", lambda: center.reclaim(world.reclaim(title_id=object_id(other))))
        self.entries = tuple(self.recorder.entries)

    def step(self, name: str, act: Callable[[], Any]) -> Any:
        self.at[name] = len(self.recorder.entries)
        result = act()
        self.recorder.look()
        return result

    def find(self, name: str, kind: type[o.Object], number: int = 0) -> int:
        """Where the entry of a fact of that kind is, the number-th of a step."""
        found = [
            at
            for at in range(self.at[name], len(self.entries))
            if isinstance(fact_of(self.entries[at]), kind)
        ]
        return found[number]

    def signed(self, obj: Any, by: str) -> Any:
        return obj.signed(self.world.key(by).sign(obj.message()))

    def put(self, at: int, fact: Any, time: int | None = None) -> list[o.LogEntry]:
        """The log with another fact in the place of one."""
        old = self.entries[at]
        result = old.results[0] if old.results and isinstance(fact, o.Claim) else None
        new = make_entry(old.header, old.time if time is None else time, fact, result)
        return [*self.entries[:at], new, *self.entries[at + 1 :]]

    def change(self, at: int, by: str | None = None, **changes: Any) -> list[o.LogEntry]:
        """The log with fields of one fact changed, and signed anew if that is wanted."""
        fact = changed(fact_of(self.entries[at]), **changes)
        return self.put(at, fact if by is None else self.signed(fact, by))

    def result(self, at: int, **changes: Any) -> list[o.LogEntry]:
        """The log with fields of the first outcome of a claim changed."""
        entry = self.entries[at]
        (result,) = entry.results
        outcomes = (changed(result.outcomes[0], **changes), *result.outcomes[1:])
        new = changed(entry, results=(changed(result, outcomes=outcomes),))
        return [*self.entries[:at], new, *self.entries[at + 1 :]]


@cache
def history(suite: str) -> History:
    return History(suite)


@pytest.fixture(params=["p256", "gm"])
def told(request: pytest.FixtureRequest) -> History:
    return history(request.param)


def fails(entries: Iterable[o.LogEntry], why: str, at: int | None = None) -> AuditFailed:
    with pytest.raises(AuditFailed, match=why) as caught:
        replayed(entries, WORLD.trust)
    if at is not None:
        assert caught.value.entry == at, caught.value.message
    assert f"Entry {caught.value.entry} of the log: " in caught.value.message
    return caught.value


H = history("p256")
WORLD = H.world


def test_everything_that_can_happen_is_in_it_and_passes(told: History) -> None:
    totals, coins = replayed(told.entries, told.world.trust)
    assert coins == ledgers(told.world)
    kinds = {type(fact_of(entry)) for entry in told.entries}
    assert len(kinds) == 8
    moves = [fact for fact in map(fact_of, told.entries) if isinstance(fact, o.Move)]
    assert {(x.state, x.claim_id is None, x.new_title_id is None) for x in moves} == {
        (o.SETTLED, False, False), (o.SETTLED, False, True),
        (o.RECLAIMED, False, False), (o.RECLAIMED, True, False),
    }  # fmt: skip
    outcomes = {x.state for e in told.entries for r in e.results for x in r.outcomes}
    assert outcomes == set(range(1, o.INVALID))
    assert (totals.entries, totals.coins, totals.issued_fen) == (len(told.entries), 4, 2100)
    assert (totals.redeemed_fen, totals.recoined_fen) == (330, 110)
    assert (totals.blacklisted, totals.evidence) == (2, 1)


def test_another_networks_log(told: History) -> None:
    other = history("gm" if told.world.suite == "p256" else "p256").world.trust
    with pytest.raises(AuditFailed, match="another network, version or suite"):
        replayed(told.entries, other)


def test_what_is_no_entry() -> None:
    with Replay(WORLD.trust) as replay, pytest.raises(AuditFailed, match="no log entry"):
        replay.add(b"\xf5\x00")


HARMLESS = {"card": o.Certificate, "blocked": o.BlacklistEntry}
"""Facts that nothing else in this history needs: only a consistency proof shows that they are left out."""


@pytest.mark.parametrize("at", range(len(H.entries)))
def test_an_entry_left_out(at: int) -> None:
    left = [*H.entries[:at], *H.entries[at + 1 :]]
    if any(at == H.find(name, kind) for name, kind in HARMLESS.items()):
        replayed(left, WORLD.trust)
    else:
        fails(left, ".")


@pytest.mark.parametrize("at", range(len(H.entries)))
def test_an_entry_twice(at: int) -> None:
    fails([*H.entries[: at + 1], *H.entries[at:]], ".", at + 1)
    fails([*H.entries, H.entries[at]], ".", len(H.entries))


def test_entries_in_another_order() -> None:
    """Where two neighbours may change places the end is the same: they did not depend on each other."""
    right = replayed(H.entries, WORLD.trust)
    refused = 0
    for at in range(len(H.entries) - 1):
        swapped = [*H.entries[:at], H.entries[at + 1], H.entries[at], *H.entries[at + 2 :]]
        try:
            assert replayed(swapped, WORLD.trust) == right
        except AuditFailed as failed:
            assert failed.entry >= at
            refused += 1
    assert refused > len(H.entries) / 3
    fails(reversed(H.entries), ".")


@pytest.mark.parametrize("at", range(1, len(H.entries)))
def test_a_log_that_ends_in_the_middle(at: int) -> None:
    """It may end where a transaction does, and nowhere else."""
    if at in H.at.values():
        replayed(H.entries[:at], WORLD.trust)
        return
    starts = [start for start in H.at.values() if start < at]
    try:
        replayed(H.entries[:at], WORLD.trust)
    except AuditFailed as failed:
        assert max(starts) <= failed.entry < at
    else:  # a void in front of its claim, evidence of which the key was listed before: whole facts
        assert isinstance(fact_of(H.entries[at - 1]), o.Void | o.Move)


@pytest.mark.parametrize("at", range(len(H.entries)))
def test_no_other_signature_will_do(at: int) -> None:
    """Each signed fact, signed by somebody else, and with the signature of another fact."""
    fact: Any = fact_of(H.entries[at])
    if not hasattr(fact, "signature"):
        assert isinstance(fact, o.Move | o.Evidence)
        return
    by_other = fact.signed(WORLD.key("stranger").sign(fact.message()))
    fails(H.put(at, by_other), "not signed", at)
    fails(H.put(at, fact.signed(bytes(63) + b"\1")), "not signed", at)


def cases() -> Iterator[tuple[str, list[o.LogEntry], str]]:
    """What a center with all its keys could write: name, log, what the audit says."""
    world = WORLD
    coin, title = H.find("coin", o.Coin), H.find("coin", o.Title)
    yield "more money in a coin", H.change(coin, amount=2000), "not signed by the issuing library"
    yield "a title for more", H.change(title, "center", amount=1001, hi=1001), "says 1001 fen"
    yield "a part of the first title", H.change(title, "center", hi=999), "not for all of it"
    to_bob = world.public("bob")
    yield "a first title for another", H.change(title, "center", owner=to_bob), "not for its owner"
    yield "an epoch left out", H.change(title, "center", epoch=2), "1 is next"

    paid = H.find("paid", o.Claim)
    move = H.find("paid", o.Move)
    new = H.find("paid", o.Title)
    owner = H.change(new, "center", owner=to_bob)
    yield "the payee's money for another", owner, "not in the log"  # another owner: another id
    bobs = changed(fact_of(H.entries[new]), owner=to_bob)
    bobs = H.signed(bobs, "center")
    stolen = H.put(new, bobs)
    moves = [i for i, e in enumerate(H.entries) if e.moves and e.moves[0].new_title_id
             == object_id(fact_of(H.entries[new]))]  # fmt: skip
    for i in moves:
        moved = changed(H.entries[i].moves[0], new_title_id=object_id(bobs))
        stolen[i] = make_entry(H.entries[i].header, H.entries[i].time, moved)
    yield "the payee's money for another, consistently", stolen, "somebody else"
    wide = H.signed(changed(fact_of(H.entries[new]), hi=401), "center")
    larger = H.put(new, wide)
    for i in moves:
        moved = changed(H.entries[i].moves[0], new_title_id=object_id(wide))
        larger[i] = make_entry(H.entries[i].header, H.entries[i].time, moved)
    larger = larger[: H.at["cheat 1"]]
    yield "a new title for a fen more than moved", larger, "only those up to 400"
    forked = [*H.entries[: new + 1], H.put(new, wide)[new], *H.entries[new + 1 :]]
    yield "two titles of one epoch", forked, "made twice"
    yield "a fen more in a move", H.change(move, hi=301), "not what the claim's result says"
    yield "a fen less in a move", H.change(move, hi=299), "not what the claim's result says"
    yield "a move without its claim", H.change(move, claim_id=bytes(32)), "no claim in the log"
    reclaimed = H.change(move, state=o.RECLAIMED)
    yield "a payment called reclaimed", reclaimed, "not what the claim's result says"
    by_title = H.change(move, state=o.RECLAIMED, claim_id=None)
    yield "a payment called an expiry", by_title, "had not expired"
    late = H.put(move, fact_of(by_title[move]), world.now)
    yield "money taken in between", late, "a claim had just settled"
    gone = H.change(move, new_title_id=None)
    yield "a payment that is destroyed", gone, "not the issuing library"
    first = H.find("recoined", o.Move)
    elsewhere = H.change(first, title_id=object_id(fact_of(H.entries[H.find("coin 2", o.Title)])))
    yield "a move out of another title", elsewhere, "not what the claim's result says"

    yield from recoining_cases()

    entry = H.entries[paid]
    other = changed(entry.results[0], claim_id=bytes(32))
    swapped = [*H.entries[:paid], changed(entry, results=(other,)), *H.entries[paid + 1 :]]
    yield "a result of another claim", swapped, "another claim's"
    yield "a result of other fen", H.result(paid, hi=299), "other intervals"
    yield "honest money called disputed", H.result(paid, state=o.DISPUTED), "were free"
    half = H.result(H.find("recoined", o.Claim), state=o.EXPIRED)
    yield "honest money called expired", half, "cannot end"
    yield "honest money called invalid", H.result(paid, state=o.INVALID), "cannot end"
    yield "an earlier claim where there is none", H.result(paid, claim_id=bytes(32)), "disputed"
    one = H.find("cheat 1", o.Claim)
    yield "expired too early", H.result(one, state=o.EXPIRED), "before its deadline"
    yield "voided without a void", H.result(one, state=o.VOIDED), "signed no void"
    yield "taken back too early", H.result(one, state=o.RECLAIMED), "before its deadline"
    two = H.find("cheat 2", o.Claim)
    settled = H.result(two, state=o.SETTLED, claim_id=None)
    yield "the second payment settles too", settled, "money paid twice"
    yield "disputed by another claim", H.result(two, claim_id=bytes(32)), "did not move"
    voided = H.find("voided", o.Claim)
    yield "settled in spite of a void", H.result(voided, state=o.SETTLED), "has voided it"

    listing = H.find("cheat 2", o.BlacklistEntry)
    for name, changes in (
        ("a key without its evidence", {"digest": bytes(32)}),
        ("a key without a digest", {"digest": None}),
        ("another key", {"subject": world.public("alice")}),
    ):
        yield f"blacklist: {name}", H.change(listing, "center", **changes), "no evidence in the log"
    yield "blacklist: a hole", H.change(listing, "center", sequence=2), "1 is next"
    yield "blacklist: no reason", H.change(listing, "center", reason=9), "no reason"
    lost = H.change(H.find("blocked", o.BlacklistEntry), "center", digest=bytes(32))
    yield "blacklist: lost, with evidence", lost, "no reason"
    evidence = H.find("cheat 2", o.Evidence)
    found: Any = fact_of(H.entries[evidence])
    turned = changed(found, claims=found.claims[::-1])
    yield "evidence: the later claim first", H.put(evidence, turned), "the later one last"
    made_up = world.claim("mallory", "shop", [(found.title, 55, 70)])
    invented = changed(found, claims=(made_up, found.claims[1]))
    yield (
        "evidence: a claim not in the log",
        H.put(evidence, invented),
        "claims that are in the log",
    )
    harmless = changed(found, claims=(found.claims[0],) * 2)
    yield "evidence: the same claim", H.put(evidence, harmless), "proves nothing"

    card = H.find("card", o.Certificate)
    yield (
        "an expired card",
        H.put(card, fact_of(H.entries[card]), world.now + 9999 * DAY),
        "expired",
    )
    merchant = changed(
        fact_of(H.entries[card]), role=o.ROLE_MERCHANT, tier=None, form=None, per_payment=None
    )
    yield "no card", H.put(card, H.signed(merchant, "certification")), "not a card's"
    bobs_card = make_entry(world.header, world.now, world.certificate("bob"))
    yield "a card that is blocked", [*H.entries, bobs_card], "on the blacklist"

    more = world.coin(5, "alice", H.entries[coin].coins[0].serial)
    yield "a serial twice", [*H.entries, make_entry(world.header, world.now, more)], "second time"
    untitled = make_entry(world.header, world.now, world.coin(5, "alice"))
    yield "a coin without a title", [*H.entries, untitled], "got no title"
    theft = world.claim("bob", "bob", [(H.entries[title].titles[0], 900, 1000)])
    ordered = make_entry(
        world.header, world.now, theft,
        o.Result(claim_id=object_id(theft), outcomes=(o.Outcome(
            title_id=theft.inputs[0].title_id, lo=900, hi=1000, state=o.SETTLED),)),
    )  # fmt: skip
    yield "somebody else's claim", [*H.entries, ordered], "nobody ordered this payment"


def recoining_cases() -> Iterator[tuple[str, list[o.LogEntry], str]]:
    """The same where coins become one fresh coin, which no issuing library has signed."""
    world = WORLD
    at, title_at = H.find("recoined", o.Coin), H.find("recoined", o.Title)
    coin, title = H.entries[at].coins[0], H.entries[title_at].titles[0]

    def instead(moves: Iterable[int], **changes: Any) -> list[o.LogEntry]:
        """The log with these moves into another fresh coin, which begins where the true one does."""
        made = H.signed(changed(coin, **changes), "center")
        amount, owner = made.amount, made.owner
        under = H.signed(changed(title, amount=amount, hi=amount, owner=owner), "center")
        log = [*H.entries]
        log[at : title_at + 1] = [make_entry(world.header, entry.time, fact)
                                  for entry, fact in ((log[at], made), (log[title_at], under))]  # fmt: skip
        for i in moves:
            move = changed(log[i].moves[0], new_title_id=object_id(under))
            log[i] = make_entry(world.header, log[i].time, move)
        return log

    moves = [i for i, e in enumerate(H.entries) if e.moves and e.moves[0].new_title_id
             == object_id(title)]  # fmt: skip
    assert len(moves) == 3
    by_nobody = H.change(at, "stranger")
    yield "a fresh coin that nobody answers for", by_nobody, "not signed by the issuing library"
    yield (
        "a fresh coin with a fen more",
        instead(moves, amount=111)[: moves[-1] + 1],
        "up to 110 were",
    )
    yield "a fresh coin with a fen less", instead(moves, amount=109), "fen 99 to 110 go under"
    bob = world.public("bob")
    yield "a fresh coin for somebody else", instead(moves, owner=bob), "somebody else"
    yield "a fresh coin of nothing", instead([])[: moves[0]], "only those up to 0 were"
    less = [*H.entries[: moves[1]], *H.entries[moves[1] + 1 :]]
    yield "a coin that does not go into it", less, "complete|other than the one|did not move|next"
    used = make_entry(world.header, world.now, H.signed(changed(coin, amount=5), "center"))
    yield "a fresh coin's serial again", [*H.entries, used], "second time"
    # The payer's money, on its way back, under the same promise.
    back, renewed = H.find("late back", o.Move), H.find("late back", o.Title)
    made = H.signed(
        changed(coin, serial=bytes(16), amount=100, owner=world.public("alice")), "center"
    )
    under = H.signed(
        changed(title, serial=bytes(16), amount=100, hi=100, owner=made.owner), "center"
    )
    to = changed(H.entries[back].moves[0], new_title_id=object_id(under))
    facts = [make_entry(world.header, H.entries[back].time, fact) for fact in (made, under, to)]
    log = [*H.entries[:renewed], *facts, *H.entries[back + 1 :]]
    yield "money that goes back as another coin", log, "goes back to its payer becomes"


CASES = list(cases())


@pytest.mark.parametrize(("entries", "why"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_center_that_lies(entries: list[o.LogEntry], why: str) -> None:
    failed = fails(entries, why)
    assert re.fullmatch(r"Entry \d+ of the log: .*\.", failed.message)
    assert failed.hint


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(H.entries) - 1), st.data())
def test_any_change_of_a_byte(number: int, draw: st.DataObject) -> None:
    """Nothing but the audit's own failure comes of it; what may differ is what nobody signs: a time."""
    data = [entry.encode() for entry in H.entries]
    old = data[number]
    at = draw.draw(st.integers(0, len(old) - 1))
    data[number] = old[:at] + bytes((old[at] ^ draw.draw(st.integers(1, 255)),)) + old[at + 1 :]
    with Replay(WORLD.trust) as replay:
        try:
            for entry in data:
                replay.add(entry)
            replay.finish()
        except AuditFailed as failed:
            assert failed.entry <= len(data)
            return
    spoilt = o.LogEntry.decode(data[number])
    assert spoilt.time != H.entries[number].time
    assert fact_of(spoilt) == fact_of(H.entries[number])


def test_nobodys_name_is_used(told: History) -> None:
    """The book of the tests above is about these: whoever is added there is looked at here too."""
    assert {"alice", "bob", "shop", "mallory"} == set(EVERYBODY)

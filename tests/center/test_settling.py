# SPDX-License-Identifier: Apache-2.0
"""Settling, reclaiming, refunding, redeeming: the rules of protocols/spec/center.md one by one."""

from __future__ import annotations

import pytest

from chipcash.center.batch import MAX_INTERVALS
from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.registration import Center
from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.center.partitioned import PARTITIONS, Partitioned
from tests.center.world import DAY, World, dump, key, states, trust


@pytest.fixture(params=["p256", "gm"])
def world(request: pytest.FixtureRequest) -> World:
    return World(suite=request.param)


def test_a_coin_lives_from_issue_to_redemption(world: World) -> None:
    title = world.issue(100, "bank")
    assert (title.lo, title.hi, title.amount, title.owner) == (0, 100, 100, world.public("bank"))
    (to_alice,) = world.settle(world.claim("bank", "alice", [(title, 0, 60)])).titles
    assert (to_alice.lo, to_alice.hi, to_alice.owner) == (0, 60, world.public("alice"))
    (to_shop,) = world.settle(world.claim("alice", "shop", [(to_alice, 0, 25)])).titles
    receipt = world.settle(world.claim("shop", "issuer", [(to_shop, 5, 25)]))
    assert states(receipt) == [["settled"]]
    assert receipt.titles == ()
    assert world.center.accounts() == {
        "issued_fen": 100,
        "live_fen": 80,
        "redeemed_fen": 20,
        "owners": {
            world.public(name).hex(): fen
            for name, fen in sorted(
                {"bank": 40, "alice": 35, "shop": 5}.items(), key=lambda item: world.public(item[0])
            )
        },
    }
    life = world.center.coin(title.serial)
    assert [event["event"] for event in life["history"]] == [
        "issued",
        "settled",
        "settled",
        "redeemed",
    ]
    assert [(p["lo"], p["hi"], p["state"]) for p in life["partition"]] == [
        (0, 5, "live"), (5, 25, "redeemed"), (25, 60, "live"), (60, 100, "live"),
    ]  # fmt: skip
    world.center.check()
    # Redeemed is redeemed: nothing can be claimed from it again, and the payer stands accused.
    again = world.settle(world.claim("shop", "alice", [(to_shop, 5, 6)]))
    assert states(again) == [["disputed"]]


@pytest.mark.parametrize(
    ("order", "became"),
    [
        ("settle a, late, settle b", ["settled", "expired"]),
        ("late, settle a, settle b", ["expired", "expired"]),
        ("late, settle a, reclaim b", ["expired", "reclaimed"]),
        ("void a, settle a, settle b", ["voided", "settled"]),
        ("late, reclaim a, reclaim b", ["reclaimed", "disputed"]),
        ("expired, return title, reclaim a, reclaim b", ["disputed", "disputed"]),
    ],
)
def test_repeat_payment_is_found_whatever_became_of_the_claims(
    world: World, order: str, became: list[str]
) -> None:
    title = world.issue(100, "mallory")
    claims = {
        "a": world.claim("mallory", "shop", [(title, 0, 60)]),
        "b": world.claim("mallory", "kiosk", [(title, 50, 90)]),
    }
    found = []
    for step in order.split(", "):
        verb, _, name = step.partition(" ")
        if verb == "late":
            world.now += 3 * DAY
        elif verb == "expired":
            world.now = title.expiry + 3 * DAY
        elif verb == "return":
            world.center.reclaim(world.reclaim(title_id=object_id(title)))
        elif verb == "void":
            world.center.register_void(world.void("shop", claims[name]))
        elif verb == "settle":
            found += states(world.settle(claims[name]))[0]
        else:
            found += states(world.center.reclaim(world.reclaim(claims[name])))[0]
    assert found == became
    record = world.center.claim(object_id(claims["b"]))
    (digest,) = record["evidence"]
    facts = verify_evidence(world.center.evidence(bytes.fromhex(digest)), world.trust)
    assert facts.claim_ids == (object_id(claims["a"]), object_id(claims["b"]))
    assert [entry.subject for entry in world.center.blacklist()[0]] == [world.public("mallory")]
    # Nobody deposited what a reclaim found disputed: nobody bears a loss.
    assert record["loss"] == {"guarantee_fund_fen": 0, "payee_fen": 0}
    world.center.check()


def test_repeat_payment_leaves_one_payment_and_evidence(world: World) -> None:
    title = world.issue(100, "mallory")
    first = world.claim("mallory", "shop", [(title, 0, 60)])
    second = world.claim("mallory", "kiosk", [(title, 50, 90)])
    assert states(world.settle(first)) == [["settled"]]
    receipt = world.settle(second)
    assert states(receipt) == [["disputed"]]
    assert receipt.results[0].outcomes[0].claim_id == object_id(first)
    assert receipt.titles == ()
    record = world.center.claim(object_id(second))
    (digest,) = record["evidence"]
    facts = verify_evidence(world.center.evidence(bytes.fromhex(digest)), world.trust)
    assert (facts.payer, facts.lo, facts.hi) == (world.public("mallory"), 50, 60)
    assert facts.claim_ids == (object_id(first), object_id(second))
    assert record["loss"] == {"guarantee_fund_fen": 40, "payee_fen": 0}
    (entry,), signed_time = world.center.blacklist()
    assert (entry.subject, entry.sequence, entry.digest) == (
        world.public("mallory"), 1, bytes.fromhex(digest),
    )  # fmt: skip
    assert signed_time.sequence == 1
    assert world.center.blacklist(since=1)[0] == ()
    # Presented again: the first outcome again, and no second accusation.
    assert states(world.settle(second, first)) == [["disputed"], ["settled"]]
    assert len(world.center.claim(object_id(second))["evidence"]) == 1


def test_a_payment_whose_parts_end_differently_says_so() -> None:
    world = World()
    one, two = world.issue(10, "mallory"), world.issue(10, "mallory")
    world.settle(world.claim("mallory", "shop", [(one, 0, 10)]))
    receipt = world.settle(world.claim("mallory", "kiosk", [(one, 5, 10), (two, 0, 10)]))
    assert states(receipt) == [["disputed", "settled"]]
    assert [(t.serial, t.hi) for t in receipt.titles] == [(two.serial, 10)]


def test_the_same_deposit_brings_the_same_bytes_and_the_same_claim_its_titles() -> None:
    world = World()
    title = world.issue(10, "alice")
    claim = world.claim("alice", "shop", [(title, 0, 4)])
    deposit = world.deposit(claim)
    receipt = world.center.settle(deposit)
    (got,) = receipt.titles
    world.settle(world.claim("shop", "bank", [(got, 0, 4)]))
    world.now += 30 * DAY
    assert world.center.settle(deposit).encode() == receipt.encode()
    assert world.settle(claim).titles == (got,)  # another deposit: what it led to then
    assert states(world.settle(claim, claim)) == [["settled"], ["settled"]]


@pytest.mark.parametrize("center", [Center, Partitioned])
def test_what_registers_nothing_is_not_kept(center: type[Center]) -> None:
    """However many such deposits come: they leave the ledger as it is, and hear the same again."""
    world = World(center=center)
    titles = [world.issue(10, "alice") for _ in range(6)]
    claim = world.claim("alice", "shop", [(title, 0, 4) for title in titles])
    receipt = world.settle(claim)
    ledgers = [world.center, *getattr(world.center, "parts", ())]
    before = [dump(ledger) for ledger in ledgers[-PARTITIONS:]]
    forged = claim.signed(bytes(63) + b"\x01")
    for deposit in (world.deposit(forged), world.deposit(forged, forged), world.deposit(claim)):
        for _ in range(2):
            again = world.center.settle(deposit)
            if deposit.claims == (claim,):
                assert (again.results, set(again.titles)) == (receipt.results, set(receipt.titles))
            else:
                assert {state for each in states(again) for state in each} == {"invalid"}
    assert [dump(ledger) for ledger in ledgers[-PARTITIONS:]] == before
    rows = world.center.storage.all("SELECT digest FROM deposits")
    # A home ledger keeps what several partitions told, though they have it all.
    assert len(rows) == (1 if center is Center else 2)


def test_touching_intervals_of_a_deposit_become_one_title() -> None:
    world = World()
    title = world.issue(100, "alice")
    claims = [world.claim("alice", "shop", [(title, at, at + 10)]) for at in (20, 0, 10)]
    receipt = world.settle(*claims, world.claim("alice", "kiosk", [(title, 30, 40)]))
    assert {(t.serial, t.lo, t.hi) for t in receipt.titles} == {
        (title.serial, 0, 30),
        (title.serial, 30, 40),
    }
    world.center.check()


def test_what_is_apart_becomes_one_fresh_coin_for_each_payee() -> None:
    """It is filled in the order of the deposit, and spent, refunded and redeemed as any other."""
    world = World()
    one, two = world.issue(100, "alice"), world.issue(50, "bob")
    deposit = world.deposit(
        world.claim("alice", "shop", [(one, 20, 30)]),
        world.claim("alice", "kiosk", [(one, 30, 40)]),
        world.claim("bob", "shop", [(two, 0, 5)]),
        world.claim("bob", "issuer", [(two, 5, 6)]),
        world.claim("alice", "shop", [(one, 90, 100)]),
        world.claim("bob", "issuer", [(two, 8, 10)]),
    )
    receipt = world.center.settle(deposit)
    assert {(t.amount, t.lo, t.hi) for t in receipt.titles} == {(25, 0, 25), (100, 30, 40)}
    fresh = next(title for title in receipt.titles if title.amount == 25)
    assert (fresh.epoch, fresh.owner) == (1, world.public("shop"))
    (made,) = world.center.coin(fresh.serial)["history"]
    assert (made["event"], made["to"]) == ("made", fresh.owner.hex())
    assert [(x["from_serial"], x["from_lo"], x["lo"], x["hi"]) for x in made["of"]] == [
        (one.serial.hex(), 20, 0, 10),
        (two.serial.hex(), 0, 10, 15),
        (one.serial.hex(), 90, 15, 25),
    ]
    assert {x["state"] for x in world.center.coin(one.serial)["partition"]} == {"live", "recoined"}
    again = world.settle(deposit.claims[2], deposit.claims[0])
    assert again.titles == (fresh,)  # what they led to then
    world.settle(world.claim("shop", "issuer", [(fresh, 0, 7)]))
    (back,) = world.settle(world.claim("shop", "bob", [(fresh, 10, 15)])).titles
    assert (back.serial, back.lo, back.hi, back.epoch) == (fresh.serial, 10, 15, 2)
    accounts = world.center.accounts()
    assert (accounts["issued_fen"], accounts["redeemed_fen"]) == (150, 10)
    assert accounts["owners"][world.public("shop").hex()] == 13
    with pytest.raises(CenterRefused) as refused:  # its serial is as used up as any
        world.center.register_coin(world.coin(25, "shop", fresh.serial))
    assert refused.value.name == "conflict"
    world.center.check()


def test_no_coin_is_made_of_more_than_an_amount_can_be() -> None:
    world = World()
    titles = [world.issue(o.MAX_AMOUNT, "alice") for _ in range(2)]
    claims = [world.claim("alice", "shop", [(t, 0, o.MAX_AMOUNT)]) for t in titles]
    receipt = world.settle(*claims)
    assert {title.serial for title in receipt.titles} == {title.serial for title in titles}
    world.center.check()


def test_an_invalid_claim_does_not_block_the_others() -> None:
    world = World()
    title = world.issue(10, "alice")
    good = world.claim("alice", "shop", [(title, 0, 4)])
    forged = good.signed(bytes(63) + b"\x01")
    stranger = world.claim("bob", "shop", [(title, 4, 5)])
    beyond = world.claim("alice", "shop", [(title, 4, 11)])
    elsewhere = World(suite="gm").claim("alice", "shop", [(title, 4, 5)])
    other_title = World().issue(10, "alice", serial=b"x" * 16)
    unknown = world.claim("alice", "shop", [(other_title, 0, 1)])
    mixed = world.claim("alice", "shop", [(title, 5, 6), (world.issue(5, "bob"), 0, 1)])
    receipt = world.settle(forged, stranger, beyond, elsewhere, unknown, mixed, good)
    assert states(receipt)[:5] == [["invalid"]] * 5
    assert states(receipt)[5:] == [["invalid", "invalid"], ["settled"]]
    assert [(t.lo, t.hi) for t in receipt.titles] == [(0, 4)]
    # A forgery of a settled claim brings nobody its titles.
    assert world.settle(forged).titles == ()
    with pytest.raises(CenterRefused, match="no such claim"):
        world.center.claim(object_id(stranger))


def test_a_void_bars_its_claim_for_ever_and_gives_the_money_back() -> None:
    world = World()
    title = world.issue(10, "alice")
    claim = world.claim("alice", "shop", [(title, 0, 4)])
    void = world.void("shop", claim)
    world.center.register_void(void)
    world.center.register_void(void)
    assert states(world.settle(claim)) == [["voided"]]
    receipt = world.center.reclaim(world.reclaim(claim))
    assert states(receipt) == [["reclaimed"]]
    (back,) = receipt.titles
    assert back.owner == world.public("alice")
    assert world.center.reclaim(world.reclaim(claim)).titles == (back,)
    assert states(world.settle(claim)) == [["voided"]]
    # The new title can be spent over the same fen: no repeat payment.
    assert states(world.settle(world.claim("alice", "kiosk", [(back, 0, 4)]))) == [["settled"]]
    assert world.center.blacklist()[0] == ()


def test_reclaim_with_void_before_the_deadline() -> None:
    world = World()
    title = world.issue(10, "alice")
    claim = world.claim("alice", "shop", [(title, 0, 4)])
    other = world.claim("alice", "shop", [(title, 4, 5)])
    with pytest.raises(CenterRefused) as refused:
        world.center.reclaim(world.reclaim(claim))
    assert refused.value.name == "not-yet"
    with pytest.raises(CenterRefused) as refused:
        world.center.reclaim(world.reclaim(claim, world.void("shop", other)))
    assert refused.value.name == "void"
    forged = world.void("shop", claim).signed(bytes(63) + b"\x01")
    with pytest.raises(CenterRefused) as refused:
        world.center.reclaim(world.reclaim(claim, forged))
    assert refused.value.name == "signature"
    receipt = world.center.reclaim(world.reclaim(claim, world.void("shop", claim)))
    assert states(receipt) == [["reclaimed"]]
    late = world.settle(claim)
    assert states(late) == [["reclaimed"]]
    assert late.titles == ()  # they are the payer's, not the depositor's


def test_a_late_terminal_loses_and_the_payer_gets_it_back() -> None:
    world = World()
    title = world.issue(10, "alice")
    in_time = world.claim("alice", "shop", [(title, 0, 4)])
    late = world.claim("alice", "shop", [(title, 4, 8)])
    world.now += 2 * DAY  # deadline and grace, to the second
    assert states(world.settle(in_time)) == [["settled"]]
    world.now += 1
    assert states(world.settle(late)) == [["expired"]]
    assert states(world.center.reclaim(world.reclaim(in_time))) == [["settled"]]
    receipt = world.center.reclaim(world.reclaim(late))
    assert states(receipt) == [["reclaimed"]]
    assert [(t.lo, t.hi, t.owner) for t in receipt.titles] == [(4, 8, world.public("alice"))]
    record = world.center.claim(object_id(late))
    assert (record["outcomes"][0]["state"], record["outcomes"][0]["reclaimed"]) == ("expired", True)
    world.center.check()


def test_an_expired_title_goes_back_to_its_owner() -> None:
    world = World()
    title = world.issue(10, "alice")
    world.settle(world.claim("alice", "shop", [(title, 2, 4)]))
    reclaim = world.reclaim(title_id=object_id(title))
    with pytest.raises(CenterRefused) as refused:
        world.center.reclaim(reclaim)
    assert refused.value.name == "not-yet"
    world.now = title.expiry + DAY + 1
    receipt = world.center.reclaim(reclaim)
    assert sorted((t.lo, t.hi) for t in receipt.titles) == [(0, 2), (4, 10)]
    assert set(world.center.reclaim(reclaim).titles) == set(receipt.titles)
    # A claim on the old title that nobody brought in time is disputed, but proves nothing.
    late = world.claim("alice", "shop", [(title, 4, 6)])
    assert states(world.settle(late)) == [["disputed"]]
    assert world.center.blacklist()[0] == ()
    with pytest.raises(CenterRefused):
        world.center.reclaim(world.reclaim(title_id=bytes(32)))


def test_refund_is_no_repeat_payment() -> None:
    world = World()
    title = world.issue(10, "alice")
    (at_shop,) = world.settle(world.claim("alice", "shop", [(title, 0, 10)])).titles
    (back,) = world.settle(world.claim("shop", "alice", [(at_shop, 0, 10)])).titles
    assert states(world.settle(world.claim("alice", "kiosk", [(back, 0, 10)]))) == [["settled"]]
    exchanged = world.issue(6, "bob")
    (new,) = world.settle(world.claim("bob", "bob", [(exchanged, 0, 6)])).titles
    assert new.epoch == 2
    assert world.center.titles(world.public("bob")) == (new,)
    assert world.center.blacklist()[0] == ()


def test_coins_are_registered_once() -> None:
    world = World()
    coin = world.coin(10, "bank")
    title = world.center.register_coin(coin)
    again = coin.signed(world.key("issuer").sign(coin.message()))
    assert world.center.register_coin(again) == title
    with pytest.raises(CenterRefused) as refused:
        world.center.register_coin(world.coin(11, "bank", serial=coin.serial))
    assert (refused.value.name, refused.value.status) == ("conflict", 409)
    with pytest.raises(CenterRefused) as refused:
        world.center.register_coin(coin.signed(world.key("bank").sign(coin.message())))
    assert refused.value.name == "signature"
    other = World(suite="gm").coin(10, "bank")
    with pytest.raises(CenterRefused) as refused:
        world.center.register_coin(other)
    assert refused.value.name == "network"


def test_the_greatest_coins_are_counted_right() -> None:
    world = World()
    for _ in range(3):
        title = world.issue(o.MAX_AMOUNT, "bank")
    world.settle(world.claim("bank", "issuer", [(title, 1, o.MAX_AMOUNT)]))
    accounts = world.center.accounts()
    assert accounts["issued_fen"] == 3 * o.MAX_AMOUNT
    assert accounts["redeemed_fen"] == o.MAX_AMOUNT - 1
    assert accounts["live_fen"] + accounts["redeemed_fen"] == accounts["issued_fen"]
    world.center.check()


def test_the_longest_receipt_fits() -> None:
    world = World()
    amount = o.MAX_AMOUNT
    title = world.issue(amount, "alice")
    top = amount - 4 * MAX_INTERVALS
    claims = [
        world.claim("alice", "shop", [(title, top + 3 * at, top + 3 * at + 1)])
        for at in range(MAX_INTERVALS)
    ]
    for claim in claims:
        world.settle(claim)
    receipt = world.settle(*claims)
    assert len(receipt.titles) == MAX_INTERVALS
    assert o.Receipt.decode(receipt.encode()) == receipt
    with pytest.raises(CenterRefused) as refused:
        world.settle(*claims, world.claim("alice", "shop", [(title, 0, 1)]))
    assert refused.value.status == 413
    world.now = title.expiry + 2 * DAY
    brought: set[o.Title] = set()
    for _ in range(2):  # more slices than one reclaim brings: the next brings the rest
        brought |= set(world.center.reclaim(world.reclaim(title_id=object_id(title))).titles)
    assert len(brought) == MAX_INTERVALS + 1
    world.center.check()


def test_a_card_renews_its_limits_with_its_own_proof_only() -> None:
    world = World()
    certificate = world.certificate("card")
    with pytest.raises(CenterRefused) as refused:
        world.center.challenge(world.public("card"))
    assert refused.value.status == 404
    risk = world.center.register_card(certificate)
    assert (risk.sequence, risk.subject) == (1, world.public("card"))
    assert risk.per_payment == certificate.per_payment
    assert world.trust.signed_by_center(risk)
    nonce = world.center.challenge(world.public("card"))
    proof = world.proof("card", nonce)
    risk = world.center.risk(world.public("card"), proof)
    assert risk.sequence == 2
    assert world.center.register_card(certificate) == risk

    def refusal(proof: o.GenuineProof, name: str = "card") -> str:
        with pytest.raises(CenterRefused) as refused:
            world.center.risk(world.public(name), proof)
        return refused.value.name

    assert refusal(proof) == "challenge"  # used once
    nonce = world.center.challenge(world.public("card"))
    assert refusal(world.proof("other", nonce)) == "subject"
    assert refusal(world.proof("card", nonce).signed(bytes(63) + b"\x01")) == "signature"
    world.center.register_card(world.certificate("other"))
    assert refusal(world.proof("other", nonce), "other") == "challenge"
    world.now += 601
    assert refusal(world.proof("card", nonce)) == "challenge"
    nonce = world.center.challenge(world.public("card"))
    world.center.block(world.public("card"))
    assert refusal(world.proof("card", nonce)) == "blacklisted"
    with pytest.raises(CenterRefused):
        world.center.register_card(certificate)
    with pytest.raises(CenterRefused) as not_a_card:
        world.center.register_card(world.trust.certificates[0])
    assert not_a_card.value.name == "role"


def test_evidence_that_proves_nothing_is_refused() -> None:
    world = World()
    title, other = world.issue(10, "mallory"), world.issue(10, "mallory")
    first = world.claim("mallory", "shop", [(title, 0, 6)])
    second = world.claim("mallory", "kiosk", [(title, 5, 8)])
    apart = world.claim("mallory", "kiosk", [(title, 6, 8)])
    elsewhere = world.claim("mallory", "kiosk", [(other, 0, 6)])
    framed = world.claim("shop", "kiosk", [(title, 0, 6)])
    foreign = World(suite="gm").claim("mallory", "kiosk", [(title, 0, 6)])
    made_up = title.signed(world.key("shop").sign(title.message()))

    def reason(title: o.Title, *claims: o.Claim) -> str:
        with pytest.raises(EvidenceInvalid) as invalid:
            verify_evidence(
                o.Evidence(header=world.header, title=title, claims=claims), world.trust
            )
        return invalid.value.reason

    good = o.Evidence(header=world.header, title=title, claims=(first, second))
    assert verify_evidence(good, world.trust).lo == 5
    assert reason(title, first, first) == "same-claim"
    assert reason(title, first, apart) == "intervals"
    assert reason(title, first, elsewhere) == "intervals"
    assert reason(other, first, second) == "intervals"
    assert reason(title, first, framed) == "signature"
    assert reason(title, first, foreign) == "network"
    assert reason(made_up, first, second) == "title"


def test_a_center_needs_its_own_key() -> None:
    with pytest.raises(LedgerError):
        Center(":memory:", key("bank"), trust())


def test_the_audit_finds_what_is_wrong() -> None:
    for damage in (
        "UPDATE slices SET hi = hi - 1 WHERE lo = 0",
        "UPDATE slices SET hi = hi + 1 WHERE lo = 0",
        "DELETE FROM slices WHERE lo = 4",
        "DELETE FROM slices",
        "UPDATE slices SET title_id = (SELECT MIN(title_id) FROM titles WHERE epoch = 2)",
        "UPDATE slices SET title_id = (SELECT title_id FROM titles WHERE epoch = 1)",
    ):
        world = World()
        title = world.issue(10, "alice")
        world.settle(world.claim("alice", "shop", [(title, 0, 4)]))
        world.center.check()
        world.center.storage.execute(damage)
        with pytest.raises(LedgerError):
            world.center.check()

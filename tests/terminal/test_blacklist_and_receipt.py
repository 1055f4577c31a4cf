# SPDX-License-Identifier: Apache-2.0
"""What a terminal takes over from the center: only what the center signed, and completely."""

from __future__ import annotations

import secrets

import pytest

from chipcash.terminal import Blacklist, BlacklistError, ReceiptError, verify_receipt
from chipcash_wire import objects as o
from tests.builders import NOW, SUITES, Network, changed, network


@pytest.mark.parametrize("suite", SUITES)
def test_entries_arrive_in_any_order_and_again(suite: str) -> None:
    net = network(suite)
    entries = [net.entry(i, net.public(f"listed {i}")) for i in (3, 1, 2)]
    once = Blacklist().extend(entries, net.signed_time(sequence=3), net.trust)
    assert once.complete and once.sequence == 3 and len(once.subjects) == 3
    assert once.extend(entries, net.signed_time(sequence=3), net.trust) == once


def test_a_hole_is_told_and_can_be_filled() -> None:
    net = network("p256")
    one, two, three = (net.entry(i, net.public(f"listed {i}")) for i in (1, 2, 3))
    holed = Blacklist().extend([one, three], net.signed_time(sequence=3), net.trust)
    assert not holed.complete and holed.sequence == 1
    filled = holed.extend([two, three], None, net.trust)
    assert filled.complete and filled.time == NOW


def test_time_never_goes_back() -> None:
    net = network("p256")
    new = Blacklist().extend([], net.signed_time(NOW + 5), net.trust)
    assert new.extend([], net.signed_time(NOW), net.trust) == new


@pytest.mark.parametrize("signer", ["card", "certification"])
def test_what_the_center_did_not_sign_is_refused(signer: str) -> None:
    net = network("p256")
    with pytest.raises(BlacklistError):
        Blacklist().extend([net.entry(1, net.public("card"), signer=signer)], None, net.trust)
    with pytest.raises(BlacklistError):
        Blacklist().extend([], net.signed_time(signer=signer), net.trust)
    with pytest.raises(BlacklistError):
        Blacklist().extend([], Network("p256", b"TOTH").signed_time(), net.trust)


def deposit(net: Network) -> o.Deposit:
    claims = tuple(net.payment(net.request()).claim for _ in range(2))
    return o.Deposit(header=net.header, nonce=secrets.token_bytes(16), claims=claims)


@pytest.mark.parametrize("suite", SUITES)
def test_a_receipt_is_for_exactly_its_deposit(suite: str) -> None:
    net = network(suite)
    sent = deposit(net)
    good = net.receipt(sent, titles=(net.title(net.public("pos")),))
    verify_receipt(good, sent, net.trust)

    first, second = good.results
    moved = o.Outcome(title_id=first.outcomes[0].title_id, lo=0, hi=1, state=o.SETTLED)
    bad = [
        net.receipt(sent, signer="card"),
        net.receipt(deposit(net)),
        net.receipt(sent, digest=bytes(32)),
        net.receipt(sent, results=(first,)),
        net.receipt(sent, results=(first, first)),
        net.receipt(sent, results=(first, second, second)),
        net.receipt(
            sent, results=(o.Result(claim_id=first.claim_id, outcomes=second.outcomes), second)
        ),
        net.receipt(
            sent,
            results=(o.Result(claim_id=first.claim_id, outcomes=first.outcomes[:1]), second),
        ),
        net.receipt(
            sent,
            results=(
                o.Result(claim_id=first.claim_id, outcomes=(moved, *first.outcomes[1:])),
                second,
            ),
        ),
        net.receipt(sent, titles=(net.title(net.public("pos"), signer="issuer"),)),
        changed(good, time=NOW + 1),
    ]
    for receipt in bad:
        with pytest.raises(ReceiptError):
            verify_receipt(receipt, sent, net.trust)

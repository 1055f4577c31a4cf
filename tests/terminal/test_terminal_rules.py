# SPDX-License-Identifier: Apache-2.0
"""Rules for terminals: which hold, what they leave of a policy, what may be pending, who bears a loss; and
that whatever is refused is said in both languages.

The limits one by one, and their order: the terminal's vectors.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipcash.terminal import (
    REASONS,
    Loss,
    Pending,
    Policy,
    Refusal,
    RulesError,
    explain,
    loss,
    newer,
    stricter,
    verify_pending,
)
from chipcash.terminal.words import CHINESE
from chipcash_wire import objects as o
from tests.center.world import START, World, key, trust

LIMITS = st.integers(0, 20)
OWN = st.none() | LIMITS


def rules(signer: str = "center", **values: int) -> o.TerminalRules:
    usual = {
        "time": START, "per_payment": 5, "per_card": 10, "per_shift": 20, "in_all": 30,
        "pending_age": 40, "blacklist_age": 50, "guarantee": 60,
    }  # fmt: skip
    by = key(signer)
    made = o.TerminalRules(header=trust().header, signer=by.key_id, **{**usual, **values})
    return made.signed(by.sign(made.message()))


def test_the_newest_rules_hold() -> None:
    old, new = rules(), rules(time=START + 1, per_card=1)
    assert newer(None, old, trust()) == old
    assert newer(old, new, trust()) == new
    assert newer(new, old, trust()) == new
    for foreign in (rules("issuer", time=START + 9), rules("shop", time=START + 9)):
        with pytest.raises(RulesError, match="not taken over"):
            newer(old, foreign, trust())
    with pytest.raises(RulesError):
        newer(None, old, trust("gm"))


@given(
    st.builds(
        Policy,
        max_per_payment=LIMITS, least_time_to_deposit=LIMITS, blacklist_max_age=LIMITS,
        max_per_card=OWN, max_per_shift=OWN, max_pending=OWN, pending_max_age=OWN,
    ),
    st.lists(LIMITS, min_size=6, max_size=6),
)  # fmt: skip
def test_a_shop_can_only_be_stricter(policy: Policy, limits: list[int]) -> None:
    names = ("per_payment", "per_card", "per_shift", "in_all", "pending_age", "blacklist_age")
    found = stricter(policy, rules(**dict(zip(names, limits, strict=True))))
    own = asdict(policy)
    ways = ("max_per_payment", "max_per_card", "max_per_shift", "max_pending", "pending_max_age")
    for name, limit in zip((*ways, "blacklist_max_age"), limits, strict=True):
        chosen = limit if own[name] is None else min(own[name], limit)
        assert getattr(found, name) == chosen
    assert found.least_time_to_deposit == policy.least_time_to_deposit


def test_without_rules_nothing_is_taken() -> None:
    with pytest.raises(Refusal) as caught:
        stricter(Policy(), None)
    assert caught.value.reason == "rules-missing"


@given(LIMITS, LIMITS, LIMITS, LIMITS, st.none() | st.integers(0, 100))
def test_what_may_be_pending(
    amount: int, in_all: int, shift: int, card: int, oldest: int | None
) -> None:
    policy = stricter(Policy(), rules(pending_age=10))
    pending = Pending(in_all, shift, card, oldest)
    fits = (
        in_all + amount <= 30
        and shift + amount <= 20
        and card + amount <= 10
        and (oldest is None or 50 - oldest <= 10)
    )
    try:
        verify_pending(amount, pending, policy=policy, now=50)
    except Refusal as refusal:
        assert not fits
        assert refusal.reason in ("pending-age", "pending-limit", "shift-limit", "card-limit")
    else:
        assert fits


def test_a_loss_is_shared_as_the_center_shares_it() -> None:
    """One claim is all settled, one partly paid elsewhere before; then one that was given up."""
    world = World()
    world.center.parameters = replace(world.center.parameters, guarantee=7)
    one, other = world.issue(100, "mallory"), world.issue(100, "mallory")
    world.settle(world.claim("mallory", "shop", [(one, 0, 10)]))
    receipt = world.settle(world.claim("mallory", "kiosk", [(one, 5, 15), (other, 0, 10)]))
    (result,) = receipt.results
    guarantee = world.center.rules().guarantee
    assert loss(result, guarantee) == Loss(fund=7, payee=3, not_paid=0)
    told = world.center.claim(result.claim_id)["loss"]
    assert told == {"guarantee_fund_fen": 7, "payee_fen": 3}
    assert loss(result, 0) == Loss(0, 10, 0) and loss(result, 10) == Loss(10, 0, 0)
    claim = world.claim("mallory", "shop", [(other, 20, 25)])
    world.center.register_void(world.void("shop", claim))
    (result,) = world.settle(claim).results
    assert loss(result, guarantee) == Loss(0, 0, not_paid=5)
    assert world.center.claim(result.claim_id)["loss"] == {"guarantee_fund_fen": 0, "payee_fen": 0}
    world.center.close()


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("reason", REASONS)
def test_every_refusal_in_words(reason: str, asked: bool) -> None:
    english, chinese = (explain(reason, language, asked=asked) for language in ("en", "zh"))
    for words in (english, chinese):
        assert words.cashier and words.hint and words.payer
    for text in (chinese.cashier, chinese.hint, chinese.payer):
        assert not any("a" <= letter.lower() <= "z" for letter in text), text
    assert ("paid nothing" in english.payer) != asked
    if asked:
        refusal = Refusal(reason)
        assert (refusal.message, refusal.hint) == (english.cashier, english.hint)
        assert refusal.facts["customer"] == english.payer
    assert ("give" in english.hint) <= asked  # where no card was asked there is nothing to give up


def test_no_words_are_left_over() -> None:
    used = {
        text
        for reason in REASONS
        for asked in (True, False)
        for text in asdict(explain(reason, "zh", asked=asked)).values()
    }
    assert all(any(chinese in text for text in used) for chinese in CHINESE.values())

# SPDX-License-Identifier: Apache-2.0
"""Bad input: 100,000 APDUs of no meaning, damaged and spliced commands, to cards in every life; `make test`
sends a fifth of them.

What must hold for each answer is in tests/portable/fuzzing.py: a status word of the specification but
6F00; a refusal writes nothing but a lost try of PIN or PUK; and after all of them the card still pays. Of a
till's card (SAM), fuzzing_sam.py: it has the same secrets, and signs with them what a payee signs.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from chipcash_sim.image import MemoryFlash
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.portable.fuzzing import BANK, Dice, Material, Victim
from tests.portable.fuzzing_sam import SamMaterial, SamVictim
from tests.portable.network import Network

BATCH = 200
"""APDUs, at least, to one card."""
SHARES = [  # of a hundred
    (o.SUITE_P256, "personalised", 65),
    (o.SUITE_GM, "personalised", 15),
    (o.SUITE_P256, "keyed", 10),
    (o.SUITE_P256, "blank", 10),
    (o.SUITE_P256, "sam", 10),
]
CASES = [
    *((*each, 15_000 if each[-1] == 65 else 33_000) for each in SHARES),
    *(pytest.param(*each, 100_000, marks=pytest.mark.long) for each in SHARES),
]
"""With how many APDUs in all: fewer do not bring out what REACHED names."""

_ANY_LIFE = {
    c.SW_OK, c.SW_MORE, c.SW_LENGTH, c.SW_CHANNEL, c.SW_SECURE_MESSAGING, c.SW_CHAIN_BROKEN, c.SW_CONDITIONS,
    c.SW_NOT_FOUND, c.SW_P1P2, c.SW_INS, c.SW_CLA,
}  # fmt: skip
_KEYED = _ANY_LIFE | {c.SW_DATA, c.SW_NETWORK, c.SW_SIGNATURE, c.SW_NOT_MINE}
_PERSONALISED = _KEYED | {
    c.SW_PIN_WRONG, c.SW_BLOCKED, c.SW_SECURITY, c.SW_RECORD_NOT_FOUND, c.SW_LIMIT_PAYMENT, c.SW_EXPIRED,
    c.SW_TIME_PAST, c.SW_TIME_FUTURE, c.SW_STALE,
}  # fmt: skip
_SAM = _ANY_LIFE - {c.SW_NOT_FOUND} | {
    c.SW_DATA,
    c.SW_NETWORK,
    c.SW_NOT_MINE,
    c.SW_SECURITY,
    c.SW_PIN_WRONG,
}
REACHED = {"blank": _ANY_LIFE, "keyed": _KEYED, "personalised": _PERSONALISED, "sam": _SAM}
"""Status words that so much bad input brings out: a card that refused all at the door would prove nothing."""


class LoggedCard(Victim):
    """A card that remembers what it was sent, to be shown when something does not hold."""

    log: list[str]

    def send(self, apdu: bytes) -> tuple[bytes, int]:
        self.log.append(apdu.hex())
        answer: tuple[bytes, int] = super().send(apdu)
        return answer


class LoggedSam(LoggedCard, SamVictim):
    """A SAM that does."""


@pytest.mark.timeout(900)  # a failing example takes minutes to shrink
@pytest.mark.parametrize(("suite", "life", "share", "apdus"), CASES)
def test_any_bytes_bring_a_status_word_and_change_nothing(
    suite: int, life: str, share: int, apdus: int
) -> None:
    flash = MemoryFlash(bytearray(b"\xff" * (2 * BANK)))
    is_sam = life == "sam"
    made_of = SamMaterial if is_sam else Material
    material = made_of(Network(suite, random=Dice(suite).bytes), flash)
    # The text of attack() is what its examples are derived from: another one may reach less by chance.
    Logged = LoggedSam if is_sam else LoggedCard
    seen: Counter[int] = Counter()
    sent = audited = cards = 0

    @settings(
        max_examples=-(-apdus * share // 100 // BATCH),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.randoms(use_true_random=False))
    def attack(chance: Random) -> None:
        nonlocal sent, audited, cards
        # The same for every card, so that an example can be repeated by itself.
        material.net.random = Dice(99).bytes
        card = Logged(material, life)
        card.log = []
        count = 0
        try:
            while count < BATCH:
                count += card.attack(chance.randrange)
            audited += card.check_alive()
        except Exception:
            note("\n".join(card.log))
            raise
        cards += 1
        sent += count
        seen.update(card.seen)

    attack()
    assert sent >= apdus * share // 100
    assert audited >= cards * 9 // 10
    assert REACHED[life] <= set(seen), {f"{sw:04X}" for sw in REACHED[life] - set(seen)}


def test_it_is_a_hundred_thousand() -> None:
    """And those to SAMs beside them."""
    assert sum(share for _, life, share in SHARES if life != "sam") == 100

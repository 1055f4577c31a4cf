# SPDX-License-Identifier: Apache-2.0
"""Bad input under CPython and MicroPython: a sample that is the same everywhere. The rest: tests/card."""

import os

import network
from fuzzing import BANK, Dice, Material, Victim

from chipcash_sim.image import FileFlash
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

_ROUNDS = int(os.getenv("CHIPCASH_ROUNDS") or 1)
_APDUS = 400  # at least, in each round


def barrage(suite_id, life, seed):
    """Send damaged commands to cards in this life; the status words that came. Victim checks each answer."""
    dice = Dice(seed)
    device = FileFlash("%s/fuzz%d.img" % (network.SCRATCH, seed), None, False, BANK)
    material = Material(network.Network(suite_id, random=dice.bytes), device)
    seen = set()
    for _ in range(_ROUNDS):
        card = Victim(material, life)
        sent = 0
        while sent < _APDUS:
            sent += card.attack(dice.below)
        assert card.check_alive()
        seen.update(card.seen)
    device.close()
    return seen


def check_seen(seen, *expected):
    """That the barrage reached what it is to reach: a card that refuses all at the door proves nothing."""
    always = (c.SW_OK, c.SW_MORE, c.SW_LENGTH, c.SW_CONDITIONS, c.SW_CLA, c.SW_INS, c.SW_P1P2)
    missing = ["%04X" % sw for sw in always + expected if sw not in seen]
    assert not missing, missing


def test_blank():
    check_seen(barrage(o.SUITE_P256, "blank", 1))


def test_keyed():
    check_seen(barrage(o.SUITE_P256, "keyed", 2), c.SW_DATA)


def test_personalised():
    for suite_id in (o.SUITE_GM, o.SUITE_P256):
        check_seen(
            barrage(suite_id, "personalised", 3),
            c.SW_DATA,
            c.SW_PIN_WRONG,
            c.SW_SECURITY,
            c.SW_CHAIN_BROKEN,
            c.SW_SIGNATURE,
            c.SW_STALE,
            c.SW_NOT_MINE,
        )

# SPDX-License-Identifier: Apache-2.0
"""Bad input for SAMs under CPython and MicroPython, the same everywhere. More of it: tests/card."""

import network
from fuzzing import BANK, Dice
from fuzzing_sam import SamMaterial, SamVictim

from chipcash_sim.image import FileFlash
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

_APDUS = 600


def barrage(life, seed):
    """Send damaged commands to a card in this life; the status words that came. SamVictim checks each."""
    dice = Dice(seed)
    device = FileFlash("%s/fuzz%d.img" % (network.SCRATCH, seed), None, False, BANK)
    material = SamMaterial(network.Network(o.SUITE_P256, random=dice.bytes), device)
    card = SamVictim(material, life)
    sent = 0
    while sent < _APDUS:
        sent += card.attack(dice.below)
    assert card.check_alive()
    device.close()
    return card.seen


def test_a_sam():
    seen = barrage("sam", 5)
    for sw in (c.SW_OK, c.SW_DATA, c.SW_SECURITY, c.SW_NETWORK, c.SW_NOT_MINE, c.SW_CONDITIONS):
        assert sw in seen, "%04X" % sw


def test_a_blank_card_that_becomes_one():
    seen = barrage("blank", 7)
    for sw in (c.SW_OK, c.SW_DATA, c.SW_CONDITIONS, c.SW_SECURITY, c.SW_NOT_MINE):
        assert sw in seen, "%04X" % sw

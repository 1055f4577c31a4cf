# SPDX-License-Identifier: Apache-2.0
"""Payments without power-off, under MicroPython: micropython -m thousand SUITE PAYMENTS

SUITE: 1 for gm, 2 for p256. Every tenth payment finds coupons, which the card made in an idle moment; every
hundredth is from as many titles as there may be. Before each hundred a synchronisation: time, risk
parameters, titles. Whatever is not answered as it should is an assertion that fails: 6F00 is what becomes of
a MemoryError. For test_micropython.py.

Prints how many were paid, and the largest free piece of heap after each synchronisation."""

import gc
import sys

from network import DAY, NOW, PIN, Network, TestCard

from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

LONGEST = 1000 * o.MAX_INPUTS


def largest():
    """Bytes of the largest free piece, within 256."""
    gc.collect()
    least, most = 0, gc.mem_free()
    while most - least > 256:
        middle = (least + most) // 2
        try:
            bytearray(middle)
            least = middle
        except MemoryError:
            most = middle
    return least


def synchronise(card, number, now):
    """What the card gets when it is online, its PIN verified; number counts them."""
    net = card.network
    assert card.verify(PIN) == c.SW_OK
    assert number == 1 or card.put(net.time(now)) == c.SW_OK
    assert card.put(net.risk(card.public, sequence=number + 1, time=now)) == c.SW_OK
    for _ in range(o.MAX_INPUTS):
        card.load(1000, expiry=now + 8 * DAY)
    # What expires first is spent first, by single fens.
    card.load(99, expiry=now + 7 * DAY)


def pay(card, amount, now, titles):
    """A payment that must succeed, and be from so many titles."""
    request = card.network.request(amount, time=now)
    payment = card.ok(c.INS_PAY, data=request.encode(), cla=c.CLA_PROPRIETARY)
    claim = o.Payment.claim_of(payment)
    assert claim.nonce == request.nonce and len(claim.inputs) == titles


def main(suite_id, payments):
    """Pay so often, and see that nothing was refused."""
    card = TestCard(Network(suite_id)).personalise()
    pieces = []
    for number in range(payments):
        now = NOW + number // 100 * 9 * DAY
        if number % 100 == 0:
            synchronise(card, number // 100 + 1, now)
            pieces.append(largest())
        if number % 10 == 0:
            while card.applet.idle():
                pass
        if number % 100 == 99:
            pay(card, LONGEST, now, o.MAX_INPUTS)
        else:
            pay(card, 1, now, 1)
    assert card.info().counter == payments
    card.flash.close()
    print("paid:", payments, "largest free:", pieces)


main(int(sys.argv[1]), int(sys.argv[2]))

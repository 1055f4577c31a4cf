# SPDX-License-Identifier: Apache-2.0
"""A card on a board's flash, over emulated NOR: what it pays when power or the chip fails. Portable."""

import os

from chips import NorFlash
from network import PIN, Network

from chipcash_board.flash import BLOCK, BlockFlash
from chipcash_card.applet import Applet
from chipcash_sim.image import PowerCut
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

BANK = 2 * BLOCK


def made(content=None, bank=BANK):
    """(chip, flash)."""
    chip = NorFlash(2 * bank // BLOCK, content)
    return chip, BlockFlash(chip, 0, bank)


def command(session, *args, **kwargs):
    """A command that must succeed; its data."""
    reply = session.process(c.command(*args, **kwargs))
    assert reply[-2:] == b"\x90\x00", reply[-2:]
    return reply[:-2]


def pay(flash, request):
    """Power on and pay: the answer with its status word."""
    session = Applet(flash, os.urandom).session()
    command(session, c.INS_SELECT, 4, 0, c.AID, le=256)
    return session.process(
        c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
    )


def card(net, bank=BANK):
    """What is on the flash of a card with 10,000 fen."""
    chip, flash = made(None, bank)
    session = Applet(flash, os.urandom).session()
    command(session, c.INS_SELECT, 4, 0, c.AID, le=256)
    public = command(session, c.INS_GENERATE_KEY_PAIR, net.suite.id, le=256)
    perso = net.personalisation(public)
    command(session, c.INS_STORE_DATA, 0x80, 0, perso.encode(), extended=True)
    command(session, c.INS_PUT_DATA, 0, 0, net.title(public).encode(), extended=True)
    return chip.content()


def test_a_card_whose_flash_is_worn_out_does_not_pay():
    net = Network(o.SUITE_P256)
    content = card(net)
    chip, flash = made(content)
    request = net.request(100)
    session = Applet(flash, os.urandom).session()
    command(session, c.INS_SELECT, 4, 0, c.AID, le=256)
    chip.worn = tuple(range(2 * BANK // BLOCK))
    pay_command = c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
    assert len(session.process(pay_command)) == 2
    assert len(session.process(pay_command)) == 2  # nor later, until it has power anew
    chip.worn = ()
    assert len(pay(flash, request)) > 300


def test_a_payment_cut_at_each_operation():
    """After any cut the same request is answered, always with the same bytes once it was paid."""
    net = Network(o.SUITE_P256)
    content = card(net)
    request = net.request(1200)
    chip, flash = made(content)
    assert len(pay(flash, request)) > 300
    operations = chip.operations
    assert operations >= 3
    for cut in range(operations):
        for half in (False, True):
            torn, flash = made(content)
            torn.cut = cut
            torn.half = half
            try:
                pay(flash, request)
                raise AssertionError("not cut")
            except PowerCut:
                torn.cut = None
            first = pay(flash, request)
            assert len(first) > 300 and pay(flash, request) == first
            session = Applet(flash, os.urandom).session()
            command(session, c.INS_SELECT, 4, 0, c.AID, le=256)
            command(session, c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)
            info = o.CardInfo.decode(command(session, c.INS_GET_DATA, c.DATA_INFO))
            assert info.balance == 10000 - 1200


def test_no_payment_waits_for_an_erasure_on_a_card_that_had_time():
    """Erasing a bank takes a board a third of a second."""
    net = Network(o.SUITE_P256)
    bank = 3 * BLOCK
    chip, flash = made(card(net, bank), bank)
    applet = Applet(flash, os.urandom)
    session = applet.session()
    command(session, c.INS_SELECT, 4, 0, c.AID, le=256)
    for amount in range(1, 30):
        while applet.idle():
            pass
        before = list(chip.erased)
        request = net.request(amount)
        data = c.command(c.INS_PAY, 0, 0, request.encode(), c.CLA_PROPRIETARY, 65536, True)
        assert session.process(data)[-2:] == b"\x90\x00"
        assert chip.erased == before
    assert sum(chip.erased) > 0

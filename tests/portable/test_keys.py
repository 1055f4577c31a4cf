# SPDX-License-Identifier: Apache-2.0
"""Where the card's key is: sealed in flash, or in an emulated secure element. Portable."""

import os

from chips import Machine, NorFlash
from element import P256, Atecc608
from network import NOW, Network

from chipcash_board.flash import BLOCK, BlockFlash
from chipcash_board.start import make_loop
from chipcash_card.applet import Applet
from chipcash_card.keys import KeyStore
from chipcash_card.suites import suite
from chipcash_drivers import atecc608
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

SUITES = (suite(o.SUITE_GM), P256)


def fails(work, *arguments):
    """Whether it raises OSError."""
    try:
        work(*arguments)
    except OSError:
        return True
    return False


def test_a_sealed_key_is_the_same_key_again():
    for each in SUITES:
        store = KeyStore(b"this chip")
        kept = store.generate(each, os.urandom)
        signer = KeyStore(b"this chip").signer(each, kept, 1, os.urandom)
        assert signer.public == store.signer(each, kept, 2, os.urandom).public
        assert each.verify(signer.public, b"message", signer.sign(b"message"))


def test_on_another_chip_it_is_no_key():
    for each in SUITES:
        kept = KeyStore(b"this chip").generate(each, os.urandom)
        for store in (KeyStore(b"another"), KeyStore(b"")):
            assert fails(store.signer, each, kept, 1, os.urandom)
        changed = kept[:-1] + bytes((kept[-1] ^ 1,))
        assert fails(KeyStore(b"this chip").signer, each, changed, 1, os.urandom)
        assert fails(KeyStore(b"this chip").signer, each, b"", 1, os.urandom)


def test_the_key_itself_is_not_in_flash():
    for each in SUITES:
        drawn = []

        def random(n, drawn=drawn):
            drawn.append(os.urandom(n))
            return drawn[-1]

        kept = KeyStore(b"this chip").generate(each, random)
        assert drawn and not [x for x in drawn if x in kept]


def test_the_check_sequence():
    """The data sheet's example: what a chip answers when it was woken."""
    assert atecc608.crc(b"\x04\x11") == b"\x33\x43"


def test_the_element_signs():
    chip = Atecc608(os.urandom)
    store = KeyStore(b"", atecc608.Atecc608(chip))
    kept = store.generate(P256, os.urandom)
    assert len(kept) == 1
    signer = store.signer(P256, kept, 1, os.urandom)
    for message in (b"", b"one", b"two"):
        assert P256.verify(signer.public, message, signer.sign(message))
    assert chip.commands[-3:] == [0x1B, 0x16, 0x41]


def test_bits_lost_on_the_line_are_asked_for_again():
    chip = Atecc608(os.urandom)
    element = atecc608.Atecc608(chip)
    element.generate()
    public = element.public()
    for spoil in (1, 2):
        chip.spoil = spoil
        assert element.public() == public
    chip.spoil = 3
    assert fails(element.public)
    assert element.public() == public


def test_no_key_and_no_chip():
    chip = Atecc608(os.urandom)
    element = atecc608.Atecc608(chip)
    assert element.present()
    assert fails(element.public) and fails(element.sign, bytes(32))
    absent = atecc608.Atecc608(chip, 0x36)
    assert not absent.present() and fails(absent.generate)


def test_the_other_suite_stays_in_flash():
    gm = SUITES[0]
    store = KeyStore(b"", atecc608.Atecc608(Atecc608(os.urandom)))
    kept = store.generate(gm, os.urandom)
    assert len(kept) > 32
    assert store.signer(gm, kept, 1, os.urandom).public == kept[:33]


def send(session, ins, p1=0, p2=0, data=b"", cla=c.CLA_ISO):
    """Send one command; (data, sw)."""
    reply = session.process(c.command(ins, p1, p2, data, cla, 65536))
    return reply[:-2], int.from_bytes(reply[-2:], "big")


class Config:
    """A board with a secure element, and one without."""

    LINKS = {"secure": (), "plain": ()}
    PERIPHERALS = {"secure": ("atecc608",), "plain": ()}
    ATECC608_SDA = 2
    ATECC608_SCL = 3


def personalised(chip):
    """A card whose key is in the chip, with money: its flash, its network and its public key."""
    device = BlockFlash(NorFlash(8), 0, 4 * BLOCK)
    net = Network(o.SUITE_P256)
    session = Applet(device, os.urandom, None, KeyStore(b"", atecc608.Atecc608(chip))).session()
    send(session, c.INS_SELECT, 4, 0, c.AID)
    public, sw = send(session, c.INS_GENERATE_KEY_PAIR, o.SUITE_P256)
    assert sw == c.SW_OK
    perso = net.personalisation(public)
    assert send(session, c.INS_STORE_DATA, 0x80, 0, perso.encode())[1] == c.SW_OK
    title = net.title(public)
    assert send(session, c.INS_PUT_DATA, 0, 0, title.encode())[1] == c.SW_OK
    return device, net, public


def test_a_card_pays_with_the_element():
    """After a new power on, too; the center's and the terminal's rules see no difference."""
    chip = Atecc608(os.urandom)
    device, net, public = personalised(chip)
    store = KeyStore(b"", atecc608.Atecc608(chip))
    applet = Applet(device, os.urandom, None, store)
    session = applet.session()
    send(session, c.INS_SELECT, 4, 0, c.AID)
    while applet.idle():
        pass
    reply, sw = send(
        session, c.INS_PAY, 0, 0, net.request(100, time=NOW).encode(), c.CLA_PROPRIETARY
    )
    assert sw == c.SW_OK
    claim = o.Payment.claim_of(reply)
    assert P256.verify(public, claim.message(), claim.signature)


def test_a_card_without_its_element_does_not_start():
    chip = Atecc608(os.urandom)
    device, _, _ = personalised(chip)
    assert fails(Applet, device, os.urandom, None, KeyStore(b""))
    other = atecc608.Atecc608(Atecc608(os.urandom))
    other.generate()
    assert fails(Applet, device, os.urandom, None, KeyStore(b"", other))
    Applet(device, os.urandom, None, KeyStore(b"", atecc608.Atecc608(chip)))


def place(device, store):
    """Where a card says that its key is."""
    session = Applet(device, os.urandom, None, store).session()
    send(session, c.INS_SELECT, 4, 0, c.AID)
    return o.CardInfo.decode(send(session, c.INS_GET_DATA, c.DATA_INFO)[0]).key_place


def test_the_card_says_where_its_key_is():
    """A key that was made in flash, because the element was silent, stays there and is told so."""
    chip = Atecc608(os.urandom)
    device, _, _ = personalised(chip)
    element = KeyStore(b"", atecc608.Atecc608(chip))
    assert place(device, element) == o.KEY_IN_ELEMENT
    device = BlockFlash(NorFlash(8), 0, 4 * BLOCK)
    assert place(device, KeyStore(b"")) is None  # blank
    session = Applet(device, os.urandom, None, KeyStore(b"")).session()
    send(session, c.INS_SELECT, 4, 0, c.AID)
    assert send(session, c.INS_GENERATE_KEY_PAIR, o.SUITE_P256)[1] == c.SW_OK
    for store in (KeyStore(b""), element):
        assert place(device, store) == o.KEY_IN_FLASH


def test_a_board_uses_the_element_that_it_has():
    chip = Atecc608(os.urandom)
    device, _, _ = personalised(chip)
    machine = Machine({("soft", 3): chip}, {})
    make_loop(Config, "secure", device, os.urandom, machine)
    assert fails(make_loop, Config, "plain", device, os.urandom, machine)

# SPDX-License-Identifier: Apache-2.0
"""What each command takes of a board's heap, measured under MicroPython: micropython -m heap SUITE

SUITE: 1 for gm, 2 for p256. Prints one line of JSON: name of the command to bytes that are in use at its
peak besides what is at rest before it. The heap is looked at, garbage collected, wherever the card reads or
writes flash, takes randomness, does a step of arithmetic, or has its answer: so the peak is what cannot be
collected, and misses only what comes and goes between two such places. Portable; for
firmware/build.py."""

import gc
import json
import os
import sys

from network import DAY, NOW, PIN, PUK, SCRATCH, Network
from updates import body, head, install_old, running

from chipcash_card import busy, session
from chipcash_card.applet import COUPONS, Applet
from chipcash_sim.image import FileFlash
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire.channel import Channel
from chipcash_wire.receipts import Outcome, Receipt, Result

LONGEST = 1000 * o.MAX_INPUTS
"""Fen of a payment from as many titles as there may be."""


class Gauge:
    """The most bytes that were in use since start()."""

    def __init__(self):
        self.peak = 0
        self._rest = 0
        self._on = False

    def start(self):
        """From here on, and from what is in use now."""
        gc.collect()
        self._rest = gc.mem_alloc()
        self.peak = 0
        self._on = True

    def look(self):
        """Take what is in use now into account."""
        if self._on:
            gc.collect()
            self.peak = max(self.peak, gc.mem_alloc() - self._rest)

    def stop(self):
        """The most since start()."""
        self.look()
        self._on = False
        return self.peak


class Flash(FileFlash):
    """A card's flash file; each operation is a place to look."""

    gauge = Gauge()

    def read(self, bank, offset, n):
        """As FileFlash; looked at with what was read."""
        data = FileFlash.read(self, bank, offset, n)
        self.gauge.look()
        return data

    def program(self, bank, offset, data):
        """As FileFlash."""
        self.gauge.look()
        FileFlash.program(self, bank, offset, data)


class Measured:
    """A card with its commands measured. found: name of a command to the bytes of its peak."""

    def __init__(self, net):
        self.net = net
        self.gauge = Flash.gauge
        self.found = {}
        self.instructions = set()
        path = SCRATCH + "/heap.img"
        open(path, "wb").close()
        self.publisher = net.key()
        root = SCRATCH + "/files/"
        os.mkdir(root[:-1])
        install_old(root)
        firmware = running(net, self.publisher, root)
        self.applet = Applet(Flash(path), self.random, firmware=firmware)
        self.session = self.applet.session()
        self.channel = None
        busy.attend(self.gauge.look)
        plain = session._sw
        session._sw = lambda sw: self.gauge.look() or plain(sw)

    def random(self, n):
        """The system's generator."""
        self.gauge.look()
        return os.urandom(n)

    def send(self, name, ins, p1=0, p2=0, data=b"", cla=c.CLA_ISO, le=65536):
        """One command that must succeed, measured under this name; its data."""
        apdu = c.command(ins, p1, p2, data, cla, le)
        self.instructions.add(ins)
        self.gauge.start()
        reply = self.session.process(apdu)
        self.found[name] = max(self.found.get(name, 0), self.gauge.stop())
        assert reply[-2:] == b"\x90\x00" or reply[-2] == c.SW_MORE >> 8, (name, reply[-2:])
        return reply[:-2]

    def put(self, name, obj):
        """PUT DATA of an object."""
        self.send(name, c.INS_PUT_DATA, data=obj.encode())

    def pay(self, name, amount, le=65536):
        """PAY."""
        data = self.net.request(amount).encode()
        return self.send(name, c.INS_PAY, 0, 0, data, c.CLA_PROPRIETARY, le)

    def rest(self):
        """An idle moment: coupons are made."""
        while self.applet._signer.coupons < COUPONS:
            self.applet.idle()
        gc.collect()


def personalise(card):
    """From blank to a card with a title."""
    net = card.net
    card.send("SELECT", c.INS_SELECT, 4, 0, c.AID)
    public = card.send("GENERATE ASYMMETRIC KEY PAIR", c.INS_GENERATE_KEY_PAIR, net.suite.id)
    perso = net.personalisation(public)
    card.send("STORE DATA", c.INS_STORE_DATA, 0x80, 0, perso.encode())
    card.public = public
    title(card)


def title(card):
    """One more title of 1000 fen, whose verification needs as much as any."""
    card.put("PUT DATA, title", card.net.title(card.public, hi=1000, amount=1000))


def fill(card):
    """Titles for the longest payment, and coupons. Not measured: a payment leaves words on the stack that the
    collector takes for pointers, and the title that comes next would count what they keep."""
    while len([slot for slot in card.applet.purse._slots if slot.hi - slot.pointer == 1000]) < 8:
        data = card.net.title(card.public, hi=1000, amount=1000).encode()
        reply = card.session.process(c.command(c.INS_PUT_DATA, data=data))
        assert reply == b"\x90\x00", reply
    card.rest()


def pin(card):
    """VERIFY and its kin."""
    pair = b"\x9f\x26\x08" + PUK + b"\x9f\x25\x06" + PIN
    card.send("RESET RETRY COUNTER", c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE, pair)
    pair = 2 * (b"\x9f\x25\x06" + PIN)
    card.send("CHANGE REFERENCE DATA", c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, pair)
    card.send("VERIFY", c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)


def pay(card):
    """Payments: the shortest and the longest, with and without coupon, whole and in parts."""
    card.rest()
    card.pay("PAY, one title", 1)
    fill(card)
    card.pay("PAY, eight titles", LONGEST)
    fill(card)
    while card.applet._signer.coupons:
        card.applet._signer.sign(b"")
    card.pay("PAY, eight titles, no coupon", LONGEST)
    fill(card)
    card.pay("PAY, eight titles", LONGEST, 256)
    card.send("GET RESPONSE", c.INS_GET_RESPONSE, le=256)
    card.send("GET RESPONSE", c.INS_GET_RESPONSE)


def read(card):
    """GET DATA and INTERNAL AUTHENTICATE."""
    for name, what in (
        ("card info", c.DATA_INFO),
        ("certificate", c.DATA_CERTIFICATE),
        ("title", c.DATA_TITLE),
        ("payment", c.DATA_PAYMENT),
        ("risk parameters", c.DATA_RISK),
    ):
        card.send("GET DATA, " + name, c.INS_GET_DATA, what)
    card.rest()
    card.send("INTERNAL AUTHENTICATE", c.INS_INTERNAL_AUTHENTICATE, data=bytes(16))


def receive(card):
    """The longest payment of another card to this one, and the longest receipt of it."""
    net = card.net
    payer = net.key()
    titles = [net.title(payer.public, hi=1000, amount=1000) for _ in range(o.MAX_INPUTS)]
    inputs = [o.Input(title_id=net.suite.hash(each.message()), lo=0, hi=1000) for each in titles]
    claim = net.sign(
        payer,
        o.Claim(
            header=net.header,
            inputs=tuple(inputs),
            amount=LONGEST,
            payee=card.public,
            nonce=bytes(16),
            counter=1,
            time=NOW,
            deadline=NOW + 7 * DAY,
        ),
    )
    certificate = net.certificate(payer.public).encode()
    data = o.Payment.join(claim.encode(), [each.encode() for each in titles], certificate)
    del titles, certificate
    card.send("PUT DATA, payment of eight titles", c.INS_PUT_DATA, data=data)
    data = b""
    card.send("GET DATA, received", c.INS_GET_DATA, c.DATA_RECEIVED)
    outcomes = [
        Outcome(title_id=item.title_id, lo=0, hi=1000, state=o.DISPUTED, claim_id=bytes(32))
        for item in inputs
    ]
    result = Result(claim_id=net.suite.hash(claim.message()), outcomes=tuple(outcomes))
    receipt = net.sign(
        net.center,
        Receipt(
            header=net.header,
            signer=net.key_id(net.center),
            digest=bytes(32),
            time=NOW,
            results=(result,),
            titles=tuple([net.title(card.public, hi=1000, amount=1000) for _ in inputs]),
        ),
    )
    card.put("PUT DATA, receipt of eight titles", receipt)


def renew(card):
    """What a synchronisation brings."""
    net = card.net
    card.put("PUT DATA, certificate", net.certificate(card.public, expiry=NOW + 366 * DAY))
    card.put("PUT DATA, risk parameters", net.risk(card.public, sequence=2))


def seal(card):
    """A secure channel, and the longest payment in it."""
    net = card.net
    suite = net.suite
    private = bytes(31) + b"\x05"
    reply = card.send(
        "GENERAL AUTHENTICATE", c.INS_GENERAL_AUTHENTICATE, data=suite.public_key(private)
    )
    proof = o.ChannelProof.decode(reply[: -len(card.applet.purse.certificate)])
    secret = suite.curve.agree(5, suite.curve.decompress(proof.card_key))
    channel = Channel(suite.hash, suite.cipher, secret, proof.message(), False)
    fill(card)
    data = net.request(LONGEST).encode()
    apdu = channel.seal(c.command(c.INS_PAY, 0, 0, data, c.CLA_PROPRIETARY, 65536))
    reply = card.send("ENVELOPE, PAY, eight titles", c.INS_ENVELOPE, data=apdu)
    assert channel.open(reply)[-2:] == b"\x90\x00"
    # Last, since it makes what was signed before too old.
    card.put("PUT DATA, signed time", net.time(NOW + DAY))


def update(card):
    """An update of the firmware, its body in parts as the host sends them; the first step imports what it
    needs."""
    whole = body((("a/b", bytes(1000)),))
    firmware = head(card.net, card.publisher, whole)
    name = "UPDATE FIRMWARE, "
    ins = c.INS_UPDATE_FIRMWARE
    card.send(name + "begin", ins, c.UPDATE_BEGIN, 0, firmware, c.CLA_PROPRIETARY)
    size = 512
    for at in range(0, len(whole), size):
        part = at.to_bytes(4, "big") + whole[at : at + size]
        card.send(name + "body", ins, c.UPDATE_BODY, 0, part, c.CLA_PROPRIETARY)
    card.send(name + "finish", ins, c.UPDATE_FINISH, 0, cla=c.CLA_PROPRIETARY)


def sam(card):
    """Another card, which becomes a till's (SAM): the longest claim, signed by it. Last, since its module is
    imported here, and stays."""
    net = card.net
    path = SCRATCH + "/sam.img"
    open(path, "wb").close()
    card.applet = card.session = None
    card.applet = Applet(Flash(path), card.random)
    card.session = card.applet.session()
    card.send("SELECT", c.INS_SELECT, 4, 0, c.AID)

    def send(name, step, data=b""):
        return card.send("SAM, " + name, c.INS_SAM, step, 0, data, c.CLA_PROPRIETARY)

    send("make", 0, b"\x80\x06" + net.header + b"\x9f\x26\x08" + PUK + b"\x9f\x25\x06" + PIN)
    card.send("VERIFY", c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN)
    send("key", 1)
    inputs = [o.Input(title_id=bytes((i,)) * 32, lo=0, hi=1000) for i in range(o.MAX_INPUTS)]
    claim = o.Claim(
        header=net.header,
        inputs=tuple(inputs),
        amount=LONGEST,
        payee=net.payee.public,
        nonce=bytes(16),
        counter=1,
        time=NOW,
        deadline=NOW + 7 * DAY,
    )
    assert len(send("sign", 2, claim.message())) == 64
    send("books", 3, bytes(32))


def measure(suite_id):
    """Name of each command to the bytes of its peak; all instructions that a card has."""
    card = Measured(Network(suite_id))
    try:
        personalise(card)
        pin(card)
        pay(card)
        read(card)
        receive(card)
        renew(card)
        seal(card)
        update(card)
        sam(card)
    finally:
        busy.attend(None)
    missing = [ins for ins in c.INSTRUCTIONS if ins not in card.instructions]
    assert not missing, missing
    return card.found


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))

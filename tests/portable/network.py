# SPDX-License-Identifier: Apache-2.0
"""A small network with the card's own crypto: authorities, cards, and what they sign. Portable."""

import os

from chipcash_card.applet import Applet
from chipcash_card.suites import Signer, generate_private, suite
from chipcash_sim.image import FileFlash
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

BANK = 12288
"""Small banks, so that the journal moves often."""
SCRATCH = os.getenv("CHIPCASH_SCRATCH") or "."
"""Where the cards' flash files go."""
NOW = 1790000000
DAY = 86400
PIN = b"123456"
PUK = b"12345678"


class Network:
    """Authorities' keys of one suite. Everything it makes is valid unless told otherwise."""

    def __init__(self, suite_id, network=b"TEST", random=os.urandom):
        self.suite = suite(suite_id)
        self.random = random
        self.header = o.make_header(network, suite_id)
        self.certification = self.key()
        self.center = self.key()
        self.payee = self.key()
        self.epoch = 0

    def key(self):
        """A new signing key."""
        return Signer(self.suite, generate_private(self.suite, self.random), 1, self.random)

    def key_id(self, key):
        """Key id of a signing key."""
        return self.suite.hash(key.public)[:8]

    def sign(self, key, obj):
        """The object, signed by key."""
        return obj.signed(key.sign(obj.message()))

    def title(self, owner, lo=0, hi=10000, amount=10000, serial=None, expiry=NOW + 365 * DAY):
        """A title of the center for owner (33 bytes)."""
        self.epoch += 1
        return self.sign(
            self.center,
            o.Title(
                header=self.header,
                signer=self.key_id(self.center),
                serial=serial or self.random(16),
                amount=amount,
                lo=lo,
                hi=hi,
                owner=owner,
                epoch=self.epoch,
                expiry=expiry,
            ),
        )

    def certificate(self, subject, per_payment=50000, expiry=NOW + 365 * DAY, role=o.ROLE_CARD):
        """A card certificate."""
        card = role == o.ROLE_CARD
        return self.sign(
            self.certification,
            o.Certificate(
                header=self.header,
                signer=self.key_id(self.certification),
                time=NOW - DAY,
                expiry=expiry,
                subject=subject,
                role=role,
                tier=4 if card else None,
                form=o.FORM_IC_CARD if card else None,
                per_payment=per_payment if card else None,
            ),
        )

    def risk(self, subject, sequence=1, time=NOW, **limits):
        """Risk parameters for a card."""
        values = {
            "per_payment": 50000,
            "cumulative": 200000,
            "count": 1000,
            "pin_free": 30000,
            "window": 7 * DAY,
            "horizon": 90 * DAY,
        }
        values.update(limits)
        return self.sign(
            self.center,
            o.RiskParameters(
                header=self.header,
                signer=self.key_id(self.center),
                subject=subject,
                sequence=sequence,
                time=time,
                **values,
            ),
        )

    def personalisation(self, public, **limits):
        """The STORE DATA object for a card's key."""
        return o.Personalisation(
            center_key=self.center.public,
            certification_key=self.certification.public,
            pin=PIN,
            puk=PUK,
            certificate=self.certificate(public, limits.get("per_payment", 50000)),
            risk=self.risk(public, **limits),
        )

    def time(self, time, sequence=0):
        """A signed time."""
        return self.sign(
            self.center,
            o.SignedTime(
                header=self.header, signer=self.key_id(self.center), time=time, sequence=sequence
            ),
        )

    def request(self, amount, nonce=None, time=NOW, payee=None):
        """A pay request."""
        return o.PayRequest(
            header=self.header,
            amount=amount,
            payee=payee or self.payee.public,
            nonce=nonce or self.random(16),
            time=time,
        )


class TestCard:
    """An applet on a flash file of its own, and its commands. Replies are (data, sw). keys: its key store, if
    not the one that an applet has by itself."""

    __test__ = False
    made = 0

    def __init__(self, network, keys=None):
        TestCard.made += 1
        self.keys = keys
        self.network = network
        self.path = "%s/card%d.img" % (SCRATCH, TestCard.made)
        open(self.path, "wb").close()
        self.flash = None
        self.contactless = False
        self.firmware = None
        self.public = b""
        self.boot()

    def boot(self, cut=None, half=False):
        """Power cycle, on the same flash; PowerCut may come out of it."""
        self.applet = self.session = None
        if self.flash is not None:
            self.flash.close()
        self.flash = FileFlash(self.path, cut, half, BANK)
        self.applet = Applet(self.flash, os.urandom, None, self.keys, firmware=self.firmware)
        self.session = self.applet.session()

    def send(self, ins, p1=0, p2=0, data=b"", cla=c.CLA_ISO, le=65536, extended=True):
        """Send one command; (data, sw)."""
        self.session.over_air = self.contactless
        reply = self.session.process(c.command(ins, p1, p2, data, cla, le, extended))
        return reply[:-2], int.from_bytes(reply[-2:], "big")

    def ok(self, *args, **kwargs):
        """Send one command that must succeed; its data."""
        data, sw = self.send(*args, **kwargs)
        assert sw == c.SW_OK, "%04X" % sw
        return data

    def select(self):
        """SELECT the application."""
        return self.ok(c.INS_SELECT, 4, 0, c.AID)

    def personalise(self, **limits):
        """From blank to personalised, selected."""
        self.select()
        self.public = self.ok(c.INS_GENERATE_KEY_PAIR, self.network.suite.id)
        self.ok(c.INS_STORE_DATA, 0x80, 0, self.personalisation(**limits).encode())
        return self

    def personalisation(self, **limits):
        """The STORE DATA object for this card's key."""
        return self.network.personalisation(self.public, **limits)

    def load(self, hi=10000, **values):
        """Put a title on the card; the title."""
        title = self.network.title(self.public, hi=hi, amount=hi, **values)
        self.ok(c.INS_PUT_DATA, data=title.encode())
        return title

    def put(self, obj):
        """PUT DATA; the status word."""
        return self.send(c.INS_PUT_DATA, data=obj.encode())[1]

    def pay(self, request):
        """PAY; (bytes, sw)."""
        return self.send(c.INS_PAY, data=request.encode(), cla=c.CLA_PROPRIETARY)

    def paid(self, request):
        """PAY that must succeed; the payment."""
        data, sw = self.pay(request)
        assert sw == c.SW_OK, "%04X" % sw
        return o.Payment.decode(data)

    def verify(self, pin=PIN):
        """VERIFY; the status word."""
        return self.send(c.INS_VERIFY, 0, c.PIN_REFERENCE, pin)[1]

    def info(self):
        """Card info."""
        return o.CardInfo.decode(self.ok(c.INS_GET_DATA, c.DATA_INFO))

    def balance(self):
        """Balance in fen, PIN session included."""
        self.select()
        assert self.verify() == c.SW_OK
        return self.info().balance


def check_payment(network, card_public, payment, request):
    """What every payment of an honest card fulfils."""
    claim = payment.claim
    assert claim.header == request.header
    assert (claim.nonce, claim.payee, claim.amount) == (
        request.nonce,
        request.payee,
        request.amount,
    )
    assert network.suite.verify(card_public, claim.message(), claim.signature)
    assert payment.certificate.subject == card_public
    for item, title in zip(claim.inputs, payment.titles):
        assert title.owner == card_public
        assert network.suite.hash(title.message()) == item.title_id
        assert title.expiry >= claim.deadline

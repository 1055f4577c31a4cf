# SPDX-License-Identifier: Apache-2.0
"""The vectors of protocols/vectors on the card's side: codec, signatures, and a card's whole life. Portable.

The files are read line by line: no board could hold one as a whole.
"""

import json
import os
from binascii import hexlify, unhexlify

from chipcash_card.applet import Applet
from chipcash_card.suites import BY_NAME
from chipcash_sim.image import FileFlash
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire.channel import Channel
from chipcash_wire.compat import keep_heap_whole
from chipcash_wire.tlv import WireError

VECTORS = os.getenv("CHIPCASH_VECTORS") or (
    __file__.rsplit("/", 1)[0] + "/../../protocols/vectors/"
)
SUITES = ("gm", "p256")

keep_heap_whole()  # before the first of these lines, not only before the first card


def lines(name):
    """The vectors of a file, one after the other."""
    with open(VECTORS + name) as file:
        for line in file:
            line = line.rstrip(",\n")
            if line not in ("[", "]"):
                yield json.loads(line)


def kind(name):
    """The class of an object's name in the specification."""
    return getattr(o, "".join([word[0].upper() + word[1:] for word in name.split()]))


def key(suite, name):
    """A test key: (private, public)."""
    for line in lines("keys.json"):
        if (line["suite"], line["name"]) == (suite.name, name):
            return unhexlify(line["private"]), unhexlify(line["public"])


def text(data):
    return hexlify(data).decode()


def test_keys():
    for line in lines("keys.json"):
        suite = BY_NAME[line["suite"]]
        public = suite.public_key(unhexlify(line["private"]))
        assert text(public) == line["public"]
        assert text(suite.hash(public)[:8]) == line["key_id"]


def test_good_objects():
    for name in SUITES:
        suite = BY_NAME[name]
        keys = {}
        for line in lines("objects-%s.json" % name):
            data = unhexlify(line["bytes"])
            obj = kind(line["object"]).decode(data)
            assert obj.encode() == data
            if "signer" in line:
                message = obj.message()
                assert text(message) == line["message"]
                signer = line["signer"]
                if signer not in keys:
                    keys[signer] = key(suite, signer)[1]
                assert suite.verify(keys[signer], message, obj.signature), line["name"]
                data = message
            if "id" in line:
                assert text(suite.hash(data)) == line["id"]


def test_bad_objects():
    for name in SUITES:
        for line in lines("bad-objects-%s.json" % name):
            try:
                kind(line["object"]).decode(unhexlify(line["bytes"]))
            except WireError:
                continue
            raise AssertionError("taken: " + str(line))


def test_signatures():
    for name in SUITES:
        suite = BY_NAME[name]
        for line in lines("signatures-%s.json" % name):
            values = [unhexlify(line[each]) for each in ("public", "message", "signature")]
            assert suite.verify(*values) == line["verifies"], line["name"]


class Card:
    """An applet whose key is the test key, and what it answered to the steps so far."""

    def __init__(self, suite_name):
        self.suite = BY_NAME[suite_name]
        self.private, self.public = key(self.suite, "card")
        self.path = (os.getenv("CHIPCASH_SCRATCH") or ".") + "/vectors.img"
        self.flash = None
        self.saved = {}
        self.seen = []
        self.first = None

    def random(self, n):
        """The system's generator, but for the first 32 bytes, of which the card makes its key."""
        if n != 32:
            return os.urandom(n)
        first, self.first = self.first, None
        return first or os.urandom(n)

    def close(self):
        """Off for good."""
        if self.flash is not None:
            self.flash.close()
            self.flash = None
            os.remove(self.path)

    def power(self, blank):
        """Power on, with the flash as it was or a new one."""
        if self.flash is not None:
            self.flash.close()
        if blank:
            open(self.path, "wb").close()
        self.flash = FileFlash(self.path)
        self.first = self.private if blank else None
        self.session = Applet(self.flash, self.random).session()
        self.parts = b""

    def step(self, step):
        """Do one step; an assertion fails where the card answers otherwise."""
        if "apdu" not in step:
            self.power(step.get("blank", False))
            return
        apdu = unhexlify(step["apdu"])
        if step.get("sealed"):
            apdu = c.command(c.INS_ENVELOPE, data=self.channel.seal(apdu), le=65536, extended=True)
        if apdu[1] != c.INS_GET_RESPONSE:
            self.parts = b""
        if apdu[1:3] == bytes((c.INS_SAM, 1)):
            self.first = self.private
        self.session.over_air = step.get("contactless", False)
        reply = self.session.process(apdu)
        if step.get("sealed"):
            assert text(reply[-2:]) == "9000", step["name"]
            reply = self.channel.open(reply[:-2])
        self.parts += reply[:-2]
        self.check(step, text(reply[-2:]), self.parts)
        if step["sw"][:2] != "61":
            self.parts = b""

    def check(self, step, sw, data):
        """Compare an answer, its parts put together, with what the step expects."""
        assert sw == step["sw"], (step["name"], sw)
        if sw[:2] == "61":
            return
        if "payment" in step:
            self.paid(data, step["payment"])
        elif "proof" in step:
            self.proven(data, step["proof"], unhexlify(step["certificate"]))
        elif "agreement" in step:
            self.agreed(data, unhexlify(step["agreement"]), unhexlify(step["certificate"]))
        elif "info" in step:
            known = o.CardInfo.decode(data)
            for name in o.CardInfo.FIELDS[:-2]:  # the last are the card's own: build, key_place
                name = name.rstrip("?")
                value = getattr(known, name)
                if isinstance(value, bytes):
                    value = text(value)
                assert value == step["info"].get(name), (step["name"], name, value)
        elif "signed" in step:
            assert self.suite.verify(self.public, unhexlify(step["signed"]), data), step["name"]
        elif "same" in step:
            assert data == self.saved[step["same"]], step["name"]
        else:
            assert text(data) == step.get("reply", ""), step["name"]
        if "saved" in step:
            self.saved[step["saved"]] = data

    def paid(self, data, expected):
        """A payment must be what is expected, and signed by the card."""
        claim = o.Payment.decode(data).claim
        assert text(claim.message()) == expected["claim"]
        assert self.suite.verify(self.public, claim.message(), claim.signature)
        behind = data[data.find(claim.encode()) + len(claim.encode()) :]
        assert text(self.suite.hash(behind)) == expected["behind"]

    def proven(self, data, expected, certificate):
        """A genuine proof of the card, and its certificate."""
        proof = o.GenuineProof.decode(data[: -len(certificate)])
        assert data.endswith(certificate)
        assert (text(proof.nonce), text(proof.subject)) == (expected["nonce"], expected["subject"])
        assert self.suite.verify(self.public, proof.message(), proof.signature)

    def agreed(self, data, private, certificate):
        """A channel proof of the card, and its certificate: the channel is open."""
        assert data.endswith(certificate)
        proof = o.ChannelProof.decode(data[: -len(certificate)])
        assert self.suite.verify(self.public, proof.message(), proof.signature)
        assert (proof.host_key, proof.subject) == (self.suite.public_key(private), self.public)
        assert proof.card_key not in self.seen, "an ephemeral key came twice"
        self.seen.append(proof.card_key)
        self.channel = host_end(self.suite, private, proof)


def host_end(suite, private, proof):
    """The host's end of a channel, by the card's own arithmetic."""
    point = suite.curve.decompress(proof.card_key)
    secret = suite.curve.agree(int.from_bytes(private, "big"), point)
    return Channel(suite.hash, suite.cipher, secret, proof.message(), False)


def test_channels():
    for name in SUITES:
        suite = BY_NAME[name]
        known = lines("channel-%s.json" % name)
        agreement = next(known)
        proof = o.ChannelProof.decode(unhexlify(agreement["proof"]))
        private = unhexlify(agreement["host_private"])
        host = host_end(suite, private, proof)
        point = suite.curve.decompress(proof.host_key)
        secret = suite.curve.agree(
            int.from_bytes(unhexlify(agreement["card_private"]), "big"), point
        )
        assert text(secret) == agreement["secret"]
        card = Channel(suite.hash, suite.cipher, secret, proof.message(), True)
        for line in known:
            assert text(host.seal(unhexlify(line["command"]))) == line["sealed_command"]
            assert text(card.open(unhexlify(line["sealed_command"]))) == line["command"]
            assert text(card.seal(unhexlify(line["reply"]))) == line["sealed_reply"]
            assert text(host.open(unhexlify(line["sealed_reply"]))) == line["reply"]


def run_card(suite_name, kind="card"):
    """All steps of a suite, of a card or a SAM; the replies that were saved."""
    card = Card(suite_name)
    try:
        for step in lines("%s-%s.json" % (kind, suite_name)):
            card.step(step)
    finally:
        card.close()
    return card.saved


def check_bad_objects(suite_name):
    """No bad object may reach a card: wrong data, and the card is as it was."""
    card = Card(suite_name)
    kinds = {"pay request": (c.INS_PAY, c.CLA_PROPRIETARY)}
    for name in (
        "title", "risk parameters", "signed time", "certificate", "payment", "receipt"
    ):  # fmt: skip
        kinds[name] = (c.INS_PUT_DATA, c.CLA_ISO)
    sent = 0
    try:
        for step in lines("card-%s.json" % suite_name):
            card.step(step)
            if step["name"] == "put the large title":
                break
        # Risk parameters are looked at in a PIN session only.
        verify = c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"123456", le=0)
        assert text(card.session.process(verify)) == "9000"
        info = c.command(c.INS_GET_DATA, c.DATA_INFO)
        before = card.session.process(info)
        for line in lines("bad-objects-%s.json" % suite_name):
            if line["object"] in kinds:
                ins, cla = kinds[line["object"]]
                apdu = c.command(ins, data=unhexlify(line["bytes"]), cla=cla, le=65536)
                assert text(card.session.process(apdu)) == "6a80", line
                sent += 1
        assert card.session.process(info) == before
    finally:
        card.close()
    assert sent > 300


def test_bad_objects_on_a_card_gm():
    check_bad_objects("gm")


def test_bad_objects_on_a_card_p256():
    check_bad_objects("p256")


def test_card_gm():
    assert len(run_card("gm")) > 10


def test_card_p256():
    assert len(run_card("p256")) > 10


def test_sams():
    """After the cards: what a SAM imports takes memory that they do not have."""
    for name in SUITES:
        assert not run_card(name, "sam")

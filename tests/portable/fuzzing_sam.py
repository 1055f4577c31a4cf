# SPDX-License-Identifier: Apache-2.0
"""Bad input for a till's card (SAM), and for blank cards, which may become one. Portable.

Apart from fuzzing.py, since a small heap has no room for both beside a payer's card.
"""

from chipcash_card.suites import suite
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire import objects, tlv
from chipcash_wire.sam import BOOKS, KEY, MAKE, SIGN, RefundPromise, Void

try:
    from fuzzing import PIN, PUK, SELECT, Material, Victim, codes, unblock
except ImportError:  # from outside this folder, which is no package where it is run
    from tests.portable.fuzzing import PIN, PUK, SELECT, Material, Victim, codes, unblock

_TIME = 1790000000
_ZEROS = bytes(32)
_VERIFY = c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN, le=0)
_INFO = c.command(c.INS_GET_DATA, c.DATA_INFO)
_SIGNED = [bytes((kind.TAG,)) for kind in (objects.Claim, Void, RefundPromise)]


class SamMaterial(Material):
    """Blank cards and a SAM, and the commands that they understand. made: its public key, and that of its
    books."""

    def __init__(self, net, device):
        self.net = net
        self.device = device
        self.lives = {"blank": ([], [])}
        make = _sam(MAKE, tlv.encode(0x80, net.header) + codes(0x9F26, PUK))
        card = SamVictim(self, "blank")
        card.ok(SELECT)
        card.ok(make)
        card.ok(_VERIFY)
        card.ok(_sam(KEY))
        self.made = card.secrets()
        self.lives["sam"] = self.banks()
        own, stranger = self.made[0], net.key().public
        title = net.title(own)
        claim = objects.Claim(
            header=net.header,
            inputs=(objects.Input(title_id=_ZEROS, lo=0, hi=100),),
            amount=100,
            payee=net.payee.public,
            nonce=bytes(16),
            counter=1,
            time=_TIME,
            deadline=_TIME + 1,
        )
        promise = RefundPromise(
            header=net.header, payee=own, claim_id=_ZEROS, amount=5, nonce=bytes(16), time=_TIME
        )
        self.pool = [
            make,
            SELECT,
            _VERIFY,
            _INFO,
            _sam(KEY),
            _sam(BOOKS, _ZEROS),
            _sam(SIGN, claim.message()),
            _sam(SIGN, promise.message()),
            _sam(SIGN, _void(net.header, own)),
            _sam(SIGN, _void(net.header, stranger)),
            _sam(SIGN, _void(b"NEXT" + net.header[4:], own)),
            _sam(SIGN, title.message()),
            c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"0000", le=0),
            c.command(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, codes(0x9F25, PIN), le=0),
            unblock(),
            c.command(c.INS_GENERATE_KEY_PAIR, net.suite.id),
            c.command(c.INS_GET_DATA, c.DATA_TITLE, 1),
            c.command(c.INS_PUT_DATA, data=title.encode(), le=0),
            c.command(c.INS_PAY, data=net.request(1).encode(), cla=c.CLA_PROPRIETARY, le=256),
            c.command(c.INS_INTERNAL_AUTHENTICATE, data=bytes(16)),
            c.command(c.INS_GET_RESPONSE),
        ]


class SamVictim(Victim):
    """A SAM, or a blank card that may become one."""

    def __init__(self, material, life):
        self._made = life == "sam"
        self._in_chain = False
        super().__init__(material, life)

    def send(self, apdu):
        """As Victim; and what is no object that a payee signs is not signed."""
        data, sw = super().send(apdu)
        alone = not self._in_chain
        self._in_chain = bool(apdu) and bool(apdu[0] & c.CLA_CHAINED)
        done = sw == c.SW_OK or sw >> 8 == c.SW_MORE >> 8
        if done and alone and not self._in_chain and apdu[1] == c.INS_SAM and apdu[2] == SIGN:
            assert c.parse(apdu)[4][:1] in _SIGNED, apdu
        return data, sw

    def secrets(self):
        """The public key, and the key of the books, in a PIN session."""
        return o.CardInfo.decode(self.ok(_INFO)).subject, self.ok(_sam(BOOKS, _ZEROS))

    def check_alive(self):
        """A SAM has the secrets that it was made with, and signs with them; other cards as Victim has it.

        False if nobody can use it any more: its PUK is blocked, or it was made with damaged codes.
        """
        self.power()
        header = o.ApplicationInfo.decode(self.ok(SELECT)).header
        life = self.state().lifecycle
        if life != o.LIFE_SAM:
            assert not self._made
            return True
        if self.send(unblock())[1] != c.SW_OK:
            return False
        self.ok(_VERIFY)
        if self._made:
            assert self.secrets() == self.material.made
        elif o.CardInfo.decode(self.ok(_INFO)).subject is None:
            self.ok(_sam(KEY))
        public, books = self.secrets()
        assert len(books) == len(_ZEROS) and books != _ZEROS
        message = _void(header, public)
        assert suite(header[5]).verify(public, message, self.ok(_sam(SIGN, message)))
        return True


def _sam(step, data=b""):
    return c.command(c.INS_SAM, step, 0, data, c.CLA_PROPRIETARY, 256)


def _void(header, payee):
    """What a payee signs when it gives a request up."""
    found = Void(header=header, payee=payee, nonce=bytes(16), amount=5, time=_TIME)
    return found.message()

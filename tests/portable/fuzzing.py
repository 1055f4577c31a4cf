# SPDX-License-Identifier: Apache-2.0
"""Bad input for cards: commands, what chance makes of them, and what must hold whatever comes. Portable."""

from chipcash_card.applet import Applet
from chipcash_card.journal import Journal
from chipcash_card.pin import KEY_PIN
from chipcash_card.purse import KEY_STATE, State
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire import tlv

BANK = 8192
_PIECE = 512
"""Bytes a bank: small, so that the journal moves often."""
DAY = 86400
PIN = b"123456"
PUK = b"12345678"
SELECT = c.command(c.INS_SELECT, 4, 0, c.AID)

_KNOWN = [getattr(c, name) for name in dir(c) if name.startswith("SW_")]
_TRIES = 2  # bytes at the start of KEY_PIN's value
_MAY_WRITE = (
    c.INS_VERIFY,
    c.INS_CHANGE_REFERENCE_DATA,
    c.INS_RESET_RETRY_COUNTER,
    c.INS_GENERATE_KEY_PAIR,
    c.INS_STORE_DATA,
    c.INS_PUT_DATA,
    c.INS_PAY,
    c.INS_SAM,
)
_BYTES = (0, 1, 0x7F, 0x80, 0x81, 0x82, 0xFF)
_VALUES = (
    b"",
    b"\x00",
    b"\x01",
    b"\x00\x01",
    b"\x7f" + b"\xff" * 7,
    b"\x80" + bytes(7),
    b"\xff" * 9,
)
_TAGS = (0x9F00, 0x1F80, 0x100)  # none of them canonical


class Dice:
    """Chance that falls the same in every run and under every interpreter (xorshift)."""

    def __init__(self, seed):
        self._state = seed or 1

    def below(self, n):
        """A number below n."""
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        return x % n

    def bytes(self, n):
        """n bytes."""
        return bytes([self.below(256) for _ in range(n)])


class Material:
    """Cards of one key in each life, and the commands that they understand.

    net: a tests network; device: flash with banks of BANK bytes, on which the cards are, one at a time;
    lives: what is in its banks; titles: all that there are for the key. The personalised card has the first
    three, and has paid once.
    """

    def __init__(self, net, device):
        self.net = net
        self.device = device
        self.lives = {"blank": ([], [])}
        card = Victim(self, "blank")
        card.ok(SELECT)
        self.public = card.ok(c.command(c.INS_GENERATE_KEY_PAIR, net.suite.id))
        self.lives["keyed"] = self.banks()
        perso = self.personalisation(self.public)
        card.ok(perso)
        self.titles = [net.title(self.public, hi=hi, amount=hi) for hi in (10**12, 700, 30, 1005)]
        for title in self.titles[:3]:
            card.ok(put(title))
        paid = net.request(100)
        card.ok(pay(paid))
        self.lives["personalised"] = self.banks()
        stranger = net.key().public
        now = paid.time
        self.pool = [
            SELECT,
            c.command(c.INS_GET_DATA, c.DATA_INFO),
            c.command(c.INS_GET_DATA, c.DATA_CERTIFICATE),
            c.command(c.INS_GET_DATA, c.DATA_TITLE, 1),
            c.command(c.INS_GET_DATA, c.DATA_PAYMENT, le=65536),
            c.command(c.INS_GET_DATA, c.DATA_PAYMENT, le=100),
            c.command(c.INS_GET_DATA, c.DATA_RISK, le=0),
            c.command(c.INS_GET_RESPONSE),
            c.command(c.INS_GET_RESPONSE, le=1),
            pay(paid),
            pay(net.request(100)),
            pay(net.request(40000)),
            pay(net.request(60000)),
            pay(net.request(100, time=now + 200 * DAY)),
            pay(net.request(100, time=now + 5), 256),
            pay(net.request(100), 0),
            put(self.titles[3]),
            put(self.titles[2]),
            put(net.title(stranger)),
            put(net.title(self.public, expiry=now - 1)),
            put(net.risk(self.public, 2, **_LIMITS)),
            put(net.risk(self.public)),
            put(net.time(now + 3)),
            put(net.certificate(self.public, expiry=now + 500 * DAY)),
            c.command(c.INS_INTERNAL_AUTHENTICATE, data=bytes(16)),
            c.command(c.INS_GENERAL_AUTHENTICATE, data=stranger),
            c.command(c.INS_ENVELOPE, data=bytes(40)),
            c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN, le=0),
            c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, b"0000", le=0),
            c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, le=0),
            c.command(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, codes(0x9F25, PIN), le=0),
            unblock(),
            c.command(c.INS_GENERATE_KEY_PAIR, o.SUITE_GM),
            c.command(c.INS_GENERATE_KEY_PAIR, o.SUITE_P256),
            perso,
        ]

    def banks(self):
        """What is in the banks, piece by piece and without what is empty: there is little memory for several
        cards, and none of it in one place."""
        banks = []
        for bank in (0, 1):
            pieces = []
            for at in range(0, BANK, _PIECE):
                piece = self.device.read(bank, at, _PIECE).rstrip(b"\xff")
                if not piece:
                    break
                pieces.append(piece)
            banks.append(pieces)
        return banks

    def personalisation(self, public):
        """The STORE DATA command for a key."""
        perso = self.net.personalisation(public, **_LIMITS)
        return c.command(c.INS_STORE_DATA, 0x80, 0, perso.encode(), le=0)


# So that no number of payments uses up what a card needs to show that it still pays.
_LIMITS = {"cumulative": 1 << 60, "count": 1 << 31}


def put(obj):
    """The PUT DATA command for an object."""
    return c.command(c.INS_PUT_DATA, data=obj.encode(), le=0)


def pay(request, le=65536):
    """The PAY command for a request."""
    return c.command(c.INS_PAY, data=request.encode(), cla=c.CLA_PROPRIETARY, le=le)


def unblock():
    """The RESET RETRY COUNTER command that brings the PIN back."""
    data = codes(0x9F26, PUK)
    return c.command(c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE, data, le=0)


def codes(tag, old):
    """A code as it was, of this tag, and the PIN."""
    return tlv.encode(tag, old) + tlv.encode(0x9F25, PIN)


# What chance makes of a command ---------------------------------------------------------------


def fuzzed(pool, choose):
    """One or more APDUs: a command of the pool as it is or damaged, or bytes of no meaning.

    choose(n): a number below n. Zeros make it simple.
    """
    apdu = pool[choose(len(pool))]
    way = choose(10)
    if way == 0:
        return [apdu]
    if way == 1:
        at = choose(4)
        return [apdu[:at] + bytes((choose(256),)) + apdu[at + 1 :]]
    if way < 4:
        return [damaged(apdu, choose)]
    if way == 9:
        return [bytes([choose(256) for _ in range(choose(20))])]
    cla, ins, p1, p2, data, le = c.parse(apdu)
    if way < 6:
        data = rearranged(data, choose)
    elif way == 6:
        data = data[: choose(len(data) + 1)] + c.parse(pool[choose(len(pool))])[4][choose(40) :]
    elif way == 7:
        le = (0, 1, 9, 255, 256, 65536)[choose(6)]
    else:
        return _chained(cla, ins, p1, p2, data, le, pool, choose)
    return [c.command(ins, p1, p2, data[: c.MAX_COMMAND + 1], cla, le, choose(2) == 1)]


def damaged(data, choose):
    """Bytes changed, taken out, put in, or cut off behind."""
    for _ in range(1 + choose(3)):
        at = choose(len(data) + 1)
        n = 1 + choose(4)
        way = choose(5)
        if way < 2:
            new = choose(256) if way else _BYTES[choose(len(_BYTES))]
            data = data[:at] + bytes((new,)) + data[at + 1 :]
        elif way == 2:
            data = data[:at] + data[at + n :]
        elif way == 3:
            data = data[: at + n] + data[at:]
        else:
            data = data[:at]
    return data


def rearranged(data, choose):
    """Data whose TLVs are changed, missing, doubled, moved or strange, but whose lengths are right."""
    try:
        found = tree(data)
    except tlv.WireError:
        return damaged(data, choose)
    for _ in range(1 + choose(2)):
        # Down to some list of TLVs, and to one place in it.
        items = found
        while items:
            at = choose(len(items))
            inner = items[at][1]
            if isinstance(inner, bytes) or not inner or choose(3) == 0:
                break
            items = inner
        if not items:
            continue
        tag, value = items[at]
        way = choose(7)
        if way == 0 and isinstance(value, bytes):
            items[at] = (tag, damaged(value, choose))
        elif way == 1:
            items[at] = (tag, _VALUES[choose(len(_VALUES))])
        elif way == 2:
            items.pop(at)
        elif way == 3:
            items.insert(at, (tag, value))
        elif way == 4:
            items.append(items.pop(at))
        elif way == 5:
            items[at] = ((0x80, 0xE0)[choose(2)] + choose(0x10), value)
        else:
            items[at] = (_TAGS[choose(len(_TAGS))] if choose(2) else 0x9F20 + choose(16), value)
    return joined(found)


def tree(data):
    """TLVs as a list of (tag, bytes or list)."""
    items = []
    at = 0
    while at < len(data):
        tag, start, end = tlv.header(data, at)
        value = data[start:end]
        constructed = tag < 0x100 and tag & 0x20
        items.append((tag, tree(value) if constructed else value))
        at = end
    return items


def joined(items):
    """The bytes of such a list."""
    out = b""
    for tag, value in items:
        out += tlv.encode(tag, value if isinstance(value, bytes) else joined(value))
    return out


def _chained(cla, ins, p1, p2, data, le, pool, choose):
    """The command in parts, one of them perhaps wrong, missing, or with another command behind it."""
    size = 1 + choose(200)
    parts = []
    while len(data) > size:
        parts.append(c.command(ins, p1, p2, data[:size], cla | c.CLA_CHAINED, 0))
        data = data[size:]
    parts.append(c.command(ins, p1, p2, data, cla, le))
    at = choose(len(parts))
    way = choose(5)
    if way == 1:
        parts.pop(at)
    elif way == 2:
        parts.insert(at, pool[choose(len(pool))])
    elif way == 3:
        parts[at] = damaged(parts[at], choose)
    elif way == 4:
        parts = parts[:at] * 4 + parts[at:]
    return parts[:16]


# What must hold -------------------------------------------------------------------------------


class Victim:
    """A card that is sent anything; every answer is checked.

    paid: fen that it has ever paid; seen: how often each status word came, the number in it left out (63C0,
    6100).
    """

    def __init__(self, material, life):
        self.material = material
        self._flash = material.device
        for bank in (0, 1):
            self._flash.erase(bank)
            at = 0
            for piece in material.lives[life][bank]:
                self._flash.program(bank, at, piece)
                at += _PIECE
        self.seen = {}
        self._store = {}
        self.power()
        self.paid = self.state().cumulative

    def power(self):
        """Power off and on."""
        self._session = Applet(self._flash, self.material.net.random).session()
        self._store = self._stored()

    def _stored(self):
        """What a power on would find. What is as it was is kept once: a small heap has no room for two."""
        journal = Journal(self._flash)
        found = {}
        for key in journal.keys(b""):
            value = journal.get(key)
            before = self._store.get(key)
            found[key] = before if before == value else value
        return found

    def state(self):
        """The card's numbers, as stored."""
        return State(self._store.get(KEY_STATE))

    def send(self, apdu):
        """One APDU, whatever it is; (data, sw)."""
        before = self._flash.writes
        reply = self._session.process(apdu)
        assert isinstance(reply, bytes) and len(reply) >= 2
        data, sw = reply[:-2], int.from_bytes(reply[-2:], "big")
        kind = sw
        if sw >> 8 == c.SW_MORE >> 8:
            kind = c.SW_MORE
        elif sw >> 4 == c.SW_PIN_WRONG >> 4:
            kind = c.SW_PIN_WRONG
            assert sw & 15 < c.PUK_TRIES
        assert kind in _KNOWN and kind not in (c.SW_INTERNAL, c.SW_LE), (apdu, reply)
        self.seen[kind] = self.seen.get(kind, 0) + 1
        done = kind in (c.SW_OK, c.SW_MORE)
        if data:
            assert done and len(data) <= c.parse(apdu)[5], (apdu, reply)
        if self._flash.writes != before:
            assert apdu[1] in _MAY_WRITE, (apdu, reply)
            old = self._store
            self._store = self._stored()
            if not done:
                self._only_tries(old, kind)
            else:
                self._count(State(old.get(KEY_STATE)))
        return data, sw

    def _only_tries(self, old, kind):
        """A refusal may cost a try of PIN or PUK, and nothing else."""
        new = self._store
        assert kind == c.SW_PIN_WRONG
        assert sorted(old) == sorted(new)
        for key in old:
            if key == KEY_PIN:
                assert old[key][_TRIES:] == new[key][_TRIES:]
                assert sum(old[key][:_TRIES]) == sum(new[key][:_TRIES]) + 1
            else:
                assert old[key] == new[key], key

    def _count(self, old):
        new = self.state()
        if new.counter != old.counter:
            assert new.counter == old.counter + 1
            self.paid += new.cumulative - old.cumulative
        else:
            assert new.cumulative in (old.cumulative, 0)
        assert new.newest >= old.newest and new.lifecycle >= old.lifecycle

    def attack(self, choose):
        """Send something damaged; how many APDUs that were. Now and then select and show the PIN again."""
        sent = 0
        for apdu in fuzzed(self.material.pool, choose):
            sent += 1
            if self.send(apdu)[1] == c.SW_CONDITIONS and choose(4):
                self.send(SELECT)
                if choose(2):
                    self.send(c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN, le=0))
        return sent

    def ok(self, apdu):
        """One short APDU and its GET RESPONSEs, that must succeed; the data."""
        data, sw = self.send(apdu)
        while sw >> 8 == c.SW_MORE >> 8:
            more, sw = self.send(c.command(c.INS_GET_RESPONSE))
            data += more
        assert sw == c.SW_OK, "%04X" % sw
        return data

    def look(self):
        """All that the card shows in a PIN session; None if PIN and PUK are blocked."""
        if self.send(SELECT)[1] == c.SW_CHAIN_BROKEN:
            self.ok(SELECT)
        if self.send(unblock())[1] == c.SW_BLOCKED:
            return None
        self.ok(c.command(c.INS_VERIFY, 0, c.PIN_REFERENCE, PIN, le=0))
        shown = [self.ok(c.command(c.INS_GET_DATA, c.DATA_INFO))]
        for what in (c.DATA_TITLE, c.DATA_PAYMENT):
            found = []
            for index in range(c.MAX_TITLES):
                apdu = c.command(c.INS_GET_DATA, what, index, le=65536)
                data, sw = self.send(apdu)
                if sw != c.SW_OK:
                    assert sw == c.SW_RECORD_NOT_FOUND
                    break
                found.append(data)
            shown.append(sorted(found) if what == c.DATA_TITLE else found)
        return shown

    def check_alive(self):
        """The card goes on as it says, has all its money, and pays.

        False if its PUK is blocked, so that nobody can see its money.
        """
        material = self.material
        net = material.net
        life = self.state().lifecycle
        if life != o.LIFE_PERSONALISED:
            self.power()
            self.ok(SELECT)
            public = self.ok(c.command(c.INS_GENERATE_KEY_PAIR, net.suite.id))
            self.ok(material.personalisation(public))
            titles = [net.title(public)]
        else:
            public = material.public
            titles = material.titles
        before = self.look()
        self.power()
        after = self.look()
        assert before == after
        for title in titles:
            assert self.send(put(title))[1] in (c.SW_OK, c.SW_STALE)
        request = net.request(1, time=self.state().newest)
        payment = o.Payment.decode(self.ok(pay(request, 256)))
        claim = payment.claim
        assert (claim.nonce, claim.amount, claim.payee) == (request.nonce, 1, request.payee)
        assert net.suite.verify(public, claim.message(), claim.signature)
        if after is None:
            return False
        info = o.CardInfo.decode(self.ok(c.command(c.INS_GET_DATA, c.DATA_INFO)))
        total = sum([title.hi - title.lo for title in titles])
        assert info.balance == total - self.paid
        return True

# SPDX-License-Identifier: Apache-2.0
"""The applet: command APDUs in, response APDUs out, as protocols/spec/commands.md says. No I/O of its own.

A command that is refused changes nothing; whatever the bytes, the answer is a status word.
"""

from chipcash_card.journal import Full, Journal
from chipcash_card.pin import KEY_PIN, Pin
from chipcash_card.purse import (
    KEY_ANCHORS,
    KEY_CERTIFICATE,
    KEY_PRIVATE,
    KEY_RISK,
    KEY_STATE,
    Purse,
    Refused,
    State,
)
from chipcash_card.suites import Signer, generate_private, suite
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire import tlv
from chipcash_wire.compat import INTERPRETER, TYPE_CHECKING, keep_heap_whole
from chipcash_wire.tlv import WireError

if TYPE_CHECKING:
    from typing import Callable

BUILD = b"chipcash 0.1.0 " + INTERPRETER.encode()
"""What card info tells of the firmware, at most 32 bytes."""
COUPONS = 2
"""Signature coupons that an idle card keeps ready."""

_TAG_PIN = 0x9F25
_TAG_PUK = 0x9F26

_CONTACT = (
    c.INS_VERIFY,
    c.INS_CHANGE_REFERENCE_DATA,
    c.INS_RESET_RETRY_COUNTER,
    c.INS_GENERATE_KEY_PAIR,
    c.INS_STORE_DATA,
)
_ANY_LIFE = (c.INS_SELECT, c.INS_GET_RESPONSE, c.INS_GET_DATA)


class Applet:
    """The card application over one store, from power on to power off.

    device: the flash behind the journal; random(n): n bytes from the hardware or system generator.
    Raises OSError if the device cannot be read.
    """

    def __init__(self, device, random: "Callable[[int], bytes]") -> None:  # type: ignore[no-untyped-def]
        keep_heap_whole()
        self._random = random
        self._journal = Journal(device)
        self._state = State(self._journal.get(KEY_STATE))
        self._signer: "Signer | None" = None
        self._purse: "Purse | None" = None
        self._pin: "Pin | None" = None
        self._broken = False
        if self._state.lifecycle != o.LIFE_BLANK:
            # A boot epoch of its own for each power on: no nonce of an earlier one can come again.
            self._state.boots += 1
            self._journal.commit({KEY_STATE: self._state.encode()})
            self._load()
        self.reset()

    def _load(self) -> None:
        key = suite(self._state.suite)
        private = self._journal.get(KEY_PRIVATE) or b""
        self._signer = Signer(key, private, self._state.boots, self._random)
        if self._state.lifecycle == o.LIFE_PERSONALISED:
            self._purse = Purse(self._journal, self._state, self._signer)
            self._pin = Pin(self._journal, key)

    def reset(self) -> None:
        """A reset of the link: nothing selected, no PIN session, no chain."""
        self._selected = False
        self._chain = b""
        self._chain_head = b""
        self._rest = b""
        if self._pin is not None:
            self._pin.verified = False

    def idle(self) -> bool:
        """Do one piece of work that a tap should not wait for; False when there is none left."""
        if self._broken or self._signer is None or self._purse is None:
            return False
        if self._signer.coupons < COUPONS:
            self._signer.prepare()
            return True
        return False

    def process(self, apdu: bytes, contactless: bool = False) -> bytes:
        """Answer one command APDU. contactless: it came over the air, where no PIN is taken in clear."""
        if self._broken:
            return _sw(c.SW_INTERNAL)
        try:
            return self._process(apdu, contactless)
        except (Refused, c.ApduError) as refusal:
            return _sw(refusal.sw)
        except WireError:
            return _sw(c.SW_DATA)
        except Full:
            return _sw(c.SW_NO_SPACE)
        except Exception:
            # Memory and journal may disagree now: only the journal counts, read at the next power on.
            self._broken = True
            return _sw(c.SW_INTERNAL)

    def _process(self, apdu: bytes, contactless: bool) -> bytes:
        rest = self._rest
        self._rest = b""
        cla, ins, p1, p2, data, le = c.parse(apdu)
        if cla & 0x6F:
            self._chain = self._chain_head = b""
            if cla & 0x60:
                raise Refused(c.SW_CLA)
            raise Refused(c.SW_SECURE_MESSAGING if cla & 0x0C else c.SW_CHANNEL)
        head = bytes((cla & ~c.CLA_CHAINED & 0xFF, ins, p1, p2))
        if self._chain_head and head != self._chain_head:
            self._chain = self._chain_head = b""
            raise Refused(c.SW_CHAIN_BROKEN)
        data = self._chain + data
        if len(data) > c.MAX_COMMAND:
            self._chain = self._chain_head = b""
            raise Refused(c.SW_LENGTH)
        if cla & c.CLA_CHAINED:
            self._chain = data
            self._chain_head = head
            return _sw(c.SW_OK)
        self._chain = self._chain_head = b""
        if ins == c.INS_GET_RESPONSE and cla == c.CLA_ISO:
            if not rest:
                raise Refused(c.SW_CONDITIONS)
            reply = rest
        else:
            reply = self._command(head[0], ins, p1 << 8 | p2, data, contactless)
        if len(reply) <= le:
            return reply + _sw(c.SW_OK)
        self._rest = reply[le:]
        return reply[:le] + _sw(c.SW_MORE | (min(len(self._rest), 256) & 0xFF))

    def _command(self, cla: int, ins: int, p1p2: int, data: bytes, contactless: bool) -> bytes:
        if ins not in c.NAMES:
            raise Refused(c.SW_INS)
        if (cla == c.CLA_PROPRIETARY) != (ins == c.INS_PAY):
            raise Refused(c.SW_CLA)
        if ins == c.INS_SELECT:
            return self._select(p1p2, data)
        if not self._selected:
            raise Refused(c.SW_CONDITIONS)
        life = self._state.lifecycle
        if ins == c.INS_GENERATE_KEY_PAIR:
            fits = life != o.LIFE_PERSONALISED
        elif ins == c.INS_STORE_DATA:
            fits = life == o.LIFE_KEYED
        else:
            fits = life == o.LIFE_PERSONALISED or ins in _ANY_LIFE
        if not fits or (contactless and ins in _CONTACT):
            raise Refused(c.SW_CONDITIONS)
        if ins == c.INS_GET_DATA:
            return self._get_data(p1p2 >> 8, p1p2 & 0xFF)
        if ins == c.INS_GENERATE_KEY_PAIR:
            return self._generate(p1p2)
        if ins == c.INS_STORE_DATA:
            _expect(p1p2, 0x8000)
            return self._store_data(data)
        purse = self._purse
        pin = self._pin
        if purse is None or pin is None:
            raise Refused(c.SW_CONDITIONS)
        if ins == c.INS_PAY:
            _expect(p1p2, 0)
            reply, used_pin = purse.pay(data, pin.verified)
            if used_pin:
                pin.verified = False
            return reply
        if ins == c.INS_PUT_DATA:
            _expect(p1p2, 0)
            purse.put(data)
            return b""
        if ins == c.INS_INTERNAL_AUTHENTICATE:
            _expect(p1p2, 0)
            if len(data) != 16:
                raise Refused(c.SW_DATA)
            return purse.prove(data, self._random(32)) + purse.certificate
        _expect(p1p2, c.PIN_REFERENCE)
        if ins == c.INS_VERIFY:
            if data:
                pin.verify(_digits(data, c.PIN_MIN, c.PIN_MAX))
            elif not pin.verified:
                raise Refused(c.SW_PIN_WRONG | pin.tries if pin.tries else c.SW_BLOCKED)
            return b""
        if ins == c.INS_CHANGE_REFERENCE_DATA:
            old, new = _two(data, _TAG_PIN)
            pin.change(old, new)
        else:
            puk, new = _two(data, _TAG_PUK)
            pin.unblock(puk, new)
        return b""

    def _select(self, p1p2: int, data: bytes) -> bytes:
        self.reset()
        _expect(p1p2, 0x0400)
        if data != c.AID:
            raise Refused(c.SW_NOT_FOUND)
        self._selected = True
        header = self._purse.header if self._purse is not None else None
        return o.ApplicationInfo(header=header, lifecycle=self._state.lifecycle).encode()

    def _get_data(self, what: int, index: int) -> bytes:
        purse = self._purse
        if what == c.DATA_INFO and not index:
            return self._info()
        if what not in (c.DATA_CERTIFICATE, c.DATA_TITLE, c.DATA_PAYMENT, c.DATA_RISK) or (
            index and what in (c.DATA_CERTIFICATE, c.DATA_RISK)
        ):
            raise Refused(c.SW_P1P2)
        if purse is None or self._pin is None:
            raise Refused(c.SW_CONDITIONS)
        if what == c.DATA_CERTIFICATE:
            return purse.certificate
        if what == c.DATA_RISK:
            return purse.risk
        if not self._pin.verified:
            raise Refused(c.SW_SECURITY)
        if what == c.DATA_TITLE:
            record = purse.title(index)
            found = record.encode() if record is not None else None
        else:
            found = purse.payment(index)
        if found is None:
            raise Refused(c.SW_RECORD_NOT_FOUND)
        return found

    def _info(self) -> bytes:
        state = self._state
        purse = self._purse
        pin = self._pin
        balance = None
        if purse is not None and pin is not None and pin.verified:
            balance = min(purse.balance, o.MAX_AMOUNT)
        return o.CardInfo(
            subject=self._signer.public if self._signer is not None else None,
            counter=state.counter,
            time=state.newest,
            sequence=purse.sequence if purse is not None else 0,
            lifecycle=state.lifecycle,
            pin_tries=pin.tries if pin is not None else 0,
            balance=balance,
            spent=state.cumulative,
            payments=state.count,
            build=BUILD,
        ).encode()

    def _generate(self, p1p2: int) -> bytes:
        if p1p2 & 0xFF or p1p2 >> 8 not in (o.SUITE_GM, o.SUITE_P256):
            raise Refused(c.SW_P1P2)
        key = suite(p1p2 >> 8)
        private = generate_private(key, self._random)
        state = State(self._state.encode())
        state.lifecycle = o.LIFE_KEYED
        state.suite = key.id
        state.boots += 1
        self._journal.commit({KEY_PRIVATE: private, KEY_STATE: state.encode()})
        self._state = state
        self._load()
        return self._signer.public  # type: ignore[union-attr]

    def _store_data(self, data: bytes) -> bytes:
        perso = o.Personalisation.decode(data)
        certificate = perso.certificate
        risk = perso.risk
        signer = self._signer
        if signer is None:
            raise Refused(c.SW_CONDITIONS)
        if certificate.header != risk.header or o.suite_of(risk) != self._state.suite:
            raise Refused(c.SW_NETWORK)
        key = suite(self._state.suite)
        if not key.verify(
            perso.certification_key, certificate.message(), certificate.signature
        ) or not key.verify(perso.center_key, risk.message(), risk.signature):
            raise Refused(c.SW_SIGNATURE)
        if certificate.role != o.ROLE_CARD or not (
            certificate.subject == risk.subject == signer.public
        ):
            raise Refused(c.SW_NOT_MINE)
        state = State(self._state.encode())
        state.lifecycle = o.LIFE_PERSONALISED
        state.newest = risk.time
        self._journal.commit(
            {
                KEY_ANCHORS: perso.center_key + perso.certification_key,
                KEY_CERTIFICATE: certificate.encode(),
                KEY_RISK: risk.encode(),
                KEY_PIN: Pin.create(key, self._random, perso.pin, perso.puk),
                KEY_STATE: state.encode(),
            }
        )
        self._state = state
        self._load()
        return b""


def _sw(sw: int) -> bytes:
    return bytes((sw >> 8, sw & 0xFF))


def _expect(p1p2: int, wanted: int) -> None:
    if p1p2 != wanted:
        raise Refused(c.SW_P1P2)


def _digits(data: bytes, least: int, most: int) -> bytes:
    if not least <= len(data) <= most:
        raise Refused(c.SW_DATA)
    for digit in data:
        if not 0x30 <= digit <= 0x39:
            raise Refused(c.SW_DATA)
    return data


def _two(data: bytes, first: int) -> "tuple[bytes, bytes]":
    """The two TLVs of a PIN change or unblock: an old PIN or PUK, and the new PIN."""
    tag, start, end = tlv.header(data, 0)
    tag2, start2, end2 = tlv.header(data, end)
    if tag != first or tag2 != _TAG_PIN or end2 != len(data):
        raise Refused(c.SW_DATA)
    old = data[start:end]
    size = (c.PIN_MIN, c.PIN_MAX) if first == _TAG_PIN else (c.PUK_SIZE, c.PUK_SIZE)
    return _digits(old, size[0], size[1]), _digits(data[start2:end2], c.PIN_MIN, c.PIN_MAX)

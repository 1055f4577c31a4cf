# SPDX-License-Identifier: Apache-2.0
"""A session: command APDUs in, response APDUs out, as protocols/spec/commands.md says. No I/O of its own.

A command that is refused changes nothing; whatever the bytes, the answer is a status word.
"""

from chipcash_card.journal import Full
from chipcash_card.purse import Refused
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire import tlv
from chipcash_wire.compat import TYPE_CHECKING
from chipcash_wire.tlv import WireError

if TYPE_CHECKING:
    from typing import Any, Callable

    from chipcash_card.applet import Applet
    from chipcash_wire.channel import Channel

_TAG_PIN = 0x9F25
TAG_PUK = 0x9F26
"""Before a PUK, in the data of commands."""

_SECRET = (
    c.INS_VERIFY,
    c.INS_CHANGE_REFERENCE_DATA,
    c.INS_RESET_RETRY_COUNTER,
    c.INS_GENERATE_KEY_PAIR,
    c.INS_STORE_DATA,
    c.INS_SAM,
)
_ANY_LIFE = (c.INS_SELECT, c.INS_GET_RESPONSE, c.INS_GET_DATA, c.INS_UPDATE_FIRMWARE)
_NEVER_SEALED = (
    c.INS_SELECT,
    c.INS_GET_RESPONSE,
    c.INS_GENERAL_AUTHENTICATE,
    c.INS_ENVELOPE,
)


class _Scope:
    """How a command came: through a secure channel, or in clear. Each has a PIN session of its own."""

    def __init__(self, channel: "Channel | None" = None) -> None:
        self.channel = channel
        self.verified = False


class Session:
    """What one interface of the card has selected and verified, over the applet that all of them share.

    A card with several interfaces (contacts, antenna, Bluetooth) has a session for each, and they do not see
    each other's PIN. over_air: commands come over radio, where no PIN is taken but in a secure channel. far:
    over Bluetooth, from farther than a hand's breadth, where no payment is made without an act of the holder.
    """

    def __init__(self, applet: "Applet", over_air: bool = False, far: bool = False) -> None:
        self._applet = applet
        self.over_air = over_air
        self._far = far
        self.reset()

    def reset(self) -> None:
        """A reset of the link: nothing selected, no PIN session, no secure channel, no chain."""
        self._selected = False
        self._clear = _Scope()
        self._sealed: "_Scope | None" = None
        self._chain = b""
        self._chain_head = b""
        self._keep(b"", 0)

    def _keep(self, reply: bytes, sent: int) -> None:
        """Have GET RESPONSE find what was not sent of a reply, which is kept whole: a copy takes room."""
        self._reply = reply
        self._sent = sent

    def process(self, apdu: bytes) -> bytes:
        """Answer one command APDU."""
        return self._guarded(self._process, apdu)

    def _guarded(self, work: "Callable[..., bytes]", *arguments: "Any") -> bytes:
        """What work answers, or the status word of what went wrong."""
        if self._applet.broken:
            return _sw(c.SW_INTERNAL)
        try:
            return work(*arguments)
        except (Refused, c.ApduError) as refusal:
            return _sw(refusal.sw)
        except WireError:
            return _sw(c.SW_DATA)
        except Full:
            return _sw(c.SW_NO_SPACE)
        except Exception:
            # Memory and journal may disagree now: only the journal counts, read at the next power on.
            self._applet.broken = True
            return _sw(c.SW_INTERNAL)

    def _process(self, apdu: bytes) -> bytes:
        reply = self._reply
        sent = self._sent
        self._keep(b"", 0)
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
        if ins == c.INS_GET_RESPONSE and cla in (c.CLA_ISO, c.CLA_PROPRIETARY):
            # Some host stacks ask for the rest of a reply with the CLA of its command.
            if not reply:
                raise Refused(c.SW_CONDITIONS)
        else:
            reply = b""  # what was kept of the one before
            reply = self._command(self._clear, head[0], ins, p1 << 8 | p2, data)
            sent = 0
            if len(reply) <= le:
                return reply + _sw(c.SW_OK)
        end = sent + le
        left = len(reply) - end
        if left <= 0:
            return reply[sent:] + _sw(c.SW_OK)
        self._keep(reply, end)
        return reply[sent:end] + _sw(c.SW_MORE | (min(left, 256) & 0xFF))

    def _command(self, scope: _Scope, cla: int, ins: int, p1p2: int, data: bytes) -> bytes:
        if ins not in c.INSTRUCTIONS:
            raise Refused(c.SW_INS)
        if (cla == c.CLA_PROPRIETARY) != (ins in c.PROPRIETARY):
            raise Refused(c.SW_CLA)
        if ins == c.INS_SELECT:
            return self._select(p1p2, data)
        if not self._selected:
            raise Refused(c.SW_CONDITIONS)
        applet = self._applet
        life = applet.lifecycle
        if ins == c.INS_GENERATE_KEY_PAIR:
            fits = life <= o.LIFE_KEYED
        elif ins == c.INS_STORE_DATA:
            fits = life == o.LIFE_KEYED
        elif ins == c.INS_SAM:
            fits = life in (o.LIFE_BLANK, o.LIFE_SAM)
        elif life == o.LIFE_SAM:
            fits = ins in _SECRET or ins in _ANY_LIFE
        else:
            fits = life == o.LIFE_PERSONALISED or ins in _ANY_LIFE
        if not fits or (self.over_air and scope.channel is None and ins in _SECRET):
            raise Refused(c.SW_CONDITIONS)
        if ins == c.INS_GET_DATA:
            return self._get_data(scope, p1p2 >> 8, p1p2 & 0xFF)
        if ins == c.INS_UPDATE_FIRMWARE:
            self._update(scope, p1p2, data)
            return b""
        if ins == c.INS_GENERATE_KEY_PAIR:
            return applet.generate(p1p2)
        if ins == c.INS_STORE_DATA:
            _expect(p1p2, 0x8000)
            applet.personalise(data)
            return b""
        if ins == c.INS_SAM:
            from chipcash_card.sam import Sam  # most cards are none, and memory is short

            return Sam(applet).command(p1p2, data, scope.verified)
        pin = applet.pin
        if pin is None:
            raise Refused(c.SW_CONDITIONS)
        if ins == c.INS_PAY:
            _expect(p1p2, 0)
            reply, used_pin = applet.pay(data, scope.verified, self._far)
            if used_pin:
                scope.verified = False
            return reply
        if ins == c.INS_PUT_DATA:
            _expect(p1p2, 0)
            applet.put(data, scope.verified)
            return b""
        if ins == c.INS_GENERAL_AUTHENTICATE:
            _expect(p1p2, 0)
            return self._open_channel(data)
        if ins == c.INS_ENVELOPE:
            _expect(p1p2, 0)
            return self._envelope(data)
        if ins == c.INS_INTERNAL_AUTHENTICATE:
            _expect(p1p2, 0)
            if len(data) != 16:
                raise Refused(c.SW_DATA)
            return applet.prove(data)
        _expect(p1p2, c.PIN_REFERENCE)
        if ins == c.INS_VERIFY:
            if data:
                digits = _digits(data, c.PIN_MIN, c.PIN_MAX)
                scope.verified = False
                pin.verify(digits)
                scope.verified = True
            elif not scope.verified:
                raise Refused(c.SW_PIN_WRONG | pin.tries if pin.tries else c.SW_BLOCKED)
            return b""
        if ins == c.INS_CHANGE_REFERENCE_DATA:
            old, new = two_codes(data, _TAG_PIN)
            scope.verified = False
            pin.change(old, new)
            scope.verified = True
        else:
            puk, new = two_codes(data, TAG_PUK)
            scope.verified = False
            pin.unblock(puk, new)
        return b""

    def _update(self, scope: _Scope, p1p2: int, data: bytes) -> None:
        """UPDATE FIRMWARE: one of its steps. The others are for the scope that began."""
        step = p1p2 >> 8
        if p1p2 & 0xFF or step > c.UPDATE_FINISH:
            raise Refused(c.SW_P1P2)
        applet = self._applet
        try:
            updates = applet.updates
            if step == c.UPDATE_BODY:
                updates.body(scope, data)
            elif step == c.UPDATE_FINISH:
                updates.finish(scope)
            elif scope.verified or (applet.pin is None and not self.over_air):
                updates.begin(scope, data)
            else:
                raise Refused(c.SW_SECURITY)
        except MemoryError:
            raise Refused(c.SW_MEMORY)  # which is no reason for the purse to stop

    def _open_channel(self, host_key: bytes) -> bytes:
        """GENERAL AUTHENTICATE: a new secure channel in place of the one before."""
        self._sealed = None
        found = self._applet.open_channel(host_key)
        if found is None:
            raise Refused(c.SW_DATA)
        channel, reply = found
        self._sealed = _Scope(channel)
        return reply

    def _envelope(self, data: bytes) -> bytes:
        """ENVELOPE: carry out the command APDU that is sealed in data; its response APDU, sealed."""
        scope = self._sealed
        if scope is None or scope.channel is None:
            raise Refused(c.SW_CONDITIONS)
        from chipcash_wire.channel import ChannelBroken

        try:
            apdu = scope.channel.open(data)
        except ChannelBroken:
            self._sealed = None
            raise Refused(c.SW_CHANNEL_BROKEN)
        return scope.channel.seal(self._guarded(self._sealed_command, scope, apdu))

    def _sealed_command(self, scope: _Scope, apdu: bytes) -> bytes:
        cla, ins, p1, p2, data, _ = c.parse(apdu)
        if cla not in (c.CLA_ISO, c.CLA_PROPRIETARY):
            raise Refused(c.SW_CLA)
        if ins in _NEVER_SEALED:
            raise Refused(c.SW_INS)
        return self._command(scope, cla, ins, p1 << 8 | p2, data) + _sw(c.SW_OK)

    def _select(self, p1p2: int, data: bytes) -> bytes:
        self.reset()
        _expect(p1p2, 0x0400)
        if data != c.AID:
            raise Refused(c.SW_NOT_FOUND)
        self._selected = True
        return self._applet.application_info()

    def _get_data(self, scope: _Scope, what: int, index: int) -> bytes:
        purse = self._applet.purse
        if what == c.DATA_INFO and not index:
            return self._applet.info(scope.verified)
        if not c.DATA_INFO < what <= c.DATA_RECEIVED or (
            index and what in (c.DATA_CERTIFICATE, c.DATA_RISK)
        ):
            raise Refused(c.SW_P1P2)
        if purse is None:
            raise Refused(c.SW_CONDITIONS)
        if what == c.DATA_CERTIFICATE:
            return purse.certificate
        if what == c.DATA_RISK:
            return purse.risk
        if not scope.verified:
            raise Refused(c.SW_SECURITY)
        if what == c.DATA_TITLE:
            record = purse.title(index)
            found = record.encode() if record is not None else None
        elif what == c.DATA_PAYMENT:
            found = purse.payment(index)
        else:
            found = purse.received(index)
        if found is None:
            raise Refused(c.SW_RECORD_NOT_FOUND)
        return found


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


def two_codes(data: bytes, first: int) -> "tuple[bytes, bytes]":
    """The two TLVs of a PIN change or unblock: an old PIN or PUK, as the tag first says, and the new PIN.
    Raises Refused."""
    tag, start, end = tlv.header(data, 0)
    tag2, start2, end2 = tlv.header(data, end)
    if tag != first or tag2 != _TAG_PIN or end2 != len(data):
        raise Refused(c.SW_DATA)
    old = data[start:end]
    size = (c.PIN_MIN, c.PIN_MAX) if first == _TAG_PIN else (c.PUK_SIZE, c.PUK_SIZE)
    return _digits(old, size[0], size[1]), _digits(data[start2:end2], c.PIN_MIN, c.PIN_MAX)

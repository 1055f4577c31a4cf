# SPDX-License-Identifier: Apache-2.0
"""The card client: bytes to commands, one method per command of protocols/spec/commands.md.

It follows ISO/IEC 7816-4 where links differ: GET RESPONSE after 61xx, the right Le after 6Cxx, command
chaining where extended length does not pass. It judges no money: what a card says is verified by
chipcash.terminal, under keys that this module does not know.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from chipcash.errors import ChipcashError, LinkLostError
from chipcash.transports.base import Connection
from chipcash.transports.times import times
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire import sam, tlv
from chipcash_wire.channel import Channel, ChannelBroken
from chipcash_wire.status import NAMES, status
from chipcash_wire.tlv import WireError
from chipcash_wire.trace import SECRET_DATA, printable

__all__ = [
    "Card",
    "CardError",
    "CardReplyError",
    "ChannelNeeded",
    "Exchange",
    "PinError",
    "answers",
]

_TAG_HEADER = 0x80
_TAG_PIN = 0x9F25
_TAG_PUK = 0x9F26
_MAX_REPLY = 65536

_Object = TypeVar("_Object", bound=o.Object)


class CardError(ChipcashError):
    """The card refused a command; by the specification it then changed nothing, unless sw is 6F00.

    sw: the status word; name: what the specification calls it; command: the command's name.
    """

    exit_code = 7

    def __init__(
        self, message: str, *, sw: int, command: str, hint: str = "", **facts: object
    ) -> None:
        self.sw = sw
        self.name = status(sw)[0]
        self.command = command
        super().__init__(
            message, hint=hint, sw=f"{sw:04X}", name=self.name, command=command, **facts
        )


class PinError(CardError):
    """The card wants a PIN, or another one.

    attempts_left: tries left before the PIN (for RESET RETRY COUNTER: the PUK) is blocked, 0 when it is
    blocked, None when the card did not say.
    """

    exit_code = 8

    def __init__(self, message: str, *, sw: int, command: str, hint: str = "") -> None:
        left: int | None = None
        if sw >> 4 == c.SW_PIN_WRONG >> 4:
            left = sw & 0x0F
        elif sw == c.SW_BLOCKED:
            left = 0
        self.attempts_left = left
        super().__init__(message, sw=sw, command=command, hint=hint, attempts_left=left)


class ChannelNeeded(ChipcashError):
    """A PIN or PUK would travel by radio without a secure channel. It was not sent."""

    exit_code = 2

    def __init__(self, path: str, *, hint: str = "") -> None:
        super().__init__(
            f"A PIN goes to a card at {path} in a secure channel only. The PIN was not sent.",
            hint=hint or "Open a channel with the card first (chipcash.genuine.keep_secret).",
            path=path,
        )


class CardReplyError(ChipcashError):
    """The card reported success but its reply is not what the specification says."""

    exit_code = 7


@dataclass(frozen=True)
class Exchange:
    """One command APDU and its answer, for a trace. command is redacted where it holds a PIN or PUK."""

    name: str
    command: str
    answer: bytes
    milliseconds: float


class Card:
    """A session with the application of one card.

    connection: where the bytes go; the caller opens and closes it.
    extended: whether APDUs of extended length (ISO/IEC 7816-4 section 5.1) pass; if not, or once the card
    answers 6700 to one, short ones are used, with chaining and GET RESPONSE.
    trace: called with every Exchange, after it.

    Every method raises CardError or PinError when the card refuses, CardReplyError when it answers
    nonsense, and LinkLostError when it does not answer.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        extended: bool = True,
        trace: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.connection = connection
        self._extended = extended
        self._trace = trace
        self._channel: Channel | None = None

    # Commands -----------------------------------------------------------------------------------

    def select(self) -> o.ApplicationInfo:
        """SELECT the application. Must come first; ends a PIN session and a secure channel."""
        self._channel = None
        return self._object(
            o.ApplicationInfo, self._send(c.INS_SELECT, 4, 0, c.AID, reply=True, short=True)
        )

    def pay(self, request: o.PayRequest) -> bytes:
        """PAY: the payment's bytes, unjudged. The same request to the same card brings the same bytes.

        Where the card asks its holder to confirm, the request is repeated for some time (times.confirm_s)
        until he has decided. After LinkLostError with maybe_executed the card may have paid: repeat this very
        request.
        """
        give_up = time.monotonic() + times().confirm_s
        while True:
            try:
                return self._send(
                    c.INS_PAY, 0, 0, request.encode(), cla=c.CLA_PROPRIETARY, reply=True
                )
            except CardError as error:
                if error.sw != c.SW_ASKED or time.monotonic() >= give_up:
                    raise
            time.sleep(times().confirm_poll_s)

    def payment(self, data: bytes, request: o.PayRequest, *, any_time: bool = False) -> o.Payment:
        """What pay() brought, for who hands it on: read, and the answer to this request, but else unjudged.

        any_time: it may bear the time of an earlier try. Raises CardReplyError if it is none; the card may
        have paid all the same.
        """
        try:
            payment = o.Payment.decode(data)
            if not answers(payment.claim, request, any_time=any_time):
                raise WireError("it answers another request")
        except WireError as error:
            raise CardReplyError(
                f"The card's answer is no payment of what was asked: {error}. It may have paid.",
                hint="Ask the same again of the same card; if it stays so, the card is faulty.",
                path=self.connection.path,
            ) from None
        return payment

    def info(self) -> o.CardInfo:
        """GET DATA, card info. Its balance is there only in a PIN session."""
        return self._object(o.CardInfo, self._get(c.DATA_INFO))

    def certificate(self) -> o.Certificate:
        """GET DATA, the card's certificate, unjudged."""
        return self._object(o.Certificate, self._get(c.DATA_CERTIFICATE))

    def risk(self) -> o.RiskParameters:
        """GET DATA, the card's risk parameters, unjudged."""
        return self._object(o.RiskParameters, self._get(c.DATA_RISK))

    def titles(self) -> Iterator[o.TitleRecord]:
        """GET DATA, every title that still holds money, with its pointer. Needs a PIN session."""
        for data in self._list(c.DATA_TITLE, c.MAX_TITLES):
            yield self._object(o.TitleRecord, data)

    def payments(self) -> Iterator[o.Payment]:
        """GET DATA, the payments that the card remembers, the last one first. Needs a PIN session."""
        for data in self._list(c.DATA_PAYMENT, c.MAX_LOG):
            yield self._object(o.Payment, data)

    def received(self) -> Iterator[o.Claim]:
        """GET DATA, the claims that the card received and that are pending. Needs a PIN session."""
        for data in self._list(c.DATA_RECEIVED, c.MAX_RECEIVED):
            yield self._object(o.Claim, data)

    def put(
        self,
        obj: o.Title | o.RiskParameters | o.SignedTime | o.Certificate | o.Payment | o.Receipt,
    ) -> None:
        """PUT DATA: give the card a title, risk parameters (in a PIN session), a signed time, a certificate,
        a payment to it, or the receipt of one."""
        self._send(c.INS_PUT_DATA, 0, 0, obj.encode())

    def verify_pin(self, pin: str) -> None:
        """VERIFY: begin a PIN session; over the air in a secure channel only (see genuine.verify_pin).

        Raises PinError with the tries left.
        """
        self._send(c.INS_VERIFY, 0, c.PIN_REFERENCE, _digits(pin))

    def pin_tries(self) -> int:
        """VERIFY without data: PIN tries left, 0 when blocked, all of them in a PIN session."""
        try:
            self._send(c.INS_VERIFY, 0, c.PIN_REFERENCE)
        except PinError as error:
            if error.attempts_left is None:
                raise
            return error.attempts_left
        return c.PIN_TRIES

    def change_pin(self, old: str, new: str) -> None:
        """CHANGE REFERENCE DATA: replace the PIN. Over the air as verify_pin. Raises PinError."""
        data = tlv.encode(_TAG_PIN, _digits(old)) + tlv.encode(_TAG_PIN, _digits(new))
        self._send(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, data)

    def unblock_pin(self, puk: str, new: str) -> None:
        """RESET RETRY COUNTER: set a new PIN with the PUK. Over the air as verify_pin. PinError counts the
        tries of the PUK."""
        data = tlv.encode(_TAG_PUK, _digits(puk)) + tlv.encode(_TAG_PIN, _digits(new))
        self._send(c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE, data)

    def authenticate(self, challenge: bytes) -> tuple[o.GenuineProof, o.Certificate]:
        """INTERNAL AUTHENTICATE: the card's proof over a fresh challenge (16 bytes), and its certificate.

        The signatures are the caller's to verify; that the proof answers this challenge is checked here.
        """
        data = self._send(c.INS_INTERNAL_AUTHENTICATE, 0, 0, challenge, reply=True)
        proof, certificate = self._proved(o.GenuineProof, data)
        if proof.nonce != challenge:
            raise self._nonsense("genuine proof", WireError("it answers another challenge"))
        return proof, certificate

    def agree(self, host_key: bytes) -> tuple[o.ChannelProof, o.Certificate]:
        """GENERAL AUTHENTICATE: the card's half of a key agreement with our ephemeral public key (33 bytes),
        and its certificate.

        The signatures are the caller's to verify, before it seals anything; that the proof names our key is
        checked here.
        """
        self._channel = None  # a new agreement replaces the channel that there is
        data = self._send(c.INS_GENERAL_AUTHENTICATE, 0, 0, host_key, reply=True)
        proof, certificate = self._proved(o.ChannelProof, data)
        if proof.host_key != host_key:
            raise self._nonsense("channel proof", WireError("it is of another agreement"))
        return proof, certificate

    def seal(self, channel: Channel) -> None:
        """Send every further command through this channel, until SELECT or until it breaks."""
        self._channel = channel

    @property
    def sealed(self) -> bool:
        """Whether commands travel in a secure channel."""
        return self._channel is not None

    def generate_key(self, suite: int) -> bytes:
        """GENERATE ASYMMETRIC KEY PAIR of a suite (objects.SUITES): the public key, 33 bytes."""
        public = self._send(c.INS_GENERATE_KEY_PAIR, suite, 0, reply=True)
        if len(public) != 33 or public[0] not in (2, 3):
            raise self._nonsense("public key", WireError("not a compressed point"))
        return public

    def personalise(self, personalisation: o.Personalisation) -> None:
        """STORE DATA: make a keyed card a card of a network. Contact only, once."""
        self._send(c.INS_STORE_DATA, 0x80, 0, personalisation.encode())

    def make_sam(self, header: bytes, pin: str, puk: str) -> None:
        """SAM, make: a blank card becomes a till's card (SAM) of a network (header, 6 bytes)."""
        data = tlv.encode(_TAG_HEADER, header) + tlv.encode(_TAG_PUK, _digits(puk))
        self._sam(sam.MAKE, data + tlv.encode(_TAG_PIN, _digits(pin)))

    def sam_make_key(self) -> None:
        """SAM, key: have a SAM make its key, once. Needs a PIN session, as all that follows."""
        self._sam(sam.KEY)

    def sam_sign(self, message: bytes) -> bytes:
        """SAM, sign: a signature, 64 bytes, over the message of a claim, a void or a refund promise."""
        signature = self._sam(sam.SIGN, message, reply=True)
        if len(signature) != 64:
            raise self._nonsense("signature", WireError("wrong length"))
        return signature

    def sam_books_key(self) -> bytes:
        """SAM, books: the key of the till's books, 32 bytes."""
        pad = secrets.token_bytes(32)
        padded = self._sam(sam.BOOKS, pad, reply=True)
        if len(padded) != len(pad):
            raise self._nonsense("key", WireError("wrong length"))
        return bytes(a ^ b for a, b in zip(padded, pad, strict=True))

    def begin_update(self, head: o.Firmware) -> None:
        """UPDATE FIRMWARE, begin: in a PIN session, if the card has a PIN (see chipcash.firmware)."""
        self._update(c.UPDATE_BEGIN, head.encode())

    def update_body(self, offset: int, part: bytes) -> None:
        """UPDATE FIRMWARE, body: the bytes of it that begin at offset."""
        self._update(c.UPDATE_BODY, offset.to_bytes(4, "big") + part)

    def finish_update(self) -> None:
        """UPDATE FIRMWARE, finish: from the next power on the card runs the new firmware."""
        self._update(c.UPDATE_FINISH, b"")

    # Below the commands -------------------------------------------------------------------------

    def _get(self, what: int, index: int = 0) -> bytes:
        return self._send(c.INS_GET_DATA, what, index, reply=True)

    def _update(self, step: int, data: bytes) -> None:
        self._send(c.INS_UPDATE_FIRMWARE, step, 0, data, cla=c.CLA_PROPRIETARY)

    def _sam(self, step: int, data: bytes = b"", *, reply: bool = False) -> bytes:
        return self._send(c.INS_SAM, step, 0, data, cla=c.CLA_PROPRIETARY, reply=reply)

    def _list(self, what: int, most: int) -> Iterator[bytes]:
        for index in range(most):
            try:
                data = self._get(what, index)
            except CardError as error:
                if error.sw == c.SW_RECORD_NOT_FOUND:
                    return
                raise
            yield data

    def _proved(self, kind: type[_Object], data: bytes) -> tuple[_Object, o.Certificate]:
        """A proof of some kind and the certificate behind it."""
        try:
            _, _, end = tlv.header(data, 0)
        except WireError as error:
            raise self._nonsense(kind.__name__, error) from None
        return self._object(kind, data[:end]), self._object(o.Certificate, data[end:])

    def _object(self, kind: type[_Object], data: bytes) -> _Object:
        try:
            return kind.decode(data)
        except WireError as error:
            raise self._nonsense(kind.__name__, error) from None

    def _nonsense(self, what: str, error: WireError) -> CardReplyError:
        return CardReplyError(
            f"The card's reply is not a valid {what}: {error}.",
            hint="Tap or insert the card again; if it stays so, the card is faulty or not a chipcash card.",
            path=self.connection.path,
        )

    def _send(
        self,
        ins: int,
        p1: int,
        p2: int,
        data: bytes = b"",
        *,
        cla: int = c.CLA_ISO,
        reply: bool = False,
        short: bool = False,
    ) -> bytes:
        """One command, sealed where there is a secure channel: its reply data, or CardError."""
        channel = self._channel
        if channel is None:
            if data and ins in SECRET_DATA and self.connection.over_air:
                raise ChannelNeeded(self.connection.path)
            return self._send_clear(ins, p1, p2, data, cla=cla, reply=reply, short=short)
        apdu = c.command(ins, p1, p2, data, cla, _MAX_REPLY if reply else 0)
        # Whatever is raised, this channel is over: the next reply might be to this command.
        self._channel = None
        try:
            sealed = self._send_clear(c.INS_ENVELOPE, 0, 0, channel.seal(apdu), reply=True)
            answer = channel.open(sealed)
            self._channel = channel
        except (CardError, ChannelBroken) as error:
            # What is not sealed may be anybody's word, so what became of the command is not known.
            why = f" ({error.sw:04X})" if isinstance(error, CardError) else ""
            raise LinkLostError(
                f"The secure channel to the card at {self.connection.path} broke{why}.",
                maybe_executed=True,
                hint="Begin again. If it breaks again, something between this machine and the card changes "
                "what they say.",
                path=self.connection.path,
            ) from None
        if len(answer) < 2:
            raise self._nonsense("reply", WireError("no status word"))
        sw = int.from_bytes(answer[-2:], "big")
        if sw != c.SW_OK:
            raise _refused(ins, sw)
        return answer[:-2]

    def _send_clear(
        self,
        ins: int,
        p1: int,
        p2: int,
        data: bytes,
        *,
        cla: int = c.CLA_ISO,
        reply: bool = False,
        short: bool = False,
    ) -> bytes:
        """One command with all that ISO/IEC 7816-4 puts around it: its reply data, or CardError."""
        if self._extended and not short and (reply or len(data) > 255):
            apdu = c.command(ins, p1, p2, data, cla, _MAX_REPLY if reply else 0, extended=True)
            answer, sw = self._exchange(ins, apdu)
            if sw != c.SW_LENGTH:
                return self._finish(ins, apdu, answer, sw)
            self._extended = (
                False  # refused by its length alone, so nothing happened: say it shorter
            )
        while len(data) > 255:
            part = c.command(ins, p1, p2, data[:255], cla | c.CLA_CHAINED, 0)
            answer, sw = self._exchange(ins, part)
            if sw != c.SW_OK:
                raise _refused(ins, sw)
            data = data[255:]
        apdu = c.command(ins, p1, p2, data, cla, 256 if reply else 0)
        answer, sw = self._exchange(ins, apdu)
        return self._finish(ins, apdu, answer, sw)

    def _finish(self, ins: int, apdu: bytes, answer: bytes, sw: int) -> bytes:
        if sw >> 8 == c.SW_LE >> 8:
            # 6Cxx comes before the command is carried out; the last byte says the Le to ask for.
            _, _, p1, p2, data, _ = c.parse(apdu)
            apdu = c.command(ins, p1, p2, data, apdu[0], sw & 0xFF or 256)
            answer, sw = self._exchange(ins, apdu)
        if sw >> 8 == c.SW_MORE >> 8:
            return self._more(answer, sw)
        if sw != c.SW_OK:
            raise _refused(ins, sw)
        return answer

    def _more(self, reply: bytes, sw: int) -> bytes:
        """The rest of a reply, by GET RESPONSE. The command itself has been carried out."""
        while sw >> 8 == c.SW_MORE >> 8:
            more = c.command(c.INS_GET_RESPONSE, le=sw & 0xFF or 256)
            try:
                answer, sw = self._exchange(c.INS_GET_RESPONSE, more)
            except LinkLostError as error:
                # GET RESPONSE may not have reached the card, but what it asks the reply of has.
                if error.maybe_executed:
                    raise
                raise LinkLostError(
                    error.message,
                    maybe_executed=True,
                    hint=error.hint,
                    path=self.connection.path,
                ) from None
            reply += answer
            if not answer or len(reply) > _MAX_REPLY:
                # Not a CardError: that would say that the command changed nothing.
                raise self._nonsense("reply", WireError(f"it breaks off ({sw:04X})"))
        if sw != c.SW_OK:
            raise self._nonsense("reply", WireError(f"it breaks off ({sw:04X})"))
        return reply

    def _exchange(self, ins: int, apdu: bytes) -> tuple[bytes, int]:
        start = time.perf_counter()
        answer = self.connection.transceive(apdu)
        if self._trace is not None:
            spent = (time.perf_counter() - start) * 1000
            self._trace(Exchange(NAMES[ins], printable(apdu), answer, spent))
        if len(answer) < 2:
            raise self._nonsense("reply", WireError("no status word"))
        return answer[:-2], int.from_bytes(answer[-2:], "big")


def answers(claim: o.Claim, request: o.PayRequest, *, any_time: bool = False) -> bool:
    """Whether a claim is for a request: nonce, payee and amount, by which a card knows it again, and time."""
    asked = (request.nonce, request.payee, request.amount)
    same_time = any_time or claim.time == request.time
    return same_time and (claim.nonce, claim.payee, claim.amount) == asked


def _refused(ins: int, sw: int) -> CardError:
    """The one place where a status word becomes an exception."""
    name, meaning = status(sw)
    command = NAMES[ins]
    hint = meaning[0].upper() + meaning[1:] + "."
    nothing = ""
    if ins == c.INS_PAY:
        # Of an internal error nobody knows what came before it.
        unknown = sw == c.SW_INTERNAL
        nothing = " Nobody knows whether it paid." if unknown else " No money moved."
    wrong = sw >> 4 == c.SW_PIN_WRONG >> 4
    if not wrong and sw not in (c.SW_BLOCKED, c.SW_SECURITY):
        if ins == c.INS_SELECT and sw == c.SW_NOT_FOUND:
            message = "This card has no chipcash application."
        else:
            message = f"The card refused {command}: {name} ({sw:04X}).{nothing}"
        return CardError(message, sw=sw, command=command, hint=hint)
    code = "PUK" if ins == c.INS_RESET_RETRY_COUNTER else "PIN"
    if wrong:
        left = sw & 0x0F
        message = f"Wrong {code}: {left} {'try' if left == 1 else 'tries'} left."
        if ins == c.INS_VERIFY and left == c.PIN_TRIES:
            message = f"The PIN has not been entered: {left} tries left."
        hint = "Enter it again, carefully: after the last try it is blocked."
    elif sw == c.SW_BLOCKED:
        message = f"The {code} is blocked.{nothing}"
        hint = (
            "Unblock it with the PUK; the money on the card is safe."
            if code == "PIN"
            else "It stays so. Payments up to the amount that is free of the PIN go on as before."
        )
    else:
        message = f"The card wants its PIN first.{nothing}"
        hint = "Enter the PIN."
    return PinError(message, sw=sw, command=command, hint=hint)


def _digits(code: str) -> bytes:
    if not (code.isascii() and code.isdigit()):
        # Without the code in the message, and before it could travel.
        raise ValueError("a PIN or PUK consists of digits")
    return code.encode("ascii")

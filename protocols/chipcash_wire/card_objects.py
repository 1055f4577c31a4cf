# SPDX-License-Identifier: Apache-2.0
"""The codec of the wire objects (protocols/spec/objects.md), and the objects that a card handles.

Apart from the others, which are in chipcash_wire.receipts and chipcash_wire.objects, because a card has
little memory; everybody else imports chipcash_wire.objects, which has all of them.

An object is a constructed TLV whose fields stand in one fixed order. Decoding checks the encoding and
every rule that needs no key and no state; encoding checks the same, so an invalid object cannot be built.
"""

from chipcash_wire import tlv
from chipcash_wire.compat import KEEPS_ENCODED, TYPE_CHECKING, dataclass_transform
from chipcash_wire.tlv import WireError

if TYPE_CHECKING:
    from typing import Any, Callable, Self

VERSION = 1
SUITE_GM = 1
SUITE_P256 = 2
SUITES = {"gm": SUITE_GM, "p256": SUITE_P256}

MAX_AMOUNT = (1 << 63) - 1
"""Largest amount in fen: fits the signed 64-bit integers of databases."""
MAX_TIME = (1 << 40) - 1
MAX_INPUTS = 8
"""Most titles that one claim spends."""
MAX_CLAIMS = 256
"""Most claims in one deposit."""

ROLE_ISSUER = 1
ROLE_CENTER = 2
ROLE_BANK = 3
ROLE_MERCHANT = 4
ROLE_CARD = 5
ROLES = ("", "issuer", "center", "bank", "merchant", "card")

FORMS = ("", "visual-bluetooth", "ic-card", "esim", "sd-card", "sim-card")
FORM_IC_CARD = 2

LIFE_BLANK = 1
LIFE_KEYED = 2
LIFE_PERSONALISED = 3
LIFE_SAM = 4

KEY_IN_FLASH = 1
KEY_IN_ELEMENT = 2

SETTLED = 1
DISPUTED = 2
EXPIRED = 3
VOIDED = 4
RECLAIMED = 5
INVALID = 6
OUTCOMES = ("", "settled", "disputed", "expired", "voided", "reclaimed", "invalid")

REASON_REPEAT_PAYMENT = 1
REASON_LOST = 2

# Kinds of primitive fields.
_UINT = 0  # size: most bits
_BYTES = 1  # size: exact length, or (least, most)
_KEY = 2  # compressed point, 33 bytes
_OBJECT = 3  # an object, or a tuple of them

_SIGNATURE_SIZE = 66  # with tag and length

_FIELDS: "dict[str, tuple[int, int, Any]]" = {
    "header": (0x80, _BYTES, 6),
    "signer": (0x81, _BYTES, 8),
    "serial": (0x82, _BYTES, 16),
    "amount": (0x83, _UINT, 63),
    "lo": (0x84, _UINT, 63),
    "hi": (0x85, _UINT, 63),
    "owner": (0x86, _KEY, 33),
    "epoch": (0x87, _UINT, 32),
    "expiry": (0x88, _UINT, 40),
    "title_id": (0x89, _BYTES, 32),
    "payee": (0x8A, _KEY, 33),
    "nonce": (0x8B, _BYTES, 16),
    "counter": (0x8C, _UINT, 32),
    "time": (0x8D, _UINT, 40),
    "deadline": (0x8E, _UINT, 40),
    "subject": (0x8F, _KEY, 33),
    "role": (0x90, _UINT, 8),
    "tier": (0x91, _UINT, 8),
    "form": (0x92, _UINT, 8),
    "per_payment": (0x93, _UINT, 63),
    "cumulative": (0x94, _UINT, 63),
    "count": (0x95, _UINT, 32),
    "pin_free": (0x96, _UINT, 63),
    "window": (0x97, _UINT, 32),
    "horizon": (0x98, _UINT, 32),
    "sequence": (0x99, _UINT, 32),
    "reason": (0x9A, _UINT, 8),
    "state": (0x9B, _UINT, 8),
    "claim_id": (0x9C, _BYTES, 32),
    "digest": (0x9D, _BYTES, 32),
    "signature": (0x9E, _BYTES, 64),
    "lifecycle": (0x9F20, _UINT, 8),
    "pin_tries": (0x9F21, _UINT, 8),
    "balance": (0x9F22, _UINT, 63),
    "center_key": (0x9F23, _KEY, 33),
    "certification_key": (0x9F24, _KEY, 33),
    "pin": (0x9F25, _BYTES, (4, 12)),
    "puk": (0x9F26, _BYTES, (8, 8)),
    "spent": (0x9F27, _UINT, 63),
    "payments": (0x9F28, _UINT, 32),
    "build": (0x9F29, _BYTES, (1, 32)),
    "host_key": (0x9F2A, _KEY, 33),
    "card_key": (0x9F2B, _KEY, 33),
    "pending": (0x9F2C, _UINT, 63),
    "room": (0x9F2D, _UINT, 8),
    "key_place": (0x9F2F, _UINT, 8),
    "target": (0x9F30, _BYTES, (1, 32)),
    "rollback": (0x9F31, _UINT, 32),
    "size": (0x9F32, _UINT, 32),
}
"""Name: (tag, kind, size). A name means the same in every object that has it."""


def make_header(network: bytes, suite: int) -> bytes:
    """First field of every signed object: network id (4 bytes), protocol version, suite."""
    if len(network) != 4:
        raise WireError("network id has 4 bytes")
    return network + bytes((VERSION, suite))


def encode_field(name: str, value: "Any") -> bytes:
    """A primitive field, encoded. value: a number or bytes, as its kind wants; it is not checked."""
    tag, kind, _ = _FIELDS[name]
    return tlv.encode(tag, tlv.encode_uint(value) if kind == _UINT else value)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=())
class Object:
    """Base of the wire objects: built from keywords, immutable by convention.

    FIELDS names the fields in their order; a trailing '?' marks one that may be absent (None), a trailing
    '*' a tuple of objects whose class and least and most number stand in MANY, a trailing '=' one object.
    Raises WireError wherever a rule is broken.
    """

    if not TYPE_CHECKING:
        __slots__ = ("__dict__", "__weakref__", "_kept")  # apart from the fields
        TAG = 0
        FIELDS = ()
        MANY = {}

        def __init__(self, **values):
            if KEEPS_ENCODED:
                self._kept = None
            # Encodes nothing: a card makes objects in a small heap.
            count = 0
            for name in self.FIELDS:
                mark = name[-1]
                if mark in "?*=":
                    name = name[:-1]
                if name in values:
                    value = values[name]
                    count += 1
                elif mark == "?" or name == "signature":
                    value = None
                else:
                    raise TypeError("missing " + name)
                if mark in "*=":
                    cls, least, most = self.MANY[name]
                    items = value if mark == "*" else (value,)
                    if not least <= len(items) <= most:
                        raise WireError("wrong number of " + name)
                    for item in items:
                        if not isinstance(item, cls):
                            raise WireError(name + " has a wrong type")
                        item._check_signed()
                elif value is not None or not (mark == "?" or name == "signature"):
                    _check_value(name, value)
                setattr(self, name, value)
            if count != len(values):
                raise TypeError("unknown in " + str(list(values)))
            self.check()

    def check(self) -> None:
        """Rules between fields; raises WireError."""

    def _check_signed(self) -> None:
        if self.FIELDS[-1] == "signature" and self.signature is None:
            raise WireError("not signed")

    def _body(self) -> bytes:
        """The fields encoded, without the signature."""
        if not KEEPS_ENCODED:
            return self._encoded()
        if self._kept is None:
            self._kept = self._encoded()
        return self._kept

    def _encoded(self) -> bytes:
        out = []
        for name in self.FIELDS:
            mark = name[-1]
            if mark in "?*=":
                name = name[:-1]
            value = getattr(self, name)
            if mark == "*":
                for item in value:
                    out.append(item.encode())
            elif mark == "=":
                out.append(value.encode())
            elif value is not None and name != "signature":
                out.append(encode_field(name, value))
        return b"".join(out)

    def message(self) -> bytes:
        """What is signed: the object's tag and its fields without the signature.

        The tag separates the domains: a signature over one kind of object is none over another.
        """
        return tlv.encode_uint(self.TAG) + self._body()

    def encode(self) -> bytes:
        """The canonical bytes. Raises WireError if the signature is missing."""
        self._check_signed()
        body = self._body()
        if self.FIELDS[-1] == "signature":
            body += tlv.encode(0x9E, self.signature)
        return tlv.encode(self.TAG, body)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(self.message())

    def signed(self, signature: bytes) -> "Self":
        """The same object with this signature (64 bytes)."""
        values = {}
        for name in self.FIELDS:
            if name[-1] in "?*=":
                name = name[:-1]
            values[name] = getattr(self, name)
        values["signature"] = signature
        made = type(self)(**values)
        if KEEPS_ENCODED:
            made._kept = self._kept
        return made

    @classmethod
    def decode(cls, data: bytes, each: "Callable[[str, Any], None] | None" = None) -> "Self":
        """The object that these bytes are, no byte more. Raises WireError.

        each: called with name and value of every object of a field that may have several, which is then not
        kept: a card has no room for all of them at once. The field is empty in the object.
        """
        tag, start, end = tlv.header(data, 0)
        if tag != cls.TAG:
            raise WireError("not a " + cls.__name__)
        if end != len(data):
            raise WireError("bytes behind the object")
        return cls._decode(data, start, end, each)

    @classmethod
    def _decode(
        cls,
        data: bytes,
        at: int,
        end: int,
        each: "Callable[[str, Any], None] | None" = None,
    ) -> "Self":
        values: "dict[str, Any]" = {}
        start_of_body = end_of_body = at
        for name in cls.FIELDS:
            end_of_body = end if name != "signature" else at
            mark = name[-1]
            if mark in "*=":
                name = name[:-1]
                inner, least, most = cls.MANY[name]
                items: "list[Any]" = []
                count = 0
                while at < end and count < most:
                    tag, start, stop = tlv.header(data, at)
                    if tag != inner.TAG:
                        break
                    if stop > end:
                        raise WireError("truncated")
                    item = inner._decode(data, start, stop)
                    if each is None or mark == "=":
                        items.append(item)
                    else:
                        each(name, item)
                    count += 1
                    at = stop
                if count < least:
                    raise WireError("missing " + name)
                values[name] = tuple(items) if mark == "*" else items[0]
                continue
            optional = mark == "?"
            if optional:
                name = name[:-1]
            wanted, kind, size = _FIELDS[name]
            if at + 1 < end and data[at] == wanted and data[at + 1] < 0x80:
                # What tlv.header() says of nearly every field, without the call.
                tag = wanted
                start = at + 2
                stop = start + data[at + 1]
            elif at < end:
                tag, start, stop = tlv.header(data, at)
            else:
                tag = start = stop = 0
            if tag != wanted:
                if optional:
                    values[name] = None
                    continue
                raise WireError("missing " + name)
            if stop > end:
                raise WireError("truncated")
            value: "Any" = bytes(data[start:stop])
            if kind == _UINT:
                value = tlv.decode_uint(value)
                if value >> size:
                    raise WireError(name + " is out of range")
            elif kind == _KEY or stop - start != size or name == "header":
                _check_value(name, value)
            values[name] = value
            at = stop
        if at != end:
            raise WireError("unexpected field")
        # Every field was checked as it was read: what the constructor does besides is left out.
        made = object.__new__(cls)
        if KEEPS_ENCODED:
            made.__dict__ = values
            # There is one encoding of an object only, so this is it.
            made._kept = bytes(data[start_of_body:end_of_body]) if each is None else None
        else:
            for name in values:
                setattr(made, name, values[name])
        made.check()
        return made

    if TYPE_CHECKING:
        _kept: "bytes | None"
        TAG: int
        FIELDS: Any
        MANY: Any
        signature: Any


def _check_value(name: str, value: "Any") -> None:
    """Whether a primitive field may have this value; raises WireError."""
    _, kind, size = _FIELDS[name]
    if kind == _UINT:
        if not isinstance(value, int) or value < 0 or value >> size:
            raise WireError(name + " is out of range")
        return
    if not isinstance(value, (bytes, bytearray)):
        raise WireError(name + " is not bytes")
    n = len(value)
    if isinstance(size, tuple):
        if not size[0] <= n <= size[1]:
            raise WireError(name + " has a wrong length")
    elif n != size:
        raise WireError(name + " has a wrong length")
    if kind == _KEY and value[0] not in (2, 3):
        raise WireError(name + " is no compressed key")
    if name == "header":
        if value[4] != VERSION:
            raise WireError("unknown version")
        if value[5] not in (SUITE_GM, SUITE_P256):
            raise WireError("unknown suite")


def message_of(data: bytes) -> bytes:
    """What is signed of a signed object, from its encoding, which must be known to be one: Object.message()
    without making it anew."""
    _, start, end = tlv.header(data, 0)
    return data[: 1 if data[0] & 0x1F != 0x1F else 2] + data[start : end - _SIGNATURE_SIZE]


def suite_of(obj: "Any") -> int:
    """Suite that the object names in its header."""
    return obj.header[5]  # type: ignore[no-any-return]


def check_interval(lo: int, hi: int) -> None:
    """The rule of every interval [lo, hi); raises WireError."""
    if lo >= hi:
        raise WireError("interval is empty")


class Title(Object):
    """The registration center's word that the slice [lo, hi) of a coin belongs to owner until expiry."""

    TAG = 0xE2
    FIELDS = (
        "header", "signer", "serial", "amount", "lo", "hi", "owner", "epoch", "expiry", "signature",
    )  # fmt: skip
    header: bytes
    signer: bytes
    serial: bytes
    amount: int
    lo: int
    hi: int
    owner: bytes
    epoch: int
    expiry: int
    signature: bytes | None = None

    def check(self) -> None:
        check_interval(self.lo, self.hi)
        if self.hi > self.amount:
            raise WireError("interval exceeds the coin")


class Certificate(Object):
    """The certification center's word that a key has a role; for a card also tier, form and limit."""

    TAG = 0xE3
    FIELDS = (
        "header", "signer", "time", "expiry", "subject", "role",
        "tier?", "form?", "per_payment?", "signature",
    )  # fmt: skip
    header: bytes
    signer: bytes
    time: int
    expiry: int
    subject: bytes
    role: int
    tier: int | None = None
    form: int | None = None
    per_payment: int | None = None
    signature: bytes | None = None

    def check(self) -> None:
        if not 0 < self.role < len(ROLES):
            raise WireError("unknown role")
        if self.expiry <= self.time:
            raise WireError("expires before it begins")
        card = self.role == ROLE_CARD
        for value in (self.tier, self.form, self.per_payment):
            if (value is not None) != card:
                raise WireError("tier, form and limit belong to cards, all three")
        if card and not (0 < self.tier < 5 and 0 < self.form < len(FORMS)):  # type: ignore[operator]
            raise WireError("unknown tier or form")


class Input(Object):
    """One interval that a claim spends."""

    TAG = 0xA0
    FIELDS = ("title_id", "lo", "hi")
    title_id: bytes
    lo: int
    hi: int

    def check(self) -> None:
        check_interval(self.lo, self.hi)


class Claim(Object):
    """The payer's word that these intervals, amount in all, go to payee if deposited by deadline."""

    TAG = 0xE4
    FIELDS = (
        "header", "inputs*", "amount", "payee", "nonce", "counter", "time", "deadline", "signature",
    )  # fmt: skip
    MANY = {"inputs": (Input, 1, MAX_INPUTS)}
    header: bytes
    inputs: tuple[Input, ...]
    amount: int
    payee: bytes
    nonce: bytes
    counter: int
    time: int
    deadline: int
    signature: bytes | None = None

    def check(self) -> None:
        total = 0
        seen: "list[bytes]" = []
        for item in self.inputs:
            if item.title_id in seen:
                raise WireError("a title is spent twice")
            seen.append(item.title_id)
            total += item.hi - item.lo
        if total != self.amount:
            raise WireError("intervals do not add up to the amount")
        if self.deadline < self.time:
            raise WireError("deadline before time")


class Payment(Object):
    """What the card answers to PAY: the claim, the titles it spends in its order, the certificate."""

    TAG = 0xED
    FIELDS = ("claim=", "titles*", "certificate=")
    MANY = {
        "claim": (Claim, 1, 1),
        "titles": (Title, 1, MAX_INPUTS),
        "certificate": (Certificate, 1, 1),
    }
    claim: Claim
    titles: tuple[Title, ...]
    certificate: Certificate

    def check(self) -> None:
        if len(self.titles) != len(self.claim.inputs):
            raise WireError("one title for each interval")
        for item, title in zip(self.claim.inputs, self.titles):
            self._check_title(item, title)

    @staticmethod
    def _check_title(item: Input, title: Title) -> None:
        if item.lo < title.lo or item.hi > title.hi:
            raise WireError("interval exceeds its title")

    @classmethod
    def join(cls, claim: bytes, titles: "list[bytes]", certificate: bytes) -> bytes:
        """A payment's encoding from those of its parts, which the caller knows to be valid and to fit."""
        return tlv.encode(cls.TAG, claim, *titles, certificate)

    @classmethod
    def claim_of(cls, data: bytes) -> Claim:
        """The claim of an encoded payment, the rest of which is not looked at. Raises WireError."""
        tag, start, _ = tlv.header(data, 0)
        if tag != cls.TAG:
            raise WireError("not a Payment")
        return Claim.decode(data[start : tlv.header(data, start)[2]])

    @classmethod
    def parts(cls, data: bytes) -> "tuple[Claim, list[tuple[int, int]], Certificate]":
        """The claim of an encoded payment, where in data each of its titles is, and the certificate.

        Takes and refuses what decode() does, but holds one title at a time: all of them are more than a card
        has room for besides the payment's bytes. Raises WireError.
        """
        claim = cls.claim_of(data)
        _, start, end = tlv.header(data, 0)
        if end != len(data):
            raise WireError("bytes behind the object")
        at = tlv.header(data, start)[2]
        titles = []
        for item in claim.inputs:
            stop = tlv.header(data, at)[2]
            cls._check_title(item, Title.decode(data[at:stop]))
            titles.append((at, stop))
            at = stop
        return claim, titles, Certificate.decode(data[at:end])


class PayRequest(Object):
    """What the terminal asks: the amount for payee, at its time, under a fresh nonce."""

    TAG = 0xEE
    FIELDS = ("header", "amount", "payee", "nonce", "time")
    header: bytes
    amount: int
    payee: bytes
    nonce: bytes
    time: int

    def check(self) -> None:
        if not self.amount:
            raise WireError("amount is zero")


class SignedTime(Object):
    """The center's time, and how many blacklist entries there were."""

    TAG = 0xE8
    FIELDS = ("header", "signer", "time", "sequence", "signature")
    header: bytes
    signer: bytes
    time: int
    sequence: int
    signature: bytes | None = None


class RiskParameters(Object):
    """The center's limits for one card (subject). A higher sequence replaces, and resets the counts.

    per_payment, cumulative, pin_free: fen; count: payments; window: seconds from payment to deadline;
    horizon: seconds that a terminal's time may be ahead of the newest time the card knows.
    """

    TAG = 0xE9
    FIELDS = (
        "header", "signer", "subject", "sequence", "time", "per_payment", "cumulative", "count",
        "pin_free", "window", "horizon", "signature",
    )  # fmt: skip
    header: bytes
    signer: bytes
    subject: bytes
    sequence: int
    time: int
    per_payment: int
    cumulative: int
    count: int
    pin_free: int
    window: int
    horizon: int
    signature: bytes | None = None


class GenuineProof(Object):
    """The card's answer to a challenge (nonce): made by the holder of the certified key (subject).

    digest: 32 fresh bytes of the card, so that nobody else chooses all that is signed; build: the firmware
    that made it, by its own word.
    """

    TAG = 0xEB
    FIELDS = ("header", "nonce", "digest", "subject", "build", "signature")
    header: bytes
    nonce: bytes
    digest: bytes
    subject: bytes
    build: bytes
    signature: bytes | None = None


class ChannelProof(Object):
    """The card's half of a key agreement: both ephemeral keys, signed by the certified key (subject)."""

    TAG = 0xF3
    FIELDS = ("header", "host_key", "card_key", "subject", "signature")
    header: bytes
    host_key: bytes
    card_key: bytes
    subject: bytes
    signature: bytes | None = None


class Personalisation(Object):
    """STORE DATA: makes a keyed card a card of a network. Sent once, over a trusted link."""

    TAG = 0xE0
    FIELDS = ("center_key", "certification_key", "pin", "puk", "certificate=", "risk=")
    MANY = {"certificate": (Certificate, 1, 1), "risk": (RiskParameters, 1, 1)}
    center_key: bytes
    certification_key: bytes
    pin: bytes
    puk: bytes
    certificate: Certificate
    risk: RiskParameters

    def check(self) -> None:
        for code in (self.pin, self.puk):
            for digit in code:
                if not 0x30 <= digit <= 0x39:
                    raise WireError("PIN and PUK are ASCII digits")


class ApplicationInfo(Object):
    """Answer to SELECT (ISO/IEC 7816-4 FCI template): whom one talks to."""

    TAG = 0x6F
    FIELDS = ("header?", "lifecycle")
    header: bytes | None = None
    lifecycle: int


class CardInfo(Object):
    """Answer to GET DATA INFO. balance and pending only once the PIN is verified: a passer-by learns nothing.

    pending: fen received that wait for repeat payment verification; room: payments that can still be
    received; key_place: one of KEY_IN_*, None where there is no key, or the card does not say.
    """

    TAG = 0xF1
    FIELDS = (
        "subject?", "counter", "time", "sequence", "lifecycle", "pin_tries", "balance?", "pending?",
        "spent", "payments", "room?", "build", "key_place?",
    )  # fmt: skip
    subject: bytes | None = None
    counter: int
    time: int
    sequence: int
    lifecycle: int
    pin_tries: int
    balance: int | None = None
    pending: int | None = None
    spent: int
    payments: int
    room: int | None = None
    build: bytes
    key_place: int | None = None


class TitleRecord(Object):
    """Answer to GET DATA TITLE: a title on the card and its pointer (lo): what is below is spent."""

    TAG = 0xF2
    FIELDS = ("title=", "lo")
    MANY = {"title": (Title, 1, 1)}
    title: Title
    lo: int

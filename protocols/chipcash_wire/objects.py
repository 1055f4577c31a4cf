# SPDX-License-Identifier: Apache-2.0
"""All wire objects, as protocols/spec/objects.md defines them: those of cards, and those of the others."""

from chipcash_wire import card_objects
from chipcash_wire.card_objects import (
    DISPUTED as DISPUTED,
)
from chipcash_wire.card_objects import (
    EXPIRED as EXPIRED,
)
from chipcash_wire.card_objects import (
    FORM_IC_CARD as FORM_IC_CARD,
)
from chipcash_wire.card_objects import (
    FORMS as FORMS,
)
from chipcash_wire.card_objects import (
    INVALID as INVALID,
)
from chipcash_wire.card_objects import (
    KEY_IN_ELEMENT as KEY_IN_ELEMENT,
)
from chipcash_wire.card_objects import (
    KEY_IN_FLASH as KEY_IN_FLASH,
)
from chipcash_wire.card_objects import (
    LIFE_BLANK as LIFE_BLANK,
)
from chipcash_wire.card_objects import (
    LIFE_KEYED as LIFE_KEYED,
)
from chipcash_wire.card_objects import (
    LIFE_PERSONALISED as LIFE_PERSONALISED,
)
from chipcash_wire.card_objects import (
    LIFE_SAM as LIFE_SAM,
)
from chipcash_wire.card_objects import (
    MAX_AMOUNT as MAX_AMOUNT,
)
from chipcash_wire.card_objects import (
    MAX_CLAIMS as MAX_CLAIMS,
)
from chipcash_wire.card_objects import (
    MAX_INPUTS as MAX_INPUTS,
)
from chipcash_wire.card_objects import (
    MAX_TIME as MAX_TIME,
)
from chipcash_wire.card_objects import (
    OUTCOMES as OUTCOMES,
)
from chipcash_wire.card_objects import (
    REASON_LOST as REASON_LOST,
)
from chipcash_wire.card_objects import (
    REASON_REPEAT_PAYMENT as REASON_REPEAT_PAYMENT,
)
from chipcash_wire.card_objects import (
    RECLAIMED as RECLAIMED,
)
from chipcash_wire.card_objects import (
    ROLE_BANK as ROLE_BANK,
)
from chipcash_wire.card_objects import (
    ROLE_CARD as ROLE_CARD,
)
from chipcash_wire.card_objects import (
    ROLE_CENTER as ROLE_CENTER,
)
from chipcash_wire.card_objects import (
    ROLE_ISSUER as ROLE_ISSUER,
)
from chipcash_wire.card_objects import (
    ROLE_MERCHANT as ROLE_MERCHANT,
)
from chipcash_wire.card_objects import (
    ROLES as ROLES,
)
from chipcash_wire.card_objects import (
    SETTLED as SETTLED,
)
from chipcash_wire.card_objects import (
    SUITE_GM as SUITE_GM,
)
from chipcash_wire.card_objects import (
    SUITE_P256 as SUITE_P256,
)
from chipcash_wire.card_objects import (
    SUITES as SUITES,
)
from chipcash_wire.card_objects import (
    VERSION as VERSION,
)
from chipcash_wire.card_objects import (
    VOIDED as VOIDED,
)
from chipcash_wire.card_objects import (
    ApplicationInfo as ApplicationInfo,
)
from chipcash_wire.card_objects import (
    CardInfo as CardInfo,
)
from chipcash_wire.card_objects import (
    Certificate as Certificate,
)
from chipcash_wire.card_objects import (
    ChannelProof as ChannelProof,
)
from chipcash_wire.card_objects import (
    Claim as Claim,
)
from chipcash_wire.card_objects import (
    GenuineProof as GenuineProof,
)
from chipcash_wire.card_objects import (
    Input as Input,
)
from chipcash_wire.card_objects import (
    Object as Object,
)
from chipcash_wire.card_objects import (
    Payment as Payment,
)
from chipcash_wire.card_objects import (
    PayRequest as PayRequest,
)
from chipcash_wire.card_objects import (
    Personalisation as Personalisation,
)
from chipcash_wire.card_objects import (
    RiskParameters as RiskParameters,
)
from chipcash_wire.card_objects import (
    SignedTime as SignedTime,
)
from chipcash_wire.card_objects import (
    Title as Title,
)
from chipcash_wire.card_objects import (
    TitleRecord as TitleRecord,
)
from chipcash_wire.card_objects import (
    encode_field as encode_field,
)
from chipcash_wire.card_objects import (
    make_header as make_header,
)
from chipcash_wire.card_objects import (
    suite_of as suite_of,
)
from chipcash_wire.firmware import (
    Firmware as Firmware,
)
from chipcash_wire.receipts import (
    Outcome as Outcome,
)
from chipcash_wire.receipts import (
    Receipt as Receipt,
)
from chipcash_wire.receipts import (
    Result as Result,
)
from chipcash_wire.sam import (
    RefundPromise as RefundPromise,
)
from chipcash_wire.sam import (
    Void as Void,
)
from chipcash_wire.tlv import WireError

# Of log entries and terminal rules alone. A card has no room for what it never meets.
card_objects._FIELDS["new_title_id"] = (0x9F2E, card_objects._BYTES, 32)
card_objects._FIELDS["per_card"] = (0x9F33, card_objects._UINT, 63)
card_objects._FIELDS["per_shift"] = (0x9F34, card_objects._UINT, 63)
card_objects._FIELDS["in_all"] = (0x9F35, card_objects._UINT, 63)
card_objects._FIELDS["pending_age"] = (0x9F36, card_objects._UINT, 32)
card_objects._FIELDS["blacklist_age"] = (0x9F37, card_objects._UINT, 32)
card_objects._FIELDS["guarantee"] = (0x9F38, card_objects._UINT, 63)


class Coin(Object):
    """What the issuing library creates: a serial and an amount, first owned by a bank."""

    TAG = 0xE1
    FIELDS = ("header", "signer", "serial", "amount", "owner", "signature")
    header: bytes
    signer: bytes
    serial: bytes
    amount: int
    owner: bytes
    signature: bytes | None = None

    def check(self) -> None:
        if not self.amount:
            raise WireError("amount is zero")


class Bill(Object):
    """A pay request shown to the payer's own device: payable until expiry, by subject's card if named."""

    TAG = 0xF4
    FIELDS = ("request=", "expiry", "subject?")
    MANY = {"request": (PayRequest, 1, 1)}
    request: PayRequest
    expiry: int
    subject: bytes | None = None

    def check(self) -> None:
        if self.expiry <= self.request.time:
            raise WireError("expires before it begins")


class Deposit(Object):
    """Claims on their way to the center. nonce: a fresh id, so that a repetition is recognised."""

    TAG = 0xE5
    FIELDS = ("header", "nonce", "claims*")
    MANY = {"claims": (Claim, 1, MAX_CLAIMS)}
    header: bytes
    nonce: bytes
    claims: tuple[Claim, ...]


class BlacklistEntry(Object):
    """The center's word that a key is not to be accepted. sequence counts the entries from 1."""

    TAG = 0xE7
    FIELDS = ("header", "signer", "sequence", "subject", "reason", "time", "digest?", "signature")
    header: bytes
    signer: bytes
    sequence: int
    subject: bytes
    reason: int
    time: int
    digest: bytes | None = None
    signature: bytes | None = None


class TerminalRules(Object):
    """What a terminal may take offline, as the center decides: the newest that it has seen bind it.

    per_payment: of one payment; per_card, per_shift, in_all: of what is Pending Repeat Payment Verification
    from one card, from the open shift, altogether; pending_age: of the oldest such payment, blacklist_age: of
    the blacklist, both in seconds; guarantee: how much of a disputed payment the guarantee fund bears.
    """

    TAG = 0xF7
    FIELDS = (
        "header", "signer", "time", "per_payment", "per_card", "per_shift", "in_all", "pending_age",
        "blacklist_age", "guarantee", "signature",
    )  # fmt: skip
    header: bytes
    signer: bytes
    time: int
    per_payment: int
    per_card: int
    per_shift: int
    in_all: int
    pending_age: int
    blacklist_age: int
    guarantee: int
    signature: bytes | None = None


class Evidence(Object):
    """Proof of repeat payment: two different claims on overlapping intervals of one title."""

    TAG = 0xEC
    FIELDS = ("header", "title=", "claims*")
    MANY = {"title": (Title, 1, 1), "claims": (Claim, 2, 2)}
    header: bytes
    title: Title
    claims: tuple[Claim, ...]


class Reclaim(Object):
    """Give back: intervals of a claim past its deadline or voided, or what is left of an expired title."""

    TAG = 0xEF
    FIELDS = ("header", "claims*", "voids*", "title_id?")
    MANY = {"claims": (Claim, 0, 1), "voids": (Void, 0, 1)}
    header: bytes
    claims: tuple[Claim, ...]
    voids: tuple[Void, ...]
    title_id: bytes | None = None

    def check(self) -> None:
        if (len(self.claims) == 1) == (self.title_id is not None):
            raise WireError("either a claim or a title")
        if self.voids and not self.claims:
            raise WireError("a void needs its claim")


class Move(Object):
    """One interval that left a title: under a new title, or redeemed where there is none.

    claim_id: of the claim that moved it; none where an expired title was reclaimed.
    """

    TAG = 0xA3
    FIELDS = ("title_id", "lo", "hi", "state", "claim_id?", "new_title_id?")
    title_id: bytes
    lo: int
    hi: int
    state: int
    claim_id: bytes | None = None
    new_title_id: bytes | None = None

    def check(self) -> None:
        card_objects.check_interval(self.lo, self.hi)
        if self.state not in (SETTLED, RECLAIMED):
            raise WireError("nothing moves in this state")
        if self.state == SETTLED and self.claim_id is None:
            raise WireError("settled without a claim")
        if self.state == RECLAIMED and self.new_title_id is None:
            raise WireError("reclaimed without a new title")


class LogEntry(Object):
    """One fact that the center has registered, and when: what its log is made of."""

    TAG = 0xF5
    FIELDS = (
        "header", "time", "coins*", "titles*", "claims*", "results*", "moves*", "voids*", "evidence*",
        "entries*", "certificates*",
    )  # fmt: skip
    MANY = {
        "coins": (Coin, 0, 1),
        "titles": (Title, 0, 1),
        "claims": (Claim, 0, 1),
        "results": (Result, 0, 1),
        "moves": (Move, 0, 1),
        "voids": (Void, 0, 1),
        "evidence": (Evidence, 0, 1),
        "entries": (BlacklistEntry, 0, 1),
        "certificates": (Certificate, 0, 1),
    }
    header: bytes
    time: int
    coins: tuple[Coin, ...]
    titles: tuple[Title, ...]
    claims: tuple[Claim, ...]
    results: tuple[Result, ...]
    moves: tuple[Move, ...]
    voids: tuple[Void, ...]
    evidence: tuple[Evidence, ...]
    entries: tuple[BlacklistEntry, ...]
    certificates: tuple[Certificate, ...]

    def check(self) -> None:
        if len(self.claims) != len(self.results):
            raise WireError("a claim and its result go together")
        count = 0
        for name in self.MANY:
            if name != "results":
                count += len(getattr(self, name))
        if count != 1:
            raise WireError("not one fact")

# SPDX-License-Identifier: Apache-2.0
"""The card's money: titles, pointers, limits, time, the log. See protocols/spec/commands.md, PAY, PUT DATA.

Value leaves the card in exactly one place: the commit in Purse.pay().
"""

from chipcash_card.suites import suite
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from chipcash_card.holder import Holder
    from chipcash_card.journal import Journal
    from chipcash_card.suites import Signer

FORMAT = 2
"""Number of the format of what is stored, that is of all these keys and what is under them: Applet._admit.
2: it may be a SAM's."""
# Keys of the journal. The last five begin with these, so that the journal's index, which is in memory,
# answers what would otherwise have to be read and parsed in the tap.
KEY_VERSION = b"V"  # FORMAT, and the highest rollback counter of the firmware that ran, 4 bytes
KEY_STATE = b"S"
KEY_PRIVATE = b"K"
KEY_ANCHORS = b"A"  # the keys of two centers; in a SAM what chipcash_card.sam says
KEY_CERTIFICATE = b"C"
KEY_RISK = b"R"
KEY_TITLE = b"T"  # title_id[:16]: the title
KEY_POINTER = b"P"  # title_id[:16]: its _Slot; there as long as the title counts as seen
KEY_LOG = b"L"  # number of the payment modulo MAX_LOG, nonce: the payment
KEY_RECEIVED = b"D"  # claim_id[:16], deadline, amount: the claim, for its deposit
KEY_ENDED = (
    b"E"  # claim_id[:16], deadline: nothing; a received claim that has ended must not come again
)


class Refused(Exception):
    """A command that is answered with a status word and changes nothing."""

    def __init__(self, sw: int) -> None:
        super().__init__("%04X" % sw)
        self.sw = sw


class State:
    """The numbers of the card, kept in one value of the journal.

    floor: the latest expiry among the seen titles that were displaced for want of room.
    """

    SIZE = 38

    def __init__(self, data: "bytes | None") -> None:
        data = data or bytes((o.LIFE_BLANK,)) + bytes(self.SIZE - 1)
        self.lifecycle = data[0]
        self.suite = data[1]
        self.counter = int.from_bytes(data[2:6], "big")
        self.cumulative = int.from_bytes(data[6:14], "big")
        self.count = int.from_bytes(data[14:18], "big")
        self.newest = int.from_bytes(data[18:26], "big")
        self.boots = int.from_bytes(data[26:30], "big")
        self.floor = int.from_bytes(data[30:38], "big")

    def encode(self) -> bytes:
        """The value for the journal, SIZE bytes."""
        return (
            bytes((self.lifecycle, self.suite))
            + self.counter.to_bytes(4, "big")
            + self.cumulative.to_bytes(8, "big")
            + self.count.to_bytes(4, "big")
            + self.newest.to_bytes(8, "big")
            + self.boots.to_bytes(4, "big")
            + self.floor.to_bytes(8, "big")
        )


class _Slot:
    """What choosing coins needs of a title on the card, without parsing it again."""

    def __init__(self, title_id: bytes, pointer: int, hi: int, expiry: int) -> None:
        self.title_id = title_id
        self.pointer = pointer
        self.hi = hi
        self.expiry = expiry

    @property
    def key(self) -> bytes:
        """Names the title in the journal."""
        return self.title_id[:16]

    @staticmethod
    def decode(key: bytes, data: bytes) -> "_Slot":
        """Inverse of encode, key being the title's."""
        numbers = [int.from_bytes(data[at : at + 8], "big") for at in (0, 8, 16)]
        return _Slot(key + data[24:], numbers[0], numbers[1], numbers[2])

    def encode(self, pointer: int) -> bytes:
        """The value for the journal, with the pointer moved there."""
        return (
            pointer.to_bytes(8, "big")
            + self.hi.to_bytes(8, "big")
            + self.expiry.to_bytes(8, "big")
            + self.title_id[16:]
        )


class Purse:
    """The money of a personalised card, read from the journal at power on. signer: its key. Raises OSError if
    that is not the certified one: this is another chip's flash, or another's secure element."""

    def __init__(self, journal: "Journal", state: State, signer: "Signer") -> None:
        self._journal = journal
        self._state = state
        self._signer = signer
        self._suite = suite(state.suite)
        self.hash = self._suite.hash
        self.public = signer.public
        anchors = journal.get(KEY_ANCHORS) or b""
        self.center_key = anchors[:33]
        self.certification_key = anchors[33:66]
        self._read_certificate()
        if self._certificate.subject != self.public:
            raise OSError("the card's key is not the certified one")
        self._risk = o.RiskParameters.decode(journal.get(KEY_RISK) or b"")
        self._slots: "list[_Slot]" = []
        for key in journal.keys(KEY_TITLE):
            key = key[1:]
            self._slots.append(_Slot.decode(key, journal.get(KEY_POINTER + key) or b""))

    def _read_certificate(self) -> None:
        self.certificate = self._journal.get(KEY_CERTIFICATE) or b""
        self._certificate = o.Certificate.decode(self.certificate)
        self.header = self._certificate.header

    # Reading ----------------------------------------------------------------------------------

    @property
    def balance(self) -> int:
        """Unspent fen on the card, whatever expires."""
        return sum([slot.hi - slot.pointer for slot in self._slots])

    @property
    def newest(self) -> int:
        """The newest known time."""
        return self._state.newest

    @property
    def pending(self) -> int:
        """Fen received that the center has yet to verify. They cannot be spent."""
        return sum([int.from_bytes(key[22:], "big") for key in self.received_keys()])

    @property
    def room(self) -> int:
        """Payments that can still be received."""
        ended = len(self._journal.keys(KEY_ENDED))
        pending = len(self.received_keys())
        return min(c.MAX_RECEIVED - pending, c.MAX_ENDED - ended - pending)

    def received_keys(self, claim_id: bytes = b"") -> "list[bytes]":
        """Journal keys of received claims that are pending: all, or that of one."""
        return self._journal.keys(KEY_RECEIVED + claim_id[:16])

    def was_received(self, claim_id: bytes) -> bool:
        """Whether a claim is pending, or has ended before its deadline."""
        return bool(self.received_keys(claim_id) or self._journal.keys(KEY_ENDED + claim_id[:16]))

    def change_received(self, changes: "dict[bytes, bytes | None]") -> None:
        """Take or forget received claims, by their journal keys; chipcash_card.receiving judges them."""
        self._journal.commit(changes)

    def received(self, index: int) -> "bytes | None":
        """A received claim that is pending; None behind the last."""
        keys = self.received_keys()
        return self._journal.get(keys[index]) if index < len(keys) else None

    @property
    def risk(self) -> bytes:
        """The stored risk parameters, encoded."""
        return self._risk.encode()

    @property
    def sequence(self) -> int:
        """Sequence of the stored risk parameters."""
        return self._risk.sequence

    def title(self, index: int) -> "o.TitleRecord | None":
        """A title that still holds money, with its pointer; None behind the last."""
        if index >= len(self._slots):
            return None
        slot = self._slots[index]
        return o.TitleRecord(title=o.Title.decode(self._stored(slot)), lo=slot.pointer)

    def payment(self, back: int) -> "bytes | None":
        """The payment made so many payments ago (0: the last), if the log still holds it."""
        number = self._state.counter - back
        if back >= c.MAX_LOG or number <= 0:
            return None
        key = self._log_key(number)
        return self._journal.get(key) if key is not None else None

    def _log_key(self, number: int) -> "bytes | None":
        """The key of the payment in this one's place of the log."""
        keys = self._journal.keys(_log_place(number))
        return keys[0] if keys else None

    def _stored(self, slot: _Slot) -> bytes:
        """The title's bytes."""
        data = self._journal.get(KEY_TITLE + slot.key)
        if data is None:
            raise OSError("a title is missing")
        return data

    # Paying -----------------------------------------------------------------------------------

    def pay(self, data: bytes, holder: "Holder") -> "tuple[bytes, bool]":
        """PAY: the payment's bytes, and whether the PIN session was needed for it.

        The same request (nonce, payee, amount) gets the same bytes as long as the log holds them. Raises
        Refused; the journal's errors mean that nothing was answered and the card must restart.
        """
        request = o.PayRequest.decode(data)
        if request.header != self.header:
            raise Refused(c.SW_NETWORK)
        for key in self._journal.keys(KEY_LOG):
            if key[2:] == request.nonce:
                done = self._journal.get(key) or b""
                claim = o.Payment.claim_of(done)
                if (claim.payee, claim.amount) == (request.payee, request.amount):
                    return done, False
        needs_pin = self._check_limits(request, holder)
        deadline = request.time + self._risk.window
        if deadline > o.MAX_TIME:
            raise Refused(c.SW_TIME_FUTURE)
        chosen = self._choose(request.amount, deadline)
        holder.agree(request)

        inputs = []
        titles = []
        left = request.amount
        changes: "dict[bytes, bytes | None]" = {}
        for slot in chosen:
            hi = min(slot.hi, slot.pointer + left)
            left -= hi - slot.pointer
            inputs.append(o.Input(title_id=slot.title_id, lo=slot.pointer, hi=hi))
            titles.append(self._stored(slot))
            changes[KEY_POINTER + slot.key] = slot.encode(hi)
            if hi == slot.hi:
                changes[KEY_TITLE + slot.key] = None
        state = State(self._state.encode())
        state.counter += 1
        state.count += 1
        state.cumulative += request.amount
        claim = o.Claim(
            header=self.header,
            inputs=tuple(inputs),
            amount=request.amount,
            payee=request.payee,
            nonce=request.nonce,
            counter=state.counter,
            time=request.time,
            deadline=deadline,
        )
        claim = claim.signed(self._signer.sign(claim.message()))
        payment = o.Payment.join(claim.encode(), titles, self.certificate)
        del titles  # as long as the payment, which is soon to be copied into the answer
        changes[KEY_STATE] = state.encode()
        oldest = self._log_key(state.counter)
        if oldest is not None:
            changes[oldest] = None
        changes[_log_place(state.counter) + request.nonce] = payment
        # From here on the money is the payee's; only now may it be said.
        self._journal.commit(changes)

        self._take_state(state)
        for slot, item in zip(chosen, inputs):
            slot.pointer = item.hi
        self._slots = [slot for slot in self._slots if slot.pointer < slot.hi]
        holder.paid(request, self.balance, self.pending)
        return payment, needs_pin

    def _check_limits(self, request: o.PayRequest, holder: "Holder") -> bool:
        state = self._state
        risk = self._risk
        if request.time < state.newest:
            raise Refused(c.SW_TIME_PAST)
        if request.time > state.newest + risk.horizon:
            raise Refused(c.SW_TIME_FUTURE)
        if request.time >= self._certificate.expiry:
            raise Refused(c.SW_EXPIRED)
        if request.amount > min(risk.per_payment, self._certificate.per_payment or 0):
            raise Refused(c.SW_LIMIT_PAYMENT)
        if state.cumulative + request.amount > risk.cumulative:
            raise Refused(c.SW_LIMIT_CUMULATIVE)
        if state.count + 1 > risk.count or state.counter == 0xFFFFFFFF:
            raise Refused(c.SW_LIMIT_COUNT)
        needs_pin = request.amount > risk.pin_free or holder.must_verify
        if needs_pin and not holder.verified(request):
            raise Refused(c.SW_SECURITY)
        return needs_pin

    def _choose(self, amount: int, deadline: int) -> "list[_Slot]":
        usable = [slot for slot in self._slots if slot.expiry >= deadline]
        best: "_Slot | None" = None
        for slot in usable:
            left = slot.hi - slot.pointer
            if left >= amount and (
                best is None or (slot.expiry, left) < (best.expiry, best.hi - best.pointer)
            ):
                best = slot
        if best is not None:
            return [best]
        chosen = []
        for slot in sorted(usable, key=lambda slot: slot.pointer - slot.hi)[: o.MAX_INPUTS]:
            chosen.append(slot)
            amount -= slot.hi - slot.pointer
            if amount <= 0:
                return chosen
        if amount <= sum([slot.hi - slot.pointer for slot in self._slots if slot not in usable]):
            raise Refused(c.SW_EXPIRED)
        raise Refused(c.SW_INSUFFICIENT_FUNDS)

    # Receiving --------------------------------------------------------------------------------

    def put(self, data: bytes, pin_verified: bool) -> None:
        """PUT DATA: take what the center signed for this card, but for receipts. Raises Refused."""
        tag = data[0] if data else 0
        if tag == o.Title.TAG:
            self._put_title(data)
        elif tag == o.RiskParameters.TAG:
            if not pin_verified:
                raise Refused(c.SW_SECURITY)  # else whoever finds the card renews what it may pay
            self._put_risk(data)
        elif tag == o.SignedTime.TAG:
            self._put_time(data)
        elif tag == o.Certificate.TAG:
            self._put_certificate(data)
        else:
            raise Refused(c.SW_DATA)

    def check_header(self, obj: "o.Object") -> None:
        """Whether an object is of this card's network, version and suite. Raises Refused."""
        if obj.header != self.header:  # type: ignore[attr-defined]
            raise Refused(c.SW_NETWORK)

    def check_signed(self, obj: "o.Object", key: bytes, message: bytes = b"") -> None:
        """Whether besides it is signed under key (33 bytes). message: what is signed, if obj has not all of
        it. Raises Refused."""
        self.check_header(obj)
        if not self._suite.verify(key, message or obj.message(), obj.signature):
            raise Refused(c.SW_SIGNATURE)

    def _put_title(self, data: bytes) -> None:
        title = o.Title.decode(data)
        self.check_signed(title, self.center_key)
        if title.owner != self._signer.public:
            raise Refused(c.SW_NOT_MINE)
        if title.expiry < self._state.newest:
            raise Refused(c.SW_EXPIRED)
        slot = _Slot(self._suite.hash(title.message()), title.lo, title.hi, title.expiry)
        seen = self._journal.keys(KEY_POINTER)
        if KEY_POINTER + slot.key in seen:
            raise Refused(c.SW_STALE)
        if title.expiry <= self._state.floor:
            raise Refused(c.SW_EXPIRED)  # it may be one that was displaced
        if len(self._slots) >= c.MAX_TITLES:
            raise Refused(c.SW_NO_SPACE)
        changes: "dict[bytes, bytes | None]" = {
            KEY_TITLE + slot.key: data,
            KEY_POINTER + slot.key: slot.encode(title.lo),
        }
        state = State(self._state.encode())
        if len(seen) >= c.MAX_SEEN:
            expiry, oldest = self._oldest_spent(seen)
            changes[oldest] = None
            state.floor = max(state.floor, expiry)
            changes[KEY_STATE] = state.encode()
        self._journal.commit(changes)
        self._take_state(state)
        self._slots.append(slot)

    def _oldest_spent(self, seen: "list[bytes]") -> "tuple[int, bytes]":
        """Expiry and key of the spent title that expires first. There is one: MAX_TITLES < MAX_SEEN."""
        held = [KEY_POINTER + slot.key for slot in self._slots]
        spent = [key for key in seen if key not in held]
        return min([(_Slot.decode(k[1:], self._journal.get(k) or b"").expiry, k) for k in spent])

    def _put_risk(self, data: bytes) -> None:
        risk = o.RiskParameters.decode(data)
        self.check_signed(risk, self.center_key)
        if risk.subject != self._signer.public:
            raise Refused(c.SW_NOT_MINE)
        if risk.sequence <= self._risk.sequence:
            raise Refused(c.SW_STALE)
        state = State(self._state.encode())
        state.cumulative = 0
        state.count = 0
        self._move_time(state, risk.time, {KEY_RISK: data})
        self._risk = risk

    def _put_time(self, data: bytes) -> None:
        time = o.SignedTime.decode(data)
        self.check_signed(time, self.center_key)
        if time.time <= self._state.newest:
            raise Refused(c.SW_STALE)
        self._move_time(State(self._state.encode()), time.time, {})

    def _put_certificate(self, data: bytes) -> None:
        certificate = o.Certificate.decode(data)
        self.check_signed(certificate, self.certification_key)
        if certificate.subject != self._signer.public or certificate.role != o.ROLE_CARD:
            raise Refused(c.SW_NOT_MINE)
        if certificate.expiry <= self._certificate.expiry:
            raise Refused(c.SW_STALE)
        self._journal.commit({KEY_CERTIFICATE: data})
        self._read_certificate()

    def _move_time(self, state: State, time: int, changes: "dict[bytes, bytes | None]") -> None:
        # What expired can neither be paid nor put again, so it need not be remembered any longer.
        state.newest = max(state.newest, time)
        for key in self._journal.keys(KEY_POINTER):
            slot = _Slot.decode(key[1:], self._journal.get(key) or b"")
            if slot.expiry < state.newest:
                changes[key] = None
                title = KEY_TITLE + key[1:]
                if self._journal.get(title) is not None:
                    changes[title] = None
        for key in self.received_keys() + self._journal.keys(KEY_ENDED):
            if int.from_bytes(key[17:22], "big") < state.newest:
                changes[key] = None  # too late for the center, which gives it back to its payer
        changes[KEY_STATE] = state.encode()
        self._journal.commit(changes)
        self._take_state(state)
        self._slots = [slot for slot in self._slots if slot.expiry >= state.newest]

    def _take_state(self, state: State) -> None:
        mine = self._state
        mine.counter = state.counter
        mine.count = state.count
        mine.cumulative = state.cumulative
        mine.newest = state.newest
        mine.floor = state.floor

    # Proving ----------------------------------------------------------------------------------

    def prove(self, challenge: bytes, fresh: bytes, build: bytes) -> bytes:
        """INTERNAL AUTHENTICATE: genuine proof over challenge (16 bytes) and fresh (32), encoded. build: as
        card info tells it."""
        proof = o.GenuineProof(
            header=self.header,
            nonce=challenge,
            digest=fresh,
            subject=self._signer.public,
            build=build,
        )
        return proof.signed(self._signer.sign(proof.message())).encode()


def _log_place(number: int) -> bytes:
    return KEY_LOG + bytes((number % c.MAX_LOG,))

# SPDX-License-Identifier: Apache-2.0
"""Good objects: every kind, every way its optional fields can be, and the ends of its ranges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chipcash_wire import objects as o
from tests.builders import make_entry
from tests.vectors.signing import DAY, T0, Network, derived, serial

U32 = 0xFFFFFFFF

KINDS: dict[str, type[o.Object]] = {
    "coin": o.Coin,
    "title": o.Title,
    "certificate": o.Certificate,
    "input": o.Input,
    "claim": o.Claim,
    "deposit": o.Deposit,
    "outcome": o.Outcome,
    "result": o.Result,
    "receipt": o.Receipt,
    "blacklist entry": o.BlacklistEntry,
    "signed time": o.SignedTime,
    "risk parameters": o.RiskParameters,
    "void": o.Void,
    "genuine proof": o.GenuineProof,
    "channel proof": o.ChannelProof,
    "firmware": o.Firmware,
    "evidence": o.Evidence,
    "payment": o.Payment,
    "pay request": o.PayRequest,
    "reclaim": o.Reclaim,
    "personalisation": o.Personalisation,
    "application info": o.ApplicationInfo,
    "card info": o.CardInfo,
    "title record": o.TitleRecord,
    "bill": o.Bill,
    "terminal rules": o.TerminalRules,
    "refund promise": o.RefundPromise,
    "move": o.Move,
    "log entry": o.LogEntry,
}
"""Names as in protocols/spec/objects.md, and the classes."""
NAMES = {cls: name for name, cls in KINDS.items()}


def fields(obj: o.Object) -> dict[str, Any]:
    """An object's fields for JSON: bytes in hex, objects as objects, absent ones left out."""
    values: dict[str, Any] = {}
    for name in obj.FIELDS:
        plain = name.rstrip("?*=")
        value = getattr(obj, plain)
        if isinstance(value, bytes):
            value = value.hex()
        elif isinstance(value, tuple):
            value = [fields(item) for item in value]
        elif isinstance(value, o.Object):
            value = fields(value)
        if value is not None:
            values[plain] = value
    return values


def vector(net: Network, name: str, obj: o.Object, signer: str = "") -> dict[str, Any]:
    """One line of objects-*.json. signer: who signed, where the object has a signature."""
    found: dict[str, Any] = {"object": NAMES[type(obj)], "name": name}
    if signer:
        found |= {"signer": signer, "message": obj.message().hex()}
    if obj.FIELDS[0] == "header":
        found["id"] = net.id(obj).hex()
    return found | {"fields": fields(obj), "bytes": obj.encode().hex()}


def good(net: Network) -> list[dict[str, Any]]:
    """All good objects of a suite; the first of each kind is the usual one."""
    found = [vector(net, name, obj, signer) for signer, name, obj in _signed(net)]
    return found + [vector(net, name, obj) for name, obj in _unsigned(net)]


def _signed(net: Network) -> Iterator[tuple[str, str, Any]]:
    """Signer, name, object."""
    yield "issuer", "usual", net.coin()
    yield "issuer", "least amount", net.coin(1, serial=bytes(16))
    yield "issuer", "largest amount", net.coin(o.MAX_AMOUNT, serial=b"\xff" * 16)

    yield "center", "usual", net.small_title
    yield "center", "a whole coin", net.bank_title
    last = net.title(
        "card", o.MAX_AMOUNT - 1, o.MAX_AMOUNT, U32, amount=o.MAX_AMOUNT, expiry=o.MAX_TIME
    )
    yield "center", "largest numbers", last
    again = net.small_title.signed(net.keys["center"].sign(net.small_title.message(), b"again"))
    yield "center", "the usual one signed anew: other bytes, the same id", again

    yield "certification", "usual", net.certificate()
    for role in (o.ROLE_ISSUER, o.ROLE_CENTER, o.ROLE_BANK, o.ROLE_MERCHANT):
        yield "certification", o.ROLES[role], net.certificate(o.ROLES[role], role)
    for form in range(1, len(o.FORMS)):
        card = net.certificate(tier=min(form, 4), form=form, per_payment=0)
        yield "certification", f"form {form}", card

    yield "card", "usual", net.first_payment.claim
    yield "card", "two titles", net.second_payment.claim
    yield "card", "most titles, deadline at once", _widest_claim(net)
    whole = net.title("bank", 0, o.MAX_AMOUNT, 1, amount=o.MAX_AMOUNT)
    largest = net.transfer(
        "bank", "issuer", whole, 0, o.MAX_AMOUNT, "largest",
        time=o.MAX_TIME, deadline=o.MAX_TIME, counter=U32,
    )  # fmt: skip
    yield "bank", "largest numbers", largest

    for name, receipt in _receipts(net):
        yield "center", name, receipt

    yield "center", "usual", net.entry(1, "lost")
    repeat = net.entry(
        U32, "cloned", reason=o.REASON_REPEAT_PAYMENT, digest=derived("digest", "evidence")
    )
    yield "center", "repeat payment, largest sequence", repeat

    yield "center", "usual", net.signed_time()
    yield "center", "least numbers", net.signed_time(0, 0)
    yield "center", "largest numbers", net.signed_time(o.MAX_TIME, U32)

    yield "center", "usual", net.risk()
    yield "center", "nothing allowed", net.risk(
        sequence=0, time=0, per_payment=0, cumulative=0, count=0, pin_free=0, window=0, horizon=0
    )  # fmt: skip
    yield "center", "largest numbers", net.risk(
        sequence=U32, time=o.MAX_TIME, per_payment=o.MAX_AMOUNT, cumulative=o.MAX_AMOUNT,
        count=U32, pin_free=o.MAX_AMOUNT, window=U32, horizon=U32,
    )  # fmt: skip

    yield "center", "usual", net.rules()
    yield "center", "nothing allowed", net.rules(
        time=0, per_payment=0, per_card=0, per_shift=0, in_all=0, pending_age=0, blacklist_age=0,
        guarantee=0,
    )  # fmt: skip
    yield "center", "largest numbers", net.rules(
        time=o.MAX_TIME, per_payment=o.MAX_AMOUNT, per_card=o.MAX_AMOUNT, per_shift=o.MAX_AMOUNT,
        in_all=o.MAX_AMOUNT, pending_age=U32, blacklist_age=U32, guarantee=o.MAX_AMOUNT,
    )  # fmt: skip
    yield "merchant", "usual", net.promise(net.first_payment.claim, 500)
    yield "merchant", "least numbers", net.promise(net.first_payment.claim, 1, time=0)
    yield "merchant", "largest numbers", net.promise(
        net.first_payment.claim, o.MAX_AMOUNT, time=o.MAX_TIME
    )  # fmt: skip

    yield "merchant", "usual", net.void(net.first_payment.claim, "merchant")
    yield "card", "usual", net.proof("challenge")
    yield "card", "usual", net.channel_proof()
    yield "publisher", "usual", net.firmware()
    yield "publisher", "least numbers", net.firmware(
        target=b"x", build=b"0+000000000000", rollback=0, size=0, digest=net.suite.hash(b"")
    )  # fmt: skip
    yield "publisher", "largest numbers", net.firmware(
        target=b"x" * 32, build=b"x" * 19 + b"+ffffffffffff", rollback=U32, size=U32
    )  # fmt: skip


def _unsigned(net: Network) -> Iterator[tuple[str, o.Object]]:
    """Name, object."""
    first, second = net.first_payment, net.second_payment
    title_id = net.id(net.small_title)
    yield "usual", first.claim.inputs[0]
    yield (
        "largest numbers",
        o.Input(title_id=b"\xff" * 32, lo=o.MAX_AMOUNT - 1, hi=o.MAX_AMOUNT),
    )
    yield "usual", net.deposit(first.claim, name="one claim")
    yield "two claims", net.deposit(first.claim, second.claim, name="two claims")
    for state in range(1, len(o.OUTCOMES)):
        earlier = net.id(first.claim) if state == o.DISPUTED else None
        yield (
            "usual" if state == o.SETTLED else o.OUTCOMES[state],
            o.Outcome(title_id=title_id, lo=0, hi=1_200, state=state, claim_id=earlier),
        )
    yield "usual", _result(net, first.claim)
    yield "two intervals that end differently", _result(net, second.claim, o.SETTLED, o.DISPUTED)
    yield "usual", _evidence(net)
    yield "usual", first
    yield "two titles", second
    yield "usual", net.request(1_200, "payment 1")
    yield "largest numbers", net.request(o.MAX_AMOUNT, "largest", time=o.MAX_TIME)
    yield "usual", net.reclaim(first.claim)
    yield "with a void", net.reclaim(first.claim, net.void(first.claim, "merchant"))
    yield "of a title", net.reclaim(title=net.small_title)
    yield "usual", net.personalisation()
    yield "shortest PIN", net.personalisation(pin=b"0000", puk=b"00000000")
    yield "longest PIN", net.personalisation(pin=b"999999999999", puk=b"99999999")
    yield "usual", o.ApplicationInfo(header=net.header, lifecycle=o.LIFE_PERSONALISED)
    yield "blank card", o.ApplicationInfo(lifecycle=o.LIFE_BLANK)
    info = {
        "subject": net.public("card"),
        "counter": 2,
        "time": T0,
        "sequence": 1,
        "lifecycle": o.LIFE_PERSONALISED,
        "pin_tries": 3,
        "spent": 26_200,
        "payments": 2,
        "build": b"1.2.3+0123456789ab",
    }
    yield "usual", o.CardInfo(**info)
    yield "with the balance", o.CardInfo(**info, balance=3_800)
    yield "key in a secure element", o.CardInfo(**info, key_place=o.KEY_IN_ELEMENT)
    largest = {"counter": U32, "time": o.MAX_TIME, "sequence": U32, "payments": U32}
    yield (
        "largest numbers",
        o.CardInfo(**{**info, **largest, "spent": o.MAX_AMOUNT, "build": b"x" * 32}),
    )
    yield (
        "blank card",
        o.CardInfo(
            counter=0, time=0, sequence=0, lifecycle=o.LIFE_BLANK, pin_tries=0, spent=0, payments=0,
            build=b"x",
        ),
    )  # fmt: skip
    yield "usual", o.TitleRecord(title=net.small_title, lo=6_200)
    yield from bills(net)
    yield from _moves(net)
    yield from _log_entries(net)


def bills(net: Network) -> Iterator[tuple[str, o.Bill]]:
    """Name, bill."""
    request = net.request(1_200, "payment 1")
    yield "usual", o.Bill(request=request, expiry=request.time + 300)
    card = net.public("card")
    yield "for one card", o.Bill(request=request, expiry=request.time + 300, subject=card)
    largest = net.request(o.MAX_AMOUNT, "largest", time=o.MAX_TIME - 1)
    yield "largest numbers", o.Bill(request=largest, expiry=o.MAX_TIME, subject=card)


def _moves(net: Network) -> Iterator[tuple[str, o.Move]]:
    """Name, move."""
    claim, new = net.id(net.first_payment.claim), net.id(net.bank_title)
    interval: dict[str, Any] = {"title_id": net.id(net.small_title), "lo": 0, "hi": 1_200}
    yield "usual", o.Move(**interval, state=o.SETTLED, claim_id=claim, new_title_id=new)
    yield "redeemed", o.Move(**interval, state=o.SETTLED, claim_id=claim)
    yield "reclaimed", o.Move(**interval, state=o.RECLAIMED, claim_id=claim, new_title_id=new)
    yield "reclaimed by title", o.Move(**interval, state=o.RECLAIMED, new_title_id=new)
    interval |= {"lo": o.MAX_AMOUNT - 1, "hi": o.MAX_AMOUNT}
    yield "largest numbers", o.Move(**interval, state=o.SETTLED, claim_id=claim)


def _log_entries(net: Network) -> Iterator[tuple[str, o.LogEntry]]:
    """Name, log entry: one of each fact."""
    move = next(_moves(net))[1]
    claim = net.first_payment.claim
    yield "usual", make_entry(net.header, T0, move)
    yield "coin", make_entry(net.header, T0, net.coin())
    yield "title", make_entry(net.header, T0, net.small_title)
    yield "claim", make_entry(net.header, T0, claim, _result(net, claim))
    yield "void", make_entry(net.header, T0, net.void(claim, "merchant"))
    yield "evidence", make_entry(net.header, T0, _evidence(net))
    yield "blacklist entry", make_entry(net.header, T0, net.entry(1, "lost"))
    yield "certificate", make_entry(net.header, T0, net.certificate())
    yield "least time", make_entry(net.header, 0, move)
    yield "largest time", make_entry(net.header, o.MAX_TIME, move)


def _widest_claim(net: Network) -> o.Claim:
    """One fen of each of eight coins."""
    parts = [
        (net.title("card", 0, 500, 1, serial=serial(f"coin {i}"), amount=500), i, i + 1)
        for i in range(1, o.MAX_INPUTS + 1)
    ]
    request = net.request(o.MAX_INPUTS, "eight titles")
    return net.claim(request, parts, deadline=request.time)


def _result(net: Network, claim: o.Claim, *states: int) -> o.Result:
    earlier = net.id(net.first_payment.claim)
    return o.Result(
        claim_id=net.id(claim),
        outcomes=tuple(
            o.Outcome(
                title_id=item.title_id,
                lo=item.lo,
                hi=item.hi,
                state=state,
                claim_id=earlier if state == o.DISPUTED else None,
            )
            for item, state in zip(claim.inputs, states or (o.SETTLED,), strict=True)
        ),
    )


def _receipts(net: Network) -> Iterator[tuple[str, o.Receipt]]:
    first, second = net.first_payment.claim, net.second_payment.claim
    deposit = net.deposit(first, second, name="two claims")
    results = (_result(net, first), _result(net, second, o.SETTLED, o.DISPUTED))
    titles = (
        net.title("merchant", 0, 1_200, 4, expiry=T0 + 366 * DAY),
        net.title("merchant", 50_000, 70_000, 5, expiry=T0 + 366 * DAY),
    )
    for name, found in (
        ("usual", (results, titles)),
        ("no titles", (results, ())),
        ("of a reclaim by title", ((), titles[:1])),
        ("nothing left of a title", ((), ())),
    ):
        values = {
            "header": net.header,
            "signer": net.keys["center"].key_id,
            "digest": net.id(deposit),
            "time": T0 + DAY,
            "results": found[0],
            "titles": found[1],
        }
        yield name, net.sign("center", o.Receipt(**values))


def _evidence(net: Network) -> o.Evidence:
    """The card paid [0, 1200) to one, and a copy of it [1000, 1500) to another."""
    return o.Evidence(
        header=net.header,
        title=net.small_title,
        claims=(net.first_payment.claim, repeated(net)),
    )


def repeated(net: Network) -> o.Claim:
    """What a copy of the card made at the first payment's state signs for another terminal."""
    return net.transfer("card", "kiosk", net.small_title, 1_000, 1_500, "repeat")


def verifying(net: Network) -> list[dict[str, Any]]:
    """Signatures that are good or bad over a message, whatever the object says: signatures-*.json."""
    found = []
    key = net.keys["center"]
    title = net.small_title
    message = title.message()
    signature = key.sign(message)
    n = net.suite.curve.n
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    other = key.sign(message, b"again")

    def add(
        name: str, good: bool, signature: bytes, message: bytes = message, **key: bytes
    ) -> None:
        public = key.get("public", net.public("center"))
        found.append(
            {
                "name": name,
                "public": public.hex(),
                "message": message.hex(),
                "signature": signature.hex(),
                "verifies": good,
            }
        )

    def joined(r: int, s: int) -> bytes:
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    add("usual", True, signature)
    add("another nonce", True, other)
    # ECDSA takes n - s for s, SM2 does not; nothing may depend on the signature's bytes.
    add("s negated", net.suite.id == o.SUITE_P256, joined(r, n - s))
    add("message of no bytes", True, key.sign(b""), b"")
    add("one bit of the message", False, signature, message[:-1] + bytes((message[-1] ^ 1,)))
    add("another key", False, signature, public=net.public("issuer"))
    add("the other point with this x", False, signature,
        public=bytes((net.public("center")[0] ^ 1,)) + net.public("center")[1:])  # fmt: skip
    add("x of no point", False, signature, public=_no_point(net))
    add("x beyond the field", False, signature, public=b"\x02" + b"\xff" * 32)
    add("over another kind of object", False, key.sign(b"\xe1" + message[1:]))
    add("over the whole encoding", False, key.sign(title.encode()))
    add("halves exchanged", False, joined(s, r))
    add("r is 0", False, joined(0, s))
    add("s is 0", False, joined(r, 0))
    add("r is n", False, joined(n, s))
    add("s is n", False, joined(r, n))
    add("all ones", False, b"\xff" * 64)
    add("one bit of r", False, joined(r ^ 1, s))
    add("one bit of s", False, joined(r, s ^ 1))
    add("one byte short", False, signature[:-1])
    add("one byte more", False, signature + b"\x00")
    add("empty", False, b"")
    if net.suite.id == o.SUITE_GM:
        add("without Z", False, _without_z(net, message))
        add("r + s is n", False, joined(n - 5, 5))
    return found


def _no_point(net: Network) -> bytes:
    for x in range(1000):
        public = b"\x02" + x.to_bytes(32, "big")
        if net.suite.curve.decompress(public) is None:
            return public
    raise AssertionError("every x is on the curve")


def _without_z(net: Network, message: bytes) -> bytes:
    """SM2 over the hash of the message alone, as some libraries do."""
    suite = net.suite
    secret = suite.secret(net.keys["center"].private)
    e = int.from_bytes(suite.hash(message), "big")
    signature = suite.finish(secret, suite.coupon(secret, 12345), e)
    assert signature is not None
    return signature

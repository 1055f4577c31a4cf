# SPDX-License-Identifier: Apache-2.0
"""Bad objects: what no receiver may take, each with its one fault.

They are built from good ones taken apart into a tree of TLVs, since the codec refuses to write them. Where a
fault changes what is inside, the lengths around it are right, so that nothing else gives it away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from chipcash_wire import card_objects, tlv
from chipcash_wire import objects as o
from tests.vectors.make_objects import KINDS, NAMES
from tests.vectors.signing import Network

_UINT, _BYTES, _KEY = 0, 1, 2
_UNKNOWN = b"\xc0\x01\x00"
"""A field that no object has."""
_TAGS = {tag: (name, kind, size) for name, (tag, kind, size) in card_objects._FIELDS.items()}
_CONSTRUCTED = {cls.TAG for cls in KINDS.values()}


@dataclass(frozen=True)
class Node:
    """A TLV: its value, or the TLVs in it. raw: its bytes, where they are not to be canonical."""

    tag: int
    value: bytes = b""
    nodes: tuple[Node, ...] = field(default=())
    raw: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> Node:
        """The tree of a good object."""
        tag, start, end = tlv.header(data, 0)
        if tag not in _CONSTRUCTED:
            return cls(tag, data[start:end])
        nodes = []
        while start < end:
            _, _, stop = tlv.header(data, start)
            nodes.append(cls.parse(data[start:stop]))
            start = stop
        return cls(tag, nodes=tuple(nodes))

    @property
    def body(self) -> bytes:
        """Everything behind tag and length."""
        return b"".join(node.encode() for node in self.nodes) if self.nodes else self.value

    def encode(self) -> bytes:
        """Its bytes."""
        return tlv.encode(self.tag, self.body) if self.raw is None else self.raw

    def put(self, at: int, *nodes: Node) -> Node:
        """The same with other nodes in the place of one."""
        return replace(self, nodes=self.nodes[:at] + nodes + self.nodes[at + 1 :])

    def find(self, name: str) -> int:
        """Where the first field of that name is."""
        wanted = card_objects._FIELDS[name][0] if name in card_objects._FIELDS else KINDS[name].TAG
        return next(i for i, node in enumerate(self.nodes) if node.tag == wanted)

    def set(self, name: str, value: bytes) -> Node:
        """The same with another value of a field."""
        at = self.find(name)
        return self.put(at, replace(self.nodes[at], value=value, nodes=()))


def _as(data: bytes) -> Node:
    """Bytes that stand where a TLV should."""
    return Node(0, raw=data)


def bad(net: Network, good: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All bad objects of a suite. good: the good ones, of which the first of each kind is spoilt."""
    found = []
    seen = set()
    for name in KINDS:
        usual = next(line for line in good if line["object"] == name)
        data = bytes.fromhex(usual["bytes"])
        for fault, detail, spoilt in [*_any(data), *_particular(net, name, Node.parse(data))]:
            if (name, spoilt) not in seen:
                seen.add((name, spoilt))
                found.append(
                    {"object": name, "fault": fault, "detail": detail, "bytes": spoilt.hex()}
                )
    return found


# ---- faults that every object can have --------------------------------------------------------------


def _any(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    tree = Node.parse(data)
    start = tlv.header(data, 0)[1]
    yield from _cuts(data, tree, start)
    yield from _lengths(data, tree, start)
    yield from _tags(tree, start, data)
    yield from _order(tree)
    for at, node in enumerate(tree.nodes):
        if node.tag in _TAGS:
            for fault, detail, spoilt in _values(node):
                yield fault, detail, tree.put(at, spoilt).encode()


def _cuts(data: bytes, tree: Node, start: int) -> Iterator[tuple[str, str, bytes]]:
    yield "truncated", "no bytes at all", b""
    yield "truncated", "behind the tag", data[:1]
    if start > 2:
        yield "truncated", "in the length", data[: start - 1]
    yield "truncated", "behind the length", data[:start]
    yield "truncated", "in the middle", data[: len(data) // 2]
    yield "truncated", "the last byte is missing", data[:-1]
    short = tree.put(len(tree.nodes) - 1, _as(tree.nodes[-1].encode()[:-1]))
    yield "truncated", "the last field ends behind the object", short.encode()
    at = len(tree.nodes) - 1
    last = tree.nodes[at].encode()
    size = 2 if last[0] & 0x1F == 0x1F else 1
    yield "truncated", "the last field is only its tag", tree.put(at, _as(last[:size])).encode()
    half = tree.put(at, _as(last[: size + 1])).encode()
    yield "truncated", "the last field is only its tag and length", half
    if size > 1:
        half = tree.put(at, _as(last[:1])).encode()
        yield "truncated", "the last field is only half its tag", half
    yield "bytes behind", "a zero byte", data + b"\x00"
    yield "bytes behind", "the object twice", data + data


def _lengths(data: bytes, tree: Node, start: int) -> Iterator[tuple[str, str, bytes]]:
    body = data[start:]
    tag = data[:1]
    n = len(body)
    if n < 0x80:
        yield "length not minimal", "81 where a byte does", tag + b"\x81" + bytes((n,)) + body
    if n < 0x100:
        yield "length not minimal", "82 where 81 does", tag + b"\x82" + n.to_bytes(2, "big") + body
    yield "length not minimal", "83", tag + b"\x83" + n.to_bytes(3, "big") + body
    yield "indefinite length", "of the object", tag + b"\x80" + body + b"\x00\x00"
    yield "length not defined", "FF", tag + b"\xff" + body
    first = tree.nodes[0]
    inner = first.encode()
    at = tlv.header(inner, 0)[1] - 1
    if len(first.body) < 0x80:
        spoilt = inner[:at] + b"\x81" + inner[at:]
        yield "length not minimal", "of the first field", tree.put(0, _as(spoilt)).encode()
    spoilt = inner[:1] + b"\x80" + first.body + b"\x00\x00"
    if first.nodes:
        yield "indefinite length", "of the first field", tree.put(0, _as(spoilt)).encode()


def _tags(tree: Node, start: int, data: bytes) -> Iterator[tuple[str, str, bytes]]:
    other = 0xE2 if tree.tag == 0xE1 else 0xE1
    yield "another object's tag", f"{other:02X}", bytes((other,)) + data[1:]
    number = tree.tag & 0x1F
    if number != 0x1F:
        wide = bytes((tree.tag | 0x1F, number))
        yield "tag not canonical", "two bytes for the object", wide + data[1:]
    primitive = bytes((tree.tag & ~0x20 & 0xFF,))
    yield "tag not canonical", "primitive", primitive + data[1:]
    first = tree.nodes[0].encode()
    if first[0] & 0x1F != 0x1F:
        wide = bytes((first[0] | 0x1F, first[0] & 0x1F)) + first[1:]
        yield "tag not canonical", "two bytes for the first field", tree.put(0, _as(wide)).encode()
        wide = bytes((first[0] | 0x1F, 0x80, first[0] & 0x1F)) + first[1:]
        yield (
            "tag not canonical", "three bytes for the first field", tree.put(0, _as(wide)).encode(),
        )  # fmt: skip


def _order(tree: Node) -> Iterator[tuple[str, str, bytes]]:
    cls = next(each for each in KINDS.values() if tree.tag == each.TAG)
    optional = {card_objects._FIELDS[each[:-1]][0] for each in cls.FIELDS if each[-1] == "?"}
    for at, node in enumerate(tree.nodes):
        what = _TAGS[node.tag][0] if node.tag in _TAGS else NAMES_BY_TAG[node.tag]
        # Leaving out all but the first of several like objects breaks no rule of the encoding.
        first = not any(each.tag == node.tag for each in tree.nodes[:at])
        if node.tag not in optional and first and not _may_miss(tree, node):
            yield "missing field", what, _without(tree, node.tag).encode()
        if node.tag in _TAGS:
            yield "field twice", what, tree.put(at, node, node).encode()
        if at and tree.nodes[at - 1].tag != node.tag:
            swapped = tree.put(at - 1, node).put(at, tree.nodes[at - 1])
            yield "fields in another order", f"{what} first", swapped.encode()
    last = len(tree.nodes)
    for at, where in ((0, "at the beginning"), (last // 2, "in the middle"), (last, "at the end")):
        spoilt = replace(tree, nodes=(*tree.nodes[:at], _as(_UNKNOWN), *tree.nodes[at:]))
        yield "unknown field", where, spoilt.encode()
    empty = tlv.encode(tree.tag, b"")
    yield "missing field", "all of them", empty


NAMES_BY_TAG = {cls.TAG: name for cls, name in NAMES.items()}


def _may_miss(tree: Node, node: Node) -> bool:
    """A receipt may be without results or titles."""
    return tree.tag == o.Receipt.TAG and node.tag in (o.Result.TAG, o.Title.TAG)


def _without(tree: Node, tag: int) -> Node:
    return replace(tree, nodes=tuple(node for node in tree.nodes if node.tag != tag))


def _values(node: Node) -> Iterator[tuple[str, str, Node]]:
    """What one field can have wrong by itself."""
    name, kind, size = _TAGS[node.tag]
    value = node.value
    if name == "header":
        for version in (0, 2):
            yield (
                "unknown version",
                str(version),
                _value(node, value[:4] + bytes((version,)) + value[5:]),
            )
        for suite in (0, 3):
            yield "unknown suite", str(suite), _value(node, value[:5] + bytes((suite,)))
    if kind == _UINT:
        yield "integer not minimal", f"{name} begins with 00", _value(node, b"\x00" + value)
        yield "integer not minimal", f"{name} has no bytes", _value(node, b"")
        yield (
            "integer too large",
            f"{name}, {size + 1} bits",
            _value(node, tlv.encode_uint(1 << size)),
        )
        return
    if kind == _KEY:
        for prefix in (0, 4):
            spoilt = bytes((prefix,)) + value[1:]
            yield "no compressed key", f"{name} begins with {prefix:02X}", _value(node, spoilt)
        yield "no compressed key", f"{name} is whole", _value(node, b"\x04" + value[1:] + bytes(32))
    least, most = size if isinstance(size, tuple) else (size, size)
    yield "wrong length", f"{name}, {least - 1} bytes", _value(node, value[: least - 1])
    longer = value + value[-1:] * (most + 1 - len(value))
    yield "wrong length", f"{name}, {most + 1} bytes", _value(node, longer)


def _value(node: Node, value: bytes) -> Node:
    return replace(node, value=value)


# ---- the rules of single objects --------------------------------------------------------------------


def _uint(value: int) -> bytes:
    return tlv.encode_uint(value)


def _particular(net: Network, name: str, tree: Node) -> Iterator[tuple[str, str, bytes]]:
    """Faults of one kind of object. tree: the usual one."""
    rules = _RULES.get(name)
    if rules is not None:
        for fault, detail, spoilt in rules(net, tree):
            yield fault, detail, spoilt.encode()


Spoilt = Iterator[tuple[str, str, Node]]


def _zero_amount(net: Network, tree: Node) -> Spoilt:
    yield "amount is zero", "", tree.set("amount", b"\x00")


def _interval(net: Network, tree: Node) -> Spoilt:
    lo, hi = (int.from_bytes(tree.nodes[tree.find(each)].value, "big") for each in ("lo", "hi"))
    yield "lo equals hi", "", tree.set("lo", _uint(hi))
    yield "lo above hi", "", tree.set("lo", _uint(hi + 1))
    yield "lo above hi", "exchanged", tree.set("lo", _uint(hi)).set("hi", _uint(lo))
    yield "lo equals hi", "both 0", tree.set("lo", b"\x00").set("hi", b"\x00")


def _title(net: Network, tree: Node) -> Spoilt:
    yield from _interval(net, tree)
    amount = int.from_bytes(tree.nodes[tree.find("amount")].value, "big")
    yield "interval exceeds the coin", "by one fen", tree.set("hi", _uint(amount + 1))
    yield "interval exceeds the coin", "coin of nothing", tree.set("amount", b"\x00")


def _certificate(net: Network, tree: Node) -> Spoilt:
    time = tree.nodes[tree.find("time")].value
    yield "expires before it begins", "at once", tree.set("expiry", time)
    earlier = _uint(int.from_bytes(time, "big") - 1)
    yield "expires before it begins", "the second before", tree.set("expiry", earlier)
    for role in (0, 6, 255):
        yield "unknown role", str(role), tree.set("role", _uint(role))
    for role in range(1, 5):
        yield "a card's fields for another role", o.ROLES[role], tree.set("role", _uint(role))
    for gone in ("tier", "form", "per_payment"):
        yield "card without its fields", f"no {gone}", _without(tree, card_objects._FIELDS[gone][0])
    bare = tree
    for gone in ("tier", "form", "per_payment"):
        bare = _without(bare, card_objects._FIELDS[gone][0])
    yield "card without its fields", "none of them", bare
    for role in (0, 6):
        yield "unknown role", f"{role}, without a card's fields", bare.set("role", _uint(role))
    for tier in (0, 5):
        yield "unknown tier", str(tier), tree.set("tier", _uint(tier))
    for form in (0, 6):
        yield "unknown form", str(form), tree.set("form", _uint(form))


def _inputs(tree: Node, amount: int, *inputs: tuple[int, int]) -> Node:
    """A claim over the given intervals of different titles, and with this amount."""
    at = tree.find("input")
    model = tree.nodes[at]
    nodes = tuple(
        model.set("title_id", bytes((i,)) * 32).set("lo", _uint(lo)).set("hi", _uint(hi))
        for i, (lo, hi) in enumerate(inputs)
    )
    return tree.put(at, *nodes).set("amount", _uint(amount))


def _claim(net: Network, tree: Node) -> Spoilt:
    at = tree.find("input")
    model = tree.nodes[at]
    amount = int.from_bytes(tree.nodes[tree.find("amount")].value, "big")
    for fault, detail, spoilt in _interval(net, model):
        yield fault, detail, tree.put(at, spoilt)
    for wrong in (amount - 1, amount + 1, 0, 2 * amount):
        detail = f"{amount} in the interval, {wrong} claimed"
        yield "amount is not the sum", detail, tree.set("amount", _uint(wrong))
    half = [model.set("lo", b"\x00").set("hi", _uint(amount // 2))]
    half.append(model.set("lo", _uint(amount // 2)).set("hi", _uint(amount)))
    yield "title twice in a claim", "intervals that touch", tree.put(at, *half)
    yield (
        "title twice in a claim",
        "the same interval",
        tree.put(at, model, model).set("amount", _uint(2 * amount)),
    )
    overlapping = [model, model.set("lo", _uint(1)).set("hi", _uint(amount + 1))]
    yield (
        "title twice in a claim",
        "intervals that overlap",
        tree.put(at, *overlapping).set("amount", _uint(2 * amount)),
    )
    most = o.MAX_AMOUNT
    two = ((0, most), (0, most))
    yield "sum overflows", "64 bits in the amount", _inputs(tree, 2 * most, *two)
    yield "sum overflows", "wrapped at 63 bits", _inputs(tree, 2 * most - (1 << 63), *two)
    three = (*two, (0, 7))
    yield "sum overflows", "wrapped at 64 bits", _inputs(tree, 2 * most + 7 - (1 << 64), *three)
    yield "sum overflows", "the largest instead", _inputs(tree, most, (0, most), (0, 1))
    wide = model.set("lo", _uint(1 << 63)).set("hi", _uint((1 << 63) + amount))
    yield "integer too large", "lo and hi, 64 bits", tree.put(at, wide)
    wrapped = model.set("lo", _uint((1 << 64) - amount)).set("hi", _uint(1 << 64))
    yield "integer too large", "hi, 65 bits", tree.put(at, wrapped)
    nine = tuple((0, 1) for _ in range(o.MAX_INPUTS + 1))
    yield "too many", "9 inputs", _inputs(tree, len(nine), *nine)
    time = int.from_bytes(tree.nodes[tree.find("time")].value, "big")
    yield "deadline before time", "by a second", tree.set("deadline", _uint(time - 1))
    yield (
        "field inside is bad",
        "input with another field",
        tree.put(at, replace(model, nodes=(*model.nodes, _as(_UNKNOWN)))),
    )
    unsigned = _without(tree, card_objects._FIELDS["signature"][0])
    yield "missing field", "not signed", unsigned


def _payment(net: Network, tree: Node) -> Spoilt:
    at = tree.find("title")
    title = tree.nodes[at]
    yield "too few titles", "none", _without(tree, title.tag)
    yield "too many", "a title more than inputs", tree.put(at, title, title)
    yield "too many", "9 titles", tree.put(at, *[title] * (o.MAX_INPUTS + 1))
    claim = tree.nodes[0]
    yield "too many", "two claims", tree.put(0, claim, claim)
    certificate = tree.nodes[-1]
    yield "too many", "two certificates", tree.put(len(tree.nodes) - 1, certificate, certificate)
    yield "interval exceeds its title", "above", tree.put(at, title.set("hi", _uint(1_199)))
    yield "interval exceeds its title", "below", tree.put(at, title.set("lo", _uint(1)))
    for i, what in ((0, "claim"), (at, "title"), (len(tree.nodes) - 1, "certificate")):
        unsigned = _without(tree.nodes[i], card_objects._FIELDS["signature"][0])
        yield "field inside is bad", f"{what} without signature", tree.put(i, unsigned)
        longer = tree.nodes[i].set("signature", bytes(65))
        yield "field inside is bad", f"{what} with 65 bytes of signature", tree.put(i, longer)
    empty = claim.put(claim.find("input"), claim.nodes[claim.find("input")].set("hi", b"\x00"))
    yield "field inside is bad", "claim of an empty interval", tree.put(0, empty)
    second = Node.parse(net.second_payment.encode())
    titles = [i for i, node in enumerate(second.nodes) if node.tag == title.tag]
    swapped = second.put(titles[0], second.nodes[titles[1]])
    swapped = swapped.put(titles[1], second.nodes[titles[0]])
    yield "titles in another order", "two titles exchanged", swapped


def _bill(net: Network, tree: Node) -> Spoilt:
    time = net.request(1_200, "payment 1").time
    yield "expires before it begins", "at once", tree.set("expiry", _uint(time))
    yield "expires before it begins", "the second before", tree.set("expiry", _uint(time - 1))
    free = tree.put(0, tree.nodes[0].set("amount", b"\x00"))
    yield "field inside is bad", "pay request of nothing", free
    yield "too many", "two pay requests", tree.put(0, tree.nodes[0], tree.nodes[0])


def _deposit(net: Network, tree: Node) -> Spoilt:
    claim = tree.nodes[-1]
    wrong = claim.set("amount", _uint(1))
    yield (
        "field inside is bad",
        "claim whose amount is not the sum",
        tree.put(len(tree.nodes) - 1, wrong),
    )
    later = replace(tree, nodes=(*tree.nodes, wrong))
    yield "field inside is bad", "a bad claim behind a good one", later
    bare = Node.parse(net.small_title.encode())
    yield "unknown field", "a title behind the claims", replace(tree, nodes=(*tree.nodes, bare))


def _outcome(net: Network, tree: Node) -> Spoilt:
    yield from _interval(net, tree)
    for state in (0, 7, 255):
        yield "unknown state", str(state), tree.set("state", _uint(state))


def _result(net: Network, tree: Node) -> Spoilt:
    outcome = tree.nodes[-1]
    at = len(tree.nodes) - 1
    yield "too many", "9 outcomes", tree.put(at, *[outcome] * (o.MAX_INPUTS + 1))
    yield "field inside is bad", "state 0", tree.put(at, outcome.set("state", b"\x00"))


def _receipt(net: Network, tree: Node) -> Spoilt:
    at = tree.find("result")
    bare = replace(tree.nodes[at], nodes=tree.nodes[at].nodes[:1])
    yield "field inside is bad", "result without outcomes", tree.put(at, bare)
    first, title = tree.find("result"), tree.find("title")
    swapped = tree.put(first, tree.nodes[title]).put(title, tree.nodes[first])
    yield "fields in another order", "a title before a result", swapped


def _evidence(net: Network, tree: Node) -> Spoilt:
    claim = tree.nodes[-1]
    at = len(tree.nodes) - 1
    yield "too few claims", "one", replace(tree, nodes=tree.nodes[:-1])
    yield "too many", "three claims", tree.put(at, claim, claim)
    title = tree.nodes[tree.find("title")]
    yield "too many", "two titles", tree.put(tree.find("title"), title, title)


def _reclaim(net: Network, tree: Node) -> Spoilt:
    claim = tree.nodes[-1]
    at = len(tree.nodes) - 1
    title_id = Node(card_objects._FIELDS["title_id"][0], net.id(net.small_title))
    void = Node.parse(net.void(net.first_payment.claim, "merchant").encode())
    yield "claim and title", "", tree.put(at, claim, title_id)
    yield "neither claim nor title", "", replace(tree, nodes=tree.nodes[:-1])
    yield "void without claim", "with a title", tree.put(at, void, title_id)
    yield "void without claim", "alone", tree.put(at, void)
    yield "too many", "two claims", tree.put(at, claim, claim)
    yield "too many", "two voids", tree.put(at, claim, void, void)
    yield "fields in another order", "void before claim", tree.put(at, void, claim)


def _move(net: Network, tree: Node) -> Spoilt:
    yield from _interval(net, tree)
    for state in (0, o.DISPUTED, o.EXPIRED, o.VOIDED, o.INVALID, 7):
        yield "unknown state", str(state), tree.set("state", _uint(state))
    claim_id, new = (card_objects._FIELDS[each][0] for each in ("claim_id", "new_title_id"))
    yield "settled without a claim", "", _without(tree, claim_id)
    reclaimed = tree.set("state", _uint(o.RECLAIMED))
    yield "reclaimed without a new title", "", _without(reclaimed, new)
    yield (
        "reclaimed without a new title",
        "nor a claim",
        _without(_without(reclaimed, new), claim_id),
    )


def _log_entry(net: Network, tree: Node) -> Spoilt:
    move = tree.nodes[-1]
    at = len(tree.nodes) - 1
    claim = net.first_payment.claim
    outcome = o.Outcome(
        title_id=claim.inputs[0].title_id, lo=0, hi=claim.amount, state=o.SETTLED
    )  # fmt: skip
    result = Node.parse(o.Result(claim_id=net.id(claim), outcomes=(outcome,)).encode())
    node = Node.parse(claim.encode())
    yield "not one fact", "two moves", tree.put(at, move, move)
    yield "not one fact", "a coin and a move", tree.put(at, Node.parse(net.coin().encode()), move)
    yield "not one fact", "a claim, its result and a move", tree.put(at, node, result, move)
    yield "claim without its result", "", tree.put(at, node)
    yield "result without its claim", "", tree.put(at, result)
    yield "result without its claim", "with a move", tree.put(at, result, move)
    yield "fields in another order", "result before claim", tree.put(at, result, node)
    yield "unknown field", "a deposit", tree.put(
        at, Node.parse(net.deposit(claim, name="one claim").encode())
    )  # fmt: skip
    empty = move.set("lo", b"\x00").set("hi", b"\x00")
    yield "field inside is bad", "move of nothing", tree.put(at, empty)


def _personalisation(net: Network, tree: Node) -> Spoilt:
    for name, digits in (("pin", b"12345"), ("puk", b"1234567")):
        for wrong in (b"x", b"\x00", b"\xb1"):
            detail = f"{name} with {wrong.hex()}"
            yield "not digits", detail, tree.set(name, digits + wrong)
    at = len(tree.nodes) - 1
    unsigned = _without(tree.nodes[at], card_objects._FIELDS["signature"][0])
    yield "field inside is bad", "risk parameters without signature", tree.put(at, unsigned)


def _firmware(net: Network, tree: Node) -> Spoilt:
    for detail, build in (
        ("no build id", b"1.2.3"),
        ("no version", b"+0123456789ab"),
        ("no plus", b"1.2.3-0123456789ab"),
        ("capitals", b"1.2.3+0123456789AB"),
        ("a letter that is no digit", b"1.2.3+0123456789ag"),
        ("a path", b"1.2.3+../../main.py"),
        ("a digit too few", b"1.2.3+0123456789a"),
    ):
        yield "build is not version and build id", detail, tree.set("build", build)


_RULES = {
    "coin": _zero_amount,
    "pay request": _zero_amount,
    "refund promise": _zero_amount,
    "title": _title,
    "certificate": _certificate,
    "input": _interval,
    "claim": _claim,
    "payment": _payment,
    "deposit": _deposit,
    "bill": _bill,
    "outcome": _outcome,
    "result": _result,
    "receipt": _receipt,
    "evidence": _evidence,
    "reclaim": _reclaim,
    "personalisation": _personalisation,
    "move": _move,
    "log entry": _log_entry,
    "firmware": _firmware,
}


def large(net: Network) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A deposit of as many claims as fit, good, and one of a claim more, bad."""
    claim = Node.parse(net.first_payment.claim.encode())
    tree = Node.parse(net.deposit(net.first_payment.claim, name="large").encode())
    at = len(tree.nodes) - 1
    most = tree.put(at, *[claim] * o.MAX_CLAIMS).encode()
    more = tree.put(at, *[claim] * (o.MAX_CLAIMS + 1)).encode()
    good = {"object": "deposit", "name": "256 claims", "id": net.suite.hash(most).hex()}
    bad = {"object": "deposit", "fault": "too many", "detail": "257 claims"}
    return [{**good, "bytes": most.hex()}], [{**bad, "bytes": more.hex()}]

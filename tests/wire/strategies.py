# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for valid wire objects, built from the codec's own field table."""

from typing import Any

from hypothesis import strategies as st

from chipcash_wire import card_objects
from chipcash_wire import objects as o

OBJECTS: list[type[o.Object]] = [
    cls
    for cls in vars(o).values()
    if isinstance(cls, type) and issubclass(cls, o.Object) and cls is not o.Object
]

_amount = st.integers(0, o.MAX_AMOUNT)
_key = st.binary(min_size=32, max_size=32).map(lambda x: b"\x02" + x)
_header = st.builds(
    o.make_header, st.binary(min_size=4, max_size=4), st.sampled_from([o.SUITE_GM, o.SUITE_P256])
)


def _field(name: str) -> st.SearchStrategy[Any]:
    _, kind, size = card_objects._FIELDS[name]
    if name == "header":
        return _header
    if name in ("pin", "puk"):
        return st.integers(10 ** (size[1] - 1), 10 ** size[1] - 1).map(lambda n: str(n).encode())
    if kind == card_objects._UINT:
        return st.integers(0, (1 << size) - 1)
    if kind == card_objects._KEY:
        return _key
    least, most = size if isinstance(size, tuple) else (size, size)
    return st.binary(min_size=least, max_size=most)


@st.composite
def of_class(draw: st.DrawFn, cls: type[o.Object]) -> Any:
    """A valid object of a class."""
    if cls is o.LogEntry:
        return draw(_log_entry())
    values: dict[str, Any] = {}
    for name in cls.FIELDS:
        plain = name.rstrip("?*=")
        if name[-1] in "*=":
            inner, least, most = cls.MANY[plain]
            items = draw(
                st.lists(of_class(inner), min_size=least, max_size=min(most, max(least, 3)))
            )
            values[plain] = tuple(items) if name[-1] == "*" else items[0]
        elif name[-1] == "?" and draw(st.booleans()):
            values[plain] = None
        else:
            values[plain] = draw(_field(plain))
    _obey(draw, cls, values)
    return cls(**values)


@st.composite
def _log_entry(draw: st.DrawFn) -> o.LogEntry:
    """Of its many objects one, a claim with its result."""
    values: dict[str, Any] = dict.fromkeys(o.LogEntry.MANY, ())
    fact = draw(st.sampled_from([name for name in values if name != "results"]))
    for name in (fact, "results") if fact == "claims" else (fact,):
        values[name] = (draw(of_class(o.LogEntry.MANY[name][0])),)
    return o.LogEntry(header=draw(_field("header")), time=draw(_field("time")), **values)


def _interval(draw: st.DrawFn, values: dict[str, Any]) -> None:
    values["lo"] = draw(st.integers(0, (1 << 40) - 1))
    values["hi"] = values["lo"] + draw(st.integers(1, 1 << 40))


def _obey(draw: st.DrawFn, cls: type[o.Object], values: dict[str, Any]) -> None:
    """Make drawn values keep the rules between fields."""
    if cls in (o.Coin, o.PayRequest, o.RefundPromise):
        values["amount"] = max(1, values["amount"])
    elif cls is o.Bill:
        values["expiry"] = o.MAX_TIME
        late = min(values["request"].time, o.MAX_TIME - 1)
        values["request"] = o.PayRequest(**{**values["request"].__dict__, "time": late})
    elif cls in (o.Title, o.Input, o.Outcome, o.Move):
        _interval(draw, values)
        if cls is o.Title:
            values["amount"] = values["hi"] + draw(st.integers(0, 1 << 40))
        if cls is o.Outcome:
            values["state"] = draw(st.integers(1, len(o.OUTCOMES) - 1))
        if cls is o.Move:
            values["state"] = draw(st.sampled_from([o.SETTLED, o.RECLAIMED]))
            needed = "claim_id" if values["state"] == o.SETTLED else "new_title_id"
            values[needed] = values[needed] or bytes(32)
    elif cls is o.Certificate:
        card = draw(st.booleans())
        values["role"] = o.ROLE_CARD if card else draw(st.integers(1, 4))
        values["expiry"] = min(values["time"], o.MAX_TIME - 1) + 1
        values["time"] = min(values["time"], o.MAX_TIME - 1)
        values["tier"] = draw(st.integers(1, 4)) if card else None
        values["form"] = draw(st.integers(1, len(o.FORMS) - 1)) if card else None
        values["per_payment"] = draw(_amount) if card else None
    elif cls is o.Claim:
        inputs = {item.title_id: item for item in values["inputs"]}.values()
        values["inputs"] = tuple(inputs)
        values["amount"] = sum(item.hi - item.lo for item in inputs)
        values["deadline"] = max(values["time"], values["deadline"])
    elif cls is o.Payment:
        titles = []
        for item in values["claim"].inputs:
            title = draw(of_class(o.Title))
            titles.append(
                o.Title(**{**title.__dict__, "lo": item.lo, "hi": item.hi, "amount": item.hi})
            )
        values["titles"] = tuple(titles)
    elif cls is o.Firmware:
        digits = draw(st.text("0123456789abcdef", min_size=12, max_size=12))
        values["build"] = values["build"][:19] + b"+" + digits.encode()
    elif cls is o.Reclaim:
        if values["claims"]:
            values["title_id"] = None
        else:
            values["voids"] = ()
            values["title_id"] = draw(st.binary(min_size=32, max_size=32))


def any_object() -> st.SearchStrategy[o.Object]:
    """A valid object of any class."""
    return st.sampled_from(OBJECTS).flatmap(of_class)

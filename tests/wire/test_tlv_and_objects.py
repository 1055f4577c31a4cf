# SPDX-License-Identifier: Apache-2.0
"""The codec: every object survives a round trip, and no other bytes decode to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipcash_wire import card_objects, commands, objects, tlv
from chipcash_wire.status import status
from chipcash_wire.tlv import WireError
from tests.wire.strategies import OBJECTS, any_object, of_class


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_uint_round_trip(value: int) -> None:
    assert tlv.decode_uint(tlv.encode_uint(value)) == value


@pytest.mark.parametrize("data", [b"", b"\x00\x01", b"\x00\x00"])
def test_uint_must_be_minimal(data: bytes) -> None:
    with pytest.raises(WireError):
        tlv.decode_uint(data)


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF])
def test_header_round_trip(size: int) -> None:
    data = tlv.encode(0x9F21, bytes(size))
    assert tlv.header(data, 0) == (0x9F21, len(data) - size, len(data))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "83",
        "8301",
        "838101",
        "83810100",
        "8380",
        "838200ff",
        "83830000010000",
        "1f1e0100",
        "9f8001",
        "9f1f",
        "0000",
    ],
)
def test_header_refuses(text: str) -> None:
    with pytest.raises(WireError):
        tlv.header(bytes.fromhex(text), 0)


@given(any_object())
def test_objects_round_trip(obj: objects.Object) -> None:
    data = obj.encode()
    again = type(obj).decode(data)
    assert again == obj
    assert again.encode() == data


@given(any_object(), st.data())
def test_what_decodes_is_canonical(obj: objects.Object, data: st.DataObject) -> None:
    """Any mutation is refused, or decodes to an object whose one encoding it is."""
    wire = bytearray(obj.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at] = data.draw(st.integers(0, 255))
    try:
        decoded = type(obj).decode(bytes(wire))
    except WireError:
        return
    assert decoded.encode() == bytes(wire)


def _mutated(data: st.DataObject, wire: bytes) -> bytes:
    """wire, with as many bytes changed as there may be: none to three, and perhaps cut or extended."""
    changed = bytearray(wire)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    return bytes(
        changed[: data.draw(st.integers(0, len(wire)))] if data.draw(st.booleans()) else changed
    )


@given(of_class(objects.Payment), st.data())
def test_a_payment_in_parts_is_the_payment(payment: objects.Payment, data: st.DataObject) -> None:
    """Payment.parts takes and refuses what decode() does."""
    wire = _mutated(data, payment.encode())
    try:
        whole = objects.Payment.decode(wire)
    except WireError:
        with pytest.raises(WireError):
            objects.Payment.parts(wire)
        return
    claim, places, certificate = objects.Payment.parts(wire)
    titles = tuple(objects.Title.decode(wire[start:stop]) for start, stop in places)
    assert objects.Payment(claim=claim, titles=titles, certificate=certificate) == whole


@given(of_class(objects.Receipt), st.data())
def test_a_receipt_in_parts_is_the_receipt(receipt: objects.Receipt, data: st.DataObject) -> None:
    """decode() that hands over each part takes and refuses what it does otherwise, and message_of() is
    message()."""
    wire = _mutated(data, receipt.encode())
    parts: dict[str, list[object]] = {"results": [], "titles": []}

    def each(name: str, part: object) -> None:
        parts[name].append(part)

    try:
        whole = objects.Receipt.decode(wire)
    except WireError:
        with pytest.raises(WireError):
            objects.Receipt.decode(wire, each)
        return
    assert objects.Receipt.decode(wire, each).digest == whole.digest
    assert (tuple(parts["results"]), tuple(parts["titles"])) == (whole.results, whole.titles)
    if whole.signature is not None:
        assert card_objects.message_of(wire) == whole.message()


@given(any_object(), st.data())
def test_truncated_and_extended_are_refused(obj: objects.Object, data: st.DataObject) -> None:
    wire = obj.encode()
    cut = data.draw(st.integers(0, len(wire) - 1))
    for bad in (wire[:cut], wire + b"\x00"):
        with pytest.raises(WireError):
            type(obj).decode(bad)


@given(st.binary(max_size=600), st.sampled_from(OBJECTS))
def test_random_bytes_never_crash(data: bytes, cls: type[objects.Object]) -> None:
    try:
        assert cls.decode(data).encode() == data
    except WireError:
        pass


def test_tags_and_names_are_unique() -> None:
    tags = [tag for tag, _, _ in card_objects._FIELDS.values()]
    assert len(set(tags)) == len(tags)
    kinds = [cls.TAG for cls in OBJECTS]
    assert len(set(kinds)) == len(kinds)


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=600),
    st.sampled_from([0, 1, 255, 256, 257, 65536]),
    st.booleans(),
)
def test_apdu_round_trip(p1: int, p2: int, data: bytes, le: int, extended: bool) -> None:
    apdu = commands.command(0xCA, p1, p2, data, le=le, extended=extended)
    assert commands.parse(apdu) == (0, 0xCA, p1, p2, data, le)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_apdu_or_6700(data: bytes) -> None:
    try:
        cla, ins, p1, p2, body, le = commands.parse(data)
    except commands.ApduError as error:
        assert error.sw == commands.SW_LENGTH
        return
    assert data[:4] == bytes((cla, ins, p1, p2))
    assert body in data
    assert 0 <= le <= 65536


@pytest.mark.parametrize(
    ("sw", "name"),
    [(0x9000, "ok"), (0x63C2, "wrong PIN"), (0x6110, "more data"), (0x9999, "status 9999")],
)
def test_status_names(sw: int, name: str) -> None:
    assert status(sw)[0] == name

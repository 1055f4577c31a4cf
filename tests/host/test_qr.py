# SPDX-License-Identifier: Apache-2.0
"""Codes: texts there and back, what is refused, and symbols read by a decoder that is not ours."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import segno
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chipcash import qr
from chipcash.qr import Parts, QrError
from chipcash_wire import objects as o
from tests.builders import NOW, network

LARGEST = qr.MAX_PARTS * qr.MAX_SLICE


def joined(texts: Iterable[str]) -> bytes:
    parts = Parts()
    for text in texts:
        parts.add(text)
    return parts.data()


def decoded(image: Image.Image) -> set[str]:
    found = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)
    return {code.text for code in found}


def bill() -> o.Bill:
    return o.Bill(request=network("p256").request(), expiry=NOW + 300)


@given(st.binary(min_size=1, max_size=LARGEST), st.randoms(use_true_random=False))
def test_texts_come_back_in_any_order_case_and_number(data: bytes, random: object) -> None:
    texts = qr.encode(data)
    assert len(texts) == -(-len(data) // qr.MAX_SLICE)
    for text in texts:
        assert re.fullmatch(r"CHIPCASH:\d/\d:[A-Z2-7]+", text) and len(text) <= 1249
    scanned = [f" {text.lower()}\r\n" for text in texts] + texts[:1]
    random.shuffle(scanned)  # type: ignore[attr-defined]
    assert joined(scanned) == data


@given(st.binary(min_size=1, max_size=400), st.data())
def test_a_changed_character_is_noticed(data: bytes, draw: st.DataObject) -> None:
    (text,) = qr.encode(data)
    at = draw.draw(st.integers(0, len(text) - 1))
    other = draw.draw(st.characters(max_codepoint=0x17F).filter(lambda x: x.upper() != text[at]))
    with pytest.raises(QrError):
        joined([text[:at] + other + text[at + 1 :]])


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for words in (text, f"CHIPCASH:1/1:{text}"):
        try:
            data = joined([words])
        except QrError:
            continue
        assert qr.encode(data) == [words.strip().upper()]


def test_what_no_code_can_hold() -> None:
    for data in (b"", bytes(LARGEST + 1)):
        with pytest.raises(ValueError, match="no object for a code"):
            qr.encode(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/",
        "CHIPCASH:",
        "CHIPCASH:1/1:",
        "CHIPCASH:0/1:AAAAAAAAAAA",
        "CHIPCASH:2/1:AAAAAAAAAAA",
        "CHIPCASH:1/10:AAAAAAAAAAA",
        "CHIPCASH:1/1:AAAAAAA",  # the check value and nothing else
        "CHIPCASH:1/1:AAAAAAAAA",  # a length that base32 does not have
        "CHIPCASH:1/1:AAAAAAAB",  # another check value
        "CHIPCASH:1/1:AAAAAAAAAAAAA=",
        "CHIPCASH:1/1:AAAA AAAA",
        "CHIPCASH:1/1:" + "A" * 1237,
        "CH\u0131PCASH:1/1:AAAAAAAAAAA",  # upper-case of this letter is an ASCII I
    ],
)
def test_no_code(text: str) -> None:
    with pytest.raises(QrError):
        joined([text])


def test_bits_behind_the_end_are_no_second_spelling() -> None:
    (text,) = qr.encode(b"xy")  # with the check value 48 bits; ten characters have 50
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    last = letters.index(text[-1])
    assert last % 4 == 0
    for more in (1, 2, 3):
        with pytest.raises(QrError, match="damaged"):
            joined([text[:-1] + letters[last + more]])


def test_parts_that_are_missing_or_of_others() -> None:
    first, second, third = qr.encode(secrets.token_bytes(2000))
    parts = Parts()
    assert (parts.missing, parts.total) == ([1], 0)
    parts.add(second)
    assert (parts.missing, parts.total) == ([1, 3], 3)
    with pytest.raises(QrError, match="part 1, 3 of 3 is missing") as caught:
        parts.data()
    assert caught.value.facts == {"missing": [1, 3], "total": 3}
    with pytest.raises(QrError, match="different codes"):
        parts.add(qr.encode(secrets.token_bytes(2000))[0])
    with pytest.raises(QrError, match="damaged"):
        joined([first, second, second.replace("2/3", "3/3")])
    parts.add(third)
    parts.add(first)
    assert parts.missing == []


def test_the_other_code_is_named() -> None:
    certificate = network("p256").certificate(network("p256").public("card"))
    for obj, kind, words in (
        (bill(), o.Payment, "This code is a bill, which a till shows. Wanted is a payment"),
        (certificate, o.Bill, "This code is a certificate"),
        (network("p256").signed_time(), o.Bill, "nothing that this version knows: not a Bill"),
    ):
        with pytest.raises(QrError, match=words):
            qr.read(qr.encode(obj.encode()), kind)
    assert qr.read(qr.encode(bill().encode()), o.Bill).expiry == NOW + 300


@pytest.mark.parametrize("size", [104, 558, 797, 2232])
def test_symbols_are_read_by_another_decoder(tmp_path: Path, size: int) -> None:
    """A bill, and payments of one, two and eight titles: as pictures and as a terminal shows them."""
    data = secrets.token_bytes(size)
    texts = qr.encode(data)
    paths = qr.save(texts, tmp_path / "code.png")
    assert len(paths) == len(texts) == {104: 1, 558: 1, 797: 2, 2232: 3}[size]
    assert [decoded(Image.open(path)) for path in paths] == [{text} for text in texts]
    for text in texts:
        assert decoded(from_terminal(qr.show(text))) == {text}


def from_terminal(lines: list[str]) -> Image.Image:
    """What a dark terminal shows: each character is two pixels, one above the other."""
    image = Image.new("L", (len(lines[0]), 2 * len(lines)))
    for y, line in enumerate(lines):
        for x, block in enumerate(line):
            image.putpixel((x, 2 * y), 255 * (block in "\N{UPPER HALF BLOCK}\N{FULL BLOCK}"))
            image.putpixel((x, 2 * y + 1), 255 * (block in "\N{LOWER HALF BLOCK}\N{FULL BLOCK}"))
    return image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST)


def test_the_largest_symbol_is_version_20(tmp_path: Path) -> None:
    symbol = segno.make_qr(qr.encode(bytes(qr.MAX_SLICE))[0], error="l")
    assert symbol.designator == "20-L"
    (path,) = qr.save(qr.encode(bytes(qr.MAX_SLICE)), tmp_path / "code.SVG")
    assert path.name == "code.SVG"
    assert int(ElementTree.parse(path).getroot().attrib["width"]) == 8 * (97 + 2 * 4)


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither"):
        qr.save(qr.encode(b"x"), tmp_path / "code.txt")
    assert list(tmp_path.iterdir()) == []

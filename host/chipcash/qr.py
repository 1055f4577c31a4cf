# SPDX-License-Identifier: Apache-2.0
"""Wire objects as QR codes: text, symbols, and back (protocols/spec/qr.md).

What is in a code is a bill, a payment, a card's certificate or a refund promise, byte for byte what would
pass over a link. Reading a picture is a scanner's work; here begins what a scanner gives: text.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chipcash.errors import ChipcashError
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

if TYPE_CHECKING:
    import segno

__all__ = [
    "MAX_PARTS",
    "MAX_SLICE",
    "SUFFIXES",
    "Parts",
    "QrError",
    "encode",
    "read",
    "save",
    "show",
    "symbol",
]

MAX_SLICE = 768
"""Most bytes of an object in one part: with them a symbol is version 20, level L, and no larger."""
MAX_PARTS = 9
"""Most parts of one object."""
SUFFIXES = (".png", ".svg")
"""File names that save() knows."""

_PART = re.compile(r"CHIPCASH:([1-9])/([1-9]):([A-Z2-7]+)")
_MAX_TEXT = 1249
"""Characters that version 20, level L, holds."""
_CRC_SIZE = 4
_NAMES: dict[type[o.Object], str] = {
    o.Bill: "a bill, which a till shows",
    o.Payment: "a payment, which a card answers to a bill",
    o.Certificate: "a certificate, which a card shows before it is asked",
    o.RefundPromise: "a refund promise, which a till gives for a pending payment",
}

_Object = TypeVar("_Object", bound=o.Object)


class QrError(ChipcashError):
    """The text is no code of chipcash, damaged, incomplete, or of another kind. Nothing was done with it."""

    exit_code = 25


def encode(data: bytes) -> list[str]:
    """The texts of an object's bytes, one for each symbol, all in QR's alphanumeric mode.

    Raises ValueError if data is empty or larger than MAX_PARTS slices of MAX_SLICE bytes.
    """
    total = -(-len(data) // MAX_SLICE)
    if not 0 < total <= MAX_PARTS:
        raise ValueError(f"{len(data)} bytes are no object for a code")
    size = -(-len(data) // total)
    crc = zlib.crc32(data).to_bytes(_CRC_SIZE, "big")
    return [
        f"CHIPCASH:{i + 1}/{total}:{_base32(crc + data[i * size : (i + 1) * size])}"
        for i in range(total)
    ]


class Parts:
    """The parts of one object as a scanner brings them: in any order, and again.

    Every method raises QrError.
    """

    def __init__(self) -> None:
        self._slices: dict[int, bytes] = {}
        self._total = 0
        self._crc = b""

    def add(self, text: str) -> None:
        """Take the text of one symbol. Case and white space around it do not matter."""
        text = text.strip()
        found = None
        # str.upper makes ASCII letters out of some that are none.
        if text.isascii() and len(text) <= _MAX_TEXT:
            found = _PART.fullmatch(text.upper())
        if found is None:
            raise QrError(
                "This is no code of chipcash.",
                hint="Its text begins with CHIPCASH: and is one line without blanks. Scan it again.",
            )
        number, total, letters = int(found[1]), int(found[2]), found[3]
        try:
            data = base64.b32decode(letters + "=" * (-len(letters) % 8))
        except binascii.Error:
            data = b""
        if number > total or len(data) <= _CRC_SIZE or _base32(data) != letters:
            raise _damaged()
        crc, data = data[:_CRC_SIZE], data[_CRC_SIZE:]
        if self._slices and (total, crc) != (self._total, self._crc):
            raise QrError(
                "These parts belong to different codes.",
                hint="Scan all parts of one code, and none of an earlier one.",
            )
        if self._slices.setdefault(number, data) != data:
            raise _damaged()
        self._total, self._crc = total, crc

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that are not there yet; [1] before the first."""
        return [i for i in range(1, (self._total or 1) + 1) if i not in self._slices]

    @property
    def total(self) -> int:
        """How many parts there are; 0 before the first."""
        return self._total

    def data(self) -> bytes:
        """The object's bytes."""
        if self.missing:
            parts = ", ".join(map(str, self.missing))
            raise QrError(
                f"The code is not complete: part {parts} of {self._total or 1} is missing.",
                hint="Scan every part of it; the order does not matter.",
                missing=self.missing,
                total=self._total,
            )
        data = b"".join(self._slices[i] for i in sorted(self._slices))
        if zlib.crc32(data).to_bytes(_CRC_SIZE, "big") != self._crc:
            raise _damaged()
        return data


def read(texts: Iterable[str] | Parts, kind: type[_Object]) -> _Object:
    """The object of a kind that texts, or parts, are. Its signatures are the caller's to verify.

    Raises QrError, also for another kind of object.
    """
    parts = texts if isinstance(texts, Parts) else Parts()
    if not isinstance(texts, Parts):
        for text in texts:
            parts.add(text)
    data = parts.data()
    for other, name in _NAMES.items():
        if other is not kind and data[0] == other.TAG:
            raise QrError(
                f"This code is {name}. Wanted is {_NAMES[kind]}.", hint="Scan the other code."
            )
    try:
        return kind.decode(data)
    except WireError as error:
        raise QrError(
            f"The code holds nothing that this version knows: {error}.",
            hint="Scan it again; if it stays so, the other side uses another version, or is faulty.",
        ) from None


def show(text: str) -> list[str]:
    """The symbol as lines of block characters, light on dark, for a terminal."""
    out = io.StringIO()
    symbol(text).terminal(out, compact=True)
    return out.getvalue().splitlines()


def save(texts: list[str], path: Path) -> list[Path]:
    """Write the symbols as PNG or SVG, by the path's suffix; where they are.

    One goes to the path itself, several to NAME-1, NAME-2, ... beside it. Raises OSError; ValueError for
    other suffixes.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is neither .png nor .svg")
    paths = [path]
    if len(texts) > 1:
        paths = [path.with_stem(f"{path.stem}-{i}") for i in range(1, len(texts) + 1)]
    for text, each in zip(texts, paths, strict=True):
        symbol(text).save(str(each), scale=8, kind=path.suffix[1:].lower())
    return paths


def symbol(text: str) -> segno.QRCode:
    """The symbol: as small as its text allows, and of the highest error correction that costs nothing."""
    import segno  # here, since a till that is tapped does not need it

    return segno.make_qr(text, error="l")


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=")


def _damaged() -> QrError:
    return QrError("The code is damaged.", hint="Scan it again, as a whole.")

# SPDX-License-Identifier: Apache-2.0
"""Objects: the codec, and a second one that knows nothing but the tables of the specification."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from chipcash import crypto
from chipcash.trust import object_id
from chipcash_wire.tlv import WireError
from tests.vectors.make_objects import KINDS, fields
from tests.vectors.reading import SUITES, keys, load

_TAG = re.compile("`[0-9A-F]+`")
_ITEM = re.compile("risk parameters|pay request|blacklist entry|[a-z_]+")
_SPEC = Path(__file__).parents[2] / "protocols" / "spec" / "objects.md"

GOOD = [(suite, line) for suite in SUITES for line in load(f"objects-{suite}")]


@pytest.mark.parametrize(
    ("suite", "line"), GOOD, ids=[f"{s}-{x['object']}-{x['name']}" for s, x in GOOD]
)
def test_good(suite: str, line: dict[str, Any]) -> None:
    data = bytes.fromhex(line["bytes"])
    obj = KINDS[line["object"]].decode(data)
    assert obj.encode() == data
    assert fields(obj) == line["fields"]
    if "id" in line:
        assert object_id(obj).hex() == line["id"]
    if "signer" in line:
        assert obj.message().hex() == line["message"]
        public = keys(suite)[line["signer"]]
        assert crypto.suite(suite).verify(public, obj.message(), obj.signature)
        assert not crypto.suite(suite).verify(public, data, obj.signature)


@pytest.mark.parametrize("suite", SUITES)
def test_bad(suite: str) -> None:
    taken = []
    for line in load(f"bad-objects-{suite}"):
        try:
            KINDS[line["object"]].decode(bytes.fromhex(line["bytes"]))
        except WireError:
            continue
        taken.append((line["object"], line["fault"], line["detail"]))
    assert not taken


def test_large() -> None:
    good, bad = load("large-objects")
    data = bytes.fromhex(good["bytes"])
    obj = KINDS[good["object"]].decode(data)
    assert obj.encode() == data
    assert object_id(obj).hex() == good["id"]
    with pytest.raises(WireError):
        KINDS[bad["object"]].decode(bytes.fromhex(bad["bytes"]))


@pytest.mark.parametrize("suite", SUITES)
def test_signatures(suite: str) -> None:
    """By the host's libraries; the card's own code is put to the same in tests/portable."""
    for line in load(f"signatures-{suite}"):
        values = [bytes.fromhex(line[name]) for name in ("public", "message", "signature")]
        assert crypto.suite(suite).verify(*values) == line["verifies"], line["name"]


# ---- a second codec: tables of objects.md in, bytes out -----------------------------------------------


def _tables() -> tuple[dict[str, tuple[int, str]], dict[str, tuple[int, list[str]]]]:
    """Fields (tag, kind) and objects (tag, what is in them in order) as the specification has them."""
    fields: dict[str, tuple[int, str]] = {}
    objects: dict[str, tuple[int, list[str]]] = {}
    for row in _SPEC.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 4 and _TAG.fullmatch(cells[0]):
            objects[cells[1]] = int(cells[0].strip("`"), 16), _ITEM.findall(cells[2])
        elif len(cells) == 7:
            for tag, name, kind in (cells[:3], cells[4:]):
                if _TAG.fullmatch(tag):
                    fields[name] = int(tag.strip("`"), 16), kind
    return fields, objects


class FromTables:
    """Encodes an object's JSON fields with the tables alone."""

    def __init__(self) -> None:
        self.fields, self.objects = _tables()

    def encode(self, name: str, values: dict[str, Any]) -> bytes:
        return _tlv(self.objects[name][0], self.body(name, values))

    def body(self, name: str, values: dict[str, Any], signed: bool = True) -> bytes:
        """The fields in their order, with the signature or without."""
        out = b""
        for item in self.objects[name][1]:
            if item in self.objects:
                # In JSON, what may come more than once is a list under the plural's name.
                key = {"risk parameters": "risk", "pay request": "request"}.get(item, item)
                plural = {"blacklist entry": "entries", "evidence": "evidence"}.get(item, key + "s")
                inner = values.get(plural, [values[key]] if key in values else [])
                out += b"".join(self.encode(item, each) for each in inner)
            elif item in values and (signed or item != "signature"):
                tag, kind = self.fields[item]
                value = values[item]
                if "bits" in kind:
                    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
                else:
                    data = bytes.fromhex(value)
                out += _tlv(tag, data)
        return out


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = bytes([0x81, size])
    else:
        length = b"\x82" + size.to_bytes(2, "big")
    return tag.to_bytes(2 if tag > 0xFF else 1, "big") + length + value


def test_the_tables_alone_make_the_same_bytes() -> None:
    codec = FromTables()
    assert set(codec.objects) == set(KINDS)
    for suite, line in GOOD:
        where = (suite, line["object"], line["name"])
        made = codec.encode(line["object"], line["fields"])
        assert made.hex() == line["bytes"], where
        if "message" in line:
            body = codec.body(line["object"], line["fields"], signed=False)
            assert line["bytes"][:2] + body.hex() == line["message"], where

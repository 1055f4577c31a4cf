# SPDX-License-Identifier: Apache-2.0
"""Objects as texts of QR codes, good and bad, written from protocols/spec/qr.md bit by bit: codes.json."""

from __future__ import annotations

from typing import Any

from chipcash_wire import objects as o
from tests.vectors.make_objects import NAMES, bills
from tests.vectors.signing import Network, serial

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SLICE = 768


def _crc(data: bytes) -> bytes:
    """CRC-32 as in ISO/IEC 13239."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big")


def _base32(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(_LETTERS[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def _part(number: int, total: int, crc: bytes, data: bytes) -> str:
    return f"CHIPCASH:{number}/{total}:{_base32(crc + data)}"


def _texts(data: bytes, size: int) -> list[str]:
    slices = [data[at : at + size] for at in range(0, len(data), size)]
    return [_part(i, len(slices), _crc(data), each) for i, each in enumerate(slices, 1)]


def _even(data: bytes) -> list[str]:
    """Parts as an encoder makes them: as few as there can be, of the same size."""
    total = -(-len(data) // _SLICE)
    return _texts(data, -(-len(data) // total))


def codes(net: Network) -> list[dict[str, Any]]:
    """Good codes have `object` and `bytes`, bad ones `fault`."""
    objects = [*bills(net), ("usual", net.certificate()), ("usual", net.first_payment)]
    objects += [("two titles", net.second_payment), ("eight titles", _widest(net))]
    found: list[dict[str, Any]] = []

    def good(name: str, obj: o.Object, texts: list[str]) -> None:
        found.append(
            {"object": NAMES[type(obj)], "name": name, "bytes": obj.encode().hex(), "texts": texts}
        )

    for name, obj in objects:
        good(name, obj, _even(obj.encode()))
    payment, widest = net.first_payment, _widest(net)
    data, texts = payment.encode(), _even(payment.encode())
    (text,) = texts
    parts = _even(widest.encode())
    good("lower case, blanks around", payment, [f" {text.lower()}\r\n"])
    good("parts in another order, one of them again", widest, [*reversed(parts), parts[1]])
    good("parts of other sizes", payment, _texts(data, 100))

    def bad(fault: str, *texts: str) -> None:
        found.append({"fault": fault, "texts": list(texts)})

    bad("nothing")
    bad("no text", "")
    bad("another scheme", "HTTPS" + text[8:])
    bad("no numbers", "CHIPCASH:" + text[13:])
    bad("part 0", text.replace("1/1", "0/1"))
    bad("part 2 of 1", text.replace("1/1", "2/1"))
    bad("ten parts", *(_part(i, 10, _crc(data), data[i * 60 - 60 : i * 60]) for i in range(1, 11)))
    bad("a letter that base32 does not have", text[:-1] + "1")
    bad("padding", text + "=")
    bad("a blank inside", text[:40] + " " + text[40:])
    bad("a length that base32 does not have", _even(b"xy")[0][:-1])
    last = _LETTERS[_LETTERS.index(_even(b"xy")[0][-1]) + 1]
    bad("a bit behind the end", _even(b"xy")[0][:-1] + last)
    bad("a check value and nothing else", _part(1, 1, _crc(b""), b""))
    bad("another check value", _part(1, 1, _crc(data + b"x"), data))
    bad("a character less", text[:-1])
    bad("a character changed", text[:99] + ("A" if text[99] != "A" else "B") + text[100:])
    bad("longer than a symbol of version 20", _texts(bytes(_SLICE + 1), _SLICE + 1)[0])
    bad("the last part is missing", *parts[:-1])
    bad("the first part is missing", *parts[1:])
    bad("parts of two objects", parts[0], _even(_widest(net, "other").encode())[1], parts[2])
    bad("another number of parts", parts[0], parts[1].replace("2/3", "2/2"))
    again = _part(1, 3, _crc(widest.encode()), bytes(9))
    bad("a part again with other bytes", *parts, again)
    bad("parts exchanged", parts[0].replace("1/", "2/"), parts[1].replace("2/", "1/"), parts[2])
    return found


def _widest(net: Network, name: str = "eight titles") -> o.Payment:
    """One fen of each of eight coins."""
    parts = [
        (net.title("card", 0, 500, 1, serial=serial(f"coin {i}"), amount=500), i, i + 1)
        for i in range(1, o.MAX_INPUTS + 1)
    ]
    return net.payment(net.request(o.MAX_INPUTS, name), parts)

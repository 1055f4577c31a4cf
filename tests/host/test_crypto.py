# SPDX-License-Identifier: Apache-2.0
"""Both implementations of the suites, the host's and the card's, against others' data and each other."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gmalg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash import crypto
from chipcash.crypto import CryptoError, PrivateKey
from chipcash_card import suites as card

WYCHEPROOF = Path(__file__).parents[1] / (
    "vectors/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json"
)
USER_ID = b"1234567812345678"
SUITES = ("p256", "gm")

Verify = Callable[[bytes, bytes, bytes], bool]

# GB/T 32905-2016 A.1 and A.2.
SM3_EXAMPLES = (
    (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
    (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
)
# GB/T 32918.5-2017 A.2.
GB_PRIVATE = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
GB_PUBLIC = "0309f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
GB_SIGNATURE = (
    "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)


def on_host(suite: str) -> Verify:
    return crypto.suite(suite).verify


def on_card(suite: str) -> Verify:
    return card.BY_NAME[suite].verify


def wycheproof() -> list[tuple[bytes, dict[str, Any]]]:
    """Compressed public key and test, all of them."""
    found = []
    for group in json.loads(WYCHEPROOF.read_text())["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        public = bytes((2 + (point[-1] & 1),)) + point[1:33]
        found += [(public, test) for test in group["tests"]]
    return found


@pytest.mark.parametrize("where", [on_host, on_card])
def test_wycheproof(where: Callable[[str], Verify]) -> None:
    verify = where("p256")
    tests = wycheproof()
    wrong = []
    for public, test in tests:
        good = verify(public, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        if good != (test["result"] == "valid"):
            wrong.append((test["tcId"], test["comment"]))
    assert len(tests) == 262
    assert wrong == []


@pytest.mark.parametrize(("data", "digest"), SM3_EXAMPLES)
def test_sm3_examples(data: bytes, digest: str) -> None:
    assert crypto.suite("gm").hash(data).hex() == digest
    assert card.BY_NAME["gm"].hash(data).hex() == digest


@pytest.mark.parametrize("where", [on_host, on_card])
def test_sm2_example(where: Callable[[str], Verify]) -> None:
    public, signature = bytes.fromhex(GB_PUBLIC), bytes.fromhex(GB_SIGNATURE)
    assert PrivateKey(crypto.suite("gm"), bytes.fromhex(GB_PRIVATE)).public == public
    assert where("gm")(public, b"message digest", signature)
    assert not where("gm")(public, b"message digesT", signature)


@given(st.binary(max_size=300))
def test_hashes_agree(data: bytes) -> None:
    for name in SUITES:
        assert crypto.suite(name).hash(data) == card.BY_NAME[name].hash(data)
    sm3 = gmalg.SM3()
    sm3.update(data)
    assert crypto.suite("gm").hash(data) == sm3.value()


@settings(max_examples=8)  # a third of a second each
@given(st.binary(max_size=200))
def test_sm2_against_an_independent_library(message: bytes) -> None:
    """Each of three implementations signs, the other two verify, and refuse another message."""
    ours = PrivateKey.generate("gm")
    portable = card.Signer(card.BY_NAME["gm"], ours.private_bytes(), 1, os.urandom)
    theirs = gmalg.SM2(ours.private_bytes(), USER_ID, pc_mode=gmalg.PC_MODE.COMPRESS)
    assert portable.public == ours.public == theirs.generate_pk(ours.private_bytes())
    r, s = theirs.sign(message)
    signatures = [
        ours.sign(message),
        portable.sign(message),
        r.rjust(32, b"\0") + s.rjust(32, b"\0"),
    ]
    for signature in signatures:
        for text, good in ((message, True), (message + b".", False)):
            assert on_host("gm")(ours.public, text, signature) is good
            assert on_card("gm")(ours.public, text, signature) is good
            assert theirs.verify(text, signature[:32], signature[32:]) is good


@pytest.mark.parametrize("suite", SUITES)
def test_host_and_card_verify_each_other(suite: str) -> None:
    for _ in range(10):
        ours = PrivateKey.generate(suite)
        portable = card.Signer(card.BY_NAME[suite], ours.private_bytes(), 1, os.urandom)
        assert portable.public == ours.public
        message = os.urandom(50)
        for signature in (ours.sign(message), portable.sign(message)):
            assert on_host(suite)(ours.public, message, signature)
            assert on_card(suite)(ours.public, message, signature)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("where", [on_host, on_card])
@settings(max_examples=30)
@given(data=st.data())
def test_whatever_is_no_signature_is_refused(
    where: Callable[[str], Verify], suite: str, data: st.DataObject
) -> None:
    key = PrivateKey.generate(suite)
    signature = bytearray(key.sign(b"message"))
    at = data.draw(st.integers(0, 63))
    signature[at] ^= data.draw(st.integers(1, 255))
    assert not where(suite)(key.public, b"message", bytes(signature))
    for odd in (b"", bytes(64), b"\xff" * 64, bytes(signature) + b"\0", data.draw(st.binary())):
        assert not where(suite)(key.public, b"message", odd)
    for public in (b"", bytes(33), b"\x04" + key.public[1:], b"\x02" + b"\xff" * 32):
        assert not where(suite)(public, b"message", key.sign(b"message"))


@pytest.mark.parametrize("suite", SUITES)
def test_key_file(suite: str, tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    key = PrivateKey.generate(suite)
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["some.key"]
    again = PrivateKey.load(path)
    assert (again.public, again.private_bytes()) == (key.public, key.private_bytes())
    with pytest.raises(CryptoError, match="never overwritten"):
        PrivateKey.generate(suite).save(path)
    assert PrivateKey.load(path).public == key.public
    assert key.private_bytes().hex() not in repr(key) + str(vars(key).keys())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"suite": "p256", "private": "00"}',
        '{"suite": "rsa", "private": "%s"}' % ("11" * 32),
        '{"suite": "gm", "private": "%s"}' % ("00" * 32),
        '{"suite": "gm", "private": "%s"}' % ("ff" * 32),
    ],
)
def test_damaged_key_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    path.write_text(text)
    with pytest.raises(CryptoError) as caught:
        PrivateKey.load(path)
    assert "11" * 32 not in str(caught.value) + caught.value.hint


def test_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(CryptoError, match="There is no key file"):
        PrivateKey.load(tmp_path / "none.key")
    with pytest.raises(CryptoError, match="cannot be written"):
        PrivateKey.generate("p256").save(tmp_path / "no" / "folder.key")


@pytest.mark.parametrize("which", [0, 3, "rsa", ""])
def test_unknown_suite(which: int | str) -> None:
    with pytest.raises(CryptoError, match="no suite"):
        crypto.suite(which)

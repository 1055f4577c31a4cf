# SPDX-License-Identifier: Apache-2.0
"""The emulated TROPIC01, and the driver's arithmetic, before judges that know nothing of this project:
pytropicsquare, a third party's driver of the chip, and OpenSSL."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from tropicsquare import TropicSquare
from tropicsquare.constants.ecc import ECC_CURVE_P256
from tropicsquare.exceptions import (
    TropicSquareError,
    TropicSquareHandshakeError,
    TropicSquareNoSession,
)
from tropicsquare.transports import L1Transport

from chipcash_drivers import tropic01, x25519
from chipcash_drivers.gcm import Gcm
from chipcash_drivers.tropic01 import FACTORY, Refused, Tropic01
from chipcash_sim.hardware import tropic01 as emulated

DIGEST = sha256(b"message").digest()
KEYS = st.binary(min_size=32, max_size=32)


class Bus:
    """machine.SPI and CSN, with the chip at the other end."""

    def __init__(self, chip: emulated.Tropic01) -> None:
        self.chip = chip
        self.select = chip.select

    def write(self, data: bytes) -> None:
        self.chip.transfer(data)

    def write_readinto(self, data: bytes, into: bytearray) -> None:
        into[:] = self.chip.transfer(data)

    def readinto(self, into: bytearray) -> None:
        into[:] = self.chip.transfer(bytes(len(into)))


class Transport(L1Transport):
    """The same for pytropicsquare."""

    def __init__(self, chip: emulated.Tropic01) -> None:
        self.chip = chip

    def _transfer(self, tx_data: bytes) -> bytes:
        return self.chip.transfer(bytes(tx_data))

    def _read(self, length: int) -> bytes:
        return self.chip.transfer(bytes(length))

    def _cs_low(self) -> None:
        self.chip.select(0)

    def _cs_high(self) -> None:
        self.chip.select(1)


@pytest.fixture
def chip() -> emulated.Tropic01:
    made = emulated.Tropic01()
    made.starting = made.busy = 0  # pytropicsquare waits 25 ms each time
    return made


@pytest.fixture
def theirs(chip: emulated.Tropic01) -> TropicSquare:
    return TropicSquare(Transport(chip))


def ours(chip: emulated.Tropic01) -> Tropic01:
    bus = Bus(chip)
    return Tropic01(bus, bus.select, os.urandom)


def check(public: bytes, signature: bytes) -> None:
    """By OpenSSL: the signature of DIGEST under x and y."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    key.verify(encode_dss_signature(r, s), DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_pytropicsquare_understands_the_emulated_chip(
    chip: emulated.Tropic01, theirs: TropicSquare
) -> None:
    assert theirs.riscv_fw_version == (2, 0, 0, 0)
    with pytest.raises(TropicSquareNoSession):
        theirs.ping(b"")
    assert theirs.start_secure_session(*FACTORY[0])
    for n in (0, 1, 100, 108, 109, 1000, 4096):  # 3 + n + 16 bytes, 128 to a chunk
        data = os.urandom(n)
        assert theirs.ping(data) == data
    assert len(theirs.random(255)) == 255
    with pytest.raises(TropicSquareError):
        theirs.ecc_key_read(5)
    for _ in range(2):
        theirs.ecc_key_generate(5, ECC_CURVE_P256)
        signature = theirs.ecdsa_sign(5, DIGEST)
        check(theirs.ecc_key_read(5).public_key, signature.r + signature.s)
        with pytest.raises(TropicSquareError):
            theirs.ecc_key_generate(5, ECC_CURVE_P256)  # a slot that is full
        theirs.ecc_key_erase(5)
    assert theirs.abort_secure_session()
    assert theirs.start_secure_session(*FACTORY[0])
    chip.reset()
    chip.starting = 0
    with pytest.raises(TropicSquareError):
        theirs.ping(b"")


def test_pytropicsquare_notices_what_is_not_the_chips(
    chip: emulated.Tropic01, theirs: TropicSquare
) -> None:
    with pytest.raises(TropicSquareHandshakeError):
        theirs.start_secure_session(*FACTORY[1])
    with pytest.raises(TropicSquareError):
        theirs.start_secure_session(1, *FACTORY[0][1:])
    chip.spoil = 1
    with pytest.raises(TropicSquareError, match="CRC"):
        theirs.start_secure_session(*FACTORY[0])


def test_both_drivers_see_the_same_key(chip: emulated.Tropic01, theirs: TropicSquare) -> None:
    driver = ours(chip)
    driver.generate()
    public = driver.public()
    check(public, driver.sign(DIGEST))
    theirs.start_secure_session(*FACTORY[0])  # which ends ours
    found = theirs.ecc_key_read(0)
    assert (found.curve, found.origin, found.public_key) == (ECC_CURVE_P256, 1, public)
    signature = theirs.ecdsa_sign(0, DIGEST)
    check(public, signature.r + signature.s)
    check(public, driver.sign(DIGEST))  # by a new session
    assert chip.sessions == 3
    with pytest.raises(InvalidSignature):
        check(public, driver.sign(bytes(32)))


def test_the_chips_key_is_found_wherever_a_block_of_its_certificate_ends(
    chip: emulated.Tropic01,
) -> None:
    begins = chip.certificates.index(bytes.fromhex("302a300506032b656e032100"))
    whole = chip.certificates
    for after in (0, 1, 11, 12, 13, 43, 44, 45):
        chip.certificates = bytes((-begins - after) % 128) + whole
        ours(chip).generate()
    assert chip.sessions == 8
    chip.certificates = whole.replace(b"\x2b\x65\x6e", b"\x2b\x65\x70")  # an Ed25519 key
    with pytest.raises(Refused, match="no certificate"):
        ours(chip).generate()


def test_the_pairing_keys_are_pairs() -> None:
    for _, private, public in FACTORY:
        assert (
            X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public
        )
    assert FACTORY[0][2] == emulated.FACTORY_KEY


@given(data=st.binary(max_size=300))
def test_checks_are_the_same(data: bytes) -> None:
    assert tropic01.crc(data) == emulated.crc(data)


@given(scalar=KEYS, other=KEYS)
def test_x25519_is_openssls(scalar: bytes, other: bytes) -> None:
    private = X25519PrivateKey.from_private_bytes(scalar)
    assert x25519.public(scalar) == private.public_key().public_bytes_raw()
    try:  # any 32 bytes are a public key
        expected = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        with pytest.raises(ValueError, match="small order"):
            x25519.agree(scalar, other)
        return
    assert x25519.agree(scalar, other) == expected


@given(key=KEYS, nonce=st.binary(min_size=12, max_size=12), text=st.binary(max_size=100))
def test_gcm_is_openssls(key: bytes, nonce: bytes, text: bytes) -> None:
    extra = text[::-3]
    sealed = AESGCM(key).encrypt(nonce, text, extra)
    assert Gcm(key).seal(nonce, text, extra) == sealed
    assert Gcm(key).open(nonce, sealed, extra) == text


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tropic01, "PATIENCE_MS", 20)
    yield


def _at_work() -> list[Gcm]:
    """Keys of sessions that are not wiped."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Gcm and hasattr(each, "_cipher")]


@pytest.mark.usefixtures("impatient")
def test_a_sessions_keys_are_wiped_at_its_end(chip: emulated.Tropic01) -> None:
    before = len(_at_work())
    driver = ours(chip)
    driver.generate()
    keys = _at_work()[-2:]
    assert len(_at_work()) == before + 2
    for fault in ("silent", "alarm", "forge"):
        setattr(chip, fault, 1000)
        with pytest.raises(OSError):
            driver.sign(DIGEST)
        assert len(_at_work()) == before
        assert not any(any(each._multiples) for each in keys)
        setattr(chip, fault, 0)
        check(driver.public(), driver.sign(DIGEST))
        assert len(_at_work()) == before + 2


def test_no_key_is_shown(chip: emulated.Tropic01) -> None:
    drawn: list[bytes] = []

    def random(n: int) -> bytes:
        drawn.append(os.urandom(n))
        return drawn[-1]

    bus = Bus(chip)
    driver = Tropic01(bus, bus.select, random)
    driver.generate()
    session = driver._session
    assert session is not None
    shown = "".join(map(repr, (driver, session, session.outward, session.inward)))
    shown += "".join(map(str, (driver, session, session.outward, session.inward)))
    for secret in (*drawn, FACTORY[0][1]):
        assert secret.hex() not in shown and repr(secret)[2:-1] not in shown
    assert "0x" in shown and "Gcm object" in shown  # Python's own, which shows an address

# SPDX-License-Identifier: Apache-2.0
"""TROPIC01's driver by others' examples: the standards' for its arithmetic, and what the vendor's own model
of the chip said, for all of it. Portable."""

from binascii import unhexlify

from tropic_model import DIGEST, PING_DATA, PUBLIC, SIGNATURE, Replay, fixed

from chipcash_card import busy
from chipcash_card.suites import P256
from chipcash_drivers import x25519
from chipcash_drivers.gcm import Gcm
from chipcash_drivers.tropic01 import PING, Refused, Tropic01

# RFC 7748: 5.2, scalar, u-coordinate, result, the last after one iteration; 6.1, Bob's key, Alice's, theirs.
RFC_7748 = (
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
    (
        "0900000000000000000000000000000000000000000000000000000000000000",
        "0900000000000000000000000000000000000000000000000000000000000000",
        "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    ),
    (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
)
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"

# McGrew and Viega, The Galois/Counter Mode of Operation: test cases 13 to 16.
KEY = unhexlify("feffe9928665731c6d6a8f9467308308" * 2)
NONCE = unhexlify("cafebabefacedbaddecaf888")
TEXT = unhexlify(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
EXTRA = unhexlify("feedfacedeadbeeffeedfacedeadbeefabaddad2")
SEALED = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
GCM = (
    (bytes(32), bytes(12), b"", b"", "530f8afbc74536b9a963b4f1c4cb738b"),
    (
        bytes(32),
        bytes(12),
        bytes(16),
        b"",
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    ),
    (KEY, NONCE, TEXT, b"", SEALED + "b094dac5d93471bdec1a502270e3cc6c"),
    (KEY, NONCE, TEXT[:60], EXTRA, SEALED[:120] + "76fc6ece0f4e1768cddf8853bb2d551b"),
)


def refused(work, *arguments):
    """Whether it raises ValueError."""
    try:
        work(*arguments)
    except ValueError:
        return True
    return False


def test_x25519():
    for scalar, u, result in RFC_7748:
        assert x25519.agree(unhexlify(scalar), unhexlify(u)) == unhexlify(result)
    assert x25519.public(unhexlify(RFC_7748[3][0])) == unhexlify(BOB_PUBLIC)


def test_a_key_that_makes_the_secret_known_is_refused():
    for u in (0, 1, (1 << 255) - 20, (1 << 255) - 19, (1 << 255) - 18):  # of order 1, 2 or 4
        assert refused(x25519.agree, fixed(32), u.to_bytes(32, "little"))


def test_signs_of_life_while_it_agrees():
    steps = []
    busy.attend(lambda: steps.append(1))
    x25519.public(fixed(32))
    busy.attend(None)
    assert len(steps) == 255


def test_gcm():
    for key, nonce, text, extra, sealed in GCM:
        assert Gcm(key).seal(nonce, text, extra) == unhexlify(sealed)
        assert Gcm(key).open(nonce, unhexlify(sealed), extra) == text


def test_gcm_notices_every_change():
    sealed = Gcm(KEY).seal(NONCE, TEXT[:20], EXTRA)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes((sealed[at] ^ 1 << at % 8,)) + sealed[at + 1 :]
        assert refused(Gcm(KEY).open, NONCE, changed, EXTRA)
    for n in range(len(sealed)):
        assert refused(Gcm(KEY).open, NONCE, sealed[:n], EXTRA)
    assert refused(Gcm(KEY).open, NONCE, sealed, EXTRA[:-1])
    assert refused(Gcm(KEY).open, bytes(12), sealed, EXTRA)
    assert refused(Gcm(bytes(32)).open, NONCE, sealed, EXTRA)


def test_a_wiped_key_is_gone():
    gcm = Gcm(KEY)
    gcm.wipe()
    try:
        gcm.seal(NONCE, TEXT)
    except AttributeError:
        return
    raise AssertionError("it sealed")


def test_the_vendors_model_and_the_driver_understand_each_other():
    """Each byte that the driver sends is the recorded one, so keys, nonces, tags and checks are those of the
    model; a signature that it made is good under the key that it gave."""
    bus = Replay()
    chip = Tropic01(bus, bus.select, fixed)
    assert chip.present()
    try:
        chip.public()
        raise AssertionError("there was no key")
    except Refused:
        pass
    chip.generate()
    assert chip.public() == PUBLIC
    assert chip.sign(DIGEST) == SIGNATURE
    assert chip.run(((PING, PING_DATA, len(PING_DATA)),)) == PING_DATA
    assert bus.over()
    compressed = bytes((2 + (PUBLIC[63] & 1),)) + PUBLIC[:32]
    assert P256().verify(compressed, b"digest", SIGNATURE)

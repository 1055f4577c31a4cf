# SPDX-License-Identifier: Apache-2.0
"""The card's crypto against the standards' examples, and what its signatures must refuse. Portable."""

import os
from binascii import hexlify, unhexlify

from chipcash_card.hashing import hasher
from chipcash_card.suites import BY_NAME, Signer, generate_private, hmac, nonce, suite
from chipcash_wire import card_objects as o
from chipcash_wire.compat import equal

GM = suite(o.SUITE_GM)
P256 = suite(o.SUITE_P256)
SUITES = (GM, P256)

# RFC 6979 A.2.5.
RFC_KEY = unhexlify("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
RFC_PUBLIC = unhexlify("0360FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6")
RFC_SIGNATURES = (
    (
        b"sample",
        "A6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60",
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    ),
    (
        b"test",
        "D16B6AE827F17175E040871A1C7EC3500192C4C92677336EC2537ACAEE0008E0",
        "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
        "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
    ),
)

# GB/T 32918.5-2017 A.2.
GB_KEY = unhexlify("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
GB_PUBLIC = unhexlify("0309F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020")
GB_Z = unhexlify("B2E14C5C79C6DF5B85F4FE7ED8DB7A262B9DA7E07CCB0EA9F4747B8CCDA8A4F3")
GB_NONCE = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
GB_MESSAGE = b"message digest"
GB_SIGNATURE = unhexlify(
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)


def number(data):
    return int.from_bytes(data, "big")


def joined(r, s):
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def dead(n):
    """A random source that has failed."""
    return bytes(n)


def new_key(of):
    return generate_private(of, os.urandom)


def test_equal():
    assert equal(b"", b"") and equal(b"1234", b"1234")
    assert not equal(b"1234", b"1235") and not equal(b"1234", b"123")


def test_suites_by_id_and_name():
    for each in SUITES:
        assert suite(each.id) is each and BY_NAME[each.name] is each
    assert (GM.name, P256.name) == ("gm", "p256")
    for wrong in (0, 3, -1):
        try:
            suite(wrong)
        except ValueError:
            continue
        raise AssertionError("suite %d exists" % wrong)


def test_sm3_examples():  # GB/T 32905-2016 A.1, A.2
    for data, digest in (
        (b"abc", b"66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        (b"abcd" * 16, b"debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    ):
        assert hexlify(GM.hash(data)) == digest


def test_hashes_of_what_comes_in_parts():
    data = bytes(range(256)) * 2
    for each in (GM, P256):
        for parts in ((0,), (1, 62, 1, 64), (63, 2, 128, 7), (64, 64), (200, 0, 1, 311), (512,)):
            found = hasher(each.id)
            at = 0
            for n in parts:
                found.update(memoryview(data)[at : at + n])
                at += n
            assert found.digest() == each.hash(data[:at]), parts


def test_sm3_of_every_length_around_its_blocks():
    value = b""
    for n in range(131):
        value = GM.hash(value + bytes((n,)) * n)
    # The same chain by OpenSSL.
    assert hexlify(value) == b"309264c3e4f529d2f1ddee4f3630712c2b3020af12dbe275b2ae6230188025cd"


def test_hmac():
    fox = b"The quick brown fox jumps over the lazy dog"
    assert hexlify(hmac(P256.hash, b"Jefe", b"what do ya want for nothing?")) == (
        b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"  # RFC 4231, 4.3
    )
    assert hexlify(hmac(GM.hash, b"key", fox)) == (
        b"bd4a34077888162b210645b8ebf74b9af357303789357a27c7fc457244ebd398"  # by OpenSSL
    )


def test_rfc_6979_nonces_and_signatures():
    assert P256.public_key(RFC_KEY) == RFC_PUBLIC
    for message, k, signature in RFC_SIGNATURES:
        e = number(P256.hash(message))
        data = (e % P256.curve.n).to_bytes(32, "big")
        assert nonce(P256, RFC_KEY, data) == number(unhexlify(k))
        secret = P256.secret(RFC_KEY)
        made = P256.finish(secret, P256.coupon(secret, number(unhexlify(k))), e)
        assert made == unhexlify(signature)
        assert P256.verify(RFC_PUBLIC, message, made)


def test_sm2_example():
    assert GM.public_key(GB_KEY) == GB_PUBLIC
    assert GM.prefix(GM.point(GB_KEY)) == GB_Z
    secret = GM.secret(GB_KEY)
    made = GM.finish(secret, GM.coupon(secret, GB_NONCE), number(GM.hash(GB_Z + GB_MESSAGE)))
    assert made == GB_SIGNATURE
    assert GM.verify(GB_PUBLIC, GB_MESSAGE, GB_SIGNATURE)


def test_sign_with_and_without_coupons():
    for each in SUITES:
        signer = Signer(each, new_key(each), 1, os.urandom)
        assert signer.coupons == 0
        plain = signer.sign(b"plain")
        signer.prepare()
        signer.prepare()
        assert signer.coupons == 2
        first = signer.sign(b"first")
        assert signer.coupons == 1
        second = signer.sign(b"first")
        assert signer.coupons == 0
        third = signer.sign(b"first")
        assert len(set((first, second, third))) == 3
        for message, signature in (
            (b"plain", plain),
            (b"first", first),
            (b"first", second),
            (b"first", third),
        ):
            assert each.verify(signer.public, message, signature)
            assert not each.verify(signer.public, message + b"\0", signature)
        assert not each.verify(signer.public, b"first", plain)


def test_a_coupon_that_gives_no_signature_is_passed_over():
    # The nonce for which r = 0 on GM's message: x1 = -e. For P-256, r = 0 whatever the message.
    for each in SUITES:
        signer = Signer(each, new_key(each), 1, os.urandom)
        e = number(each.hash(signer._prefix + b"m"))
        bad = (-e % each.curve.n, 5) if each is GM else (0, 1, 0)
        assert each.finish(signer._secret, bad, e) is None
        signer._coupons.append(bad)
        assert each.verify(signer.public, b"m", signer.sign(b"m"))
        assert signer.coupons == 0
    # GM also refuses r + k = n: s would give d away.
    secret = GM.secret(GB_KEY)
    assert GM.finish(secret, (1, GM.curve.n - 3), 2) is None


def test_nonces_differ_whatever_fails():
    for each in SUITES:
        private = new_key(each)
        seen = []
        for boot in (1, 2, 256):  # the generator is dead: boot and index keep nonces apart
            signer = Signer(each, private, boot, dead)
            seen.append(signer.sign(b"same")[:32])
            signer.prepare()
            seen.append(signer.sign(b"same")[:32])
        for last in (1, 2):  # the journal was rolled back: the generator does
            fresh = bytes(31) + bytes((last,))
            seen.append(Signer(each, private, 1, lambda n, fresh=fresh: fresh).sign(b"same")[:32])
        assert len(set(seen)) == 8


def test_nonces_differ_between_keys():
    for each in SUITES:
        a = Signer(each, b"\1" * 32, 1, dead)
        b = Signer(each, b"\2" * 32, 1, dead)
        a.prepare()
        b.prepare()
        assert a._coupons[0][0] != b._coupons[0][0]


def test_generate_private():
    for each in SUITES:
        n = each.curve.n
        answers = [bytes(32), b"\xff" * 32, n.to_bytes(32, "big"), (n - 1).to_bytes(32, "big")]
        answers.append((n - 2).to_bytes(32, "big"))
        queue = list(answers)
        assert generate_private(each, lambda size, queue=queue: queue.pop(0)) == answers[-1]
        try:
            generate_private(each, dead)
        except OSError:
            continue
        raise AssertionError("a key came from a dead generator")


def test_what_is_no_private_key():
    for each in SUITES:
        n = each.curve.n
        for wrong in (b"", bytes(32), (n - 1).to_bytes(32, "big"), n.to_bytes(32, "big")):
            try:
                Signer(each, wrong, 1, os.urandom)
            except ValueError:
                continue
            raise AssertionError("signs with a key that is none")


def test_no_secret_is_shown():
    for each in SUITES:
        private = new_key(each)
        text = repr(Signer(each, private, 1, os.urandom))
        assert hexlify(private).decode() not in text and str(number(private)) not in text


def test_malformed_is_refused():
    for each in SUITES:
        n = each.curve.n
        p = each.curve.p
        signer = Signer(each, new_key(each), 1, os.urandom)
        public = signer.public
        good = signer.sign(b"m")
        r = number(good[:32])
        s = number(good[32:])
        assert each.verify(public, b"m", good)
        for bad in (
            None,
            b"",
            good[:63],
            good + b"\0",
            bytes(64),
            joined(0, s),
            joined(r, 0),
            joined(n, s),
            joined(r, n),
            joined(r, s ^ 1),
            joined(r ^ 1, s),
            joined(s, r),
            b"\xff" * 64,
        ):
            assert not each.verify(public, b"m", bad)
        for x in range(5):  # the first x that is on no point
            if each.curve.decompress(b"\2" + x.to_bytes(32, "big")) is None:
                break
        for bad in (
            b"",
            b"\0",
            public[:32],
            public + b"\0",
            bytes(33),
            b"\4" + public[1:],
            bytes((public[0] ^ 1,)) + public[1:],
            b"\2" + x.to_bytes(32, "big"),
            b"\2" + p.to_bytes(32, "big"),
            b"\2" + b"\xff" * 32,
        ):
            assert not each.verify(bad, b"m", good)
    if r + n < 1 << 256:  # the other way of writing the same r
        assert not P256.verify(public, b"m", joined(r + n, s))


def test_infinity_is_refused():
    # Whoever has the key can aim at it; r = 0 would then be the only answer, and is none.
    n = P256.curve.n
    e = number(P256.hash(b"m"))
    r = -e * pow(number(RFC_KEY), n - 2, n) % n
    assert not P256.verify(RFC_PUBLIC, b"m", joined(r, 7))
    n = GM.curve.n
    t = 7
    s = -t * number(GB_KEY) % n
    assert not GM.verify(GB_PUBLIC, b"m", joined((t - s) % n, s))
    assert not GM.verify(GB_PUBLIC, b"m", joined(n - 5, 5))  # t = 0


def test_equal_and_opposite_points_on_the_way():
    for each in SUITES:
        n = each.curve.n
        for d in (1, 2, 3, 8, n - 2, n - 3, (n + 1) // 2):
            signer = Signer(each, d.to_bytes(32, "big"), 1, os.urandom)
            assert each.verify(signer.public, b"m", signer.sign(b"m"))


def test_remembered_key():
    for each in SUITES:
        signer = Signer(each, new_key(each), 1, os.urandom)
        signature = signer.sign(b"m")
        each.remember(signer.public)
        try:
            assert each.verify(signer.public, b"m", signature)
            assert not each.verify(signer.public, b"n", signature)
        finally:
            each._known.clear()
        try:
            each.remember(bytes(33))
        except ValueError:
            continue
        raise AssertionError("remembers a key that is none")

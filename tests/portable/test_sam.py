# SPDX-License-Identifier: Apache-2.0
"""A till's card (SAM), run under CPython and under MicroPython. Plain asserts, no test framework."""

from network import NOW, PIN, PUK, Network, TestCard

from chipcash_sim.image import PowerCut
from chipcash_wire import card_objects as o
from chipcash_wire import commands as c
from chipcash_wire import tlv
from chipcash_wire.sam import BOOKS, KEY, MAKE, SIGN, RefundPromise, Void

_NETWORKS = {}
_ZEROS = bytes(32)


def network(suite_id=o.SUITE_P256):
    if suite_id not in _NETWORKS:
        _NETWORKS[suite_id] = Network(suite_id)
    return _NETWORKS[suite_id]


def made_of(header, puk=PUK, pin=PIN):
    """The data of SAM, make."""
    return tlv.encode(0x80, header) + tlv.encode(0x9F26, puk) + tlv.encode(0x9F25, pin)


def sam(it, step, data=b""):
    """One SAM command: (data, sw)."""
    return it.send(c.INS_SAM, step, 0, data, c.CLA_PROPRIETARY)


def ok(it, step, data=b""):
    found, sw = sam(it, step, data)
    assert sw == c.SW_OK, "%04X" % sw
    return found


def blank(suite_id=o.SUITE_P256, keys=None):
    it = TestCard(network(suite_id), keys)
    it.select()
    return it


def ready(suite_id=o.SUITE_P256):
    """A SAM with its key, in a PIN session."""
    it = blank(suite_id)
    ok(it, MAKE, made_of(it.network.header))
    assert it.verify() == c.SW_OK
    ok(it, KEY)
    it.public = it.info().subject
    return it


def void(net, payee, **values):
    fields = {"header": net.header, "payee": payee, "nonce": bytes(16), "amount": 5, "time": NOW}
    fields.update(values)
    return Void(**fields)


def promise(net, payee):
    return RefundPromise(
        header=net.header, payee=payee, claim_id=_ZEROS, amount=5, nonce=bytes(16), time=NOW
    )


def claim(net, inputs=1):
    return o.Claim(
        header=net.header,
        inputs=tuple([o.Input(title_id=bytes((i,)) * 32, lo=0, hi=100) for i in range(inputs)]),
        amount=100 * inputs,
        payee=net.payee.public,
        nonce=bytes(16),
        counter=1,
        time=NOW,
        deadline=NOW + 1,
    )


def in_file(path, data):
    """Whether a file has these bytes; a small heap does not hold all of it."""
    with open(path, "rb") as file:
        last = b""
        while True:
            part = file.read(512)
            if not part or data in last + part:
                return bool(part)
            last = part


def test_a_sam_signs_what_a_till_signs():
    for suite_id in (o.SUITE_GM, o.SUITE_P256):
        net = network(suite_id)
        it = ready(suite_id)
        for obj in (void(net, it.public), promise(net, it.public), claim(net), claim(net, 8)):
            signature = ok(it, SIGN, obj.message())
            assert net.suite.verify(it.public, obj.message(), signature)


def test_a_sam_signs_nothing_else():
    net = network()
    it = ready()
    stranger = net.key().public
    good = void(net, it.public).message()
    elsewhere = Network(o.SUITE_P256, b"NEXT")
    for sw, message in (
        (c.SW_DATA, b""),
        (c.SW_DATA, b"\xea"),
        (c.SW_DATA, bytes(32)),
        (c.SW_DATA, good[:-1]),
        (c.SW_DATA, good + b"\x00"),
        (c.SW_DATA, good + tlv.encode(0x9E, bytes(64))),
        (c.SW_DATA, b"\xe4" + good[1:]),
        # What others sign: a title, a card's proof, a center's limits.
        (c.SW_DATA, net.title(it.public).message()),
        (c.SW_DATA, net.certificate(it.public).message()),
        (c.SW_DATA, net.risk(it.public).message()),
        (c.SW_NETWORK, void(elsewhere, it.public).message()),
        (c.SW_NETWORK, claim(elsewhere).message()),
        (c.SW_NOT_MINE, void(net, stranger).message()),
        (c.SW_NOT_MINE, promise(net, stranger).message()),
    ):
        assert sam(it, SIGN, message) == (b"", sw), message
    assert sam(it, SIGN, good)[1] == c.SW_OK


def test_the_pin_comes_first():
    it = ready()
    message = void(it.network, it.public).message()
    books = ok(it, BOOKS, _ZEROS)
    it.select()
    for step in (SIGN, BOOKS, KEY):
        assert sam(it, step, message)[1] == c.SW_SECURITY
    assert it.verify(b"000000") == c.SW_PIN_WRONG | 2
    assert sam(it, SIGN, message)[1] == c.SW_SECURITY
    assert it.verify() == c.SW_OK
    assert sam(it, SIGN, message)[1] == c.SW_OK
    for left in (2, 1, 0):
        assert it.verify(b"000000") == c.SW_PIN_WRONG | left
    assert it.verify() == c.SW_BLOCKED
    it.boot()
    it.select()
    assert it.verify() == c.SW_BLOCKED and it.info().pin_tries == 0
    pair = tlv.encode(0x9F26, PUK) + tlv.encode(0x9F25, b"7777")
    it.ok(c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE, pair)
    assert it.verify(b"7777") == c.SW_OK
    assert ok(it, BOOKS, _ZEROS) == books and it.info().subject == it.public


def test_the_books_key_is_its_own_and_padded():
    one, two = ready(), ready()
    books = ok(one, BOOKS, _ZEROS)
    assert len(books) == 32 and books not in (_ZEROS, ok(two, BOOKS, _ZEROS))
    pad = bytes(range(32))
    assert ok(one, BOOKS, pad) == bytes([a ^ b for a, b in zip(books, pad)])
    for wrong in (b"", bytes(31), bytes(33)):
        assert sam(one, BOOKS, wrong)[1] == c.SW_DATA


def test_only_a_blank_card_becomes_a_sam():
    net = network()
    data = made_of(net.header)
    it = blank()
    for wrong in (
        b"",
        data[:-1],
        data + b"\x00",
        made_of(net.header[:-1]),
        made_of(net.header[:-1] + b"\x07"),
        made_of(net.header, puk=b"1234"),
        made_of(net.header, pin=b"secret"),
    ):
        assert sam(it, MAKE, wrong)[1] == c.SW_DATA
    for step in (KEY, SIGN, BOOKS):
        assert sam(it, step)[1] == c.SW_CONDITIONS
    assert it.info().lifecycle == o.LIFE_BLANK
    # With a key that somebody may have certified it is a payer's.
    it.ok(c.INS_GENERATE_KEY_PAIR, net.suite.id)
    assert sam(it, MAKE, data)[1] == c.SW_CONDITIONS
    it = TestCard(net).personalise()
    assert sam(it, MAKE, data)[1] == c.SW_CONDITIONS
    assert it.verify() == c.SW_OK
    assert sam(it, SIGN, void(net, it.public).message())[1] == c.SW_CONDITIONS


def test_a_sam_is_nothing_else():
    net = network()
    it = ready()
    info = o.ApplicationInfo.decode(it.select())
    assert info.header == net.header and info.lifecycle == o.LIFE_SAM
    assert it.verify() == c.SW_OK
    public = it.public
    perso = it.personalisation().encode()
    for ins, p1, data in (
        (c.INS_GENERATE_KEY_PAIR, net.suite.id, b""),
        (c.INS_STORE_DATA, 0x80, perso),
        (c.INS_PUT_DATA, 0, net.title(public).encode()),
        (c.INS_INTERNAL_AUTHENTICATE, 0, bytes(16)),
        (c.INS_GENERAL_AUTHENTICATE, 0, net.key().public),
        (c.INS_GET_DATA, c.DATA_CERTIFICATE, b""),
        (c.INS_GET_DATA, c.DATA_TITLE, b""),
    ):
        assert it.send(ins, p1, 0, data)[1] == c.SW_CONDITIONS, ins
    assert it.pay(net.request(1))[1] == c.SW_CONDITIONS
    for step in (MAKE, KEY):
        assert sam(it, step, made_of(net.header))[1] == c.SW_CONDITIONS
    assert it.send(c.INS_SAM, BOOKS + 1, 0, cla=c.CLA_PROPRIETARY)[1] == c.SW_P1P2
    assert it.info().subject == public
    it.contactless = True
    assert sam(it, SIGN, void(net, public).message())[1] == c.SW_CONDITIONS
    assert it.verify() == c.SW_CONDITIONS


def test_a_copy_of_its_flash_shows_no_secret():
    from chipcash_card.keys import KeyStore

    net = network()
    it = blank(keys=KeyStore(b"this chip's"))
    ok(it, MAKE, made_of(net.header))
    assert it.verify() == c.SW_OK
    books = ok(it, BOOKS, _ZEROS)
    assert in_file(it.path, net.header) and not in_file(it.path, books)
    # On another chip the same flash gives another key.
    it.keys = KeyStore(b"another's")
    it.boot()
    it.select()
    assert it.verify() == c.SW_OK
    assert ok(it, BOOKS, _ZEROS) != books


def test_torn_while_it_is_made_and_used():
    """At every write, whole and half done: blank, or a SAM that can be finished; its secrets never change."""
    net = network()

    def use(it, seen):
        it.select()
        if it.info().lifecycle == o.LIFE_BLANK:
            assert not seen
            ok(it, MAKE, made_of(net.header))
        assert it.verify() == c.SW_OK
        books = ok(it, BOOKS, _ZEROS)
        assert seen.setdefault("books", books) == books
        if it.info().subject is None:
            assert "public" not in seen
            ok(it, KEY)
        public = it.info().subject
        assert seen.setdefault("public", public) == public
        message = void(net, public).message()
        assert net.suite.verify(public, message, ok(it, SIGN, message))

    it = TestCard(net)
    before = it.flash.writes
    use(it, {})
    writes = it.flash.writes - before
    assert writes > 4
    for cut in range(before, before + writes):
        for half in (False, True):
            it = TestCard(net)
            it.flash.close()
            with open(it.path, "wb"):
                pass
            seen = {}
            try:
                it.boot(cut, half)
                use(it, seen)
            except PowerCut:
                pass
            it.boot()
            use(it, seen)

# SPDX-License-Identifier: Apache-2.0
"""The applet's commands, run under CPython and under MicroPython. Plain asserts, no test framework."""

import os

from network import DAY, NOW, PIN, PUK, Network, TestCard, check_payment

from chipcash_wire import card_objects as o
from chipcash_wire import commands as c

_NETWORKS = {}


def network(suite_id=o.SUITE_P256):
    if suite_id not in _NETWORKS:
        _NETWORKS[suite_id] = Network(suite_id)
    return _NETWORKS[suite_id]


def card(suite_id=o.SUITE_P256, **limits):
    return TestCard(network(suite_id)).personalise(**limits)


def test_life_of_a_card():
    for suite_id in (o.SUITE_GM, o.SUITE_P256):
        new = TestCard(network(suite_id))
        assert new.send(c.INS_GET_DATA, c.DATA_INFO)[1] == c.SW_CONDITIONS
        info = o.ApplicationInfo.decode(new.select())
        assert info.lifecycle == o.LIFE_BLANK and info.header is None
        assert new.send(c.INS_GET_DATA, c.DATA_CERTIFICATE)[1] == c.SW_CONDITIONS
        assert new.send(c.INS_PUT_DATA, data=b"\xe2\x00")[1] == c.SW_CONDITIONS
        assert new.send(c.INS_GENERATE_KEY_PAIR, 9)[1] == c.SW_P1P2
        first = new.ok(c.INS_GENERATE_KEY_PAIR, suite_id)
        new.public = new.ok(c.INS_GENERATE_KEY_PAIR, suite_id)
        assert first != new.public and len(first) == 33
        perso = new.personalisation()
        new.ok(c.INS_STORE_DATA, 0x80, 0, perso.encode())
        info = o.ApplicationInfo.decode(new.select())
        assert info.lifecycle == o.LIFE_PERSONALISED and info.header == network(suite_id).header
        assert new.ok(c.INS_GET_DATA, c.DATA_CERTIFICATE) == perso.certificate.encode()
        assert new.ok(c.INS_GET_DATA, c.DATA_RISK) == perso.risk.encode()
        assert new.send(c.INS_GENERATE_KEY_PAIR, suite_id)[1] == c.SW_CONDITIONS
        assert new.send(c.INS_STORE_DATA, 0x80, 0, perso.encode())[1] == c.SW_CONDITIONS


def test_personalisation_checks():
    net = network()
    new = TestCard(net)
    new.select()
    new.public = new.ok(c.INS_GENERATE_KEY_PAIR, net.suite.id)
    good = new.personalisation()
    stranger = net.key()
    for sw, change in (
        (c.SW_SIGNATURE, {"center_key": stranger.public}),
        (c.SW_SIGNATURE, {"certification_key": stranger.public}),
        (c.SW_NOT_MINE, {"certificate": net.certificate(stranger.public)}),
        (c.SW_NOT_MINE, {"risk": net.risk(stranger.public)}),
        (c.SW_NOT_MINE, {"certificate": net.certificate(new.public, role=o.ROLE_BANK)}),
        (c.SW_NETWORK, {"risk": Network(o.SUITE_P256, b"NEXT").risk(new.public)}),
    ):
        values = {
            "center_key": good.center_key,
            "certification_key": good.certification_key,
            "pin": PIN,
            "puk": PUK,
            "certificate": good.certificate,
            "risk": good.risk,
        }
        values.update(change)
        bad = o.Personalisation(**values).encode()
        assert new.send(c.INS_STORE_DATA, 0x80, 0, bad)[1] == sw
        assert o.ApplicationInfo.decode(new.select()).lifecycle == o.LIFE_KEYED
    new.ok(c.INS_STORE_DATA, 0x80, 0, good.encode())


def test_select():
    it = card()
    assert it.send(c.INS_SELECT, 4, 0, b"\xa0\x00\x00\x00\x03")[1] == c.SW_NOT_FOUND
    assert it.send(c.INS_GET_DATA, c.DATA_INFO)[1] == c.SW_CONDITIONS
    assert it.send(c.INS_SELECT, 0, 0, c.AID)[1] == c.SW_P1P2
    it.select()
    assert it.verify() == c.SW_OK
    assert it.info().balance == 0
    it.select()
    assert it.info().balance is None


def test_classes_and_lengths():
    it = card()
    for cla, sw in (
        (0x01, c.SW_CHANNEL),
        (0x04, c.SW_SECURE_MESSAGING),
        (0x0C, c.SW_SECURE_MESSAGING),
        (0x80, c.SW_CLA),
        (0xFF, c.SW_CLA),
        (0x40, c.SW_CLA),
    ):
        assert it.send(c.INS_GET_DATA, c.DATA_INFO, cla=cla)[1] == sw
    assert it.send(0xEE)[1] == c.SW_INS
    assert it.session.process(b"\x00\xca") == b"\x67\x00"
    assert it.session.process(b"\x00\xca\x01\x00\x05\x00") == b"\x67\x00"
    assert it.send(c.INS_GET_DATA, 0x77)[1] == c.SW_P1P2
    assert it.send(c.INS_PAY)[1] == c.SW_CLA


def test_payment_both_suites():
    for suite_id in (o.SUITE_GM, o.SUITE_P256):
        it = card(suite_id)
        it.load()
        net = network(suite_id)
        pointer = 0
        for amount in (3680, 1200, 1):
            request = net.request(amount)
            payment = it.paid(request)
            check_payment(net, it.public, payment, request)
            assert payment.claim.inputs[0].lo == pointer
            pointer += amount
            assert payment.claim.inputs[0].hi == pointer
            assert payment.claim.deadline == request.time + 7 * DAY
        assert it.balance() == 10000 - pointer


def test_retry_gets_the_same_bytes():
    it = card()
    it.load()
    net = network()
    requests = [net.request(100) for _ in range(c.MAX_LOG)]
    answers = [it.pay(request) for request in requests]
    assert [it.pay(request) for request in requests] == answers
    it.boot()
    it.select()
    assert [it.pay(request) for request in requests] == answers
    later = net.request(100, nonce=requests[3].nonce, time=NOW + 50)
    assert it.pay(later) == answers[3]
    other = net.request(101, nonce=requests[3].nonce)
    assert it.paid(other).claim.inputs[0].lo == 100 * c.MAX_LOG
    other = net.request(100, nonce=requests[3].nonce, payee=net.key().public)
    assert it.paid(other).claim.inputs[0].lo == 100 * c.MAX_LOG + 101
    assert it.balance() == 10000 - 100 * c.MAX_LOG - 201


def test_a_nonce_comes_again_where_it_was_in_the_log():
    it = card()
    it.load()
    net = network()
    first = net.request(100)
    it.paid(first)
    for _ in range(c.MAX_LOG - 1):
        it.paid(net.request(1))
    again = net.request(200, nonce=first.nonce)  # takes the place of the first
    answer = it.pay(again)
    it.boot()
    it.select()
    assert it.pay(again) == answer
    assert it.paid(first).claim.counter == c.MAX_LOG + 2


def test_short_apdus_and_get_response():
    it = card()
    it.load()
    request = network().request(500).encode()
    data, sw = it.send(c.INS_PAY, data=request, cla=c.CLA_PROPRIETARY, le=256, extended=False)
    assert len(data) == 256 and sw >> 8 == 0x61
    while sw >> 8 == 0x61:
        more, sw = it.send(c.INS_GET_RESPONSE, le=sw & 0xFF or 256, extended=False)
        data += more
    assert sw == c.SW_OK
    assert o.Payment.decode(data).claim.amount == 500
    assert it.send(c.INS_GET_RESPONSE, extended=False, le=256)[1] == c.SW_CONDITIONS
    # Without Le, as a T=0 link sends it: nothing but the number of bytes waiting.
    data, sw = it.send(c.INS_PAY, data=request, cla=c.CLA_PROPRIETARY, le=0, extended=False)
    assert (data, sw) == (b"", c.SW_MORE)


def test_chaining():
    it = card()
    title = network().title(it.public).encode()
    assert it.send(c.INS_PUT_DATA, data=title[:100], cla=0x10) == (b"", c.SW_OK)
    assert it.send(c.INS_PUT_DATA, data=title[100:]) == (b"", c.SW_OK)
    assert it.send(c.INS_PUT_DATA, data=title[:100], cla=0x10)[1] == c.SW_OK
    assert it.send(c.INS_GET_DATA, c.DATA_INFO)[1] == c.SW_CHAIN_BROKEN
    assert it.info().counter == 0
    for _ in range(c.MAX_COMMAND // 250):
        assert it.send(c.INS_PUT_DATA, data=bytes(250), cla=0x10)[1] == c.SW_OK
    assert it.send(c.INS_PUT_DATA, data=bytes(250), cla=0x10)[1] == c.SW_LENGTH
    assert it.balance() == 10000


def test_limits():
    net = network()
    it = card(per_payment=1000, cumulative=2500, count=4, pin_free=600)
    it.load()
    assert it.pay(net.request(1001))[1] == c.SW_LIMIT_PAYMENT
    assert it.pay(net.request(601))[1] == c.SW_SECURITY
    assert it.verify() == c.SW_OK
    it.paid(net.request(1000))
    assert it.pay(net.request(601))[1] == c.SW_SECURITY
    it.paid(net.request(600))
    it.paid(net.request(600))
    assert it.pay(net.request(301))[1] == c.SW_LIMIT_CUMULATIVE
    it.paid(net.request(300))
    assert it.pay(net.request(1))[1] in (c.SW_LIMIT_COUNT, c.SW_LIMIT_CUMULATIVE)
    info = it.info()
    assert (info.spent, info.payments, info.counter) == (2500, 4, 4)
    fresh = net.risk(it.public, 2, count=1, cumulative=9999)
    assert it.put(fresh) == c.SW_SECURITY
    assert it.verify() == c.SW_OK
    assert it.put(fresh) == c.SW_OK
    assert it.put(fresh) == c.SW_STALE
    it.paid(net.request(10))
    assert it.pay(net.request(10))[1] == c.SW_LIMIT_COUNT
    it.boot()
    it.select()
    assert it.pay(net.request(10))[1] == c.SW_LIMIT_COUNT


def test_certificate_limits_too():
    net = network()
    it = TestCard(net)
    it.select()
    it.public = it.ok(c.INS_GENERATE_KEY_PAIR, net.suite.id)
    perso = it.personalisation()
    low = o.Personalisation(
        center_key=perso.center_key,
        certification_key=perso.certification_key,
        pin=PIN,
        puk=PUK,
        certificate=net.certificate(it.public, per_payment=500, expiry=NOW + 10),
        risk=perso.risk,
    )
    it.ok(c.INS_STORE_DATA, 0x80, 0, low.encode())
    it.load()
    assert it.pay(net.request(501))[1] == c.SW_LIMIT_PAYMENT
    assert it.pay(net.request(500, time=NOW + 10))[1] == c.SW_EXPIRED
    assert it.put(net.certificate(it.public, 500, NOW + 10)) == c.SW_STALE
    assert it.put(net.certificate(net.key().public, 900, NOW + 99)) == c.SW_NOT_MINE
    assert it.put(net.certificate(it.public, 900, NOW + 99)) == c.SW_OK
    it.paid(net.request(501, time=NOW + 10))


def test_time():
    net = network()
    it = card()
    it.load()
    assert it.pay(net.request(1, time=NOW - 1))[1] == c.SW_TIME_PAST
    assert it.pay(net.request(1, time=NOW + 90 * DAY + 1))[1] == c.SW_TIME_FUTURE
    assert it.put(net.time(NOW)) == c.SW_STALE
    assert it.put(net.time(NOW + DAY)) == c.SW_OK
    assert it.pay(net.request(1))[1] == c.SW_TIME_PAST
    it.paid(net.request(1, time=NOW + DAY))


def test_foreign_objects_are_refused():
    net = network()
    other = Network(o.SUITE_P256, b"NEXT")
    gm = network(o.SUITE_GM)
    it = card()
    assert it.put(net.title(net.key().public)) == c.SW_NOT_MINE
    assert it.put(other.title(it.public)) == c.SW_NETWORK
    assert it.put(gm.title(it.public)) == c.SW_NETWORK
    title = net.title(it.public)
    bad = bytearray(title.signature)
    bad[5] ^= 1
    assert it.put(title.signed(bytes(bad))) == c.SW_SIGNATURE
    forged = net.sign(net.certification, title)
    assert it.put(forged) == c.SW_SIGNATURE
    assert it.pay(other.request(1))[1] == c.SW_NETWORK
    assert it.pay(gm.request(1))[1] == c.SW_NETWORK
    assert it.put(net.request(1)) == c.SW_DATA
    assert it.send(c.INS_PUT_DATA)[1] == c.SW_DATA
    assert it.balance() == 0


def test_a_title_is_taken_once():
    net = network()
    it = card()
    title = it.load(500)
    assert it.put(title) == c.SW_STALE
    it.paid(net.request(500))
    assert it.balance() == 0
    assert it.put(title) == c.SW_STALE
    it.boot()
    it.select()
    assert it.put(title) == c.SW_STALE
    assert it.put(net.time(NOW + 366 * DAY)) == c.SW_OK
    assert it.put(title) == c.SW_EXPIRED


def test_choosing_titles():
    net = network()
    it = card()
    late = it.load(1000)
    soon = it.load(1000, expiry=NOW + 100 * DAY)
    small = it.load(300)
    payment = it.paid(net.request(300))
    assert payment.titles == (soon,)
    assert it.paid(net.request(900)).titles == (late,)
    payment = it.paid(net.request(1100))
    assert payment.titles == (soon, small, late)
    assert [item.hi - item.lo for item in payment.claim.inputs] == [700, 300, 100]
    assert it.balance() == 0
    assert it.pay(net.request(1))[1] == c.SW_INSUFFICIENT_FUNDS
    it.load(50, expiry=NOW + 3 * DAY)
    assert it.pay(net.request(1))[1] == c.SW_EXPIRED


def test_capacity():
    net = network()
    it = card()
    for _ in range(c.MAX_TITLES):
        it.load(10)
    assert it.put(net.title(it.public)) == c.SW_NO_SPACE
    assert it.pay(net.request(81))[1] == c.SW_INSUFFICIENT_FUNDS
    assert len(it.paid(net.request(80)).titles) == o.MAX_INPUTS
    it.load(10)
    assert it.balance() == 90


def test_spent_titles_make_room_and_never_come_back():
    net = network()
    it = card()
    first = it.load(1, expiry=NOW + 200 * DAY)
    it.paid(net.request(1))
    for _ in range(c.MAX_SEEN - 1):
        it.load(1, expiry=NOW + 310 * DAY)
        it.paid(net.request(1))
    last = it.load(1, expiry=NOW + 320 * DAY)  # displaces the first
    for _ in range(2):
        assert it.put(first) == c.SW_EXPIRED
        assert it.put(net.title(it.public, expiry=NOW + 200 * DAY)) == c.SW_EXPIRED
        assert it.put(last) == c.SW_STALE
        assert it.balance() == 1
        it.boot()
        it.select()
    it.load(5, expiry=NOW + 201 * DAY)  # displaces another
    assert it.put(first) == c.SW_EXPIRED
    assert it.balance() == 6


def test_titles_and_payments_need_the_pin():
    net = network()
    it = card()
    title = it.load()
    answer = it.pay(net.request(700))[0]
    it.paid(net.request(300))
    assert it.send(c.INS_GET_DATA, c.DATA_TITLE)[1] == c.SW_SECURITY
    assert it.send(c.INS_GET_DATA, c.DATA_PAYMENT)[1] == c.SW_SECURITY
    assert it.verify() == c.SW_OK
    record = o.TitleRecord.decode(it.ok(c.INS_GET_DATA, c.DATA_TITLE, 0))
    assert record.title == title and record.lo == 1000
    assert it.send(c.INS_GET_DATA, c.DATA_TITLE, 1)[1] == c.SW_RECORD_NOT_FOUND
    assert it.ok(c.INS_GET_DATA, c.DATA_PAYMENT, 1) == answer
    assert it.send(c.INS_GET_DATA, c.DATA_PAYMENT, 2)[1] == c.SW_RECORD_NOT_FOUND


def test_pin():
    it = card()
    assert it.verify(b"") == 0x63C3
    assert it.verify(b"12x4") == c.SW_DATA
    assert it.verify(b"000000") == 0x63C2
    it.boot()
    it.select()
    assert it.verify(b"000000") == 0x63C1
    assert it.verify() == c.SW_OK
    assert it.verify(b"") == c.SW_OK
    for sw in (0x63C2, 0x63C1, 0x63C0, c.SW_BLOCKED):
        assert it.verify(b"999999") == sw
    assert it.verify() == c.SW_BLOCKED
    assert it.verify(b"") == c.SW_BLOCKED
    new = b"\x9f\x25\x044321"

    def unblock(puk):
        data = b"\x9f\x26\x08" + puk + new
        return it.send(c.INS_RESET_RETRY_COUNTER, 0, c.PIN_REFERENCE, data)[1]

    assert unblock(b"87654321") == 0x63C9
    assert unblock(PUK) == c.SW_OK
    assert it.verify(PIN) == 0x63C2
    assert it.verify(b"4321") == c.SW_OK
    change = b"\x9f\x25\x044321\x9f\x25\x0c123456789012"
    assert it.send(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, change)[1] == c.SW_OK
    assert it.send(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, change)[1] == 0x63C2
    assert it.verify(b"123456789012") == c.SW_OK
    assert it.send(c.INS_CHANGE_REFERENCE_DATA, 0, c.PIN_REFERENCE, b"\x9f\x25")[1] == c.SW_DATA


def test_no_pin_over_the_air():
    it = card()
    it.load()
    it.contactless = True
    assert it.verify() == c.SW_CONDITIONS
    assert it.pay(network().request(30001))[1] == c.SW_SECURITY
    it.paid(network().request(100))


def test_genuine_check():
    for suite_id in (o.SUITE_GM, o.SUITE_P256):
        net = network(suite_id)
        it = card(suite_id)
        challenge = os.urandom(16)
        data = it.ok(c.INS_INTERNAL_AUTHENTICATE, data=challenge)
        size = len(data) - len(it.ok(c.INS_GET_DATA, c.DATA_CERTIFICATE))
        proof = o.GenuineProof.decode(data[:size])
        certificate = o.Certificate.decode(data[size:])
        assert proof.nonce == challenge and proof.subject == certificate.subject == it.public
        assert net.suite.verify(it.public, proof.message(), proof.signature)
        again = o.GenuineProof.decode(it.ok(c.INS_INTERNAL_AUTHENTICATE, data=challenge)[:size])
        assert again.digest != proof.digest
        assert it.send(c.INS_INTERNAL_AUTHENTICATE, data=challenge + b"x")[1] == c.SW_DATA


def test_coupons_are_used_and_make_valid_signatures():
    for suite_id in (o.SUITE_GM, o.SUITE_P256):
        net = network(suite_id)
        it = card(suite_id)
        it.load()
        while it.applet.idle():
            pass
        for _ in range(4):
            request = net.request(10)
            check_payment(net, it.public, it.paid(request), request)


def test_many_payments_move_the_journal():
    net = network()
    it = card()
    it.load(30000)
    for _ in range(120):
        it.paid(net.request(7))
    it.boot()
    assert it.balance() == 30000 - 120 * 7

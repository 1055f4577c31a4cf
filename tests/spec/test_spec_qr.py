# SPDX-License-Identifier: Apache-2.0
"""qr.md says what the toolkit does: sizes and symbols, limits, times, checks."""

from __future__ import annotations

import segno

from chipcash import qr
from chipcash.pos import BILL_GRACE, BILL_SECONDS
from chipcash.terminal import REASONS
from chipcash_wire import objects as o
from tests.spec.test_spec import (
    HEADER,
    SIGNATURE,
    K,
    a_bill,
    a_certificate,
    a_payment,
    prose,
    table,
)


def a_promise() -> o.RefundPromise:
    return o.RefundPromise(
        header=HEADER, payee=K, claim_id=bytes(32), amount=o.MAX_AMOUNT, nonce=bytes(16),
        time=o.MAX_TIME, signature=SIGNATURE,
    )  # fmt: skip


def test_codes() -> None:
    objects: dict[str, o.Object] = {
        "bill": a_bill(True),
        "certificate of a card": a_certificate(True),
        "refund promise": a_promise(),
        "payment of one title": a_payment(1, True),
        "payment of two titles": a_payment(2, True),
        "payment of eight titles": a_payment(o.MAX_INPUTS, True),
    }
    rows = table("qr.md", "object", "bytes at most", "parts")
    assert [row[0] for row in rows] == list(objects)
    for name, *told in rows:
        data = objects[name].encode()
        texts = qr.encode(data)
        symbol = segno.make_qr(texts[0], error="l", boost_error=False).designator
        assert told == [str(len(data)), str(len(texts)), str(len(texts[0])), symbol], name
    (longest,) = qr.encode(bytes(qr.MAX_SLICE))
    assert f"a text of at most {len(longest)} characters then fits version 20" in prose("qr.md")
    assert segno.make_qr(longest, error="l").designator == "20-L"


def test_parts() -> None:
    rows = dict(table("qr.md", "part of the text", "what"))
    assert rows["`1/3:`"].endswith(f"1 to {qr.MAX_PARTS} each")
    assert rows["the rest"].endswith(f"this part's bytes, 1 to {qr.MAX_SLICE}")


def test_times() -> None:
    assert (BILL_SECONDS, BILL_GRACE) == (5 * 60, 60 * 60)
    assert "five minutes by default" in prose("qr.md")
    assert "an hour after the expiry: VOIDED" in prose("qr.md")


def test_checks_before_a_card_is_asked() -> None:
    """By their numbers in payment.md."""
    assert "(checks 4, 5, 6, 11)" in prose("qr.md")
    reasons = list(REASONS)
    assert [reasons[number - 1] for number in (4, 5, 6, 11)] == [
        "certificate", "certificate-expired", "blacklisted", "limit",
    ]  # fmt: skip

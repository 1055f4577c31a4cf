# SPDX-License-Identifier: Apache-2.0
"""Receipts: what they tell a customer, on screen, as PDF and on ESC/POS paper; and their code is read."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pypdfium2
import pytest
import zxingcpp
from PIL import Image

from chipcash import qr
from chipcash.center.errors import CenterUnreachable
from chipcash.pos import PaymentState as P
from chipcash.pos import Pos, PosError
from chipcash.pos import receipts as r
from chipcash.pos.printing import PrinterError, print_receipt, render_escpos, render_pdf
from chipcash_wire import objects as o
from tests.builders import DAY
from tests.pos.shop import BadNetwork, Shop

SITE = "https://check.example/"


def shown(receipt: r.Receipt) -> str:
    return "\n".join(r.render_text(receipt))


def receipt_of(shop: Shop, amount: int = 3680, **options: Any) -> r.Receipt:
    return r.Receipt.of(shop.pos, shop.pay(shop.card(), amount, **options))


def codes(picture: Image.Image) -> list[str]:
    return [found.text for found in zxingcpp.read_barcodes(picture)]


def raster(data: bytes) -> Image.Image:
    """The one picture in what a printer is sent."""
    (picture,) = rasters(data)
    return picture


def rasters(data: bytes) -> list[Image.Image]:
    """The pictures in what a printer is sent: GS v 0, size, rows of each."""
    found = []
    while (start := data.find(b"\x1dv0\x00")) >= 0:
        width, height = (
            int.from_bytes(data[start + at : start + at + 2], "little") for at in (4, 6)
        )
        rows, data = data[start + 8 :][: width * height], data[start + 8 + width * height :]
        inked = Image.frombytes("1", (8 * width, height), rows)
        found.append(inked.point(lambda dot: not dot, "1"))
    return found


def test_it_says_in_words_how_the_payment_stands(shop: Shop) -> None:
    shop.pos.operator = "Mei"
    r.Shop("Golden Dragon 金龙", "till 3", SITE).save(shop.pos)
    number = shop.pos.open_shift().number
    receipt = receipt_of(shop, reference="order 17")
    told = shown(receipt)
    assert "PAID - Pending Repeat Payment Verification" in told and "待重复支付验证" in told
    for fact in ("36.80 yuan", "Golden Dragon", "till 3", "Mei", "order 17", f"...{receipt.card}"):
        assert fact in told
    assert re.search(rf"Shift 班次 +{number}$", told, re.MULTILINE)
    payment = shop.pos.payments()[0]
    assert payment.claim_id.hex().startswith(receipt.payment) and receipt.payment in told
    assert payment.payer.hex().endswith(receipt.card) and payment.payer.hex() not in told
    assert "Deposit by" in told

    shop.pos.sync(shop.center)
    told = shown(r.Receipt.of(shop.pos, shop.pos.payment(payment.nonce)))
    assert "verified by the registration center" in told and "登记中心已验证" in told
    assert "Pending" not in told and "Deposit by" not in told

    shop.pos.refund(payment.nonce, 680, shop.center)
    told = shown(r.Receipt.of(shop.pos, shop.pos.payment(payment.nonce)))
    assert re.search(r"Refunded 已退款\s+6\.80 yuan", told)
    shop.pos.redeem(shop.center)
    spent = r.Receipt.of(shop.pos, shop.pos.payment(payment.nonce))
    assert spent.state != P.VERIFIED and "verified by the registration center" in shown(spent)


def test_it_says_what_went_wrong(shop: Shop) -> None:
    late = shop.pay(shop.card("late"), 500)
    shop.now += 30 * DAY
    shop.pos.sync(shop.center)
    told = shown(r.Receipt.of(shop.pos, shop.pos.payment(late.nonce)))
    assert "NOT PAID" in told and "未付款" in told
    disputed = replace(receipt_of(shop), state=P.DISPUTED, lost=1200)
    assert "12.00 yuan" in shown(disputed) and "12.00 元" in shown(disputed)


def test_a_promised_refund_is_on_it_with_its_proof(shop: Shop) -> None:
    """What the till owes stands on the paper, signed, until it is paid, or the payment came to nothing."""
    payment = shop.pay(shop.card(), 3680)
    promise = shop.pos.promise_refund(payment.nonce, 680)
    receipt = r.Receipt.of(shop.pos, payment)
    told = shown(receipt)
    assert re.search(r"Refund promised 承诺退款\s+6\.80 yuan", told) and "takes effect when" in told
    (proof,) = qr.encode(promise.data)
    printed = [codes(picture) for picture in rasters(render_escpos(receipt))]
    assert printed == [[receipt.code], [proof]]
    document = pypdfium2.PdfDocument(render_pdf(receipt))
    assert set(codes(document[0].render(scale=3).to_pil())) == {receipt.code, proof}
    document.close()
    assert r.render_html(receipt).count("<svg") == 2
    assert o.RefundPromise.decode(promise.data).payee == shop.pos.public

    shop.pos.sync(shop.center)
    kept = r.Receipt.of(shop.pos, shop.pos.payment(payment.nonce))
    assert re.search(r"Refunded 已退款\s+6\.80 yuan", shown(kept))
    assert kept.proofs == () and "promised" not in shown(kept)

    late = shop.pay(shop.card("late"), 500)
    shop.pos.promise_refund(late.nonce, 500)
    shop.now += 30 * DAY
    shop.pos.sync(shop.center)
    lapsed = r.Receipt.of(shop.pos, shop.pos.payment(late.nonce))
    assert re.search(r"Refund lapsed 退款失效\s+5\.00 yuan", shown(lapsed)) and not lapsed.proofs


def test_a_refund_of_which_nothing_went_back_is_not_on_it(shop: Shop) -> None:
    paid = shop.pay(shop.card(), 1200)
    shop.pos.sync(shop.center)
    with pytest.raises(CenterUnreachable):
        shop.pos.refund(paid.claim_id, 500, BadNetwork(shop.center, 0, answer=False))
    (under_way,) = r.Receipt.of(shop.pos, shop.pos.payment(paid.claim_id)).returns
    assert (under_way.amount, under_way.state) == (500, "refunding")
    shop.now += 3 * DAY
    shop.pos.sync(shop.center)  # too late
    assert not r.Receipt.of(shop.pos, shop.pos.payment(paid.claim_id)).returns


@pytest.mark.parametrize("language", r.LANGUAGES)
@pytest.mark.parametrize("paper", r.PAPERS)
def test_every_rendering_has_all_of_it(shop: Shop, language: str, paper: int) -> None:
    """Whatever the language and the paper, the same lines are everywhere, and every code is read."""
    r.Shop("金龙 & <Dragon>", "", SITE, language, paper).save(shop.pos)
    receipt = receipt_of(shop)
    pieces = [piece for line in receipt.lines() for piece in (line.label, line.value) if piece]
    squeezed = {
        "text": shown(receipt),
        "html": "".join(ElementTree.fromstring(r.render_html(receipt)).itertext()),
    }
    pdf = render_pdf(receipt)
    document = pypdfium2.PdfDocument(pdf)
    (page,) = list(document)
    squeezed["pdf"] = page.get_textpage().get_text_range()
    picture = page.render(scale=3).to_pil()
    assert page.get_width() == pytest.approx(paper / 25.4 * 72)
    document.close()
    assert pdf == render_pdf(receipt)

    data = render_escpos(receipt)
    columns, dots = r.PAPERS[paper]
    text = data.split(b"\x1dv0")[0].removeprefix(b"\x1b@")
    assert text.startswith(b"\x1c&") and text.rstrip(b"\x1b\x00a").endswith(b"\x1c.")
    squeezed["escpos"] = text[2:].partition(b"\x1c.")[0].decode("gb18030")
    for line in text[2:].partition(b"\x1c.")[0].split(b"\n"):
        assert (
            len(line) <= columns
        )  # of GB 18030 each Chinese letter has two bytes, and takes two columns
    for name, told in squeezed.items():
        bare = re.sub(r"\s+", "", told)
        for piece in pieces:
            assert re.sub(r"\s+", "", piece) in bare, (name, piece)

    paper_picture = raster(data)
    assert paper_picture.width == dots
    assert codes(picture) == codes(paper_picture) == [receipt.code]
    claim = o.Payment.decode(shop.pos.payments()[0].data).claim
    assert receipt.code == SITE + "#" + qr.encode(claim.encode())[0]


def test_a_receipt_in_english_is_plain_ascii(shop: Shop) -> None:
    """For printers that know no Chinese."""
    r.Shop("Dragon", language="en").save(shop.pos)
    receipt = receipt_of(shop)
    assert shown(receipt).isascii() and b"\x1c" not in render_escpos(receipt).split(b"\x1dv0")[0]
    # Without a site the code is the claim alone, for the site's own scanner.
    assert receipt.code.startswith("CHIPCASH:1/1:") and "verification" in shown(receipt)


def test_a_claim_from_as_many_titles_as_there_may_be(shop: Shop) -> None:
    """The largest claim is one code still, which fits the narrowest paper, and is read."""
    r.Shop("Dragon", site=SITE + "x" * 100, paper=58).save(shop.pos)
    payment = shop.pay(shop.card(money=[10] * o.MAX_INPUTS), 10 * o.MAX_INPUTS)
    claim = o.Payment.decode(payment.data).claim
    assert len(claim.inputs) == o.MAX_INPUTS
    receipt = r.Receipt.of(shop.pos, payment)
    assert codes(raster(render_escpos(receipt))) == [receipt.code]
    large = {"lo": (1 << 62) + 1, "hi": (1 << 62) + 9}
    inputs = [o.Input(title_id=bytes([i]) * 32, **large) for i in range(o.MAX_INPUTS)]
    largest = o.Claim(
        **{
            **{name: getattr(claim, name) for name in ("header", "payee", "nonce", "signature")},
            "inputs": tuple(inputs), "amount": 8 * o.MAX_INPUTS, "counter": (1 << 32) - 1,
            "time": (1 << 40) - 2, "deadline": (1 << 40) - 1,
        }
    )  # fmt: skip
    (text,) = qr.encode(largest.encode())
    assert codes(raster(render_escpos(replace(receipt, code=f"{SITE}#{text}"))))


def test_payments_are_found_by_what_people_know(shop: Shop) -> None:
    first = shop.pay(shop.card("a"), 100, reference="order 1")
    second = shop.pay(shop.card("b"), 100, fresh=True)
    for name in ("order 1", first.claim_id.hex()[:8], first.claim_id.hex(), first.nonce.hex()):
        assert r.find_payment(shop.pos, name) == first
    assert r.find_payment(shop.pos, second.claim_id.hex()[:10].upper()) == second
    for name in ("order", "", first.claim_id.hex()[:6], "00" * 4, "%", first.nonce.hex()[:16]):
        with pytest.raises(PosError, match="no payment"):
            r.find_payment(shop.pos, name)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "two\nlines"}, {"till": "x" * 65}, {"language": "fr"}, {"paper": 60},
     {"site": "ftp://x/"}, {"site": "https://x/#y"}, {"site": "javascript:alert(1)"},
     {"site": "https://[x/"}, {"site": "https:///"}, {"site": "https://x/ y"}],
)  # fmt: skip
def test_what_cannot_be_printed_is_not_stored(shop: Shop, wrong: dict[str, Any]) -> None:
    with pytest.raises(PosError, match="Nothing was changed"):
        r.Shop(**wrong).save(shop.pos)
    assert r.Shop.load(shop.pos) == r.Shop()


def test_printers(shop: Shop, tmp_path: Path) -> None:
    """A real printer takes the same bytes by network, device file or serial line."""
    receipt = receipt_of(shop)
    data = render_escpos(receipt)
    got = bytearray()

    def take(server: socket.socket) -> None:
        with server.accept()[0] as line:
            while part := line.recv(1 << 16):
                got.extend(part)

    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=take, args=(server,))
        thread.start()
        print_receipt(receipt, place)
        thread.join()
    assert bytes(got) == data
    with pytest.raises(PrinterError, match="does not take"):
        print_receipt(receipt, place)

    device = tmp_path / "lp0"
    device.touch()
    print_receipt(receipt, f"file:{device}")
    assert device.read_bytes() == data

    here, there = os.openpty()
    got.clear()

    def read() -> None:
        while len(got) < len(data):
            got.extend(os.read(here, 1 << 16))

    thread = threading.Thread(target=read)
    thread.start()
    print_receipt(receipt, f"serial:{os.ttyname(there)}")
    thread.join(20)
    os.close(here)
    os.close(there)
    assert bytes(got) == data
    for wrong in ("", "lp0", "tcp:", "tcp:host:x", "file:", "serial:", f"serial:{tmp_path}/none"):
        with pytest.raises(PrinterError, match="Nothing was printed|does not take"):
            print_receipt(receipt, wrong)


def test_the_printers_library_leaves_nothing_behind(tmp_path: Path) -> None:
    """Version 3.1 of python-escpos makes a folder and a log handler when it is imported."""
    program = (
        "import logging, chipcash.pos.printing as p; p._escpos();"
        "assert not logging.root.handlers; print(p._escpos().Dummy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Dummy" in done.stdout and not list(tmp_path.iterdir())


def test_the_page_loads_nothing(shop: Shop) -> None:
    """Its piece of HTML is well-formed, and refers to nothing but the verification site."""
    r.Shop('"><script>', "'", SITE).save(shop.pos)
    page = ElementTree.parse(io.StringIO(r.render_html(receipt_of(shop)))).getroot()
    tags = {element.tag.rpartition("}")[2] for element in page.iter()}
    assert tags == {"article", "h2", "p", "dl", "dt", "dd", "a", "svg", "path"}
    assert not any(
        name.startswith("on") or name == "style" for x in page.iter() for name in x.attrib
    )


def test_a_new_till_prints_without_having_been_told_anything(shop: Shop) -> None:
    with Pos(shop.folder / "pos", clock=lambda: shop.now) as pos:
        assert r.Shop.load(pos) == r.Shop()
    assert "RECEIPT 收据" in shown(receipt_of(shop))

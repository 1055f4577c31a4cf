# SPDX-License-Identifier: Apache-2.0
"""Receipts on the till's page: shown, printed, and their code photographed off a screen, light and dark."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zxingcpp
from PIL import Image

from chipcash.pos.receipts import Receipt, Shop
from tests.browser import browser, new_page  # noqa: F401
from tests.till.counter import SECRETS, Counter, counter_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with counter_in(tmp_path_factory.mktemp("till")) as found:
        image = found.sandbox.directory / "card.img"
        found.sandbox.new_card(image, 100_000)
        found.charged(image, 3_680)
        found.till.sync_now()
        found.wait(lambda: found.till.status().summary.verified_fen == 3_680)
        yield found


def test_a_cashier_prints_it(counter: Counter, tmp_path: Path) -> None:
    device = tmp_path / "lp0"
    device.touch()
    with counter.till.pos() as pos:
        (payment,) = pos.payments()
        Shop("Golden Dragon", printer=f"file:{device}").save(pos)
    place = f"/receipts/{payment.claim_id.hex()}"
    with counter.login("cashier") as client:
        page = client.get(place).text
        assert "Golden Dragon" in page and "verified by the registration center" in page
        assert client.get(f"{place}/pdf").content.startswith(b"%PDF")
        answer = counter.post(client, place, f"{place}/print")
        assert answer.headers["location"] == f"{place}?printed=yes"
        assert device.read_bytes().startswith(b"\x1b@")
        with counter.till.pos() as pos:
            Shop("Golden Dragon", printer=f"file:{tmp_path}/none/lp0").save(pos)
        refused = counter.post(client, place, f"{place}/print")
        assert refused.status_code == 409 and "The payment stands" in refused.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_its_code_is_read_off_the_screen(
    counter: Counter,
    browser: Browser,  # noqa: F811
    scheme: str,
    width: int,
) -> None:
    with counter.till.pos() as pos:
        Shop("Golden Dragon 金龙", site="https://check.example/").save(pos)
        (payment,) = pos.payments()
        code = Receipt.of(pos, payment).code
    with new_page(browser, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.goto(counter.url + "/login")
        page.fill("input[name=name]", "cashier")
        page.fill("input[name=password]", SECRETS["cashier"])
        page.press("input[name=password]", "Enter")
        page.wait_for_url("**/charge")
        page.goto(f"{counter.url}/payments/{payment.claim_id.hex()}")
        page.click("text=Receipt")
        shown = page.locator(".receipt")
        shown.wait_for()
        assert "36.80 yuan" in shown.inner_text() and "登记中心已验证" in shown.inner_text()
        box = shown.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
        picture = Image.open(io.BytesIO(shown.screenshot()))
    assert [found.text for found in zxingcpp.read_barcodes(picture)] == [code]

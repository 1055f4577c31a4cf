# SPDX-License-Identifier: Apache-2.0
"""The code on a shop's receipt, opened in Chromium: what the payer reads before the shop has deposited, when
it has, and where it never does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pypdfium2
import pytest
import zxingcpp

from chipcash.log.store import Log
from chipcash.pos import Pos
from chipcash.pos.printing import render_pdf
from chipcash.pos.receipts import Receipt
from chipcash.pos.receipts import Shop as Printed
from chipcash.site.serving import SiteService
from chipcash.transports import open_path
from tests.browser import browser, new_page  # noqa: F401
from tests.center.world import DAY
from tests.log.recording import Recorder
from tests.pos.shop import Shop
from tests.site.published import LOG, Published
from tests.site.test_page import checks, verdict

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class Street(Published):
    """A shop, and the verification site of its network."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop(folder)
        self.shop.pos.sync(self.shop.center)
        self.folder = folder
        self.site = folder / "site"
        self.recorder = Recorder(self.world)
        Log.create(folder / "public", folder / "entries", LOG).close()

    @property
    def world(self) -> Any:
        shop = self.shop
        return SimpleNamespace(
            center=shop.center, header=shop.net.header, trust=shop.net.trust, now=shop.now
        )

    def publish_site(self) -> None:
        self.publish()
        self.build()


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    made = Street(tmp_path)
    yield made
    made.shop.close()


def read_from_paper(receipt: Receipt) -> str:
    """What a camera reads from the printed receipt."""
    document = pypdfium2.PdfDocument(io.BytesIO(render_pdf(receipt)))
    (found,) = zxingcpp.read_barcodes(document[0].render(scale=3).to_pil())
    document.close()
    text: str = found.text
    return text


def test_a_payer_follows_the_code(
    street: Street,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    shop = street.shop
    card, other = shop.card("card"), shop.card("other")
    street.publish_site()
    with SiteService(street.site) as service, new_page(browser, locale="en-GB") as page:
        Printed(site=service.url + "/").save(shop.pos)
        payment = shop.pay(card, 3680)
        code = read_from_paper(Receipt.of(shop.pos, payment))
        with Pos.init(
            tmp_path / "closed", shop.net.trust, shop.pos.center_url, clock=lambda: shop.now
        ) as till:
            till.sync(shop.center)
            Printed(site=service.url + "/").save(till)
            with open_path(other) as connection:
                lost = till.charge(connection, 2000)
            never = read_from_paper(Receipt.of(till, lost))

        def asked(code: str) -> tuple[str, set[str]]:
            page.clock.set_fixed_time(shop.now)
            page.goto("about:blank")
            page.goto(code)
            return verdict(page), set(checks(page))

        said, told = asked(code)
        assert said == "not-registered" and "deposit-open" in told
        assert "Pending Repeat Payment Verification" in page.inner_text("#result")
        assert "36.80 yuan" in page.inner_text("#result")
        page.select_option("#language", "zh")
        assert "待重复支付验证" in page.inner_text("#result")
        page.select_option("#language", "en")

        # The till has deposited, but the site is an old one: it says no more than it knows.
        shop.pos.sync(shop.center)
        assert asked(code)[0] == "not-registered"
        shop.now = lost.deadline + DAY
        said, told = asked(never)
        assert said == "not-registered" and not {"deposit-open", "deposit-over"} & told

        street.publish_site()
        said, told = asked(code)
        assert said == "settled" and {"in-log", "complete"} <= told
        said, told = asked(never)
        assert said == "not-registered" and "deposit-over" in told
        assert "goes back to the card" in page.inner_text("#result")

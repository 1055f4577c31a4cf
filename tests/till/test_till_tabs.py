# SPDX-License-Identifier: Apache-2.0
"""The till's page in many tabs of one browser, which opens six connections to a till at most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser import browser, new_page  # noqa: F401
from tests.till.counter import SECRETS, counter_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_HIDDEN = """hidden => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_tabs_that_nobody_looks_at_hold_nothing_up(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    with counter_in(tmp_path) as counter, new_page(browser) as first:
        first.goto(f"{counter.url}/login")
        first.get_by_label("Name").fill("cashier")
        first.get_by_label("PIN or password").fill(SECRETS["cashier"])
        first.get_by_role("button", name="Log in").click()
        first.get_by_role("button", name="Open a shift").click()
        first.get_by_label("Amount in yuan").wait_for()
        tabs: list[Page] = [first]
        for _ in range(8):
            tabs[-1].evaluate(_HIDDEN, True)
            tabs.append(first.context.new_page())
            tabs[-1].goto(f"{counter.url}/charge")
        tabs[-1].get_by_label("Amount in yuan").fill("9.87")
        tabs[-1].get_by_role("button", name="Charge").click()
        tabs[-1].get_by_role("heading", name="Present the card").wait_for()
        # Who is not looked at hears nothing, and all of it once somebody does.
        assert not first.get_by_role("heading", name="Present the card").is_visible()
        first.evaluate(_HIDDEN, False)
        first.get_by_role("heading", name="Present the card").wait_for()
        sale = counter.till.sale
        assert sale is not None
        counter.till.cancel(sale.id)
        first.get_by_role("heading", name="Cancelled").wait_for()
        assert first.locator("#stale").inner_text() == ""

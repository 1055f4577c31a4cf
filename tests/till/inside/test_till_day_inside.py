# SPDX-License-Identifier: Apache-2.0
"""A day at the till in Chromium: `chipcash pos run`, a MicroPython card behind pcscd, a center over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chipcash import qr
from chipcash.pos import PaymentState
from chipcash.pos.receipts import Shop
from chipcash.sandbox import PIN, Sandbox
from chipcash_sim import pcscd
from tests.browser import chromium, new_page
from tests.till.inside.album import Album
from tests.till.inside.stall import FIRST, OWN, ROLES, Stall

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

AXE = Path(__file__).parents[3] / ".venv/wasm/node_modules/axe-core/axe.min.js"
RUNTIME = "micropython"
TABLET: ViewportSize = {"width": 800, "height": 1100}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium with one font."""
    with chromium(
        "--font-render-hinting=none",
        FONTCONFIG_FILE=str(Path(__file__).with_name("fonts.conf")),
        XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache")),
    ) as found:
        yield found


@pytest.fixture(scope="module")
def album() -> Album:
    return Album("till")


@pytest.fixture(scope="module")
def chinese() -> Album:
    """The same screens for the manual in Chinese."""
    return Album("till-zh")


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stall]:
    session = pcscd.current()
    assert session is not None
    folder = tmp_path_factory.mktemp("stall")
    with Sandbox(folder / "net") as sandbox:
        stall = Stall(folder, session, sandbox)
        stall.start()
        yield stall
        stall.close()


CODE = qr.symbol("CHIPCASH:1/1:" + "7" * 330).svg_inline(omitsize=True)
"""A code on a receipt is another one each time: this stands in its place in the picture."""


def enter(page: Page, name: str, secret: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("PIN or password").fill(secret)
    page.keyboard.press("Enter")


def begin(page: Page, name: str) -> None:
    """The first login, which asks for a secret of one's own."""
    enter(page, name, FIRST[name])
    page.wait_for_url("**/password")
    what = "PIN" if ROLES[name] == "cashier" else "password"
    page.get_by_label(f"Old {what}").fill(FIRST[name])
    page.get_by_label(f"New {what}", exact=True).fill(OWN[name])
    page.get_by_label(f"New {what}, again").fill(OWN[name])
    page.get_by_role("button", name="Change it").click()
    page.wait_for_url("**/charge")


def charge(page: Page, amount: str) -> None:
    """By keyboard alone, as it is done a hundred times a day."""
    page.locator("#amount").wait_for()
    page.wait_for_function("() => document.activeElement.id === 'amount'")
    page.keyboard.type(amount)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Present the card").wait_for()


def said(page: Page, text: str) -> None:
    """What a screen reader is told without being asked."""
    page.wait_for_function(
        "text => document.getElementById('said').textContent.includes(text)", arg=text
    )


def following(page: Page) -> None:
    """On to the next customer: Enter, since the button has the focus."""
    page.wait_for_function("() => document.activeElement.hasAttribute('data-focus')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/charge?after=*")


def accessible(page: Page, where: str) -> None:
    """No rule of WCAG 2.2 AA that a program can check is broken (axe-core)."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed; run: make setup")
    if page.evaluate("!window.axe"):
        page.evaluate(AXE.read_text() + "; undefined")
    found = page.evaluate(
        """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
            each => each.id + ": " + each.nodes.map(node => node.html).join(" | "))"""
    )
    assert found == [], (where, found)


def shown(
    page: Page, album: Album, screen: str, *masked: tuple[str, str], main: bool = False
) -> None:
    """Look at a screen: with a program for people who cannot see it, and as pictures for those who can."""
    for scheme in ("dark", "light") if main else ("light",):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        accessible(page, f"{screen}, {scheme}")
    album.take(page, screen, *masked, main=main)


def also(page: Page, other: Page, album: Album, screen: str, *masked: tuple[str, str]) -> None:
    """A picture of the same screen in another browser, which is in Chinese, as the same person."""
    cookies: list[Any] = page.context.cookies()
    other.context.clear_cookies()
    other.context.add_cookies(cookies)
    other.goto(page.url)
    for typed in page.locator("input.amount").all():
        other.locator("input.amount").fill(typed.input_value())
    if other.locator(".receipt svg").count():
        same_code(other)
    album.take(other, screen, *masked, again=False)


def same_code(page: Page) -> None:
    """Put CODE in the place of a receipt's code."""
    page.evaluate(
        """code => {
            const svg = document.querySelector(".receipt svg");
            const made = new DOMParser().parseFromString(code, "text/html").querySelector("svg");
            svg.setAttribute("viewBox", made.getAttribute("viewBox"));
            svg.replaceChildren(...made.children);
        }""",
        CODE,
    )


def test_a_day_at_the_till(stall: Stall, browser: Browser, album: Album, chinese: Album) -> None:
    card = stall.sandbox.directory / "card.img"
    stall.sandbox.new_card(card, 100_000)
    poor = stall.sandbox.directory / "poor.img"
    stall.sandbox.new_card(poor, 500)
    reader = stall.reader
    with (
        new_page(browser, viewport=TABLET, locale="en-GB") as page,
        new_page(browser, viewport=TABLET, locale="zh-CN") as other,
    ):
        in_chinese = partial(also, page, other, chinese)
        # Li begins the day.
        page.goto(stall.url)
        in_chinese("login")
        shown(page, album, "login")
        begin(page, "li")
        page.get_by_role("button", name="Open a shift").click()
        page.locator("#amount").wait_for()
        page.keyboard.type("36.80")
        in_chinese("charge")
        shown(page, album, "charge", main=True)
        page.locator("#amount").fill("7")
        page.keyboard.press("Escape")
        assert page.locator("#amount").input_value() == ""

        # A customer pays.
        charge(page, "36.80")
        said(page, "Present the card")
        shown(page, album, "present")
        reader.insert(card, RUNTIME)
        page.get_by_role("heading", name="Paid", exact=True).wait_for()
        said(page, "Paid: 36.80")
        assert page.locator(".last.good").text_content()
        page.get_by_text("Synchronised,").wait_for()
        page.get_by_text("Pending: 0.00 yuan (0)").wait_for()  # it was verified meanwhile
        in_chinese("paid")
        shown(page, album, "paid", main=True)
        reader.remove()
        following(page)

        # One changes his mind.
        charge(page, "5")
        page.keyboard.press("Escape")
        page.locator("#amount").wait_for()

        # A card is pulled away while it pays: nobody knows. The same card again, and it is paid, once.
        charge(page, "12.50")
        reader.insert(card, RUNTIME, cut_after=2)
        page.get_by_role("heading", name="Not known whether it is paid").wait_for()
        said(page, "same card")
        assert page.locator(".last.doubt").count() == 1
        in_chinese("unknown", (".why", "连接中断。"))
        shown(page, album, "unknown", (".why", "The connection broke."), main=True)
        page.goto(f"{stall.url}/queue")  # the answer is there on every screen
        assert "not known" in (page.locator(".last").text_content() or "")
        page.goto(f"{stall.url}/charge")
        reader.insert(card, RUNTIME)
        page.get_by_role("heading", name="Paid", exact=True).wait_for()
        with stall.books() as pos:
            assert [each.amount for each in pos.payments()] == [1_250, 3_680]
            assert not pos.open_requests()
        reader.remove()
        following(page)

        # A larger amount: the card wants its PIN, wrong at first.
        charge(page, "150")
        reader.insert(card, RUNTIME)
        page.locator("#pin").wait_for()
        shown(page, album, "pin")
        page.wait_for_function("() => document.activeElement.id === 'pin'")
        page.keyboard.type("000000")
        page.keyboard.press("Enter")
        page.get_by_text("Wrong PIN").wait_for()
        page.wait_for_function("() => document.activeElement.id === 'pin'")
        for digit in PIN:
            page.get_by_role("button", name=digit, exact=True).click()
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("heading", name="Paid", exact=True).wait_for()
        reader.remove()
        following(page)

        # The card has too little.
        charge(page, "6")
        reader.insert(poor, RUNTIME)
        page.get_by_role("heading", name="Not paid").wait_for()
        page.locator(".do", has_text="The card holds less than the amount.").wait_for()
        in_chinese("refused")
        shown(page, album, "refused")
        reader.remove()
        following(page)

        # The network is gone: charging goes on, and the queue says until when.
        page.get_by_text("Pending: 0.00 yuan (0)").wait_for()
        with stall.sandbox.offline():
            for amount in ("8", "20.05"):
                charge(page, amount)
                reader.insert(card, RUNTIME)
                page.get_by_role("heading", name="Paid", exact=True).wait_for()
                reader.remove()
                following(page)
            page.get_by_text("Not synchronised").wait_for()
            page.get_by_text("Pending: 28.05 yuan (2)").wait_for()
            page.get_by_role("navigation", name="Pages").get_by_role("link", name="Queue").click()
            rows = page.locator("tbody tr")
            assert [x.split()[0] for x in rows.all_inner_texts()] == ["8.00", "20.05"]
            in_chinese("queue", (".state", "待验证"))
            shown(page, album, "queue", (".state", "PENDING"), main=True)
            page.goto(f"{stall.url}/sync")
            page.get_by_text("does not answer").wait_for()
            in_chinese(
                "sync",
                ("#main .problem p:first-child", "登记中心没有回应。"),
                ("#main ul li", "pcsc:chipcash reader ✓ 可用"),
            )  # fmt: skip
            shown(
                page, album, "sync",
                ("#main .problem p:first-child", "The registration center does not answer."),
                ("#main ul li", "pcsc:chipcash reader ✓ ready"),
            )  # fmt: skip
        # ... and back: by itself, or at once.
        page.get_by_role("button", name="Synchronise now").click()
        page.get_by_text("Pending: 0.00 yuan (0)").wait_for()
        page.get_by_text("✓ synchronised", exact=True).wait_for()

        # The power is gone. The page says that it is not live, and comes back by itself.
        page.goto(f"{stall.url}/charge")
        stall.kill()
        page.get_by_text("This page is not live").wait_for()
        stall.start()
        page.wait_for_function("() => document.getElementById('stale').textContent === ''")
        assert "20.05" in (page.locator(".last.good").text_content() or "")
        charge(page, "1.99")
        reader.insert(card, RUNTIME)
        page.get_by_role("heading", name="Paid", exact=True).wait_for()
        reader.remove()
        page.get_by_role("button", name="Log out").click()

        # Wang, the manager, refunds a part of the largest payment.
        begin(page, "wang")
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Queue").click()
        page.get_by_role("link", name="All", exact=True).click()
        page.get_by_role("link", name="150.00").click()
        page.get_by_role("heading", name="Payment of 150.00 yuan").wait_for()
        assert page.locator(".history li").all_inner_texts()[-1].endswith("VERIFIED")
        shown(page, album, "payment")
        with stall.books() as pos:
            printed = Shop(
                "Golden Dragon", "3", "https://check.example/", "en", 80, "file:/dev/null"
            )
            printed.save(pos)
        page.get_by_role("link", name="Receipt").click()
        page.get_by_role("button", name="Print").click()
        page.get_by_text("The receipt is printed.").wait_for()
        moment, ident = "2026-11-28 14:03:00 +0000", "00000000"
        values = zip((4, 5, 6), (moment, f"...{ident}", ident), strict=True)
        masked = [(f".receipt dd:nth-of-type({number})", text) for number, text in values]
        with stall.books() as pos:
            replace(printed, name="金龙", language="zh").save(pos)
        in_chinese("receipt", *masked)
        same_code(page)
        shown(page, album, "receipt", *masked)
        page.get_by_role("link", name="Payment", exact=True).click()
        page.get_by_role("link", name="Refund").click()
        page.get_by_label("Amount in yuan").fill("49.90")
        in_chinese("refund")
        shown(page, album, "refund")
        page.get_by_label("Amount in yuan").fill("49.90")
        page.get_by_role("button", name="Refund").click()
        page.get_by_text("The refund is paid").wait_for()
        with stall.books() as pos:
            assert [(x.amount, x.operator) for x in pos.transfers()] == [(4_990, "wang")]
        page.goto(f"{stall.url}/settings")
        page.get_by_text("Accounts are made").wait_for()
        accessible(page, "settings")

        # And closes the day.
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Shift").click()
        in_chinese("shift")
        shown(page, album, "shift", main=True)
        page.get_by_label("The shift is over").check()
        page.get_by_role("button", name="Close the shift").click()
        page.get_by_role("heading", name="Z report 1").wait_for()
        assert page.get_by_role("row").filter(has_text="Taken").get_by_text("229.34").count() == 1
        in_chinese("report")
        shown(page, album, "report")
        page.get_by_role("link", name="Shift", exact=True).last.click()
        page.get_by_role("button", name="Open a shift").wait_for()
    with stall.books() as pos:
        assert pos.shift is None and pos.shifts()[0].closed_by == "wang"
        assert {each.state for each in pos.payments()} == {PaymentState.VERIFIED}
        assert {each.shift for each in pos.payments()} == {1}
        assert sum(each.amount for each in pos.payments()) == 3_680 + 1_250 + 15_000 + 2_805 + 199
        assert pos.balance().verified_fen == 3_680 + 1_250 + 15_000 + 2_805 + 199 - 4_990
    assert stall.stop() == 0  # at once, with a stream open or not
    stall.start()


def test_in_chinese_on_a_phone_without_a_script(stall: Stall, browser: Browser) -> None:
    """Every form works; while a card is waited for the page asks again by itself."""
    card = stall.sandbox.directory / "second.img"
    stall.sandbox.new_card(card, 50_000)
    poor = stall.sandbox.directory / "third.img"
    stall.sandbox.new_card(poor, 500)
    with new_page(
        browser, locale="zh-CN", java_script_enabled=False, viewport={"width": 390, "height": 780}
    ) as page:
        page.goto(stall.url)
        page.get_by_label("用户名").fill("li")
        page.get_by_label("PIN 码或密码").fill(OWN["li"])
        page.keyboard.press("Enter")
        page.get_by_role("button", name="开班").click()
        page.get_by_label("金额（元）").fill("6.60")
        page.get_by_role("button", name="收款").click()
        page.get_by_role("heading", name="请刷卡").wait_for()
        stall.reader.insert(card, RUNTIME)
        page.get_by_role("heading", name="已付款").wait_for()
        stall.reader.remove()
        page.get_by_role("link", name="下一笔").click()
        assert page.get_by_label("金额（元）").count() == 1
        # A PIN, which takes its time.
        page.get_by_label("金额（元）").fill("150")
        page.get_by_role("button", name="收款").click()
        stall.reader.insert(card, RUNTIME)
        page.get_by_label("卡的 PIN 码").fill(PIN)
        page.wait_for_timeout(2_500)
        assert page.get_by_label("卡的 PIN 码").input_value() == PIN
        page.get_by_role("button", name="继续").click()
        page.get_by_role("heading", name="已付款").wait_for()
        stall.reader.remove()
        page.get_by_role("link", name="下一笔").click()
        # More than the card's holder has.
        page.get_by_label("金额（元）").fill("9.90")
        page.get_by_role("button", name="收款").click()
        page.get_by_role("heading", name="请刷卡").wait_for()
        stall.reader.insert(poor, RUNTIME)
        page.locator(".do", has_text="卡上余额低于该金额").wait_for()
        stall.reader.remove()
        box = page.locator("main").bounding_box()
        assert box is not None and box["width"] <= 390


def test_two_tablets_and_a_session_that_is_over(stall: Stall, browser: Browser) -> None:
    """Both see the same sale; who is logged out elsewhere is led to the login at once."""
    with new_page(browser) as one, new_page(browser) as other:
        for page in (one, other):
            page.goto(stall.url)
            enter(page, "li", OWN["li"])
            page.wait_for_url("**/charge")
            page.goto(f"{stall.url}/charge")
        following(one)
        following(other)
        charge(one, "3")
        other.get_by_role("heading", name="Present the card").wait_for()
        other.get_by_role("button", name="Cancel").click()
        one.get_by_role("heading", name="Cancelled").wait_for()
        one.get_by_role("button", name="Log out").click()
        one.wait_for_url("**/login")
        assert other.get_by_role("button", name="Log out").count() == 1


def test_the_pictures_are_as_they_were(album: Album, chinese: Album) -> None:
    assert len(album.names) > 20, "the day at the till was not over"
    album.check()
    chinese.check()

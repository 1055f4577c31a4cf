# SPDX-License-Identifier: Apache-2.0
"""The staff's pages in a real browser: by pointer, by keyboard alone, without a script, in the dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from chipcash.evidence import verify_evidence
from chipcash.people.accounts import IDLE_S
from chipcash_wire import objects as o
from tests.browser import browser, new_page  # noqa: F401
from tests.staff.desk import PASSWORDS, Desk, desk_in
from tests.staff.test_staff_life import long_coin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHAPES = """boxes => boxes.map(box => {
    const b = box.getBBox();
    return [b.x, b.y, b.x + b.width, b.y + b.height, getComputedStyle(box).fill];
})"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_in(tmp_path_factory.mktemp("staff")) as found:
        yield found


def enter(page: Page, desk: Desk, role: str) -> None:
    """Log in as a person does."""
    page.goto(f"{desk.url}/login")
    page.get_by_label("Name").fill(role)
    page.get_by_label("Password", exact=True).fill(PASSWORDS[role])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out").wait_for()


def test_from_a_serial_to_the_coin_and_its_dispute(desk: Desk, browser: Browser) -> None:  # noqa: F811
    with new_page(browser) as page:
        enter(page, desk, "dispute")
        page.get_by_label("Serial of a coin").fill(desk.coin)
        page.get_by_role("button", name="Look up").click()
        page.wait_for_url(f"{desk.url}/coins/{desk.coin}")
        # What the browser draws covers the drawing: each point once.
        shapes = page.locator(".boxes rect").evaluate_all(SHAPES)
        assert sum((c - a) * (d - b) for a, b, c, d, _ in shapes) == pytest.approx(1000 * 480)
        for at, (a, b, c, d, fill) in enumerate(shapes):
            assert fill not in ("", "none") and 0 <= a < c <= 1000.01 and 0 <= b < d <= 480.01
            for x, y, z, w, _ in shapes[:at]:
                assert min(c, z) - max(a, x) < 0.01 or min(d, w) - max(b, y) < 0.01
        assert len({fill for *_, fill in shapes}) == 4  # three holders, and what is redeemed
        # A box says what it is, lets its holder's stand out, and leads to its title.
        box = page.locator('rect[data-holder="B"]').first
        box.hover()
        told = page.locator(".told")
        assert told.text_content() == "a title of B: fen 0 to 3,000, steps 1 to 2"
        others = page.locator('.boxes rect:not([data-holder="B"])').count()
        assert page.locator("rect.dim").count() == others > 2
        box.click()
        page.wait_for_url(re.compile("/titles/"))
        page.get_by_role("link", name=desk.coin).click()
        rows = page.locator("#moves ~ .wide table tbody tr")
        assert rows.count() >= 3
        page.get_by_role("link", name=desk.later).click()
        page.get_by_role("link", name="See the dispute").click()
        assert page.get_by_text("verified now").count() == 5
        overlap = page.locator(".overlap .both")
        assert (overlap.get_attribute("x"), overlap.get_attribute("width")) == ("250", "50")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download it").click()
        with open(download.value.path(), "rb") as file:
            verify_evidence(o.Evidence.decode(file.read()), desk.world.trust)
        page.get_by_role("link", name="Disputes", exact=True).click()
        assert page.get_by_role("link", name=desk.later).count() == 1
        page.get_by_role("button", name="Log out").click()
        page.goto(f"{desk.url}/coins/{desk.coin}")
        assert page.url.startswith(f"{desk.url}/login")


def test_a_key_is_blocked_with_a_reason(desk: Desk, browser: Browser) -> None:  # noqa: F811
    with new_page(browser) as page:
        enter(page, desk, "operator")
        page.get_by_label("Key of the card").fill(desk.lost)
        page.get_by_label("compared the key").check()
        page.get_by_role("button", name="Block it for good").click()
        assert (
            page.locator("textarea:invalid").count() == 1
        )  # the browser itself asks for the reason
        page.get_by_label("Reason").fill("Lost on the bus; the holder came with a passport.")
        page.get_by_role("button", name="Block it for good").click()
        page.get_by_text("on the blacklist").first.wait_for()
        assert page.get_by_role("button", name="Block it for good").count() == 0
        assert desk.world.center.listed(bytes.fromhex(desk.lost)) is not None
        assert page.get_by_role("link", name="Look up").count() == 0
        page.goto(f"{desk.url}/coins/{desk.coin}")
        assert "role does not allow" in (page.locator("h1").text_content() or "")
    with new_page(browser) as page:
        enter(page, desk, "auditor")
        assert page.get_by_role("row").filter(has_text="came with a passport").count() == 2


def test_a_viewer_who_may_not(desk: Desk, browser: Browser) -> None:  # noqa: F811
    with new_page(browser) as page:
        enter(page, desk, "viewer")
        links = page.locator("header nav a").all_inner_texts()
        assert links == ["Look up", "Health"]
        for path in ("/block", f"/evidence/{desk.digest}"):  # the others: test_staff_pages.py
            page.goto(desk.url + path)
            assert "role does not allow" in (page.locator("h1").text_content() or "")
        page.goto(desk.url)
        page.get_by_label("Serial of a coin").fill(desk.card)
        page.keyboard.press("Enter")
        page.get_by_text("role does not allow").wait_for()


def focused(page: Page) -> str:
    """What the keyboard is on."""
    return str(page.evaluate("document.activeElement.textContent || document.activeElement.name"))


def test_by_keyboard_alone(desk: Desk, browser: Browser) -> None:  # noqa: F811
    """From the login through the drawing to a title, each place seen where it is."""
    with new_page(browser, color_scheme="dark", reduced_motion="reduce") as page:
        page.goto(f"{desk.url}/login?next=/coins/{desk.coin}")
        page.keyboard.type("viewer")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORDS["viewer"])
        page.keyboard.press("Enter")
        page.wait_for_url(f"{desk.url}/coins/{desk.coin}")
        page.keyboard.press("Tab")
        assert focused(page) == "To the content"
        page.keyboard.press("Enter")
        for _ in range(12):
            page.keyboard.press("Tab")
            if "steps" in focused(page):
                break
        assert focused(page).startswith("a title of A: fen 0 to 10,000, steps 0 to 0")
        told = []
        for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"):
            page.keyboard.press(key)
            told.append(page.locator(".told").text_content())
            assert (told[-1] or "?") in focused(page)
            assert (
                page.evaluate(
                    "getComputedStyle(document.activeElement.querySelector('rect')).strokeWidth"
                )
                == "4px"
            )
        assert len(set(told)) > 3, told
        page.keyboard.press("Tab")  # the drawing is one stop
        assert "steps" not in focused(page)
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/titles/"))


def test_a_session_that_is_over_asks_again_and_goes_on_there(desk: Desk, browser: Browser) -> None:  # noqa: F811
    with new_page(browser) as page:
        enter(page, desk, "operator")
        page.get_by_label("Key of the card").fill("02" + "ee" * 32)
        page.get_by_label("Reason").fill("left open over lunch")
        page.get_by_label("compared the key").check()
        desk.now += IDLE_S + 1
        page.get_by_role("button", name="Block it for good").click()
        page.wait_for_url(f"{desk.url}/login")
        assert desk.world.center.listed(bytes.fromhex("02" + "ee" * 32)) is None
        page.goto(f"{desk.url}/health")
        page.get_by_label("Name").fill("operator")
        page.get_by_label("Password", exact=True).fill(PASSWORDS["operator"])
        page.keyboard.press("Enter")
        page.wait_for_url(f"{desk.url}/health")


def test_other_sites_do_nothing(desk: Desk, browser: Browser) -> None:  # noqa: F811
    """Neither by a form nor by a link, and the session they cannot use is still there afterwards."""
    key = "02" + "dd" * 32
    values = {"key": key, "reason": "a trap on another page", "sure": "yes"}
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in values.items())
    html = (
        f'<form method="post" action="{desk.url}/block">{inputs}<button>go</button></form>'
        f'<form method="post" action="{desk.url}/logout"><button>out</button></form>'
        f'<a href="{desk.url}/login">there</a>'
    )
    context = browser.new_context()
    page = context.new_page()
    enter(page, desk, "operator")
    page.route(
        "http://evil.example/", lambda route: route.fulfill(body=html, content_type="text/html")
    )
    for name in ("go", "out", "there"):
        page.goto("http://evil.example/")
        page.get_by_text(name).click()
        page.wait_for_url(f"{desk.url}/**")
    # Even a browser that sent the cookie along would lack the form's token.
    assert context.request.post(f"{desk.url}/block", form=values, max_redirects=0).status == 403
    assert desk.world.center.listed(bytes.fromhex(key)) is None
    page.goto(f"{desk.url}/block")
    assert page.get_by_role("button", name="Block it for good").count() == 1
    context.close()


def test_in_chinese_on_a_phone_without_a_script(desk: Desk, browser: Browser) -> None:  # noqa: F811
    with new_page(
        browser, locale="zh-CN", java_script_enabled=False, viewport={"width": 360, "height": 740}
    ) as page:
        page.goto(f"{desk.url}/login")
        page.get_by_label("用户名").fill("viewer")
        page.get_by_label("密码").fill(PASSWORDS["viewer"])
        page.keyboard.press("Enter")
        page.get_by_role("button", name="退出").wait_for()
        page.goto(f"{desk.url}/coins/{desk.coin}")
        assert page.get_by_role("heading", name="流转全程").count() == 1
        assert page.locator(".boxes rect").count() > 4
        assert page.get_by_role("table").count() == 2
        box = page.locator("main").bounding_box()
        assert box is not None and box["width"] <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(desk: Desk, browser: Browser, scheme: Any) -> None:  # noqa: F811
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), on the page and in the drawing's colours."""
    with new_page(browser, color_scheme=scheme) as page:
        page.goto(f"{desk.url}/login")
        colours = page.evaluate(
            """() => {
                const style = getComputedStyle(document.documentElement);
                const names = ["ground", "raised", "text", "quiet", "link", "main", "on-main", "good",
                    "bad", "box", ...[...Array(12).keys()].map(n => "h" + n)];
                return Object.fromEntries(names.map(n => [n, style.getPropertyValue("--" + n).trim()]));
            }"""
        )
    for name in ("text", "quiet", "link", "good", "bad"):
        for ground in ("ground", "raised"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["on-main"], colours["main"]) >= 4.5
    assert contrast(colours["ground"], colours["bad"]) >= 4.5
    for at in range(12):
        assert contrast(colours["box"], colours[f"h{at}"]) >= 4.5, at


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours written #rrggbb."""
    light = sorted((luminance(one), luminance(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.long
def test_a_long_coin_is_drawn_in_parts(
    desk: Desk,
    browser: Browser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coin = {**long_coin(10_000), "serial": desk.coin}
    monkeypatch.setattr(desk.world.center, "coin", lambda serial: coin)
    with new_page(browser) as page:
        enter(page, desk, "viewer")
        page.goto(f"{desk.url}/coins/{desk.coin}")
        assert page.locator("figure.life").count() == 2
        page.get_by_role("link", name="Next").first.click()
        page.get_by_text("Moves 101 to 200.").wait_for()
        assert page.locator("#moves ~ .wide").first.locator("tbody tr").count() == 100

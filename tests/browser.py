# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium for the tests of pages, driven by Playwright.

from tests.browser import browser, new_page  # noqa: F401

def test_it(browser: Browser) -> None:
    with new_page(browser, viewport={"width": 360, "height": 740}) as page: ...
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "chromium", "new_page"]

_TIMEOUT_MS = 60_000
"""What comes at once, a busy machine may bring after half a minute."""
_ARGUMENTS = (
    "--no-sandbox",  # tests may run as root, as in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without pages; it takes a second to start.

    It lives as long as the module: Playwright's synchronous face keeps an event loop running in this
    thread, under which no other test could use asyncio.run().
    """
    with chromium() as found:
        yield found


@contextmanager
def chromium(*arguments: str, **environment: str) -> Iterator[Browser]:
    """A browser, with further arguments and variables."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed; run: make setup")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=program,
            args=[*_ARGUMENTS, *arguments],
            env={**os.environ, **environment},
        )
        yield found
        found.close()


@contextmanager
def new_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page with cookies, storage and options of its own (Browser.new_context).

    At the end the test fails if a script of it failed, something was against its policy (CSP), or it asked
    another origin than that of where it was.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(_TIMEOUT_MS)
    page = context.new_page()
    wrong: list[str] = []
    asked: set[str] = set()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda told: wrong.append(told.text) if "Content Security Policy" in told.text else None,
    )
    page.on("request", lambda request: asked.add(request.url))
    try:
        yield page
        assert not wrong
        own = urlsplit(page.url)[:2]
        foreign = [url for url in asked if not url.startswith(("data:", "blob:"))]
        assert [url for url in foreign if urlsplit(url)[:2] != own] == []
    finally:
        context.close()

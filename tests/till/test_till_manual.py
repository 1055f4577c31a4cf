# SPDX-License-Identifier: Apache-2.0
"""The operator's manual says what the page says: what it quotes is there, in both languages the same."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from markdown_it import MarkdownIt
from pypdf import PdfReader

import chipcash.pos.page
from chipcash.cli import root
from chipcash.people.words import LANGUAGES, chinese
from chipcash.pos.page.views import WARNINGS
from tests.browser import browser, new_page  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MANUAL = Path(__file__).parents[2] / "docs/till"
PAGES = sorted(MANUAL.glob("*.md"))
TEXTS = chinese(Path(chipcash.pos.page.__path__[0])) | {name: name for name in LANGUAGES.values()}
"""All that the till's page says, in English, and its Chinese."""
PAPER = """
@page { size: A4; margin: 15mm }
body { font: 15px/1.45 "DejaVu Sans", sans-serif }
code { font-size: 13px }
pre, pre code { font-size: 12px; line-height: 1.3; white-space: pre-wrap }
table { border-collapse: collapse }
td, th { border: 1px solid; padding: 4px 8px; vertical-align: top }
"""


def name(file: Path) -> str:
    return str(file.relative_to(MANUAL))


def quoted(file: Path) -> set[str]:
    """What a page of the manual quotes from the till's: in English *so*, in Chinese 【so】."""
    text = file.read_text("utf-8")
    if file.parent.name == "zh":
        return set(re.findall("【(.*?)】", text))
    text = re.sub(r"^```.*?^```$|`[^`]+`", "", text, flags=re.M | re.S)
    found = re.findall(r"(?:(?<!\*)|(?<=\*\*))\*(?!\*)([^*]+)\*{1,3}", text)
    return {" ".join(each.split()) for each in found}


@pytest.mark.parametrize("file", PAGES, ids=name)
def test_it_calls_things_as_the_page_does(file: Path) -> None:
    english, translated = quoted(file), quoted(MANUAL / "zh" / file.name)
    # Of several sentences the first is enough.
    keys = {
        next((x for x in TEXTS if x.startswith(f"{text} ")), text) if text[-1] == "." else text
        for text in english
    }
    assert keys - set(TEXTS) == set()
    assert translated == {TEXTS[key] for key in keys}


def test_each_page_is_in_both_languages() -> None:
    assert len(PAGES) > 10
    assert {file.name for file in (MANUAL / "zh").glob("*.md")} == {file.name for file in PAGES}
    for folder in (MANUAL, MANUAL / "zh"):
        listed = (folder / "README.md").read_text("utf-8")
        assert [x.name for x in PAGES if f"({x.name})" not in listed] == ["README.md"]


def test_every_warning_is_explained() -> None:
    """With what to do, in the last column of a table."""
    for folder, mark, words in ((MANUAL, "*", str), (MANUAL / "zh", "【", TEXTS.__getitem__)):
        text = (folder / "warnings.md").read_text("utf-8")
        rows = re.findall(r"^\| (.)(.*?). \| ([^|]+) \| ([^|]{10,}) \|$", text, re.M)
        assert {row[0] for row in rows} == {mark}
        assert {row[1] for row in rows} == {words(said) for said in WARNINGS.values()}


@pytest.mark.parametrize("folder", [MANUAL, MANUAL / "zh"], ids=["en", "zh"])
def test_its_commands_are_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those within a line, with their options and arguments; whole blocks are run by test_docs.py."""
    monkeypatch.setenv("CHIPCASH_POS", "till")
    monkeypatch.setenv("CHIPCASH_NETWORK", __file__)  # some file
    found = [
        line
        for file in sorted(folder.glob("*.md"))
        for line in re.findall("(?<!`)`(chipcash [^`]+)`", file.read_text("utf-8"))
    ]
    assert len(found) > 20
    for line in found:
        command: click.Command = root
        words = shlex.split(line)[1:]
        while words and isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), words[0])
            assert inner is not None, line
            command, words = inner, words[1:]
        try:
            command.make_context(line, ["02" * 33 if word == "BANK" else word for word in words])
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.long
@pytest.mark.parametrize("file", sorted(MANUAL.rglob("*.md")), ids=name)
def test_each_page_is_one_sheet(file: Path, browser: Browser) -> None:  # noqa: F811
    """Printed on A4, to be pinned up; all but the list of them."""
    html = MarkdownIt().enable("table").render(file.read_text("utf-8"))
    with new_page(browser) as page:
        page.goto(file.as_uri())  # pictures are found from there
        page.set_content(f"<!doctype html><style>{PAPER}</style>{html}", wait_until="load")
        assert page.locator("img").count() == html.count("<img")
        widths = page.locator("img").evaluate_all("all => all.map(each => each.naturalWidth)")
        sheets = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True))).pages
    assert 0 not in widths
    assert len(sheets) == 1 or file.name == "README.md"

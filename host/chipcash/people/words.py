# SPDX-License-Identifier: Apache-2.0
"""What pages say, in English and in Chinese. The English text is what the Chinese is found by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["LANGUAGES", "Words", "chinese", "preferred"]

LANGUAGES = {"en": "English", "zh": "中文"}
"""Codes of the languages, and what each is called in itself."""


def chinese(folder: Path) -> dict[str, str]:
    """English texts and their Chinese, of the pages in a folder and of those that all have."""
    found: dict[str, str] = {}
    for place in (Path(__file__).parent, folder):
        found |= json.loads((place / "chinese.json").read_text("utf-8"))
    return found


class Words:
    """One language: called with an English text, and values for its `%(name)s`, it gives the text there.

    known: of chinese().
    """

    def __init__(self, language: str, known: Mapping[str, str]) -> None:
        self.language = language
        self._known = known

    def __call__(self, text: str, **values: object) -> str:
        """The text in this language."""
        found = self._known.get(text, text) if self.language == "zh" else text
        return found % values if values else found


def preferred(header: str) -> str:
    """The language that a browser asks for (Accept-Language, RFC 9110), English if it wants neither."""
    found: list[tuple[float, str]] = []
    for part in header[:200].split(","):
        match = re.fullmatch(
            r"\s*([a-z]{2})(?:-[\w-]+)?\s*(?:;\s*q=([01](?:\.\d{0,3})?))?\s*", part, re.I
        )
        if match and match[1].lower() in LANGUAGES:
            found.append((float(match[2] or 1), match[1].lower()))
    weight, language = max(found, key=lambda each: each[0], default=(0, "en"))
    return language if weight else "en"

# SPDX-License-Identifier: Apache-2.0
"""What pages say to people, read from their source: to see that it is there in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import chipcash.people
from chipcash.people.words import chinese

__all__ = ["COMMON", "check_placeholders", "messages", "said_by"]

COMMON = Path(chipcash.people.__path__[0])
UNSEEN = {
    "This session is over.",
    "The package cryptography is built with an OpenSSL older than 3.2, which has no Argon2id.",
}
"""What no page tells: a session that is over leads to the login."""


def messages(tree: ast.AST) -> set[str]:
    """The texts that a module has for people: in calls that take some, and where it names a problem."""
    found = set()
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("Stop", "words", "failure", "_login_again", "StaffError"):
                values = node.args
        elif isinstance(node, ast.Assign):
            names = {getattr(x, "id", "") for y in node.targets for x in getattr(y, "elts", [y])}
            if names & {"problem", "message", "no_id", "unreadable"}:
                values = getattr(node.value, "elts", [node.value])
        elif isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "").startswith("unr"):
            values = [node.value] if node.value else []
        for value in values:
            if isinstance(value, ast.JoinedStr):
                text = ast.unparse(value)[2:-1]
                text = text.replace("{MIN_PASSWORD}", "15").replace("{MIN_PIN}", "6")
                value = ast.Constant(text)
            if isinstance(value, ast.Constant) and str(value.value).endswith("."):
                found.add(str(value.value))
    return {text for text in found if "{" not in text}


def said_by(folder: Path, *modules: str) -> set[str]:
    """What the pages of a folder, and those that all have, say in English. modules: of the folder."""
    said = set()
    for place, names in ((COMMON, ("site.py", "accounts.py")), (folder, modules)):
        for path in place.glob("templates/*.html"):
            said |= set(re.findall(r'\b_\("((?:[^"\\]|\\.)*)"', path.read_text()))
        for name in names:
            said |= messages(ast.parse((place / name).read_text()))
    return said - UNSEEN


def check_placeholders(folder: Path) -> None:
    """A text and its translation take the same values."""
    for english, translated in chinese(folder).items():
        assert set(re.findall(r"%\(\w+\)s", english)) == set(re.findall(r"%\(\w+\)s", translated))

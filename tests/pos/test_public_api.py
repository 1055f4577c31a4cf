# SPDX-License-Identifier: Apache-2.0
"""The names that others build on are those that docs/embedding.md promises: a change of one is noticed here.

If it is meant: raise API_VERSION (the second number for what is new, the first for what breaks who uses it),
tell it in docs/embedding.md, and write the list anew: python -m tests.pos.test_public_api
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chipcash import pos, terminal
from chipcash.pos.api import ENDPOINTS

LIST = Path(__file__).with_name("public-api.txt")
DOCUMENT = Path(__file__).parents[2] / "docs" / "embedding.md"


def described() -> str:
    """Version, then every public name with its signature."""
    lines = [f"API_VERSION {terminal.API_VERSION}"]
    for module in (terminal, pos):
        for name in sorted(module.__all__):
            lines += described_name(f"{module.__name__}.{name}", getattr(module, name))
    for endpoint in ENDPOINTS:
        lines.append(f"HTTP {endpoint.method} {endpoint.path}")
    return "\n".join(lines) + "\n"


def described_name(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        if issubclass(value, enum.Enum):
            yield f"{name}: {', '.join(value.__members__)}"
            return
        protocol = getattr(value, "_is_protocol", False)
        yield f"{name}{'' if protocol else signature(value)}"
        for member in sorted(dir(value)):
            found = inspect.getattr_static(value, member)
            if member.startswith("_") or (
                issubclass(value, BaseException) and member in dir(Exception)
            ):
                continue
            if isinstance(found, property):
                yield f"{name}.{member}"
            elif callable(getattr(value, member)):
                yield f"{name}.{member}{signature(getattr(value, member))}"
    elif callable(value):
        yield f"{name}{signature(value)}"
    else:
        yield f"{name} = {type(value).__name__}"


def signature(value: Any) -> str:
    # A default that is a function or an object has an address in it, or more than one way to be written.
    return re.sub(r"<[^<>]*>", "...", str(inspect.signature(value)))


def test_the_public_api_is_as_it_was() -> None:
    assert described() == LIST.read_text(), __doc__


def test_every_name_is_documented() -> None:
    text = DOCUMENT.read_text()
    told = set(re.findall(r"`(?:\w+\.)*(\w+)[(`]", text))
    for module in (terminal, pos):
        assert set(module.__all__) - told == set(), module.__name__
    assert f"API version is **{terminal.API_VERSION}**" in text


if __name__ == "__main__":
    LIST.write_text(described())

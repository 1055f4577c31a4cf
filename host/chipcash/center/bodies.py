# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests and answers that hold several objects in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from chipcash.center.errors import CenterRefused
from chipcash_wire import objects as o
from chipcash_wire import tlv
from chipcash_wire.tlv import WireError

__all__ = ["join", "read", "read_with_titles", "split"]

_Object = TypeVar("_Object", bound=o.Object)


def join(items: Iterable[o.Object]) -> bytes:
    """The objects' bytes, one behind the other."""
    return b"".join(item.encode() for item in items)


def split(data: bytes) -> list[bytes]:
    """Each object's bytes. Raises WireError if the data does not end with an object's end."""
    found = []
    at = 0
    while at < len(data):
        _, _, end = tlv.header(data, at)
        found.append(data[at:end])
        at = end
    return found


def read(kind: type[_Object], data: bytes) -> _Object:
    """The object that a request's body is. Raises CenterRefused: malformed."""
    with _refusing():
        return kind.decode(data)


def read_with_titles(kind: type[_Object], data: bytes) -> tuple[_Object, tuple[o.Title, ...]]:
    """An object, and the titles that are carried behind it. Raises CenterRefused: malformed."""
    with _refusing():
        first, *rest = split(data) or [b""]
        return kind.decode(first), tuple(o.Title.decode(part) for part in rest)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except WireError as error:
        raise CenterRefused(
            "malformed",
            f"The body is no canonical object of this kind: {error}. Nothing changed.",
        ) from None

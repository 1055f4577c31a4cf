# SPDX-License-Identifier: Apache-2.0
"""The one place that knows which interpreter runs: CPython or MicroPython."""

TYPE_CHECKING = False  # type checkers take a constant of this name as true

if TYPE_CHECKING:
    from typing import dataclass_transform as dataclass_transform
else:

    def dataclass_transform(**_options):
        """typing.dataclass_transform, which only the type checker needs."""
        return lambda cls: cls


def equal(a: bytes, b: bytes) -> bool:
    """Compare in a time that depends on the lengths only."""
    if len(a) != len(b):
        return False
    different = 0
    for x, y in zip(a, b):
        different |= x ^ y
    return different == 0

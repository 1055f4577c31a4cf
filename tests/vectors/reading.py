# SPDX-License-Identifier: Apache-2.0
"""The committed vectors, as the tests of the host read them."""

from __future__ import annotations

import json
from typing import Any

from chipcash import crypto
from chipcash.trust import Trust
from tests.vectors.generate import FOLDER, SUITES

__all__ = ["SUITES", "keys", "load", "private", "trust"]


def load(name: str) -> list[dict[str, Any]]:
    """The lines of a file."""
    lines: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_bytes())
    return lines


def keys(suite: str) -> dict[str, bytes]:
    """Public keys by name."""
    return {
        line["name"]: bytes.fromhex(line["public"])
        for line in load("keys")
        if line["suite"] == suite
    }


def private(suite: str, name: str) -> crypto.PrivateKey:
    """A private key."""
    (line,) = [x for x in load("keys") if (x["suite"], x["name"]) == (suite, name)]
    return crypto.PrivateKey(crypto.suite(suite), bytes.fromhex(line["private"]))


def trust(suite: str) -> Trust:
    """The network."""
    return Trust.load(FOLDER / f"network-{suite}.ccn")

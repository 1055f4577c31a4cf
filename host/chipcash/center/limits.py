# SPDX-License-Identifier: Apache-2.0
"""How much one client may ask of a center: a token bucket for each address, and for each institution."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chipcash import tls

__all__ = ["Limits", "TooMany"]

_BURST_S = 10
"""A bucket holds what comes in so many seconds: a till that was offline has some catching up to do."""
_MOST = 20_000
"""Buckets that are kept; beyond, the one that was used longest ago is given up, and so is full again."""


class TooMany(Exception):
    """A client has used up what it may ask. seconds: until it may again, whole, at least 1."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass
class _Bucket:
    tokens: float
    at: float


class Limits:
    """Counts requests; used by one thread.

    each: requests per second for a client that shows no certificate, by its address, in IPv6 by the first 64
    bits, which is what one subscriber has; institution: the same for one with a certificate, by its name.
    None is without limit. clock: seconds.
    """

    def __init__(
        self,
        each: float | None = None,
        institution: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._each = each
        self._institution = institution
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}  # the one that was used last comes last

    def take(self, scope: Mapping[str, Any]) -> None:
        """Count one request of the client of an ASGI scope. Raises TooMany, and then does not count it."""
        name = tls.peer(scope)
        rate = self._institution if name else self._each
        if rate is None:
            return
        who = f"CN {name}" if name else _address(scope)
        most = max(1.0, rate * _BURST_S)
        now = self._clock()
        bucket = self._buckets.pop(who, None) or _Bucket(most, now)
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[who] = bucket
        if len(self._buckets) > _MOST:
            del self._buckets[next(iter(self._buckets))]
        if bucket.tokens < 1:
            raise TooMany(max(1, math.ceil((1 - bucket.tokens) / rate)))
        bucket.tokens -= 1


def _address(scope: Mapping[str, Any]) -> str:
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)

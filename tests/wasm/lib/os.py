# SPDX-License-Identifier: Apache-2.0
"""os with what MicroPython's WebAssembly build leaves out and a board's has, or the tests need."""

from uos import *  # noqa: F403

_ENVIRONMENT = {"CHIPCASH_SCRATCH": "/scratch", "CHIPCASH_VECTORS": "/vectors/"}


def getenv(name, default=None):
    """What the tests ask for."""
    return _ENVIRONMENT.get(name, default)


def urandom(n):
    """n bytes from the system's generator, by Emscripten's device for it."""
    with open("/dev/urandom", "rb") as device:
        return device.read(n)

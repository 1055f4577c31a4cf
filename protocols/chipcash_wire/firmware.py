# SPDX-License-Identifier: Apache-2.0
"""The head of a firmware update. Apart from the card's other objects, since few cards ever take one."""

from chipcash_wire.card_objects import Object
from chipcash_wire.tlv import WireError

NO_NETWORK = bytes(4)
"""Network id in a firmware's header: a publisher serves cards of every network."""
BUILD_ID = 12
"""Digits of a build id."""


class Firmware(Object):
    """The publisher's word that a body of so many bytes (size), whose hash is digest, is this firmware.

    target: board and form that it is for, as in `pico2w-ic-card`; build: version, `+`, build id of 12 hex
    digits; rollback: the rollback counter, which no card lets go down. The signature is that of the suite in
    the header. What the body is says protocols/spec/commands.md.
    """

    TAG = 0xF6
    FIELDS = ("header", "signer", "target", "build", "rollback", "size", "digest", "signature")
    header: bytes
    signer: bytes
    target: bytes
    build: bytes
    rollback: int
    size: int
    digest: bytes
    signature: "bytes | None" = None

    def check(self) -> None:
        digits = self.build[-BUILD_ID:]
        if self.build[-BUILD_ID - 1 : -BUILD_ID] != b"+" or len(self.build) == BUILD_ID + 1:
            raise WireError("build is not VERSION+BUILDID")
        for digit in digits:
            if digit not in b"0123456789abcdef":
                raise WireError("the build id is not of hex digits")

    @property
    def build_id(self) -> str:
        """The build id: what the firmware's folder is called."""
        return str(self.build[-BUILD_ID:], "ascii")

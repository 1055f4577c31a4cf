# SPDX-License-Identifier: Apache-2.0
"""Firmware updates: the file that a publisher signs, and how a card takes it over any of its links.

A file is the head (objects.Firmware), encoded, and the body behind it: the files of an image, as
protocols/spec/commands.md, UPDATE FIRMWARE, has them. Only a card knows whose updates it takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chipcash.card import Card, CardError
from chipcash.crypto import PrivateKey, suite
from chipcash.errors import ChipcashError
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from chipcash_wire import tlv
from chipcash_wire.firmware import BUILD_ID, NO_NETWORK
from chipcash_wire.tlv import WireError

__all__ = ["MANIFEST", "Update", "UpdateError", "build_id", "make_update"]

MANIFEST = "manifest.json"
"""Lists the files of an image; in it as well."""
PART = 512
"""Bytes of the body that one command brings: a card may have little heap in one piece."""


class UpdateError(ChipcashError):
    """An update file is not usable, or not for this card. Facts: the status word, if a card said so."""

    exit_code = 43


def build_id(manifest: bytes) -> str:
    """The build id of an image: the first digits of the SHA-256 of its manifest."""
    return hashlib.sha256(manifest).hexdigest()[:BUILD_ID]


def make_update(
    files: dict[str, bytes], target: str, version: str, rollback: int, publisher: PrivateKey
) -> bytes:
    """The update file of an image, the same each time. files: content by path, the manifest among them;
    target: board and form; version, rollback: of the firmware; publisher: who signs it."""
    body = b"".join(
        bytes((len(path),)) + path.encode("ascii") + len(data).to_bytes(4, "big") + data
        for path, data in sorted(files.items())
    )
    head = o.Firmware(
        header=o.make_header(NO_NETWORK, publisher.suite.id),
        signer=publisher.key_id,
        target=target.encode("ascii"),
        build=f"{version}+{build_id(files[MANIFEST])}".encode("ascii"),
        rollback=rollback,
        size=len(body),
        digest=publisher.suite.hash(body),
    )
    return head.signed(publisher.sign_again(head.message())).encode() + body


@dataclass(frozen=True)
class Update:
    """An update file: its head and its body."""

    head: o.Firmware
    body: bytes

    @classmethod
    def load(cls, path: Path) -> Update:
        """Read an update file. Raises UpdateError if it is none, or damaged."""
        try:
            data = path.read_bytes()
            end = tlv.header(data, 0)[2]
            head = o.Firmware.decode(data[:end])
        except (OSError, WireError) as error:
            raise UpdateError(
                f"{path} is no firmware update of chipcash: {error}.",
                hint="It is made by: make firmware ARGS=--key=FILE",
            ) from None
        body = data[end:]
        if len(body) != head.size or suite(o.suite_of(head)).hash(body) != head.digest:
            raise UpdateError(
                f"The firmware update in {path} is damaged.",
                hint="Get it again, or build it again.",
            )
        return cls(head, body)

    @property
    def target(self) -> str:
        """Board and form that it is for."""
        return self.head.target.decode("ascii", "replace")

    @property
    def build(self) -> str:
        """Version and build id."""
        return self.head.build.decode("ascii", "replace")

    def send(self, card: Card, progress: Callable[[int, int], None]) -> None:
        """Have a selected card take it, in a PIN session if the card has a PIN; it starts it when power has
        been off and on. progress: called with how many bytes are there, of how many.

        Whatever breaks off or fails leaves the firmware that the card has, and its money; only where the last
        step cannot be written nobody knows which firmware starts next. Raises UpdateError if the card does
        not take it, PinError, and what Card raises.
        """
        size = len(self.body)
        after = "Its firmware is what it was."
        try:
            card.begin_update(self.head)
            for at in range(0, size, PART):
                card.update_body(at, self.body[at : at + PART])
                progress(min(at + PART, size), size)
            after = "Which firmware it starts next, this or the one that it has, is not known."
            card.finish_update()
        except CardError as error:
            told = self._refusals().get(error.sw)
            if told is None:
                raise
            if error.sw != c.SW_MEMORY:  # whatever else is refused has written nothing
                after = "Its firmware is what it was."
            raise UpdateError(f"{told[0]} {after}", hint=told[1], **error.facts) from None

    def _refusals(self) -> dict[int, tuple[str, str]]:
        """What a card's status words mean here: message and hint."""
        signer = self.head.signer.hex()
        another = f"The card takes no updates of this publisher (key id {signer})."
        publisher = "Ask for an update by the publisher of the firmware that it has."
        return {
            c.SW_NOT_SUPPORTED: (
                "The card takes no updates: it is emulated, or its firmware names no publisher.",
                "A board is flashed over its prompt: chipcash board flash",
            ),
            c.SW_NETWORK: (another, publisher),
            c.SW_SIGNATURE: (another, publisher),
            c.SW_NOT_MINE: (
                f"The card is not what this update is for ({self.target}).",
                "Take the update for its board and form.",
            ),
            c.SW_STALE: (
                f"The card has this build ({self.build}), or firmware with a rollback counter above "
                f"{self.head.rollback}.",
                "chipcash card info shows what it has.",
            ),
            c.SW_CONDITIONS: (
                "The card has an update that waits for power, or was interrupted in this one.",
                "Power it off and on, then see: chipcash card info",
            ),
            c.SW_MEMORY: (
                "The card's files cannot be written: they are full, or its flash is worn.",
                "Its money lies elsewhere and can be spent. Try again, or flash the board.",
            ),
        }

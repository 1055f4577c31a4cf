# SPDX-License-Identifier: Apache-2.0
"""An SD card as its host sees it mounted: a folder with the applet's file in it, while the card is there."""

import os
import select
import tempfile
from pathlib import Path

from chipcash_links.sdfile import NAME, REQUEST, SIZE, parse
from chipcash_sim.hardware import Hardware
from chipcash_sim.plug import CardGone, Plug

_LOOK_S = 0.002  # the medium's controller sees each write at once; here the file is looked at


class SdCard(Hardware):
    """A slot for a card, whose link is `sd`; its file is there as long as the card is.

    folder: where the card is mounted; if not given, one of the system's temporary files.
    """

    def __init__(self, folder: str = "") -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="chipcash-sd-")
        self.folder = folder or (self._temporary.name if self._temporary else "")
        self._file = Path(self.folder, NAME)
        super().__init__(Plug(), self.folder)

    def _release(self) -> None:
        self._file.unlink(missing_ok=True)
        if self._temporary:
            self._temporary.cleanup()

    def _serve(self) -> None:
        seen = b""
        while not self._closing.wait(_LOOK_S):
            if not self.plug.plugged:
                self._file.unlink(missing_ok=True)
                continue
            try:
                if not self._file.exists():
                    self._file.write_bytes(bytes(SIZE))
                while select.select([self.plug], [], [], 0)[0]:
                    self._write(self.plug.receive())
                content = self._file.read_bytes()
                found = parse(content)
                if content != seen and found is not None and found[0] == REQUEST:
                    self.plug.send(content)
                seen = content
            except (CardGone, ValueError, FileNotFoundError):
                seen = b""  # the card left, perhaps between two of these steps

    def _write(self, content: bytes) -> None:
        with self._file.open("r+b") as file:
            os.pwrite(file.fileno(), content, 0)

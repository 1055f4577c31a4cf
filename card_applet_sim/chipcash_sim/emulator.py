# SPDX-License-Identifier: Apache-2.0
"""Emulated cards: the firmware's applet on an image file, in this process or in one of its own.

    card = Card("a.img", runtime="micropython")
    card.power_on(); card.transceive(apdu); card.power_off()

With insert() the card's process goes behind a real PC/SC stack (chipcash_sim.pcscd), with plug_in() into
emulated hardware of any link (chipcash_sim.hardware)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from chipcash_card.applet import Applet
from chipcash_card.journal import NewerFirmware
from chipcash_card.session import Session
from chipcash_sim import runtime as runtimes
from chipcash_sim.card_process import ATR_CONTACT, ATR_CONTACTLESS, emulated
from chipcash_sim.image import FileFlash, PowerCut
from chipcash_sim.plug import CardGone, Plug
from chipcash_sim.vpcd import VpcdServer
from chipcash_wire.trace import Writer

RUNTIMES = ("inprocess", "cpython", "micropython")
_START_S = 10.0


class CardRemoved(Exception):
    """The card is not there (any more): it was removed, or its power was cut."""


class Card:
    """One emulated card on one image file.

    runtime: "inprocess" (fastest), "cpython" or "micropython" (a process each; heap is that of the
    latter). contactless: the applet is told that commands come over the air. pace: microseconds that each
    step of long work takes longer, to be as slow as a board (a card process only). echo: a card process
    answers each command APDU with itself, to measure a link alone. confirm_above: fen above which the holder
    of a card with a panel (link `panel`) has to confirm. trace: a file to whose end all command APDUs and
    their answers are written, whatever link they come by (chipcash.trace reads it). Faults, counted from
    power_on(): cut_write=n fails the power at the n-th flash write (from 0), half=True leaves that write
    half done; cut_before=n and cut_after=n fail it before or after the n-th APDU (from 1) is processed,
    unanswered. A fault stays set for the next power_on(); clear it with faults()."""

    def __init__(
        self,
        image: str | Path,
        runtime: str = "inprocess",
        contactless: bool = False,
        cut_write: int | None = None,
        half: bool = False,
        cut_before: int = 0,
        cut_after: int = 0,
        heap: str = runtimes.HEAP,
        pace: int = 0,
        echo: bool = False,
        confirm_above: int = 0,
        trace: str | Path | None = None,
    ) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime {runtime!r} is none of {', '.join(RUNTIMES)}")
        self.image = Path(image)
        self.runtime = runtime
        self.contactless = contactless
        self.heap = heap
        self.pace = pace
        self.echo = echo
        self.confirm_above = confirm_above
        self.trace = trace
        self.faults(cut_write=cut_write, half=half, cut_before=cut_before, cut_after=cut_after)
        self._applet: Applet | None = None
        self._session: Session | None = None
        self._flash: FileFlash | None = None
        self._apdus = 0
        self._writer: Writer | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._server: VpcdServer | None = None

    def faults(
        self,
        cut_write: int | None = None,
        half: bool = False,
        cut_before: int = 0,
        cut_after: int = 0,
    ) -> None:
        """Set the faults of the next power_on(); without arguments: none."""
        self._cut_write = cut_write
        self._half = half
        self._cut_before = cut_before
        self._cut_after = cut_after

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.power_off()

    def power_on(self) -> bytes:
        """Power the card; its ATR. Raises CardRemoved if a fault cuts the power while it starts."""
        self.power_off()
        if self.runtime != "inprocess":
            self._server = VpcdServer()
            self.insert(self._server.port)
            try:
                self._server.accept(_START_S)
                self._server.power_on()
                return self._server.atr()
            except CardGone as gone:
                self.power_off()
                raise CardRemoved(str(gone)) from None
        self._apdus = 0
        if self.trace is not None:
            self._writer = Writer(str(self.trace))
            self._writer.session("inprocess")
        self._flash = FileFlash(str(self.image), self._cut_write, self._half)
        try:
            firmware = emulated(runtimes.build())
            self._applet = Applet(self._flash, os.urandom, firmware=firmware)
            self._session = self._applet.session(self.contactless)
        except PowerCut:
            self.power_off()
            raise CardRemoved("the power was cut while the card started") from None
        except NewerFirmware as error:
            self.power_off()
            raise CardRemoved(f"it was not started, and is as it was: {error}") from None
        return ATR_CONTACTLESS if self.contactless else ATR_CONTACT

    def transceive(self, apdu: bytes) -> bytes:
        """Answer one command APDU. Raises CardRemoved; the card may have processed it all the same."""
        if self._server is not None:
            try:
                return self._server.transceive(apdu)
            except CardGone as gone:
                self.power_off()
                raise CardRemoved(str(gone)) from None
        if self._session is None:
            raise CardRemoved("the card has no power")
        self._apdus += 1
        if self._writer is not None:
            self._writer.command(apdu)
        try:
            if self._apdus == self._cut_before:
                raise PowerCut()
            reply = self._session.process(apdu)
            if self._apdus == self._cut_after:
                raise PowerCut()
        except PowerCut:
            if self._writer is not None:
                self._writer.answer(None)
            self.power_off()
            raise CardRemoved("the power was cut") from None
        if self._writer is not None:
            self._writer.answer(reply)
        return reply

    def idle(self) -> bool:
        """Let an in-process card do one piece of idle work (a coupon); a card process does so by itself."""
        return self._applet.idle() if self._applet is not None else False

    @property
    def writes(self) -> int:
        """Flash writes of an in-process card since power_on()."""
        return self._flash.writes if self._flash is not None else 0

    def power_off(self) -> None:
        """Cut the power, as when the card leaves the field. May be called at any time."""
        self.remove()
        if self._server is not None:
            self._server.close()
            self._server = None
        self._applet = self._session = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._flash is not None:
            self._flash.close()
            self._flash = None

    def insert(self, port: int, host: str = "127.0.0.1") -> None:
        """Start the card as a process that connects to a virtual reader (vpcd) at host and port.

        Raises runtime.RuntimeMissing if the MicroPython runtime is not installed.
        """
        self._start([f"vpcd={host}:{port}"])

    def plug_in(self, **plugs: Plug) -> None:
        """Start the card as a process with these links, by name, each in a plug. Raises CardRemoved,
        RuntimeMissing."""
        self._start([f"{name}=127.0.0.1:{plug.port}" for name, plug in plugs.items()])
        try:
            for plug in plugs.values():
                plug.accept(_START_S)
        except CardGone as gone:
            self.remove()
            raise CardRemoved(str(gone)) from None

    def _start(self, links: list[str]) -> None:
        self.remove()
        arguments = [str(self.image.absolute()), *links, f"build={runtimes.build()}"]
        if self.contactless:
            arguments.append("contactless")
        if self.echo:
            arguments.append("echo")
        if self.trace is not None:
            with open(self.trace, "ab"):
                pass  # what cannot be written is told here, and not by a card that does not start
            arguments.append(f"trace={Path(self.trace).absolute()}")
        if self._half:
            arguments.append("half")
        if self._cut_write is not None:
            arguments.append(f"cut_write={self._cut_write}")
        for name, value in (
            ("pace", self.pace),
            ("confirm_above", self.confirm_above),
            ("cut_before", self._cut_before),
            ("cut_after", self._cut_after),
        ):
            if value:
                arguments.append(f"{name}={value}")
        module = "chipcash_sim.card_process"
        if self.runtime == "micropython":
            argv, environment = runtimes.micropython_command(module, arguments, self.heap)
        else:
            argv = [sys.executable, "-m", module, *arguments]
            environment = dict(os.environ)
        self._process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL)

    def remove(self) -> None:
        """Take the card out of its reader: its process loses power at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def alive(self) -> bool:
        """Whether the card's process still has power."""
        return self._process is not None and self._process.poll() is None


def clone(image: str | Path, copy: str | Path) -> None:
    """Copy a card with all its secrets and money: what an attacker would do to a card that leaks."""
    shutil.copyfile(image, copy)

# SPDX-License-Identifier: Apache-2.0
"""The card as a process of its own, under CPython or MicroPython: the applet behind its links. Portable.

    card_process.py IMAGE LINK=HOST:PORT... [build=TEXT] [contactless] [echo] [trace=FILE] [pace=N]
                    [confirm_above=N] [cut_write=N] [half] [cut_before=N] [cut_after=N]

It connects each link to a socket of the emulator (chipcash_sim.plug), which is the link's medium; `vpcd` may
be the real vpcd as well. build: what card info tells of the firmware. contactless: what comes over vpcd
counts as over the air. echo: answer each command APDU with itself, to measure a link alone. trace: write all
command APDUs and their answers to the end of this file (chipcash_wire.trace). pace: microseconds that each
step of long work takes longer, to be as slow as a board. confirm_above: fen above which the holder of a card
with a panel (link `panel`) has to confirm, by default for each payment. cut_write: power fails at the n-th
flash write; cut_before, cut_after: before or after the n-th APDU is processed, with no answer. The process
ends when the power does, or when a link's other end is closed."""

import os
import select
import socket
import sys
import time

from chipcash_board.loop import TICK_MS, Loop
from chipcash_card.applet import Applet, Firmware
from chipcash_card.journal import NewerFirmware
from chipcash_card.session import Session
from chipcash_links.link import Link
from chipcash_sim.image import FileFlash, PowerCut
from chipcash_wire.compat import INTERPRETER, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from chipcash_panel.panel import Panel
    from chipcash_wire.trace import Writer

ATR_CONTACT = b"\x3b\x80\x01\x81"
"""ISO/IEC 7816-3: T=1, no historical bytes, check byte."""
ATR_CONTACTLESS = b"\x3b\x80\x80\x01\x01"
"""What a reader composes for an ISO/IEC 14443-4 card without historical bytes (PC/SC part 3)."""

_TCP = 6
_NODELAY = 1
_QUICKACK = 12


def emulated(build: str) -> Firmware:
    """The firmware of an emulated card. build: version and build id; the interpreter names itself."""
    return Firmware((build + " " + INTERPRETER).encode())


class Ended(Exception):
    """The other end of a link was closed."""


class Plugged:
    """A link's port (chipcash_links.link): packets over a socket. Raises Ended when its other end is
    closed. name: the link's."""

    def __init__(self, host: str, port: int, name: str) -> None:
        self.name = name
        self.socket = socket.socket()
        self.socket.connect(socket.getaddrinfo(host, port)[0][-1])
        self.socket.setsockopt(_TCP, _NODELAY, 1)

    def receive(self) -> bytes:
        """The next packet; an empty one says that the other side of the link is gone."""
        return self._receive(int.from_bytes(self._receive(2), "big"))

    def send(self, data: bytes) -> None:
        """Send one packet."""
        data = len(data).to_bytes(2, "big") + data
        try:
            while data:
                data = data[self.socket.send(data) :]
        except OSError:
            raise Ended()

    def _receive(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            try:
                # Re-armed for each read: delayed acknowledgements cost 40 ms an APDU.
                self.socket.setsockopt(_TCP, _QUICKACK, 1)
            except OSError:
                pass  # Linux only
            try:
                part = self.socket.recv(n - len(data))
            except OSError:
                part = b""  # a reader that was killed resets the connection
            if not part:
                raise Ended()
            data += part
        return data


class Chip:
    """What has power or has not: the applet over its flash, with the faults of the command line.

    panel: screen and buttons, on a card that has them; a battery keeps them on. pollers: what else is to be
    called now and then, since time passes for it."""

    def __init__(self, device, options: "dict[str, str]") -> None:  # type: ignore[no-untyped-def]
        self._device = device
        self._firmware = emulated(options["build"]) if "build" in options else None
        self._echo = "echo" in options
        self._cut_before = int(options.get("cut_before", "0"))
        self._cut_after = int(options.get("cut_after", "0"))
        self._apdus = 0
        self._applet: "Applet | None" = None
        self.panel: "Panel | None" = None
        self.pollers: "list[Callable[[], None]]" = []
        self.trace: "Writer | None" = None
        if "trace" in options:
            from chipcash_wire.trace import Writer

            self.trace = Writer(options["trace"])

    def power_on(self) -> Applet:
        """The applet, started if it is not running."""
        if self._applet is None:
            self._applet = Applet(self._device, os.urandom, self.panel, firmware=self._firmware)
        return self._applet

    def power_off(self) -> None:
        """The applet loses its memory."""
        self._applet = None

    def idle(self) -> bool:
        """Let the applet do some idle work; False when there is none."""
        return self._applet is not None and self._applet.idle()

    def tick(self) -> None:
        """Let the panel draw, and end what has had its time."""
        if self.panel is not None:
            self.panel.tick()
        for poll in self.pollers:
            poll()

    def process(self, interface: "Interface", apdu: bytes) -> bytes:
        """Answer one command APDU of an interface. Raises PowerCut."""
        if self.trace is None:
            return self._answer(interface, apdu)
        self.trace.command(apdu)
        reply = None
        try:
            reply = self._answer(interface, apdu)
            return reply
        finally:
            self.trace.answer(reply)

    def _answer(self, interface: "Interface", apdu: bytes) -> bytes:
        if self._echo:
            return apdu + b"\x90\x00"
        self._apdus += 1
        if self._apdus == self._cut_before:
            raise PowerCut()
        reply = interface.session().process(apdu)
        if self._apdus == self._cut_after:
            raise PowerCut()
        return reply


class Interface:
    """Who answers the command APDUs of one link: a session that lasts as long as the chip has power."""

    def __init__(self, chip: Chip, over_air: bool, far: bool = False) -> None:
        self.chip = chip
        self._over_air = over_air
        self._far = far
        self._applet: "Applet | None" = None

    def session(self) -> Session:
        """The session with the applet that is running."""
        applet = self.chip.power_on()
        if applet is not self._applet:
            self._applet = applet
            self._session = applet.session(self._over_air, self._far)
        return self._session

    def process(self, apdu: bytes) -> bytes:
        """Answer one command APDU."""
        return self.chip.process(self, apdu)

    def reset(self) -> None:
        """The link begins anew."""
        if self._applet is not None:
            self._session.reset()


class Vpcd(Link):
    """vsmartcard's virtual reader: one byte is a control (0 off, 1 on, 2 reset, 4 ask for the ATR), all
    else a command APDU."""

    def __init__(self, session: Interface, port: Plugged, atr: bytes) -> None:
        Link.__init__(self, session, port)
        self._chip = session.chip
        self._atr = atr

    def take(self, data: bytes) -> None:
        """Obey a control, or answer an APDU."""
        if len(data) != 1:
            self.port.send(self.answer(data))
        elif data == b"\x04":
            self.port.send(self._atr)
        elif data == b"\x00":
            self._chip.power_off()
        elif data == b"\x01":
            self._chip.power_on()
        else:
            self.reset()


def plug_in(name: str, where: str, chip: Chip, options: "dict[str, str]") -> Link:
    """The link of that name, connected. Modules are imported for it alone: a card has few links."""
    host, _, number = where.rpartition(":")
    port = Plugged(host, int(number), name)
    if name == "panel":
        from chipcash_sim.card_parts import Front

        return Front(Interface(chip, False), port, int(options.get("confirm_above", "0")))
    if name == "vpcd":
        contactless = "contactless" in options
        atr = ATR_CONTACTLESS if contactless else ATR_CONTACT
        return Vpcd(Interface(chip, contactless), port, atr)
    if name == "sd":
        from chipcash_links.sdfile import SdFile

        return SdFile(Interface(chip, False), port)
    if name == "serial":
        from chipcash_links.serial import Serial

        return Serial(Interface(chip, False), port)
    if name == "at":
        from chipcash_links.at import Modem
        from chipcash_links.uicc import Uicc

        return Modem(Uicc(lambda: Interface(chip, False)), port)
    if name == "iso14443":
        from chipcash_links.iso14443 import Picc

        return Picc(Interface(chip, True), port)
    if name == "pn532t":
        from chipcash_sim.card_parts import Board

        return Board(Interface(chip, True), port)
    if name == "ble":
        from chipcash_links.gatt import Gatt

        return Gatt(Interface(chip, True, True), port)
    if name in ("ccid", "ccid_t0"):
        from chipcash_links.ccid import ATR_T0, ATR_T1, Ccid

        return Ccid(Interface(chip, False), port, ATR_T0 if name == "ccid_t0" else ATR_T1)
    raise ValueError("no such link: " + name)


class SocketLoop(Loop):
    """The card's loop over the links' sockets, until the other end of one is closed (Ended) or the power is
    cut (PowerCut). pace: microseconds that each step of long work takes longer."""

    def __init__(self, links: "list[Link]", chip: Chip, pace: int) -> None:
        Loop.__init__(self, chip, TICK_MS if chip.panel is not None or chip.pollers else -1)
        self._chip = chip
        self._pace = pace
        self._poll = select.poll()
        self._by_number = {}
        for link in links:
            self._by_number[link.port.socket.fileno()] = link  # type: ignore[attr-defined]
            self._poll.register(link.port.socket, select.POLLIN)  # type: ignore[attr-defined]
            if not isinstance(link, Vpcd):
                chip.power_on()  # a reader's contacts say when; everything else has power from the beginning
        self._current = links[0]

    def answer(self, wait_ms: int) -> bool:
        """As Loop has it."""
        ready = self._poll.poll(wait_ms)
        for entry in ready:
            where = entry[0]  # MicroPython gives the socket itself
            link = self._by_number[where if isinstance(where, int) else where.fileno()]
            self._current = link
            if self._chip.trace is not None:
                self._chip.trace.session(link.port.name)  # type: ignore[attr-defined]
            data = link.port.receive()
            if data:
                link.take(data)
            else:
                link.reset()
        return bool(ready)

    def working(self) -> None:
        """Work as slowly as told, and let the link ask for more time."""
        if self._pace:
            time.sleep(self._pace / 1000000)
        self._current.working()


def main(arguments: "list[str]") -> None:
    """Run the card described by the command line (see above) until its power or one of its links ends."""
    image = arguments[0]
    plugs = []
    options: "dict[str, str]" = {}
    for word in arguments[1:]:
        name, _, value = word.partition("=")
        if ":" in value and name != "trace":
            plugs.append((name, value))
        else:
            options[name] = value
    cut = options.get("cut_write")
    device = FileFlash(image, None if cut is None else int(cut), "half" in options)
    chip = Chip(device, options)
    try:
        links = [plug_in(name, where, chip, options) for name, where in plugs]
    except OSError as error:
        print("card: nothing to plug into:", plugs, error, file=sys.stderr)
        sys.exit(1)
    try:
        SocketLoop(links, chip, int(options.get("pace", "0"))).run()
    except (Ended, PowerCut):
        pass
    except NewerFirmware as error:
        print("card: not started, and as it was:", error, file=sys.stderr)
    finally:
        for link in links:
            link.port.socket.close()  # type: ignore[attr-defined]
        device.close()


if __name__ == "__main__":
    main(sys.argv[1:])

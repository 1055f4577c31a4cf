# SPDX-License-Identifier: Apache-2.0
"""A whole network in a directory, and readers for its emulated cards: what to test and to show things with.

    with Sandbox(directory) as sandbox:
        card = directory / "a.img"
        sandbox.new_card(card, 10_000)
        till = sandbox.till()
        with sandbox.offline(), reader_for(["serial"]) as reader:
            with open_path(reader.insert(card, "cpython"), wait=15) as connection:
                till.charge(connection, 3_680)
        till.sync(sandbox.center)

Nothing is played: the registration center answers over HTTP, cards run the firmware's applet behind the links
of the emulator. Only the PIN is known to everyone."""

from __future__ import annotations

import importlib.util
import shutil
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypedDict, Unpack
from urllib.parse import urlencode

from chipcash.bank.cards import new_puk, personalise
from chipcash.card import Card
from chipcash.cardholder import load
from chipcash.center.client import CenterClient
from chipcash.center.service import Service
from chipcash.errors import SimError
from chipcash.home import init
from chipcash.pos import Pos
from chipcash.transports import Connection, open_path
from chipcash_sim import emulator, pcscd, places, runtime
from chipcash_sim.forms import Form
from chipcash_sim.hardware.panel import FrontPanel
from chipcash_sim.hardware.pty import PtyLine
from chipcash_sim.plug import CardGone, Closing
from chipcash_sim.runtime import RuntimeMissing
from chipcash_wire import objects as o

__all__ = [
    "CCID",
    "PIN",
    "RUNTIMES",
    "CcidReader",
    "Faults",
    "PcscReader",
    "PlaceReader",
    "Reader",
    "Sandbox",
    "SimReader",
    "agreeing",
    "links",
    "missing",
    "reader_for",
]

PIN = "258013"
"""Of a sandbox's cards, unless told otherwise."""
RUNTIMES = ("cpython", "micropython")
"""What may run a card behind any link."""
CCID = ("ccid", "ccid_t0")
"""A serial reader with the card in it, by T=1 and by T=0: see CcidReader."""
_TIER = 4
_PRESS_S = 0.1
_LEAVE_S = 15.0
_LOOK_S = 0.02
_LIBRARIES = {
    "at": {"serial": "serial"},
    "ble": {"bleak": "ble", "bumble": "sim"},
    "nfc": {"nfc": "nfc"},
    "pn532": {"nfc": "nfc"},
    "pn532t": {"nfc": "nfc"},
    "ccid": {"smartcard": "pcsc"},
    "ccid_t0": {"smartcard": "pcsc"},
    "pcsc": {"smartcard": "pcsc"},
    "serial": {"serial": "serial"},
}
"""The Python packages behind a link, where they are not always installed, and the extras that bring them."""


def links() -> tuple[str, ...]:
    """The links behind which a card can be: `sim`, `pcsc`, and the emulator's places."""
    return ("sim", "pcsc", *places.NAMES)


def missing(link: str, card_runtime: str, session: pcscd.Session | None) -> str:
    """What this machine lacks for a link and a runtime; empty if nothing.

    session: the private smart card service around this process, if there is one."""
    for package, extra in _LIBRARIES.get(link, {}).items():
        if importlib.util.find_spec(package) is None:
            return f"a Python package for {link} is not installed: pip install 'chipcash[{extra}]'"
    if link == "ble" and shutil.which("dbus-daemon") is None:
        return "dbus-daemon is not installed: sudo apt-get install dbus-daemon"
    if card_runtime == "micropython":
        try:
            runtime.find("micropython")
            runtime.compile_tree()
        except RuntimeMissing as error:
            return str(error)
    if link in ("pcsc", *CCID) and session is None:
        return pcscd.available() or (
            "no private smart card service around this process:"
            " start it by python -m chipcash_sim.pcscd -- COMMAND"
        )
    return ""


class Faults(TypedDict, total=False):
    """The faults of chipcash_sim.emulator.Card: where the card loses its power."""

    cut_write: int | None
    half: bool
    cut_before: int
    cut_after: int


class Reader(Closing):
    """Where an emulated card is put, and how a terminal reaches it there.

    paths: one for each link, the same as long as the reader is open; that of a `sim` link is known when a
    card is in. environment: what processes that use the paths must have in theirs. front: screen and buttons
    of the card, None where there are none."""

    paths: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})
    front: FrontPanel | None = None

    @abstractmethod
    def insert(
        self, image: Path, runtime: str, trace: Path | None = None, **faults: Unpack[Faults]
    ) -> str:
        """Put in the card of an image, in place of one that is in; the path of the first link.

        trace: where the card writes what reaches it. Raises SimError if it does not start.
        """

    @abstractmethod
    def remove(self) -> None:
        """Take the card out, which takes its power; without one nothing happens."""

    @property
    @abstractmethod
    def powered(self) -> bool:
        """Whether a card is in and has power; a `sim` card has it while its path is open elsewhere."""

    def close(self) -> None:
        """Take out the card, and the reader away. May be repeated."""
        self.remove()


class SimReader(Reader):
    """No reader: the path runs the card itself. Faults come with every opening of it."""

    def insert(
        self, image: Path, runtime: str, trace: Path | None = None, **faults: Unpack[Faults]
    ) -> str:
        """The path of the card."""
        options: dict[str, str | int] = {"runtime": runtime}
        options |= {name: int(value) for name, value in faults.items() if isinstance(value, int)}
        if trace is not None:
            options["trace"] = str(trace)
        self.paths = (f"sim:{image}?{urlencode(options, safe='/')}",)
        return self.paths[0]

    def remove(self) -> None:
        """There is nothing to take out."""
        self.paths = ()

    @property
    def powered(self) -> bool:
        """Whether there is a card."""
        return bool(self.paths)


class _Slot(Reader):
    """A reader that holds a card's process."""

    def __init__(self) -> None:
        self._card: emulator.Card | None = None
        self._confirm_above = 0

    def insert(
        self, image: Path, runtime: str, trace: Path | None = None, **faults: Unpack[Faults]
    ) -> str:
        """Put it in."""
        self.remove()
        self._card = emulator.Card(
            image, runtime, trace=trace, confirm_above=self._confirm_above, **faults
        )
        try:
            self._start(self._card)
        except (emulator.CardRemoved, OSError) as error:
            self.remove()
            raise SimError(f"{image} did not start: {error}.") from None
        except RuntimeMissing as error:
            self.remove()
            raise SimError(f"{image} cannot run: {error}") from None
        return self.paths[0]

    @abstractmethod
    def _start(self, card: emulator.Card) -> None:
        """Start the card's process here."""

    def remove(self) -> None:
        """Take it out."""
        if self._card is not None:
            self._card.remove()
            self._card = None
            self._left()

    def _left(self) -> None:
        """The card has left."""

    @property
    def powered(self) -> bool:
        """Whether a card's process runs."""
        return self._card is not None and self._card.alive


class PcscReader(_Slot):
    """A virtual reader of a private smart card service (chipcash_sim.pcscd), by its name and port."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__()
        self.paths = (f"pcsc:{name}",)
        self._name = name
        self._port = port

    def _start(self, card: emulator.Card) -> None:
        card.insert(self._port)

    def _left(self) -> None:
        from chipcash.transports import pcsc

        # A card put in before the service has seen that the last one is gone would be taken for it. That it
        # could not reset the last one is not yet that: then it says "empty", and has not counted (arrivals
        # are odd there, departures even).
        deadline = time.monotonic() + _LEAVE_S
        while self._name in pcsc.readers() and (
            self._name in pcsc.occupied_readers() or pcsc.insertions(self._name) % 2
        ):
            if time.monotonic() > deadline:
                raise SimError(f"{self._name} does not notice that its card is gone.")
            time.sleep(_LOOK_S)


class PlaceReader(_Slot):
    """Emulated hardware of one or several links (chipcash_sim.places), the same card behind all of them.

    form: of the card; where it has a screen and buttons, so has the reader. While it is open, this process
    has the environment in which its paths are found."""

    def __init__(self, names: Sequence[str], form: Form | None = None) -> None:
        super().__init__()
        with ExitStack() as stack:
            if form is not None and form.display is not None:
                self.front = stack.enter_context(FrontPanel())
                self._confirm_above = form.confirm_above or 0
            self._places = [places.make(name) for name in names]
            for place in self._places:
                stack.callback(place.close)
                stack.enter_context(place.findable())
            self._hardware = stack.pop_all()
        self.paths = tuple(place.path for place in self._places)
        self.environment = {
            name: value for place in self._places for name, value in place.environment.items()
        }

    def _start(self, card: emulator.Card) -> None:
        places.put(card, *self._places, front=self.front)

    def close(self) -> None:
        """Take out the card, and the hardware away."""
        super().close()
        self._hardware.close()


class CcidReader(_Slot):
    """The card as a serial CCID reader with itself in it, which a private smart card service finds; one at a
    time in a service, and the service is restarted for it.

    link: `ccid` or `ccid_t0`, by which protocol the card is read: T=1 or T=0."""

    def __init__(self, session: pcscd.Session, link: str) -> None:
        super().__init__()
        self._session = session
        self._link = link
        self._line = PtyLine()

    def _start(self, card: emulator.Card) -> None:
        card.plug_in(**{self._link: self._line.plug})
        self.paths = (f"pcsc:{self._session.add_serial(self._line.device)}",)

    def _left(self) -> None:
        self._session.remove_serial()

    def close(self) -> None:
        """Take out the card, and the reader away."""
        super().close()
        self._line.close()


def reader_for(
    names: Sequence[str], pcsc_reader: tuple[str, int] | None = None, form: Form | None = None
) -> Reader:
    """A reader of these links: `sim` alone, `pcsc` alone, or places of the emulator, together.

    pcsc_reader: name and port of the virtual reader that `pcsc` stands for; form: of the card, see
    PlaceReader. Raises SimError for links that do not exist or do not go together.
    """
    if list(names) == ["sim"]:
        return SimReader()
    if list(names) == ["pcsc"] and pcsc_reader is not None:
        return PcscReader(*pcsc_reader)
    wrong = [name for name in names if name not in places.NAMES]
    if wrong or not names or len(set(names)) < len(names):
        raise SimError(
            f"No card can be behind {' and '.join(names) or 'no link'}.",
            hint=f"Choose sim, pcsc (in a private smart card service), or of {', '.join(places.NAMES)}.",
        )
    return PlaceReader(names, form)


@contextmanager
def agreeing(reader: Reader) -> Iterator[None]:
    """A holder who confirms whatever the card asks; nobody, where it has no buttons."""
    done = threading.Event()

    def press(front: FrontPanel) -> None:
        while not done.wait(_PRESS_S):
            with suppress(CardGone):
                front.press("confirm")

    front = reader.front
    presser = threading.Thread(target=press, args=(front,)) if front is not None else None
    if presser is not None:
        presser.start()
    try:
        yield
    finally:
        done.set()
        if presser is not None:
            presser.join()


class Sandbox:
    """A network in a directory that has none yet: certification center, central bank, a registration center
    on a free port of this machine, and one commercial bank. To be closed, or used by `with`.

    suite: gm or p256; network: its four bytes. home, trust: its keys and its public file; ledger: the
    registration center itself; center: a client of it, over HTTP; issuing, bank: the two libraries."""

    def __init__(self, directory: Path, suite: str = "p256", network: bytes = b"TEST") -> None:
        self.directory = directory
        self.home = init(directory / "network", suite, network)
        self.trust = self.home.trust()
        self._service: Service | None = None
        with ExitStack() as stack:
            self.ledger = self.home.center()
            stack.callback(self.ledger.close)
            self.issuing = self.home.issuing()
            stack.callback(self.issuing.close)
            self.url = ""
            self.connect()
            stack.callback(self.disconnect)
            self.center = stack.enter_context(CenterClient(self.url, self.trust, timeout=10))
            self.bank = self.home.bank(self.center)
            stack.callback(self.bank.close)
            self._stack = stack.pop_all()

    def connect(self) -> None:
        """Have the registration center answer, at the same URL as before; it does from the beginning."""
        if self._service is None:
            port = int(self.url.rpartition(":")[2]) if self.url else 0
            self._service = Service(self.ledger, port=port)
            self._service.__enter__()
            self.url = self._service.url

    def disconnect(self) -> None:
        """The network is down: nothing answers at the center's URL."""
        if self._service is not None:
            self._service.__exit__(None, None, None)
            self._service = None

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Without the network for as long as this lasts."""
        self.disconnect()
        try:
            yield
        finally:
            self.connect()

    def fund(self, fen: int) -> o.Coin:
        """Issue a coin of so many fen to the bank, against new reserves."""
        self.issuing.add_reserve(self.bank.public, fen)
        coin = self.issuing.issue(self.bank.public, fen)
        self.bank.add(self.center.register_coin(coin))
        return coin

    def issue_card(
        self,
        connection: Connection,
        fen: int = 0,
        *,
        pin: str = PIN,
        tier: int = _TIER,
        form: int = o.FORM_IC_CARD,
    ) -> o.Certificate:
        """Make the blank card of a connection one of the network, and load it with so many fen of the bank's;
        its certificate. tier, form: as in personalise()."""
        card = Card(connection)
        card.select()
        certificate = personalise(
            card,
            self.home.authority(),
            self.center,
            self.trust,
            pin=pin,
            puk=new_puk(),
            tier=tier,
            form=form,
        )
        if fen:
            for title in self.bank.withdraw(fen, certificate.subject).titles:
                load(card, title)
        return certificate

    def new_card(
        self,
        image: Path,
        fen: int = 0,
        *,
        pin: str = PIN,
        tier: int = _TIER,
        form: int = o.FORM_IC_CARD,
    ) -> o.Certificate:
        """Make an emulated card in an image file, with so many fen of new money; its certificate."""
        with emulator.Card(image):
            pass  # a blank card
        if fen:
            self.fund(fen)
        with open_path(f"sim:{image}") as connection:
            return self.issue_card(connection, fen, pin=pin, tier=tier, form=form)

    def till(self, name: str = "till") -> Pos:
        """A new merchant's POS in a folder of this name, synchronised once; closed with the sandbox."""
        pos = Pos.init(self.directory / name, self.trust, self.url)
        self._stack.callback(pos.close)
        pos.sync(self.center)
        return pos

    def close(self) -> None:
        """End all of it; what is in the directory stays. May be repeated."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

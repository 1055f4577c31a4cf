# SPDX-License-Identifier: Apache-2.0
"""Fixtures for pytest: a network, tills and emulated cards behind any link, for those who test a till, a
terminal, a bank. See docs/testing.md.

pytest loads this module wherever chipcash is installed. So nothing of chipcash is imported before a test uses
a fixture, and nothing happens to tests that use none."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from chipcash.pos import Pos
    from chipcash.sandbox import Faults, Reader, Sandbox
    from chipcash.trace import Step
    from chipcash.transports import Connection
    from chipcash_sim import pcscd
    from chipcash_wire.objects import Certificate

__all__ = ["CardMaker", "EmulatedCard"]

_WAIT_S = 15.0
_SHOWN = 100
"""Commands of a card that a failure shows, the last ones."""


@dataclass
class EmulatedCard:
    """A card with money in its reader.

    image: its flash; reader: where it is; runtime: what runs it; pin: the cardholder's; certificate: of its
    key; trace: a file with what has reached it (chipcash.trace.read), by any link and from any program."""

    image: Path
    reader: Reader
    runtime: str
    pin: str = field(repr=False)
    certificate: Certificate
    trace: Path

    @property
    def path(self) -> str:
        """How a terminal reaches it: chipcash.transports.open_path, or any chipcash command. Raises
        NoCardError for a `sim` card that was removed: its path would put it in again."""
        from chipcash.errors import NoCardError

        if not self.reader.paths:
            raise NoCardError(f"The card {self.image.name} was removed.", hint="insert() it again.")
        return self.reader.paths[0]

    @property
    def paths(self) -> tuple[str, ...]:
        """The same for each of its links."""
        return self.reader.paths

    def insert(self, **faults: Unpack[Faults]) -> str:
        """Put it in again, perhaps to lose its power at a given point: cut_write, half, cut_before,
        cut_after as in chipcash_sim.emulator.Card. Its path, which a `sim` card has anew."""
        return self.reader.insert(self.image, self.runtime, self.trace, **faults)

    def remove(self) -> None:
        """Pull it out, which takes its power."""
        self.reader.remove()

    def connect(self, wait: float = _WAIT_S) -> Connection:
        """Open its path, waiting at most so many seconds; a context manager. Raises TransportError."""
        from chipcash.transports import open_path

        return open_path(self.path, wait=wait)

    def steps(self) -> list[Step]:
        """The commands that have reached it, with their answers."""
        from chipcash.trace import read

        return read(self.trace) if self.trace.exists() else []


class CardMaker(Protocol):
    """The fixture chipcash_cards: makes cards."""

    def __call__(
        self,
        fen: int = 10_000,
        *,
        links: Sequence[str] = (),
        runtime: str = "",
        pin: str = "",
        form: str = "ic-card",
        tier: int = 4,
    ) -> EmulatedCard:
        """A new card in a reader of its own.

        fen: money on it; links: where it is at once, runtime: what runs it, if not as the test's parameters
        chipcash_link and chipcash_runtime say; pin: 4 to 12 digits, if not chipcash.sandbox.PIN; form: of
        chipcash_sim.forms, whose screen and buttons are reader.front; tier: 1 to 4. What this machine lacks
        skips the test. Raises ValueError for a form that does not exist, SimError for links that do not go
        together."""


@dataclass
class _Used:
    """What a test has used, for the report of its failure."""

    cards: list[EmulatedCard] = field(default_factory=list)
    seed: int | None = None


_USED = pytest.StashKey[_Used]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that begin with --chipcash."""
    group = parser.getgroup("chipcash", "emulated chipcash cards")
    group.addoption(
        "--chipcash-link",
        action="append",
        metavar="LINK",
        help="Put cards behind this link: sim (default), pcsc, nfc, at, sd, serial, ... or all. Repeatable.",
    )
    group.addoption(
        "--chipcash-runtime",
        action="append",
        metavar="RUNTIME",
        help="Run cards on cpython (default), micropython or all. Repeatable.",
    )
    group.addoption(
        "--chipcash-suite",
        choices=("p256", "gm"),
        default="p256",
        help="Crypto of the networks: ECDSA P-256 with SHA-256 (default), or SM2 with SM3.",
    )
    group.addoption(
        "--chipcash-seed",
        type=int,
        metavar="N",
        help="Seed of chipcash_random, as a failure has shown it.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose one seed for the whole run, which pytest-xdist hands on to its workers; and refuse links and
    runtimes that do not exist."""
    if config.option.chipcash_seed is None:
        config.option.chipcash_seed = secrets.randbits(32)
    if config.option.chipcash_link or config.option.chipcash_runtime:
        for name, (known, asked) in _parameters(config).items():
            for value in asked:
                if value not in known:
                    option = "--" + name.replace("_", "-")
                    raise pytest.UsageError(f"{option} {value}: write all or of {', '.join(known)}")


def _parameters(config: pytest.Config) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
    """The parameters of cards: what there is of each, and what the command line asks for."""
    from chipcash.sandbox import RUNTIMES, links

    found: dict[str, tuple[Sequence[str], Sequence[str]]] = {}
    for name, default, known in (
        ("chipcash_link", "sim", links()),
        ("chipcash_runtime", "cpython", RUNTIMES),
    ):
        asked: Sequence[str] = getattr(config.option, name) or [default]
        found[name] = known, known if "all" in asked else list(dict.fromkeys(asked))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use a card once for each link and runtime that was asked for, unless they say
    themselves by pytest.mark.parametrize."""
    if not {"chipcash_link", "chipcash_runtime"}.intersection(metafunc.fixturenames):
        return
    said = {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for names in mark.args[:1] or [mark.kwargs["argnames"]]
        for name in (names.split(",") if isinstance(names, str) else names)
    }
    for name, (_, asked) in _parameters(metafunc.config).items():
        if name in metafunc.fixturenames and name not in said:
            metafunc.parametrize(name, asked, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what its cards were told and said, and the seed."""
    report = yield
    used = item.stash.get(_USED, None)
    if used is not None and report.failed:
        for card in used.cards:
            report.sections.append((f"chipcash card {card.image.name}", _tell(card)))
        if used.seed is not None:
            report.sections.append(("chipcash seed", f"--chipcash-seed={used.seed}"))
    return report


def _tell(card: EmulatedCard) -> str:
    from chipcash.errors import ChipcashError
    from chipcash.trace import describe

    try:
        steps = card.steps()
    except (ChipcashError, OSError) as error:
        return f"its trace cannot be read: {error}"
    lines = [f"{card.runtime}; the whole trace: {card.trace}"]
    if len(steps) > _SHOWN:
        lines.append(f"  ({len(steps) - _SHOWN} commands before these)")
    return "\n".join([*lines, *describe(steps[-_SHOWN:])])


def _used(request: pytest.FixtureRequest) -> _Used:
    stash: pytest.Stash = request.node.stash
    return stash.setdefault(_USED, _Used())


@pytest.fixture
def chipcash_suite(request: pytest.FixtureRequest) -> str:
    """Crypto suite of the test's network: --chipcash-suite."""
    return str(request.config.getoption("--chipcash-suite"))


@pytest.fixture
def chipcash_link(request: pytest.FixtureRequest) -> str:
    """The link behind which the test's cards are: a parameter, from --chipcash-link or parametrize."""
    return str(request.param)


@pytest.fixture
def chipcash_runtime(request: pytest.FixtureRequest) -> str:
    """What runs the test's cards: a parameter, from --chipcash-runtime or parametrize."""
    return str(request.param)


@pytest.fixture
def chipcash_random(request: pytest.FixtureRequest) -> random.Random:
    """For a test's own choices (amounts, faults): the same for the same test and --chipcash-seed.

    Keys, nonces and challenges are not of it: they come from the system, since a key that can be made again
    is none."""
    seed: int = request.config.getoption("--chipcash-seed")
    _used(request).seed = seed
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def chipcash_network(tmp_path: Path, chipcash_suite: str) -> Iterator[Sandbox]:
    """A network of the test's own: certification center, central bank, bank, and a registration center that
    answers at its url (chipcash.sandbox.Sandbox)."""
    from chipcash.sandbox import Sandbox

    with Sandbox(tmp_path / "chipcash", chipcash_suite) as sandbox:
        yield sandbox


@pytest.fixture
def chipcash_tills(chipcash_network: Sandbox) -> Callable[[str], Pos]:
    """Makes tills of the network, by name, each synchronised once."""
    return chipcash_network.till


@pytest.fixture
def chipcash_till(chipcash_tills: Callable[[str], Pos]) -> Pos:
    """A till of the network, synchronised once."""
    return chipcash_tills("till")


@pytest.fixture
def chipcash_cards(
    request: pytest.FixtureRequest,
    chipcash_network: Sandbox,
    chipcash_link: str,
    chipcash_runtime: str,
) -> Iterator[CardMaker]:
    """Makes cards of the network, each in a reader of its own."""
    from chipcash.sandbox import PIN, missing, reader_for
    from chipcash_sim import forms, pcscd
    from chipcash_wire.objects import FORMS

    used = _used(request)
    session = pcscd.current()
    free = _readers(session)

    with ExitStack() as stack:

        def make(
            fen: int = 10_000,
            *,
            links: Sequence[str] = (),
            runtime: str = "",
            pin: str = "",
            form: str = "ic-card",
            tier: int = 4,
        ) -> EmulatedCard:
            links, runtime = links or (chipcash_link,), runtime or chipcash_runtime
            pin = pin or PIN
            for link in links:
                lacking = missing(link, runtime, session)
                if lacking:
                    pytest.skip(lacking)
            slot = None
            if "pcsc" in links:
                if not free:
                    pytest.skip(
                        "not enough virtual readers: python -m chipcash_sim.pcscd --readers N"
                    )
                slot = free.pop(0)
            image = chipcash_network.directory / f"card-{len(used.cards) + 1}.img"
            if form not in FORMS[1:]:
                raise ValueError(f"form {form!r} is none of {', '.join(FORMS[1:])}")
            certificate = chipcash_network.new_card(
                image, fen, pin=pin, tier=tier, form=FORMS.index(form)
            )
            reader = stack.enter_context(reader_for(links, slot, forms.FORMS[form]))
            trace = image.with_suffix(".trace")
            card = EmulatedCard(image, reader, runtime, pin, certificate, trace)
            used.cards.append(card)
            card.insert()
            return card

        yield make


def _readers(session: pcscd.Session | None) -> list[tuple[str, int]]:
    """The virtual readers that this process may use: pytest-xdist's workers share them out."""
    if session is None:
        return []
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return list(zip(session.readers, session.ports, strict=True))[worker::workers]


@pytest.fixture
def chipcash_card(chipcash_cards: CardMaker) -> EmulatedCard:
    """A card with 100 yuan (10 000 fen) behind the test's link."""
    return chipcash_cards()

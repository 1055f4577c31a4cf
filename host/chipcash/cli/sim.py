# SPDX-License-Identifier: Apache-2.0
"""`chipcash sim`: emulated cards, without a reader or behind a real PC/SC stack."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from chipcash.cli.base import (
    EXIT_FAILED,
    Group,
    Report,
    listen_options,
    progress,
    show,
    until_ended,
)
from chipcash.errors import SimError, TransportError
from chipcash.transports import pcsc
from chipcash_sim import emulator, forms, pcscd, places
from chipcash_sim.hardware import panel
from chipcash_sim.plug import CardGone
from chipcash_sim.runtime import RuntimeMissing, compile_tree, find

_runtime_option = click.option(
    "--runtime",
    type=click.Choice(["cpython", "micropython"]),
    default="micropython",
    show_default=True,
    help="What runs the card.",
)
_SHOWN_S = 10.0
"""How long PC/SC may take to see a card: it looks every 400 ms, but machines can be busy."""
_UNSEEN_S = 1.0
"""How long a card gets to fail where PC/SC cannot be asked."""
_LOOK_S = 0.05
_HERE = ("127.0.0.1", "::1", "localhost")


@click.group("sim", cls=Group)
def command() -> None:
    """Emulated cards. `sim:IMAGE` is a card path for every other command."""


@command.command("new")
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
def new(image: Path) -> Report:
    """Make a blank card; `chipcash card personalise` then makes it a card of a network."""
    if image.exists():
        raise SimError(
            f"{image} exists already. It may hold money, so nothing was done.",
            hint="Choose another name, or remove it yourself.",
        )
    with emulator.Card(image) as card:
        del card
    return Report({"image": str(image)}, [f"{image}: a blank card. Its path is sim:{image}"])


@command.command("clone")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("copy", type=click.Path(dir_okay=False, path_type=Path))
def clone(image: Path, copy: Path) -> Report:
    """Copy a card with its keys and its money, to attack with."""
    if copy.exists():
        raise SimError(f"{copy} exists already; nothing was done.", hint="Choose another name.")
    emulator.clone(image, copy)
    return Report({"image": str(copy)}, [f"{copy}: a clone of {image}"])


@command.command("run")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_runtime_option
@click.option(
    "--link",
    "links",
    multiple=True,
    metavar="KIND[=WHERE]",
    help=f"Put it here instead of a virtual reader: {', '.join(places.NAMES)}. Repeat for several at once.",
)
@click.option(
    "--form",
    type=click.Choice(list(forms.FORMS)),
    help="Put it behind the links of this form of the hardware wallet, with its screen and buttons.",
)
@click.option(
    "--screen",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep a PNG picture of the card's screen here (a form that has one).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the virtual reader is.")
@click.option(
    "--port", type=int, default=35963, show_default=True, help="Its port (vpcd's default)."
)
@click.option("--contactless", is_flag=True, help="Behave as over the air: no PIN in clear.")
@click.option("--cut-write", type=int, help="Cut the power at this flash write (from 0).")
@click.option("--cut-before", type=int, default=0, help="Cut it before this APDU (from 1).")
@click.option("--cut-after", type=int, default=0, help="Cut it after this APDU, unanswered.")
def run(
    image: Path,
    runtime: str,
    links: tuple[str, ...],
    form: str | None,
    screen: Path | None,
    host: str,
    port: int,
    contactless: bool,
    cut_write: int | None,
    cut_before: int,
    cut_after: int,
) -> Report:
    """Put a card into a running virtual reader (vpcd), or behind other links, until Ctrl-C or a power cut.

    Example: chipcash sim run a.img --link serial=a.tty, and elsewhere chipcash card info serial:a.tty

    Of a card with buttons, a line `confirm` or `refuse` on standard input presses one.
    """
    _can_run(runtime)
    profile = forms.FORMS[form] if form is not None else None
    shows = profile is not None and profile.display is not None
    if screen is not None and not shows:
        raise click.UsageError("--screen needs a --form that has a screen: visual-bluetooth.")
    card = emulator.Card(
        image,
        runtime,
        contactless,
        cut_write=cut_write,
        cut_before=cut_before,
        cut_after=cut_after,
        confirm_above=(profile.confirm_above or 0) if profile is not None else 0,
    )
    if profile is not None:
        links = links or profile.places
    if links:
        return _run_behind(card, links, shows, screen)
    faulty = cut_write is not None or cut_before or cut_after
    # Only a reader of this machine can be one that its PC/SC shows.
    others = _occupied() if host in _HERE else None
    shown: str | None = None
    reason = "removed"
    try:
        with until_ended():
            card.insert(port, host)
            with progress(f"Putting {image} into the reader at {host} port {port}"):
                shown = _wait_until_shown(card, others)
            if card.alive:
                where = f"the reader “{shown}”" if shown else f"the reader at {host} port {port}"
                click.echo(f"{image} is in {where} ({runtime}). Ctrl-C takes it out.", err=True)
                if others is not None and shown is None:
                    click.echo(
                        "But PC/SC does not show it: does the reader hold another card?", err=True
                    )
            while card.alive:
                time.sleep(_LOOK_S)
            reason = "the power was cut, or the reader is gone"
    finally:
        card.remove()
    if shown is None and reason != "removed" and not faulty:
        raise SimError(
            f"No virtual reader took the card at {host} port {port}.",
            hint="Start pcscd with vsmartcard-vpcd, or use `chipcash sim exec`.",
        )
    return Report({"image": str(image), "reader": shown, "ended": reason}, [f"{image}: {reason}"])


def _can_run(runtime: str) -> None:
    """Raise SimError if what is to run a card is not installed."""
    if runtime == "micropython":
        try:
            find("micropython")
            compile_tree()
        except RuntimeMissing as missing:
            raise SimError(
                f"The card cannot run: {missing}.", hint="Or say --runtime cpython."
            ) from None


def _run_behind(
    card: emulator.Card, links: tuple[str, ...], shows: bool, screen: Path | None
) -> Report:
    """Run a card behind these links until it ends or is ended. shows: it has a screen and buttons; screen:
    file for its picture."""
    made: list[places.Place] = []
    front: panel.FrontPanel | None = None
    reason = "removed"
    try:
        with until_ended():
            for link in links:
                kind, _, where = link.partition("=")
                if kind not in places.NAMES:
                    raise click.UsageError(f"--link {link}: write one of {', '.join(places.NAMES)}")
                try:
                    made.append(places.make(kind, where))
                except ValueError as error:
                    raise click.UsageError(f"--link {link}: {error}") from None
            if shows:
                front = panel.FrontPanel()
            places.put(card, *made, front=front)
            paths = ", ".join(place.path for place in made)
            buttons = f" Its buttons: {', '.join(panel.BUTTONS)}." if front is not None else ""
            click.echo(
                f"{card.image} is at {paths} ({card.runtime}). Ctrl-C takes it out.{buttons}",
                err=True,
            )
            for place in made:
                for name, value in place.environment.items():
                    click.echo(f"Where {place.path} is used: export {name}='{value}'", err=True)
            if front is not None:
                _attend(card, front, screen)
            while card.alive:
                time.sleep(_LOOK_S)
            reason = "the power was cut"
    except emulator.CardRemoved as removed:
        raise SimError(f"{card.image} did not start: {removed}.") from None
    except ImportError as error:
        raise SimError(
            f"The emulated hardware cannot be loaded: {error}.",
            hint="Run: pip install 'chipcash[sim]'",
        ) from None
    finally:
        card.remove()
        for place in made:
            place.close()
        if front is not None:
            front.close()
    return Report(
        {"image": str(card.image), "paths": [place.path for place in made], "ended": reason},
        [f"{card.image}: {reason}"],
    )


def _attend(card: emulator.Card, front: panel.FrontPanel, screen: Path | None) -> None:
    """Until the card ends: draw its screen, and press what standard input names. Raises SimError."""
    keys = [] if sys.stdin is None else [sys.stdin.fileno()]
    typed = b""
    drawn = None
    while card.alive:
        if screen is not None and front.frame != drawn:
            drawn = front.frame
            _draw(drawn, screen)
        if not select.select(keys, [], [], _LOOK_S)[0]:
            continue
        data = os.read(keys[0], 1024)
        if not data:
            keys = []  # closed; select() only waits from now on
        *lines, typed = (typed + data).split(b"\n")
        for line in lines:
            button = line.decode(errors="replace").strip()
            if button in panel.BUTTONS:
                with contextlib.suppress(CardGone):  # it ends just now
                    front.press(button)
            elif button:
                click.echo(f"No such button. There are: {', '.join(panel.BUTTONS)}", err=True)


def _draw(frame: bytes, screen: Path) -> None:
    """Write a picture, at once and whole, for whoever watches the file. Raises SimError."""
    part = screen.with_name(screen.name + ".part")
    try:
        part.write_bytes(panel.png(frame))
        part.replace(screen)
    except ImportError:
        raise SimError(
            "The card's screen cannot be drawn: Pillow is not installed. No money is concerned.",
            hint="Run: pip install pillow",
        ) from None
    except OSError as error:
        raise SimError(
            f"The card's screen cannot be written to {screen}: {error.strerror}.",
            hint="Choose a file in a folder that you may write to.",
        ) from None


@command.command("serve")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@listen_options(8701)
@click.option("--allow-remote", is_flag=True, help="Let other machines use the cards, too.")
def serve(directory: Path, host: str, port: int, allow_remote: bool) -> None:
    """Let programs make, insert, tear and read the cards of DIRECTORY over HTTP, until Ctrl-C.

    It is told by OpenAPI at /openapi.json. There is no authentication.
    """
    from chipcash.rack import Rack
    from chipcash.rack_http import Service

    directory.mkdir(parents=True, exist_ok=True)
    with until_ended(), Rack(directory.absolute(), pcscd.current()) as rack:
        server = Service(rack, host, port, allow_remote)
        show(Report({"url": server.url}, [f"The cards of {directory} are at {server.url}"]))
        server.run()


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.option(
    "--card",
    "images",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Image of a card to insert; repeat for more readers.",
)
@_runtime_option
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(images: tuple[Path, ...], runtime: str, program: tuple[str, ...]) -> Report:
    """Run a program beside a private PC/SC service with these cards inserted, one reader each.

    Example: chipcash sim exec --card a.img -- opensc-tool -l
    """
    reason = pcscd.available()
    if reason:
        raise SimError(f"A private PC/SC service cannot run here: {reason}", hint="chipcash doctor")
    _can_run(runtime)
    inner = [sys.executable, "-m", "chipcash.cli.sim_exec", runtime, str(len(images))]
    inner += [str(image.absolute()) for image in images] + list(program)
    outer = [
        sys.executable,
        "-m",
        "chipcash_sim.pcscd",
        "--readers",
        str(len(images)),
        "--",
        *inner,
    ]
    # With --json standard output is the one object's.
    as_json = click.get_current_context().meta["json"]
    process = subprocess.Popen(outer, stdout=sys.stderr if as_json else None)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        code = process.wait()
    return Report({"program": list(program), "exit_code": code}, [], exit_code=code)


def inside(arguments: list[str]) -> int:
    """Inside the private PC/SC service: insert the cards, run the program, take the cards out."""
    runtime, count = arguments[0], int(arguments[1])
    images, program = arguments[2 : 2 + count], arguments[2 + count :]
    ports = [int(port) for port in os.environ["CHIPCASH_VPCD_PORTS"].split(",")]
    cards = [emulator.Card(image, runtime) for image in images]
    try:
        for card, port in zip(cards, ports, strict=True):
            others = _occupied()
            card.insert(port)
            if _wait_until_shown(card, others) is None and not card.alive:
                print(f"{card.image} did not stay in its reader.", file=sys.stderr)
                return EXIT_FAILED
        return subprocess.run(program, check=False).returncode
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    finally:
        for card in cards:
            card.remove()


def _occupied() -> set[str] | None:
    """Readers that hold a card, None where PC/SC cannot be asked."""
    try:
        return set(pcsc.occupied_readers())
    except TransportError:
        return None


def _wait_until_shown(card: emulator.Card, others: set[str] | None) -> str | None:
    """The reader, none of others, in which PC/SC shows the card; None if it does not, or cannot tell."""
    deadline = time.monotonic() + (_UNSEEN_S if others is None else _SHOWN_S)
    while card.alive and time.monotonic() < deadline:
        if others is not None:
            now = _occupied() or set()
            if now - others:
                return (now - others).pop()
            others = others & now  # the card before this one leaves
        time.sleep(_LOOK_S)
    return None

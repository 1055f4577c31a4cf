# SPDX-License-Identifier: Apache-2.0
"""What all commands share: `--json`, one way to print, one place where failures become text and exit code.

A command returns a Report; nothing below prints. Prompts and progress go to stderr, so that output
can be piped. What only some commands need is imported where it is used: a till should not wait for it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from chipcash.errors import ChipcashError
from chipcash.transports import TRAFFIC, Connection, open_path
from chipcash_wire import commands as c
from chipcash_wire.tlv import WireError

if TYPE_CHECKING:
    import ssl

    from chipcash.card import Card
    from chipcash.center.client import CenterClient
    from chipcash.trust import Trust

_Function = TypeVar("_Function", bound=Callable[..., Any])

EXIT_FAILED = 1
"""What has no exit code of its own, and answers that are a "no"."""
EXIT_USAGE = 2
EXIT_FAULT = 70
"""A fault of this program (EX_SOFTWARE of sysexits.h)."""
EXIT_INTERRUPTED = 130

DEFAULT_CENTER = "http://127.0.0.1:8700"


@dataclass
class Report:
    """What a command found: data for `--json`, lines for people.

    exit_code: for answers that are themselves a "no", such as a doctor that found something.
    """

    data: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    exit_code: int = 0


class Command(click.Command):
    """A click command with `--json`, which prints the Report that it returns.

    A command that goes on after it has said what it has to say prints with show() and returns None.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and print what it returns."""
        ctx.meta["json"] = ctx.params.pop("as_json")
        report: Report | None = super().invoke(ctx)
        if report is not None:
            show(report)
            ctx.exit(report.exit_code)


class Group(click.Group):
    """A group whose commands are Commands."""

    command_class = Command
    group_class = type


class Root(Group):
    """The group of all: its subcommands are modules, imported when asked for, and it ends the program.

    modules: a package and the modules in it that each have a `command`; failures are told here, as text
    or, with `--json`, as one JSON object.
    """

    def __init__(self, *args: Any, modules: tuple[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._package, self._names = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands."""
        return sorted(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in self._names:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name}")
        command: click.Command = module.command
        return command

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> NoReturn:
        """Run and exit. No traceback reaches a user, but that of a fault who asks for it with -vv."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in takewhile(lambda word: word != "--", words)
        options["standalone_mode"] = False
        try:
            code = super().main(words, *more, **options)
        except Exception as error:
            code = _fail(error, as_json)
            if code == EXIT_FAULT and any(word.startswith("-vv") for word in words):
                traceback.print_exc()
        sys.exit(code)


def show(report: Report) -> None:
    """Print a report, as the command that is running was asked to."""
    if click.get_current_context().meta["json"]:
        click.echo(json.dumps(report.data))
        return
    for line in report.lines:
        click.echo(_printable(line))


def _fail(error: Exception, as_json: bool) -> int:
    """Tell a failure; the exit code for it."""
    told = _told(error)
    if as_json:
        click.echo(json.dumps(told))
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    else:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        for line in str(told["message"]).splitlines():
            click.echo(_printable(f"Error: {line}"), err=True)
        for line in [*str(told["hint"]).splitlines(), *_for_customer(told)]:
            click.echo(_printable(f"  {line}"), err=True)
    code = told["exit_code"]
    assert isinstance(code, int)
    return code


def _for_customer(told: dict[str, object]) -> list[str]:
    """What to tell who wanted to pay, where a failure has a word for him."""
    facts = told["facts"]
    words = facts.get("customer") if isinstance(facts, dict) else None
    return [f"Tell the customer: {words}"] if words else []


def _told(error: Exception) -> dict[str, object]:
    """Any failure as the object that --json prints."""
    if isinstance(error, ChipcashError):
        return error.as_dict()
    hint, code, name = "", EXIT_FAILED, type(error).__name__
    if isinstance(error, click.Abort):
        message = "Interrupted."
        hint = "Nothing is lost: ask how it stands, and repeat it if it has not happened."
        code, name = EXIT_INTERRUPTED, "Interrupted"
    elif isinstance(error, click.ClickException):
        message, code = error.format_message(), EXIT_USAGE
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"Help: {error.ctx.command_path} --help"
    elif isinstance(error, WireError):
        message = f"These bytes are no chipcash object of the kind expected: {error}."
        hint = "Nothing was changed."
    elif isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        message = f"{where}{error.strerror or error}."
        hint = "See that it is there, that you may use it, and that the disk has room; then repeat."
    else:
        message = f"chipcash has a fault: {name}: {error}"
        hint = (
            "What was stored before is safe; ask again to see whether it happened. "
            "Please report it with the output of the same command after `chipcash -vv`."
        )
        code = EXIT_FAULT
    return {"error": name, "message": message, "hint": hint, "exit_code": code, "facts": {}}


def _printable(line: str) -> str:
    """A line without control characters: cards and centers of others must not drive the terminal."""
    return "".join(x if x.isprintable() else "\N{REPLACEMENT CHARACTER}" for x in line)


def start_logging(verbosity: int) -> None:
    """-v: information, -vv: debugging, -vvv: the bytes on the link. To stderr; never secrets."""
    level = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}.get(verbosity, TRAFFIC)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s")
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner with the elapsed time on stderr while something takes long, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(text)
        yield


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """How much of something long is done, on stderr if that is a terminal: a function to call with how much,
    of how much."""
    if not sys.stderr.isatty():
        yield lambda done, size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text)
        yield lambda done, size: bar.update(task, completed=done, total=size)


_AGAIN_S = 0.01
"""After how long an interrupt that was lost is sent again, seconds: what lost it is over by then."""


@contextmanager
def until_ended() -> Iterator[None]:
    """For what runs on until Ctrl-C, or until a service manager ends it: that is how it ends, no failure.
    In the main thread."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    told = sys.unraisablehook

    def tell(lost: sys.UnraisableHookArgs) -> None:
        # Python goes on after what is raised in a weak reference's callback or a finalizer, and an import
        # has such callbacks: without this the command would run on, and whoever ends it would wait.
        if lost.exc_type is KeyboardInterrupt:
            threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            told(lost)

    sys.unraisablehook = tell
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        sys.unraisablehook = told
        for number, handler in before.items():
            signal.signal(number, handler)


# Values ---------------------------------------------------------------------------------------------


class Yuan(click.ParamType):  # type: ignore[type-arg]  # click 8.2 has none
    """An amount of money as people write it, `36.80` or `12`, taken as whole fen. least: fen that it has."""

    name = "yuan"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fen. Fails on more than two decimals, signs, and what is below the least."""
        if isinstance(value, int):
            return value
        whole, point, part = str(value).partition(".")
        digits = whole + part.ljust(2, "0")
        if not digits.isascii() or not digits.isdigit() or len(part) > 2 or (point and not part):
            self.fail(f"{value!r} is no amount; write yuan like 36.80", param, ctx)
        fen = int(digits[:40])
        if not self._least <= fen < 1 << 63:
            least = "be above zero and " if self._least else ""
            self.fail(f"the amount must {least}fit 63 bits of fen", param, ctx)
        return fen


class Hex(click.ParamType):  # type: ignore[type-arg]
    """A key or id as people copy it: so many bytes in hex.

    sizes: the lengths it may have, in bytes; first: the bytes that it may begin with, if not all.
    """

    name = "hex"

    def __init__(self, *sizes: int, first: bytes = bytes(range(256))) -> None:
        self.sizes = sizes
        self.first = first

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """The bytes."""
        if isinstance(value, bytes):
            return value
        try:
            data = bytes.fromhex(value)
        except ValueError:
            data = b""
        if len(data) not in self.sizes or len(value) != 2 * len(data):
            digits = " or ".join(str(2 * size) for size in self.sizes)
            self.fail(f"{value!r} is not {digits} digits of hex", param, ctx)
        if data[0] not in self.first:
            self.fail(f"{value!r} is no compressed public key", param, ctx)
        return data


YUAN = Yuan()
YUAN_OR_NONE = Yuan(least=0)
TRACE_VARIABLE = "CHIPCASH_TRACE"
"""Names a file to which everything that passes between a command and a card is written."""
KEY = Hex(33, first=b"\x02\x03")


def yuan(fen: int) -> str:
    """Fen as people read them: 3680 is 36.80."""
    return f"{fen // 100}.{fen % 100:02d}"


def when(seconds: int) -> str:
    """A time as people read it: ISO 8601, local."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # objects hold times up to the year 36812
        return f"{seconds} s after 1970"


def table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of names and values, the values below each other."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    return [f"{name + ':':{width}}{value}" for name, value in rows]


def ask_pin(
    what: str = "PIN",
    variable: str = "CHIPCASH_PIN",
    *,
    new: bool = False,
    digits: tuple[int, int] = (c.PIN_MIN, c.PIN_MAX),
) -> str:
    """A PIN or PUK from the terminal, unseen, or for scripts from an environment variable.

    new: ask twice; digits: least and most. What cannot be right is refused before it costs a try.
    """
    code = os.environ.get(variable)
    if code is None:
        code = str(click.prompt(what, hide_input=True, err=True, confirmation_prompt=new))
    least, most = digits
    if not code.isascii() or not code.isdigit() or not least <= len(code) <= most:
        count = str(least) if least == most else f"{least} to {most}"
        raise click.UsageError(f"A {what} has {count} digits.")
    return code


@contextmanager
def pin_hint(with_pin: bool) -> Iterator[None]:
    """Add to a card's wish for its PIN how this command line gives it."""
    from chipcash.card import PinError

    try:
        yield
    except PinError as error:
        if error.sw == c.SW_SECURITY and not with_pin:
            error.hint += " With --pin you are asked for it."
        raise


# Options that several commands have -------------------------------------------------------------------

card_path = click.argument("path", envvar="CHIPCASH_CARD", default="pcsc:", metavar="[CARD]")


def wait_for(what: str, seconds: float = 10) -> Callable[[_Function], _Function]:
    """The option --wait: how long to wait for that."""
    return click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help=f"How long to wait for {what}.",
    )


wait_option = wait_for("a card on the reader")

pin_option = click.option(
    "--pin", "with_pin", is_flag=True, help="Ask for the card's PIN (or take it from CHIPCASH_PIN)."
)


def _network_option(required: bool, help: str) -> Callable[[_Function], _Function]:
    return click.option(
        "--network",
        "network_file",
        envvar="CHIPCASH_NETWORK",
        show_envvar=True,
        required=required,
        type=click.Path(exists=required, dir_okay=False, path_type=Path),
        help=help,
    )


network_option = _network_option(True, "The network's public file, network.ccn: what is trusted.")
card_network_option = _network_option(
    False, "The network's public file: a PIN goes over the air to cards of this network only."
)


def _tls_option(name: str, help: str) -> Callable[[_Function], _Function]:
    """An option that only center_at() asks for."""

    def keep(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
        ctx.meta[name] = value

    return click.option(
        f"--{name}",
        envvar=f"CHIPCASH_{name.upper().replace('-', '_')}",
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        expose_value=False,
        callback=keep,
        help=help,
    )


def center_tls_options(function: _Function) -> _Function:
    """The options that say how a center is spoken to whose URL is known: see center_at()."""
    for option in (
        _tls_option(
            "center-cert", "An institution's certificate for it, and its private key: PEM."
        ),
        _tls_option(
            "center-ca", "Who certifies an https center: PEM; else whom the system trusts."
        ),
    ):
        function = option(function)
    return function


def center_option(function: _Function) -> _Function:
    """The options that say where the center is, and how it is spoken to: see center_at()."""
    return click.option(
        "--center",
        "url",
        envvar="CHIPCASH_CENTER",
        show_envvar=True,
        default=DEFAULT_CENTER,
        show_default=True,
        metavar="URL",
        help="Where the registration center is.",
    )(center_tls_options(function))


suite_option = click.option(
    "--suite",
    type=click.Choice(["p256", "gm"]),
    default="p256",
    show_default=True,
    help="Crypto: ECDSA P-256 with SHA-256, or SM2 with SM3.",
)


def _home_option(required: bool) -> Callable[[_Function], _Function]:
    return click.option(
        "--home",
        "directory",
        envvar="CHIPCASH_HOME",
        show_envvar=True,
        required=required,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The network's home directory, which holds its keys.",
    )


home_option = _home_option(True)
optional_home_option = _home_option(False)


def listen_options(port: int) -> Callable[[_Function], _Function]:
    """The options that say where a service listens: host, port. port: the one by default."""

    def add(function: _Function) -> _Function:
        function = click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Port; 0 takes a free one.",
        )(function)
        return click.option(
            "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
        )(function)

    return add


PEM_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file with certificates or a key."""


def tls_options(function: _Function) -> _Function:
    """The options that have a service speak TLS: tls_cert, tls_key. See server_tls()."""
    function = click.option(
        "--tls-key", type=PEM_FILE, help="Its private key, where --tls-cert does not hold it."
    )(function)
    return click.option(
        "--tls-cert",
        type=PEM_FILE,
        help="The service's certificate, and those between it and its authority: PEM.",
    )(function)


def server_tls(
    certificate: Path | None, key: Path | None, client_ca: Path | None = None
) -> ssl.SSLContext | None:
    """What those options ask for, None for none. Raises TlsError, UsageError."""
    from chipcash.tls import server_context

    if certificate is not None:
        return server_context(certificate, key, client_ca)
    if key or client_ca:
        raise click.UsageError("--tls-key and --client-ca go with --tls-cert.")
    return None


def _host_name(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    for name in value:
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9:][A-Za-z0-9.:-]*", name):
            raise click.BadParameter(f"{name!r} is no host: give it without https:// and port.")
    return value


def names_option(function: _Function) -> _Function:
    """The option that says under which hosts pages are opened: names. See page_names()."""
    return click.option(
        "--name",
        "names",
        multiple=True,
        metavar="HOST",
        callback=_host_name,
        help="Another host name under which browsers open the pages, as behind a proxy; may come several"
        " times. Known are this machine's own, --host, and those that --tls-cert is for.",
    )(function)


def page_names(names: Sequence[str], certificate: Path | None) -> list[str]:
    """The hosts that names_option and a service's certificate tell. Raises TlsError."""
    from chipcash import tls

    return [*names, *([] if certificate is None else tls.names(certificate))]


def connection_at(path: str, wait: float) -> Connection:
    """The card at a path, waited for; a context manager."""
    with progress(f"Waiting for a card at {path}"):
        connection = open_path(path, wait=wait)
    trace = os.environ.get(TRACE_VARIABLE)
    if not trace:
        return connection
    from chipcash.trace import Recorder

    try:
        return Recorder(connection, Path(trace))
    except BaseException:
        connection.close()
        raise


@contextmanager
def card_at(
    path: str,
    wait: float,
    pin: str | None = None,
    *,
    network: Path | None = None,
    secret: bool = False,
) -> Iterator[Card]:
    """The card at a path, its application selected; with a PIN in a PIN session.

    secret: a PIN or PUK will be sent to it. network: the public file of the network whose cards are trusted
    with one over the air.
    """
    from chipcash.card import Card
    from chipcash.genuine import keep_secret
    from chipcash.trust import Trust

    with connection_at(path, wait) as connection:
        card = Card(connection)
        card.select()
        if secret or pin is not None:
            trust = None
            if network is not None and connection.over_air:  # else the file need not even be there
                trust = Trust.load(network)
            keep_secret(card, trust)
        if pin is not None:
            card.verify_pin(pin)
        yield card


def center_at(url: str, trust: Trust, *, timeout: float = 30.0) -> CenterClient:
    """A client of the registration center at a URL; a context manager. For https as the running command's
    options say. timeout: seconds for one request."""
    return center_of_options(timeout)(url, trust)


def center_of_options(timeout: float) -> Callable[[str, Trust], CenterClient]:
    """What makes such clients also when the running command's options are out of reach, in other threads."""
    from chipcash.center.client import CenterClient
    from chipcash.tls import client_context

    meta = click.get_current_context().meta
    ca, own = meta.get("center-ca"), meta.get("center-cert")
    tls = client_context(ca, own) if ca or own else None

    def client(url: str, trust: Trust) -> CenterClient:
        return CenterClient(url, trust, timeout=timeout, tls=tls)

    return client

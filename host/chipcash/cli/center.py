# SPDX-License-Identifier: Apache-2.0
"""`chipcash center`: run the registration center of a home directory, and ask one questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from chipcash.backup import back_up
from chipcash.center.client import CenterClient
from chipcash.center.collector import collect_seldom
from chipcash.center.limits import Limits
from chipcash.center.publishing import LogWriter, compare
from chipcash.center.recovery import recover as take_from_log
from chipcash.center.storage import is_postgres
from chipcash.center.storage import upgrade as bring_up_to_date
from chipcash.cli import partitions
from chipcash.cli.base import (
    KEY,
    PEM_FILE,
    YUAN_OR_NONE,
    Group,
    Hex,
    Report,
    center_at,
    center_option,
    home_option,
    listen_options,
    network_option,
    progress,
    server_tls,
    show,
    suite_option,
    table,
    tls_options,
    until_ended,
    when,
    yuan,
)
from chipcash.cli.logs import WITNESS
from chipcash.cli.staff import command as staff
from chipcash.home import Home
from chipcash.home import init as make_home
from chipcash.log.cosigning import Witness
from chipcash.logs import log_to
from chipcash.trust import Trust
from chipcash_wire import objects as o

_Function = TypeVar("_Function", bound=Callable[..., Any])

_AGE = click.IntRange(0, 365 * 24)
_REASONS = {o.REASON_REPEAT_PAYMENT: "repeat payment", o.REASON_LOST: "lost"}


def _rate_option(name: str, default: int, who: str) -> Callable[[_Function], _Function]:
    return click.option(
        name,
        type=click.FloatRange(min=0),
        default=default,
        show_default=True,
        help=f"Requests in a second from {who}; 0 is without limit.",
    )


@click.group("center", cls=Group)
def command() -> None:
    """The registration center: run one, ask one."""


command.add_command(partitions.work)
command.add_command(partitions.command)
command.add_command(staff)


@command.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@suite_option
@click.option(
    "--network-id",
    default="TEST",
    show_default=True,
    help="4 characters, or 8 digits of hex; test networks begin with T.",
)
@click.option(
    "--ledger",
    metavar="URL",
    help="An empty PostgreSQL database for the ledger, postgresql://USER@HOST/NAME; else it is a file.",
)
@partitions.init_options
def init(
    directory: Path,
    suite: str,
    network_id: str,
    ledger: str | None,
    settings: partitions.Settings,
) -> Report:
    """Make a network: keys of all institutions, its public file, an empty ledger.

    With --partitions its coins are in several ledgers: see docs/partitions.md.
    """
    if ledger is not None and not is_postgres(ledger):
        raise click.BadParameter("it does not begin with postgresql://", param_hint="--ledger")
    cluster = settings.cluster(directory)
    home = make_home(
        directory, suite, _network(network_id), ledger=ledger, partitions=settings.partitions
    )
    if cluster is not None:
        cluster.make_users()
        cluster.save()
    trust = home.trust()
    data = {
        "directory": str(directory),
        "network_file": str(home.network_file),
        "log_key": home.log_key_file.read_text("utf-8").strip(),
        "network": trust.network.hex(),
        "suite": suite,
        "certification_key": trust.certification_key.hex(),
        "issuer_key": trust.issuer_key.hex(),
        "center_key": trust.center_key.hex(),
        "bank_key": home.key("bank").public.hex(),
    }
    lines = [
        f"{directory} is the home of the network {network_id}, suite {suite}.",
        f"Give {home.network_file} to everybody; keep the .key files and the databases to yourself.",
        f"Start its center: chipcash center serve --home {directory}"
        if cluster is None
        else f"Start NATS with {directory / 'nats.conf'}, then: chipcash center partitions setup",
    ]
    return Report(data, lines)


@command.command("serve")
@home_option
@listen_options(8700)
@click.option(
    "--witness",
    "witnesses",
    type=WITNESS,
    multiple=True,
    metavar="KEY@URL",
    help="Who cosigns the log: its key string, @, and its URL; may come several times.",
)
@click.option(
    "--no-logs",
    is_flag=True,
    help="A further gateway of a center of several ledgers: another one writes the logs.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that verify signatures, best as many as processors; 1 is the center itself.",
)
@tls_options
@click.option(
    "--client-ca",
    type=PEM_FILE,
    help="Who certifies institutions: what is for them then wants a certificate.",
)
@_rate_option("--rate", 20, "an address; what comes in 10 s may come at once")
@_rate_option("--institution-rate", 200, "an institution that shows its certificate")
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Most connections at once.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy, or a network of them, that is believed about whom it asks for (X-Forwarded-For);"
    " may come several times.",
)
@click.option(
    "--log",
    "log_file",
    metavar="FILE",
    help="Write a line of JSON for each request and event; - is stderr. No keys, ids or addresses.",
)
def serve(
    directory: Path,
    host: str,
    port: int,
    witnesses: tuple[Witness, ...],
    no_logs: bool,
    processes: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    rate: float,
    institution_rate: float,
    connections: int,
    proxies: tuple[str, ...],
    log_file: str | None,
) -> None:
    """Run the center until Ctrl-C. Prints its URL once it answers; its log is at URL/log."""
    tls = server_tls(tls_cert, tls_key, client_ca)
    if log_file is not None:
        log_to(log_file)
    home = Home(directory)
    if processes > 1 and home.cluster() is not None:
        raise click.UsageError("--processes is for one ledger; here the workers verify.")
    if no_logs and home.cluster() is None:
        raise click.UsageError("--no-logs is for a center of several ledgers; this one has one.")
    with until_ended(), closing(home.center()) as center, ExitStack() as stack:
        if processes > 1:
            center.check_in(processes)
        log, writer = None, None
        if not no_logs:
            log = home.log()
            stack.callback(log.close)
            writer = LogWriter(center, log, witnesses)
            writer.begin()
        from chipcash.center.service import Service  # brings the HTTP server, which only this needs

        server = Service(
            center,
            host,
            port,
            log,
            tls=tls,
            limits=Limits(rate or None, institution_rate or None),
            connections=connections,
            proxies=proxies,
        )
        with ExitStack() as writing:
            if writer is not None:
                writing.enter_context(writer)
                writing.enter_context(partitions.log_writers(home, center, witnesses))
            collect_seldom()
            show(Report({"url": server.url}, [f"The registration center is at {server.url}"]))
            server.run()


@command.command("accounts")
@network_option
@center_option
def accounts(network_file: Path, url: str) -> Report:
    """What was issued, is live, is redeemed; and who owns how much."""
    with _center(network_file, url) as center:
        data = center.accounts()
    lines = table(
        [
            ("issued", f"{yuan(data['issued_fen'])} yuan"),
            ("live", f"{yuan(data['live_fen'])} yuan"),
            ("redeemed", f"{yuan(data['redeemed_fen'])} yuan"),
            *((f"  {owner}", f"{yuan(fen)} yuan") for owner, fen in data["owners"].items()),
        ]
    )
    return Report(data, lines)


@command.command("coin")
@click.argument("serial", type=Hex(16))
@network_option
@center_option
def coin(serial: bytes, network_file: Path, url: str) -> Report:
    """A coin's owners now, and its whole life."""
    with _center(network_file, url) as center:
        data = center.coin(serial)
    lines = [f"Coin {data['serial']} of {yuan(data['amount_fen'])} yuan", "Now:"]
    for part in data["partition"]:
        owner = f"of {part['owner']}" if part["owner"] else part["state"]
        lines.append(f"  fen {part['lo']} to {part['hi']} {owner}")
    lines.append("Its life:")
    for event in data["history"]:
        to = f" to {event['to']}" if event["to"] else ""
        lines.append(
            f"  {when(event['time'])}  {event['event']} fen {event['lo']} to {event['hi']}{to}"
        )
    return Report(data, lines)


@command.command("claim")
@click.argument("claim_id", type=Hex(32))
@network_option
@center_option
def claim(claim_id: bytes, network_file: Path, url: str) -> Report:
    """What became of a claim: settled or not, who bears a loss, evidence."""
    with _center(network_file, url) as center:
        data = center.claim(claim_id)
    lines = table(
        [
            ("amount", f"{yuan(data['amount_fen'])} yuan"),
            ("payer", data["payer"]),
            ("payee", data["payee"]),
            ("registered", when(data["registered"])),
        ]
    )
    for outcome in data["outcomes"]:
        reclaimed = ", reclaimed since" if outcome["reclaimed"] else ""
        lines.append(
            f"  fen {outcome['lo']} to {outcome['hi']} of title {outcome['title_id']}: "
            f"{outcome['state']}{reclaimed}"
        )
    loss = data["loss"]
    if loss["guarantee_fund_fen"] or loss["payee_fen"]:
        lines.append(
            f"The guarantee fund bears {yuan(loss['guarantee_fund_fen'])} yuan of the loss, "
            f"the payee {yuan(loss['payee_fen'])}."
        )
    lines += [f"Evidence: {digest}" for digest in data["evidence"]]
    return Report(data, lines)


@command.command("blacklist")
@click.option(
    "--since",
    type=click.IntRange(0, (1 << 32) - 1),
    default=0,
    show_default=True,
    help="Only entries after this number.",
)
@network_option
@center_option
def blacklist(since: int, network_file: Path, url: str) -> Report:
    """Keys that nobody should accept, and why."""
    with _center(network_file, url) as center:
        entries, signed_time = center.blacklist(since)
    data = {
        "time": signed_time.time,
        "sequence": signed_time.sequence,
        "entries": [
            {
                "sequence": entry.sequence,
                "key": entry.subject.hex(),
                "reason": _REASONS.get(entry.reason, str(entry.reason)),
                "time": entry.time,
                "evidence": None if entry.digest is None else entry.digest.hex(),
            }
            for entry in entries
        ],
    }
    lines = []
    for entry in entries:
        reason = _REASONS.get(entry.reason, str(entry.reason))
        proof = f", evidence {entry.digest.hex()}" if entry.digest is not None else ""
        lines.append(
            f"{entry.sequence:>4}  {when(entry.time)}  {entry.subject.hex()} {reason}{proof}"
        )
    lines.append(f"{len(entries)} entries, as of {when(signed_time.time)}")
    return Report(data, lines)


@command.command("check")
@home_option
def check(directory: Path) -> Report:
    """Prove that no fen is missing from the ledger, none is there twice, and that its log says the same."""
    home = Home(directory)
    with closing(home.center()) as center, progress("Checking every coin"):
        center.check()
        totals = center.accounts()
        logged = compare(center, home.log_reader()).entries
        logged += partitions.compare_all(home, center)
    data = {
        "conserved": True,
        **{name: fen for name, fen in totals.items() if name != "owners"},
        "log_entries": logged,
    }
    return Report(
        data,
        [
            f"Conserved: {yuan(totals['issued_fen'])} yuan issued = {yuan(totals['live_fen'])} live "
            f"+ {yuan(totals['redeemed_fen'])} redeemed, each fen of each coin once.",
            f"The log's {logged} entries say the same.",
        ],
    )


@command.command("backup")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@home_option
def backup(target: Path, directory: Path) -> Report:
    """Copy books and log to the new directory TARGET while the center runs. Keys are not copied."""
    home = Home(directory)
    with progress("Copying"):
        complete = back_up(home, target)
    lines = [f"{target} holds the books and the log; keep the .key files elsewhere."]
    if not complete:
        lines.append("The ledger is in PostgreSQL: back that up now, after this (pg_dump).")
    return Report({"directory": str(target), "ledger": complete}, lines)


@command.command("recover")
@partitions.recover_options
@home_option
def recover(chosen: partitions.Chosen, directory: Path) -> Report:
    """Bring the ledger of an older backup forward by a newer log; end the center first.

    All of the log is audited before any of it counts, and the ledger is checked afterwards. Of a center of
    several ledgers all are brought forward, each by its log, or those partitions that are named: that goes
    while it runs.
    """
    home = Home(directory)
    partitions.need_recoverable(home, chosen)
    taken = 0
    if not chosen.numbers:
        # Who has the log is alone: no center serves meanwhile.
        with (
            closing(home.home_ledger()) as center,
            closing(home.log()) as log,
            progress("Replaying the log"),
        ):
            log.publish_rest()
            taken = take_from_log(center, home.log_reader())
    found = partitions.recover(home, chosen)
    taken += sum(facts or 0 for facts in found.values())
    data: dict[str, Any] = {"facts": taken}
    if home.cluster() is not None:
        data["recovered"] = [number for number, facts in found.items() if facts is not None]
    return Report(
        data,
        [f"{taken} facts of the log were missing in the ledger, and are there now."]
        if taken
        else ["Nothing of the log was missing in the ledger."],
    )


@command.command("upgrade")
@home_option
def upgrade(directory: Path) -> Report:
    """Bring the ledger of an older chipcash to this one's; back it up first, and end its centers."""
    home = Home(directory)
    with progress("Bringing the ledger up to date"):
        bring_up_to_date(home.ledger())
        cluster = home.cluster()
        if cluster is not None:
            cluster.upgrade()
        home.begin_logs(None if cluster is None else cluster.partitions)
    return Report({"upgraded": True}, ["The ledger is up to date: chipcash center check"])


@command.command("rules")
@home_option
@click.option("--per-payment", type=YUAN_OR_NONE, help="Most yuan of one offline payment.")
@click.option("--per-card", type=YUAN_OR_NONE, help="Most yuan pending from one card at one till.")
@click.option("--per-shift", type=YUAN_OR_NONE, help="Most yuan pending of a till's open shift.")
@click.option("--in-all", type=YUAN_OR_NONE, help="Most yuan pending at one till.")
@click.option(
    "--pending-age", type=_AGE, help="How old a till's oldest pending payment may be, hours."
)
@click.option("--blacklist-age", type=_AGE, help="How old a till's blacklist may be, hours.")
@click.option(
    "--guarantee",
    type=YUAN_OR_NONE,
    help="Most yuan of a disputed payment that the guarantee fund bears.",
)
def rules(directory: Path, guarantee: int | None, **limits: int | None) -> Report:
    """What tills may take offline; with options, change it, and restart the center.

    A till learns it with its next synchronisation. Where the center has several gateways or workers, set
    it in the home of each.
    """
    home = Home(directory)
    home.trust()  # first: a directory without it is no home at all
    before = home.parameters()
    chosen = {
        name: value * 3600 if name.endswith("_age") else value
        for name, value in limits.items()
        if value is not None
    }
    now = replace(before, terminal=replace(before.terminal, **chosen))
    if guarantee is not None:
        now = replace(now, guarantee=guarantee)
    if now != before:
        now.save(home.parameters_file)
    limit = now.terminal
    lines = table(
        [
            ("one payment", f"at most {yuan(limit.per_payment)} yuan"),
            ("pending from one card", f"at most {yuan(limit.per_card)} yuan"),
            ("pending of a shift", f"at most {yuan(limit.per_shift)} yuan"),
            ("pending in all", f"at most {yuan(limit.in_all)} yuan"),
            ("oldest pending payment", f"at most {limit.pending_age / 3600:g} hours"),
            ("blacklist", f"at most {limit.blacklist_age / 3600:g} hours old"),
            ("guarantee fund bears", f"at most {yuan(now.guarantee)} yuan of a disputed payment"),
        ]
    )
    if now != before:
        lines.append("Restart the center; tills learn it with their next synchronisation.")
    data = {
        name if name.endswith("_age") else f"{name}_fen": value
        for name, value in {**asdict(limit), "guarantee": now.guarantee}.items()
    }
    return Report({**data, "changed": now != before}, lines)


@command.command("block")
@click.argument("key", type=KEY)
@home_option
def block(key: bytes, directory: Path) -> Report:
    """Put the KEY of a lost card on the blacklist. There is no way back."""
    with closing(Home(directory).center()) as center:
        center.block(key)
        sequence = center.signed_time().sequence
    return Report(
        {"key": key.hex(), "sequence": sequence},
        [f"{key.hex()} is on the blacklist; tills refuse it from their next synchronisation on."],
    )


def _network(text: str) -> bytes:
    """A network id from its 4 characters or 8 digits of hex."""
    if re.fullmatch("[0-9a-fA-F]{8}", text):
        return bytes.fromhex(text)
    if len(text) == 4 and text.isascii() and text.isprintable():
        return text.encode()
    raise click.BadParameter(
        f"{text!r} is not 4 characters or 8 digits of hex", param_hint="--network-id"
    )


@contextmanager
def _center(network_file: Path, url: str) -> Iterator[CenterClient]:
    with center_at(url, Trust.load(network_file)) as client, progress(f"Asking {url}"):
        yield client

# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos keys`, `mirror` and `recover`: what a till needs so that a lost disk loses nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chipcash.cli.base import (
    PEM_FILE,
    Command,
    Group,
    Report,
    listen_options,
    progress,
    server_tls,
    show,
    table,
    tls_options,
    until_ended,
    yuan,
)
from chipcash.cli.till import pos_option
from chipcash.pos import Pos, PosError, keys

if TYPE_CHECKING:
    from chipcash.pos.mirror import MirrorState

__all__ = ["ask_for_keys", "key_option", "keys_command", "mirror", "recover"]

PASSPHRASE_VARIABLE = "CHIPCASH_PASSPHRASE"

key_option = click.option(
    "--key",
    "custody",
    default=keys.FILE,
    show_default=True,
    metavar="WHERE",
    help="Where its keys are kept: file, keyring, a card in a second reader: sam:PATH, or a PKCS#11 URI: "
    "pkcs11:token=…?module-path=…",
)


def ask_for_keys() -> None:
    """Ask for the PIN of what keeps a till's key, where somebody is there to be asked."""
    if sys.stdin.isatty():
        keys.asking = lambda what: str(click.prompt(what, hide_input=True, err=True))


def _passphrase(*, new: bool) -> str:
    known = os.environ.get(PASSPHRASE_VARIABLE)
    if known is None:
        known = str(click.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=new))
    if new and len(known) < 12:
        raise click.UsageError(
            "A passphrase needs at least 12 characters: it is all that guards the keys."
        )
    return known


@click.command("keys", cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@pos_option
def keys_command(file: Path, directory: Path) -> Report:
    """Put the till's keys away into a FILE, under a passphrase. Once: they never change.

    Keep it where the till's disk is not. With it and the mirror `chipcash pos recover` brings the till back.
    """
    from chipcash.pos.recovery import save_keys

    save_keys(directory, _passphrase(new=True), file)
    return Report(
        {"file": str(file)},
        [f"{file} holds the till's keys. Keep it elsewhere, and the passphrase apart from it."],
    )


@click.group("mirror", cls=Group)
def mirror() -> None:
    """A second copy of the till's books, never behind: on another disk, or with another till.

    "Paid" is said when the payment is in both. A till that cannot write its mirror takes no money.
    """


@mirror.command("set")
@click.argument("where", metavar="FOLDER|URL")
@click.option(
    "--ca", type=PEM_FILE, help="Who certifies an https peer: PEM; else whom the system trusts."
)
@pos_option
def mirror_set(where: str, ca: Path | None, directory: Path) -> Report:
    """Mirror the books in a FOLDER, best on another disk, or with the till at a URL. All of them, at once."""
    if "://" not in where:
        where = str(Path(where).absolute())
    with Pos(directory) as pos, progress(f"Copying the books to {where}"):
        network = (directory / "network.ccn").read_bytes().hex()
        pos.store.set_mirror(
            where, mirror_ca="" if ca is None else str(ca.absolute()), mirror_network=network
        )
    return Report({"mirror": where}, [f"The books are mirrored in {where} from now on."])


@mirror.command("off")
@pos_option
def mirror_off(directory: Path) -> Report:
    """Go on without a mirror: from then on a lost disk loses what was not deposited."""
    with Pos(directory) as pos:
        before = pos.store.mirror
        pos.store.set_mirror("")
    return Report(
        {"mirror": None, "was": before},
        [
            "The till goes on without a mirror.",
            f"What is in {before} grows old: never recover from it. Delete it."
            if before
            else "It had none.",
        ],
    )


@mirror.command("show")
@pos_option
def mirror_show(directory: Path) -> Report:
    """Where the mirror is, whether it answers, and this till's mirror id."""
    from chipcash.pos.mirror_peer import mirror_id

    with Pos(directory) as pos:
        where = pos.store.mirror
        state = pos.store.mirror_state()
        books_key = keys.custody_of(directory).books_key()
        custody = keys.custody_of(directory).path
    name = "" if books_key is None else mirror_id(books_key)
    rows = [("keys", custody), ("mirror", where or "none"), ("mirror id", name)]
    return Report(
        {"mirror": where or None, "id": name, "keys": custody, "whole": _whole(state)},
        [*table(rows), *(["It answers, and is this till's."] if where else [])],
    )


def _whole(state: MirrorState | None) -> bool:
    return state is not None and not state.ended


@mirror.command("serve")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--till",
    "tills",
    multiple=True,
    required=True,
    metavar="ID",
    help="Mirror id of a till that may mirror here (chipcash pos mirror show); may come several times.",
)
@listen_options(8741)
@tls_options
def mirror_serve(
    folder: Path,
    tills: tuple[str, ...],
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Keep mirrors of other tills in a FOLDER until Ctrl-C. Prints its URL once it answers."""
    from chipcash.pos.mirror_peer import mirror_service
    from chipcash.web import Service

    for till in tills:
        if len(till) != 32 or not set(till) <= set("0123456789abcdef"):
            raise click.UsageError(f"{till!r} is no mirror id: chipcash pos mirror show tells it.")
    tls = server_tls(tls_cert, tls_key)
    if tls is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise click.UsageError("Other tills are let in over TLS only: give --tls-cert.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with until_ended():
        service = Service(mirror_service(folder, tills), host, port, "mirror", tls=tls)
        show(
            Report(
                {"url": service.url, "tills": list(tills)}, [f"Mirrors are kept at {service.url}"]
            )
        )
        service.run()


@click.command("recover", cls=Command)
@click.argument("where", metavar="MIRROR")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--keys", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file that `chipcash pos keys` wrote; not needed where a token has the keys.",
)  # fmt: skip
@key_option
@click.option(
    "--ca", type=PEM_FILE, help="Who certifies an https MIRROR: PEM; else whom the system trusts."
)
@click.option(
    "--original-is-lost",
    "lost",
    is_flag=True,
    help="The till whose mirror it is will never be used again.",
)
def recover(
    where: str, directory: Path, file: Path | None, custody: str, ca: Path | None, lost: bool
) -> Report:
    """Bring a lost till back in a new DIRECTORY, from its MIRROR and its keys.

    The old till, should it still be there, is shut out of its mirror and stops.
    """
    from chipcash.pos.recovery import load_keys
    from chipcash.pos.recovery import recover as recover_till

    if not lost:
        raise PosError(
            "Two tills with one key would spend the same money twice, and be accused of it. Nothing was "
            "changed.",
            hint="If the till whose mirror this is works, use it. If it is broken, stolen or lost, say so: "
            "--original-is-lost. Its mirror is then closed to it; it must not come back, even so.",
        )
    if "://" not in where:
        where = str(Path(where).absolute())
    kept = None if file is None else load_keys(file, _passphrase(new=False))
    with progress(f"Getting the books from {where}"):
        done = recover_till(
            where,
            directory,
            kept=kept,
            custody=custody,
            ca="" if ca is None else str(ca.absolute()),
        )
    with Pos(directory) as pos:
        balance = pos.balance()
        requests = len(pos.open_requests())
        names = {name for shift in pos.shifts() for name in (shift.opened_by, shift.closed_by)}
    staff = sorted(name for name in names if name)
    lines = [
        f"{directory} is the till {done.public.hex()}, and goes on with its mirror.",
        f"Verified {yuan(balance.verified_fen)} yuan, pending {yuan(balance.pending_fen)}.",
        "See what its last entries are (chipcash pos last, transfers), then synchronise it.",
        "Nobody can log in to its page yet: accounts are not in a mirror. Make them anew:"
        " chipcash pos staff add NAME --role manager",
    ]
    if staff:
        lines.append(f"Its shifts were had by {', '.join(staff)}.")
    if requests:
        lines.append(f"{requests} requests are open: a card may have paid them.")
    if done.cut_off:
        lines.append("A last entry was not finished, so nobody was told of it; it was left out.")
    data = {
        "key": done.public.hex(),
        "verified_fen": balance.verified_fen,
        "pending_fen": balance.pending_fen,
        "open_requests": requests,
        "had_shifts": staff,
        "cut_off_bytes": done.cut_off,
    }
    return Report(data, lines)

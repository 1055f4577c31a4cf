# SPDX-License-Identifier: Apache-2.0
"""`chipcash card`: what its holder, or the counter of a bank, does with a card."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from chipcash import qr
from chipcash.cli.base import (
    EXIT_FAILED,
    YUAN,
    Group,
    Hex,
    Report,
    ask_pin,
    card_at,
    card_network_option,
    card_path,
    center_at,
    center_option,
    home_option,
    network_option,
    pin_hint,
    pin_option,
    progress,
    progress_bar,
    table,
    wait_option,
    when,
    yuan,
)
from chipcash.cli.codes import payee_id, picture_option, scanned, shown
from chipcash.clock import system_clock
from chipcash.errors import LinkLostError
from chipcash.trust import Trust, object_id
from chipcash_wire import commands as c
from chipcash_wire import objects as o

_LIFE = {
    o.LIFE_BLANK: "blank",
    o.LIFE_KEYED: "keyed",
    o.LIFE_PERSONALISED: "personalised",
    o.LIFE_SAM: "a till's SAM",
}
_KEY_PLACE: dict[int | None, tuple[str | None, str]] = {
    o.KEY_IN_FLASH: ("flash", "the card's flash: no secure element holds it"),
    o.KEY_IN_ELEMENT: ("element", "a secure element"),
}
_SUITES = {number: name for name, number in o.SUITES.items()}
_PUK = (c.PUK_SIZE, c.PUK_SIZE)


@click.group("card", cls=Group)
def command() -> None:
    """Cards: look at one, synchronise it, personalise it, pay bills with it.

    CARD is a path: `pcsc:` the first reader with a card, `pcsc:NAME` that reader, `sim:IMAGE` an emulated
    card. Without it, that of CHIPCASH_CARD, or `pcsc:`.
    """


@command.command("info")
@card_path
@pin_option
@card_network_option
@wait_option
def info(path: str, with_pin: bool, network_file: Path | None, wait: float) -> Report:
    """What a card is: life, key, certificate, limits; its balance only with the PIN."""
    pin = ask_pin() if with_pin else None
    with card_at(path, wait, pin, network=network_file) as card:
        found = card.info()
        personal = found.lifecycle == o.LIFE_PERSONALISED
        certificate = card.certificate() if personal else None
        risk = card.risk() if personal else None
    life = _LIFE.get(found.lifecycle, str(found.lifecycle))
    build = found.build.decode("ascii", "replace")
    data: dict[str, Any] = {
        "life": life,
        "build": build,
        "key_place": _KEY_PLACE.get(found.key_place, (None, ""))[0],
        "pin_tries": found.pin_tries,
        "counter": found.counter,
        "time": found.time,
        "spent_fen": found.spent,
        "payments": found.payments,
        "balance_fen": found.balance,
        "pending_fen": found.pending,
    }
    rows = [("life", life), ("build", build)]
    if found.key_place in _KEY_PLACE:
        rows.append(("key is in", _KEY_PLACE[found.key_place][1]))
    if certificate is not None and risk is not None:
        data |= {**_certificate(certificate), **_limits(risk)}
        rows += [
            *_certificate_rows(certificate),
            ("newest time", when(found.time)),
            (
                "limits",
                f"{yuan(risk.per_payment)} yuan a payment, {yuan(risk.pin_free)} without the PIN",
            ),
            (
                "offline",
                f"{yuan(found.spent)} of {yuan(risk.cumulative)} yuan, "
                f"{found.payments} of {risk.count} payments since the last synchronisation",
            ),
            ("payments ever", str(found.counter)),
            ("PIN tries left", str(found.pin_tries)),
        ]
    if found.balance is not None:
        rows.append(("balance", f"{yuan(found.balance)} yuan"))
    if found.pending:
        rows.append(
            ("received", f"{yuan(found.pending)} yuan, pending repeat payment verification")
        )
    return Report(data, table(rows))


@command.command("titles")
@card_path
@card_network_option
@wait_option
def titles(path: str, network_file: Path | None, wait: float) -> Report:
    """The money on a card, title by title. Asks for the PIN."""
    with card_at(path, wait, ask_pin(), network=network_file) as card:
        records = list(card.titles())
    found = [
        {
            "serial": record.title.serial.hex(),
            "epoch": record.title.epoch,
            "lo": record.lo,
            "hi": record.title.hi,
            "fen": record.title.hi - record.lo,
            "expiry": record.title.expiry,
            "texts": qr.encode(record.title.encode()),  # for the verification site
        }
        for record in records
    ]
    total = sum(record.title.hi - record.lo for record in records)
    lines = [
        f"{yuan(record.title.hi - record.lo):>12} yuan  fen {record.lo} to {record.title.hi} of coin "
        f"{record.title.serial.hex()}, good until {when(record.title.expiry)}"
        for record in records
    ]
    lines.append(f"{yuan(total):>12} yuan in all")
    return Report({"balance_fen": total, "titles": found}, lines)


@command.command("log")
@card_path
@card_network_option
@wait_option
def log(path: str, network_file: Path | None, wait: float) -> Report:
    """The last payments that a card remembers, the last one first. Asks for the PIN."""
    with card_at(path, wait, ask_pin(), network=network_file) as card:
        claims = [payment.claim for payment in card.payments()]
    found = [
        {
            "counter": claim.counter,
            "amount_fen": claim.amount,
            "payee": claim.payee.hex(),
            "time": claim.time,
            "deadline": claim.deadline,
            "claim_id": object_id(claim).hex(),
        }
        for claim in claims
    ]
    lines = [
        f"{when(claim.time)}  {yuan(claim.amount):>10} yuan to {claim.payee.hex()} (number {claim.counter})"
        for claim in claims
    ]
    return Report({"payments": found}, lines or ["This card has not paid yet."])


@command.command("check")
@card_path
@network_option
@wait_option
def check(path: str, network_file: Path, wait: float) -> Report:
    """Have a card prove that it is a certified card of this network, and tell by which firmware."""
    from chipcash.genuine import genuine

    trust = Trust.load(network_file)
    with card_at(path, wait) as card:
        proof, certificate = genuine(card, trust, secrets.token_bytes(16))
    build = proof.build.decode("ascii", "replace")
    expired = certificate.expiry <= system_clock()
    verdict = "Genuine: the card holds the key that this network certified."
    if expired:
        verdict += " But its certificate has expired, so no terminal takes it."
    return Report(
        {"genuine": True, "expired": expired, "build": build, **_certificate(certificate)},
        [verdict, *table([*_certificate_rows(certificate), ("firmware", f"{build}, it says")])],
    )


@command.command("update")
@click.argument(
    "image", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="IMAGE"
)
@card_path
@pin_option
@card_network_option
@wait_option
def update(
    image: Path, path: str, with_pin: bool, network_file: Path | None, wait: float
) -> Report:
    """Give a card, over any of its links, the next version of its firmware.

    IMAGE: a file that the publisher of the card's firmware signed (.ccf). The card checks it before it
    changes anything, goes on with the firmware that it has, and starts the new one when power has been off
    and on. Whatever breaks off leaves it as it was; its key and money are not touched. It wants its PIN, if
    it has one.
    """
    from chipcash.firmware import Update

    found = Update.load(image)
    pin = ask_pin() if with_pin else None
    with card_at(path, wait, pin, network=network_file) as card, pin_hint(with_pin):
        before = card.info().build.decode("ascii", "replace")
        with progress_bar(f"Updating the card to {found.build}") as told:
            found.send(card, told)
    data = {
        "build": found.build,
        "before": before,
        "target": found.target,
        "bytes": found.head.size,
    }
    return Report(
        data,
        [
            f"The card has firmware {found.build} in place of {before}.",
            "It starts it when its power has been off and on.",
        ],
    )


@command.command("sync")
@card_path
@network_option
@center_option
@pin_option
@wait_option
def sync(path: str, network_file: Path, url: str, with_pin: bool, wait: float) -> Report:
    """Synchronise a card: bring the money that is its own, and with the PIN renew its limits.

    With the PIN also what its last payments left with terminals that never deposited it.
    """
    from chipcash.cardholder import synchronise
    from chipcash.center.errors import CenterRefused

    trust = Trust.load(network_file)
    pin = ask_pin() if with_pin else None
    with card_at(path, wait, pin, network=network_file) as card, center_at(url, trust) as center:
        with progress(f"Synchronising with {url}"):
            done = synchronise(card, center, trust)
        balance = card.info().balance
    data = {
        "loaded": len(done.loaded),
        "loaded_fen": done.loaded_fen,
        "reclaimed_fen": done.reclaimed_fen,
        "received_fen": done.received_fen,
        "lost_fen": done.lost_fen,
        "limits_renewed": done.limits_renewed,
        "refused": done.refused,
        "left": done.left,
        "balance_fen": balance,
    }
    lines = []
    if done.loaded:
        lines.append(
            f"The card got {yuan(done.loaded_fen)} yuan, of which {yuan(done.reclaimed_fen)} came back."
        )
    else:
        lines.append("There was no money to bring.")
    if done.received_fen or done.lost_fen:
        lines.append(
            f"Of what other cards had paid to it, {yuan(done.received_fen)} yuan are verified."
        )
    if done.lost_fen:
        lines.append(
            f"{yuan(done.lost_fen)} yuan are not: they were paid elsewhere before, or came too late."
        )
    if done.left:
        lines.append(
            f"{done.left} more titles found no room on the card: spend, then synchronise again."
        )
    if done.limits_renewed:
        lines.append("Its limits are renewed.")
    elif done.refused:
        lines.append(f"Its limits are not renewed: {done.refused}")
    else:
        lines.append("Its limits are renewed with the PIN only: add --pin.")
    if balance is not None:
        lines.append(f"Its balance is {yuan(balance)} yuan.")
    return Report(data, lines, exit_code=CenterRefused.exit_code if done.refused else 0)


@command.command("send")
@click.argument("amount", type=YUAN)
@click.argument("payer", metavar="PAYER")
@click.argument("payee", metavar="PAYEE")
@click.option("--request", type=Hex(16), help="Finish this request, which broke off before.")
@pin_option
@card_network_option
@wait_option
def send(
    amount: int,
    payer: str,
    payee: str,
    request: bytes | None,
    with_pin: bool,
    network_file: Path | None,
    wait: float,
) -> Report:
    """Pay AMOUNT from the card PAYER to the card PAYEE. Needs no network.

    The receiving card keeps it as pending; its holder synchronises it with the center later, with its PIN.
    """
    from chipcash import touch

    pin = ask_pin() if with_pin else None
    with (
        card_at(payee, wait) as to,
        card_at(payer, wait, pin, network=network_file) as card,
        pin_hint(with_pin),
    ):
        claim = touch.send(card, to, amount, system_clock(), request)
    return Report(
        {
            "amount_fen": claim.amount,
            "payee": claim.payee.hex(),
            "nonce": claim.nonce.hex(),
            "claim_id": object_id(claim).hex(),
            "deadline": claim.deadline,
        },
        [
            f"{yuan(claim.amount)} yuan are with the card {claim.payee.hex()}, "
            "pending repeat payment verification.",
            f"Before {when(claim.deadline)} it has to be synchronised: chipcash card sync --pin",
        ],
    )


@command.command("present")
@card_path
@picture_option
@wait_option
def present(path: str, picture: Path | None, wait: float) -> Report:
    """Show a card's certificate as a QR code, so that a till can make a bill for this card alone."""
    with card_at(path, wait) as card:
        certificate = card.certificate()
    report = Report(
        _certificate(certificate),
        ["Show this to the till (chipcash pos request --payer). It pays nothing."],
    )
    return shown(report, certificate, picture)


@command.command("answer")
@click.argument("text", metavar="TEXT")
@card_path
@click.option("--yes", is_flag=True, help="Pay without asking.")
@pin_option
@card_network_option
@picture_option
@wait_option
def answer(
    text: str,
    path: str,
    yes: bool,
    with_pin: bool,
    network_file: Path | None,
    picture: Path | None,
    wait: float,
) -> Report:
    """Pay the bill in the QR code that a till shows; shows the code that the till has to scan.

    TEXT: what a scanner read from the till, or - for a line of standard input. Given again before the bill
    expires, it shows the same payment again and pays nothing twice; later, with --pin, what the card's log
    still has.
    """
    from chipcash.payer import answer as pay

    bill = scanned((text,), o.Bill)
    request = bill.request
    payee = payee_id(request)
    if not yes:
        late = system_clock() > bill.expiry
        for line in table(
            [
                ("amount", f"{yuan(request.amount)} yuan"),
                ("payee", f"{payee}, which the till has to show too"),
                ("made", when(request.time)),
                (
                    "payable until",
                    when(bill.expiry) + (", which has passed" if late else ""),
                ),
            ]
        ):
            click.echo(line, err=True)
        if not click.confirm("Pay it?", err=True):
            return Report(
                {"paid": False}, ["Nothing was paid: no card was asked."], exit_code=EXIT_FAILED
            )
    pin = ask_pin() if with_pin else None
    with card_at(path, wait, pin, network=network_file) as card, pin_hint(with_pin):
        payment = pay(card, bill, system_clock())
    claim = payment.claim
    data = {
        "paid": True,
        "amount_fen": claim.amount,
        "payee": claim.payee.hex(),
        "payee_id": payee.replace(" ", ""),
        "nonce": claim.nonce.hex(),
        "claim_id": object_id(claim).hex(),
        "time": claim.time,
        "deadline": claim.deadline,
    }
    lines = [
        f"The card paid {yuan(claim.amount)} yuan to {payee}.",
        "Show this to the till, every part of it; only the till says whether it is accepted.",
    ]
    return shown(Report(data, lines), payment, picture)


@command.command("personalise")
@card_path
@home_option
@center_option
@click.option(
    "--tier",
    type=click.IntRange(1, 4),
    default=4,
    show_default=True,
    help="How well the holder is known: 1 best, with the highest limits.",
)
@click.option(
    "--form",
    type=click.Choice(o.FORMS[1:]),
    default=o.FORMS[o.FORM_IC_CARD],
    show_default=True,
    help="What kind of card it is.",
)
@wait_option
def personalise_card(
    path: str, directory: Path, url: str, tier: int, form: str, wait: float
) -> Report:
    """Make a blank card a card of a network. Asks for its new PIN; shows its PUK, this once."""
    return personalised(path, directory, url, tier, form, wait)


def personalised(path: str, directory: Path, url: str, tier: int, form: str, wait: float) -> Report:
    """What `chipcash card personalise` does, for other commands too."""
    from chipcash.bank.cards import new_puk, personalise
    from chipcash.home import Home

    home = Home(directory)
    trust, authority = home.trust(), home.authority()
    pin, puk = ask_pin("new PIN", "CHIPCASH_PIN", new=True), new_puk()
    with card_at(path, wait) as card, center_at(url, trust) as center:
        try:
            certificate = personalise(
                card,
                authority,
                center,
                trust,
                pin=pin,
                puk=puk,
                tier=tier,
                form=o.FORMS.index(form),
            )
        except LinkLostError:
            # The card may have it all the same, and then nobody would ever know its PUK.
            click.echo(f"If `chipcash card info` says personalised, its PUK is {puk}.", err=True)
            raise
    return Report(
        {"puk": puk, **_certificate(certificate)},
        [
            "The card is personalised.",
            *table(_certificate_rows(certificate)),
            f"Its PUK is {puk}. Write it down: it is shown this once and stored nowhere else.",
        ],
    )


@command.command("change-pin")
@card_path
@card_network_option
@wait_option
def change_pin(path: str, network_file: Path | None, wait: float) -> Report:
    """Change a card's PIN (for scripts: CHIPCASH_PIN and CHIPCASH_NEW_PIN)."""
    old = ask_pin()
    new = ask_pin("new PIN", "CHIPCASH_NEW_PIN", new=True)
    with card_at(path, wait, network=network_file, secret=True) as card:
        card.change_pin(old, new)
    return Report({"changed": True}, ["The PIN is changed."])


@command.command("unblock")
@card_path
@card_network_option
@wait_option
def unblock(path: str, network_file: Path | None, wait: float) -> Report:
    """Set a new PIN with the PUK (for scripts: CHIPCASH_PUK and CHIPCASH_NEW_PIN)."""
    puk = ask_pin("PUK", "CHIPCASH_PUK", digits=_PUK)
    new = ask_pin("new PIN", "CHIPCASH_NEW_PIN", new=True)
    with card_at(path, wait, network=network_file, secret=True) as card:
        card.unblock_pin(puk, new)
    return Report({"unblocked": True}, ["The new PIN is set."])


def _certificate(certificate: o.Certificate) -> dict[str, Any]:
    return {
        "key": certificate.subject.hex(),
        "network": certificate.header[:4].hex(),
        "suite": _SUITES[o.suite_of(certificate)],
        "tier": certificate.tier,
        "form": o.FORMS[certificate.form or 0],
        "certificate_expiry": certificate.expiry,
    }


def _certificate_rows(certificate: o.Certificate) -> list[tuple[str, str]]:
    network = certificate.header[:4]
    return [
        ("key", certificate.subject.hex()),
        ("network", f"{network.decode('latin-1')} ({network.hex()}), {_SUITES[o.suite_of(certificate)]}"),
        ("card", f"{o.FORMS[certificate.form or 0]}, tier {certificate.tier}"),
        ("certificate", f"good until {when(certificate.expiry)}"),
    ]  # fmt: skip


def _limits(risk: o.RiskParameters) -> dict[str, Any]:
    return {
        "limits": {
            "per_payment_fen": risk.per_payment,
            "pin_free_fen": risk.pin_free,
            "cumulative_fen": risk.cumulative,
            "count": risk.count,
            "window": risk.window,
            "horizon": risk.horizon,
            "sequence": risk.sequence,
        }
    }

# SPDX-License-Identifier: Apache-2.0
"""`chipcash pos`: a merchant's till: charge offline, synchronise, see what is verified, spend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from chipcash.center.errors import CenterUnreachable
from chipcash.cli import api, books, hooks, receipts
from chipcash.cli.base import (
    KEY,
    YUAN,
    Group,
    Hex,
    Report,
    ask_pin,
    card_path,
    center_at,
    center_option,
    connection_at,
    network_option,
    pin_hint,
    pin_option,
    progress,
    table,
    wait_for,
    when,
    yuan,
)
from chipcash.cli.codes import payee_id, picture_option, scanned, shown
from chipcash.cli.keeping import ask_for_keys, key_option, keys_command, mirror, recover
from chipcash.cli.till import operator_option, other_center_option, pos_option, run, staff
from chipcash.clock import DAY
from chipcash.pos import (
    BILL_SECONDS,
    AnswerLost,
    Charge,
    OpenRequest,
    Payment,
    PaymentState,
    Pos,
    PosError,
    Promise,
    PromiseState,
    Transfer,
)
from chipcash.pos.keys import custody_of
from chipcash.terminal import Policy
from chipcash.trust import Trust
from chipcash_wire import objects as o

_PENDING = "Pending Repeat Payment Verification"
_UNDECIDED = (PaymentState.PENDING, PaymentState.SUBMITTED)

_request_option = click.option(
    "--request", type=Hex(16), metavar="NONCE", help="Which open request; by default the newest."
)
_reference_option = click.option(
    "--reference",
    metavar="TEXT",
    help="Your name for this order: given again, it is the same order and paid once.",
)
_wait_option = wait_for("the customer's card", 60)


@click.group("pos", cls=Group)
def command() -> None:
    """A merchant's till: charge cards offline, settle online.

    Amounts are yuan. What is charged offline is Pending Repeat Payment Verification until `sync` has had
    it verified; only verified money can be spent, refunded or redeemed.
    """
    ask_for_keys()


command.add_command(run)
command.add_command(staff)
command.add_command(receipts.receipt)
command.add_command(receipts.shop)
command.add_command(hooks.command)
command.add_command(api.api)
for each in books.commands:
    command.add_command(each)
command.add_command(keys_command)
command.add_command(mirror)
command.add_command(recover)


@command.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@network_option
@key_option
@center_option
def init(directory: Path, network_file: Path, custody: str, url: str) -> Report:
    """Make a till in a new directory. Synchronise it before its first charge."""
    with Pos.init(directory, Trust.load(network_file), url, custody=custody) as pos:
        key = pos.public.hex()
    where = custody_of(directory).path
    return Report(
        {"directory": str(directory), "key": key, "center": url, "keys": where},
        [
            f"{directory} is a till; its key, to which money is paid, is {key}.",
            f"Its keys are kept in {where}.",
        ],
    )


@command.command("charge")
@click.argument("amount", type=YUAN)
@card_path
@pos_option
@operator_option
@pin_option
@click.option(
    "--fresh", is_flag=True, help="Another customer: repeat no open request of this amount."
)
@_wait_option
def charge(
    amount: int, path: str, directory: Path, operator: str, with_pin: bool, fresh: bool, wait: float
) -> Report:
    """Take AMOUNT from a card. Needs no network.

    If an answer to the same amount was lost before, that very request is repeated: nothing is paid twice.
    """
    pin = ask_pin() if with_pin else None
    with Pos(directory, operator=operator) as pos:
        opened = {request.nonce for request in pos.open_requests()}
        with connection_at(path, wait) as connection, pin_hint(with_pin):
            payment = pos.charge(connection, amount, pin=pin, fresh=fresh)
    return _paid(payment, repeated=payment.nonce in opened)


@command.command("retry")
@card_path
@pos_option
@_request_option
@pin_option
@_wait_option
def retry(path: str, directory: Path, request: bytes | None, with_pin: bool, wait: float) -> Report:
    """Repeat a request whose answer was lost, with the same card."""
    pin = ask_pin() if with_pin else None
    with (
        Pos(directory) as pos,
        connection_at(path, wait) as connection,
        pin_hint(with_pin),
    ):
        payment = pos.retry(connection, request, pin=pin)
    return _paid(payment, repeated=True)


@command.command("request")
@click.argument("amount", type=YUAN)
@pos_option
@click.option(
    "--seconds",
    type=click.IntRange(1, DAY),
    default=BILL_SECONDS,
    show_default=True,
    help="For how long a card may pay it.",
)
@click.option(
    "--payer",
    metavar="TEXT",
    help="What the customer showed first (chipcash card present), or -: only that card can pay.",
)
@picture_option
def request_amount(
    amount: int, directory: Path, seconds: int, payer: str | None, picture: Path | None
) -> Report:
    """Ask for AMOUNT by a QR code: a bill, for a customer to scan. Needs no network.

    The customer's app answers with a code of its own: `chipcash pos accept` takes it.
    """
    certificate = None if payer is None else scanned((payer,), o.Certificate)
    with Pos(directory) as pos:
        bill = pos.bill(amount, seconds=seconds, payer=certificate)
    payee = payee_id(bill.request)
    data = {
        "nonce": bill.request.nonce.hex(),
        "amount_fen": amount,
        "payee": bill.request.payee.hex(),
        "payee_id": payee.replace(" ", ""),
        "expiry": bill.expiry,
        "card": None if bill.subject is None else bill.subject.hex(),
    }
    lines = [
        f"{yuan(amount)} yuan, payable until {when(bill.expiry)}.",
        f"Payee {payee}: the customer's app has to show the same.",
    ]
    return shown(Report(data, lines), bill, picture)


@command.command("accept")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@pos_option
@operator_option
@click.option("--request", type=Hex(16), help="Take it for this bill only; else for any open one.")
def accept(texts: tuple[str, ...], directory: Path, operator: str, request: bytes | None) -> Report:
    """Take the payment in the code that a customer shows for a bill. Needs no network.

    TEXT: what a scanner reads, each part of the code, in any order; without it, lines of standard input.
    """
    payment = scanned(texts, o.Payment)
    with Pos(directory, operator=operator) as pos:
        return _paid(pos.accept(payment.encode(), request), repeated=False)


@command.command("give-up")
@pos_option
@_request_option
def give_up(directory: Path, request: bytes | None) -> Report:
    """Give an open request up: what a card has paid for it goes back to the customer."""
    with Pos(directory) as pos:
        void = pos.give_up(request)
    if void is None:
        return Report({"voided": False}, ["No card has paid that request: nothing was to give up."])
    return Report(
        {"voided": True, "nonce": void.nonce.hex(), "amount_fen": void.amount},
        [f"The request of {yuan(void.amount)} yuan is given up; `chipcash pos sync` sends the void."],
    )  # fmt: skip


@command.command("last")
@pos_option
def last(directory: Path) -> Report:
    """Did the last payment succeed? Exit code 0 yes, 1 no, 13 nobody here knows."""
    with Pos(directory) as pos:
        found = pos.last()
    if found is None:
        raise PosError("There never was a payment at this till.", hint="Charge a card.")
    data = {
        "paid": found.paid,
        "request": _request(found.request),
        "payment": None if found.payment is None else _payment(found.payment),
    }
    amount = f"{yuan(found.request.amount)} yuan at {when(found.request.time)}"
    return Report(data, _verdict(found, amount), exit_code=_LAST_CODES[found.paid])


_LAST_CODES = {True: 0, False: 1, None: AnswerLost.exit_code}


@command.command("list")
@pos_option
@click.option(
    "--state",
    type=click.Choice([str(state) for state in PaymentState], case_sensitive=False),
    help="Only payments in this state.",
)
def list_payments(directory: Path, state: str | None) -> Report:
    """Received payments, the newest first."""
    with Pos(directory) as pos:
        payments = pos.payments(None if state is None else PaymentState(state))
    lines = [_payment_line(payment) for payment in payments]
    return Report(
        {"payments": [_payment(payment) for payment in payments]}, lines or ["No payments."]
    )


@command.command("requests")
@pos_option
def requests(directory: Path) -> Report:
    """Open requests: a card may have paid them without an answer here."""
    with Pos(directory) as pos:
        found = pos.open_requests()
    lines = [
        f"{when(request.time)}  {yuan(request.amount):>10} yuan  {request.nonce.hex()}"
        + (f"  bill until {when(request.expiry)}" if request.expiry else "")
        + (f"  refused: {request.refused}" if request.refused else "")
        for request in found
    ]
    return Report(
        {"requests": [_request(request) for request in found]}, lines or ["No open requests."]
    )


@command.command("balance")
@pos_option
def balance(directory: Path) -> Report:
    """What is verified, and apart from it what is pending, until when it has to be deposited."""
    with Pos(directory) as pos:
        found, exposure = pos.balance(), pos.exposure()
        key = pos.public.hex()
    pending = [_payment(payment) for payment in found.pending]
    data = {name: value for name, value in asdict(found).items() if name != "pending"}
    rows = [
        ("verified", f"{yuan(found.verified_fen)} yuan, which can be spent"),
        (
            "pending",
            f"{yuan(found.pending_fen)} yuan {_PENDING}, which cannot",
        ),
    ]
    for name, fen in (
        ("leaving", found.leaving_fen),
        ("promised back", found.promised_fen),
        ("asked for", found.open_fen),
        ("disputed", found.disputed_fen),
        ("expired", found.expired_fen),
    ):
        if fen:
            rows.append((name, f"{yuan(fen)} yuan"))
    lines = table(rows)
    lines += [
        f"  {yuan(payment.amount):>10} yuan  deposit by {when(payment.deadline)}"
        for payment in found.pending
    ]
    if found.overdue_fen:
        lines.append(f"{yuan(found.overdue_fen)} yuan are OVERDUE: synchronise now.")
    if exposure.reached:
        lines.append("This till takes nothing more offline: synchronise now.")
    elif exposure.near:
        lines.append("What is pending nears the most that may be: synchronise soon.")
    exposed = {"pending_fen": exposure.pending_fen, "limit_fen": exposure.limit_fen}
    exposed |= {"near": exposure.near, "reached": exposure.reached}
    return Report({**data, "pending": pending, "key": key, "exposure": exposed}, lines)


@command.command("sync")
@pos_option
@other_center_option
def sync(directory: Path, url: str | None) -> Report:
    """Bring everything to the center, and its answers and news here. May be repeated at any time."""
    with Pos(directory) as pos:
        url = url or pos.center_url
        with center_at(url, pos.trust) as center, progress(f"Synchronising with {url}"):
            done = pos.sync(center)
        balance_now = pos.balance()
    data = {
        "changes": [
            {"before": str(change.before), **_payment(change.payment)} for change in done.changes
        ],
        "transfers": [_transfer(transfer) for transfer in done.transfers],
        "promises": [_promise(promise) for promise in done.promises],
        "voids_sent": done.voids_sent,
        "titles_received": done.titles_received,
        "blacklist_entries": done.blacklist_entries,
        "new_rules": done.new_rules,
        "time": done.time,
        "verified_fen": balance_now.verified_fen,
        "pending_fen": balance_now.pending_fen,
    }
    lines = [_payment_line(change.payment) for change in done.changes]
    lines += [_transfer_line(transfer) for transfer in done.transfers]
    lines += [_promise_line(promise) for promise in done.promises]
    if done.new_rules:
        lines.append("The center's rules for tills are new: chipcash pos policy")
    lines.append(
        f"Synchronised, as of {when(done.time)}. Verified {yuan(balance_now.verified_fen)} yuan, "
        f"pending {yuan(balance_now.pending_fen)}."
    )
    return Report(data, lines)


@command.command("spend")
@click.argument("amount", type=YUAN)
@click.argument("key", type=KEY)
@pos_option
@operator_option
@other_center_option
@_reference_option
def spend(
    amount: int, key: bytes, directory: Path, operator: str, url: str | None, reference: str | None
) -> Report:
    """Pay AMOUNT of verified money to a KEY, as to the merchant's bank. Online."""
    with Pos(directory, operator=operator) as pos, _sending(pos, url) as center:
        return _sent(pos.spend(amount, key, center, reference=reference))


@command.command("refund")
@click.argument("payment", type=Hex(16, 32))
@click.argument("amount", type=YUAN)
@pos_option
@operator_option
@other_center_option
@_reference_option
@picture_option
def refund(
    payment: bytes,
    amount: int,
    directory: Path,
    operator: str,
    url: str | None,
    reference: str | None,
    picture: Path | None,
) -> Report:
    """Give AMOUNT of a PAYMENT (its nonce or claim id) back to the card that paid it.

    Of verified money: online, at once. Of a pending payment: a promise, offline, with a code that proves it
    to the customer; the `sync` that has the payment verified carries it out.
    """
    with Pos(directory, operator=operator) as pos:
        if pos.payment(payment).state in _UNDECIDED:
            promise = pos.promise_refund(payment, amount, reference=reference)
            return _promised(promise, picture)
        with _sending(pos, url) as center:
            return _sent(pos.refund(payment, amount, center, reference=reference))


@command.command("promises")
@pos_option
def promises(directory: Path) -> Report:
    """Refunds that were promised of pending payments, the newest first."""
    with Pos(directory) as pos:
        found = pos.promises()
    return Report(
        {"promises": [_promise(promise) for promise in found]},
        [_promise_line(promise) for promise in found] or ["No promises."],
    )


@command.command("redeem")
@click.argument("amount", type=YUAN, required=False)
@pos_option
@operator_option
@other_center_option
@_reference_option
def redeem(
    amount: int | None, directory: Path, operator: str, url: str | None, reference: str | None
) -> Report:
    """Give AMOUNT, or all verified money, back to the central bank. Online."""
    with Pos(directory, operator=operator) as pos, _sending(pos, url) as center:
        return _sent(pos.redeem(center, amount, reference=reference))


@command.command("transfers")
@pos_option
def transfers(directory: Path) -> Report:
    """Verified money that left or is leaving, the newest first."""
    with Pos(directory) as pos:
        found = pos.transfers()
    return Report(
        {"transfers": [_transfer(transfer) for transfer in found]},
        [_transfer_line(transfer) for transfer in found] or ["No transfers."],
    )


@command.command("policy")
@pos_option
@click.option("--max-payment", type=YUAN, help="Most yuan of one offline payment.")
@click.option("--max-card", type=YUAN, help="Most yuan pending from one card.")
@click.option("--max-shift", type=YUAN, help="Most yuan pending of the open shift.")
@click.option("--max-pending", type=YUAN, help="Most yuan pending in all.")
@click.option(
    "--pending-days",
    type=click.IntRange(0, 365),
    help="How old the oldest pending payment may be, days.",
)
@click.option(
    "--deposit-days", type=click.IntRange(0, 365), help="Days that must be left to deposit it."
)
@click.option(
    "--blacklist-days", type=click.IntRange(0, 365), help="How old the blacklist may be, days."
)
@click.option(
    "--rules-only",
    is_flag=True,
    help="Drop the shop's own limits of what is pending; then set others.",
)
def policy(
    directory: Path,
    max_payment: int | None,
    max_card: int | None,
    max_shift: int | None,
    max_pending: int | None,
    pending_days: int | None,
    deposit_days: int | None,
    blacklist_days: int | None,
    rules_only: bool,
) -> Report:
    """What this till accepts; with options, change it.

    The center's rules hold as well, as the last synchronisation brought them: the shop can only be stricter.
    """
    chosen = {
        "max_per_payment": max_payment,
        "max_per_card": max_card,
        "max_per_shift": max_shift,
        "max_pending": max_pending,
        "pending_max_age": None if pending_days is None else pending_days * DAY,
        "least_time_to_deposit": None if deposit_days is None else deposit_days * DAY,
        "blacklist_max_age": None if blacklist_days is None else blacklist_days * DAY,
    }
    with Pos(directory) as pos:
        now = pos.policy
        if rules_only:
            now = replace(
                now, max_per_card=None, max_per_shift=None, max_pending=None, pending_max_age=None
            )
        now = replace(now, **{name: value for name, value in chosen.items() if value is not None})
        if now != pos.policy:
            pos.set_policy(now)
        limits, rules = pos.limits, pos.rules
    data = {
        **_policy(now),
        "limits": _policy(limits),
        "rules": None if rules is None else {"time": rules.time, "guarantee_fen": rules.guarantee},
    }
    lines = table(_policy_rows(limits))
    if rules is None:
        lines.append(
            "The center's rules are not here yet: synchronise; until then no card is asked."
        )
    else:
        lines.append(
            f"The shop's own and the center's rules of {when(rules.time)}, the stricter of both."
        )
    return Report(data, lines)


@contextmanager
def _sending(pos: Pos, url: str | None) -> Iterator[Any]:
    """The center for a transfer, which is recorded before it is sent."""
    url = url or pos.center_url
    with center_at(url, pos.trust) as center, progress(f"Paying at {url}"):
        try:
            yield center
        except CenterUnreachable as error:
            error.hint = (
                "The order is recorded; do not give it again: `chipcash pos sync` completes it."
            )
            raise


def _paid(payment: Payment, *, repeated: bool) -> Report:
    lines = [
        f"Paid: {yuan(payment.amount)} yuan, {_PENDING}.",
        f"Deposit it by {when(payment.deadline)}: chipcash pos sync",
    ]
    if repeated:
        lines.insert(1, f"This is the answer to the open request of {when(payment.time)}.")
    return Report({"paid": True, "repeated": repeated, **_payment(payment)}, lines)


def _sent(transfer: Transfer) -> Report:
    settled = transfer.settled_fen or 0
    lines = [_transfer_line(transfer)]
    if settled < transfer.amount:
        lines.append("The rest did not reach the payee: ask the center about the coins.")
    code = 0 if settled == transfer.amount else PosError.exit_code
    return Report(_transfer(transfer), lines, exit_code=code)


def _promised(promise: Promise, picture: Path | None) -> Report:
    report = Report(
        _promise(promise),
        [
            f"{yuan(promise.amount)} yuan are promised back: {promise.state}."
            f"{' ' + promise.reason if promise.reason else ''}",
            "The sync that has the payment verified pays it to the customer's card. What does not become "
            "money is not owed. The code is the customer's proof.",
        ],
    )
    return shown(report, o.RefundPromise.decode(promise.data), picture)


def _promise(promise: Promise) -> dict[str, Any]:
    return {
        "nonce": promise.nonce.hex(),
        "claim_id": promise.claim_id.hex(),
        "amount_fen": promise.amount,
        "paid_fen": promise.paid_fen,
        "time": promise.time,
        "state": str(promise.state),
        "reason": promise.reason,
        "reference": promise.reference,
    }


def _promise_line(promise: Promise) -> str:
    paid = f" {yuan(promise.paid_fen)} paid" if promise.state == PromiseState.PARTLY else ""
    reason = f"  {promise.reason}" if promise.reason else ""
    return (
        f"{when(promise.time)}  {yuan(promise.amount):>10} yuan of {promise.claim_id.hex()}: "
        f"{promise.state}{paid}{reason}"
    )


def _verdict(charge: Charge, amount: str) -> list[str]:
    if charge.payment is not None:
        return [f"Yes: {amount} is paid and {charge.payment.state}."]
    if charge.paid is None and charge.request.expiry is not None:
        return [
            f"Nobody here knows: for {amount} a bill was made, and no payment was shown for it.",
            "Take the customer's code (chipcash pos accept), or give it up (chipcash pos give-up).",
        ]
    if charge.paid is None:
        return [
            f"Nobody here knows: {amount} was asked for and the answer did not come.",
            "Tap the same card again (chipcash pos retry), or give it up (chipcash pos give-up).",
        ]
    return [f"No: {amount} is not paid, and the request is {charge.request.state}."]


def _payment(payment: Payment) -> dict[str, Any]:
    return {
        "claim_id": payment.claim_id.hex(),
        "nonce": payment.nonce.hex(),
        "amount_fen": payment.amount,
        "payer": payment.payer.hex(),
        "time": payment.time,
        "deadline": payment.deadline,
        "state": str(payment.state),
        "settled_fen": payment.settled_fen,
        "disputed_fen": payment.disputed_fen,
        "reason": payment.reason,
    }


def _payment_line(payment: Payment) -> str:
    reason = f"  {payment.reason}" if payment.reason else ""
    return (
        f"{when(payment.time)}  {yuan(payment.amount):>10} yuan  {payment.state:<9}  "
        f"{payment.claim_id.hex()}{reason}"
    )


def _request(request: OpenRequest) -> dict[str, Any]:
    return {
        "nonce": request.nonce.hex(),
        "amount_fen": request.amount,
        "time": request.time,
        "state": str(request.state),
        "card": None if request.card is None else request.card.hex(),
        "refused": request.refused,
        "expiry": request.expiry,
    }


def _transfer(transfer: Transfer) -> dict[str, Any]:
    return {
        "nonce": transfer.nonce.hex(),
        "kind": str(transfer.kind),
        "amount_fen": transfer.amount,
        "payee": transfer.payee.hex(),
        "time": transfer.time,
        "reference": transfer.reference,
        "settled_fen": transfer.settled_fen,
    }


def _transfer_line(transfer: Transfer) -> str:
    if transfer.settled_fen is None:
        state = "under way"
    elif transfer.settled_fen == transfer.amount:
        state = "done"
    else:
        state = f"only {yuan(transfer.settled_fen)} done"
    return (
        f"{when(transfer.time)}  {transfer.kind:<6}  {yuan(transfer.amount):>10} yuan to "
        f"{transfer.payee.hex()}: {state}"
    )


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "max_per_payment_fen": policy.max_per_payment,
        "max_per_card_fen": policy.max_per_card,
        "max_per_shift_fen": policy.max_per_shift,
        "max_pending_fen": policy.max_pending,
        "pending_max_age": policy.pending_max_age,
        "least_time_to_deposit": policy.least_time_to_deposit,
        "blacklist_max_age": policy.blacklist_max_age,
    }


def _policy_rows(policy: Policy) -> list[tuple[str, str]]:
    rows = [("offline payments", f"at most {yuan(policy.max_per_payment)} yuan")]
    for name, fen in (
        ("pending from one card", policy.max_per_card),
        ("pending of a shift", policy.max_per_shift),
        ("pending in all", policy.max_pending),
    ):
        if fen is not None:
            rows.append((name, f"at most {yuan(fen)} yuan"))
    if policy.pending_max_age is not None:
        rows.append(("oldest pending payment", f"at most {policy.pending_max_age / DAY:g} days"))
    return [
        *rows,
        ("time to deposit", f"at least {policy.least_time_to_deposit / DAY:g} days"),
        ("blacklist", f"at most {policy.blacklist_max_age / DAY:g} days old"),
    ]

# SPDX-License-Identifier: Apache-2.0
"""`chipcash bank`: what the operator of a home directory does as central bank and as commercial bank."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click

from chipcash import cardholder, files, genuine
from chipcash.bank.camt import VERSIONS, camt053, camt054
from chipcash.bank.issuing import IssuingLibrary
from chipcash.bank.library import BankLibrary, Transfer
from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterUnreachable
from chipcash.cli.base import (
    KEY,
    YUAN,
    Group,
    Report,
    card_at,
    card_path,
    center_at,
    center_option,
    home_option,
    progress,
    table,
    wait_option,
    when,
    yuan,
)
from chipcash.cli.books import days_option, period_of
from chipcash.clock import system_clock
from chipcash.errors import ChipcashError
from chipcash.home import Home
from chipcash.slips import read_slips
from chipcash.trust import object_id
from chipcash_wire import objects as o


@click.group("bank", cls=Group)
def command() -> None:
    """The banks of a network: issue money, load cards, redeem.

    One operator with one home directory plays the central bank (issuing library) and a commercial bank.
    """


@command.command("reserve")
@click.argument("amount", type=YUAN)
@home_option
def reserve(amount: int, directory: Path) -> Report:
    """Book AMOUNT that the bank has paid to the central bank."""
    with _banks(directory) as banks:
        now = banks.issuing.add_reserve(banks.bank.public, amount)
    return Report({"reserve_fen": now}, [f"The bank's reserve is {yuan(now)} yuan."])


@command.command("issue")
@click.argument("amount", type=YUAN)
@home_option
@center_option
def issue(amount: int, directory: Path, url: str) -> Report:
    """Create a coin of AMOUNT against the bank's reserve."""
    with _banks(directory, url) as banks:
        coin = banks.issuing.issue(banks.bank.public, amount)
        with _recorded(), progress(f"Registering the coin at {url}"):
            banks.bank.add(banks.center.register_coin(coin))
        balance = banks.bank.balance()
    return Report(
        {"serial": coin.serial.hex(), "amount_fen": amount, "balance_fen": balance},
        [
            f"Coin {coin.serial.hex()} of {yuan(amount)} yuan is issued.",
            f"The bank can pay out {yuan(balance)} yuan.",
        ],
    )


@command.command("load")
@click.argument("amount", type=YUAN)
@card_path
@home_option
@center_option
@wait_option
def load(amount: int, path: str, directory: Path, url: str, wait: float) -> Report:
    """Pay AMOUNT out to the card, which first has to prove that it is one of this network."""
    with _banks(directory, url) as banks, card_at(path, wait) as card:
        trust = banks.bank.trust
        _, certificate = genuine.genuine(card, trust, secrets.token_bytes(16))
        key = certificate.subject
        with _recorded(), progress(f"Paying at {url}"):
            titles = banks.bank.withdraw(amount, key).titles
        try:
            for title in titles:
                cardholder.load(card, title)
        except ChipcashError as error:
            error.hint = (
                f"The {yuan(amount)} yuan are the card's all the same: `chipcash card sync` brings them."
                " Do not pay them again."
            )
            raise
    return Report(
        {"amount_fen": amount, "key": key.hex(), "titles": len(titles)},
        [f"{yuan(amount)} yuan are on the card {key.hex()}."],
    )


@command.command("redeem")
@click.argument("amount", type=YUAN)
@home_option
@center_option
def redeem(amount: int, directory: Path, url: str) -> Report:
    """Give AMOUNT back to the central bank: it is destroyed, and the reserve is the bank's again."""
    with _banks(directory, url) as banks:
        with _recorded(), progress(f"Redeeming at {url}"):
            done = banks.bank.redeem(amount)
        banks.credit(done)
        now = banks.issuing.reserve(banks.bank.public)
        balance = banks.bank.balance()
    return Report(
        {"amount_fen": amount, "reserve_fen": now, "balance_fen": balance},
        [f"{yuan(amount)} yuan are redeemed; the bank's reserve is {yuan(now)} yuan."],
    )


@command.command("balance")
@home_option
def balance(directory: Path) -> Report:
    """What the bank can pay out, and its reserve."""
    with _banks(directory) as banks:
        data = {
            "balance_fen": banks.bank.balance(),
            "reserve_fen": banks.issuing.reserve(banks.bank.public),
        }
        key = banks.bank.public.hex()
    rows = [
        ("can pay out", f"{yuan(data['balance_fen'])} yuan"),
        ("reserve", f"{yuan(data['reserve_fen'])} yuan"),
        ("key", key),
    ]
    return Report({**data, "key": key}, table(rows))


@command.command("sync")
@home_option
@center_option
def sync(directory: Path, url: str) -> Report:
    """Complete what a crash or a dead line left undone, and take in what others paid to the bank.

    It registers coins, completes transfers and redemptions, takes titles of merchants' deposits, and
    renews expired ones. Repeat it as often as you like.
    """
    with _banks(directory, url) as banks, progress(f"Synchronising with {url}"):
        bank = banks.bank
        before = bank.balance()
        for coin in banks.issuing.coins():
            bank.add(banks.center.register_coin(coin))
        completed = bank.resume()
        credited = sum(banks.credit(redemption) for redemption in bank.redemptions())
        for title in banks.center.titles(bank.public):
            bank.add(title)
        renewed = bank.renew()
        now = bank.balance()
    return Report(
        {
            "completed": [
                {"payee": transfer.payee.hex(), "amount_fen": transfer.amount}
                for transfer in completed
            ],
            "credited_fen": credited,
            "renewed_fen": renewed,
            "received_fen": now - before,
            "balance_fen": now,
        },
        [
            *(
                f"Completed: {yuan(transfer.amount)} yuan to {transfer.payee.hex()}"
                for transfer in completed
            ),
            f"The bank can pay out {yuan(now)} yuan, {yuan(abs(now - before))} "
            f"{'more' if now >= before else 'less'} than before.",
        ],
    )


@command.command("merchant")
@click.argument("account")
@click.argument("name")
@click.option(
    "--till", "tills", type=KEY, multiple=True, help="The key of one of its tills; may come often."
)
@click.option(
    "--fee-bp",
    type=click.IntRange(0, 10000),
    metavar="N",
    help="What the bank keeps of a credit, in hundredths of a percent; by default as it was, at first 0.",
)
@home_option
def merchant(
    account: str, name: str, tills: tuple[bytes, ...], fee_bp: int | None, directory: Path
) -> Report:
    """Open a merchant's ACCOUNT, by its number, or add tills to it and change its NAME and fee."""
    with closing(Home(directory).accounts(create=True)) as accounts:
        found = accounts.add(account, name, tills, fee_bp)
    return Report(
        {
            "account": found.account,
            "name": found.name,
            "fee_bp": found.fee_bp,
            "tills": [key.hex() for key in found.tills],
        },
        [f"{found.account} is the account of {found.name}, with {len(found.tills)} tills."],
    )


@command.command("credit")
@click.argument(
    "slips",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@home_option
def credit(slips: tuple[Path, ...], directory: Path) -> Report:
    """Credit merchants with what their tills paid to the bank or redeemed, against their slips.

    FILE: of chipcash pos export --format slips. What was credited before is not credited again; what tills
    paid to others than this bank is passed over. The money itself is the bank's already; of what was redeemed
    the issuing library gives the bank its reserve.
    """
    home = Home(directory)
    done = []
    reserve = 0
    # All are read and checked before any is credited: where one is wrong, nothing was.
    given = [slip for file in slips for slip in read_slips(file.read_bytes())]
    with closing(home.accounts()) as accounts, _banks(directory) as banks:
        ours = [slip for slip in given if accounts.check(slip)]
        for slip in ours:
            found = accounts.credit(slip)
            titles = {object_id(title): title for title in slip.titles}
            for claim in slip.deposit.claims:
                if claim.payee == banks.bank.trust.issuer_key:
                    spent = tuple(titles[item.title_id] for item in claim.inputs)
                    reserve += banks.issuing.credit(claim, spent, slip.receipt, banks.bank.public)
            for title in slip.receipt.titles:
                if title.owner == banks.bank.public:
                    banks.bank.add(title)
            if found is not None:
                done.append(found)
    fen, fee = sum(x.fen for x in done), sum(x.fee for x in done)
    others = len(given) - len(ours)
    passed = [f"Passed over {others} of payments to others than this bank."] if others else []
    return Report(
        {
            "credits": [
                {
                    "number": x.number,
                    "nonce": x.nonce.hex(),
                    "till": x.till.hex(),
                    "redeemed": x.redeemed,
                    "amount_fen": x.fen,
                    "fee_fen": x.fee,
                }
                for x in done
            ],
            "amount_fen": fen,
            "fee_fen": fee,
            "reserve_fen": reserve,
            "passed_over": others,
        },
        [
            f"Credited {len(done)} times, {yuan(fen)} yuan in all, and kept {yuan(fee)} as fees.",
            *passed,
        ],
    )


@command.command("statement")
@click.argument("account")
@days_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["camt053", "camt054"]),
    default="camt053",
    show_default=True,
    help="ISO 20022: a statement with balances, or a notice of credits.",
)
@click.option(
    "--camt-version",
    "version",
    type=click.Choice(VERSIONS),
    default=VERSIONS[0],
    show_default=True,
    help="Of the message; more programs read the older one.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)
@home_option
def statement(
    account: str,
    day: date | None,
    last: date | None,
    kind: str,
    version: str,
    output: Path | None,
    directory: Path,
) -> Report:
    """What was booked to a merchant's ACCOUNT on a day; with -o as a message for the merchant's books."""
    since, until = period_of(day, last)
    with closing(Home(directory).accounts()) as accounts:
        found = accounts.statement(account, since, until)
    if output is not None:
        write = camt053 if kind == "camt053" else camt054
        files.replace(output, write(found, system_clock(), version), 0o644)
    data = {
        "account": account,
        "since": since,
        "until": until,
        "opening_fen": found.opening,
        "closing_fen": found.closing,
        "credits": [
            {
                "number": x.number,
                "nonce": x.nonce.hex(),
                "time": x.time,
                "amount_fen": x.fen,
                "fee_fen": x.fee,
            }
            for x in found.credits
        ],
    }
    lines = [
        f"{when(x.time)}  {yuan(x.net):>10} yuan  {x.nonce.hex()}"
        + (f"  fee {yuan(x.fee)}" if x.fee else "")
        for x in found.credits
    ]
    return Report(
        data,
        [
            f"before  {yuan(found.opening):>10} yuan",
            *lines,
            f"after   {yuan(found.closing):>10} yuan",
        ],
    )


@dataclass(frozen=True)
class _Banks:
    """Both libraries of a home directory, and its center."""

    bank: BankLibrary
    issuing: IssuingLibrary
    center: CenterClient

    def credit(self, redemption: Transfer) -> int:
        """Restore the reserve for what of a redemption was settled; the fen that were not credited before."""
        fen = 0
        results = {result.claim_id: result for result in redemption.receipt.results}
        for claim, spent in zip(redemption.deposit.claims, redemption.spent, strict=True):
            outcomes = results[object_id(claim)].outcomes
            if any(outcome.state == o.SETTLED for outcome in outcomes):
                fen += self.issuing.credit(claim, spent, redemption.receipt)
        return fen


@contextmanager
def _banks(directory: Path, url: str | None = None) -> Iterator[_Banks]:
    """The libraries of a home directory; without a URL for what asks no center."""
    home = Home(directory)
    with (
        center_at(url or "http://127.0.0.1", home.trust()) as center,
        closing(home.issuing()) as issuing,
        closing(home.bank(center)) as bank,
    ):
        yield _Banks(bank, issuing, center)


@contextmanager
def _recorded() -> Iterator[None]:
    """Say of an order that the center did not answer that it is not to be given again."""
    try:
        yield
    except CenterUnreachable as error:
        error.hint = (
            "The order is recorded; do not give it again: `chipcash bank sync` completes it."
        )
        raise

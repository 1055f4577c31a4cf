# SPDX-License-Identifier: Apache-2.0
"""Merchants' accounts at a bank, as far as digital cash fills them: what the bank has credited, and for what.

Credits are booked against slips, which the center has signed: no party's word is taken. A claim is credited
once, in whatever slip it comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chipcash.bank.errors import BankError
from chipcash.clock import Clock, system_clock
from chipcash.database import Database, Row
from chipcash.slips import Paid, Slip, verify_slip
from chipcash.trust import Trust

__all__ = ["Accounts", "Credit", "Merchant", "Statement"]

MAX_ID = 34
"""Characters of an account's number: ISO 20022's Max34Text."""
MAX_NAME = 140
"""And of its owner's name: Max140Text."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS merchants (
        id INTEGER PRIMARY KEY, account TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
        fee_bp INTEGER NOT NULL DEFAULT 0 CHECK (fee_bp BETWEEN 0 AND 10000)
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS tills (
        key BLOB PRIMARY KEY, merchant INTEGER NOT NULL REFERENCES merchants (id)
    ) STRICT""",
    # One for each deposit; nonce is what the till calls it.
    """CREATE TABLE IF NOT EXISTS credits (
        id INTEGER PRIMARY KEY, merchant INTEGER NOT NULL REFERENCES merchants (id),
        nonce BLOB NOT NULL, key BLOB NOT NULL, redeemed INTEGER NOT NULL, paid INTEGER NOT NULL,
        time INTEGER NOT NULL, fen INTEGER NOT NULL CHECK (fen > 0),
        fee INTEGER NOT NULL CHECK (fee BETWEEN 0 AND fen)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS credits_by_time ON credits (merchant, time)",
    """CREATE TABLE IF NOT EXISTS credited (
        claim_id BLOB PRIMARY KEY, credit INTEGER NOT NULL REFERENCES credits (id)
    ) STRICT""",
)


@dataclass(frozen=True)
class Merchant:
    """Who has an account. fee_bp: what the bank keeps of a credit, in hundredths of a percent."""

    account: str
    name: str
    fee_bp: int
    tills: tuple[bytes, ...]


@dataclass(frozen=True)
class Credit:
    """Money credited. number: the bank's, rising; nonce: of the till's deposit; till: its key; redeemed: paid
    to the issuing library, not to the bank; paid: when the center settled it, time: when the bank booked it,
    seconds since 1970; fen: what was paid; fee: what the bank kept of it."""

    number: int
    nonce: bytes
    till: bytes
    redeemed: bool
    paid: int
    time: int
    fen: int
    fee: int

    @property
    def net(self) -> int:
        """Fen that the account gained."""
        return self.fen - self.fee


@dataclass(frozen=True)
class Statement:
    """What was booked to an account from a time until before another; balances in fen, before and after."""

    merchant: Merchant
    since: int
    until: int
    opening: int
    credits: tuple[Credit, ...]

    @property
    def closing(self) -> int:
        """The balance after it."""
        return self.opening + sum(credit.net for credit in self.credits)


class Accounts:
    """A bank's merchants and their credits. path: a SQLite file; bank: the bank's key, to which tills pay;
    create: make the file if there is none."""

    def __init__(
        self,
        path: str | Path,
        bank: bytes,
        trust: Trust,
        clock: Clock = system_clock,
        *,
        create: bool = False,
    ) -> None:
        if not create and not Path(path).is_file():
            raise _unknown("This bank has no merchants.")
        self.trust = trust
        self._bank = bank
        self._clock = clock
        self._db = Database(path, _SCHEMA, version=1, what="The bank's accounts", create=create)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(
        self, account: str, name: str, tills: tuple[bytes, ...] = (), fee_bp: int | None = None
    ) -> Merchant:
        """Open an account, or add tills to it and change its name and fee, which is for later credits only.
        fee_bp: None leaves it, and is zero for a new account.

        Raises BankError (account) if a till is another merchant's, or number or name are none that ISO 20022
        has.
        """
        if not (0 < len(account) <= MAX_ID and account.isascii() and account.isprintable()):
            raise BankError(
                "account",
                f"An account's number has 1 to {MAX_ID} printable characters; nothing was changed.",
            )
        if not (0 < len(name) <= MAX_NAME and name.isprintable()):
            raise BankError(
                "account",
                f"A merchant's name has 1 to {MAX_NAME} printable characters; nothing was changed.",
            )
        with self._db.transaction():
            (merchant,) = self._db.row(
                "INSERT INTO merchants (account, name, fee_bp) VALUES (?1, ?2, ifnull(?3, 0))"
                " ON CONFLICT (account)"
                " DO UPDATE SET name = excluded.name, fee_bp = ifnull(?3, fee_bp) RETURNING id",
                account, name, fee_bp,
            )  # fmt: skip
            for key in tills:
                other = self._db.one("SELECT merchant FROM tills WHERE key = ?", key)
                if other is not None and other["merchant"] != merchant:
                    raise BankError(
                        "account",
                        "That till belongs to another merchant's account; nothing was changed.",
                        hint=f"Look at its key: {key.hex()}.",
                    )
                self._db.execute("INSERT OR IGNORE INTO tills VALUES (?,?)", key, merchant)
        return self.merchant(account)

    def merchant(self, account: str) -> Merchant:
        """The merchant with that account. Raises BankError (account)."""
        row = self._row(account)
        return self._merchant(row)

    def merchants(self) -> list[Merchant]:
        """All of them, by account."""
        return [
            self._merchant(row) for row in self._db.all("SELECT * FROM merchants ORDER BY account")
        ]

    def check(self, slip: Slip) -> bool:
        """Whether a slip is for this bank: of money paid to it, or redeemed, by a till of a merchant here.
        False if it was paid to somebody else. Raises SlipInvalid; BankError (account)."""
        paid = verify_slip(slip, self.trust)
        if not self._ours(paid):
            return False
        self._of_till(paid.payer)
        return True

    def credit(self, slip: Slip) -> Credit | None:
        """Credit a till's merchant with what a slip proves; None if all of it was credited before.

        Raises SlipInvalid; BankError (account) if no merchant has that till, or (receipt) if it was paid to
        somebody else.
        """
        paid = verify_slip(slip, self.trust)
        redeemed = paid.payee == self.trust.issuer_key
        if not self._ours(paid):
            raise BankError(
                "receipt",
                "This slip is of a payment to another key than this bank's; nothing was credited.",
                hint=f"It was paid to {paid.payee.hex()}.",
            )
        with self._db.transaction():
            row = self._of_till(paid.payer)
            new = [
                (claim_id, fen)
                for claim_id, fen in paid.claims
                if fen
                and self._db.one("SELECT 1 FROM credited WHERE claim_id = ?", claim_id) is None
            ]
            fen = sum(fen for _, fen in new)
            if not fen:
                return None
            (number,) = self._db.row(
                "INSERT INTO credits (merchant, nonce, key, redeemed, paid, time, fen, fee)"
                " VALUES (?,?,?,?,?,?,?,?) RETURNING id",
                row["id"], paid.nonce, paid.payer, int(redeemed), paid.time, self._clock(), fen,
                    _fee(fen, row["fee_bp"]),
            )  # fmt: skip
            for claim_id, _ in new:
                self._db.execute("INSERT INTO credited VALUES (?,?)", claim_id, number)
            return _credit(self._db.row("SELECT * FROM credits WHERE id = ?", number))

    def statement(self, account: str, since: int, until: int) -> Statement:
        """What was booked to an account from a time until before another. Raises BankError (account)."""
        with self._db.reading():
            row = self._row(account)
            (opening,) = self._db.row(
                "SELECT ifnull(sum(fen - fee), 0) FROM credits WHERE merchant = ? AND time < ?",
                row["id"], since,
            )  # fmt: skip
            credits = self._db.all(
                "SELECT * FROM credits WHERE merchant = ? AND time >= ? AND time < ? ORDER BY id",
                row["id"], since, until,
            )  # fmt: skip
            merchant = self._merchant(row)
        return Statement(merchant, since, until, opening, tuple(_credit(x) for x in credits))

    def _ours(self, paid: Paid) -> bool:
        return paid.payee in (self._bank, self.trust.issuer_key)

    def _of_till(self, key: bytes) -> Row:
        """The merchant with that till. Raises BankError (account)."""
        row = self._db.one(
            "SELECT merchants.* FROM merchants JOIN tills ON tills.merchant = merchants.id"
            " WHERE tills.key = ?",
            key,
        )
        if row is None:
            raise BankError(
                "account",
                "No merchant of this bank has that till; nothing was credited.",
                hint=f"Add it to its merchant: chipcash bank merchant ACCOUNT NAME --till {key.hex()}",
            )
        return row

    def _row(self, account: str) -> Row:
        row = self._db.one("SELECT * FROM merchants WHERE account = ?", account)
        if row is None:
            raise _unknown("This bank has no such account.")
        return row

    def _merchant(self, row: Row) -> Merchant:
        tills = self._db.all("SELECT key FROM tills WHERE merchant = ? ORDER BY key", row["id"])
        return Merchant(row["account"], row["name"], row["fee_bp"], tuple(x["key"] for x in tills))


def _fee(fen: int, fee_bp: int) -> int:
    """What the bank keeps, rounded down: a fraction of a fen is the merchant's."""
    return fen * fee_bp // 10000


def _credit(row: Row) -> Credit:
    return Credit(
        number=row["id"],
        nonce=row["nonce"],
        till=row["key"],
        redeemed=bool(row["redeemed"]),
        paid=row["paid"],
        time=row["time"],
        fen=row["fen"],
        fee=row["fee"],
    )


def _unknown(message: str) -> BankError:
    return BankError("account", message, hint="Open one first: chipcash bank merchant.")

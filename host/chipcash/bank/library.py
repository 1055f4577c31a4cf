# SPDX-License-Identifier: Apache-2.0
"""The bank library of a commercial bank: titles it owns, paid out to cards, redeemed at the center.

What is paid out is decided and recorded before it is sent: after a crash or without a network the same
deposit goes out again, and no fen of a title is ever claimed twice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from chipcash import crypto
from chipcash.bank.errors import BankError
from chipcash.center.client import CenterApi
from chipcash.center.errors import CenterRefused
from chipcash.clock import DAY, Clock
from chipcash.database import Database
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["BankLibrary", "Transfer"]

DEADLINE = 7 * DAY
"""How long a transfer that could not be sent stays good, seconds."""
MAX_TITLES = 160
"""Most titles that one transfer spends; the center takes 200 intervals in one deposit."""

_SCHEMA = (
    # lo: the pointer; what is below it was claimed.
    """CREATE TABLE IF NOT EXISTS titles (
        title_id BLOB PRIMARY KEY, bytes BLOB NOT NULL, expiry INTEGER NOT NULL,
        lo INTEGER NOT NULL, hi INTEGER NOT NULL CHECK (lo <= hi)
    ) STRICT""",
    # receipt is null until the center has answered.
    """CREATE TABLE IF NOT EXISTS transfers (
        seq INTEGER PRIMARY KEY, deposit BLOB NOT NULL, counter INTEGER NOT NULL, receipt BLOB
    ) STRICT""",
)


@dataclass(frozen=True)
class Transfer:
    """A transfer that the center has answered.

    payee: public key; amount: fen; titles: what the payee now owns (none after a redemption);
    spent: for each claim of the deposit the titles it spent, in its order.
    """

    payee: bytes
    amount: int
    titles: tuple[o.Title, ...]
    deposit: o.Deposit
    receipt: o.Receipt
    spent: tuple[tuple[o.Title, ...], ...]


class BankLibrary:
    """A bank's titles and what it does with them. Its balance is its quota for paying out.

    path: SQLite file or ":memory:"; key: the bank's private key; center: a Center or CenterClient;
    clock: seconds since 1970.
    """

    def __init__(
        self,
        path: str | Path,
        key: crypto.PrivateKey,
        trust: Trust,
        center: CenterApi,
        clock: Clock,
    ) -> None:
        self.trust = trust
        self._key = key
        self._center = center
        self._clock = clock
        self._db = Database(path, _SCHEMA, version=1, what="The bank's library")

    @property
    def public(self) -> bytes:
        """The bank's key, 33 bytes."""
        return self._key.public

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def balance(self) -> int:
        """Fen that the bank can pay out."""
        return sum(hi - lo for lo, hi in self._db.all("SELECT lo, hi FROM titles"))

    def add(self, title: o.Title) -> None:
        """Take a title that became the bank's, of a coin or a merchant's deposit; again is harmless.

        Raises BankError (title) if it is not the bank's or not signed by the center.
        """
        if title.owner != self.public or not self.trust.signed_by_center(title):
            raise BankError("title", "This title is not this bank's money; it was not taken.")
        self._db.execute(
            "INSERT OR IGNORE INTO titles (title_id, bytes, expiry, lo, hi) VALUES (?,?,?,?,?)",
            object_id(title), title.encode(), title.expiry, title.lo, title.hi,
        )  # fmt: skip

    def withdraw(self, fen: int, payee: bytes) -> Transfer:
        """Pay fen to a key (a card's, a merchant's) at the center; the titles to load are in the answer.

        Raises BankError (funds) and changes nothing if the bank has less; CenterUnreachable if the center
        does not answer: then the transfer is recorded, and resume() completes it.
        """
        return self._send(self._record(fen, payee))

    def redeem(self, fen: int) -> Transfer:
        """Give fen back to the issuing library. For each claim, its `credit` restores the reserve.

        Raises as withdraw does.
        """
        return self.withdraw(fen, self.trust.issuer_key)

    def resume(self) -> list[Transfer]:
        """Complete the transfers that the center has not answered yet."""
        rows = self._db.all("SELECT seq FROM transfers WHERE receipt IS NULL ORDER BY seq")
        return [self._send(seq) for (seq,) in rows]

    def redemptions(self) -> list[Transfer]:
        """Every redemption that the center has answered, wholly settled or not: to credit again what a
        crash may have kept from it (IssuingLibrary.credit counts none twice).
        """
        found = []
        for deposit, receipt in self._db.all(
            "SELECT deposit, receipt FROM transfers WHERE receipt IS NOT NULL ORDER BY seq"
        ):
            transfer = self._transfer(o.Deposit.decode(deposit), o.Receipt.decode(receipt))
            if transfer.payee == self.trust.issuer_key:
                found.append(transfer)
        return found

    def renew(self) -> int:
        """Exchange titles that have expired, grace included, for new ones; fen renewed."""
        renewed = 0
        for title_id, data in self._db.all(
            "SELECT title_id, bytes FROM titles WHERE lo < hi AND expiry < ?", self._clock()
        ):
            reclaim = o.Reclaim(header=self.trust.header, claims=(), voids=(), title_id=title_id)
            try:
                receipt = self._center.reclaim(reclaim, [o.Title.decode(data)])
            except CenterRefused as error:
                if error.name == "not-yet":
                    continue
                raise
            with self._db.transaction():
                for title in receipt.titles:
                    self.add(title)
                    renewed += title.hi - title.lo
                hi = o.Title.decode(data).hi
                self._db.execute("UPDATE titles SET lo = ? WHERE title_id = ?", hi, title_id)
        return renewed

    def _record(self, fen: int, payee: bytes) -> int:
        """Choose titles, sign claims, move the pointers: one transaction. The transfer's number."""
        if fen <= 0:
            raise BankError("funds", "The amount must be more than nothing; nothing was paid.")
        now = self._clock()
        deadline = now + DEADLINE
        with self._db.transaction():
            inputs: list[o.Input] = []
            left = fen
            for title_id, lo, hi in self._db.all(
                "SELECT title_id, lo, hi FROM titles WHERE lo < hi AND expiry >= ?"
                " ORDER BY expiry, hi - lo DESC LIMIT ?",
                deadline, MAX_TITLES,
            ):  # fmt: skip
                take = min(left, hi - lo)
                inputs.append(o.Input(title_id=title_id, lo=lo, hi=lo + take))
                left -= take
                if not left:
                    break
            if left:
                raise BankError(
                    "funds",
                    f"The bank's titles hold {fen - left} fen of the {fen}; nothing was paid.",
                    hint="Get coins from the issuing library, renew expired titles, or pay in parts.",
                )
            (counter,) = self._db.row("SELECT COALESCE(MAX(counter), 0) FROM transfers")
            claims = []
            for at in range(0, len(inputs), o.MAX_INPUTS):
                counter += 1
                part = tuple(inputs[at : at + o.MAX_INPUTS])
                claim = o.Claim(
                    header=self.trust.header,
                    inputs=part,
                    amount=sum(item.hi - item.lo for item in part),
                    payee=payee,
                    nonce=secrets.token_bytes(16),
                    counter=counter,
                    time=now,
                    deadline=deadline,
                )
                claims.append(claim.signed(self._key.sign(claim.message())))
            deposit = o.Deposit(
                header=self.trust.header, nonce=secrets.token_bytes(16), claims=tuple(claims)
            )
            for item in inputs:
                self._db.execute(
                    "UPDATE titles SET lo = ? WHERE title_id = ?", item.hi, item.title_id
                )
            (seq,) = self._db.row(
                "INSERT INTO transfers (deposit, counter) VALUES (?,?) RETURNING seq",
                deposit.encode(), counter,
            )  # fmt: skip
        return int(seq)

    def _send(self, seq: int) -> Transfer:
        """Have a recorded transfer settled; again is harmless."""
        (data,) = self._db.row("SELECT deposit FROM transfers WHERE seq = ?", seq)
        deposit = o.Deposit.decode(data)
        titles = {
            item.title_id: self._title(item.title_id)
            for claim in deposit.claims
            for item in claim.inputs
        }
        receipt = self._center.settle(deposit, list(titles.values()))
        back = 0
        for claim, result in zip(deposit.claims, receipt.results, strict=True):
            if all(outcome.state == o.EXPIRED for outcome in result.outcomes):
                reclaim = o.Reclaim(header=self.trust.header, claims=(claim,), voids=())
                spent = [titles[item.title_id] for item in claim.inputs]
                for title in self._center.reclaim(reclaim, spent).titles:
                    self.add(title)
                    back += title.hi - title.lo
        self._db.execute("UPDATE transfers SET receipt = ? WHERE seq = ?", receipt.encode(), seq)
        outcomes = [outcome for result in receipt.results for outcome in result.outcomes]
        settled = sum(x.hi - x.lo for x in outcomes if x.state == o.SETTLED)
        amount = sum(claim.amount for claim in deposit.claims)
        if settled != amount:
            raise BankError(
                "outcome",
                f"Of {amount} fen only {settled} reached the payee; {back} came back to the bank.",
                hint="Ask the center about the claims; pay the rest again.",
            )
        return self._transfer(deposit, receipt)

    def _transfer(self, deposit: o.Deposit, receipt: o.Receipt) -> Transfer:
        spent = tuple(
            tuple(self._title(item.title_id) for item in claim.inputs) for claim in deposit.claims
        )
        amount = sum(claim.amount for claim in deposit.claims)
        payee = deposit.claims[0].payee
        return Transfer(payee, amount, receipt.titles, deposit, receipt, spent)

    def _title(self, title_id: bytes) -> o.Title:
        (data,) = self._db.row("SELECT bytes FROM titles WHERE title_id = ?", title_id)
        return o.Title.decode(data)

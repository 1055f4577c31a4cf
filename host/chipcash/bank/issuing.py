# SPDX-License-Identifier: Apache-2.0
"""The issuing library of the central bank: coins against reserves, one to one, and back."""

from __future__ import annotations

import secrets
from pathlib import Path

from chipcash import crypto
from chipcash.bank.errors import BankError
from chipcash.database import Database
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["IssuingLibrary"]

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS reserves (
        bank BLOB PRIMARY KEY, fen INTEGER NOT NULL CHECK (fen >= 0)
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS coins (serial BLOB PRIMARY KEY, bytes BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS redeemed (
        claim_id BLOB PRIMARY KEY, bank BLOB NOT NULL, fen INTEGER NOT NULL
    ) STRICT""",
)


class IssuingLibrary:
    """Creates coins for banks against their reserves and gives reserves back for what is redeemed.

    path: SQLite file or ":memory:"; key: the issuing library's private key. reserves + issued - redeemed
    never changes except by add_reserve.
    """

    def __init__(self, path: str | Path, key: crypto.PrivateKey, trust: Trust) -> None:
        self.trust = trust
        self._key = key
        self._db = Database(path, _SCHEMA, version=1, what="The issuing library")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_reserve(self, bank: bytes, fen: int) -> int:
        """Book fen that the bank (its key) has paid in; its reserve now. Raises ValueError unless fen > 0."""
        if fen <= 0:
            raise ValueError("a reserve grows by more than nothing")
        with self._db.transaction():
            self._book(bank, fen)
        return self.reserve(bank)

    def reserve(self, bank: bytes) -> int:
        """The bank's reserve that no coin stands for, fen."""
        row = self._db.one("SELECT fen FROM reserves WHERE bank = ?", bank)
        return int(row[0]) if row else 0

    def issue(self, bank: bytes, fen: int) -> o.Coin:
        """A new coin of fen, owned by the bank, against its reserve; recorded before it is returned.

        It becomes money when the registration center registers it, which may be repeated. Raises
        BankError (reserve) if the reserve is less than fen, WireError if fen is 0.
        """
        coin = o.Coin(
            header=self.trust.header,
            signer=self._key.key_id,
            serial=secrets.token_bytes(16),
            amount=fen,
            owner=bank,
        )
        coin = coin.signed(self._key.sign(coin.message()))
        with self._db.transaction():
            reserve = self.reserve(bank)
            if reserve < fen:
                raise BankError(
                    "reserve",
                    f"The bank's reserve is {reserve} fen, less than {fen}; no coin was created.",
                    hint="Pay in reserves first.",
                )
            self._book(bank, -fen)
            self._db.execute(
                "INSERT INTO coins (serial, bytes) VALUES (?,?)", coin.serial, coin.encode()
            )
        return coin

    def coins(self) -> list[o.Coin]:
        """Every coin ever created, in no order: to register again what may not have arrived."""
        return [o.Coin.decode(data) for (data,) in self._db.all("SELECT bytes FROM coins")]

    def credit(
        self,
        claim: o.Claim,
        titles: tuple[o.Title, ...],
        receipt: o.Receipt,
        bank: bytes | None = None,
    ) -> int:
        """Give a bank its reserve back for redeemed coins; the fen, 0 if it was credited before.

        claim: to the issuing library's key; titles: those it spends, in its order; receipt: of the center,
        which says what was settled; bank: the key of the bank that credits who redeemed, if that was not the
        bank itself. Raises BankError (receipt) if they do not prove a redemption.
        """
        claim_id = object_id(claim)
        results = [result for result in receipt.results if result.claim_id == claim_id]
        ids = [object_id(title) for title in titles]
        if (
            claim.payee != self._key.public
            or not results
            or ids != [item.title_id for item in claim.inputs]
            or any(title.owner != titles[0].owner for title in titles)
            or not all(self.trust.signed_by_center(obj) for obj in (receipt, *titles))
        ):
            raise BankError("receipt", "This proves no redemption; no reserve was given back.")
        bank = bank or titles[0].owner
        settled = [x for x in results[0].outcomes if x.state == o.SETTLED]
        fen = sum(outcome.hi - outcome.lo for outcome in settled)
        if not fen:
            raise BankError("receipt", "Nothing of this claim was redeemed; no reserve came back.")
        with self._db.transaction():
            if self._db.one("SELECT 1 FROM redeemed WHERE claim_id = ?", claim_id):
                return 0
            self._db.execute(
                "INSERT INTO redeemed (claim_id, bank, fen) VALUES (?,?,?)", claim_id, bank, fen
            )
            self._book(bank, fen)
        return fen

    def _book(self, bank: bytes, fen: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO reserves (bank, fen) VALUES (?, 0)", bank)
        self._db.execute("UPDATE reserves SET fen = fen + ? WHERE bank = ?", fen, bank)

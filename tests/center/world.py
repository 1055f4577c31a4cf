# SPDX-License-Identifier: Apache-2.0
"""A network in memory for the tests: keys, a clock to turn, a center, and payers that sign claims.

Keys come from names, serials and nonces from counting, so that ids, and whatever is sorted by them, are the
same in every run: only so can an example be repeated.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.center.storage import Storage
from chipcash.certification import Authority
from chipcash.crypto import PrivateKey
from chipcash.crypto import suite as find_suite
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

NETWORK = b"TEST"
START = 1_800_000_000
DAY = 86400


@cache
def key(name: str, suite: str = "p256") -> PrivateKey:
    """The key of a name, the same in every run."""
    return PrivateKey(find_suite(suite), hashlib.sha256(f"{suite} {name}".encode()).digest())


@cache
def trust(suite: str = "p256") -> Trust:
    """The test network of a suite."""
    authority = Authority(key("certification", suite), NETWORK, lambda: START)
    return Trust(
        NETWORK,
        o.SUITES[suite],
        key("certification", suite).public,
        (
            authority.certify_institution(key("issuer", suite).public, o.ROLE_ISSUER),
            authority.certify_institution(key("center", suite).public, o.ROLE_CENTER),
        ),
    )


class World:
    """A center with a clock that stands still until it is turned."""

    def __init__(
        self,
        ledger: str | Path | Storage = ":memory:",
        suite: str = "p256",
        center: type[Center] = Center,
    ) -> None:
        self.suite = suite
        self.now = START
        self._made = 0
        self.trust = trust(suite)
        self.center = center(
            ledger,
            key("center", suite),
            self.trust,
            Parameters(),
            lambda: self.now,
            lambda: self.fresh(16),
        )

    @property
    def header(self) -> bytes:
        return self.trust.header

    def fresh(self, n: int) -> bytes:
        """n bytes, at most 32, that this world has not given before: for a serial or a nonce."""
        self._made += 1
        return hashlib.sha256(b"%d" % self._made).digest()[:n]

    def key(self, name: str) -> PrivateKey:
        return key(name, self.suite)

    def public(self, name: str) -> bytes:
        return key(name, self.suite).public

    def coin(self, amount: int, owner: str, serial: bytes | None = None) -> o.Coin:
        """A coin of the issuing library, not registered."""
        issuer = self.key("issuer")
        coin = o.Coin(
            header=self.header,
            signer=issuer.key_id,
            serial=serial or self.fresh(16),
            amount=amount,
            owner=self.public(owner),
        )
        return coin.signed(issuer.sign(coin.message()))

    def issue(self, amount: int, owner: str, serial: bytes | None = None) -> o.Title:
        """A registered coin's title."""
        return self.center.register_coin(self.coin(amount, owner, serial))

    def claim(
        self,
        payer: str,
        payee: str,
        parts: list[tuple[o.Title, int, int]],
        window: int = DAY,
        nonce: bytes | None = None,
    ) -> o.Claim:
        """A claim signed by payer over [lo, hi) of each title."""
        claim = o.Claim(
            header=self.header,
            inputs=tuple(o.Input(title_id=object_id(t), lo=lo, hi=hi) for t, lo, hi in parts),
            amount=sum(hi - lo for _, lo, hi in parts),
            payee=self.public(payee),
            nonce=nonce or self.fresh(16),
            counter=1,
            time=self.now,
            deadline=self.now + window,
        )
        return claim.signed(self.key(payer).sign(claim.message()))

    def deposit(self, *claims: o.Claim) -> o.Deposit:
        return o.Deposit(header=self.header, nonce=self.fresh(16), claims=claims)

    def settle(self, *claims: o.Claim) -> o.Receipt:
        return self.center.settle(self.deposit(*claims))

    def void(self, payee: str, claim: o.Claim) -> o.Void:
        void = o.Void(
            header=self.header,
            payee=self.public(payee),
            nonce=claim.nonce,
            amount=claim.amount,
            time=self.now,
        )
        return void.signed(self.key(payee).sign(void.message()))

    def reclaim(
        self,
        claim: o.Claim | None = None,
        void: o.Void | None = None,
        title_id: bytes | None = None,
    ) -> o.Reclaim:
        return o.Reclaim(
            header=self.header,
            claims=(claim,) if claim else (),
            voids=(void,) if void else (),
            title_id=title_id,
        )

    def certificate(self, name: str, tier: int = 3) -> o.Certificate:
        authority = Authority(self.key("certification"), NETWORK, lambda: self.now)
        return authority.certify_card(self.public(name), tier=tier)

    def proof(self, name: str, nonce: bytes) -> o.GenuineProof:
        proof = o.GenuineProof(
            header=self.header,
            nonce=nonce,
            digest=self.fresh(32),
            subject=self.public(name),
            build=b"x",
        )
        return proof.signed(self.key(name).sign(proof.message()))

    def holdings(self, serial: bytes) -> list[str | None]:
        """Who owns each fen of a coin: public key in hex, None where redeemed."""
        fens: list[str | None] = []
        for part in self.center.coin(serial)["partition"]:
            assert part["lo"] == len(fens)
            fens += [part["owner"]] * (part["hi"] - part["lo"])
        return fens

    def followed(self, serial: bytes) -> list[str | None]:
        """Who owns each fen of a coin, also where it became another coin; None where redeemed."""
        owners = self.holdings(serial)
        for event in self.center.coin(serial)["history"]:
            if event["event"] == "recoined":
                other = bytes.fromhex(event["new_serial"])
                (lo,) = [
                    part["lo"]
                    for part in self.center.coin(other)["history"][0]["of"]
                    if (part["from_serial"], part["from_lo"]) == (serial.hex(), event["lo"])
                ]
                size = event["hi"] - event["lo"]
                owners[event["lo"] : event["hi"]] = self.followed(other)[lo : lo + size]
        return owners


def states(receipt: o.Receipt) -> list[list[str]]:
    """Outcome names by claim and interval."""
    return [[o.OUTCOMES[x.state] for x in result.outcomes] for result in receipt.results]


TABLES = {
    "coins": "serial", "titles": "serial, epoch", "slices": "serial, lo", "claims": "claim_id",
    "spends": "serial, title_id, lo", "inputs": "serial, title_id, lo, claim", "deposits": "digest",
    "voids": "payee, nonce, amount", "evidence": "digest", "blacklist": "sequence", "cards": "subject",
    "certificates": "subject, seq", "sequence": "next",
}  # fmt: skip
"""The ledger's tables, but for challenges, and how their rows are ordered."""


def dump(center: Center) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the ledger; equal dumps are equal ledgers."""
    return {
        table: [tuple(row) for row in center.storage.all(f"SELECT * FROM {table} ORDER BY {order}")]
        for table, order in TABLES.items()
    }

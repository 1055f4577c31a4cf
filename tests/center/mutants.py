# SPDX-License-Identifier: Apache-2.0
"""Deposits that were changed by somebody who knows their structure, and a center that is told all of them.

A ledger must not change for any of them, but for claims that their payers have signed. What that comes to is
counted from receipts alone, and compared with what the ledger says.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from chipcash.center.errors import CenterRefused
from chipcash.trust import object_id
from chipcash_wire import objects as o
from chipcash_wire import tlv
from tests.center.world import World
from tests.portable.fuzzing import damaged, joined, rearranged, tree

HONEST = ("alice", "bob", "shop")
CHEAT = "mallory"
_COIN = 10_000
_HEADER, _AMOUNT, _LO, _HI, _TITLE, _PAYEE, _NONCE, _SIGNATURE = (
    0x80, 0x83, 0x84, 0x85, 0x89, 0x8A, 0x8B, 0x9E,
)  # fmt: skip
_TIMES = (0x8C, 0x8D, 0x8E)  # counter, time, deadline

Tree = list[tuple[int, Any]]


class Attack:
    """A center whose payers have signed some claims, and somebody who has seen all of them, and its titles.

    mutant() makes a deposit, tell() has the center settle it and holds what follows against what may follow.
    counts: of verdicts, so that a test can see that it was not always the same one.
    """

    def __init__(self, seed: int, suite: str = "p256", claims: int = 40) -> None:
        self.world = world = World(suite=suite)
        self.chance = chance = Random(seed)
        self.counts: Counter[str] = Counter()
        self._suite = world.key("alice").suite
        self.titles = {
            name: [world.issue(_COIN, name) for _ in range(2)] for name in (*HONEST, CHEAT)
        }
        self._owners = {object_id(t): t.owner for each in self.titles.values() for t in each}
        self.balances = {world.public(name): 2 * _COIN for name in self.titles}
        self.issued = _COIN * len(self._owners)
        self.redeemed = 0
        # What was signed: message and signature.
        self._signed: dict[bytes, bytes] = {}
        self._registered: set[bytes] = set()
        self._deposits: set[bytes] = set()
        self.pool: list[bytes] = []
        self.claims: list[o.Claim] = []
        at = dict.fromkeys(self._owners, 0)
        for _ in range(claims):
            payer = chance.choice(HONEST)
            parts = []
            for title in chance.sample(self.titles[payer], chance.choice((1, 1, 2))):
                lo, n = at[object_id(title)], chance.randrange(1, 100)
                at[object_id(title)] = lo + n
                parts.append((title, lo, lo + n))
            payee = chance.choice([name for name in (*HONEST, "issuer", CHEAT) if name != payer])
            self._know(world.claim(payer, payee, parts))
        for _ in range(claims // 4):
            title = chance.choice(self.titles[CHEAT])
            lo = chance.randrange(_COIN - 100)
            self._know(world.claim(CHEAT, chance.choice(HONEST), [(title, lo, lo + 60)]))
        for first in range(0, len(self.claims), 2):
            self.pool.append(world.deposit(*self.claims[first : first + 2]).encode())
        # Some are deposited already, some not.
        for body in self.pool[::2]:
            self.tell(body)

    def _know(self, claim: o.Claim) -> None:
        self.claims.append(claim)
        assert claim.signature is not None
        self._signed[claim.message()] = claim.signature

    # ---- making -------------------------------------------------------------------------------------

    def mutant(self) -> bytes:
        """A deposit that nobody meant to make, or hardly anybody."""
        chance = self.chance
        body = chance.choice(self.pool)
        way = chance.randrange(20)
        if way == 0:
            return damaged(body, chance.randrange)
        if way == 1:
            return rearranged(body, chance.randrange)
        if way == 2:
            return body[: chance.randrange(len(body))]
        deposit = tree(body)
        fields = deposit[0][1]
        if chance.random() < 0.9:
            self._set(fields, _NONCE, chance.randbytes(16))
        if way < 7:
            self._shuffle(fields)
        if way > 3:
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                self._change(fields)
        if chance.random() < 0.02:
            fields[0] = (_HEADER, self._header(fields[0][1]))
        if chance.random() < 0.01:
            deposit[0] = (chance.choice((0xE4, 0xE5, 0xE6, 0xEA, 0xEC, 0xEF)), fields)
        return self._encoded(deposit)

    @staticmethod
    def _encoded(items: Tree) -> bytes:
        try:
            return joined(items)
        except tlv.WireError:  # too long
            return b""

    @staticmethod
    def _set(fields: Tree, tag: int, value: bytes) -> None:
        for at, (found, _) in enumerate(fields):
            if found == tag:
                fields[at] = (tag, value)

    @staticmethod
    def _get(fields: Tree, tag: int) -> bytes:
        return next((value for found, value in fields if found == tag), b"\x00")

    def _shuffle(self, fields: Tree) -> None:
        """Claims doubled, left out, in another order, of other deposits."""
        chance = self.chance
        claims = fields[2:]
        for _ in range(chance.randrange(1, 3)):
            way = chance.randrange(4)
            if way == 0 and claims:
                claims.insert(chance.randrange(len(claims) + 1), chance.choice(claims))
            elif way == 1 and claims:
                claims.pop(chance.randrange(len(claims)))
            elif way == 2:
                chance.shuffle(claims)
            else:
                claims += tree(chance.choice(self.pool))[0][1][2:]
        fields[2:] = [(tag, list(value)) for tag, value in claims]

    def _change(self, fields: Tree) -> None:
        """One claim changed, made whole again, and signed again, mostly by somebody who may not."""
        chance = self.chance
        if len(fields) < 3:
            return
        at = chance.randrange(2, len(fields))
        tag, claim = fields[at]
        claim = [(t, list(v) if isinstance(v, list) else v) for t, v in claim]
        fields[at] = (tag, claim)
        way = chance.randrange(9)
        inputs = [i for i, (_, value) in enumerate(claim) if isinstance(value, list)]
        if way == 0:
            self._set(claim, _PAYEE, self.world.public(chance.choice((CHEAT, *HONEST, "issuer"))))
        elif way == 1:
            self._set(claim, _NONCE, chance.randbytes(16))
        elif way == 2:
            self._number(claim, chance.choice((_AMOUNT, *_TIMES)))
        elif way == 3:
            claim[0] = (_HEADER, self._header(claim[0][1]))
        elif way == 4 and inputs:
            self._number(claim[chance.choice(inputs)][1], chance.choice((_LO, _HI)))
        elif way == 5 and inputs:
            titles = [*self._owners, chance.randbytes(32)]
            self._set(claim[chance.choice(inputs)][1], _TITLE, chance.choice(titles))
        elif way == 6 and inputs:
            claim.insert(chance.choice(inputs), claim[chance.choice(inputs)])
        elif way == 7:
            other = chance.choice(self.claims)
            names = ("payee", "nonce", "signature")
            tags = (_PAYEE, _NONCE, _SIGNATURE)
            for name, other_tag in zip(names, tags, strict=True):
                if chance.random() < 0.5:
                    self._set(claim, other_tag, getattr(other, name))
        elif inputs:
            other_inputs = tree(chance.choice(self.claims).encode())[0][1]
            claim[inputs[0] : inputs[-1] + 1] = [x for x in other_inputs if isinstance(x[1], list)]
        if chance.random() < 0.8:
            total = 0
            for _, value in claim:
                if isinstance(value, list):
                    numbers = [int.from_bytes(self._get(value, t), "big") for t in (_LO, _HI)]
                    total += numbers[1] - numbers[0]
            if 0 <= total < 1 << 63:
                self._set(claim, _AMOUNT, tlv.encode_uint(total))
        self._sign(claim)

    def _sign(self, claim: Tree) -> None:
        chance = self.chance
        way = chance.randrange(10)
        if way < 5:
            return  # the old signature
        message = b"\xe4" + self._encoded([x for x in claim if x[0] != _SIGNATURE])
        owners = {
            self._owners.get(self._get(value, _TITLE))
            for _, value in claim
            if isinstance(value, list)
        }
        signer = chance.choice((CHEAT, "stranger", "center", "issuer", *HONEST))
        signature = self.world.key(signer).sign(message)
        self._set(claim, _SIGNATURE, signature)
        if owners == {self.world.public(signer)}:
            # Then it is no forgery: whose money it is has signed it. It may be a repeat payment.
            self._signed[message] = signature

    def _number(self, fields: Tree, tag: int) -> None:
        chance = self.chance
        old = int.from_bytes(self._get(fields, tag), "big")
        new = chance.choice(
            (
                old + 1,
                max(0, old - 1),
                0,
                1,
                2 * old,
                old + 256,
                (1 << 63) - 1,
                (1 << 64) - 1,
                _COIN,
            )
        )
        self._set(fields, tag, tlv.encode_uint(new))

    def _header(self, header: Any) -> bytes:
        changed = bytearray(header)
        at = self.chance.choice((0, 3, 4, 5, 5, 5))
        changed[at] = 3 - changed[at] if at == 5 else changed[at] ^ 1
        return bytes(changed)

    # ---- telling ------------------------------------------------------------------------------------

    def tell(self, body: bytes) -> None:
        """Settle a deposit; AssertionError if anything came of it but what the payers have signed."""
        changes, facts = self._changes(), self.world.center.facts()
        try:
            deposit = o.Deposit.decode(body)
        except tlv.WireError:
            self.counts["malformed"] += 1
            return
        try:
            receipt = self.world.center.settle(deposit)
        except CenterRefused as refused:
            self.counts[refused.name] += 1
            assert self._changes() == changes
            return
        new = 0
        digest = object_id(deposit)
        assert receipt.digest == digest
        for claim, result in zip(deposit.claims, receipt.results, strict=True):
            verdicts = {outcome.state for outcome in result.outcomes}
            if not self._is_good(claim):
                self.counts["invalid"] += 1
                assert verdicts == {o.INVALID}, claim.encode().hex()
                continue
            claim_id = object_id(claim)
            if claim_id in self._registered:
                self.counts["known"] += 1
                assert o.INVALID not in verdicts
                continue
            self._registered.add(claim_id)
            new += 1
            self._book(claim, result)
        written = self._changes() - changes
        if digest in self._deposits:
            self.counts["same deposit"] += 1
            assert written == 0
        elif not new:
            # The number of the next fact as it was, and nothing else: no receipt either.
            assert written == 1 and self.world.center.facts() == facts
        else:
            self._deposits.add(digest)

    def _changes(self) -> int:
        """How many rows were ever written."""
        (found,) = self.world.center.storage.row("SELECT total_changes()")
        return int(found)

    def _is_good(self, claim: o.Claim) -> bool:
        """Whether the payer has signed it."""
        message = claim.message()
        if message not in self._signed or claim.header != self.world.header:
            return False
        if any(item.hi > _COIN for item in claim.inputs):
            return False
        if claim.signature == self._signed[message]:
            return True
        owner = self._owners[claim.inputs[0].title_id]
        return self._suite.verify(owner, message, claim.signature)

    def _book(self, claim: o.Claim, result: o.Result) -> None:
        """What a claim moves, once."""
        for item, outcome in zip(claim.inputs, result.outcomes, strict=True):
            self.counts[o.OUTCOMES[outcome.state]] += 1
            if outcome.state != o.SETTLED:
                continue
            fen = item.hi - item.lo
            self.balances[self._owners[item.title_id]] -= fen
            if claim.payee == self.world.trust.issuer_key:
                self.redeemed += fen
            else:
                self.balances[claim.payee] = self.balances.get(claim.payee, 0) + fen

    def check(self) -> None:
        """The ledger says what the receipts come to, to the fen, for everybody."""
        center = self.world.center
        center.check()
        totals = center.accounts()
        assert totals["issued_fen"] == self.issued
        assert totals["redeemed_fen"] == self.redeemed
        held = {owner.hex(): fen for owner, fen in self.balances.items() if fen}
        assert totals["owners"] == held

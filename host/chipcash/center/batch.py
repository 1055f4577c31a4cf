# SPDX-License-Identifier: Apache-2.0
"""Where money moves: what one transaction of the ledger reads, decides and writes, a set at a time.

`load` reads what all claims of a batch need, in one round trip. Deciding needs no database: claims are taken
one by one, in their order, over what was loaded and what the ones before them took. `write` carries out all
of it, in another round trip. So a batch gives what its claims would give one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from chipcash.center.errors import LedgerError
from chipcash.center.storage import Query, Storage
from chipcash.trust import object_id
from chipcash_wire import objects as o

__all__ = ["MAX_INTERVALS", "Batch", "Part", "Repeated", "Unverified", "Verified", "broken"]

MAX_INTERVALS = 200
"""Most intervals in one deposit, so that its receipt fits one object (65535 bytes) in the worst case."""


class Part(NamedTuple):
    """The interval [lo, hi) of a coin, as somebody spends it under a title."""

    title_id: bytes
    serial: bytes
    lo: int
    hi: int


class Verified(NamedTuple):
    """A claim whose header, titles, bounds and signature were checked: its encoding, who signed it, what
    settling needs of it, and its parts in the order of its inputs."""

    data: bytes
    claim_id: bytes
    payer: bytes
    payee: bytes
    nonce: bytes
    amount: int
    deadline: int
    parts: tuple[Part, ...]


class Unverified(NamedTuple):
    """A claim that is invalid; intervals: title_id, lo, hi of its inputs. Its id does not cover its
    signature: a good claim's may be the same."""

    claim_id: bytes
    intervals: tuple[tuple[bytes, int, int], ...]


class Repeated(NamedTuple):
    """Two claims on the same fen: part, encoding and seq of the later one; first: the other, encoded."""

    part: Part
    first: bytes
    data: bytes
    seq: int


class _Slice(NamedTuple):
    """A slice: live under title_id; redeemed if that is None; on its way elsewhere if it is _TAKEN."""

    lo: int
    hi: int
    title_id: bytes | None


class _Cut(NamedTuple):
    """A part on its way to an owner, or to nobody (redeemed). claim: seq and id; None: a title's renewal;
    deposit: the how-manieth of the batch."""

    part: Part
    owner: bytes | None
    claim: tuple[int, bytes] | None
    state: int
    deposit: int


class _Spent(NamedTuple):
    """What became of a part that is not live: the id of the first claim that moved some of it, None if that
    was a renewal; the lowest seq of all claims that did."""

    claim_id: bytes | None
    earliest: int | None


@dataclass
class _Made:
    """Rows that write() makes. slices: (serial, lo) to hi and title; epochs: newest of a coin's titles."""

    slices: dict[tuple[bytes, int], tuple[int, bytes | None]]
    coins: list[tuple[Any, ...]] = field(default_factory=list)
    titles: list[tuple[Any, ...]] = field(default_factory=list)
    spends: list[tuple[Any, ...]] = field(default_factory=list)
    epochs: dict[bytes, int] = field(default_factory=dict)


_TAKEN = b""
_LO = attrgetter("lo")

# Of the spends of one title, which never overlap, those on [lo, hi): from the last that begins at or before
# lo on, so that a title spent in a million pieces is not read as a whole.
_OVERLAPPING = (
    "serial = ? AND title_id = ? AND lo < ? AND hi > ? AND lo >= COALESCE("
    "(SELECT MAX(lo) FROM spends WHERE serial = ? AND title_id = ? AND lo <= ?), 0)"
)

_CLAIMS = {
    "claim_id": bytes, "seq": int, "payer": bytes, "bytes": bytes, "time": int, "result": bytes,
    "fund": int, "loss": int,
}  # fmt: skip
_INPUTS = {"serial": bytes, "title_id": bytes, "lo": int, "hi": int, "claim": int}
_SLICES = {"serial": bytes, "lo": int, "hi": int, "title_id": bytes}
_SPENDS = {
    "serial": bytes, "title_id": bytes, "lo": int, "hi": int, "seq": int, "claim": int, "state": int,
    "new_title": bytes, "time": int,
}  # fmt: skip
_COINS = {
    "serial": bytes, "seq": int, "amount": int, "owner": bytes, "bytes": bytes, "epoch": int, "time": int,
    "recoined": int,
}  # fmt: skip
_TITLES = {
    "serial": bytes, "epoch": int, "seq": int, "title_id": bytes, "lo": int, "hi": int, "owner": bytes,
    "bytes": bytes, "time": int,
}  # fmt: skip

TitleMaker = Callable[[bytes, int, int, int, bytes, int], o.Title]
"""A signed title from serial, amount, lo, hi, owner and epoch."""

CoinMaker = Callable[[int, bytes], o.Coin]
"""A coin of the center's own, of a fresh serial, signed, from amount and owner."""


class Batch:
    """One transaction's work; to be used inside it, once: load, decide, write."""

    def __init__(self, storage: Storage, now: int) -> None:
        self.repeated: list[Repeated] = []
        self._storage = storage
        self._now = now
        self._next = 0
        self._deposit = 0
        self._results: dict[bytes, bytes] = {}
        self._seqs: dict[bytes, int] = {}
        self._voids: set[tuple[bytes, bytes, int]] = set()
        self._coins: dict[bytes, tuple[int, int]] = {}
        self._slices: dict[bytes, list[_Slice]] = {}
        self._loaded: set[tuple[bytes, _Slice]] = set()
        self._spent: dict[Part, _Spent] = {}
        self._unmoved: dict[Part, int] = {}
        self._new: set[bytes] = set()
        self._claims: list[tuple[Any, ...]] = []
        self._inputs: list[tuple[Any, ...]] = []
        self._registered: dict[bytes, list[tuple[Part, Verified]]] = {}
        self._cuts: list[_Cut] = []
        self._titles: dict[int, dict[bytes, o.Title]] = {}

    # ---- reading ------------------------------------------------------------------------------------

    def load(self, claims: Sequence[Verified], parts: Sequence[Part] = ()) -> None:
        """Read what deciding on these claims, and on further parts, needs."""
        given = self._storage.given
        parts = [*(part for verified in claims for part in verified.parts), *parts]
        ids = given({"claim_id": bytes}, [(verified.claim_id,) for verified in claims])
        payments = given(
            {"payee": bytes, "nonce": bytes, "amount": int},
            [(v.payee, v.nonce, v.amount) for v in claims],
        )
        spans = given(
            {"serial": bytes, "title_id": bytes, "lo": int, "hi": int},
            [(part.serial, part.title_id, part.lo, part.hi) for part in parts],
        )
        sequence, results, voids, coin_rows, slices, unmoved = self._storage.queries(
            [
                ("SELECT next FROM sequence", ()),
                (
                    "SELECT claims.claim_id, claims.seq, claims.result"
                    f" FROM {ids.sql} AS ids JOIN claims ON claims.claim_id = ids.claim_id",
                    ids.values,
                ),
                (
                    f"SELECT voids.payee, voids.nonce, voids.amount FROM {payments.sql} AS payments"
                    " JOIN voids ON voids.payee = payments.payee AND voids.nonce = payments.nonce"
                    " AND voids.amount = payments.amount",
                    payments.values,
                ),
                (
                    f"SELECT coins.serial, coins.amount, coins.epoch FROM {spans.sql} AS given"
                    " JOIN coins ON coins.serial = given.serial",
                    spans.values,
                ),
                (
                    f"SELECT slices.serial, slices.lo, slices.hi, slices.title_id FROM {spans.sql}"
                    " AS places JOIN slices ON slices.serial = places.serial AND slices.lo ="
                    " (SELECT MAX(lo) FROM slices WHERE serial = places.serial AND lo <= places.lo)",
                    spans.values,
                ),
                (
                    f"SELECT spans.n, MIN(inputs.claim) FROM {spans.sql} AS spans JOIN inputs"
                    " ON inputs.serial = spans.serial AND inputs.title_id = spans.title_id"
                    " AND inputs.lo < spans.hi AND inputs.hi > spans.lo GROUP BY spans.n",
                    spans.values,
                ),
            ]
        )
        self._next = sequence[0][0]
        for claim_id, seq, result in results:
            self._results[claim_id] = result
            self._seqs[claim_id] = seq
        self._voids.update((payee, nonce, amount) for payee, nonce, amount in voids)
        self._coins.update((serial, (amount, epoch)) for serial, amount, epoch in coin_rows)
        for serial, lo, hi, title_id in sorted({tuple(row) for row in slices}):
            found = _Slice(lo, hi, title_id)
            self._slices.setdefault(serial, []).append(found)
            self._loaded.add((serial, found))
        self._unmoved.update((parts[n], claim) for n, claim in unmoved)
        self._load_spent([part for part in parts if self._live(part) is None])

    def _load_spent(self, parts: Sequence[Part]) -> None:
        """Read what became of parts that are not live under their titles."""
        parts = list(dict.fromkeys(parts))
        queries: list[Query] = []
        for part in parts:
            key = (part.serial, part.title_id)
            values = (*key, part.hi, part.lo, *key, part.lo)
            queries.append(
                (
                    "SELECT claims.claim_id FROM spends LEFT JOIN claims ON claims.seq = spends.claim"
                    f" WHERE {_OVERLAPPING} ORDER BY spends.seq LIMIT 1",
                    values,
                )
            )
            queries.append((f"SELECT MIN(claim) FROM spends WHERE {_OVERLAPPING}", values))
        found = self._storage.queries(queries) if queries else []
        for part, first, earliest in zip(parts, found[::2], found[1::2], strict=True):
            if first:
                self._spent[part] = _Spent(first[0][0], earliest[0][0])

    # ---- deciding -----------------------------------------------------------------------------------

    def known(self, claim_id: bytes) -> o.Result | None:
        """The first outcome of a claim that was registered, also in this batch."""
        result = self._results.get(claim_id)
        return None if result is None else o.Result.decode(result)

    def is_void(self, claim: Verified) -> bool:
        """Whether a void bars the claim."""
        return (claim.payee, claim.nonce, claim.amount) in self._voids

    def next_deposit(self) -> None:
        """What is taken from here on is another deposit's: it makes titles of its own."""
        self._deposit += 1

    def number(self, claim_id: bytes) -> int:
        """The seq of a claim, registered or about to be: the next one."""
        return self._seqs.setdefault(claim_id, self._next)

    def take(self, part: Part, verified: Verified | None, state: int, owner: bytes | None) -> bool:
        """Decide that the whole part goes to an owner, or to nobody, if it is live under its title.

        verified: the claim that spends it, None for a renewal; state: SETTLED or RECLAIMED.
        """
        slices = self._slices.get(part.serial, [])
        at = self._live(part)
        if at is None:
            return False
        old = slices[at]
        pieces = [_Slice(part.lo, part.hi, _TAKEN)]
        if old.lo < part.lo:
            pieces.insert(0, _Slice(old.lo, part.lo, old.title_id))
        if part.hi < old.hi:
            pieces.append(_Slice(part.hi, old.hi, old.title_id))
        slices[at : at + 1] = pieces
        claim = None
        if verified is not None:
            claim = (self.number(verified.claim_id), verified.claim_id)
        self._cuts.append(_Cut(part, owner, claim, state, self._deposit))
        return True

    def first_mover(self, part: Part) -> bytes | None:
        """The claim that first moved some of a part that could not be taken; None if a renewal did.

        Raises LedgerError if nothing moved it: then the ledger is broken.
        """
        spent = self._spent.get(part)
        if spent is not None:
            return spent.claim_id
        for cut in self._cuts:
            if _overlap(cut.part, part):
                return None if cut.claim is None else cut.claim[1]
        raise broken(part.serial, "an interval is neither live nor spent under its title")

    def register(self, verified: Verified, result: o.Result, fund: int, loss: int) -> None:
        """Record a claim with its first outcome, and what of it was claimed before: self.repeated.

        It is compared with every claim before it, whatever became of either: late, voided or reclaimed, two
        signatures are two signatures. fund, loss: fen that the guarantee fund and the payee bear.
        """
        seq = self.number(verified.claim_id)
        self._next = seq + 1
        self._new.add(verified.claim_id)
        encoded = result.encode()
        self._results[verified.claim_id] = encoded
        self._claims.append(
            (
                verified.claim_id, seq, verified.payer, verified.data, self._now, encoded,
                fund, loss,
            )
        )  # fmt: skip
        for part, outcome in zip(verified.parts, result.outcomes, strict=True):
            first = self._claimed_before(part)
            if first is not None:
                self.repeated.append(Repeated(part, first, verified.data, seq))
            self._registered.setdefault(part.title_id, []).append((part, verified))
            if outcome.state not in (o.SETTLED, o.RECLAIMED):
                self._inputs.append((part.serial, part.title_id, part.lo, part.hi, seq))

    def fact(self) -> int:
        """The number of a further fact of this batch, between those of its claims and its moves."""
        self._next += 1
        return self._next - 1

    def _claimed_before(self, part: Part) -> bytes | None:
        """The first registered claim on some of the part under its title, encoded."""
        spent = self._spent.get(part)
        seqs = (self._unmoved.get(part), None if spent is None else spent.earliest)
        earliest = min((seq for seq in seqs if seq is not None), default=None)
        if earliest is not None:
            (found,) = self._storage.row("SELECT bytes FROM claims WHERE seq = ?", earliest)
            return bytes(found)
        for other, verified in self._registered.get(part.title_id, ()):
            if _overlap(other, part):
                return verified.data
        return None

    def _live(self, part: Part) -> int | None:
        """Which of the serial's slices holds the whole part live under its title, if one does."""
        slices = self._slices.get(part.serial, [])
        at = bisect_right(slices, part.lo, key=_LO) - 1
        if at < 0 or slices[at].title_id != part.title_id or slices[at].hi < part.hi:
            return None
        return at

    # ---- writing ------------------------------------------------------------------------------------

    def write(self, make_title: TitleMaker, make_coin: CoinMaker) -> None:
        """The one function in which value changes hands: cut what was taken out of its slices and put it
        under new titles of its new owners, or under none (redeemed). Also records the claims.

        What of one deposit goes to the same owner and touches on one serial becomes one title. What claims of
        it settle for one owner on more than one serial, or apart, is recoined: it becomes one fresh coin.
        """
        made = _Made(self._changed_slices())
        for (_, owner), cuts in _by_deposit_and_owner(self._cuts).items():
            groups = list(_touching(cuts))
            amount = sum(cut.part.hi - cut.part.lo for cut in cuts)
            settled = owner is not None and cuts[0].state == o.SETTLED
            if owner is not None and settled and len(groups) > 1 and amount <= o.MAX_AMOUNT:
                self._recoin(cuts, make_coin(amount, owner), make_title, made)
                continue
            for group in groups:
                self._retitle(group, owner, make_title, made)
        self._write_rows(made)

    def _changed_slices(self) -> dict[tuple[bytes, int], tuple[int, bytes | None]]:
        """What is left of the slices that something was taken out of, where it is new."""
        return {
            (serial, piece.lo): (piece.hi, piece.title_id)
            for serial in dict.fromkeys(cut.part.serial for cut in self._cuts)
            for piece in self._slices[serial]
            if piece.title_id != _TAKEN and (serial, piece) not in self._loaded
        }

    def _retitle(
        self, group: Sequence[_Cut], owner: bytes | None, make_title: TitleMaker, made: _Made
    ) -> None:
        """Put parts that touch under one title of their new owner, or under none."""
        serial, lo, hi = group[0].part.serial, group[0].part.lo, group[-1].part.hi
        title = None
        if owner is not None:
            amount, epoch = self._coins[serial]
            made.epochs[serial] = epoch = made.epochs.get(serial, epoch) + 1
            title = make_title(serial, amount, lo, hi, owner, epoch)
        title_id = self._spend(group, title, made)
        made.slices[serial, lo] = (hi, title_id)

    def _recoin(
        self, cuts: Sequence[_Cut], coin: o.Coin, make_title: TitleMaker, made: _Made
    ) -> None:
        """Put parts of any coins under the title of a fresh one, which they fill in their order."""
        made.coins.append(
            (
                coin.serial, self.fact(), coin.amount, coin.owner, coin.encode(), 1, self._now, 1,
            )
        )  # fmt: skip
        title = make_title(coin.serial, coin.amount, 0, coin.amount, coin.owner, 1)
        title_id = self._spend(cuts, title, made)
        made.slices[coin.serial, 0] = (coin.amount, title_id)
        for cut in cuts:
            made.slices[cut.part.serial, cut.part.lo] = (cut.part.hi, None)

    def _spend(self, cuts: Sequence[_Cut], title: o.Title | None, made: _Made) -> bytes | None:
        """Record that parts left their titles for another, or for none; the id of that title."""
        title_id = None
        if title is not None:
            title_id = object_id(title)
            made.titles.append(
                (
                    title.serial, title.epoch, self.fact(), title_id, title.lo, title.hi, title.owner,
                    title.encode(), self._now,
                )
            )  # fmt: skip
        for cut in cuts:
            part = cut.part
            claim = None if cut.claim is None else cut.claim[0]
            made.spends.append(
                (
                    part.serial, part.title_id, part.lo, part.hi, self.fact(), claim, cut.state,
                    title_id, self._now,
                )
            )  # fmt: skip
            if title is not None and title_id is not None and claim is not None:
                self._titles.setdefault(claim, {})[title_id] = title
        return title_id

    def _write_rows(self, made: _Made) -> None:
        storage = self._storage
        storage.insert("claims", _CLAIMS, self._claims)
        storage.insert("inputs", _INPUTS, self._inputs)
        storage.insert("coins", _COINS, made.coins)
        storage.insert("titles", _TITLES, made.titles)
        if made.epochs:
            new = storage.given({"serial": bytes, "epoch": int}, list(made.epochs.items()))
            storage.execute(
                f"UPDATE coins SET epoch = new.epoch FROM {new.sql} AS new"
                " WHERE coins.serial = new.serial",
                *new.values,
            )
        merged = [
            (cut.part.serial, cut.part.lo)
            for cut in self._cuts
            if (cut.part.serial, cut.part.lo) not in made.slices
        ]
        if merged:
            places = storage.given({"serial": bytes, "lo": int}, merged)
            storage.execute(
                f"DELETE FROM slices WHERE (serial, lo) IN (SELECT serial, lo FROM {places.sql} AS x)",
                *places.values,
            )
        storage.insert(
            "slices",
            _SLICES,
            [(serial, lo, *rest) for (serial, lo), rest in made.slices.items()],
            "(serial, lo) DO UPDATE SET hi = excluded.hi, title_id = excluded.title_id",
        )
        storage.insert("spends", _SPENDS, made.spends)
        storage.execute("UPDATE sequence SET next = ?", self._next)

    def titles_of(self, claim_id: bytes) -> list[o.Title] | None:
        """The titles that a claim led to, after write(); None if another batch registered it."""
        if claim_id not in self._new:
            return None
        return list(self._titles.get(self._seqs[claim_id], {}).values())


def _overlap(one: Part, other: Part) -> bool:
    """Whether both are on some of the same fen under the same title."""
    return one.title_id == other.title_id and one.lo < other.hi and one.hi > other.lo


def _by_deposit_and_owner(cuts: Sequence[_Cut]) -> dict[tuple[int, bytes | None], list[_Cut]]:
    """Cuts by whose order they are and where they go, in their order."""
    found: dict[tuple[int, bytes | None], list[_Cut]] = {}
    for cut in cuts:
        found.setdefault((cut.deposit, cut.owner), []).append(cut)
    return found


def _touching(cuts: Sequence[_Cut]) -> Iterator[list[_Cut]]:
    """Group cuts of one deposit and one owner that touch on one serial, in order of (serial, lo)."""
    group: list[_Cut] = []
    for cut in sorted(cuts, key=lambda cut: (cut.part.serial, cut.part.lo)):
        if group and (group[-1].part.serial, group[-1].part.hi) != (cut.part.serial, cut.part.lo):
            yield group
            group = []
        group.append(cut)
    if group:
        yield group


def broken(serial: bytes, why: str) -> LedgerError:
    """The error for a ledger that breaks its own rule."""
    return LedgerError(
        f"The ledger is inconsistent for serial {serial.hex()}: {why}. Nothing was changed.",
        hint="Stop the center, keep the ledger, and restore the last backup that passes the check.",
        serial=serial.hex(),
    )

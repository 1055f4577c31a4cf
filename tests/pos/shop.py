# SPDX-License-Identifier: Apache-2.0
"""A shop for the tests: a POS, a real registration center, emulated cards, a clock that is turned by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from chipcash import database
from chipcash.card import Card
from chipcash.center.errors import CenterUnreachable
from chipcash.center.parameters import Parameters
from chipcash.center.registration import Center
from chipcash.errors import LinkLostError
from chipcash.pos import Payment, PaymentState, Pos
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash_wire import commands as c
from chipcash_wire import objects as o
from tests.builders import NOW, Network, network
from tests.cards import make_card


class Shop:
    """Everything lives in one folder, so that copying the folder copies the world."""

    def __init__(self, folder: Path, suite: str = "p256", *, custody: str = "file") -> None:
        self.folder = folder
        self.custody = custody
        self.net: Network = network(suite)
        self.now = NOW
        self.center = Center(
            folder / "ledger.db",
            self.net.key("center"),
            self.net.trust,
            Parameters(),
            lambda: self.now,
        )
        self._pos: Pos | None = None

    @property
    def pos(self) -> Pos:
        """The POS, made, or opened again after `crash`."""
        if self._pos is None:
            path = self.folder / "pos"
            if path.exists():
                self._pos = Pos(path, clock=lambda: self.now)
            else:
                self._pos = Pos.init(
                    path,
                    self.net.trust,
                    "http://center.test",
                    clock=lambda: self.now,
                    custody=self.custody,
                )
        return self._pos

    def crash(self) -> None:
        """End the POS's process: what it did not commit is lost."""
        if self._pos is not None:
            self._pos.close()
            self._pos = None

    def close(self) -> None:
        self.crash()
        self.center.close()

    def card(self, name: str = "card", money: Sequence[int] = (10000,), **risk: Any) -> str:
        """A card with money of the center on it; its path."""
        image = self.folder / f"{name}.img"
        public = make_card(image, self.net, **risk)
        path = f"sim:{image}"
        self.load(path, public, money)
        return path

    def load(self, path: str, public: bytes, money: Sequence[int]) -> None:
        with open_path(path) as connection:
            card = Card(connection)
            card.select()
            for amount in money:
                card.put(self.center.register_coin(self.net.coin(amount, public)))

    def pay(self, path: str, amount: int, **options: Any) -> Payment:
        """Charge the card at a path."""
        with open_path(path) as connection:
            return self.pos.charge(connection, amount, **options)

    def spent(self, path: str) -> int:
        """What the card has paid, in fen."""
        with open_path(path) as connection:
            card = Card(connection)
            card.select()
            return card.info().spent

    def states(self) -> dict[bytes, str]:
        """Nonce to state."""
        return {payment.nonce: str(payment.state) for payment in self.pos.payments()}

    def money(self) -> int:
        """What the center says the POS owns, in fen; and the ledger is consistent."""
        self.center.check()
        owned: dict[str, int] = self.center.accounts()["owners"]
        return owned.get(self.pos.public.hex(), 0)


class SlowSigner:
    """From now on giving up takes its time, as with a SAM. signing: set once somebody gives up; signed: to be
    set, for it to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signing, self.signed = threading.Event(), threading.Event()
        give_up = Pos.give_up

        def slowly(pos: Pos, nonce: bytes | None = None) -> o.Void | None:
            self.signing.set()
            assert self.signed.wait(60)
            return give_up(pos, nonce)

        monkeypatch.setattr(Pos, "give_up", slowly)


def a_day(shop: Shop, ended: Callable[[], None]) -> str:
    """A payment, verified by another process of the till, some of it spent, a bill given up: what needs the
    till's keys. ended: ends its process. The path of the card, which has money left."""
    shop.pos.sync(shop.center)
    path = shop.card(money=(10000,))
    paid = shop.pay(path, 1200)
    ended()
    shop.pos.sync(shop.center)
    assert shop.pos.payment(paid.claim_id).state == PaymentState.VERIFIED
    shop.pos.spend(500, shop.net.key("bank").public, shop.center)
    assert shop.pos.balance().verified_fen == shop.money() == 700
    shop.pos.bill(100)
    assert shop.pos.give_up() is not None
    assert shop.pos.sync(shop.center).voids_sent == 1
    return path


class Torn(BaseConnection):
    """A card whose link breaks at PAY: before the command reaches it, or before its answer arrives."""

    def __init__(self, inner: Connection, *, before: bool = False, maybe: bool = True) -> None:
        super().__init__(inner.path, over_air=True)
        self.inner = inner
        self.before = before
        self.maybe = maybe
        self.instructions: list[int] = []

    def _transceive(self, apdu: bytes) -> bytes:
        self.instructions.append(apdu[1])
        if apdu[1] == c.INS_PAY:
            if not self.before:
                self.inner.transceive(apdu)
            raise LinkLostError("The card left the field.", maybe_executed=self.maybe)
        return self.inner.transceive(apdu)

    def close(self) -> None:
        self.inner.close()


class BadNetwork:
    """The way to the real center, that loses the n-th message to it, or the answer to it."""

    def __init__(self, center: Center, lose: int, *, answer: bool) -> None:
        self.center = center
        self.left = lose
        self.answer = answer

    def _pass(self, name: str, *values: Any) -> Any:
        lost = self.left == 0
        self.left -= 1
        if lost and not self.answer:
            raise CenterUnreachable("The line is dead.")
        result = getattr(self.center, name)(*values)
        if lost:
            raise CenterUnreachable("The line went dead.")
        return result

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        result: o.Receipt = self._pass("settle", deposit, titles)
        return result

    def register_void(self, void: o.Void) -> None:
        self._pass("register_void", void)

    def titles(self, owner: bytes) -> Sequence[o.Title]:
        result: Sequence[o.Title] = self._pass("titles", owner)
        return result

    def rules(self) -> o.TerminalRules:
        result: o.TerminalRules = self._pass("rules")
        return result

    def blacklist(self, since: int = 0) -> tuple[Sequence[o.BlacklistEntry], o.SignedTime]:
        result: tuple[Sequence[o.BlacklistEntry], o.SignedTime] = self._pass("blacklist", since)
        return result


class Crash(BaseException):
    """The power went."""


class _Counter:
    """Which statement of a database connection, or step on the disk, dies: before or after it took effect."""

    left = -1
    after = False
    dead = False

    @classmethod
    def step(cls, do: Callable[[], Any]) -> Any:
        if cls.dead:
            raise Crash  # who is dead cleans nothing up
        dies = cls.dead = cls.left == 0
        cls.left -= 1
        if dies and not cls.after:
            raise Crash
        done = do()
        if dies:
            raise Crash
        return done


def _dying(module: ModuleType) -> type[Any]:
    """A module's connection that dies at its n-th statement."""

    class Connection(module.Connection):  # type: ignore[name-defined,misc]
        def execute(self, *values: Any) -> Any:
            return _Counter.step(lambda: super(Connection, self).execute(*values))

        def executemany(self, *values: Any) -> Any:
            return _Counter.step(lambda: super(Connection, self).executemany(*values))

    return Connection


@contextmanager
def crash_at(statement: int, *, after: bool) -> Iterator[None]:
    """POS objects opened in here die at their n-th SQL statement, before or after it took effect."""
    real = database.driver
    _Counter.left, _Counter.after, _Counter.dead = statement, after, False

    def driver(key: bytes | None) -> Any:
        module = real(key)
        return SimpleNamespace(
            **{
                **vars(module),
                "connect": lambda *where, **how: module.connect(
                    *where, factory=_dying(module), **how
                ),
            }
        )

    database.driver = driver  # type: ignore[assignment]
    try:
        yield
    finally:
        database.driver = real


def crash_from_here(statement: int) -> None:
    """Within crash_at: count anew from here, so that opening the books is not counted."""
    _Counter.left = statement


@contextmanager
def crash_on_disk_at(step: int, *, after: bool) -> Iterator[None]:
    """As crash_at(), where also each write, sync, naming and removal of a file counts."""
    names = ("pwrite", "fsync", "replace", "unlink", "ftruncate")
    real = {name: getattr(os, name) for name in names}

    def dying(name: str) -> Callable[..., Any]:
        return lambda *values, **options: _Counter.step(lambda: real[name](*values, **options))

    with crash_at(step, after=after):
        try:
            for name in names:
                setattr(os, name, dying(name))
            yield
        finally:
            for name in names:
                setattr(os, name, real[name])


__all__ = [
    "BadNetwork",
    "Crash",
    "Shop",
    "Torn",
    "a_day",
    "crash_at",
    "crash_from_here",
    "crash_on_disk_at",
]

# SPDX-License-Identifier: Apache-2.0
"""The founding story with real parts: from a coin's issue over payments offline to its redemption.

Nothing here is played: the card runs the firmware's applet in a process of its own, terminals reach it over
the given link, the registration center answers over HTTP and is really down while the story is offline.
What the story finds out goes into Facts; what it shows comes as Scenes. Printing is the caller's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chipcash import crypto
from chipcash.bank.library import BankLibrary
from chipcash.card import Card
from chipcash.center.client import CenterClient
from chipcash.center.errors import CenterUnreachable
from chipcash.errors import ChipcashError
from chipcash.evidence import verify_evidence
from chipcash.genuine import genuine
from chipcash.pos import AnswerLost, PaymentState, PendingMoney, Pos, yuan
from chipcash.sandbox import PIN, Reader, Sandbox
from chipcash.terminal import Refusal
from chipcash.transports import Connection, open_path
from chipcash.transports.base import BaseConnection
from chipcash.trust import object_id
from chipcash_sim import emulator
from chipcash_wire import objects as o

__all__ = [
    "READERS",
    "Bar",
    "DemoFailed",
    "Facts",
    "Scene",
    "Span",
    "run",
]

READERS = 2
"""Readers that the story needs: the counter's and B's, and C's."""
COIN = 10_000
FIRST = 3_680
SECOND = 1_200
CLONED = 2_000
_INSERT_S = 15.0
_SELECT_AND_PAY = 2


class DemoFailed(ChipcashError):
    """The story did not go as it must: a fault of chipcash or of this machine."""

    exit_code = 40


@dataclass(frozen=True)
class Span:
    """The fen [lo, hi) of the coin and whose they are."""

    lo: int
    hi: int
    who: str


@dataclass(frozen=True)
class Bar:
    """One view of the coin: whose view, and its spans, which may leave gaps."""

    view: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Scene:
    """One step of the story: what happened, and the coin afterwards, amount fen long."""

    title: str
    text: str
    bars: tuple[Bar, ...]
    amount: int = COIN


@dataclass
class Facts:
    """What the story found out. Amounts in fen, by merchant where there are several; tap_ms: milliseconds."""

    runtime: str = ""
    link: str = ""
    suite: str = ""
    pending_fen: int = 0
    pending_spend_refused: bool = False
    torn_retry_same_bytes: bool = False
    torn_paid_once: bool = False
    verified_fen: dict[str, int] = field(default_factory=dict)
    disputed_fen: dict[str, int] = field(default_factory=dict)
    evidence_verifies: bool = False
    evidence: str = ""
    clone_refused: bool = False
    issued_fen: int = 0
    live_fen: int = 0
    redeemed_fen: int = 0
    accounted_fen: int = 0
    reserves_fen: dict[str, int] = field(default_factory=dict)
    tap_ms: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


class _Tap(BaseConnection):
    """A connection that notes how long the card was in use: first command out to last answer in."""

    def __init__(self, inner: Connection) -> None:
        super().__init__(inner.path, over_air=inner.over_air)
        self._inner = inner
        self._first = 0.0
        self._last = 0.0

    @property
    def milliseconds(self) -> float:
        return round((self._last - self._first) * 1000, 2)

    def _transceive(self, apdu: bytes) -> bytes:
        self._first = self._first or time.perf_counter()
        answer = self._inner.transceive(apdu)
        self._last = time.perf_counter()
        return answer

    def close(self) -> None:
        self._inner.close()


def run(
    directory: Path,
    suite: str,
    runtime: str,
    readers: Sequence[Reader],
    tell: Callable[[Scene], None],
) -> Facts:
    """Tell the story in a directory, scene by scene; returns what it found out.

    suite: gm or p256; runtime: of the emulated cards, micropython or cpython; tell: called after each
    scene. What is left in the directory (network in `network`, tills in `b` and `c`, cards `a.img` and
    `clone.img`) can be used further. Raises DemoFailed, or whatever fails.
    """
    with ExitStack() as stack:
        for reader in readers:
            stack.callback(reader.remove)
        story = _Story(directory, suite, runtime, readers, tell)
        stack.callback(story.sandbox.close)
        return story.play()


class _Story:
    def __init__(
        self,
        directory: Path,
        suite: str,
        runtime: str,
        readers: Sequence[Reader],
        tell: Callable[[Scene], None],
    ) -> None:
        self.directory = directory
        self.runtime = runtime
        self.counter, self.elsewhere = readers  # the bank's and B's reader; C's
        self.tell = tell
        self.facts = Facts(suite=suite)
        self.sandbox = Sandbox(directory, suite)
        self.trust = self.sandbox.trust
        self.image = directory / "a.img"
        self.clone = directory / "clone.img"
        self.names: dict[str | None, str] = {None: "redeemed"}
        self.serial = b""

    def play(self) -> Facts:
        client = self.sandbox.center
        self.issue()
        self.load()
        b, c = (self.open_till(name) for name in "BC")
        with self.sandbox.offline():
            self.pay_offline(b)
            self.tear(b)
            self.pay_with_the_clone(b, c)
        self.settle(client, b, c)
        self.refuse_the_clone(client, c)
        self.redeem(client, b)
        self.close_the_day(client)
        return self.facts

    # ---- parts --------------------------------------------------------------------------------------

    def open_till(self, name: str) -> Pos:
        """A merchant's POS, synchronised once."""
        pos = self.sandbox.till(name.lower())
        self.names[pos.public.hex()] = name
        return pos

    def charge(self, pos: Pos, path: str, amount: int) -> float:
        """Take amount from the card at a path, which must go well; the milliseconds of the tap."""
        with _Tap(open_path(path, wait=_INSERT_S)) as tap:
            pos.charge(tap, amount)
        self.facts.tap_ms.append(tap.milliseconds)
        return tap.milliseconds

    def show(self, title: str, *text: str, tills: Sequence[Pos] = ()) -> None:
        """A scene, with the center's record of the coin and what tills hold pending of it."""
        partition = self.sandbox.ledger.coin(self.serial)["partition"]
        spans = tuple(Span(x["lo"], x["hi"], self.names[x["owner"]]) for x in partition)
        bars = [Bar("center's record", spans)]
        for pos in tills:
            name = self.names[pos.public.hex()]
            claims = [o.Payment.decode(payment.data).claim for payment in pos.balance().pending]
            inputs = sorted((item.lo, item.hi) for claim in claims for item in claim.inputs)
            if inputs:
                bars.append(Bar(f"pending at {name}", tuple(Span(*ends, name) for ends in inputs)))
        self.tell(Scene(title, " ".join(text), tuple(bars)))

    # ---- scenes -------------------------------------------------------------------------------------

    def issue(self) -> None:
        self.names[self.sandbox.bank.public.hex()] = "Bank of China"
        coin = self.sandbox.fund(COIN)
        self.serial = coin.serial
        self.show(
            f"The central bank issues {yuan(COIN)} to the Bank of China",
            f"Coin {coin.serial.hex()} against {yuan(COIN)} of reserves,",
            "signed by the issuing library and registered with the registration center.",
        )

    def load(self) -> None:
        with emulator.Card(self.image):
            pass  # a blank card
        path = self.counter.insert(self.image, self.runtime)
        with open_path(path, wait=_INSERT_S) as connection:
            self.facts.link = connection.path.partition(":")[0]
            certificate = self.sandbox.issue_card(connection, COIN)
            self.names[certificate.subject.hex()] = "A"
            card = Card(connection)
            card.select()
            genuine(card, self.trust, secrets.token_bytes(16))
            build = card.info().build.decode()
        self.counter.remove()
        self.facts.runtime = build.rpartition(" ")[2]
        emulator.clone(self.image, self.clone)
        self.show(
            f"The Bank of China gives {yuan(COIN)} to A's card",
            f"The card ({build}, at {path}) made its own key, was certified, and holds the title.",
            "Unseen, somebody copies the whole card: key, PIN and money.",
        )

    def pay_offline(self, b: Pos) -> None:
        try:
            b.sync(self.sandbox.center)
        except CenterUnreachable:
            pass
        else:
            raise DemoFailed("The center answers although it is down.")
        path = self.counter.insert(self.image, self.runtime)
        took = self.charge(b, path, FIRST)
        self.counter.remove()
        self.show(
            f"Offline: A pays merchant B {yuan(FIRST)}",
            "The center is down: B's till got no answer. Card and till settle it between themselves:",
            f"SELECT and PAY took {took:.1f} ms; the till verified title, certificate and claim.",
            tills=(b,),
        )

    def tear(self, b: Pos) -> None:
        path = self.counter.insert(self.image, self.runtime, cut_after=_SELECT_AND_PAY)
        with open_path(path, wait=_INSERT_S) as connection:
            try:
                b.charge(connection, SECOND)
            except AnswerLost as lost:
                nonce = lost.nonce
            else:
                raise DemoFailed("The card was torn, but the till got an answer.")
        path = self.counter.insert(self.image, self.runtime)
        with open_path(path, wait=_INSERT_S) as connection:
            # What the card holds before the retry, as its owner can see it.
            card = Card(connection)
            card.select()
            card.verify_pin(PIN)
            written = next(card.payments()).encode()
            before = card.info()
        took = self.charge(b, path, SECOND)
        self.facts.torn_retry_same_bytes = b.payment(nonce).data == written
        with open_path(path, wait=_INSERT_S) as connection:
            card = Card(connection)
            card.select()
            after = card.info()
        self.counter.remove()
        self.facts.torn_paid_once = (before.counter, before.spent) == (after.counter, after.spent)
        balance = b.balance()
        self.facts.pending_fen = balance.pending_fen
        try:
            b.spend(SECOND, self.trust.center_key, self.sandbox.center)
        except PendingMoney:
            self.facts.pending_spend_refused = True
        same = "the very same bytes" if self.facts.torn_retry_same_bytes else "OTHER BYTES"
        once = "once" if self.facts.torn_paid_once else "MORE THAN ONCE"
        refused = "refused" if self.facts.pending_spend_refused else "NOT REFUSED"
        self.show(
            f"Offline: A pays B {yuan(SECOND)} more, and the card is torn off before it answers",
            "B's till does not know whether it was paid, keeps the request open and asks again:",
            f"the card answers {same} ({took:.1f} ms). A has paid {once}.",
            f"B's till: {yuan(balance.pending_fen)} Pending Repeat Payment Verification,"
            f" {yuan(balance.verified_fen)} verified. Spending it: {refused}.",
            tills=(b,),
        )

    def pay_with_the_clone(self, b: Pos, c: Pos) -> None:
        path = self.elsewhere.insert(self.clone, self.runtime)
        took = self.charge(c, path, CLONED)
        self.elsewhere.remove()
        self.show(
            f"Offline: the copy of A's card pays merchant C {yuan(CLONED)}",
            f"C's till finds nothing wrong ({took:.1f} ms): certificate, title and signature are good.",
            "That the same fen were paid to B, nobody can know offline. They are pending, too.",
            tills=(b, c),
        )

    def settle(self, client: CenterClient, b: Pos, c: Pos) -> None:
        for pos in (b, c):
            name = self.names[pos.public.hex()]
            pos.sync(client)
            balance = pos.balance()
            self.facts.verified_fen[name] = balance.verified_fen
            self.facts.disputed_fen[name] = balance.disputed_fen
        disputed = c.payments(PaymentState.DISPUTED)
        if not disputed:
            raise DemoFailed("The center did not find the repeat payment.")
        told = client.claim(disputed[0].claim_id)
        evidence = client.evidence(bytes.fromhex(told["evidence"][0]))
        file = self.directory / "evidence.bin"
        file.write_bytes(evidence.encode())
        facts = verify_evidence(o.Evidence.decode(file.read_bytes()), self.trust)
        self.facts.evidence = object_id(evidence).hex()
        self.facts.evidence_verifies = self.names[facts.payer.hex()] == "A"
        loss = told["loss"]
        self.show(
            "The network is back: B and C synchronise",
            f"B: {yuan(self.facts.verified_fen['B'])} VERIFIED; the center made B the owner.",
            f"C: {yuan(self.facts.disputed_fen['C'])} DISPUTED: fen {facts.lo} to {facts.hi} had been"
            " registered before, for B.",
            "The two signed claims are the evidence, which anyone can check with the network's public"
            " file.",
            f"By policy the guarantee fund bears {yuan(loss['guarantee_fund_fen'])} of it,"
            f" C {yuan(loss['payee_fen'])}.",
        )

    def refuse_the_clone(self, client: CenterClient, c: Pos) -> None:
        path = self.elsewhere.insert(self.clone, self.runtime)
        with open_path(path, wait=_INSERT_S) as connection:
            try:
                c.charge(connection, SECOND)
            except Refusal as refusal:
                self.facts.clone_refused = refusal.reason == "blacklisted"
                said = refusal.message
            else:
                said = "It was taken."
        self.elsewhere.remove()
        if c.open_requests():
            c.give_up()
            c.sync(client)
        self.show(
            "The copy tries again at C",
            f"C's till: {said}",
            "C gives the request up: its void bars whatever the copy has signed. A's own card has the same"
            " key, so tills refuse it, too: A has to see the bank.",
        )

    def redeem(self, client: CenterClient, b: Pos) -> None:
        home, issuing = self.sandbox.home, self.sandbox.issuing
        key = home.directory / "icbc.key"
        crypto.PrivateKey.generate(self.trust.suite).save(key)
        icbc = BankLibrary(
            home.directory / "icbc.db",
            crypto.PrivateKey.load(key),
            self.trust,
            client,
            home.authority().clock,
        )
        with closing(icbc):
            self.names[icbc.public.hex()] = "ICBC"
            fen = b.balance().verified_fen
            b.spend(fen, icbc.public, client)
            for title in client.titles(icbc.public):
                icbc.add(title)
            self.show(
                f"B deposits {yuan(fen)} at its bank, ICBC",
                "A transfer online is a claim like any other; the center makes ICBC the owner at once.",
            )
            back = icbc.redeem(fen)
            for claim, spent in zip(back.deposit.claims, back.spent, strict=True):
                issuing.credit(claim, spent, back.receipt)
            reserve = issuing.reserve(icbc.public)
            self.facts.reserves_fen = {
                name: issuing.reserve(bytes.fromhex(owner))
                for owner, name in self.names.items()
                if owner is not None and name in ("Bank of China", "ICBC")
            }
        self.show(
            f"ICBC redeems {yuan(fen)}",
            f"That part of the coin is cancelled for ever; ICBC's reserve is {yuan(reserve)} again.",
        )

    def close_the_day(self, client: CenterClient) -> None:
        self.sandbox.ledger.check()
        accounts = client.accounts()
        facts = self.facts
        facts.issued_fen = accounts["issued_fen"]
        facts.live_fen = accounts["live_fen"]
        facts.redeemed_fen = accounts["redeemed_fen"]
        facts.accounted_fen = sum(accounts["owners"].values()) + accounts["redeemed_fen"]
        owners = ", ".join(
            f"{self.names[owner]} {yuan(fen)}" for owner, fen in accounts["owners"].items()
        )
        balanced = facts.issued_fen == facts.accounted_fen
        self.show(
            "The day's accounts " + ("balance to the fen" if balanced else "DO NOT BALANCE"),
            f"Issued {yuan(facts.issued_fen)} = owned {yuan(facts.live_fen)} ({owners})"
            f" + redeemed {yuan(facts.redeemed_fen)}.",
            "Every fen of the coin has exactly one owner, and its whole life can be read at the center.",
        )

# SPDX-License-Identifier: Apache-2.0
"""The center's log of the story: entries, roots, proofs, a checkpoint; and logs that no audit may take.

Hashes and signatures are put together here from the words of RFC 9162 and C2SP, not by what is tested.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chipcash.log.facts import Fact
from chipcash_wire import objects as o
from tests.builders import make_entry
from tests.vectors.make_objects import repeated
from tests.vectors.signing import DAY, T0, YEAR, Network, derived, serial

ORIGIN = "log.chipcash.example"
WITNESS = "bank.chipcash.example/witness"


def split(size: int) -> int:
    """The largest power of two below size."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def mth(data: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1."""
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\0" + data[0]).digest()
    k = split(len(data))
    return hashlib.sha256(b"\1" + mth(data[:k]) + mth(data[k:])).digest()


def path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if len(data) == 1:
        return []
    k = split(len(data))
    if m < k:
        return [*path(m, data[:k]), mth(data[k:])]
    return [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.4.1."""
    if m == len(data):
        return [] if whole else [mth(data)]
    k = split(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


class _Signer:
    """An Ed25519 key of a name: its key string, and its signature lines."""

    def __init__(self, name: str, kind: int) -> None:
        self.name, self.kind = name, kind
        self.private = Ed25519PrivateKey.from_private_bytes(derived("key", name))
        material = bytes((kind,)) + self.private.public_key().public_bytes_raw()
        self.ident = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
        self.text = f"{name}+{self.ident.hex()}+{base64.b64encode(material).decode()}"

    def line(self, message: bytes, before: bytes = b"") -> str:
        data = self.ident + before + self.private.sign(message)
        return f"— {self.name} {base64.b64encode(data).decode()}\n"


class _Story:
    """The facts so far, with the names of their entries."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.entries: list[tuple[str, o.LogEntry]] = []

    def add(self, name: str, fact: Fact, result: o.Result | None = None, time: int = T0) -> None:
        self.entries.append((name, make_entry(self.net.header, time, fact, result)))

    def claim(self, name: str, claim: o.Claim, state: int, first: o.Claim | None = None) -> None:
        """A claim all of whose intervals end the same way."""
        earlier = None if first is None else self.net.id(first)
        outcomes = tuple(
            o.Outcome(title_id=x.title_id, lo=x.lo, hi=x.hi, state=state, claim_id=earlier)
            for x in claim.inputs
        )
        self.add(name, claim, o.Result(claim_id=self.net.id(claim), outcomes=outcomes), claim.time)

    def move(self, name: str, claim: o.Claim, at: int, new: o.Title | None) -> None:
        """What one interval of a claim has become."""
        item = claim.inputs[at]
        move = o.Move(
            title_id=item.title_id,
            lo=item.lo,
            hi=item.hi,
            state=o.SETTLED,
            claim_id=self.net.id(claim),
            new_title_id=None if new is None else self.net.id(new),
        )
        self.add(name, move, time=claim.time)


def _story(net: Network) -> list[tuple[str, o.LogEntry]]:
    story = _Story(net)
    story.add("the card's certificate", net.certificate())
    story.add("the coin", net.coin())
    story.add("its first title", net.bank_title)
    for name, lo, hi, title in (
        ("first withdrawal", 0, 10_000, net.small_title),
        ("second withdrawal", 50_000, 70_000, net.large_title),
    ):
        claim = net.transfer("bank", "card", net.bank_title, lo, hi, name)
        story.claim(name, claim, o.SETTLED)
        story.add(f"title of the {name}", title)
        story.move(f"move of the {name}", claim, 0, title)
    first, second = net.first_payment.claim, net.second_payment.claim
    story.claim("the first payment", first, o.SETTLED)
    story.claim("the second payment, of two titles", second, o.SETTLED)
    fresh = net.coin(26_200, "merchant", by="center", serial=serial("fresh coin"))
    whole = net.title(
        "merchant", 0, 26_200, 1, serial=fresh.serial, amount=26_200, expiry=T0 + 366 * DAY
    )
    story.add("a fresh coin", fresh)
    story.add("the title of the fresh coin", whole)
    story.move("what was paid first", first, 0, whole)
    story.move("what was paid next", second, 0, whole)
    story.move("what was paid at last", second, 1, whole)
    again = repeated(net)
    story.claim("a repeat payment", again, o.DISPUTED, first)
    evidence = o.Evidence(header=net.header, title=net.small_title, claims=(first, again))
    story.add("its evidence", evidence)
    listing = net.entry(
        1, "card", reason=o.REASON_REPEAT_PAYMENT, digest=net.id(evidence)
    )  # fmt: skip
    story.add("its payer's key", listing)
    redeeming = net.transfer("merchant", "issuer", whole, 0, 6_200, "redemption")
    story.claim("a redemption", redeeming, o.SETTLED)
    story.move("what is redeemed", redeeming, 0, None)
    unpaid = net.transfer("card", "merchant", net.small_title, 6_200, 6_300, "voided")
    story.add("a void", net.void(unpaid, "merchant"))
    story.claim("a voided claim", unpaid, o.VOIDED)
    renewed = net.title("bank", 10_000, 50_000, 4, expiry=T0 + 3 * YEAR)
    story.add("the title of what expired", renewed, time=T0 + 2 * YEAR)
    back = o.Move(
        title_id=net.id(net.bank_title), lo=10_000, hi=50_000, state=o.RECLAIMED,
        new_title_id=net.id(renewed),
    )  # fmt: skip
    story.add("what expired, back to its owner", back, time=T0 + 2 * YEAR)
    return story.entries


def log(net: Network) -> list[dict[str, Any]]:
    """Entries in order, proofs, the checkpoint, then logs that are refused."""
    story = _story(net)
    data = [entry.encode() for _, entry in story]
    lines: list[dict[str, Any]] = [
        {"name": name, "entry": entry.hex(), "leaf": mth([entry]).hex(), "size": at + 1,
         "root": mth(data[: at + 1]).hex()}
        for at, ((name, _), entry) in enumerate(zip(story, data, strict=True))
    ]  # fmt: skip
    size = len(data)
    for index in (0, 7, size - 1):
        proof = [step.hex() for step in path(index, data)]
        lines.append({"name": "inclusion", "index": index, "size": size, "proof": proof})
    for old in (1, 8, 13):
        proof = [step.hex() for step in subproof(old, data, True)]
        lines.append({"name": "consistency", "old": old, "size": size, "proof": proof})
    signer, witness = _Signer(ORIGIN, 1), _Signer(WITNESS, 4)
    body = f"{ORIGIN}\n{size}\n{base64.b64encode(mth(data)).decode()}\n"
    time = T0 + 2 * YEAR
    cosigned = f"cosignature/v1\ntime {time}\n{body}".encode()
    note = (
        body + "\n" + signer.line(body.encode()) + witness.line(cosigned, time.to_bytes(8, "big"))
    )
    lines.append({"name": "checkpoint", "log": signer.text, "witness": witness.text, "note": note})
    return lines + _refused(net, story)


def _refused(net: Network, story: list[tuple[str, o.LogEntry]]) -> list[dict[str, Any]]:
    """Logs in which one entry has another in its place: number of it, and of the entry that is refused."""
    at = {name: number for number, (name, _) in enumerate(story)}
    found = []

    def instead(
        name: str, of: str, fact: Fact, refused: str, result: o.Result | None = None
    ) -> None:
        entry = make_entry(net.header, story[at[of]][1].time, fact, result)
        found.append(
            {"name": name, "instead": at[of], "entry": entry.encode().hex(), "refused": at[refused]}
        )

    coin = net.coin()
    richer = o.Coin(**{**coin.__dict__, "amount": 2_000_000})
    instead("more money than was issued", "the coin", richer, "the coin")
    forged = net.title("bank", 0, 1_000_000, 1, by="stranger")
    instead("a title by somebody else", "its first title", forged, "its first title")
    title = net.title("card", 0, 10_000, 1)
    instead(
        "an epoch twice", "title of the first withdrawal", title, "title of the first withdrawal"
    )
    longer = net.title("card", 0, 10_001, 2)
    instead(
        "a title for a fen more than moved", "title of the first withdrawal", longer,
        "move of the first withdrawal",
    )  # fmt: skip
    fresh = story[at["a fresh coin"]][1].coins[0]
    alien = net.coin(26_200, "merchant", by="stranger", serial=fresh.serial)
    instead("a fresh coin of somebody else's", "a fresh coin", alien, "a fresh coin")
    fuller = net.coin(26_201, "merchant", by="center", serial=fresh.serial)
    instead("a fresh coin with a fen more", "a fresh coin", fuller, "the title of the fresh coin")
    move = story[at["what was paid first"]][1].moves[0]
    moved = o.Move(**{**move.__dict__, "hi": move.hi + 1})
    instead("a fen more than was paid", "what was paid first", moved, "what was paid first")
    again, result = (
        story[at["a repeat payment"]][1].claims[0],
        story[at["a repeat payment"]][1].results[0],
    )
    paid = o.Outcome(**{**result.outcomes[0].__dict__, "state": o.SETTLED, "claim_id": None})
    instead(
        "a repeat payment that settles", "a repeat payment", again, "a repeat payment",
        o.Result(claim_id=result.claim_id, outcomes=(paid,)),
    )  # fmt: skip
    listing = net.entry(1, "merchant", reason=o.REASON_REPEAT_PAYMENT,
                        digest=story[at["its payer's key"]][1].entries[0].digest)  # fmt: skip
    instead("somebody else is accused", "its payer's key", listing, "its payer's key")
    return found

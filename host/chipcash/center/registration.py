# SPDX-License-Identifier: Apache-2.0
"""The registration center: who owns which fen of which coin (protocols/spec/center.md).

Every coin's [0, amount) is partitioned into slices; a slice is live under exactly one title or redeemed.
Value changes hands in one function only, `Batch.write`, always inside one transaction that is durable before
anything is answered. Whatever is needed to answer the same request with the same bytes is written in the
same transaction, so a crash between commit and answer costs nothing.

Signatures are verified before the transaction begins: titles never change once they are made.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chipcash import crypto
from chipcash.center.batch import Batch, Part, Repeated, Unverified, Verified
from chipcash.center.bodies import read_with_titles
from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.group_commit import GroupCommit
from chipcash.center.inquiry import Inquiry, unknown
from chipcash.center.parameters import Parameters
from chipcash.center.storage import Storage, open_storage
from chipcash.center.verification import Checked, Checkers, Verifier
from chipcash.clock import Clock, system_clock
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o

__all__ = ["Center", "is_invalid"]

MAX_RENEWED = 200
"""Most slices that one reclaim of a title brings back; the next reclaim brings the next."""


class Center(Inquiry):
    """A registration center over its ledger. Safe to use from several threads.

    ledger: it, or where it is, see open_storage(); key: the center's private key; trust: the network, whose
    center certificate must be for that key; clock: seconds since 1970; fresh_serial: 16 bytes that no coin
    has had, for one that the center makes. Methods raise CenterRefused where
    the center says no, and then nothing has changed.
    """

    def __init__(
        self,
        ledger: str | Path | Storage,
        key: crypto.PrivateKey,
        trust: Trust,
        parameters: Parameters | None = None,
        clock: Clock = system_clock,
        fresh_serial: Callable[[], bytes] = lambda: secrets.token_bytes(16),
    ) -> None:
        if key.public != trust.center_key:
            raise LedgerError(
                "This private key is not the one that the network's center certificate names.",
                hint="Start the center with the directory that belongs to this network file.",
            )
        super().__init__(ledger if isinstance(ledger, Storage) else open_storage(ledger))
        self.trust = trust
        self.parameters = parameters or Parameters()
        self._key = key
        self._clock = clock
        self._fresh_serial = fresh_serial
        self._ledger = ledger
        self.verifier = Verifier(self.storage, trust)
        self.checkers: Checkers | None = None
        self._group = GroupCommit(self._settle_checked)

    def check_in(self, processes: int) -> None:
        """From now on have deposits checked in so many processes of their own, which open the ledger too."""
        # One in memory is nobody else's: its titles would be unknown there.
        if isinstance(self._ledger, Storage) or str(self._ledger) == ":memory:":
            raise ValueError(
                "only a ledger in a file or at a server can be read by other processes"
            )
        self.checkers = Checkers(self._ledger, self.trust, processes)

    def close(self) -> None:
        """Close the ledger, and end what checks deposits."""
        if self.checkers is not None:
            self.checkers.close()
        super().close()

    # ---- money in, money on -------------------------------------------------------------------------

    def register_coin(self, coin: o.Coin) -> o.Title:
        """Register a new coin of the issuing library; its title for the coin's owner.

        The same coin brings the same title. Refused: signature, network, conflict (the serial was
        registered with other content).
        """
        self.verifier.need_header(coin)
        if not self.trust.signed_by_issuer(coin):
            raise _refused_signature("coin", "the issuing library")
        with self.storage.transaction():
            row = self.storage.one("SELECT bytes FROM coins WHERE serial = ?", coin.serial)
            if row is not None:
                if o.Coin.decode(row[0]).message() != coin.message():
                    raise CenterRefused(
                        "conflict",
                        "This serial was registered before with another amount or owner.",
                        status=409,
                        hint="A serial is never reused: create another coin.",
                    )
                return self._title_of_epoch(coin.serial, 1)
            title = self._make_title(coin.serial, coin.amount, 0, coin.amount, coin.owner, 1)
            title_id = object_id(title)
            self.storage.execute(
                "INSERT INTO coins (serial, seq, amount, owner, bytes, epoch, time, recoined)"
                " VALUES (?,?,?,?,?,1,?,0)",
                coin.serial, self._fact(), coin.amount, coin.owner, coin.encode(), self._clock(),
            )  # fmt: skip
            self.storage.execute(
                "INSERT INTO titles (serial, epoch, seq, title_id, lo, hi, owner, bytes, time)"
                " VALUES (?,1,?,?,0,?,?,?,?)",
                coin.serial, self._fact(), title_id, coin.amount, coin.owner, title.encode(),
                self._clock(),
            )  # fmt: skip
            self.storage.execute(
                "INSERT INTO slices (serial, lo, hi, title_id) VALUES (?,0,?,?)",
                coin.serial, coin.amount, title_id,
            )  # fmt: skip
            return title

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Settle a deposit's claims, each interval by itself, in one transaction, which it may share with
        deposits that others send at the same time.

        titles: those that the claims spend, any or none; this ledger knows its own.

        The same deposit brings the same receipt, a claim registered before its first outcome; a deposit that
        registers nothing is not kept. The receipt carries the titles that the claims led to. A claim that
        does not verify ends *invalid* and stops no other. Refused: network, too-large (more than
        MAX_INTERVALS intervals).
        """
        self.verifier.need_settleable(deposit)
        digest = object_id(deposit)
        settled = self._receipts([digest]).get(digest)
        if settled is not None:
            return settled
        (checked,) = self.verifier.check([deposit], titles)
        return self._group.settle(checked)

    def settle_body(self, body: bytes) -> o.Receipt:
        """settle() of a request's body: a deposit, and titles behind it. Refused: malformed too."""
        if self.checkers is None:
            return self.settle(*read_with_titles(o.Deposit, body))
        return self._group.settle(self.checkers.check(body))

    def settle_together(
        self, deposits: Sequence[o.Deposit], titles: Sequence[o.Title] = ()
    ) -> list[o.Receipt]:
        """Settle deposits one after the other, in one transaction: their receipts, as settle() gives them.

        Each is to pass verifier.need_settleable() first; titles: those of all of them.
        """
        digests = [object_id(deposit) for deposit in deposits]
        receipts = self._receipts(digests)
        new = {
            digest: deposit
            for digest, deposit in zip(digests, deposits, strict=True)
            if digest not in receipts
        }
        if new:
            made = self._settle_checked(self.verifier.check(list(new.values()), titles))
            receipts |= dict(zip(new, made, strict=True))
        return [receipts[digest] for digest in digests]

    def _settle_checked(self, deposits: Sequence[Checked]) -> list[o.Receipt]:
        claims = [claim for deposit in deposits for claim in deposit.claims]
        with self.storage.transaction():
            batch = Batch(self.storage, self._clock())
            batch.load([claim for claim in claims if isinstance(claim, Verified)])
            receipts = self._receipts([deposit.digest for deposit in deposits])
            receipts |= self._settle_new([x for x in deposits if x.digest not in receipts], batch)
        return [receipts[deposit.digest] for deposit in deposits]

    def register_void(self, void: o.Void) -> None:
        """Bar the claim with this nonce, payee and amount for ever; it may come again.

        Refused: signature, network.
        """
        self.verifier.need_header(void)
        self._need_payee_signature(void)
        with self.storage.transaction():
            known = self.storage.one(
                "SELECT 1 FROM voids WHERE payee = ? AND nonce = ? AND amount = ?",
                void.payee, void.nonce, void.amount,
            )  # fmt: skip
            if known is None:
                self._store_void(void, self._fact())

    def reclaim(self, reclaim: o.Reclaim, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Give money back to its payer: the intervals of a claim, or what is left of an expired title.

        titles: as of settle().

        The receipt carries the payer's new titles; asking again brings them again. Refused: network,
        signature (of the void), not-yet (neither past deadline or expiry and grace, nor voided), unknown.
        """
        self.verifier.need_header(reclaim)
        if reclaim.title_id is not None:
            return self._reclaim_title(reclaim, reclaim.title_id)
        return self._reclaim_claim(reclaim, reclaim.claims[0], titles)

    # ---- cards --------------------------------------------------------------------------------------

    def register_card(self, certificate: o.Certificate) -> o.RiskParameters:
        """Register a certified card: its first risk parameters (sequence 1), or its newest if it was.

        A later certificate for the same key replaces the stored one. Refused: signature, network, role,
        expired, blacklisted.
        """
        self.verifier.need_header(certificate)
        if not self.trust.signed_by_certification(certificate):
            raise _refused_signature("certificate", "the certification center")
        if certificate.role != o.ROLE_CARD:
            raise CenterRefused("role", "This certificate is not a card's; nothing was registered.")
        self._need_unexpired(certificate)
        with self.storage.transaction():
            self._need_unlisted(certificate.subject)
            row = self.storage.one(
                "SELECT certificate, risk FROM cards WHERE subject = ?", certificate.subject
            )
            if row is None:
                risk = self.make_risk(certificate, 1)
                self._log_certificate(certificate)
                self.storage.execute(
                    "INSERT INTO cards (subject, certificate, sequence, risk) VALUES (?,?,1,?)",
                    certificate.subject, certificate.encode(), risk.encode(),
                )  # fmt: skip
                return risk
            if certificate.expiry > o.Certificate.decode(row[0]).expiry:
                self._log_certificate(certificate)
                self.storage.execute(
                    "UPDATE cards SET certificate = ? WHERE subject = ?",
                    certificate.encode(), certificate.subject,
                )  # fmt: skip
            return o.RiskParameters.decode(row[1])

    def challenge(self, key: bytes) -> bytes:
        """16 fresh bytes for the card with this key to prove itself with, once. Refused: unknown."""
        nonce = secrets.token_bytes(16)
        with self.storage.transaction():
            self._card(key)
            now = self._clock()
            self.storage.execute(
                "DELETE FROM challenges WHERE time < ?", now - self.parameters.challenge_lifetime
            )
            self.storage.execute(
                "INSERT INTO challenges (nonce, subject, time) VALUES (?,?,?)", nonce, key, now
            )
        return nonce

    def risk(self, key: bytes, proof: o.GenuineProof) -> o.RiskParameters:
        """The card's next risk parameters, against its genuine proof over a challenge of this center.

        Refused: unknown, network, subject, signature, challenge, expired, blacklisted.
        """
        self.verifier.need_header(proof)
        if proof.subject != key:
            raise CenterRefused("subject", "The proof is another card's.")
        if not self.trust.signed_by(proof, key):
            raise _refused_signature("proof", "the card")
        with self.storage.transaction():
            certificate, sequence = self._card(key)
            row = self.storage.one(
                "SELECT time FROM challenges WHERE nonce = ? AND subject = ?", proof.nonce, key
            )
            if row is None or row[0] + self.parameters.challenge_lifetime < self._clock():
                raise CenterRefused(
                    "challenge",
                    "The proof answers no challenge that is open for this card.",
                    hint="Get a new challenge and repeat.",
                )
            self._need_unexpired(certificate)
            self._need_unlisted(key)
            risk = self.make_risk(certificate, sequence + 1)
            self.storage.execute("DELETE FROM challenges WHERE nonce = ?", proof.nonce)
            self.storage.execute(
                "UPDATE cards SET sequence = ?, risk = ? WHERE subject = ?",
                sequence + 1, risk.encode(), key,
            )  # fmt: skip
            return risk

    def block(self, key: bytes) -> None:
        """Put a lost card's key on the blacklist. For who runs the center: no request over HTTP does it."""
        with self.storage.transaction():
            if not self._is_listed(key):
                self._list(key, o.REASON_LOST, None, self._fact())

    # ---- the network, time and the blacklist -------------------------------------------------------

    def network(self) -> tuple[o.Certificate, ...]:
        """The certificates of the issuing library and of this center."""
        return self.trust.certificates

    def signed_time(self) -> o.SignedTime:
        """The center's time and the number of blacklist entries."""
        with self.storage.reading():
            (sequence,) = self.storage.row("SELECT COALESCE(MAX(sequence), 0) FROM blacklist")
            signed_time: o.SignedTime = self._signed(
                o.SignedTime(
                    header=self.trust.header,
                    signer=self._key.key_id,
                    time=self._clock(),
                    sequence=sequence,
                )
            )
            return signed_time

    def rules(self) -> o.TerminalRules:
        """What terminals may take offline, as of now."""
        limits = self.parameters.terminal
        rules: o.TerminalRules = self._signed(
            o.TerminalRules(
                header=self.trust.header,
                signer=self._key.key_id,
                time=self._clock(),
                per_payment=limits.per_payment,
                per_card=limits.per_card,
                per_shift=limits.per_shift,
                in_all=limits.in_all,
                pending_age=limits.pending_age,
                blacklist_age=limits.blacklist_age,
                guarantee=self.parameters.guarantee,
            )
        )
        return rules

    def blacklist(self, since: int = 0) -> tuple[tuple[o.BlacklistEntry, ...], o.SignedTime]:
        """Entries with a sequence above since, in order, and the signed time that completes them."""
        with self.storage.reading():
            rows = self.storage.all(
                "SELECT bytes FROM blacklist WHERE sequence > ? ORDER BY sequence", since
            )
            signed_time = self.signed_time()
        return tuple(o.BlacklistEntry.decode(row[0]) for row in rows), signed_time

    # ---- settling -----------------------------------------------------------------------------------

    def _settle_new(self, deposits: Sequence[Checked], batch: Batch) -> dict[bytes, o.Receipt]:
        """Settle deposits that have no receipt."""
        results: dict[bytes, list[o.Result]] = {}
        new: set[bytes] = set()
        for deposit in deposits:
            batch.next_deposit()
            if any(isinstance(x, Verified) and not batch.known(x.claim_id) for x in deposit.claims):
                new.add(deposit.digest)
            results[deposit.digest] = [self._settle(claim, batch) for claim in deposit.claims]
        self._finish(batch)
        made: dict[bytes, o.Receipt] = {}
        for digest, found in results.items():
            # An invalid claim may bear the id of a good one: the id does not cover the signature.
            valid = [result.claim_id for result in found if not is_invalid(result)]
            titles = self._titles_led_to(valid, o.SETTLED, batch)
            made[digest] = self._make_receipt(digest, found, titles)
        # What registers nothing is not kept: whoever sends it again hears the same, and floods fill no disk.
        self._store_receipts({digest: made[digest] for digest in new})
        return made

    def _settle(self, claim: Verified | Unverified, batch: Batch) -> o.Result:
        """Decide and register one claim; its first outcome if it was registered before."""
        if isinstance(claim, Unverified):
            return _invalid(claim)
        known = batch.known(claim.claim_id)
        if known is not None:
            return known
        if batch.is_void(claim):
            result = _uniform(claim, o.VOIDED)
        elif self._clock() > claim.deadline + self.parameters.grace:
            result = _uniform(claim, o.EXPIRED)
        else:
            redeemed = claim.payee == self.trust.issuer_key
            result = _decide(claim, batch, o.SETTLED, None if redeemed else claim.payee)
        loss = sum(x.hi - x.lo for x in result.outcomes if x.state == o.DISPUTED)
        fund = min(loss, self.parameters.guarantee)
        batch.register(claim, result, fund, loss - fund)
        return result

    def _finish(self, batch: Batch) -> None:
        """Write what was decided, with evidence and blacklist entries for what was paid twice."""
        for repeated in batch.repeated:
            self._store_evidence(repeated, batch)
        batch.write(self._make_title, self._make_coin)

    def _store_evidence(self, repeated: Repeated, batch: Batch) -> None:
        part = repeated.part
        (data,) = self.storage.row(
            "SELECT bytes FROM titles WHERE serial = ? AND title_id = ?", part.serial, part.title_id
        )
        title = o.Title.decode(data)
        evidence = o.Evidence(
            header=self.trust.header,
            title=title,
            claims=(o.Claim.decode(repeated.first), o.Claim.decode(repeated.data)),
        )
        digest = object_id(evidence)
        self.storage.execute(
            "INSERT INTO evidence (digest, seq, bytes, claim, time) VALUES (?,?,?,?,?)",
            digest, batch.fact(), evidence.encode(), repeated.seq, self._clock(),
        )  # fmt: skip
        self._accuse(title.owner, digest, batch.fact)

    def _accuse(self, payer: bytes, digest: bytes, fact: Callable[[], int]) -> None:
        """Evidence against a key was stored: list the key; fact: numbers that."""
        if not self._is_listed(payer):
            self._list(payer, o.REASON_REPEAT_PAYMENT, digest, fact())

    def _list(self, subject: bytes, reason: int, digest: bytes | None, seq: int) -> None:
        """Put a key on the blacklist."""
        (sequence,) = self.storage.row("SELECT COALESCE(MAX(sequence), 0) + 1 FROM blacklist")
        entry = self._signed(
            o.BlacklistEntry(
                header=self.trust.header,
                signer=self._key.key_id,
                sequence=sequence,
                subject=subject,
                reason=reason,
                time=self._clock(),
                digest=digest,
            )
        )
        self.storage.execute(
            "INSERT INTO blacklist (sequence, seq, subject, bytes) VALUES (?,?,?,?)",
            sequence, seq, subject, entry.encode(),
        )  # fmt: skip

    # ---- reclaiming ---------------------------------------------------------------------------------

    def _reclaim_claim(
        self, reclaim: o.Reclaim, claim: o.Claim, carried: Sequence[o.Title]
    ) -> o.Receipt:
        for void in reclaim.voids:
            self._need_void_for(void, claim)
        (verified,) = self.verifier.verify([claim], carried)
        digest = object_id(reclaim)
        if isinstance(verified, Unverified):
            return self._make_receipt(digest, [_invalid(verified)], [])
        with self.storage.transaction():
            batch = Batch(self.storage, self._clock())
            batch.load([verified])
            known = batch.known(verified.claim_id)
            open_states = (o.EXPIRED, o.VOIDED)
            if known is None or any(x.state in open_states for x in known.outcomes):
                due = self._clock() > claim.deadline + self.parameters.grace
                if not (due or reclaim.voids or batch.is_void(verified)):
                    raise CenterRefused(
                        "not-yet",
                        "The payee may still deposit this claim; nothing was returned.",
                        hint="Wait until deadline and grace are over, or ask the payee for a void.",
                    )
                if reclaim.voids and not batch.is_void(verified):
                    self._store_void(reclaim.voids[0], batch.fact())
            if known is None:
                result = _decide(verified, batch, o.RECLAIMED, verified.payer)
                batch.register(verified, result, 0, 0)  # of a reclaim nobody bears a loss
            else:
                result = _reclaim_known(verified, known, batch)
            self._finish(batch)
            titles = self._titles_led_to([verified.claim_id], o.RECLAIMED, batch)
            return self._make_receipt(digest, [result], titles)

    def _reclaim_title(self, reclaim: o.Reclaim, title_id: bytes) -> o.Receipt:
        row = self.storage.one("SELECT bytes FROM titles WHERE title_id = ?", title_id)
        if row is None:
            raise unknown("title")
        title = o.Title.decode(row[0])
        if self._clock() <= title.expiry + self.parameters.grace:
            raise CenterRefused(
                "not-yet",
                "The title has not expired, grace included; nothing was returned.",
                hint="Until then it can be spent, also to its own owner.",
            )
        with self.storage.transaction():
            rows = self.storage.all(
                "SELECT lo, hi FROM slices WHERE title_id = ? AND serial = ? ORDER BY lo LIMIT ?",
                title_id, title.serial, MAX_RENEWED,
            )  # fmt: skip
            batch = Batch(self.storage, self._clock())
            parts = [Part(title_id, title.serial, lo, hi) for lo, hi in rows]
            batch.load([], parts)
            for part in parts:
                batch.take(part, None, o.RECLAIMED, title.owner)
            batch.write(self._make_title, self._make_coin)
            # Those of this reclaim come first; when nothing was left, those of the one before.
            titles = self.storage.all(
                "SELECT bytes FROM titles WHERE title_id IN (SELECT new_title FROM spends"
                " WHERE serial = ? AND title_id = ? AND claim IS NULL) ORDER BY seq DESC LIMIT ?",
                title.serial, title_id, len(rows) or MAX_RENEWED,
            )  # fmt: skip
            return self._make_receipt(
                object_id(reclaim), [], [o.Title.decode(data) for (data,) in titles]
            )

    # ---- making signed objects ----------------------------------------------------------------------

    def _signed(self, obj: Any) -> Any:
        return obj.signed(self._key.sign(obj.message()))

    def _make_title(
        self, serial: bytes, amount: int, lo: int, hi: int, owner: bytes, epoch: int
    ) -> o.Title:
        title: o.Title = self._signed(
            o.Title(
                header=self.trust.header,
                signer=self._key.key_id,
                serial=serial,
                amount=amount,
                lo=lo,
                hi=hi,
                owner=owner,
                epoch=epoch,
                expiry=self._clock() + self.parameters.title_lifetime,
            )
        )
        return title

    def _make_coin(self, amount: int, owner: bytes) -> o.Coin:
        """A coin that is made of others: it bears the center's signature, not the issuing library's."""
        coin: o.Coin = self._signed(
            o.Coin(
                header=self.trust.header,
                signer=self._key.key_id,
                serial=self._new_serial(),
                amount=amount,
                owner=owner,
            )
        )
        return coin

    def _new_serial(self) -> bytes:
        return self._fresh_serial()

    def _make_receipt(
        self, digest: bytes, results: Sequence[o.Result], titles: Sequence[o.Title]
    ) -> o.Receipt:
        receipt: o.Receipt = self._signed(
            o.Receipt(
                header=self.trust.header,
                signer=self._key.key_id,
                digest=digest,
                time=self._clock(),
                results=tuple(results),
                titles=tuple(titles),
            )
        )
        return receipt

    def make_risk(self, certificate: o.Certificate, sequence: int) -> o.RiskParameters:
        """Risk parameters of that sequence for a card, signed; nothing of them is registered."""
        limits = self.parameters.tiers[certificate.tier or 0]
        risk: o.RiskParameters = self._signed(
            o.RiskParameters(
                header=self.trust.header,
                signer=self._key.key_id,
                subject=certificate.subject,
                sequence=sequence,
                time=self._clock(),
                per_payment=min(limits.per_payment, certificate.per_payment or 0),
                cumulative=limits.cumulative,
                count=limits.count,
                pin_free=limits.pin_free,
                window=self.parameters.window,
                horizon=self.parameters.horizon,
            )
        )
        return risk

    # ---- reading ------------------------------------------------------------------------------------

    def _receipts(self, digests: Sequence[bytes]) -> dict[bytes, o.Receipt]:
        """The receipts of those deposits that have one, by digest."""
        given = self.storage.given({"digest": bytes}, [(digest,) for digest in digests])
        return {
            digest: o.Receipt.decode(data)
            for digest, data in self.storage.all(
                f"SELECT deposits.digest, deposits.receipt FROM {given.sql} AS given"
                " JOIN deposits ON deposits.digest = given.digest",
                *given.values,
            )
        }

    def _store_receipts(self, receipts: dict[bytes, o.Receipt]) -> None:
        self.storage.insert(
            "deposits",
            {"digest": bytes, "time": int, "receipt": bytes},
            [(digest, receipt.time, receipt.encode()) for digest, receipt in receipts.items()],
        )

    def _titles_led_to(self, claim_ids: Sequence[bytes], state: int, batch: Batch) -> list[o.Title]:
        """The titles that these claims' intervals became, each once, in the claims' order."""
        new = {claim_id: batch.titles_of(claim_id) for claim_id in claim_ids}
        earlier = [(claim_id,) for claim_id, titles in new.items() if titles is None]
        before: dict[bytes, list[o.Title]] = {}
        if earlier:
            given = self.storage.given({"claim_id": bytes}, earlier)
            for claim_id, data in self.storage.all(
                f"SELECT claims.claim_id, titles.bytes FROM {given.sql} AS given"
                " JOIN claims ON claims.claim_id = given.claim_id"
                " JOIN spends ON spends.claim = claims.seq AND spends.state = ?"
                " JOIN titles ON titles.title_id = spends.new_title"
                " ORDER BY given.n, spends.seq",
                *given.values, state,
            ):  # fmt: skip
                before.setdefault(claim_id, []).append(o.Title.decode(data))
        found: dict[bytes, o.Title] = {}
        for claim_id, titles in new.items():
            for title in before.get(claim_id, []) if titles is None else titles:
                found.setdefault(object_id(title), title)
        return list(found.values())

    def _title_of_epoch(self, serial: bytes, epoch: int) -> o.Title:
        (data,) = self.storage.row(
            "SELECT bytes FROM titles WHERE serial = ? AND epoch = ?", serial, epoch
        )
        return o.Title.decode(data)

    def _card(self, key: bytes) -> tuple[o.Certificate, int]:
        row = self.storage.one("SELECT certificate, sequence FROM cards WHERE subject = ?", key)
        if row is None:
            raise unknown("card")
        return o.Certificate.decode(row[0]), row[1]

    def _is_listed(self, key: bytes) -> bool:
        return self.storage.one("SELECT 1 FROM blacklist WHERE subject = ?", key) is not None

    def _store_void(self, void: o.Void, seq: int) -> None:
        self.storage.execute(
            "INSERT INTO voids (payee, nonce, amount, seq, bytes, time) VALUES (?,?,?,?,?,?)",
            void.payee, void.nonce, void.amount, seq, void.encode(), self._clock(),
        )  # fmt: skip

    def _log_certificate(self, certificate: o.Certificate) -> None:
        self.storage.execute(
            "INSERT INTO certificates (subject, seq, bytes, time) VALUES (?,?,?,?)",
            certificate.subject, self._fact(), certificate.encode(), self._clock(),
        )  # fmt: skip

    def _fact(self) -> int:
        """The number of a fact that is registered by itself; inside a transaction."""
        (seq,) = self.storage.row("UPDATE sequence SET next = next + 1 RETURNING next - 1")
        return int(seq)

    # ---- refusing -----------------------------------------------------------------------------------

    def _need_payee_signature(self, void: o.Void) -> None:
        if not self.trust.signed_by(void, void.payee):
            raise _refused_signature("void", "its payee")

    def _need_void_for(self, void: o.Void, claim: o.Claim) -> None:
        self.verifier.need_header(void)
        self._need_payee_signature(void)
        if (void.payee, void.nonce, void.amount) != (claim.payee, claim.nonce, claim.amount):
            raise CenterRefused("void", "The void is for another claim; nothing was returned.")

    def _need_unexpired(self, certificate: o.Certificate) -> None:
        if certificate.expiry <= self._clock():
            raise CenterRefused(
                "expired",
                "The card's certificate has expired.",
                hint="Have it renewed at the bank.",
            )

    def _need_unlisted(self, key: bytes) -> None:
        if self._is_listed(key):
            raise CenterRefused(
                "blacklisted",
                "This card is on the blacklist; its offline limits are not renewed.",
                hint="Its owner has to see the bank; the evidence is in the blacklist entry.",
            )


def _decide(verified: Verified, batch: Batch, state: int, owner: bytes | None) -> o.Result:
    """Part by part: to owner if it is wholly live under its title, else disputed."""
    outcomes = []
    for part in verified.parts:
        taken = batch.take(part, verified, state, owner)
        outcomes.append(
            o.Outcome(
                title_id=part.title_id,
                lo=part.lo,
                hi=part.hi,
                state=state if taken else o.DISPUTED,
                claim_id=None if taken else batch.first_mover(part),
            )
        )
    return o.Result(claim_id=verified.claim_id, outcomes=tuple(outcomes))


def _reclaim_known(verified: Verified, known: o.Result, batch: Batch) -> o.Result:
    """Reclaim of a claim that was deposited before, without success: expired or voided.

    Its first outcome stays what a deposit of it brings; the receipt of the reclaim says what is now.
    """
    outcomes = []
    for part, outcome in zip(verified.parts, known.outcomes, strict=True):
        if outcome.state in (o.EXPIRED, o.VOIDED):
            back = batch.take(part, verified, o.RECLAIMED, verified.payer)
            if not back:
                first = batch.first_mover(part)
                back = first == verified.claim_id
                outcome = outcome if back else _with_state(outcome, o.DISPUTED, first)
            if back:
                outcome = _with_state(outcome, o.RECLAIMED, None)
        outcomes.append(outcome)
    return o.Result(claim_id=verified.claim_id, outcomes=tuple(outcomes))


def _uniform(claim: Verified, state: int) -> o.Result:
    """A result in which every interval ended the same way."""
    return o.Result(
        claim_id=claim.claim_id,
        outcomes=tuple(
            o.Outcome(title_id=part.title_id, lo=part.lo, hi=part.hi, state=state)
            for part in claim.parts
        ),
    )


def _invalid(claim: Unverified) -> o.Result:
    return o.Result(
        claim_id=claim.claim_id,
        outcomes=tuple(
            o.Outcome(title_id=title_id, lo=lo, hi=hi, state=o.INVALID)
            for title_id, lo, hi in claim.intervals
        ),
    )


def is_invalid(result: o.Result) -> bool:
    """Whether a claim was invalid, and so was not registered."""
    return result.outcomes[0].state == o.INVALID


def _with_state(outcome: o.Outcome, state: int, claim_id: bytes | None) -> o.Outcome:
    return o.Outcome(
        title_id=outcome.title_id, lo=outcome.lo, hi=outcome.hi, state=state, claim_id=claim_id
    )


def _refused_signature(what: str, whose: str) -> CenterRefused:
    return CenterRefused(
        "signature", f"The {what} is not signed by {whose} of this network; nothing was changed."
    )

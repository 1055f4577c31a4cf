# SPDX-License-Identifier: Apache-2.0
"""A registration center somewhere else, with the methods of `Center`, over HTTP.

Every signed answer is verified under the trust before it is returned.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

import httpx

from chipcash.center.bodies import join, split
from chipcash.center.errors import CenterRefused, CenterReplyInvalid, CenterUnreachable
from chipcash.evidence import EvidenceInvalid, verify_evidence
from chipcash.tls import client_context, verifying
from chipcash.trust import Trust, object_id
from chipcash_wire import objects as o
from chipcash_wire.tlv import WireError

__all__ = ["CenterApi", "CenterClient"]

_Signed = TypeVar("_Signed", bound=o.Object)

_LATER = (408, 429)
"""HTTP statuses that say nothing of the request, but that it should come again."""


class CenterApi(Protocol):
    """What banks and terminals ask a registration center for: `Center` and `CenterClient` have it."""

    def register_coin(self, coin: o.Coin) -> o.Title:
        """Register a coin; its owner's title."""

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Settle a deposit's claims; the receipt. titles: those that the claims spend, as far as the caller
        has them: a center of several ledgers need not look for them."""

    def register_void(self, void: o.Void) -> None:
        """Bar a claim for ever."""

    def reclaim(self, reclaim: o.Reclaim, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Give money back to its payer; a receipt with its new titles. titles: as of settle()."""

    def register_card(self, certificate: o.Certificate) -> o.RiskParameters:
        """Register a certified card; its risk parameters."""

    def challenge(self, key: bytes) -> bytes:
        """16 bytes for a card to prove itself with."""

    def risk(self, key: bytes, proof: o.GenuineProof) -> o.RiskParameters:
        """A card's next risk parameters, against its proof."""

    def titles(self, owner: bytes) -> tuple[o.Title, ...]:
        """Live titles of an owner."""

    def signed_time(self) -> o.SignedTime:
        """The center's time."""

    def blacklist(self, since: int = 0) -> tuple[tuple[o.BlacklistEntry, ...], o.SignedTime]:
        """Entries above a sequence, and the signed time that completes them."""

    def rules(self) -> o.TerminalRules:
        """What terminals may take offline."""

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """What became of a claim."""

    def evidence(self, digest: bytes) -> o.Evidence:
        """Evidence of repeat payment by its digest."""


class CenterClient:
    """Client of a registration center. A context manager; close() ends its connections.

    url: like https://center.example:8700; trust: the network; timeout: seconds for one request; tls: of
    tls.client_context(), for https; without it the system's authorities are believed; patience: most seconds
    that a method waits in all where the center asks to come again later (Retry-After). All methods raise
    CenterUnreachable if there is no answer, CenterReplyInvalid (a CenterUnreachable) if the answer is not
    this network's center's, CenterRefused if the center says no. After any of them money is where the same
    request, repeated, will find or bring it.
    """

    def __init__(
        self,
        url: str,
        trust: Trust,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
        patience: int = 30,
    ) -> None:
        self.url = url
        self._patience = patience
        self.trust = trust
        try:
            self._http = httpx.Client(
                base_url=url,
                timeout=timeout,
                transport=transport,
                verify=tls
                or (client_context() if url.lower().startswith("https:") else verifying(url)),
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise self._unreachable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def network(self) -> tuple[o.Certificate, ...]:
        """The certificates of the issuing library and the center."""
        found = self._many("GET", "/v1/network", o.Certificate)
        for certificate in found:
            if not self.trust.signed_by_certification(certificate):
                self._invalid("a certificate is not signed by the network's certification center")
        return found

    def register_coin(self, coin: o.Coin) -> o.Title:
        """Register a coin; its owner's title, the same again for the same coin."""
        title = self._signed(o.Title, "POST", "/v1/coins", coin)
        if (title.serial, title.owner, title.lo, title.hi) != (
            coin.serial,
            coin.owner,
            0,
            coin.amount,
        ):
            self._invalid("the title is not this coin's")
        return title

    def settle(self, deposit: o.Deposit, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Settle a deposit; the same deposit brings the same receipt."""
        receipt = self._receipt("/v1/deposits", deposit, titles)
        ids = [object_id(claim) for claim in deposit.claims]
        if [result.claim_id for result in receipt.results] != ids:
            self._invalid("the receipt is about other claims")
        return receipt

    def register_void(self, void: o.Void) -> None:
        """Bar a claim for ever."""
        self._request("POST", "/v1/voids", void)

    def reclaim(self, reclaim: o.Reclaim, titles: Sequence[o.Title] = ()) -> o.Receipt:
        """Give money back to its payer."""
        return self._receipt("/v1/reclaims", reclaim, titles)

    def register_card(self, certificate: o.Certificate) -> o.RiskParameters:
        """Register a certified card; its risk parameters."""
        risk = self._signed(o.RiskParameters, "POST", "/v1/certificates", certificate)
        return self._for_card(risk, certificate.subject)

    def challenge(self, key: bytes) -> bytes:
        """16 bytes for the card with this key to prove itself with."""
        nonce = self._request("GET", f"/v1/challenge/{key.hex()}").content
        if len(nonce) != 16:
            self._invalid("a challenge has 16 bytes")
        return nonce

    def risk(self, key: bytes, proof: o.GenuineProof) -> o.RiskParameters:
        """The card's next risk parameters."""
        risk = self._signed(o.RiskParameters, "POST", f"/v1/risk/{key.hex()}", proof)
        return self._for_card(risk, key)

    def titles(self, owner: bytes) -> tuple[o.Title, ...]:
        """Live titles of an owner."""
        titles = self._many("GET", f"/v1/titles/{owner.hex()}", o.Title)
        self._need_titles(titles)
        if any(title.owner != owner for title in titles):
            self._invalid("a title is somebody else's")
        return titles

    def signed_time(self) -> o.SignedTime:
        """The center's time."""
        return self._signed(o.SignedTime, "GET", "/v1/time")

    def blacklist(self, since: int = 0) -> tuple[tuple[o.BlacklistEntry, ...], o.SignedTime]:
        """Entries with a sequence above since, without a hole, and the signed time completing them."""
        try:
            parts = split(self._request("GET", f"/v1/blacklist?since={since}").content)
            if not parts:
                self._invalid("the signed time is missing")
            entries = tuple(o.BlacklistEntry.decode(part) for part in parts[:-1])
            signed_time = o.SignedTime.decode(parts[-1])
        except WireError as error:
            self._invalid(str(error))
        for item in (*entries, signed_time):
            self._need_center(item)
        wanted = list(range(since + 1, signed_time.sequence + 1))
        if [entry.sequence for entry in entries] != wanted:
            self._invalid("the blacklist has holes")
        return entries, signed_time

    def rules(self) -> o.TerminalRules:
        """What terminals may take offline, as of now."""
        return self._signed(o.TerminalRules, "GET", "/v1/rules")

    def claim(self, claim_id: bytes) -> dict[str, Any]:
        """What became of a claim, as the center tells it; not signed."""
        return self._json(f"/v1/claims/{claim_id.hex()}")

    def evidence(self, digest: bytes) -> o.Evidence:
        """The evidence with this digest, verified."""
        response = self._request("GET", f"/v1/evidence/{digest.hex()}")
        evidence = self._decode(o.Evidence, response.content)
        try:
            verify_evidence(evidence, self.trust)
        except EvidenceInvalid as error:
            self._invalid(error.message)
        if object_id(evidence) != digest:
            self._invalid("this is other evidence")
        return evidence

    def coin(self, serial: bytes) -> dict[str, Any]:
        """A coin's partition and history, as the center tells it; not signed."""
        return self._json(f"/v1/coins/{serial.hex()}")

    def accounts(self) -> dict[str, Any]:
        """Totals in fen, as the center tells them; not signed."""
        return self._json("/v1/accounts")

    def metrics(self) -> str:
        """What the center counts, in Prometheus' text format; for who runs it."""
        return self._request("GET", "/metrics").text

    # ---- how ----------------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        body: o.Object | None = None,
        titles: Sequence[o.Title] = (),
    ) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        content = join((body, *titles)) if body is not None else None
        waited = 0
        while True:
            try:
                response = self._http.request(method, path, content=content, headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._unreachable(error) from None
            if response.is_success:
                return response
            wait = _retry_after(response)
            if not wait or waited + wait > self._patience:
                break
            time.sleep(wait)
            waited += wait
        if response.status_code in _LATER or response.status_code >= 500:
            raise self._unreachable(RuntimeError(f"HTTP status {response.status_code}"))
        try:
            answer = response.json()
            name, message, hint = answer["error"], answer["message"], answer["hint"]
        except (ValueError, KeyError, TypeError):
            self._invalid(f"HTTP status {response.status_code} without the center's explanation")
        raise CenterRefused(str(name), str(message), status=response.status_code, hint=str(hint))

    def _decode(self, kind: type[_Signed], data: bytes) -> _Signed:
        try:
            return kind.decode(data)
        except WireError as error:
            self._invalid(str(error))

    def _signed(
        self,
        kind: type[_Signed],
        method: str,
        path: str,
        body: o.Object | None = None,
        titles: Sequence[o.Title] = (),
    ) -> _Signed:
        found = self._decode(kind, self._request(method, path, body, titles).content)
        self._need_center(found)
        return found

    def _many(self, method: str, path: str, kind: type[_Signed]) -> tuple[_Signed, ...]:
        data = self._request(method, path).content
        try:
            return tuple(kind.decode(part) for part in split(data))
        except WireError as error:
            self._invalid(str(error))

    def _json(self, path: str) -> dict[str, Any]:
        try:
            answer = self._request("GET", path).json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self._invalid("it is no JSON object")
        return answer

    def _receipt(
        self, path: str, body: o.Deposit | o.Reclaim, titles: Sequence[o.Title]
    ) -> o.Receipt:
        receipt = self._signed(o.Receipt, "POST", path, body, titles)
        if receipt.digest != object_id(body):
            self._invalid("the receipt is for another request")
        self._need_titles(receipt.titles)
        return receipt

    def _for_card(self, risk: o.RiskParameters, key: bytes) -> o.RiskParameters:
        if risk.subject != key:
            self._invalid("the risk parameters are another card's")
        return risk

    def _need_center(self, obj: o.Object) -> None:
        if not self.trust.signed_by_center(obj):
            self._invalid(f"a {type(obj).__name__} is not signed by this network's center")

    def _need_titles(self, titles: Sequence[o.Title]) -> None:
        for title in titles:
            self._need_center(title)

    def _invalid(self, why: str) -> NoReturn:
        raise CenterReplyInvalid(
            f"The answer from {self.url} cannot be trusted: {why}. It was not used.",
            hint="Check the address: it may be another network's, or somebody is in between.",
            url=self.url,
        )

    def _unreachable(self, error: Exception) -> CenterUnreachable:
        return CenterUnreachable(
            f"The registration center at {self.url} does not answer ({error}). Your money is"
            " unchanged, or the same request will bring what it became.",
            hint="Check the network and repeat; what is queued stays queued.",
            url=self.url,
        )


def _retry_after(response: httpx.Response) -> int:
    """Seconds after which the center wants the same request again, 0 if it does not say."""
    text = response.headers.get("Retry-After", "")
    if response.status_code not in (429, 503) or not (text.isascii() and text.isdigit()):
        return 0
    return int(text[:9])

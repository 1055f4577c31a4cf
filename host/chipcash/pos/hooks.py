# SPDX-License-Identifier: Apache-2.0
"""Webhooks: a till tells other programs of each change of a payment's state, signed by Standard Webhooks.

The queue is the books' own table of changes, and how far a hook has come in it: a change is told until the
receiver has taken it (2xx), in the order in which they happened, and again where nobody knows whether it has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from chipcash import files
from chipcash.clock import Clock, system_clock
from chipcash.crypto import key_id
from chipcash.database import Row
from chipcash.errors import ChipcashError
from chipcash.pos.errors import PosError
from chipcash.pos.model import PaymentState as P
from chipcash.pos.pos import Pos
from chipcash.tls import TlsError, client_context, verifying
from chipcash.web import is_loopback

__all__ = ["Deliveries", "Hook", "add_hook", "deliver", "hooks", "remove_hook", "send", "sign"]

_log = logging.getLogger(__name__)

_SECRET_SIZE = 32
_TIMEOUT_S = 15.0
"""How long a receiver may take, seconds."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_END_S = 3.0
_LOOK_S = 0.5
"""How often the books are looked at for changes, seconds: other processes write into them as well."""
_LOCK = "hooks.lock"
_GONE = 410
_SETTLED = (P.VERIFIED, P.DISPUTED, P.EXPIRED)


@dataclass(frozen=True)
class Hook:
    """Where changes are told. told: the number of the last change that it has taken; waiting: how many it has
    not; tries: how often in a row the next one failed, and error: why, last. gone: it asked for no more."""

    number: int
    url: str
    told: int
    waiting: int
    tries: int
    error: str
    gone: bool


def add_hook(
    pos: Pos, url: str, *, ca: Path | None = None, from_start: bool = False
) -> tuple[Hook, str]:
    """Tell a URL of changes from now on, or from the first on. Returns it and its secret, which is not told
    again.

    ca: who certifies it, a PEM file; else whom the system trusts. Raises PosError if it is neither https nor
    on this machine, or is there already, and TlsError if ca cannot be used.
    """
    if not _may_be(url):
        raise PosError(
            f"{url} is no address for changes to be told to; nothing was changed.",
            hint="It begins with https:// (or with http:// on this machine), and has no password in it.",
        )
    if ca is not None:
        client_context(ca)
    secret = secrets.token_bytes(_SECRET_SIZE)
    with pos.store.transaction():
        if pos.store.one("SELECT 1 FROM hooks WHERE url = ?", url) is not None:
            raise PosError(
                f"{url} is told of changes already; nothing was changed.",
                hint="To give it a new secret, remove it first.",
            )
        last = 0 if from_start else pos.store.row("SELECT max(id) FROM changes")[0] or 0
        pos.store.execute(
            "INSERT INTO hooks (url, ca, secret, told) VALUES (?,?,?,?)",
            url,
            "" if ca is None else str(ca.absolute()),
            secret,
            last,
        )
        row = pos.store.row("SELECT * FROM hooks WHERE url = ?", url)
        return _hook(pos, row), f"whsec_{base64.b64encode(secret).decode()}"


def remove_hook(pos: Pos, number: int) -> None:
    """Tell a hook nothing more. Raises PosError if there is none of that number."""
    with pos.store.transaction():
        gone = pos.store.execute("DELETE FROM hooks WHERE id = ?", number).rowcount
    if not gone:
        raise PosError(f"There is no webhook {number}.", hint="chipcash pos hook list shows them.")


def hooks(pos: Pos) -> tuple[Hook, ...]:
    """All hooks, and how far each is."""
    return tuple(_hook(pos, row) for row in pos.store.all("SELECT * FROM hooks ORDER BY id"))


def sign(secret: bytes, message: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature of a message under its webhook-id and webhook-timestamp."""
    digest = hmac.digest(secret, b"%s.%d.%s" % (message.encode(), timestamp, body), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def send(pos: Pos) -> None:
    """Tell all hooks what they have not taken, once each. Raises PosError if another process does that."""
    lock = files.lock(pos.directory / _LOCK)
    if lock is None:
        raise PosError(
            "Another process tells this till's webhooks. Nothing was sent by this one.",
            hint="Look with chipcash pos hook list how far it is.",
        )
    try:
        for hook in hooks(pos):
            deliver(pos, hook.number)
    finally:
        os.close(lock)


class Deliveries:
    """Tells the hooks of a POS in threads of its own, one for each, while it is open: a context manager.

    The POS's directory is told for by one process at a time; another waits until that one has ended.
    """

    def __init__(self, directory: str | Path, *, clock: Clock = system_clock) -> None:
        self._directory = Path(directory)
        self._clock = clock
        self._ended = threading.Event()
        self._threads: dict[int, threading.Thread] = {}
        self._main = threading.Thread(target=self._run, name="hooks", daemon=True)

    def __enter__(self) -> Self:
        self._main.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        # What a receiver takes its time for is told again by the next process.
        self._main.join(_END_S)

    def _run(self) -> None:
        """Have a thread for each hook, as they come and go."""
        while (lock := files.lock(self._directory / _LOCK)) is None:
            if self._ended.wait(_LOOK_S):
                return
        try:
            while not self._ended.is_set():
                try:
                    with Pos(self._directory, clock=self._clock) as pos:
                        self._watch(pos)
                except ChipcashError as error:
                    _log.warning("webhooks wait: %s", error)
                    self._ended.wait(_LONGEST_PAUSE_S / 10)
            for thread in self._threads.values():
                thread.join()
        finally:
            os.close(lock)

    def _watch(self, pos: Pos) -> None:
        while not self._ended.wait(_LOOK_S):
            for hook in hooks(pos):
                thread = self._threads.get(hook.number)
                if not hook.gone and (thread is None or not thread.is_alive()):
                    thread = threading.Thread(
                        target=self._tell,
                        args=(hook.number,),
                        name=f"hook {hook.number}",
                        daemon=True,
                    )
                    self._threads[hook.number] = thread
                    thread.start()

    def _tell(self, number: int) -> None:
        """Tell one hook, until it or this is ended."""
        try:
            with Pos(self._directory, clock=self._clock) as pos:
                pause: float | None = 0.0
                while pause is not None and not self._ended.wait(pause):
                    pause = deliver(pos, number, clock=self._clock)
        except ChipcashError as error:  # the books: then the thread is begun again
            _log.warning("webhook %d waits: %s", number, error)
            self._ended.wait(_LONGEST_PAUSE_S / 10)


def deliver(pos: Pos, number: int, *, clock: Clock = system_clock) -> float | None:
    """Tell a hook all changes that it has not taken, until it does not take one.

    clock: of when that is, which receivers check: a till's own is right where the machine's is not.
    Returns the seconds after which to come again; None once the hook was removed, or asked for no more.
    """
    row = pos.store.one("SELECT * FROM hooks WHERE id = ?", number)
    if row is None or row["gone"]:
        return None
    if _next_change(pos, row["told"]) is None:
        return _LOOK_S
    with _Line(row) as line:
        while (change := _next_change(pos, row["told"])) is not None:
            status, error, after = line.tell(pos, row, change, clock())
            taken = 200 <= status < 300
            with pos.store.transaction():
                # Only after the answer: what ends in between is told again.
                pos.store.execute(
                    "UPDATE hooks SET told = ?, tries = ?, error = ?, gone = ? WHERE id = ?",
                    change["id"] if taken else row["told"],
                    0 if taken else row["tries"] + 1,
                    error,
                    int(status == _GONE),
                    number,
                )
            fresh = pos.store.one("SELECT * FROM hooks WHERE id = ?", number)
            if fresh is None or fresh["gone"]:
                return None
            if not taken:
                pause = min(_FIRST_PAUSE_S * 2.0 ** min(int(row["tries"]), 20), _LONGEST_PAUSE_S)
                # Not all tills at once, where one receiver was down for all of them.
                return max(after, pause * (1 + secrets.randbelow(100) / 500))
            row = fresh
    return _LOOK_S


class _Line:
    """The way to a hook's receiver; a context manager. What is wrong with it is told as each change is."""

    def __init__(self, hook: Row) -> None:
        self._client: httpx.Client | None = None
        self._wrong = ""
        try:
            # Proxies of the environment are for other programs: a hook is where it says.
            tls = verifying(hook["url"])
            if tls is True or hook["ca"]:
                tls = client_context(Path(hook["ca"]) if hook["ca"] else None)
            self._client = httpx.Client(verify=tls, timeout=_TIMEOUT_S, trust_env=False)
        except TlsError as error:
            self._wrong = error.message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._client is not None:
            self._client.close()

    def tell(self, pos: Pos, hook: Row, change: Row, now: int) -> tuple[int, str, float]:
        """Tell a hook of one change: the status, 0 if there was no answer; what went wrong; for how many
        seconds it asks to be left alone."""
        if self._client is None:
            return 0, self._wrong, 0.0
        return _post(pos, self._client, hook, change, now)


def _post(
    pos: Pos, client: httpx.Client, hook: Row, change: Row, timestamp: int
) -> tuple[int, str, float]:
    body = json.dumps(_event(change), separators=(",", ":")).encode()
    message = f"chg_{key_id(pos.trust.suite, pos.public).hex()}_{change['id']}"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "chipcash",
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(hook["secret"], message, timestamp, body),
    }
    fields = {"hook": hook["id"], "change": change["id"], "tries": hook["tries"] + 1}
    try:
        # Of the answer only the status is read: who is told may not fill this machine's memory.
        with client.stream("POST", hook["url"], content=body, headers=headers) as answer:
            status, after = answer.status_code, _retry_after(answer.headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        _log.warning(
            "webhook not delivered", extra={"fields": {**fields, "error": type(error).__name__}}
        )
        return 0, f"no answer ({type(error).__name__})", 0.0
    if 200 <= status < 300:
        _log.info("webhook delivered", extra={"fields": fields})
        return status, "", 0.0
    _log.warning("webhook not taken", extra={"fields": {**fields, "status": status}})
    return status, f"answered {status}", after


def _event(change: Row) -> dict[str, Any]:
    """A change as it is told, the same whenever it is. Nothing in it names a person: neither the payer's key
    nor who had the till."""
    data: dict[str, Any] = {
        "change": change["id"],
        "claim_id": change["claim_id"].hex(),
        "nonce": change["nonce"].hex(),
        "reference": change["reference"],
        "amount_fen": change["amount"],
        "deadline": change["deadline"],
        "before": change["before"],
        "state": change["after"],
    }
    if change["after"] in _SETTLED:
        data |= {
            "settled_fen": change["settled_fen"],
            "disputed_fen": change["disputed_fen"],
            "reason": change["reason"],
        }
    moment = datetime.fromtimestamp(change["time"], UTC).isoformat().replace("+00:00", "Z")
    return {"type": f"payment.{change['after'].lower()}", "timestamp": moment, "data": data}


def _next_change(pos: Pos, after: int) -> Row | None:
    return pos.store.one(
        "SELECT changes.*, received.nonce, received.reference, received.amount, received.deadline,"
        " received.settled_fen, received.disputed_fen, received.reason"
        " FROM changes JOIN received USING (claim_id) WHERE changes.id > ? ORDER BY changes.id LIMIT 1",
        after,
    )


def _retry_after(headers: Mapping[str, str]) -> float:
    """For how many seconds an answer asks to be left alone (RFC 9110), at most the longest pause."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_PAUSE_S)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(moment - time.time(), 0.0), _LONGEST_PAUSE_S)


def _may_be(url: str) -> bool:
    """Whether a URL may be told: nobody on the way may read, or answer for it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or not url.isprintable():
        return False
    if parts.scheme == "https":
        return True
    return parts.scheme == "http" and is_loopback(host)


def _hook(pos: Pos, row: Row) -> Hook:
    waiting = pos.store.row("SELECT count(*) FROM changes WHERE id > ?", row["told"])[0]
    return Hook(
        row["id"], row["url"], row["told"], waiting, row["tries"], row["error"], bool(row["gone"])
    )

# SPDX-License-Identifier: Apache-2.0
"""Asking witnesses for their cosignatures: the client's side of C2SP tlog-witness."""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from chipcash.log.errors import LogError, LogInvalid
from chipcash.log.note import COSIGNATURE, MAX_NOTE, Checkpoint, Key, Signature, open_note
from chipcash.tls import verifying

__all__ = ["Witness", "Witnesses", "parse_witness"]

_log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_PAUSE_S = 30.0
"""How long a witness that did not answer is left alone."""

Consistency = Callable[[int], list[bytes]]
"""Proof that the log continues what it was at a size."""


@dataclass(frozen=True)
class Witness:
    """Who cosigns: its key, and the URL (submission prefix) where it is asked."""

    key: Key
    url: str


def parse_witness(text: str) -> Witness:
    """A witness from `KEY@URL`. Raises LogError."""
    key, at, url = text.partition("@")
    if not at or not re.match("https?://", url):
        raise LogError(
            f"{text[:120]!r} names no witness.", hint="Write its key string, @, and its URL."
        )
    return Witness(Key.parse(key, COSIGNATURE), url.rstrip("/"))


class _Refused(Exception):
    """The witness says no, and why."""


class Witnesses:
    """The witnesses of a log. They are asked at the same time, and none for longer than some seconds.

    timeout: seconds for each step of an answer. problems: by the name of a witness, why its newest
    cosignature is missing; refusals: those that have seen another log than this one, which is also reported
    as an error.
    """

    def __init__(self, witnesses: Sequence[Witness], timeout: float = _TIMEOUT_S) -> None:
        self.all = tuple(witnesses)
        self.problems: dict[str, str] = {}
        self.refusals: dict[str, str] = {}
        self._timeout = timeout
        self._sizes: dict[Key, int] = {}
        self._later: dict[Key, float] = {}
        self._http = httpx.Client(
            timeout=timeout, verify=verifying(*(witness.url for witness in self.all))
        )
        self._pool = ThreadPoolExecutor(max(1, len(self.all)), "witness")

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._http.close()

    def cosign(
        self, checkpoint: Checkpoint, note: bytes, consistency: Consistency
    ) -> list[Signature]:
        """The cosignatures that there are for a checkpoint, in the order of the witnesses.

        note: the checkpoint as the log signed it, perhaps with cosignatures already: who has given one is not
        asked again.
        """
        keys = [witness.key for witness in self.all]
        have = {found.key: found for found in open_note(note, keys).signatures}
        for key in have:
            self.problems.pop(key.name, None)
        now = time.monotonic()
        asked = [x for x in self.all if x.key not in have and self._later.get(x.key, 0) <= now]
        found = self._pool.map(lambda x: self._ask(x, checkpoint, note, consistency), asked)
        have |= {signature.key: signature for signature in found if signature is not None}
        return [have[key] for key in keys if key in have]

    def _ask(
        self, witness: Witness, checkpoint: Checkpoint, note: bytes, consistency: Consistency
    ) -> Signature | None:
        """One witness's cosignature, or None, and then why is in problems."""
        name = witness.key.name
        try:
            signature = self._exchange(witness, checkpoint, note, consistency)
        except _Refused as refused:
            # It has seen something else under the log's name: that is what witnesses are for.
            self.problems[name] = self.refusals[name] = str(refused)
            _log.error("witness %s: %s", name, refused)
        except (httpx.HTTPError, httpx.InvalidURL, LogInvalid, OSError) as error:
            why = error.message if isinstance(error, LogInvalid) else type(error).__name__
            self.problems[name] = f"no cosignature: {why}"
            self._later[witness.key] = time.monotonic() + _PAUSE_S
            _log.warning("witness %s gave no cosignature: %s", name, why)
        else:
            self.problems.pop(name, None)
            self.refusals.pop(name, None)
            return signature
        return None

    def _exchange(
        self, witness: Witness, checkpoint: Checkpoint, note: bytes, consistency: Consistency
    ) -> Signature:
        old = min(self._sizes.get(witness.key, 0), checkpoint.size)
        for _ in range(2):
            status, body = self._post(witness, _request(old, consistency(old), note))
            if status == 200:
                found = open_note(
                    checkpoint.signed([body.decode("utf-8", "replace")]), [witness.key]
                )
                signature = found.by(witness.key)
                if signature is None:
                    raise LogInvalid("the answer holds no signature of this witness")
                self._sizes[witness.key] = checkpoint.size
                return signature
            if status != 409:
                break
            if not re.fullmatch(rb"(0|[1-9][0-9]{0,18})\n", body) or int(body) == old:
                raise _Refused(
                    f"it has cosigned another log of {old} entries under this name: a fork"
                )
            old = int(body)
            if old > checkpoint.size:
                raise _Refused(
                    f"it has cosigned {old} entries, and this log has only {checkpoint.size}: "
                    "an old backup was restored, or there are two logs under one key"
                )
        if status == 422:
            raise _Refused(f"this log does not continue what it cosigned at {old} entries: a fork")
        raise LogInvalid(f"it answers with HTTP status {status}")

    def _post(self, witness: Witness, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer, of which only so much is read, and only for so long."""
        end = time.monotonic() + 2 * self._timeout
        data = bytearray()
        with self._http.stream("POST", f"{witness.url}/add-checkpoint", content=body) as answer:
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > MAX_NOTE or time.monotonic() > end:
                    raise LogInvalid("its answer does not end")
        return answer.status_code, bytes(data)


def _request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Body of add-checkpoint."""
    lines = [f"old {old}", *(base64.b64encode(step).decode() for step in proof), "", ""]
    return "\n".join(lines).encode("ascii") + note

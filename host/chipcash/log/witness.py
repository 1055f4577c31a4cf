# SPDX-License-Identifier: Apache-2.0
"""A witness (C2SP tlog-witness): cosigns what continues what it cosigned before, and never anything else.

It keeps the newest checkpoint of each log that it watches in one file, and answers no cosignature before that
file is on the disk. A witness that forgets could be shown another history: so the file is made once, with
the key, and never begun anew.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chipcash import files, web
from chipcash.clock import Clock, system_clock
from chipcash.log.errors import LogError, LogInvalid
from chipcash.log.merkle import SIZE, verify_consistency
from chipcash.log.note import MAX_NOTE, Checkpoint, Key, SigningKey, open_checkpoint, open_note

__all__ = ["Refused", "State", "Witness", "WitnessService", "create_app"]

_log = logging.getLogger(__name__)

_FORMAT = "chipcash-witness-1"
_MAX_PROOF = 63
_SIZE_TYPE = "text/x.tlog.size"


class Refused(Exception):
    """The witness does not cosign. status: of HTTP; size: what it cosigned last, where the client asked from
    another size."""

    def __init__(self, status: int, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size = size


class State:
    """What a witness remembers, in a file: the newest checkpoint of each log, as it was signed.

    One process has it at a time; close() lets it go. Raises LogError if it is missing, damaged or in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise LogError(
                f"{path} is missing; nothing was begun in its place.",
                hint="It is what the witness remembers. Restore its newest backup; if there is none, make a "
                "witness with another key, and tell those who rely on this one.",
            )
        self._lock = files.lock(path.with_name(path.name + ".lock"))
        if self._lock is None:
            raise LogError(f"Another witness is using {path}.", hint="End one of them.")
        try:
            values = json.loads(path.read_bytes())
            if values["format"] != _FORMAT:
                raise ValueError
            self._notes = {str(name): str(note) for name, note in values["logs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            self.close()
            raise LogError(
                f"{path} is no witness's memory, or is damaged.",
                hint="Restore its newest backup; do not begin a new one under the same key.",
            ) from None

    @classmethod
    def create(cls, path: Path) -> None:
        """Make the file of a new witness. Raises LogError if there is one."""
        try:
            files.create(path, _encode({}))
        except FileExistsError:
            raise LogError(f"{path} exists already; nothing was changed.") from None

    def close(self) -> None:
        """Let others have it. May be repeated."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def newest(self, log: Key) -> Checkpoint | None:
        """The newest checkpoint of a log that was cosigned."""
        note = self._notes.get(log.name)
        return None if note is None else open_checkpoint(note.encode(), log)[0]

    def keep(self, log: Key, note: bytes) -> None:
        """Remember a checkpoint, a signed note; durable when it returns."""
        notes = {**self._notes, log.name: note.decode()}
        files.replace(self.path, _encode(notes))
        self._notes = notes


def _encode(notes: dict[str, str]) -> bytes:
    text = json.dumps({"format": _FORMAT, "logs": notes}, indent=1, ensure_ascii=False)
    return (text + "\n").encode()


class Witness:
    """Cosigns the checkpoints of some logs. Safe to use from several threads.

    key: to cosign with; logs: the logs' keys, each of another name; clock: seconds since 1970.
    """

    def __init__(
        self, key: SigningKey, logs: Sequence[Key], state: State, clock: Clock = system_clock
    ) -> None:
        self.key = key
        self._logs = {log.name: log for log in logs}
        if len(self._logs) < len(logs):
            raise LogError("Two of the logs have the same name.")
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        for log in logs:
            state.newest(log)  # what was kept must be by these keys

    def add_checkpoint(self, body: bytes) -> str:
        """The cosignature line for the checkpoint in an add-checkpoint request. Raises Refused."""
        old, proof, note = _parse(body)
        log = self._logs.get(_origin(note))
        if log is None:
            raise Refused(404, "This witness does not watch a log of that name.")
        try:
            checkpoint, _ = open_checkpoint(note, log)
            signature = open_note(note, [log]).signatures[0]
        except LogInvalid as error:
            raise Refused(403, error.message) from None
        if old > checkpoint.size:
            raise Refused(400, "The old size is above the checkpoint's.")
        with self._lock:
            self._check(log, old, checkpoint, proof)
            self._state.keep(log, checkpoint.signed([signature.line]))
            return self.key.sign(checkpoint.text, self._clock())

    def _check(self, log: Key, old: int, new: Checkpoint, proof: list[bytes]) -> None:
        """Whether the checkpoint continues the newest one. Raises Refused."""
        last = self._state.newest(log)
        size = 0 if last is None else last.size
        if old != size:
            raise Refused(409, f"The newest checkpoint cosigned is of {size} entries.", size)
        if last is None or size == 0:
            good = not proof
        elif size == new.size:
            if last.root != new.root:
                self._report(log, last, new)
                raise Refused(
                    409, f"Another log of {size} entries was cosigned under this name: a fork."
                )
            good = not proof
        else:
            good = verify_consistency(size, last.root, new.size, new.root, proof)
        if not good:
            self._report(log, last, new)
            raise Refused(
                422, f"The proof does not show that this continues the log of {size} entries."
            )

    def _report(self, log: Key, last: Checkpoint | None, new: Checkpoint) -> None:
        """Both checkpoints, signed by the log, are what to show the world if it has forked."""
        _log.error(
            "%s has signed a checkpoint that is not shown to continue the one cosigned last; it was not"
            " cosigned. Last: %r. Now: %r.",
            log.name, last and last.text, new.text,
        )  # fmt: skip


def _parse(body: bytes) -> tuple[int, list[bytes], bytes]:
    """Old size, proof, checkpoint of an add-checkpoint request. Raises Refused."""
    head, gap, note = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    found = re.fullmatch(rb"old (0|[1-9][0-9]{0,18})", first)
    try:
        if not gap or found is None or len(lines) > _MAX_PROOF:
            raise ValueError
        proof = [base64.b64decode(line, validate=True) for line in lines]
        if any(len(step) != SIZE for step in proof):
            raise ValueError
    except ValueError:
        raise Refused(400, "This is no request to add a checkpoint.") from None
    return int(found[1]), proof, note


def _origin(note: bytes) -> str:
    return note.split(b"\n", 1)[0].decode("utf-8", "replace")


def create_app(witness: Witness) -> Starlette:
    """The ASGI application of a witness: POST /add-checkpoint."""

    async def add_checkpoint(request: Request) -> Response:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > 2 * MAX_NOTE:
                return _text(413, "The request is too long.")
        try:
            line = await run_in_threadpool(witness.add_checkpoint, bytes(data))
        except Refused as refused:
            if refused.size is not None:
                return Response(f"{refused.size}\n", 409, media_type=_SIZE_TYPE)
            return _text(refused.status, str(refused))
        return PlainTextResponse(line)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"{error.detail}.\n", error.status_code, error.headers)

    async def on_failure(request: Request, error: Exception) -> Response:
        return _text(500, "The witness failed and has not cosigned. Ask again.")

    return Starlette(
        routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])],
        exception_handlers={HTTPException: on_http, Exception: on_failure},
    )


def _text(status: int, message: str) -> Response:
    return PlainTextResponse(message + "\n", status)


class WitnessService(web.Service):
    """A witness listening on a TCP port: `run()` in this thread, or `with` it in a thread of its own.

    Raises LogError if the address cannot be used.
    """

    def __init__(self, witness: Witness, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            super().__init__(create_app(witness), host, port, "witness")
        except OSError as error:
            raise LogError(
                f"The witness cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None

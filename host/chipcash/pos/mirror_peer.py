# SPDX-License-Identifier: Apache-2.0
"""A till's mirror with another till, over HTTP: the service, and the way to it.

The service keeps a Folder for each till that it was told of. A till is known by its mirror id, the hash of a
secret that follows from its books' key and that it shows with every request; so nothing has to be agreed on
in secret. The service learns how much and when a till writes, and nothing of what.

    GET    /mirror/ID                            state; 404 if there is none
    PUT    /mirror/ID/GENERATION?owner=&after=   begin a generation; the body is the snapshot
    POST   /mirror/ID/GENERATION?owner=&offset=  append to its log; 409 if that is not its end
    DELETE /mirror/ID/GENERATION?owner=&offset=&head=   take its last record back
    POST   /mirror/ID/end?owner=, /mirror/ID/take?owner=
    GET    /mirror/ID/GENERATION/snapshot, …/log
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from chipcash.pos.mirror import (
    Folder,
    MirrorError,
    MirrorState,
    MirrorTaken,
    derived,
    taken,
    unwritable,
)
from chipcash.tls import client_context, verifying

__all__ = ["Peer", "mirror_id", "mirror_service"]

_ANSWER_S = 10.0
"""How long a till waits for its mirror: everything else at the till waits with it."""
_BOOKS_S = 120.0
"""How long it waits while it sends or gets all of its books."""
_MAX_RECORD = 64 << 20


def _secret(books_key: bytes) -> str:
    return derived(books_key, b"mirror peer").hex()


def _id(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def mirror_id(books_key: bytes) -> str:
    """The name under which a peer keeps a till's mirror."""
    return _id(_secret(books_key))


class Peer:
    """A mirror with another till. See Target."""

    def __init__(self, url: str, books_key: bytes, ca: str = "") -> None:
        self.where = url
        secret = _secret(books_key)
        self._path = f"{url}/mirror/{_id(secret)}"
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {secret}"},
            timeout=httpx.Timeout(_ANSWER_S, connect=3.0),
            verify=client_context(Path(ca)) if ca else verifying(url),
            trust_env=False,
        )

    def _ask(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, self._path + path, **options)
        except httpx.HTTPError as error:
            raise unwritable(self.where, f"no answer ({type(error).__name__})") from None
        if answer.status_code == 423:
            raise taken(self.where)
        if answer.status_code not in (200, 204, 404, 409):
            try:
                told = answer.json()
                why, hint = str(told["message"]), str(told["hint"])
            except (ValueError, KeyError, TypeError):
                why, hint = f"it answers {answer.status_code}", ""
            if answer.status_code == 410:
                raise MirrorError(why, hint=hint)
            raise unwritable(self.where, why)
        return answer

    def state(self) -> MirrorState | None:
        """See Target."""
        answer = self._ask("GET")
        if answer.status_code == 404:
            return None
        return self._state(answer)

    def _state(self, answer: httpx.Response) -> MirrorState:
        try:
            return MirrorState(**answer.json())
        except (ValueError, TypeError):
            raise unwritable(self.where, "what answers is no mirror") from None

    def begin(self, owner: str, after: int, identity: str, books: Path) -> None:
        """See Target."""
        with books.open("rb") as file:
            self._done(
                "PUT", f"/{identity}", params={"owner": owner, "after": after}, content=file,
                timeout=_BOOKS_S,
            )  # fmt: skip

    def append(self, owner: str, identity: str, offset: int, data: bytes) -> bool:
        """See Target."""
        where = {"owner": owner, "offset": offset}
        answer = self._ask("POST", f"/{identity}", params=where, content=data)
        if answer.status_code == 404:
            return False
        return answer.status_code == 204

    def cut(self, owner: str, identity: str, offset: int, head: str) -> None:
        """See Target."""
        self._done(
            "DELETE", f"/{identity}", params={"owner": owner, "offset": offset, "head": head}
        )

    def end(self, owner: str) -> None:
        """See Target."""
        self._done("POST", "/end", params={"owner": owner})

    def take(self, owner: str) -> MirrorState:
        """See Target."""
        return self._state(self._done("POST", "/take", params={"owner": owner}))

    def fetch(self, identity: str, folder: Path) -> tuple[Path, Path]:
        """See Target."""
        names = ("snapshot", "log")
        for name in names:
            answer = self._done("GET", f"/{identity}/{name}", timeout=_BOOKS_S)
            (folder / name).write_bytes(answer.content)
        return folder / names[0], folder / names[1]

    def close(self) -> None:
        """See Target."""
        self._client.close()

    def _done(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self._ask(method, path, **options)
        if answer.status_code in (404, 409):
            raise MirrorError(
                f"{self.where} has no mirror of this till.",
                hint="See that the URL is the peer's, and that its --till is this till's mirror id.",
            )
        return answer


# The service ----------------------------------------------------------------------------------------


def mirror_service(folder: Path, tills: Sequence[str]) -> Starlette:
    """The application that keeps mirrors of tills, by their mirror ids, in folders of a folder."""
    known = {till: Folder(folder / till) for till in tills}

    def guarded(
        handle: Callable[[Request, Folder], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            till = request.path_params["till"]
            secret = request.headers.get("authorization", "").removeprefix("Bearer ")
            # The id is the secret's hash: who has the one has the other, and nothing is compared that
            # is secret.
            if till not in known or _id(secret) != till:
                return _no(403, "it does not know this till", "Name it with --till.")
            if not _sound(request):
                return _no(400, "this is no request of a till", "")
            try:
                return await handle(request, known[till])
            except MirrorTaken as error:
                return _no(423, error.message, error.hint)
            except MirrorError as error:
                return _no(507, error.message, error.hint)

        return answer

    async def state(request: Request, mirror: Folder) -> Response:
        found = mirror.state()
        if found is None:
            return _no(404, "There is no mirror yet.", "")
        return JSONResponse(asdict(found))

    async def begin(request: Request, mirror: Folder) -> Response:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".receiving-")
        try:
            with os.fdopen(handle, "wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
            owner, after = request.query_params["owner"], int(request.query_params["after"])
            identity = request.path_params["generation"]
            await anyio.to_thread.run_sync(mirror.begin, owner, after, identity, Path(name))
        except OSError as error:
            return _no(507, f"It cannot be written there: {error.strerror}", "Make room.")
        finally:
            os.unlink(name)
        return Response(status_code=204)

    async def append(request: Request, mirror: Folder) -> Response:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > _MAX_RECORD:
                return _no(413, "That record is too large.", "")
        owner, offset = request.query_params["owner"], int(request.query_params["offset"])
        identity = request.path_params["generation"]
        fits = await anyio.to_thread.run_sync(mirror.append, owner, identity, offset, bytes(data))
        return Response(status_code=204 if fits else 409)

    async def cut(request: Request, mirror: Folder) -> Response:
        asked = request.query_params
        offset, head = int(asked["offset"]), asked["head"]
        identity = request.path_params["generation"]
        await anyio.to_thread.run_sync(mirror.cut, asked["owner"], identity, offset, head)
        return Response(status_code=204)

    async def end(request: Request, mirror: Folder) -> Response:
        await anyio.to_thread.run_sync(mirror.end, request.query_params["owner"])
        return Response(status_code=204)

    async def take(request: Request, mirror: Folder) -> Response:
        try:
            found = await anyio.to_thread.run_sync(mirror.take, request.query_params["owner"])
        except MirrorError as error:
            return _no(410, error.message, error.hint)
        return JSONResponse(asdict(found))

    async def fetch(request: Request, mirror: Folder) -> Response:
        name = f"{request.path_params['generation']}.{request.path_params['what']}"
        if not (mirror.path / name).is_file():
            return _no(404, "There is no such generation.", "")
        return FileResponse(mirror.path / name)

    here = "/mirror/{till}"
    return Starlette(
        routes=[
            Route(here, guarded(state), methods=["GET"]),
            Route(f"{here}/end", guarded(end), methods=["POST"]),
            Route(f"{here}/take", guarded(take), methods=["POST"]),
            Route(f"{here}/{{generation}}", guarded(begin), methods=["PUT"]),
            Route(f"{here}/{{generation}}", guarded(append), methods=["POST"]),
            Route(f"{here}/{{generation}}", guarded(cut), methods=["DELETE"]),
            Route(f"{here}/{{generation}}/{{what}}", guarded(fetch), methods=["GET"]),
        ]
    )


def _sound(request: Request) -> bool:
    """Whether what a request says is of the kind it has to be: some of it becomes names of files."""
    asked, path = request.query_params, request.path_params
    wanted = {
        "PUT": {"owner", "after"},
        "POST": {"owner", "offset"},
        "DELETE": {"owner", "offset", "head"},
    }
    names = wanted.get(request.method, set[str]()) - (
        {"offset"} if "generation" not in path else set()
    )
    return (
        set(asked) == names
        and path.get("what", "log") in ("log", "snapshot")
        and all(
            re.fullmatch(r"[0-9a-f]{32}", value)
            for value in (path.get("generation", "0" * 32), asked.get("owner", "0" * 32))
        )
        and all(
            re.fullmatch(r"[0-9]{1,18}", asked[name])
            for name in ("after", "offset")
            if name in asked
        )
        and re.fullmatch(r"[0-9a-f]{64}", asked.get("head", "0" * 64)) is not None
    )


def _no(status: int, message: str, hint: str) -> Response:
    return JSONResponse({"error": "mirror", "message": message, "hint": hint}, status_code=status)

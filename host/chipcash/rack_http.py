# SPDX-License-Identifier: Apache-2.0
"""A rack of emulated cards over HTTP, for tests in any language: JSON in and out.

Who reaches the service can use the cards, and make files in its directory; so it listens on this machine
only, unless told otherwise, and refuses web pages: requests that name another host (DNS rebinding) or come
from another origin, and bodies that are not declared as JSON, which a page cannot send across origins."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import chipcash
from chipcash import web
from chipcash.errors import ChipcashError, SimError
from chipcash.rack import NAME, Rack, RackRefused
from chipcash.sandbox import RUNTIMES, Faults, links
from chipcash_sim.forms import FORMS
from chipcash_sim.hardware.panel import BUTTONS

__all__ = ["Service", "create_app", "openapi"]

_FAULTS = {
    "cut_write": "at this flash write, from 0",
    "cut_before": "before this command, from 1, is processed",
    "cut_after": "after this command, from 1, is processed, but before its answer",
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "Create": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": f"^{NAME}$"},
            "copy_of": {
                "type": "string",
                "description": "the card to clone; without: a blank card",
            },
        },
    },
    "Insert": {
        "type": "object",
        "description": "links, or a form",
        "additionalProperties": False,
        "properties": {
            "links": {"type": "array", "items": {"type": "string", "enum": list(links())}},
            "form": {"type": "string", "enum": list(FORMS)},
            "runtime": {"type": "string", "enum": list(RUNTIMES), "default": RUNTIMES[0]},
        },
    },
    "Tear": {
        "type": "object",
        "description": "one of the cuts, or now",
        "additionalProperties": False,
        "properties": {
            "now": {"type": "boolean", "description": "take the card out at once"},
            **{
                name: {
                    "type": "integer",
                    "minimum": 0 if name == "cut_write" else 1,
                    "description": f"cut the power {where}",
                }
                for name, where in _FAULTS.items()
            },
            "half": {"type": "boolean", "description": "that flash write is half done"},
        },
    },
    "Press": {
        "type": "object",
        "required": ["button"],
        "additionalProperties": False,
        "properties": {"button": {"type": "string", "enum": list(BUTTONS)}},
    },
    "Screen": {
        "type": "object",
        "required": ["png"],
        "properties": {"png": {"type": "string", "contentEncoding": "base64"}},
    },
    "Card": {
        "type": "object",
        "required": [
            "name",
            "image",
            "links",
            "paths",
            "environment",
            "form",
            "runtime",
            "inserted",
            "powered",
            "faults",
        ],
        "properties": {
            "name": {"type": "string"},
            "image": {"type": "string", "description": "file of its flash"},
            "links": {"type": "array", "items": {"type": "string"}},
            "paths": {
                "type": "array",
                "items": {"type": "string"},
                "description": "how each link is reached, as in `chipcash card info PATH`",
            },
            "environment": {
                "type": "object",
                "description": "variables that a process must have to use the paths",
            },
            "form": {"type": ["string", "null"]},
            "runtime": {"type": "string"},
            "inserted": {"type": "boolean"},
            "powered": {"type": "boolean", "description": "false after a fault took its power"},
            "faults": {"type": "object", "description": "of the next time it is put in"},
        },
    },
    "Cards": {
        "type": "object",
        "required": ["cards"],
        "properties": {"cards": {"type": "array", "items": {"$ref": "#/components/schemas/Card"}}},
    },
    "Apdus": {
        "type": "object",
        "required": ["steps"],
        "properties": {
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "number": {"type": "integer"},
                        "path": {"type": "string", "description": "the card's link"},
                        "name": {"type": "string", "description": "of the command"},
                        "command": {
                            "type": "string",
                            "description": "hex; its header only where secret",
                        },
                        "secret": {"type": "boolean"},
                        "answer": {
                            "type": ["string", "null"],
                            "description": "hex, with the status word; null if there was none",
                        },
                        "outcome": {"type": "string", "description": "status word and its name"},
                        "pause_ms": {"type": "number"},
                        "spent_ms": {"type": "number"},
                    },
                },
            }
        },
    },
    "OpenApi": {"type": "object"},
}


@dataclass(frozen=True)
class Call:
    """A request as a handler sees it: the card's name in the path, the body, and the query's after."""

    name: str
    body: dict[str, Any]
    after: int


@dataclass(frozen=True)
class Endpoint:
    """One row of the table. body, answer: names of schemas; a body of "" means that there is none."""

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Rack, Call], dict[str, Any]]
    answer: str
    body: str = ""


def _cards(rack: Rack, call: Call) -> dict[str, Any]:
    cards = []
    for name in rack.names():
        with suppress(RackRefused):  # deleted meanwhile
            cards.append(rack.state(name))
    return {"cards": cards}


def _create(rack: Rack, call: Call) -> dict[str, Any]:
    return rack.create(**call.body)


def _card(rack: Rack, call: Call) -> dict[str, Any]:
    return rack.state(call.name)


def _insert(rack: Rack, call: Call) -> dict[str, Any]:
    return rack.insert(call.name, **call.body)


def _remove(rack: Rack, call: Call) -> dict[str, Any]:
    return rack.remove(call.name)


def _tear(rack: Rack, call: Call) -> dict[str, Any]:
    faults = dict(call.body)
    if faults.pop("now", False):
        if faults:
            raise RackRefused("malformed", "A card is torn now, or later, not both.")
        return rack.remove(call.name)
    if len(faults.keys() & _FAULTS.keys()) != 1 or ("half" in faults and "cut_write" not in faults):
        raise RackRefused(
            "malformed", f"Tell one of now, {', '.join(_FAULTS)}; half goes with cut_write."
        )
    return rack.tear(call.name, cast(Faults, faults))


def _press(rack: Rack, call: Call) -> dict[str, Any]:
    return rack.press(call.name, **call.body)


def _screen(rack: Rack, call: Call) -> dict[str, Any]:
    return {"png": base64.b64encode(rack.screen(call.name)).decode()}


def _apdus(rack: Rack, call: Call) -> dict[str, Any]:
    return {"steps": rack.apdus(call.name, call.after)}


def _openapi(rack: Rack, call: Call) -> dict[str, Any]:
    return openapi()


ENDPOINTS = (
    Endpoint("GET", "/v1/cards", "cards", "All cards", _cards, "Cards"),
    Endpoint("POST", "/v1/cards", "create", "Make a card, blank or a clone", _create, "Card",
             body="Create"),
    Endpoint("GET", "/v1/cards/{name}", "card", "A card", _card, "Card"),
    Endpoint("POST", "/v1/cards/{name}/insert", "insert", "Put it behind links", _insert, "Card",
             body="Insert"),
    Endpoint("POST", "/v1/cards/{name}/remove", "remove", "Take it out", _remove, "Card"),
    Endpoint("POST", "/v1/cards/{name}/tear", "tear",
             "Have it lose its power, now or after it is put in the next time", _tear, "Card",
             body="Tear"),
    Endpoint("POST", "/v1/cards/{name}/press", "press", "Press one of its buttons", _press, "Card",
             body="Press"),
    Endpoint("GET", "/v1/cards/{name}/screen", "screen", "What its screen shows", _screen, "Screen"),
    Endpoint("GET", "/v1/cards/{name}/apdus", "apdus", "What has reached it, and its answers", _apdus,
             "Apdus"),
    Endpoint("GET", "/openapi.json", "openapi", "This description", _openapi, "OpenApi"),
)  # fmt: skip


def create_app(rack: Rack, hosts: frozenset[str] | None) -> Starlette:
    """The ASGI application of a rack. hosts: by which names it is called, None for any."""

    def route(endpoint: Endpoint) -> Route:
        async def handle(request: Request) -> Response:
            body = await _body(request, endpoint.body)
            call = Call(request.path_params.get("name", ""), body, _after(request))
            return JSONResponse(await run_in_threadpool(endpoint.handler, rack, call))

        return Route(endpoint.path, handle, methods=[endpoint.method], name=endpoint.name)

    app = Starlette(
        routes=[route(endpoint) for endpoint in ENDPOINTS],
        middleware=[Middleware(_Guard, hosts=hosts)],
        exception_handlers={
            RackRefused: _on_refused,
            web.BadBody: web.on_bad_body,
            ChipcashError: _on_failed,
            OSError: _on_os,
            web.TooLarge: web.on_too_large,
            web.TooSlow: web.on_too_slow,
            HTTPException: web.on_http,
            Exception: _on_fault,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Guard:
    """Lets requests through that no web page of others has made."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            headers = Request(scope).headers
            host, origin = headers.get("host", ""), headers.get("origin")
            if self._hosts is not None and _hostname(f"//{host}") not in self._hosts:
                app = web.refusal(403, "host", "This service is not called by that name.")
            elif origin is not None and origin.partition("//")[2] != host:
                app = web.refusal(403, "origin", "Web pages of others may not use this service.")
        await app(scope, receive, send)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


async def _body(request: Request, schema: str) -> dict[str, Any]:
    """The body as the schema wants it; empty where there is to be none."""
    return await web.json_body(request, schema, _SCHEMAS.get(schema))


def _after(request: Request) -> int:
    text = request.query_params.get("after", "0")
    if not re.fullmatch("[0-9]{1,10}", text):
        raise RackRefused("malformed", "after is not the number of a command.")
    return int(text)


def _on_refused(request: Request, error: Exception) -> Response:
    refused = cast(RackRefused, error)
    return web.refusal(refused.status, refused.name, refused.message, refused.hint)


def _on_failed(request: Request, error: Exception) -> Response:
    failed = cast(ChipcashError, error)
    return web.refusal(500, "failed", failed.message, failed.hint)


def _on_os(request: Request, error: Exception) -> Response:
    failed = cast(OSError, error)
    return web.refusal(500, "failed", f"{failed.filename}: {failed.strerror}.")


def _on_fault(request: Request, error: Exception) -> Response:
    return web.refusal(500, "internal", "The service failed.", "Ask for the card's state.")


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description, made from the same table as the routes."""

    def content(schema: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}

    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        operation: dict[str, Any] = {
            "operationId": endpoint.name,
            "summary": endpoint.summary,
            "responses": {
                "200": {"description": endpoint.answer, "content": content(endpoint.answer)},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
        if endpoint.body:
            operation["requestBody"] = {"required": True, "content": content(endpoint.body)}
        parameters: list[dict[str, Any]] = []
        if "{name}" in endpoint.path:
            schema = {"type": "string", "pattern": f"^{NAME}$"}
            parameters.append({"name": "name", "in": "path", "required": True, "schema": schema})
        if endpoint.name == "apdus":
            parameters.append(
                {
                    "name": "after",
                    "in": "query",
                    "description": "number of the last command known",
                    "schema": {"type": "integer", "minimum": 0, "default": 0},
                }
            )
        if parameters:
            operation["parameters"] = parameters
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chipcash card emulator",
            "version": chipcash.__version__,
            "description": "Emulated cards behind real links. For tests: there is no authentication.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "responses": web.COMPONENTS["responses"],
            "schemas": {**web.COMPONENTS["schemas"], **_SCHEMAS},
        },
    }


class Service(web.Service):
    """A rack listening on a TCP port, as chipcash.web.Service does.

    allow_remote: whether an address that others can reach, and any name for it, is meant. Raises SimError
    if it is not, or the address cannot be used."""

    def __init__(
        self, rack: Rack, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False
    ) -> None:
        if not allow_remote and not web.is_loopback(host):
            raise SimError(
                f"At {host} anyone who can reach this machine could use the cards: nothing was started.",
                hint="Listen on 127.0.0.1, or say --allow-remote.",
            )
        hosts = None if allow_remote else frozenset({"127.0.0.1", "localhost", "::1", host})
        try:
            super().__init__(create_app(rack, hosts), host, port, "rack")
        except OSError as error:
            raise SimError(
                f"The emulator cannot listen on {host} port {port}: {error.strerror}.",
                hint="Choose another address or port, or end what uses it.",
            ) from None

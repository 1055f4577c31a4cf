# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 description of the registration center, from the table of its endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import chipcash
from chipcash.web import COMPONENTS, MAX_BODY
from chipcash_wire import objects as o

if TYPE_CHECKING:
    from chipcash.center.http import Endpoint

__all__ = ["ERRORS", "describe"]

ERRORS = {
    "malformed": 400, "network": 400, "signature": 400, "role": 400, "expired": 400, "blacklisted": 400,
    "subject": 400, "challenge": 400, "void": 400, "not-yet": 400, "certificate": 403, "unknown": 404,
    "method": 405, "timeout": 408, "conflict": 409, "too-large": 413, "too-many": 429, "internal": 500,
    "unavailable": 503,
}  # fmt: skip
"""HTTP statuses of the errors in protocols/spec/center.md."""

_OCTETS = "application/octet-stream"
_MEANS = {
    400: "refused; nothing changed",
    403: "for institutions that show a certificate; nothing changed",
    404: "not known; nothing changed",
    408: "the body did not come in time; nothing changed",
    409: "in conflict with what is registered; nothing changed",
    413: "too large; nothing changed",
    429: "more than a client may ask at once; nothing changed",
    500: "the center failed; all of the request was carried out or nothing: repeat it",
    503: "what it takes does not answer just now; nothing changed that a repetition would not bring",
}


def describe(endpoints: Sequence[Endpoint], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The description. sizes: bytes of the ids in paths, by name of the parameter."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, sizes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chipcash registration center",
            "version": chipcash.__version__,
            "description": "Bodies are chipcash wire objects (protocols/spec/objects.md) as bytes. Any"
            " request may be repeated: what was done is done once.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**COMPONENTS["schemas"], **_SCHEMAS},
            "headers": {
                "RequestId": {
                    "description": "what the center's log calls this request",
                    "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
                },
                "RetryAfter": {
                    "description": "seconds until the client may ask again",
                    "required": True,
                    "schema": {"type": "integer", "minimum": 1},
                },
            },
            "securitySchemes": {
                "mutualTLS": {
                    "type": "mutualTLS",
                    "description": "An institution's client certificate, where the center asks for them.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint, sizes: Mapping[str, int]) -> dict[str, Any]:
    names = {"too-many", "internal", *endpoint.refusals}
    operation: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.summary}
    if endpoint.institutions:
        names.add("certificate")
        operation["security"] = [{"mutualTLS": []}, {}]
    if endpoint.body:
        names |= {"malformed", "too-large", "timeout"}
        operation["requestBody"] = {
            "description": endpoint.body,
            "required": True,
            "content": {_OCTETS: {"schema": _octets(MAX_BODY)}},
        }
    if endpoint.parameter:
        names.add("malformed")
        operation["parameters"] = [_hex_parameter(endpoint.parameter, sizes)]
    elif endpoint.name == "blacklist":
        names.add("malformed")
        operation["parameters"] = [
            {
                "name": "since",
                "in": "query",
                "description": "sequence of the newest entry known",
                "schema": {"type": "integer", "minimum": 0, "maximum": 9_999_999_999, "default": 0},
            }
        ]
    responses = {str(status): _refused(names, status) for status in sorted(_statuses(names))}
    if not endpoint.answer:
        responses["204"] = {"description": "done; the same again for a repetition"}
    elif endpoint.json:
        schema = {"$ref": f"#/components/schemas/{endpoint.name}"}
        responses["200"] = _answer(endpoint.answer, "application/json", schema)
    else:
        responses["200"] = _answer(endpoint.answer, _OCTETS, _octets())
    for response in responses.values():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = {"$ref": "#/components/headers/RequestId"}
    operation["responses"] = responses
    return operation


def _statuses(names: set[str]) -> set[int]:
    return {ERRORS[name] for name in names}


def _refused(names: set[str], status: int) -> dict[str, Any]:
    """The answer with a status, whose error is one of those names that have it."""
    error = {"type": "string", "enum": sorted(name for name in names if ERRORS[name] == status)}
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/Error"},
            {"type": "object", "properties": {"error": error}},
        ]
    }
    answer = _answer(_MEANS[status], "application/json", schema)
    if status == 429:
        answer["headers"] = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
    return answer


def _answer(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _octets(most: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "contentMediaType": _OCTETS}
    return schema if most is None else {**schema, "maxLength": most}


def _hex_parameter(name: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _hex(sizes[name])}


def _hex(size: int, *, null: bool = False) -> dict[str, Any]:
    """So many bytes in lower-case hex; null: or none."""
    pattern = f"^[0-9a-f]{{{2 * size}}}$"
    return {"type": ["string", "null"] if null else "string", "pattern": pattern}


def _object(**properties: Any) -> dict[str, Any]:
    """An object that has these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _one_of(*names: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}


_FEN = {"type": "integer", "minimum": 0, "description": "fen"}
_TIME = {"type": "integer", "minimum": 0, "description": "seconds since 1970"}
_ISSUED = _object(time=_TIME, event=_one_of("issued"), lo=_FEN, hi=_FEN, to=_hex(33))
_LATER_EVENT = _object(
    time=_TIME,
    event=_one_of("settled", "reclaimed", "redeemed"),
    lo=_FEN,
    hi=_FEN,
    title_id=_hex(32),
    claim_id=_hex(32, null=True),
    **{"from": _hex(33)},
    new_title_id=_hex(32, null=True),
    to=_hex(33, null=True),
)
_SCHEMAS: dict[str, Any] = {
    "claim": _object(
        claim_id=_hex(32),
        payer=_hex(33),
        payee=_hex(33),
        amount_fen=_FEN,
        deadline=_TIME,
        registered=_TIME,
        outcomes=_array(
            _object(
                title_id=_hex(32),
                lo=_FEN,
                hi=_FEN,
                state=_one_of(*o.OUTCOMES[1:]),
                claim_id=_hex(32, null=True),
                reclaimed={"type": "boolean"},
                new_title_id=_hex(32, null=True),
            )
        ),
        loss=_object(guarantee_fund_fen=_FEN, payee_fen=_FEN),
        evidence=_array(_hex(32)),
    ),
    "coin": _object(
        serial=_hex(16),
        amount_fen=_FEN,
        partition=_array(
            _object(
                lo=_FEN,
                hi=_FEN,
                state=_one_of("live", "redeemed"),
                title_id=_hex(32, null=True),
                owner=_hex(33, null=True),
            )
        ),
        history=_array({"anyOf": [_ISSUED, _LATER_EVENT]}),
    ),
    "accounts": _object(
        issued_fen=_FEN,
        live_fen=_FEN,
        redeemed_fen=_FEN,
        owners={
            "type": "object",
            "propertyNames": {"pattern": "^[0-9a-f]{66}$"},
            "additionalProperties": _FEN,
        },
    ),
    "openapi": {"type": "object", "required": ["openapi", "info", "paths"]},
}

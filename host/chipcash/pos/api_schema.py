# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 description of the till over HTTP, from the table of its endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chipcash.pos.model import PaymentState
from chipcash.pos.till import ReaderState, SaleState, Warn
from chipcash.terminal import API_VERSION
from chipcash.web import COMPONENTS, MAX_BODY

if TYPE_CHECKING:
    from chipcash.pos.api import Endpoint

__all__ = ["MAX_WAIT", "REFERENCE", "SCHEMAS", "describe"]

MAX_WAIT = 60
"""Most seconds that a request waits for a result."""
REFERENCE = "[A-Za-z0-9._~:-]{1,64}"
"""How names of charges and refunds are written."""

_MOST = (1 << 53) - 1
"""JSON's numbers are exact up to here in every language."""
_NAME = {"type": "string", "pattern": f"^{REFERENCE}$"}
_FEN = {"type": "integer", "minimum": 0, "description": "fen"}
_AMOUNT = {"type": "integer", "minimum": 1, "maximum": _MOST, "description": "fen"}
_TIME = {"type": "integer", "minimum": 0, "description": "seconds since 1970"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_OPERATOR = {
    "type": "string",
    "pattern": "^[^\\x00-\\x1f\\x7f]{0,64}$",
    "description": "who works at the till, for its reports",
}
_PIN = {"type": "string", "pattern": "^[0-9]{4,12}$", "description": "the payer's PIN"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(names: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": [str(name) for name in names]}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _body(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    return {**_object(**properties), "required": list(required)}


_TOTAL = _object(count={"type": "integer", "minimum": 0}, fen=_FEN)
SCHEMAS: dict[str, dict[str, Any]] = {
    "NewCharge": _body(
        ("amount_fen", "reference"),
        amount_fen=_AMOUNT,
        reference={**_NAME, "description": "your name for it: given again, it is the same charge"},
        operator=_OPERATOR,
        pin=_PIN,
    ),
    "Pin": _body(("pin",), pin=_PIN),
    "NewRefund": _body(
        ("payment", "amount_fen", "reference"),
        payment={**_NAME, "description": "the name of the charge"},
        amount_fen=_AMOUNT,
        reference={**_NAME, "description": "your name for it: given again, it is the same refund"},
        operator=_OPERATOR,
    ),
    "Charge": _object(
        reference=_NAME,
        amount_fen=_FEN,
        state={
            **_one_of(list(SaleState)),
            "description": "WAITING: for a card. PAYING: a card is being asked. PIN: give the PIN, then the"
            " card once more. UNKNOWN: a card may have paid: the same card again, or give up. PAID: hand out"
            " the goods. REFUSED: not paid, message says why. CANCELLED: not paid.",
        },
        ended={**_FLAG, "description": "whether it stays so, unless it is tried again"},
        at_till={**_FLAG, "description": "whether the till waits for a card or a PIN for it"},
        retryable={**_FLAG, "description": "whether a card may be asked again for it"},
        operator=_TEXT,
        reason={**_TEXT, "description": "name of what happened last, for programs"},
        message={**_TEXT, "description": "what happened last, for people"},
        hint={**_TEXT, "description": "what to do now, for people"},
        payment=_or_null({"$ref": "#/components/schemas/Payment"}),
    ),
    "Payment": _object(
        claim_id={"type": "string", "pattern": "^[0-9a-f]{64}$"},
        number={"type": "integer", "minimum": 1},
        amount_fen=_FEN,
        state={
            **_one_of(list(PaymentState)),
            "description": "PENDING and SUBMITTED: Pending Repeat Payment Verification",
        },
        time=_TIME,
        deadline=_TIME,
        settled_fen=_FEN,
        disputed_fen=_FEN,
        reason=_TEXT,
        link=_TEXT,
        shift=_or_null({"type": "integer"}),
    ),
    "Refund": _object(
        reference=_NAME,
        payment=_or_null(_NAME),
        amount_fen=_FEN,
        state={
            **_one_of(("DONE", "UNDER_WAY", "PARTLY", "PROMISED", "CANCELLED")),
            "description": "UNDER_WAY: recorded, and completed by the next synchronisation. PROMISED: of a"
            " payment that is pending, and made when it is verified. PARTLY, CANCELLED: only part of it,"
            " or nothing, was there to give back",
        },
        settled_fen=_or_null(_FEN),
        time=_TIME,
        proof={
            **_or_null(_TEXT),
            "description": "of a promise: the text of a QR code for the payer",
        },
    ),
    "Status": _object(
        event={"type": "integer"},
        time=_TIME,
        readers={
            "type": "array",
            "items": _object(
                path=_TEXT, state=_one_of(list(ReaderState)), message=_TEXT, hint=_TEXT
            ),
        },
        current=_or_null(
            _object(
                reference=_or_null(_TEXT),
                amount_fen=_FEN,
                state=_one_of(list(SaleState)),
                message=_TEXT,
                hint=_TEXT,
            )
        ),
        last=_or_null(
            _object(
                reference=_or_null(_TEXT),
                amount_fen=_FEN,
                time=_TIME,
                paid={**_or_null(_FLAG), "description": "null: nobody knows"},
            )
        ),
        open={
            "type": "integer",
            "minimum": 0,
            "description": "requests that a card may have paid without an answer here",
        },
        pending=_TOTAL,
        overdue=_TOTAL,
        verified_fen=_FEN,
        next_deadline=_or_null(_TIME),
        sync=_object(
            running=_FLAG,
            succeeded=_or_null(_TIME),
            next_try=_or_null(_TIME),
            message=_TEXT,
            hint=_TEXT,
        ),
        shift=_or_null({"type": "integer"}),
        warnings={"type": "array", "items": _one_of(list(Warn))},
    ),
    "Started": _object(started=_FLAG),
    "OpenApi": {"type": "object", "required": ["openapi", "info", "paths"]},
}

_QUERY = {
    "wait": {
        "name": "wait",
        "in": "query",
        "description": "answer once no card is waited for any more, or after so many seconds",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
    },
    "known": {
        "name": "known",
        "in": "query",
        "description": "wait until its state is another one than this",
        "schema": _one_of(list(SaleState)),
    },
    "form": {
        "name": "form",
        "in": "query",
        "schema": {**_one_of(("text", "html", "pdf", "escpos")), "default": "text"},
    },
}
_MEANS = {
    400: "malformed; nothing changed",
    401: "the token is missing or wrong; nothing changed",
    404: "there is none of that name: no card has paid it",
    408: "the body did not come in time; nothing changed",
    409: "refused as things stand; nothing changed unless the message says so",
    413: "too large; nothing changed",
    415: "not declared as JSON; nothing changed",
    500: "the till failed; the same request is never charged twice: repeat it",
    503: "the center or the disk does not answer; nothing changed",
}
_OTHER_ANSWERS: dict[str, dict[str, Any]] = {
    "Receipt": {
        "text/plain": {"schema": {"type": "string"}},
        "text/html": {"schema": {"type": "string"}},
        "application/pdf": {},
        "application/octet-stream": {},
    },
    "Events": {"text/event-stream": {"schema": {"type": "string"}}},
}


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The description."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chipcash till",
            "version": API_VERSION,
            "description": "Charge cards at a chipcash till. Amounts are whole fen. Each charge and refund"
            " has a name that you give it: the same name is the same one, so any request may be repeated.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**COMPONENTS["schemas"], **SCHEMAS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    statuses = {500, *endpoint.refusals}
    content: dict[str, Any]
    operation: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.summary}
    parameters = [_QUERY[name] for name in endpoint.query]
    if "{reference}" in endpoint.path:
        statuses |= {400, 404}
        path: dict[str, Any] = {"name": "reference", "in": "path", "required": True}
        parameters.append({**path, "schema": _NAME})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.method == "POST":
        statuses |= {400, 408, 413}
    if endpoint.body:
        statuses.add(415)
        content = {"schema": {"$ref": f"#/components/schemas/{endpoint.body}"}}
        operation["requestBody"] = {
            "required": True,
            "description": f"at most {MAX_BODY} bytes",
            "content": {"application/json": content},
        }
    if endpoint.open:
        operation |= {"security": []}
    else:
        statuses.add(401)
    content = {"schema": {"$ref": f"#/components/schemas/{endpoint.answer}"}}
    good = {
        "description": "how it stands",
        "content": _OTHER_ANSWERS.get(endpoint.answer, {"application/json": content}),
    }
    responses: dict[str, Any] = {"200": good}
    if endpoint.made:
        responses["201"] = {**good, "description": "it is new"}
    for status in sorted(statuses):
        responses[str(status)] = {
            "description": _MEANS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    operation["responses"] = responses
    return operation

# SPDX-License-Identifier: Apache-2.0
"""The pages of a center's staff: one table of routes, each with the right that it takes.

A request goes one way: who is it, may the account, do it, write that down durably, only then answer. What
cannot be written down is not shown. Nothing here moves money; the one thing that changes the ledger is
`block`, which is written down before it is done as well as after.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hmac import compare_digest
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chipcash.center.errors import CenterRefused, LedgerError
from chipcash.center.inquiry import LATEST, Inquiry, Moment
from chipcash.center.staff.accounts import LoginRefused, Staff, TooManyTries, Visitor, csrf_token
from chipcash.center.staff.errors import StaffError, TrailBroken
from chipcash.center.staff.health import Health
from chipcash.center.staff.roles import Right
from chipcash.center.staff.views import FILTERS, Views
from chipcash.center.staff.words import LANGUAGES, Words, preferred
from chipcash.errors import ChipcashError
from chipcash.trust import Trust
from chipcash.web import TooLarge, body

__all__ = ["PAGES", "Center", "Page", "create_app"]

_log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_SIZES = {"key": 33, "id": 32, "digest": 32, "serial": 16}
_COUNT = 100
"""Rows of a page of a list."""
_FIRST = 1 << 62
"""Above the number of every entry of the record."""
_MAX_REASON = 400
_SESSION, _LOGIN = "session", "login"
"""Cookies. The form before a session has one of its own, so that nobody is logged out by a link to it."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self';"
    " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Center:
    """The center that the pages are about.

    inquiry: its ledger, to be read; trust: the network; block: puts a key on the blacklist, for good, and
    raises ChipcashError if that cannot be done here; health: how it is.
    """

    inquiry: Inquiry
    trust: Trust
    block: Callable[[bytes], None]
    health: Callable[[], Health]


@dataclass(frozen=True)
class Visit:
    """A request as a handler sees it.

    ident: the id in the path, in bytes; session, login: the browser's cookies, of a session and of the form
    before one; secure: whether it came over TLS.
    """

    site: Site
    visitor: Visitor | None
    ident: bytes
    query: Mapping[str, str]
    form: Mapping[str, str]
    address: str
    session: str
    login: str
    secure: bool
    words: Words

    @property
    def account(self) -> Visitor:
        """The visitor, where the route takes one."""
        if self.visitor is None:
            raise _Stop(401, "Log in.")
        return self.visitor

    def number(self, name: str, default: int) -> int:
        """A number of the query, or another one if it is not there or none."""
        text = self.query.get(name, "")
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else default

    def moment(self) -> Moment:
        """Before what a list begins, `before` of the query; with its newest if there is none."""
        found = re.fullmatch("([0-9]{1,18})-([0-9a-f]{64})", self.query.get("before", ""))
        return (int(found[1]), bytes.fromhex(found[2])) if found else LATEST


@dataclass(frozen=True)
class Answer:
    """What a handler found. subject, outcome, note: for the record; recorded: whether that is done."""

    response: Response
    subject: str = ""
    outcome: str = "ok"
    note: str = ""
    recorded: bool = False


Handler = Callable[[Visit], Answer]


@dataclass(frozen=True)
class Page:
    """One row of the table of routes. right: what an account must have; name: of the action in the record."""

    method: str
    path: str
    name: str
    right: Right
    handler: Handler

    @property
    def parameter(self) -> str:
        """Name of the id in the path, or ""."""
        found = re.search(r"{(\w+)}", self.path)
        return found[1] if found else ""


class _Stop(Exception):
    """The request ends here. status: of HTTP; message: an English sentence that Words knows."""

    def __init__(self, status: int, message: str, outcome: str = "refused") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.outcome = outcome


# ---- handlers ------------------------------------------------------------------------------------------


def _home(visit: Visit) -> Answer:
    if visit.account.temporary:
        return Answer(RedirectResponse("/password", 303))
    for right, path in ((Right.LOOK, ""), (Right.BLOCK, "/block"), (Right.TRAIL, "/trail")):
        if visit.account.may(right):
            return Answer(RedirectResponse(path, 303) if path else visit.site.html(visit, "home"))
    return Answer(RedirectResponse("/health", 303))


def _login_form(visit: Visit) -> Answer:
    """The form, and a cookie of its own that its token is made from."""
    if visit.visitor is not None:
        return Answer(RedirectResponse("/", 303))
    cookie = visit.login or secrets.token_urlsafe(32)
    response = visit.site.html(
        visit, "login", csrf=csrf_token(cookie), next=_next(visit.query), problem="", name=""
    )
    _set_cookie(visit, response, _LOGIN, cookie)
    return Answer(response)


def _login(visit: Visit) -> Answer:
    name, password = visit.form.get("name", "").strip(), visit.form.get("password", "")
    token = visit.site.staff.login(name, password, visit.address)
    response = RedirectResponse(_next(visit.form) or "/", 303)
    _set_cookie(visit, response, _SESSION, token)
    _set_cookie(visit, response, _LOGIN, "", max_age=0)
    return Answer(response, recorded=True)


def _logout(visit: Visit) -> Answer:
    visit.site.staff.logout(visit.account, visit.address)
    response = RedirectResponse("/login", 303)
    _set_cookie(visit, response, _SESSION, "", max_age=0)
    return Answer(response, recorded=True)


def _password_form(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "password", problem=""))


def _password(visit: Visit) -> Answer:
    old, new, again = (visit.form.get(name, "") for name in ("old", "new", "again"))
    problem, status = "", 400
    try:
        if new != again:
            problem = "The two new passwords are not the same."
        else:
            visit.site.staff.change_password(visit.account, old, new, visit.address)
            return Answer(RedirectResponse("/", 303), recorded=True)
    except LoginRefused:
        problem, status = "The old password is not right.", 403
    except TooManyTries:
        problem, status = "Too many tries. Wait, and try again.", 429
    except StaffError as error:
        problem = error.message
    response = visit.site.html(visit, "password", status, problem=visit.words(problem))
    return Answer(response, outcome="refused", recorded=status != 400)


def _find(visit: Visit) -> Answer:
    """To the page of a serial, a title's, claim's or evidence's id, or a key."""
    text = _hex(visit.query.get("q", ""))
    if not re.fullmatch("(?:[0-9a-f]{2})+", text):
        raise _Stop(400, "This is no serial, id or key: these are digits of hex.", "malformed")
    data = bytes.fromhex(text)
    inquiry = visit.site.center.inquiry
    where = ""
    if len(data) == 16:
        where = f"/coins/{text}"
    elif len(data) == 33:
        where = f"/holders/{text}"
    elif len(data) == 32:
        for kind, look in (
            ("titles", inquiry.title),
            ("claims", inquiry.claim),
            ("evidence", inquiry.evidence),
        ):
            try:
                look(data)
                where = f"/{kind}/{text}"
                break
            except CenterRefused:
                continue
    if not where:
        raise _Stop(404, "The ledger knows nothing of this name.", "unknown")
    return Answer(RedirectResponse(where, 303), subject=text)


def _coin(visit: Visit) -> Answer:
    view = visit.site.views.coin(visit.ident, visit.number("page", 1), visit.number("part", 1))
    return Answer(visit.site.html(visit, "coin", **view))


def _title(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "title", **visit.site.views.title(visit.ident)))


def _claim(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "claim", **visit.site.views.claim(visit.ident)))


def _disputes(visit: Visit) -> Answer:
    view = visit.site.views.disputes(visit.moment())
    return Answer(visit.site.html(visit, "disputes", **view))


def _dispute(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "dispute", **visit.site.views.dispute(visit.ident)))


def _evidence(visit: Visit) -> Answer:
    evidence = visit.site.center.inquiry.evidence(visit.ident)
    name = f"evidence-{visit.ident.hex()[:16]}.bin"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Answer(Response(evidence.encode(), 200, headers, "application/octet-stream"))


def _holder(visit: Visit) -> Answer:
    view = visit.site.views.holder(visit.ident, visit.moment())
    return Answer(visit.site.html(visit, "holder", **view))


def _health(visit: Visit) -> Answer:
    return Answer(visit.site.html(visit, "health", health=visit.site.center.health()))


def _block_form(visit: Visit) -> Answer:
    text = _hex(visit.query.get("key", ""))
    listed = card = None
    if re.fullmatch("0[23][0-9a-f]{64}", text):
        inquiry = visit.site.center.inquiry
        listed, card = inquiry.listed(bytes.fromhex(text)), inquiry.card(bytes.fromhex(text))
    response = visit.site.html(
        visit, "block", key=text, listed=listed, card=card, problem="", reason=""
    )
    return Answer(response, subject=text)


def _block(visit: Visit) -> Answer:
    text = _hex(visit.form.get("key", ""))
    reason = " ".join(visit.form.get("reason", "").split())
    problem = ""
    if not re.fullmatch("0[23][0-9a-f]{64}", text):
        problem = "A key has 66 digits of hex and begins with 02 or 03."
    elif not 5 <= len(reason) <= _MAX_REASON:
        problem = (
            "Say why, in 5 to 400 characters: who asked for it, and how you know that it is theirs."
        )
    elif visit.form.get("sure") != "yes":
        problem = "Confirm that you have compared the key: there is no way back."
    if problem:
        response = visit.site.html(
            visit, "block", 400,
            key=text, listed=None, card=None, problem=visit.words(problem), reason=reason,
        )  # fmt: skip
        return Answer(response, subject=text, outcome="malformed", note=reason)
    visit.site.staff.record(
        visit.account, "block", visit.address, subject=text, outcome="begun", note=reason
    )
    try:
        visit.site.center.block(bytes.fromhex(text))
    except (ChipcashError, OSError) as error:
        _log.error("a key was not blocked: %s", error)
        raise _Stop(503, "It may not have been done. Look at the key again before you repeat it.",
                    "failed") from None  # fmt: skip
    return Answer(RedirectResponse(f"/block?key={text}", 303), subject=text, note=reason)


def _trail(visit: Visit) -> Answer:
    problem, entries = "", []
    try:
        entries = visit.site.staff.trail.page(visit.number("before", _FIRST), _COUNT)
    except TrailBroken as error:
        _log.error("%s", error.message)
        problem = visit.words(
            "Entry %(number)s of the record is missing, changed or not in its place.",
            number=error.facts["number"],
        )
    older = entries[-1].number if entries and entries[-1].number > 1 else None
    response = visit.site.html(
        visit, "trail", entries=entries, problem=problem, older=older,
        head=visit.site.staff.trail.head(),
    )  # fmt: skip
    return Answer(response, note="" if not problem else "the record is broken")


PAGES = (
    Page("GET", "/", "home", Right.ANY, _home),
    Page("GET", "/login", "login form", Right.PUBLIC, _login_form),
    Page("POST", "/login", "login", Right.PUBLIC, _login),
    Page("POST", "/logout", "logout", Right.ANY, _logout),
    Page("GET", "/password", "password form", Right.ANY, _password_form),
    Page("POST", "/password", "password", Right.ANY, _password),
    Page("GET", "/find", "find", Right.LOOK, _find),
    Page("GET", "/coins/{serial}", "coin", Right.LOOK, _coin),
    Page("GET", "/titles/{id}", "title", Right.LOOK, _title),
    Page("GET", "/claims/{id}", "claim", Right.LOOK, _claim),
    Page("GET", "/disputes", "disputes", Right.DISPUTES, _disputes),
    Page("GET", "/disputes/{id}", "dispute", Right.DISPUTES, _dispute),
    Page("GET", "/evidence/{digest}", "evidence", Right.DISPUTES, _evidence),
    Page("GET", "/holders/{key}", "holder", Right.DISPUTES, _holder),
    Page("GET", "/block", "block form", Right.BLOCK, _block_form),
    Page("POST", "/block", "block", Right.BLOCK, _block),
    Page("GET", "/trail", "trail", Right.TRAIL, _trail),
    Page("GET", "/health", "health", Right.ANY, _health),
)
"""Every route. /static holds a style sheet and a script, the same for everybody."""


# ---- the way of a request -------------------------------------------------------------------------------


class Site:
    """The pages over a center, its staff's accounts and their record."""

    def __init__(self, center: Center, staff: Staff) -> None:
        self.center = center
        self.staff = staff
        self.views = Views(center.inquiry, center.trust)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(FILTERS)
        self._templates.globals["Right"] = Right

    def app(self) -> Starlette:
        """The ASGI application. Requests run in threads."""
        app = Starlette(
            routes=[
                *[self._route(page) for page in PAGES],
                Mount("/static", StaticFiles(directory=_HERE / "static"), name="static"),
            ],
            middleware=[Middleware(_Headers)],
            exception_handlers={
                HTTPException: self._on_http,
                TooLarge: self._on_too_large,
                Exception: self._on_fault,
            },
        )
        app.router.redirect_slashes = False
        return app

    def _route(self, page: Page) -> Route:
        async def handle(request: Request) -> Response:
            data = await body(request) if page.method == "POST" else b""
            return await run_in_threadpool(self._answer, page, request, data)

        return Route(page.path, handle, methods=[page.method], name=page.name)

    def _answer(self, page: Page, request: Request, data: bytes) -> Response:
        """Answer a request to a page of the table."""
        visit = _visit(self, request, data)
        try:
            if visit.session:
                visitor = self.staff.visitor(visit.session, visit.address)
                visit = replace(visit, visitor=visitor)
            response = self._recorded(page, request, visit)
        except StaffError:  # the session was ended while this was done
            response = RedirectResponse("/login", 303)
        except ChipcashError as error:
            # What could not be written down is not shown.
            _log.error("%s: %s", page.name, error.message)
            message = "The books cannot be used just now, so nothing is shown. Try again later."
            response = self._failure(replace(visit, visitor=None), 503, message)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(
                "lang", request.query_params["lang"], 31536000,
                secure=visit.secure, httponly=True, samesite="strict",
            )  # fmt: skip
        return response

    def _recorded(self, page: Page, request: Request, visit: Visit) -> Response:
        """Do what a request asks for, if it may, and write that down. Raises StaffError, DatabaseError."""
        visitor = visit.visitor
        if visitor is None and page.right is not Right.PUBLIC:
            where = f"?next={quote(request.url.path)}" if page.method == "GET" else ""
            return RedirectResponse(f"/login{where}", 303)
        subject = str(request.path_params.get(page.parameter, ""))
        try:
            if page.method == "POST":
                public = page.right is Right.PUBLIC
                _need_own_form(request, visit, visit.login if public else visit.session)
            if visitor is not None and not visitor.may(page.right):
                if visitor.temporary:
                    raise _Stop(403, "Choose a password of your own first.")
                raise _Stop(403, "Your role does not allow this. It was written down.")
            found = page.handler(replace(visit, ident=_ident(page.parameter, subject)))
        except _Stop as stop:
            found = Answer(self._failure(visit, stop.status, stop.message), outcome=stop.outcome)
        except LoginRefused:
            found = self._login_again(visit, 401, "The name or the password is not right.")
        except TooManyTries as error:
            found = self._login_again(visit, 429, "Too many tries. Wait, and try again.")
            found.response.headers["Retry-After"] = str(error.seconds)
        except CenterRefused as error:
            message = "The ledger knows nothing of this name."
            found = Answer(self._failure(visit, error.status, message), outcome="unknown")
        except LedgerError as error:
            _log.error("%s: %s", page.name, error.message)
            message = "The ledger contradicts itself here. Stop the center, and tell who runs it."
            found = Answer(self._failure(visit, 500, message), outcome="failed")
        except StaffError:
            raise
        except ChipcashError as error:
            _log.error("%s: %s", page.name, error.message)
            message = "The ledger cannot be read just now. Try again later."
            found = Answer(self._failure(visit, 503, message), outcome="failed")
        if visitor is not None and not found.recorded:
            self.staff.record(
                visitor, page.name, visit.address,
                subject=found.subject or subject, outcome=found.outcome, note=found.note,
            )  # fmt: skip
        return found.response

    # ---- answers ----------------------------------------------------------------------------------------

    def html(self, visit: Visit, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page from a template."""
        account = visit.visitor
        values = {"csrf": account.csrf if account else "", **values}
        text = self._templates.get_template(f"{template}.html").render(
            _=visit.words, account=account, languages=LANGUAGES, **values
        )
        return HTMLResponse(text, status)

    def _failure(self, visit: Visit, status: int, message: str) -> Response:
        return self.html(visit, "message", status, message=visit.words(message))

    def _login_again(self, visit: Visit, status: int, problem: str) -> Answer:
        response = self.html(
            visit, "login", status,
            csrf=csrf_token(visit.login), next=_next(visit.form), problem=visit.words(problem),
            name=visit.form.get("name", "")[:100],
        )  # fmt: skip
        return Answer(response, recorded=True)

    def _on_http(self, request: Request, error: Exception) -> Response:
        known = cast(HTTPException, error)
        message = "There is no such page."
        response = self._failure(_visit(self, request, b""), known.status_code, message)
        response.headers.update(known.headers or {})
        return response

    def _on_too_large(self, request: Request, error: Exception) -> Response:
        return self._failure(_visit(self, request, b""), 413, "This is too much at once.")

    def _on_fault(self, request: Request, error: Exception) -> Response:
        message = "This page has a fault. What it was asked for may not have been done."
        response = self._failure(_visit(self, request, b""), 500, message)
        response.headers.update(_HEADERS)  # it goes out behind all middleware
        return response


def create_app(center: Center, staff: Staff) -> Starlette:
    """The ASGI application of the staff's pages."""
    return Site(center, staff).app()


class _Headers:
    """Adds to every answer what keeps it from caches, frames and foreign scripts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)


def _visit(site: Site, request: Request, data: bytes) -> Visit:
    """A request by nobody yet."""
    secure = request.url.scheme == "https"
    language = request.query_params.get("lang") or request.cookies.get("lang", "")
    if language not in LANGUAGES:
        language = preferred(request.headers.get("accept-language", ""))
    try:
        fields = parse_qs(data.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        fields = {}  # no form of ours, so it has no token either
    return Visit(
        site,
        None,
        b"",
        dict(request.query_params),
        {name: values[-1] for name, values in fields.items()},
        request.client.host if request.client is not None else "",
        request.cookies.get(_cookie(_SESSION, secure), ""),
        request.cookies.get(_cookie(_LOGIN, secure), ""),
        secure,
        Words(language),
    )


def _cookie(name: str, secure: bool) -> str:
    """Name of a cookie. Browsers take one that begins with __Host- from this host over TLS only."""
    return f"__Host-{name}" if secure else name


def _set_cookie(
    visit: Visit, response: Response, name: str, token: str, max_age: int | None = None
) -> None:
    response.set_cookie(
        _cookie(name, visit.secure), token, max_age,
        secure=visit.secure, httponly=True, samesite="strict",
    )  # fmt: skip


def _need_own_form(request: Request, visit: Visit, secret: str) -> None:
    """Refuse a form that was not made by these pages for this browser. Raises _Stop.

    secret: the cookie that its token must be made from.
    """
    own = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    given = visit.form.get("csrf", "").encode()
    if not own or not secret or not compare_digest(given, csrf_token(secret).encode()):
        raise _Stop(403, "This form is not from this page, or too old. Go back and load it again.")


def _ident(parameter: str, text: str) -> bytes:
    """The id in a path. Raises _Stop."""
    if not parameter:
        return b""
    if not re.fullmatch(f"[0-9a-f]{{{2 * _SIZES[parameter]}}}", text):
        raise _Stop(400, "This is no serial, id or key: these are digits of hex.", "malformed")
    return bytes.fromhex(text)


def _hex(text: str) -> str:
    """Hex as people paste it."""
    return re.sub(r"\s", "", text)[:200].lower()


def _next(values: Mapping[str, str]) -> str:
    """Where to go after the login: a page of ours, or ""."""
    text = values.get("next", "")
    return text if re.fullmatch("(?:/[a-z]+)(?:/[0-9a-f]+)?", text) else ""

# SPDX-License-Identifier: Apache-2.0
"""The way of a request to pages that people log in to: a table of routes, each with the right that it takes.

A request goes one way: who is it, may the account, do it, write that down durably, only then answer. What
cannot be written down is not shown. A page is made by Jinja2 from the templates of its site or, where that
has none of a name, from those here.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hmac import compare_digest
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chipcash.errors import ChipcashError
from chipcash.people.accounts import (
    ANY,
    PUBLIC,
    LoginRefused,
    Staff,
    TooManyTries,
    Visitor,
    csrf_token,
)
from chipcash.people.errors import StaffError
from chipcash.people.words import LANGUAGES, Words, chinese, preferred
from chipcash.web import TooLarge, TooSlow, body

__all__ = ["Answer", "Page", "Site", "Stop", "Visit", "account_pages"]

_log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_SESSION, _LOGIN = "session", "login"
"""Cookies. The form before a session has one of its own, so that nobody is logged out by a link to it."""

S = TypeVar("S", bound="Site")


@dataclass(frozen=True)
class Visit(Generic[S]):
    """A request as a handler sees it.

    ident: the id in the path, in bytes; session, login: the browser's cookies, of a session and of the form
    before one; secure: whether it came over TLS.
    """

    site: S
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
            raise Stop(401, "Log in.")
        return self.visitor

    def number(self, name: str, default: int) -> int:
        """A number of the query, or another one if it is not there or none."""
        text = self.query.get(name, "")
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else default


@dataclass(frozen=True)
class Answer:
    """What a handler found. subject, outcome, note: for the record; recorded: whether that is done."""

    response: Response
    subject: str = ""
    outcome: str = "ok"
    note: str = ""
    recorded: bool = False


@dataclass(frozen=True)
class Page(Generic[S]):
    """One row of the table of routes. right: what an account must have; name: of the action in the record;
    recorded: whether it is written down also where it was allowed and went well."""

    method: str
    path: str
    name: str
    right: str
    handler: Callable[[Visit[S]], Answer]
    recorded: bool = True

    @property
    def parameter(self) -> str:
        """Name of the id in the path, or ""."""
        found = re.search(r"{(\w+)}", self.path)
        return found[1] if found else ""


class Stop(Exception):
    """The request ends here. status: of HTTP; message: an English sentence that Words knows."""

    def __init__(self, status: int, message: str, outcome: str = "refused") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.outcome = outcome


# ---- handlers that every site has ------------------------------------------------------------------------


def _login_form(visit: Visit[Any]) -> Answer:
    """The form, and a cookie of its own that its token is made from."""
    if visit.visitor is not None:
        return Answer(RedirectResponse("/", 303))
    cookie = visit.login or secrets.token_urlsafe(32)
    response = visit.site.html(
        visit, "login", csrf=csrf_token(cookie), next=_next(visit.query), problem="", name=""
    )
    _set_cookie(visit, response, _LOGIN, cookie)
    return Answer(response)


def _login(visit: Visit[Any]) -> Answer:
    name, password = visit.form.get("name", "").strip(), visit.form.get("password", "")
    token = visit.site.staff.login(name, password, visit.address)
    response = RedirectResponse(_next(visit.form) or "/", 303)
    _set_cookie(visit, response, _SESSION, token)
    _set_cookie(visit, response, _LOGIN, "", max_age=0)
    return Answer(response, recorded=True)


def _logout(visit: Visit[Any]) -> Answer:
    visit.site.staff.logout(visit.account, visit.address)
    response = RedirectResponse("/login", 303)
    _set_cookie(visit, response, _SESSION, "", max_age=0)
    return Answer(response, recorded=True)


def _password_form(visit: Visit[Any]) -> Answer:
    return Answer(visit.site.html(visit, "password", problem=""))


def _password(visit: Visit[Any]) -> Answer:
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


def account_pages() -> tuple[Page[Any], ...]:
    """The routes for logging in and out, and for an account's own password."""
    return (
        Page("GET", "/login", "login form", PUBLIC, _login_form),
        Page("POST", "/login", "login", PUBLIC, _login),
        Page("POST", "/logout", "logout", ANY, _logout),
        Page("GET", "/password", "password form", ANY, _password_form),
        Page("POST", "/password", "password", ANY, _password),
    )


# ---- the way of a request --------------------------------------------------------------------------------


class Site:
    """Pages over accounts and their record.

    pages: the table of routes; folder: of the site's `templates`, `static` and `chinese.json`. /static holds
    what is the same for everybody.
    """

    prefix: ClassVar[str] = ""
    """Of its cookies: cookies know no ports, so two sites of one machine need names of their own."""
    policy: ClassVar[str] = ""
    """What its Content-Security-Policy allows beside the usual."""
    sizes: ClassVar[Mapping[str, int]] = {}
    """Names of ids in paths, and their bytes."""
    no_id: ClassVar[str] = "There is no such page."
    """What is said of a path whose id is none."""
    unreadable: ClassVar[str] = "The books cannot be read just now. Try again later."
    """What is said where a handler fails for a reason that the site does not know."""

    def __init__(self, staff: Staff, pages: Sequence[Page[Any]], folder: Path) -> None:
        self.staff = staff
        self._pages = pages
        self._folder = folder
        self._chinese = chinese(folder)
        self.headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self';"
            f" img-src 'self'; {self.policy}form-action 'self'; base-uri 'none';"
            " frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }
        self.templates = Environment(
            loader=FileSystemLoader([folder / "templates", _HERE / "templates"]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def app(self, names: Sequence[str] = ()) -> Starlette:
        """The ASGI application. Requests run in threads.

        names: hosts that browsers may ask for, `*.` in front for all below one, beside loopback names and the
        very address that they reach; others are told nothing.
        """
        app = Starlette(
            routes=[
                *[self._route(page) for page in self._pages],
                *self.more_routes(),
                Mount("/static", StaticFiles(directory=self._folder / "static"), name="static"),
            ],
            middleware=[
                Middleware(_Headers, headers=self.headers),
                Middleware(_OwnNames, names=names, refuse=self._on_other_name),
            ],
            exception_handlers={
                HTTPException: self._on_http,
                TooLarge: self._on_too_large,
                TooSlow: self._on_too_slow,
                Exception: self._on_fault,
            },
        )
        app.router.redirect_slashes = False
        return app

    # ---- what a site says for itself --------------------------------------------------------------------

    def more_routes(self) -> Sequence[BaseRoute]:
        """Routes that go another way than a page; each has to look at the session itself."""
        return ()

    def shown(self, visit: Visit[Any]) -> dict[str, Any]:
        """Values that each of its templates takes, beside those of the page."""
        return {}

    def told(self, visit: Visit[Any], error: ChipcashError) -> Answer | None:
        """The answer to a request whose handler failed with an error that the site knows."""
        return None

    # ---- the way ----------------------------------------------------------------------------------------

    def _route(self, page: Page[Any]) -> Route:
        async def handle(request: Request) -> Response:
            data = await body(request) if page.method == "POST" else b""
            return await run_in_threadpool(self._answer, page, request, data)

        return Route(page.path, handle, methods=[page.method], name=page.name)

    def visit(self, request: Request, data: bytes = b"") -> Visit[Any]:
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
            self,
            None,
            b"",
            dict(request.query_params),
            {name: values[-1] for name, values in fields.items()},
            request.client.host if request.client is not None else "",
            request.cookies.get(self.cookie(_SESSION, secure), ""),
            request.cookies.get(self.cookie(_LOGIN, secure), ""),
            secure,
            Words(language, self._chinese),
        )

    def identified(self, visit: Visit[Any]) -> Visit[Any]:
        """The visit with whose session it is, where it has one that is not over."""
        if not visit.session:
            return visit
        return replace(visit, visitor=self.staff.visitor(visit.session, visit.address))

    def _answer(self, page: Page[Any], request: Request, data: bytes) -> Response:
        """Answer a request to a page of the table."""
        visit = self.visit(request, data)
        try:
            visit = self.identified(visit)
            response = self._recorded(page, request, visit)
        except StaffError:  # the session was ended while this was done
            response = RedirectResponse("/login", 303)
        except ChipcashError as error:
            # What could not be written down is not shown.
            _log.error("%s: %s", page.name, error.message)
            message = "The books cannot be used just now, so nothing is shown. Try again later."
            response = self.failure(replace(visit, visitor=None), 503, message)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(
                "lang", request.query_params["lang"], 31536000,
                secure=visit.secure, httponly=True, samesite="strict",
            )  # fmt: skip
        return response

    def _recorded(self, page: Page[Any], request: Request, visit: Visit[Any]) -> Response:
        """Do what a request asks for, if it may, and write that down. Raises StaffError, DatabaseError."""
        visitor = visit.visitor
        if visitor is None and page.right != PUBLIC:
            where = f"?next={quote(request.url.path)}" if page.method == "GET" else ""
            return RedirectResponse(f"/login{where}", 303)
        subject = str(request.path_params.get(page.parameter, ""))
        try:
            if page.method == "POST":
                secret = visit.login if page.right == PUBLIC else visit.session
                _need_own_form(request, visit, secret)
            if visitor is not None and not visitor.may(page.right):
                if visitor.temporary:
                    raise Stop(403, "Choose a password of your own first.")
                raise Stop(403, "Your role does not allow this. It was written down.")
            found = page.handler(replace(visit, ident=self._ident(page.parameter, subject)))
        except Stop as stop:
            found = Answer(self.failure(visit, stop.status, stop.message), outcome=stop.outcome)
        except LoginRefused:
            found = self._login_again(visit, 401, "The name or the password is not right.")
        except TooManyTries as error:
            found = self._login_again(visit, 429, "Too many tries. Wait, and try again.")
            found.response.headers["Retry-After"] = str(error.seconds)
        except StaffError:
            raise
        except ChipcashError as error:
            known = self.told(visit, error)
            if known is None:
                _log.error("%s: %s", page.name, error.message)
                known = Answer(self.failure(visit, 503, self.unreadable), outcome="failed")
            found = known
        if visitor is not None and not found.recorded:
            if page.recorded or found.outcome != "ok":
                self.staff.record(
                    visitor, page.name, visit.address,
                    subject=found.subject or subject, outcome=found.outcome, note=found.note,
                )  # fmt: skip
            else:
                self.staff.touch(visitor)
        return found.response

    def _ident(self, parameter: str, text: str) -> bytes:
        """The id in a path. Raises Stop."""
        if not parameter:
            return b""
        if not re.fullmatch(f"[0-9a-f]{{{2 * self.sizes[parameter]}}}", text):
            raise Stop(400, self.no_id, "malformed")
        return bytes.fromhex(text)

    # ---- answers ----------------------------------------------------------------------------------------

    def render(self, visit: Visit[Any], template: str, /, **values: Any) -> str:
        """The text of a template."""
        account = visit.visitor
        return self.templates.get_template(f"{template}.html").render(
            _=visit.words,
            account=account,
            languages=LANGUAGES,
            **{"csrf": account.csrf if account else "", **self.shown(visit), **values},
        )

    def html(
        self, visit: Visit[Any], template: str, status: int = 200, /, **values: Any
    ) -> HTMLResponse:
        """A page from a template."""
        return HTMLResponse(self.render(visit, template, **values), status)

    def failure(self, visit: Visit[Any], status: int, message: str) -> Response:
        """A page that says why there is nothing else. message: an English sentence that Words knows."""
        return self.html(visit, "message", status, message=visit.words(message))

    def _login_again(self, visit: Visit[Any], status: int, problem: str) -> Answer:
        response = self.html(
            visit, "login", status,
            csrf=csrf_token(visit.login), next=_next(visit.form), problem=visit.words(problem),
            name=visit.form.get("name", "")[:100],
        )  # fmt: skip
        return Answer(response, recorded=True)

    def _on_other_name(self, request: Request) -> Response:
        message = (
            "This page is not opened under this name. Use the address that was printed when it was started,"
            " or have the name added (--name)."
        )
        return self.failure(self.visit(request), 400, message)

    def _on_http(self, request: Request, error: Exception) -> Response:
        known = cast(HTTPException, error)
        message = "There is no such page."
        response = self.failure(self.visit(request), known.status_code, message)
        response.headers.update(known.headers or {})
        return response

    def _on_too_large(self, request: Request, error: Exception) -> Response:
        return self.failure(self.visit(request), 413, "This is too much at once.")

    def _on_too_slow(self, request: Request, error: Exception) -> Response:
        message = "The form did not come in time. Send it again."
        response = self.failure(self.visit(request), 408, message)
        response.headers["Connection"] = "close"
        return response

    def _on_fault(self, request: Request, error: Exception) -> Response:
        message = "This page has a fault. What it was asked for may not have been done."
        response = self.failure(self.visit(request), 500, message)
        response.headers.update(self.headers)  # it goes out behind all middleware
        return response

    def cookie(self, name: str, secure: bool) -> str:
        """Name of a cookie. Browsers take one that begins with __Host- from this host over TLS only."""
        return f"__Host-{self.prefix}{name}" if secure else f"{self.prefix}{name}"


class _Headers:
    """Adds to every answer what keeps it from caches, frames and foreign scripts."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, with_headers)


class _OwnNames:
    """Answers requests to this place only: a name of somebody else's that leads here (DNS rebinding) would
    let his page read ours. Judged by TrustedHostMiddleware, refused with a page that people can read."""

    def __init__(
        self, app: ASGIApp, names: Sequence[str], refuse: Callable[[Request], Response]
    ) -> None:
        self._app = app
        self._names = [*_LOOPBACK, *(_in_header(name) for name in names)]
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or await self._ours(scope, receive):
            await self._app(scope, receive, send)
        else:
            await self._refuse(Request(scope))(scope, receive, send)

    async def _ours(self, scope: Scope, receive: Receive) -> bool:
        ours = False

        async def accept(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal ours
            ours = True

        async def keep(message: Message) -> None:
            """The library's own words for a refusal are not sent."""

        # A number is no name that somebody could lead here.
        reached = [_in_header(scope["server"][0])] if scope.get("server") else []
        judge = TrustedHostMiddleware(accept, [*self._names, *reached], www_redirect=False)
        await judge(scope, receive, keep)
        return ours


_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def _in_header(name: str) -> str:
    """A host as the Host header has it: IPv6 in brackets."""
    return f"[{name}]" if ":" in name else name


def _set_cookie(
    visit: Visit[Any], response: Response, name: str, token: str, max_age: int | None = None
) -> None:
    response.set_cookie(
        visit.site.cookie(name, visit.secure), token, max_age,
        secure=visit.secure, httponly=True, samesite="strict",
    )  # fmt: skip


def _need_own_form(request: Request, visit: Visit[Any], secret: str) -> None:
    """Refuse a form that was not made by these pages for this browser. Raises Stop.

    secret: the cookie that its token must be made from.
    """
    own = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    given = visit.form.get("csrf", "").encode()
    if not own or not secret or not compare_digest(given, csrf_token(secret).encode()):
        raise Stop(403, "This form is not from this page, or too old. Go back and load it again.")


def _next(values: Mapping[str, str]) -> str:
    """Where to go after the login: a page of ours, or ""."""
    text = values.get("next", "")
    return text if re.fullmatch("(?:/[a-z]+)(?:/[0-9a-f]+)?", text) else ""
